//! WATCH, WHO and DELTA: what a client knows of the others, whatever happens while it is being told.

use switchboard::relay::Settings;
use switchboard::wire::control::{Hello, Join, Leave, Profile, Unwatch, Update, Watch, Who};
use switchboard::wire::{Code, Id};

use super::directory::Directory;
use super::frames::{Change, Got, send};
use super::world::{World, small_queues};

fn lobby(world: &mut World, id: Id) -> Id {
    world.say(id, &Join { name: "lobby" });
    match world.got(id).pop() {
        Some(Got::Joined { room, .. }) => room,
        other => panic!("{other:?}"),
    }
}

/// The names in the pages of an answer, which must be one answer.
fn names(pages: &[Got]) -> Vec<String> {
    let mut names = Vec::new();
    for (place, page) in pages.iter().enumerate() {
        let Got::Snapshot { more, members, .. } = page else { panic!("{page:?}") };
        assert_eq!(*more, place + 1 < pages.len(), "MORE on all but the last");
        names.extend(members.iter().map(|member| member.name.clone()));
    }
    names.sort_unstable();
    names
}

#[test]
fn watch_lists_everybody_and_then_tells_every_change() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client("bob");
    world.ask(ada, 5, &Watch::default());
    let got = world.got(ada);
    let [Got::Snapshot { correlation: 5, more: false, room: None, sequence: 0, ref members }] = got[..] else {
        panic!("{got:?}")
    };
    let mut ids: Vec<_> = members.iter().map(|member| (&*member.name, member.id, &*member.address)).collect();
    ids.sort_unstable();
    assert_eq!(ids, [("ada", ada, "203.0.113.5:50812"), ("bob", bob, "203.0.113.5:50812")], "itself included");

    let eve = world.client("eve");
    world.say(eve, &Update(Profile { station: Some("desk 4"), ..Profile::default() }));
    world.lose(bob);
    assert_eq!(world.got(ada), [], "not before the end of the turn");
    world.end_turn();
    let got = world.got(ada);
    let [Got::Delta { room: None, sequence: 1, ref changes }] = got[..] else { panic!("one for all: {got:?}") };
    let [Change::Arrived(came), Change::Changed(changed), Change::Departed(gone, Code::Reset)] = &changes[..] else {
        panic!("in the order of what happened: {changes:?}")
    };
    assert_eq!((came.id, came.station.as_deref()), (eve, None));
    assert_eq!((changed.id, changed.station.as_deref()), (eve, Some("desk 4")));
    assert_eq!(*gone, bob);
    world.end_turn();
    assert_eq!(world.got(ada), [], "nothing has changed since");
}

#[test]
fn one_delta_is_the_same_bytes_for_all_who_watch() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 5);
    for id in &ids[..4] {
        world.say(*id, &Watch::default());
    }
    for id in &ids {
        world.got(*id);
    }
    world.client("new");
    world.end_turn();
    for id in &ids {
        world.drain(*id);
    }
    let first = world.raw(ids[0]);
    assert_eq!(first.len(), 1);
    for id in &ids[1..4] {
        assert_eq!(world.raw(*id), first);
    }
    assert!(world.raw(ids[4]).is_empty(), "who does not watch is told nothing");
}

#[test]
fn many_changes_of_one_turn_go_out_in_pages_with_numbers_of_their_own() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    world.ask(ada, 2, &Watch::default());
    let mut directory = Directory::asking(None, 2);
    world.got(ada).iter().for_each(|got| directory.apply(got));
    let ids = world.clients("somebody-with-a-longer-name", 300);
    for id in &ids[100..] {
        world.lose(*id);
    }
    world.end_turn();
    let got = world.got(ada);
    assert!(got.len() > 5, "pages of at most 4,096 bytes");
    for (got, expected) in got.iter().zip(1..) {
        assert!(matches!(got, Got::Delta { sequence, .. } if *sequence == expected));
        directory.apply(got);
    }
    assert_eq!((directory.members.len(), directory.has_hole), (101, false));
}

#[test]
fn the_largest_record_fits_a_page_of_the_smallest_limit() {
    let mut world = World::new(Settings::default());
    world.net.address = "x".repeat(256);
    let ada = world.client_with(&Hello { payload_bytes_max: Some(0), ..Hello::new(Profile::named("ada")) });
    world.say(ada, &Watch::default());
    world.got(ada);
    let ids: Vec<_> = (0..5)
        .map(|number| {
            let name = format!("{number}{}", &TEXT[..63]);
            world.client_with(&Hello::new(largest(&name)))
        })
        .collect();
    world.end_turn();
    assert_eq!(world.got(ada).len(), 5, "a page each");
    world.ask(ada, 9, &Who::Everybody);
    let pages = world.got(ada);
    assert_eq!(names(&pages).len(), 6);
    world.ask(ada, 9, &Who::Client(ids[0]));
    assert_eq!(world.got(ada).len(), 1);
}

/// A profile with all its texts at their limits.
fn largest(name: &str) -> Profile<'_> {
    Profile {
        name: Some(name),
        station: Some(&TEXT[..256]),
        endpoints: [Some(&TEXT[..128]); 8],
        details: Some(&TEXT.as_bytes()[..1024]),
    }
}

const TEXT: &str = match std::str::from_utf8(&[b'x'; 1024]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn who_finds_by_name_by_id_by_room_and_everybody() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 3);
    let room = lobby(&mut world, ids[0]);
    lobby(&mut world, ids[1]);
    let mut ask = |who: Who<'_>| {
        world.ask(ids[0], 4, &who);
        world.got(ids[0])
    };
    let one = ask(Who::Named("c-2"));
    assert_eq!(names(&one), ["c-2"]);
    assert!(matches!(&one[..], [Got::Snapshot { correlation: 4, members, .. }] if members[0].id == ids[2]));
    assert_eq!(names(&ask(Who::Client(ids[1]))), ["c-1"]);
    assert_eq!(names(&ask(Who::Room(room))), ["c-0", "c-1"]);
    assert_eq!(names(&ask(Who::Everybody)), ["c-0", "c-1", "c-2"]);
    assert_eq!(names(&ask(Who::Room(Id::ALL))), ["c-0", "c-1", "c-2"]);
    let error = |code| [Got::error(4, code, None)];
    assert_eq!(ask(Who::Named("nobody")), error(Code::NoSuchClient));
    for id in [Id::RELAY, Id::ALL, Id::client(99, 1), Id::client(ids[0].index(), 99)] {
        assert_eq!(ask(Who::Client(id)), error(Code::NoSuchClient), "{id:?}");
    }
    assert_eq!(ask(Who::Room(Id::room(9, 9))), error(Code::NoSuchRoom));
    world.ask(ids[2], 4, &Who::Room(room));
    assert_eq!(world.got(ids[2]), error(Code::NotMember));
}

#[test]
fn who_does_not_find_who_is_not_registered() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    let greeting = world.connect();
    world.handle(bob, switchboard::relay::Input::Ended);
    for who in [Who::Client(greeting), Who::Client(bob), Who::Named("bob"), Who::Named("")] {
        world.ask(ada, 4, &who);
        assert_eq!(world.got(ada), [Got::error(4, Code::NoSuchClient, None)], "{who:?}");
    }
    world.ask(ada, 4, &Who::Everybody);
    assert_eq!(names(&world.got(ada)), ["ada"]);
}

#[test]
fn a_listing_is_written_as_it_is_read() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 3_000);
    world.ask(ids[0], 4, &Who::Everybody);
    world.ask(ids[0], 5, &Watch::default());
    let queued = world.queued(ids[0]);
    assert!((60_000..75_000).contains(&queued), "a list of any length takes as much memory: {queued}");
    let mut pages = Vec::new();
    while world.queued(ids[0]) > 0 {
        world.write(ids[0], 10_000);
        assert!(world.queued(ids[0]) < 75_000);
        pages.extend(world.seen(ids[0]));
    }
    let busy = pages.iter().position(|page| *page == Got::error(5, Code::Busy, None));
    pages.remove(busy.expect("one answer at a time"));
    assert_eq!(names(&pages).len(), 3_000);
    world.ask(ids[0], 6, &Watch::default());
    assert!(matches!(world.got(ids[0])[0], Got::Snapshot { correlation: 6, .. }), "and then the next");
}

#[test]
fn a_listing_in_a_small_queue_loses_no_page() {
    let mut world = World::new(small_queues());
    let ids = world.clients("c", 1_000);
    world.ask(ids[0], 4, &Who::Everybody);
    assert_eq!(names(&world.got(ids[0])).len(), 1_000);
}

#[test]
fn a_watch_that_has_to_wait_for_its_first_page_misses_nobody() {
    // So much waits that the listing cannot begin. Who comes until then is in no DELTA that counts: the first
    // page empties the map.
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.send(bob, &send(1, ada, &vec![0; 60_000]));
    world.send(bob, &send(2, ada, &vec![0; 60_000]));
    world.ask(ada, 3, &Watch::default());
    let mut directory = Directory::asking(None, 3);
    world.client("eve");
    world.end_turn();
    world.client("joe");
    world.end_turn();
    world.got(ada).iter().for_each(|got| directory.apply(got));
    assert_eq!(directory.names(), ["ada", "bob", "eve", "joe"]);
    assert!(!directory.has_hole);
}

#[test]
fn a_watcher_converges_while_members_come_go_and_change_between_pages() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::seeded(Settings::default(), seed);
        let ada = world.client("ada");
        let mut others = world.clients("c", 2_500);
        let mut directory = Directory::asking(None, 2);
        world.ask(ada, 2, &Watch::default());
        let mut number = 0;
        let mut correlation = 2;
        // While pages are under way, and then the same again from the start.
        for round in 0..60 {
            for _ in 0..random.usize(0..20) {
                number += 1;
                match random.u8(0..3) {
                    0 => others.push(world.client(&format!("new-{number}"))),
                    1 => world.lose(others.swap_remove(random.usize(0..others.len()))),
                    _ => {
                        let id = others[random.usize(0..others.len())];
                        world.say(id, &Update(Profile::named(&format!("renamed-{number}"))));
                    }
                }
            }
            world.write(ada, random.usize(0..9_000));
            if random.bool() {
                world.end_turn();
            }
            world.seen(ada).iter().for_each(|got| directory.apply(got));
            if round >= 30 && directory.asked.is_none() && directory.listing.is_none() && correlation == 2 {
                correlation = 3;
                directory.ask_again(3);
                world.ask(ada, 3, &Watch::default());
            }
        }
        world.end_turn();
        world.got(ada).iter().for_each(|got| directory.apply(got));
        assert!(!directory.has_hole && directory.listing.is_none() && directory.asked.is_none(), "seed {seed}");
        let bob = world.client("bob");
        world.end_turn();
        world.got(ada).iter().for_each(|got| directory.apply(got));
        world.ask(bob, 1, &Who::Everybody);
        let truth = names(&world.got(bob));
        assert_eq!(directory.names(), truth, "seed {seed}");
        assert_eq!(truth.len(), others.len() + 2);
    }
}

#[test]
fn a_watch_in_the_middle_of_a_turn_gets_what_happened_before_it_once_more() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.say(ada, &Watch::default());
    let eve = world.client("eve");
    world.lose(eve);
    let joe = world.client("joe");
    let mut directory = Directory::asking(None, 7);
    world.ask(bob, 7, &Watch::default());
    world.lose(joe);
    world.end_turn();
    world.got(bob).iter().for_each(|got| directory.apply(got));
    assert_eq!((directory.names(), directory.has_hole), (vec!["ada", "bob"], false));
}

#[test]
fn unwatch_ends_it_and_watch_again_starts_from_the_beginning() {
    let mut world = World::new(Settings::default());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    for id in [ada, bob] {
        world.say(id, &Watch::default());
        world.got(id);
    }
    world.say(ada, &Unwatch::default());
    world.say(ada, &Unwatch::default());
    world.client("eve");
    world.end_turn();
    assert_eq!((world.got(ada), world.got(bob).len()), (vec![], 1));
    world.ask(ada, 9, &Watch::default());
    world.ask(bob, 9, &Watch::default());
    for id in [ada, bob] {
        let got = world.got(id);
        assert!(matches!(&got[..], [Got::Snapshot { correlation: 9, sequence: 1, members, .. }] if members.len() == 3));
    }
    world.client("joe");
    world.end_turn();
    for id in [ada, bob] {
        assert_eq!(world.got(id).len(), 1, "subscribed once, however often it asked");
    }
}

#[test]
fn the_numbers_go_on_where_nobody_watched() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    for _ in 0..3 {
        world.say(ada, &Watch::default());
        let [Got::Snapshot { sequence, .. }] = world.got(ada)[..] else { panic!() };
        let other = world.client("other");
        world.end_turn();
        let [Got::Delta { sequence: next, .. }] = world.got(ada)[..] else { panic!() };
        assert_eq!(next, sequence + 1);
        world.say(ada, &Unwatch::default());
        world.lose(other);
        world.end_turn();
    }
}

#[test]
fn a_room_is_a_scope_of_its_own() {
    let mut world = World::new(Settings::default());
    let [ada, bob, eve] = [world.client("ada"), world.client("bob"), world.client("eve")];
    let room = lobby(&mut world, ada);
    let scope = Watch { room: Some(room.bits()) };
    world.say(eve, &scope);
    assert_eq!(world.got(eve), [Got::error(1, Code::NotMember, None)]);
    world.say(eve, &Watch { room: Some(Id::room(44, 4).bits()) });
    assert_eq!(world.got(eve), [Got::error(1, Code::NoSuchRoom, None)]);
    world.ask(ada, 3, &scope);
    let got = world.got(ada);
    assert!(matches!(&got[..], [Got::Snapshot { correlation: 3, room: Some(id), members, sequence: 0, .. }]
            if *id == room && members.len() == 1));
    lobby(&mut world, bob);
    lobby(&mut world, eve);
    world.client("elsewhere");
    world.say(bob, &Leave { room: room.bits() });
    world.lose(eve);
    world.end_turn();
    let got = world.got(ada);
    let [Got::Delta { room: Some(id), sequence: 1, changes }] = &got[..] else { panic!("{got:?}") };
    assert_eq!(*id, room);
    assert!(
        matches!(&changes[..], [Change::Arrived(one), Change::Arrived(two), Change::Departed(left, Code::Left),
            Change::Departed(lost, Code::Reset)]
            if one.id == bob && two.id == eve && *left == bob && *lost == eve),
        "{changes:?}"
    );
}

#[test]
fn leaving_a_room_ends_watching_and_listing_it() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 2_500);
    let mut room = Id::RELAY;
    for id in &ids {
        room = lobby(&mut world, *id);
    }
    let scope = Watch { room: Some(room.bits()) };
    world.ask(ids[0], 3, &scope);
    world.ask(ids[0], 4, &Leave { room: room.bits() });
    lobby(&mut world, ids[1]);
    let joined = world.client("late");
    lobby(&mut world, joined);
    world.end_turn();
    let pages = world.got(ids[0]);
    let Some(Got::Snapshot { more: false, members, .. }) = pages.last() else { panic!("the answer ends") };
    assert!(members.is_empty(), "and tells no more of the room");
    assert!(names(&pages).len() < 2_500);
    world.lose(joined);
    world.end_turn();
    assert_eq!(world.got(ids[0]), []);
    world.ask(ids[0], 5, &Who::Everybody);
    assert_eq!(names(&world.got(ids[0])).len(), 2_500, "nothing is under way any more");
}

#[test]
fn the_listing_of_a_room_that_its_reader_has_left_ends_though_it_joins_again() {
    let mut world = World::new(Settings::default());
    let ids = world.clients("c", 2_500);
    let mut room = Id::RELAY;
    for id in &ids {
        room = lobby(&mut world, *id);
    }
    world.ask(ids[0], 3, &Watch { room: Some(room.bits()) });
    world.ask(ids[0], 4, &Leave { room: room.bits() });
    world.ask(ids[0], 5, &Join { name: "lobby" });
    world.end_turn();
    let got = world.got(ids[0]);
    let mut pages = got.iter().filter(|got| matches!(got, Got::Snapshot { .. }));
    let Some(Got::Snapshot { more: false, members, .. }) = pages.next_back() else { panic!("the answer ends") };
    assert!(members.is_empty(), "and tells no more of the room");
}

#[test]
fn a_listing_of_a_room_that_vanished_does_not_go_on_in_its_successor() {
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    let bob = world.client("bob");
    let old = lobby(&mut world, ada);
    world.send(bob, &send(1, ada, &vec![0; 60_000]));
    world.send(bob, &send(1, ada, &vec![0; 60_000]));
    world.ask(ada, 3, &Who::Room(old));
    world.ask(ada, 4, &Leave { room: old.bits() });
    let new = {
        world.say(bob, &Join { name: "another" });
        match world.got(bob)[..] {
            [Got::Joined { room, .. }] => room,
            ref other => panic!("{other:?}"),
        }
    };
    assert_eq!((old.index(), old == new), (new.index(), false));
    world.say(ada, &Join { name: "another" });
    let got = world.got(ada);
    let Some(Got::Snapshot { correlation: 3, more: false, room: Some(room), members, .. }) = got.last() else {
        panic!("{got:?}")
    };
    assert_eq!((*room, members.len()), (old, 0));
}

#[test]
fn a_watcher_that_missed_a_delta_sees_the_hole_and_is_right_after_asking_again() {
    let mut world = World::new(small_queues());
    let [ada, bob] = [world.client("ada"), world.client("bob")];
    world.ask(ada, 2, &Watch::default());
    let mut directory = Directory::asking(None, 2);
    while world.counters().control_skipped < 3 {
        let other = world.client("other");
        world.end_turn();
        world.lose(other);
        world.end_turn();
    }
    world.client("eve");
    world.end_turn();
    world.got(ada).iter().for_each(|got| directory.apply(got));
    world.client("joe");
    world.end_turn();
    world.got(ada).iter().for_each(|got| directory.apply(got));
    assert!(directory.has_hole);
    directory.ask_again(3);
    world.ask(ada, 3, &Watch::default());
    world.got(ada).iter().for_each(|got| directory.apply(got));
    assert_eq!((directory.names(), directory.has_hole), (vec!["ada", "bob", "eve", "joe"], false));
    let _ = bob;
}

#[test]
fn records_of_any_size_make_pages_that_fit() {
    // `Got::read` measures every page that any test sees.
    let mut world = World::new(Settings::default());
    let ada = world.client("ada");
    world.say(ada, &Watch::default());
    world.got(ada);
    let mut random = fastrand::Rng::with_seed(1);
    let mut arrivals = 0;
    for number in 0..400 {
        let (name, station) = (format!("n{number}"), "s".repeat(random.usize(0..257)));
        world.client_with(&Hello::new(Profile { station: Some(&station), ..Profile::named(&name) }));
        if random.u8(0..20) == 0 {
            world.end_turn();
            for got in world.got(ada) {
                let Got::Delta { changes, .. } = got else { panic!("{got:?}") };
                arrivals += changes.len();
            }
            assert_eq!(arrivals, number + 1);
        }
    }
}
