//! The bodies of the control frames, as types that are parsed once and written in one place.
//!
//! Each type's comment is its layout: `?` may be absent, `*` may stand any number of times within its
//! limit. Parsing borrows from the frame and allocates nothing. [`Body::parse`] skips unknown tags.

use super::body::{self, BodyError, Fields, Tag};
use super::header::{Header, Type};
use super::{
    Code, DETAILS_BYTES_MAX, ENDPOINT_BYTES_MAX, ENDPOINTS_MAX, Id, MAGIC, NAME_BYTES_MAX, RECIPIENTS_MAX,
    TEXT_BYTES_MAX, VERSION,
};

/// A body that can be read from and written into a control frame.
pub trait Body<'a>: Sized {
    /// The type of the frames that carry it.
    const TYPE: Type;

    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with the first field that cannot be understood, or which field is missing.
    fn parse(payload: &'a [u8]) -> Result<Self, BodyError>;

    /// Appends the payload.
    fn write(&self, out: &mut Vec<u8>);

    /// Appends a whole frame with `header`, whose type becomes [`Body::TYPE`].
    fn write_frame(&self, header: Header, out: &mut Vec<u8>) {
        Header { type_number: Self::TYPE.number(), ..header }.write_frame(out, |out| self.write(out));
    }
}

/// What a client says of itself and others learn of it: `NAME STATION? ENDPOINT* DETAILS?`.
///
/// In an UPDATE every part may be absent and then stays as it was; one ENDPOINT replaces them all, and an
/// empty one means that there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile<'a> {
    /// Unique among the clients of a relay.
    pub name: Option<&'a str>,
    /// Where it runs, in its own words.
    pub station: Option<&'a str>,
    /// Where it listens for direct contact.
    pub endpoints: [Option<&'a str>; ENDPOINTS_MAX],
    /// Whatever it wants others to know.
    pub details: Option<&'a [u8]>,
}

impl<'a> Profile<'a> {
    /// A profile with nothing but a name.
    #[must_use]
    pub fn named(name: &'a str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// The endpoints that are there and not empty.
    pub fn endpoints(&self) -> impl Iterator<Item = &'a str> {
        self.endpoints.iter().flatten().copied().filter(|endpoint| !endpoint.is_empty())
    }

    /// Whether `field` was part of a profile, and understood.
    fn take(&mut self, field: &body::Field<'a>) -> Result<bool, BodyError> {
        match field.tag {
            Tag::NAME => self.name = Some(field.text(NAME_BYTES_MAX)?),
            Tag::STATION => self.station = Some(field.text(TEXT_BYTES_MAX)?),
            Tag::DETAILS => self.details = Some(field.bytes(DETAILS_BYTES_MAX)?),
            Tag::ENDPOINT => {
                let free = self.endpoints.iter_mut().find(|endpoint| endpoint.is_none());
                *free.ok_or(BodyError::TooMany(Tag::ENDPOINT))? = Some(field.text(ENDPOINT_BYTES_MAX)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(name) = self.name {
            body::put_text(out, Tag::NAME, name);
        }
        if let Some(station) = self.station {
            body::put_text(out, Tag::STATION, station);
        }
        for endpoint in self.endpoints.iter().flatten() {
            body::put_text(out, Tag::ENDPOINT, endpoint);
        }
        if let Some(details) = self.details {
            body::put_bytes(out, Tag::DETAILS, details);
        }
    }
}

/// HELLO: `"SWBD" u8 version_min u8 version_max u16 zero`, then
/// `NAME STATION? ENDPOINT* DETAILS? PAYLOAD_MAX? KEEPALIVE_MS? AGENT? MECHANISM?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The lowest version that the client speaks.
    pub version_min: u8,
    /// The highest version that the client speaks.
    pub version_max: u8,
    /// Who it is.
    pub profile: Profile<'a>,
    /// The largest payload that it takes, in bytes.
    pub payload_bytes_max: Option<u32>,
    /// The silence after which it wants to be pinged.
    pub keepalive_ms: Option<u32>,
    /// Its software and version.
    pub agent: Option<&'a str>,
}

impl<'a> Hello<'a> {
    /// A HELLO of this version with nothing but a profile.
    #[must_use]
    pub const fn new(profile: Profile<'a>) -> Self {
        Self {
            version_min: VERSION,
            version_max: VERSION,
            profile,
            payload_bytes_max: None,
            keepalive_ms: None,
            agent: None,
        }
    }

    /// Whether a payload begins as every HELLO of every version does.
    #[must_use]
    pub fn has_magic(payload: &[u8]) -> bool {
        payload.starts_with(&MAGIC) && payload.len() >= 8
    }

    /// The versions that a client speaks, lowest and highest, whatever else its HELLO says.
    #[must_use]
    pub fn versions(payload: &[u8]) -> Option<(u8, u8)> {
        Self::has_magic(payload).then(|| (payload[4], payload[5]))
    }
}

impl<'a> Body<'a> for Hello<'a> {
    const TYPE: Type = Type::Hello;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let (version_min, version_max) = Self::versions(payload).ok_or(BodyError::BadPrefix)?;
        let mut hello = Self { version_min, version_max, ..Self::new(Profile::default()) };
        for field in Fields::new(&payload[8..]) {
            let field = field?;
            if hello.profile.take(&field)? {
                continue;
            }
            match field.tag {
                Tag::PAYLOAD_MAX => hello.payload_bytes_max = Some(field.integer_u32()?),
                Tag::KEEPALIVE_MS => hello.keepalive_ms = Some(field.integer_u32()?),
                Tag::AGENT => hello.agent = Some(field.text(TEXT_BYTES_MAX)?),
                _ => {}
            }
        }
        hello.profile.name.ok_or(BodyError::Missing(Tag::NAME))?;
        Ok(hello)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.version_min, self.version_max, 0, 0]);
        self.profile.write(out);
        put_optional(out, Tag::PAYLOAD_MAX, self.payload_bytes_max);
        put_optional(out, Tag::KEEPALIVE_MS, self.keepalive_ms);
        if let Some(agent) = self.agent {
            body::put_text(out, Tag::AGENT, agent);
        }
    }
}

/// WELCOME: `VERSION CLIENT PAYLOAD_MAX KEEPALIVE_MS QUEUE_MAX CLOCK_US EPOCH_US ADDRESS AGENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version that holds.
    pub version: u8,
    /// The client's own id.
    pub client: Id,
    /// The largest payload in either direction, in bytes.
    pub payload_bytes_max: u32,
    /// The silence after which the relay pings; after twice that it closes.
    pub keepalive_ms: u32,
    /// Bytes that are queued for this client before frames are refused or skipped.
    pub queue_bytes_max: u64,
    /// The relay's clock now.
    pub clock_us: u64,
    /// The time of day, since 1970, at which the relay's clock stood at zero.
    pub epoch_us: u64,
    /// The client's public address as the relay sees it.
    pub address: &'a str,
    /// The relay's software and version.
    pub agent: &'a str,
}

impl<'a> Body<'a> for Welcome<'a> {
    const TYPE: Type = Type::Welcome;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut client = None;
        let mut welcome = Self {
            version: 0,
            client: Id::RELAY,
            payload_bytes_max: super::PAYLOAD_BYTES_DEFAULT,
            keepalive_ms: 0,
            queue_bytes_max: 0,
            clock_us: 0,
            epoch_us: 0,
            address: "",
            agent: "",
        };
        for field in Fields::new(payload) {
            let field = field?;
            match field.tag {
                Tag::VERSION => {
                    welcome.version = field.integer()?.try_into().map_err(|_| BodyError::BadInteger(field.tag))?;
                }
                Tag::CLIENT => client = Some(field.id()?),
                Tag::PAYLOAD_MAX => welcome.payload_bytes_max = field.integer_u32()?,
                Tag::KEEPALIVE_MS => welcome.keepalive_ms = field.integer_u32()?,
                Tag::QUEUE_MAX => welcome.queue_bytes_max = field.integer()?,
                Tag::CLOCK_US => welcome.clock_us = field.integer()?,
                Tag::EPOCH_US => welcome.epoch_us = field.integer()?,
                Tag::ADDRESS => welcome.address = field.text(TEXT_BYTES_MAX)?,
                Tag::AGENT => welcome.agent = field.text(TEXT_BYTES_MAX)?,
                _ => {}
            }
        }
        welcome.client = client.ok_or(BodyError::Missing(Tag::CLIENT))?;
        if welcome.version == 0 {
            return Err(BodyError::Missing(Tag::VERSION));
        }
        Ok(welcome)
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_integer(out, Tag::VERSION, u64::from(self.version));
        body::put_integer(out, Tag::CLIENT, self.client.bits());
        body::put_integer(out, Tag::PAYLOAD_MAX, u64::from(self.payload_bytes_max));
        body::put_integer(out, Tag::KEEPALIVE_MS, u64::from(self.keepalive_ms));
        body::put_integer(out, Tag::QUEUE_MAX, self.queue_bytes_max);
        body::put_integer(out, Tag::CLOCK_US, self.clock_us);
        body::put_integer(out, Tag::EPOCH_US, self.epoch_us);
        body::put_text(out, Tag::ADDRESS, self.address);
        body::put_text(out, Tag::AGENT, self.agent);
    }
}

/// A reason with an explanation: `CODE TEXT? CLIENT? RETRY_MS? VERSION_MIN? VERSION_MAX?`.
///
/// In an ERROR, CLIENT is the recipient that a frame failed for. In a GOODBYE from a client all may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reason<'a> {
    /// The number, known to this version or not; 0 if none was given.
    pub code_number: u16,
    /// What happened, for people.
    pub text: &'a str,
    /// The recipient for whom a frame failed, where that is one client.
    pub client: Option<Id>,
    /// How long to wait before coming back.
    pub retry_ms: Option<u32>,
    /// The versions that the relay speaks, where that is the trouble.
    pub versions: Option<(u8, u8)>,
}

impl<'a> Reason<'a> {
    /// A reason with an explanation and nothing else.
    #[must_use]
    pub fn new(code: Code, text: &'a str) -> Self {
        Self { code_number: code.number(), text, ..Self::default() }
    }

    /// The code, if this version knows it.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        Code::from_number(self.code_number)
    }

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut reason = Self::default();
        let (mut version_min, mut version_max) = (None, None);
        for field in Fields::new(payload) {
            let field = field?;
            let small = |value: u64| u8::try_from(value).map_err(|_| BodyError::BadInteger(field.tag));
            match field.tag {
                Tag::CODE => {
                    let number = field.integer()?;
                    reason.code_number = number.try_into().map_err(|_| BodyError::BadInteger(field.tag))?;
                }
                Tag::TEXT => reason.text = field.text(TEXT_BYTES_MAX)?,
                Tag::CLIENT => reason.client = Some(field.id()?),
                Tag::RETRY_MS => reason.retry_ms = Some(field.integer_u32()?),
                Tag::VERSION_MIN => version_min = Some(small(field.integer()?)?),
                Tag::VERSION_MAX => version_max = Some(small(field.integer()?)?),
                _ => {}
            }
        }
        reason.versions = version_min.zip(version_max);
        Ok(reason)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.code_number != 0 {
            body::put_integer(out, Tag::CODE, u64::from(self.code_number));
        }
        if !self.text.is_empty() {
            body::put_text(out, Tag::TEXT, self.text);
        }
        if let Some(client) = self.client {
            body::put_integer(out, Tag::CLIENT, client.bits());
        }
        put_optional(out, Tag::RETRY_MS, self.retry_ms);
        if let Some((min, max)) = self.versions {
            body::put_integer(out, Tag::VERSION_MIN, u64::from(min));
            body::put_integer(out, Tag::VERSION_MAX, u64::from(max));
        }
    }
}

/// ERROR: see [`Reason`]. The header's correlation is that of the frame that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorBody<'a>(pub Reason<'a>);

impl<'a> Body<'a> for ErrorBody<'a> {
    const TYPE: Type = Type::Error;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let reason = Reason::parse(payload)?;
        if reason.code_number == 0 {
            return Err(BodyError::Missing(Tag::CODE));
        }
        Ok(Self(reason))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// GOODBYE: see [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye<'a>(pub Reason<'a>);

impl<'a> Body<'a> for Goodbye<'a> {
    const TYPE: Type = Type::Goodbye;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        Reason::parse(payload).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// Defines a body of optional and required integers: what most control frames are.
macro_rules! integers {
    (
        $(#[$meta:meta])*
        $name:ident($type:ident) {
            required { $($(#[$field_meta:meta])* $field:ident: $tag:ident,)* }
            optional { $($(#[$optional_meta:meta])* $optional:ident: $optional_tag:ident,)* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: u64,)*
            $($(#[$optional_meta])* pub $optional: Option<u64>,)*
        }

        impl Body<'_> for $name {
            const TYPE: Type = Type::$type;

            fn parse(payload: &[u8]) -> Result<Self, BodyError> {
                $(let mut $field = None;)*
                $(let mut $optional = None;)*
                for field in Fields::new(payload) {
                    let field = field?;
                    match field.tag {
                        $(Tag::$tag => $field = Some(field.integer()?),)*
                        $(Tag::$optional_tag => $optional = Some(field.integer()?),)*
                        _ => {}
                    }
                }
                Ok(Self {
                    $($field: $field.ok_or(BodyError::Missing(Tag::$tag))?,)*
                    $($optional,)*
                })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(body::put_integer(out, Tag::$tag, self.$field);)*
                $(put_optional(out, Tag::$optional_tag, self.$optional);)*
            }
        }
    };
}

integers! {
    /// PING: `CLOCK_US?`.
    Ping(Ping) {
        required {}
        optional {
            /// The sender's clock when it was sent.
            clock_us: CLOCK_US,
        }
    }
}

integers! {
    /// PONG: `PING_CLOCK_US? CLOCK_US?`; the correlation is that of the PING.
    Pong(Pong) {
        required {}
        optional {
            /// The clock that stood in the PING.
            ping_clock_us: PING_CLOCK_US,
            /// The answering side's clock.
            clock_us: CLOCK_US,
        }
    }
}

/// How far a frame has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the queues of its recipients.
    Queued,
    /// Handed to the recipient's socket, to its last byte.
    Written,
    /// A request to the relay itself has been carried out.
    Done,
}

impl Stage {
    /// Every stage.
    pub const ALL: &'static [Self] = &[Self::Queued, Self::Written, Self::Done];

    /// The number that stands on the wire.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Queued => 1,
            Self::Written => 2,
            Self::Done => 3,
        }
    }

    /// The name that the specification uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Written => "WRITTEN",
            Self::Done => "DONE",
        }
    }

    /// The stage with this number, if this version has one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.number() == number)
    }
}

integers! {
    /// RECEIPT: `STAGE RECIPIENTS? SKIPPED?`; the correlation is that of the frame.
    Receipt(Receipt) {
        required {
            /// How far it has got: a number of [`Stage`].
            stage: STAGE,
        }
        optional {
            /// To how many it was queued.
            recipients: RECIPIENTS,
            /// For how many it was skipped, and counted in their next GAP.
            skipped: SKIPPED,
        }
    }
}

integers! {
    /// GAP: `FRAMES BYTES`.
    Gap(Gap) {
        required {
            /// How many frames are missing here.
            frames: FRAMES,
            /// How many bytes they had, headers included.
            bytes: BYTES,
        }
        optional {}
    }
}

impl Gap {
    /// The body, for a writer that has no buffer at hand.
    #[must_use]
    pub fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let fields = [(Tag::FRAMES, self.frames), (Tag::BYTES, self.bytes)];
        for (place, (tag, value)) in bytes.as_chunks_mut::<12>().0.iter_mut().zip(fields) {
            place[..2].copy_from_slice(&tag.0.to_be_bytes());
            place[2..4].copy_from_slice(&8_u16.to_be_bytes());
            place[4..].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }
}

integers! {
    /// WATCH: `ROOM?`; without a room, everybody.
    Watch(Watch) {
        required {}
        optional {
            /// The room's id.
            room: ROOM,
        }
    }
}

integers! {
    /// UNWATCH: `ROOM?`.
    Unwatch(Unwatch) {
        required {}
        optional {
            /// The room's id.
            room: ROOM,
        }
    }
}

integers! {
    /// LEAVE: `ROOM`.
    Leave(Leave) {
        required {
            /// The room's id.
            room: ROOM,
        }
        optional {}
    }
}

/// WHO: `NAME? CLIENT? ROOM?`; the first of them that is there counts, and with none everybody is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// The client with this name.
    Named(&'a str),
    /// The client with this id.
    Client(Id),
    /// The members of this room.
    Room(Id),
    /// All who are registered.
    Everybody,
}

impl<'a> Body<'a> for Who<'a> {
    const TYPE: Type = Type::Who;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let (mut name, mut client, mut room) = (None, None, None);
        for field in Fields::new(payload) {
            let field = field?;
            match field.tag {
                Tag::NAME => name = Some(field.text(NAME_BYTES_MAX)?),
                Tag::CLIENT => client = Some(field.id()?),
                Tag::ROOM => room = Some(field.id()?),
                _ => {}
            }
        }
        Ok(match (name, client, room) {
            (Some(name), _, _) => Self::Named(name),
            (None, Some(client), _) => Self::Client(client),
            (None, None, Some(room)) => Self::Room(room),
            (None, None, None) => Self::Everybody,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Named(name) => body::put_text(out, Tag::NAME, name),
            Self::Client(client) => body::put_integer(out, Tag::CLIENT, client.bits()),
            Self::Room(room) => body::put_integer(out, Tag::ROOM, room.bits()),
            Self::Everybody => {}
        }
    }
}

/// UPDATE: `NAME? STATION? ENDPOINT* DETAILS?`; see [`Profile`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update<'a>(pub Profile<'a>);

impl<'a> Body<'a> for Update<'a> {
    const TYPE: Type = Type::Update;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut profile = Profile::default();
        for field in Fields::new(payload) {
            profile.take(&field?)?;
        }
        Ok(Self(profile))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// JOIN: `NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// The room's name.
    pub name: &'a str,
}

impl<'a> Body<'a> for Join<'a> {
    const TYPE: Type = Type::Join;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut name = None;
        for field in Fields::new(payload) {
            let field = field?;
            if field.tag == Tag::NAME {
                name = Some(field.text(NAME_BYTES_MAX)?);
            }
        }
        Ok(Self { name: name.ok_or(BodyError::Missing(Tag::NAME))? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_text(out, Tag::NAME, self.name);
    }
}

/// JOINED: `ROOM NAME MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The room's id: the destination of what is sent to it.
    pub room: Id,
    /// Its name.
    pub name: &'a str,
    /// How many members it has, the new one included.
    pub members: u64,
}

impl<'a> Body<'a> for Joined<'a> {
    const TYPE: Type = Type::Joined;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let (mut room, mut name, mut members) = (None, "", 0);
        for field in Fields::new(payload) {
            let field = field?;
            match field.tag {
                Tag::ROOM => room = Some(field.id()?),
                Tag::NAME => name = field.text(NAME_BYTES_MAX)?,
                Tag::MEMBERS => members = field.integer()?,
                _ => {}
            }
        }
        Ok(Self { room: room.ok_or(BodyError::Missing(Tag::ROOM))?, name, members })
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_integer(out, Tag::ROOM, self.room.bits());
        body::put_text(out, Tag::NAME, self.name);
        body::put_integer(out, Tag::MEMBERS, self.members);
    }
}

/// What a SNAPSHOT or a DELTA says of one client, within MEMBER, ARRIVED, CHANGED or DEPARTED:
/// `CLIENT NAME STATION? ENDPOINT* DETAILS? ADDRESS?`, and in DEPARTED `CLIENT CODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its id.
    pub client: Id,
    /// What it says of itself.
    pub profile: Profile<'a>,
    /// Its public address as the relay sees it.
    pub address: &'a str,
    /// Why it has gone: a number of [`Code`], else 0.
    pub code_number: u16,
}

impl<'a> Member<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// See [`Body::parse`].
    pub fn parse(record: &'a [u8]) -> Result<Self, BodyError> {
        let mut member = Self::parse_card(Id::RELAY, record)?;
        let is_client = |field: &body::Field<'_>| field.tag == Tag::CLIENT;
        let client = Fields::new(record).filter_map(Result::ok).filter(is_client).last();
        member.client = client.ok_or(BodyError::Missing(Tag::CLIENT))?.id()?;
        Ok(member)
    }

    /// Reads what [`Member::write_card`] has written of the client with this id.
    ///
    /// # Errors
    /// See [`Body::parse`].
    pub fn parse_card(client: Id, card: &'a [u8]) -> Result<Self, BodyError> {
        let mut member = Self { client, profile: Profile::default(), address: "", code_number: 0 };
        for field in Fields::new(card) {
            let field = field?;
            if member.profile.take(&field)? {
                continue;
            }
            match field.tag {
                Tag::ADDRESS => member.address = field.text(TEXT_BYTES_MAX)?,
                Tag::CODE => {
                    let number = field.integer()?;
                    member.code_number = number.try_into().map_err(|_| BodyError::BadInteger(field.tag))?;
                }
                _ => {}
            }
        }
        Ok(member)
    }

    /// Appends what is the same in every record of this client: all but its id and a reason.
    pub fn write_card(&self, out: &mut Vec<u8>) {
        self.profile.write(out);
        if !self.address.is_empty() {
            body::put_text(out, Tag::ADDRESS, self.address);
        }
    }
}

/// Appends a record about a client whose fields behind its id are `card`.
pub fn put_member(out: &mut Vec<u8>, tag: Tag, client: Id, card: &[u8]) {
    body::put_record(out, tag, |out| {
        body::put_integer(out, Tag::CLIENT, client.bits());
        out.extend_from_slice(card);
    });
}

/// One thing that a SNAPSHOT or a DELTA says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<'a> {
    /// The room that all the rest is about; absent where everybody is meant.
    Room(Id),
    /// The number of this DELTA, or of the last one that a SNAPSHOT includes.
    Sequence(u64),
    /// A client that is here.
    Member(Member<'a>),
    /// A client that has come.
    Arrived(Member<'a>),
    /// A client that has changed: its new profile, whole.
    Changed(Member<'a>),
    /// A client that has gone.
    Departed(Member<'a>),
}

/// Reads a SNAPSHOT (`ROOM? SEQUENCE MEMBER*`) or a DELTA (`ROOM? SEQUENCE ARRIVED* CHANGED* DEPARTED*`,
/// the changes in the order in which they happened).
pub fn presence(payload: &[u8]) -> impl Iterator<Item = Result<Presence<'_>, BodyError>> {
    Fields::new(payload).filter_map(|field| field.and_then(read_presence).transpose())
}

fn read_presence(field: body::Field<'_>) -> Result<Option<Presence<'_>>, BodyError> {
    Ok(Some(match field.tag {
        Tag::ROOM => Presence::Room(field.id()?),
        Tag::SEQUENCE => Presence::Sequence(field.integer()?),
        Tag::MEMBER => Presence::Member(Member::parse(field.value)?),
        Tag::ARRIVED => Presence::Arrived(Member::parse(field.value)?),
        Tag::CHANGED => Presence::Changed(Member::parse(field.value)?),
        Tag::DEPARTED => Presence::Departed(Member::parse(field.value)?),
        _ => return Ok(None),
    }))
}

/// The list in front of a SEND_MANY's payload: `u32 count`, then `count` times `u64 id`.
///
/// Returns the recipients and where the payload proper begins.
///
/// # Errors
/// The list is cut short, or longer than [`RECIPIENTS_MAX`].
pub fn recipients(payload: &[u8]) -> Result<(impl ExactSizeIterator<Item = Id>, usize), BodyError> {
    let (count, rest) = payload.split_first_chunk::<4>().ok_or(BodyError::BadPrefix)?;
    let count = u32::from_be_bytes(*count) as usize;
    if count > RECIPIENTS_MAX {
        return Err(BodyError::TooMany(Tag::CLIENT));
    }
    let (list, _) = rest.split_at_checked(count * 8).ok_or(BodyError::Truncated)?;
    let (ids, _) = list.as_chunks::<8>();
    Ok((ids.iter().map(|id| Id::from_bits(u64::from_be_bytes(*id))), 4 + count * 8))
}

/// Appends the list in front of a SEND_MANY's payload.
pub fn put_recipients(out: &mut Vec<u8>, recipients: &[Id]) {
    out.extend_from_slice(&(recipients.len() as u32).to_be_bytes());
    for id in recipients {
        out.extend_from_slice(&id.bits().to_be_bytes());
    }
}

fn put_optional(out: &mut Vec<u8>, tag: Tag, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        body::put_integer(out, tag, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::wire::HEADER_BYTES;

    fn round_trip<'a, B: Body<'a> + PartialEq + Debug>(body: B, frame: &'a mut Vec<u8>) {
        body.write_frame(Header::new(Type::Hello).correlating(5), frame);
        let header = Header::read(frame);
        assert_eq!((header.frame_type(), header.correlation), (Some(B::TYPE), 5));
        assert_eq!(B::parse(&frame[HEADER_BYTES..]), Ok(body));
    }

    #[test]
    fn every_body_is_read_as_it_was_written() {
        let mut profile = Profile::named("ada");
        profile.station = Some("desk");
        profile.endpoints[0] = Some("[::1]:7000");
        profile.endpoints[1] = Some("host:7001");
        profile.details = Some(&[0, 255]);
        let mut hello = Hello::new(profile);
        hello.payload_bytes_max = Some(1 << 20);
        hello.keepalive_ms = Some(1000);
        hello.agent = Some("test/1");
        round_trip(hello, &mut Vec::new());
        let welcome = Welcome {
            version: 1,
            client: Id::client(1, 2),
            payload_bytes_max: 65_536,
            keepalive_ms: 30_000,
            queue_bytes_max: 1 << 20,
            clock_us: 77,
            epoch_us: 88,
            address: "127.0.0.1:5000",
            agent: "switchboard/0",
        };
        round_trip(welcome, &mut Vec::new());
        let mut reason = Reason::new(Code::BadVersion, "no common version");
        reason.client = Some(Id::client(3, 4));
        reason.retry_ms = Some(9);
        reason.versions = Some((1, 1));
        round_trip(ErrorBody(reason), &mut Vec::new());
        round_trip(Goodbye(Reason::default()), &mut Vec::new());
        round_trip(Ping { clock_us: Some(1) }, &mut Vec::new());
        round_trip(Pong { ping_clock_us: None, clock_us: Some(2) }, &mut Vec::new());
        round_trip(Receipt { stage: Stage::Queued.number(), recipients: Some(3), skipped: Some(1) }, &mut Vec::new());
        let gap = Gap { frames: 1, bytes: 2 };
        round_trip(gap, &mut Vec::new());
        assert_eq!(Gap::parse(&gap.bytes()), Ok(gap));
        round_trip(Watch { room: None }, &mut Vec::new());
        round_trip(Unwatch { room: Some(8) }, &mut Vec::new());
        round_trip(Leave { room: 7 }, &mut Vec::new());
        for who in [Who::Named("ada"), Who::Client(Id::client(1, 1)), Who::Room(Id::room(1, 1)), Who::Everybody] {
            round_trip(who, &mut Vec::new());
        }
        round_trip(Update(profile), &mut Vec::new());
        round_trip(Join { name: "lobby" }, &mut Vec::new());
        round_trip(Joined { room: Id::room(1, 1), name: "lobby", members: 1 }, &mut Vec::new());
    }

    #[test]
    fn presence_is_read_in_its_order() {
        let ada =
            Member { client: Id::client(1, 1), profile: Profile::named("ada"), address: "127.0.0.1:5", code_number: 0 };
        let mut card = Vec::new();
        ada.write_card(&mut card);
        let mut payload = Vec::new();
        body::put_integer(&mut payload, Tag::SEQUENCE, 4);
        put_member(&mut payload, Tag::ARRIVED, ada.client, &card);
        body::put_bytes(&mut payload, Tag(0x4fff), b"later");
        body::put_record(&mut payload, Tag::DEPARTED, |out| {
            body::put_integer(out, Tag::CLIENT, ada.client.bits());
            body::put_integer(out, Tag::CODE, u64::from(Code::Left.number()));
        });
        let seen: Vec<_> = presence(&payload).collect::<Result<_, _>>().expect("good");
        assert_eq!(seen[..2], [Presence::Sequence(4), Presence::Arrived(ada)]);
        let Presence::Departed(gone) = seen[2] else { panic!() };
        assert_eq!((gone.client, gone.code_number), (ada.client, Code::Left.number()));
    }

    #[test]
    fn a_list_of_recipients_is_bounded_and_whole() {
        let ids = [Id::client(1, 1), Id::client(2, 2)];
        let mut payload = Vec::new();
        put_recipients(&mut payload, &ids);
        payload.extend_from_slice(b"hi");
        let (list, at) = recipients(&payload).expect("good");
        assert_eq!((list.collect::<Vec<_>>(), &payload[at..]), (ids.to_vec(), &b"hi"[..]));
        assert!(recipients(&payload[..19]).is_err());
        assert!(recipients(&[0, 0]).is_err());
        assert!(recipients(&[0xff; 40]).is_err());
    }

    #[test]
    fn garbage_bodies_are_errors_and_never_panics() {
        let mut random = fastrand::Rng::with_seed(2);
        for round in 0..20_000 {
            let mut payload = Vec::new();
            if round % 2 == 0 {
                Hello::new(Profile::named("x")).write(&mut payload);
                let place = random.usize(0..payload.len());
                payload[place] ^= 1 << random.u32(0..8);
            } else {
                payload.extend((0..random.usize(0..80)).map(|_| random.u8(..)));
            }
            let _ = Hello::parse(&payload);
            let _ = Welcome::parse(&payload);
            let _ = ErrorBody::parse(&payload);
            let _ = Receipt::parse(&payload);
            let _ = Who::parse(&payload);
            let _ = Update::parse(&payload);
            let _ = presence(&payload).count();
            let _ = recipients(&payload).map(|(list, _)| list.count());
        }
    }
}
