//! How connections end, seen from the network: their peers are told that nothing follows, and for a while what they
//! still send is read and discarded, so that no reset overtakes the last frame.

use std::collections::BTreeMap;
use std::time::Duration;

use switchboard::reactor::{ConnId, Limits};
use switchboard::time::Time;

use super::judge::GRAIN_US;
use super::network::Peer;

/// Turns in which what has arrived for a connection that lingers must be read.
const PATIENCE_TURNS: u64 = 40;

#[derive(Debug)]
pub(crate) struct Endings {
    linger: Duration,
    lingering_max: usize,
    /// Connections to which nothing more is written, since which turn and time.
    lingering: BTreeMap<ConnId, (u64, Time)>,
}

impl Endings {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self { linger: limits.linger, lingering_max: limits.lingering_max, lingering: BTreeMap::new() }
    }

    /// A connection was not let in.
    pub(crate) fn turned_away(&mut self, peer: &Peer, now: Time) {
        let wire = peer.wire();
        match wire.conn.filter(|_| !wire.is_gone) {
            Some(conn) => assert!(self.lingering.insert(conn, (0, now)).is_none(), "{conn:?} is turned away twice"),
            None => assert!(
                self.lingering.len() >= self.lingering_max || wire.is_reset || self.linger.is_zero(),
                "whoever is not let in is dropped at once, and there was room for it"
            ),
        }
    }

    /// A turn is over; `is_alive` says whose end the service has not been told of.
    pub(crate) fn check(
        &mut self,
        peers: &BTreeMap<ConnId, Peer>,
        is_alive: impl Fn(&ConnId) -> bool,
        turn: u64,
        now: Time,
    ) {
        let (mut ended, mut dropped) = (Vec::new(), None);
        let linger_us = u64::try_from(self.linger.as_micros()).unwrap_or(u64::MAX);
        for (conn, peer) in peers.iter().filter(|(conn, _)| !is_alive(conn)) {
            let wire = peer.wire();
            let has_ended = wire.ended || wire.is_reset;
            let lingers = self.lingering.get(conn).copied();
            assert!(wire.shut || wire.is_gone, "{conn:?} is finished, and its client is not told");
            let Some((since, at)) = lingers else {
                if !wire.shut {
                    continue; // It was lost, or ended at once.
                }
                if wire.is_gone {
                    dropped = dropped.or((!has_ended).then_some(*conn));
                } else {
                    self.lingering.insert(*conn, (turn, now));
                }
                continue;
            };
            let age_us = now.micros() - at.micros();
            if wire.is_gone {
                assert!(has_ended || age_us + GRAIN_US >= linger_us, "{conn:?} lingers for {age_us} us only");
                ended.push(*conn);
                continue;
            }
            assert!(age_us <= linger_us + 2 * GRAIN_US, "{conn:?} lingers for {age_us} us");
            let told = wire.told_in.map(|told| told.max(since) + PATIENCE_TURNS);
            assert!(
                !wire.has_unread() || told.is_none_or(|until| turn <= until),
                "{conn:?} is closed, and what it still sends is not read"
            );
        }
        // It may have come last in this turn, and those before it took all the room.
        let is_full = self.lingering.len() >= self.lingering_max;
        assert!(is_full || dropped.is_none(), "{dropped:?} is dropped as soon as it is finished");
        for conn in ended {
            self.lingering.remove(&conn);
        }
        assert!(self.lingering.len() <= self.lingering_max, "{} connections linger", self.lingering.len());
    }
}
