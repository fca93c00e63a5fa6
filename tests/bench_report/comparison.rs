//! Servers beside each other: as a table, as JSON, as a page, as a chart.

use switchboard::bench::comparison::{Bar, Cell, Comparison, Role, Row, Server};
use switchboard::bench::page;

use crate::{EVIL, assert_page, keep, unslashed};

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
