//! The runs in rounds: in each round every server does a work once, one after the other, so that a machine whose
//! speed changes changes it for all of them. Ratios are taken within a round, and their median counts.

use std::time::Duration;

use switchboard::bench::comparison::{Cell, Comparison, Row as ComparedRow, Server as ComparedServer};
use switchboard::bench::report::Report;
use switchboard::bench::{Progress, Scenario, Stop, Switchboard, Work, run};

use crate::dialects::{AcceptOnly, Floor, Mqtt, Nats, Redis};
use crate::rows::{KEEPALIVE, Row, Run};
use crate::servers::Kind;

/// What is run, and how often.
pub(crate) struct Plan {
    pub(crate) runs: Vec<Run>,
    pub(crate) servers: Vec<Kind>,
    pub(crate) rounds: u32,
    /// Whether figures mean enough to be held against the bars.
    pub(crate) judged: bool,
}

/// What one server did in all rounds of a run.
enum Outcome {
    /// A report for each round; `None` for a round in which the server could not be started.
    Reports(Vec<Option<Report>>),
    Absent(&'static str),
}

/// Runs everything, saying on standard error what is being done, and enters it into `comparison`. Returns the
/// lines that say what failed.
pub(crate) fn run_all(plan: &Plan, stop: &Stop, comparison: &mut Comparison) -> Vec<String> {
    comparison.servers =
        plan.servers.iter().map(|kind| ComparedServer::new(kind.name(), &kind.version(), kind.role())).collect();
    let mut failures = Vec::new();
    for one in &plan.runs {
        if stop.is_asked() {
            failures.push("stopped before its time".to_owned());
            break;
        }
        let outcomes = rounds_of(one, plan, stop, &mut failures);
        for row in one.rows {
            comparison.rows.push(compare(row, &plan.servers, &outcomes, plan.judged));
        }
    }
    failures
}

fn rounds_of(one: &Run, plan: &Plan, stop: &Stop, failures: &mut Vec<String>) -> Vec<Outcome> {
    let what_is_there = |kind: &Kind| {
        if !one.servers.contains(kind) {
            Outcome::Absent("")
        } else if kind.executable().is_none() {
            Outcome::Absent("skipped: not installed")
        } else {
            Outcome::Reports(Vec::new())
        }
    };
    let mut outcomes: Vec<Outcome> = plan.servers.iter().map(what_is_there).collect();
    let rounds = one.repeats.in_rounds(plan.rounds);
    for round in 1..=rounds {
        for (kind, outcome) in plan.servers.iter().zip(&mut outcomes) {
            let Outcome::Reports(reports) = outcome else { continue };
            if stop.is_asked() {
                break;
            }
            let place = format!("{}, round {round} of {rounds}, {}", one.name, kind.name());
            let report = run_once(*kind, &one.work, stop);
            let figures = report.as_ref().map_or_else(String::clone, |report| figures(one, report));
            eprintln!("{place}: {figures}");
            match &report {
                Ok(report) => failures.extend(report.failures.iter().map(|line| format!("{place}: {line}"))),
                Err(why) => failures.push(format!("{place}: {why}")),
            }
            reports.push(report.ok());
        }
    }
    outcomes
}

/// One work on one server.
fn run_once(kind: Kind, work: &Work, stop: &Stop) -> Result<Report, String> {
    let mut server = kind.start()?;
    let (target, mut progress) = (&mut server.target, Progress::auto());
    let progress = &mut progress;
    Ok(match kind {
        Kind::Floor if work.scenario == Scenario::Idle => run(work, AcceptOnly, target, progress, stop),
        Kind::Floor => run(work, Floor::new(work.size), target, progress, stop),
        Kind::Switchboard => run(work, Switchboard::new(work.size, Some(KEEPALIVE)), target, progress, stop),
        Kind::Nats => run(work, Nats, target, progress, stop),
        Kind::Redis => run(work, Redis::default(), target, progress, stop),
        Kind::Mosquitto => run(work, Mqtt, target, progress, stop),
    })
}

/// The figures of a run in a few words.
fn figures(one: &Run, report: &Report) -> String {
    let figure = |row: &Row| {
        let (_, unit) = row.measure.words();
        row.measure.of(report).map_or_else(|| "no figure".to_owned(), |value| format!("{value:.1} {unit}"))
    };
    one.rows.iter().map(figure).chain(report.failures.iter().cloned()).collect::<Vec<_>>().join(", ")
}

fn compare(row: &Row, servers: &[Kind], outcomes: &[Outcome], judged: bool) -> ComparedRow {
    let (measure, unit) = row.measure.words();
    let mut compared = ComparedRow::new(row.title, measure, unit, judged.then_some(row.bar));
    let floor = servers.iter().position(|kind| *kind == Kind::Floor).and_then(|place| match &outcomes[place] {
        Outcome::Reports(reports) => Some(reports.as_slice()),
        Outcome::Absent(_) => None,
    });
    compared.cells = outcomes.iter().map(|outcome| cell(row, outcome, floor)).collect();
    compared
}

fn cell(row: &Row, outcome: &Outcome, floor: Option<&[Option<Report>]>) -> Cell {
    let rounds = match outcome {
        Outcome::Reports(reports) => reports,
        Outcome::Absent(why) => return Cell::skipped(why),
    };
    let reports = || rounds.iter().flatten();
    let value = |report: &Report| row.measure.of(report);
    let ratios = rounds.iter().zip(floor.unwrap_or_default()).filter_map(|(report, floor)| {
        let least = value(floor.as_ref()?).filter(|least| *least > 0.0)?;
        Some(value(report.as_ref()?)? / least)
    });
    let traffic = |figure: fn(&switchboard::bench::report::Traffic) -> Option<f64>| {
        median(reports().filter_map(|report| report.traffic.as_ref().and_then(figure)))
    };
    let latency = |figure: fn(&switchboard::bench::report::Latency) -> f64| {
        // Of a storm's latencies those in the storm count.
        let of = |report: &Report| {
            let here = |part: &str| part.is_empty() || part.ends_with("in the storm");
            report.latencies.iter().find(|one| here(&one.part) && one.count > 0).map(figure)
        };
        median(reports().filter_map(of))
    };
    Cell {
        value: median(reports().filter_map(value)),
        ratio_to_floor: median(ratios),
        cpu_ns_per_delivery: traffic(|traffic| traffic.server_cpu_ns_per_delivery),
        delivered_per_second: traffic(|traffic| Some(traffic.delivered_per_second)),
        p50_us: latency(|latency| latency.p50_us),
        p99_us: latency(|latency| latency.p99_us),
        p999_us: latency(|latency| latency.p999_us),
        max_us: latency(|latency| latency.max_us),
        memory_per_connection_bytes: median(
            reports().filter_map(|report| report.memory.and_then(|memory| memory.per_connection_bytes)),
        ),
        note: note(rounds),
    }
}

/// What has to be said of the rounds: the first failure, and how many rounds there were without one.
fn note(rounds: &[Option<Report>]) -> String {
    let failed = rounds.iter().filter(|round| round.as_ref().is_none_or(|report| !report.failures.is_empty())).count();
    if failed == 0 {
        return String::new();
    }
    let first = rounds.iter().flatten().flat_map(|report| &report.failures).next();
    let why = first.map_or("it could not be started", String::as_str);
    format!("{failed} of {} rounds failed: {why}", rounds.len())
}

/// The value in the middle; of two in the middle their mean. `None` of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// How long all that takes, roughly, for those who wait.
pub(crate) fn expected(plan: &Plan) -> Duration {
    let once = |one: &Run| {
        let servers = plan.servers.iter().filter(|kind| one.servers.contains(kind)).count();
        let rounds = one.repeats.in_rounds(plan.rounds);
        // Clients come at some ten thousand a second, and what they leave behind takes as long.
        let coming = Duration::from_secs(1) + Duration::from_micros(200) * one.work.connections;
        (one.work.warmup + one.work.time + coming) * rounds * u32::try_from(servers).unwrap_or(u32::MAX)
    };
    plan.runs.iter().map(once).sum()
}
