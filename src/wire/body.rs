//! The one encoding of all control bodies: tagged fields, one behind the other.
//!
//! ```text
//!  0     2        4          4 + length
//!  | tag | length | value ... |
//!    u16   u16
//! ```
//!
//! The tag's top four bits say what the value is (1 an integer of eight bytes, 2 UTF-8 text, 3 bytes,
//! 4 a record of further fields), so a field can be printed by somebody who does not know its tag, and
//! skipped by everybody. A field that may stand once and stands twice counts as its last.

use std::fmt;

use super::Id;

/// What the top four bits of a tag say of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An unsigned integer, always eight bytes.
    Integer,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// Further fields.
    Record,
    /// A shape of a later version: skipped.
    Unknown,
}

/// The number of a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u16);

macro_rules! tags {
    ($($(#[$meta:meta])* $name:ident = $number:literal,)+) => {
        impl Tag {
            $($(#[$meta])* pub const $name: Self = Self($number);)+

            /// Every tag of this version with the specification's name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name)),)+];
        }
    };
}

tags! {
    /// The version of the wire that holds from here on.
    VERSION = 0x1001,
    /// The id of a client.
    CLIENT = 0x1002,
    /// The largest payload, in bytes, that this side takes.
    PAYLOAD_MAX = 0x1003,
    /// Milliseconds of silence after which the relay sends a PING.
    KEEPALIVE_MS = 0x1004,
    /// The sender's monotonic clock, in microseconds.
    CLOCK_US = 0x1005,
    /// The clock of the PING that a PONG answers, in microseconds.
    PING_CLOCK_US = 0x1006,
    /// Microseconds since 1970 at which the relay's clock stood at zero.
    EPOCH_US = 0x1007,
    /// A reason: one of the numbers of `Code`.
    CODE = 0x1008,
    /// Milliseconds to wait before coming back.
    RETRY_MS = 0x1009,
    /// How far a frame has got.
    STAGE = 0x100A,
    /// To how many recipients a frame was queued.
    RECIPIENTS = 0x100B,
    /// For how many recipients a frame was skipped, and counted in their next GAP.
    SKIPPED = 0x100C,
    /// A number of frames.
    FRAMES = 0x100D,
    /// A number of bytes, headers included.
    BYTES = 0x100E,
    /// The id of a room; absent where everybody is meant.
    ROOM = 0x100F,
    /// The number of a DELTA within its room.
    SEQUENCE = 0x1010,
    /// How many members there are.
    MEMBERS = 0x1011,
    /// The lowest version that the relay speaks.
    VERSION_MIN = 0x1012,
    /// The highest version that the relay speaks.
    VERSION_MAX = 0x1013,
    /// Bytes that the relay queues for this client before it refuses or skips.
    QUEUE_MAX = 0x1014,
    /// The name of a client, or of a room.
    NAME = 0x2001,
    /// Where a client runs, in its own words.
    STATION = 0x2002,
    /// Where a client listens for direct contact.
    ENDPOINT = 0x2003,
    /// A client's public address as the relay sees it.
    ADDRESS = 0x2004,
    /// An explanation for people.
    TEXT = 0x2005,
    /// Software and its version.
    AGENT = 0x2006,
    /// A way to authenticate, by its registered name.
    MECHANISM = 0x2007,
    /// Who somebody is authenticated as.
    USER = 0x2008,
    /// Whatever a client wants others to know of it.
    DETAILS = 0x3001,
    /// One side's part of an exchange that authenticates.
    AUTH_DATA = 0x3002,
    /// A client that is here.
    MEMBER = 0x4001,
    /// A client that has come.
    ARRIVED = 0x4002,
    /// A client that has changed.
    CHANGED = 0x4003,
    /// A client that has gone.
    DEPARTED = 0x4004,
}

impl Tag {
    /// What the value of such a field is.
    #[must_use]
    pub const fn shape(self) -> Shape {
        match self.0 >> 12 {
            1 => Shape::Integer,
            2 => Shape::Text,
            3 => Shape::Bytes,
            4 => Shape::Record,
            _ => Shape::Unknown,
        }
    }

    /// The specification's name, if this version has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(tag, _)| *tag == self).map(|(_, name)| *name)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a body could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The body ends within a field.
    Truncated,
    /// An integer that is not eight bytes, or is too large for what it says.
    BadInteger(Tag),
    /// A text that is not UTF-8, or holds characters that texts may not have.
    BadText(Tag),
    /// A text or bytes over the limit of the specification.
    TooLong(Tag),
    /// More fields of a kind than the specification allows.
    TooMany(Tag),
    /// A field without which the body means nothing.
    Missing(Tag),
    /// The fixed part in front of the fields is missing or wrong.
    BadPrefix,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the body ends within a field"),
            Self::BadInteger(tag) => write!(f, "{tag} is not an integer of eight bytes in its range"),
            Self::BadText(tag) => write!(f, "{tag} is not UTF-8 text without control characters"),
            Self::TooLong(tag) => write!(f, "{tag} is longer than the specification allows"),
            Self::TooMany(tag) => write!(f, "{tag} stands more often than the specification allows"),
            Self::Missing(tag) => write!(f, "{tag} is missing"),
            Self::BadPrefix => f.write_str("the fixed part in front of the fields is missing or wrong"),
        }
    }
}

impl std::error::Error for BodyError {}

/// One field of a body.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub tag: Tag,
    /// Its value, not yet looked at.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The value as an integer.
    ///
    /// # Errors
    /// It is not eight bytes long.
    pub fn integer(&self) -> Result<u64, BodyError> {
        let bytes: [u8; 8] = self.value.try_into().map_err(|_| BodyError::BadInteger(self.tag))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// The value as an integer of at most 32 bits.
    ///
    /// # Errors
    /// It is not eight bytes long, or larger.
    pub fn integer_u32(&self) -> Result<u32, BodyError> {
        self.integer()?.try_into().map_err(|_| BodyError::BadInteger(self.tag))
    }

    /// The value as an id.
    ///
    /// # Errors
    /// It is not eight bytes long.
    pub fn id(&self) -> Result<Id, BodyError> {
        self.integer().map(Id::from_bits)
    }

    /// The value as text of one line, at most `bytes_max` long.
    ///
    /// # Errors
    /// It is longer, not UTF-8, or holds control characters: texts end up in terminals and logs.
    pub fn text(&self, bytes_max: usize) -> Result<&'a str, BodyError> {
        let bytes = self.bytes(bytes_max)?;
        let text = std::str::from_utf8(bytes).map_err(|_| BodyError::BadText(self.tag))?;
        if text.chars().any(char::is_control) {
            return Err(BodyError::BadText(self.tag));
        }
        Ok(text)
    }

    /// The value as at most `bytes_max` bytes.
    ///
    /// # Errors
    /// It is longer.
    pub fn bytes(&self, bytes_max: usize) -> Result<&'a [u8], BodyError> {
        if self.value.len() > bytes_max {
            return Err(BodyError::TooLong(self.tag));
        }
        Ok(self.value)
    }

    /// The fields of a record.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields { rest: self.value }
    }
}

/// The fields of a body, one by one, ending after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields that make up `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let [t0, t1, l0, l1, after @ ..] = rest else {
            return Some(Err(BodyError::Truncated));
        };
        let Some((value, after)) = after.split_at_checked(u16::from_be_bytes([*l0, *l1]) as usize) else {
            return Some(Err(BodyError::Truncated));
        };
        self.rest = after;
        Some(Ok(Field { tag: Tag(u16::from_be_bytes([*t0, *t1])), value }))
    }
}

/// Appends an integer field.
pub fn put_integer(out: &mut Vec<u8>, tag: Tag, value: u64) {
    put_bytes(out, tag, &value.to_be_bytes());
}

/// Appends a text field.
pub fn put_text(out: &mut Vec<u8>, tag: Tag, text: &str) {
    put_bytes(out, tag, text.as_bytes());
}

/// Appends a field of bytes; what does not fit a length of 16 bits is cut off.
pub fn put_bytes(out: &mut Vec<u8>, tag: Tag, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&tag.0.to_be_bytes());
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a record whose fields `write` appends; they must stay within 65,535 bytes.
pub fn put_record(out: &mut Vec<u8>, tag: Tag, write: impl FnOnce(&mut Vec<u8>)) {
    put_bytes(out, tag, &[]);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    debug_assert!(u16::try_from(length).is_ok(), "a record of {length} bytes");
    out[start - 2..start].copy_from_slice(&(length as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_went_in() {
        let mut body = Vec::new();
        put_integer(&mut body, Tag::CLIENT, 7);
        put_record(&mut body, Tag::MEMBER, |out| {
            put_text(out, Tag::NAME, "ada");
            put_bytes(out, Tag(0x7abc), b"of a later version");
        });
        let fields: Vec<_> = Fields::new(&body).collect::<Result<_, _>>().expect("good");
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0].integer(), Ok(7));
        let inner: Vec<_> = fields[1].fields().collect::<Result<_, _>>().expect("good");
        assert_eq!((inner[0].tag, inner[0].text(64)), (Tag::NAME, Ok("ada")));
        assert_eq!(inner[1].tag.shape(), Shape::Unknown);
    }

    #[test]
    fn a_body_cut_anywhere_within_a_field_is_truncated_and_ends() {
        let mut body = Vec::new();
        put_text(&mut body, Tag::NAME, "ada");
        for cut in 1..body.len() {
            let fields: Vec<_> = Fields::new(&body[..cut]).map(|f| f.map(|f| f.tag)).collect();
            assert_eq!(fields, [Err(BodyError::Truncated)]);
        }
    }

    #[test]
    fn values_that_do_not_fit_their_tag_are_refused() {
        let field = |tag, value| Field { tag, value };
        assert!(field(Tag::CLIENT, b"1234567").integer().is_err());
        assert!(field(Tag::NAME, b"\xff").text(64).is_err());
        assert!(field(Tag::NAME, b"a\x1b[2J").text(64).is_err());
        assert!(field(Tag::NAME, b"abc").text(2).is_err());
        assert!(field(Tag::KEEPALIVE_MS, &[1; 8]).integer_u32().is_err());
    }
}
