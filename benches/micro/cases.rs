//! What is measured: each step of a frame's way alone, and then the whole way.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use switchboard::auth::scram::{Binding, ServerExchange};
use switchboard::auth::{SALT_BYTES, SECRET_BYTES, Users, Verifier};
use switchboard::outgoing::{Lane, Outgoing};
use switchboard::reactor::Readiness;
use switchboard::relay::{Input, Relay, Settings};
use switchboard::time::Time;
use switchboard::wire::{HEADER_BYTES, Id, Next, Run, next_run};

use crate::fakes::{Machine, Pipe, Void, hello, send};

/// The payload of a small frame; 156 bytes with its header.
const PAYLOAD_BYTES: usize = 128;
const FRAME_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
const LARGE_BYTES: usize = 64 * 1024;

/// One round of work, over and over.
pub(crate) type Round = Box<dyn FnMut()>;

/// Something to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Frames in a round; one for each recipient where there are several.
    pub(crate) frames: u64,
    pub(crate) build: fn() -> Round,
}

/// All of them, in the order of a frame's way.
pub(crate) const CASES: &[Case] = &[
    Case { name: "decode/1", frames: 1, build: || decode(1, false) },
    Case { name: "decode/16", frames: 16, build: || decode(16, false) },
    Case { name: "decode/128", frames: 128, build: || decode(128, false) },
    Case { name: "decode/16, two in turns", frames: 16, build: || decode(16, true) },
    Case { name: "route/1", frames: 1, build: || route(1) },
    Case { name: "route/16", frames: 16, build: || route(16) },
    Case { name: "route/1 to 1,000", frames: 1000, build: || fan_out(1000) },
    Case { name: "enqueue/1", frames: 1, build: || enqueue(1, 1) },
    Case { name: "enqueue/16, one by one", frames: 16, build: || enqueue(1, 16) },
    Case { name: "enqueue/1 each to 100", frames: 100, build: || enqueue(100, 1) },
    Case { name: "enqueue/64 KiB, written through", frames: 1, build: write_through },
    Case { name: "enqueue/4 KiB shared by 100", frames: 100, build: || shared(100) },
    Case { name: "enqueue/128, short writes", frames: 128, build: || short_writes(128) },
    Case { name: "deadline/moved", frames: 100, build: || deadlines(false) },
    Case { name: "deadline/due", frames: 100, build: || deadlines(true) },
    Case { name: "turn/1", frames: 1, build: || turn(2, 1) },
    Case { name: "turn/16", frames: 16, build: || turn(2, 16) },
    Case { name: "turn/128", frames: 128, build: || turn(2, 128) },
    Case { name: "turn/1 each of 100", frames: 100, build: || turn(100, 1) },
    Case { name: "turn/16 each of 100", frames: 1600, build: || turn(100, 16) },
    Case { name: "turn/16, two in turns", frames: 16, build: || turn_in_turns(16) },
    Case { name: "turn/64 KiB", frames: 4, build: || large(usize::MAX) },
    Case { name: "turn/64 KiB in pieces", frames: 4, build: || large(50_000) },
    Case { name: "turn/1 to 1,000", frames: 1000, build: || turn_to_all(1000, 1) },
    Case { name: "turn/4 to 1,000", frames: 4000, build: || turn_to_all(1000, 4) },
    Case { name: "handshake", frames: 1, build: handshake },
    // What a stranger could tell by their time: they must be the same.
    Case { name: "login/wrong password of somebody", frames: 1, build: || login("user7") },
    Case { name: "login/wrong password of nobody", frames: 1, build: || login("user_") },
];

fn decode(frames: usize, in_turns: bool) -> Round {
    let ids = [Id::client(1, 1), Id::client(2, 2)];
    let frames = (0..frames).flat_map(|number| send(ids[if in_turns { number % 2 } else { 0 }], PAYLOAD_BYTES));
    let mut buffer: Vec<u8> = frames.collect();
    Box::new(move || {
        let mut consumed = 0;
        while let Ok(Next::Run(run)) = next_run(black_box(&mut buffer[consumed..]), Id::client(3, 3), 65_536) {
            consumed += run.bytes.len();
        }
        assert_eq!(consumed, buffer.len());
    })
}

/// A relay without a reactor, and its clients.
fn relay(clients: usize) -> (Relay, Void, Vec<Id>) {
    let (mut relay, mut void) = (Relay::new(Settings::default(), 1, Duration::ZERO), Void::default());
    let ids: Vec<Id> = (0..clients).map(|index| Id::client(index, index as u64 + 1)).collect();
    for id in &ids {
        relay.handle(*id, Input::Connected, Time::ZERO, &mut void);
        let mut hello = hello(&id.to_string());
        let Ok(Next::Run(run)) = next_run(&mut hello, *id, 4096) else { panic!("a HELLO is a frame") };
        relay.handle(*id, Input::Frames(run), Time::ZERO, &mut void);
    }
    assert_eq!(relay.clients(), clients);
    relay.end_turn(&mut void);
    (relay, void, ids)
}

fn route_to(clients: usize, to: impl FnOnce(&[Id]) -> Id, frames: u32) -> Round {
    let (mut relay, mut void, ids) = relay(clients);
    let mut buffer = send(to(&ids), PAYLOAD_BYTES).repeat(frames as usize);
    Box::new(move || {
        let run = Run { bytes: &mut buffer, frames, payload_bytes_max: PAYLOAD_BYTES as u32 };
        relay.handle(ids[0], Input::Frames(black_box(run)), Time::ZERO, &mut void);
        black_box(void.bytes);
    })
}

fn route(frames: u32) -> Round {
    route_to(2, |ids| ids[1], frames)
}

fn fan_out(recipients: usize) -> Round {
    route_to(recipients, |_| Id::ALL, 1)
}

fn enqueue(recipients: usize, frames: usize) -> Round {
    let mut machine = Machine::bare(recipients);
    let frame = send(Id::client(1, 1), PAYLOAD_BYTES);
    Box::new(move || {
        machine.begin_turn();
        for (conn, _) in &machine.clients {
            for _ in 0..frames {
                let sent = machine.engine.connections.send(*conn, &mut Outgoing::to_one(&frame), Lane::Traffic);
                assert_eq!(sent, Ok(()));
            }
        }
        machine.engine.flush(&mut machine.service, machine.now);
        machine.assert_taken(recipients - 1, frames * FRAME_BYTES);
    })
}

fn write_through() -> Round {
    let mut machine = Machine::bare(1);
    let frame = send(Id::client(1, 1), LARGE_BYTES);
    Box::new(move || {
        machine.begin_turn();
        let conn = machine.clients[0].0;
        let sent = machine.engine.connections.send(conn, &mut Outgoing::to_one(&frame), Lane::Traffic);
        assert_eq!(sent, Ok(()));
        machine.engine.flush(&mut machine.service, machine.now);
        machine.assert_taken(0, frame.len());
    })
}

/// Nobody reads when the message comes, and then everybody does.
fn shared(recipients: usize) -> Round {
    let mut machine = Machine::bare(recipients);
    let frame = send(Id::ALL, 4096);
    Box::new(move || {
        machine.begin_turn();
        let mut outgoing = Outgoing::to_many(&frame);
        for (conn, pipe) in &machine.clients {
            pipe.take(0);
            assert_eq!(machine.engine.connections.send(*conn, &mut outgoing, Lane::Traffic), Ok(()));
        }
        machine.engine.flush(&mut machine.service, machine.now);
        for (conn, pipe) in &machine.clients {
            pipe.take(usize::MAX);
            machine.engine.note(*conn, Readiness { writable: true, ..Readiness::default() });
        }
        machine.engine.flush(&mut machine.service, machine.now);
        machine.assert_taken(recipients - 1, frame.len());
    })
}

/// The socket takes 3,000 bytes at a time, which is never a whole number of frames.
fn short_writes(frames: usize) -> Round {
    let mut machine = Machine::bare(1);
    let run = send(Id::client(1, 1), PAYLOAD_BYTES).repeat(frames);
    Box::new(move || {
        let (conn, pipe) = &machine.clients[0];
        machine.engine.begin_turn(machine.now);
        pipe.take(3000);
        let sent = machine.engine.connections.send(*conn, &mut Outgoing::to_one(&run), Lane::Traffic);
        assert_eq!(sent, Ok(()));
        while machine.engine.connections.queued_bytes(*conn) > 0 {
            pipe.take(3000);
            machine.engine.note(*conn, Readiness { writable: true, ..Readiness::default() });
            machine.engine.flush(&mut machine.service, machine.now);
        }
        machine.assert_taken(0, run.len());
    })
}

/// Deadlines that move away before they come, as that of an idle client does; or that come.
fn deadlines(due: bool) -> Round {
    let mut machine = Machine::bare(100);
    Box::new(move || {
        machine.now += Duration::from_secs(if due { 31 } else { 0 });
        machine.begin_turn();
        for (conn, _) in machine.clients.iter().filter(|_| !due) {
            machine.engine.connections.set_deadline(*conn, Some(machine.now + Duration::from_secs(30)));
        }
        machine.engine.expire(&mut machine.service, machine.now);
        if due && machine.engine.wait(machine.now).is_none() {
            for (conn, _) in &machine.clients {
                machine.engine.connections.set_deadline(*conn, Some(machine.now + Duration::from_secs(30)));
            }
        }
    })
}

/// Each client sends to its partner.
fn turn(clients: usize, frames: usize) -> Round {
    let mut machine = Machine::relay(clients);
    for client in 0..clients {
        machine.clients[client].1.load(send(machine.id(client ^ 1), PAYLOAD_BYTES).repeat(frames));
    }
    let senders = if clients == 2 { 1 } else { clients };
    Box::new(move || {
        for (_, pipe) in &machine.clients[..senders] {
            pipe.arrive_again();
        }
        machine.turn(0..senders);
        machine.assert_taken(1, frames * FRAME_BYTES);
    })
}

/// One client sends to two others, a frame to each in turn: no two of them make a run.
fn turn_in_turns(frames: usize) -> Round {
    let mut machine = Machine::relay(3);
    let input = (0..frames).flat_map(|number| send(machine.id(1 + number % 2), PAYLOAD_BYTES)).collect();
    machine.clients[0].1.load(input);
    Box::new(move || {
        machine.clients[0].1.arrive_again();
        machine.turn([0]);
        machine.assert_taken(1, frames / 2 * FRAME_BYTES);
    })
}

/// Four frames of 64 KiB, of which so many bytes arrive for each turn.
fn large(piece_bytes: usize) -> Round {
    let mut machine = Machine::relay(2);
    let input = send(machine.id(1), LARGE_BYTES).repeat(4);
    let length = input.len();
    machine.clients[0].1.load(input);
    Box::new(move || {
        machine.clients[0].1.rewind();
        let mut arrived = 0;
        while arrived < length {
            arrived += piece_bytes.min(length - arrived);
            machine.clients[0].1.arrive(arrived);
            machine.turn([0]);
        }
        machine.assert_taken(1, length);
    })
}

/// Everybody hears what one client says, itself included.
fn turn_to_all(clients: usize, frames: usize) -> Round {
    let mut machine = Machine::relay(clients);
    machine.clients[0].1.load(send(Id::ALL, PAYLOAD_BYTES).repeat(frames));
    Box::new(move || {
        machine.clients[0].1.arrive_again();
        machine.turn([0]);
        machine.assert_taken(clients - 1, frames * FRAME_BYTES);
    })
}

/// Somebody begins to prove that it is `name`, and proves it with a password that nobody has.
fn login(name: &str) -> Round {
    let iterations = NonZeroU32::new(4096).expect("some");
    let secret = STANDARD.encode([7; SECRET_BYTES]);
    let line = |number| {
        let verifier = Verifier::from_password("pencil", iterations, &[number; SALT_BYTES]);
        format!("user{number} {verifier}\n")
    };
    let file: String = (0..10).map(line).collect();
    let users = Users::parse(format!("%secret {secret}\n{file}")).expect("a users file");
    let first = format!("n,,n={name},r=abcdefghijklmnop");
    let proof = STANDARD.encode([3; 32]);
    Box::new(move || {
        let lookup = |name: &str| users.verifier_or_mock(name).1;
        let nonce = "ponmlkjihgfedcba";
        let begun = ServerExchange::begin_with(black_box(first.as_bytes()), false, Binding::None, lookup, nonce);
        let (exchange, _) = begun.expect("a first message");
        let last = format!("c=biws,r=abcdefghijklmnop{nonce},p={proof}");
        assert!(exchange.finish(black_box(last.as_bytes())).is_err());
    })
}

/// A client connects, is registered, and is gone.
fn handshake() -> Round {
    let mut machine = Machine::relay(0);
    let pipe = Pipe::new();
    pipe.load(hello("client"));
    Box::new(move || {
        pipe.arrive_again();
        machine.begin_turn();
        let conn = machine.open(pipe.clone());
        machine.engine.note(conn, Readiness { readable: true, writable: true, ..Readiness::default() });
        machine.finish_turn();
        assert_eq!(machine.service.clients(), 1);
        machine.engine.connections.abort(conn, switchboard::reactor::CloseReason::Aborted);
        machine.finish_turn();
    })
}

const _: () = assert!(FRAME_BYTES == 156);
