//! The soak: a relay that keeps its promise is believed, and one that loses, repeats, swaps, bends, forgets to answer or
//! misinforms is caught.

mod client_support;
mod soak_support;

use client_support::{Relay, Running, assert_code, signal};
use rustix::process::Signal;
use serde_json::Value;
use soak_support::{CROWD, Fault, NOWHERE, counts, faults, figure, soak, through, verdict};

#[test]
fn a_relay_that_keeps_its_promise_holds_in_every_verdict() {
    let (output, report) = soak(&[&["--minutes", "0.1"], &CROWD[..]].concat());
    assert_code(&output, 0);
    for name in ["memory", "descriptors", "account"] {
        // Only Linux tells what a process has.
        let expected = if name == "account" || cfg!(target_os = "linux") { Value::Bool(true) } else { Value::Null };
        assert_eq!(verdict(&report, name)["holds"], expected, "{report}");
    }
    let account = &report["account"];
    let count = |name: &str| account[name].as_u64().expect("a count");
    let fates = ["delivered", "refused", "counted", "cut_off"].map(count);
    assert_eq!(count("sent"), fates.iter().sum::<u64>(), "{account}");
    assert!(count("delivered") > 1000 && count("refused") > 0, "{account}");
    for name in
        ["visits_said_goodbye", "visits_hung_up", "visits_cut", "joins", "rooms", "receipts", "departures", "stalls"]
    {
        assert!(figure(&report, name) > 0.0, "{name}");
    }
    let series = report["series"].as_array().expect("a series");
    assert!(series.len() > 10, "{}", series.len());
    assert!(series.iter().any(|sample| sample["p99_us"].as_f64() > sample["p50_us"].as_f64()), "{series:?}");
    if cfg!(target_os = "linux") {
        assert!(series.iter().all(|sample| sample["descriptors"].as_u64() > Some(20)), "{series:?}");
        let counters = report["server_counters"].as_array().expect("lines");
        assert!(counters.iter().any(|line| line.as_str().is_some_and(|line| line.contains("RESET"))), "{counters:?}");
    }
}

#[test]
fn over_tls_a_relay_that_keeps_its_promise_has_an_exact_account_however_clients_leave() {
    let (_, report) = soak(&[&["--minutes", "0.1", "--tls"], &CROWD[..]].concat());
    assert_eq!((verdict(&report, "account")["holds"].as_bool(), faults(&report)), (Some(true), vec![]), "{report}");
    for name in ["visits_said_goodbye", "visits_hung_up", "visits_cut"] {
        assert!(figure(&report, name) > 0.0, "{name}");
    }
    assert!(report["tls"]["handshakes"].as_u64() >= report["arrival"]["clients"].as_u64(), "{report}");
    // Half a close is one over TLS as well.
    let counters = report["server_counters"].as_array().expect("lines");
    assert!(counters.iter().any(|line| line.as_str().is_some_and(|line| line.contains("HUNG_UP"))), "{counters:?}");
}

#[test]
fn a_good_relay_behind_a_proxy_has_an_exact_account() {
    let (_, report) = through(Fault::None, "0.02");
    assert_eq!((verdict(&report, "account")["holds"].as_bool(), faults(&report)), (Some(true), vec![]), "{report}");
}

#[test]
fn a_frame_that_is_lost_between_two_or_in_a_room_is_missed() {
    for fault in [Fault::LostBetweenTwo, Fault::LostInARoom] {
        let (output, report) = through(fault, "0.02");
        assert_code(&output, 1);
        assert_eq!(counts(&report, ["lost", "misordered"]), [1, 0], "{fault:?}: {}", report["account"]);
        assert_eq!(faults(&report), ["1 frame was lost: neither delivered nor refused nor counted"], "{fault:?}");
        assert_eq!(verdict(&report, "account")["holds"], false);
    }
}

#[test]
fn a_frame_that_comes_twice_or_late_or_bent_is_noticed() {
    let (output, report) = through(Fault::Twice, "0.02");
    assert_code(&output, 1);
    assert_eq!(counts(&report, ["misordered", "lost"]), [1, 0], "{}", report["account"]);

    let (output, report) = through(Fault::Late, "0.02");
    assert_code(&output, 1);
    assert_eq!(counts(&report, ["misordered", "lost"]), [1, 1], "{}", report["account"]);

    let (output, report) = through(Fault::Bent, "0.02");
    assert_code(&output, 1);
    assert_eq!(counts(&report, ["damaged", "lost"]), [1, 1], "{}", report["account"]);
}

#[test]
fn an_answer_that_never_comes_is_missed() {
    let (output, report) = through(Fault::NoReceipt, "0.02");
    assert_code(&output, 1);
    let [line] = &faults(&report)[..] else { panic!("{report}") };
    assert_eq!(line, "1 frame was to be answered by a receipt or a refusal, and had neither");

    let (output, report) = through(Fault::NoRefusal, "0.12");
    assert_code(&output, 1);
    assert_eq!(counts(&report, ["lost", "contradicted"]), [1, 0], "{}", report["account"]);
    assert_eq!(faults(&report).len(), 2, "{report}");
}

#[test]
fn a_watcher_that_is_not_told_who_comes_and_goes_notices() {
    let (output, report) = through(Fault::NoNews, "0.05");
    assert_code(&output, 1);
    assert_eq!(faults(&report), ["once a list of who is here did not agree with who was here"], "{report}");
}

#[test]
fn ctrl_c_ends_it_early_with_an_honest_report() {
    let relay = Relay::start();
    // A stranger, who gets what is for everybody.
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--json"]);
    let arguments =
        ["bench", "soak", &relay.address, "--minutes", "600", "--json", "--connections", "40", "--rooms", "2"];
    let bench = Running::start(NOWHERE, &arguments);
    watcher.line("{");
    signal(&bench.child, Signal::INT);
    let line = bench.error_line("soak: ");
    assert!(line.contains("stopped before its time, after "), "{line}");
    assert!(line.contains("of 600 min"), "{line}");
    let (code, lines) = bench.end();
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&lines.concat()).expect("a report");
    assert_eq!(counts(&report, ["lost", "contradicted"]), [0, 0], "{report}");
    assert!(report["account"]["sent"].as_u64() > Some(0), "{report}");
    assert_eq!(faults(&report).len(), 1, "{report}");
    let remarks = report["remarks"].to_string();
    assert!(remarks.contains("1 other client was there"), "{remarks}");
}

#[test]
fn a_relay_that_dies_is_told_with_the_figures_so_far() {
    let relay = Relay::start();
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--json"]);
    let bench = Running::start(NOWHERE, &["bench", "soak", &relay.address, "--minutes", "600", "--json"]);
    watcher.line("{");
    drop(relay);
    bench.error_line("soak: ");
    let (code, lines) = bench.end();
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&lines.concat()).expect("a report");
    assert_eq!(report["account"]["lost"], 0, "{report}");
    assert!(!report["failures"].as_array().expect("failures").is_empty());
}
