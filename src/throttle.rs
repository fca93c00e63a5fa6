//! So many a second, and a count of the rest: what may come by the thousand must not flood a log.

use std::time::Duration;

use crate::time::Time;

/// Lets a number of events a second through and counts the others.
#[derive(Clone, Debug)]
pub struct Throttle {
    per_second_max: u32,
    window: Time,
    used: u32,
    held_back: u64,
}

impl Throttle {
    /// Lets at most `per_second_max` events through in a second.
    #[must_use]
    pub const fn new(per_second_max: u32) -> Self {
        Self { per_second_max, window: Time::ZERO, used: 0, held_back: 0 }
    }

    /// Whether this event goes through.
    pub fn admit(&mut self, now: Time) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.used = 0;
        }
        let admitted = self.used < self.per_second_max;
        if admitted {
            self.used += 1;
        } else {
            self.held_back += 1;
        }
        admitted
    }

    /// How many were held back since the last call; 0 while the second in which they came is not over.
    pub fn take_held_back(&mut self, now: Time) -> u64 {
        if now.since(self.window) >= Duration::from_secs(1) { std::mem::take(&mut self.held_back) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_and_its_rest_is_counted() {
        let mut throttle = Throttle::new(3);
        let start = Time::from_micros(5_000_000);
        assert_eq!((0..10).filter(|_| throttle.admit(start)).count(), 3);
        assert_eq!(throttle.take_held_back(start), 0);
        let later = start + Duration::from_secs(1);
        assert_eq!(throttle.take_held_back(later), 7);
        assert!(throttle.admit(later));
    }
}
