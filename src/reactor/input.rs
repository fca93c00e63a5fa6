//! Where the beginning of an incomplete message waits for its end.
//!
//! At rest a connection owns no read buffer. What a service does not consume is held in a lease, which
//! grows to what the service says it wants and is given back as soon as it is empty.

use super::ConnId;
use crate::time::Tick;

/// The smallest lease: it holds a header and a short message.
const LEASE_BYTES_MIN: usize = 256;
/// Sizes are powers of two from `LEASE_BYTES_MIN` on, and so much more: services limit their payloads to
/// powers of two, and have a header in front of them. Without it such a message would take twice its size.
const HEADER_BYTES: usize = 64;
/// Free buffers that are kept for each size, in bytes: the beginnings of large frames come and go, in every
/// turn. Giving them back to the system costs page faults.
const FREE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// This many sizes reach 2 GiB.
const CLASSES: usize = 24;

/// Buffers that nobody uses at the moment, by size.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    free: [Vec<Vec<u8>>; CLASSES],
}

impl BufferPool {
    /// A buffer of the least size that is not below `bytes`.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let length = bytes.saturating_sub(HEADER_BYTES).next_power_of_two().max(LEASE_BYTES_MIN) + HEADER_BYTES;
        self.class(length).pop().unwrap_or_else(|| vec![0; length])
    }

    fn give(&mut self, buffer: Vec<u8>) {
        let length = buffer.len();
        if length == 0 {
            return; // Its memory is lent to a service, which has closed the connection meanwhile.
        }
        let free = self.class(length);
        if (free.len() + 1) * length <= FREE_BYTES_MAX {
            free.push(buffer);
        }
    }

    fn class(&mut self, length: usize) -> &mut Vec<Vec<u8>> {
        let class = ((length - HEADER_BYTES) / LEASE_BYTES_MIN).trailing_zeros() as usize;
        &mut self.free[class.min(CLASSES - 1)]
    }
}

/// A message's beginning.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) buffer: Vec<u8>,
    /// How much of `buffer` holds received bytes.
    pub(super) filled: usize,
    /// How much the service wants to see before it is asked again; 0: anything more.
    wanted: usize,
    /// Since when the message in front has been incomplete.
    pub(super) since: Tick,
    /// Whose beginning it is.
    pub(super) owner: ConnId,
    /// The length of `buffer` that the budget for all buffers knows of.
    pub(super) accounted_bytes: usize,
}

impl Lease {
    pub(super) fn new(owner: ConnId, bytes: &[u8], wanted: usize, now: Tick, pool: &mut BufferPool) -> Self {
        let mut buffer = pool.take(wanted.max(bytes.len() + 1));
        buffer[..bytes.len()].copy_from_slice(bytes);
        Self { buffer, filled: bytes.len(), wanted, since: now, owner, accounted_bytes: 0 }
    }

    pub(super) fn release(self, pool: &mut BufferPool) {
        pool.give(self.buffer);
    }

    /// Whether its buffer is lent to the service, which is just being shown it.
    pub(super) fn is_lent(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes without which it makes no sense to ask the service again.
    pub(super) fn goal(&self) -> usize {
        self.wanted.max(self.filled + 1)
    }

    /// How many bytes to read into the lease before the rest goes elsewhere.
    pub(super) fn limit(&self) -> usize {
        if self.wanted > self.filled { self.wanted } else { self.buffer.len() }
    }

    /// Drops the first `consumed` bytes and notes what is wanted next.
    pub(super) fn consume(&mut self, consumed: usize, wanted: usize, now: Tick) {
        if consumed > 0 {
            self.buffer.copy_within(consumed..self.filled, 0);
            self.filled -= consumed;
            self.since = now;
        }
        self.wanted = wanted;
    }

    /// Makes room for `bytes` in all.
    pub(super) fn reserve(&mut self, bytes: usize, pool: &mut BufferPool) {
        if self.buffer.len() < bytes {
            let mut larger = pool.take(bytes);
            larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            pool.give(std::mem::replace(&mut self.buffer, larger));
        }
    }

    /// Takes from the front of `rest` what is wanted, everything if `all`; says how many bytes that were.
    pub(super) fn pull(&mut self, rest: &[u8], all: bool, pool: &mut BufferPool) -> usize {
        let count =
            if all || self.wanted <= self.filled { rest.len() } else { rest.len().min(self.wanted - self.filled) };
        self.reserve((self.filled + count).max(self.goal()), pool);
        self.buffer[self.filled..self.filled + count].copy_from_slice(&rest[..count]);
        self.filled += count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_released_while_its_buffer_is_lent_leaves_nothing_in_the_pool() {
        let mut pool = BufferPool::default();
        let mut lease = Lease::new(ConnId::new(1, 1), b"abc", 28, Tick::NEVER, &mut pool);
        let buffer = std::mem::take(&mut lease.buffer);
        lease.release(&mut pool);
        assert!(pool.free.iter().all(Vec::is_empty));
        assert_eq!(buffer.len(), LEASE_BYTES_MIN + HEADER_BYTES);
    }

    #[test]
    fn a_lease_grows_to_what_is_wanted_and_keeps_its_bytes() {
        let now = Tick::at(crate::time::Time::ZERO);
        let mut pool = BufferPool::default();
        let mut lease = Lease::new(ConnId::new(1, 1), b"abc", 28, now, &mut pool);
        assert_eq!((lease.buffer.len(), lease.limit(), lease.goal()), (256 + 64, 28, 28));
        assert_eq!(lease.pull(&[b'x'; 1000], false, &mut pool), 25);
        lease.consume(0, 5000, now);
        assert_eq!(lease.pull(&[b'y'; 1000], false, &mut pool), 1000);
        assert_eq!((lease.buffer.len(), &lease.buffer[..4], lease.filled), (8192 + 64, &b"abcx"[..], 1028));
        lease.consume(1000, 0, now);
        assert_eq!((lease.filled, lease.buffer[0], lease.limit()), (28, b'y', 8192 + 64));
        lease.release(&mut pool);
        assert_eq!(pool.take(8200).len(), 8192 + 64);
    }
}
