//! The relay on the reactor's connections when the memory for all of them is used up: who is told what.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{ConnId, Engine, Limits, PeerAddr, Readiness, Service, Transport};
use switchboard::relay::{Relay, Settings};
use switchboard::server::RelayService;
use switchboard::time::Time;
use switchboard::wire::control::{Body, Hello, Profile, Welcome};
use switchboard::wire::{Frames, HEADER_BYTES, Header, Id, Type};

/// A connection as its client has it.
#[derive(Debug)]
struct Wire {
    input: VecDeque<u8>,
    /// Bytes that the network still takes.
    room: usize,
    output: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Pipe(Rc<RefCell<Wire>>);

impl Transport for Pipe {
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let mut count = 0;
        for buffer in buffers {
            let take = buffer.len().min(wire.input.len());
            for (place, byte) in buffer.iter_mut().zip(wire.input.drain(..take)) {
                *place = byte;
            }
            count += take;
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let before = wire.output.len();
        for buffer in buffers {
            let take = buffer.len().min(wire.room);
            wire.room -= take;
            wire.output.extend_from_slice(&buffer[..take]);
        }
        let count = wire.output.len() - before;
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Client {
    conn: ConnId,
    pipe: Pipe,
    id: Id,
}

impl Client {
    fn wire(&self) -> RefMut<'_, Wire> {
        self.pipe.0.borrow_mut()
    }
}

struct Machine {
    engine: Engine<Pipe>,
    service: RelayService,
}

impl Machine {
    fn new(limits: Limits) -> Self {
        let settings = Settings { queue_bytes_max: limits.queue_bytes_max, ..Settings::default() };
        let service = RelayService::new(Relay::new(settings, 1, Duration::ZERO), false);
        Self { engine: Engine::new::<RelayService>(limits), service }
    }

    fn connect(&mut self, name: &str) -> Client {
        let wire = Wire { input: VecDeque::new(), room: usize::MAX, output: Vec::new() };
        let pipe = Pipe(Rc::new(RefCell::new(wire)));
        let conn = self.engine.open(pipe.clone(), PeerAddr::UNIX, |_, _| Ok(())).expect("a slot");
        self.service.on_open(&mut self.engine.connections, conn, PeerAddr::UNIX, 0, Time::ZERO);
        let mut client = Client { conn, pipe, id: Id::RELAY };
        let mut hello = Vec::new();
        Hello::new(Profile::named(name)).write_frame(Header::new(Type::Hello), &mut hello);
        self.send(&client, &hello);
        let welcome = std::mem::take(&mut client.wire().output);
        client.id = Welcome::parse(&welcome[HEADER_BYTES..]).expect("a WELCOME").client;
        client
    }

    /// Has a client send bytes, and the relay do all that there is to do.
    fn send(&mut self, client: &Client, bytes: &[u8]) {
        client.wire().input.extend(bytes);
        self.note(client, Readiness { readable: true, ..Readiness::default() });
    }

    /// Has a client read all that waits for it.
    fn read(&mut self, client: &Client) -> Vec<(Header, Vec<u8>)> {
        client.wire().room = usize::MAX;
        self.note(client, Readiness { writable: true, ..Readiness::default() });
        let output = std::mem::take(&mut client.wire().output);
        Frames::new(&output).map(|frame| (Header::read(frame), frame[HEADER_BYTES..].to_vec())).collect()
    }

    fn note(&mut self, client: &Client, readiness: Readiness) {
        let mut first = true;
        while std::mem::take(&mut first) || self.engine.has_work() {
            self.engine.begin_turn(Time::ZERO);
            self.engine.note(client.conn, readiness);
            self.engine.turn(&mut self.service, Time::ZERO);
            self.engine.connections.check_consistency();
        }
    }
}

fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
    frame
}

#[test]
fn every_request_is_answered_though_the_memory_for_all_is_used_up() {
    let limits = Limits { buffered_total_bytes_max: 64 * 1024, queue_bytes_max: 64 * 1024, ..Limits::default() };
    let mut machine = Machine::new(limits);
    let sender = machine.connect("sender");
    // It does not read for a while, and something waits for it.
    let asker = machine.connect("asker");
    asker.wire().room = 0;
    machine.send(&asker, &frame(Header::new(Type::Ping), &[]));
    // Others do not read either, more waits for each, and then there is no memory.
    for number in 0..20 {
        let stuck = machine.connect(&format!("stuck-{number}"));
        stuck.wire().room = 0;
        machine.send(&sender, &frame(Header::new(Type::Send).to(stuck.id), &[7; 11_000]));
    }
    assert_eq!(machine.engine.connections.buffered_total_bytes(), limits.buffered_total_bytes_max);
    assert!(machine.read(&sender).iter().all(|(header, _)| header.frame_type() == Some(Type::Error)));
    // Nobody has this id: each frame is refused.
    let nobody = Id::client(4711, 4711);
    for correlation in 1..=100 {
        machine.send(&asker, &frame(Header::new(Type::Send).to(nobody).correlating(correlation), b"hello"));
    }
    let told = machine.read(&asker);
    let told: Vec<_> = told.iter().map(|(header, _)| (header.frame_type(), header.correlation)).collect();
    let errors = (1..=100).map(|correlation| (Some(Type::Error), correlation));
    assert_eq!(told, [(Some(Type::Pong), 0)].into_iter().chain(errors).collect::<Vec<_>>());
}

#[test]
fn whoever_sends_a_long_frame_does_not_go_for_the_memory_that_those_use_up_who_do_not_read() {
    let limits = Limits { buffered_total_bytes_max: 200 * 1024, queue_bytes_max: 64 * 1024, ..Limits::default() };
    let mut machine = Machine::new(limits);
    let sender = machine.connect("sender");
    let stuck: Vec<_> = (0..3).map(|number| machine.connect(&format!("stuck-{number}"))).collect();
    for (one, correlation) in stuck.iter().zip(1..) {
        one.wire().room = 0;
        let frame = frame(Header::new(Type::Send).to(one.id).correlating(correlation), &vec![7; 60_000]);
        // In pieces: all of it lies in a buffer of the sender's when it is whole.
        for piece in frame.chunks(16_000) {
            machine.send(&sender, piece);
        }
    }
    assert!(machine.engine.connections.is_open(sender.conn), "it has done nothing but send");
    let gone = stuck.iter().filter(|one| !machine.engine.connections.is_open(one.conn)).count();
    assert_eq!(gone, 1, "the memory is that of two");
    let told = machine.read(&sender);
    let told: Vec<_> = told.iter().map(|(header, _)| (header.frame_type(), header.correlation)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(matches!(told[0], (Some(Type::Error), 1..=3)), "{told:?}");
}
