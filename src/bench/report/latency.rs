//! From a histogram of nanoseconds to the figures of a report.

use hdrhistogram::Histogram;

use super::Latency;
use crate::bench::rig::lossy;

/// Points of the curve for each further nine of the percentile.
const POINTS_PER_NINE: i32 = 18;
/// Nines that the curve reaches: 99.999.
const NINES: i32 = 5;

impl Latency {
    /// The figures of a histogram of nanoseconds, of the part of the scenario that is named; the name is empty
    /// if there is only one.
    ///
    /// The figures are as exact as the histogram: with three digits, within a thousandth.
    #[must_use]
    pub fn of(part: &str, histogram: &Histogram<u64>) -> Self {
        let us = |quantile: f64| micros(histogram.value_at_quantile(quantile));
        Self {
            part: part.to_owned(),
            count: histogram.len(),
            min_us: micros(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            p9999_us: us(0.9999),
            max_us: micros(histogram.max()),
            curve: curve(histogram),
        }
    }
}

/// Points at equal distances on the scale of nines, so that each nine has as many. It ends where there are too
/// few values to tell a percentile from the longest.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    if histogram.is_empty() {
        return points;
    }
    for step in 0..=NINES * POINTS_PER_NINE {
        let beyond = 10f64.powf(-f64::from(step) / f64::from(POINTS_PER_NINE));
        // The share beyond the percentile is less than one value: all further points are the longest one.
        if beyond * lossy(histogram.len()) < 1.0 {
            break;
        }
        // Rounded, so that 90 is 90 and not 89.999…
        let percentile = (100.0 * (1.0 - beyond) * 1e6).round() / 1e6;
        points.push((percentile, micros(histogram.value_at_quantile(1.0 - beyond))));
    }
    points
}

fn micros(nanoseconds: u64) -> f64 {
    lossy(nanoseconds) / 1e3
}
