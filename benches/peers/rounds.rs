//! The runs in rounds: in each round every server does a work once, one after the other, so that a machine whose
//! speed changes changes it for all of them. Ratios and differences are taken within a round, and their median counts.

use std::time::Duration;

use switchboard::bench::comparison::{Cell, Comparison, Row as ComparedRow, Server as ComparedServer};
use switchboard::bench::report::Report;
use switchboard::bench::{Keys, Progress, Scenario, Stop, Switchboard, run};

use crate::cipher;
use crate::dialects::{AcceptOnly, Floor, Handshake, Mqtt, Nats, Redis};
use crate::rows::{KEEPALIVE, Measure, Over, Row, Run};
use crate::servers::Kind;

/// What is run, and how often.
pub(crate) struct Plan {
    pub(crate) runs: Vec<Run>,
    pub(crate) servers: Vec<Kind>,
    pub(crate) rounds: u32,
    /// What all servers that speak TLS have.
    pub(crate) keys: Option<Keys>,
    /// Whether figures mean enough to be held against the bars.
    pub(crate) judged: bool,
}

/// What one server did in one round.
#[derive(Default)]
pub(crate) struct Round {
    /// Of a run that is done both ways, this is the one over TLS.
    pub(crate) report: Report,
    /// And this the plain one.
    pub(crate) plain: Option<Report>,
    /// What the cipher alone costs for a delivery, where that is all there is.
    pub(crate) cipher_ns: Option<f64>,
}

/// What one server did in all rounds of a run.
enum Outcome {
    /// One for each round; `None` for a round in which the server could not be started.
    Rounds(Vec<Option<Round>>),
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
            Outcome::Rounds(Vec::new())
        }
    };
    let mut outcomes: Vec<Outcome> = plan.servers.iter().map(what_is_there).collect();
    let rounds = one.repeats.in_rounds(plan.rounds);
    let floor = plan.servers.iter().position(|kind| *kind == Kind::Floor);
    for round in 1..=rounds {
        for (at, kind) in plan.servers.iter().enumerate() {
            let has_cipher = one.over == Over::Both;
            if stop.is_asked() || !matches!(outcomes[at], Outcome::Rounds(_)) || has_cipher && *kind == Kind::Floor {
                continue;
            }
            let place = format!("{}, round {round} of {rounds}, {}", one.name, kind.name());
            let done = run_once(*kind, one, plan.keys.as_ref(), stop);
            let figures = done.as_ref().map_or_else(String::clone, |done| figures(one, done));
            eprintln!("{place}: {figures}");
            match &done {
                Ok(done) => failures.extend(done.failures().map(|line| format!("{place}: {line}"))),
                Err(why) => failures.push(format!("{place}: {why}")),
            }
            if has_cipher
                && *kind == Kind::Switchboard
                && let Some(floor) = floor
            {
                // Of the records that this run had, on the core that the server has just left.
                let cipher_ns = done.as_ref().ok().and_then(|done| cipher::cost(&done.report, one.work.connections));
                let place = format!("{}, round {round} of {rounds}, the cipher alone", one.name);
                eprintln!("{place}: {}", cipher_ns.map_or_else(|| "no figure".to_owned(), |ns| format!("{ns:.1} ns")));
                outcomes[floor].push(cipher_ns.map(|ns| Round { cipher_ns: Some(ns), ..Round::default() }));
            }
            outcomes[at].push(done.ok());
        }
    }
    outcomes
}

impl Outcome {
    fn push(&mut self, round: Option<Round>) {
        if let Self::Rounds(rounds) = self {
            rounds.push(round);
        }
    }
}

impl Round {
    fn failures(&self) -> impl Iterator<Item = &String> {
        let plain = self.plain.iter().flat_map(|report| &report.failures);
        self.report.failures.iter().chain(plain)
    }
}

/// One work on one server, over whatever it is done.
fn run_once(kind: Kind, one: &Run, keys: Option<&Keys>, stop: &Stop) -> Result<Round, String> {
    let plain = matches!(one.over, Over::Both).then(|| run_on(kind, one, None, stop)).transpose()?;
    let keys = keys.filter(|_| one.over != Over::Plain);
    Ok(Round { report: run_on(kind, one, keys, stop)?, plain, cipher_ns: None })
}

/// One work on one server that is started for it, and speaks TLS if it has keys.
fn run_on(kind: Kind, one: &Run, keys: Option<&Keys>, stop: &Stop) -> Result<Report, String> {
    let mut server = kind.start(keys)?;
    let (work, target, mut progress) = (&one.work, &mut server.target, Progress::auto());
    let progress = &mut progress;
    Ok(match kind {
        _ if one.over == Over::Handshake => run(work, Handshake, target, progress, stop),
        Kind::Floor if work.scenario == Scenario::Idle => run(work, AcceptOnly, target, progress, stop),
        Kind::Floor => run(work, Floor::new(work.size), target, progress, stop),
        Kind::Switchboard => run(work, Switchboard::new(work.size, Some(KEEPALIVE)), target, progress, stop),
        Kind::Nats => run(work, Nats, target, progress, stop),
        Kind::Redis => run(work, Redis::default(), target, progress, stop),
        Kind::Mosquitto => run(work, Mqtt, target, progress, stop),
        Kind::Nginx => return Err("it passes no messages".to_owned()),
    })
}

/// The figures of a run in a few words.
fn figures(one: &Run, round: &Round) -> String {
    let figure = |row: &Row| {
        let (_, unit) = row.measure.words();
        row.measure.of(round).map_or_else(|| "no figure".to_owned(), |value| format!("{value:.1} {unit}"))
    };
    one.rows.iter().map(figure).chain(round.failures().cloned()).collect::<Vec<_>>().join(", ")
}

fn compare(row: &Row, servers: &[Kind], outcomes: &[Outcome], judged: bool) -> ComparedRow {
    let (measure, unit) = row.measure.words();
    let mut compared = ComparedRow::new(row.title, measure, unit, row.bar.filter(|_| judged));
    let floor = servers.iter().position(|kind| *kind == Kind::Floor).and_then(|place| match &outcomes[place] {
        Outcome::Rounds(rounds) => Some(rounds.as_slice()),
        Outcome::Absent(_) => None,
    });
    compared.cells = outcomes.iter().map(|outcome| cell(row, outcome, floor)).collect();
    compared
}

fn cell(row: &Row, outcome: &Outcome, floor: Option<&[Option<Round>]>) -> Cell {
    let rounds = match outcome {
        Outcome::Rounds(rounds) => rounds,
        Outcome::Absent(why) => return Cell::skipped(why),
    };
    let reports = || rounds.iter().flatten().map(|round| &round.report);
    let value = |round: &Round| row.measure.of(round);
    let ratios = rounds.iter().zip(floor.unwrap_or_default()).filter_map(|(round, floor)| {
        let least = value(floor.as_ref()?).filter(|least| *least > 0.0)?;
        Some(value(round.as_ref()?)? / least)
    });
    let compared = Cell {
        value: median(rounds.iter().flatten().filter_map(value)),
        ratio_to_floor: median(ratios),
        note: note(rounds),
        ..Cell::default()
    };
    if row.measure == Measure::CpuOfTls {
        // The rest stands with the figure over TLS.
        return compared;
    }
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
        cpu_ns_per_delivery: traffic(|traffic| traffic.server_cpu_ns_per_delivery),
        delivered_per_second: traffic(|traffic| Some(traffic.delivered_per_second)),
        p50_us: latency(|latency| latency.p50_us),
        p99_us: latency(|latency| latency.p99_us),
        p999_us: latency(|latency| latency.p999_us),
        max_us: latency(|latency| latency.max_us),
        memory_per_connection_bytes: median(
            reports().filter_map(|report| report.memory.and_then(|memory| memory.per_connection_bytes)),
        ),
        ..compared
    }
}

/// What has to be said of the rounds: the first failure, and how many rounds there were without one.
fn note(rounds: &[Option<Round>]) -> String {
    let has_failed = |round: &Option<Round>| round.as_ref().is_none_or(|round| round.failures().next().is_some());
    let failed = rounds.iter().filter(|round| has_failed(round)).count();
    if failed == 0 {
        return String::new();
    }
    let first = rounds.iter().flatten().flat_map(Round::failures).next();
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
        // Clients come at some ten thousand a second, and what they leave behind takes as long; over TLS at some thousand.
        let each = Duration::from_micros(if one.over == Over::Plain { 200 } else { 800 });
        let coming = Duration::from_secs(1) + each * one.work.connections;
        let ways = if one.over == Over::Both { 2 } else { 1 };
        (one.work.warmup + one.work.time + coming) * ways * rounds * u32::try_from(servers).unwrap_or(u32::MAX)
    };
    plan.runs.iter().map(once).sum()
}
