//! UPDATE: a client has a new name, or something new to say of itself.

use switchboard::relay::Settings;
use switchboard::wire::control::{Hello, Join, Profile, Update, Watch, Who};
use switchboard::wire::{Code, Flags, Header, Id, Tag, Type, body};

use super::frames::{Change, Got, Seen, frame, frame_of, send};
use super::world::World;

/// What others are told of a client.
fn profile_of(world: &mut World, id: Id) -> Seen {
    world.ask(id, 77, &Who::Client(id));
    match world.got(id).pop() {
        Some(Got::Snapshot { correlation: 77, mut members, .. }) if members.len() == 1 => members.remove(0),
        other => panic!("{other:?}"),
    }
}

fn full_profile() -> Profile<'static> {
    let mut profile = Profile { station: Some("desk"), details: Some(b"details"), ..Profile::named("ada") };
    profile.endpoints[0] = Some("192.0.2.7:7000");
    profile.endpoints[1] = Some("[2001:db8::7]:7000");
    profile
}

#[test]
fn what_an_update_leaves_out_stays_as_it_was() {
    let mut world = World::new(Settings::default());
    let ada = world.client_with(&Hello::new(full_profile()));
    let mut expected = profile_of(&mut world, ada);
    assert_eq!(expected.endpoints, ["192.0.2.7:7000", "[2001:db8::7]:7000"]);
    world.say(ada, &Update::default());
    assert_eq!(profile_of(&mut world, ada), expected);
    world.say(ada, &Update(Profile { station: Some("attic"), ..Profile::default() }));
    expected.station = Some("attic".to_owned());
    assert_eq!(profile_of(&mut world, ada), expected);
    world.say(ada, &Update(Profile { details: Some(b""), ..Profile::named("eve") }));
    (expected.details, expected.name) = (None, "eve".to_owned());
    assert_eq!(profile_of(&mut world, ada), expected);
    assert_eq!(expected.address, "203.0.113.5:50812");
}

#[test]
fn one_endpoint_replaces_all_and_an_empty_one_clears_them() {
    let mut world = World::new(Settings::default());
    let ada = world.client_with(&Hello::new(full_profile()));
    let mut update = Profile::default();
    update.endpoints[0] = Some("host:1");
    world.say(ada, &Update(update));
    assert_eq!(profile_of(&mut world, ada).endpoints, ["host:1"]);
    update.endpoints[0] = Some("");
    world.say(ada, &Update(update));
    assert_eq!(profile_of(&mut world, ada).endpoints, [""; 0]);
    assert_eq!(profile_of(&mut world, ada).details.as_deref(), Some(&b"details"[..]));
}

#[test]
fn what_is_empty_in_a_hello_is_as_if_it_had_not_been_said() {
    let mut world = World::new(Settings::default());
    let mut profile = Profile { station: Some(""), details: Some(b""), ..Profile::named("ada") };
    profile.endpoints[0] = Some("");
    profile.endpoints[1] = Some("host:1");
    let ada = world.client_with(&Hello::new(profile));
    let seen = profile_of(&mut world, ada);
    assert_eq!((seen.station, seen.endpoints, seen.details), (None, vec!["host:1".to_owned()], None));
}

#[test]
fn a_taken_or_bad_name_changes_nothing_at_all() {
    let mut world = World::new(Settings::default());
    let ada = world.client_with(&Hello::new(full_profile()));
    world.client("bob");
    let before = profile_of(&mut world, ada);
    let too_long = "x".repeat(65);
    for (name, code) in
        [("bob", Code::NameTaken), ("", Code::BadName), (" x", Code::BadName), (&too_long, Code::BadName)]
    {
        let update = Update(Profile { station: Some("elsewhere"), ..Profile::named(name) });
        world.send(ada, &frame_of(6, Flags::RECEIPT, &update));
        assert_eq!(world.got(ada), [Got::error(6, code, None)], "{name:?}");
        assert_eq!(profile_of(&mut world, ada), before);
    }
    let mut nine = Vec::new();
    for _ in 0..9 {
        body::put_text(&mut nine, Tag::ENDPOINT, "host:1");
    }
    world.send(ada, &frame(Header::new(Type::Update).correlating(7), &nine));
    assert_eq!(world.got(ada), [Got::error(7, Code::BadBody, None)]);
    assert!(!world.is_closed(ada));
}

#[test]
fn a_name_that_was_given_up_is_free_and_the_new_one_is_not() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    world.say(ada, &Update(Profile::named("eve")));
    world.say(ada, &Update(Profile::named("eve")));
    assert_eq!(world.got(ada), [], "its own name is not taken");
    let other = world.client("ada");
    world.ask(other, 3, &Update(Profile::named("eve")));
    assert_eq!(world.got(other), [Got::error(3, Code::NameTaken, None)]);
    let late = world.connect();
    world.say(late, &Hello::new(Profile::named("eve")));
    assert_eq!(world.got(late), [Got::error(1, Code::HelloNameTaken, None)]);
    world.ask(other, 4, &Who::Named("eve"));
    let got = world.got(other);
    assert!(matches!(&got[..], [Got::Snapshot { members, .. }] if members[0].id == ada));
    world.lose(ada);
    world.say(other, &Update(Profile::named("eve")));
    assert_eq!(world.got(other), []);
    world.client("ada");
}

#[test]
fn a_change_is_seen_by_those_who_watch_everybody_and_by_those_who_watch_a_room() {
    let mut world = World::new(Settings::default());
    let [ada, everybody, lobby, outside] = ["ada", "everybody", "lobby", "outside"].map(|name| world.client(name));
    world.say(ada, &Join { name: "lobby" });
    let [Got::Joined { room, .. }] = world.got(ada)[..] else { panic!() };
    world.say(lobby, &Join { name: "lobby" });
    world.say(outside, &Join { name: "elsewhere" });
    let [Got::Joined { room: elsewhere, .. }] = world.got(outside)[..] else { panic!() };
    world.say(everybody, &Watch::default());
    world.say(lobby, &Watch { room: Some(room.bits()) });
    world.say(outside, &Watch { room: Some(elsewhere.bits()) });
    for id in [everybody, lobby, outside] {
        world.got(id);
    }
    world.say(ada, &Update(Profile { station: Some("attic"), ..Profile::named("eve") }));
    world.end_turn();
    for (id, scope) in [(everybody, None), (lobby, Some(room))] {
        let got = world.got(id);
        let [Got::Delta { room, sequence: 1, changes }] = &got[..] else { panic!("{got:?}") };
        let [Change::Changed(seen)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((*room, seen.id, &*seen.name, seen.station.as_deref()), (scope, ada, "eve", Some("attic")));
    }
    assert_eq!(world.got(outside), []);
}

#[test]
fn a_new_name_changes_nothing_for_those_who_send() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.say(ada, &Update(Profile::named("eve")));
    world.send(bob, &send(1, ada, b"by id"));
    assert_eq!(world.got(ada).len(), 1);
}
