//! Records that a socket has not taken, and what they carry of a queue.
//!
//! ```text
//!   [ the session's own ] [ 16 KiB of the queue ] [ 16 KiB of the queue ] [ 900 bytes of the queue ]
//!              ^ next byte to write; what a record carries is written when its last byte is
//! ```
//!
//! A record of which the peer got but a part cannot be opened, so it counts as not sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::Transport;
use super::tls::RECORDS_MAX;

/// Buffers handed to one write: as many records as are sealed for one, and some of the session's own.
const SLICES_MAX: usize = RECORDS_MAX + 2;

#[derive(Debug)]
struct Record {
    bytes: Vec<u8>,
    /// Bytes of the queue in it.
    plain: usize,
}

/// What has been sealed, in the order in which it is written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    records: VecDeque<Record>,
    /// Bytes of the first of them that the socket has taken.
    sent: usize,
    /// Bytes of all of them.
    bytes: usize,
    /// Records that were taken as a whole before them.
    taken: u64,
}

impl Unwritten {
    /// Appends a record that carries `plain` bytes of the queue.
    pub(super) fn push(&mut self, bytes: Vec<u8>, plain: usize) {
        self.bytes += bytes.len();
        self.records.push_back(Record { bytes, plain });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the queue that are sealed, and can be neither changed nor left out.
    pub(super) fn plain_bytes(&self) -> usize {
        self.records.iter().map(|record| record.plain).sum()
    }

    /// The number of the record that is appended next.
    pub(super) fn next_number(&self) -> u64 {
        self.taken + self.records.len() as u64
    }

    /// Whether the record of this number waits.
    pub(super) const fn is_waiting(&self, number: u64) -> bool {
        number >= self.taken
    }

    /// Has what is sealed count as written, though it is not.
    pub(super) fn forget_plain(&mut self) -> usize {
        self.records.iter_mut().map(|record| std::mem::take(&mut record.plain)).sum()
    }

    /// Writes until the socket takes no more, which is no error here; says how many bytes of the queue have been written.
    pub(super) fn flush<T: Transport>(&mut self, transport: &mut T) -> io::Result<usize> {
        let mut written = 0;
        while !self.is_empty() {
            match self.write_once(transport) {
                Ok(0) => break,
                Ok(count) => written += self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What was written is told first; the failure comes again with the next write.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if self.is_empty() {
            // At rest there is no memory for what may be written again.
            self.records = VecDeque::new();
        }
        Ok(written)
    }

    fn write_once<T: Transport>(&self, transport: &mut T) -> io::Result<usize> {
        if let ([record], []) = self.records.as_slices() {
            return transport.write_vectored(&[IoSlice::new(&record.bytes[self.sent..])]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, record) in slices.iter_mut().zip(&self.records) {
            *slice = IoSlice::new(&record.bytes[if count == 0 { self.sent } else { 0 }..]);
            count += 1;
        }
        transport.write_vectored(&slices[..count])
    }

    /// Notes that the socket has taken `count` bytes more; says how many bytes of the queue are written with that.
    fn advance(&mut self, count: usize) -> usize {
        self.sent += count;
        let mut written = 0;
        while let Some(record) = self.records.front()
            && record.bytes.len() <= self.sent
        {
            self.sent -= record.bytes.len();
            self.bytes -= record.bytes.len();
            self.taken += 1;
            written += record.plain;
            self.records.pop_front();
        }
        written
    }
}
