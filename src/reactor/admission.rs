//! How connections come in, and how those linger that are on their way out or never got in.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use rustls::ServerConfig;

use super::connection::{Phase, flag};
use super::front::Front;
use super::tls::{Session, TlsRole};
use super::{CloseReason, ConnId, Engine, PeerAddr, Refusal, Service, Transport};
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

/// How long it takes until it is looked again whether those who are half in have become fewer.
const NEWCOMERS_PAUSE: Duration = Duration::from_millis(10);

/// What became of a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The service has it.
    Open,
    /// It may not come in, and was told so where it could be.
    Refused(Refusal),
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

    /// How long nobody is to be accepted, because more have come in a second than may, or all who are new are half in;
    /// `None` if somebody may.
    #[must_use]
    pub fn accept_pause(&mut self, now: Time) -> Option<Duration> {
        let pause = self.connections.gatekeeper.pause(&self.connections.limits, now);
        if pause.is_some() || self.connections.may_come() {
            return pause;
        }
        Some(if self.connections.has_fresh_newcomers() { Duration::ZERO } else { NEWCOMERS_PAUSE })
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
    /// it lingers, if there is room for that. Whoever a proxy has sent, or has to agree on TLS first, is not shown to the
    /// service before that is over.
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
        self.connections.gatekeeper.accepted(&self.connections.limits, now);
        let tls = self.tls.get(listener).cloned().flatten();
        let is_proxy = self.connections.gatekeeper.gate.is_proxy(peer);
        if let Err(why) = self.judge(peer, is_proxy, now) {
            self.connections.counters.refuse(why);
            if tls.is_none() && !is_proxy {
                // Before TLS nothing can be said in words that the peer would take.
                tell(&mut transport, service.refusal(why));
            }
            if self.connections.lingering < self.connections.limits.lingering_max {
                let conn = self.open(transport, peer, register)?;
                self.linger(conn, now);
            }
            return Ok(Admitted::Refused(why));
        }
        let opened = self.open(transport, peer, register);
        let conn = match opened {
            Ok(conn) => conn,
            Err(error) => {
                if !is_proxy {
                    self.connections.gatekeeper.settled(peer, &self.connections.limits);
                    self.connections.gatekeeper.left(peer, &self.connections.limits);
                }
                return Err(error);
            }
        };
        self.connections.slots[conn.index()].is_counted = !is_proxy;
        self.connections.note_newcomer(conn);
        let role = tls.map(TlsRole::Server);
        if is_proxy || role.is_some() {
            self.begin_entering(conn, role, listener, is_proxy, now);
        } else {
            self.connections.counters.accepted += 1;
            service.on_open(&mut self.connections, conn, peer, listener, now);
        }
        while let Some(conn) = self.connections.next_crowded_out() {
            self.crowd_out(service, conn, now);
        }
        Ok(Admitted::Open)
    }

    /// Has the operator know that somebody is refused.
    pub(super) fn note_refusal(&mut self, peer: PeerAddr, why: Refusal, now: Time) {
        self.notices.refused(peer, why, &self.connections.limits, now);
    }

    /// Whether there is room for a connection, and its address may come in; then it counts for that. Of whom a proxy
    /// speaks is not known yet.
    fn judge(&mut self, peer: PeerAddr, is_proxy: bool, now: Time) -> Result<(), Refusal> {
        let connections = &mut self.connections;
        let most = connections.limits.connections_max + usize::from(planted::has(Bug::OneTooMany));
        if connections.len() - connections.lingering >= most {
            return Err(Refusal::Connections);
        }
        if is_proxy { Ok(()) } else { connections.gatekeeper.enter(peer, &connections.limits, now) }
    }

    /// Has a connection begin with what stands in front of its service.
    fn begin_entering(&mut self, conn: ConnId, role: Option<TlsRole>, listener: usize, is_proxy: bool, now: Time) {
        let connections = &mut self.connections;
        let deadline = Tick::not_before(now + connections.limits.handshake_deadline);
        let connection = &mut connections.slots[conn.index()];
        connection.phase = Phase::Entering;
        connection.deadline = deadline;
        connection.set(flag::FRONTED | flag::TOLD, true);
        let mut front = Front { listener, header: is_proxy.then(Vec::new), role: None, tls: None, accounted_bytes: 0 };
        match role {
            Some(role) if is_proxy => front.role = Some(role),
            Some(role) => match Session::new(role) {
                Ok(session) => front.tls = Some(session),
                Err(error) => {
                    warn!("TLS cannot begin: {error}");
                    connections.fronts.insert(conn, front);
                    connections.condemn(conn, CloseReason::TlsFailed);
                    return;
                }
            },
            None => {}
        }
        connections.fronts.insert(conn, front);
        if !planted::has(Bug::HandshakeUntimed) {
            connections.check_by(conn, deadline);
        }
    }

    /// Ends the oldest of too many that have not been settled.
    fn crowd_out<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        if self.connections.slots[conn.index()].phase == Phase::Entering {
            self.turn_away(conn, CloseReason::CrowdedOut, now);
        } else {
            self.connections.settle(conn);
            service.on_crowded_out(&mut self.connections, conn, now);
        }
    }

    /// How TLS is spoken with those who come to a listener from now on; `None`: not at all.
    pub fn set_tls(&mut self, listener: usize, config: Option<Arc<ServerConfig>>) {
        if self.tls.len() <= listener {
            self.tls.resize(listener + 1, None);
        }
        self.tls[listener] = config;
    }

    /// Has a connection wait for its peer's end, so that a reset does not overtake the last bytes.
    pub(super) fn linger(&mut self, conn: ConnId, now: Time) {
        let connections = &mut self.connections;
        let full = connections.lingering >= connections.limits.lingering_max;
        let deadline = Tick::not_before(now + connections.limits.linger);
        let connection = &mut connections.slots[conn.index()];
        connection.set(flag::TOLD, true);
        let has_ended = connection.has(flag::ENDED);
        let is_gone = connections.shutdown_write(conn).is_err();
        // Whatever stood between them has nothing more to say.
        connections.release_front(conn);
        if is_gone || has_ended || full {
            connections.condemn(conn, CloseReason::Finished);
            return;
        }
        let connection = &mut connections.slots[conn.index()];
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
