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
/// `Bytes` may be sent between threads, so the counters have to be atomics; there is but one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<AtomicUsize>);

impl Meter {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn share(&self, bytes: &[u8]) -> Shared {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        let (length, forsaken) = (AtomicUsize::new(bytes.len()), AtomicUsize::new(0));
        Shared {
            bytes: Bytes::copy_from_slice(bytes),
            message: Arc::new(Metered { length, forsaken, meter: self.clone() }),
        }
    }
}

/// What one of several waits for: a message, or the rest of it.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    bytes: Bytes,
    message: Arc<Metered>,
}

impl Shared {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        drop(self.bytes.split_to(count));
    }

    /// It will never be sent, though it is not freed yet. If that holds for all who have it, the message does not count
    /// any more.
    pub(crate) fn forsake(&self) {
        let forsaken = self.message.forsaken.fetch_add(1, Ordering::Relaxed) + 1;
        if forsaken == Arc::strong_count(&self.message) {
            self.message.give_back();
        }
    }

    fn slice_from(&self, start: usize) -> Self {
        Self { bytes: self.bytes.slice(start..), message: Arc::clone(&self.message) }
    }
}

/// The account of a shared message, until its last recipient has it.
#[derive(Debug)]
struct Metered {
    length: AtomicUsize,
    /// How many of those who have it will never send it.
    forsaken: AtomicUsize,
    meter: Meter,
}

impl Metered {
    fn give_back(&self) {
        self.meter.0.fetch_sub(self.length.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Bytes on their way out, for one recipient or, shared, for many.
#[derive(Debug)]
pub struct Outgoing<'a> {
    bytes: &'a [u8],
    /// The bytes from a place on, once somebody has to wait for them.
    shared: Option<(usize, Shared)>,
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
    pub(crate) fn shared_from(&mut self, start: usize, meter: &Meter) -> Option<Shared> {
        let wanted = self.bytes.len() - start;
        if !self.fans_out || wanted < SHARED_BYTES_MIN {
            return None;
        }
        match &self.shared {
            Some((from, shared)) if *from <= start => {
                (wanted >= shared.bytes.len() / SHARED_PART_MIN).then(|| shared.slice_from(start - from))
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

/// Who a message is from, which decides how much of a queue it may use, and of the memory for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// From another peer: up to the limit of a queue.
    Traffic,
    /// From the service itself: the reserve on top of that as well.
    Control,
    /// The same, in answer to what the recipient has sent, or its last word: if the memory for all is used up somebody
    /// for whom more waits goes for it.
    Answer,
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
    fn what_nobody_will_send_any_more_does_not_count_though_it_is_not_freed_yet() {
        let meter = Meter::default();
        let text = vec![1; 10_000];
        let mut outgoing = Outgoing::to_many(&text);
        let mut waiting: Vec<_> = (0..3).map(|_| outgoing.shared_from(0, &meter).expect("it is long")).collect();
        drop(outgoing);
        waiting[0].forsake();
        waiting[2].forsake();
        assert_eq!(meter.bytes(), 10_000, "somebody still waits for it");
        waiting[1].forsake();
        assert_eq!(meter.bytes(), 0);
        waiting.clear();
        assert_eq!(meter.bytes(), 0, "it is given back once");
    }

    #[test]
    fn a_small_rest_does_not_pin_a_large_message() {
        let meter = Meter::default();
        let text = vec![1; 100_000];
        let mut first = Outgoing::to_many(&text);
        assert_eq!(first.shared_from(97_000, &meter).map(|rest| rest.bytes().len()), Some(3_000));
        assert_eq!(meter.bytes(), 3_000, "only what somebody waits for is kept");
        assert_eq!(first.shared_from(0, &meter).map(|rest| rest.bytes().len()), Some(100_000));
        assert!(first.shared_from(97_000, &meter).is_none(), "this one is copied");
        assert!(Outgoing::to_one(&text).shared_from(0, &meter).is_none());
    }
}
