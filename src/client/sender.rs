//! The sending half of a connection: may be cloned and used from any thread.
//!
//! What it does not do: it waits for no answer. Every method returns the correlation under which the answer,
//! a RECEIPT or an ERROR, comes out of the [`Receiver`](super::Receiver).

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::outbox::Outbox;
use super::socket::Socket;
use crate::wire::control::{self, Body, Profile, Who};
use crate::wire::{Flags, HEADER_BYTES, Header, Id, RECIPIENTS_MAX, Type, kind};

/// What the relay said in its WELCOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// This client's own id.
    pub client: Id,
    /// The largest payload in either direction, in bytes.
    pub payload_bytes_max: u32,
    /// The silence after which either side asks for a sign of life; zero: never.
    pub keepalive: Duration,
    /// Bytes that the relay queues for this client before frames are refused or skipped.
    pub queue_bytes_max: u64,
    /// The relay's clock when it wrote the WELCOME, in microseconds.
    pub clock_us: u64,
    /// The time of day, in microseconds since 1970, at which the relay's clock stood at zero.
    pub epoch_us: u64,
    /// This client's public address as the relay sees it.
    pub address: String,
    /// The relay's software and version.
    pub agent: String,
    /// Who this client is authenticated as; `None` at a relay that does not ask.
    pub user: Option<String>,
}

/// What the two halves of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) socket: Socket,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    started: Instant,
    /// The time of day at `started`, in microseconds since 1970.
    day_us: u64,
    correlation: AtomicU32,
}

impl Shared {
    pub(super) fn new(socket: Socket, session: Session, started: Instant) -> Arc<Self> {
        let day_us = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        // The connection began a little earlier than now.
        let day_us = day_us.saturating_sub(micros(started.elapsed()));
        Arc::new(Self { socket, outbox: Outbox::default(), session, started, day_us, correlation: AtomicU32::new(1) })
    }

    /// See [`Sender::clock_us`].
    pub(super) fn clock_us(&self) -> u64 {
        self.day_us.saturating_add(micros(self.started.elapsed()))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How a frame is to be sent: its type, what its payload is, and its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// SEND unless an application's own type is set.
    pub type_number: u8,
    /// What the payload is: a number of [`kind`], or the application's own.
    pub kind: u16,
    /// RECEIPT and NO_ECHO, among others.
    pub flags: Flags,
}

impl Envelope {
    /// A SEND whose payload is of kind `kind`.
    #[must_use]
    pub const fn kind(kind: u16) -> Self {
        Self { type_number: Type::Send.number(), kind, flags: Flags::NONE }
    }

    /// A SEND of UTF-8 text.
    #[must_use]
    pub const fn text() -> Self {
        Self::kind(kind::TEXT)
    }

    /// A SEND of bytes.
    #[must_use]
    pub const fn bytes() -> Self {
        Self::kind(kind::BYTES)
    }

    /// The same with a type of the application's own, 0x80 to 0xFF.
    #[must_use]
    pub const fn of_type(mut self, type_number: u8) -> Self {
        self.type_number = type_number;
        self
    }

    /// The same, asking for a RECEIPT.
    #[must_use]
    pub const fn receipt(mut self) -> Self {
        self.flags = self.flags.with(Flags::RECEIPT);
        self
    }

    /// The same, not to be delivered to its own sender where that is a member or one of all.
    #[must_use]
    pub const fn no_echo(mut self) -> Self {
        self.flags = self.flags.with(Flags::NO_ECHO);
        self
    }
}

/// Why a frame was not sent.
#[derive(Debug)]
pub enum SendError {
    /// The payload is longer than agreed with the relay; nothing was sent.
    TooLarge {
        /// Its bytes, a list of recipients included.
        payload_bytes: usize,
        /// The bytes that are allowed.
        payload_bytes_max: u32,
    },
    /// More recipients than one SEND_MANY may have, or none at all; nothing was sent.
    BadRecipients {
        /// How many they are.
        count: usize,
    },
    /// The connection has ended, or is ending; [`Receiver`](super::Receiver) says why.
    Closed(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { payload_bytes, payload_bytes_max } => {
                write!(f, "a payload of {payload_bytes} bytes is over the agreed limit of {payload_bytes_max}")
            }
            Self::BadRecipients { count } => {
                write!(f, "one frame goes to 1 to {RECIPIENTS_MAX} recipients, not to {count}")
            }
            Self::Closed(error) => write!(f, "the connection has ended: {error}"),
        }
    }
}

impl std::error::Error for SendError {}

/// The sending half of a connection.
///
/// A call blocks while the relay takes nothing. The relay takes nothing more from a client that does not read
/// what it is sent, so let another thread receive while one sends without pause.
#[derive(Clone, Debug)]
pub struct Sender {
    pub(super) shared: Arc<Shared>,
}

impl Sender {
    /// What the relay said in its WELCOME.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.shared.session
    }

    /// This client's clock in microseconds: the time of day (since 1970) at which it began to connect, plus the
    /// monotonic time since. It never goes back or jumps while the connection lasts, even where the system's
    /// clock is set; and the offset between two clients of this library is that of their clocks on the wall.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.shared.clock_us()
    }

    /// Sends `payload` to a client, a room (as a member), or [`Id::ALL`]. Returns the correlation.
    ///
    /// # Errors
    /// The payload is too large, or the connection has ended.
    pub fn send(&self, to: Id, envelope: Envelope, payload: &[u8]) -> Result<u32, SendError> {
        let correlation = self.next_correlation();
        self.send_as(correlation, to, envelope, payload)?;
        Ok(correlation)
    }

    /// Like [`Sender::send`], under a correlation that the caller has drawn with [`Sender::next_correlation`]:
    /// for those who must note it before the answer can be there.
    ///
    /// # Errors
    /// The payload is too large, or the connection has ended.
    pub fn send_as(&self, correlation: u32, to: Id, envelope: Envelope, payload: &[u8]) -> Result<(), SendError> {
        let header = envelope.header(correlation).to(to);
        self.write(header, &[], payload)
    }

    /// Sends `payload` to 1 to 1024 clients at once. Returns the correlation; each recipient that fails is
    /// told in an ERROR of its own.
    ///
    /// # Errors
    /// There are too many recipients, the payload and their list are too large, or the connection has ended.
    pub fn send_many(&self, to: &[Id], envelope: Envelope, payload: &[u8]) -> Result<u32, SendError> {
        let correlation = self.next_correlation();
        self.send_many_as(correlation, to, envelope, payload)?;
        Ok(correlation)
    }

    /// Like [`Sender::send_many`], under a correlation drawn before.
    ///
    /// # Errors
    /// See [`Sender::send_many`].
    pub fn send_many_as(
        &self,
        correlation: u32,
        to: &[Id],
        envelope: Envelope,
        payload: &[u8],
    ) -> Result<(), SendError> {
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            return Err(SendError::BadRecipients { count: to.len() });
        }
        let mut list = Vec::new();
        control::put_recipients(&mut list, to);
        let header = envelope.of_type(Type::SendMany.number()).header(correlation);
        self.write(header, &list, payload)
    }

    /// Tells the sender of a received frame that this application has taken it.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn ack(&self, received: &Header) -> Result<(), SendError> {
        self.write(Header::new(Type::Ack).to(received.source).correlating(received.correlation), &[], &[])
    }

    /// Asks who is here and to be told of every change: of everybody, or of a room as its member.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn watch(&self, room: Option<Id>) -> Result<u32, SendError> {
        self.request(Flags::NONE, &control::Watch { room: room.map(Id::bits) })
    }

    /// Asks to be told no more. The answer is a RECEIPT of stage DONE.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn unwatch(&self, room: Option<Id>) -> Result<u32, SendError> {
        self.request(Flags::RECEIPT, &control::Unwatch { room: room.map(Id::bits) })
    }

    /// Asks once who is here.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn who(&self, who: Who<'_>) -> Result<u32, SendError> {
        self.request(Flags::NONE, &who)
    }

    /// Changes what others see of this client; absent parts stay. The answer is a RECEIPT of stage DONE.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn update(&self, profile: Profile<'_>) -> Result<u32, SendError> {
        self.request(Flags::RECEIPT, &control::Update(profile))
    }

    /// Asks to be a member of the room called `name`. The answer is a JOINED with the room's id.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn join(&self, name: &str) -> Result<u32, SendError> {
        self.request(Flags::NONE, &control::Join { name })
    }

    /// Leaves a room. The answer is a RECEIPT of stage DONE.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn leave(&self, room: Id) -> Result<u32, SendError> {
        self.request(Flags::RECEIPT, &control::Leave { room: room.bits() })
    }

    /// Ends another client's connection, which is told `why`: at most 256 bytes of one line, or nothing. Only a user who
    /// may administer the relay can. The answer is a RECEIPT of stage DONE.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn evict(&self, client: Id, why: &str) -> Result<u32, SendError> {
        self.request(Flags::RECEIPT, &control::Evict { client, text: why })
    }

    /// Measures the way to a client, or to the relay with [`Id::RELAY`]. The answer is a PONG.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn ping(&self, to: Id) -> Result<u32, SendError> {
        let correlation = self.next_correlation();
        let mut frame = Vec::new();
        let header = Header::new(Type::Ping).to(to).correlating(correlation);
        control::Ping { clock_us: Some(self.clock_us()) }.write_frame(header, &mut frame);
        self.send_frames(&frame)?;
        Ok(correlation)
    }

    /// Says GOODBYE: the relay tells the others, writes what it still has for this client, and closes. The
    /// receiver goes on until [`Event::Closed`](super::Event::Closed).
    ///
    /// # Errors
    /// The connection has ended already.
    pub fn goodbye(&self) -> Result<(), SendError> {
        self.request(Flags::NONE, &control::Goodbye(control::Reason::default())).map(|_| ())
    }

    /// Ends the connection at once, in both directions. What was not yet received is lost.
    pub fn shutdown(&self) {
        self.shared.socket.shutdown();
    }

    /// Writes whole frames that the caller has built with [`wire`](crate::wire); nothing is checked. Many small
    /// frames in one call cost one system call.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send_frames(&self, frames: &[u8]) -> Result<(), SendError> {
        let shared = &*self.shared;
        shared.outbox.send(&shared.socket, &mut [IoSlice::new(frames)]).map_err(SendError::Closed)
    }

    /// A number that no other frame of this connection has had of late, and never 0.
    #[must_use]
    pub fn next_correlation(&self) -> u32 {
        loop {
            let drawn = self.shared.correlation.fetch_add(1, Ordering::Relaxed);
            if drawn != 0 {
                return drawn;
            }
        }
    }

    fn request<'a>(&self, flags: Flags, body: &impl Body<'a>) -> Result<u32, SendError> {
        let correlation = self.next_correlation();
        let mut frame = Vec::new();
        // The body's own type takes the place of the one given here.
        body.write_frame(Header::new(Type::Send).correlating(correlation).flagged(flags), &mut frame);
        self.send_frames(&frame)?;
        Ok(correlation)
    }

    fn write(&self, header: Header, list: &[u8], payload: &[u8]) -> Result<(), SendError> {
        let shared = &*self.shared;
        let payload_bytes = list.len() + payload.len();
        let payload_bytes_max = shared.session.payload_bytes_max;
        if payload_bytes > payload_bytes_max as usize {
            return Err(SendError::TooLarge { payload_bytes, payload_bytes_max });
        }
        let front: [u8; HEADER_BYTES] = header.bytes(payload_bytes);
        let mut slices = [IoSlice::new(&front), IoSlice::new(list), IoSlice::new(payload)];
        shared.outbox.send(&shared.socket, &mut slices).map_err(SendError::Closed)
    }
}

impl Envelope {
    const fn header(self, correlation: u32) -> Header {
        Header {
            type_number: self.type_number,
            flags: self.flags,
            kind: self.kind,
            correlation,
            destination: Id::RELAY,
            source: Id::RELAY,
        }
    }
}

impl SendError {
    /// The connection has ended; the other errors concern this frame alone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}
