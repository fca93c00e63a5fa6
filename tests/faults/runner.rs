//! Runs faults: each in a process of its own, several at once where nothing is measured.

use std::io::{BufRead, BufReader};
use std::panic::catch_unwind;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::catalogue::{ALL, Fault};
use crate::scene::{Scene, Size};
use crate::table::{RATIO_MAX, Round, Row};
use crate::{account, crowd, table};

/// Faults at once where nothing is measured: most of the time each of them waits.
const AT_ONCE: usize = 4;
/// Rounds of each fault for the table.
const ROUNDS: usize = 3;
/// After so long a fault hangs.
const HANG_SMALL: Duration = Duration::from_secs(100);
const HANG_FULL: Duration = Duration::from_secs(200);
/// What stands in front of a round's findings on standard output.
const FOUND: &str = "found: ";

/// What is asked for.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Wishes {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    table: bool,
    json: bool,
    markdown: bool,
    rounds: Option<usize>,
    at_once: Option<usize>,
}

impl Wishes {
    fn of(arguments: &[String]) -> Self {
        let mut wishes = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut number = || value.take().or_else(|| arguments.next().cloned()).and_then(|text| text.parse().ok());
            match name {
                "--list" => wishes.list = true,
                "--exact" => wishes.exact = true,
                "--table" => wishes.table = true,
                "--json" => wishes.json = true,
                "--markdown" => wishes.markdown = true,
                "--rounds" => wishes.rounds = number(),
                "--test-threads" => wishes.at_once = number(),
                // What the usual harness knows and has no meaning here; these have a value.
                "--skip" | "--format" | "--color" | "--logfile" | "-Z" => drop::<Option<usize>>(number()),
                _ if name.starts_with('-') => {}
                _ => wishes.filters.push(argument.clone()),
            }
        }
        wishes
    }

    fn wants(&self, fault: &Fault) -> bool {
        let matches =
            |filter: &String| if self.exact { fault.name == filter } else { fault.name.contains(filter.as_str()) };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}

/// Does what the arguments ask for.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match arguments.split_first() {
        // These two are how this program calls itself.
        Some((word, rest)) if word == "--crowd" => return crowd::run(rest),
        Some((word, rest)) if word == "--one" => return one(rest),
        _ => {}
    }
    let wishes = Wishes::of(arguments);
    let faults: Vec<&Fault> = ALL.iter().filter(|fault| wishes.wants(fault)).collect();
    if wishes.list {
        for fault in faults {
            println!("{}: test", fault.name);
        }
        return ExitCode::SUCCESS;
    }
    account::check_itself();
    if wishes.table { full(&faults, &wishes) } else { small(&faults, &wishes) }
}

fn small(faults: &[&Fault], wishes: &Wishes) -> ExitCode {
    println!("\nrunning {} faults", faults.len());
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let (failed, skipped) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..wishes.at_once.unwrap_or(AT_ONCE).clamp(1, 16) {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let round = run_apart(fault, Size::Small);
                    let how = match (&round.skipped, round.failures.is_empty()) {
                        (Some(why), _) => format!("skipped: {why}"),
                        (None, true) => "ok".to_owned(),
                        (None, false) => format!("FAILED\n    {}", round.failures.join("\n    ")),
                    };
                    println!("fault {} ... {how} ({:.1?}: {})", fault.name, began.elapsed(), round.notes.join("; "));
                    if !round.failures.is_empty() {
                        failed.lock().expect("nobody panics").push(fault.name);
                    } else if round.skipped.is_some() {
                        skipped.lock().expect("nobody panics").push(fault.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics");
    let skipped = skipped.into_inner().expect("nobody panics");
    let passed = faults.len() - failed.len() - skipped.len();
    let (fails, skips) = (failed.len(), skipped.len());
    let lasted = began.elapsed();
    println!("\nfaults: {passed} ok, {skips} skipped {skipped:?}, {fails} failed {failed:?}; {lasted:.1?}\n");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn full(faults: &[&Fault], wishes: &Wishes) -> ExitCode {
    let mut rows = Vec::new();
    for fault in faults {
        let mut rounds = Vec::new();
        for number in 0..wishes.rounds.unwrap_or(ROUNDS) {
            eprintln!("{}, round {}", fault.name, number + 1);
            let round = run_apart(fault, Size::Full);
            let is_over = round.skipped.is_some();
            rounds.push(round);
            if is_over {
                break;
            }
        }
        rows.push(Row::of(fault.name, fault.what, &rounds));
    }
    match (wishes.json, wishes.markdown) {
        (true, _) => println!("{}", serde_json::to_string_pretty(&rows).expect("plain values")),
        (false, true) => print!("{}", table::markdown(&rows)),
        (false, false) => print!("{}", table::text(&rows)),
    }
    let missed: Vec<_> = rows.iter().filter(|row| row.misses_bar()).map(|row| row.fault.as_str()).collect();
    let failed: Vec<_> = rows.iter().filter(|row| !row.failures.is_empty()).map(|row| row.fault.as_str()).collect();
    eprintln!("the bar: a p99 of at most {RATIO_MAX}× the undisturbed one; missed by {missed:?}; failed: {failed:?}");
    if missed.is_empty() && failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a fault in a process of its own, with a network of its own if it needs one.
fn run_apart(fault: &Fault, size: Size) -> Round {
    let itself = std::env::current_exe().expect("its own name");
    let mut command = Command::new(&itself);
    if fault.network {
        let Some(words) = network() else {
            let why = "this machine grants no network of one's own (unshare --net, ip)".to_owned();
            return Round { fault: fault.name.to_owned(), skipped: Some(why), ..Round::default() };
        };
        command = Command::new(words[0]);
        command.args(&words[1..]).arg(&itself);
    }
    // However it ends, what it leaves behind is in there.
    let folder = tempfile::Builder::new().prefix("switchboard-faults-").tempdir().expect("a folder");
    command
        .args(["--one", fault.name, size.of("small", "full")])
        .env("RUST_BACKTRACE", "0")
        .env("TMPDIR", folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("itself");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let reading = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let found = stdout.lines().map_while(Result::ok).find_map(|line| {
        let found = line.strip_prefix(FOUND)?;
        serde_json::from_str::<Round>(found).ok()
    });
    let status = child.wait().expect("it was started");
    let said = reading.join().expect("it reads");
    found.unwrap_or_else(|| Round {
        fault: fault.name.to_owned(),
        failures: vec![format!("{status}: {}", said.join("\n    "))],
        ..Round::default()
    })
}

/// The words in front of a command that has a network of its own; `None` if the machine grants none.
pub(crate) fn network() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["unshare", "--net"], &["unshare", "--user", "--map-root-user", "--net"]];
    let works = |words: &&&[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["ip", "link", "set", "lo", "up"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    WAYS.iter().find(works).copied()
}

/// Runs one fault in this process, and says what it has found.
fn one(arguments: &[String]) -> ExitCode {
    let fault = ALL.iter().find(|fault| fault.name == arguments[0]).expect("a fault");
    let size = if arguments[1] == "full" { Size::Full } else { Size::Small };
    // Whatever hangs ends here, with all that it has started.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    std::thread::spawn(move || {
        std::thread::sleep(size.of(HANG_SMALL, HANG_FULL));
        eprintln!("{} hangs", fault.name);
        std::process::exit(102);
    });
    let Ok(round) = catch_unwind(|| Scene::run(fault, size)) else {
        return ExitCode::from(101);
    };
    println!("{FOUND}{}", serde_json::to_string(&round).expect("plain values"));
    ExitCode::SUCCESS
}
