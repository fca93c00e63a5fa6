//! A user who connects again under a name that its own other connection has.

use std::time::Duration;

use switchboard::relay::{Settings, Takeover};
use switchboard::wire::control::{Hello, Pong, Profile, Watch};
use switchboard::wire::{Code, Flags, Id};

use super::frames::{Change, Got, frame_of, send};
use super::people::{by_token, token, users};
use super::world::World;

const PROBE: Duration = Duration::from_secs(3);

fn world(takeover: Takeover) -> World {
    World::with_users(Settings { takeover, ..Settings::default() }, users(&["ada", "bob names=*"]))
}

/// A connection that has said HELLO as ada under its own name.
fn comes_again(world: &mut World) -> Id {
    let id = world.connect();
    world.ask(id, 5, &by_token("ada", &token("ada")));
    id
}

#[test]
fn the_new_connection_replaces_the_old_one_which_departs_first() {
    let mut world = world(Takeover::Replace);
    let bob = world.user("bob");
    world.say(bob, &Watch::default());
    let old = world.user("ada");
    world.end_turn();
    world.got(bob);
    let new = comes_again(&mut world);
    assert_eq!(world.got(old), [Got::error(0, Code::TakenOver, None)]);
    assert!(!world.is_here(old));
    assert_eq!(world.welcomed(new), Some(("ada".to_owned(), None)));
    world.end_turn();
    let got = world.got(bob);
    let [Got::Delta { changes, .. }] = &got[..] else { panic!("{got:?}") };
    assert!(
        matches!(&changes[..], [Change::Departed(id, Code::TakenOver), Change::Arrived(seen)] if *id == old && seen.id == new),
        "{changes:?}"
    );
    assert_eq!((world.closed(Code::TakenOver), world.relay.clients()), (1, 2));
    world.send(bob, &send(4, new, b"hello"));
    assert_eq!(world.got(new).len(), 1);
}

#[test]
fn another_users_name_and_a_name_at_a_relay_without_users_are_never_taken_over() {
    for takeover in [Takeover::Replace, Takeover::Reject] {
        let mut world = world(takeover);
        let bob = world.user_as("bob", "ada");
        let ada = comes_again(&mut world);
        assert_eq!(world.got(ada), [Got::error(5, Code::HelloNameTaken, None)]);
        assert_eq!((world.got(bob), world.is_closed(bob)), (vec![], false));

        let mut world = World::new(Settings { takeover, ..Settings::default() });
        let first = world.client("ada");
        let second = world.connect();
        world.ask(second, 5, &Hello::new(Profile::named("ada")));
        assert_eq!(world.got(second), [Got::error(5, Code::HelloNameTaken, None)]);
        assert!(!world.is_closed(first));
    }
}

#[test]
fn an_old_connection_that_shows_life_keeps_its_name() {
    let frames: [fn(Id) -> Vec<u8>; 2] =
        [|_| frame_of(0, Flags::NONE, &Pong::default()), |id| send(1, id, b"any frame will do")];
    for life in frames {
        let mut world = world(Takeover::Reject);
        let old = world.user("ada");
        world.pass(Duration::from_secs(1));
        let new = comes_again(&mut world);
        assert!(matches!(world.got(old)[..], [Got::Ping { .. }]), "it is asked for a sign of life");
        assert_eq!(world.got(new), [], "and the new one waits");
        world.pass(Duration::from_millis(500));
        world.send(old, &life(old));
        world.drain(old);
        world.pass(Duration::from_millis(100));
        assert_eq!(world.got(new), [Got::error(5, Code::HelloNameTaken, None)], "at once, and not when time is up");
        world.seen(old);
        world.pass(Duration::from_secs(20));
        assert!(!world.is_closed(old));
        assert_eq!((world.relay.clients(), world.closed(Code::HelloNameTaken)), (1, 1));
    }
}

#[test]
fn whoever_is_in_the_midst_of_a_frame_and_cannot_answer_keeps_its_name() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    let new = comes_again(&mut world);
    world.net.wire(old).receiving = true;
    world.pass(PROBE);
    assert_eq!(world.got(new), [Got::error(5, Code::HelloNameTaken, None)]);
    assert!(!world.is_closed(old));
}

#[test]
fn a_ghost_gives_way_when_its_time_is_up() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    let new = comes_again(&mut world);
    assert!(matches!(world.got(old)[..], [Got::Ping { .. }]));
    world.pass(PROBE.saturating_sub(Duration::from_millis(1)));
    assert_eq!((world.got(new), world.is_closed(old)), (vec![], false));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.got(old), [Got::error(0, Code::IdleTimeout, None)]);
    assert_eq!(world.welcomed(new), Some(("ada".to_owned(), None)));
    assert_eq!((world.closed(Code::IdleTimeout), world.relay.clients()), (1, 1));
}

#[test]
fn a_ghost_for_which_bytes_wait_gives_way_too() {
    let mut world = world(Takeover::Reject);
    let [bob, old] = [world.user("bob"), world.user("ada")];
    world.send(bob, &send(4, old, &[0; 100]));
    let new = comes_again(&mut world);
    // Its own deadline comes meanwhile, and does not ask whom it cannot reach.
    world.pass(PROBE);
    assert!(world.is_closed(old));
    assert_eq!(world.welcomed(new), Some(("ada".to_owned(), None)));
}

#[test]
fn a_name_is_had_at_once_when_its_holder_goes_meanwhile() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    let new = comes_again(&mut world);
    world.pass(Duration::from_secs(1));
    world.lose(old);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.welcomed(new), Some(("ada".to_owned(), None)));
}

#[test]
fn of_several_that_wait_for_a_name_one_gets_it() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    let waiting: Vec<Id> = (0..3).map(|_| comes_again(&mut world)).collect();
    assert!(matches!(world.got(old)[..], [Got::Ping { .. }]), "one PING is enough");
    world.pass(PROBE + Duration::from_secs(1));
    let mut welcomed = 0;
    for id in waiting {
        let is_closed = world.is_closed(id);
        match &world.got(id)[..] {
            [Got::Welcome { .. }] if !is_closed => welcomed += 1,
            [Got::Error { code: Code::HelloNameTaken, .. }] => assert!(is_closed),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((welcomed, world.relay.clients()), (1, 1));
}

#[test]
fn whoever_waits_for_a_name_and_goes_is_forgotten() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    let new = comes_again(&mut world);
    world.lose(new);
    world.got(old);
    world.pass(PROBE * 2);
    assert!(!world.is_closed(old), "nobody wants its name any more, and its keepalive is longer");
}

#[test]
fn an_old_connection_that_may_not_be_here_any_more_is_not_asked() {
    let mut world = world(Takeover::Reject);
    let old = world.user("ada");
    world.relay.set_users(Some(Box::new(users(&["bob names=*"]))), world.now, &mut world.net);
    let bob = world.user_as("bob", "ada");
    assert_eq!(world.got(old), [Got::error(0, Code::AccessChanged, None)], "by the new list, though not looked up yet");
    assert!(!world.is_closed(bob));
}
