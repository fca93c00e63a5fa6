//! Deterministic simulation: the production engine and relay on a network and a clock that a seed decides, judged by
//! the delivery promise.
//!
//! `cargo test --test simulation` runs a fixed set of seeds and some fresh ones, and proves by planted bugs that the
//! judge sees what it should. `cargo test --release --test simulation -- --seeds 100000` runs for as long as you like;
//! a seed that fails is printed, shrunk and shown as a story, and `-- --seed N` runs it again.
//! `cargo test --test simulation -- --plant GapOffByOne` shows what that looks like.

mod client;
mod doors;
mod endings;
#[path = "../relay/frames.rs"]
#[allow(dead_code, reason = "shared with the tests of the relay, which use more of it")]
mod frames;
mod judge;
mod network;
mod people;
mod perform;
mod plan;
mod run;
mod scenes;
mod secure;
mod shrink;
mod tap;
mod world;

use std::io::{IsTerminal, Write};
use std::ops::Range;
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
const FRESH_SEEDS: usize = 30;
/// Of those only such with so many clients at most: a thousand of them take minutes in a build without optimization.
const FRESH_CLIENTS_MAX: usize = 200;
/// From so many runs on it is told which codes have come: each should have, except that for want of descriptors, which
/// the simulated system never lacks.
const CODES_SEEDS_MIN: u64 = 300;
/// A planted bug must be found within so many.
const PLANTED_SEEDS_MAX: u64 = 40;
/// What is wrong with these comes seldom, so each is looked for with a seed by which it is found. If a change has that seed
/// pass, `--planted` finds another.
const PLANTED_RARE: &[(Bug, u64)] = &[
    (Bug::FirstFramesForgotten, 321),
    (Bug::ProxyBelieved, 46),
    (Bug::BucketInherited, 112),
    (Bug::FailuresUncounted, 91),
    (Bug::AnybodysName, 69),
    (Bug::CertificateUnchecked, 52),
    (Bug::GhostKept, 221),
    (Bug::RightKept, 99),
    (Bug::UnwatchIgnored, 73),
    (Bug::MemberSkipped, 75),
];

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
    /// Run one seed again; if it fails, make it smaller and tell its story
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Plant the bugs one by one, from seed 0 on, and show the first seed that finds each; needs debug assertions
    #[arg(long, conflicts_with_all = ["seeds", "seed", "plant"])]
    planted: bool,
    /// Plant this bug, and run as otherwise told; without --seeds or --seed from seed 0 on until it is found. The names are
    /// in src/planted.rs
    #[arg(long, value_name = "BUG", value_parser = bug)]
    plant: Option<Bug>,
    /// Tell the story of a failure as it is, without making it smaller
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
    let (plant, can_plant) = (options.plant, cfg!(debug_assertions));
    if (options.planted || plant.is_some()) && !can_plant {
        eprintln!(
            "bugs can be planted in builds with debug assertions only: leave --release out, or say --profile checked"
        );
        return ExitCode::from(2);
    }
    if let Some(seed) = options.seed {
        return verdict(&run_seeds(seed..=seed, plant), &options);
    }
    if let Some(count) = options.seeds {
        return verdict(&run_seeds(fresh..fresh + count, plant), &options);
    }
    if plant.is_some() {
        return verdict(&run_seeds(options.from.unwrap_or(0).., plant), &options);
    }
    if options.planted {
        return planted(|_| 0..u64::MAX);
    }
    let small = (fresh..).filter(|seed| Plan::from_seed(*seed).clients <= FRESH_CLIENTS_MAX).take(FRESH_SEEDS);
    let outcome = run_seeds((0..FIXED_SEEDS).chain(small), None);
    if outcome.failure.is_some() {
        return verdict(&outcome, &options);
    }
    if !can_plant {
        println!("planted bugs were not looked for: that takes a build with debug assertions");
        return ExitCode::SUCCESS;
    }
    planted(|bug| match PLANTED_RARE.iter().find(|(rare, _)| *rare == bug) {
        Some((_, seed)) => *seed..seed + 1,
        None => 0..PLANTED_SEEDS_MAX,
    })
}

/// A planted bug by its name in the source.
fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("there is none of that name: {:?}", Bug::ALL))
}

fn run_seeds(seeds: impl Iterator<Item = u64> + Send, plant: Option<Bug>) -> Outcome {
    let start = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let outcome = run::run_all(seeds, plant, |runs| {
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
    let plant = options.plant.map(|bug| format!(" --plant {bug:?}")).unwrap_or_default();
    println!("again: cargo test --test simulation -- --seed {seed}{plant}");
    run::plant(options.plant);
    let plan = Plan::from_seed(*seed);
    if options.no_shrink {
        println!("its {} steps:", plan.steps.len());
        tell(&plan, failure);
    } else {
        let steps = plan.steps.len();
        let (plan, failure) = shrink::shrink(plan, failure.clone());
        println!("made smaller, from {steps} steps to {}:", plan.steps.len());
        tell(&plan, &failure);
    }
    ExitCode::FAILURE
}

/// A plan as a story.
fn tell(plan: &Plan, failure: &Failure) {
    println!("  {:?}\n  {:?}\n  {:?}", plan.limits, plan.settings, plan.doors);
    for (number, list) in plan.people.lists.iter().enumerate() {
        println!("  list of users {number}: {list:?}");
    }
    for step in &plan.steps {
        println!("  client {}: {:?}, then {} turns", step.client, step.action, step.turns);
    }
    println!("  and then: {}\n  at {}", failure.what, failure.place);
}

/// Plants each bug and looks for it with these seeds; none may be missed.
fn planted(seeds: impl Fn(Bug) -> Range<u64>) -> ExitCode {
    let mut missed = false;
    println!("| planted bug | found by seed | who noticed, and what |\n| --- | ---: | --- |");
    for bug in Bug::ALL {
        let seeds = seeds(bug);
        let outcome = run::run_all(seeds.clone(), Some(bug), |_| {});
        if let Some((seed, failure)) = outcome.failure {
            // What the relay's own checks notice is no merit of the judge's.
            let who = if failure.place.starts_with("src/") { "the code's own checks" } else { "the judge" };
            let what: String = failure.what.chars().take(100).collect();
            println!("| {bug:?} | {seed} | {who}: {} |", what.replace('\n', " "));
        } else {
            missed = true;
            println!("| {bug:?} | **not found** by {seeds:?} | |");
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
