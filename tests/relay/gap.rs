//! GAP: what a client has missed, counted exactly, where it would have been.

use switchboard::relay::Settings;
use switchboard::wire::control::{Hello, Ping, Profile, Update, Watch};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type};

use super::frames::{Got, Routed, frame, send, send_flagged, stamped};
use super::world::{World, small_queues};

/// A frame of 100 bytes for all that does not come back.
fn news(number: u32) -> Vec<u8> {
    send_flagged(Flags::NO_ECHO, number, Id::ALL, &[number as u8; 100 - HEADER_BYTES])
}

/// Two clients, of which the second has a full queue.
fn ada_and_full_bob() -> (World, Id, Id) {
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.fill(ada, bob);
    (world, ada, bob)
}

#[test]
fn a_gap_counts_exactly_and_stands_where_the_frames_would_have_been() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.write(bob, 250);
    let fits = [news(1), news(2)];
    world.send(ada, &[&fits.concat()[..], &news(3), &news(4)].concat());
    let longer = send_flagged(Flags::NO_ECHO, 5, Id::ALL, &[0; 1_000]);
    world.send(ada, &longer);
    world.drain(bob);
    let after = news(6);
    world.send(ada, &after);
    let got = world.got(bob);
    let tail = [
        stamped(ada, &fits[0]),
        stamped(ada, &fits[1]),
        Got::Gap { frames: 3, bytes: 200 + longer.len() as u64 },
        stamped(ada, &after),
    ];
    assert_eq!(got[got.len() - 4..], tail);
    assert_eq!((world.counters().frames_skipped, world.counters().gaps), (3, 1));
    assert_eq!(world.got(ada), [], "nobody is told of it but the recipient");
}

#[test]
fn after_a_gap_nothing_is_queued_until_half_is_written() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.send(ada, &news(1));
    // There is room again, but a GAP and a frame in turns would be the same flood once more.
    world.write(bob, 4_900);
    world.send(ada, &news(2));
    world.send(ada, &send(3, bob, b"to bob alone"));
    assert_eq!(world.got(ada), [Got::error(3, Code::QueueFull, Some(bob))]);
    assert_eq!(world.queued(bob), 5_100);
    world.write(bob, 99);
    world.send(ada, &news(4));
    assert_eq!(world.queued(bob), 5_001);
    world.write(bob, 1);
    assert_eq!(world.queued(bob), 5_000 + 52, "the GAP has been queued, without further traffic");
    let after = news(5);
    world.send(ada, &after);
    let got = world.got(bob);
    assert_eq!(got[got.len() - 2..], [Got::Gap { frames: 3, bytes: 300 }, stamped(ada, &after)]);
}

#[test]
fn a_refused_frame_is_not_counted_in_the_gap() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.send(ada, &send(1, bob, &[0; 500]));
    world.send(ada, &news(2));
    world.send(ada, &send(3, bob, &[0; 500]));
    let gaps: Vec<_> = world.got(bob).into_iter().filter(|got| matches!(got, Got::Gap { .. })).collect();
    assert_eq!(gaps, [Got::Gap { frames: 1, bytes: 100 }]);
}

#[test]
fn a_frame_over_the_recipients_limit_is_counted_and_the_rest_of_its_run_is_not() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client_with(&Hello { payload_bytes_max: Some(5_000), ..Hello::new(Profile::named("bob")) });
    let sized = |n, size| send_flagged(Flags::NO_ECHO, n, Id::ALL, &vec![0; size]);
    let frames = [sized(0, 10), sized(1, 5_001), sized(2, 6_000), sized(3, 5_000), sized(4, 9_000), sized(5, 1)];
    world.send(ada, &frames.concat());
    let gap = |sizes: &[u64]| Got::Gap {
        frames: sizes.len() as u64,
        bytes: sizes.iter().map(|size| size + HEADER_BYTES as u64).sum(),
    };
    let expected = [
        stamped(ada, &frames[0]),
        gap(&[5_001, 6_000]),
        stamped(ada, &frames[3]),
        gap(&[9_000]),
        stamped(ada, &frames[5]),
    ];
    assert_eq!(world.got(bob), expected);
}

#[test]
fn what_an_idle_client_cannot_take_is_told_at_once() {
    // Nothing waits for it, so no write will come that could bring the GAP along.
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client_with(&Hello { payload_bytes_max: Some(5_000), ..Hello::new(Profile::named("bob")) });
    world.send(ada, &send_flagged(Flags::NO_ECHO, 1, Id::ALL, &[0; 6_000]));
    assert_eq!(world.got(bob), [Got::Gap { frames: 1, bytes: 6_028 }]);
}

#[test]
fn frames_of_the_relay_that_find_no_room_are_counted_too() {
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.say(bob, &Watch::default());
    world.got(bob);
    world.fill(ada, bob);
    // Others come and go until five more find no room.
    while world.counters().control_skipped < 5 {
        let other = world.client("other");
        world.lose(other);
        world.end_turn();
    }
    let got = world.got(bob);
    let sequences: Vec<_> = got
        .iter()
        .filter_map(|got| if let Got::Delta { sequence, .. } = got { Some(*sequence) } else { None })
        .collect();
    assert!(sequences.iter().zip(1..).all(|(sequence, expected)| *sequence == expected), "no hole so far");
    let gap = |got: &Got| if let Got::Gap { frames, .. } = got { *frames } else { 0 };
    assert_eq!(got.iter().map(gap).sum::<u64>(), 5);
    world.client("other");
    world.end_turn();
    let [Got::Delta { sequence, .. }] = world.got(bob)[..] else { panic!() };
    assert_eq!(sequence, sequences.len() as u64 + 6, "the hole shows what was missed");
}

#[test]
fn who_changes_without_end_leaves_those_who_watch_room_for_what_they_are_sent_and_told() {
    let mut world = World::new(small_queues());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    world.say(bob, &Watch::default());
    world.got(bob);
    // Bob reads nothing meanwhile.
    for number in 0..500 {
        let station = format!("{number}");
        world.say(eve, &Update(Profile { station: Some(&station), ..Profile::default() }));
        world.end_turn();
    }
    let queued = world.queued(bob);
    assert!(queued <= small_queues().queue_bytes_max / 2 && !world.is_paused(bob), "{queued}");
    assert!(world.counters().control_skipped > 400);
    world.send(ada, &send(1, bob, b"do you hear me?"));
    world.ask(bob, 2, &Ping { clock_us: None });
    assert_eq!(world.got(ada), [], "nothing is refused");
    let got = world.got(bob);
    let behind = got.iter().position(|got| matches!(got, Got::Gap { .. })).expect("what is missing is told");
    let frames = |got: &Got| if let Got::Gap { frames, .. } = got { *frames } else { 0 };
    assert_eq!(got.iter().map(frames).sum::<u64>(), world.counters().control_skipped);
    let tail = &got[behind + 1..];
    assert!(matches!(tail, [_, Got::Pong { correlation: 2, .. }]), "{tail:?}");
}

#[test]
fn a_gap_stands_before_the_relays_own_next_frame() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.send(ada, &news(1));
    world.ask(bob, 2, &Ping { clock_us: None });
    world.send(ada, &news(3));
    let got = world.got(bob);
    let tail = &got[got.len() - 3..];
    assert!(
        matches!(tail, [Got::Gap { frames: 1, .. }, Got::Pong { correlation: 2, .. }, Got::Gap { frames: 1, .. }]),
        "{tail:?}"
    );
}

#[test]
fn a_lost_client_takes_its_gap_with_it() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.send(ada, &news(1));
    world.lose(bob);
    world.got(ada);
    let next = world.client("bob");
    assert_eq!(next.index(), bob.index());
    world.send(ada, &news(2));
    assert_eq!(world.got(next), [stamped(ada, &news(2))]);
}

#[test]
fn a_client_that_is_told_why_it_is_closed_is_told_of_its_gap_first() {
    let (mut world, ada, bob) = ada_and_full_bob();
    world.send(ada, &news(1));
    world.send(bob, &frame(Header::new(Type::Hello), b""));
    let got = world.got(bob);
    assert_eq!(got[got.len() - 2..], [Got::Gap { frames: 1, bytes: 100 }, Got::error(0, Code::OutOfOrder, None)]);
}

#[test]
fn with_any_pattern_of_reading_each_frame_is_delivered_or_counted_in_its_place() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(small_queues());
        let [ada, bob] = [world.client("ada"), world.client("bob")];
        let mut number = 0;
        for _ in 0..200 {
            let mut run = Vec::new();
            for _ in 0..random.u32(0..30) {
                run.extend(send_flagged(Flags::NO_ECHO, number, Id::ALL, &vec![0; random.usize(0..700)]));
                number += 1;
            }
            world.send(ada, &run);
            if random.bool() {
                world.write(bob, random.usize(0..8_000));
            }
        }
        let mut next: u64 = 0;
        for got in world.got(bob) {
            match got {
                Got::Gap { frames, .. } => next += frames,
                Got::Frame(Routed(frame)) => {
                    assert_eq!(u64::from(Header::read(&frame).correlation), next, "seed {seed}");
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next, u64::from(number), "seed {seed}: the last ones are counted as well");
        assert!(world.counters().gaps > 0);
    }
}
