//! What a bench run shows: as text, as JSON, as a page; and the same for a comparison of servers.
//!
//! With `SWITCHBOARD_PAGES` set to a folder, the pages are written there as well, to be looked at.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::assigning_clones,
    clippy::type_complexity,
    reason = "figures and words made up for tests"
)]

use hdrhistogram::Histogram;
use switchboard::bench::comparison::{Bar, Cell, Comparison, Role, Row, Server};
use switchboard::bench::page;
use switchboard::bench::report::{
    Account, Arrival, Figure, Latency, Memory, Report, Sample, Settings, Target, Tls, Traffic, Verdict,
};

/// Text from outside that wants to be markup.
const EVIL: &str = "</script><b>bold</b>\"'&";

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

fn full() -> Report {
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
fn idle() -> Report {
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

fn failed() -> Report {
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
fn soaked() -> Report {
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

#[test]
fn verdicts_stand_with_their_reasons_in_the_text_and_on_the_page() {
    let shown = text(&soaked(), false);
    keep("soak.txt", &shown);
    for words in [
        "200 clients · 2 of them slow · 10 rooms · payloads up to 64.0 KiB · 2.00 k/s · 60 min\n",
        "31 refused + 13 counted as missing + 40 cut off",
        "it counted clients 0, rooms 0\n           frames in 5\n           closed: LEFT 9\n",
        "verdicts   NO  memory grows\n               9.0 MiB at most\n               1.0 MiB are tolerated\n",
        "           ok  descriptors are flat\n               10 before anybody came\n           ?   account is open\n",
        "FAILED: memory grows: 9.0 MiB at most; 1.0 MiB are tolerated\n",
    ] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    let page = html(&soaked());
    keep("soak.html", &page);
    assert_page(&page);
    for words in [
        "<li class=\"card no\"><b>memory grows</b><span>9.0 MiB at most</span>",
        "<li class=\"card ok\"><b>descriptors are flat</b>",
        "<li class=\"card open\"><b>account is open</b>",
        "closed: LEFT 9",
        "Open files of the server",
        "Latency over time",
        ">median</span>",
        "\nminutes\n",
    ] {
        assert!(page.contains(words), "{words:?} is missing");
    }
    assert_eq!(page.matches("<svg").count(), 6);
    let mut out = Vec::new();
    soaked().write_json(&mut out).expect("a vector takes all");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(
        (&json["verdicts"][0]["holds"], &json["verdicts"][2]["holds"]),
        (&false.into(), &serde_json::Value::Null)
    );
    assert_eq!((&json["account"]["cut_off"], &json["series"][1]["descriptors"]), (&40.into(), &201.into()));

    let mut evil = soaked();
    evil.server_counters = vec![EVIL.to_owned()];
    for verdict in &mut evil.verdicts {
        (verdict.says, verdict.reasons) = (EVIL.to_owned(), vec![EVIL.to_owned()]);
    }
    assert_page(&html(&evil));
}

fn text(report: &Report, colour: bool) -> String {
    let mut out = Vec::new();
    report.write_text(&mut out, colour).expect("a vector takes all");
    String::from_utf8(out).expect("text")
}

fn html(report: &Report) -> String {
    let mut out = Vec::new();
    page::report(report, &mut out).expect("a page");
    unslashed(out)
}

/// The page with slashes as they are: they need not be escaped, but are.
fn unslashed(page: Vec<u8>) -> String {
    String::from_utf8(page).expect("text").replace("&#x2f;", "/")
}

fn keep(name: &str, text: &str) {
    if let Some(folder) = std::env::var_os("SWITCHBOARD_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(name), text).expect("the folder is there");
    }
}

/// What every self-contained page holds to.
fn assert_page(page: &str) {
    for fetched in ["http://", "https://", "src=", "<script", "<link", "@import", "url("] {
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(fetched), "{fetched}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("</html>"));
    for raw in [EVIL, "<b>bold", "</script>"] {
        assert!(!page.contains(raw), "{raw} is not escaped");
    }
    for leftover in ["{{", "{%", "undefined", "NaN"] {
        assert!(!page.contains(leftover), "{leftover}");
    }
}

#[test]
fn the_text_says_everything_in_units_that_people_read() {
    let shown = text(&full(), false);
    keep("report.txt", &shown);
    for words in [
        "slow on switchboard 0.1.0 at 127.0.0.1:7400",
        "10,000 clients · 5 of them stuck · 3 rooms · payloads of 128 B · window 16 · 20.0 k/s · 10.0 s · after 1.00 s",
        "10,000 registered in 321 ms · 31.2 k/s · 17.4 µs of the server's CPU each",
        "1.21 M/s · 147.7 MiB/s · 12,100,456 frames in 10.0 s",
        "235 ns of CPU a delivery · 28.4 % of a core · process 4711 on core 1 · --queue-max 2000000",
        "note: the <load> was the limit",
        "236 B a connection · 2.0 MiB before · 4.2 MiB with all registered · 8.6 MiB at most · 4.4 MiB at the end",
        "12,100,500 sent = 12,100,456 delivered + 31 refused + 13 counted as missing",
        "28 QUEUE_FULL · 3 NO_SUCH_CLIENT",
        "undisturbed",
        "disturbed",
        "ratio",
        "1.29×",
        "p99.9",
        "1.23 s",
    ] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains("FAILED") && !shown.contains("LOST"), "{shown}");
    assert!(shown.lines().all(|line| line == line.trim_end()), "no spaces at the ends of lines\n{shown}");
}

#[test]
fn what_went_wrong_is_said_loudly_and_last() {
    let shown = text(&failed(), false);
    for words in ["3 LOST", "1 MISORDERED", "2 DAMAGED", "12,100,500 sent ≠ 12,100,450 delivered"] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    let last: Vec<&str> = shown.lines().rev().take(2).collect();
    assert!(last.iter().all(|line| line.starts_with("FAILED: ")), "{shown}");
    assert!(text(&failed(), true).contains("\u{1b}[1;31mFAILED:\u{1b}[0m"));
}

#[test]
fn words_of_a_server_cannot_steer_the_terminal() {
    let mut report = full();
    report.target.software = "\u{1b}[2Jgone\r\n".to_owned();
    report.account.refusals[0].0 = "\u{9b}31m".to_owned();
    report.latencies[1].part = "\u{202e}x".to_owned();
    let shown = text(&report, false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{shown:?}");
}

#[test]
fn a_run_without_traffic_on_a_server_elsewhere_reads_well() {
    let shown = text(&idle(), false);
    keep("idle.txt", &shown);
    assert_eq!(
        shown,
        "idle on a server at relay.example:7400\n\
         asked      18,000 clients · 30.0 s\n\
         clients    18,000 registered in 2.50 s · 7.20 k/s\n"
    );
    let page = html(&idle());
    keep("idle.html", &page);
    assert_page(&page);
    assert!(!page.contains("<svg") && page.contains("No frames were sent"));
}

#[test]
fn a_run_that_failed_at_once_still_says_why() {
    let report = Report { failures: vec!["nobody listens there".to_owned()], ..Report::default() };
    assert!(text(&report, false).ends_with("FAILED: nobody listens there\n"));
    let page = html(&report);
    assert_page(&page);
    assert!(page.contains("nobody listens there") && page.contains("does not count"));
}

#[test]
fn the_json_is_one_object_with_units_in_its_names() {
    let mut out = Vec::new();
    full().write_json(&mut out).expect("a vector takes all");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(json["format"], 1);
    assert_eq!(json["traffic"]["server_cpu_ns_per_delivery"], 235.4);
    assert_eq!(json["account"]["refusals"]["QUEUE_FULL"], 28);
    assert_eq!(json["latencies"][1]["part"], "disturbed");
    assert_eq!(json["latencies"][0]["curve"][0][0], 0.0);
    assert_eq!(json["memory"]["per_connection_bytes"], 235.52);
    assert_eq!(json["settings"]["rooms"], 3);
    assert_eq!(json["failures"], serde_json::json!([]));
    let mut out = Vec::new();
    idle().write_json(&mut out).expect("a vector takes all");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert!(json["memory"].is_null() && json["settings"]["window"].is_null());
}

#[test]
fn what_was_agreed_on_over_tls_stands_in_the_text_on_the_page_and_in_the_json() {
    let plain = full();
    assert!(!text(&plain, false).contains("encrypted"));
    let tls = Tls {
        version: "TLS 1.3".to_owned(),
        cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
        handshakes: 12_345,
        resumed: 0,
    };
    let mut report = Report { tls: Some(tls), ..full() };
    let says = "TLS 1.3 · TLS_AES_256_GCM_SHA384 · 12,345 handshakes, none resumed";
    assert!(text(&report, false).contains(says), "{}", text(&report, false));
    let mut page = Vec::new();
    page::report(&report, &mut page).expect("memory");
    assert!(unslashed(page).contains(says));
    let mut json = Vec::new();
    report.write_json(&mut json).expect("memory");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("an object");
    assert_eq!(json["tls"]["handshakes"], 12_345);
    report.tls.as_mut().expect("it is there").resumed = 4000;
    assert!(text(&report, false).contains("12,345 handshakes, 4,000 resumed"));
}

#[test]
fn a_bar_may_be_the_best_peer() {
    let mut comparison = comparison();
    let row = &mut comparison.rows[0];
    row.bar = Some(Bar::RatioToBestPeer(1.0));
    let row = comparison.rows[0].clone();
    let (ratio, _) = comparison.to_best_peer(&row).expect("there are peers");
    assert_eq!(comparison.reaches(&row), Some(ratio <= 1.0));
    let mut text = Vec::new();
    comparison.write_text(&mut text, false).expect("memory");
    assert!(String::from_utf8_lossy(&text).contains("≤ 1.00× the best peer"), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn the_page_shows_every_figure_and_plots_what_there_is() {
    let page = html(&full());
    keep("report.html", &page);
    assert_page(&page);
    for words in [
        "slow on switchboard 0.1.0 at 127.0.0.1:7400",
        "switchboard bench slow --connections 10000",
        "1.21 M/s",
        "235 ns",
        "236 B",
        "12,100,456",
        "QUEUE_FULL",
        "1.29×",
        "all registered again after",
        "was delivered, refused or counted",
        "99.999",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(words), "{words:?} is missing");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.contains("currentColor") && page.contains("\"var(--series-1)\""), "plots follow the page's colours");
    assert!(!page.contains("does not count"));
}

#[test]
fn text_from_outside_is_escaped_everywhere_on_the_page() {
    let page = html(&failed());
    keep("failed.html", &page);
    assert_page(&page);
    assert!(page.contains("This run does not count") && page.contains("3 frames were lost"));
    assert!(page.matches("&lt;b&gt;bold").count() >= 8, "it is shown, not dropped");
}

#[test]
fn a_histogram_becomes_exact_figures() {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for step in 1..=10_000u64 {
        histogram.record(step * 100).expect("within its range");
    }
    let latency = Latency::of("part", &histogram);
    assert_eq!((latency.part.as_str(), latency.count), ("part", 10_000));
    // Three digits: at most a thousandth away.
    let near = |shown: f64, exact: f64| assert!((shown - exact).abs() <= exact / 1000.0, "{shown} for {exact}");
    near(latency.min_us, 0.1);
    near(latency.mean_us, 500.05);
    near(latency.p50_us, 500.0);
    near(latency.p90_us, 900.0);
    near(latency.p99_us, 990.0);
    near(latency.p999_us, 999.0);
    near(latency.p9999_us, 999.9);
    near(latency.max_us, 1000.0);
}

#[test]
fn the_curve_has_as_many_points_for_each_nine_and_ends_where_the_values_do() {
    let mut histogram = Histogram::<u64>::new(3).expect("three digits");
    for value in 1..=1000u64 {
        histogram.record(value).expect("within its range");
    }
    let curve = Latency::of("", &histogram).curve;
    let at = |percentile: f64| curve.iter().find(|point| point.0 == percentile).map(|point| point.1);
    assert_eq!((at(0.0), at(90.0), at(99.0), at(99.9)), (Some(0.001), Some(0.9), Some(0.99), Some(0.999)));
    assert_eq!(curve.last().map(|point| point.0), Some(99.9), "a thousand values know no more nines");
    assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));

    histogram.record_n(5, 1_000_000_000).expect("within its range");
    let curve = Latency::of("", &histogram).curve;
    assert!(curve.len() <= 100 && curve.last().map(|point| point.0) == Some(99.999), "{}", curve.len());

    let nothing = Latency::of("", &Histogram::<u64>::new(3).expect("three digits"));
    assert_eq!((nothing.count, nothing.max_us, nothing.curve.len()), (0, 0.0, 0));
}

fn comparison() -> Comparison {
    let servers = [
        ("byte floor", "", Role::Floor),
        ("switchboard", "0.1.0", Role::Subject),
        ("NATS", "2.9.10", Role::Peer),
        ("Redis", "7.0.15", Role::Peer),
        ("Mosquitto", "2.0.11", Role::Peer),
    ];
    let works: [(&str, &str, &str, f64, f64, [f64; 3]); 9] = [
        ("pairs, 100 connections, window 1", "server CPU a delivery", "ns", 3390.0, 1.06, [1.58, 1.17, 1.6]),
        ("pairs, 100, window 16", "server CPU a delivery", "ns", 235.0, 1.12, [3.4, 3.0, 5.1]),
        ("pairs, 100, window 128", "server CPU a delivery", "ns", 41.0, 1.5, [10.0, 14.2, 31.0]),
        ("pairs, 10,000, window 16", "server CPU a delivery", "ns", 400.0, 1.12, [4.0, 2.6, 3.1]),
        ("fan-out to 1,000, 4 outstanding", "server CPU a delivery", "ns", 630.0, 1.1, [2.0, 1.35, 1.9]),
        ("fan-out to 1,000, 64 outstanding", "server CPU a delivery", "ns", 54.0, 1.2, [3.6, 3.2, 8.8]),
        ("fan-out to 10,000, 2 outstanding", "server CPU a delivery", "ns", 2180.0, 1.06, [1.9, 1.43, 1.6]),
        ("10,000 connections, 20,000 frames/s", "p99", "ms", 1.25, 1.15, [1.9, 1.5, 1.2]),
        ("pairs, 100, 64 KiB payloads, window 4", "server CPU a delivery", "ns", 15_400.0, 1.1, [2.4, 1.75, 2.8]),
    ];
    let mut comparison = Comparison {
        title: "switchboard beside its peers".to_owned(),
        machine: "2 cores, Linux 6.1".to_owned(),
        date: "2026-01-31".to_owned(),
        command: "cargo bench --bench peers".to_owned(),
        servers: servers.map(|(name, version, role)| Server::new(name, version, role)).to_vec(),
        rows: Vec::new(),
    };
    for (number, (name, measure, unit, floor, bar, peers)) in works.into_iter().enumerate() {
        let mut row = Row::new(name, measure, unit, Some(Bar::RatioToFloor(bar)));
        // One bar is missed, the others are reached.
        let own = if number == 2 { bar * 1.1 } else { 1.0 + (bar - 1.0) * 0.6 };
        for ratio in [1.0, own].into_iter().chain(peers) {
            let each = floor * ratio;
            let is_cpu = unit == "ns";
            row.cells.push(Cell {
                value: Some(each),
                cpu_ns_per_delivery: is_cpu.then_some(each),
                delivered_per_second: is_cpu.then_some(0.97e9 / each),
                p50_us: Some(each / 3.0),
                p99_us: Some(each),
                p999_us: Some(each * 1.4),
                max_us: Some(each * 3.0),
                ..Cell::default()
            });
        }
        comparison.rows.push(row);
    }
    comparison.rows[3].cells[4] = Cell::skipped("skipped: not installed");
    comparison.rows[5].cells[3].note = "lost 3 frames".to_owned();
    let mut row = Row::new("an idle connection, 18,000 of them", "resident memory", "bytes", Some(Bar::Value(256.0)));
    for bytes in [None, Some(236.0), Some(19_800.0), Some(4300.0), Some(999.0)] {
        row.cells.push(Cell { value: bytes, memory_per_connection_bytes: bytes, ..Cell::default() });
    }
    comparison.rows.push(row);
    comparison.fill_ratios();
    comparison
}

#[test]
fn ratios_bars_and_the_best_peer_follow_from_the_figures() {
    let comparison = comparison();
    let [first, .., memory] = &comparison.rows[..] else { panic!("rows") };
    let ratios: Vec<_> = first.cells.iter().map(|cell| cell.ratio_to_floor.expect("a ratio")).collect();
    assert!((ratios[0] - 1.0).abs() < 1e-9 && (ratios[2] - 1.58).abs() < 1e-9);
    assert_eq!(comparison.reaches(first), Some(true));
    assert_eq!(comparison.reaches(&comparison.rows[2]), Some(false));
    assert_eq!(comparison.reaches(memory), Some(true));
    assert!(memory.cells.iter().all(|cell| cell.ratio_to_floor.is_none()), "there is no floor to hold against");
    let (ratio, best) = comparison.to_best_peer(first).expect("peers");
    assert!(best == "Redis" && (ratio - 1.036 / 1.17).abs() < 1e-9, "{ratio} {best}");
    assert_eq!(comparison.to_best_peer(memory).map(|best| best.1), Some("Mosquitto"));
}

#[test]
fn a_ratio_that_was_measured_is_not_overwritten() {
    let mut comparison = comparison();
    comparison.rows[0].cells[1].ratio_to_floor = Some(1.5);
    comparison.fill_ratios();
    assert_eq!(comparison.rows[0].cells[1].ratio_to_floor, Some(1.5));
    assert_eq!(comparison.reaches(&comparison.rows[0]), Some(false));
}

#[test]
fn a_comparison_is_a_table_for_terminals_and_for_markdown() {
    let comparison = comparison();
    let mut out = Vec::new();
    comparison.write_text(&mut out, false).expect("a vector takes all");
    let shown = String::from_utf8(out).expect("text");
    keep("peers.txt", &shown);
    for words in ["NATS 2.9.10", "3.39 µs (1.00×)", "≤ 1.06× reached", "≤ 1.50× MISSED"] {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    for words in
        ["≤ 256 B reached", "lost 3 frames", "0.89× Redis", "9 of 10 bars reached; missed: pairs, 100, window 128"]
    {
        assert!(shown.contains(words), "{words:?} is missing in\n{shown}");
    }
    let mut out = Vec::new();
    comparison.write_markdown(&mut out).expect("a vector takes all");
    let shown = String::from_utf8(out).expect("text");
    keep("peers.md", &shown);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].starts_with("|---") && lines[1].ends_with("-:|"), "{shown}");
    let bars = |line: &str| line.matches('|').count();
    assert!(lines[..12].iter().all(|line| bars(line) == bars(lines[0])), "{shown}");
}

#[test]
fn a_comparison_survives_its_json() {
    let comparison = comparison();
    let mut out = Vec::new();
    comparison.write_json(&mut out).expect("a vector takes all");
    let again: Comparison = serde_json::from_slice(&out).expect("JSON");
    // Reading a number back may miss its last digit.
    assert_eq!(format!("{again:.9?}"), format!("{comparison:.9?}"));
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!((&json["format"], &json["rows"][0]["bar"]["ratio_to_floor"]), (&1.into(), &1.06.into()));
}

#[test]
fn the_page_of_a_comparison_has_its_chart_and_escapes_what_it_is_told() {
    let mut comparison = comparison();
    let mut out = Vec::new();
    page::comparison(&comparison, &mut out).expect("a page");
    let page = unslashed(out);
    keep("peers.html", &page);
    assert_page(&page);
    assert_eq!(page.matches("<svg").count(), 1);
    for words in ["switchboard reaches 9 of 10 bars", "Mosquitto", "10.0×", "236 B", "lost 3 frames", "to be reached"]
    {
        assert!(page.contains(words), "{words:?} is missing");
    }

    comparison.title = EVIL.to_owned();
    comparison.machine = EVIL.to_owned();
    comparison.command = EVIL.to_owned();
    for server in &mut comparison.servers {
        (server.name, server.version) = (EVIL.to_owned(), EVIL.to_owned());
    }
    for row in &mut comparison.rows {
        (row.name, row.measure, row.unit) = (EVIL.to_owned(), EVIL.to_owned(), EVIL.to_owned());
        row.cells.iter_mut().for_each(|cell| EVIL.clone_into(&mut cell.note));
    }
    let mut out = Vec::new();
    page::comparison(&comparison, &mut out).expect("a page");
    assert_page(&unslashed(out));
}

#[test]
fn the_chart_stands_alone_and_leaves_out_what_has_no_ratio() {
    let comparison = comparison();
    let chart = comparison.chart().expect("a drawing").expect("a chart");
    keep("peers.svg", &chart);
    assert!(chart.starts_with("<svg ") && chart.trim_end().ends_with("</svg>"));
    assert!(!chart.contains("var(--") && !chart.contains("currentColor"), "a file knows no page");
    assert!(chart.contains("pairs, 10,000, window 16") && !chart.contains("idle connection"));
    let empty = Comparison::default();
    assert_eq!(empty.chart().expect("no drawing"), None);
    page::comparison(&empty, &mut Vec::new()).expect("a page");
    empty.write_text(&mut Vec::new(), false).expect("a vector takes all");
    empty.write_markdown(&mut Vec::new()).expect("a vector takes all");
}
