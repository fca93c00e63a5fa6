//! Bytes on their way out: the words that a service and the queues have in common.
//!
//! The relay says what goes to whom with these; whether it is written at once, copied or shared is the
//! reactor's decision. Neither needs to know the other for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A message for many recipients is shared from this size on; below, a copy is cheaper than a counter
/// and pins no memory.
const SHARED_BYTES_MIN: usize = 2048;
/// A slice of a shared message is copied if it is less than one part in so many: it would pin the whole.
const SHARED_PART_MIN: usize = 4;

/// Counts the bytes of shared messages that somebody still waits for, each message once.
///
/// `Bytes` may be sent between threads, so the counter has to be an atomic; there is but one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<AtomicUsize>);

impl Meter {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn share(&self, bytes: &[u8]) -> Bytes {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Metered { bytes: bytes.into(), meter: self.clone() })
    }
}

/// A shared message, until its last recipient has it.
struct Metered {
    bytes: Box<[u8]>,
    meter: Meter,
}

impl AsRef<[u8]> for Metered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Bytes on their way out, for one recipient or, shared, for many.
#[derive(Debug)]
pub struct Outgoing<'a> {
    bytes: &'a [u8],
    /// The bytes from a place on, once somebody has to wait for them.
    shared: Option<(usize, Bytes)>,
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
    pub(crate) fn shared_from(&mut self, start: usize, meter: &Meter) -> Option<Bytes> {
        let wanted = self.bytes.len() - start;
        if !self.fans_out || wanted < SHARED_BYTES_MIN {
            return None;
        }
        match &self.shared {
            Some((from, shared)) if *from <= start => {
                (wanted >= shared.len() / SHARED_PART_MIN).then(|| shared.slice(start - from..))
            }
            _ => {
                let shared = meter.share(&self.bytes[start..]);
                self.shared = Some((start, shared.clone()));
                Some(shared)
            }
        }
    }

    /// Bytes of memory that it takes at most to keep the bytes from `start` on.
    pub(crate) fn cost(&self, start: usize) -> usize {
        match &self.shared {
            Some((from, _)) if *from <= start => 0,
            _ => self.bytes.len() - start,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_wait_for_is_counted_once_until_the_last_has_it() {
        let meter = Meter::default();
        let text = vec![1; 10_000];
        let mut outgoing = Outgoing::to_many(&text);
        assert_eq!(outgoing.cost(0), 10_000);
        let waiting: Vec<_> = (0..5).map(|_| outgoing.shared_from(0, &meter).expect("it is long")).collect();
        assert_eq!((meter.bytes(), outgoing.cost(0)), (10_000, 0));
        drop(outgoing);
        assert_eq!(meter.bytes(), 10_000);
        drop(waiting);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn a_small_rest_does_not_pin_a_large_message() {
        let meter = Meter::default();
        let text = vec![1; 100_000];
        let mut first = Outgoing::to_many(&text);
        assert_eq!(first.shared_from(97_000, &meter).map(|rest| rest.len()), Some(3_000));
        assert_eq!(meter.bytes(), 3_000, "only what somebody waits for is kept");
        assert_eq!(first.shared_from(0, &meter).map(|rest| rest.len()), Some(100_000));
        assert!(first.shared_from(97_000, &meter).is_none(), "this one is copied");
        assert!(Outgoing::to_one(&text).shared_from(0, &meter).is_none());
    }
}
