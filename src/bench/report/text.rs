//! A report for people, as text: a line for each thing that was asked or found, a table of latencies, the
//! account, and loudly what went wrong.
//!
//! It prints nothing of its own accord: the caller says where to, and whether that place shows bold and colour.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};

use super::{Account, Latency, Report, Settings};
use crate::bench::rig::lossy;
use crate::bench::units::{bytes, duration, figure, percent, rate, thousands, time_ns, time_us, times};
use crate::harmless::one_line;

/// The width of the words in front of the lines.
const LABEL: usize = 11;

/// Bold and colour, where they are shown.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Paint(bool);

impl Paint {
    /// Paint that shows, or not.
    pub(in crate::bench) fn new(shows: bool) -> Self {
        Self(shows)
    }

    /// What should be seen first.
    pub(in crate::bench) fn bold(self, text: &str) -> String {
        self.within("1", text)
    }

    /// What is wrong.
    pub(in crate::bench) fn red(self, text: &str) -> String {
        self.within("1;31", text)
    }

    /// What is well.
    pub(in crate::bench) fn green(self, text: &str) -> String {
        self.within("32", text)
    }

    fn within(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether standard output shows colours and wants them: it is a terminal, and nobody has set `NO_COLOR` or
/// said that the terminal is dumb.
#[must_use]
pub fn wants_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    io::IsTerminal::is_terminal(&io::stdout()) && !is_set("NO_COLOR") && !is_dumb
}

impl Report {
    /// Writes the report for people. With `colour`, escape sequences make the heading bold and failures red.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_text(&self, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        let paint = Paint::new(colour);
        writeln!(out, "{}", paint.bold(&self.headline()))?;
        line(out, "asked", &self.asked())?;
        line(out, "encrypted", &self.encrypted())?;
        line(out, "clients", &self.arrived())?;
        line(out, "passed on", &self.passed_on())?;
        line(out, "server", &self.server_cost())?;
        line(out, "memory", &self.resident())?;
        self.write_latencies(out)?;
        if !self.figures.is_empty() {
            writeln!(out)?;
            writeln!(
                out,
                "{}",
                table(self.figures.iter().map(|figure| vec![one_line(&figure.label), figure.shown()]))
            )?;
        }
        self.write_account(out, paint)?;
        self.write_verdicts(out, paint)?;
        if !self.remarks.is_empty() || !self.failures.is_empty() {
            writeln!(out)?;
        }
        for remark in &self.remarks {
            writeln!(out, "note: {}", one_line(remark))?;
        }
        for failure in &self.failures {
            writeln!(out, "{} {}", paint.red("FAILED:"), one_line(failure))?;
        }
        Ok(())
    }

    /// The scenario and the server, in one line.
    pub(in crate::bench) fn headline(&self) -> String {
        let software = if self.target.software.is_empty() { "a server" } else { &self.target.software };
        one_line(&format!("{} on {software} at {}", self.scenario, self.target.address))
    }

    /// What was asked for.
    pub(in crate::bench) fn asked(&self) -> Vec<String> {
        let Settings {
            connections,
            size_bytes,
            size_bytes_max,
            window,
            rate: asked_rate,
            seconds,
            rooms,
            stuck,
            warmup_seconds,
            ..
        } = self.settings;
        let clients = format!("{} client{}", thousands(connections.into()), if connections == 1 { "" } else { "s" });
        [
            Some(clients),
            stuck.filter(|_| size_bytes_max.is_none()).map(|stuck| format!("{stuck} of them stuck")),
            stuck.filter(|_| size_bytes_max.is_some()).map(|slow| format!("{slow} of them slow")),
            rooms.map(|rooms| format!("{} room{}", thousands(rooms.into()), if rooms == 1 { "" } else { "s" })),
            size_bytes.map(|size| format!("payloads of {}", bytes(lossy(size as u64)))),
            size_bytes_max.map(|size| format!("payloads up to {}", bytes(lossy(size as u64)))),
            window.map(|window| format!("window {}", thousands(window.into()))),
            asked_rate.map(rate),
            Some(duration(seconds)),
            warmup_seconds
                .filter(|seconds| *seconds > 0.0)
                .map(|time| format!("after {} of warming up", time_ns(time * 1e9))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What was agreed on in handshakes of TLS.
    pub(in crate::bench) fn encrypted(&self) -> Vec<String> {
        let Some(tls) = &self.tls else { return Vec::new() };
        let handshakes = if tls.handshakes == 1 { "handshake" } else { "handshakes" };
        let resumed = if tls.resumed == 0 { "none".to_owned() } else { thousands(tls.resumed) };
        vec![
            one_line(&tls.version),
            one_line(&tls.cipher_suite),
            format!("{} {handshakes}, {resumed} resumed", thousands(tls.handshakes)),
        ]
    }

    fn arrived(&self) -> Vec<String> {
        let Some(arrival) = self.arrival else { return Vec::new() };
        let clients = f64::from(arrival.clients);
        let mut parts =
            vec![format!("{} registered in {}", thousands(arrival.clients.into()), time_ns(arrival.seconds * 1e9))];
        if arrival.seconds > 0.0 && arrival.clients > 1 {
            parts.push(rate(clients / arrival.seconds));
        }
        parts.extend(arrival.server_cpu_us_per_client.map(|us| format!("{} of the server's CPU each", time_us(us))));
        parts
    }

    fn passed_on(&self) -> Vec<String> {
        let Some(traffic) = self.traffic.filter(|traffic| traffic.delivered > 0) else { return Vec::new() };
        vec![
            rate(traffic.delivered_per_second),
            format!("{}/s", bytes(traffic.bytes_per_second)),
            format!("{} frames in {}", thousands(traffic.delivered), duration(traffic.seconds)),
        ]
    }

    fn server_cost(&self) -> Vec<String> {
        let Some(traffic) = self.traffic else { return Vec::new() };
        let each = traffic.server_cpu_ns_per_delivery.map(|ns| format!("{} of CPU a delivery", time_ns(ns)));
        let share = traffic.server_core_share.map(|share| format!("{} of a core", percent(share)));
        let arguments = (!self.target.arguments.is_empty()).then(|| one_line(&self.target.arguments.join(" ")));
        each.into_iter().chain(share).chain(self.target.whereabouts()).chain(arguments).collect()
    }

    fn resident(&self) -> Vec<String> {
        let Some(memory) = self.memory else { return Vec::new() };
        let each = memory.per_connection_bytes.map(|each| format!("{} a connection", bytes(each)));
        each.into_iter()
            .chain([
                format!("{} before", bytes(lossy(memory.before_bytes))),
                format!("{} with all registered", bytes(lossy(memory.registered_bytes))),
                format!("{} at most", bytes(lossy(memory.peak_bytes))),
                format!("{} at the end", bytes(lossy(memory.end_bytes))),
            ])
            .collect()
    }

    fn write_latencies(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = latency_rows(&self.latencies);
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        writeln!(out, "{}", table(rows.into_iter()))
    }

    fn write_verdicts(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        for (number, counters) in self.server_counters.iter().flat_map(|line| line.split("; ")).enumerate() {
            line(out, if number == 0 { "it counted" } else { "" }, &[one_line(counters)])?;
        }
        if !self.verdicts.is_empty() {
            writeln!(out)?;
        }
        for (number, verdict) in self.verdicts.iter().enumerate() {
            let label = if number == 0 { "verdicts" } else { "" };
            let word = match verdict.holds {
                Some(true) => paint.green("ok "),
                Some(false) => paint.red("NO "),
                None => "?  ".to_owned(),
            };
            writeln!(out, "{label:LABEL$}{word} {}", one_line(&verdict.says))?;
            for reason in &verdict.reasons {
                writeln!(out, "{:LABEL$}    {}", "", one_line(reason))?;
            }
        }
        Ok(())
    }

    fn write_account(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let account = &self.account;
        if *account == Account::default() {
            return Ok(());
        }
        writeln!(out)?;
        line(out, "account", &[account.sum()])?;
        let refusals = account.refusals.iter().map(|(why, count)| format!("{} {}", thousands(*count), one_line(why)));
        line(out, "refused as", &refusals.collect::<Vec<_>>())?;
        if account.open > 0 {
            line(out, "", &[format!("{} still on their way when it was stopped", thousands(account.open))])?;
        }
        for (word, count) in account.faults() {
            writeln!(out, "{:LABEL$}{}", "", paint.red(&format!("{} {word}", thousands(count))))?;
        }
        Ok(())
    }
}

impl Account {
    /// The account as a sum.
    pub(in crate::bench) fn sum(&self) -> String {
        let [sent, delivered, refused, counted] =
            [self.sent, self.delivered, self.refused, self.counted].map(thousands);
        let whole = self.delivered + self.refused + self.counted + self.cut_off;
        let sign = if self.sent == whole { "=" } else { "≠" };
        let cut_off = if self.cut_off > 0 { format!(" + {} cut off", thousands(self.cut_off)) } else { String::new() };
        format!("{sent} sent {sign} {delivered} delivered + {refused} refused + {counted} counted as missing{cut_off}")
    }

    /// What must not happen and did, loudly.
    pub(in crate::bench) fn faults(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("LOST", self.lost),
            ("MISORDERED", self.misordered),
            ("DAMAGED", self.damaged),
            ("CONTRADICTED", self.contradicted),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

impl super::Target {
    /// Its process and core, where they are known.
    pub(in crate::bench) fn whereabouts(&self) -> Option<String> {
        let pid = format!("process {}", self.pid?);
        Some(self.core.map_or(pid.clone(), |core| format!("{pid} on core {core}")))
    }
}

impl super::Figure {
    /// The value with its unit.
    pub(in crate::bench) fn shown(&self) -> String {
        figure(self.value, &self.unit)
    }
}

/// The latency table, its headings first: a row for each figure, a column for each part. With two parts the
/// last column says how many times the first the second is.
pub(in crate::bench) fn latency_rows(latencies: &[Latency]) -> Vec<Vec<String>> {
    type Figure = fn(&Latency) -> f64;
    let parts: Vec<&Latency> = latencies.iter().filter(|latency| latency.count > 0).collect();
    if parts.is_empty() {
        return Vec::new();
    }
    // Each with the fewest values of which it says something.
    let figures: [(&str, u64, Figure); 8] = [
        ("min", 1, |latency| latency.min_us),
        ("mean", 1, |latency| latency.mean_us),
        ("p50", 2, |latency| latency.p50_us),
        ("p90", 10, |latency| latency.p90_us),
        ("p99", 100, |latency| latency.p99_us),
        ("p99.9", 1000, |latency| latency.p999_us),
        ("p99.99", 10_000, |latency| latency.p9999_us),
        ("max", 1, |latency| latency.max_us),
    ];
    let mut heading = vec!["latency".to_owned()];
    heading.extend(parts.iter().map(|latency| one_line(&latency.part)));
    let mut rows = vec![heading];
    for (name, least, figure) in figures {
        let mut row = vec![name.to_owned()];
        // The slowest of a thousand is no figure of ten.
        let says = |latency: &Latency| latency.count >= least;
        if !parts.iter().any(|part| says(part)) {
            continue;
        }
        let shown = |part: &&Latency| if says(part) { time_us(figure(part)) } else { "–".to_owned() };
        row.extend(parts.iter().map(shown));
        if let [first, second] = parts[..] {
            let ratio = says(first) && says(second);
            row.push(if ratio { times(figure(second) / figure(first)) } else { String::new() });
        }
        rows.push(row);
    }
    let mut frames = vec!["count".to_owned()];
    frames.extend(parts.iter().map(|latency| thousands(latency.count)));
    if parts.len() == 2 {
        rows[0].push("ratio".to_owned());
        frames.push(String::new());
    }
    rows.push(frames);
    rows
}

/// A line with a word in front; nothing if there is nothing to say.
fn line(out: &mut dyn Write, label: &str, parts: &[String]) -> io::Result<()> {
    if parts.is_empty() { Ok(()) } else { writeln!(out, "{label:LABEL$}{}", parts.join(" · ")) }
}

/// Rows in columns without lines: the first to the left, figures to the right.
fn table(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number == 0 {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed((LABEL + 1) as u16)));
        } else {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
