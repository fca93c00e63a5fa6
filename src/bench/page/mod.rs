//! Reports and comparisons as pages: one HTML file with its plots inside, without a script, that fetches nothing.
//!
//! Everything that comes from outside (names, addresses, reasons) is escaped by the template engine. Only the
//! plots are put in as they are; the words in them are escaped by the library that draws them.

mod comparison;

pub use comparison::comparison;

use std::io;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::plot::{self, Axis, Quantity};
use super::report::{Report, Sample, latency_rows};
use super::rig::lossy;
use super::units::{bytes, percent, rate, thousands, time_ns, time_us};
use crate::harmless::one_line;

/// What both pages share: colours, and how cards and tables look.
const BASE: &str = include_str!("base.html");
const REPORT: &str = include_str!("report.html");
const COMPARISON: &str = include_str!("comparison.html");

/// Points of a plot over time: more than its width shows.
const POINTS_MAX: usize = 400;

/// What takes longer is told in minutes.
const MINUTES_FROM_SECONDS: f64 = 300.0;

/// Tiles for the parts of a scenario, and for its own figures: the table has them all.
const LATENCY_TILES_MAX: usize = 3;
const FIGURE_TILES_MAX: usize = 2;

#[derive(Serialize)]
struct Page {
    title: String,
    asked: Vec<String>,
    date: String,
    command: String,
    server: String,
    encrypted: Vec<String>,
    verdict: &'static str,
    remarks: Vec<String>,
    failures: Vec<String>,
    tiles: Vec<Entry>,
    latency: Vec<Vec<String>>,
    /// Whether the columns of that table need names.
    has_parts: bool,
    plots: Vec<Plot>,
    account: Vec<Entry>,
    figures: Vec<Entry>,
    memory: Vec<Entry>,
    verdicts: Vec<Judged>,
    counters: Vec<String>,
}

/// What a long run was for.
#[derive(Serialize)]
struct Judged {
    /// `ok`, `no`, or `open`.
    class: &'static str,
    says: String,
    reasons: Vec<String>,
}

/// A label and a figure.
#[derive(Serialize)]
struct Entry {
    label: String,
    value: String,
    /// Whether it must not be.
    fault: bool,
}

#[derive(Serialize)]
struct Plot {
    title: &'static str,
    keys: Vec<Key>,
    svg: String,
}

/// What a line of a plot is.
#[derive(Serialize)]
struct Key {
    colour: usize,
    name: String,
}

/// Writes the page of a run.
///
/// # Errors
/// Those of the writer, or a plot could not be drawn.
pub fn report(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let page = Page {
        title: report.headline(),
        asked: report.asked(),
        date: report.date.clone(),
        command: report.command.clone(),
        server: server(report),
        encrypted: report.encrypted(),
        verdict: if report.account.sent == 0 {
            "The run went as asked. No frames were sent."
        } else if report.account.cut_off > 0 {
            "Every frame was delivered, refused, counted as missing, or cut off with its client; none was lost in silence."
        } else if report.account.refused + report.account.counted == 0 {
            "Every frame was delivered, once, in order and intact."
        } else {
            "Every frame was delivered, refused or counted as missing; none was lost in silence."
        },
        remarks: report.remarks.iter().map(|line| one_line(line)).collect(),
        failures: report.failures.iter().map(|line| one_line(line)).collect(),
        tiles: tiles(report),
        latency: latency_rows(&report.latencies),
        has_parts: report.latencies.iter().any(|latency| !latency.part.is_empty()),
        plots: plots(report)?,
        account: account(report),
        figures: report.figures.iter().map(|figure| Entry::new(&figure.label, figure.shown())).collect(),
        memory: memory(report),
        verdicts: verdicts(report),
        counters: report.server_counters.iter().flat_map(|line| line.split("; ")).map(one_line).collect(),
    };
    render("report.html", &page, out)
}

/// Fills a template in.
fn render(name: &str, page: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut environment = Environment::new();
    for (name, source) in [("base.html", BASE), ("report.html", REPORT), ("comparison.html", COMPARISON)] {
        environment.add_template(name, source).map_err(io::Error::other)?;
    }
    let template = environment.get_template(name).map_err(io::Error::other)?;
    let text = template.render(Serde(page)).map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

impl Entry {
    fn new(label: &str, value: String) -> Self {
        Self { label: one_line(label), value, fault: false }
    }

    /// A count that must be zero.
    fn fault(label: &str, count: u64) -> Self {
        Self { fault: count > 0, ..Self::new(label, thousands(count)) }
    }
}

fn server(report: &Report) -> String {
    let target = &report.target;
    let software = if target.software.is_empty() { "unknown software" } else { &target.software };
    let mut words = vec![one_line(software), one_line(&target.address)];
    words.extend(target.whereabouts());
    words.join(" · ")
}

fn tiles(report: &Report) -> Vec<Entry> {
    let mut tiles = Vec::new();
    if let Some(traffic) = report.traffic {
        if traffic.delivered > 0 {
            tiles.push(Entry::new("frames delivered", rate(traffic.delivered_per_second)));
            tiles.push(Entry::new("payload delivered", format!("{}/s", bytes(traffic.bytes_per_second))));
        }
        let each = traffic.server_cpu_ns_per_delivery.map(time_ns);
        tiles.extend(each.map(|each| Entry::new("server CPU a delivery", each)));
        let share = traffic.server_core_share.map(percent);
        tiles.extend(share.map(|share| Entry::new("of a core, the server", share)));
    }
    match report.latencies.as_slice() {
        [latency] if latency.count > 0 => {
            tiles.push(Entry::new("median latency", time_us(latency.p50_us)));
            tiles.push(Entry::new("p99 latency", time_us(latency.p99_us)));
        }
        parts => {
            let parts = parts.iter().filter(|latency| latency.count > 0).take(LATENCY_TILES_MAX);
            tiles.extend(parts.map(|part| Entry::new(&format!("p99, {}", part.part), time_us(part.p99_us))));
        }
    }
    let figures = report.figures.iter().take(FIGURE_TILES_MAX);
    tiles.extend(figures.map(|figure| Entry::new(&figure.label, figure.shown())));
    let each = report.memory.and_then(|memory| memory.per_connection_bytes);
    tiles.extend(each.map(|each| Entry::new("memory a connection", bytes(each))));
    if let Some(arrival) = report.arrival {
        let clients = thousands(arrival.clients.into());
        tiles.push(Entry::new(&format!("until {clients} were registered"), time_ns(arrival.seconds * 1e9)));
    }
    tiles
}

fn account(report: &Report) -> Vec<Entry> {
    let account = &report.account;
    if account.sent == 0 {
        return Vec::new();
    }
    let mut rows = vec![
        Entry::new("sent, for each recipient", thousands(account.sent)),
        Entry::new("delivered", thousands(account.delivered)),
        Entry::new("refused to the sender", thousands(account.refused)),
    ];
    let reasons = account.refusals.iter();
    rows.extend(reasons.map(|(why, count)| Entry::new(&format!("– {why}"), thousands(*count))));
    rows.push(Entry::new("counted to the recipient as missing", thousands(account.counted)));
    if account.open > 0 {
        rows.push(Entry::new("still on their way when it was stopped", thousands(account.open)));
    }
    if account.cut_off > 0 {
        rows.push(Entry::new("cut off with their sender or recipient", thousands(account.cut_off)));
    }
    rows.push(Entry::fault("lost", account.lost));
    rows.push(Entry::fault("misordered", account.misordered));
    rows.push(Entry::fault("damaged", account.damaged));
    rows.push(Entry::fault("contradicted", account.contradicted));
    rows
}

fn memory(report: &Report) -> Vec<Entry> {
    let Some(memory) = report.memory else { return Vec::new() };
    let mut rows = vec![
        Entry::new("before the clients came", bytes(lossy(memory.before_bytes))),
        Entry::new("with all of them registered", bytes(lossy(memory.registered_bytes))),
        Entry::new("at most", bytes(lossy(memory.peak_bytes))),
        Entry::new("at the end", bytes(lossy(memory.end_bytes))),
    ];
    rows.extend(memory.per_connection_bytes.map(|each| Entry::new("for each client", bytes(each))));
    rows
}

fn verdicts(report: &Report) -> Vec<Judged> {
    let judged = report.verdicts.iter().map(|verdict| Judged {
        class: match verdict.holds {
            Some(true) => "ok",
            Some(false) => "no",
            None => "open",
        },
        says: one_line(&verdict.says),
        reasons: verdict.reasons.iter().map(|reason| one_line(reason)).collect(),
    });
    judged.collect()
}

fn plots(report: &Report) -> io::Result<Vec<Plot>> {
    let mut plots = Vec::new();
    plots.extend(percentiles(report)?);
    let memory: Line<'_> = ("", &|sample| sample.resident_bytes.map(lossy));
    let rate: Line<'_> = ("", &|sample| Some(sample.delivered_per_second));
    let median: Line<'_> = ("median", &|sample| sample.p50_us);
    let slow: Line<'_> = ("99 of 100", &|sample| sample.p99_us);
    let descriptors: Line<'_> = ("", &|sample| sample.descriptors.map(lossy));
    let share: Line<'_> = ("", &|sample| sample.server_core_share);
    let over_time = [
        over_time(report, "Frames delivered a second", Quantity::Rate, &[rate])?,
        over_time(report, "Resident memory of the server", Quantity::Bytes, &[memory])?,
        over_time(report, "Open files of the server", Quantity::Number, &[descriptors])?,
        over_time(report, "Latency over time", Quantity::Micros, &[median, slow])?,
        over_time(report, "The server's share of one core", Quantity::Share, &[share])?,
    ];
    plots.extend(over_time.into_iter().flatten());
    Ok(plots)
}

fn percentiles(report: &Report) -> io::Result<Option<Plot>> {
    let curves: Vec<_> = report.latencies.iter().filter(|latency| latency.curve.len() > 1).collect();
    let points = || curves.iter().flat_map(|latency| &latency.curve);
    if curves.is_empty() {
        return Ok(None);
    }
    let (low, high) = points().fold((f64::MAX, 0.0f64), |(low, high), (_, us)| (low.min(*us), high.max(*us)));
    let x = Axis::nines("percentile", points().fold(0.0, |last, (percentile, _)| percentile.max(last)));
    let y = Axis::log_times("latency", low, high);
    let lines: Vec<_> = curves.iter().map(|latency| latency.curve.clone()).collect();
    let keys = if curves.len() > 1 {
        let names = curves.iter().enumerate();
        names.map(|(n, latency)| Key { colour: n % plot::SERIES_COLOURS, name: one_line(&latency.part) }).collect()
    } else {
        Vec::new()
    };
    let svg = plot::lines("Latency by percentile", &x, &y, &lines)?;
    Ok(Some(Plot { title: "Latency by percentile", keys, svg: plot::follow_page(&svg) }))
}

/// A line of a plot over time: its name, where there are several, and its figure.
type Line<'a> = (&'static str, &'a dyn Fn(&Sample) -> Option<f64>);

/// A plot of figures over time; none where they are not known, or always zero.
fn over_time(
    report: &Report,
    title: &'static str,
    quantity: Quantity,
    figures: &[Line<'_>],
) -> io::Result<Option<Plot>> {
    let points = |figure: &dyn Fn(&Sample) -> Option<f64>| {
        let known = report.series.iter().filter_map(|sample| Some((sample.at_seconds, figure(sample)?)));
        thinned(known.filter(|(at, value)| at.is_finite() && value.is_finite()).collect())
    };
    let mut lines: Vec<_> = figures.iter().map(|(_, figure)| points(figure)).collect();
    let all = || lines.iter().flatten();
    let high = all().fold(0.0f64, |high, (_, value)| high.max(*value));
    let end = all().fold(0.0f64, |end, (at, _)| end.max(*at));
    if lines.iter().any(|line| line.len() < 2) || high <= 0.0 || end <= 0.0 {
        return Ok(None);
    }
    let (word, unit) = if end >= MINUTES_FROM_SECONDS { ("minutes", 60.0) } else { ("seconds", 1.0) };
    lines.iter_mut().flatten().for_each(|(at, _)| *at /= unit);
    let (x, y) = (Axis::seconds(word, end / unit), Axis::linear(title, high, quantity));
    let svg = plot::lines(title, &x, &y, &lines)?;
    let keys = figures.iter().enumerate().filter(|_| figures.len() > 1);
    let keys = keys.map(|(colour, (name, _))| Key { colour, name: (*name).to_owned() }).collect();
    Ok(Some(Plot { title, keys, svg: plot::follow_page(&svg) }))
}

/// Not more points than a plot shows: the means of as many neighbours as it takes.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(POINTS_MAX).max(1);
    let mean = |some: &[(f64, f64)]| {
        let count = lossy(some.len() as u64);
        let sum = some.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(together).map(mean).collect()
}
