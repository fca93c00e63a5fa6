//! Whether something stays flat: what a run of hours is for.
//!
//! What a relay needs it has taken by the end of the first tenth of a run: buffers and queues have their size, the
//! allocator its arenas. From then on neither the most that it holds may be above what it held so far, nor may a line
//! through all that was measured (least squares) rise, each by more than a tolerance, which says what may come by chance.

use crate::bench::units::bytes;

/// The part of a run in which things take their size.
pub(super) const SETTLING_SHARE: f64 = 0.1;
/// Behind it there must be so many measurements.
const POINTS_MIN: usize = 4;
const DAY_SECONDS: f64 = 86_400.0;

/// What was found of a figure over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flatness {
    /// The most within the first tenth.
    pub(super) first: f64,
    /// The most after it.
    pub(super) later: f64,
    /// What the line through all that was measured after the first tenth gains in a second.
    pub(super) slope: f64,
    /// How long that was, in seconds.
    pub(super) seconds: f64,
    pub(super) tolerance: f64,
}

impl Flatness {
    /// Of points of time and figure, the time being counted from the beginning, `seconds` in all. `None` if there are
    /// too few.
    #[must_use]
    pub(super) fn of(points: &[(f64, f64)], seconds: f64, tolerance: impl FnOnce(f64) -> f64) -> Option<Self> {
        let border = seconds * SETTLING_SHARE;
        let split = points.partition_point(|(at, _)| *at <= border);
        // Where the first tenth is shorter than the time between two measurements, the first one stands for it.
        let (early, late) = points.split_at(split.max(1).min(points.len()));
        if early.is_empty() || late.len() < POINTS_MIN {
            return None;
        }
        let most = |points: &[(f64, f64)]| points.iter().fold(f64::MIN, |most, (_, value)| most.max(*value));
        let (begin, end) = (late.first()?.0, late.last()?.0);
        let first = most(early);
        Some(Self { first, later: most(late), slope: slope(late), seconds: end - begin, tolerance: tolerance(first) })
    }

    /// How much the line has risen.
    pub(super) fn rise(&self) -> f64 {
        self.slope * self.seconds
    }

    /// What the line would gain in a day.
    pub(super) fn in_a_day(&self) -> f64 {
        self.slope * DAY_SECONDS
    }

    /// The least that would be noticed, in a day.
    pub(super) fn noticed_in_a_day(&self) -> f64 {
        if self.seconds > 0.0 { self.tolerance / self.seconds * DAY_SECONDS } else { f64::INFINITY }
    }

    /// Whether it is flat.
    #[must_use]
    pub(super) fn holds(&self) -> bool {
        self.later <= self.first + self.tolerance && self.rise() <= self.tolerance
    }

    /// The finding in words, for amounts of memory.
    pub(super) fn in_bytes(&self) -> Vec<String> {
        vec![
            format!("{} at most after the first tenth, {} within it", bytes(self.later), bytes(self.first)),
            format!(
                "a line through it (least squares) gains {}, which would be {} in a day",
                bytes(self.rise()),
                bytes(self.in_a_day())
            ),
            format!(
                "{} are tolerated: in a run of this length, {} in a day would be noticed",
                bytes(self.tolerance),
                bytes(self.noticed_in_a_day())
            ),
        ]
    }
}

/// The slope of the line through points that has the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = crate::bench::rig::lossy(points.len() as u64);
    let sum = points.iter().fold((0.0, 0.0), |sum, (x, y)| (sum.0 + x, sum.1 + y));
    let (x_mean, y_mean) = (sum.0 / count, sum.1 / count);
    let (mut products, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        products += (x - x_mean) * (y - y_mean);
        squares += (x - x_mean) * (x - x_mean);
    }
    if squares > 0.0 { products / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    /// An hour, a point every six seconds.
    fn hour(value: impl Fn(f64) -> f64) -> Flatness {
        let points: Vec<_> = (1..=600).map(|step| (f64::from(step) * 6.0, value(f64::from(step) * 6.0))).collect();
        Flatness::of(&points, 3600.0, |_| MIB).expect("enough points")
    }

    #[test]
    fn what_goes_up_and_down_is_flat() {
        let flat = hour(|at| 20.0 * MIB + (at / 7.0).sin() * 3.0 * MIB);
        assert!(flat.holds(), "{flat:?}");
        assert!(flat.rise().abs() < MIB / 4.0, "{flat:?}");
        // Growth in the beginning is what the first tenth is for.
        assert!(hour(|at| 20.0 * MIB + at.min(300.0) * MIB).holds());
    }

    #[test]
    fn what_grows_is_not_however_it_does() {
        for (name, value) in [
            ("a leak", Box::new(|at: f64| 20.0 * MIB + at * 400.0) as Box<dyn Fn(f64) -> f64>),
            (
                "a leak below an early peak",
                Box::new(|at| if at < 100.0 { 90.0 * MIB } else { 20.0 * MIB + at * 1000.0 }),
            ),
            ("a leak under noise", Box::new(|at| 20.0 * MIB + (at / 7.0).sin() * 3.0 * MIB + at * 500.0)),
            ("a late step", Box::new(|at| if at < 3500.0 { 20.0 * MIB } else { 24.0 * MIB })),
        ] {
            let found = hour(value);
            assert!(!found.holds(), "{name}: {found:?}");
        }
        let found = hour(|at| 20.0 * MIB + at * 400.0);
        assert!((found.in_a_day() / 400.0 / DAY_SECONDS - 1.0).abs() < 1e-6, "{found:?}");
        assert!(found.in_bytes()[1].ends_with("33.0 MiB in a day"), "{:?}", found.in_bytes());
    }

    #[test]
    fn too_few_points_say_nothing() {
        assert_eq!(Flatness::of(&[], 10.0, |_| 1.0), None);
        assert_eq!(Flatness::of(&[(0.5, 1.0), (1.0, 1.0), (2.0, 1.0)], 10.0, |_| 1.0), None);
        let few: Vec<_> = (1..=5).map(|step| (f64::from(step), 1.0)).collect();
        assert!(Flatness::of(&few, 5.0, |_| 1.0).expect("enough").holds(), "the first stands for the first tenth");
    }
}
