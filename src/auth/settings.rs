//! What is allowed to whoever has not proven anything yet.

use std::time::Duration;

/// Limits and times of authentication. `switchboard serve` has a flag for each, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// Attempts that may fail from one address within `failures_window`; what comes then is refused unseen. Ten are more
    /// than a person mistypes, and give a guesser 14,400 a day from an address.
    pub failures_per_origin_max: u32,
    /// How long an address is remembered after the first of its failures.
    pub failures_window: Duration,
    /// How late the first failure of a user's name is told. Each further one, and then a success as well, comes twice as
    /// late as the one before. Half a second is hardly felt by who mistypes.
    pub delay: Duration,
    /// The latest that an answer comes. It is what somebody whose name others are guessing at has to wait; nobody is
    /// locked out by the failures of others.
    pub delay_max: Duration,
    /// How long a user's name is remembered after the last failure.
    pub failures_memory: Duration,
    /// Addresses that are remembered, and names: 2.5 MB of each when all are used. Beyond it, one that has long been
    /// quiet is forgotten for each that comes.
    pub remembered_max: usize,
    /// Time from the first answer of an exchange to its end. The client hashes meanwhile, on whatever it runs on.
    pub exchange_deadline: Duration,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            failures_per_origin_max: 10,
            failures_window: Duration::from_mins(1),
            delay: Duration::from_millis(500),
            delay_max: Duration::from_secs(4),
            failures_memory: Duration::from_mins(10),
            remembered_max: 65_536,
            exchange_deadline: Duration::from_secs(20),
        }
    }
}
