//! Time as an argument: a point on the loop's monotonic clock.
//!
//! Everything below the loop is told what time it is, so it can be driven by a test or a simulation.
//! Only `reactor/clock.rs` turns the system's clock into a [`Time`].

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Microseconds since the loop was made. It never goes back and knows nothing of the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// When the loop was made.
    pub const ZERO: Self = Self(0);

    /// The point that is `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A point in time in units of 2^16 microseconds, about 66 ms: the grain of every deadline. Four bytes
/// last for eight years of uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    pub(crate) const NEVER: Self = Self(u32::MAX);
    const SHIFT: u32 = 16;

    /// The tick that `time` lies in.
    pub(crate) const fn at(time: Time) -> Self {
        Self((time.micros() >> Self::SHIFT) as u32)
    }

    /// The first tick that is not before `time`; never, if that is beyond the last one.
    pub(crate) const fn not_before(time: Time) -> Self {
        let tick = time.micros().saturating_add((1 << Self::SHIFT) - 1) >> Self::SHIFT;
        if tick < u32::MAX as u64 { Self(tick as u32) } else { Self::NEVER }
    }

    /// When the tick begins.
    pub(crate) const fn time(self) -> Time {
        Time::from_micros((self.0 as u64) << Self::SHIFT)
    }

    /// The tick that comes `ticks` later.
    pub(crate) const fn after(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Ticks since the start.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}
