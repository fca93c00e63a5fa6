//! Connections that the service does not know yet: a proxy says first for whom it speaks, TLS is agreed on.
//!
//! ```text
//!   accept ─► gate ─► [ header of a proxy ─► gate ] ─► [ handshake ] ─► Service::on_open
//!             by address        by the address in it     some in each turn
//! ```
//!
//! A handshake costs as much as a thousand frames, so a turn deals with a few of them, behind those who are in already.
//! Whoever does not get through in time, or breaks the rules, ends here, counted, and the service never hears of it.

use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};

use super::admission::tell;
use super::connection::{Phase, flag};
use super::engine::Reading;
use super::notices::Notice;
use super::sealed::Raw;
use super::tls::Session;
use super::{CloseReason, ConnId, Engine, PeerAddr, Service, Transport};
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

/// The longest header of a proxy: 536 bytes must be taken (its specification, section 2.2), and what proxies append to
/// say more of a connection has stayed far below this.
const PROXY_HEADER_BYTES_MAX: usize = 4096;
/// Reads for each step of a handshake that a turn has time for: a read takes a few microseconds, a step some hundred.
const READS_PER_STEP: usize = 8;

impl<T: Transport> Engine<T> {
    /// Goes on with some of those who are not in yet. What counts is what costs something: a step of a handshake. Reading
    /// a part of a message, or a proxy's header, is next to nothing, and whoever dribbles must not take the places of those
    /// who shake hands.
    pub fn enter_some<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        let most =
            self.connections.limits.handshakes_turn_max * if planted::has(Bug::HandshakesAllAtOnce) { 8 } else { 1 };
        // One costs as much as several of those who only come and go, so a turn without other work makes no more.
        let mut steps = self.storm_share.clamp(1, most);
        let mut reads = steps * READS_PER_STEP;
        while steps > 0
            && reads > 0
            && let Some(conn) = self.connections.entering.pop_front()
        {
            let (is_there, was_quiet) = (self.connections.is_there(conn), self.is_quiet(conn));
            self.read_ready(service, conn, now);
            // Whoever has gone meanwhile takes nobody's turn.
            if is_there {
                reads -= 1;
                steps -= usize::from(!(was_quiet && self.is_quiet(conn)));
            }
        }
    }

    /// Whether a connection is not in yet, and nothing waits to be said to it.
    fn is_quiet(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|connection| connection.phase == Phase::Entering)
            && self.connections.session(conn).is_none_or(|session| !session.has_outgoing())
    }

    /// Whether anybody waits for [`Engine::enter_some`].
    #[must_use]
    pub fn has_entering(&self) -> bool {
        !self.connections.entering.is_empty()
    }

    /// Whether somebody who comes to a listener may be accepted: where something comes before the service, those who wait
    /// for their turn with that must be few.
    #[must_use]
    pub fn may_enter(&self, listener: usize) -> bool {
        let is_direct =
            self.tls.get(listener).is_none_or(Option::is_none) && !self.connections.gatekeeper.gate.has_proxies();
        is_direct || self.connections.entering.len() < self.connections.limits.handshakes_waiting_max
    }

    /// Goes on with a connection that the service does not know yet.
    pub(super) fn enter<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        self.connections.turn_work = 0;
        let Some(front) = self.connections.fronts.get(conn) else { return };
        let kept = front.tls.as_ref().map_or(0, Session::incoming_bytes);
        let (count, drained) = match self.read_raw(conn, kept) {
            Raw::Bytes { count, drained } => (count, drained),
            Raw::Nothing(Reading::Goes) => return self.connections.mark_ready(conn),
            Raw::Nothing(Reading::Over) => return,
            Raw::End => return self.turn_away(conn, CloseReason::Abandoned, now),
            Raw::Failed => return self.connections.condemn(conn, CloseReason::Reset),
        };
        let Some(front) = self.connections.fronts.get_mut(conn) else { return };
        if let Some(header) = &mut front.header {
            header.extend_from_slice(&self.cipher[..count]);
            self.hear_proxy(service, conn, now);
        } else {
            self.shake_hands(service, conn, kept + count, now);
        }
        // The work of its first messages may have been too much for one turn.
        let is_held = self.connections.get(conn).is_some_and(|connection| connection.has(flag::HELD))
            && !planted::has(Bug::FirstFramesForgotten);
        if !drained || is_held {
            self.go_on_reading(conn);
        }
    }

    /// What no event will announce again is read later: in the manner of whatever the connection has become.
    fn go_on_reading(&mut self, conn: ConnId) {
        if matches!(self.connections.get(conn), Some(c) if c.phase == Phase::Entering)
            || self.connections.may_read(conn)
        {
            self.connections.mark_ready(conn);
        }
    }

    /// Looks at what a proxy has said so far of the peer for whom it speaks.
    fn hear_proxy<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) {
        let connections = &mut self.connections;
        if connections.account_front(conn) {
            connections.relieve(0, 0);
        }
        if connections.slots[conn.index()].phase == Phase::Condemned {
            return;
        }
        let Some(front) = connections.fronts.get_mut(conn) else { return };
        let Some(header) = &mut front.header else { return };
        let (length, peer) = match read_header(header) {
            Header::Whole { length, peer } => (length, peer),
            Header::Incomplete if header.len() <= PROXY_HEADER_BYTES_MAX => return,
            Header::Incomplete | Header::Bad => {
                let peer = connections.slots[conn.index()].peer;
                let text = || {
                    format!(
                        "the proxy {peer} is refused: no header of the PROXY protocol, or a bad one, is in front of what it sends"
                    )
                };
                self.notices.tell(Notice::ProxyHeader, now, text);
                return self.turn_away(conn, CloseReason::BadProxyHeader, now);
            }
        };
        let rest = header.split_off(length);
        let listener = front.listener;
        front.header = None;
        let role = front.role.take();
        let is_plain = role.is_none();
        if let Some(peer) = peer {
            connections.slots[conn.index()].peer = peer;
        }
        let peer = connections.slots[conn.index()].peer;
        let is_asked = !planted::has(Bug::ProxyBelieved);
        if let Err(why) = connections.gatekeeper.enter(peer, &connections.limits, now)
            && is_asked
        {
            connections.counters.refuse(why);
            if is_plain {
                tell(&mut connections.slots[conn.index()].transport, service.refusal(why));
            }
            self.note_refusal(peer, why, now);
            return self.turn_away(conn, CloseReason::Refused, now);
        }
        connections.slots[conn.index()].is_counted = true;
        let Some(role) = role else {
            connections.release_front(conn);
            self.introduce(service, conn, listener, now);
            return self.offer_opened(service, conn, &rest, now);
        };
        match Session::new(role) {
            Ok(session) => {
                if let Some(front) = self.connections.fronts.get_mut(conn) {
                    front.tls = Some(session);
                }
            }
            Err(_) => return self.turn_away(conn, CloseReason::TlsFailed, now),
        }
        self.connections.account_front(conn);
        if !rest.is_empty() {
            self.cipher.resize(self.cipher.len().max(rest.len()), 0);
            self.cipher[..rest.len()].copy_from_slice(&rest);
            self.shake_hands(service, conn, rest.len(), now);
        }
    }

    /// Goes on with a handshake, of which `count` bytes lie in the memory for ciphertext, those that were kept included.
    fn shake_hands<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, count: usize, now: Time) {
        let Some(received) = self.open_sealed(conn, count, now) else { return };
        let received = match received {
            Ok(received) => received,
            Err(fault) => return self.break_off(conn, fault, now),
        };
        let connections = &mut self.connections;
        if !received.has_established {
            return;
        }
        connections.count_handshake(conn);
        let listener = connections.fronts.get(conn).map_or(0, |front| front.listener);
        self.introduce(service, conn, listener, now);
        self.offer_plain(service, conn, received.plain, now);
        self.note_end(conn);
    }

    /// Has the service know a connection from now on.
    fn introduce<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, listener: usize, now: Time) {
        let connection = &mut self.connections.slots[conn.index()];
        connection.phase = Phase::Open;
        connection.deadline = Tick::NEVER;
        connection.set(flag::TOLD, false);
        let peer = connection.peer;
        self.connections.counters.accepted += 1;
        if planted::has(Bug::NewcomerSettledTooEarly) {
            self.connections.settle(conn);
        }
        service.on_open(&mut self.connections, conn, peer, listener, now);
    }

    /// Ends a connection that the service does not know; what it was told last must not be overtaken by a reset.
    pub(super) fn turn_away(&mut self, conn: ConnId, reason: CloseReason, now: Time) {
        self.connections.count_end(conn, reason);
        self.connections.slots[conn.index()].phase = Phase::Flushing;
        self.linger(conn, now);
    }
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY ";
/// The longest line that version 1 allows (its specification, section 2.1).
const V1_BYTES_MAX: usize = 107;

enum Header {
    Whole { length: usize, peer: Option<PeerAddr> },
    Incomplete,
    Bad,
}

/// Reads the header that a proxy begins with, of version 1 or 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
/// The peer is that of the socket where the proxy speaks for itself, or does not know.
fn read_header(bytes: &[u8]) -> Header {
    let whole = |length, peer: Option<SocketAddr>| Header::Whole { length, peer: peer.map(PeerAddr::from) };
    // The first bytes decide which of the two it is; fewer could be either.
    let begins = |signature: &[u8]| bytes.starts_with(signature) || signature.starts_with(bytes);
    if !begins(V1) && !begins(V2) {
        return Header::Bad;
    }
    if bytes.len() < V1.len() || bytes.starts_with(&V2[..V1.len()]) && bytes.len() < V2.len() {
        return Header::Incomplete;
    }
    let line_end = bytes.windows(2).take(V1_BYTES_MAX - 1).position(|pair| pair == b"\r\n");
    let bytes = match line_end {
        // What follows is not for the parser, which takes it for text.
        Some(end) if bytes.starts_with(V1) => &bytes[..end + 2],
        None if bytes.starts_with(V1) && bytes.len() < V1_BYTES_MAX => return Header::Incomplete,
        None if bytes.starts_with(V1) => return Header::Bad,
        _ => bytes,
    };
    let parsed = HeaderResult::parse(bytes);
    if parsed.is_incomplete() {
        // A line that has ended is whole, whatever the parser would like to see behind it.
        return if bytes.starts_with(V1) { Header::Bad } else { Header::Incomplete };
    }
    match parsed {
        // The parser takes any CR for the end of a line, and shows what is behind it as if the client had sent that.
        HeaderResult::V1(Ok(header)) if header.header.len() != bytes.len() => Header::Bad,
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Unknown => whole(header.header.len(), None),
            v1::Addresses::Tcp4(a) => whole(header.header.len(), Some((a.source_address, a.source_port).into())),
            v1::Addresses::Tcp6(a) => whole(header.header.len(), Some((a.source_address, a.source_port).into())),
        },
        HeaderResult::V2(Ok(header)) => match (header.command, &header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(a)) => {
                whole(header.len(), Some((a.source_address, a.source_port).into()))
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(a)) => {
                whole(header.len(), Some((a.source_address, a.source_port).into()))
            }
            _ => whole(header.len(), None),
        },
        _ => Header::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend_from_slice(&[0x20 | command, family]);
        header.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
        header.extend_from_slice(addresses);
        header
    }

    #[test]
    fn a_header_is_read_wherever_it_is_cut_and_ends_where_it_ends() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x27, 0x0f];
        let mut with_more = v4.to_vec();
        with_more.extend_from_slice(&[4, 0, 1, 0]);
        let v6: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2]
            .concat()
            .into_iter()
            .chain([0x1f, 0x90, 0x27, 0x0f])
            .collect();
        for (header, says) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 9999\r\n".to_vec(), Some("192.0.2.7:8080")),
            (b"PROXY TCP6 2001:db8::1 ::1 8080 9999\r\n".to_vec(), Some("[2001:db8::1]:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2_header(1, 0x11, &v4), Some("192.0.2.7:8080")),
            (v2_header(1, 0x11, &with_more), Some("192.0.2.7:8080")),
            (v2_header(1, 0x21, &v6), Some("[2001:db8::1]:8080")),
            (v2_header(0, 0x00, &[]), None),
        ] {
            for cut in 1..header.len() {
                assert!(matches!(read_header(&header[..cut]), Header::Incomplete), "{cut} bytes of {header:?}");
            }
            let mut stream = header.clone();
            stream.extend_from_slice(&[0, 0, 0, 39, 1]);
            let Header::Whole { length, peer } = read_header(&stream) else { panic!("{header:?}") };
            assert_eq!((length, peer.map(|peer| peer.to_string()).as_deref()), (header.len(), says));
        }
    }

    #[test]
    fn what_is_no_header_is_known_at_once() {
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[0, 0, 0, 39, 1],
            b"PROXI",
            b"\r\n\r\nX",
            b"PROXY TCP4 a b c d\r\n",
            b"PROXY TCP4 1\r1 b c d\r\n",
            b"PROXY UNKNOWN \r1 b c d\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 9999\r1\r\n",
        ] {
            assert!(matches!(read_header(bad), Header::Bad), "{bad:?}");
        }
    }
}
