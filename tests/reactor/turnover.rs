//! Some leave while others come: who waits for whom.

use std::time::Duration;

use switchboard::reactor::{Lane, Limits, Outgoing};

use crate::sockets::{Live, WATCHDOG, connect};
use crate::support::{Bench, Script, Told, message, small};

#[test]
fn who_comes_is_taken_in_although_somebody_leaves_in_every_turn() {
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    let leaving: Vec<_> = (0..50).map(|_| live.connect(address).1).collect();
    let accepted = |live: &mut Live| live.reactor.connections().counters().accepted;
    let mut coming = Vec::new();
    for stream in leaving {
        coming.push(connect(address));
        drop(stream);
        live.turn(WATCHDOG);
    }
    // Whoever came in the last turn may wait for the next.
    assert!(accepted(&mut live) >= 50 + 49, "{} of 50 were taken in", accepted(&mut live) - 50);
}

#[test]
fn whoever_leaves_makes_room_for_who_comes_in_the_same_moment() {
    let mut live = Live::echo(Limits { connections_max: 10, ..Limits::default() });
    let address = live.listen();
    let mut clients: Vec<_> = (0..10).map(|_| live.connect(address).1).collect();
    for _ in 0..20 {
        drop(clients.remove(0));
        clients.push(connect(address));
        live.until("the next is in", |live| live.reactor.connections().len() == 10);
        let last = clients.last_mut().expect("it has just come");
        live.ask(last, b"hello");
    }
    assert_eq!(live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Connections), 0);
}

#[test]
fn when_more_leave_than_a_turn_deals_with_nobody_is_taken_in_before_the_last_has_left() {
    let mut live = Live::echo(Limits { connections_max: 30, endings_turn_max: 4, ..Limits::default() });
    let address = live.listen();
    let clients: Vec<_> = (0..30).map(|_| live.connect(address).1).collect();
    drop(clients);
    let mut back: Vec<_> = (0..30).map(|_| connect(address)).collect();
    live.until("all are back", |live| live.reactor.connections().counters().accepted == 60);
    assert_eq!(live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Connections), 0);
    for client in &mut back {
        live.ask(client, b"hello");
    }
}

#[test]
fn when_many_leave_at_once_those_who_stay_are_served_in_every_turn() {
    let mut bench = Bench::new(Limits { endings_turn_max: 3, ..small() }, Script::messages());
    let leaving: Vec<_> = (0..12).map(|_| bench.open()).collect();
    let (stays, peer) = bench.open();
    bench.settle();
    for (_, leaving) in &leaving {
        leaving.send(&message(10, 2));
        leaving.end();
    }
    for turn in 1..=4 {
        peer.send(&message(10, 1));
        bench.turn();
        assert_eq!(bench.service.messages_of(stays).len(), turn);
        let ended = bench.service.told.iter().filter(|(_, told)| *told == Told::End).count();
        assert_eq!(ended, 3 * turn, "some in each turn");
    }
    for (conn, _) in leaving {
        assert_eq!(bench.service.messages_of(conn), [message(10, 2)], "their last words are heard");
    }
}

#[test]
fn those_who_have_ended_and_still_read_keep_nobody_out() {
    let mut bench = Bench::new(Limits { endings_turn_max: 2, ..small() }, Script::messages());
    let leaving: Vec<_> = (0..12).map(|_| bench.open()).collect();
    bench.settle();
    for (conn, peer) in &leaving {
        peer.take(0);
        bench.io().send(*conn, &mut Outgoing::to_one(&message(5000, 1)), Lane::Traffic).expect("room");
        peer.end();
    }
    bench.settle();
    for taken in 1..=100 {
        for (_, peer) in &leaving {
            // Every event of such a connection says again that it has ended.
            peer.take(1);
            peer.end();
        }
        bench.turn();
        assert!(bench.engine.may_admit(), "there is nothing to be read from them");
        assert!(leaving.iter().all(|(_, peer)| peer.output().len() == taken));
    }
    for (_, peer) in &leaving {
        peer.take(usize::MAX);
    }
    bench.settle();
    assert!(leaving.iter().all(|(_, peer)| peer.output() == message(5000, 1) && peer.wire().closed));
}

#[test]
fn when_many_deadlines_come_at_once_everybody_is_served_between_them() {
    let mut bench = Bench::new(Limits { expiries_turn_max: 3, ..small() }, Script::messages());
    let waiting: Vec<_> = (0..12).map(|_| bench.open()).collect();
    let (stays, peer) = bench.open();
    bench.settle();
    let at = bench.now + Duration::from_secs(1);
    for (conn, _) in &waiting {
        bench.io().set_deadline(*conn, Some(at));
        // One that has been put off is no deadline.
        bench.io().set_deadline(stays, Some(at));
        bench.io().set_deadline(stays, None);
    }
    bench.now = at + Duration::from_secs(1);
    for turn in 1..=4 {
        assert!(turn == 1 || bench.engine.has_work(), "the next turn does not wait for an event");
        peer.send(&message(10, 1));
        bench.turn();
        assert_eq!(bench.service.messages_of(stays).len(), turn);
        let came = bench.service.told.iter().filter(|(_, told)| *told == Told::Deadline).count();
        assert_eq!(came, 3 * turn, "some in each turn");
    }
    bench.settle();
    assert!(waiting.iter().all(|(conn, _)| bench.service.of(*conn).contains(&Told::Deadline)));
    assert!(!bench.service.of(stays).contains(&Told::Deadline));
}
