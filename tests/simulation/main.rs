//! Deterministic simulation: the production engine and relay on a network and a clock that a seed decides, judged by
//! the delivery promise.
//!
//! `cargo test --test simulation` runs a fixed set of seeds and some fresh ones, and proves by planted bugs that the
//! judge sees what it should. `cargo test --release --test simulation -- --seeds 100000` runs for as long as you like;
//! a seed that fails is printed, shrunk and shown as a story, and `-- --seed N` runs it again.

mod client;
mod endings;
#[path = "../relay/frames.rs"]
#[allow(dead_code, reason = "shared with the tests of the relay, which use more of it")]
mod frames;
mod judge;
mod network;
mod perform;
mod plan;
mod run;
mod scenes;
mod shrink;
mod tap;
mod world;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use switchboard::planted::Bug;
use switchboard::wire::Code;

use plan::Plan;
use run::{Failure, Outcome};

/// Seeds that every run of the tests begins with.
const FIXED_SEEDS: u64 = 50;
/// Fresh ones on top.
const FRESH_SEEDS: u64 = 30;
/// From so many runs on it is told which codes have come: each should have, except that for want of descriptors, which
/// the simulated system never lacks.
const CODES_SEEDS_MIN: u64 = 300;
/// A planted bug must be found within so many.
const PLANTED_SEEDS_MAX: u64 = 400;

/// The delivery promise, judged in simulated networks.
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Options {
    /// Run so many fresh seeds, and nothing else
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Begin with this seed instead of one by the clock
    #[arg(long, value_name = "SEED")]
    from: Option<u64>,
    /// Run one seed again, and tell its story
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Plant the bugs one by one, and show how many seeds it takes to find each
    #[arg(long)]
    planted: bool,
    /// Show how a failure was found without making it smaller
    #[arg(long)]
    no_shrink: bool,
    /// Ignored: which of the tests to run, and how, as other test programs are told
    #[arg(hide = true)]
    filter: Vec<String>,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true, value_name = "N")]
    test_threads: Option<usize>,
    #[arg(long, short, hide = true)]
    quiet: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    run::note_failures();
    let fresh = options.from.unwrap_or_else(|| fastrand::u64(1 << 32..1 << 48));
    if let Some(seed) = options.seed {
        return verdict(&run_seeds(seed..=seed), &options);
    }
    if let Some(count) = options.seeds {
        return verdict(&run_seeds(fresh..fresh + count), &options);
    }
    if options.planted {
        return planted(u64::MAX);
    }
    let outcome = run_seeds((0..FIXED_SEEDS).chain(fresh..fresh + FRESH_SEEDS));
    if outcome.failure.is_some() || !cfg!(debug_assertions) {
        return verdict(&outcome, &options);
    }
    verdict(&outcome, &options);
    planted(PLANTED_SEEDS_MAX)
}

fn run_seeds(seeds: impl Iterator<Item = u64> + Send) -> Outcome {
    let start = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let outcome = run::run_all(seeds, None, |runs| {
        if is_terminal && runs.is_multiple_of(10) {
            let _ = write!(std::io::stderr(), "\r{runs} runs ");
        }
    });
    if is_terminal {
        let _ = write!(std::io::stderr(), "\r");
    }
    let (tally, seconds) = (outcome.tally, start.elapsed().as_secs_f64());
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = |count: u64| count as f64 / seconds;
    println!(
        "{} runs in {seconds:.1} s: {} turns ({:.0} a second), {} connections, {} frames taken in ({:.0} a second); \
         {} delivered, {} refused, {} counted in GAPs, {} receipts",
        outcome.runs,
        tally.turns,
        rate(tally.turns),
        tally.connections,
        tally.frames,
        rate(tally.frames),
        tally.delivered,
        tally.refused,
        tally.counted,
        tally.receipts
    );
    if outcome.runs >= CODES_SEEDS_MIN {
        tell_codes(&tally);
    }
    outcome
}

/// Which codes have come, and which never have.
fn tell_codes(tally: &judge::Tally) {
    let mut never = Code::ALL.to_vec();
    for (what, codes) in [("closed", &tally.closed), ("refused", &tally.failed)] {
        let seen: Vec<String> = codes.seen().map(|(code, count)| format!("{code} {count}")).collect();
        never.retain(|code| codes.seen().all(|(other, _)| other != *code));
        println!("{what}: {}", seen.join(", "));
    }
    println!("never: {never:?}");
}

fn verdict(outcome: &Outcome, options: &Options) -> ExitCode {
    let Some((seed, failure)) = &outcome.failure else { return ExitCode::SUCCESS };
    println!("seed {seed} fails: {}\n  at {}", failure.what, failure.place);
    println!("again: cargo test --test simulation -- --seed {seed}");
    if !options.no_shrink {
        let plan = Plan::from_seed(*seed);
        let steps = plan.steps.len();
        let (plan, failure) = shrink::shrink(plan, failure.clone());
        println!("made smaller, from {steps} steps to {}:", plan.steps.len());
        tell(&plan, &failure);
    }
    ExitCode::FAILURE
}

/// A plan as a story.
fn tell(plan: &Plan, failure: &Failure) {
    println!("  {:?}\n  {:?}", plan.limits, plan.settings);
    for step in &plan.steps {
        println!("  client {}: {:?}, then {} turns", step.client, step.action, step.turns);
    }
    println!("  and then: {}\n  at {}", failure.what, failure.place);
}

/// Plants each bug and looks for it.
fn planted(seeds_max: u64) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    println!("| planted bug | seeds until it is found | by |\n| --- | --- | --- |");
    for bug in Bug::ALL {
        let outcome = run::run_all(0..seeds_max, Some(bug), |_| {});
        if let Some((seed, failure)) = outcome.failure {
            let what: String = failure.what.chars().take(100).collect();
            println!("| {bug:?} | {} | {} |", seed + 1, what.replace('\n', " "));
        } else {
            exit = ExitCode::FAILURE;
            println!("| {bug:?} | **not found** in {seeds_max} | |");
        }
    }
    exit
}
