//! The connections, and what a service may do with them: send, close, pause, set a deadline.
//!
//! Nothing here reads, writes or frees a connection: that is [`super::engine`], and sending is [`super::sending`].

use std::collections::VecDeque;

use slab::Slab;

use super::connection::{CloseReason, ConnId, Connection, Phase, flag};
use super::front::Fronts;
use super::gate::{Gate, Gatekeeper};
use super::input::{BufferPool, Lease};
use super::newcomers::Newcomers;
use super::queue::{BlockPool, MessageBytes, OutQueue};
use super::rates::Buckets;
use super::tls::Session;
use super::wheel::Wheel;
use super::{Counters, Limits, PeerAddr, Stream, TlsRole, TlsTerms, Transport};
use crate::outgoing::Meter;
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

/// All connections of a reactor, as a service sees them.
#[derive(Debug)]
pub struct Connections<T = Stream> {
    pub(super) slots: Slab<Connection<T>>,
    /// The beginnings of incomplete messages; few connections have one at any time.
    pub(super) leases: Slab<Lease>,
    /// What waits to be written; only connections for which something waits have one.
    pub(super) queues: Slab<OutQueue>,
    /// What stands between some sockets and their service.
    pub(super) fronts: Fronts,
    /// What each has sent in this second, by slot: empty where nobody is limited.
    pub(super) buckets: Vec<Buckets>,
    pub(super) gatekeeper: Gatekeeper,
    /// Queues that were emptied, with the memory of their lists.
    pub(super) spare_queues: Vec<OutQueue>,
    pub(super) buffers: BufferPool,
    pub(super) blocks: BlockPool,
    pub(super) wheel: Wheel,
    /// To be read in this turn or the next.
    pub(super) ready: Vec<ConnId>,
    /// To be read on after a budget has cut their last read short: behind all others, who together use up one budget a turn.
    pub(super) heavy: VecDeque<ConnId>,
    /// To go on with their handshake, some in each turn.
    pub(super) entering: VecDeque<ConnId>,
    pub(super) newcomers: Newcomers,
    /// To be read to their end, some in each turn.
    pub(super) ending: VecDeque<ConnId>,
    /// To be written at the end of the turn, once each.
    pub(super) dirty: Vec<ConnId>,
    /// To be freed at the end of the turn.
    pub(super) condemned: Vec<(ConnId, CloseReason)>,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    /// Bytes of memory in the queues and leases of all who are not condemned, shared messages left out.
    pub(super) buffered_total_bytes: usize,
    /// Nobody has more bytes waiting, in a queue or a lease: exact after a scan, and too large since.
    pub(super) heaviest_bytes: usize,
    /// Bytes of the shared messages that somebody waits for.
    pub(super) meter: Meter,
    /// Messages and kilobytes sent since the connection that is being read had its turn.
    pub(super) turn_work: usize,
    /// The service has been told of an end after its turn's end: it may have something to say.
    pub(super) told_late: bool,
    pub(super) lingering: usize,
    pub(super) listening: bool,
    /// The time of this turn, and the same in the grain of deadlines.
    pub(super) now: Time,
    pub(super) tick: Tick,
    generation: u64,
    pub(super) message_bytes: MessageBytes,
}

/// Emptied queues that are kept for the next use.
const SPARE_QUEUES_MAX: usize = 1024;

impl<T: Transport> Connections<T> {
    pub(super) fn new(limits: &Limits, message_bytes: MessageBytes) -> Self {
        Self {
            slots: Slab::new(),
            leases: Slab::new(),
            queues: Slab::new(),
            fronts: Fronts::default(),
            buckets: Vec::new(),
            gatekeeper: Gatekeeper::new(),
            spare_queues: Vec::new(),
            buffers: BufferPool::default(),
            blocks: BlockPool::default(),
            wheel: Wheel::new(),
            ready: Vec::new(),
            heavy: VecDeque::new(),
            entering: VecDeque::new(),
            newcomers: Newcomers::default(),
            ending: VecDeque::new(),
            dirty: Vec::new(),
            condemned: Vec::new(),
            limits: *limits,
            counters: Counters::default(),
            buffered_total_bytes: 0,
            heaviest_bytes: 0,
            meter: Meter::default(),
            turn_work: 0,
            told_late: false,
            lingering: 0,
            listening: true,
            now: Time::ZERO,
            tick: Tick::at(Time::ZERO),
            generation: 0,
            message_bytes,
        }
    }

    /// Keeps the beginning of a message; `held` if the service has not been asked about it.
    pub(super) fn hold(&mut self, conn: ConnId, bytes: &[u8], wanted: usize, held: bool) {
        let key = self.leases.insert(Lease::new(conn, bytes, wanted, self.tick, &mut self.buffers));
        let connection = &mut self.slots[conn.index()];
        connection.set_lease(Some(key));
        connection.set(flag::HELD, held);
        if !held && !planted::has(Bug::HalfFrameUntimed) {
            self.watch_lease(conn);
        }
        self.account_lease(key);
    }

    /// Has the budget know how large a lease has become.
    pub(super) fn account_lease(&mut self, key: usize) {
        let lease = &mut self.leases[key];
        let grown = lease.buffer.len() - lease.accounted_bytes;
        if grown > 0 {
            lease.accounted_bytes = lease.buffer.len();
            self.buffered_total_bytes += grown;
            self.heaviest_bytes = self.heaviest_bytes.max(lease.accounted_bytes);
            self.relieve(0, 0);
        }
    }

    /// Has the write deadline watched of a queue that could not be emptied.
    pub(super) fn watch_queue(&mut self, conn: ConnId) {
        let connection = &self.slots[conn.index()];
        if let Some(oldest) = connection.queue().and_then(|key| self.queues[key].oldest()) {
            let due = oldest.time() + self.limits.write_deadline;
            self.check_by(conn, Tick::not_before(due));
        }
    }

    /// Has a connection looked at by `tick`.
    pub(super) fn check_by(&mut self, conn: ConnId, tick: Tick) {
        let connection = &mut self.slots[conn.index()];
        if tick < connection.check_at {
            connection.check_at = tick;
            self.wheel.insert(tick, conn);
        }
    }

    /// Closes a connection: reads no more, writes what waits, says that nothing follows, discards what still arrives.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn)
            && connection.phase == Phase::Open
        {
            connection.phase = Phase::Flushing;
            // It cannot be crowded out any more: if it counted on, those who come after it would have to go for it.
            self.settle(conn);
            if planted::has(Bug::EndBeforeData) {
                self.announce_end(conn);
            }
            self.release_lease(conn);
            self.mark_dirty(conn);
        }
    }

    /// Ends a connection at the end of this turn, whatever waits in its queue.
    pub fn abort(&mut self, conn: ConnId, reason: CloseReason) {
        if self.get_mut(conn).is_some() {
            self.condemn(conn, reason);
        }
    }

    pub(super) fn condemn(&mut self, conn: ConnId, reason: CloseReason) {
        let connection = &mut self.slots[conn.index()];
        if connection.phase == Phase::Condemned {
            return;
        }
        match connection.phase {
            Phase::Lingering => self.lingering -= 1,
            // The service will not be told of it.
            Phase::Entering => self.count_end(conn, reason),
            _ => {}
        }
        let connection = &mut self.slots[conn.index()];
        let unreachable = reason == CloseReason::Reset && connection.has(flag::CONNECTING);
        let reason = if unreachable { CloseReason::Unreachable } else { reason };
        connection.phase = Phase::Condemned;
        if let Some(key) = connection.queue() {
            self.buffered_total_bytes -= self.queues[key].held_bytes();
            self.queues[key].forsake();
        }
        if let Some(key) = connection.lease() {
            self.buffered_total_bytes -= self.leases[key].accounted_bytes;
        }
        if connection.has(flag::FRONTED)
            && let Some(front) = self.fronts.get(conn)
        {
            self.buffered_total_bytes -= front.accounted_bytes;
        }
        self.condemned.push((conn, reason));
    }

    /// Counts the end of a connection, which the service is about to be told of.
    pub(super) fn count_end(&mut self, conn: ConnId, reason: CloseReason) {
        let connection = &mut self.slots[conn.index()];
        connection.set(flag::TOLD, true);
        self.counters.closed[reason as usize] += 1;
        self.counters.silent += u64::from(!connection.has(flag::HEARD));
        self.settle(conn);
        let connection = &mut self.slots[conn.index()];
        if std::mem::replace(&mut connection.is_counted, false) && !planted::has(Bug::PlaceNotGivenBack) {
            self.gatekeeper.left(connection.peer, &self.limits);
        }
    }

    /// Has [`super::Service::on_deadline`] called at `at`, or not at all; replaces what was set before.
    pub fn set_deadline(&mut self, conn: ConnId, at: Option<Time>) {
        let Some(connection) = self.get_mut(conn).filter(|c| matches!(c.phase, Phase::Open | Phase::Flushing)) else {
            return;
        };
        connection.deadline = at.map_or(Tick::NEVER, Tick::not_before);
        let tick = connection.deadline;
        self.check_by(conn, tick);
    }

    /// Has [`super::Service::on_written`] called after each write to `conn`, or no more.
    pub fn set_notify(&mut self, conn: ConnId, on: bool) {
        if let Some(connection) = self.get_mut(conn) {
            connection.set(flag::NOTIFY, on);
        }
    }

    /// Shows the service no more bytes of `conn` until [`Connections::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.set(flag::PAUSED, true);
        }
    }

    /// Goes on where [`Connections::pause`] stopped, with what has arrived meanwhile.
    pub fn resume(&mut self, conn: ConnId) {
        let Some(connection) = live(&mut self.slots, conn).filter(|c| c.has(flag::PAUSED)) else { return };
        connection.set(flag::PAUSED, false);
        self.read_on(conn);
    }

    /// Has a connection read from again that was not for a while, unless there is another reason not to.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        let tick = self.tick;
        let connection = &mut self.slots[conn.index()];
        if connection.has(flag::STOPPED) {
            return;
        }
        if let Some(key) = connection.lease() {
            self.leases[key].since = tick;
            self.watch_lease(conn);
        }
        // Nor could a record be ended that was not read.
        if let Some(session) = self.session_mut(conn)
            && session.since != Tick::NEVER
        {
            session.since = tick;
            self.watch_session(conn);
        }
        let has_more = self.slots[conn.index()].has(flag::READABLE | flag::HELD | flag::READ_TO_END);
        if has_more && !planted::has(Bug::ResumeForgotten) {
            self.mark_ready(conn);
        }
    }

    /// Notes that the connection that is being read has caused as much work as so many more messages would.
    pub const fn charge(&mut self, messages: usize) {
        self.turn_work += messages;
    }

    /// Whether a service should go on with the bytes that it has been shown, or has had its turn's work of them.
    #[must_use]
    pub fn is_reading(&self, conn: ConnId) -> bool {
        self.turn_work < self.limits.turn_work_max && self.may_read(conn)
    }

    pub(super) fn may_read(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.phase == Phase::Open && !c.has(flag::STOPPED))
    }

    /// Whether a message of this connection has begun and not ended, or none can come, because it has sent more than it may
    /// and is not read from: silence is no sign of anything then.
    #[must_use]
    pub fn is_receiving(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.lease().is_some() || c.has(flag::THROTTLED))
            || self.session(conn).is_some_and(Session::is_waiting)
    }

    /// Whether this connection is still here, and has not been condemned.
    pub(super) fn is_there(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.phase != Phase::Condemned)
    }

    /// Whether something can be sent to this connection.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.phase == Phase::Open)
    }

    /// Bytes that wait for this connection.
    #[must_use]
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.get(conn).and_then(Connection::queue).map_or(0, |key| self.queues[key].len())
    }

    /// Whether bytes wait for this connection that its socket has not taken.
    #[must_use]
    pub fn is_blocked(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.has(flag::BLOCKED) && c.queue().is_some())
    }

    /// Bytes handed to this connection's socket since it was opened.
    #[must_use]
    pub fn written_bytes(&self, conn: ConnId) -> u64 {
        self.get(conn).map_or(0, |c| c.written)
    }

    /// What a connection reads from and writes to, for options that a service sets by itself.
    #[must_use]
    pub fn transport(&self, conn: ConnId) -> Option<&T> {
        self.get(conn).map(|c| &c.transport)
    }

    /// Where a connection comes from.
    #[must_use]
    pub fn peer(&self, conn: ConnId) -> Option<PeerAddr> {
        self.get(conn).map(|c| c.peer)
    }

    /// Connections that have not been freed, those on their way out included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes that wait in all queues and buffers for incomplete messages; of those who are condemned none.
    #[must_use]
    pub fn buffered_total_bytes(&self) -> usize {
        self.buffered_total_bytes + self.meter.bytes()
    }

    /// What a password exchange over this connection is bound to (RFC 9266); `None` without TLS.
    #[must_use]
    pub fn channel_binding(&self, conn: ConnId) -> Option<[u8; 32]> {
        self.session(conn)?.binding()
    }

    /// The certificate that the peer has proved to have, in DER; `None` if it has shown none.
    #[must_use]
    pub fn peer_certificate(&self, conn: ConnId) -> Option<&[u8]> {
        self.session(conn)?.peer_certificate()
    }

    /// What this side and the peer have agreed on; `None` without TLS, and until its handshake is over.
    #[must_use]
    pub fn tls_terms(&self, conn: ConnId) -> Option<TlsTerms> {
        self.session(conn)?.terms()
    }

    /// Has TLS begin on a connection that was plain so far, for protocols that agree on that first. What was sent must have
    /// been written, and what has come must have been consumed by the call in which this is said.
    ///
    /// # Errors
    /// Those of a configuration with which TLS cannot begin.
    pub fn start_tls(&mut self, conn: ConnId, role: TlsRole) -> Result<(), rustls::Error> {
        let session = Session::new(role)?;
        if self.get(conn).is_some_and(|connection| connection.phase == Phase::Open && !connection.has(flag::FRONTED)) {
            self.put_session(conn, session);
        }
        Ok(())
    }

    /// Whether nobody on the way can read what passes over this connection.
    #[must_use]
    pub fn is_encrypted(&self, conn: ConnId) -> bool {
        self.session(conn).is_some()
    }

    /// Who is let in, by address: holds for those who come from now on.
    pub fn set_gate(&mut self, gate: Gate) {
        self.gatekeeper.gate = gate;
    }

    /// Whether proxies may say for whom they speak: then a peer's address is what one of them said.
    #[must_use]
    pub const fn takes_proxies(&self) -> bool {
        self.gatekeeper.gate.has_proxies()
    }

    /// Whether limits by address do not hold for this peer.
    #[must_use]
    pub fn is_exempt(&self, peer: PeerAddr) -> bool {
        self.gatekeeper.gate.is_exempt(peer)
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The limits that hold.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Closes all listeners; connections stay, but those that the service does not know yet, which would only keep it
    /// waiting.
    pub fn stop_listening(&mut self) {
        self.listening = false;
        let is_entering = |(_, c): &(usize, &Connection<T>)| c.phase == Phase::Entering;
        let entering: Vec<ConnId> =
            self.slots.iter().filter(is_entering).map(|(index, c)| ConnId::new(index, c.generation)).collect();
        for conn in entering {
            self.condemn(conn, CloseReason::Abandoned);
        }
    }

    /// Takes a new connection into a slot.
    pub(super) fn insert(&mut self, transport: T, peer: PeerAddr) -> Option<ConnId> {
        let index = self.slots.vacant_key();
        if index > ConnId::INDEX_MAX {
            return None;
        }
        self.generation = self.generation % ConnId::GENERATION_MAX + 1;
        self.slots.insert(Connection::new(transport, peer, self.generation));
        let conn = ConnId::new(index, self.generation);
        self.reset_buckets(conn);
        Some(conn)
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection<T>> {
        let is_same = |c: &&Connection<T>| c.generation == conn.generation() || planted::has(Bug::StaleGeneration);
        self.slots.get(conn.index()).filter(is_same)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection<T>> {
        live(&mut self.slots, conn)
    }

    pub(super) fn mark_ready(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::READY) {
            connection.set(flag::READY, true);
            let has_front = connection.has(flag::FRONTED);
            // A handshake that this side began costs as much as one that it is asked for.
            if connection.phase == Phase::Entering
                || has_front && self.session(conn).is_some_and(|session| !session.is_established())
            {
                self.entering.push_back(conn);
            } else {
                self.ready.push(conn);
            }
        }
    }

    /// Has a connection read on when those have been served that ask for less.
    pub(super) fn mark_heavy(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::READY) {
            connection.set(flag::READY, true);
            self.heavy.push_back(conn);
        }
    }

    /// Has a connection that has ended read when it is its turn.
    pub(super) fn mark_ending(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::READY) {
            connection.set(flag::READY, true);
            self.ending.push_back(conn);
        }
    }

    /// Whether connections have ended that have not been dealt with.
    pub(super) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    pub(super) fn mark_dirty(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::DIRTY) {
            connection.set(flag::DIRTY, true);
            self.dirty.push(conn);
        }
    }

    pub(super) fn release_lease(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if let Some(key) = connection.lease() {
            connection.set_lease(None);
            connection.set(flag::HELD, false);
            let lease = self.leases.remove(key);
            if connection.phase != Phase::Condemned && !planted::has(Bug::BudgetLeak) {
                self.buffered_total_bytes -= lease.accounted_bytes;
            }
            lease.release(&mut self.buffers);
        }
    }

    /// Has the deadline watched of a message that is incomplete.
    pub(super) fn watch_lease(&mut self, conn: ConnId) {
        if let Some(key) = self.slots[conn.index()].lease() {
            let due = self.leases[key].since.time() + self.limits.input_deadline;
            self.check_by(conn, Tick::not_before(due));
        }
    }

    /// Has the deadline watched of a record, or of a message of the handshake, that is incomplete.
    pub(super) fn watch_session(&mut self, conn: ConnId) {
        if let Some(since) = self.session(conn).map(|session| session.since)
            && since != Tick::NEVER
            && !planted::has(Bug::RecordUntimed)
        {
            let due = since.time() + self.limits.input_deadline;
            self.check_by(conn, Tick::not_before(due));
        }
    }

    /// Notes that `count` bytes were taken; gives an empty queue back.
    pub(super) fn advance_queue(&mut self, conn: ConnId, key: usize, count: usize) {
        let queue = &mut self.queues[key];
        let before = queue.held_bytes();
        queue.advance(count, &mut self.blocks, self.message_bytes);
        let empty = queue.is_empty();
        self.buffered_total_bytes -= before - queue.held_bytes();
        self.counters.writes += 1;
        self.counters.written_bytes += count as u64;
        self.slots[conn.index()].written += count as u64;
        if empty {
            self.release_queue(conn);
        }
        if self.slots[conn.index()].has(flag::FRONTED) {
            self.account_front(conn);
        }
    }

    pub(super) fn release_queue(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if let Some(key) = connection.queue() {
            connection.set_queue(None);
            let mut queue = self.queues.remove(key);
            let came_alone = queue.take_sends() <= 1 && connection.wrote_in != self.counters.turns as u8;
            connection.set(flag::GATHERS, !came_alone);
            queue.clear(&mut self.blocks);
            if self.spare_queues.len() < SPARE_QUEUES_MAX {
                self.spare_queues.push(queue);
            }
        }
    }
}

/// The connection in this slot if it is still the same one.
pub(super) fn live<T>(slots: &mut Slab<Connection<T>>, conn: ConnId) -> Option<&mut Connection<T>> {
    let is_same = |c: &&mut Connection<T>| c.generation == conn.generation() || planted::has(Bug::StaleGeneration);
    slots.get_mut(conn.index()).filter(is_same)
}
