//! What users may do, and what those are told who may not.

use switchboard::relay::{Denial, Settings};
use switchboard::wire::control::{Evict, Join, Profile, Update, Watch, Who};
use switchboard::wire::{Code, Flags, Header, Id, Type};

use super::frames::{Change, Got, frame, frame_of, send, send_flagged, send_many, stamped};
use super::people::world_of;
use super::world::World;

fn denied(world: &World, denial: Denial) -> u64 {
    world.counters().denied[denial.ordinal()]
}

/// The room that a client gets into.
fn join(world: &mut World, id: Id, name: &str) -> Id {
    world.say(id, &Join { name });
    match world.got(id)[..] {
        [Got::Joined { room, .. }] => room,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_not_restricted_may_do_everything() {
    let mut world = world_of(&["ada", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let room = join(&mut world, ada, "tea");
    join(&mut world, bob, "tea");
    for to in [bob, room, Id::ALL] {
        let frame = send_flagged(Flags::NO_ECHO, 3, to, b"hello");
        world.send(ada, &frame);
        assert_eq!(world.got(bob), [stamped(ada, &frame)]);
    }
    world.say(ada, &Watch::default());
    world.say(ada, &Update(Profile::named("ada/desk")));
    assert!(matches!(world.got(ada)[..], [Got::Snapshot { .. }]));
    assert_eq!(world.counters().denied, [0; Denial::COUNT]);
}

#[test]
fn a_room_that_one_may_not_join_is_denied_whether_it_is_there_or_not() {
    let mut world = world_of(&["ada join=tea,news/*", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    join(&mut world, bob, "secret");
    for name in ["secret", "nowhere", "news", "teas"] {
        world.ask(ada, 4, &Join { name });
        assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)], "{name}");
    }
    join(&mut world, ada, "tea");
    join(&mut world, ada, "news/sport");
    assert_eq!((world.relay.rooms(), denied(&world, Denial::Join), world.refused(Code::Denied)), (3, 4, 4));
}

#[test]
fn a_room_that_one_may_not_create_can_be_joined_once_it_is_there() {
    let mut world = world_of(&["ada create=-", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    world.ask(ada, 4, &Join { name: "tea" });
    assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)]);
    assert_eq!(world.relay.rooms(), 0);
    join(&mut world, bob, "tea");
    join(&mut world, ada, "tea");
    join(&mut world, ada, "tea");
    assert_eq!(denied(&world, Denial::Create), 1);
}

#[test]
fn a_member_that_may_not_send_to_its_room_hears_and_is_denied_for_each_frame() {
    let mut world = world_of(&["ada send=tea", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let [tea, news] = [join(&mut world, ada, "tea"), join(&mut world, ada, "news")];
    for room in ["tea", "news"] {
        join(&mut world, bob, room);
    }
    let heard = send_flagged(Flags::NO_ECHO, 1, news, b"it rains");
    world.send(bob, &heard);
    assert_eq!(world.got(ada), [stamped(bob, &heard)]);
    let mut run = send(5, news, b"one");
    run.extend(send(6, news, b"two"));
    world.send(ada, &run);
    assert_eq!(world.got(ada), [Got::error(5, Code::Denied, None), Got::error(6, Code::Denied, None)]);
    for number in [Type::Offer.number(), 0x80, 0xff] {
        let header = Header { type_number: number, ..Header::new(Type::Send) }.to(news).correlating(7);
        world.send(ada, &frame(header, b""));
        assert_eq!(world.got(ada), [Got::error(7, Code::Denied, None)], "{number:#x}");
    }
    assert_eq!(world.got(bob), [], "none of it is heard");
    let allowed = send_flagged(Flags::NO_ECHO, 8, tea, b"tea");
    world.send(ada, &allowed);
    assert_eq!(world.got(bob), [stamped(ada, &allowed)]);
    assert_eq!(denied(&world, Denial::Send), 5);
    // Whoever is no member is told so, whatever it may do.
    let elsewhere = join(&mut world, bob, "elsewhere");
    world.send(ada, &send(9, elsewhere, b""));
    assert_eq!(world.got(ada), [Got::error(9, Code::NotMember, None)]);
}

#[test]
fn all_is_for_those_who_may_send_to_all() {
    let mut world = world_of(&["ada all=no", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let mut run = send_flagged(Flags::RECEIPT, 5, Id::ALL, b"one");
    run.extend(send(6, Id::ALL, b"two"));
    run.extend(send(7, Id::ALL, b"three"));
    world.send(ada, &run);
    let denials = [5, 6, 7].map(|correlation| Got::error(correlation, Code::Denied, None));
    assert_eq!(world.got(ada), denials);
    let to_one = send(8, bob, b"to you alone");
    world.send(ada, &to_one);
    assert_eq!(world.got(bob), [stamped(ada, &to_one)]);
    assert_eq!(denied(&world, Denial::All), 3);
}

#[test]
fn only_those_are_addressed_whom_one_may_address_by_whatever_type() {
    let mut world = world_of(&["ada to=bob,ops/*", "bob", "carol names=carol,ops/1"]);
    let [ada, bob, carol] = [world.user("ada"), world.user("bob"), world.user("carol")];
    let kinds = [Type::Send, Type::Ack, Type::Ping, Type::Pong, Type::Offer, Type::Cancel].map(Type::number);
    for number in kinds.into_iter().chain([0x80]) {
        let header = Header { type_number: number, ..Header::new(Type::Send) }.correlating(4);
        world.send(ada, &frame(header.to(carol), b""));
        assert_eq!(world.got(ada), [Got::error(4, Code::Denied, Some(carol))], "{number:#x}");
        assert_eq!(world.got(carol), []);
        let allowed = frame(header.to(bob), b"");
        world.send(ada, &allowed);
        assert_eq!(world.got(bob), [stamped(ada, &allowed)], "{number:#x}");
    }
    let mut run = send(5, carol, b"one");
    run.extend(send(6, carol, b"two"));
    world.send(ada, &run);
    assert_eq!(world.got(ada), [5, 6].map(|correlation| Got::error(correlation, Code::Denied, Some(carol))));
    assert_eq!(denied(&world, Denial::Address), 9);
    // It is the name that counts, and that can change.
    world.say(carol, &Update(Profile::named("ops/1")));
    let frame = send(7, carol, b"now");
    world.send(ada, &frame);
    assert_eq!(world.got(carol), [stamped(ada, &frame)]);
    // Others may address ada as they like.
    let frame = send(1, ada, b"hello");
    world.send(carol, &frame);
    assert_eq!(world.got(ada), [stamped(carol, &frame)]);
}

#[test]
fn a_list_goes_to_those_of_it_whom_one_may_address() {
    let mut world = world_of(&["ada to=bob", "bob", "carol"]);
    let [ada, bob, carol] = [world.user("ada"), world.user("bob"), world.user("carol")];
    let gone = Id::client(7, 77);
    world.send(ada, &send_many(Flags::RECEIPT, 4, &[carol, bob, gone], b"hello"));
    assert_eq!(
        world.got(ada),
        [Got::error(4, Code::Denied, Some(carol)), Got::error(4, Code::NoSuchClient, Some(gone)), Got::queued(4, 1, 2)]
    );
    assert_eq!((world.got(bob).len(), world.got(carol).len()), (1, 0));
    assert_eq!(denied(&world, Denial::Address), 1);
}

#[test]
fn who_may_not_watch_cannot_find_out_who_is_here() {
    let mut world = world_of(&["ada to=bob watch=no", "bob", "carol"]);
    let [ada, bob, carol] = [world.user("ada"), world.user("bob"), world.user("carol")];
    let never = Id::client(9, 99);
    let gone = world.user_as("bob", "bob/2");
    world.lose(gone);
    // One who is here and whom it may not address, one who is gone, one who never was.
    let mut answers = Vec::new();
    for id in [carol, gone, never] {
        world.send(ada, &send(4, id, b""));
        world.send(ada, &send_many(Flags::NONE, 4, &[id], b""));
        world.ask(ada, 4, &Who::Client(id));
        let mut got = world.got(ada);
        for got in &mut got {
            if let Got::Error { client, .. } = got {
                *client = None;
            }
        }
        answers.push(got);
    }
    assert_eq!(answers[0], vec![Got::error(4, Code::Denied, None); 3]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    for name in ["carol", "nobody"] {
        world.ask(ada, 4, &Who::Named(name));
        assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)], "{name}");
    }
    for question in [frame_of(4, Flags::NONE, &Who::Everybody), frame_of(4, Flags::NONE, &Watch::default())] {
        world.send(ada, &question);
        assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)]);
    }
    world.ask(ada, 4, &Who::Room(Id::ALL));
    assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)], "however everybody is called");
    assert_eq!(denied(&world, Denial::Watch), 3);
    // Whom it may address it may look for, and itself.
    for (question, found) in
        [(Who::Named("bob"), bob), (Who::Client(bob), bob), (Who::Named("ada"), ada), (Who::Client(ada), ada)]
    {
        world.say(ada, &question);
        let got = world.got(ada);
        assert!(matches!(&got[..], [Got::Snapshot { members, .. }] if members[0].id == found), "{question:?}: {got:?}");
    }
    world.lose(bob);
    world.ask(ada, 4, &Who::Named("bob"));
    assert_eq!(world.got(ada), [Got::error(4, Code::NoSuchClient, None)], "for a name it may ask for");
    world.end_turn();
    assert_eq!(world.got(ada), [], "nor is it told of anything");
}

#[test]
fn to_who_may_watch_it_is_told_what_is_denied_and_what_is_not_there() {
    let mut world = world_of(&["ada to=bob", "bob", "carol"]);
    let [ada, carol] = [world.user("ada"), world.user("carol")];
    let never = Id::client(9, 99);
    world.send(ada, &send(4, carol, b""));
    world.send(ada, &send(5, never, b""));
    assert_eq!(
        world.got(ada),
        [Got::error(4, Code::Denied, Some(carol)), Got::error(5, Code::NoSuchClient, Some(never))]
    );
    world.say(ada, &Who::Named("carol"));
    world.say(ada, &Who::Client(carol));
    assert!(matches!(world.got(ada)[..], [Got::Snapshot { .. }, Got::Snapshot { .. }]));
}

#[test]
fn who_may_address_everybody_and_not_watch_is_told_who_is_not_here() {
    let mut world = world_of(&["ada watch=no", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let never = Id::client(9, 99);
    world.send(ada, &send(4, never, b""));
    world.ask(ada, 5, &Who::Client(never));
    assert_eq!(
        world.got(ada),
        [Got::error(4, Code::NoSuchClient, Some(never)), Got::error(5, Code::NoSuchClient, None)]
    );
    world.say(ada, &Who::Client(bob));
    assert!(matches!(world.got(ada)[..], [Got::Snapshot { .. }]));
}

#[test]
fn of_its_rooms_a_client_knows_who_is_in_them_though_it_may_not_watch() {
    let mut world = world_of(&["ada watch=no to=-", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let room = join(&mut world, ada, "tea");
    world.say(ada, &Watch { room: Some(room.bits()) });
    assert!(matches!(world.got(ada)[..], [Got::Snapshot { .. }]));
    join(&mut world, bob, "tea");
    world.end_turn();
    let got = world.got(ada);
    assert!(matches!(&got[..], [Got::Delta { changes, .. }] if matches!(changes[..], [Change::Arrived(_)])), "{got:?}");
}

#[test]
fn a_name_that_one_may_not_have_is_denied_before_it_is_looked_who_has_it() {
    let mut world = world_of(&["ada", "bob"]);
    let [ada, _] = [world.user("ada"), world.user("bob")];
    for name in ["bob", "nobody", "adam"] {
        world.ask(ada, 4, &Update(Profile::named(name)));
        assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)], "{name}");
    }
    world.ask(ada, 5, &Update(Profile { station: Some("desk"), ..Profile::default() }));
    world.ask(ada, 6, &Update(Profile::named("ada/2")));
    assert_eq!((world.got(ada), denied(&world, Denial::Name)), (vec![], 3));
}

#[test]
fn the_answers_to_a_run_that_is_denied_fit_the_reserve() {
    let settings = Settings::default();
    let mut world = world_of(&["ada to=-", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    world.send(ada, &send(4, bob, b"").repeat(1024));
    assert!(world.queued(ada) <= settings.queue_reserve_bytes / 2, "{} bytes", world.queued(ada));
    assert_eq!(world.got(ada).len(), 1024);
}

#[test]
fn only_who_may_administer_ends_anothers_connection() {
    let mut world = world_of(&["ada admin=yes", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    world.ask(bob, 4, &Evict { client: ada, text: "" });
    assert_eq!(world.got(bob), [Got::error(4, Code::Denied, None)]);
    assert_eq!(denied(&world, Denial::Administer), 1);
    world.send(ada, &frame_of(5, Flags::RECEIPT, &Evict { client: bob, text: "enough" }));
    assert_eq!(world.got(bob), [Got::error(0, Code::Evicted, None)]);
    assert!(matches!(world.got(ada)[..], [Got::Receipt { correlation: 5, .. }]));
    assert_eq!(world.closed(Code::Evicted), 1);
    world.ask(ada, 6, &Evict { client: bob, text: "" });
    assert_eq!(world.got(ada), [Got::error(6, Code::NoSuchClient, None)]);
    world.ask(ada, 7, &Evict { client: ada, text: "" });
    assert_eq!(world.got(ada), [Got::error(7, Code::BadBody, None)], "it leaves with GOODBYE");
}

#[test]
fn nobody_administers_a_relay_without_users() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.ask(ada, 4, &Evict { client: bob, text: "" });
    assert_eq!(world.got(ada), [Got::error(4, Code::Denied, None)]);
}
