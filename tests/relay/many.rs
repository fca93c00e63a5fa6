//! SEND_MANY: one payload, a list of clients, and a fate for each of them.

use switchboard::relay::Settings;
use switchboard::wire::control::{Hello, Profile};
use switchboard::wire::{Code, Flags, Header, Id, RECIPIENTS_MAX, Type};

use super::frames::{Got, frame, send_flagged, send_many, stamped};
use super::world::{World, small_queues};

/// What a recipient gets of `send_many(flags, correlation, _, payload)`.
fn copy(flags: Flags, correlation: u32, payload: &[u8]) -> Vec<u8> {
    send_flagged(flags, correlation, Id::MANY, payload)
}

#[test]
fn each_recipient_gets_a_send_to_many_with_the_payload_alone() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 5);
    for payload in [&b""[..], b"x", &[7; 5_000]] {
        for count in 0..5 {
            let header = Header { kind: 0x1234, ..Header::new(Type::SendMany).correlating(6) };
            let flags = Flags(0xf6);
            let list = send_many(flags, 6, &ids[..count], payload);
            let mut sent = list.clone();
            sent[6..8].copy_from_slice(&header.kind.to_be_bytes());
            world.send(ids[4], &sent);
            let mut expected = copy(flags, 6, payload);
            expected[6..8].copy_from_slice(&header.kind.to_be_bytes());
            for id in &ids[..count] {
                assert_eq!(world.got(*id), [stamped(ids[4], &expected)]);
            }
            assert_eq!(world.got(ids[4]), []);
        }
    }
}

#[test]
fn each_failure_is_told_by_itself() {
    let mut world = World::new(small_queues());
    let [ada, bob, full, gone] = ["ada", "bob", "full", "gone"].map(|name| world.client(name));
    let small = world.client_with(&Hello { payload_bytes_max: Some(4_096), ..Hello::new(Profile::named("small")) });
    world.lose(gone);
    world.fill(bob, full);
    let list = [bob, gone, full, small, ada, Id::ALL, Id::room(0, 1), Id::MANY, Id::RELAY];
    let payload = [1; 5_000];
    world.send(ada, &send_many(Flags::RECEIPT, 3, &list, &payload));
    let got = world.got(ada);
    let refused = |code, id| Got::error(3, code, Some(id));
    assert_eq!(
        got,
        [
            refused(Code::NoSuchClient, gone),
            refused(Code::QueueFull, full),
            refused(Code::TooLargeForRecipient, small),
            stamped(ada, &copy(Flags::RECEIPT, 3, &payload)),
            refused(Code::NoSuchClient, Id::ALL),
            refused(Code::NoSuchClient, Id::room(0, 1)),
            refused(Code::NoSuchClient, Id::MANY),
            refused(Code::NoSuchClient, Id::RELAY),
            Got::queued(3, 2, 7),
        ]
    );
    assert_eq!(world.got(bob), [stamped(ada, &copy(Flags::RECEIPT, 3, &payload))]);
    assert_eq!(world.got(small), []);
    assert!(world.got(full).iter().all(|got| !matches!(got, Got::Gap { .. })), "refused, so not counted");
}

#[test]
fn no_echo_leaves_the_sender_out_and_nobody_else() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let flags = Flags::NO_ECHO.with(Flags::RECEIPT);
    world.send(ada, &send_many(flags, 3, &[ada, bob, Id::RELAY], b"hi"));
    assert_eq!(world.got(ada), [Got::error(3, Code::NoSuchClient, Some(Id::RELAY)), Got::queued(3, 1, 1)]);
    assert_eq!(world.got(bob), [stamped(ada, &copy(flags, 3, b"hi"))]);
}

#[test]
fn who_stands_twice_in_the_list_gets_it_twice() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(ada, &send_many(Flags::RECEIPT, 3, &[bob, bob], b"hi"));
    assert_eq!(world.got(ada), [Got::queued(3, 2, 0)]);
    assert_eq!(world.got(bob).len(), 2);
}

#[test]
fn a_list_that_cannot_be_read_reaches_nobody() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let list = vec![bob; RECIPIENTS_MAX + 1];
    world.send(ada, &send_many(Flags::RECEIPT, 1, &list, b"hi"));
    assert_eq!(world.got(ada), [Got::error(1, Code::LimitReached, None)]);
    let count = [0, 0, 0, 2];
    for payload in [&b""[..], &[0, 0, 0], &count, &[&count[..], &bob.bits().to_be_bytes(), &[0; 7]].concat()] {
        world.send(ada, &frame(Header::new(Type::SendMany).correlating(2).flagged(Flags::RECEIPT), payload));
        assert_eq!(world.got(ada), [Got::error(2, Code::BadBody, None)], "{payload:?}");
    }
    let mut misdirected = send_many(Flags::NONE, 3, &[bob], b"hi");
    misdirected[12..20].copy_from_slice(&bob.bits().to_be_bytes());
    world.send(ada, &misdirected);
    assert_eq!(world.got(ada), [Got::error(3, Code::BadDestination, None)]);
    assert_eq!(world.got(bob), []);
}

#[test]
fn who_is_lost_before_it_was_written_is_told_as_well() {
    let mut world = World::new(Settings::default());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    world.send(ada, &send_many(Flags::RECEIPT, 3, &[bob, eve], b"hi"));
    assert_eq!(world.got(ada), [Got::queued(3, 2, 0)]);
    world.drain(eve);
    world.lose(eve);
    world.write(bob, 1);
    world.lose(bob);
    assert_eq!(world.got(ada), [Got::error(3, Code::RecipientLost, Some(bob))]);
}

#[test]
fn the_answers_to_the_longest_list_fit_the_reserve_whatever_waits_already() {
    // The worst case: as much waits for the sender as can without its being stopped, then a list of clients
    // that are all gone, and every one of its answers must come.
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let gone: Vec<_> = world.clients("gone", RECIPIENTS_MAX);
    for id in &gone {
        world.lose(*id);
    }
    world.fill(bob, ada);
    let reserve = world.relay.settings().queue_reserve_bytes;
    let most = world.relay.settings().queue_bytes_max + reserve / 2;
    let one = {
        let before = world.queued(ada);
        world.send(ada, &super::frames::send(1, gone[0], b""));
        world.queued(ada) - before
    };
    while world.queued(ada) + one <= most {
        world.send(ada, &super::frames::send(1, gone[0], b""));
    }
    assert!(!world.is_paused(ada));
    world.send(ada, &send_many(Flags::RECEIPT, 2, &gone, b"hi"));
    assert!(world.is_paused(ada), "now it has to read before it is heard again");
    world.send(ada, &super::frames::send(3, bob, b"behind"));
    assert_eq!(world.got(bob), []);
    assert_eq!(world.counters().control_skipped, 0);
    world.write(ada, usize::MAX);
    assert!(!world.is_paused(ada));
    let got = world.seen(ada);
    for id in &gone {
        assert!(got.contains(&Got::error(2, Code::NoSuchClient, Some(*id))), "{id:?}");
    }
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Gap { .. })).count(), 0);
    assert_eq!(got.last(), Some(&Got::queued(2, 0, 1_024)));
    assert_eq!(world.got(bob).len(), 1, "what it sent meanwhile was not lost");
}

#[test]
fn who_has_read_half_is_heard_again() {
    let mut world = World::new(Settings { queue_bytes_max: 10_000, ..Settings::default() });
    let [ada, gone] = [world.client("ada"), world.client("gone")];
    world.lose(gone);
    for number in 0..3_000 {
        world.receive(ada, &super::frames::send(number, gone, b""));
    }
    while world.step(ada) {}
    assert!(world.is_paused(ada));
    while world.queued(ada) > 5_100 {
        world.flush(ada, 50);
        assert!(world.is_paused(ada) || world.queued(ada) <= 5_000);
    }
    world.flush(ada, 100);
    assert!(!world.is_paused(ada));
    world.drain(ada);
    assert_eq!(world.got(ada).len(), 3_000);
}
