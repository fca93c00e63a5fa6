//! Reading from connections that speak TLS: ciphertext in a shared buffer of its own, opened where it lies.
//!
//! What has been opened is offered to the service as if it had just been read, and nothing of it stays behind: whatever
//! the service leaves waits in a lease like anybody's, and the beginning of a record waits with its session.

use std::io::{self, IoSliceMut};
use std::ops::Range;

use log::debug;
use rustls::Error;

use super::connection::{Phase, flag};
use super::engine::Reading;
use super::notices::Notice;
use super::tls::{CIPHER_BYTES, Received, Session};
use super::{CloseReason, ConnId, Engine, Service, TlsFault, Transport};
use crate::planted::{self, Bug};
use crate::time::Time;

/// Bytes of a handshake that this side has begun whose end has not come: a record, or the messages of a server.
const ANSWER_BYTES_HELD_MAX: usize = 18 * 1024;

/// What was read from a socket whose bytes are not the service's yet.
pub(super) enum Raw {
    /// So many bytes, behind what was kept; `drained` if nothing more is there.
    Bytes { count: usize, drained: bool },
    /// Nothing is there, or it is to be tried again.
    Nothing(Reading),
    /// The peer will send no more.
    End,
    /// The connection has failed.
    Failed,
}

impl<T: Transport> Engine<T> {
    /// Reads from a socket into the shared memory for ciphertext, from `offset` on.
    pub(super) fn read_raw(&mut self, conn: ConnId, offset: usize) -> Raw {
        if self.cipher.len() < offset + CIPHER_BYTES {
            self.cipher.resize(offset + CIPHER_BYTES, 0);
        }
        let connections = &mut self.connections;
        let connection = &mut connections.slots[conn.index()];
        let room = &mut self.cipher[offset..offset + CIPHER_BYTES];
        match connection.transport.read_vectored(&mut [IoSliceMut::new(room)]) {
            Ok(0) => Raw::End,
            Ok(count) => {
                connection.set(flag::HEARD, true);
                connections.counters.reads += 1;
                connections.counters.read_bytes += count as u64;
                let drained = count < CIPHER_BYTES && !connection.has(flag::READ_TO_END);
                if drained {
                    connection.set(flag::READABLE, false);
                }
                Raw::Bytes { count, drained }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Raw::Nothing(Reading::Goes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.set(flag::READABLE, false);
                Raw::Nothing(Reading::Over)
            }
            Err(_) => Raw::Failed,
        }
    }

    /// One read of a connection that speaks TLS: what it opens to is offered as if it had just been read.
    pub(super) fn read_sealed<S: Service<T>>(
        &mut self,
        service: &mut S,
        conn: ConnId,
        budget: &mut usize,
        now: Time,
    ) -> Reading {
        let Some(session) = self.connections.session(conn) else { return Reading::Over };
        let (kept, has_ended) = (session.incoming_bytes(), session.has_ended());
        if has_ended {
            // The peer has said so, and everything before that has been shown.
            let connection = &mut self.connections.slots[conn.index()];
            connection.set(flag::ENDED, true);
            connection.set(flag::READABLE, false);
            service.on_end(&mut self.connections, conn, now);
            return Reading::Over;
        }
        let (count, drained) = match self.read_raw(conn, kept) {
            Raw::Bytes { count, drained } => (count, drained),
            Raw::Nothing(reading) => return reading,
            Raw::End if planted::has(Bug::CutTakenForEnd) => {
                let connection = &mut self.connections.slots[conn.index()];
                connection.set(flag::ENDED, true);
                connection.set(flag::READABLE, false);
                service.on_end(&mut self.connections, conn, now);
                return Reading::Over;
            }
            // An end that the peer has not announced may be anybody's doing: something may be missing.
            Raw::End | Raw::Failed => {
                self.connections.condemn(conn, CloseReason::Reset);
                return Reading::Over;
            }
        };
        *budget = budget.saturating_sub(count);
        match self.open_sealed(conn, kept + count, now) {
            None => return Reading::Over,
            Some(Err(fault)) => {
                self.break_off(conn, fault, now);
                return Reading::Over;
            }
            Some(Ok(received)) => {
                if received.has_established {
                    // What has waited for that can be written now.
                    self.connections.slots[conn.index()].set(flag::BLOCKED, false);
                    self.connections.mark_dirty(conn);
                    self.connections.count_handshake(conn);
                    service.on_established(&mut self.connections, conn, now);
                    if !self.connections.may_read(conn) {
                        self.offer_plain(service, conn, received.plain, now);
                        return Reading::Over;
                    }
                }
                self.offer_plain(service, conn, received.plain, now);
            }
        }
        if drained && !self.note_end(conn) { Reading::Over } else { Reading::Goes }
    }

    /// Has the end of the stream read next, if TLS has announced it; no event does.
    pub(super) fn note_end(&mut self, conn: ConnId) -> bool {
        let has_ended = self.connections.session(conn).is_some_and(Session::has_ended);
        if has_ended {
            self.connections.slots[conn.index()].set(flag::READABLE, true);
            if self.connections.may_read(conn) {
                self.connections.mark_ready(conn);
            }
        }
        has_ended
    }

    /// Shows the service what ciphertext has opened to, or keeps it if the service has just made a pause.
    pub(super) fn offer_plain<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, plain: Range<usize>, now: Time) {
        let connections = &mut self.connections;
        if plain.is_empty() || !connections.is_open(conn) {
            return;
        }
        if !connections.may_read(conn) {
            connections.hold(conn, &self.cipher[plain], 0, true);
            return;
        }
        // For as long as that takes it is what has just been read.
        std::mem::swap(&mut self.scratch, &mut self.cipher);
        if let Some(key) = connections.slots[conn.index()].lease() {
            let lease = &mut connections.leases[key];
            let pulled = lease.pull(&self.scratch[plain.clone()], false, &mut connections.buffers);
            connections.account_lease(key);
            if connections.slots[conn.index()].phase == Phase::Open {
                self.offer_lease(service, conn, plain.start + pulled, plain.end, now);
            }
        } else {
            self.offer_scratch(service, conn, plain.start, plain.end, now);
        }
        if planted::has(Bug::PlainAfterPause) && !self.connections.may_read(conn) && self.connections.is_open(conn) {
            self.connections.release_lease(conn);
        }
        std::mem::swap(&mut self.scratch, &mut self.cipher);
    }

    /// Shows the service the first bytes of a connection, which have come behind something else.
    pub(super) fn offer_opened<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, bytes: &[u8], now: Time) {
        self.cipher.resize(self.cipher.len().max(bytes.len()), 0);
        self.cipher[..bytes.len()].copy_from_slice(bytes);
        self.connections.turn_work = 0;
        self.offer_plain(service, conn, 0..bytes.len(), now);
    }

    /// Opens the `count` bytes that lie in the memory for ciphertext, behind the beginning that was kept; `None` if that
    /// has ended the connection.
    pub(super) fn open_sealed(&mut self, conn: ConnId, count: usize, now: Time) -> Option<Result<Received, TlsFault>> {
        let connections = &mut self.connections;
        let is_entering = connections.slots[conn.index()].phase == Phase::Entering;
        let most = if is_entering { connections.limits.handshake_bytes_max } else { ANSWER_BYTES_HELD_MAX };
        let tick = connections.tick;
        let session = connections.session_mut(conn)?;
        let kept = session.incoming_bytes();
        session.put_incoming(&mut self.cipher[..kept]);
        let received = session.receive(&mut self.cipher[..count], tick);
        // Behind it the records keep to the limits of their own.
        let is_too_long = !session.is_established() && session.incoming_bytes() > most;
        let (has_outgoing, is_waiting) = (session.has_outgoing(), session.is_waiting());
        if let Ok(received) = &received {
            connections.counters.records_opened += received.records;
            connections.counters.opened_bytes += received.plain.len() as u64;
        }
        if connections.account_front(conn) {
            connections.relieve(0, 0);
        }
        if connections.slots[conn.index()].phase == Phase::Condemned {
            return None;
        }
        if has_outgoing {
            connections.mark_dirty(conn);
        }
        if is_waiting {
            connections.watch_session(conn);
        }
        if is_too_long {
            return Some(Err(TlsFault::Broken));
        }
        Some(received.map_err(|(fault, error)| {
            let peer = connections.slots[conn.index()].peer;
            if matches!(error, Error::InvalidCertificate(_)) {
                let text = || format!("TLS with {peer}: its certificate is not believed: {error}");
                self.notices.tell(Notice::Certificate, now, text);
            } else {
                debug!("TLS with {peer}: {error}");
            }
            fault
        }))
    }

    /// Ends a connection with which no TLS can be spoken; it is told why, as far as TLS has words for it.
    pub(super) fn break_off(&mut self, conn: ConnId, fault: TlsFault, now: Time) {
        let connections = &mut self.connections;
        connections.counters.tls_faults[fault as usize] += 1;
        if let Some(front) = connections.fronts.get_mut(conn)
            && let Some(session) = &mut front.tls
        {
            // The peer may be gone already. What stands in front of the alert may get through with it, and is written then.
            let connection = &mut connections.slots[conn.index()];
            let written = session.flush(&mut connection.transport).unwrap_or(0);
            if let Some(key) = connection.queue().filter(|_| written > 0 && !planted::has(Bug::LastFlushForgotten)) {
                connections.advance_queue(conn, key, written);
            }
        }
        if connections.slots[conn.index()].phase == Phase::Entering {
            self.turn_away(conn, CloseReason::TlsFailed, now);
        } else {
            connections.condemn(conn, CloseReason::TlsFailed);
        }
    }
}
