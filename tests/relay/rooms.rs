//! JOIN and LEAVE: rooms come with their first member, go with their last, and are never confused.

use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Join, Leave, Profile, Update, Watch};
use switchboard::wire::{Code, Header, Id, Type};

use super::frames::{Got, frame, send};
use super::world::World;

fn join(world: &mut World, id: Id, name: &str) -> Got {
    world.ask(id, 3, &Join { name });
    world.got(id).pop().expect("an answer")
}

fn room(got: &Got) -> Id {
    let Got::Joined { room, .. } = got else { panic!("{got:?}") };
    *room
}

fn leave(world: &mut World, id: Id, room: Id) -> Vec<Got> {
    world.ask(id, 4, &Leave { room: room.bits() });
    world.got(id)
}

#[test]
fn joined_says_the_rooms_id_and_how_many_are_in_it() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let lobby = room(&join(&mut world, ada, "lobby"));
    let answer = |members| Got::Joined { correlation: 3, room: lobby, name: "lobby".to_owned(), members };
    assert_eq!(join(&mut world, ada, "lobby"), answer(1), "joining again is harmless");
    assert_eq!(join(&mut world, bob, "lobby"), answer(2));
    assert_ne!(room(&join(&mut world, bob, "Lobby")), lobby, "names are compared byte by byte");
    assert_ne!(room(&join(&mut world, bob, "ada")), ada, "rooms and clients have names of their own");
    assert_eq!(world.relay.rooms(), 3);
    let sent = send(1, lobby, b"once");
    world.send(ada, &sent);
    assert_eq!((world.got(ada).len(), world.got(bob).len()), (1, 1), "a member once, however often it joined");
}

#[test]
fn who_asks_for_rooms_by_the_thousand_pays_for_each_and_who_sends_does_not() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    for number in 0..100 {
        join(&mut world, ada, &format!("room {}", number % 10));
    }
    let charged = world.net.charged;
    assert!((100 * 4..=100 * 64).contains(&charged), "{charged} messages' worth of work");
    for number in 0..100 {
        world.send(ada, &send(number, bob, b"hello"));
    }
    assert_eq!(world.net.charged, charged, "what is sent counts by itself");
}

#[test]
fn a_room_with_a_bad_name_is_not_made() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    for name in ["", " lobby", "a\u{202e}b", &"x".repeat(65)] {
        assert_eq!(join(&mut world, ada, name), Got::error(3, Code::BadName, None), "{name:?}");
    }
    assert_eq!(world.relay.rooms(), 0);
}

#[test]
fn an_empty_room_is_gone_and_its_id_is_not_used_again() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let mut old = Vec::new();
    for _ in 0..5 {
        let id = room(&join(&mut world, ada, "lobby"));
        assert!(!old.contains(&id));
        old.push(id);
        assert_eq!(leave(&mut world, ada, id), []);
        assert_eq!(world.relay.rooms(), 0);
    }
    let id = room(&join(&mut world, bob, "lobby"));
    for stale in old {
        assert_eq!(leave(&mut world, bob, stale), [Got::error(4, Code::NoSuchRoom, None)]);
        world.send(bob, &send(5, stale, b"to another room in the same slot"));
        assert_eq!(world.got(bob), [Got::error(5, Code::NoSuchRoom, None)]);
    }
    assert_eq!(leave(&mut world, ada, id), [Got::error(4, Code::NotMember, None)]);
    for no_room in [Id::ALL, Id::RELAY, ada] {
        assert_eq!(leave(&mut world, ada, no_room), [Got::error(4, Code::NoSuchRoom, None)], "{no_room:?}");
    }
}

#[test]
fn the_limits_on_rooms_and_members_hold_and_leave_nothing_behind() {
    let settings = Settings { rooms_max: 4, rooms_per_client_max: 3, members_max: 2, ..Settings::default() };
    let mut world = World::new(settings);
    let ids = world.clients("c", 3);
    let full = Got::error(3, Code::LimitReached, None);
    let rooms: Vec<_> = ["a", "b", "c"].iter().map(|name| room(&join(&mut world, ids[0], name))).collect();
    assert_eq!(join(&mut world, ids[0], "d"), full, "three for each client");
    assert_eq!(world.relay.rooms(), 3, "and none made in vain");
    assert!(matches!(join(&mut world, ids[0], "a"), Got::Joined { .. }), "where it is a member already it may");
    room(&join(&mut world, ids[1], "d"));
    assert_eq!(join(&mut world, ids[1], "e"), full, "four in all");
    room(&join(&mut world, ids[1], "a"));
    assert_eq!(join(&mut world, ids[2], "a"), full, "two in each");
    assert_eq!(leave(&mut world, ids[0], rooms[0]), []);
    room(&join(&mut world, ids[2], "a"));
    room(&join(&mut world, ids[0], "d"));
    world.lose(ids[1]);
    world.lose(ids[0]);
    assert_eq!(world.relay.rooms(), 1);
}

#[test]
fn every_way_to_go_leaves_all_rooms() {
    let ends: [fn(&mut World, Id); 4] = [
        |world, id| world.send(id, &frame(Header::new(Type::Goodbye), b"")),
        |world, id| world.handle(id, Input::Ended),
        |world, id| world.handle(id, Input::Overdue),
        World::lose,
    ];
    for end in ends {
        let mut world = World::new(Settings::default());
        let [ada, bob] = [world.client("ada"), world.client("bob")];
        let mut rooms = Vec::new();
        for number in 0..20 {
            let name = format!("room-{number}");
            rooms.push(room(&join(&mut world, ada, &name)));
            if number % 2 == 0 {
                join(&mut world, bob, &name);
                world.say(ada, &Watch { room: Some(rooms[number].bits()) });
            }
        }
        end(&mut world, ada);
        assert_eq!(world.relay.rooms(), 10);
        world.send(bob, &send(1, rooms[0], b"alone"));
        world.end_turn();
        assert_eq!(world.got(bob).len(), 1);
        world.drain(ada);
        world.lose(bob);
        assert_eq!(world.relay.rooms(), 0);
    }
}

#[test]
fn members_keep_their_places_while_others_come_and_go() {
    // Places are kept on both sides, and a member that goes is replaced by the last one.
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 12);
    let names = ["red", "green", "blue"];
    let mut members = vec![Vec::new(); 3];
    let mut rooms = [Id::RELAY; 3];
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..2_000 {
        let (id, number) = (ids[random.usize(0..12)], random.usize(0..3));
        let place = members[number].iter().position(|member| *member == id);
        match (random.bool(), place) {
            (true, place) => {
                rooms[number] = room(&join(&mut world, id, names[number]));
                if place.is_none() {
                    members[number].push(id);
                }
                if random.bool() {
                    world.say(id, &Watch { room: Some(rooms[number].bits()) });
                }
            }
            (false, Some(place)) => {
                members[number].swap_remove(place);
                assert!(!leave(&mut world, id, rooms[number]).iter().any(|got| matches!(got, Got::Error { .. })));
            }
            (false, None) => world.say(id, &Update(Profile { station: Some("x"), ..Profile::default() })),
        }
        world.end_turn();
        for id in &ids {
            world.got(*id);
        }
        if let Some(sender) = members[number].first() {
            world.send(*sender, &send(9, rooms[number], b"roll call"));
            for id in &ids {
                let here = members[number].contains(id);
                assert_eq!(world.got(*id).len(), usize::from(here), "{id:?} in {}", names[number]);
            }
        }
    }
}
