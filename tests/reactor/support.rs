//! A transport whose every byte the test moves, a service that writes down what it is told, and a loop
//! over both on fake time.
//!
//! The transport announces as little as its contract allows: nothing before the engine has seen that it is
//! drained or blocked, and each change once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{
    CloseReason, ConnId, Connections, Engine, Limits, PeerAddr, Progress, Readiness, Service, Transport, Unsent,
};
use switchboard::time::Time;

/// One connection as its peer and the network see it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Wire {
    input: VecDeque<u8>,
    ended: bool,
    failed: bool,
    /// Bytes that the network still takes.
    pub(crate) room: usize,
    /// Bytes that it takes in one call.
    pub(crate) write_max: usize,
    /// What was written.
    pub(crate) output: Vec<u8>,
    /// The peer is gone when it has got so many bytes.
    pub(crate) breaks_after: usize,
    /// The engine has said that it will write no more.
    pub(crate) shut: bool,
    /// The engine has given the transport up.
    pub(crate) closed: bool,
    pub(crate) read_calls: usize,
    pub(crate) write_calls: usize,
    drained: bool,
    blocked: bool,
    readiness: Readiness,
}

/// The peer's side of a transport, for the test.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Rc<RefCell<Wire>>);

/// The engine's side.
#[derive(Debug)]
pub(crate) struct Pipe(Rc<RefCell<Wire>>);

impl Peer {
    /// A transport that takes everything, and is announced as ready for everything once, as a new socket is.
    pub(crate) fn new() -> (Self, Pipe) {
        let wire = Rc::new(RefCell::new(Wire {
            input: VecDeque::new(),
            ended: false,
            failed: false,
            room: usize::MAX,
            write_max: usize::MAX,
            output: Vec::new(),
            breaks_after: usize::MAX,
            shut: false,
            closed: false,
            read_calls: 0,
            write_calls: 0,
            drained: true,
            blocked: false,
            readiness: Readiness { writable: true, ..Readiness::default() },
        }));
        (Self(Rc::clone(&wire)), Pipe(wire))
    }

    pub(crate) fn wire(&self) -> std::cell::RefMut<'_, Wire> {
        self.0.borrow_mut()
    }

    /// Sends `bytes` to the engine.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut wire = self.wire();
        wire.input.extend(bytes);
        if wire.drained && !bytes.is_empty() {
            wire.drained = false;
            wire.readiness.readable = true;
        }
    }

    /// Sends no more.
    pub(crate) fn end(&self) {
        let mut wire = self.wire();
        wire.ended = true;
        wire.readiness = Readiness { readable: true, ends: true, ..wire.readiness };
    }

    /// Is gone: reads and writes fail from now on.
    pub(crate) fn reset(&self) {
        let mut wire = self.wire();
        wire.failed = true;
        wire.readiness = Readiness { readable: true, writable: true, ends: true, failed: true };
    }

    /// Takes `bytes` more and nothing beyond.
    pub(crate) fn take(&self, bytes: usize) {
        let mut wire = self.wire();
        wire.room = bytes;
        if wire.blocked && bytes > 0 {
            wire.blocked = false;
            wire.readiness.writable = true;
        }
    }

    pub(crate) fn output(&self) -> Vec<u8> {
        self.wire().output.clone()
    }

    fn announced(&self) -> Option<Readiness> {
        let readiness = std::mem::take(&mut self.wire().readiness);
        (readiness.readable || readiness.writable || readiness.ends).then_some(readiness)
    }
}

impl Transport for Pipe {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.read_calls += 1;
        if wire.failed {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.input.is_empty() && wire.ended {
            return Ok(0);
        }
        let mut count = 0;
        for buffer in buffers.iter_mut() {
            let take = buffer.len().min(wire.input.len());
            for (place, byte) in buffer.iter_mut().zip(wire.input.drain(..take)) {
                *place = byte;
            }
            count += take;
        }
        let room: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        assert!(room > 0, "a read into nothing means nothing");
        wire.drained |= count < room;
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.write_calls += 1;
        assert!(!wire.shut, "a write after the end was announced");
        if wire.failed || wire.output.len() >= wire.breaks_after {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let most = wire.room.min(wire.write_max).min(wire.breaks_after - wire.output.len());
        if most == 0 {
            wire.blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = most;
        for buffer in buffers {
            let take = buffer.len().min(left);
            wire.output.extend_from_slice(&buffer[..take]);
            left -= take;
        }
        if wire.room != usize::MAX {
            wire.room -= most - left;
        }
        Ok(most - left)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.shut = true;
        if wire.failed { Err(ErrorKind::NotConnected.into()) } else { Ok(()) }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

/// What a service was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Open,
    /// A handshake that this side began is over.
    Established,
    Message(Vec<u8>),
    End,
    Overdue,
    Deadline,
    Written(u64),
    Close {
        reason: CloseReason,
        cut: Vec<u8>,
        whole: Vec<u8>,
    },
}

pub(crate) const fn closed(reason: CloseReason) -> Told {
    Told::Close { reason, cut: Vec::new(), whole: Vec::new() }
}

type Hook<T, R> = Box<dyn FnMut(&mut Connections<T>, ConnId) -> R>;
type DataHook<T> = Box<dyn FnMut(&mut Connections<T>, ConnId, &mut [u8], &mut Vec<(ConnId, Told)>) -> Progress>;

/// A service that writes down what it is told, and does what the test has put into it.
pub(crate) struct Script<T: Transport> {
    pub(crate) told: Vec<(ConnId, Told)>,
    pub(crate) data: DataHook<T>,
    /// In the place of closing.
    pub(crate) end: Option<Hook<T, ()>>,
    pub(crate) written: Option<Hook<T, ()>>,
    pub(crate) established: Option<Hook<T, ()>>,
    pub(crate) close: Option<Hook<T, ()>>,
    pub(crate) refusal: Vec<u8>,
    /// Sources of the program that were ready.
    pub(crate) sources: Vec<usize>,
}

impl<T: Transport> Script<T> {
    /// Messages that begin with their length in two bytes, themselves included; see [`message`].
    pub(crate) fn messages() -> Self {
        Self::with(|_, conn, data, told| {
            let mut consumed = 0;
            loop {
                let rest = &data[consumed..];
                let length = message_bytes(rest);
                if rest.len() < 2 || rest.len() < length {
                    return Progress { consumed, wanted: if rest.len() < 2 { 2 } else { length } };
                }
                told.push((conn, Told::Message(rest[..length].to_vec())));
                consumed += length;
            }
        })
    }

    pub(crate) fn with(
        data: impl FnMut(&mut Connections<T>, ConnId, &mut [u8], &mut Vec<(ConnId, Told)>) -> Progress + 'static,
    ) -> Self {
        Self {
            told: Vec::new(),
            data: Box::new(data),
            end: None,
            written: None,
            established: None,
            close: None,
            refusal: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// What was told of `conn`.
    pub(crate) fn of(&self, conn: ConnId) -> Vec<Told> {
        self.told.iter().filter(|(other, _)| *other == conn).map(|(_, told)| told.clone()).collect()
    }

    pub(crate) fn messages_of(&self, conn: ConnId) -> Vec<Vec<u8>> {
        let message = |told| if let Told::Message(bytes) = told { Some(bytes) } else { None };
        self.of(conn).into_iter().filter_map(message).collect()
    }

    pub(crate) fn end_of(&self, conn: ConnId) -> Option<Told> {
        let mut ends = self.of(conn).into_iter().filter(|told| matches!(told, Told::Close { .. }));
        let end = ends.next();
        assert_eq!(ends.next(), None, "an end is told once");
        end
    }
}

impl<T: Transport> Service<T> for Script<T> {
    fn on_open(&mut self, _: &mut Connections<T>, conn: ConnId, _: PeerAddr, _: usize, _: Time) {
        self.told.push((conn, Told::Open));
    }

    fn on_established(&mut self, io: &mut Connections<T>, conn: ConnId, _: Time) {
        self.told.push((conn, Told::Established));
        if let Some(hook) = &mut self.established {
            hook(io, conn);
        }
    }

    fn on_data(&mut self, io: &mut Connections<T>, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        assert!(!data.is_empty(), "nothing to show");
        assert!(io.is_reading(conn), "shown although it is paused or closed");
        (self.data)(io, conn, data, &mut self.told)
    }

    fn on_end(&mut self, io: &mut Connections<T>, conn: ConnId, _: Time) {
        self.told.push((conn, Told::End));
        match &mut self.end {
            Some(end) => end(io, conn),
            None => io.close(conn),
        }
    }

    fn on_input_overdue(&mut self, io: &mut Connections<T>, conn: ConnId, _: Time) {
        self.told.push((conn, Told::Overdue));
        io.abort(conn, CloseReason::InputOverdue);
    }

    fn on_deadline(&mut self, _: &mut Connections<T>, conn: ConnId, _: Time) {
        self.told.push((conn, Told::Deadline));
    }

    fn on_written(&mut self, io: &mut Connections<T>, conn: ConnId, written: u64, _: Time) {
        self.told.push((conn, Told::Written(written)));
        if let Some(hook) = &mut self.written {
            hook(io, conn);
        }
    }

    fn on_close(&mut self, io: &mut Connections<T>, conn: ConnId, reason: CloseReason, unsent: Unsent<'_>, _: Time) {
        let (cut, whole) = (unsent.cut.to_vec(), unsent.whole.to_vec());
        self.told.push((conn, Told::Close { reason, cut, whole }));
        if let Some(hook) = &mut self.close {
            hook(io, conn);
        }
    }

    fn on_source(&mut self, _: &mut Connections<T>, source: usize, _: Time) {
        self.sources.push(source);
    }

    fn refusal(&mut self, _: switchboard::reactor::Refusal) -> &[u8] {
        &self.refusal
    }

    fn message_bytes(head: &[u8]) -> usize {
        message_bytes(head)
    }
}

/// The length of the message that begins with `head`.
pub(crate) fn message_bytes(head: &[u8]) -> usize {
    head.first_chunk().map_or(1, |length| usize::from(u16::from_be_bytes(*length)).max(2))
}

/// A message of `length` bytes, which are different from those of other fillings.
pub(crate) fn message(length: usize, filling: u8) -> Vec<u8> {
    let mut bytes = u16::try_from(length).expect("a short message").to_be_bytes().to_vec();
    bytes.extend((2..length).map(|at| filling.wrapping_mul(31).wrapping_add(at as u8)));
    bytes
}

/// An engine over fake transports, on fake time.
pub(crate) struct Bench {
    pub(crate) engine: Engine<Pipe>,
    pub(crate) service: Script<Pipe>,
    pub(crate) now: Time,
    peers: Vec<(ConnId, Peer)>,
}

impl Bench {
    pub(crate) fn new(limits: Limits, service: Script<Pipe>) -> Self {
        Self {
            engine: Engine::new::<Script<Pipe>>(limits),
            service,
            now: Time::from_micros(1_000_000),
            peers: Vec::new(),
        }
    }

    pub(crate) fn open(&mut self) -> (ConnId, Peer) {
        let (peer, pipe) = Peer::new();
        let conn = self.engine.open(pipe, PeerAddr::UNIX, |_, _| Ok(())).expect("a slot");
        self.peers.push((conn, peer.clone()));
        (conn, peer)
    }

    /// Has turns look at what `peer` announces.
    pub(crate) fn watch(&mut self, conn: ConnId, peer: &Peer) {
        self.peers.push((conn, peer.clone()));
    }

    pub(crate) fn io(&mut self) -> &mut Connections<Pipe> {
        &mut self.engine.connections
    }

    /// One turn, with whatever the transports announce.
    pub(crate) fn turn(&mut self) {
        let Self { engine, service, now, peers } = self;
        engine.begin_turn(*now);
        for (conn, peer) in peers.iter() {
            if let Some(readiness) = peer.announced() {
                engine.note(*conn, readiness);
            }
        }
        engine.turn(service, *now);
        engine.connections.check_consistency();
        peers.retain(|(_, peer)| !peer.wire().closed);
    }

    /// Turns until there is nothing left to do but wait.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            let readiness = |peer: &Peer| peer.wire().readiness;
            let quiet = |r: Readiness| !(r.readable || r.writable || r.ends);
            if !self.engine.has_work() && self.peers.iter().all(|(_, peer)| quiet(readiness(peer))) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Lets time pass as the poll would: from one deadline to the next.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.settle();
        while let Some(wait) = self.engine.wait(self.now)
            && self.now + wait <= end
        {
            self.now += wait;
            self.settle();
        }
        self.now = end;
        self.settle();
    }
}

/// Small limits, so that tests reach them: a scratch of 1 KiB.
pub(crate) fn small() -> Limits {
    Limits {
        read_scratch_bytes: 1024,
        read_turn_bytes_max: 2048,
        input_bytes_max: 4096,
        queue_bytes_max: 16 * 1024,
        queue_reserve_bytes: 1024,
        buffered_total_bytes_max: 1024 * 1024,
        write_turn_bytes_max: 8192,
        lingering_max: 8,
        endings_turn_max: 2,
        storm_turn_min: 1,
        ..Limits::default()
    }
}
