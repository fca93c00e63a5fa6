//! Sending by the clock: the frames of several flows in turn, at even distances, whatever the server does.

use std::ops::Range;

/// A fixed schedule. When a frame is due does not depend on when the one before it was sent or answered.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    flows: Range<u32>,
    start_ns: u64,
    /// Frames a second, of all flows together.
    rate: f64,
    /// Frames that were due so far.
    count: u64,
}

impl Schedule {
    /// `rate` frames a second from `start_ns` on, the flows taking turns.
    #[must_use]
    pub(super) const fn new(flows: Range<u32>, rate: f64, start_ns: u64) -> Self {
        Self { flows, start_ns, rate, count: 0 }
    }

    /// When the next frame is due; `None` if there are no flows.
    #[must_use]
    pub(super) fn due_ns(&self) -> Option<u64> {
        (!self.flows.is_empty()).then(|| due_ns(self.start_ns, self.rate, self.count))
    }

    /// Frames that are due by `now_ns` and have not been taken.
    #[must_use]
    pub(super) fn overdue(&self, now_ns: u64) -> u64 {
        if self.flows.is_empty() { 0 } else { due_count(self.start_ns, self.rate, now_ns).saturating_sub(self.count) }
    }

    /// The next frame if it is due by `now_ns`: its flow, and when it should have been sent.
    pub(super) fn next_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let due = self.due_ns().filter(|due| *due <= now_ns)?;
        let flows = u64::from(self.flows.end - self.flows.start);
        let flow = self.flows.start + (self.count % flows) as u32;
        self.count += 1;
        Some((flow, due))
    }
}

/// When event number `count` of a schedule is due.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "exact to a nanosecond for three months")]
pub(super) fn due_ns(start_ns: u64, rate: f64, count: u64) -> u64 {
    start_ns.saturating_add((count as f64 * 1e9 / rate) as u64)
}

/// How many events of a schedule are due by `now_ns`.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a count for people, within one of the truth")]
pub(super) fn due_count(start_ns: u64, rate: f64, now_ns: u64) -> u64 {
    now_ns.checked_sub(start_ns).map_or(0, |time_ns| ((time_ns as f64 * rate / 1e9) as u64).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_keeps_the_time_at_which_it_was_due() {
        let mut schedule = Schedule::new(3..5, 1000.0, 500);
        assert_eq!((schedule.next_due(499), schedule.overdue(499)), (None, 0));
        let late = 500 + 3_000_000;
        assert_eq!(schedule.overdue(late), 4);
        let due: Vec<_> = std::iter::from_fn(|| schedule.next_due(late)).collect();
        assert_eq!(due, [(3, 500), (4, 1_000_500), (3, 2_000_500), (4, 3_000_500)]);
        assert_eq!((schedule.due_ns(), schedule.overdue(late)), (Some(4_000_500), 0));
        assert_eq!(Schedule::new(0..0, 1.0, 0).due_ns(), None);
    }
}
