//! Bodies of presence: who a client is, WATCH, WHO, UPDATE, and what SNAPSHOT and DELTA say.

use super::{Body, integers, put_optional};
use crate::wire::body::{self, BodyError, Fields, Tag};
use crate::wire::{DETAILS_BYTES_MAX, ENDPOINT_BYTES_MAX, ENDPOINTS_MAX, Id, NAME_BYTES_MAX, TEXT_BYTES_MAX, Type};

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
    pub(super) fn take(&mut self, field: &body::Field<'a>) -> Result<bool, BodyError> {
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

    pub(super) fn write(&self, out: &mut Vec<u8>) {
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
    /// Why it has gone: a number of [`crate::wire::Code`], else 0.
    pub code_number: u16,
}

impl<'a> Member<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// See [`Body::parse`].
    pub fn parse(record: &'a [u8]) -> Result<Self, BodyError> {
        let mut member = Self::parse_card(Id::RELAY, record)?;
        let mut client = None;
        for field in Fields::new(record).filter_map(Result::ok).filter(|field| field.tag == Tag::CLIENT) {
            client = Some(field.id()?);
        }
        member.client = client.ok_or(BodyError::Missing(Tag::CLIENT))?;
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
