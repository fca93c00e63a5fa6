//! Bodies around traffic: RECEIPT, GAP, and the list in a SEND_MANY.

use super::{Body, integers, put_optional};
use crate::wire::body::{self, BodyError, Fields, Tag};
use crate::wire::{Id, RECIPIENTS_MAX, Type};

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
