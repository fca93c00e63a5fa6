//! What a registered client and the relay say to each other: PING, unknown types, keepalive, the end.

use std::time::Duration;

use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Hello, Ping, Pong, Profile, Watch};
use switchboard::wire::{Code, Flags, Header, Id, Type};

use super::frames::{Change, Got, frame, frame_of, send, stamped};
use super::world::{World, small_queues};

#[test]
fn types_that_a_client_may_not_send_are_refused_and_the_connection_lives() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    let relays = [0x02, 0x03, 0x12, 0x14, 0x21, 0x22, 0x31];
    for number in [0x00, 0x09, 0x0f, 0x15, 0x26, 0x33, 0x3f, 0x50, 0x7f].into_iter().chain(relays) {
        let header = Header { type_number: number, ..Header::new(Type::Send) }.correlating(u32::from(number));
        world.send(id, &frame(header, b"whatever"));
        assert_eq!(world.got(id), [Got::error(u32::from(number), Code::UnknownType, None)], "{number:#x}");
        world.send(id, &frame(header.flagged(Flags::IGNORABLE), b"whatever"));
        assert_eq!(world.got(id), [], "{number:#x}, ignorable");
    }
    assert!(!world.is_closed(id));
    assert_eq!(world.refused(Code::UnknownType), 16);
}

#[test]
fn a_known_request_is_carried_out_although_it_is_ignorable() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    world.send(id, &frame_of(3, Flags::IGNORABLE, &Watch::default()));
    assert!(matches!(world.got(id)[..], [Got::Snapshot { correlation: 3, .. }]));
}

#[test]
fn an_error_from_a_client_is_counted_and_nothing_else() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    world.send(id, &frame(Header::new(Type::Error), b"not even fields"));
    assert_eq!((world.got(id), world.counters().errors_in), (vec![], 1));
}

#[test]
fn a_ping_to_the_relay_is_answered_with_both_clocks() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    world.pass(Duration::from_millis(1234));
    let clock_us = Some(world.now.micros());
    world.ask(id, 7, &Ping { clock_us: Some(55) });
    world.ask(id, 8, &Ping { clock_us: None });
    assert_eq!(
        world.got(id),
        [
            Got::Pong { correlation: 7, ping_clock_us: Some(55), clock_us },
            Got::Pong { correlation: 8, ping_clock_us: None, clock_us },
        ]
    );
    world.send(id, &frame(Header::new(Type::Ping).correlating(9), &[0x10, 0x05, 0, 1, 0]));
    assert_eq!(world.got(id), [Got::error(9, Code::BadBody, None)]);
    world.send(id, &frame(Header::new(Type::Pong), b"junk is nobody's business here"));
    assert_eq!(world.got(id), []);
}

#[test]
fn ping_and_pong_go_from_end_to_end_and_to_one_client_only() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let question = frame(Header::new(Type::Ping).to(bob).correlating(4), b"the body is theirs");
    world.send(ada, &question);
    assert_eq!(world.got(bob), [stamped(ada, &question)]);
    let answer = frame(Header::new(Type::Pong).to(ada).correlating(4), b"");
    world.send(bob, &answer);
    assert_eq!(world.got(ada), [stamped(bob, &answer)]);
    for frame_type in [Type::Ping, Type::Pong, Type::Ack] {
        world.send(ada, &frame(Header::new(frame_type).to(Id::ALL).correlating(5), b""));
        assert_eq!(world.got(ada), [Got::error(5, Code::BadDestination, None)], "{frame_type} to all");
    }
    assert_eq!(world.got(bob), []);
}

#[test]
fn clients_that_came_together_are_not_pinged_together() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 200);
    let start = world.now;
    let mut deadlines: Vec<_> = ids.iter().map(|id| world.deadline(*id).expect("a deadline").since(start)).collect();
    deadlines.sort_unstable();
    let (first, last) = (deadlines[0], deadlines[199]);
    assert!(first >= Duration::from_secs(27) && last <= Duration::from_secs(30), "{first:?} to {last:?}");
    assert!(last.saturating_sub(first) > Duration::from_millis(2_500), "spread over a tenth: {first:?} to {last:?}");
}

/// When the relay first pings a client that says nothing, and when it gives it up; counted from now.
fn silence(world: &mut World, id: Id) -> (Duration, Duration) {
    let start = world.now;
    let mut ping = None;
    while !world.is_closed(id) {
        world.pass(Duration::from_millis(10));
        let since = world.now.since(start);
        match world.got(id)[..] {
            [] => {}
            [Got::Ping { clock_us }] => {
                assert_eq!(ping, None, "one PING and then the end");
                assert!(clock_us.is_some_and(|clock| world.now.micros() - clock < 10_000), "the relay's clock");
                ping = Some(since);
            }
            [Got::Error { code: Code::IdleTimeout, .. }] => return (ping.expect("first a PING"), since),
            ref other => panic!("{other:?}"),
        }
    }
    panic!("closed without a word");
}

#[test]
fn a_silent_client_is_pinged_after_one_keepalive_and_closed_after_two() {
    for seed in 0..20 {
        let mut world = World::seeded(Settings::default(), seed);
        let id = world.client_with(&Hello { keepalive_ms: Some(20_000), ..Hello::new(Profile::named("ada")) });
        let (ping, end) = silence(&mut world, id);
        // The time of the last frame is kept in ticks of 66 ms.
        assert!(ping >= Duration::from_secs(18) && ping <= Duration::from_millis(20_080), "{ping:?}");
        assert!(end >= Duration::from_secs(40) && end <= Duration::from_millis(40_080), "{end:?}");
        assert_eq!((world.counters().pings, world.closed(Code::IdleTimeout)), (1, 1));
    }
}

#[test]
fn who_has_answered_a_ping_is_asked_again_after_one_keepalive_and_not_later() {
    for seed in 0..20 {
        let mut world = World::seeded(Settings::default(), seed);
        let id = world.client_with(&Hello { keepalive_ms: Some(20_000), ..Hello::new(Profile::named("ada")) });
        let mut heard = world.now;
        while world.counters().pings < 10 {
            world.pass(Duration::from_millis(10));
            if let [Got::Ping { .. }] = world.got(id)[..] {
                let silence = world.now.since(heard);
                let lawful = Duration::from_secs(18)..=Duration::from_millis(20_080);
                assert!(lawful.contains(&silence), "asked after {silence:?}");
                world.send(id, &frame_of(0, Flags::NONE, &Pong::default()));
                heard = world.now;
            }
        }
    }
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let frames = |id| {
        [
            frame_of(0, Flags::NONE, &Pong::default()),
            send(1, id, b"to myself"),
            frame(Header { type_number: 0x7f, ..Header::new(Type::Send) }.flagged(Flags::IGNORABLE), b""),
        ]
    };
    for kind in 0..3 {
        let mut world = World::new(Settings::default());
        let id = world.client("ada");
        for _ in 0..10 {
            world.pass(Duration::from_secs(26));
            world.send(id, &frames(id)[kind]);
            world.drain(id);
        }
        assert_eq!(world.counters().pings, 0, "nobody is asked who speaks often enough");
        for _ in 0..5 {
            world.pass(Duration::from_secs(50));
            world.send(id, &frames(id)[kind]);
            world.drain(id);
        }
        assert!(!world.is_closed(id));
        assert_eq!(world.counters().pings, 5, "a PING each time, and each time an answer");
    }
}

#[test]
fn a_client_for_which_something_waits_is_not_pinged() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(bob, &send(1, ada, b"not read yet"));
    for _ in 0..20 {
        world.pass(Duration::from_secs(15));
        world.send(bob, &frame_of(0, Flags::NONE, &Pong::default()));
    }
    assert_eq!((world.is_closed(ada), world.counters().pings), (false, 0), "the write deadline watches it");
    // As soon as it has read, it is asked; and only an unanswered PING is its end.
    assert_eq!(world.got(ada).len(), 1);
    let (ping, end) = silence(&mut world, ada);
    assert!(ping <= Duration::from_secs(31), "{ping:?}");
    assert!(end.saturating_sub(ping) >= Duration::from_secs(29), "from {ping:?} to {end:?}");
}

#[test]
fn a_client_that_only_listens_lives_however_busy_its_queue_is() {
    // Whenever the relay looks, something was queued a moment ago; then traffic stops. It has never been asked
    // whether it lives, so it must not be given up.
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    for _ in 0..12 {
        world.send(bob, &send(1, ada, b"news"));
        world.pass(Duration::from_secs(10));
        world.drain(ada);
        world.seen(ada);
    }
    for _ in 0..30 {
        world.pass(Duration::from_secs(2));
        let got = world.got(ada);
        if got.iter().any(|frame| matches!(frame, Got::Ping { .. })) {
            world.send(ada, &frame_of(0, Flags::NONE, &Pong::default()));
        }
        assert!(!world.is_closed(ada), "{got:?}");
    }
}

/// A way for a client to end.
type End = fn(&mut World, Id);

#[test]
fn the_end_of_a_client_is_told_with_its_reason() {
    let mut world = World::new(Settings::default());
    let watcher = world.client("watcher");
    world.say(watcher, &Watch::default());
    let ends: [(Code, End); 6] = [
        (Code::Left, |world, id| world.send(id, &frame(Header::new(Type::Goodbye), b"whatever it says"))),
        (Code::HungUp, |world, id| world.handle(id, Input::Ended)),
        (Code::Reset, |world, id| world.close(id, Some(Code::Reset))),
        (Code::SlowConsumer, |world, id| world.close(id, Some(Code::SlowConsumer))),
        (Code::MemoryPressure, |world, id| world.close(id, Some(Code::MemoryPressure))),
        (Code::OutOfOrder, |world, id| world.say(id, &Hello::new(Profile::named("ada")))),
    ];
    for (code, end) in ends {
        let ada = world.client("ada");
        world.end_turn();
        world.got(watcher);
        end(&mut world, ada);
        world.end_turn();
        let got = world.got(watcher);
        assert!(
            matches!(&got[..], [Got::Delta { changes, .. }] if *changes == [Change::Departed(ada, code)]),
            "{code}: {got:?}"
        );
        assert_eq!(world.closed(code), 1);
        world.drain(ada);
        assert!(!world.is_here(ada));
        assert_eq!(world.counters().closed.iter().sum::<u64>(), world.counters().registered - 1, "each counted once");
    }
}

#[test]
fn what_is_queued_is_still_written_to_who_says_goodbye_or_hangs_up() {
    for hangs_up in [false, true] {
        let mut world = World::new(Settings::default());
        let [ada, bob] = [world.client("ada"), world.client("bob")];
        let before = send(1, ada, b"before");
        world.send(bob, &before);
        if hangs_up {
            world.handle(ada, Input::Ended);
        } else {
            let mut bytes = frame(Header::new(Type::Goodbye), b"");
            bytes.extend(send(2, bob, b"behind a goodbye"));
            world.send(ada, &bytes);
        }
        world.send(bob, &send(3, ada, b"after"));
        assert_eq!(world.got(bob), [Got::error(3, Code::NoSuchClient, Some(ada))]);
        world.write(ada, 5);
        assert_eq!(world.got(ada), [stamped(bob, &before)]);
        assert!(!world.is_here(ada));
    }
}

#[test]
fn a_goodbye_takes_what_was_missed_with_it() {
    for hangs_up in [false, true] {
        let mut world = World::new(small_queues());
        let [ada, bob] = [world.client("ada"), world.client("bob")];
        world.fill(bob, ada);
        world.send(bob, &send(1, Id::ALL, &[1; 100]));
        if hangs_up {
            world.handle(ada, Input::Ended);
        } else {
            world.send(ada, &frame(Header::new(Type::Goodbye), b""));
        }
        let got = world.got(ada);
        assert_eq!(got.last(), Some(&Got::Gap { frames: 1, bytes: 128 }), "the last word is how much is missing");
    }
}

#[test]
fn the_relay_says_goodbye_to_all_and_nobody_hears_of_others() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 100);
    for id in &ids {
        world.say(*id, &Watch::default());
        world.got(*id);
    }
    let greeting = world.connect();
    let leaving = world.client("leaving");
    world.send(leaving, &frame(Header::new(Type::Goodbye), b""));
    world.end_turn();
    let waits = send(1, ids[0], b"queued before");
    world.send(ids[1], &waits);
    world.relay.shut_down(world.now, &mut world.net);
    world.relay.check_consistency();
    let late = world.connect();
    world.say(late, &Hello::new(Profile::named("late")));
    world.end_turn();
    assert_eq!(world.got(late), [Got::error(1, Code::ShuttingDown, None)]);
    assert_eq!(world.got(greeting), [Got::error(0, Code::ShuttingDown, None)]);
    assert_eq!(world.got(leaving), [], "it has left of its own will");
    let mut delays = Vec::new();
    for id in &ids {
        let mut got = world.got(*id);
        got.retain(|frame| !matches!(frame, Got::Delta { sequence: 1 | 2, .. }));
        let Some(Got::Goodbye { code: Code::ShuttingDown, retry_ms: Some(delay) }) = got.pop() else {
            panic!("the last frame is a GOODBYE")
        };
        delays.push(delay);
        assert_eq!(got, if *id == ids[0] { vec![stamped(ids[1], &waits)] } else { vec![] });
        assert!(!world.is_here(*id));
    }
    delays.sort_unstable();
    assert!(delays[0] >= 1_000 && delays[99] <= 3_000, "around two seconds: {delays:?}");
    delays.dedup();
    assert!(delays.len() > 80, "different for each: {delays:?}");
    assert_eq!((world.closed(Code::ShuttingDown), world.relay.clients()), (102, 0));
}

#[test]
fn inputs_that_come_after_the_end_do_nothing() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.handle(ada, Input::Ended);
    for input in [Input::Ended, Input::Deadline, Input::Overdue, Input::Written(5)] {
        world.handle(ada, input);
    }
    let closed: u64 = world.counters().closed.iter().sum();
    assert_eq!(closed, 1);
    world.drain(ada);
    let successor = world.client("ada");
    assert_eq!(successor.index(), ada.index());
    // Its id is nobody's any more.
    for input in [Input::Ended, Input::Deadline, Input::Overdue, Input::Written(5)] {
        world.handle(ada, input);
    }
    world.send(bob, &send(1, successor, b"hello"));
    assert_eq!(world.got(successor).len(), 1);
    assert!(!world.is_closed(successor));
}
