//! One connection's TLS: ciphertext to bytes and back, between the socket and everything else.
//!
//! ```text
//!   socket ─► shared scratch: [ rest | ciphertext ] ─► handshake (rustls) ─► records, opened in place ─► as if just read
//!   queue  ─► sealed, up to four records ─► socket; what it does not take: `outgoing`
//! ```
//!
//! rustls agrees with the peer on everything ([`Handshake`]); behind that the records are framed here and protected by what
//! rustls has for their suite ([`Records`]), without a copy and a piece of memory for each of them.
//!
//! At rest a session holds its keys and no buffer. What is sealed stays in its queue until the socket has taken its
//! whole record: only then is it written. So the queue's age, its limits and what is handed back in the end are those of a
//! plain connection, and a record of which the peer got but a part, which nobody can open, counts as not sent.
//!
//! It knows no poll, no clock and no service; it is driven over any [`Transport`].

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use rustls::crypto::cipher::OutboundChunks;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, ServerConfig};

use super::handshake::{Agreed, Handshake};
use super::records::{Opened, RECORD_BYTES_MAX, Records};
use super::unwritten::Unwritten;
use super::{TlsFault, TlsTerms, Transport, binding};
use crate::planted::{self, Bug};
use crate::time::Tick;

/// Records that are sealed for one write. A reader that is stuck has no more than 64 KiB sealed in vain; sixteen are no
/// cheaper for one that keeps up.
pub(super) const RECORDS_MAX: usize = 4;
/// What sealing adds to a record, in all suites.
const PROTECTION_BYTES_MAX: usize = 32;
/// Pieces of a queue that are sealed with one write: as many as a queue offers.
const CHUNKS_MAX: usize = 64;
/// Ciphertext that is read at once. More records in a read mean fewer records and messages that are cut by its end, each of
/// which is copied; 256 KiB still fit the second-level cache, and are an eighth cheaper for long messages than 64 KiB.
pub(super) const CIPHER_BYTES: usize = 256 * 1024;

/// How this side takes part. The keys that come of a handshake are taken out of rustls, so the configuration must have
/// `enable_secret_extraction`.
#[derive(Clone, Debug)]
pub enum TlsRole {
    /// It was connected to.
    Server(Arc<ServerConfig>),
    /// It connects, to a server that must prove to have this name.
    Client(Arc<ClientConfig>, ServerName<'static>),
}

#[allow(
    clippy::large_enum_variant,
    reason = "the large one is that of a connection at rest, which has the others' place"
)]
enum State {
    Shaking(Box<Handshake>),
    Agreed(Records),
    /// It has failed before anything was agreed on.
    Failed,
}

impl fmt::Debug for State {
    /// Nothing of its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shaking(_) => f.write_str("Shaking"),
            Self::Agreed(records) => records.fmt(f),
            Self::Failed => f.write_str("Failed"),
        }
    }
}

/// The TLS of one connection.
#[derive(Debug)]
pub(super) struct Session {
    state: State,
    /// What was agreed on, once it was.
    terms: Option<TlsTerms>,
    certificate: Option<Box<[u8]>>,
    binding: Option<[u8; 32]>,
    /// The beginning of a record, or of a message of the handshake, whose end has not come.
    incoming: Vec<u8>,
    /// Since when it waits for that end.
    pub(super) since: Tick,
    outgoing: Unwritten,
    has_answered: bool,
    /// It has failed: nothing is asked of it any more.
    is_broken: bool,
}

/// What came of received ciphertext.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// Where the plaintext lies in it.
    pub(super) plain: Range<usize>,
    /// Records that it came in.
    pub(super) records: u64,
    /// The handshake has just been completed.
    pub(super) has_established: bool,
}

impl Session {
    pub(super) fn new(role: TlsRole) -> Result<Self, Error> {
        let mut outgoing = Unwritten::default();
        let handshake = Handshake::new(role, &mut outgoing)?;
        Ok(Self {
            state: State::Shaking(Box::new(handshake)),
            terms: None,
            certificate: None,
            binding: None,
            incoming: Vec::new(),
            since: Tick::NEVER,
            outgoing,
            has_answered: false,
            is_broken: false,
        })
    }

    /// Whether it has had an answer for its peer.
    pub(super) const fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Whether the peer has said that nothing follows.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(&self.state, State::Agreed(records) if records.has_ended())
    }

    /// Bytes that it keeps for the time being.
    pub(super) const fn held_bytes(&self) -> usize {
        self.incoming.len() + self.half_said_bytes() + self.outgoing.held_bytes()
    }

    /// Bytes that are to stand in front of what is read next.
    pub(super) const fn incoming_bytes(&self) -> usize {
        self.incoming.len()
    }

    const fn half_said_bytes(&self) -> usize {
        match &self.state {
            State::Agreed(records) => records.half_said_bytes(),
            _ => 0,
        }
    }

    /// Whether the end of a record has not come, or of a message of the handshake.
    pub(super) const fn is_waiting(&self) -> bool {
        self.incoming_bytes() > 0 || self.half_said_bytes() > 0
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether bytes have been sealed that the queue still holds, and that can be neither changed nor left out.
    pub(super) fn has_sealed(&self) -> bool {
        self.sealed_bytes() > 0
    }

    /// How many bytes of the queue that is.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.outgoing.plain_bytes()
    }

    /// Bytes that it keeps, and those that it will keep if `queued` bytes are sealed of which the socket takes none.
    pub(super) fn held_bytes_at_most(&self, queued: usize) -> usize {
        let unsealed = queued.min(RECORDS_MAX * RECORD_BYTES_MAX).saturating_sub(self.sealed_bytes());
        self.held_bytes() + unsealed + unsealed.div_ceil(RECORD_BYTES_MAX) * PROTECTION_BYTES_MAX
    }

    /// Whether the session took up one from before.
    pub(super) fn is_resumed(&self) -> bool {
        self.terms.is_some_and(|terms| terms.is_resumed)
    }

    /// Whether the handshake is over.
    pub(super) const fn is_established(&self) -> bool {
        self.terms.is_some()
    }

    /// What was agreed on in the handshake, once that is over.
    pub(super) const fn terms(&self) -> Option<TlsTerms> {
        self.terms
    }

    /// The certificate that the peer has proved to have, in DER, once the handshake is over.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// What a password exchange is bound to (RFC 9266): in TLS 1.3 only, and if the configuration has a [`BindingLog`].
    pub(super) const fn binding(&self) -> Option<[u8; 32]> {
        self.binding
    }

    /// Puts the beginning that was kept in front of what is being read.
    pub(super) fn put_incoming(&self, front: &mut [u8]) {
        front.copy_from_slice(&self.incoming);
    }

    /// Opens `cipher`, which begins with the beginning that was kept, where it lies, and keeps the beginning that is left.
    /// What is to be answered waits in `outgoing`.
    pub(super) fn receive(&mut self, cipher: &mut [u8], now: Tick) -> Result<Received, (TlsFault, Error)> {
        let (was_established, was_half_said) = (self.is_established(), self.half_said_bytes() > 0);
        let mut opened = Opened::default();
        if let Err(error) = self.open(cipher, &mut opened) {
            // Where the library stands cannot be told from outside any more: it is not asked again.
            (self.is_broken, self.incoming) = (true, Vec::new());
            if matches!(self.state, State::Shaking(_)) {
                self.state = State::Failed;
            }
            return Err((TlsFault::of(&error, was_established), error));
        }
        self.has_answered |= self.has_outgoing();
        let is_lost = planted::has(Bug::RecordRestLost) && opened.consumed > 0;
        let rest = if is_lost { &[] } else { &cipher[opened.consumed..] };
        // Whoever says a message in small pieces has the time of one.
        let is_same = was_half_said && self.half_said_bytes() > 0;
        if rest.is_empty() && self.half_said_bytes() == 0 {
            self.since = Tick::NEVER;
        } else if self.since == Tick::NEVER || opened.consumed > 0 && !is_same {
            self.since = now;
        }
        if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        let has_established = self.is_established() && !was_established;
        Ok(Received { plain: opened.plain, records: opened.records, has_established })
    }

    fn open(&mut self, cipher: &mut [u8], opened: &mut Opened) -> Result<(), Error> {
        if let State::Shaking(handshake) = &mut self.state {
            let _ = binding::take();
            let is_over = handshake.go_on(cipher, &mut opened.consumed, &mut self.outgoing)?;
            self.binding = binding::take().or(self.binding);
            if is_over && let State::Shaking(handshake) = std::mem::replace(&mut self.state, State::Failed) {
                let Agreed { records, terms, certificate } = handshake.into_agreed()?;
                self.state = State::Agreed(records);
                (self.terms, self.certificate) = (Some(terms), certificate);
            }
        }
        match &mut self.state {
            State::Agreed(records) => records.open(cipher, opened, &mut self.outgoing),
            _ => Ok(()),
        }
    }

    /// What the socket has not taken will not be written: nothing is, from now on.
    pub(super) fn forget_outgoing(&mut self) {
        self.outgoing = Unwritten::default();
    }

    /// Writes what waits in `outgoing`; says how many bytes of the queue have been written with that. Stops where the
    /// socket takes no more, which is no error here: [`Session::has_outgoing`] tells.
    pub(super) fn flush<T: Transport>(&mut self, transport: &mut T) -> io::Result<usize> {
        self.outgoing.flush(transport)
    }

    /// Writes from `buffers`, which begin with what was sealed before; says how many bytes of them have been written.
    /// `sealed` counts the records that this takes.
    ///
    /// # Errors
    /// As those of [`Transport::write_vectored`]; `WouldBlock` also until the handshake is over.
    pub(super) fn write<T: Transport>(
        &mut self,
        transport: &mut T,
        buffers: &[IoSlice<'_>],
        sealed: &mut u64,
    ) -> io::Result<usize> {
        if let [buffer] = buffers {
            // By far the most: it is not worth a list.
            return self.write_chunks(transport, &[buffer], sealed);
        }
        let mut chunks: [&[u8]; CHUNKS_MAX] = [&[]; CHUNKS_MAX];
        for (chunk, buffer) in chunks.iter_mut().zip(buffers) {
            *chunk = buffer;
        }
        self.write_chunks(transport, &chunks[..buffers.len().min(CHUNKS_MAX)], sealed)
    }

    fn write_chunks<T: Transport>(
        &mut self,
        transport: &mut T,
        chunks: &[&[u8]],
        sealed: &mut u64,
    ) -> io::Result<usize> {
        let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let mut written = 0;
        loop {
            let count = match self.flush(transport) {
                Ok(count) => count,
                Err(error) => return if written > 0 { Ok(written) } else { Err(error) },
            };
            written += count;
            let stopped = self.has_outgoing() || !self.is_established() || self.is_broken;
            if written == total || stopped {
                return if written > 0 || total == 0 { Ok(written) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            match self.seal(chunks, written, total) {
                Ok(count) => *sealed += count,
                // What is told of that carries nothing of the queue. The error comes again.
                Err(error) => {
                    let _ = self.flush(transport);
                    return if written > 0 { Ok(written) } else { Err(error) };
                }
            }
            if planted::has(Bug::SealedTakenForWritten) {
                written += self.flush(transport)? + self.outgoing.forget_plain();
            }
        }
    }

    /// Seals some records of the bytes of `chunks` between `start` and `total`; says how many.
    fn seal(&mut self, chunks: &[&[u8]], start: usize, total: usize) -> io::Result<u64> {
        let State::Agreed(records) = &mut self.state else { return Err(io::ErrorKind::NotConnected.into()) };
        let (mut count, mut start) = (0, start);
        while start < total && count < RECORDS_MAX as u64 {
            let end = total.min(start + RECORD_BYTES_MAX);
            let data = match chunks {
                [chunk] => OutboundChunks::Single(&chunk[start..end]),
                chunks => OutboundChunks::Multiple { chunks, start, end },
            };
            match records.seal(data, &mut self.outgoing) {
                Ok(()) => (count, start) = (count + 1, end),
                // Those before it can be written; it comes again.
                Err(_) if count > 0 => break,
                Err(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        Ok(count)
    }

    /// Has the peer told that nothing follows, as far as the socket takes it.
    pub(super) fn close<T: Transport>(&mut self, transport: &mut T) {
        if planted::has(Bug::CloseNotifyForgotten) {
            return;
        }
        if let State::Agreed(records) = &mut self.state {
            records.say_end(&mut self.outgoing);
        }
        let _ = self.flush(transport);
    }
}
