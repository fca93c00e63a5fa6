#![no_main]
#[path = "../../support/dice.rs"]
mod dice;
#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "each program runs one of them")]
mod targets;
use switchboard::{client, harmless, wire};

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::records::run(input));
