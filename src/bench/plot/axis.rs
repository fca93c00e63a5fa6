//! Scales and their ticks: which values an axis names, and in which words.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::bench::units;

/// An axis in the coordinates in which it is drawn: values, or their logarithms.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::bench) struct Axis {
    /// What it shows.
    pub(super) title: String,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Where a line and a word stand.
    pub(super) ticks: Vec<(f64, String)>,
    scale: Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithm,
    Nines,
}

/// What values of a linear axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Quantity {
    /// Plain numbers.
    Number,
    /// Things a second.
    Rate,
    /// Memory.
    Bytes,
    /// Shares of one.
    Share,
    /// Times, in microseconds.
    Micros,
}

/// Ticks that an axis has at most.
const TICKS_MAX: f64 = 5.0;

impl Axis {
    /// A linear axis from zero to `high` or a little more.
    pub(in crate::bench) fn linear(title: &str, high: f64, quantity: Quantity) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let (size, unit) = quantity.unit_for(high);
        let step = round_step(high / size / TICKS_MAX);
        let count = (high / size / step - 1e-9).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut number = 0.0;
        while number <= count {
            let value = number * step;
            let decimals = (-step.log10().floor()).max(0.0) as usize;
            let gap = if unit.is_empty() || value == 0.0 && quantity != Quantity::Share { "" } else { " " };
            let shown = if value == 0.0 { "0".to_owned() } else { format!("{value:.decimals$}") };
            let unit = if value == 0.0 && quantity != Quantity::Share { "" } else { unit };
            ticks.push((value * size, format!("{shown}{gap}{unit}")));
            number += 1.0;
        }
        Self { title: title.to_owned(), low: 0.0, high: count * step * size, ticks, scale: Scale::Linear }
    }

    /// Time from zero to exactly `seconds`: the last tick may stand before the end.
    pub(in crate::bench) fn seconds(title: &str, seconds: f64) -> Self {
        let mut axis = Self::linear(title, seconds, Quantity::Number);
        if seconds > 0.0 && seconds.is_finite() {
            axis.high = seconds;
            axis.ticks.retain(|(value, _)| *value <= seconds);
        }
        axis
    }

    /// A logarithmic axis of times, given in microseconds.
    pub(in crate::bench) fn log_times(title: &str, low_us: f64, high_us: f64) -> Self {
        Self::logarithmic(title, low_us, high_us, &|us| {
            let text = units::time_us(us);
            text.split_once('.').map_or(text.clone(), |(whole, rest)| {
                format!("{whole}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            })
        })
    }

    /// A logarithmic axis between round values: 1, 2, 5, 10 or, over many decades, only powers of ten.
    pub(in crate::bench) fn logarithmic(title: &str, low: f64, high: f64, words: &dyn Fn(f64) -> String) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let low = if low.is_finite() && low > 0.0 { low.min(high) } else { high };
        let is_wide = high / low > 300.0;
        let mantissas: &[f64] = if is_wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut marks = Vec::new();
        let last = high.log10().ceil() as i32;
        for decade in low.log10().floor() as i32..=last {
            marks.extend(mantissas.iter().map(|mantissa| mantissa * 10f64.powi(decade)));
        }
        // From the last mark below the values to the first above them.
        let first = marks.iter().rposition(|mark| *mark <= low * 1.000_001).unwrap_or(0);
        let last = marks.iter().position(|mark| *mark >= high * 0.999_999).unwrap_or(marks.len() - 1);
        let last = last.max(first + 1).min(marks.len() - 1);
        let ticks: Vec<_> = marks[first..=last].iter().map(|mark| (mark.log10(), words(*mark))).collect();
        let (low, high) = (marks[first].log10(), marks[last].log10());
        Self { title: title.to_owned(), low, high, ticks, scale: Scale::Logarithm }
    }

    /// Percentiles on the scale of high dynamic range histograms: equal distances for 0, 90, 99, 99.9 ….
    pub(in crate::bench) fn nines(title: &str, percentile_max: f64) -> Self {
        let high = nines(percentile_max).clamp(1.0, 6.0);
        let names = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"];
        let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, (*name).to_owned()));
        let ticks = ticks.filter(|(place, _)| *place <= high + 1e-6).collect();
        Self { title: title.to_owned(), low: 0.0, high, ticks, scale: Scale::Nines }
    }

    /// Where a value stands.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => value,
            Scale::Logarithm => value.log10(),
            Scale::Nines => nines(value),
        };
        if place.is_finite() { place.clamp(self.low, self.high) } else { self.low }
    }
}

/// The axis in the words of the drawing library. Its values are places already.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|tick| tick.0).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let is_here = |tick: &&(f64, String)| (tick.0 - value).abs() < 1e-9 * (1.0 + value.abs());
        self.ticks.iter().find(is_here).map(|tick| tick.1.clone()).unwrap_or_default()
    }
}

impl Quantity {
    /// The unit in which a number up to `high` is shown, and its size.
    fn unit_for(self, high: f64) -> (f64, &'static str) {
        const KIB: f64 = 1024.0;
        let units: &[(f64, &'static str)] = match self {
            Self::Number => &[(1.0, "")],
            Self::Rate => &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
            Self::Bytes => &[(KIB * KIB * KIB, "GiB"), (KIB * KIB, "MiB"), (KIB, "KiB"), (1.0, "B")],
            Self::Share => &[(0.01, "%")],
            Self::Micros => &[(1e6, "s"), (1e3, "ms"), (1.0, "µs")],
        };
        units.iter().copied().find(|(size, _)| high >= *size).unwrap_or(units[units.len() - 1])
    }
}

/// How many nines a percentile has: 0 for 0, 1 for 90, 2 for 99.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-12).log10()
}

/// The first of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let mut steps = [1.0, 2.0, 5.0].into_iter().map(|mantissa| mantissa * decade);
    steps.find(|round| *round >= step * 0.999_999).unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, word)| word.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(words(&Axis::linear("", 3.4e6, Quantity::Rate)), ["0", "1 M", "2 M", "3 M", "4 M"]);
        assert_eq!(words(&Axis::seconds("", 10.75)), ["0", "5", "10"]);
        assert_eq!(words(&Axis::linear("", 0.284, Quantity::Share)), ["0 %", "10 %", "20 %", "30 %"]);
        assert_eq!(words(&Axis::linear("", 3_565_158.0, Quantity::Bytes)), ["0", "1 MiB", "2 MiB", "3 MiB", "4 MiB"]);
        for high in [1e-3, 0.07, 1.0, 7.3, 12.0, 99.0, 101.0, 640.0, 1e6, 12_345_678.0] {
            for quantity in [Quantity::Number, Quantity::Rate, Quantity::Bytes, Quantity::Share] {
                let axis = Axis::linear("", high, quantity);
                assert!((2..=6).contains(&axis.ticks.len()), "{high} {axis:?}");
                assert!(axis.high >= high * 0.999, "{high} {axis:?}");
                let mut seen = words(&axis);
                seen.dedup();
                assert_eq!(seen.len(), axis.ticks.len(), "no word twice: {axis:?}");
                let first = axis.ticks[1].0;
                for (number, (value, word)) in axis.ticks.iter().enumerate() {
                    let said: f64 = word.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
                    let unit: f64 = axis.ticks[1].1.split(' ').next().and_then(|word| word.parse().ok()).expect("one");
                    assert!((value - first * number as f64).abs() <= first * 1e-6, "{axis:?}");
                    assert!((said - unit * number as f64).abs() <= unit * 1e-6, "words say what is meant: {axis:?}");
                }
            }
        }
    }

    #[test]
    fn a_logarithmic_axis_reaches_from_round_to_round() {
        assert_eq!(words(&Axis::log_times("", 12.0, 90.0)), ["10 µs", "20 µs", "50 µs", "100 µs"]);
        assert_eq!(words(&Axis::log_times("", 12.0, 90_000.0)), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(words(&Axis::log_times("", 7.0, 7.0)), ["5 µs", "10 µs"]);
        assert_eq!(words(&Axis::log_times("", 0.0, 0.0)).len(), 2, "nothing measured is no reason to fail");
    }

    #[test]
    fn each_nine_has_the_same_width() {
        let axis = Axis::nines("", 99.99);
        assert_eq!(words(&axis), ["0", "90", "99", "99.9", "99.99"]);
        assert!((axis.place(99.9) - 3.0).abs() < 1e-9);
    }
}
