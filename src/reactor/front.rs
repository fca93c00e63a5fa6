//! What stands between some sockets and their service: a proxy's header that must come first, and TLS.
//!
//! A plain connection has no front and pays nothing for those of others but a bit that says so. Fronts lie in a table by
//! slot, which is empty as long as nobody has one.

use std::io::{self, IoSlice, IoSliceMut};

use super::connection::{Connection, Phase, flag};
use super::tls::{Session, TlsRole};
use super::{CloseReason, ConnId, Connections, Transport};

/// What stands in front of one connection's service.
#[derive(Debug)]
pub(super) struct Front {
    /// The number of the listener that has accepted it.
    pub(super) listener: usize,
    /// A proxy has to say first for whom it speaks; what has come of that.
    pub(super) header: Option<Vec<u8>>,
    /// How TLS begins when that has been said.
    pub(super) role: Option<TlsRole>,
    pub(super) tls: Option<Session>,
    /// What the budget for all buffers knows of.
    pub(super) accounted_bytes: usize,
}

impl Front {
    /// Bytes that it keeps, or may have to if `queued` bytes wait for its connection: what the budget counts. A reader that
    /// stops in the midst of a write leaves sealed what was to be written, and nobody can be asked any more then whether
    /// there is memory for that.
    pub(super) fn held_bytes_at_most(&self, queued: usize) -> usize {
        let header = self.header.as_ref().map_or(0, Vec::len);
        header + self.tls.as_ref().map_or(0, |session| session.held_bytes_at_most(queued))
    }
}

/// The fronts of those who have one.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    slots: Vec<Option<Box<Front>>>,
    /// Records that were sealed.
    sealed: u64,
}

impl Fronts {
    pub(super) fn insert(&mut self, conn: ConnId, front: Front) {
        if self.slots.len() <= conn.index() {
            self.slots.resize_with(conn.index() + 1, || None);
        }
        self.slots[conn.index()] = Some(Box::new(front));
    }

    /// The front of the connection in this slot: to be asked only of one that is there, and has one.
    pub(super) fn get(&self, conn: ConnId) -> Option<&Front> {
        self.slots.get(conn.index())?.as_deref()
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Front> {
        self.slots.get_mut(conn.index())?.as_deref_mut()
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Front>> {
        self.slots.get_mut(conn.index())?.take()
    }

    /// All of them, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Front)> {
        self.slots.iter().enumerate().filter_map(|(index, front)| Some((index, front.as_deref()?)))
    }
}

/// A socket with what stands in front of it: what is written goes through that.
pub(super) struct Sealing<'a, T> {
    transport: &'a mut T,
    session: &'a mut Session,
    sealed: &'a mut u64,
}

impl<T: Transport> Transport for Sealing<'_, T> {
    fn read_vectored(&mut self, _: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write(self.transport, buffers, self.sealed)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.close(self.transport);
        self.transport.shutdown_write()
    }
}

/// A connection's TLS and its socket, to write to.
pub(super) fn sealing<'a, T>(
    connection: &'a mut Connection<T>,
    conn: ConnId,
    fronts: &'a mut Fronts,
) -> Option<Sealing<'a, T>> {
    let Fronts { slots, sealed } = fronts;
    let session = slots.get_mut(conn.index())?.as_mut()?.tls.as_mut()?;
    Some(Sealing { transport: &mut connection.transport, session, sealed })
}

impl<T: Transport> Connections<T> {
    /// The TLS of a connection that has it.
    pub(super) fn session(&self, conn: ConnId) -> Option<&Session> {
        self.get(conn).filter(|connection| connection.has(flag::FRONTED))?;
        self.fronts.get(conn)?.tls.as_ref()
    }

    pub(super) fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        if self.slots.get(conn.index()).is_none_or(|connection| !connection.has(flag::FRONTED)) {
            return None;
        }
        self.fronts.get_mut(conn)?.tls.as_mut()
    }

    /// Notes that a handshake is over.
    pub(super) fn count_handshake(&mut self, conn: ConnId) {
        self.counters.handshakes += 1;
        self.counters.handshakes_resumed += u64::from(self.session(conn).is_some_and(Session::is_resumed));
    }

    /// Has a connection of this side's begin with TLS.
    pub(super) fn put_session(&mut self, conn: ConnId, session: Session) {
        let front = Front { listener: 0, header: None, role: None, tls: Some(session), accounted_bytes: 0 };
        self.fronts.insert(conn, front);
        self.slots[conn.index()].set(flag::FRONTED, true);
        self.account_front(conn);
        self.mark_dirty(conn);
    }

    /// Writes to a connection's socket, through its TLS if it has that; says how many of the bytes have been written.
    pub(super) fn transmit(&mut self, conn: ConnId, bytes: &[u8]) -> io::Result<usize> {
        let connection = &mut self.slots[conn.index()];
        if !connection.has(flag::FRONTED) {
            return connection.transport.write_vectored(&[IoSlice::new(bytes)]);
        }
        let Some(mut way) = sealing(connection, conn, &mut self.fronts) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let written = way.write_vectored(&[IoSlice::new(bytes)]);
        self.counters.records_sealed = self.fronts.sealed;
        self.account_front(conn);
        written
    }

    /// Writes what waits for a connection, as [`Connections::transmit`].
    pub(super) fn transmit_queue(&mut self, conn: ConnId, key: usize) -> io::Result<usize> {
        let connection = &mut self.slots[conn.index()];
        let queue = &mut self.queues[key];
        if !connection.has(flag::FRONTED) {
            return queue.write_to(&mut connection.transport);
        }
        let Some(mut way) = sealing(connection, conn, &mut self.fronts) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let written = queue.write_to(&mut way);
        self.counters.records_sealed = self.fronts.sealed;
        self.account_front(conn);
        written
    }

    /// Has a peer told that nothing follows, if there is TLS to say it in.
    pub(super) fn announce_end(&mut self, conn: ConnId) {
        if let Some(front) = self.fronts.get_mut(conn)
            && let Some(session) = &mut front.tls
        {
            session.close(&mut self.slots[conn.index()].transport);
        }
    }

    /// Says that nothing follows on a connection for which nothing waits; what the peer still sends is shown as before.
    pub fn end_writing(&mut self, conn: ConnId) {
        if self.is_open(conn) {
            // If it fails the connection has ended, which its next read finds out.
            let _ = self.shutdown_write(conn);
        }
    }

    /// Says that nothing more will be written.
    pub(super) fn shutdown_write(&mut self, conn: ConnId) -> io::Result<()> {
        let connection = &mut self.slots[conn.index()];
        if connection.has(flag::FRONTED)
            && let Some(mut way) = sealing(connection, conn, &mut self.fronts)
        {
            return way.shutdown_write();
        }
        connection.transport.shutdown_write()
    }

    /// Writes what a connection's front has to say of its own, and what it had sealed before; says whether the connection
    /// has survived that.
    pub(super) fn flush_front(&mut self, conn: ConnId) -> bool {
        let connection = &mut self.slots[conn.index()];
        if connection.has(flag::BLOCKED) {
            return true;
        }
        let Some(front) = self.fronts.get_mut(conn) else { return true };
        let Some(session) = front.tls.as_mut().filter(|session| session.has_outgoing()) else { return true };
        let flushed = session.flush(&mut connection.transport);
        if session.has_outgoing() {
            connection.set(flag::BLOCKED, true);
        }
        match (flushed, connection.queue()) {
            (Ok(count), Some(key)) if count > 0 => self.advance_queue(conn, key, count),
            (Ok(_), _) => {}
            (Err(_), _) => {
                self.condemn(conn, CloseReason::Reset);
                return false;
            }
        }
        self.account_front(conn);
        if self.slots[conn.index()].has(flag::BLOCKED) {
            self.watch_queue(conn);
        }
        true
    }

    /// Whether a part of what was to be sent is sealed, so that it can no longer be refused.
    pub(super) fn has_sealed(&self, conn: ConnId) -> bool {
        self.session(conn).is_some_and(Session::has_sealed)
    }

    /// Has the budget know how much a front keeps now, or may have to; says whether that is more than before.
    pub(super) fn account_front(&mut self, conn: ConnId) -> bool {
        let connection = &self.slots[conn.index()];
        if connection.phase == Phase::Condemned {
            return false; // It counts no more.
        }
        let queued = connection.queue().map_or(0, |key| self.queues[key].len());
        let Some(front) = self.fronts.get_mut(conn) else { return false };
        let held = front.held_bytes_at_most(queued);
        let before = std::mem::replace(&mut front.accounted_bytes, held);
        if held != before {
            self.buffered_total_bytes = self.buffered_total_bytes + held - before;
            self.heaviest_bytes = self.heaviest_bytes.max(held);
        }
        held > before
    }

    /// How much more a front may have to keep if `more` bytes wait for its connection.
    pub(super) fn sealing_cost(&self, conn: ConnId, more: usize) -> usize {
        let Some(session) = self.session(conn) else { return 0 };
        let queued = self.queued_bytes(conn);
        session.held_bytes_at_most(queued + more) - session.held_bytes_at_most(queued)
    }

    /// Forgets the front of a connection, for which nothing waits there any more.
    pub(super) fn release_front(&mut self, conn: ConnId) {
        let connection = &mut self.slots[conn.index()];
        if connection.has(flag::FRONTED) {
            connection.set(flag::FRONTED, false);
            let is_counted = connection.phase != Phase::Condemned;
            if let Some(front) = self.fronts.remove(conn)
                && is_counted
            {
                self.buffered_total_bytes -= front.accounted_bytes;
            }
        }
    }
}
