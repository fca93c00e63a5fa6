//! What is sent: written at once, or queued, or refused, and who has to go when the memory for all queues is used up.
//!
//! Every limit on what waits is enforced here and nowhere else. Queues are written in [`super::engine`]; only what a copy
//! would not make cheaper goes from here straight to an idle recipient.

use std::io;

use super::connection::{Phase, flag};
use super::connections::live;
use super::queue::OutQueue;
use super::{CloseReason, ConnId, Connections, Transport};
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::planted::{self, Bug};

/// So many bytes of a message count as much work as a message does.
const WORK_BYTES: usize = 4096;

impl<T: Transport> Connections<T> {
    /// Queues whole messages for `conn`, or writes them at once if nothing waits and they are long or most likely the only
    /// ones of the turn. An empty queue takes what it is given: a message above the limit could never be sent else.
    ///
    /// # Errors
    /// [`SendError::Gone`]: it has ended; [`SendError::Full`]: there is no room for all of them. Nothing is queued then.
    pub fn send(&mut self, conn: ConnId, outgoing: &mut Outgoing<'_>, lane: Lane) -> Result<(), SendError> {
        let Some(connection) = live(&mut self.slots, conn).filter(|c| c.phase == Phase::Open) else {
            return Err(SendError::Gone);
        };
        let length = outgoing.bytes().len();
        if length == 0 {
            return Ok(());
        }
        self.turn_work += 1 + length / WORK_BYTES;
        let mut start = 0;
        let is_swapped = planted::has(Bug::OrderSwapped) && length >= self.limits.write_through_bytes_min;
        if let Some(key) = connection.queue().filter(|_| !is_swapped) {
            let may_use_it = lane != Lane::Traffic || planted::has(Bug::ReserveForAll);
            let reserve = if may_use_it { self.limits.queue_reserve_bytes } else { 0 };
            if self.queues[key].len() + length > self.limits.queue_bytes_max + reserve {
                self.counters.refused_sends += 1;
                return Err(SendError::Full);
            }
        } else if !connection.has(flag::BLOCKED)
            && (length >= self.limits.write_through_bytes_min
                || connection.is_written_at_once(self.counters.turns as u8))
        {
            start = self.write_through(conn, outgoing.bytes());
            if start == length {
                return Ok(());
            }
        }
        self.enqueue(conn, outgoing, lane, start)
    }

    /// Writes to a connection for which nothing waits; says how much was taken.
    fn write_through(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let mut start = 0;
        while start < bytes.len() {
            match self.transmit(conn, &bytes[start..]) {
                Ok(count) => {
                    self.counters.writes += 1;
                    self.counters.written_bytes += count as u64;
                    self.slots[conn.index()].written += count as u64;
                    start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.slots[conn.index()].set(flag::BLOCKED, true);
                    break;
                }
                Err(_) => {
                    self.condemn(conn, CloseReason::Reset);
                    return start;
                }
            }
        }
        if start > 0 && self.slots[conn.index()].has(flag::NOTIFY) {
            self.mark_dirty(conn);
        }
        start
    }

    fn enqueue(
        &mut self,
        conn: ConnId,
        outgoing: &mut Outgoing<'_>,
        lane: Lane,
        start: usize,
    ) -> Result<(), SendError> {
        let open = |connections: &Self| connections.slots[conn.index()].phase == Phase::Open;
        // Nobody is ended for what others want to tell it unless it has let much of it wait. But what was begun cannot be
        // refused any more: somebody has to go then.
        // Sealed bytes without a queue are this message's: it was just offered to the socket. Those of a queue are others'.
        let connection = &self.slots[conn.index()];
        let is_fronted = connection.has(flag::FRONTED);
        let is_begun = start > 0 || is_fronted && connection.queue().is_none() && self.has_sealed(conn);
        let least = if is_begun { 0 } else { self.limits.queue_bytes_max / 4 };
        let sealing = if is_fronted { self.sealing_cost(conn, outgoing.bytes().len() - start) } else { 0 };
        let fits = !open(self) || self.relieve(outgoing.cost(start) + sealing, least);
        if !open(self) {
            // The write failed, or this queue was the largest.
            return self.hand_back(conn, outgoing, start);
        }
        if !fits && !is_begun {
            let connection = &self.slots[conn.index()];
            if connection.queue().is_none() && !connection.has(flag::BLOCKED) {
                // What goes straight to the socket needs no memory: who keeps up is not refused for those who do not.
                let start = self.write_through(conn, outgoing.bytes());
                if start == outgoing.bytes().len() {
                    return Ok(());
                } else if start > 0 || self.has_sealed(conn) || !open(self) {
                    return self.enqueue(conn, outgoing, lane, start);
                }
            }
            if lane != Lane::Answer {
                self.counters.refused_sends += 1;
                return Err(SendError::Full);
            }
            // Nobody else would learn that it is missing.
            self.relieve(outgoing.cost(0) + sealing, 0);
            if !open(self) {
                return Err(SendError::Gone);
            }
        }
        let found = self.slots[conn.index()].queue();
        let was_empty = found.is_none();
        let key = found.unwrap_or_else(|| self.lease_queue(conn));
        let queue = &mut self.queues[key];
        let before = queue.held_bytes();
        queue.push(outgoing, start, self.tick, &mut self.blocks, &self.meter, self.message_bytes);
        self.buffered_total_bytes += queue.held_bytes() - before;
        self.heaviest_bytes = self.heaviest_bytes.max(queue.weight_bytes());
        if is_fronted {
            self.account_front(conn);
        }
        let connection = &self.slots[conn.index()];
        if !connection.has(flag::BLOCKED) {
            self.mark_dirty(conn);
        } else if was_empty {
            // The write just now found it out, and no flush will look before there is room again.
            self.watch_queue(conn);
        }
        Ok(())
    }

    /// Messages for a connection that has been condemned: refused, unless the socket had taken a part of them. What it took
    /// whole is written then, and the rest is handed back with the connection.
    fn hand_back(&mut self, conn: ConnId, outgoing: &mut Outgoing<'_>, start: usize) -> Result<(), SendError> {
        if start == 0 {
            return Err(SendError::Gone);
        }
        let key = self.lease_queue(conn);
        let queue = &mut self.queues[key];
        queue.push(outgoing, start, self.tick, &mut self.blocks, &self.meter, self.message_bytes);
        queue.forsake();
        Ok(())
    }

    fn lease_queue(&mut self, conn: ConnId) -> usize {
        let mut queue = self.spare_queues.pop().unwrap_or_else(|| OutQueue::new(conn));
        queue.owner = conn;
        let key = self.queues.insert(queue);
        self.slots[conn.index()].set_queue(Some(key));
        key
    }

    /// The memory budget, and one message that was begun and cannot be refused any more, in whole blocks.
    pub(super) const fn most_bytes(&self) -> usize {
        self.limits.buffered_total_bytes_max + self.limits.input_bytes_max + 4096
    }

    /// Ends the connections for which the most waits, but none for which it is less than `least`, until `more` bytes fit
    /// the budget; says whether they do.
    ///
    /// A scan is enough: it happens when hundreds of megabytes are held. It frees a 64th more than it must: not each message
    /// should cost a scan, nor many go that hold next to nothing. And it does not happen at all while nobody can have become
    /// large enough to go. What many wait for together counts for each of them, though its memory comes back with the last:
    /// whoever asks next goes on from there. All memory of those who were ended counts as free though it is freed at the end
    /// of the turn, or in one turn everybody would go for what is on its way back.
    pub(super) fn relieve(&mut self, more: usize, least: usize) -> bool {
        let most = self.limits.buffered_total_bytes_max;
        if self.buffered_total_bytes() + more <= most {
            return true;
        }
        if self.heaviest_bytes < least {
            return false;
        }
        let queues = self.queues.iter().map(|(_, queue)| (queue.weight_bytes(), queue.owner, false));
        let leases = self.leases.iter().map(|(_, lease)| (lease.accounted_bytes, lease.owner, lease.is_lent()));
        let slots = &self.slots;
        let owner = |index: usize| ConnId::new(index, slots.get(index).map_or(1, |connection| connection.generation));
        let fronts = self.fronts.iter().map(|(index, front)| (front.accounted_bytes, owner(index), false));
        let is_alive = |(_, owner, _): &(_, ConnId, _)| self.slots[owner.index()].phase != Phase::Condemned;
        let mut heavy: Vec<_> = queues.chain(leases).chain(fronts).filter(is_alive).collect();
        heavy.sort_unstable_by(|a, b| b.cmp(a));
        // With those that are spared: whatever the service leaves of them waits on.
        self.heaviest_bytes = heavy.first().map_or(0, |(weight, ..)| *weight);
        let mut expected = 0;
        for (weight, owner, is_shown) in heavy {
            if is_shown {
                // The service is just being shown it, so it is on its way out. Its sender is not to blame for that, but
                // still for what it lets wait itself.
                continue;
            }
            let before = self.buffered_total_bytes();
            if weight < least || (before + more).saturating_sub(expected) <= most - most / 64 {
                break;
            }
            if self.slots[owner.index()].phase == Phase::Condemned {
                continue; // It has gone for something else that it held.
            }
            self.condemn(owner, CloseReason::MemoryPressure);
            expected += weight.saturating_sub(before - self.buffered_total_bytes());
        }
        self.buffered_total_bytes() + more <= most
    }
}
