//! Who gets in, and how long that may take: lists of addresses, limits by address, the handshake and its deadline, those
//! who are crowded out; and that who is in sends no more than it may.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use switchboard::reactor::{CloseReason, ConnId, Counters, Limits, RateLimit, Refusal};
use switchboard::time::Time;
use switchboard::wire::{Code, Header, Id};

use super::life::micros;
use super::{Facts, GRAIN_US, Judge, State, id_of};
use crate::doors::{Door, Manner, Speech};
use crate::network::Peer;

/// A connection as it comes.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) door: Door,
    /// Where its socket comes from, and where it is to be known to come from once it is in.
    pub(crate) socket: SocketAddr,
    pub(crate) known_as: SocketAddr,
    /// Whoever it speaks for may not come in.
    pub(crate) is_denied: bool,
    /// The list of users that held when it set out.
    pub(crate) list: usize,
    /// The user whose certificate it shows.
    pub(crate) certificate: Option<usize>,
}

/// A connection that the service does not know yet.
#[derive(Debug)]
struct Entering {
    arrival: Arrival,
    since: Time,
    /// Calls that read from it before this turn, and bytes that were written to it.
    reads_before: u64,
    written_before: u64,
}

impl Entering {
    /// Whether it has been read from and answered in this turn. What is read and not answered is a part of something, and
    /// costs next to nothing.
    fn has_gone_on(&self, peer: &Peer) -> bool {
        let wire = peer.wire();
        wire.read_calls > self.reads_before && wire.written > self.written_before
    }
}

/// Reads of somebody's handshake that a turn has time for, for each step of one that it may make.
const READS_PER_STEP: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Entry {
    entering: BTreeMap<ConnId, Entering>,
    /// Those that count for an address.
    counted: BTreeMap<ConnId, IpAddr>,
    /// Those that have not been settled, by when they came.
    unsettled: BTreeMap<u64, (ConnId, Time)>,
    came: u64,
    levels: HashMap<IpAddr, Level>,
    level: Level,
    pub(super) refused: [u64; Refusal::ALL.len()],
    /// Ends of those of whom the service has never heard.
    pub(super) reasons: [u64; CloseReason::ALL.len()],
    steps: usize,
    /// Reads in this turn of those who are still not in.
    reads: usize,
    /// Connections that have ended, or never begun, since the turn has.
    ended: usize,
    /// Whose places have been given back in this turn, and whose places among those who are new.
    left: Vec<IpAddr>,
    settled: Vec<IpAddr>,
}

/// A bucket that leaks, in seconds until it is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    seconds: f64,
    at_us: u64,
}

/// Seconds from one to the next, so many a second: whole microseconds, as the relay's clock has them.
fn interval(rate: u32) -> f64 {
    f64::from(1_000_000 / rate) / 1e6
}

/// What rounding may do to a level.
const ROUNDING: f64 = 0.001;

impl Level {
    fn now(self, now: Time) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a run")]
        let passed = now.micros().saturating_sub(self.at_us) as f64 / 1e6;
        (self.seconds - passed).max(0.0)
    }

    fn pour(&mut self, now: Time, amount: f64) {
        *self = Self { seconds: self.now(now) + amount, at_us: now.micros() };
    }
}

/// What one client has sent, as far as that is limited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    messages: Level,
    bytes: Level,
    /// When it last had sent too much.
    full_at: Option<Time>,
}

impl Sent {
    fn level(&self, now: Time) -> f64 {
        self.messages.now(now).max(self.bytes.now(now))
    }

    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn pour(&mut self, rate: &RateLimit, messages: u64, bytes: u64, now: Time) -> f64 {
        if let Some(most) = rate.messages_per_second_max {
            self.messages.pour(now, messages as f64 / f64::from(most));
        }
        if let Some(most) = rate.bytes_per_second_max {
            self.bytes.pour(now, bytes as f64 / most as f64);
        }
        self.level(now)
    }
}

impl Entry {
    fn places(&self, ip: IpAddr) -> usize {
        self.counted.values().filter(|other| **other == ip).count()
    }

    /// Those of an address that are not settled.
    fn newcomers(&self, ip: IpAddr) -> usize {
        self.unsettled.values().filter(|(conn, _)| self.counted.get(conn) == Some(&ip)).count()
    }

    /// Others for whom a proxy speaks may count already, or not yet.
    fn coming(&self, ip: IpAddr, but: Option<ConnId>) -> usize {
        let is_it = |(conn, entering): &(&ConnId, &Entering)| {
            Some(**conn) != but && entering.arrival.door.proxy.is_some() && entering.arrival.known_as.ip() == ip
        };
        self.entering.iter().filter(is_it).count()
    }

    /// Why a connection is not let in, if its socket says where it comes from; `None` as the error: it is too close to say.
    fn verdict(&self, arrival: &Arrival, limits: &Limits, now: Time) -> Result<Option<Refusal>, ()> {
        if arrival.door.proxy.is_some() {
            return Ok(None);
        }
        if arrival.is_denied {
            return Ok(Some(Refusal::Denied));
        }
        let ip = arrival.socket.ip();
        let (places, most) = (self.places(ip), limits.connections_per_address_max);
        if places >= most {
            return Ok(Some(Refusal::AddressConnections));
        }
        let (newcomers, newcomers_max) = (self.newcomers(ip), limits.newcomers_per_address_max);
        let coming = self.coming(ip, None);
        if newcomers >= newcomers_max && coming == 0 {
            return Ok(Some(Refusal::AddressNewcomers));
        }
        if places + coming >= most || newcomers + coming >= newcomers_max {
            return Err(());
        }
        if let Some(rate) = limits.accepts_per_address_per_second_max {
            let level = self.levels.get(&ip).map_or(0.0, |level| level.now(now)) + interval(rate);
            if (level - 1.0).abs() < ROUNDING {
                return Err(());
            }
            return Ok((level > 1.0).then_some(Refusal::AddressRate));
        }
        Ok(None)
    }

    fn oldest(&self, is_there: impl Fn(&ConnId) -> bool) -> Option<ConnId> {
        self.unsettled.values().map(|(conn, _)| *conn).find(is_there)
    }

    pub(super) fn begin(&mut self) {
        self.ended = 0;
        self.left.clear();
        self.settled.clear();
    }

    pub(super) fn settle(&mut self, conn: ConnId) {
        let is_new = self.unsettled.values().any(|(other, _)| *other == conn);
        self.settled.extend(self.counted.get(&conn).filter(|_| is_new));
        self.unsettled.retain(|_, (other, _)| *other != conn);
    }

    pub(super) fn forget(&mut self, conn: ConnId) {
        self.settle(conn);
        self.left.extend(self.counted.remove(&conn));
    }
}

impl Judge {
    /// A connection was accepted, and let in or not. In a slot of its own it is `conn`.
    pub(crate) fn admitted(&mut self, conn: Option<ConnId>, refused: Option<Refusal>, arrival: &Arrival, now: Time) {
        let most = self.limits.connections_max;
        let is_known = conn.is_some_and(|conn| self.alive.contains(&id_of(conn)));
        let alive = self.alive.len() - usize::from(is_known);
        let is_full = alive + self.entry.entering.len() >= most;
        // Those who have just ended may have their slots to the end of the turn.
        let may_be_full = alive + self.entry.entering.len() + self.entry.ended >= most;
        let expected =
            if is_full { Ok(Some(Refusal::Connections)) } else { self.entry.verdict(arrival, &self.limits, now) };
        match expected {
            Ok(expected) => {
                let is_it = refused == expected || may_be_full && refused == Some(Refusal::Connections);
                assert!(is_it, "{arrival:?} is refused for {refused:?}, not {expected:?}");
            }
            Err(()) => assert_ne!(refused, Some(Refusal::Denied), "{arrival:?} may come in"),
        }
        if let Some(rate) = self.limits.accepts_per_second_max {
            self.entry.level.pour(now, interval(rate));
            let most = 1.0 + interval(rate) + ROUNDING;
            assert!(self.entry.level.now(now) <= most, "more are accepted in a second than {rate}");
        }
        if let Some(why) = refused {
            self.entry.refused[why as usize] += 1;
            self.entry.ended += 1;
            return;
        }
        let ip = arrival.socket.ip();
        if let Some(rate) = self.limits.accepts_per_address_per_second_max {
            self.entry.levels.entry(ip).or_default().pour(now, interval(rate));
        }
        let Some(conn) = conn else { panic!("who is let in has a slot") };
        let is_proxied = arrival.door.proxy.is_some();
        if !is_proxied {
            self.entry.counted.insert(conn, ip);
        }
        if self.limits.newcomers_max < usize::MAX {
            self.entry.came += 1;
            self.entry.unsettled.insert(self.entry.came, (conn, now));
        }
        assert_eq!(is_known, !is_proxied && arrival.door.tls.is_none(), "whether the service knows {arrival:?}");
        if !is_known {
            let entering = Entering { arrival: arrival.clone(), since: now, reads_before: 0, written_before: 0 };
            self.entry.entering.insert(conn, entering);
        }
        self.are_few(ip);
    }

    /// No more connections of an address than there may be.
    fn are_few(&self, ip: IpAddr) {
        let (places, most) = (self.entry.places(ip), self.limits.connections_per_address_max);
        assert!(places <= most, "{places} connections of {ip}");
    }

    /// The service is told of a connection; `reads` calls have read from it.
    pub(crate) fn introduced(&mut self, conn: ConnId, from: SocketAddr, arrival: &Arrival, reads: u64) {
        assert_eq!(from, arrival.known_as, "where {conn:?} comes from");
        self.identify(id_of(conn), arrival, from.ip());
        let is_for_another = arrival.door.proxy.is_none_or(Speech::names_somebody);
        assert!(!arrival.is_denied || !is_for_another, "{conn:?} may not come in");
        if let Some(entering) = self.entry.entering.remove(&conn) {
            let Door { proxy, manner, .. } = entering.arrival.door;
            assert!(proxy.is_none_or(Speech::is_good), "{conn:?} is in, and its proxy has not said for whom it speaks");
            assert_eq!(manner, Manner::Orderly, "{conn:?} is in, and has not agreed on TLS");
            self.entry.steps += usize::from(reads > entering.reads_before);
            if proxy.is_some() {
                self.entry.counted.insert(conn, from.ip());
                self.are_few(from.ip());
            }
        }
    }

    pub(crate) fn settled(&mut self, conn: ConnId) {
        self.entry.settle(conn);
    }

    /// Whether a client has said who it is.
    pub(crate) fn belongs(&self, id: Id) -> bool {
        self.is_registered(id)
    }

    /// The service is told that a connection has to go for the many who are new.
    pub(crate) fn crowded_out(&mut self, conn: ConnId, peers: &BTreeMap<ConnId, Peer>, facts: &Facts<'_>, now: Time) {
        assert_eq!(self.record(id_of(conn)).state, State::Greeting, "{conn:?} belongs here, and is crowded out");
        let is_there = |conn: &ConnId| {
            facts.is_open(id_of(*conn))
                || self.entry.entering.contains_key(conn) && peers.get(conn).is_some_and(|peer| !peer.wire().shut)
        };
        // The one that has just come is not known yet.
        assert!(self.entry.unsettled.len() >= self.limits.newcomers_max, "{conn:?} is crowded out of few");
        let is_answered = |conn: &ConnId| self.may_be_answered(*conn, peers);
        if is_answered(&conn) {
            let came = self.entry.unsettled.values().find(|(other, _)| *other == conn).map(|(_, came)| *came);
            let age = came.map(|came| now.since(came) + Duration::from_micros(GRAIN_US));
            assert!(age >= Some(self.limits.newcomer_grace), "{conn:?} has been answered, and must go after {age:?}");
        } else {
            // Whoever may have been answered stays for a while although it is older.
            let oldest = self.entry.oldest(|other| is_there(other) && (*other == conn || !is_answered(other)));
            assert_eq!(oldest, Some(conn), "who is crowded out");
        }
        self.entry.settle(conn);
    }

    /// Whether the relay may have said something to a connection: what it reads of a handshake is answered, though the
    /// answer may have to wait.
    fn may_be_answered(&self, conn: ConnId, peers: &BTreeMap<ConnId, Peer>) -> bool {
        let is_entering = self.entry.entering.contains_key(&conn);
        peers.get(&conn).is_some_and(|peer| {
            let wire = peer.wire();
            wire.written > 0 || is_entering && wire.read_calls > 0
        })
    }

    /// It has been, and its client is told.
    pub(crate) fn told_to_go(&mut self, conn: ConnId, facts: &Facts<'_>) {
        self.fail(id_of(conn), Code::CrowdedOut, facts);
    }

    pub(crate) fn is_entering(&self, conn: ConnId) -> bool {
        self.entry.entering.contains_key(&conn)
    }

    pub(crate) fn count_entering(&self) -> usize {
        self.entry.entering.len()
    }

    /// Those that have ended before they were in: each for a reason that it had.
    pub(crate) fn watch_entering(&mut self, peers: &BTreeMap<ConnId, Peer>, counters: &Counters, now: Time) {
        let is_over = |conn: &ConnId| peers.get(conn).is_none_or(|peer| peer.wire().shut || peer.wire().is_gone);
        let ended: Vec<ConnId> = self.entry.entering.keys().copied().filter(is_over).collect();
        let mut left = ended.len() as u64;
        let ended: Vec<(ConnId, Entering)> = ended
            .into_iter()
            .filter_map(|conn| {
                // Of those who are crowded out the oldest goes first.
                Some((conn, self.entry.entering.remove(&conn)?))
            })
            .collect();
        for reason in CloseReason::ALL {
            let told = self.ledger.reasons[reason as usize] + self.entry.reasons[reason as usize];
            let count = counters.closed(reason) - told;
            if count == 0 {
                continue;
            }
            let may = |(conn, entering): &&(ConnId, Entering)| {
                // Of those who have ended together one may have had the place for a moment.
                let ip = entering.arrival.known_as.ip();
                let with_it = |(other, of_it): &&(ConnId, Entering)| {
                    other != conn && of_it.arrival.door.proxy.is_some() && of_it.arrival.known_as.ip() == ip
                };
                let others = ended.iter().filter(with_it).count();
                self.may_end(*conn, entering, reason, others, peers, now)
            };
            let lawful = ended.iter().filter(may).count() as u64;
            assert!(
                count <= lawful,
                "{count} ended as {reason:?} before they were in, and {lawful} may have: {ended:?}"
            );
            self.entry.reasons[reason as usize] += count;
            left = left.wrapping_sub(count);
        }
        assert_eq!(left, 0, "as many have ended before they were in as are counted: {ended:?}");
        for (conn, entering) in ended {
            self.entry.steps += usize::from(peers.get(&conn).is_some_and(|peer| entering.has_gone_on(peer)));
            self.entry.ended += 1;
            self.entry.forget(conn);
        }
    }

    /// Whether a connection that was not in may have ended for this reason.
    fn may_end(
        &self,
        conn: ConnId,
        entering: &Entering,
        reason: CloseReason,
        ended_with_it: usize,
        peers: &BTreeMap<ConnId, Peer>,
        now: Time,
    ) -> bool {
        let Entering { arrival, since, .. } = entering;
        if reason == CloseReason::Abandoned && self.stopping {
            return true;
        }
        let Some(peer) = peers.get(&conn) else { return true };
        let wire = peer.wire();
        let Door { tls, proxy, manner, .. } = arrival.door;
        match reason {
            CloseReason::Reset => wire.is_reset,
            CloseReason::Abandoned => wire.ended,
            CloseReason::Refused => {
                let ip = arrival.known_as.ip();
                let most = self.limits.connections_per_address_max;
                let is_for_another = proxy.is_some_and(Speech::names_somebody);
                let left = self.entry.left.iter().filter(|left| **left == ip).count();
                let others = self.entry.coming(ip, Some(conn)) + left + ended_with_it;
                let newcomers = self.entry.newcomers(ip) + self.entry.settled.iter().filter(|of| **of == ip).count();
                let is_crowded = self.entry.places(ip) + others >= most
                    || newcomers + others >= self.limits.newcomers_per_address_max;
                proxy.is_some() && (is_for_another && arrival.is_denied || is_crowded)
            }
            CloseReason::BadProxyHeader => proxy.is_some_and(|speech| !speech.is_good()),
            CloseReason::HandshakeOverdue => {
                now.micros() - since.micros() + GRAIN_US >= micros(self.limits.handshake_deadline)
            }
            CloseReason::TlsFailed => {
                let has_spoilt = wire.secure.as_ref().is_some_and(|secure| secure.is_spoilt);
                tls.is_some() && (matches!(manner, Manner::Noise | Manner::Plain) || has_spoilt)
            }
            CloseReason::CrowdedOut => {
                let mine =
                    self.entry.unsettled.iter().find(|(_, (other, _))| *other == conn).map(|(number, _)| *number);
                let is_oldest = |mine: u64| {
                    // Whoever may have been answered stays for a while although it is older.
                    let stays = |other: &ConnId| {
                        let record = self.records.get(&id_of(*other)).filter(|record| !record.is_gone);
                        let is_new = record.is_some_and(|record| record.state == State::Greeting);
                        let is_here = is_new || self.entry.entering.contains_key(other);
                        is_here && !self.may_be_answered(*other, peers)
                    };
                    self.entry.unsettled.range(..mine).all(|(_, (other, _))| !stays(other))
                };
                let has_had_its_grace =
                    now.since(*since) + Duration::from_micros(GRAIN_US) >= self.limits.newcomer_grace;
                self.entry.unsettled.len() > self.limits.newcomers_max
                    && mine.is_some_and(|mine| has_had_its_grace || is_oldest(mine))
            }
            CloseReason::MemoryPressure => self.is_tight(),
            _ => false,
        }
    }

    /// A turn is over.
    pub(crate) fn turn_of_entry(&mut self, peers: &BTreeMap<ConnId, Peer>, facts: &Facts<'_>, now: Time) {
        let deadline_us = micros(self.limits.handshake_deadline);
        let entry = &mut self.entry;
        for (conn, entering) in &mut entry.entering {
            let age = now.micros() - entering.since.micros();
            assert!(age <= deadline_us + 2 * GRAIN_US, "{conn:?} has not got in for {age} us, and is here");
            entry.steps += usize::from(peers.get(conn).is_some_and(|peer| entering.has_gone_on(peer)));
            let (reads, written) = peers.get(conn).map_or((0, 0), |peer| {
                let wire = peer.wire();
                (wire.read_calls, wire.written)
            });
            entry.reads += (reads - entering.reads_before) as usize;
            (entering.reads_before, entering.written_before) = (reads, written);
        }
        let (steps, most) = (std::mem::take(&mut entry.steps), self.limits.handshakes_turn_max);
        assert!(steps <= most, "{steps} steps of handshakes in a turn");
        let reads = std::mem::take(&mut entry.reads);
        assert!(reads <= most * READS_PER_STEP, "{reads} reads of handshakes in a turn");
        let is_there = |(conn, _): &&(ConnId, Time)| entry.entering.contains_key(conn) || facts.is_open(id_of(*conn));
        let newcomers = entry.unsettled.values().filter(is_there).count();
        assert!(newcomers <= self.limits.newcomers_max, "{newcomers} are here that were not settled");
    }

    /// The service is about to be shown something of a client: not if it has sent more than it may.
    pub(crate) fn may_send_more(&self, id: Id, now: Time) {
        let level = self.records[&id].sent.level(now);
        assert!(level <= 1.0 + ROUNDING, "{id} is read, and has sent what it may in {level} s");
    }

    /// The service has consumed whole frames of a client: no more than it may send, and one run.
    pub(super) fn count_sent(&mut self, id: Id, consumed: &[u8], now: Time) {
        let rate = self.limits.rate;
        if rate.messages_per_second_max.is_none() && rate.bytes_per_second_max.is_none() {
            return;
        }
        let record = self.record(id);
        let mut last = None;
        let mut rest = consumed;
        while let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length))
            && (24..1 << 31).contains(&length)
            && rest.len() >= length as usize + 4
        {
            let (frame, after) = rest.split_at(length as usize + 4);
            rest = after;
            let header = Header::read(frame);
            let run = (header.type_number, header.destination);
            assert!(last.is_none_or(|last| last == run), "{id} is read on, and has sent more than it may");
            let level = record.sent.pour(&rate, 1, frame.len() as u64, now);
            if level > 1.0 + ROUNDING {
                last = last.or(Some(run));
            }
            if level > 1.0 - ROUNDING {
                record.sent.full_at = Some(now);
            }
        }
    }

    /// Whoever sends more than it may is closed, where it is not just to wait.
    pub(super) fn ends_for_sending(&mut self, id: Id, facts: &Facts<'_>, now: Time) {
        let record = self.record(id);
        let (level, is_here) = (record.sent.level(now), !matches!(record.state, State::Leaving(_)));
        // The relay rounds down: whoever has just sent what it may, and is gone, is so for another reason.
        if is_here && self.limits.rate.closes && level > 1.0 + f64::EPSILON {
            let stays = facts.is_open(id);
            assert!(!stays || level <= 1.0 + ROUNDING, "{id} has sent what it may in {level} s, and stays");
            if !stays {
                self.fail(id, Code::RateExceeded, facts);
            }
        }
    }

    /// Whether a client is not read from because it has sent too much, or was until a moment ago.
    pub(crate) fn may_be_throttled(&self, conn: ConnId, now: Time) -> bool {
        self.records.get(&id_of(conn)).is_some_and(|record| record.sent.may_be_full(now))
    }

    pub(crate) fn is_anybody_throttled(&self, now: Time) -> bool {
        self.alive.iter().any(|id| self.records[id].sent.may_be_full(now))
    }
}

impl Sent {
    pub(super) fn is_full(&self, now: Time) -> bool {
        self.level(now) > 1.0 + ROUNDING
    }

    pub(super) fn may_be_full(&self, now: Time) -> bool {
        let Some(since) = self.full_at else { return false };
        let over = self.messages.max(self.bytes, since) - 1.0;
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a run")]
        let passed = (now.micros() - since.micros()) as f64 / 1e6;
        #[allow(clippy::cast_precision_loss, reason = "a constant")]
        let grain = GRAIN_US as f64 / 1e6;
        passed <= over + 2.0 * grain
    }
}

impl Level {
    fn max(self, other: Self, at: Time) -> f64 {
        self.now(at).max(other.now(at))
    }
}
