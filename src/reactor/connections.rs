//! The connections, and what a service may do with them: send, close, pause, set a deadline.
//!
//! Nothing here reads or writes for its own sake or frees a connection: that is [`super::engine`], in the
//! phases of a turn. The one exception is writing a long message straight through to an idle recipient.

use std::io::{self, IoSlice};

use slab::Slab;

use super::input::{BufferPool, Lease};
use super::queue::{BlockPool, MessageBytes, OutQueue};
use super::wheel::Wheel;
use super::{Counters, Limits, PeerAddr, Stream, Transport};
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::time::{Tick, Time};

/// A connection: a slot and the generation of its user. Never reused within the life of a reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ConnId(u64);

impl ConnId {
    const INDEX_BITS: u32 = 24;
    /// The largest slot number: 16.7 million.
    pub const INDEX_MAX: usize = (1 << Self::INDEX_BITS) - 1;
    /// The largest generation: 38 bits.
    pub const GENERATION_MAX: u64 = (1 << 38) - 1;

    /// The connection in slot `index` with this generation, which is at least 1.
    #[must_use]
    pub const fn new(index: usize, generation: u64) -> Self {
        debug_assert!(index <= Self::INDEX_MAX && generation <= Self::GENERATION_MAX);
        Self((generation << Self::INDEX_BITS) | index as u64)
    }

    /// The slot.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 & Self::INDEX_MAX as u64) as usize
    }

    /// The generation.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> Self::INDEX_BITS
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::fmt::Debug for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Why a connection has ended. Closed: what is not here cannot happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The service closed it, and everything queued was written.
    Finished,
    /// The service ended it at once.
    Aborted,
    /// The peer reset it, or the network lost it.
    Reset,
    /// A message stayed incomplete for too long.
    InputOverdue,
    /// A message is larger than may be held.
    InputTooLarge,
    /// The oldest unsent byte was not taken in time.
    WriteOverdue,
    /// The memory for all queues was used up, and this was the largest.
    MemoryPressure,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::Finished,
        Self::Aborted,
        Self::Reset,
        Self::InputOverdue,
        Self::InputTooLarge,
        Self::WriteOverdue,
        Self::MemoryPressure,
    ];
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many connections as there may be.
    Connections,
    /// The system has no file descriptor left.
    Descriptors,
}

/// Where a connection stands between its beginning and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Bytes flow in both directions.
    Open,
    /// No more is read; what is queued is being written.
    Flushing,
    /// Everything is written; what arrives is discarded until the peer has closed too.
    Lingering,
    /// It is freed at the end of the turn.
    Condemned,
}

/// Conditions of a connection, one bit each.
pub(super) mod flag {
    /// The socket may hold bytes that have not been read.
    pub(in crate::reactor) const READABLE: u16 = 1 << 0;
    /// It is on the ready list.
    pub(in crate::reactor) const READY: u16 = 1 << 1;
    /// A short read proves nothing: the end of the stream or an error has been announced.
    pub(in crate::reactor) const READ_TO_END: u16 = 1 << 2;
    /// The end of the stream has been read.
    pub(in crate::reactor) const ENDED: u16 = 1 << 3;
    /// The service wants to be shown no bytes for now.
    pub(in crate::reactor) const PAUSED: u16 = 1 << 4;
    /// The lease holds bytes that the service has not been asked about since it was paused.
    pub(in crate::reactor) const HELD: u16 = 1 << 5;
    /// The socket took less than it was offered; a writable event will come.
    pub(in crate::reactor) const BLOCKED: u16 = 1 << 6;
    /// It is on the dirty list.
    pub(in crate::reactor) const DIRTY: u16 = 1 << 7;
    /// The service wants to know what has been written.
    pub(in crate::reactor) const NOTIFY: u16 = 1 << 8;
    /// The service has been told of the end.
    pub(in crate::reactor) const TOLD: u16 = 1 << 9;
}

const NONE: u32 = u32::MAX;

/// A connection at rest is this and nothing else: no buffer, no queue, no timer object.
#[derive(Debug)]
pub(super) struct Connection<T> {
    pub(super) transport: T,
    generation: u64,
    /// Bytes handed to the transport since it was opened.
    pub(super) written: u64,
    pub(super) peer: PeerAddr,
    lease: u32,
    queue: u32,
    /// When the service wants to be called; while lingering, when to give up.
    pub(super) deadline: Tick,
    /// The earliest entry in the wheel: a later one is stale.
    pub(super) check_at: Tick,
    pub(super) flags: u16,
    pub(super) phase: Phase,
}

// One cache line. At a million connections every byte here is a megabyte. (mio's sockets carry a check of
// their own in debug builds.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection<Stream>>>() <= 64);

impl<T> Connection<T> {
    pub(super) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    pub(super) fn lease(&self) -> Option<usize> {
        (self.lease != NONE).then_some(self.lease as usize)
    }

    pub(super) fn set_lease(&mut self, lease: Option<usize>) {
        self.lease = lease.map_or(NONE, |key| key as u32);
    }

    pub(super) fn queue(&self) -> Option<usize> {
        (self.queue != NONE).then_some(self.queue as usize)
    }
}

/// All connections of a reactor, as a service sees them.
#[derive(Debug)]
pub struct Connections<T = Stream> {
    pub(super) slots: Slab<Connection<T>>,
    /// The beginnings of incomplete messages; few connections have one at any time.
    pub(super) leases: Slab<Lease>,
    /// What waits to be written; only connections for which something waits have one.
    pub(super) queues: Slab<OutQueue>,
    /// Queues that were emptied, with the memory of their lists.
    spare_queues: Vec<OutQueue>,
    pub(super) buffers: BufferPool,
    pub(super) blocks: BlockPool,
    pub(super) wheel: Wheel,
    /// To be read in this turn or the next: budgets cut a read short, and no event would come again.
    pub(super) ready: Vec<ConnId>,
    /// To be written at the end of the turn, once each.
    pub(super) dirty: Vec<ConnId>,
    /// To be freed at the end of the turn.
    pub(super) condemned: Vec<(ConnId, CloseReason)>,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    /// Bytes in all queues of connections that are not condemned.
    pub(super) queued_total_bytes: usize,
    pub(super) lingering: usize,
    pub(super) listening: bool,
    /// The time of this turn, in the grain of deadlines.
    pub(super) tick: Tick,
    generation: u64,
    pub(super) message_bytes: MessageBytes,
}

/// Emptied queues that are kept for the next use.
const SPARE_QUEUES_MAX: usize = 1024;

impl<T: Transport> Connections<T> {
    pub(super) fn new(limits: Limits, message_bytes: MessageBytes) -> Self {
        Self {
            slots: Slab::new(),
            leases: Slab::new(),
            queues: Slab::new(),
            spare_queues: Vec::new(),
            buffers: BufferPool::default(),
            blocks: BlockPool::default(),
            wheel: Wheel::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            condemned: Vec::new(),
            limits,
            counters: Counters::default(),
            queued_total_bytes: 0,
            lingering: 0,
            listening: true,
            tick: Tick::at(Time::ZERO),
            generation: 0,
            message_bytes,
        }
    }

    /// Queues whole messages for `conn`, or writes them at once if they are long and nothing waits.
    ///
    /// # Errors
    /// [`SendError::Gone`] if the connection has ended; [`SendError::Full`] if its queue has no room for all
    /// of them. Nothing is queued then.
    pub fn send(&mut self, conn: ConnId, outgoing: &mut Outgoing<'_>, lane: Lane) -> Result<(), SendError> {
        let Some(connection) = live(&mut self.slots, conn).filter(|c| c.phase == Phase::Open) else {
            return Err(SendError::Gone);
        };
        let length = outgoing.bytes().len();
        if length == 0 {
            return Ok(());
        }
        let mut start = 0;
        if let Some(key) = connection.queue() {
            let reserve = if lane == Lane::Control { self.limits.queue_reserve_bytes } else { 0 };
            if self.queues[key].len() + length > self.limits.queue_bytes_max + reserve {
                self.counters.refused_sends += 1;
                return Err(SendError::Full);
            }
        } else if length >= self.limits.write_through_bytes_min && !connection.has(flag::BLOCKED) {
            start = self.write_through(conn, outgoing.bytes());
            if start == length {
                return Ok(());
            }
        }
        self.enqueue(conn, outgoing, start)
    }

    /// Writes to a connection for which nothing waits; says how much was taken.
    fn write_through(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let connection = &mut self.slots[conn.index()];
        let mut start = 0;
        while start < bytes.len() {
            match connection.transport.write_vectored(&[IoSlice::new(&bytes[start..])]) {
                Ok(count) => {
                    self.counters.writes += 1;
                    self.counters.written_bytes += count as u64;
                    connection.written += count as u64;
                    start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        connection.set(flag::BLOCKED, true);
                    } else {
                        self.condemn(conn, CloseReason::Reset);
                    }
                    return start;
                }
            }
        }
        if connection.has(flag::NOTIFY) {
            self.mark_dirty(conn);
        }
        start
    }

    fn enqueue(&mut self, conn: ConnId, outgoing: &mut Outgoing<'_>, start: usize) -> Result<(), SendError> {
        let more = outgoing.bytes().len() - start;
        let open = |connections: &Self| connections.slots[conn.index()].phase == Phase::Open;
        if open(self) && self.queued_total_bytes + more > self.limits.queued_total_bytes_max {
            self.relieve(more);
        }
        if !open(self) {
            // The write failed, or this queue was the largest.
            return Err(SendError::Gone);
        }
        let connection = &mut self.slots[conn.index()];
        let was_empty = connection.queue().is_none();
        let key = if let Some(key) = connection.queue() {
            key
        } else {
            let mut queue = self.spare_queues.pop().unwrap_or_else(|| OutQueue::new(conn));
            queue.owner = conn;
            let key = self.queues.insert(queue);
            connection.queue = key as u32;
            key
        };
        self.queues[key].push(outgoing, start, self.tick, &mut self.blocks, self.message_bytes);
        self.queued_total_bytes += more;
        if !connection.has(flag::BLOCKED) {
            self.mark_dirty(conn);
        } else if was_empty {
            // The write just now found it out, and no flush will look before there is room again.
            self.watch_queue(conn);
        }
        Ok(())
    }

    /// Ends the connections with the largest queues until `more` bytes fit the budget.
    ///
    /// A scan is enough: it happens when hundreds of megabytes are queued, and frees the largest part of them.
    fn relieve(&mut self, more: usize) {
        while self.queued_total_bytes + more > self.limits.queued_total_bytes_max {
            let slots = &self.slots;
            let alive = |queue: &&OutQueue| slots[queue.owner.index()].phase != Phase::Condemned;
            let largest = self.queues.iter().map(|(_, queue)| queue).filter(alive).max_by_key(|queue| queue.len());
            let Some(owner) = largest.map(|queue| queue.owner) else { return };
            self.condemn(owner, CloseReason::MemoryPressure);
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

    /// Closes a connection once its queue is written: reads no more, writes what waits, tells the peer that
    /// nothing follows, and discards what still arrives for a while.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn)
            && connection.phase == Phase::Open
        {
            connection.phase = Phase::Flushing;
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
        if connection.phase == Phase::Lingering {
            self.lingering -= 1;
        }
        connection.phase = Phase::Condemned;
        if let Some(key) = connection.queue() {
            self.queued_total_bytes -= self.queues[key].len();
        }
        self.condemned.push((conn, reason));
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

    /// Shows the service no more bytes of `conn`, until [`Connections::resume`].
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.set(flag::PAUSED, true);
        }
    }

    /// Goes on where [`Connections::pause`] stopped, with what has arrived meanwhile.
    pub fn resume(&mut self, conn: ConnId) {
        let tick = self.tick;
        let Some(connection) = live(&mut self.slots, conn).filter(|c| c.has(flag::PAUSED)) else { return };
        connection.set(flag::PAUSED, false);
        if let Some(key) = connection.lease() {
            self.leases[key].since = tick;
            self.watch_lease(conn);
        }
        if self.slots[conn.index()].has(flag::READABLE | flag::HELD | flag::READ_TO_END) {
            self.mark_ready(conn);
        }
    }

    /// Whether bytes of this connection are shown to the service.
    #[must_use]
    pub fn is_reading(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.phase == Phase::Open && !c.has(flag::PAUSED))
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

    /// Bytes handed to this connection's socket since it was opened; those that wait come on top.
    #[must_use]
    pub fn written_bytes(&self, conn: ConnId) -> u64 {
        self.get(conn).map_or(0, |c| c.written)
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

    /// Bytes that wait in all queues.
    #[must_use]
    pub const fn queued_total_bytes(&self) -> usize {
        self.queued_total_bytes
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

    /// Closes all listeners; connections stay.
    pub fn stop_listening(&mut self) {
        self.listening = false;
    }

    /// Takes a new connection into a slot.
    pub(super) fn insert(&mut self, transport: T, peer: PeerAddr) -> Option<ConnId> {
        let index = self.slots.vacant_key();
        if index > ConnId::INDEX_MAX {
            return None;
        }
        self.generation = self.generation % ConnId::GENERATION_MAX + 1;
        self.slots.insert(Connection {
            transport,
            generation: self.generation,
            written: 0,
            peer,
            lease: NONE,
            queue: NONE,
            deadline: Tick::NEVER,
            check_at: Tick::NEVER,
            flags: 0,
            phase: Phase::Open,
        });
        Some(ConnId::new(index, self.generation))
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection<T>> {
        self.slots.get(conn.index()).filter(|c| c.generation == conn.generation())
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection<T>> {
        live(&mut self.slots, conn)
    }

    pub(super) fn mark_ready(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::READY) {
            connection.set(flag::READY, true);
            self.ready.push(conn);
        }
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
            self.leases.remove(key).release(&mut self.buffers);
        }
    }

    /// Has the deadline watched of a message that is incomplete.
    pub(super) fn watch_lease(&mut self, conn: ConnId) {
        if let Some(key) = self.slots[conn.index()].lease() {
            let due = self.leases[key].since.time() + self.limits.input_deadline;
            self.check_by(conn, Tick::not_before(due));
        }
    }

    /// Notes that the transport took `count` bytes of what waits; gives an empty queue back.
    pub(super) fn advance_queue(&mut self, conn: ConnId, key: usize, count: usize) {
        let queue = &mut self.queues[key];
        queue.advance(count, &mut self.blocks, self.message_bytes);
        let empty = queue.is_empty();
        self.counters.writes += 1;
        self.counters.written_bytes += count as u64;
        self.queued_total_bytes -= count;
        self.slots[conn.index()].written += count as u64;
        if empty {
            self.release_queue(conn);
        }
    }

    pub(super) fn release_queue(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if let Some(key) = connection.queue() {
            connection.queue = NONE;
            let mut queue = self.queues.remove(key);
            queue.clear(&mut self.blocks);
            if self.spare_queues.len() < SPARE_QUEUES_MAX {
                self.spare_queues.push(queue);
            }
        }
    }

    /// Compares all state that is kept twice.
    ///
    /// # Panics
    /// If anything disagrees. For tests and simulations: it looks at every connection.
    pub fn check_consistency(&self) {
        let mut queued = 0;
        let (mut lease_count, mut queue_count, mut lingering) = (0, 0, 0);
        for (index, connection) in &self.slots {
            let conn = ConnId::new(index, connection.generation);
            lease_count += usize::from(connection.lease().is_some());
            lingering += usize::from(connection.phase == Phase::Lingering);
            assert_eq!(connection.has(flag::READY), self.ready.contains(&conn), "{conn:?} and the ready list");
            assert_eq!(connection.has(flag::DIRTY), self.dirty.contains(&conn), "{conn:?} and the dirty list");
            let condemned = self.condemned.iter().any(|(other, _)| *other == conn);
            assert_eq!(connection.phase == Phase::Condemned, condemned, "{conn:?} and the list of the condemned");
            if connection.has(flag::HELD) {
                assert!(connection.lease().is_some(), "{conn:?} holds bytes without a lease");
            }
            if let Some(key) = connection.queue() {
                queue_count += 1;
                let queue = &self.queues[key];
                queue.check_consistency();
                assert_eq!(queue.owner, conn, "the owner of a queue");
                assert!(!queue.is_empty(), "{conn:?} keeps an empty queue");
                let most = self.limits.queue_bytes_max + self.limits.queue_reserve_bytes;
                assert!(queue.len() <= most.max(self.limits.input_bytes_max), "{conn:?} has a queue over its limit");
                if connection.phase != Phase::Condemned {
                    queued += queue.len();
                    assert!(connection.has(flag::BLOCKED | flag::DIRTY), "{conn:?} has bytes that nothing will write");
                }
            }
        }
        assert_eq!(queued, self.queued_total_bytes, "bytes in all queues");
        assert!(queued <= self.limits.queued_total_bytes_max.max(self.limits.input_bytes_max), "the memory budget");
        assert_eq!(
            (lease_count, queue_count),
            (self.leases.len(), self.queues.len()),
            "leases and queues without an owner"
        );
        assert_eq!(lingering, self.lingering, "connections that linger");
    }
}

/// The connection in this slot if it is still the same one.
fn live<T>(slots: &mut Slab<Connection<T>>, conn: ConnId) -> Option<&mut Connection<T>> {
    slots.get_mut(conn.index()).filter(|c| c.generation == conn.generation())
}
