//! One run: as text, as a page, as JSON.

use switchboard::bench::page;
use switchboard::bench::report::{Report, Tls};

use crate::made_up::{failed, full, idle, soaked};
use crate::{EVIL, assert_page, keep, unslashed};

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
