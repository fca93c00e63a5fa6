//! The handshake, and records in and out of a stream.
//!
//! ```text
//!   stream ─read─► Incoming (64 KiB) ─► rustls ─► the caller's buffer
//!   stream ◄─write── rustls (at most 64 KiB of records) ◄── the caller's slices
//! ```
//!
//! One thread may read while another writes. rustls has one state for both directions, so it stands behind a lock;
//! reading takes it only while records are decrypted, which is after the system call. Writing holds it during its
//! call, which never blocks: records leave in the order in which they were encrypted, and the reader's own (an
//! alert, the answer to a key update) among them.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::{ClientConnection, ProtocolVersion};

use super::{Plan, TlsError};
use crate::client::stream::Stream;

/// What one read asks for: four of the largest records.
const READ_BYTES: usize = 64 * 1024;
/// RFC 9266: what is exported, for how many bytes.
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// The first byte of a record: the types from change_cipher_spec to application_data (RFC 8446 section 5.1).
const RECORD_TYPES: Range<u8> = 20..24;

/// A connection's TLS, after the handshake.
#[derive(Debug)]
pub(in crate::client) struct Channel {
    connection: Mutex<ClientConnection>,
    /// The reader's alone; where both are taken, before the connection.
    incoming: Mutex<Incoming>,
    /// Bytes, or an end, wait in here, of which a poll of the stream knows nothing.
    leftover: AtomicBool,
}

/// What the stream gave and rustls has not taken.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    /// Within `bytes`.
    unread: Range<usize>,
    end: Option<End>,
}

/// Nothing more comes.
#[derive(Clone, Debug)]
enum End {
    /// The relay has said so (close_notify).
    Said,
    Fault(Fault),
}

/// How TLS can end a stream, as it stands within an [`io::Error`].
#[derive(Clone, Debug)]
pub(in crate::client) enum Fault {
    /// The stream has ended, and nobody said that it would.
    Truncated,
    /// What came is no TLS, was tampered with, or is an alert.
    Broken(rustls::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the stream was cut: its end was not announced (close_notify)"),
            Self::Broken(error) => TlsError::of(error.clone(), "").fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// The fault within an error of [`Channel::read`], if it is one.
    pub(in crate::client) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    fn into_error(self) -> io::Error {
        let kind = match self {
            Self::Truncated => ErrorKind::UnexpectedEof,
            Self::Broken(_) => ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

impl Plan {
    /// Shakes hands over `stream` until `deadline`.
    pub(in crate::client) fn open(self, stream: &Stream, deadline: Instant) -> Result<Channel, TlsError> {
        let started = Instant::now();
        let mut connection = ClientConnection::new(self.config.clone(), self.name.clone())
            .map_err(|error| TlsError::of(error, &self.host))?;
        let mut incoming = Incoming { bytes: Vec::new(), unread: 0..0, end: None };
        let mut heard = false;
        loop {
            let flushed = flush(&mut connection, stream).map_err(TlsError::Network)?;
            let handshaking = connection.is_handshaking();
            if flushed && !handshaking {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TlsError::TimedOut { timeout: deadline.saturating_duration_since(started) });
            }
            let ready = stream.wait(handshaking, !flushed, Some(left)).map_err(TlsError::Network)?;
            if !handshaking || !ready.readable {
                continue;
            }
            match stream.read(incoming.space()) {
                Ok(0) => return Err(TlsError::Ended),
                Ok(count) => incoming.filled(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(TlsError::Network(error)),
            }
            if !heard && !incoming.begins_like_tls() {
                return Err(TlsError::NotTls { host: self.host, port: self.port });
            }
            heard = true;
            if let Err(error) = incoming.feed_handshake(&mut connection) {
                // The relay is told why, if it can be.
                let _ = flush(&mut connection, stream);
                return Err(TlsError::of(error, &self.host));
            }
        }
        // What has come behind the handshake is found by the first read.
        Ok(Channel {
            connection: Mutex::new(connection),
            incoming: Mutex::new(incoming),
            leftover: AtomicBool::new(true),
        })
    }
}

impl Channel {
    /// What this connection can be told from every other by: RFC 9266, tls-exporter. A relay has it with TLS 1.3 only.
    pub(in crate::client) fn binding(&self) -> Option<[u8; 32]> {
        let connection = lock(&self.connection);
        let is_unique = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        is_unique.then(|| connection.export_keying_material([0; 32], BINDING_LABEL, Some(b"")).ok()).flatten()
    }

    pub(in crate::client) fn read(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        loop {
            let count = self.decrypt(stream, &mut incoming, buffer);
            if count > 0 {
                return Ok(count);
            }
            match &incoming.end {
                Some(End::Said) => return Ok(0),
                Some(End::Fault(fault)) => return Err(fault.clone().into_error()),
                None => {}
            }
            match stream.read(incoming.space())? {
                0 => incoming.end = Some(End::Fault(Fault::Truncated)),
                count => incoming.filled(count),
            }
        }
    }

    /// Fills `buffer` with what lies in here, as far as it goes.
    fn decrypt(&self, stream: &Stream, incoming: &mut Incoming, buffer: &mut [u8]) -> usize {
        let mut connection = lock(&self.connection);
        let mut count = 0;
        while count < buffer.len() {
            match connection.reader().read(&mut buffer[count..]) {
                Ok(0) => {
                    incoming.end = Some(End::Said);
                    break;
                }
                Ok(more) => count += more,
                Err(_) if incoming.unread.is_empty() || incoming.end.is_some() => break,
                Err(_) => {
                    if let Err(error) = incoming.feed(&mut connection) {
                        incoming.end = Some(End::Fault(Fault::Broken(error)));
                    }
                }
            }
        }
        // An alert, or the answer to a key update. What finds no room is written by whoever writes next.
        let _ = flush(&mut connection, stream);
        drop(connection);
        let is_left = !incoming.unread.is_empty() || incoming.end.is_some() || count == buffer.len();
        self.leftover.store(is_left, Ordering::Relaxed);
        count
    }

    /// Takes what fits into one buffer of records once the last one is written.
    pub(in crate::client) fn write(&self, stream: &Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut connection = lock(&self.connection);
        if !flush(&mut connection, stream)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = connection.writer().write_vectored(slices)?;
        flush(&mut connection, stream)?;
        Ok(count)
    }

    /// Writes records that wait, as far as there is room; whether that was all.
    pub(in crate::client) fn flush(&self, stream: &Stream) -> io::Result<bool> {
        flush(&mut lock(&self.connection), stream)
    }

    pub(in crate::client) fn is_unwritten(&self) -> bool {
        lock(&self.connection).wants_write()
    }

    /// There is something to read that a poll of the stream would not tell of.
    pub(in crate::client) fn has_leftover(&self) -> bool {
        self.leftover.load(Ordering::Relaxed)
    }

    /// Says that nothing more comes (close_notify), if there is room to say it.
    pub(in crate::client) fn say_end(&self, stream: &Stream) {
        let mut connection = lock(&self.connection);
        connection.send_close_notify();
        let _ = flush(&mut connection, stream);
    }
}

impl Incoming {
    /// Where the next bytes go, when all before them are taken.
    fn space(&mut self) -> &mut [u8] {
        self.bytes.resize(READ_BYTES, 0);
        &mut self.bytes
    }

    const fn filled(&mut self, count: usize) {
        self.unread = 0..count;
    }

    fn begins_like_tls(&self) -> bool {
        self.bytes[self.unread.clone()].first().is_none_or(|first| RECORD_TYPES.contains(first))
    }

    /// Gives rustls as much as it takes at a time. It takes something as long as what it has decrypted is read.
    fn feed(&mut self, connection: &mut ClientConnection) -> Result<(), rustls::Error> {
        let mut unread = &self.bytes[self.unread.clone()];
        let taken = connection.read_tls(&mut unread).map_err(|error| rustls::Error::General(error.to_string()))?;
        if taken == 0 {
            // Behind the relay's last word nothing has a meaning.
            self.unread = 0..0;
        }
        self.unread.start += taken;
        connection.process_new_packets().map(|_| ())
    }

    /// The same until the handshake is over or more is needed: what lies behind it is for the first read.
    fn feed_handshake(&mut self, connection: &mut ClientConnection) -> Result<(), rustls::Error> {
        while !self.unread.is_empty() && connection.is_handshaking() {
            self.feed(connection)?;
        }
        Ok(())
    }
}

/// Writes the records that wait, as far as there is room; whether that was all.
fn flush(connection: &mut ClientConnection, stream: &Stream) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(&mut Records(stream)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// A stream as rustls writes to it.
struct Records<'a>(&'a Stream);

impl Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread that has panicked is no reason for another to: what rustls holds is whole between two calls, or its own
/// next call says otherwise.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
