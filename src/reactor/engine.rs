//! The phases of a turn for connections: read, expire, flush, reap.
//!
//! The engine is told which sockets are ready and what time it is; it knows no poll and no clock, so a
//! simulation can drive it over a network of its own. It calls the service, which answers through
//! [`Connections`]; nothing is freed before [`Engine::reap`].

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use rustls::ServerConfig;

use super::connection::{Connection, Phase, flag};
use super::notices::Notices;
use super::{CloseReason, ConnId, Connections, Counters, Limits, Progress, Service, Transport, Unsent};
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

/// What the poll says of a connection.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "it mirrors the poll's independent bits")]
pub struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer will send no more, or the connection has failed: reading has to go on to the end.
    pub ends: bool,
    /// The connection has failed.
    pub failed: bool,
}

/// The connections, and the buffer that they share for reading.
#[derive(Debug)]
pub struct Engine<T: Transport> {
    /// What services see.
    pub connections: Connections<T>,
    pub(super) scratch: Vec<u8>,
    /// Ciphertext that has been read, and is opened where it lies; made when the first connection needs it.
    pub(super) cipher: Vec<u8>,
    /// How TLS is spoken on each listener, by number, where it is.
    pub(super) tls: Vec<Option<Arc<ServerConfig>>>,
    /// Swapped with the lists of [`Connections`], so that neither loses its memory.
    ready: Vec<ConnId>,
    dirty: Vec<ConnId>,
    /// Deadlines that have come, each with its slot of the wheel, of which this turn takes its share.
    pub(super) due: VecDeque<(u32, ConnId)>,
    unsent: Vec<u8>,
    /// How many of those who come, and of those who go, this turn deals with: within the limits.
    pub(super) storm_share: usize,
    pub(super) notices: Notices,
}

/// What is left over from one connection's turn.
#[derive(PartialEq, Eq)]
pub(super) enum Reading {
    /// The socket is drained, or the connection takes no more.
    Over,
    /// There may be more.
    Goes,
}

impl<T: Transport> Engine<T> {
    /// An engine without connections, for services of type `S`.
    #[must_use]
    pub fn new<S: Service<T>>(limits: Limits) -> Self {
        Self {
            connections: Connections::new(&limits, S::message_bytes),
            scratch: vec![0; limits.read_scratch_bytes],
            cipher: Vec::new(),
            tls: Vec::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            due: VecDeque::new(),
            unsent: Vec::new(),
            storm_share: usize::MAX,
            notices: Notices::default(),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        self.connections.counters()
    }

    /// Whether something can be done without waiting for the poll.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let connections = &self.connections;
        let lists = [
            connections.ready.len(),
            connections.heavy.len(),
            connections.entering.len(),
            connections.ending.len(),
            connections.dirty.len(),
            connections.condemned.len(),
            self.due.len(),
        ];
        connections.told_late || lists.iter().any(|length| *length > 0)
    }

    /// How long nothing has to be done if the poll says nothing; `None`: for ever.
    #[must_use]
    pub fn wait(&self, now: Time) -> Option<std::time::Duration> {
        if self.has_work() { Some(std::time::Duration::ZERO) } else { self.connections.wheel.wait(now) }
    }

    /// Begins a turn: from here on it is `now`.
    pub fn begin_turn(&mut self, now: Time) {
        self.connections.now = now;
        self.connections.tick = Tick::at(now);
        self.connections.told_late = false;
        self.connections.counters.turns += 1;
        self.connections.note_turn();
    }

    /// The phases of a turn between the poll and accepting: read, enter, expire, end of turn, flush, reap.
    pub fn turn<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        self.read(service, now);
        self.enter_some(service, now);
        self.finish_turn(service, now);
    }

    /// The phases behind reading and entering.
    pub fn finish_turn<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        self.expire(service, now);
        service.on_turn_end(&mut self.connections, now);
        self.flush(service, now);
        self.reap(service, now);
        // What many wait for together comes free with the last of them: more may have to go than had to by then.
        if self.connections.buffered_total_bytes() > self.connections.most_bytes() {
            self.connections.relieve(0, 0);
        }
    }

    /// Notes what the poll says. A connection that has gone meanwhile is not confused with its successor.
    pub fn note(&mut self, conn: ConnId, readiness: Readiness) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if readiness.ends {
            connection.set(flag::READ_TO_END, true);
        }
        if readiness.writable && connection.has(flag::BLOCKED) {
            connection.set(flag::BLOCKED, false);
            if !readiness.failed {
                connection.set(flag::CONNECTING, false);
            }
            if !planted::has(Bug::FlushForgotten) {
                self.connections.mark_dirty(conn);
            }
        }
        let connection = &mut self.connections.slots[conn.index()];
        if readiness.failed && connection.phase != Phase::Lingering && connection.has(flag::STOPPED | flag::ENDED) {
            // No read will find it out: none is made in a pause, or after the end.
            self.connections.condemn(conn, CloseReason::Reset);
        } else if readiness.readable || readiness.ends {
            connection.set(flag::READABLE, true);
            // Whoever is only written to is read from when it lingers. Until then each of its events says that it has
            // ended, and while that had to be dealt with nobody would be let in.
            let is_read = match connection.phase {
                Phase::Open => !connection.has(flag::STOPPED),
                Phase::Entering | Phase::Lingering => true,
                Phase::Flushing | Phase::Condemned => false,
            };
            if is_read {
                // Whoever ends before it is in waits its turn among those who come: its handshake may lie in front of that.
                if readiness.ends && connection.phase != Phase::Entering {
                    self.connections.mark_ending(conn);
                } else {
                    self.connections.mark_ready(conn);
                }
            }
        }
    }

    /// Reads from every ready connection, up to its budget, and shows the service what came.
    pub fn read<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        let heavy = self.connections.heavy.len();
        let mut batch = std::mem::replace(&mut self.connections.ready, std::mem::take(&mut self.ready));
        for conn in batch.drain(..) {
            self.read_ready(service, conn, now);
        }
        self.ready = batch;
        self.read_heavy(service, heavy, now);
        for _ in 0..self.storm_budget(self.connections.limits.endings_turn_max) {
            let Some(conn) = self.connections.ending.pop_front() else { break };
            self.read_ready(service, conn, now);
        }
    }

    /// Goes on with the first `count` of those whose budget was used up, one after the other, until they have used up one
    /// more together: what the others wait for does not grow with the number of those who send more than anybody can
    /// take.
    fn read_heavy<S: Service<T>>(&mut self, service: &mut S, count: usize, now: Time) {
        let limits = &self.connections.limits;
        let (work_max, bytes_max) = (limits.turn_work_max, limits.read_turn_bytes_max as u64);
        let before = self.connections.counters.read_bytes;
        let mut work = 0;
        for _ in 0..count {
            let bytes = self.connections.counters.read_bytes - before;
            if work >= work_max || bytes >= bytes_max {
                break;
            }
            let Some(conn) = self.connections.heavy.pop_front() else { break };
            self.connections.turn_work = 0;
            self.read_ready(service, conn, now);
            work += self.connections.turn_work;
        }
    }

    pub(super) fn read_ready<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.set(flag::READY, false);
        match connection.phase {
            Phase::Open if connection.has(flag::STOPPED | flag::ENDED) => {}
            Phase::Open => self.read_connection(service, conn, now),
            Phase::Entering => self.enter(service, conn, now),
            Phase::Lingering => self.discard(conn),
            Phase::Flushing | Phase::Condemned => {}
        }
    }

    fn read_connection<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        self.connections.turn_work = 0;
        if self.connections.slots[conn.index()].has(flag::HELD) {
            self.offer_lease(service, conn, 0, 0, now);
        }
        let mut budget = self.connections.limits.read_turn_bytes_max;
        while budget > 0 && self.connections.is_reading(conn) {
            if !self.connections.slots[conn.index()].has(flag::READABLE)
                || self.read_once(service, conn, &mut budget, now) == Reading::Over
            {
                break;
            }
        }
        let has_more = self.connections.slots[conn.index()].has(flag::READABLE | flag::HELD);
        if self.connections.may_read(conn) && has_more && !planted::has(Bug::ReadyEntryLost) {
            // A budget is used up, and no event will say again what is left.
            self.connections.mark_heavy(conn);
        }
    }

    /// One read: into the lease up to the end of its message, and whatever follows into the scratch.
    fn read_once<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, budget: &mut usize, now: Time) -> Reading {
        let connections = &mut self.connections;
        let connection = &mut connections.slots[conn.index()];
        if connection.has(flag::FRONTED) {
            return self.read_sealed(service, conn, budget, now);
        }
        let mut lease_room = 0;
        let result = if let Some(key) = connection.lease() {
            let lease = &mut connections.leases[key];
            lease.reserve(lease.goal(), &mut connections.buffers);
            connections.account_lease(key);
            let connection = &mut connections.slots[conn.index()];
            if connection.phase != Phase::Open {
                return Reading::Over; // The budget is used up, and this connection held the most.
            }
            let lease = &mut connections.leases[key];
            let (filled, limit) = (lease.filled, lease.limit());
            lease_room = limit - filled;
            let mut buffers = [IoSliceMut::new(&mut lease.buffer[filled..limit]), IoSliceMut::new(&mut self.scratch)];
            connection.transport.read_vectored(&mut buffers)
        } else {
            connection.transport.read_vectored(&mut [IoSliceMut::new(&mut self.scratch)])
        };
        let connection = &mut connections.slots[conn.index()];
        match result {
            Ok(0) => {
                connection.set(flag::ENDED, true);
                connection.set(flag::READABLE, false);
                service.on_end(connections, conn, now);
                Reading::Over
            }
            Ok(count) => {
                connection.set(flag::HEARD, true);
                connections.counters.reads += 1;
                connections.counters.read_bytes += count as u64;
                *budget = budget.saturating_sub(count);
                let drained = count < lease_room + self.scratch.len() && !connection.has(flag::READ_TO_END);
                if drained {
                    connection.set(flag::READABLE, false);
                }
                if let Some(key) = connection.lease() {
                    let in_lease = count.min(lease_room);
                    connections.leases[key].filled += in_lease;
                    self.offer_lease(service, conn, 0, count - in_lease, now);
                } else {
                    self.offer_scratch(service, conn, 0, count, now);
                }
                if drained { Reading::Over } else { Reading::Goes }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Reading::Goes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.set(flag::READABLE, false);
                Reading::Over
            }
            Err(_) => {
                connections.condemn(conn, CloseReason::Reset);
                Reading::Over
            }
        }
    }

    /// Shows the service bytes of the scratch, and keeps what it leaves in a lease.
    pub(super) fn offer_scratch<S: Service<T>>(
        &mut self,
        service: &mut S,
        conn: ConnId,
        start: usize,
        end: usize,
        now: Time,
    ) {
        let data = &mut self.scratch[start..end];
        let Progress { consumed, wanted } = service.on_data(&mut self.connections, conn, data, now);
        let connections = &mut self.connections;
        if consumed == data.len() || connections.slots[conn.index()].phase != Phase::Open {
            return;
        }
        let rest = &data[consumed..];
        let paused = !connections.is_reading(conn);
        if !paused && wanted.max(rest.len()) > connections.limits.input_bytes_max {
            connections.condemn(conn, CloseReason::InputTooLarge);
            return;
        }
        connections.hold(conn, rest, wanted, paused);
    }

    /// Shows the service what a lease holds, topping it up from the bytes of the scratch between `taken` and `more` as
    /// far as the service wants them, until the lease is empty or nothing is left.
    pub(super) fn offer_lease<S: Service<T>>(
        &mut self,
        service: &mut S,
        conn: ConnId,
        mut taken: usize,
        more: usize,
        now: Time,
    ) {
        loop {
            let connections = &mut self.connections;
            let Some(key) = connections.slots[conn.index()].lease() else { return };
            // The buffer is lent to the service, which may do with the connections what it likes.
            let mut buffer = std::mem::take(&mut connections.leases[key].buffer);
            let filled = connections.leases[key].filled;
            let progress = service.on_data(connections, conn, &mut buffer[..filled], now);
            if connections.slots[conn.index()].lease() != Some(key) {
                return; // Closed meanwhile: the lease is gone.
            }
            let tick = connections.tick;
            let paused = !connections.is_reading(conn);
            let connection = &mut connections.slots[conn.index()];
            let lease = &mut connections.leases[key];
            lease.buffer = buffer;
            lease.consume(progress.consumed, progress.wanted, tick);
            if connection.phase != Phase::Open {
                return;
            }
            if lease.filled == 0 {
                connections.release_lease(conn);
                if taken < more {
                    if paused {
                        self.connections.hold(conn, &self.scratch[taken..more], 0, true);
                    } else {
                        self.offer_scratch(service, conn, taken, more, now);
                    }
                }
                return;
            }
            // What a pause holds back may be many messages: at most one lease and one read's worth.
            if !paused && progress.wanted.max(lease.filled) > connections.limits.input_bytes_max {
                connections.condemn(conn, CloseReason::InputTooLarge);
                return;
            }
            let pulled = lease.pull(&self.scratch[taken..more], paused, &mut connections.buffers);
            taken += pulled;
            let worth_asking = pulled > 0 && lease.filled >= progress.wanted;
            connection.set(flag::HELD, paused);
            connections.account_lease(key);
            if paused || connections.slots[conn.index()].phase != Phase::Open {
                return;
            }
            if !worth_asking {
                connections.watch_lease(conn);
                return;
            }
        }
    }

    /// Reads what a lingering connection still sends, and forgets it.
    fn discard(&mut self, conn: ConnId) {
        let connection = &mut self.connections.slots[conn.index()];
        match connection.transport.discard(&mut self.scratch) {
            Ok(count) if count > 0 => {
                self.connections.counters.reads += 1;
                self.connections.counters.read_bytes += count as u64;
                // One read at a time: whoever sends on and on is not served faster than others.
                self.connections.mark_heavy(conn);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.connections.mark_ready(conn),
            _ => self.connections.condemn(conn, CloseReason::Finished),
        }
    }

    /// Writes each connection for which something waits, once.
    pub fn flush<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        let mut batch = std::mem::replace(&mut self.connections.dirty, std::mem::take(&mut self.dirty));
        for conn in batch.drain(..) {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            connection.set(flag::DIRTY, false);
            if matches!(connection.phase, Phase::Entering | Phase::Open | Phase::Flushing) {
                self.flush_connection(service, conn, now);
            }
        }
        self.dirty = batch;
    }

    fn flush_connection<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        let connections = &mut self.connections;
        if connections.slots[conn.index()].has(flag::FRONTED) && !connections.flush_front(conn) {
            return;
        }
        let mut budget = connections.limits.write_turn_bytes_max;
        loop {
            let connection = &mut connections.slots[conn.index()];
            let Some(key) = connection.queue().filter(|_| !connection.has(flag::BLOCKED)) else { break };
            if budget == 0 {
                connections.mark_dirty(conn);
                break;
            }
            match connections.transmit_queue(conn, key) {
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    connections.advance_queue(conn, key, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connections.slots[conn.index()].set(flag::BLOCKED, true);
                    connections.watch_queue(conn);
                }
                Err(_) => {
                    connections.condemn(conn, CloseReason::Reset);
                    return;
                }
            }
        }
        let connection = &connections.slots[conn.index()];
        if connection.has(flag::NOTIFY) {
            let written = connection.written;
            service.on_written(connections, conn, written, now);
        }
        // The service may just have sent a last word and closed.
        let connection = &self.connections.slots[conn.index()];
        if connection.queue().is_none() && connection.phase == Phase::Flushing {
            self.finish(service, conn, now);
        }
    }

    /// Everything is written: tells the service, tells the peer, and waits for the peer to close too.
    fn finish<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        self.connections.count_end(conn, CloseReason::Finished);
        let unsent = Unsent { written: self.connections.slots[conn.index()].written, ..Unsent::default() };
        service.on_close(&mut self.connections, conn, CloseReason::Finished, unsent, now);
        self.connections.told_late = true;
        if self.connections.slots[conn.index()].phase == Phase::Flushing {
            self.linger(conn, now);
        }
    }

    /// Frees what was condemned, telling the service of each connection that it had been told of.
    pub fn reap<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        while let Some((conn, reason)) = self.connections.condemned.pop() {
            let connection: &mut Connection<T> = &mut self.connections.slots[conn.index()];
            let told = connection.has(flag::TOLD);
            let written = connection.written;
            let (mut cut, mut cut_bytes) = ([0; 32], 0);
            if !told {
                self.connections.count_end(conn, reason);
                self.unsent.clear();
                if let Some(key) = self.connections.slots[conn.index()].queue() {
                    let queue = &self.connections.queues[key];
                    queue.copy_unsent(&mut self.unsent);
                    if !queue.cut().is_empty() {
                        // What follows a short message in the queue is no part of it.
                        cut_bytes = queue.cut().len().min((self.connections.message_bytes)(queue.cut()));
                        cut[..cut_bytes].copy_from_slice(&queue.cut()[..cut_bytes]);
                    }
                }
            }
            self.connections.release_lease(conn);
            self.connections.release_queue(conn);
            self.connections.release_front(conn);
            // The slot is taken out first: what the service says now cannot reach it.
            drop(self.connections.slots.remove(conn.index()));
            if !told {
                let unsent = Unsent { written, cut: &cut[..cut_bytes], whole: &self.unsent };
                service.on_close(&mut self.connections, conn, reason, unsent, now);
                self.connections.told_late = true;
            }
        }
        if self.unsent.capacity() > self.connections.limits.queue_bytes_max / 4 {
            self.unsent = Vec::new();
        }
    }
}
