//! A frame to one client, to a room or to all: whole, in order, to nobody else, or refused to its sender.

use switchboard::relay::Settings;
use switchboard::wire::control::{Hello, Join, Profile};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type};

use super::frames::{Got, frame, send, send_flagged, stamped, stamped_bytes};
use super::world::{World, small_queues};

#[test]
fn the_delivered_bytes_are_the_received_ones_with_the_source_stamped() {
    let mut world = World::new(Settings::default());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    for number in [0x10, 0x40, 0x4f, 0x80, 0xff] {
        let header = Header {
            type_number: number,
            flags: Flags(0xfe),
            kind: 0xabcd,
            correlation: 0xdead_beef,
            destination: bob,
            source: eve,
        };
        let sent = frame(header, &[number; 300]);
        world.send(ada, &sent);
        assert_eq!(world.got(bob), [stamped(ada, &sent)], "a forged source is overwritten");
    }
    assert_eq!((world.got(ada), world.got(eve)), (vec![], vec![]));
}

#[test]
fn a_client_may_send_to_itself() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    for flags in [Flags::NONE, Flags::NO_ECHO] {
        let sent = send_flagged(flags, 1, ada, b"note");
        world.send(ada, &sent);
        assert_eq!(world.got(ada), [stamped(ada, &sent)], "NO_ECHO is about rooms, lists and all");
    }
}

#[test]
fn all_and_a_room_echo_unless_told_not_to() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 3);
    let outside = world.client("outside");
    for id in &ids {
        world.say(*id, &Join { name: "lobby" });
    }
    let [Got::Joined { room, .. }] = world.got(ids[0])[..] else { panic!() };
    world.got(ids[1]);
    world.got(ids[2]);
    for (to, flags, echo) in [(room, Flags::NONE, true), (room, Flags::NO_ECHO, false), (Id::ALL, Flags::NONE, true)] {
        let sent = send_flagged(flags, 1, to, b"hello");
        world.send(ids[0], &sent);
        for id in &ids[1..] {
            assert_eq!(world.got(*id), [stamped(ids[0], &sent)]);
        }
        assert_eq!(world.got(ids[0]).len(), usize::from(echo), "{to:?} {flags:?}");
        assert_eq!(world.got(outside).len(), usize::from(to == Id::ALL));
    }
}

#[test]
fn only_members_reach_a_room_and_only_clients_reach_all() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.say(ada, &Join { name: "lobby" });
    let [Got::Joined { room, .. }] = world.got(ada)[..] else { panic!() };
    world.send(bob, &send(3, room, b"let me in"));
    assert_eq!((world.got(bob), world.got(ada)), (vec![Got::error(3, Code::NotMember, None)], vec![]));
    let stale = Id::room(room.index(), room.generation() + 1);
    for id in [stale, Id::room(77, 1), Id::room(0, 1)] {
        world.send(bob, &send(4, id, b""));
        assert_eq!(world.got(bob), [Got::error(4, Code::NoSuchRoom, None)], "{id:?}");
    }
    for bits in [0, 1, Id::MANY.bits(), 3 << 62 | 2, 1 << 62 | 1, u64::MAX] {
        world.send(bob, &send(5, Id::from_bits(bits), b""));
        assert_eq!(world.got(bob), [Got::error(5, Code::BadDestination, None)], "{bits:x}");
    }
    // A connection that has not said HELLO, or has gone, is not among all.
    let greeting = world.connect();
    world.send(bob, &frame(Header::new(Type::Goodbye), b""));
    world.send(ada, &send(6, Id::ALL, b"anybody?"));
    assert_eq!((world.got(greeting), world.got(bob), world.got(ada).len()), (vec![], vec![], 1));
}

#[test]
fn a_frame_never_reaches_the_slots_next_user() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.lose(bob);
    let greeting = world.connect();
    assert_eq!(greeting.index(), bob.index());
    for correlation in [1, 2] {
        world.send(ada, &send(correlation, bob, b"for bob alone"));
        assert_eq!(world.got(ada), [Got::error(correlation, Code::NoSuchClient, Some(bob))]);
        if correlation == 1 {
            world.send(ada, &send(9, greeting, b"before it said HELLO"));
            assert_eq!(world.got(ada), [Got::error(9, Code::NoSuchClient, Some(greeting))]);
            world.say(greeting, &Hello::new(Profile::named("bob")));
            world.got(greeting);
        }
    }
    assert_eq!(world.got(greeting), [], "the same slot and even the same name, and yet somebody else");
}

#[test]
fn a_client_whose_socket_has_failed_is_gone_for_its_senders_at_once() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.net.wire(bob).broken = true;
    world.send(ada, &send(1, bob, b"the relay has not been told yet"));
    world.send(ada, &send_flagged(Flags::NO_ECHO.with(Flags::RECEIPT), 2, Id::ALL, b"nobody else is here"));
    assert_eq!(world.got(ada), [Got::error(1, Code::NoSuchClient, Some(bob)), Got::queued(2, 0, 0)]);
    world.lose(bob);
    assert_eq!(world.got(ada), []);
}

#[test]
fn a_run_is_cut_exactly_where_the_queue_is_full() {
    // Twenty frames of 1,000 bytes, of which ten fit; the small one behind them fits as well.
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let mut frames: Vec<_> = (0..20).map(|n| send(n, bob, &vec![n as u8; 1_000 - HEADER_BYTES])).collect();
    frames[3] = send(3, bob, &[3; 900 - HEADER_BYTES]);
    frames.push(send(20, bob, &[20; 100 - HEADER_BYTES]));
    let mut stream = frames.concat();
    stream.extend(send(21, bob, b"x"));
    world.send(ada, &stream);
    let delivered: Vec<_> = (0..10).chain([20]).map(|n| stamped(ada, &frames[n])).collect();
    assert_eq!(world.queued(bob), 10_000);
    assert_eq!(world.got(bob), delivered);
    let refused: Vec<_> = (10..20).chain([21]).map(|n| Got::error(n, Code::QueueFull, Some(bob))).collect();
    assert_eq!(world.got(ada), refused);
    assert_eq!(world.counters().frames_in, world.counters().frames_queued + world.refused(Code::QueueFull));
}

#[test]
fn a_full_queue_delays_nobody_else() {
    let mut world = World::new(small_queues());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    world.fill(ada, bob);
    let to_eve = send(1, eve, b"on time");
    let stream = [send(2, bob, &[0; 100]), to_eve.clone(), send(3, bob, &[0; 100])].concat();
    world.send(ada, &stream);
    assert_eq!(world.got(eve), [stamped(ada, &to_eve)]);
    assert_eq!(world.got(ada).len(), 2, "two refusals");
    assert!(!world.is_paused(ada), "a sender is not stopped for the sake of a recipient that is stuck");
}

#[test]
fn frames_over_the_recipients_limit_are_refused_alone() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client_with(&Hello { payload_bytes_max: Some(5_000), ..Hello::new(Profile::named("bob")) });
    let sizes = [10, 5_000, 5_001, 20_000, 4_999, 0];
    let frames: Vec<_> = sizes.iter().zip(0..).map(|(size, n)| send(n, bob, &vec![0; *size])).collect();
    world.send(ada, &frames.concat());
    let refused = [2, 3].map(|n| Got::error(n, Code::TooLargeForRecipient, Some(bob)));
    assert_eq!(world.got(ada), refused);
    assert_eq!(world.got(bob), [0, 1, 4, 5].map(|n| stamped(ada, &frames[n])));
}

#[test]
fn a_frame_longer_than_a_whole_queue_passes_when_nothing_waits() {
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let large = send(1, bob, &vec![7; 60_000]);
    world.send(ada, &large);
    assert_eq!(world.got(bob), [stamped(ada, &large)]);
    world.net.wire(bob).room = 1_000;
    world.send(ada, &[large.clone(), large.clone()].concat());
    assert_eq!(world.got(ada), [Got::error(1, Code::QueueFull, Some(bob))], "one, but not two");
    assert_eq!(world.got(bob), [stamped(ada, &large)]);
}

#[test]
fn a_senders_order_holds_whatever_way_its_frames_take() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.say(ada, &Join { name: "lobby" });
    world.say(bob, &Join { name: "lobby" });
    let [Got::Joined { room, .. }] = world.got(ada)[..] else { panic!() };
    world.got(bob);
    let mut random = fastrand::Rng::with_seed(5);
    let mut stream = Vec::new();
    for number in 0..300 {
        match random.u8(0..4) {
            0 => stream.extend(send(number, bob, b"direct")),
            1 => stream.extend(send(number, room, b"room")),
            2 => stream.extend(send(number, Id::ALL, b"all")),
            _ => stream.extend(super::frames::send_many(Flags::NONE, number, &[bob], b"list")),
        }
    }
    // However the stream is cut into reads.
    while !stream.is_empty() {
        let rest = stream.split_off(random.usize(1..=stream.len().min(500)));
        world.send(ada, &stream);
        stream = rest;
    }
    let order: Vec<_> = world.got(bob).iter().map(|got| Header::read(got.frame()).correlation).collect();
    assert_eq!(order, (0..300).collect::<Vec<_>>());
}

#[test]
fn what_was_queued_for_a_lost_client_comes_back_and_what_was_written_does_not() {
    let mut world = World::new(Settings::default());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    let frames: Vec<_> = (0..5).map(|n| send(n, bob, &[n as u8; 72])).collect();
    world.send(ada, &frames.concat());
    world.send(eve, &send(70, bob, b"from another"));
    world.send(ada, &send(80, Id::ALL, b"nobody waits for this one"));
    world.got(ada);
    // Two are written, and the head of the third.
    world.write(bob, 2 * 100 + 30);
    world.lose(bob);
    let lost = |n| Got::error(n, Code::RecipientLost, Some(bob));
    assert_eq!(world.got(ada), [lost(2), lost(3), lost(4)]);
    assert_eq!(world.got(eve).first(), Some(&stamped(ada, &send(80, Id::ALL, b"nobody waits for this one"))));
    assert_eq!(world.got(eve), []);
    assert_eq!(world.refused(Code::RecipientLost), 4);
    assert_eq!((world.counters().frames_lost, world.counters().frames_void), (4, 1));
    assert_eq!(world.raw(bob).len(), 2);
}

#[test]
fn what_was_queued_comes_back_from_every_kind_of_end() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let ends: [fn(&mut World, Id); 3] = [
        |world, id| world.send(id, &frame(Header::new(Type::Goodbye), b"")),
        |world, id| world.say(id, &Hello::new(Profile::named("bob"))),
        |_, _| {},
    ];
    for end in ends {
        let bob = world.client("bob");
        world.send(ada, &send(1, bob, b"never read"));
        end(&mut world, bob);
        assert_eq!(world.got(ada), [], "it may still be written");
        world.close(bob, Some(Code::SlowConsumer));
        assert_eq!(world.got(ada), [Got::error(1, Code::RecipientLost, Some(bob))]);
    }
}

#[test]
fn a_loss_is_not_told_to_the_slots_next_user() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(ada, &send(1, bob, b"from the old ada"));
    world.lose(ada);
    let new = world.client("ada");
    assert_eq!(new.index(), ada.index());
    world.lose(bob);
    assert_eq!(world.got(new), []);
}

#[test]
fn a_client_that_is_lost_with_frames_to_itself_ends_quietly() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    world.send(ada, &send_flagged(Flags::RECEIPT, 1, ada, b"note"));
    world.lose(ada);
    assert_eq!(world.counters().frames_lost, 1);
    assert_eq!(world.relay.clients(), 0);
}

#[test]
fn every_unicast_frame_is_queued_or_refused() {
    let mut world = World::new(small_queues());
    let ada = world.client("ada");
    let bob = world.client_with(&Hello { payload_bytes_max: Some(4_096), ..Hello::new(Profile::named("bob")) });
    let gone = world.client("gone");
    world.lose(gone);
    let mut random = fastrand::Rng::with_seed(9);
    for number in 0..2_000 {
        let to = [bob, ada, gone, Id::RELAY, Id::MANY][random.usize(0..5)];
        world.send(ada, &send(number, to, &vec![0; random.usize(0..6_000)]));
        if random.u8(0..8) == 0 {
            world.write(bob, random.usize(0..5_000));
        }
        world.write(ada, 10_000);
    }
    let counters = world.counters();
    let refused: u64 = counters.refused.iter().sum();
    assert_eq!(counters.frames_in, 2_000);
    assert_eq!(counters.frames_in, counters.frames_queued + refused);
    for code in [Code::QueueFull, Code::NoSuchClient, Code::TooLargeForRecipient, Code::BadDestination] {
        assert!(world.refused(code) > 0, "{code}");
    }
    assert_eq!(stamped_bytes(ada, &send(1, bob, b""))[20..28], ada.bits().to_be_bytes());
}

#[test]
fn a_sender_that_does_not_read_its_refusals_is_stopped_and_told_of_every_one() {
    // Far more small frames in one read than the reserve holds answers for.
    let settings = Settings { queue_bytes_max: 64 * 1024, ..Settings::default() };
    let mut world = World::new(settings);
    let [ada, gone] = [world.client("ada"), world.client("gone")];
    world.lose(gone);
    let stream: Vec<u8> = (0..8_000).flat_map(|n| send(n, gone, b"")).collect();
    world.send(ada, &stream);
    assert!(world.is_paused(ada));
    let mut answers = Vec::new();
    while world.queued(ada) > 0 {
        world.write(ada, 5_000);
        answers.extend(world.seen(ada));
    }
    let expected: Vec<_> = (0..8_000).map(|n| Got::error(n, Code::NoSuchClient, Some(gone))).collect();
    assert_eq!(answers, expected, "each frame its answer, in order, and no GAP");
    assert!(!world.is_paused(ada));
}
