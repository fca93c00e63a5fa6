//! Bodies of the session: HELLO, AUTH, WELCOME, ERROR, GOODBYE, PING and PONG.

use std::fmt;

use super::presence::Profile;
use super::{Body, integers, put_optional};
use crate::wire::body::{self, BodyError, Fields, Tag};
use crate::wire::{
    AUTH_DATA_BYTES_MAX, Code, Id, MAGIC, MECHANISMS_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_DEFAULT, TEXT_BYTES_MAX, Type,
    VERSION,
};

/// HELLO: `"SWBD" u8 version_min u8 version_max u16 zero`, then
/// `NAME STATION? ENDPOINT* DETAILS? PAYLOAD_MAX? KEEPALIVE_MS? AGENT? MECHANISM? AUTH_DATA?`.
#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// How it proves who it is: the name of a mechanism, known to this version or not.
    pub mechanism: Option<&'a str>,
    /// Its first word to that end.
    pub auth_data: Option<&'a [u8]>,
}

/// Without the data of the mechanism, which may be a token.
impl fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("versions", &(self.version_min, self.version_max))
            .field("profile", &self.profile)
            .field("payload_bytes_max", &self.payload_bytes_max)
            .field("keepalive_ms", &self.keepalive_ms)
            .field("agent", &self.agent)
            .field("mechanism", &self.mechanism)
            .field("auth_data_bytes", &self.auth_data.map(<[u8]>::len))
            .finish()
    }
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
            mechanism: None,
            auth_data: None,
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
                Tag::MECHANISM => hello.mechanism = Some(field.text(TEXT_BYTES_MAX)?),
                Tag::AUTH_DATA => hello.auth_data = Some(field.bytes(AUTH_DATA_BYTES_MAX)?),
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
        if let Some(mechanism) = self.mechanism {
            body::put_text(out, Tag::MECHANISM, mechanism);
        }
        put_auth_data(out, self.auth_data);
    }
}

fn put_auth_data(out: &mut Vec<u8>, data: Option<&[u8]>) {
    if let Some(data) = data {
        body::put_bytes(out, Tag::AUTH_DATA, data);
    }
}

/// AUTH: `AUTH_DATA`; the next part of what HELLO has begun, from either side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// What it is depends on the mechanism.
    pub data: &'a [u8],
}

/// Without the data, which may be a secret.
impl fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({} bytes)", self.data.len())
    }
}

impl<'a> Body<'a> for Auth<'a> {
    const TYPE: Type = Type::Auth;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut data = None;
        for field in Fields::new(payload) {
            let field = field?;
            if field.tag == Tag::AUTH_DATA {
                data = Some(field.bytes(AUTH_DATA_BYTES_MAX)?);
            }
        }
        Ok(Self { data: data.ok_or(BodyError::Missing(Tag::AUTH_DATA))? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_auth_data(out, Some(self.data));
    }
}

/// WELCOME: `VERSION CLIENT PAYLOAD_MAX KEEPALIVE_MS QUEUE_MAX CLOCK_US EPOCH_US ADDRESS AGENT USER? AUTH_DATA?`.
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
    /// Who the client is authenticated as, at a relay that asks.
    pub user: Option<&'a str>,
    /// The relay's last word of the exchange, by which it proves that it knows the user too.
    pub auth_data: Option<&'a [u8]>,
}

impl<'a> Body<'a> for Welcome<'a> {
    const TYPE: Type = Type::Welcome;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut client = None;
        let mut welcome = Self {
            version: 0,
            client: Id::RELAY,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            keepalive_ms: 0,
            queue_bytes_max: 0,
            clock_us: 0,
            epoch_us: 0,
            address: "",
            agent: "",
            user: None,
            auth_data: None,
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
                Tag::USER => welcome.user = Some(field.text(NAME_BYTES_MAX)?),
                Tag::AUTH_DATA => welcome.auth_data = Some(field.bytes(AUTH_DATA_BYTES_MAX)?),
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
        if let Some(user) = self.user {
            body::put_text(out, Tag::USER, user);
        }
        put_auth_data(out, self.auth_data);
    }
}

/// A reason with an explanation: `CODE TEXT? CLIENT? RETRY_MS? VERSION_MIN? VERSION_MAX? MECHANISM*`.
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
    /// The ways to authenticate that it offers here, where that is the trouble.
    pub mechanisms: [Option<&'a str>; MECHANISMS_MAX],
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
                Tag::MECHANISM => {
                    let free = reason.mechanisms.iter_mut().find(|mechanism| mechanism.is_none());
                    *free.ok_or(BodyError::TooMany(Tag::MECHANISM))? = Some(field.text(TEXT_BYTES_MAX)?);
                }
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
        for mechanism in self.mechanisms.iter().flatten() {
            body::put_text(out, Tag::MECHANISM, mechanism);
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

/// EVICT: `CLIENT TEXT?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evict<'a> {
    /// The client whose connection is to end.
    pub client: Id,
    /// What it is told, for people; may be empty.
    pub text: &'a str,
}

impl<'a> Body<'a> for Evict<'a> {
    const TYPE: Type = Type::Evict;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let (mut client, mut text) = (None, "");
        for field in Fields::new(payload) {
            let field = field?;
            match field.tag {
                Tag::CLIENT => client = Some(field.id()?),
                Tag::TEXT => text = field.text(TEXT_BYTES_MAX)?,
                _ => {}
            }
        }
        Ok(Self { client: client.ok_or(BodyError::Missing(Tag::CLIENT))?, text })
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_integer(out, Tag::CLIENT, self.client.bits());
        if !self.text.is_empty() {
            body::put_text(out, Tag::TEXT, self.text);
        }
    }
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
