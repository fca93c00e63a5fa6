//! A network of the simulation's own: one stream in each direction, cut, delayed, held up and broken as a seed says.
//!
//! It announces as little as the contract of [`Transport`] allows, and more than that where a real poll would: an
//! event comes once, late, in any order, without a cause, or for a connection that has gone.
//!
//! What the relay writes is handed to the judge the moment that the network takes it; the client reads it when it
//! likes. Of a line with TLS the judge sees what whole records open to ([`super::secure`]).

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;

use switchboard::reactor::{ConnId, Readiness, Transport};
use switchboard::time::Time;

use super::secure::Secure;

/// What the network is like for one connection. In a story only its whims are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// Bytes of one piece that arrives at the relay.
    pub(crate) piece_bytes_max: usize,
    /// Time that a piece takes, at most.
    pub(crate) delay_us_max: u64,
    /// Bytes that the network holds for a client that does not read.
    pub(crate) window_bytes: usize,
    /// Bytes taken by one write.
    pub(crate) write_bytes_max: usize,
    /// Calls are interrupted now and then.
    pub(crate) interrupts: bool,
    /// What arrived before a reset can still be read.
    pub(crate) reads_before_reset: bool,
    /// It is reset when so many bytes have been written to it, in the midst of a turn.
    pub(crate) breaks_after: u64,
}

impl Line {
    /// A network without whims.
    pub(crate) const PLAIN: Self = Self {
        piece_bytes_max: usize::MAX,
        delay_us_max: 0,
        window_bytes: 1 << 20,
        write_bytes_max: usize::MAX,
        interrupts: false,
        reads_before_reset: true,
        breaks_after: u64::MAX,
    };
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whims = f.debug_struct("Line");
        let mut tell = |name, is_whim: bool, value: &dyn fmt::Debug| {
            if is_whim {
                whims.field(name, value);
            }
        };
        tell("piece_bytes_max", self.piece_bytes_max != Self::PLAIN.piece_bytes_max, &self.piece_bytes_max);
        tell("delay_us_max", self.delay_us_max != Self::PLAIN.delay_us_max, &self.delay_us_max);
        tell("window_bytes", self.window_bytes != Self::PLAIN.window_bytes, &self.window_bytes);
        tell("write_bytes_max", self.write_bytes_max != Self::PLAIN.write_bytes_max, &self.write_bytes_max);
        tell("interrupts", self.interrupts, &self.interrupts);
        tell("reads_before_reset", !self.reads_before_reset, &self.reads_before_reset);
        tell("breaks_after", self.breaks_after != Self::PLAIN.breaks_after, &self.breaks_after);
        whims.finish()
    }
}

/// Everything that the relay wrote and nobody has judged, in the order in which the network took it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    /// Whose bytes, and where they end.
    pub(crate) pieces: Vec<(ConnId, usize)>,
    /// The time of this turn.
    pub(crate) now: Time,
}

/// One connection, seen from the network.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Wire {
    pub(crate) line: Line,
    random: fastrand::Rng,
    log: Rc<RefCell<Log>>,
    pub(crate) conn: Option<ConnId>,

    /// Pieces on their way to the relay, with the time at which they arrive.
    road: VecDeque<(Time, Vec<u8>)>,
    arrived: VecDeque<u8>,
    /// Everything that the client has sent and the relay's service has not consumed.
    pub(crate) unconsumed: VecDeque<u8>,
    pub(crate) secure: Option<Box<Secure>>,
    /// Where the records end that are on their way or have come, by the bytes sent up to there.
    records: VecDeque<u64>,
    record_end: u64,
    put: u64,
    /// What the relay has read, in how many calls, and since when it has a part of a record.
    pub(crate) read: u64,
    pub(crate) read_calls: u64,
    pub(crate) record_since: Option<Time>,
    /// The service has been told of it.
    pub(crate) is_known: bool,
    /// The client sends no more; the end arrives behind what is on the road.
    closing: bool,
    pub(crate) ended: bool,
    pub(crate) is_reset: bool,
    /// Nothing arrives any more, in either direction, and nobody is told.
    pub(crate) is_cut: bool,

    /// Taken from the relay, not read by the client.
    inbox: VecDeque<u8>,
    pub(crate) written: u64,
    /// The relay will write no more.
    pub(crate) shut: bool,
    /// The relay has dropped its end.
    pub(crate) is_gone: bool,

    drained: bool,
    blocked: bool,
    readiness: Readiness,
    /// The relay has read from it, or handled what it had read, since this was last looked at.
    pub(crate) was_read: bool,
    /// The last turn in which it was read or need not have been.
    pub(crate) idle_since: u64,
    has_blocked: bool,
    /// Calls that wrote or tried to.
    pub(crate) write_calls: u64,
}

/// The client's end, and the network's.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Rc<RefCell<Wire>>);

/// The relay's end.
#[derive(Debug)]
pub(crate) struct Pipe(Rc<RefCell<Wire>>);

impl Peer {
    pub(crate) fn new(line: Line, seed: u64, log: Rc<RefCell<Log>>) -> (Self, Pipe) {
        let wire = Rc::new(RefCell::new(Wire {
            line,
            random: fastrand::Rng::with_seed(seed),
            log,
            conn: None,
            road: VecDeque::new(),
            arrived: VecDeque::new(),
            unconsumed: VecDeque::new(),
            secure: None,
            records: VecDeque::new(),
            record_end: 0,
            put: 0,
            read: 0,
            read_calls: 0,
            record_since: None,
            is_known: false,
            closing: false,
            ended: false,
            is_reset: false,
            is_cut: false,
            inbox: VecDeque::new(),
            written: 0,
            shut: false,
            is_gone: false,
            drained: true,
            blocked: false,
            // A new socket is announced once, as ready for writing.
            readiness: Readiness { writable: true, ..Readiness::default() },
            was_read: false,
            idle_since: 0,
            has_blocked: false,
            write_calls: 0,
        }));
        (Self(Rc::clone(&wire)), Pipe(wire))
    }

    pub(crate) fn wire(&self) -> RefMut<'_, Wire> {
        self.0.borrow_mut()
    }

    /// Has the client speak TLS.
    pub(crate) fn secure(&self, secure: Secure) {
        self.wire().secure = Some(Box::new(secure));
    }

    /// Sends what is for the relay's service.
    pub(crate) fn send(&self, now: Time, bytes: &[u8]) {
        let mut wire = self.wire();
        if wire.closing || wire.is_reset || wire.is_cut {
            return;
        }
        let Some(secure) = &mut wire.secure else {
            wire.unconsumed.extend(bytes);
            return wire.put(now, bytes);
        };
        if secure.may_send() {
            secure.write(bytes);
            wire.unconsumed.extend(bytes);
            wire.put_sealed(now);
        }
    }

    /// Sends bytes as they are, which the service will never see.
    pub(crate) fn send_raw(&self, now: Time, bytes: &[u8]) {
        let mut wire = self.wire();
        if !(wire.closing || wire.is_reset || wire.is_cut) {
            wire.put(now, bytes);
        }
    }

    /// Does something with the client's TLS, if it has any, and sends what comes of it.
    pub(crate) fn with_tls<R>(&self, now: Time, act: impl FnOnce(&mut Secure) -> R) -> Option<R> {
        let mut wire = self.wire();
        if wire.closing || wire.is_reset || wire.is_cut {
            return None;
        }
        let done = wire.secure.as_mut().map(|secure| act(secure));
        wire.put_sealed(now);
        done
    }

    /// Sends no more, and reads on. Over TLS that is announced, if the client has got so far.
    pub(crate) fn half_close(&self) {
        let now = self.wire().log.borrow().now;
        self.with_tls(now, Secure::close);
        self.wire().closing = true;
    }

    /// The same without announcing it.
    pub(crate) fn cut_off(&self) {
        self.wire().closing = true;
    }

    pub(crate) fn reset(&self) {
        let mut wire = self.wire();
        if wire.is_cut || wire.is_gone {
            return;
        }
        wire.is_reset = true;
        wire.road.clear();
        wire.readiness = Readiness { readable: true, writable: true, ends: true, failed: true };
    }

    /// The cable is pulled.
    pub(crate) fn cut(&self) {
        self.wire().is_cut = true;
    }

    /// What the client reads of what waits, up to `most` bytes.
    pub(crate) fn read(&self, most: usize, into: &mut Vec<u8>) -> usize {
        let mut wire = self.wire();
        if wire.is_cut {
            return 0;
        }
        let count = wire.inbox.len().min(most);
        let now = wire.log.borrow().now;
        let Wire { inbox, secure, .. } = &mut *wire;
        let bytes = inbox.drain(..count);
        if let Some(secure) = secure {
            drop(bytes);
            secure.read(count, into);
            wire.put_sealed(now);
        } else {
            into.extend(bytes);
        }
        let room = wire.line.window_bytes.saturating_sub(wire.inbox.len());
        // A socket says that it is writable when some share of its buffer is free, not with the first byte.
        if wire.blocked && (wire.inbox.is_empty() || room * 3 >= wire.line.window_bytes) {
            wire.blocked = false;
            wire.readiness.writable = true;
        }
        count
    }

    /// Whether the client has read everything that the relay will ever write.
    pub(crate) fn is_over(&self) -> bool {
        let wire = self.wire();
        !wire.is_cut && (wire.is_reset || wire.inbox.is_empty() && (wire.shut || wire.is_gone))
    }

    pub(crate) fn inbox_bytes(&self) -> usize {
        self.wire().inbox.len()
    }

    /// When the next piece arrives.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let wire = self.wire();
        if wire.is_cut || wire.is_reset || wire.is_gone {
            return None;
        }
        let end = (wire.closing && !wire.ended && wire.road.is_empty()).then_some(Time::ZERO);
        wire.road.front().map(|(at, _)| *at).or(end)
    }

    /// Has everything arrive that is due.
    pub(crate) fn arrive(&self, now: Time) {
        let mut wire = self.wire();
        if wire.is_cut || wire.is_reset {
            return;
        }
        while wire.road.front().is_some_and(|(at, _)| *at <= now) {
            wire.take_piece();
        }
        if wire.closing && !wire.ended && wire.road.is_empty() {
            wire.ended = true;
            wire.readiness = Readiness { readable: true, ends: true, ..wire.readiness };
        }
    }

    /// What the poll would say, once.
    pub(crate) fn announced(&self) -> Option<Readiness> {
        let mut wire = self.wire();
        if wire.is_cut {
            return None;
        }
        let readiness = std::mem::take(&mut wire.readiness);
        (readiness.readable || readiness.writable || readiness.ends).then_some(readiness)
    }

    pub(crate) fn is_announcing(&self) -> bool {
        let wire = self.wire();
        let readiness = wire.readiness;
        let is_reachable = !wire.is_cut && !wire.is_gone && wire.conn.is_some();
        is_reachable && (readiness.readable || readiness.writable || readiness.ends)
    }
}

impl Wire {
    /// Puts bytes on the road to the relay.
    fn put(&mut self, now: Time, bytes: &[u8]) {
        self.put += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = self.line.piece_bytes_max.min(rest.len());
            let length = self.random.usize(1..=most).max(most / 2);
            let (piece, after) = rest.split_at(length);
            rest = after;
            let at = self.arrival(now);
            self.road.push_back((at, piece.to_vec()));
        }
    }

    /// Sends what the client's TLS has to say and may say now.
    fn put_sealed(&mut self, now: Time) {
        if self.closing || self.is_reset || self.is_cut {
            return;
        }
        let bytes = self.secure.as_mut().map(|secure| secure.outgoing()).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let mut rest = &bytes[..];
        let mut end = self.put;
        while let [_, _, _, high, low, ..] = rest {
            let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
            end += length as u64;
            self.records.push_back(end);
            rest = &rest[length..];
        }
        self.put(now, &bytes);
    }

    /// The relay has read so many bytes.
    fn note_read(&mut self, count: usize) {
        self.read_calls += 1;
        self.read += count as u64;
        let mut has_ended = false;
        while let Some(end) = self.records.pop_front_if(|end| *end <= self.read) {
            (self.record_end, has_ended) = (end, true);
        }
        if self.secure.is_none() || self.record_end == self.read {
            self.record_since = None;
        } else if has_ended || self.record_since.is_none() {
            self.record_since = Some(self.log.borrow().now);
        }
    }

    /// Whether the relay can know that its client sends no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended || self.is_reset || self.secure.as_ref().is_some_and(|secure| secure.has_said_end())
    }

    /// Whether the client has left without saying over its TLS that it would: something may be missing.
    pub(crate) fn is_truncated(&self) -> bool {
        self.ended && self.secure.as_ref().is_some_and(|secure| !secure.has_said_end())
    }

    /// When something that is sent now arrives: never before what was sent earlier.
    fn arrival(&mut self, now: Time) -> Time {
        let delay = self.random.u64(0..=self.line.delay_us_max);
        let at = Time::from_micros(now.micros() + delay);
        self.road.back().map_or(at, |(last, _)| at.max(*last))
    }

    fn take_piece(&mut self) {
        let Some((_, piece)) = self.road.pop_front() else { return };
        self.arrived.extend(piece);
        if self.drained {
            self.drained = false;
            self.readiness.readable = true;
        }
    }

    /// Bytes that the client has sent and the relay has not read, whether they have arrived or not.
    pub(crate) fn has_unread(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub(crate) fn unread_bytes(&self) -> usize {
        self.arrived.len()
    }

    /// Whether the network would take something, and the relay has no reason to wait for an event.
    pub(crate) fn is_writable(&self) -> bool {
        !self.blocked && !self.is_reset && !self.is_cut && self.inbox.len() < self.line.window_bytes
    }

    /// Whether everything that the relay has read has been consumed.
    pub(crate) fn is_all_consumed(&self) -> bool {
        self.secure.is_none()
            && self.unconsumed.len()
                == self.arrived.len() + self.road.iter().map(|(_, piece)| piece.len()).sum::<usize>()
    }

    /// What the relay has written and its client has not read.
    pub(crate) fn taken(&self) -> Vec<u8> {
        self.inbox.iter().copied().collect()
    }

    fn is_interrupted(&mut self) -> bool {
        self.line.interrupts && self.random.u8(..8) == 0
    }
}

impl Pipe {
    /// Whether a record of the far end's has begun and not ended.
    pub(crate) fn has_begun_record(&self) -> bool {
        self.0.borrow().record_since.is_some()
    }

    /// Whether it has ever had no room.
    pub(crate) fn has_blocked(&self) -> bool {
        self.0.borrow().has_blocked
    }

    pub(crate) fn register(&self, conn: ConnId) {
        self.0.borrow_mut().conn = Some(conn);
    }
}

impl Transport for Pipe {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        wire.was_read = true;
        if wire.is_reset && (wire.arrived.is_empty() || !wire.line.reads_before_reset) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.arrived.is_empty() && wire.ended {
            return Ok(0);
        }
        let room: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        assert!(room > 0, "a read into nothing means nothing");
        let mut count = 0;
        for buffer in buffers.iter_mut() {
            let take = buffer.len().min(wire.arrived.len());
            for (place, byte) in buffer.iter_mut().zip(wire.arrived.drain(..take)) {
                *place = byte;
            }
            count += take;
        }
        wire.note_read(count);
        wire.drained |= count < room;
        if wire.drained && wire.random.u8(..8) == 0 {
            // More arrives the very moment after.
            wire.take_piece();
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.shut, "a write after the end was announced");
        wire.write_calls += 1;
        if wire.is_interrupted() {
            return Err(ErrorKind::Interrupted.into());
        }
        if wire.is_reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = wire.line.window_bytes.saturating_sub(wire.inbox.len());
        if room == 0 {
            (wire.blocked, wire.has_blocked) = (true, true);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = room.min(wire.line.write_bytes_max);
        if left > 1 && wire.line.interrupts && wire.random.bool() {
            left = wire.random.usize(1..=left);
        }
        let mut count = 0;
        let log = Rc::clone(&wire.log);
        let mut log = log.borrow_mut();
        let Wire { inbox, secure, conn, .. } = &mut *wire;
        for buffer in buffers {
            let take = &buffer[..buffer.len().min(left)];
            inbox.extend(take);
            let opened = secure.as_mut().map(|secure| secure.take(take));
            if conn.is_some() {
                log.bytes.extend_from_slice(opened.as_deref().unwrap_or(take));
            }
            left -= take.len();
            count += take.len();
        }
        wire.written += count as u64;
        if wire.written >= wire.line.breaks_after && wire.conn.is_some() {
            wire.is_reset = true;
            wire.road.clear();
            wire.readiness = Readiness { readable: true, writable: true, ends: true, failed: true };
        }
        if let Some(conn) = wire.conn {
            let end = log.bytes.len();
            log.pieces.push((conn, end));
        }
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.shut = true;
        let misses_end = wire.is_known && wire.secure.as_ref().is_some_and(|secure| secure.misses_end());
        let has_room = !wire.is_reset && !wire.blocked && wire.inbox.len() < wire.line.window_bytes;
        assert!(!misses_end || !has_room, "a client is not told over its TLS that nothing follows");
        if wire.is_reset { Err(ErrorKind::NotConnected.into()) } else { Ok(()) }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.borrow_mut().is_gone = true;
    }
}
