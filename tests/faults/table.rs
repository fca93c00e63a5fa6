//! The table of faults: a row for each, with the bystanders' p99 beside the undisturbed one of the same run.

use serde::{Deserialize, Serialize};

/// A p99 beside a fault may be this many times the undisturbed one.
pub(crate) const RATIO_MAX: f64 = 1.5;

/// What one run of a fault has found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) fault: String,
    /// Before and after the fault, in the same run.
    pub(crate) undisturbed_p99_us: Option<f64>,
    /// While it went on; `None` where the relay itself ends.
    pub(crate) disturbed_p99_us: Option<f64>,
    pub(crate) disturbed_max_us: f64,
    /// How late the bystanders were themselves in sending, while it went on: no doing of the relay's.
    pub(crate) own_lateness_p99_us: Option<f64>,
    /// Copies of bystanders' frames: sent is delivered + refused + counted + lost.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) counted: u64,
    /// Of which nothing is known. Where the relay itself ends, what was on its way to it.
    pub(crate) lost: u64,
    /// What the fault has found, in words.
    pub(crate) notes: Vec<String>,
    /// Why the run is not good.
    pub(crate) failures: Vec<String>,
    /// Why this machine cannot show it.
    pub(crate) skipped: Option<String>,
}

/// All rounds of one fault.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) what: String,
    pub(crate) undisturbed_p99_us: Option<f64>,
    pub(crate) disturbed_p99_us: Option<f64>,
    pub(crate) own_lateness_p99_us: Option<f64>,
    /// The median of the ratios within each round.
    pub(crate) ratio: Option<f64>,
    /// The ratio of each round.
    pub(crate) ratios: Vec<f64>,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) counted: u64,
    pub(crate) lost: u64,
    pub(crate) notes: Vec<String>,
    pub(crate) failures: Vec<String>,
    pub(crate) skipped: Option<String>,
}

impl Row {
    pub(crate) fn of(fault: &str, what: &str, rounds: &[Round]) -> Self {
        let ratio = |round: &Round| Some(round.disturbed_p99_us? / round.undisturbed_p99_us?);
        let ratios: Vec<f64> = rounds.iter().filter_map(ratio).collect();
        let sum = |field: fn(&Round) -> u64| rounds.iter().map(field).sum();
        let mut failures: Vec<String> = rounds.iter().flat_map(|round| round.failures.clone()).collect();
        failures.dedup();
        Self {
            fault: fault.to_owned(),
            what: what.to_owned(),
            undisturbed_p99_us: median(rounds.iter().filter_map(|round| round.undisturbed_p99_us)),
            disturbed_p99_us: median(rounds.iter().filter_map(|round| round.disturbed_p99_us)),
            own_lateness_p99_us: median(rounds.iter().filter_map(|round| round.own_lateness_p99_us)),
            ratio: median(ratios.iter().copied()),
            ratios,
            sent: sum(|round| round.sent),
            delivered: sum(|round| round.delivered),
            refused: sum(|round| round.refused),
            counted: sum(|round| round.counted),
            lost: sum(|round| round.lost),
            notes: rounds.last().map(|round| round.notes.clone()).unwrap_or_default(),
            failures,
            skipped: rounds.iter().find_map(|round| round.skipped.clone()),
        }
    }

    pub(crate) fn misses_bar(&self) -> bool {
        self.ratio.is_some_and(|ratio| ratio > RATIO_MAX)
    }

    fn cells(&self) -> [String; 7] {
        let p99 = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |us| format!("{us:.0} µs"));
        let mut notes = self.notes.join("; ");
        if let Some(why) = &self.skipped {
            notes = format!("skipped: {why}");
        }
        if !self.failures.is_empty() {
            notes = format!("FAILED: {}", self.failures.join("; "));
        }
        let missed = if self.misses_bar() { " (missed)" } else { "" };
        let account = match (self.lost, self.refused + self.counted) {
            (0, 0) => format!("{}, all delivered", self.sent),
            (lost, told) => format!("{}: {} delivered, {told} told, {lost} open", self.sent, self.delivered),
        };
        [
            self.fault.clone(),
            p99(self.undisturbed_p99_us),
            p99(self.disturbed_p99_us),
            p99(self.own_lateness_p99_us),
            self.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}×{missed}")),
            if self.sent == 0 { "–".to_owned() } else { account },
            notes,
        ]
    }
}

const HEAD: [&str; 7] =
    ["fault", "undisturbed p99", "beside it", "own lateness", "ratio", "bystanders' frames", "what was seen"];

/// The table for people.
pub(crate) fn text(rows: &[Row]) -> String {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let width = |column: usize| {
        let all = cells.iter().map(|row| row[column].chars().count());
        all.chain([HEAD[column].chars().count()]).max().unwrap_or(0)
    };
    let line = |row: &[String]| {
        let padded: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                let spaces = if at == 6 { 0 } else { width(at).saturating_sub(cell.chars().count()) };
                format!("{cell}{}", " ".repeat(spaces))
            })
            .collect();
        padded.join("  ") + "\n"
    };
    let mut out = line(&HEAD.map(str::to_owned));
    for row in &cells {
        out += &line(row);
    }
    out
}

/// The table for a document.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = format!("| {} |\n| --- | ---: | ---: | ---: | ---: | --- | --- |\n", HEAD.join(" | "));
    for row in rows {
        out += "| ";
        out += &row.cells().map(|cell| cell.replace('|', "\\|")).join(" | ");
        out += " |\n";
    }
    out
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[count / 2]),
        count => Some(f64::midpoint(values[count / 2 - 1], values[count / 2])),
    }
}
