//! What a client hears from the relay, parsed once into values that own what they hold.
//!
//! What it does not do: it reads no socket and keeps nothing between two frames.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::wire::body::BodyError;
use crate::wire::control::{self, Body, ErrorBody, Gap, Goodbye, Joined, Member, Presence, Receipt, Stage};
use crate::wire::{Code, Flags, FrameError, Header, Id, Type, is_routed};

/// One thing that happened on the connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame from a client: a SEND, a frame of the files, or one of the application's own types.
    Message(Message),
    /// A recipient's application has taken the frame that was sent to it with this correlation.
    Ack {
        /// Who has taken it.
        from: Id,
        /// The correlation of the frame.
        correlation: u32,
    },
    /// How far a frame has got that asked for a receipt.
    Receipt(ReceiptFor),
    /// A frame failed (1xxx), or the connection is about to end (2xxx, 3xxx).
    Error(Failure),
    /// Frames for this client are missing exactly here: it was too slow to take them.
    Gap {
        /// How many.
        frames: u64,
        /// How many bytes they had, headers included.
        bytes: u64,
    },
    /// A page of who is here: the answer to a WATCH or a WHO.
    Snapshot(Snapshot),
    /// Who has come, changed and gone, in the order in which it happened.
    Delta(Delta),
    /// This client is now a member of a room.
    Joined(JoinedRoom),
    /// The answer to a PING.
    Pong(Pong),
    /// The relay is leaving; what it still has for this client comes before.
    Goodbye(Failure),
    /// The connection has ended. Nothing but this comes from here on.
    Closed(Closed),
}

/// A frame that another client (or this one itself) has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type, flags, kind and correlation as the sender set them; the source is the sender, the destination
    /// this client, a room, [`Id::ALL`], or [`Id::MANY`].
    pub header: Header,
    /// The payload.
    pub payload: Bytes,
}

/// How far a frame has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptFor {
    /// The correlation of the frame.
    pub correlation: u32,
    /// How far; `None` is a stage of a later version.
    pub stage: Option<Stage>,
    /// To how many recipients it was queued.
    pub recipients: Option<u64>,
    /// For how many recipients it was skipped and counted in their next GAP, or refused.
    pub skipped: Option<u64>,
}

/// Why a frame failed, or why the relay ends the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The correlation of the frame that failed; 0 where none is meant.
    pub correlation: u32,
    /// The reason's number; 0 if none was given.
    pub code_number: u16,
    /// What happened, for people.
    pub text: String,
    /// The recipient for whom the frame failed, where that is one client.
    pub client: Option<Id>,
    /// How long to wait before coming back.
    pub retry_after: Option<Duration>,
    /// The versions that the relay speaks, lowest and highest, where that is the trouble.
    pub versions: Option<(u8, u8)>,
    /// The ways to authenticate that the relay offers on this connection, where that is the trouble.
    pub mechanisms: Vec<String>,
}

impl Failure {
    /// The reason, if this version knows it.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        Code::from_number(self.code_number)
    }

    /// The connection ends with this reason; codes of later versions go by their thousands.
    #[must_use]
    pub const fn closes(&self) -> bool {
        !matches!(self.code_number, 1000..=1999)
    }

    /// A client that was closed with this reason may come back unchanged.
    #[must_use]
    pub const fn may_return(&self) -> bool {
        self.code_number < 3000
    }

    fn new(correlation: u32, reason: control::Reason<'_>) -> Self {
        Self {
            correlation,
            code_number: reason.code_number,
            text: reason.text.to_owned(),
            client: reason.client,
            retry_after: reason.retry_ms.map(|ms| Duration::from_millis(u64::from(ms))),
            versions: reason.versions,
            mechanisms: reason.mechanisms.iter().flatten().map(|&mechanism| mechanism.to_owned()).collect(),
        }
    }
}

/// The explanation with the code's name behind it, as it goes on behind a colon: `the recipient's queue has no room for this
/// frame (QUEUE_FULL)`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &dyn fmt::Display = match self.code() {
            Some(code) => &code.name(),
            None => &self.code_number,
        };
        match (self.text.as_str(), self.code_number) {
            ("", 0) => f.write_str("no reason was given"),
            ("", _) => write!(f, "{name}"),
            (text, 0) => f.write_str(&continued(text)),
            (text, _) => write!(f, "{} ({name})", continued(text)),
        }?;
        if let Some((min, max)) = self.versions {
            write!(f, "; the relay speaks versions {min} to {max}")?;
        }
        if !self.mechanisms.is_empty() {
            write!(f, "; it takes {} here", self.mechanisms.join(", "))?;
        }
        Ok(())
    }
}

/// A sentence without its full stop and its capital, since more stands around it; the relay's own texts are such. A word
/// of capitals keeps them, and what is no sentence, as a reason that a person has typed, stays as it is.
fn continued(text: &str) -> String {
    let Some(sentence) = text.strip_suffix('.') else { return text.to_owned() };
    let mut rest = sentence.chars();
    match rest.next().filter(|first| first.is_uppercase()) {
        // The next letter is that of another word behind `A`.
        Some(first) if rest.clone().find(|c| c.is_alphabetic()).is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(rest).collect()
        }
        _ => sentence.to_owned(),
    }
}

/// A client of the relay as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id, never used again after it has gone.
    pub id: Id,
    /// Its name, unique among those who are here.
    pub name: String,
    /// Where it runs, in its own words; empty if it does not say.
    pub station: String,
    /// Where it listens for direct contact.
    pub endpoints: Vec<String>,
    /// Whatever it wants others to know.
    pub details: Bytes,
    /// Its public address as the relay sees it.
    pub address: String,
}

impl Peer {
    fn new(member: &Member<'_>) -> Self {
        Self {
            id: member.client,
            name: member.profile.name.unwrap_or_default().to_owned(),
            station: member.profile.station.unwrap_or_default().to_owned(),
            endpoints: member.profile.endpoints().map(str::to_owned).collect(),
            details: member.profile.details.map(Bytes::copy_from_slice).unwrap_or_default(),
            address: member.address.to_owned(),
        }
    }
}

/// A page of who is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The correlation of the WATCH or WHO that it answers.
    pub correlation: u32,
    /// The room that it is about; `None` where everybody is meant.
    pub room: Option<Id>,
    /// The number of the last DELTA that it includes.
    pub sequence: u64,
    /// More pages follow.
    pub more: bool,
    /// Who is here.
    pub members: Vec<Peer>,
}

/// One turn's changes of who is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The room that it is about; `None` where everybody is meant.
    pub room: Option<Id>,
    /// Its number; the next one of the same scope has the next number.
    pub sequence: u64,
    /// What happened, in order.
    pub changes: Vec<Change>,
}

/// One change of who is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A client has come.
    Arrived(Peer),
    /// A client has changed; this is its new profile, whole.
    Changed(Peer),
    /// A client has gone.
    Departed {
        /// Its id.
        client: Id,
        /// Why: a number of [`Code`], or 0.
        code_number: u16,
    },
}

/// This client is a member of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedRoom {
    /// The correlation of the JOIN.
    pub correlation: u32,
    /// The room's id: the destination of what is sent to it.
    pub room: Id,
    /// Its name.
    pub name: String,
    /// How many members it has, this client included.
    pub members: u64,
}

/// The answer to a PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Who answers: [`Id::RELAY`] or a client.
    pub from: Id,
    /// The correlation of the PING.
    pub correlation: u32,
    /// From sending the PING to taking the PONG; `None` if the answer does not echo a clock of the past.
    pub round_trip: Option<Duration>,
    /// The other side's clock minus this client's, in microseconds, on the assumption that both ways take
    /// equally long; wrong by at most half the round trip. This client's clock is
    /// [`Sender::clock_us`](super::Sender::clock_us), a time of day; the relay's is its time of day as well
    /// (EPOCH_US of its WELCOME and the clock of its PONG), and a peer's is what its PONG says: a time of day
    /// where it uses this library, and anything where it does not.
    pub clock_offset_us: Option<i64>,
}

/// Why the connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The relay ended it, and this is why.
    ByRelay(Failure),
    /// The relay ended it without a word, as it does after a client's GOODBYE.
    Ended,
    /// A stream over TLS has ended, and TLS was not told that it would: the relay's process or machine has failed, or
    /// somebody in between has cut the stream, and what came before may not be all.
    Truncated,
    /// The relay was not heard for twice the keepalive.
    Silent {
        /// For how long.
        silence: Duration,
    },
    /// The relay sent something that can never become a frame.
    BadFrame(FrameError),
    /// The relay sent a body that cannot be read: what it said is lost, and nothing after it can be relied on.
    BadBody {
        /// The type of the frame.
        type_number: u8,
        /// Its correlation.
        correlation: u32,
        /// What is wrong with the body.
        error: BodyError,
    },
    /// The network failed.
    Broken {
        /// How.
        kind: io::ErrorKind,
        /// The system's words for it.
        text: String,
    },
}

impl Closed {
    pub(super) fn broken(error: &io::Error) -> Self {
        Self::Broken { kind: error.kind(), text: error.to_string() }
    }

    /// A client may come back unchanged.
    #[must_use]
    pub const fn may_return(&self) -> bool {
        match self {
            Self::ByRelay(failure) => failure.may_return(),
            _ => true,
        }
    }

    /// How long the relay asked to wait before coming back.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ByRelay(failure) => failure.retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByRelay(failure) => failure.fmt(f),
            Self::Ended => f.write_str("the relay closed the connection"),
            Self::Truncated => f.write_str("the connection was cut: TLS was not told of its end (close_notify)"),
            Self::Silent { silence } => write!(f, "the relay was not heard for {:.1} s", silence.as_secs_f64()),
            Self::BadFrame(error) => write!(f, "the relay's stream is not understood: {error}"),
            Self::BadBody { type_number, error, .. } => match Type::from_number(*type_number) {
                Some(known) => write!(f, "the relay's {known} cannot be read: {error}"),
                None => write!(f, "a frame of type {type_number:#04x} from the relay cannot be read: {error}"),
            },
            Self::Broken { text, .. } => write!(f, "the connection failed: {text}"),
        }
    }
}

impl Event {
    /// What a frame from the relay means; `None` for one that this version does not know, to be skipped.
    ///
    /// `now_us` is this client's clock, and `epoch_us` the time of day at which the relay's stood at zero. A PING is
    /// none of these: it is to be answered, not shown.
    ///
    /// # Errors
    /// A body of the relay cannot be read: the connection is to be closed. A PONG of a peer that cannot be read is
    /// skipped: the relay does not look into it.
    pub(super) fn read(header: Header, payload: Bytes, now_us: u64, epoch_us: u64) -> Result<Option<Self>, Closed> {
        let known = match header.frame_type() {
            Some(Type::Ack) => Ok(Self::Ack { from: header.source, correlation: header.correlation }),
            Some(Type::Pong) => read_pong(&header, &payload, now_us, epoch_us),
            _ if is_routed(header.type_number, header.destination) => Ok(Self::Message(Message { header, payload })),
            Some(Type::Receipt) => Receipt::parse(&payload).map(|receipt| {
                Self::Receipt(ReceiptFor {
                    correlation: header.correlation,
                    stage: Stage::from_number(receipt.stage),
                    recipients: receipt.recipients,
                    skipped: receipt.skipped,
                })
            }),
            Some(Type::Error) => {
                ErrorBody::parse(&payload).map(|body| Self::Error(Failure::new(header.correlation, body.0)))
            }
            Some(Type::Goodbye) => {
                Goodbye::parse(&payload).map(|body| Self::Goodbye(Failure::new(header.correlation, body.0)))
            }
            Some(Type::Gap) => Gap::parse(&payload).map(|gap| Self::Gap { frames: gap.frames, bytes: gap.bytes }),
            Some(Type::Snapshot) => read_snapshot(&header, &payload).map(Self::Snapshot),
            Some(Type::Delta) => read_delta(&payload).map(Self::Delta),
            Some(Type::Joined) => Joined::parse(&payload).map(|joined| {
                Self::Joined(JoinedRoom {
                    correlation: header.correlation,
                    room: joined.room,
                    name: joined.name.to_owned(),
                    members: joined.members,
                })
            }),
            _ => return Ok(None),
        };
        match known {
            Ok(event) => Ok(Some(event)),
            Err(_) if header.source != Id::RELAY => Ok(None),
            Err(error) => {
                let (type_number, correlation) = (header.type_number, header.correlation);
                Err(Closed::BadBody { type_number, correlation, error })
            }
        }
    }
}

fn read_pong(header: &Header, payload: &[u8], now_us: u64, epoch_us: u64) -> Result<Event, BodyError> {
    let pong = control::Pong::parse(payload)?;
    // What comes back is only as true as the other side: a clock that we cannot have sent tells nothing.
    let sent_us = pong.ping_clock_us.filter(|sent| *sent <= now_us);
    let round_trip = sent_us.map(|sent| Duration::from_micros(now_us - sent));
    let offset = |(sent, theirs): (u64, u64)| {
        let middle = i128::from(sent) + i128::from(now_us - sent) / 2;
        let zero = if header.source == Id::RELAY { epoch_us } else { 0 };
        i64::try_from(i128::from(zero) + i128::from(theirs) - middle).ok()
    };
    Ok(Event::Pong(Pong {
        from: header.source,
        correlation: header.correlation,
        round_trip,
        clock_offset_us: sent_us.zip(pong.clock_us).and_then(offset),
    }))
}

fn read_snapshot(header: &Header, payload: &[u8]) -> Result<Snapshot, BodyError> {
    let mut snapshot =
        Snapshot { correlation: header.correlation, more: header.flags.has(Flags::MORE), ..Snapshot::default() };
    for item in control::presence(payload) {
        match item? {
            Presence::Room(room) => snapshot.room = Some(room),
            Presence::Sequence(sequence) => snapshot.sequence = sequence,
            Presence::Member(member) => snapshot.members.push(Peer::new(&member)),
            Presence::Arrived(_) | Presence::Changed(_) | Presence::Departed(_) => {}
        }
    }
    Ok(snapshot)
}

fn read_delta(payload: &[u8]) -> Result<Delta, BodyError> {
    let mut delta = Delta::default();
    for item in control::presence(payload) {
        match item? {
            Presence::Room(room) => delta.room = Some(room),
            Presence::Sequence(sequence) => delta.sequence = sequence,
            Presence::Arrived(member) => delta.changes.push(Change::Arrived(Peer::new(&member))),
            Presence::Changed(member) => delta.changes.push(Change::Changed(Peer::new(&member))),
            Presence::Departed(member) => {
                delta.changes.push(Change::Departed { client: member.client, code_number: member.code_number });
            }
            Presence::Member(_) => {}
        }
    }
    Ok(delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_gives_round_trip_and_offset_and_a_lie_gives_neither() {
        let read = |sent: Option<u64>, theirs: Option<u64>| {
            let mut payload = Vec::new();
            control::Pong { ping_clock_us: sent, clock_us: theirs }.write(&mut payload);
            let header = Header { source: Id::client(1, 1), ..Header::new(Type::Pong) };
            let Ok(Some(Event::Pong(pong))) = Event::read(header, payload.into(), 1_000, 5_000) else { panic!() };
            (pong.round_trip, pong.clock_offset_us)
        };
        assert_eq!(read(Some(400), Some(10_700)), (Some(Duration::from_micros(600)), Some(10_000)));
        assert_eq!(read(Some(400), Some(0)), (Some(Duration::from_micros(600)), Some(-700)));
        assert_eq!(read(Some(1_001), Some(5)), (None, None));
        assert_eq!(read(Some(0), Some(u64::MAX)), (Some(Duration::from_millis(1)), None));
        assert_eq!(read(None, Some(5)), (None, None));
    }

    #[test]
    fn the_offset_of_the_relay_is_that_of_its_time_of_day() {
        let mut payload = Vec::new();
        control::Pong { ping_clock_us: Some(1_000_400), clock_us: Some(700) }.write(&mut payload);
        let event = Event::read(Header::new(Type::Pong), payload.into(), 1_000_600, 1_000_000);
        let Ok(Some(Event::Pong(pong))) = event else { panic!() };
        assert_eq!((pong.round_trip, pong.clock_offset_us), (Some(Duration::from_micros(200)), Some(200)));
    }

    #[test]
    fn a_body_of_the_relay_that_cannot_be_read_ends_it_and_a_type_of_a_later_version_is_skipped() {
        let event = Event::read(Header::new(Type::Receipt).correlating(3), Bytes::from_static(b"x"), 0, 0);
        assert!(matches!(event, Err(Closed::BadBody { type_number: 0x12, correlation: 3, .. })));
        let of_a_peer = Header { source: Id::client(1, 1), ..Header::new(Type::Pong) };
        assert!(matches!(Event::read(of_a_peer, Bytes::from_static(b"x"), 0, 0), Ok(None)));
        let later = Header { type_number: 0x7f, ..Header::new(Type::Send) };
        assert!(matches!(Event::read(later, Bytes::new(), 0, 0), Ok(None)));
        let own = Header { type_number: 0x99, ..Header::new(Type::Send) };
        assert!(matches!(Event::read(own, Bytes::new(), 0, 0), Ok(Some(Event::Message(_)))));
    }

    #[test]
    fn garbage_in_any_type_never_panics() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let header = Header { type_number: random.u8(..0x50), ..Header::new(Type::Send) };
            let payload: Vec<u8> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
            let event = Event::read(header, payload.into(), random.u64(..), random.u64(..));
            let _ = format!("{event:?}");
        }
    }

    #[test]
    fn a_reason_is_printed_with_its_name_or_its_number() {
        let mut failure = Failure { code_number: 1003, text: "nobody".into(), ..Failure::default() };
        assert_eq!(failure.to_string(), "nobody (NO_SUCH_CLIENT)");
        failure.text.push('.');
        assert_eq!(failure.to_string(), "nobody (NO_SUCH_CLIENT)");
        assert!(!failure.closes() && failure.may_return());
        failure = Failure { code_number: 3999, versions: Some((2, 4)), ..Failure::default() };
        assert_eq!(failure.to_string(), "3999; the relay speaks versions 2 to 4");
        assert!(failure.closes() && !failure.may_return());
        failure = Failure { mechanisms: vec!["SCRAM-SHA-256".into(), "TOKEN".into()], ..Failure::default() };
        assert!(failure.to_string().ends_with("; it takes SCRAM-SHA-256, TOKEN here"), "{failure}");
        assert_eq!(Failure::default().to_string(), "no reason was given");
    }

    #[test]
    fn what_the_relay_says_goes_on_behind_a_colon() {
        for (text, shown) in [
            ("The client has not proved to be a user.", "the client has not proved to be a user"),
            ("A frame is longer than agreed.", "a frame is longer than agreed"),
            ("TLS is wanted.", "TLS is wanted"),
            ("A HELLO is wanted.", "A HELLO is wanted"),
            ("HELLO has been said already", "HELLO has been said already"),
            ("Bob, too loud", "Bob, too loud"),
            ("Ünited.", "ünited"),
            (".", ""),
        ] {
            let failure = Failure { text: text.into(), ..Failure::default() };
            assert_eq!(failure.to_string(), shown);
            let failure = Failure { code_number: 3010, ..failure };
            assert_eq!(failure.to_string(), format!("{shown} (AUTH_FAILED)"));
        }
    }
}
