//! What the changes of one turn become: one DELTA, which says what those who watch it do not know yet.

use switchboard::relay::Settings;
use switchboard::wire::Id;
use switchboard::wire::control::{Join, Leave, Profile, Unwatch, Update, Watch};

use super::directory::Directory;
use super::frames::{Change, Got};
use super::world::World;

fn lobby(world: &mut World, id: Id) -> Id {
    world.say(id, &Join { name: "lobby" });
    let [Got::Joined { room, .. }] = world.got(id)[..] else { panic!() };
    room
}

/// Has a client ask who is here, and applies what comes until the end of the turn.
fn watch(world: &mut World, id: Id, room: Option<Id>) -> Directory {
    let mut directory = Directory::asking(room, 77);
    world.ask(id, 77, &Watch { room: room.map(Id::bits) });
    world.end_turn();
    world.got(id).iter().for_each(|got| directory.apply(got));
    directory
}

#[test]
fn who_came_and_went_in_a_turn_in_which_nobody_watched_for_a_while_is_no_ghost_to_who_watches_next() {
    let mut world = World::new(Settings::default());
    let [first, next] = [world.client("first"), world.client("next")];
    world.say(first, &Watch::default());
    let passer_by = world.client("passer-by");
    world.say(first, &Unwatch::default());
    world.lose(passer_by);
    assert_eq!(watch(&mut world, next, None).names(), ["first", "next"]);
}

#[test]
fn a_member_that_leaves_a_room_while_nobody_watches_it_is_no_ghost_to_who_watches_next() {
    let mut world = World::new(Settings::default());
    let [first, next, passer_by] = [world.client("first"), world.client("next"), world.client("passer-by")];
    let room = lobby(&mut world, first);
    lobby(&mut world, next);
    world.say(first, &Watch { room: Some(room.bits()) });
    world.say(passer_by, &Join { name: "lobby" });
    world.lose(first);
    world.lose(passer_by);
    assert_eq!(watch(&mut world, next, Some(room)).names(), ["next"]);
}

#[test]
fn a_client_that_updates_in_a_loop_is_told_of_once_and_one_that_says_nothing_new_never() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client("bob");
    let eve = world.client("eve");
    world.say(ada, &Watch::default());
    world.got(ada);
    for round in 0..1_000 {
        let station = format!("desk {round}");
        world.say(bob, &Update(Profile { station: Some(&station), ..Profile::default() }));
        world.say(eve, &Update::default());
    }
    world.end_turn();
    let got = world.got(ada);
    let [Got::Delta { ref changes, .. }] = got[..] else { panic!("{} frames", got.len()) };
    let [Change::Changed(changed)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((changed.id, changed.station.as_deref()), (bob, Some("desk 999")));
    // Between two changes of one client something else happened: both are told, in their order.
    world.say(bob, &Update(Profile { station: Some("a"), ..Profile::default() }));
    world.say(eve, &Update(Profile { station: Some("b"), ..Profile::default() }));
    world.say(bob, &Update(Profile { station: Some("c"), ..Profile::default() }));
    world.end_turn();
    let got = world.got(ada);
    let [Got::Delta { ref changes, .. }] = got[..] else { panic!("{got:?}") };
    assert_eq!(changes.len(), 3);
}

#[test]
fn changes_that_pile_up_within_a_turn_are_told_before_its_end() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client("bob");
    let room = lobby(&mut world, ada);
    world.say(ada, &Watch { room: Some(room.bits()) });
    world.got(ada);
    let mut held_back = 0;
    for _ in 0..2_000 {
        lobby(&mut world, bob);
        world.say(bob, &Leave { room: room.bits() });
        if world.got(ada).is_empty() {
            held_back += 1;
        }
    }
    world.end_turn();
    assert!(held_back < 2_000, "a turn without an end does not hold back without an end");
    world.got(ada);
}
