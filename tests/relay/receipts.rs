//! RECEIPT says what has been done and never more; ACK is the recipients' own.

use std::time::Duration;

use switchboard::relay::Settings;
use switchboard::wire::control::{Body, Join, Leave, Profile, Unwatch, Update, Watch, Who};
use switchboard::wire::{Code, Flags, Header, Id, Type};

use super::frames::{Got, frame, frame_of, send, send_flagged, stamped};
use super::world::{World, small_queues};

#[test]
fn written_is_said_with_the_last_byte_and_not_before() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let before = send(0, bob, b"in front of it");
    let sent = send_flagged(Flags::RECEIPT, 7, bob, &[1; 100]);
    let after = send(8, bob, b"behind it");
    world.send(ada, &[before.clone(), sent.clone(), after].concat());
    let bytes = before.len() + sent.len();
    for written in 1..bytes {
        world.write(bob, 1);
        assert_eq!(world.got(ada), [], "{written} of {bytes} bytes");
    }
    world.write(bob, 1);
    assert_eq!(world.got(ada), [Got::written(7)]);
    world.drain(bob);
    assert_eq!(world.got(ada), []);
    assert!(!world.net.wire(bob).notify, "nothing more is to be known");
}

#[test]
fn a_frame_that_is_written_at_once_is_receipted_all_the_same() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let sent = send_flagged(Flags::RECEIPT, 7, bob, &[1; 4_000]);
    world.net.wire(bob).room = sent.len() - 1;
    world.send(ada, &sent);
    world.write(bob, 0);
    assert_eq!(world.got(ada), [], "one byte is missing");
    world.write(bob, 1);
    assert_eq!(world.got(ada), [Got::written(7)]);
    world.net.wire(bob).room = sent.len();
    world.send(ada, &sent);
    world.write(bob, 0);
    assert_eq!(world.got(ada), [Got::written(7)]);
}

#[test]
fn receipts_come_in_the_order_of_the_recipients_stream() {
    let mut world = World::new(Settings::default());
    let [ada, eve, bob] = [world.client("ada"), world.client("eve"), world.client("bob")];
    for number in 0..50 {
        let from = if number % 3 == 0 { eve } else { ada };
        world.send(from, &send_flagged(Flags::RECEIPT, number, bob, &vec![0; number as usize * 7]));
        world.send(from, &send(1_000, bob, b"asks for nothing"));
    }
    let (mut from_ada, mut from_eve) = (Vec::new(), Vec::new());
    while world.queued(bob) > 0 {
        world.write(bob, 97);
        from_ada.extend(world.got(ada));
        from_eve.extend(world.got(eve));
    }
    let expected = |of_eve: bool| -> Vec<_> { (0..50).filter(|n| (n % 3 == 0) == of_eve).map(Got::written).collect() };
    assert_eq!(from_ada, expected(false));
    assert_eq!(from_eve, expected(true));
}

#[test]
fn a_lost_recipient_gives_an_error_in_place_of_the_receipt() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    for number in 0..4 {
        world.send(ada, &send_flagged(Flags::RECEIPT, number, bob, &[0; 72]));
    }
    // Two are written, but the relay hears of it only with the end.
    world.net.wire(bob).notify = false;
    world.write(bob, 2 * 100 + 99);
    assert_eq!(world.got(ada), []);
    world.lose(bob);
    let lost = |n| Got::error(n, Code::RecipientLost, Some(bob));
    assert_eq!(world.got(ada), [Got::written(0), Got::written(1), lost(2), lost(3)]);
}

#[test]
fn a_recipient_that_leaves_still_gets_what_waits_and_its_sender_the_receipt() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(ada, &send_flagged(Flags::RECEIPT, 1, bob, b"farewell"));
    world.send(bob, &frame(Header::new(Type::Goodbye), b""));
    assert_eq!(world.got(ada), []);
    world.drain(bob);
    assert_eq!(world.got(ada), [Got::written(1)]);
}

#[test]
fn a_refused_frame_has_an_error_and_no_receipt() {
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.fill(ada, bob);
    world.send(ada, &send_flagged(Flags::RECEIPT, 7, bob, &[0; 100]));
    world.drain(bob);
    world.send(ada, &send_flagged(Flags::RECEIPT, 8, Id::RELAY, b""));
    world.send(ada, &send_flagged(Flags::RECEIPT, 9, Id::room(5, 5), b""));
    assert_eq!(
        world.got(ada),
        [
            Got::error(7, Code::QueueFull, Some(bob)),
            Got::error(8, Code::BadDestination, None),
            Got::error(9, Code::NoSuchRoom, None),
        ]
    );
    assert_eq!(world.counters().receipts, 0);
}

#[test]
fn queued_says_how_many_have_it_and_how_many_will_find_it_in_their_gap() {
    let mut world = World::new(small_queues());
    let ids = world.clients("c", 5);
    world.fill(ids[3], ids[1]);
    world.fill(ids[3], ids[2]);
    world.send(ids[0], &send_flagged(Flags::RECEIPT, 4, Id::ALL, &[0; 100]));
    assert_eq!(world.got(ids[0]).last(), Some(&Got::queued(4, 3, 2)), "the sender counts too");
    world.send(ids[0], &send_flagged(Flags::RECEIPT.with(Flags::NO_ECHO), 5, Id::ALL, &[0; 100]));
    assert_eq!(world.got(ids[0]), [Got::queued(5, 2, 2)]);
    for id in &ids[1..] {
        world.lose(*id);
    }
    assert_eq!(world.got(ids[0]), [], "nothing follows");
    world.send(ids[0], &send_flagged(Flags::RECEIPT.with(Flags::NO_ECHO), 6, Id::ALL, b""));
    assert_eq!(world.got(ids[0]), [Got::queued(6, 0, 0)]);
}

#[test]
fn done_is_said_of_requests_that_have_no_answer_of_their_own() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let ask = |world: &mut World, frame: &[u8]| {
        world.send(ada, frame);
        world.got(ada)
    };
    let flags = Flags::RECEIPT;
    let update = Update(Profile { station: Some("desk"), ..Profile::default() });
    assert_eq!(ask(&mut world, &frame_of(1, flags, &update)), [Got::done(1)]);
    let joined = ask(&mut world, &frame_of(2, flags, &Join { name: "lobby" }));
    let [Got::Joined { correlation: 2, room, .. }] = joined[..] else { panic!("{joined:?}") };
    let watch = Watch { room: Some(room.bits()) };
    assert!(matches!(ask(&mut world, &frame_of(3, flags, &watch))[..], [Got::Snapshot { correlation: 3, .. }]));
    assert!(matches!(
        ask(&mut world, &frame_of(4, flags, &Who::Everybody))[..],
        [Got::Snapshot { correlation: 4, .. }]
    ));
    let unwatch = Unwatch { room: Some(room.bits()) };
    assert_eq!(ask(&mut world, &frame_of(5, flags, &unwatch)), [Got::done(5)]);
    let leave = Leave { room: room.bits() };
    assert_eq!(ask(&mut world, &frame_of(6, flags, &leave)), [Got::done(6)]);
    assert_eq!(ask(&mut world, &frame_of(7, flags, &leave)), [Got::error(7, Code::NoSuchRoom, None)]);
    assert_eq!(ask(&mut world, &frame_of(8, Flags::NONE, &update)), [], "nobody asked");
}

#[test]
fn every_body_that_cannot_be_read_is_refused_and_does_nothing() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let truncated = &[0x10, 0x0f, 0, 8, 1][..];
    for frame_type in [Watch::TYPE, Unwatch::TYPE, Who::TYPE, Update::TYPE, Join::TYPE, Leave::TYPE, Type::Ping] {
        let header = Header::new(frame_type).correlating(9).flagged(Flags::RECEIPT);
        world.send(ada, &frame(header, truncated));
        assert_eq!(world.got(ada), [Got::error(9, Code::BadBody, None)], "{frame_type}");
    }
    for missing in [Join::TYPE, Leave::TYPE] {
        world.send(ada, &frame(Header::new(missing).correlating(9), b""));
        assert_eq!(world.got(ada), [Got::error(9, Code::BadBody, None)], "{missing}");
    }
    assert_eq!((world.refused(Code::BadBody), world.relay.rooms()), (9, 0));
}

#[test]
fn an_ack_is_the_recipients_own_word_and_routed_like_any_frame() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let ack = frame(Header::new(Type::Ack).to(ada).correlating(7), b"");
    world.send(bob, &ack);
    assert_eq!(world.got(ada), [stamped(bob, &ack)]);
    for to in [Id::RELAY, Id::ALL, Id::MANY, Id::room(1, 1)] {
        world.send(bob, &frame(Header::new(Type::Ack).to(to).correlating(8), b""));
        assert_eq!(world.got(bob), [Got::error(8, Code::BadDestination, None)], "{to:?}");
    }
    world.lose(ada);
    world.send(bob, &ack);
    assert_eq!(world.got(bob), [Got::error(7, Code::NoSuchClient, Some(ada))]);
}

#[test]
fn a_receipt_is_not_told_to_the_slots_next_user() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(ada, &send_flagged(Flags::RECEIPT, 1, bob, b"hello"));
    world.lose(ada);
    let new = world.client("ada");
    assert_eq!(new.index(), ada.index());
    world.drain(bob);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.got(new), []);
}
