//! One connection's TLS: ciphertext to bytes and back, by rustls, between the socket and everything else.
//!
//! ```text
//!   socket ─► shared scratch: [ rest | ciphertext ] ─► opened in place ─► plaintext scratch ─► as if just read
//!   queue  ─► sealed, up to four records ─► shared scratch ─► socket; what it does not take: `outgoing`
//! ```
//!
//! At rest a session holds its keys and no buffer. What is sealed stays in its queue until the socket has taken its
//! whole record: only then is it written. So the queue's age, its limits and what is handed back in the end are those of a
//! plain connection, and a record of which the peer got but a part, which nobody can open, counts as not sent.
//!
//! It knows no poll, no clock and no service; it is driven over any [`Transport`].

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{ClientConfig, Error, HandshakeKind, ServerConfig};

use super::{TlsFault, TlsTerms, Transport, binding};
use crate::planted::{self, Bug};
use crate::time::Tick;

/// Plaintext in one record, at most (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What a record has besides, at most: a header, a type, a tag, and in TLS 1.2 a nonce.
const RECORD_OVERHEAD_MAX: usize = 64;
/// Records that are sealed for one write: a long message costs one system call for 64 KiB, and a reader that is stuck has
/// no more than that sealed in vain.
const RECORDS_MAX: usize = 4;
/// Ciphertext that is read at once: what it opens to is still in the second-level cache when the service sees it.
pub(super) const CIPHER_BYTES: usize = 64 * 1024;

/// How this side takes part.
#[derive(Clone, Debug)]
pub enum TlsRole {
    /// It was connected to.
    Server(Arc<ServerConfig>),
    /// It connects, to a server that must prove to have this name.
    Client(Arc<ClientConfig>, ServerName<'static>),
}

/// Memory that all sessions share: made when the first one needs it.
#[derive(Debug, Default)]
pub(super) struct Desk {
    plain: Vec<u8>,
    cipher: Vec<u8>,
    /// Records that were sealed with its help.
    pub(super) sealed: u64,
}

/// A record in `outgoing` that carries bytes of the queue.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    /// Where its ciphertext ends.
    end: usize,
    /// Bytes of the queue in it.
    plain: usize,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl fmt::Debug for Side {
    /// Nothing of its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Server(_)) { "Server" } else { "Client" })
    }
}

/// The TLS of one connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Session {
    side: Side,
    binding: Option<[u8; 32]>,
    /// The beginning of a record, or of a message of the handshake, whose end has not come.
    incoming: Vec<u8>,
    /// Since when it waits for that end.
    pub(super) since: Tick,
    /// Ciphertext that the socket has not taken, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// The records in it that carry bytes of the queue.
    sealed: Vec<Sealed>,
    has_answered: bool,
    is_established: bool,
    has_ended: bool,
    /// It has failed: nothing is asked of it any more.
    is_broken: bool,
}

/// What came of received ciphertext.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    /// Bytes of plaintext.
    pub(super) plain: usize,
    /// Records that they came in.
    pub(super) records: u64,
    /// The handshake has just been completed.
    pub(super) has_established: bool,
}

impl Session {
    pub(super) fn new(role: TlsRole) -> Result<Self, Error> {
        let side = match role {
            TlsRole::Server(config) => Side::Server(UnbufferedServerConnection::new(config)?),
            TlsRole::Client(config, name) => Side::Client(UnbufferedClientConnection::new(config, name)?),
        };
        let mut session = Self {
            side,
            binding: None,
            incoming: Vec::new(),
            since: Tick::NEVER,
            outgoing: Vec::new(),
            sent: 0,
            sealed: Vec::new(),
            has_answered: false,
            is_established: false,
            has_ended: false,
            is_broken: false,
        };
        // A client speaks first.
        session.receive(&mut [], &mut [], Tick::NEVER).map_err(|(_, error)| error)?;
        Ok(session)
    }

    /// Whether it has had an answer for its peer.
    pub(super) const fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Whether the peer has said that nothing follows.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Bytes that it keeps for the time being.
    pub(super) const fn held_bytes(&self) -> usize {
        self.incoming.len() + self.outgoing.len()
    }

    pub(super) const fn incoming_bytes(&self) -> usize {
        self.incoming.len()
    }

    pub(super) const fn has_outgoing(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Whether bytes have been sealed that the queue still holds, and that can be neither changed nor left out.
    pub(super) const fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// How many bytes of the queue that is.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed.iter().map(|record| record.plain).sum()
    }

    /// Whether the session took up one from before.
    pub(super) fn is_resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Server(side) => side.handshake_kind(),
            Side::Client(side) => side.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Whether the handshake is over.
    pub(super) const fn is_established(&self) -> bool {
        self.is_established
    }

    /// What was agreed on in the handshake, once that is over.
    pub(super) fn terms(&self) -> Option<TlsTerms> {
        let (version, suite) = match &self.side {
            Side::Server(side) => (side.protocol_version(), side.negotiated_cipher_suite()),
            Side::Client(side) => (side.protocol_version(), side.negotiated_cipher_suite()),
        };
        let is_resumed = self.is_resumed();
        version.zip(suite).filter(|_| self.is_established).map(|(version, suite)| TlsTerms {
            version,
            suite: suite.suite(),
            is_resumed,
        })
    }

    /// The certificate that the peer has proved to have, in DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = match &self.side {
            Side::Server(side) => side.peer_certificates(),
            Side::Client(side) => side.peer_certificates(),
        };
        chain?.first().map(AsRef::as_ref)
    }

    /// What a password exchange is bound to (RFC 9266): in TLS 1.3 only, and if the configuration has a [`BindingLog`].
    pub(super) const fn binding(&self) -> Option<[u8; 32]> {
        self.binding
    }

    /// Puts the beginning that was kept in front of what is being read.
    pub(super) fn put_incoming(&self, front: &mut [u8]) {
        front.copy_from_slice(&self.incoming);
    }

    /// Opens `cipher`, which begins with the beginning that was kept, into `plain`, which must be as long, and keeps the
    /// beginning that is left. What is to be answered waits in `outgoing`.
    pub(super) fn receive(
        &mut self,
        cipher: &mut [u8],
        plain: &mut [u8],
        now: Tick,
    ) -> Result<Received, (TlsFault, Error)> {
        let was_established = self.is_established;
        let _ = binding::take();
        let mut opened = Opened { consumed: 0, plain: 0, records: 0, is_established: false, has_ended: self.has_ended };
        let outgoing = &mut self.outgoing;
        let done = match &mut self.side {
            Side::Server(side) => open(side, cipher, plain, outgoing, &mut opened),
            Side::Client(side) => open(side, cipher, plain, outgoing, &mut opened),
        };
        if let Err(error) = done {
            // Where the library stands cannot be told from outside any more: it is not asked again.
            (self.is_broken, self.incoming) = (true, Vec::new());
            return Err((TlsFault::of(&error, was_established), error));
        }
        if !was_established {
            self.binding = binding::take().or(self.binding);
        }
        self.has_answered |= !self.outgoing.is_empty();
        self.is_established |= opened.is_established;
        self.has_ended = opened.has_ended;
        let is_lost = planted::has(Bug::RecordRestLost) && opened.consumed > 0;
        let rest = if is_lost { &[] } else { &cipher[opened.consumed..] };
        if rest.is_empty() {
            self.incoming = Vec::new();
            self.since = Tick::NEVER;
        } else {
            if opened.consumed > 0 || self.incoming.is_empty() {
                self.since = now;
            }
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        let has_established = self.is_established && !was_established;
        Ok(Received { plain: opened.plain, records: opened.records, has_established })
    }

    /// Writes what waits in `outgoing`; says how many bytes of the queue have been written with that. Stops where the
    /// socket takes no more, which is no error here: [`Session::has_outgoing`] tells.
    pub(super) fn flush<T: Transport>(&mut self, transport: &mut T) -> io::Result<usize> {
        let mut failed = Ok(());
        while self.has_outgoing() && failed.is_ok() {
            match transport.write_vectored(&[IoSlice::new(&self.outgoing[self.sent..])]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => failed = Err(error),
            }
        }
        let whole = self.sealed.partition_point(|record| record.end <= self.sent);
        let written = self.sealed.drain(..whole).map(|record| record.plain).sum();
        if !self.has_outgoing() {
            self.outgoing = Vec::new();
            self.sealed = Vec::new();
            self.sent = 0;
        }
        // What was written is told first; the failure comes again with the next write.
        if written == 0 { failed.map(|()| 0) } else { Ok(written) }
    }

    /// Writes from `buffers`, which begin with what was sealed before; says how many bytes of them have been written.
    ///
    /// # Errors
    /// As those of [`Transport::write_vectored`]; `WouldBlock` also until the handshake is over.
    pub(super) fn write<T: Transport>(
        &mut self,
        transport: &mut T,
        buffers: &[IoSlice<'_>],
        desk: &mut Desk,
    ) -> io::Result<usize> {
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut written = 0;
        loop {
            if self.has_outgoing() {
                match self.flush(transport) {
                    Ok(count) => written += count,
                    Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
                }
            }
            let stopped = self.has_outgoing() || !self.is_established || self.is_broken;
            if written == total || stopped {
                return if written > 0 || total == 0 { Ok(written) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            let bytes = match self.seal(buffers, written, desk) {
                Ok(bytes) => bytes,
                // As above: it comes again.
                Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
            };
            // Straight from the shared memory; only what the socket does not take is kept.
            let taken = match transport.write_vectored(&[IoSlice::new(&desk.cipher[..bytes])]) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => 0,
                Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
            };
            let is_enough = |record: &Sealed| record.end <= taken || planted::has(Bug::SealedTakenForWritten);
            let whole = self.sealed.partition_point(is_enough);
            written += self.sealed.drain(..whole).map(|record| record.plain).sum::<usize>();
            if taken < bytes {
                self.outgoing.extend_from_slice(&desk.cipher[taken..bytes]);
                for record in &mut self.sealed {
                    record.end -= taken;
                }
            }
        }
    }

    /// Seals up to [`RECORDS_MAX`] records from the byte `start` of `buffers` on, and whatever the session itself has to
    /// say in front of them; says how many bytes of ciphertext that makes.
    fn seal(&mut self, buffers: &[IoSlice<'_>], start: usize, desk: &mut Desk) -> io::Result<usize> {
        desk.cipher.resize(desk.cipher.len().max(RECORDS_MAX * (RECORD_BYTES_MAX + RECORD_OVERHEAD_MAX)), 0);
        let Self { side, sealed, incoming, .. } = self;
        let mut pieces = Pieces { buffers, skip: start };
        let mut filled = 0;
        for _ in 0..RECORDS_MAX {
            let piece = pieces.next(&mut desk.plain);
            if piece.is_empty() {
                break;
            }
            let count = match side {
                Side::Server(side) => seal_record(side, incoming, piece, &mut desk.cipher, filled),
                Side::Client(side) => seal_record(side, incoming, piece, &mut desk.cipher, filled),
            }?;
            filled += count;
            desk.sealed += 1;
            sealed.push(Sealed { end: filled, plain: piece.len() });
        }
        Ok(filled)
    }

    /// Has the peer told that nothing follows, as far as the socket takes it.
    pub(super) fn close<T: Transport>(&mut self, transport: &mut T) {
        if planted::has(Bug::CloseNotifyForgotten) {
            return;
        }
        let mut alert = [0; 128];
        let incoming = &mut self.incoming;
        let count = match &mut self.side {
            _ if self.is_broken => 0,
            Side::Server(side) => close_notify(side, incoming, &mut alert),
            Side::Client(side) => close_notify(side, incoming, &mut alert),
        };
        self.outgoing.extend_from_slice(&alert[..count]);
        let _ = self.flush(transport);
    }
}

/// The next record's bytes of several buffers, in one piece.
struct Pieces<'a> {
    buffers: &'a [IoSlice<'a>],
    /// Bytes of them that have been dealt with.
    skip: usize,
}

impl<'a> Pieces<'a> {
    /// Up to a record's worth; copied together only where it does not lie in one buffer.
    fn next<'b>(&mut self, desk: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        while let Some(first) = self.buffers.first()
            && self.skip >= first.len()
        {
            self.skip -= first.len();
            self.buffers = &self.buffers[1..];
        }
        let Some(first) = self.buffers.first() else { return &[] };
        let here = &first[self.skip..];
        if here.len() >= RECORD_BYTES_MAX || self.buffers.len() == 1 {
            let piece = &here[..here.len().min(RECORD_BYTES_MAX)];
            self.skip += piece.len();
            return piece;
        }
        desk.clear();
        desk.extend_from_slice(here);
        self.skip = first.len();
        for buffer in &self.buffers[1..] {
            let room = RECORD_BYTES_MAX - desk.len();
            if room == 0 {
                break;
            }
            let part = &buffer[..buffer.len().min(room)];
            desk.extend_from_slice(part);
            self.skip += part.len();
        }
        desk
    }
}

/// What [`open`] has done so far.
struct Opened {
    consumed: usize,
    plain: usize,
    records: u64,
    is_established: bool,
    has_ended: bool,
}

/// Either end of a connection, whose records are handled in the same way.
trait Records {
    type Data;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Records for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// Handles all records of `cipher` that are whole. After an error the alert for the peer stands in `outgoing`.
fn open<S>(
    side: &mut UnbufferedConnectionCommon<S>,
    cipher: &mut [u8],
    plain: &mut [u8],
    outgoing: &mut Vec<u8>,
    opened: &mut Opened,
) -> Result<(), Error>
where
    UnbufferedConnectionCommon<S>: Records<Data = S>,
{
    loop {
        // Always all that is left: rustls remembers places in it.
        let UnbufferedStatus { discard, state } = side.step(&mut cipher[opened.consumed..]);
        let mut is_over = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(Ok(record)) = records.next_record() {
                    // Ciphertext is longer than what it opens to, so there is room.
                    plain[opened.plain..opened.plain + record.payload.len()].copy_from_slice(record.payload);
                    opened.plain += record.payload.len();
                    opened.records += 1;
                }
            }
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, outgoing),
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::WriteTraffic(_)) => (opened.is_established, is_over) = (true, true),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => (opened.has_ended, is_over) = (true, true),
            // Early data is not asked for.
            Ok(_) => is_over = true,
            Err(error) => {
                // What it has to say stands in front of everything else; beyond that it must not look at the bytes again.
                while side.wants_write()
                    && let Ok(ConnectionState::EncodeTlsData(message)) = side.step(&mut []).state
                {
                    encode(message, outgoing);
                }
                return Err(error);
            }
        }
        opened.consumed += discard;
        if is_over {
            return Ok(());
        }
    }
}

/// Appends a message of the session's own.
fn encode<S>(mut message: EncodeTlsData<'_, S>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        outgoing.resize(start + size.required_size, 0);
        let _ = message.encode(&mut outgoing[start..]);
    }
}

/// Appends a record with `piece` at `filled`; says how many bytes it and what had to stand in front of it take.
fn seal_record<S>(
    side: &mut UnbufferedConnectionCommon<S>,
    incoming: &mut Vec<u8>,
    piece: &[u8],
    cipher: &mut Vec<u8>,
    filled: usize,
) -> io::Result<usize>
where
    UnbufferedConnectionCommon<S>: Records<Data = S>,
{
    with_traffic(side, incoming, cipher, filled, |traffic, room| traffic.encrypt(piece, room))
}

fn close_notify<S>(side: &mut UnbufferedConnectionCommon<S>, incoming: &mut Vec<u8>, alert: &mut [u8; 128]) -> usize
where
    UnbufferedConnectionCommon<S>: Records<Data = S>,
{
    let mut room = alert.to_vec();
    let count = with_traffic(side, incoming, &mut room, 0, |traffic, room| {
        let alert: &mut [u8] = room;
        traffic.queue_close_notify(alert)
    })
    .unwrap_or(0);
    let count = if count <= alert.len() { count } else { 0 };
    alert[..count].copy_from_slice(&room[..count]);
    count
}

/// Has `act` write into `cipher` from `filled` on, which is made longer if need be. `incoming` is the beginning that was
/// kept: rustls remembers places in it, if it is one of a message of the handshake.
fn with_traffic<S>(
    side: &mut UnbufferedConnectionCommon<S>,
    incoming: &mut Vec<u8>,
    cipher: &mut Vec<u8>,
    filled: usize,
    mut act: impl FnMut(&mut WriteTraffic<'_, S>, &mut [u8]) -> Result<usize, EncryptError>,
) -> io::Result<usize>
where
    UnbufferedConnectionCommon<S>: Records<Data = S>,
{
    let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let mut at = filled;
    loop {
        let UnbufferedStatus { discard, state } = side.step(incoming);
        let mut done = None;
        match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match act(&mut traffic, &mut cipher[at..]) {
                Ok(count) => done = Some(at + count - filled),
                Err(EncryptError::InsufficientSize(least)) => cipher.resize(at + least.required_size, 0),
                Err(EncryptError::EncryptExhausted) => return Err(broken()),
            },
            // Something of the session's own comes first: an answer to a new key.
            Ok(ConnectionState::EncodeTlsData(mut message)) => match message.encode(&mut cipher[at..]) {
                Ok(count) => at += count,
                Err(EncodeError::InsufficientSize(least)) => {
                    cipher.resize(at + least.required_size, 0);
                    at += message.encode(&mut cipher[at..]).map_err(|_| broken())?;
                }
                Err(EncodeError::AlreadyEncoded) => return Err(broken()),
            },
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            // Whoever has said that nothing follows may still read.
            Ok(ConnectionState::PeerClosed) => {}
            _ => return Err(broken()),
        }
        incoming.drain(..discard);
        if let Some(count) = done {
            return Ok(count);
        }
    }
}
