//! What stands where the system would: a transport and an outbox that cost next to nothing, and a whole relay
//! over such transports on a clock of its own.
//!
//! The transport copies what is read, as the kernel would, and only counts what is written. So what is measured
//! is the way of a frame without the kernel.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use switchboard::outgoing::{Lane, Outgoing, SendError};
use switchboard::reactor::{ConnId, Connections, Engine, Limits, PeerAddr, Progress, Readiness, Service, Transport};
use switchboard::relay::{Outbox, Relay, Settings};
use switchboard::server::RelayService;
use switchboard::time::Time;
use switchboard::wire::control::{Body, Hello, Profile};
use switchboard::wire::{HEADER_BYTES, Header, Id, Type};

/// Both ends of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Pipe(Rc<Wire>);

#[derive(Debug)]
struct Wire {
    input: RefCell<Vec<u8>>,
    /// The next byte of `input` to be read, and where what has arrived ends.
    next: Cell<usize>,
    arrived: Cell<usize>,
    /// Bytes that the peer takes before it blocks, and those that it has taken.
    room: Cell<usize>,
    taken: Cell<usize>,
}

impl Pipe {
    /// A peer that takes everything and has nothing to say.
    pub(crate) fn new() -> Self {
        let (next, arrived, taken) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Self(Rc::new(Wire { input: RefCell::default(), next, arrived, room: Cell::new(usize::MAX), taken }))
    }

    /// What the peer will send; nothing of it has arrived yet.
    pub(crate) fn load(&self, input: Vec<u8>) {
        *self.0.input.borrow_mut() = input;
        self.rewind();
    }

    /// The same once more.
    pub(crate) fn rewind(&self) {
        self.0.next.set(0);
        self.0.arrived.set(0);
    }

    /// The bytes up to `end` arrive.
    pub(crate) fn arrive(&self, end: usize) {
        self.0.arrived.set(end);
    }

    /// All bytes arrive, from the first on.
    pub(crate) fn arrive_again(&self) {
        self.0.next.set(0);
        self.0.arrived.set(self.0.input.borrow().len());
    }

    /// How many bytes the peer has taken since this was asked last.
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.take()
    }

    /// The peer takes `bytes` more.
    pub(crate) fn take(&self, bytes: usize) {
        self.0.room.set(bytes);
    }
}

impl Transport for Pipe {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let wire = &*self.0;
        let (start, mut next, end) = (wire.next.get(), wire.next.get(), wire.arrived.get());
        let input = wire.input.borrow();
        for buffer in buffers {
            let count = buffer.len().min(end - next);
            buffer[..count].copy_from_slice(&input[next..next + count]);
            next += count;
        }
        wire.next.set(next);
        if next == start { Err(ErrorKind::WouldBlock.into()) } else { Ok(next - start) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let room = self.0.room.get();
        let taken = offered.min(room);
        if room != usize::MAX {
            self.0.room.set(room - taken);
        }
        self.0.taken.set(self.0.taken.get() + taken);
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A service that is never asked anything: the engine without the relay.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Service<Pipe> for Nobody {
    fn on_data(&mut self, _: &mut Connections<Pipe>, _: ConnId, data: &mut [u8], _: Time) -> Progress {
        Progress::all(data)
    }

    fn on_deadline(&mut self, io: &mut Connections<Pipe>, conn: ConnId, now: Time) {
        io.set_deadline(conn, Some(now + Duration::from_secs(30)));
    }

    fn message_bytes(head: &[u8]) -> usize {
        <RelayService as Service<Pipe>>::message_bytes(head)
    }
}

/// Connections that take everything and are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Void {
    /// So that nothing is optimized away.
    pub(crate) bytes: usize,
}

impl Outbox for Void {
    fn send(&mut self, _: Id, frames: &mut Outgoing<'_>, _: Lane) -> Result<(), SendError> {
        self.bytes += frames.bytes().len();
        Ok(())
    }

    fn queued_bytes(&self, _: Id) -> usize {
        0
    }

    fn is_blocked(&self, _: Id) -> bool {
        false
    }

    fn is_receiving(&self, _: Id) -> bool {
        false
    }

    fn position(&self, _: Id) -> u64 {
        0
    }

    fn notify_written(&mut self, _: Id, _: bool) {}

    fn set_deadline(&mut self, _: Id, _: Option<Time>) {}

    fn pause(&mut self, _: Id, _: bool) {}

    fn close(&mut self, _: Id) {}

    fn put_address(&self, _: Id, text: &mut String) {
        text.push_str("203.0.113.5:50812");
    }
}

/// An engine, a service, and the clients of both, on one fake clock.
#[derive(Debug)]
pub(crate) struct Machine<S> {
    pub(crate) engine: Engine<Pipe>,
    pub(crate) service: S,
    pub(crate) now: Time,
    pub(crate) clients: Vec<(ConnId, Pipe)>,
}

impl<S: Service<Pipe>> Machine<S> {
    pub(crate) fn over(service: S) -> Self {
        let engine = Engine::new::<S>(Limits::default());
        Self { engine, service, now: Time::from_micros(1_000_000), clients: Vec::new() }
    }

    /// A connection, as the loop opens it.
    pub(crate) fn open(&mut self, pipe: Pipe) -> ConnId {
        let conn = self.engine.open(pipe, PeerAddr::UNIX, |_, _| Ok(())).expect("a slot");
        self.service.on_open(&mut self.engine.connections, conn, PeerAddr::UNIX, 0, self.now);
        conn
    }

    pub(crate) fn begin_turn(&mut self) {
        self.now += Duration::from_micros(50);
        self.engine.begin_turn(self.now);
    }

    /// The poll says of a client what it says of nearly every socket: something has come, and there is room.
    pub(crate) fn note(&mut self, client: usize) {
        let readiness = Readiness { readable: true, writable: true, ..Readiness::default() };
        self.engine.note(self.clients[client].0, readiness);
    }

    /// All that follows in a turn once the poll has spoken.
    pub(crate) fn finish_turn(&mut self) {
        let Self { engine, service, now, .. } = self;
        engine.read(service, *now);
        engine.expire(service, *now);
        service.on_turn_end(&mut engine.connections, *now);
        engine.flush(service, *now);
        engine.reap(service, *now);
    }

    /// A turn in which these clients have something to say, and those that their budgets make of it.
    pub(crate) fn turn(&mut self, clients: impl IntoIterator<Item = usize>) {
        self.begin_turn();
        for client in clients {
            self.note(client);
        }
        self.finish_turn();
        while self.engine.has_work() {
            self.begin_turn();
            self.finish_turn();
        }
    }

    /// A case is worth nothing if its frames do not arrive.
    pub(crate) fn assert_taken(&self, client: usize, bytes: usize) {
        assert_eq!(self.clients[client].1.taken(), bytes, "what client {client} got in a round");
    }
}

impl Machine<Nobody> {
    /// Connections and nothing behind them.
    pub(crate) fn bare(count: usize) -> Self {
        let mut machine = Self::over(Nobody);
        for _ in 0..count {
            let pipe = Pipe::new();
            let conn = machine.open(pipe.clone());
            machine.clients.push((conn, pipe));
        }
        machine
    }
}

impl Machine<RelayService> {
    /// A relay and its registered clients.
    pub(crate) fn relay(clients: usize) -> Self {
        // The clock runs far ahead of the rounds, and nobody is to be pinged meanwhile.
        let day = Duration::from_hours(24);
        let settings = Settings { keepalive: day, keepalive_max: day, hello_deadline: day, ..Settings::default() };
        let mut machine = Self::over(RelayService::new(Relay::new(settings, 1, Duration::ZERO), false));
        for number in 0..clients {
            let pipe = Pipe::new();
            pipe.load(hello(&format!("client-{number}")));
            pipe.arrive_again();
            let conn = machine.open(pipe.clone());
            machine.clients.push((conn, pipe));
            machine.turn([number]);
        }
        for (_, pipe) in &machine.clients {
            assert!(pipe.taken() > 0, "everybody got a WELCOME");
        }
        machine
    }

    /// The id of a client: that of its connection, in the clothes of the wire.
    pub(crate) fn id(&self, client: usize) -> Id {
        let conn = self.clients[client].0;
        Id::client(conn.index(), conn.generation())
    }
}

/// The first frame of a client.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let mut hello = Vec::new();
    Hello::new(Profile::named(name)).write_frame(Header::new(Type::Hello), &mut hello);
    hello
}

/// A SEND of `payload_bytes`.
pub(crate) fn send(to: Id, payload_bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    Header::new(Type::Send).to(to).write_frame(&mut frame, |out| out.resize(out.len() + payload_bytes, b'x'));
    frame
}
