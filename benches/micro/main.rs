//! `cargo bench --bench micro [-- [--json] [WORDS...]]`: what each step of a frame's way costs, in instructions
//! and in nanoseconds; of the cases only those whose names contain one of the words.
//!
//! Instructions are the figure to go by: they do not change with what else a machine does. They are counted by
//! valgrind, which runs this program with the same case for two numbers of rounds, so that what comes before the
//! rounds drops out. Where there is no valgrind there are only nanoseconds, the least of several series.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod cases;
mod fakes;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use cases::{CASES, Case};

/// Rounds before anything is counted: pools and lists have their memory then.
const WARM_ROUNDS: u64 = 20;
/// Frames that are counted, at least; and rounds, so that what comes every few of them has come.
const COUNTED_FRAMES: u64 = 4000;
const COUNTED_ROUNDS: u64 = 50;
/// Series of rounds of which the fastest is reported, and how long each takes.
const SERIES: u32 = 25;
const SERIES_TIME: Duration = Duration::from_millis(10);

/// What was found out about a case.
struct Figures {
    name: &'static str,
    instructions: Option<f64>,
    nanoseconds: f64,
}

fn main() -> ExitCode {
    // Cargo says `--bench` to every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, name, rounds] = &arguments[..]
        && flag == "--count"
    {
        return count(name, rounds);
    }
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = arguments.iter().find(|argument| argument.starts_with("--") && *argument != "--json") {
        eprintln!("{unknown} is not known; usage: micro [--json] [WORDS...]");
        return ExitCode::from(2);
    }
    let wanted = |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        eprintln!("no case is called so; there are: {}", names.join("; "));
        return ExitCode::from(2);
    }
    let counts = Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success());
    if !as_json {
        println!("{:34} {:>14} {:>10}", "case", "instructions", "ns");
    }
    let mut all = Vec::new();
    for case in cases {
        let instructions = if counts { instructions(case) } else { None };
        let figures = Figures { name: case.name, instructions, nanoseconds: nanoseconds(case) };
        if !as_json {
            let instructions = figures.instructions.map_or_else(String::new, |count| format!("{count:.1}"));
            println!("{:34} {instructions:>14} {:>10.1}", figures.name, figures.nanoseconds);
        }
        all.push(figures);
    }
    if as_json {
        print_json(&all);
    } else if counts {
        println!("\nfor each frame; where there are many recipients, for each of them");
    } else {
        println!("\nfor each frame; instructions are counted where valgrind is installed");
    }
    ExitCode::SUCCESS
}

fn print_json(all: &[Figures]) {
    let row = |figures: &Figures| {
        serde_json::json!({
            "case": figures.name,
            "instructions_per_frame": figures.instructions,
            "ns_per_frame": figures.nanoseconds,
        })
    };
    println!("{:#}", serde_json::Value::Array(all.iter().map(row).collect()));
}

/// Does nothing but the rounds of one case: this is what valgrind looks at.
fn count(name: &str, rounds: &str) -> ExitCode {
    let (Some(case), Ok(rounds)) = (CASES.iter().find(|case| case.name == name), rounds.parse::<u64>()) else {
        eprintln!("usage: micro --count CASE ROUNDS");
        return ExitCode::from(2);
    };
    let mut round = (case.build)();
    for _ in 0..rounds {
        round();
    }
    ExitCode::SUCCESS
}

/// Instructions for each frame.
fn instructions(case: &Case) -> Option<f64> {
    let rounds = COUNTED_FRAMES.div_ceil(case.frames).max(COUNTED_ROUNDS);
    let few = run_counted(case, WARM_ROUNDS)?;
    let many = run_counted(case, WARM_ROUNDS + rounds)?;
    Some(many.checked_sub(few)? as f64 / (rounds * case.frames) as f64)
}

/// All instructions of a process that runs `rounds` of a case.
fn run_counted(case: &Case, rounds: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    // The library's copies of long pieces would else be one instruction for each byte.
    valgrind.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM");
    let output = valgrind.arg(program).args(["--count", case.name, &rounds.to_string()]).output().ok()?;
    // "==4711== I   refs:      12,345,678"
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("refs:"))?;
    let digits: String = line.split("refs:").nth(1)?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|_| output.status.success())
}

/// Nanoseconds for each frame.
fn nanoseconds(case: &Case) -> f64 {
    let mut round = (case.build)();
    let mut time = |rounds: u64| {
        let start = Instant::now();
        for _ in 0..rounds {
            round();
        }
        start.elapsed()
    };
    let mut rounds = WARM_ROUNDS;
    while time(rounds) < SERIES_TIME {
        rounds *= 2;
    }
    let least = (0..SERIES).map(|_| time(rounds)).min().unwrap_or_default();
    least.as_nanos() as f64 / (rounds * case.frames) as f64
}
