//! Bytes on their way out: the words that a service and the queues have in common.
//!
//! The relay says what goes to whom with these; whether it is written at once, copied or shared is the
//! reactor's decision. Neither needs to know the other for it.

use bytes::Bytes;

/// A message for many recipients is shared from this size on; below, a copy is cheaper than a counter
/// and pins no memory.
const SHARED_BYTES_MIN: usize = 2048;
/// Bytes on their way out, for one recipient or, shared, for many.
#[derive(Debug)]
pub struct Outgoing<'a> {
    bytes: &'a [u8],
    shared: Option<Bytes>,
    fans_out: bool,
}

impl<'a> Outgoing<'a> {
    /// Whole messages for one recipient.
    #[must_use]
    pub const fn to_one(bytes: &'a [u8]) -> Self {
        Self { bytes, shared: None, fans_out: false }
    }

    /// Whole messages for many recipients: what must be queued is copied once at most, if it is long.
    #[must_use]
    pub const fn to_many(bytes: &'a [u8]) -> Self {
        Self { bytes, shared: None, fans_out: true }
    }

    /// All the bytes.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes from `start` on, to be shared by reference count; `None` where a copy is better.
    pub(crate) fn shared_from(&mut self, start: usize) -> Option<Bytes> {
        if !self.fans_out || self.bytes.len() - start < SHARED_BYTES_MIN {
            return None;
        }
        let bytes = self.bytes;
        Some(self.shared.get_or_insert_with(|| Bytes::copy_from_slice(bytes)).slice(start..))
    }
}

/// Who a message is from, which decides how much of a queue it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// From another peer: up to the limit of a queue.
    Traffic,
    /// From the service itself: the reserve on top of that as well.
    Control,
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection has ended or is about to.
    Gone,
    /// Its queue has no room for the whole message.
    Full,
}
