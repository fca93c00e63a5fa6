//! How much each connection sends in a second: messages and bytes, counted in buckets that leak.
//!
//! A bucket is kept as one number, the time at which it would be empty (the generic cell rate algorithm of ITU-T I.371):
//! what comes puts that time off, and whoever has put it off by more than a second has sent more than it may. It is then
//! not read from until that is over; what it sends meanwhile waits in the network, and slows it down there. Where there
//! are no such limits there are no buckets.

use std::time::Duration;

use super::connection::flag;
use super::{ConnId, Connections, Transport};
use crate::planted::{self, Bug};
use crate::time::Tick;

/// What a connection may send in a second; a second's worth may come at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    /// Messages, as the service counts them.
    pub messages_per_second_max: Option<u32>,
    /// Bytes.
    pub bytes_per_second_max: Option<u64>,
    /// Whoever sends more is closed, instead of not being read from for a while.
    pub closes: bool,
}

impl RateLimit {
    const fn is_none(&self) -> bool {
        self.messages_per_second_max.is_none() && self.bytes_per_second_max.is_none()
    }
}

/// One connection's buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    /// Nanoseconds on the loop's clock.
    messages_empty_at: u64,
    bytes_empty_at: u64,
    /// Until then it is not read from.
    pub(super) until: Tick,
}

const EMPTY: Buckets = Buckets { messages_empty_at: 0, bytes_empty_at: 0, until: Tick::NEVER };
const SECOND_NS: u64 = 1_000_000_000;

/// Pours `count` into a bucket that leaks `rate` a second; says by how much it is too full, in nanoseconds.
fn pour(empty_at: &mut u64, now_ns: u64, count: u64, rate: u64) -> u64 {
    let cost = u128::from(count) * u128::from(SECOND_NS) / u128::from(rate.max(1));
    *empty_at = (*empty_at).max(now_ns).saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
    empty_at.saturating_sub(now_ns + SECOND_NS)
}

impl<T: Transport> Connections<T> {
    /// Notes that so much of what `conn` has sent was handled. If that is more than it may send, it is not read from for as
    /// long as that takes; where it is to be closed instead, this says so, and the service does it.
    #[must_use]
    pub fn spend(&mut self, conn: ConnId, messages: u32, bytes: usize) -> bool {
        if self.limits.rate.is_none() {
            return false;
        }
        self.spend_limited(conn, messages, bytes)
    }

    fn spend_limited(&mut self, conn: ConnId, messages: u32, bytes: usize) -> bool {
        let rate = self.limits.rate;
        let now_ns = self.now.micros().saturating_mul(1000);
        if self.get(conn).is_none() {
            return false;
        }
        if self.buckets.len() <= conn.index() {
            self.buckets.resize(conn.index() + 1, EMPTY);
        }
        let buckets = &mut self.buckets[conn.index()];
        let mut over_ns = 0;
        if let Some(most) = rate.messages_per_second_max {
            over_ns = pour(&mut buckets.messages_empty_at, now_ns, messages.into(), most.into());
        }
        if let Some(most) = rate.bytes_per_second_max {
            over_ns = over_ns.max(pour(&mut buckets.bytes_empty_at, now_ns, bytes as u64, most));
        }
        if over_ns == 0 {
            return false;
        }
        self.counters.rate_exceeded += u64::from(!self.slots[conn.index()].has(flag::THROTTLED));
        if rate.closes {
            return true;
        }
        let until = Tick::not_before(self.now + Duration::from_nanos(over_ns));
        self.buckets[conn.index()].until = until;
        self.slots[conn.index()].set(flag::THROTTLED, true);
        self.check_by(conn, until);
        false
    }

    /// Reads on from a connection that has sent too much, if its time has come.
    pub(super) fn unthrottle(&mut self, conn: ConnId) {
        let until = self.buckets.get(conn.index()).map_or(Tick::NEVER, |buckets| buckets.until);
        if until > self.tick {
            self.check_by(conn, until);
            return;
        }
        self.slots[conn.index()].set(flag::THROTTLED, false);
        self.read_on(conn);
    }

    /// Has a new connection begin with empty buckets, whoever had its slot before.
    pub(super) fn reset_buckets(&mut self, conn: ConnId) {
        if let Some(buckets) = self.buckets.get_mut(conn.index())
            && !planted::has(Bug::BucketInherited)
        {
            *buckets = EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_comes_at_once_and_the_rest_at_its_rate() {
        let mut empty_at = 0;
        let now = 50 * SECOND_NS;
        assert_eq!(pour(&mut empty_at, now, 100, 100), 0);
        assert_eq!(pour(&mut empty_at, now, 25, 100), SECOND_NS / 4);
        assert_eq!(pour(&mut empty_at, now + SECOND_NS / 4, 0, 100), 0);
        assert_eq!(pour(&mut empty_at, now + 10 * SECOND_NS, 100, 100), 0);
    }

    #[test]
    fn small_pieces_at_a_high_rate_are_not_rounded_away() {
        let mut empty_at = 0;
        let over = (0..2_000_000).map(|_| pour(&mut empty_at, SECOND_NS, 1, 1_000_000)).last();
        assert_eq!(over, Some(SECOND_NS));
    }
}
