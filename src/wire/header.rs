//! The 28 bytes in front of every payload: types, flags, kinds, and reading and writing them.

use super::numbered::numbered;
use super::{HEADER_BYTES, Id, LENGTH_BYTES};

numbered! {
    /// What a frame is. 0x80 to 0xFF belong to the application and are passed through untouched.
    pub enum Type: u8 {
        /// The first frame of a connection, from the client: who it is and what it can do.
        Hello = 0x01 "HELLO",
        /// The relay's answer: the client is registered.
        Welcome = 0x02 "WELCOME",
        /// The next part of the exchange that authenticates, between HELLO and WELCOME.
        Auth = 0x03 "AUTH",
        /// A frame failed (1xxx), or the connection is about to close (2xxx, 3xxx).
        Error = 0x04 "ERROR",
        /// This side is leaving.
        Goodbye = 0x05 "GOODBYE",
        /// Answer with a PONG.
        Ping = 0x06 "PING",
        /// The answer to a PING.
        Pong = 0x07 "PONG",
        /// End that client's connection.
        Evict = 0x08 "EVICT",
        /// A payload for one client, a room or all.
        Send = 0x10 "SEND",
        /// A payload for a list of clients, which stands in front of it.
        SendMany = 0x11 "SEND_MANY",
        /// How far a frame that asked for a receipt has got.
        Receipt = 0x12 "RECEIPT",
        /// The recipient's application has taken a frame; routed to that frame's sender.
        Ack = 0x13 "ACK",
        /// Frames for this client are missing here.
        Gap = 0x14 "GAP",
        /// Tell me who is here, and of every change.
        Watch = 0x20 "WATCH",
        /// Who is here; more follow while MORE is set.
        Snapshot = 0x21 "SNAPSHOT",
        /// Who has come, changed and gone.
        Delta = 0x22 "DELTA",
        /// Tell me once who is here.
        Who = 0x23 "WHO",
        /// My name or details are now these.
        Update = 0x24 "UPDATE",
        /// Tell me no more.
        Unwatch = 0x25 "UNWATCH",
        /// Make me a member of a room, which is made if need be.
        Join = 0x30 "JOIN",
        /// The answer to a JOIN: the room's id.
        Joined = 0x31 "JOINED",
        /// I am no longer a member.
        Leave = 0x32 "LEAVE",
        /// A file is offered.
        Offer = 0x40 "OFFER",
        /// The offer is taken up.
        Accept = 0x41 "ACCEPT",
        /// A piece of the file.
        Chunk = 0x42 "CHUNK",
        /// The file is complete.
        End = 0x43 "END",
        /// The transfer is off.
        Cancel = 0x44 "CANCEL",
    }
}

/// The first type that belongs to the application.
pub const APPLICATION_TYPE_MIN: u8 = 0x80;

/// Whether the relay passes a frame of this type on to its destination instead of handling it.
///
/// PING and PONG are routed only when they name a destination: a client can measure the way to a peer.
#[must_use]
pub const fn is_routed(type_number: u8, destination: Id) -> bool {
    match type_number {
        0x10 | 0x13 | 0x40..=0x4F | APPLICATION_TYPE_MIN.. => true,
        0x06 | 0x07 => destination.bits() != 0,
        _ => false,
    }
}

/// The header's bit field. A sender leaves bits that it does not know at zero; a receiver ignores them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// The sender wants a RECEIPT.
    pub const RECEIPT: Self = Self(0x01);
    /// More frames of this answer follow.
    pub const MORE: Self = Self(0x02);
    /// Skip this frame in silence if its type is unknown.
    pub const IGNORABLE: Self = Self(0x04);
    /// Do not deliver this frame to its own sender.
    pub const NO_ECHO: Self = Self(0x08);

    /// Every flag of this version with the specification's name.
    pub const ALL: &'static [(Self, &'static str)] =
        &[(Self::RECEIPT, "RECEIPT"), (Self::MORE, "MORE"), (Self::IGNORABLE, "IGNORABLE"), (Self::NO_ECHO, "NO_ECHO")];

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a payload is, as far as the application says.
pub mod kind {
    /// Bytes that nobody but the application understands.
    pub const BYTES: u16 = 0;
    /// UTF-8 text.
    pub const TEXT: u16 = 1;
    /// One JSON document.
    pub const JSON: u16 = 2;
    /// The first kind that is the application's to define.
    pub const APPLICATION_MIN: u16 = 0x100;
}

/// A frame's header. `length` is derived from the payload when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type, known to this version or not.
    pub type_number: u8,
    /// The bit field.
    pub flags: Flags,
    /// The application's word for what the payload is.
    pub kind: u16,
    /// The sender's own number for this frame, echoed in what answers it.
    pub correlation: u32,
    /// Whom it is for.
    pub destination: Id,
    /// Whom it is from: stamped by the relay.
    pub source: Id,
}

impl Header {
    /// A header from and to the relay itself, with nothing set but its type.
    #[must_use]
    pub const fn new(frame_type: Type) -> Self {
        Self {
            type_number: frame_type.number(),
            flags: Flags::NONE,
            kind: kind::BYTES,
            correlation: 0,
            destination: Id::RELAY,
            source: Id::RELAY,
        }
    }

    /// The same header with another correlation.
    #[must_use]
    pub const fn correlating(mut self, correlation: u32) -> Self {
        self.correlation = correlation;
        self
    }

    /// The same header with another destination.
    #[must_use]
    pub const fn to(mut self, destination: Id) -> Self {
        self.destination = destination;
        self
    }

    /// The same header with these flags.
    #[must_use]
    pub const fn flagged(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// The type, if this version knows it.
    #[must_use]
    pub const fn frame_type(&self) -> Option<Type> {
        Type::from_number(self.type_number)
    }

    /// Reads the header of a frame.
    ///
    /// # Panics
    /// If `frame` is shorter than a header: the decoder hands out whole frames only.
    #[must_use]
    pub fn read(frame: &[u8]) -> Self {
        let bytes: &[u8; HEADER_BYTES] = frame.first_chunk().expect("a whole frame holds a header");
        let [_, _, _, _, type_number, flags, k0, k1, c0, c1, c2, c3, ids @ ..] = *bytes;
        let [d0, d1, d2, d3, d4, d5, d6, d7, s0, s1, s2, s3, s4, s5, s6, s7] = ids;
        Self {
            type_number,
            flags: Flags(flags),
            kind: u16::from_be_bytes([k0, k1]),
            correlation: u32::from_be_bytes([c0, c1, c2, c3]),
            destination: Id::from_bits(u64::from_be_bytes([d0, d1, d2, d3, d4, d5, d6, d7])),
            source: Id::from_bits(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
        }
    }

    /// The 28 bytes in front of a payload of `payload_bytes`.
    #[must_use]
    pub fn bytes(&self, payload_bytes: usize) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let length = (HEADER_BYTES - LENGTH_BYTES + payload_bytes) as u32;
        bytes[0..4].copy_from_slice(&length.to_be_bytes());
        bytes[4] = self.type_number;
        bytes[5] = self.flags.0;
        bytes[6..8].copy_from_slice(&self.kind.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.correlation.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.destination.bits().to_be_bytes());
        bytes[20..28].copy_from_slice(&self.source.bits().to_be_bytes());
        bytes
    }

    /// Appends a whole frame: this header and a payload that `write` appends.
    pub fn write_frame(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.extend_from_slice(&self.bytes(0));
        write(out);
        let length = (out.len() - start - LENGTH_BYTES) as u32;
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header {
            type_number: 0x80,
            flags: Flags::RECEIPT.with(Flags::NO_ECHO),
            kind: 0x1234,
            correlation: 0xdead_beef,
            destination: Id::client(3, 4),
            source: Id::room(5, 6),
        };
        let mut frame = Vec::new();
        header.write_frame(&mut frame, |out| out.extend_from_slice(b"abc"));
        assert_eq!(frame.len(), 31);
        assert_eq!(&frame[..4], [0, 0, 0, 27]);
        assert_eq!(Header::read(&frame), header);
        assert_eq!(frame[..HEADER_BYTES], header.bytes(3));
    }

    #[test]
    fn only_what_names_a_destination_is_routed() {
        assert!(is_routed(Type::Send.number(), Id::ALL));
        assert!(is_routed(0xFF, Id::RELAY));
        assert!(is_routed(Type::Chunk.number(), Id::ALL));
        assert!(!is_routed(Type::Ping.number(), Id::RELAY));
        assert!(is_routed(Type::Ping.number(), Id::client(1, 1)));
        assert!(!is_routed(Type::Hello.number(), Id::client(1, 1)));
    }
}
