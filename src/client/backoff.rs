//! How long to wait before connecting again: longer after each failure, never the same for two clients.
//!
//! Pure: it reads no clock and sleeps for nobody; how long a connection stood is an argument.

use std::time::Duration;

/// The upper bound of the first wait: a relay that restarts at once is found again without much ado.
pub const DELAY_FIRST: Duration = Duration::from_millis(500);
/// The upper bound of every wait: a relay that comes back after an hour is found within a minute.
pub const DELAY_MAX: Duration = Duration::from_mins(1);
/// A connection that stood this long was a good one, and the next failure counts as the first. A relay that
/// welcomes and closes at once is thereby not hammered.
pub const STOOD_WELL: Duration = Duration::from_mins(1);
/// The share of a wait that is left to chance, in parts of a hundred.
const JITTER_PERCENT: u64 = 50;

/// Counts failures and says how long to wait after each.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(fastrand::Rng::new())
    }
}

impl Backoff {
    /// Nothing has failed yet; `random` decides the share of chance.
    #[must_use]
    pub const fn new(random: fastrand::Rng) -> Self {
        Self { failures: 0, random }
    }

    /// How many failures there were since the last good connection.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection has ended that stood for `stood`.
    pub fn connection_stood(&mut self, stood: Duration) {
        if stood >= STOOD_WELL {
            self.failures = 0;
        }
    }

    /// The wait before the next attempt: doubling from half a second to a minute, half of it by chance, and
    /// never less than `retry_after`: what the relay asked for, which differs from client to client already.
    pub fn delay(&mut self, retry_after: Option<Duration>) -> Duration {
        let bound = DELAY_FIRST.saturating_mul(1 << self.failures.min(16)).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        let own = bound.saturating_sub(self.share(bound));
        retry_after.map_or(own, |asked| own.max(asked))
    }

    /// By chance up to [`JITTER_PERCENT`] of `bound`.
    fn share(&mut self, bound: Duration) -> Duration {
        let milliseconds = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX) / 100 * JITTER_PERCENT;
        Duration::from_millis(self.random.u64(0..=milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_are_never_under_half_of_it() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
            let mut bound = DELAY_FIRST;
            for _ in 0..40 {
                let delay = backoff.delay(None);
                assert!(delay <= bound && delay >= bound / 2, "{delay:?} of {bound:?}");
                bound = (bound * 2).min(DELAY_MAX);
            }
        }
    }

    #[test]
    fn the_relay_is_never_asked_earlier_than_it_said() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        for asked in [0, 1, 900, 60_000, u64::from(u32::MAX)] {
            let asked = Duration::from_millis(asked);
            assert!(backoff.delay(Some(asked)) >= asked);
        }
        assert!(backoff.delay(Some(Duration::MAX)) == Duration::MAX);
    }

    #[test]
    fn only_a_connection_that_stood_forgives_earlier_failures() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        for _ in 0..5 {
            backoff.delay(None);
        }
        backoff.connection_stood(Duration::from_secs(1));
        assert_eq!(backoff.failures(), 5);
        backoff.connection_stood(STOOD_WELL);
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.delay(None) <= DELAY_FIRST);
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let mut delays: Vec<_> = (0..50).map(|seed| Backoff::new(fastrand::Rng::with_seed(seed)).delay(None)).collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 25, "{}", delays.len());
    }
}
