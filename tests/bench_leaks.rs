//! The soak's other verdicts: a server that keeps descriptors or memory is caught, and the same one is believed if it
//! does not. In a process of its own, as what other tests have open would be taken for the server's.
#![cfg(target_os = "linux")]

mod client_support;
mod soak_support;

use std::sync::{Mutex, PoisonError};

use client_support::{assert_code, stderr};
use serde_json::Value;
use soak_support::{Fault, numbers, through, verdict};

/// One after the other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn what_gives_back_all_that_it_takes_is_believed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (output, report) = through(Fault::None, "0.1");
    assert_code(&output, 0);
    for name in ["memory", "descriptors", "account"] {
        assert_eq!(verdict(&report, name)["holds"], true, "{report}");
    }
}

#[test]
fn what_keeps_a_descriptor_of_each_connection_is_caught() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (output, report) = through(Fault::KeepsDescriptors, "0.1");
    assert_code(&output, 1);
    let judged = verdict(&report, "descriptors");
    assert_eq!((&judged["holds"], &judged["says"]), (&false.into(), &"descriptors grow".into()), "{judged}");
    assert!(stderr(&output).contains("descriptors grow: "), "{}", stderr(&output));
    let [before, .., left] = &numbers(judged["reasons"][1].as_str().expect("a reason"))[..] else { panic!("{judged}") };
    assert!(left - before >= report["arrival"]["clients"].as_u64().expect("a count"), "{judged}");
    assert_eq!(verdict(&report, "account")["holds"], true);
}

#[test]
fn what_keeps_memory_of_each_frame_is_caught() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (output, report) = through(Fault::KeepsMemory, "0.1");
    assert_code(&output, 1);
    let judged = verdict(&report, "memory");
    assert_eq!((&judged["holds"], &judged["says"]), (&false.into(), &"memory grows".into()), "{judged}");
    assert!(stderr(&output).contains("memory grows: "), "{}", stderr(&output));
    let resident = |sample: &Value| sample["resident_bytes"].as_u64().expect("it is known");
    let series = report["series"].as_array().expect("a series");
    assert!(resident(&series[series.len() - 1]) > resident(&series[2]) + (8 << 20), "{series:?}");
    assert_eq!(verdict(&report, "account")["holds"], true);
}
