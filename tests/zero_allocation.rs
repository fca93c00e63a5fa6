//! A routed frame allocates nothing: production engine and service on transports in memory, and an allocator
//! that counts.
//!
//! Each test warms up, so that every pool and list has the memory that it needs, and then counts through many
//! further rounds. What may allocate is left out of the rounds: connecting, joining, watching and leaving, a
//! timer that comes up, and the one copy of a long frame that has to wait for many recipients, which they share.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell, RefMut};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{ConnId, Engine, Limits, PeerAddr, Readiness, Service, Transport};
use switchboard::relay::{Relay, Settings};
use switchboard::server::RelayService;
use switchboard::time::Time;
use switchboard::wire::control::{self, Body, Hello, Join, Joined, Ping, Profile, Welcome};
use switchboard::wire::{Flags, Frames, HEADER_BYTES, Header, Id, Type};

struct Counting;

thread_local! {
    /// Allocations of this thread: tests run side by side. It needs no allocation of its own, nor a destructor.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator with the arguments that it came with, and what that
// returns is returned; so its contract is kept if the caller keeps it. Counting touches no memory but a cell of
// the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from the system's allocator with this layout, since all blocks do; the rest of
        // the contract is the caller's.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Both ends of a connection, in memory that is there from the start.
#[derive(Debug)]
struct Wire {
    /// Bytes from the client, of which those before `shown` can be read.
    input: Vec<u8>,
    read: usize,
    shown: usize,
    /// Bytes that the socket takes before it blocks.
    room: usize,
    blocked: bool,
    /// Bytes for the client.
    output: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Pipe(Rc<RefCell<Wire>>);

const WIRE_BYTES: usize = 1 << 20;
/// Longer than a test runs on its clock, and shorter than a round of the wheel of deadlines: no timer comes up.
const LONG: Duration = Duration::from_mins(1);

impl Pipe {
    fn new() -> Self {
        let (input, output) = (Vec::with_capacity(WIRE_BYTES), Vec::with_capacity(WIRE_BYTES));
        Self(Rc::new(RefCell::new(Wire { input, read: 0, shown: 0, room: usize::MAX, blocked: false, output })))
    }

    fn wire(&self) -> RefMut<'_, Wire> {
        self.0.borrow_mut()
    }
}

impl Transport for Pipe {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut wire = self.wire();
        let mut count = 0;
        for buffer in buffers {
            let take = buffer.len().min(wire.shown - wire.read);
            buffer[..take].copy_from_slice(&wire.input[wire.read..wire.read + take]);
            wire.read += take;
            count += take;
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.wire();
        let before = wire.output.len();
        for buffer in buffers {
            let take = buffer.len().min(wire.room);
            wire.room -= take;
            assert!(wire.output.len() + take <= WIRE_BYTES, "the test's own memory must not grow");
            wire.output.extend_from_slice(&buffer[..take]);
        }
        wire.blocked = wire.room == 0;
        let count = wire.output.len() - before;
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A relay and its clients on one fake clock.
struct Machine {
    engine: Engine<Pipe>,
    service: RelayService,
    now: Time,
    pipes: Vec<(ConnId, Pipe)>,
    ids: Vec<Id>,
}

impl Machine {
    fn new(clients: usize, limits: Limits) -> Self {
        let settings = Settings {
            queue_bytes_max: limits.queue_bytes_max,
            hello_deadline: LONG,
            keepalive: LONG,
            keepalive_max: LONG,
            ..Settings::default()
        };
        let limits = Limits { input_deadline: LONG, write_deadline: LONG, ..limits };
        let relay = Relay::new(settings, 1, Duration::ZERO);
        let mut machine = Self {
            engine: Engine::new::<RelayService>(limits),
            service: RelayService::new(relay, false),
            now: Time::ZERO,
            pipes: Vec::new(),
            ids: Vec::new(),
        };
        for number in 0..clients {
            machine.connect(&format!("client-{number}"));
        }
        machine
    }

    fn connect(&mut self, name: &str) {
        let pipe = Pipe::new();
        let conn = self.engine.open(pipe.clone(), PeerAddr::UNIX, |_, _| Ok(())).expect("a slot");
        self.service.on_open(&mut self.engine.connections, conn, PeerAddr::UNIX, 0, self.now);
        self.pipes.push((conn, pipe));
        let client = self.pipes.len() - 1;
        let mut hello = Vec::new();
        Hello::new(Profile::named(name)).write_frame(Header::new(Type::Hello), &mut hello);
        self.send(client, &hello);
        self.turn();
        let answer = self.wire(client).output.clone();
        self.ids.push(Welcome::parse(&answer[HEADER_BYTES..]).expect("a WELCOME").client);
        self.wire(client).output.clear();
    }

    fn join(&mut self, client: usize, name: &str) -> Id {
        let mut join = Vec::new();
        Join { name }.write_frame(Header::new(Type::Join), &mut join);
        self.send(client, &join);
        self.turn();
        let answer = self.wire(client).output.clone();
        self.wire(client).output.clear();
        Joined::parse(&answer[HEADER_BYTES..]).expect("a JOINED").room
    }

    fn wire(&self, client: usize) -> RefMut<'_, Wire> {
        self.pipes[client].1.wire()
    }

    /// Has a client send bytes, to be read at once.
    fn send(&self, client: usize, bytes: &[u8]) {
        self.send_hidden(client, bytes);
        let mut wire = self.wire(client);
        wire.shown = wire.input.len();
    }

    /// Has a client send bytes that arrive only as far as the test lets them.
    fn send_hidden(&self, client: usize, bytes: &[u8]) {
        let mut wire = self.wire(client);
        if wire.read == wire.input.len() {
            wire.input.clear();
            (wire.read, wire.shown) = (0, 0);
        }
        assert!(wire.input.len() + bytes.len() <= WIRE_BYTES, "the test's own memory must not grow");
        wire.input.extend_from_slice(bytes);
    }

    fn turn(&mut self) {
        let Self { engine, service, now, pipes, .. } = self;
        *now += Duration::from_micros(100);
        engine.begin_turn(*now);
        for (conn, pipe) in pipes {
            let mut wire = pipe.wire();
            let writable = wire.blocked && wire.room > 0;
            wire.blocked &= !writable;
            let readable = wire.read < wire.shown;
            drop(wire);
            engine.note(*conn, Readiness { readable, writable, ..Readiness::default() });
        }
        engine.turn(service, *now);
    }

    /// How many bytes a client has got since this was asked last.
    fn got(&self, client: usize) -> usize {
        let mut wire = self.wire(client);
        let bytes = wire.output.len();
        wire.output.clear();
        bytes
    }

    /// Runs `round` for some time and then counts through 10,000 more.
    fn assert_no_allocation(&mut self, mut round: impl FnMut(&mut Self, usize)) {
        for number in 0..2_000 {
            round(self, number);
        }
        let before = ALLOCATIONS.with(Cell::get);
        for number in 0..10_000 {
            round(self, number);
        }
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!(allocations, 0, "allocations in 10,000 rounds");
        self.engine.connections.check_consistency();
        self.service.relay().check_consistency();
    }
}

fn send(to: Id, payload_bytes: usize) -> Vec<u8> {
    send_flagged(Flags::NONE, to, payload_bytes)
}

fn send_flagged(flags: Flags, to: Id, payload_bytes: usize) -> Vec<u8> {
    frame(Header::new(Type::Send).to(to).flagged(flags), payload_bytes)
}

fn frame(header: Header, payload_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| out.resize(out.len() + payload_bytes, b'x'));
    frame
}

#[test]
fn the_allocator_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.with(Cell::get), before + 1, "or nothing here proves anything");
}

#[test]
fn a_small_frame_for_one_client() {
    let mut machine = Machine::new(16, Limits::default());
    let frames: Vec<_> = machine.ids.iter().map(|id| send(*id, 100)).collect();
    machine.assert_no_allocation(|machine, _| {
        for client in 0..16 {
            machine.send(client, &frames[client ^ 1]);
        }
        machine.turn();
        for client in 0..16 {
            assert_eq!(machine.got(client), frames[0].len());
        }
    });
}

#[test]
fn a_run_of_small_frames() {
    let mut machine = Machine::new(2, Limits::default());
    let run = send(machine.ids[1], 40).repeat(500);
    machine.assert_no_allocation(|machine, _| {
        machine.send(0, &run);
        machine.turn();
        assert_eq!(machine.got(1), run.len());
    });
}

#[test]
fn a_frame_of_64_kib() {
    let mut machine = Machine::new(2, Limits::default());
    let frame = send(machine.ids[1], 64 * 1024);
    machine.assert_no_allocation(|machine, _| {
        machine.send(0, &frame);
        machine.turn();
        assert_eq!(machine.got(1), frame.len());
    });
}

#[test]
fn frames_cut_at_odd_places() {
    let mut machine = Machine::new(2, Limits::default());
    let to = machine.ids[1];
    let stream = [send(to, 0), send(to, 1_000), send(to, 5), send(to, 64 * 1024), send(to, 3)].concat();
    machine.assert_no_allocation(|machine, number| {
        machine.send_hidden(0, &stream);
        let step = [1_009, 4_999, 20_011, 65_537][number % 4];
        let mut shown = number % 31;
        while shown < stream.len() {
            shown = (shown + step).min(stream.len());
            machine.wire(0).shown = shown;
            machine.turn();
        }
        assert_eq!(machine.got(1), stream.len());
    });
}

#[test]
fn a_room_and_all_with_small_frames() {
    let mut machine = Machine::new(40, Limits::default());
    let mut room = Id::RELAY;
    for client in 0..20 {
        room = machine.join(client, "lobby");
    }
    let frames = [send(room, 200), send_flagged(Flags::NO_ECHO.with(Flags::RECEIPT), Id::ALL, 200)];
    machine.assert_no_allocation(|machine, _| {
        for frame in &frames {
            machine.send(3, frame);
        }
        machine.turn();
        let bytes: usize = (0..40).map(|client| machine.got(client)).sum();
        assert!(bytes > 59 * frames[0].len(), "{bytes} bytes arrived, with a receipt");
    });
}

#[test]
fn all_with_long_frames_that_are_written_through() {
    let mut machine = Machine::new(20, Limits::default());
    let frame = send(Id::ALL, 10_000);
    machine.assert_no_allocation(|machine, _| {
        machine.send(3, &frame);
        machine.turn();
        for client in 0..20 {
            assert_eq!(machine.got(client), frame.len());
        }
    });
}

#[test]
fn a_list_of_clients_and_receipts() {
    let mut machine = Machine::new(10, Limits::default());
    let mut list = Vec::new();
    control::put_recipients(&mut list, &machine.ids);
    let mut many = Vec::new();
    Header::new(Type::SendMany).flagged(Flags::RECEIPT).write_frame(&mut many, |out| {
        out.extend_from_slice(&list);
        out.extend_from_slice(&[b'x'; 300]);
    });
    let single = send_flagged(Flags::RECEIPT, machine.ids[5], 300);
    machine.assert_no_allocation(|machine, _| {
        machine.send(0, &many);
        machine.send(0, &single);
        machine.turn();
        // The receipt of what was written goes out with the next turn.
        machine.turn();
        assert_eq!(machine.got(5), 2 * single.len());
        assert_eq!(Frames::new(&machine.wire(0).output).count(), 3, "its copy and two receipts");
        for client in 0..10 {
            machine.got(client);
        }
    });
}

#[test]
fn ping_and_pong() {
    let mut machine = Machine::new(2, Limits::default());
    let mut to_relay = Vec::new();
    Ping { clock_us: Some(5) }.write_frame(Header::new(Type::Ping), &mut to_relay);
    let to_peer = frame(Header::new(Type::Ping).to(machine.ids[1]), 12);
    let answer = frame(Header::new(Type::Pong).to(machine.ids[0]), 24);
    machine.assert_no_allocation(|machine, _| {
        machine.send(0, &to_relay);
        machine.send(0, &to_peer);
        machine.turn();
        assert_eq!(machine.got(1), to_peer.len());
        machine.send(1, &answer);
        machine.turn();
        assert_eq!(machine.got(0), 2 * answer.len(), "the relay's PONG and the peer's");
    });
}

#[test]
fn a_reader_that_blocks_and_catches_up() {
    let mut machine = Machine::new(3, Limits::default());
    let run = send(machine.ids[1], 333).repeat(40);
    let long = send(machine.ids[1], 30_000);
    machine.assert_no_allocation(|machine, number| {
        machine.wire(1).room = 1_000 + number % 4_001;
        machine.send(0, &run);
        machine.send(2, &long);
        machine.turn();
        machine.turn();
        machine.wire(1).room = usize::MAX;
        machine.turn();
        assert_eq!(machine.got(1), run.len() + long.len());
    });
}

#[test]
fn refusals_gaps_and_frames_for_who_is_gone() {
    let limits = Limits { queue_bytes_max: 20_000, ..Limits::default() };
    let mut machine = Machine::new(3, limits);
    let single = send(machine.ids[1], 1_000).repeat(30);
    let all = send_flagged(Flags::NO_ECHO, Id::ALL, 1_000).repeat(5);
    let gone = send(Id::client(77, 77), 10);
    machine.assert_no_allocation(|machine, _| {
        machine.wire(1).room = 100;
        machine.send(0, &single);
        machine.send(0, &all);
        machine.send(0, &gone);
        machine.turn();
        assert!(machine.got(0) > 10 * 100, "ERRORs for what did not fit");
        machine.wire(1).room = usize::MAX;
        machine.turn();
        machine.turn();
        let gaps =
            Frames::new(&machine.wire(1).output).filter(|f| Header::read(f).frame_type() == Some(Type::Gap)).count();
        assert_eq!((gaps, machine.got(1) > 10_000), (1, true));
        assert_eq!(machine.got(2), all.len());
    });
}
