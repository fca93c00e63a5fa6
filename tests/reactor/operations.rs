//! Operations of peers, of the service and of time, against a model that knows of every connection
//! only what was sent to it and what was sent by it.
//!
//! The model's laws, after each turn:
//! - the messages shown are those that the peer sent, each once, in order;
//! - the bytes written are those of the messages that were taken in for it, in order;
//! - when a connection ends, what was written, the rest of the message that was cut, and what is handed back
//!   are together what was taken in;
//! - and whenever nobody pauses, blocks or misbehaves any more, everything that was sent gets through.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{CloseReason, ConnId, Connections, Lane, Limits, Outgoing, Progress, SendError};
use switchboard::time::Time;

use super::dice::Dice;
use super::support::{Bench, Peer, Pipe, Script, Told, message, message_bytes, small};

struct Known {
    peer: Peer,
    /// What the peer sends, in whole messages.
    stream: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    /// How much of it the service has been shown.
    shown: usize,
    /// The messages that were taken in for the peer.
    taken_in: Vec<u8>,
    /// The message that was refused as the connection ended, of which a part may have been written.
    refused_last: Vec<u8>,
    /// The peer or the service has ended it, in whatever way.
    ending: bool,
    /// What was told of the end.
    end: Option<Told>,
}

struct World {
    random: Dice,
    /// The service and the network do nothing of their own accord.
    calm: bool,
    known: BTreeMap<ConnId, Known>,
}

type Shared = Rc<RefCell<World>>;

impl World {
    fn any(&mut self) -> Option<ConnId> {
        let count = self.known.len();
        (count > 0).then(|| *self.known.keys().nth(self.random.usize(..count)).expect("one of them"))
    }

    /// The peer of `conn` sends some more of its stream, cut anywhere.
    fn feed(&mut self, conn: ConnId) {
        let message = self.message();
        let Self { random, known, .. } = self;
        let known = known.get_mut(&conn).expect("it was opened");
        if known.stream.len() < known.sent + 5000 {
            known.stream.extend_from_slice(&message);
        }
        let most = (known.stream.len() - known.sent).min(1 << random.u32(0..13));
        let end = known.sent + random.usize(1..=most);
        known.peer.send(&known.stream[known.sent..end]);
        known.sent = end;
    }

    fn message(&mut self) -> Vec<u8> {
        let longest = 1 << self.random.u32(2..13);
        message(self.random.usize(2..=longest), self.random.u8(..))
    }

    /// Compares all that can be compared at any time.
    fn check(&self) {
        for (conn, known) in &self.known {
            let wire = known.peer.wire();
            let mut all = known.taken_in.clone();
            all.extend_from_slice(&known.refused_last);
            assert!(all.starts_with(&wire.output), "{conn:?} was written what was not sent to it, or in another order");
            match &known.end {
                None => assert!(!wire.closed, "{conn:?} is closed and nobody was told"),
                Some(Told::Close { reason, cut, whole }) => {
                    assert!(known.ending || !matches!(reason, CloseReason::Finished | CloseReason::Reset), "{conn:?}");
                    let written = wire.output.len().min(known.taken_in.len());
                    let mut boundary = 0;
                    let mut head = &[][..];
                    while boundary < written {
                        let length = message_bytes(&known.taken_in[boundary..]);
                        let message = &known.taken_in[boundary..boundary + length];
                        boundary += length;
                        head = if boundary > written { &message[..message.len().min(32)] } else { &[] };
                    }
                    assert!(
                        whole[..] == known.taken_in[boundary..],
                        "{conn:?} ended ({reason:?}): what is handed back"
                    );
                    assert_eq!(cut, head, "{conn:?} ended ({reason:?}): the message that was cut");
                    if *reason == CloseReason::Finished {
                        assert!(
                            known.refused_last.is_empty() && written == known.taken_in.len(),
                            "{conn:?} lost bytes"
                        );
                    }
                }
                Some(other) => unreachable!("{other:?}"),
            }
        }
    }
}

fn send(io: &mut Connections<Pipe>, world: &Shared, to: &[ConnId], lane: Lane) {
    let text = world.borrow_mut().message();
    let mut outgoing = if to.len() > 1 { Outgoing::to_many(&text) } else { Outgoing::to_one(&text) };
    for conn in to {
        let was_open = io.is_open(*conn);
        let sent = io.send(*conn, &mut outgoing, lane);
        let mut world = world.borrow_mut();
        let Some(known) = world.known.get_mut(conn) else { continue };
        match sent {
            Ok(()) => known.taken_in.extend_from_slice(&text),
            Err(SendError::Gone) if was_open => known.refused_last.clone_from(&text),
            Err(_) => {}
        }
    }
}

/// Something that a service may do at any time.
fn act(io: &mut Connections<Pipe>, world: &Shared, myself: Option<ConnId>, now: Time) {
    if world.borrow().calm {
        return;
    }
    let (dice, conn) = {
        let mut world = world.borrow_mut();
        // Often with the connection that it is about: that is when most can go wrong.
        let conn = if world.random.bool() { myself.or_else(|| world.any()) } else { world.any() };
        (world.random.u8(..24), conn)
    };
    let Some(conn) = conn.filter(|conn| world.borrow().known.contains_key(conn)) else { return };
    match dice {
        0..=7 => send(io, world, &[conn], Lane::Traffic),
        8 => send(io, world, &[conn], Lane::Control),
        9 | 10 => {
            let all: Vec<_> = world.borrow().known.keys().copied().collect();
            send(io, world, &all, Lane::Traffic);
        }
        11..=14 => io.pause(conn),
        15..=18 => io.resume(conn),
        19 => io.set_notify(conn, dice % 2 == 0),
        20 => io.set_deadline(conn, Some(now + Duration::from_secs(3))),
        21 => io.set_notify(conn, true),
        22 => {
            io.close(conn);
            world.borrow_mut().known.get_mut(&conn).expect("one of them").ending = true;
        }
        _ => {
            let abort = world.borrow_mut().random.u8(..4) == 0;
            if abort {
                io.abort(conn, CloseReason::Aborted);
            }
        }
    }
}

fn service(world: &Shared) -> Script<Pipe> {
    let now = Time::from_micros(1_000_000);
    let shared = Rc::clone(world);
    let mut service = Script::with(move |io, conn, data, _| {
        let mut consumed = 0;
        while io.is_reading(conn) {
            let rest = &data[consumed..];
            let length = message_bytes(rest);
            if rest.len() < 2 || rest.len() < length {
                let wanted = match shared.borrow_mut().random.u8(..4) {
                    0 => 0,
                    1 => rest.len(),
                    2 => length.min(rest.len() + 3),
                    _ => length,
                };
                return Progress { consumed, wanted };
            }
            {
                let mut world = shared.borrow_mut();
                let known = world.known.get_mut(&conn).expect("it was opened");
                let expected = &known.stream[known.shown..known.sent];
                assert!(expected.starts_with(&rest[..length]), "{conn:?} was shown what its peer did not send");
                known.shown += length;
            }
            consumed += length;
            let acts = shared.borrow_mut().random.u8(..3) == 0;
            if acts {
                act(io, &shared, Some(conn), now);
            }
        }
        Progress { consumed, wanted: 0 }
    });
    let shared = Rc::clone(world);
    service.end = Some(Box::new(move |io, conn| {
        act(io, &shared, Some(conn), now);
        if shared.borrow().calm || shared.borrow_mut().random.bool() {
            io.close(conn);
        }
    }));
    let shared = Rc::clone(world);
    service.written = Some(Box::new(move |io, conn| act(io, &shared, Some(conn), now)));
    let shared = Rc::clone(world);
    service.close = Some(Box::new(move |io, conn| act(io, &shared, Some(conn), now)));
    service
}

/// Something that a peer, the network or time may do.
fn disturb(bench: &mut Bench, world: &Shared) {
    let (dice, conn) = {
        let mut world = world.borrow_mut();
        (world.random.u8(..40), world.any())
    };
    if dice < 2 && bench.io().len() < 12 {
        let (conn, peer) = bench.open();
        let (stream, taken_in, refused_last) = Default::default();
        let known = Known { peer, stream, sent: 0, shown: 0, taken_in, refused_last, ending: false, end: None };
        world.borrow_mut().known.insert(conn, known);
        return;
    }
    let Some(conn) = conn else { return };
    let mut borrowed = world.borrow_mut();
    let World { random, known, .. } = &mut *borrowed;
    let known = known.get_mut(&conn).expect("one of them");
    match dice {
        2..=14 if !known.ending => {
            drop(borrowed);
            world.borrow_mut().feed(conn);
        }
        15..=22 => {
            let room = 1_usize << random.u32(0..14);
            known.peer.take(if random.u8(..5) == 0 { 0 } else { room });
        }
        23 => known.peer.take(usize::MAX),
        24 => known.peer.wire().write_max = 1 << random.u32(0..14),
        25 => {
            known.peer.end();
            known.ending = true;
        }
        26 if random.bool() => {
            known.peer.reset();
            known.ending = true;
        }
        27 => {
            let time = Duration::from_millis(1 << random.u32(0..14));
            drop(borrowed);
            bench.now += time;
        }
        28..=30 => {
            drop(borrowed);
            act(&mut bench.engine.connections, world, None, bench.now);
        }
        _ => {
            drop(borrowed);
            bench.turn();
        }
    }
}

/// Notes the ends that were told, compares, and forgets the connections that have gone.
fn check(bench: &mut Bench, world: &Shared) {
    let mut world = world.borrow_mut();
    for (conn, told) in bench.service.told.drain(..) {
        if matches!(told, Told::Close { .. }) {
            let end = &mut world.known.get_mut(&conn).expect("it was opened").end;
            assert_eq!(*end, None, "{conn:?} ended twice");
            *end = Some(told);
        }
    }
    world.check();
    let gone = |known: &Known| known.end.is_some() && known.peer.wire().closed;
    world.known.retain(|_, known| !gone(known));
}

/// Lets everything through that can get through, and sees that it did.
fn calm_down(bench: &mut Bench, world: &Shared) {
    world.borrow_mut().calm = true;
    let peers: Vec<_> = world.borrow().known.iter().map(|(conn, known)| (*conn, known.peer.clone())).collect();
    for (conn, peer) in &peers {
        peer.wire().write_max = usize::MAX;
        peer.take(usize::MAX);
        bench.io().resume(*conn);
    }
    bench.settle();
    check(bench, world);
    let mut world = world.borrow_mut();
    for (conn, known) in world.known.iter().filter(|(_, known)| known.end.is_none()) {
        assert!(known.peer.wire().output == known.taken_in, "{conn:?} is not blocked and not written to");
        let rest = &known.stream[known.shown..known.sent];
        let whole = rest.len() >= 2 && rest.len() >= message_bytes(rest);
        assert!(!whole || !bench.engine.connections.is_open(*conn), "{conn:?} is not shown a message that is there");
    }
    world.calm = false;
}

pub(crate) fn run(mut random: Dice) {
    let limits = Limits {
        // Some runs reach the budget of all queues, some the limits of one, some none.
        buffered_total_bytes_max: 1 << random.u32(15..20),
        queue_bytes_max: 1 << random.u32(13..16),
        write_through_bytes_min: 1 << random.u32(6..13),
        read_scratch_bytes: 1 << random.u32(6..12),
        input_bytes_max: 8192,
        ..small()
    };
    let world = Rc::new(RefCell::new(World { random, calm: false, known: BTreeMap::new() }));
    let mut bench = Bench::new(limits, service(&world));
    for step in 1..=1500 {
        if world.borrow().random.is_empty() {
            break;
        }
        disturb(&mut bench, &world);
        bench.engine.connections.check_consistency();
        check(&mut bench, &world);
        if step % 300 == 0 {
            calm_down(&mut bench, &world);
        }
    }
    // At last all peers go, in an orderly way or not, and nothing is left.
    {
        let mut world = world.borrow_mut();
        for (number, known) in world.known.values_mut().enumerate() {
            known.ending = true;
            if number % 3 == 0 { known.peer.reset() } else { known.peer.end() }
        }
    }
    calm_down(&mut bench, &world);
    let left: Vec<_> = world.borrow().known.keys().copied().collect();
    // Those that outlived their peer's end are closed now.
    for conn in left {
        bench.io().close(conn);
    }
    bench.settle();
    check(&mut bench, &world);
    assert!(bench.io().is_empty(), "{} connections are left", bench.io().len());
    assert_eq!(bench.io().buffered_total_bytes(), 0);
}
