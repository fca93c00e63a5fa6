//! How connections end, seen from the network: their peers are told that nothing follows, and for a while what they
//! still send is read and discarded, so that no reset overtakes the last frame.

use std::collections::BTreeMap;
use std::time::Duration;

use switchboard::reactor::{ConnId, Limits};
use switchboard::time::Time;

use super::judge::GRAIN_US;
use super::network::Peer;

#[derive(Debug)]
pub(crate) struct Endings {
    linger: Duration,
    lingering_max: usize,
    lingering: BTreeMap<ConnId, Lingering>,
    /// Others who have been turned away since the last look, and linger or do not.
    uncertain: usize,
    /// Those that were reset when they began to linger: the engine may not have heard of that yet.
    reset: usize,
}

/// A connection to which nothing more is written.
#[derive(Debug)]
struct Lingering {
    since: Time,
    /// Bytes that have arrived and are not read, and since which turn they are so many.
    unread_bytes: usize,
    unread_since: u64,
}

impl Lingering {
    const fn new(since: Time) -> Self {
        Self { since, unread_bytes: 0, unread_since: 0 }
    }
}

impl Endings {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            linger: limits.linger,
            lingering_max: limits.lingering_max,
            lingering: BTreeMap::new(),
            uncertain: 0,
            reset: 0,
        }
    }

    /// A connection was not let in.
    pub(crate) fn turned_away(&mut self, peer: &Peer, now: Time) {
        let wire = peer.wire();
        if wire.is_reset {
            return; // There is nobody to wait for.
        }
        match wire.conn.filter(|_| !wire.is_gone) {
            Some(conn) => {
                assert!(self.lingering.insert(conn, Lingering::new(now)).is_none(), "{conn:?} is turned away twice");
            }
            None => assert!(
                self.lingering.len() + self.uncertain + self.reset >= self.lingering_max,
                "whoever is not let in is dropped at once, and there was room for it"
            ),
        }
    }

    /// So many have been crowded out before they were in.
    pub(crate) const fn crowded_out(&mut self, count: usize) {
        self.uncertain += count;
    }

    /// A turn is over; `is_alive` says whose end the service has not been told of, and something must be read of what
    /// arrives within `patience_turns`.
    pub(crate) fn check(
        &mut self,
        peers: &BTreeMap<ConnId, Peer>,
        is_alive: impl Fn(&ConnId) -> bool,
        turn: u64,
        patience_turns: u64,
        now: Time,
    ) {
        let (mut ended, mut dropped) = (Vec::new(), None);
        self.reset = 0;
        let linger_us = u64::try_from(self.linger.as_micros()).unwrap_or(u64::MAX);
        for (conn, peer) in peers.iter().filter(|(conn, _)| !is_alive(conn)) {
            let wire = peer.wire();
            let has_ended = wire.has_ended();
            assert!(wire.shut || wire.is_gone, "{conn:?} is finished, and its client is not told");
            let Some(lingers) = self.lingering.get_mut(conn) else {
                if !wire.shut {
                    continue; // It was lost, or ended at once.
                }
                if wire.is_gone {
                    dropped = dropped.or((!has_ended).then_some(*conn));
                } else if wire.is_reset {
                    self.reset += 1;
                } else {
                    self.lingering.insert(*conn, Lingering::new(now));
                }
                continue;
            };
            let age_us = now.micros() - lingers.since.micros();
            if wire.is_gone {
                assert!(has_ended || age_us + GRAIN_US >= linger_us, "{conn:?} lingers for {age_us} us only");
                ended.push(*conn);
                continue;
            }
            assert!(age_us <= linger_us + 2 * GRAIN_US, "{conn:?} lingers for {age_us} us");
            if lingers.unread_bytes != wire.unread_bytes() {
                (lingers.unread_bytes, lingers.unread_since) = (wire.unread_bytes(), turn);
            }
            assert!(
                lingers.unread_bytes == 0 || wire.is_cut || turn - lingers.unread_since <= patience_turns,
                "{conn:?} is closed, and what it still sends is not read"
            );
        }
        // It may have come last in this turn, and those before it took all the room.
        let is_full = self.lingering.len() + std::mem::take(&mut self.uncertain) + self.reset >= self.lingering_max;
        assert!(is_full || dropped.is_none(), "{dropped:?} is dropped as soon as it is finished");
        for conn in ended {
            self.lingering.remove(&conn);
        }
        assert!(self.lingering.len() <= self.lingering_max, "{} connections linger", self.lingering.len());
    }
}
