//! How a connection ends: what waits is written, the peer is told and waited for, and the service hears of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{CloseReason, Lane, Limits, Outgoing, SendError};

use crate::support::{Bench, Script, Told, closed, message, small};
use crate::writing::{open_with_room, send};

#[test]
fn closing_writes_what_waits_and_tells_the_peer_and_waits_for_it() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 100);
    send(&mut bench, conn, &message(1000, 1)).expect("room");
    bench.io().close(conn);
    assert_eq!(send(&mut bench, conn, &message(2, 2)), Err(SendError::Gone));
    bench.settle();
    assert!(bench.service.end_of(conn).is_none() && !peer.wire().shut, "it is still writing");
    // What the peer sends meanwhile is nobody's business.
    peer.send(&message(100, 3));
    peer.take(usize::MAX);
    bench.settle();
    assert_eq!(bench.service.of(conn), [closed(CloseReason::Finished)]);
    assert!(peer.wire().shut && !peer.wire().closed, "it lingers");
    peer.send(&[0; 5000]);
    bench.settle();
    assert!(!peer.wire().closed);
    peer.end();
    bench.settle();
    assert!(peer.wire().closed);
    assert_eq!(bench.service.of(conn).len(), 1);
    assert_eq!(peer.output(), message(1000, 1));
}

#[test]
fn a_peer_that_neither_ends_nor_stops_sending_lingers_only_for_its_time() {
    let mut bench = Bench::new(Limits { linger: Duration::from_secs(2), ..small() }, Script::messages());
    let (silent, silent_peer) = bench.open();
    let (noisy, noisy_peer) = bench.open();
    for conn in [silent, noisy] {
        bench.io().close(conn);
    }
    for _ in 0..19 {
        bench.pass(Duration::from_millis(100));
        noisy_peer.send(&[0; 3000]);
        assert!(!silent_peer.wire().closed && !noisy_peer.wire().closed);
    }
    bench.pass(Duration::from_millis(200));
    assert!(silent_peer.wire().closed && noisy_peer.wire().closed);
    assert!(bench.io().is_empty());
}

#[test]
fn who_was_paused_when_it_was_closed_lingers_like_others() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    bench.io().pause(conn);
    bench.io().close(conn);
    bench.settle();
    peer.send(&[0; 100]);
    bench.settle();
    peer.end();
    bench.settle();
    assert!(peer.wire().closed, "its end is seen without waiting for a deadline");
}

#[test]
fn only_so_many_linger() {
    let mut bench = Bench::new(Limits { lingering_max: 3, ..small() }, Script::messages());
    let peers: Vec<_> = (0..5).map(|_| bench.open()).collect();
    for (conn, _) in &peers {
        bench.io().close(*conn);
    }
    bench.settle();
    assert_eq!(peers.iter().filter(|(_, peer)| peer.wire().closed).count(), 2);
    assert!(
        peers.iter().all(|(conn, peer)| peer.wire().shut && bench.service.of(*conn) == [closed(CloseReason::Finished)])
    );
}

#[test]
fn what_a_socket_took_before_it_failed_is_written_and_only_the_rest_comes_back() {
    let mut bench = Bench::new(Limits { write_through_bytes_min: 64, ..small() }, Script::messages());
    let (conn, peer) = bench.open();
    bench.settle();
    // The second of four has begun when the peer is gone.
    peer.wire().breaks_after = 130;
    let messages: Vec<_> = (1..=4).map(|filling| message(100, filling)).collect();
    send(&mut bench, conn, &messages.concat()).expect("it had begun when it failed");
    assert_eq!(send(&mut bench, conn, &message(100, 5)), Err(SendError::Gone), "this one had not");
    assert_eq!(bench.io().written_bytes(conn), 130);
    bench.settle();
    let whole = messages[2..].concat();
    assert_eq!(
        bench.service.of(conn),
        [Told::Close { reason: CloseReason::Reset, cut: messages[1][..32].to_vec(), whole }]
    );
    assert!(bench.io().is_empty() && bench.io().buffered_total_bytes() == 0);
}

#[test]
fn a_reset_while_output_waits_hands_it_back() {
    for closing in [false, true] {
        for paused in [false, true] {
            let mut bench = Bench::new(small(), Script::messages());
            let (conn, peer) = open_with_room(&mut bench, 10);
            send(&mut bench, conn, &[message(20, 1), message(30, 2)].concat()).expect("room");
            if paused {
                bench.io().pause(conn);
            }
            if closing {
                bench.io().close(conn);
            }
            bench.settle();
            peer.reset();
            bench.settle();
            let end = Told::Close { reason: CloseReason::Reset, cut: message(20, 1), whole: message(30, 2) };
            assert_eq!(bench.service.of(conn), [end]);
            assert!(bench.io().is_empty() && bench.io().buffered_total_bytes() == 0);
        }
    }
}

#[test]
fn a_reset_while_lingering_is_just_the_end() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    bench.io().close(conn);
    bench.settle();
    peer.reset();
    bench.settle();
    assert_eq!(bench.service.of(conn), [closed(CloseReason::Finished)]);
    assert!(peer.wire().closed);
}

#[test]
fn a_half_close_while_output_waits_loses_none_of_it() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 10);
    send(&mut bench, conn, &message(5000, 1)).expect("room");
    peer.end();
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::End]);
    peer.take(usize::MAX);
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::End, closed(CloseReason::Finished)]);
    assert_eq!(peer.output(), message(5000, 1));
    assert!(peer.wire().closed, "both sides have ended: nothing to linger for");
}

#[test]
fn what_a_service_sends_when_it_hears_of_a_write_is_written_before_it_closes() {
    let mut service = Script::messages();
    service.written = Some(Box::new(|io, conn| {
        io.send(conn, &mut Outgoing::to_one(&message(100, 2)), Lane::Traffic).expect("room");
        io.close(conn);
    }));
    let mut bench = Bench::new(small(), service);
    let (conn, peer) = bench.open();
    bench.io().set_notify(conn, true);
    send(&mut bench, conn, &message(100, 1)).expect("room");
    bench.turn();
    bench.service.written = None;
    bench.settle();
    assert_eq!(peer.output(), [message(100, 1), message(100, 2)].concat());
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::Finished)));
}

#[test]
fn a_service_hears_of_each_write_with_the_bytes_so_far() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 150);
    bench.io().set_notify(conn, true);
    send(&mut bench, conn, &message(200, 1)).expect("room");
    bench.settle();
    peer.take(1000);
    bench.settle();
    peer.take(usize::MAX);
    bench.settle();
    send(&mut bench, conn, &message(3000, 1)).expect("written through");
    bench.settle();
    bench.io().set_notify(conn, false);
    send(&mut bench, conn, &message(3, 1)).expect("room");
    bench.settle();
    assert_eq!(bench.service.of(conn), [150, 200, 3200].map(Told::Written));
}

#[test]
fn a_service_may_do_to_a_connection_what_it_likes_when_that_one_ends() {
    let mut service = Script::messages();
    service.close = Some(Box::new(|io, conn| {
        assert_eq!(io.send(conn, &mut Outgoing::to_one(b"x"), Lane::Control), Err(SendError::Gone));
        io.pause(conn);
        io.resume(conn);
        io.close(conn);
        io.abort(conn, CloseReason::Aborted);
    }));
    let mut bench = Bench::new(small(), service);
    for end in [
        |bench: &mut Bench, conn| bench.io().close(conn),
        |bench: &mut Bench, conn| bench.io().abort(conn, CloseReason::Aborted),
    ] {
        let (conn, peer) = bench.open();
        send(&mut bench, conn, &message(10, 1)).expect("room");
        end(&mut bench, conn);
        bench.settle();
        assert!(bench.service.end_of(conn).is_some() && peer.wire().closed);
        assert!(bench.io().is_empty());
    }
}

#[test]
fn a_connection_s_end_may_end_others() {
    let mut bench = Bench::new(small(), Script::messages());
    let peers: Vec<_> = (0..20).map(|_| bench.open()).collect();
    let order: Rc<Cell<usize>> = Rc::default();
    let conns: Vec<_> = peers.iter().map(|(conn, _)| *conn).collect();
    bench.service.close = Some(Box::new(move |io, _| {
        order.set(order.get() + 1);
        if let Some(next) = conns.get(order.get()) {
            io.abort(*next, CloseReason::Aborted);
        }
    }));
    bench.io().abort(peers[0].0, CloseReason::Aborted);
    bench.settle();
    assert!(bench.io().is_empty());
    assert!(peers.iter().all(|(conn, peer)| bench.service.end_of(*conn).is_some() && peer.wire().closed));
}
