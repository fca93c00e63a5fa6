//! What is put on the servers, and how much of it switchboard may cost: the bars, in one place.
//!
//! A run is one work on one server; a row is one figure of it. Some runs have two rows.

use std::time::Duration;

use switchboard::bench::comparison::Bar;
use switchboard::bench::report::Report;
use switchboard::bench::{IN_FLIGHT_DEFAULT, Scenario, Work};

use crate::rounds::Round;
use crate::servers::Kind;
use crate::tls_rows;

/// How often clients of an idle relay are asked whether they are still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);
/// Idle clients are watched for longer than a keepalive, so that each was asked.
const IDLE_TIME: Duration = Duration::from_secs(35);
/// What runs before it is measured.
const WARMUP: Duration = Duration::from_millis(500);
/// In a smoke run, the most clients.
const QUICK_CONNECTIONS_MAX: u32 = 200;

/// How often a run is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Once, however many rounds there are: it takes long, and nothing is divided by its figure.
    Once,
    /// In each round.
    Rounds,
    /// Three times in each round: its figure depends on a few moments, and one hiccup of the machine is most of it.
    ThriceRounds,
}

impl Repeats {
    /// How often that is in so many rounds.
    pub(crate) const fn in_rounds(self, rounds: u32) -> u32 {
        match self {
            Self::Once => 1,
            Self::Rounds => rounds,
            Self::ThriceRounds => rounds.saturating_mul(3),
        }
    }
}

/// A work for several servers.
pub(crate) struct Run {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// The servers that it is for.
    pub(crate) servers: &'static [Kind],
    pub(crate) over: Over,
    pub(crate) repeats: Repeats,
    pub(crate) rows: &'static [Row],
}

/// A figure of a run.
pub(crate) struct Row {
    /// The work in words.
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    /// What switchboard must reach, if this row is there for that.
    pub(crate) bar: Option<Bar>,
}

/// What the clients of a run speak through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Sockets alone.
    Plain,
    Tls,
    /// First the one and then the other, so that what TLS adds is known within a round. What the cipher alone costs is
    /// measured between them: that stands in the place of the floor.
    Both,
    /// TLS is agreed on, and that is all.
    Handshake,
}

/// Which figure servers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    CpuPerDelivery,
    /// CPU that a delivery over TLS costs beyond a plain one; of the floor what the cipher alone does.
    CpuOfTls,
    P99,
    MemoryPerConnection,
    /// CPU to let a client in.
    CpuPerArrival,
    /// CPU for clients that say nothing.
    IdleCpu,
    /// The p99 of a pair of bystanders while all others come back.
    BystanderP99,
}

impl Measure {
    /// What it is, and its unit.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::CpuPerDelivery => ("server CPU a delivery", "ns"),
            Self::CpuOfTls => ("server CPU of TLS a delivery", "ns"),
            Self::P99 => ("p99", "us"),
            Self::MemoryPerConnection => ("resident memory a connection", "bytes"),
            Self::CpuPerArrival => ("server CPU a client", "us"),
            Self::IdleCpu => ("server CPU", "%"),
            Self::BystanderP99 => ("p99 of two bystanders", "us"),
        }
    }

    /// The figure of a round.
    pub(crate) fn of(self, round: &Round) -> Option<f64> {
        let report = &round.report;
        let cpu = |report: &Report| report.traffic.and_then(|traffic| traffic.server_cpu_ns_per_delivery);
        let p99 = |part: &str| report.latencies.iter().find(|one| one.part == part && one.count > 0);
        match self {
            Self::CpuPerDelivery => cpu(report),
            Self::CpuOfTls => match round.cipher_ns {
                Some(alone) => Some(alone),
                None => Some(cpu(report)? - cpu(round.plain.as_ref()?)?),
            },
            Self::P99 => p99("").map(|latency| latency.p99_us),
            Self::MemoryPerConnection => report.memory.and_then(|memory| memory.per_connection_bytes),
            Self::CpuPerArrival => report.arrival.and_then(|arrival| arrival.server_cpu_us_per_client),
            Self::IdleCpu => {
                report.figures.iter().find(|figure| figure.name == "server_core_percent").map(|figure| figure.value)
            }
            Self::BystanderP99 => p99("bystanders, in the storm").map(|latency| latency.p99_us),
        }
    }
}

const SUBJECT: &[Kind] = &[Kind::Switchboard];

const fn cpu(title: &'static str, ratio: f64) -> Row {
    Row { title, measure: Measure::CpuPerDelivery, bar: Some(Bar::RatioToFloor(ratio)) }
}

/// All runs, measured for `time` where they do not need a time of their own.
pub(crate) fn runs(time: Duration) -> Vec<Run> {
    let base = Work {
        scenario: Scenario::Pairs,
        connections: 100,
        size: 128,
        window: 1,
        rate: 0.0,
        rooms: 0,
        stuck: 0,
        warmup: WARMUP,
        time,
        in_flight_max: IN_FLIGHT_DEFAULT,
    };
    let over = Over::Plain;
    let run = |name, work, rows| Run { name, work, servers: Kind::RELAYS, over, repeats: Repeats::Rounds, rows };
    let hasty = |name, work, rows| Run { repeats: Repeats::ThriceRounds, ..run(name, work, rows) };
    let pairs = |connections, window| Work { connections, window, ..base };
    let fanout = |hearers: u32, window| {
        // And one who sends.
        Work { scenario: Scenario::Fanout, connections: hearers + 1, window, ..base }
    };
    let mut runs = vec![
        run("pairs-100-w1", pairs(100, 1), const { &[cpu("pairs, 100 connections, window 1", 1.06)] }),
        run("pairs-100-w16", pairs(100, 16), const { &[cpu("pairs, 100 connections, window 16", 1.12)] }),
        run("pairs-100-w128", pairs(100, 128), const { &[cpu("pairs, 100 connections, window 128", 1.5)] }),
        run("pairs-10k-w16", pairs(10_000, 16), const { &[cpu("pairs, 10,000 connections, window 16", 1.12)] }),
        run("fanout-1k-w4", fanout(1000, 4), const { &[cpu("fan-out to 1,000, 4 outstanding", 1.1)] }),
        run("fanout-1k-w64", fanout(1000, 64), const { &[cpu("fan-out to 1,000, 64 outstanding", 1.2)] }),
        run("fanout-10k-w2", fanout(10_000, 2), const { &[cpu("fan-out to 10,000, 2 outstanding", 1.06)] }),
        hasty(
            "rate-10k",
            Work { scenario: Scenario::Rate, connections: 10_000, rate: 20_000.0, ..base },
            const {
                &[Row {
                    title: "10,000 connections, 20,000 frames/s",
                    measure: Measure::P99,
                    bar: Some(Bar::RatioToFloor(1.15)),
                }]
            },
        ),
        run(
            "pairs-64k",
            Work { size: 64 * 1024, ..pairs(100, 4) },
            const { &[cpu("pairs, 100 connections, 64 KiB payloads, window 4", 1.1)] },
        ),
        hasty(
            "arrivals-18k",
            Work { scenario: Scenario::Idle, connections: 18_000, time: Duration::ZERO, ..base },
            const {
                &[
                    Row {
                        title: "18,000 clients connect and register",
                        measure: Measure::CpuPerArrival,
                        bar: Some(Bar::RatioToFloor(2.0)),
                    },
                    Row {
                        title: "18,000 idle registered connections",
                        measure: Measure::MemoryPerConnection,
                        bar: Some(Bar::Value(256.0)),
                    },
                ]
            },
        ),
        Run {
            name: "heartbeats-18k",
            work: Work { scenario: Scenario::Idle, connections: 18_000, time: IDLE_TIME, ..base },
            servers: SUBJECT,
            over,
            repeats: Repeats::Once,
            rows: const {
                &[Row {
                    title: "18,000 idle connections, heartbeats every 30 s",
                    measure: Measure::IdleCpu,
                    bar: Some(Bar::Value(2.0)),
                }]
            },
        },
        Run {
            name: "storm-18k",
            work: Work { scenario: Scenario::Storm, connections: 17_990, ..base },
            servers: SUBJECT,
            over,
            repeats: Repeats::Rounds,
            rows: const {
                &[Row {
                    title: "all of 18,000 lost and back at once",
                    measure: Measure::BystanderP99,
                    bar: Some(Bar::Value(10_000.0)),
                }]
            },
        },
    ];
    runs.extend(tls_rows::runs(&base));
    runs
}

/// The same runs with few clients and little time, to see that everything works. Their figures mean nothing.
pub(crate) fn quick(runs: &mut [Run]) {
    for Run { work, .. } in runs {
        work.connections = work.connections.min(QUICK_CONNECTIONS_MAX);
        work.time = work.time.min(Duration::from_millis(200));
        work.warmup = Duration::from_millis(50);
        work.rate = work.rate.min(1000.0);
    }
}
