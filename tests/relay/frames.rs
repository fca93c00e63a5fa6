//! Frames as tests write them, and what clients see of those that they get.

use switchboard::wire::control::{
    self, Auth, Body, ErrorBody, Gap, Goodbye, Joined, Member, Ping, Pong, Presence, Receipt, Stage, Welcome,
};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type};

/// A frame to the relay.
pub(crate) fn frame_of<'a, B: Body<'a>>(correlation: u32, flags: Flags, body: &B) -> Vec<u8> {
    let mut frame = Vec::new();
    body.write_frame(Header::new(B::TYPE).correlating(correlation).flagged(flags), &mut frame);
    frame
}

/// A frame with any header.
pub(crate) fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
    frame
}

/// A SEND.
pub(crate) fn send(correlation: u32, to: Id, payload: &[u8]) -> Vec<u8> {
    send_flagged(Flags::NONE, correlation, to, payload)
}

/// A SEND with flags.
pub(crate) fn send_flagged(flags: Flags, correlation: u32, to: Id, payload: &[u8]) -> Vec<u8> {
    frame(Header::new(Type::Send).to(to).correlating(correlation).flagged(flags), payload)
}

/// A SEND_MANY.
pub(crate) fn send_many(flags: Flags, correlation: u32, recipients: &[Id], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    control::put_recipients(&mut body, recipients);
    body.extend_from_slice(payload);
    frame(Header::new(Type::SendMany).correlating(correlation).flagged(flags), &body)
}

/// What a recipient gets of a frame that `from` sent.
pub(crate) fn stamped(from: Id, frame: &[u8]) -> Got {
    Got::Frame(Routed(stamped_bytes(from, frame)))
}

/// The bytes of that.
pub(crate) fn stamped_bytes(from: Id, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[20..HEADER_BYTES].copy_from_slice(&from.bits().to_be_bytes());
    frame
}

/// A client as a SNAPSHOT or a DELTA shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) station: Option<String>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) details: Option<Vec<u8>>,
    pub(crate) address: String,
}

impl Seen {
    fn read(member: &Member<'_>) -> Self {
        let profile = &member.profile;
        Self {
            id: member.client,
            name: profile.name.expect("every client has a name").to_owned(),
            station: profile.station.map(str::to_owned),
            endpoints: profile.endpoints.iter().flatten().map(|&endpoint| endpoint.to_owned()).collect(),
            details: profile.details.map(<[u8]>::to_vec),
            address: member.address.to_owned(),
        }
    }
}

/// A record of a DELTA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Arrived(Seen),
    Changed(Seen),
    Departed(Id, Code),
}

/// A frame as its recipient understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Welcome {
        correlation: u32,
        client: Id,
        payload_bytes_max: u32,
        keepalive_ms: u32,
    },
    Auth {
        correlation: u32,
        data: Vec<u8>,
    },
    Error {
        correlation: u32,
        code: Code,
        client: Option<Id>,
    },
    Goodbye {
        code: Code,
        retry_ms: Option<u32>,
    },
    Ping {
        clock_us: Option<u64>,
    },
    Pong {
        correlation: u32,
        ping_clock_us: Option<u64>,
        clock_us: Option<u64>,
    },
    Receipt {
        correlation: u32,
        stage: Stage,
        counts: Option<(u64, u64)>,
    },
    Gap {
        frames: u64,
        bytes: u64,
    },
    Snapshot {
        correlation: u32,
        more: bool,
        room: Option<Id>,
        sequence: u64,
        members: Vec<Seen>,
    },
    Delta {
        room: Option<Id>,
        sequence: u64,
        changes: Vec<Change>,
    },
    Joined {
        correlation: u32,
        room: Id,
        name: String,
        members: u64,
    },
    /// A routed frame.
    Frame(Routed),
}

/// A routed frame, as it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Routed(pub(crate) Vec<u8>);

impl std::fmt::Debug for Routed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} with {} bytes", Header::read(&self.0), self.0.len() - HEADER_BYTES)
    }
}

impl Got {
    pub(crate) const fn error(correlation: u32, code: Code, client: Option<Id>) -> Self {
        Self::Error { correlation, code, client }
    }

    pub(crate) const fn written(correlation: u32) -> Self {
        Self::Receipt { correlation, stage: Stage::Written, counts: None }
    }

    pub(crate) const fn done(correlation: u32) -> Self {
        Self::Receipt { correlation, stage: Stage::Done, counts: None }
    }

    pub(crate) const fn queued(correlation: u32, recipients: u64, skipped: u64) -> Self {
        Self::Receipt { correlation, stage: Stage::Queued, counts: Some((recipients, skipped)) }
    }

    /// The frame of a client, which this must be.
    pub(crate) fn frame(&self) -> &[u8] {
        let Self::Frame(Routed(frame)) = self else { panic!("a routed frame, not {self:?}") };
        frame
    }

    pub(crate) fn read(frame: &[u8]) -> Self {
        let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
        let correlation = header.correlation;
        if header.source != Id::RELAY {
            return Self::Frame(Routed(frame.to_vec()));
        }
        assert_eq!(header.kind, 0, "the relay's own frames have no kind");
        match header.frame_type().expect("the relay sends known types") {
            Type::Welcome => {
                let welcome = Welcome::parse(payload).expect("a good WELCOME");
                let Welcome { client, payload_bytes_max, keepalive_ms, .. } = welcome;
                Self::Welcome { correlation, client, payload_bytes_max, keepalive_ms }
            }
            Type::Auth => Self::Auth { correlation, data: Auth::parse(payload).expect("a good AUTH").data.to_vec() },
            Type::Error => {
                let ErrorBody(reason) = ErrorBody::parse(payload).expect("a good ERROR");
                assert!(!reason.text.is_empty(), "an ERROR explains itself");
                Self::Error { correlation, code: reason.code().expect("a known code"), client: reason.client }
            }
            Type::Goodbye => {
                let Goodbye(reason) = Goodbye::parse(payload).expect("a good GOODBYE");
                Self::Goodbye { code: reason.code().expect("a known code"), retry_ms: reason.retry_ms }
            }
            Type::Ping => Self::Ping { clock_us: Ping::parse(payload).expect("a good PING").clock_us },
            Type::Pong => {
                let Pong { ping_clock_us, clock_us } = Pong::parse(payload).expect("a good PONG");
                Self::Pong { correlation, ping_clock_us, clock_us }
            }
            Type::Receipt => {
                let receipt = Receipt::parse(payload).expect("a good RECEIPT");
                let stage = Stage::from_number(receipt.stage).expect("a known stage");
                Self::Receipt { correlation, stage, counts: receipt.recipients.zip(receipt.skipped) }
            }
            Type::Gap => {
                let Gap { frames, bytes } = Gap::parse(payload).expect("a good GAP");
                assert!(frames > 0, "a GAP of nothing");
                Self::Gap { frames, bytes }
            }
            Type::Joined => {
                let Joined { room, name, members } = Joined::parse(payload).expect("a good JOINED");
                Self::Joined { correlation, room, name: name.to_owned(), members }
            }
            Type::Snapshot | Type::Delta => Self::presence(&header, payload),
            other => panic!("the relay does not send {other}"),
        }
    }

    fn presence(header: &Header, payload: &[u8]) -> Self {
        assert!(payload.len() <= 4096, "a page of {} bytes", payload.len());
        let (mut room, mut sequence, mut members, mut changes) = (None, None, Vec::new(), Vec::new());
        for item in control::presence(payload) {
            match item.expect("a good record") {
                Presence::Room(id) => room = Some(id),
                Presence::Sequence(number) => sequence = Some(number),
                Presence::Member(member) => members.push(Seen::read(&member)),
                Presence::Arrived(member) => changes.push(Change::Arrived(Seen::read(&member))),
                Presence::Changed(member) => changes.push(Change::Changed(Seen::read(&member))),
                Presence::Departed(member) => {
                    let code = Code::from_number(member.code_number).expect("a known reason");
                    changes.push(Change::Departed(member.client, code));
                }
            }
        }
        let sequence = sequence.expect("a number");
        if header.frame_type() == Some(Type::Delta) {
            assert!(members.is_empty() && !changes.is_empty());
            return Self::Delta { room, sequence, changes };
        }
        assert!(changes.is_empty());
        let more = header.flags.has(Flags::MORE);
        Self::Snapshot { correlation: header.correlation, more, room, sequence, members }
    }
}
