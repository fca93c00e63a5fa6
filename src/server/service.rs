//! The relay as a service on the reactor: bytes to frames, connections to ids, effects to calls.

use std::fmt::Display;

use log::{info, log_enabled};

use super::certificate::certificate_name;
use super::frame_log;
use crate::auth::{Mechanism, Users};
use crate::origin::Origin;
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::reactor::{
    CloseReason, ConnId, Connections, PeerAddr, Progress, Refusal, Service, TlsFault, Transport, Unsent,
};
use crate::relay::{Denial, Input, Outbox, Relay};
use crate::time::Time;
use crate::wire::control::{Body, ErrorBody, Reason};
use crate::wire::{Code, Header, Id, LENGTH_BYTES, Next, Type, next_run};

/// The relay, between its reactor and its clients.
#[derive(Debug)]
pub struct RelayService {
    relay: Relay,
    log_frames: bool,
    signalled: bool,
    /// What the last peer was told that was not let in.
    refusal: Vec<u8>,
}

impl RelayService {
    /// Serves `relay`; logs every frame if asked to.
    #[must_use]
    pub fn new(relay: Relay, log_frames: bool) -> Self {
        Self {
            relay,
            log_frames: log_frames && log_enabled!(target: frame_log::TARGET, log::Level::Info),
            signalled: false,
            refusal: Vec::new(),
        }
    }

    /// The relay.
    #[must_use]
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Registered clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.relay.clients()
    }

    /// Whether a signal has come since the last call.
    pub(super) const fn take_signalled(&mut self) -> bool {
        std::mem::replace(&mut self.signalled, false)
    }

    /// Tells everybody that the relay is going down, and takes in nobody any more.
    pub fn shut_down<T: Transport>(&mut self, io: &mut Connections<T>, now: Time) {
        io.stop_listening();
        self.relay.shut_down(now, &mut Link { io, log_frames: self.log_frames });
    }

    /// Has another list of users hold from now on; those who are connected are held against it in the turns that follow.
    pub fn set_users<T: Transport>(&mut self, io: &mut Connections<T>, users: Users, now: Time) {
        let mut link = Link { io, log_frames: self.log_frames };
        self.relay.set_users(Some(Box::new(users)), now, &mut link);
    }

    /// Whether the next turn must not wait: there are clients to be held against a new list of users.
    #[must_use]
    pub const fn is_reviewing(&self) -> bool {
        self.relay.is_reviewing()
    }

    /// Logs what has been done so far; of codes only those that came.
    pub fn log_stats<T: Transport>(&self, io: &Connections<T>) {
        let (relay, reactor) = (self.relay.counters(), io.counters());
        info!(
            "clients {}, connections {}, rooms {}; frames in {}, queued {}, skipped {}, lost with their recipient {}; \
             bytes read {}, written {}, held now {}; connections let in {}, ended without a byte {}; not let in {}; \
             handshakes {}, of which {} resumed",
            self.relay.clients(),
            io.len(),
            self.relay.rooms(),
            relay.frames_in,
            relay.frames_queued,
            relay.frames_skipped,
            relay.frames_lost,
            reactor.read_bytes,
            reactor.written_bytes,
            io.buffered_total_bytes(),
            reactor.accepted,
            reactor.silent,
            reactor.refused.iter().sum::<u64>(),
            reactor.handshakes,
            reactor.handshakes_resumed,
        );
        log_table("closed", Code::ALL, &relay.closed);
        log_table("refused", Code::ALL, &relay.refused);
        let mechanisms = Mechanism::ALL.map(Mechanism::name);
        log_table("authenticated by", &mechanisms, &relay.authenticated);
        log_table("not authenticated by", &mechanisms, &relay.auth_failed);
        log_table("denied", &Denial::ALL.map(Denial::name), &relay.denied);
        log_table("not let in", &Refusal::ALL, &reactor.refused);
        log_table("ended before they were in", &BEFORE_THE_RELAY, &BEFORE_THE_RELAY.map(|why| reactor.closed(why)));
        log_table("no TLS", &TlsFault::ALL, &reactor.tls_faults);
        log_table("sent too much", &["times"], &[reactor.rate_exceeded]);
    }

    fn handle<T: Transport>(&mut self, io: &mut Connections<T>, conn: ConnId, input: Input<'_>, now: Time) {
        self.relay.handle(client_id(conn), input, now, &mut Link { io, log_frames: self.log_frames });
    }
}

/// Ends of which the relay has never heard: its own table has all others. The log has them in this order.
pub const BEFORE_THE_RELAY: [CloseReason; 6] = [
    CloseReason::Abandoned,
    CloseReason::Refused,
    CloseReason::BadProxyHeader,
    CloseReason::HandshakeOverdue,
    CloseReason::TlsFailed,
    CloseReason::CrowdedOut,
];

/// Logs what has been counted, in one line; only what has happened.
pub(super) fn log_table(what: &str, names: &[impl Display], counts: &[u64]) {
    let happened = names.iter().zip(counts).filter(|(_, count)| **count > 0);
    let parts: Vec<String> = happened.map(|(name, count)| format!("{name} {count}")).collect();
    if !parts.is_empty() {
        info!("{what}: {}", parts.join(", "));
    }
}

impl<T: Transport> Service<T> for RelayService {
    fn on_open(&mut self, io: &mut Connections<T>, conn: ConnId, _: PeerAddr, _: usize, now: Time) {
        self.handle(io, conn, Input::Connected, now);
    }

    fn on_data(&mut self, io: &mut Connections<T>, conn: ConnId, data: &mut [u8], now: Time) -> Progress {
        let id = client_id(conn);
        let mut consumed = 0;
        while consumed < data.len() && io.is_reading(conn) {
            match next_run(&mut data[consumed..], id, self.relay.payload_bytes_max(id)) {
                Ok(Next::Run(run)) => {
                    consumed += run.bytes.len();
                    if self.log_frames {
                        frame_log::received(id, run.bytes);
                    }
                    let (frames, bytes) = (run.frames, run.bytes.len());
                    self.handle(io, conn, Input::Frames(run), now);
                    if io.spend(conn, frames, bytes) {
                        self.handle(io, conn, Input::RateExceeded, now);
                    }
                }
                Ok(Next::Incomplete { wanted }) => return Progress { consumed, wanted },
                Err(error) => {
                    self.handle(io, conn, Input::Broken(error), now);
                    return Progress::all(data);
                }
            }
        }
        Progress { consumed, wanted: 0 }
    }

    fn on_end(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        self.handle(io, conn, Input::Ended, now);
    }

    fn on_input_overdue(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        self.handle(io, conn, Input::Overdue, now);
    }

    fn on_deadline(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        self.handle(io, conn, Input::Deadline, now);
    }

    fn on_written(&mut self, io: &mut Connections<T>, conn: ConnId, written: u64, now: Time) {
        self.handle(io, conn, Input::Written(written), now);
    }

    fn on_close(&mut self, io: &mut Connections<T>, conn: ConnId, reason: CloseReason, left: Unsent<'_>, now: Time) {
        let code = match reason {
            CloseReason::Finished
            | CloseReason::Aborted
            // Of these the relay has never heard.
            | CloseReason::Abandoned
            | CloseReason::Refused
            | CloseReason::BadProxyHeader
            | CloseReason::HandshakeOverdue
            | CloseReason::CrowdedOut => None,
            CloseReason::Reset | CloseReason::Unreachable => Some(Code::Reset),
            CloseReason::TlsFailed => Some(Code::TlsFailed),
            CloseReason::InputOverdue => Some(Code::FrameTimeout),
            CloseReason::InputTooLarge => Some(Code::FrameTooLarge),
            CloseReason::WriteOverdue => Some(Code::SlowConsumer),
            CloseReason::MemoryPressure => Some(Code::MemoryPressure),
        };
        let input = Input::Closed { code, written: left.written, cut: left.cut, unsent: left.whole };
        self.handle(io, conn, input, now);
    }

    fn on_crowded_out(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        self.handle(io, conn, Input::CrowdedOut, now);
    }

    fn on_source(&mut self, _: &mut Connections<T>, _: usize, _: Time) {
        self.signalled = true;
    }

    fn on_turn_end(&mut self, io: &mut Connections<T>, now: Time) {
        let mut link = Link { io, log_frames: self.log_frames };
        self.relay.review(now, &mut link);
        self.relay.end_turn(&mut link);
    }

    fn refusal(&mut self, why: Refusal) -> &[u8] {
        let code = match why {
            Refusal::Connections => Code::ConnectionsFull,
            Refusal::Descriptors => Code::DescriptorsOut,
            Refusal::Denied => Code::AddressDenied,
            Refusal::AddressConnections | Refusal::AddressNewcomers | Refusal::AddressRate => Code::AddressCrowded,
        };
        let retry_ms = code.may_return().then(|| self.relay.retry_ms());
        let reason = Reason { retry_ms, ..Reason::new(code, code.meaning()) };
        self.refusal.clear();
        ErrorBody(reason).write_frame(Header::new(Type::Error), &mut self.refusal);
        &self.refusal
    }

    fn message_bytes(head: &[u8]) -> usize {
        let length = head.first_chunk::<LENGTH_BYTES>().map_or(0, |length| u32::from_be_bytes(*length));
        LENGTH_BYTES + length as usize
    }
}

/// The relay's effects, on the reactor's connections.
struct Link<'a, T> {
    io: &'a mut Connections<T>,
    log_frames: bool,
}

impl<T: Transport> Outbox for Link<'_, T> {
    fn send(&mut self, to: Id, frames: &mut Outgoing<'_>, lane: Lane) -> Result<(), SendError> {
        let sent = self.io.send(conn_id(to), frames, lane);
        if self.log_frames {
            frame_log::sent(to, frames.bytes(), sent);
        }
        sent
    }

    fn queued_bytes(&self, to: Id) -> usize {
        self.io.queued_bytes(conn_id(to))
    }

    fn is_blocked(&self, to: Id) -> bool {
        self.io.is_blocked(conn_id(to))
    }

    fn is_receiving(&self, from: Id) -> bool {
        self.io.is_receiving(conn_id(from))
    }

    fn position(&self, to: Id) -> u64 {
        let conn = conn_id(to);
        self.io.written_bytes(conn) + self.io.queued_bytes(conn) as u64
    }

    fn notify_written(&mut self, to: Id, on: bool) {
        self.io.set_notify(conn_id(to), on);
    }

    fn charge(&mut self, _: Id, messages: usize) {
        self.io.charge(messages);
    }

    fn set_deadline(&mut self, id: Id, at: Option<Time>) {
        self.io.set_deadline(conn_id(id), at);
    }

    fn pause(&mut self, id: Id, on: bool) {
        if on {
            self.io.pause(conn_id(id));
        } else {
            self.io.resume(conn_id(id));
        }
    }

    fn close(&mut self, id: Id) {
        self.io.close(conn_id(id));
    }

    fn origin(&self, id: Id) -> Option<Origin> {
        let peer = self.io.peer(conn_id(id))?;
        if self.io.is_exempt(peer) { None } else { peer.origin() }
    }

    fn channel_binding(&self, id: Id) -> Option<[u8; 32]> {
        self.io.channel_binding(conn_id(id))
    }

    fn certificate_user(&self, id: Id, name: &mut String) -> bool {
        let found = self.io.peer_certificate(conn_id(id)).and_then(certificate_name);
        name.push_str(found.as_deref().unwrap_or_default());
        found.is_some()
    }

    fn is_private(&self, id: Id) -> bool {
        let conn = conn_id(id);
        // Where proxies say where somebody comes from, an address says nothing of the way that the bytes have taken.
        let is_believed = !self.io.takes_proxies();
        let is_local =
            |peer: PeerAddr| peer.socket_addr().is_none_or(|address| is_believed && address.ip().is_loopback());
        self.io.is_encrypted(conn) || self.io.peer(conn).is_some_and(is_local)
    }

    fn settle(&mut self, id: Id) {
        self.io.settle(conn_id(id));
    }

    fn put_address(&self, id: Id, text: &mut String) {
        use std::fmt::Write as _;
        if let Some(address) = self.io.peer(conn_id(id)).and_then(|peer| peer.socket_addr()) {
            let _ = write!(text, "{address}");
        }
    }
}

// A client's id is its connection's, in the clothes of the wire: neither side keeps a table of the other.
const _: () = assert!(Id::INDEX_MAX == ConnId::INDEX_MAX && Id::GENERATION_MAX == ConnId::GENERATION_MAX);

const fn client_id(conn: ConnId) -> Id {
    Id::client(conn.index(), conn.generation())
}

const fn conn_id(id: Id) -> ConnId {
    ConnId::new(id.index(), id.generation())
}
