//! Reports of runs that never were.

use hdrhistogram::Histogram;
use switchboard::bench::report::{
    Account, Arrival, Figure, Latency, Memory, Report, Sample, Settings, Target, Traffic, Verdict,
};

use crate::EVIL;

/// Latencies between `from` and a tail that is a hundred times as long.
fn latencies(part: &str, from_ns: u64) -> Latency {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    let mut chance = 7u64;
    for _ in 0..200_000 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((chance >> 11) as f64 / (1u64 << 53) as f64).max(1e-6);
        let tail = uniform.powf(-0.33);
        histogram.record((from_ns as f64 * tail) as u64).expect("within its range");
    }
    Latency::of(part, &histogram)
}

pub(crate) fn full() -> Report {
    let series = (0..44u32).map(|step| {
        let at = f64::from(step) * 0.25;
        let busy = if step < 4 { 0.0 } else { 1.0 + f64::from(step * 7 % 5) / 40.0 };
        Sample {
            at_seconds: at,
            clients: 10_000.min(step * 2500),
            delivered_per_second: 1_180_000.0 * busy,
            bytes_per_second: 151e6 * busy,
            resident_bytes: Some(2_097_152 + 2_355_000.min(u64::from(step) * 600_000)),
            server_core_share: Some(0.28 * busy),
            ..Sample::default()
        }
    });
    Report {
        scenario: "slow".to_owned(),
        command: "switchboard bench slow --connections 10000 --seconds 10 --html report.html".to_owned(),
        date: "2026-01-31 12:00:00 UTC".to_owned(),
        target: Target {
            address: "127.0.0.1:7400".to_owned(),
            software: "switchboard 0.1.0".to_owned(),
            pid: Some(4711),
            core: Some(1),
            arguments: vec!["--queue-max".to_owned(), "2000000".to_owned()],
        },
        settings: Settings {
            connections: 10_000,
            size_bytes: Some(128),
            size_bytes_max: None,
            window: Some(16),
            rate: Some(20_000.0),
            seconds: 10.0,
            rooms: Some(3),
            stuck: Some(5),
            warmup_seconds: Some(1.0),
            in_flight: 1000,
        },
        tls: None,
        arrival: Some(Arrival { clients: 10_000, seconds: 0.321, server_cpu_us_per_client: Some(17.4) }),
        traffic: Some(Traffic {
            seconds: 10.0,
            delivered: 12_100_456,
            delivered_per_second: 1_210_045.6,
            bytes_per_second: 154_885_836.8,
            server_cpu_ns_per_delivery: Some(235.4),
            server_core_share: Some(0.284),
            load_core_share: Some(0.97),
            records: None,
        }),
        latencies: vec![latencies("undisturbed", 12_000), latencies("disturbed", 15_500)],
        memory: Some(Memory {
            before_bytes: 2_097_152,
            registered_bytes: 4_452_352,
            end_bytes: 4_600_000,
            peak_bytes: 9_000_000,
            per_connection_bytes: Some(235.52),
        }),
        remarks: vec!["the <load> was the limit".to_owned()],
        account: Account {
            sent: 12_100_500,
            delivered: 12_100_456,
            refused: 31,
            counted: 13,
            refusals: vec![("QUEUE_FULL".to_owned(), 28), ("NO_SUCH_CLIENT".to_owned(), 3)],
            ..Account::default()
        },
        figures: vec![
            Figure::new("registered_after_seconds", "all registered again after", 1.234, "s"),
            Figure::new("gaps", "GAPs that told of them", 5.0, ""),
        ],
        series: series.collect(),
        verdicts: Vec::new(),
        server_counters: Vec::new(),
        failures: Vec::new(),
    }
}

/// A run against a server elsewhere, on which nothing was sent.
pub(crate) fn idle() -> Report {
    Report {
        scenario: "idle".to_owned(),
        target: Target { address: "relay.example:7400".to_owned(), ..Target::default() },
        settings: Settings { connections: 18_000, seconds: 30.0, ..Settings::default() },
        arrival: Some(Arrival { clients: 18_000, seconds: 2.5, server_cpu_us_per_client: None }),
        traffic: Some(Traffic { seconds: 30.0, ..Traffic::default() }),
        series: (0..120).map(|step| Sample { at_seconds: f64::from(step) * 0.25, ..Sample::default() }).collect(),
        ..Report::default()
    }
}

pub(crate) fn failed() -> Report {
    let mut report = full();
    report.account.lost = 3;
    report.account.misordered = 1;
    report.account.damaged = 2;
    report.account.delivered -= 6;
    report.failures = vec!["3 frames were lost".to_owned(), format!("the server said {EVIL}")];
    report.target.software = EVIL.to_owned();
    report.scenario = EVIL.to_owned();
    report.command = EVIL.to_owned();
    report.date = EVIL.to_owned();
    report.latencies[0].part = EVIL.to_owned();
    report.figures.push(Figure::new("evil", EVIL, 1.0, EVIL));
    report.account.refusals.push((EVIL.to_owned(), 1));
    report
}

/// A run of hours, of which one verdict is bad.
pub(crate) fn soaked() -> Report {
    let mut report = full();
    report.scenario = "soak".to_owned();
    report.settings = Settings {
        connections: 200,
        size_bytes_max: Some(65_536),
        rate: Some(2000.0),
        rooms: Some(10),
        stuck: Some(2),
        seconds: 3600.0,
        ..Settings::default()
    };
    report.latencies.truncate(1);
    report.account.cut_off = 40;
    report.account.sent += 40;
    for (step, sample) in (0u32..).zip(&mut report.series) {
        sample.at_seconds *= 300.0;
        sample.descriptors = Some(200 + u64::from(step % 3));
        sample.p50_us = Some(80.0 + f64::from(step % 7));
        sample.p99_us = Some(900.0 + f64::from(step * 37 % 400));
    }
    let verdict = |name: &str, holds, says: &str, reasons: &[&str]| Verdict {
        name: name.to_owned(),
        holds,
        says: says.to_owned(),
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
    };
    report.verdicts = vec![
        verdict("memory", Some(false), "memory grows", &["9.0 MiB at most", "1.0 MiB are tolerated"]),
        verdict("descriptors", Some(true), "descriptors are flat", &["10 before anybody came"]),
        verdict("account", None, "account is open", &[]),
    ];
    report.failures = vec![report.verdicts[0].line()];
    report.server_counters = vec!["clients 0, rooms 0; frames in 5".to_owned(), "closed: LEFT 9".to_owned()];
    report
}
