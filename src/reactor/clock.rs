//! The one place below the commands where a clock is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// A monotonic clock that stood at zero when it was made, and stands still while the process is not let run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    epoch: Duration,
}

impl Clock {
    /// A clock that stands at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { zero: Instant::now(), epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// The time since then.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.zero.elapsed()
    }

    /// Leaves out what has passed since `then`, as if this clock had stood still.
    pub(super) fn go_on_from(&mut self, then: Time) {
        self.zero += self.now().since(then);
    }

    /// What this thread has computed since it began.
    pub(super) fn computed() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
    }

    /// The time of day, since 1970, at which this clock stood at zero. Read once: a step of the time of
    /// day while the process runs is not followed.
    #[must_use]
    pub const fn epoch(&self) -> Duration {
        self.epoch
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
