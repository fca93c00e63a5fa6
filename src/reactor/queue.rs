//! What waits to be written to one connection, and the blocks that it waits in.
//!
//! ```text
//!   segments:  [ block 4 KiB ..|sent|unsent ] [ block, full ] [ shared, 40 KiB ] [ block |unsent|free ]
//!                                   ^ next byte to write                                        ^ appended here
//! ```
//!
//! A queue exists only while something waits: at rest a connection owns none. Small messages are copied
//! into blocks that come from a pool; a large one for many recipients is copied once and shared.
//! The queue knows how old its oldest unsent byte is, and where the first message begins of which nothing
//! has been written: what cannot be delivered when a connection ends is handed back in whole messages.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::{ConnId, Transport};
use crate::outgoing::{Meter, Outgoing, Shared};
use crate::planted::{self, Bug};
use crate::time::Tick;

/// Bytes of a block: about one turn's worth of small frames for one recipient, and one page.
const BLOCK_BYTES: usize = 4096;
/// Free blocks that are kept, 16 MiB: what a burst to 4,000 recipients needs. The rest goes back to the system.
const FREE_BLOCKS_MAX: usize = 4096;
/// What a shared message costs each of the queues that it waits in.
const SHARED_FEE_BYTES: usize = 64;
/// Buffers handed to one write; the system allows 1,024.
const SLICES_MAX: usize = 64;

type Block = Box<[u8; BLOCK_BYTES]>;

/// How long the message is that begins with these bytes; at least one. The reactor asks its service.
pub(super) type MessageBytes = fn(&[u8]) -> usize;

/// Blocks that nobody uses at the moment.
#[derive(Debug, Default)]
pub(super) struct BlockPool {
    free: Vec<Block>,
}

impl BlockPool {
    fn take(&mut self) -> Block {
        self.free.pop().unwrap_or_else(|| Box::new([0; BLOCK_BYTES]))
    }

    fn give(&mut self, block: Block) {
        if self.free.len() < FREE_BLOCKS_MAX {
            self.free.push(block);
        }
    }
}

#[derive(Debug)]
enum Segment {
    Block { block: Block, start: usize, end: usize },
    Shared(Shared),
}

impl Segment {
    fn unsent(&self) -> &[u8] {
        match self {
            Self::Block { block, start, end } => &block[*start..*end],
            Self::Shared(shared) => shared.bytes(),
        }
    }
}

/// Up to the byte at `end` everything was queued at `tick` or before.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    tick: Tick,
}

#[derive(Debug)]
pub(super) struct OutQueue {
    /// Whose queue this is, so that the largest can be found and closed.
    pub(super) owner: ConnId,
    segments: VecDeque<Segment>,
    /// Unsent bytes in all segments.
    bytes: usize,
    /// Bytes of memory that it holds: whole blocks, and a fee for each shared message, which is counted
    /// elsewhere, once for all who wait for it.
    held: usize,
    /// How often something was appended since the queue was leased.
    sends: u32,
    /// Bytes taken by the transport since the queue was leased.
    sent: u64,
    /// Unsent bytes in front that belong to a message of which a part has been sent.
    remainder: usize,
    /// The beginning of the message that `remainder` is the end of.
    cut: [u8; HEAD_BYTES],
    /// One for each tick in which something was queued, oldest first: the age of the oldest unsent byte.
    marks: VecDeque<Mark>,
}

impl OutQueue {
    pub(super) const fn new(owner: ConnId) -> Self {
        Self {
            owner,
            segments: VecDeque::new(),
            bytes: 0,
            held: 0,
            sends: 0,
            sent: 0,
            remainder: 0,
            cut: [0; HEAD_BYTES],
            marks: VecDeque::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held
    }

    /// How much a reader that does not keep up is to blame for: what waits for it, shared with others or not.
    pub(super) fn weight_bytes(&self) -> usize {
        self.held.max(self.bytes)
    }

    /// Nothing of it will be sent any more: its connection is condemned.
    pub(super) fn forsake(&self) {
        for segment in &self.segments {
            if let Segment::Shared(shared) = segment {
                shared.forsake();
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// How often something was appended; begins to count anew.
    pub(super) const fn take_sends(&mut self) -> u32 {
        std::mem::replace(&mut self.sends, 0)
    }

    /// When the oldest unsent byte was queued.
    pub(super) fn oldest(&self) -> Option<Tick> {
        let mark = if planted::has(Bug::YoungestByteTimed) { self.marks.back() } else { self.marks.front() };
        mark.map(|mark| mark.tick)
    }

    /// Appends `outgoing` from its byte `start` on.
    ///
    /// If `start` is not 0, the bytes before it have been written directly and this queue was empty.
    pub(super) fn push(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        start: usize,
        now: Tick,
        pool: &mut BlockPool,
        meter: &Meter,
        message_bytes: MessageBytes,
    ) {
        let mut rest = &outgoing.bytes()[start..];
        if start > 0 {
            debug_assert!(self.is_empty(), "bytes written past a queue that is not empty");
            let (begin, end) = message_around(outgoing.bytes(), start, message_bytes);
            self.remainder = end - start;
            self.cut = head_of([&outgoing.bytes()[begin..]]).0;
        }
        self.bytes += rest.len();
        self.sends = self.sends.saturating_add(1);
        let end = self.sent + self.bytes as u64;
        match self.marks.back_mut() {
            Some(mark) if mark.tick == now => mark.end = end,
            _ => self.marks.push_back(Mark { end, tick: now }),
        }
        if let Some(shared) = outgoing.shared_from(start, meter) {
            self.held += SHARED_FEE_BYTES;
            self.segments.push_back(Segment::Shared(shared));
            return;
        }
        if let Some(Segment::Block { block, end, .. }) = self.segments.back_mut() {
            let (fits, more) = rest.split_at(rest.len().min(BLOCK_BYTES - *end));
            block[*end..*end + fits.len()].copy_from_slice(fits);
            *end += fits.len();
            rest = more;
        }
        for piece in rest.chunks(BLOCK_BYTES) {
            let mut block = pool.take();
            self.held += BLOCK_BYTES;
            block[..piece.len()].copy_from_slice(piece);
            self.segments.push_back(Segment::Block { block, start: 0, end: piece.len() });
        }
    }

    /// Offers what waits to `transport`, in one call; says how many bytes it took.
    pub(super) fn write_to<T: Transport>(&mut self, transport: &mut T) -> io::Result<usize> {
        if let [segment] = self.segments.as_slices().0
            && self.segments.len() == 1
        {
            return transport.write_vectored(&[IoSlice::new(segment.unsent())]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment.unsent());
            count += 1;
        }
        transport.write_vectored(&slices[..count])
    }

    /// Forgets the first `taken` unsent bytes, which the transport has.
    pub(super) fn advance(&mut self, taken: usize, pool: &mut BlockPool, message_bytes: MessageBytes) {
        debug_assert!(taken <= self.bytes, "the transport took more than it was offered");
        if taken == self.bytes {
            self.clear(pool);
            return;
        }
        self.advance_remainder(taken, message_bytes);
        self.bytes -= taken;
        self.sent += taken as u64;
        let mut left = taken;
        while left > 0
            && let Some(segment) = self.segments.front_mut()
        {
            let length = segment.unsent().len();
            if length > left {
                match segment {
                    Segment::Block { start, .. } => *start += left,
                    Segment::Shared(shared) => shared.advance(left),
                }
                break;
            }
            left -= length;
            self.pop(pool);
        }
        while self.marks.front().is_some_and(|mark| mark.end <= self.sent) {
            self.marks.pop_front();
        }
    }

    /// Walks the messages that `taken` bytes cover, to know how much of the last of them is left. This is
    /// done only when a peer does not take everything, and looks at nothing but the messages' beginnings.
    fn advance_remainder(&mut self, taken: usize, message_bytes: MessageBytes) {
        let mut boundary = self.remainder;
        let mut segments = self.segments.iter();
        let mut segment: &[u8] = &[];
        let mut segment_start = 0;
        while boundary < taken {
            while boundary >= segment_start + segment.len() {
                segment_start += segment.len();
                let Some(next) = segments.next() else { return };
                segment = next.unsent();
            }
            let here = &segment[boundary - segment_start..];
            let (head, have) = match here.first_chunk() {
                Some(head) => (*head, HEAD_BYTES),
                None => head_of(std::iter::once(here).chain(segments.clone().map(Segment::unsent))),
            };
            self.cut = head;
            boundary += message_bytes(&head[..have]).max(1);
        }
        self.remainder = (boundary - taken).min(self.bytes - taken);
    }

    fn pop(&mut self, pool: &mut BlockPool) {
        match self.segments.pop_front() {
            Some(Segment::Block { block, .. }) => {
                self.held -= BLOCK_BYTES;
                pool.give(block);
            }
            Some(Segment::Shared(_)) => self.held -= SHARED_FEE_BYTES,
            None => {}
        }
    }

    /// The beginning of the message of which only a part has been sent; empty if there is none.
    pub(super) fn cut(&self) -> &[u8] {
        if self.remainder > 0 { &self.cut } else { &[] }
    }

    /// Appends the whole messages of which nothing has been sent.
    pub(super) fn copy_unsent(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for segment in &self.segments {
            out.extend_from_slice(segment.unsent());
        }
        if !planted::has(Bug::HalfFrameKept) {
            out.drain(start..start + self.remainder);
        }
    }

    /// Forgets everything and gives the blocks back; of its lists it keeps as much as a reader that keeps up needs. Any
    /// connection may get this queue next: else one reader after the other that is stuck for a while would have every
    /// queue keep the lists of a full one.
    pub(super) fn clear(&mut self, pool: &mut BlockPool) {
        while !self.segments.is_empty() {
            self.pop(pool);
        }
        self.marks.clear();
        if self.segments.capacity() > SLICES_MAX {
            self.segments = VecDeque::new();
        }
        if self.marks.capacity() > SLICES_MAX {
            self.marks = VecDeque::new();
        }
        self.sent += self.bytes as u64;
        self.bytes = 0;
        self.remainder = 0;
    }

    /// Compares what must agree.
    pub(super) fn check_consistency(&self) {
        assert_eq!(self.bytes, self.segments.iter().map(|s| s.unsent().len()).sum::<usize>(), "bytes of the segments");
        let cost = |segment: &Segment| match segment {
            Segment::Block { .. } => BLOCK_BYTES,
            Segment::Shared(_) => SHARED_FEE_BYTES,
        };
        assert_eq!(self.held, self.segments.iter().map(cost).sum::<usize>(), "memory of the segments");
        assert!(self.remainder <= self.bytes, "a remainder longer than the queue");
        assert_eq!(self.is_empty(), self.marks.is_empty(), "an age without bytes, or bytes without an age");
        assert!(self.marks.back().is_none_or(|mark| mark.end == self.sent + self.bytes as u64), "the last mark");
    }
}

/// What is left of a connection's queue when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsent<'a> {
    /// Bytes that the socket took since the connection was opened.
    pub written: u64,
    /// The first bytes, up to 32, of the message of which only a part was written; empty if there is none.
    pub cut: &'a [u8],
    /// The whole messages of which nothing was written.
    pub whole: &'a [u8],
}

/// As many bytes of a message as tell its length, and who has to be told of its loss.
const HEAD_BYTES: usize = 32;

/// The first bytes of a message that may be spread over `pieces`, and how many they are.
fn head_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> ([u8; HEAD_BYTES], usize) {
    let mut head = [0; HEAD_BYTES];
    let mut have = 0;
    for piece in pieces {
        let count = piece.len().min(HEAD_BYTES - have);
        head[have..have + count].copy_from_slice(&piece[..count]);
        have += count;
        if have == HEAD_BYTES {
            break;
        }
    }
    (head, have)
}

/// Where the message begins and ends that byte `at - 1` of `bytes` belongs to.
fn message_around(bytes: &[u8], at: usize, message_bytes: MessageBytes) -> (usize, usize) {
    let (mut begin, mut end) = (0, 0);
    while end < at {
        begin = end;
        let head = &bytes[begin..bytes.len().min(begin + HEAD_BYTES)];
        end += message_bytes(head).max(1);
    }
    (begin, end.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSliceMut;

    /// Takes as many bytes at a time as it is told.
    struct Sink {
        taken: Vec<u8>,
        at_once: usize,
    }

    impl Transport for Sink {
        fn read_vectored(&mut self, _: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            Ok(0)
        }

        fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut left = self.at_once;
            for buffer in buffers {
                let count = buffer.len().min(left);
                self.taken.extend_from_slice(&buffer[..count]);
                left -= count;
            }
            Ok(self.at_once - left)
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Messages that begin with their own length in two bytes.
    fn message(length: usize, fill: u8) -> Vec<u8> {
        let mut message = vec![fill; length];
        message[..2].copy_from_slice(&(length as u16).to_be_bytes());
        message
    }

    fn length(head: &[u8]) -> usize {
        usize::from(u16::from_be_bytes([head[0], head[1]]))
    }

    fn tick(n: u64) -> Tick {
        Tick::at(crate::time::Time::from_micros(n << 16))
    }

    #[test]
    fn bytes_leave_in_their_order_and_what_is_left_is_whole_messages() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..300 {
            let mut pool = BlockPool::default();
            let mut queue = OutQueue::new(ConnId::new(1, 1));
            let mut sink = Sink { taken: Vec::new(), at_once: 0 };
            let mut all = Vec::new();
            let mut boundaries = vec![0];
            for round in 0..random.u64(1..40) {
                let text = message(random.usize(2..9000), random.u8(..));
                let mut outgoing = if random.bool() { Outgoing::to_one(&text) } else { Outgoing::to_many(&text) };
                let start = if queue.is_empty() && random.bool() { random.usize(0..text.len()) } else { 0 };
                sink.taken.extend_from_slice(&text[..start]);
                queue.push(&mut outgoing, start, tick(round), &mut pool, &Meter::default(), length);
                all.extend_from_slice(&text);
                boundaries.push(all.len());
                queue.check_consistency();
                sink.at_once = random.usize(0..12_000);
                let taken = queue.write_to(&mut sink).expect("a sink");
                queue.advance(taken, &mut pool, length);
                queue.check_consistency();
                assert_eq!(sink.taken.len() + queue.len(), all.len());
                let next = boundaries.iter().find(|b| **b >= sink.taken.len()).expect("the end is one");
                let mut unsent = Vec::new();
                queue.copy_unsent(&mut unsent);
                assert_eq!(unsent, all[*next..], "whole messages of which nothing was sent");
                let begun = boundaries.iter().rev().find(|b| **b <= sink.taken.len()).expect("0 is one");
                let cut = if begun == next { &[] } else { &all[*begun..] };
                assert_eq!(queue.cut().get(..2), cut.get(..2), "the message of which a part was sent");
            }
            assert_eq!(sink.taken, all[..sink.taken.len()]);
        }
    }

    #[test]
    fn the_age_is_that_of_the_oldest_unsent_byte() {
        let mut pool = BlockPool::default();
        let mut queue = OutQueue::new(ConnId::new(1, 1));
        let text = message(100, 0);
        for n in 0..3 {
            queue.push(&mut Outgoing::to_one(&text), 0, tick(n), &mut pool, &Meter::default(), length);
        }
        assert_eq!(queue.oldest(), Some(tick(0)));
        queue.advance(99, &mut pool, length);
        assert_eq!(queue.oldest(), Some(tick(0)));
        queue.advance(1, &mut pool, length);
        assert_eq!(queue.oldest(), Some(tick(1)));
        queue.advance(200, &mut pool, length);
        assert_eq!(queue.oldest(), None);
    }

    #[test]
    fn a_queue_that_was_full_once_does_not_keep_the_lists_of_a_full_one() {
        let mut pool = BlockPool::default();
        let mut queue = OutQueue::new(ConnId::new(1, 1));
        let text = message(BLOCK_BYTES, 0);
        let mut fill = |queue: &mut OutQueue, messages: u64| {
            for n in 0..messages {
                queue.push(&mut Outgoing::to_one(&text), 0, tick(n), &mut pool, &Meter::default(), length);
            }
            queue.advance(queue.len(), &mut pool, length);
        };
        fill(&mut queue, 16);
        let places = (queue.segments.capacity(), queue.marks.capacity());
        assert!(places.0 >= 16 && places.1 >= 16, "a reader that keeps up needs no other lists the next time");
        fill(&mut queue, 1000);
        assert!(queue.segments.capacity() <= SLICES_MAX && queue.marks.capacity() <= SLICES_MAX, "{queue:?}");
    }

    #[test]
    fn a_long_message_for_many_is_copied_once() {
        let text = message(10_000, 7);
        let mut outgoing = Outgoing::to_many(&text);
        let mut pool = BlockPool::default();
        let mut queues: Vec<_> = (0..5).map(|n| OutQueue::new(ConnId::new(n, 1))).collect();
        for queue in &mut queues {
            queue.push(&mut outgoing, 0, tick(0), &mut pool, &Meter::default(), length);
        }
        let whole = outgoing.shared_from(0, &Meter::default()).expect("it was shared");
        for queue in &queues {
            let Some(Segment::Shared(bytes)) = queue.segments.front() else { panic!("not shared") };
            assert_eq!(bytes.bytes().as_ptr(), whole.bytes().as_ptr());
        }
    }
}
