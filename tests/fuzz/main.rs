//! Whatever bytes come, the promises hold: the targets that a fuzzer looks for the exceptions to, run on what it
//! has kept (`corpus/`) and on a few seeded inputs.
//!
//! ```text
//! targets/   a function of bytes for each; it panics if a promise is broken
//! corpus/    for each target the inputs that together reach what has been reached, as small as they could be made
//! guided/    the same targets under libFuzzer: a package of its own, so that nobody else needs it
//! ```
//!
//! With coverage guidance for an hour, on a stable toolchain, from the top of the repository. What reaches something
//! new is left in the first folder, what fails in `tests/fuzz/guided/artifacts`:
//!
//! ```text
//! cargo install cargo-fuzz
//! mkdir -p target/fuzz/relay
//! cargo fuzz run --fuzz-dir tests/fuzz/guided --sanitizer none relay \
//!     target/fuzz/relay tests/fuzz/corpus/relay -- -max_total_time=3600 -max_len=2000 -print_final_stats=1
//! ```
//!
//! It is the code of the library with debug assertions and overflow checks on. `exec/s` is what was run in a second,
//! `cov` are edges that were reached, and `ft` counts an edge more than once if it is passed more often. Inputs of
//! 1,000 to 2,000 bytes do, for `scram`, `users`, `words` and `settings` of 200.
//!
//! To take over what was found, as few and as small inputs as reach all edges, in place of those in the tree:
//!
//! ```text
//! mkdir target/fuzz/few
//! cargo fuzz run --fuzz-dir tests/fuzz/guided --sanitizer none relay \
//!     target/fuzz/few tests/fuzz/corpus/relay target/fuzz/relay -- -set_cover_merge=1 -use_counters=0
//! ```
//!
//! Files with a name of words are inputs that have found a fault; they stay. To run one input again, from a file or as
//! it was printed here:
//!
//! ```text
//! FUZZ_TARGET=relay FUZZ_INPUT=path/or/hexadecimal cargo test --test fuzz one_input
//! ```
//!
//! cargo-fuzz and not bolero: what a plain `cargo test` needs of it is this file, and no crate; and libFuzzer's counters
//! are compiled into the library and all that it stands on without a nightly compiler. No sanitizer: there is no unsafe
//! code here that it could watch.
#![allow(clippy::duplicate_mod, reason = "targets share the helpers of other tests, each with its own part of them")]

#[path = "../support/dice.rs"]
mod dice;
mod targets;

use std::fmt::Write as _;
use std::panic::{RefUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use dice::Dice;
// What the files that are taken in out of the library know as rooms of their crate.
use switchboard::{client, harmless, wire};

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("bodies", targets::bodies::run),
    ("client", targets::client::run),
    ("decoder", targets::decoder::run),
    ("login", targets::login::run),
    ("proxy", targets::proxy::run),
    ("reactor", targets::reactor::run),
    ("records", targets::records::run),
    ("relay", targets::relay::run),
    ("scram", targets::scram::run),
    ("settings", targets::settings::run),
    ("tls", targets::tls::run),
    ("users", targets::users::run),
    ("words", targets::words::run),
];

/// Runs a target, and says what it was run on if it fails.
fn run(name: &str, target: impl Fn(&[u8]) + RefUnwindSafe, input: &[u8]) {
    if let Err(panic) = catch_unwind(|| target(input)) {
        let hex = input.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        eprintln!("FUZZ_TARGET={name} FUZZ_INPUT={hex} repeats it");
        resume_unwind(panic);
    }
}

/// Runs a target on its corpus and on `count` inputs of up to `most` bytes.
fn smoke(name: &str, count: u64, most: usize) {
    let target = target(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    for input in &inputs {
        run(name, target, input);
    }
    for seed in 0..count {
        let mut dice = Dice::seeded(seed);
        let length = dice.usize(..=most);
        // One half is made of nothing, the other is an input of the corpus in which some bytes are others.
        let mut input =
            if dice.bool() { dice.choice(&inputs).cloned().unwrap_or_default() } else { dice.bytes(length) };
        for _ in 0..dice.usize(..4) {
            let place = dice.usize(..=input.len());
            let byte = dice.u8(..);
            input.splice(place..(place + dice.usize(..2)).min(input.len()), [byte]);
        }
        run(name, target, &input);
    }
}

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("there is no target {name}")).1
}

#[test]
fn one_input() {
    let (Ok(name), Ok(input)) = (std::env::var("FUZZ_TARGET"), std::env::var("FUZZ_INPUT")) else { return };
    let bytes = std::fs::read(&input).unwrap_or_else(|_| {
        let digits: Vec<u8> = input.bytes().map(|digit| (digit as char).to_digit(16).expect("a digit") as u8).collect();
        digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
    });
    run(&name, target(&name), &bytes);
}

#[test]
fn any_bytes_cut_anywhere_are_the_frames_that_they_are() {
    smoke("decoder", 2_000, 600);
}

#[test]
fn any_body_is_read_as_the_tables_say_and_written_as_it_was_read() {
    smoke("bodies", 2_000, 400);
}

#[test]
fn whatever_clients_do_in_whatever_order_each_frame_has_its_fate() {
    smoke("relay", 300, 600);
}

#[test]
fn nobody_is_let_in_who_has_not_proved_to_be_a_user_of_that_name() {
    smoke("login", 300, 1_200);
}

#[test]
fn nobody_is_authenticated_whose_exchange_somebody_has_changed() {
    smoke("scram", 2_000, 100);
}

#[test]
fn any_users_file_is_read_or_its_line_is_named_and_a_change_changes_what_was_meant() {
    smoke("users", 2_000, 100);
}

#[test]
fn nobody_is_let_in_for_what_is_no_header_of_a_proxy_wherever_it_is_cut() {
    smoke("proxy", 1_000, 300);
}

#[test]
fn over_tls_nothing_is_told_too_early_lost_or_taken_for_what_it_is_not() {
    smoke("tls", 300, 600);
}

#[test]
fn whoever_has_the_keys_and_seals_what_it_likes_is_shown_as_data_what_is_data_and_costs_little() {
    smoke("records", 400, 400);
}

#[test]
fn any_command_line_gives_settings_that_hold_or_one_line() {
    smoke("settings", 1_000, 60);
}

#[test]
fn any_words_are_read_or_told_why_not_and_shown_without_harm() {
    smoke("words", 2_000, 100);
}

#[test]
fn a_client_makes_of_any_bytes_what_they_are_and_answers_as_it_must() {
    smoke("client", 500, 300);
}

#[test]
fn no_order_of_what_peers_do_loses_repeats_or_mixes_up_a_byte() {
    smoke("reactor", 200, 600);
}
