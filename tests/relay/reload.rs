//! Another list of users, while clients are connected.

use switchboard::relay::Denial;
use switchboard::wire::control::{Join, Watch, Who};
use switchboard::wire::{Code, Id};

use super::frames::{Change, Got, send, stamped};
use super::people::{listed, users, world_of};
use super::world::{World, small_queues};

fn room(world: &mut World, id: Id, name: &str) -> Id {
    world.say(id, &Join { name });
    match world.got(id)[..] {
        [Got::Joined { room, .. }] => room,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn who_may_stay_stays_and_may_do_what_the_new_list_says() {
    let mut world = world_of(&["ada", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let tea = room(&mut world, ada, "tea");
    world.set_users(Some(users(&["zoe", "bob", "ada to=zoe all=no send=- create=-"])));
    assert!(!world.is_closed(ada) && !world.is_closed(bob));
    world.send(ada, &send(4, bob, b""));
    world.send(ada, &send(5, Id::ALL, b""));
    world.send(ada, &send(6, tea, b""));
    world.ask(ada, 7, &Join { name: "new" });
    let denied = |correlation, client| Got::error(correlation, Code::Denied, client);
    assert_eq!(world.got(ada), [denied(4, Some(bob)), denied(5, None), denied(6, None), denied(7, None)]);

    world.set_users(Some(users(&["ada", "bob"])));
    for to in [bob, Id::ALL] {
        let frame = send(8, to, b"again");
        world.send(ada, &frame);
        assert_eq!(world.got(bob), [stamped(ada, &frame)]);
    }
    world.got(ada);
    world.send(ada, &send(9, tea, b"again"));
    assert_eq!(world.got(ada).len(), 1, "it hears itself");
    assert_eq!(world.closed(Code::AccessChanged), 0);
}

#[test]
fn who_is_gone_from_the_list_or_holds_too_much_is_closed() {
    let mut world = world_of(&["gone", "renamed names=*", "joined", "watching", "waiting", "other"]);
    let other = world.user("other");
    world.say(other, &Watch::default());
    let gone = world.user("gone");
    let renamed = world.user_as("renamed", "somebody");
    let joined = world.user("joined");
    room(&mut world, joined, "tea");
    let watching = world.user("watching");
    world.say(watching, &Watch::default());
    let waiting = world.user("waiting");
    for id in [watching, other] {
        world.end_turn();
        world.got(id);
    }
    world.set_users(Some(users(&[
        "renamed",
        "joined join=news",
        "watching watch=no",
        "waiting watch=no join=news names=waiting",
        "other",
    ])));
    for id in [gone, renamed, joined, watching] {
        let got = world.got(id);
        assert!(matches!(got.last(), Some(Got::Error { code: Code::AccessChanged, .. })), "{id:?}: {got:?}");
        assert!(!world.is_here(id));
    }
    assert_eq!((world.got(waiting), world.is_closed(waiting)), (vec![], false), "it held nothing of that");
    world.end_turn();
    let got = world.got(other);
    let [Got::Delta { changes, .. }] = &got[..] else { panic!("{got:?}") };
    assert_eq!(changes.len(), 4);
    assert!(changes.iter().all(|change| matches!(change, Change::Departed(_, Code::AccessChanged))), "{changes:?}");
    assert_eq!((world.closed(Code::AccessChanged), world.relay.clients(), world.relay.rooms()), (4, 2, 0));
}

#[test]
fn whose_way_in_was_taken_away_is_closed() {
    let mut world = world_of(&["ada", "bob"]);
    let [ada, bob] = [world.user("ada"), world.user("bob")];
    let other = switchboard::auth::TokenDigest::of(b"another token");
    world.set_users(Some(listed(format!("ada token:{other}\nbob certificate\n"))));
    for id in [ada, bob] {
        assert_eq!(world.got(id), [Got::error(0, Code::AccessChanged, None)]);
    }
}

#[test]
fn another_way_in_takes_none_away() {
    let mut world = world_of(&["ada"]);
    let ada = world.user("ada");
    let other = switchboard::auth::TokenDigest::of(b"another token");
    world.set_users(Some(users(&[&format!("ada token:{other}")])));
    assert_eq!((world.got(ada), world.is_closed(ada)), (vec![], false));
}

#[test]
fn a_list_that_is_being_told_ends_with_the_right_to_it() {
    let mut world = World::with_users(small_queues(), users(&["ada names=*", "bob"]));
    for number in 0..200 {
        world.user_as("ada", &format!("ada/{number}"));
    }
    let bob = world.user("bob");
    world.say(bob, &Who::Everybody);
    world.set_users(Some(users(&["ada names=*", "bob watch=no"])));
    let got = world.got(bob);
    assert!(matches!(got.last(), Some(Got::Error { code: Code::AccessChanged, .. })), "{got:?}");
}

#[test]
fn a_relay_that_gets_users_keeps_nobody_who_has_not_proved_to_be_one() {
    let mut world = World::new(switchboard::relay::Settings::default());
    let nobody = world.client("ada");
    world.set_users(Some(users(&["ada"])));
    assert_eq!(world.got(nobody), [Got::error(0, Code::AccessChanged, None)]);
    let ada = world.user("ada");
    world.set_users(None);
    assert!(!world.is_closed(ada), "and one that loses them keeps everybody");
    let anybody = world.client("anybody");
    let frame = send(4, ada, b"hello");
    world.send(anybody, &frame);
    assert_eq!(world.got(ada), [stamped(anybody, &frame)]);
}

#[test]
fn thousands_are_looked_up_little_by_little_and_each_exactly_once() {
    let lines: Vec<String> = (0..20).map(|number| format!("user{number} names=*")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut world = world_of(&lines);
    let ids: Vec<Id> =
        (0..1_500).map(|number| world.user_as(&format!("user{}", number % 20), &format!("client {number}"))).collect();
    world.relay.set_users(Some(Box::new(users(&lines[..10]))), world.now, &mut world.net);
    let mut closed = Vec::new();
    let mut turns = 0;
    while world.relay.is_reviewing() {
        world.relay.review(world.now, &mut world.net);
        turns += 1;
        closed.push(world.closed(Code::AccessChanged));
    }
    assert!(turns > 2 && closed[0] > 0 && closed[0] < 750, "{closed:?} in {turns} turns");
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(world.is_closed(*id), number % 20 >= 10, "{number}");
    }
    assert_eq!((world.closed(Code::AccessChanged), world.relay.clients()), (750, 750));
    world.relay.check_consistency();
}

#[test]
fn another_list_before_everybody_was_looked_up_in_the_last_one_misses_nobody() {
    let lists: [&[&str]; 3] =
        [&["bob names=*", "ada names=* all=no"], &["zoe", "ada names=* watch=no"], &["ada names=* watch=no"]];
    for changes in 1..=lists.len() {
        check_changes(&lists[lists.len() - changes..]);
    }
}

/// Lists that follow each other before all of a crowd were looked up: in the last of them there is an ada only.
fn check_changes(lists: &[&[&str]]) {
    let mut world = world_of(&["ada names=*", "bob names=*"]);
    let ids: Vec<Id> = (0..1_200)
        .map(|number| world.user_as(if number % 2 == 0 { "ada" } else { "bob" }, &number.to_string()))
        .collect();
    for lines in lists {
        world.relay.set_users(Some(Box::new(users(lines))), world.now, &mut world.net);
        world.relay.review(world.now, &mut world.net);
    }
    while world.relay.review(world.now, &mut world.net) {}
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(world.is_closed(*id), number % 2 == 1, "{number} after {} lists", lists.len());
    }
    let last = ids[1_198];
    world.ask(last, 4, &Who::Everybody);
    assert_eq!(world.got(last), [Got::error(4, Code::Denied, None)]);
    world.send(last, &send(5, ids[0], b""));
    assert_eq!(world.got(last), [], "it may address everybody again");
    assert_eq!(world.counters().denied[Denial::Watch.ordinal()], 1);
}
