//! How connections come in, and how those linger that are on their way out or never got in.

use std::io::{self, IoSlice};

use super::connection::{Phase, flag};
use super::{CloseReason, ConnId, Engine, PeerAddr, Refusal, Service, Transport};
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

/// What became of a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The service has it.
    Open,
    /// There are as many as there may be, and it was told so.
    Refused,
}

impl<T: Transport> Engine<T> {
    /// Whether connections are taken in at the end of this turn.
    ///
    /// Goodbyes before greetings: who comes back needs the slot, the descriptor and often the name that its last
    /// connection still has. Those who left in this turn are gone by now, unless they were more than a turn deals
    /// with; if accepting came first, a single one in each turn would keep everybody out.
    #[must_use]
    pub fn may_admit(&self) -> bool {
        !self.connections.has_ending()
    }

    /// How many of those who come or go are dealt with in this turn, where `most` is the limit.
    pub(super) fn storm_budget(&self, most: usize) -> usize {
        self.storm_share.max(self.connections.limits.storm_turn_min).min(most)
    }

    /// Takes in a connection, and has `register` see to it that its events are noted.
    ///
    /// # Errors
    /// That of `register`, or that there is no slot.
    pub fn open(
        &mut self,
        transport: T,
        peer: PeerAddr,
        register: impl FnOnce(&mut T, ConnId) -> io::Result<()>,
    ) -> io::Result<ConnId> {
        let connections = &mut self.connections;
        let Some(conn) = connections.insert(transport, peer) else { return Err(io::ErrorKind::QuotaExceeded.into()) };
        if let Err(error) = register(&mut connections.slots[conn.index()].transport, conn) {
            drop(connections.slots.remove(conn.index()));
            return Err(error);
        }
        Ok(conn)
    }

    /// Takes in a connection that listener number `listener` has accepted, or tells it that there is no room: then
    /// it lingers, if there is room for that.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn admit<S: Service<T>>(
        &mut self,
        service: &mut S,
        mut transport: T,
        peer: PeerAddr,
        listener: usize,
        now: Time,
        register: impl FnOnce(&mut T, ConnId) -> io::Result<()>,
    ) -> io::Result<Admitted> {
        let connections = &mut self.connections;
        let limits = &connections.limits;
        let most = limits.connections_max + usize::from(planted::has(Bug::OneTooMany));
        if connections.len() - connections.lingering < most {
            let conn = self.open(transport, peer, register)?;
            self.connections.counters.accepted += 1;
            service.on_open(&mut self.connections, conn, peer, listener, now);
            return Ok(Admitted::Open);
        }
        connections.counters.refused_connections += 1;
        let may_linger = connections.lingering < limits.lingering_max;
        tell(&mut transport, service.refusal(Refusal::Connections));
        if may_linger {
            let conn = self.open(transport, peer, register)?;
            self.linger(conn, now);
        }
        Ok(Admitted::Refused)
    }

    /// Has a connection wait for its peer's end, so that a reset does not overtake the last bytes.
    pub(super) fn linger(&mut self, conn: ConnId, now: Time) {
        let connections = &mut self.connections;
        let full = connections.lingering >= connections.limits.lingering_max;
        let deadline = Tick::not_before(now + connections.limits.linger);
        let connection = &mut connections.slots[conn.index()];
        connection.set(flag::TOLD, true);
        if connection.transport.shutdown_write().is_err() || connection.has(flag::ENDED) || full {
            connections.condemn(conn, CloseReason::Finished);
            return;
        }
        connection.phase = Phase::Lingering;
        connection.deadline = deadline;
        connections.lingering += 1;
        connections.check_by(conn, deadline);
        connections.mark_ready(conn);
    }
}

/// Says one thing to a peer that does not stay; a new socket has room for it.
pub(super) fn tell<T: Transport>(transport: &mut T, bytes: &[u8]) {
    if !bytes.is_empty() {
        let _ = transport.write_vectored(&[IoSlice::new(bytes)]);
    }
}
