//! Who a frame is for and who it is from: an opaque u64 to clients, a slot and its generation to the relay.
//!
//! ```text
//!  63 62 61                         24 23               0
//!  | kind | generation, 38 bits       | index, 24 bits   |
//! ```
//!
//! The generation is counted over all slots together, so a slot needs to remember nothing between two
//! users, and 38 bits last for 27 years of 300 new connections a second. An id is therefore never
//! reused within the life of a relay, and a frame for somebody who has left cannot reach a stranger.

use std::fmt;

/// The address of a client, of a room, of everybody, or of the relay itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Id(u64);

/// What an [`Id`] addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// The relay itself, 0.
    Relay,
    /// One client.
    Client,
    /// The members of one room.
    Room,
    /// Every registered client.
    All,
    /// The recipients that a SEND_MANY listed; only ever seen by a recipient.
    Many,
    /// None of these: nobody can have sent this id to anybody.
    Invalid,
}

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 38;
const KIND_SHIFT: u32 = INDEX_BITS + GENERATION_BITS;
const KIND_CLIENT: u64 = 1;
const KIND_ROOM: u64 = 2;
const KIND_SPECIAL: u64 = 3;

impl Id {
    /// The relay itself.
    pub const RELAY: Self = Self(0);
    /// Every registered client.
    pub const ALL: Self = Self(KIND_SPECIAL << KIND_SHIFT);
    /// What a recipient of a SEND_MANY finds in the destination: "you, and others".
    pub const MANY: Self = Self((KIND_SPECIAL << KIND_SHIFT) | 1);
    /// The largest index; 16.7 million slots.
    pub const INDEX_MAX: usize = (1 << INDEX_BITS) - 1;
    /// The largest generation.
    pub const GENERATION_MAX: u64 = (1 << GENERATION_BITS) - 1;

    /// The id of the client in slot `index`; `generation` must not be 0.
    #[must_use]
    pub const fn client(index: usize, generation: u64) -> Self {
        Self::compose(KIND_CLIENT, index, generation)
    }

    /// The id of the room in slot `index`; `generation` must not be 0.
    #[must_use]
    pub const fn room(index: usize, generation: u64) -> Self {
        Self::compose(KIND_ROOM, index, generation)
    }

    const fn compose(kind: u64, index: usize, generation: u64) -> Self {
        debug_assert!(index <= Self::INDEX_MAX && generation != 0 && generation <= Self::GENERATION_MAX);
        Self((kind << KIND_SHIFT) | (generation << INDEX_BITS) | index as u64)
    }

    /// What a frame's eight bytes say, whatever they are.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The eight bytes as a number.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is addressed.
    #[must_use]
    pub const fn kind(self) -> IdKind {
        let generation = self.generation();
        match self.0 >> KIND_SHIFT {
            0 if self.0 == 0 => IdKind::Relay,
            KIND_CLIENT if generation != 0 => IdKind::Client,
            KIND_ROOM if generation != 0 => IdKind::Room,
            KIND_SPECIAL if self.0 == Self::ALL.0 => IdKind::All,
            KIND_SPECIAL if self.0 == Self::MANY.0 => IdKind::Many,
            _ => IdKind::Invalid,
        }
    }

    /// The slot.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 & Self::INDEX_MAX as u64) as usize
    }

    /// The generation of the slot's user.
    #[must_use]
    pub const fn generation(self) -> u64 {
        (self.0 >> INDEX_BITS) & Self::GENERATION_MAX
    }
}

/// People see sixteen hexadecimal digits, as in a dump of the wire.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            IdKind::Relay => f.write_str("relay"),
            IdKind::All => f.write_str("all"),
            IdKind::Many => f.write_str("many"),
            kind => write!(f, "{kind:?}({}.{})", self.index(), self.generation()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_went_in() {
        let id = Id::client(Id::INDEX_MAX, Id::GENERATION_MAX);
        assert_eq!((id.index(), id.generation(), id.kind()), (Id::INDEX_MAX, Id::GENERATION_MAX, IdKind::Client));
        let id = Id::room(7, 9);
        assert_eq!((id.index(), id.generation(), id.kind()), (7, 9, IdKind::Room));
        assert_eq!(format!("{id}"), "8000000009000007");
    }

    #[test]
    fn ids_that_nobody_can_hold_are_invalid() {
        assert_eq!(Id::RELAY.kind(), IdKind::Relay);
        assert_eq!(Id::ALL.kind(), IdKind::All);
        assert_eq!(Id::MANY.kind(), IdKind::Many);
        for bits in [1, 1 << 62, (1 << 62) | 5, (2 << 62) | 5, (3 << 62) | 2, u64::MAX, (3 << 62) | (1 << 30)] {
            assert_eq!(Id::from_bits(bits).kind(), IdKind::Invalid, "{bits:x}");
        }
    }
}
