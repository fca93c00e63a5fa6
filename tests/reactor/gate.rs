//! Who gets in: by address, by a proxy's word, and not for ever without having been settled; and how much who is in may send.

use std::net::SocketAddr;
use std::time::Duration;

use switchboard::reactor::{
    Admitted, CloseReason, ConnId, Gate, Lane, Limits, Outgoing, PeerAddr, Progress, RateLimit, Refusal,
};

use crate::support::{Bench, Peer, Pipe, Script, Told, closed, message, small};
use crate::tls::{Client, LISTENER};
use crate::tls_support::Keys;

/// A listener without TLS.
const PLAIN: usize = 0;

fn from(text: &str) -> PeerAddr {
    text.parse::<SocketAddr>().expect("an address").into()
}

fn nets(text: &str) -> Vec<ipnet::IpNet> {
    vec![text.parse().expect("a network")]
}

/// Comes to a listener and is not let in; what it was told.
fn refused(bench: &mut Bench, listener: usize, from: PeerAddr) -> (Refusal, Vec<u8>) {
    let (peer, pipe) = Peer::new();
    let now = bench.now;
    let register = |_: &mut Pipe, _: ConnId| Ok(());
    let admitted = bench.engine.admit(&mut bench.service, pipe, from, listener, now, register).expect("a slot");
    let Admitted::Refused(why) = admitted else { panic!("it was let in") };
    (why, peer.output())
}

fn proxied(limits: Limits) -> Bench {
    let mut bench = Bench::new(limits, Script::messages());
    bench.io().set_gate(Gate { proxies: nets("10.0.0.0/8"), deny: nets("192.0.2.0/24"), ..Gate::default() });
    bench
}

#[test]
fn whoever_may_not_come_in_is_told_so_where_it_would_understand() {
    let keys = Keys::new();
    let mut bench = crate::tls::bench(small(), &keys);
    bench.service.refusal = b"no".to_vec();
    bench.io().set_gate(Gate { deny: nets("192.0.2.0/24"), ..Gate::default() });
    assert_eq!(refused(&mut bench, PLAIN, from("192.0.2.1:5")), (Refusal::Denied, b"no".to_vec()));
    assert_eq!(refused(&mut bench, LISTENER, from("192.0.2.1:5")), (Refusal::Denied, vec![]));
    assert_eq!(bench.engine.counters().refused(Refusal::Denied), 2);
    let (conn, _) = bench.admit(PLAIN, from("192.0.3.1:5"));
    assert_eq!(bench.service.of(conn), [Told::Open]);
}

#[test]
fn the_place_of_an_address_is_free_again_when_its_connection_has_ended() {
    let mut bench = Bench::new(Limits { connections_per_address_max: 2, ..small() }, Script::messages());
    let one = from("192.0.2.1:5");
    let (_, peer) = bench.admit(PLAIN, one);
    let (_, second) = bench.admit(PLAIN, one);
    for _ in 0..3 {
        assert_eq!(refused(&mut bench, PLAIN, one).0, Refusal::AddressConnections);
    }
    bench.admit(PLAIN, from("192.0.2.2:5"));
    peer.end();
    bench.settle();
    bench.admit(PLAIN, one);
    second.reset();
    bench.settle();
    bench.admit(PLAIN, one);
    assert_eq!(refused(&mut bench, PLAIN, one).0, Refusal::AddressConnections);
}

#[test]
fn a_proxy_says_for_whom_it_speaks_wherever_its_header_is_cut() {
    let header = b"PROXY TCP4 198.51.100.7 10.0.0.1 8080 9999\r\n";
    let stream = [&header[..], &message(50, 1)].concat();
    for cut in 0..stream.len() {
        let mut bench = proxied(small());
        let (conn, peer) = bench.admit(PLAIN, from("10.1.2.3:5"));
        assert_eq!(bench.service.of(conn), []);
        peer.send(&stream[..cut]);
        bench.settle();
        peer.send(&stream[cut..]);
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::Open, Told::Message(message(50, 1))], "cut at {cut}");
        assert_eq!(bench.io().peer(conn), Some(from("198.51.100.7:8080")));
    }
}

#[test]
fn behind_the_header_of_a_proxy_there_may_be_tls() {
    let keys = Keys::new();
    let mut bench = crate::tls::bench(small(), &keys);
    bench.io().set_gate(Gate { proxies: nets("10.0.0.0/8"), ..Gate::default() });
    let (conn, peer) = bench.admit(LISTENER, from("10.1.2.3:5"));
    let mut client = Client::new(keys.connect(), peer);
    let first = [&b"PROXY TCP4 198.51.100.7 10.0.0.1 8080 9999\r\n"[..], &client.outgoing()].concat();
    client.peer.send(&first);
    bench.settle();
    client.take();
    client.send();
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Open]);
    assert_eq!(bench.io().peer(conn), Some(from("198.51.100.7:8080")));
}

#[test]
fn nobody_else_is_believed_to_be_a_proxy_and_a_proxy_must_say_something() {
    let mut bench = proxied(small());
    let (stranger, peer) = bench.admit(PLAIN, from("198.51.100.9:5"));
    peer.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 9999\r\n");
    bench.settle();
    let told = [Told::Open, closed(CloseReason::InputTooLarge)];
    assert_eq!(bench.service.of(stranger), told, "to the service it is the beginning of a message like any other");

    let (silent, peer) = bench.admit(PLAIN, from("10.1.2.3:5"));
    peer.send(&message(50, 1));
    bench.settle();
    assert_eq!(bench.service.of(silent), []);
    assert_eq!(bench.engine.counters().closed[CloseReason::BadProxyHeader as usize], 1);
}

#[test]
fn whoever_a_proxy_speaks_for_is_held_to_the_limits_of_its_own_address() {
    let mut bench = proxied(Limits { connections_per_address_max: 1, ..small() });
    bench.service.refusal = b"no".to_vec();
    let mut come = |address: &str| {
        let (conn, peer) = bench.admit(PLAIN, from("10.1.2.3:5"));
        peer.send(format!("PROXY TCP4 {address} 10.0.0.1 8080 9999\r\n").as_bytes());
        bench.settle();
        (bench.service.of(conn), peer.output())
    };
    assert_eq!(come("198.51.100.7"), (vec![Told::Open], vec![]));
    assert_eq!(come("198.51.100.8"), (vec![Told::Open], vec![]));
    assert_eq!(come("198.51.100.7"), (vec![], b"no".to_vec()));
    assert_eq!(come("192.0.2.7"), (vec![], b"no".to_vec()));
    let counters = bench.engine.counters();
    assert_eq!((counters.refused(Refusal::AddressConnections), counters.refused(Refusal::Denied)), (1, 1));
    assert_eq!(counters.closed[CloseReason::Refused as usize], 2);
}

#[test]
fn of_too_many_who_were_not_settled_the_oldest_goes_and_the_settled_stay() {
    let keys = Keys::new();
    let mut bench = crate::tls::bench(Limits { newcomers_max: 3, ..small() }, &keys);
    let (settled, _) = bench.admit(PLAIN, PeerAddr::UNIX);
    bench.io().settle(settled);
    let come = |bench: &mut Bench, listener| {
        let (conn, _) = bench.admit(listener, PeerAddr::UNIX);
        bench.settle();
        conn
    };
    let (oldest, entering) = (come(&mut bench, PLAIN), come(&mut bench, LISTENER));
    let others = [come(&mut bench, PLAIN), come(&mut bench, PLAIN)];
    bench.settle();
    assert_eq!(bench.service.of(oldest), [Told::Open, closed(CloseReason::CrowdedOut)]);
    come(&mut bench, PLAIN);
    bench.settle();
    assert_eq!(bench.service.of(entering), [], "the service has never heard of it");
    assert_eq!(bench.engine.counters().closed[CloseReason::CrowdedOut as usize], 2);
    for conn in others.into_iter().chain([settled]) {
        assert_eq!(bench.service.of(conn), [Told::Open]);
    }
}

#[test]
fn one_address_does_not_take_the_places_of_all_who_are_new() {
    let limits = Limits { newcomers_max: 10, newcomers_per_address_max: 2, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let one = from("192.0.2.1:5");
    let (first, _) = bench.admit(PLAIN, one);
    let (_, second) = bench.admit(PLAIN, one);
    assert_eq!(refused(&mut bench, PLAIN, one).0, Refusal::AddressNewcomers);
    bench.admit(PLAIN, from("192.0.2.2:5"));
    assert_eq!(bench.engine.counters().refused(Refusal::AddressNewcomers), 1);
    // Who is settled takes none of them, nor does who has gone; both once.
    bench.io().settle(first);
    bench.io().settle(first);
    bench.admit(PLAIN, one);
    assert_eq!(refused(&mut bench, PLAIN, one).0, Refusal::AddressNewcomers);
    second.reset();
    bench.settle();
    bench.admit(PLAIN, one);
    assert_eq!(refused(&mut bench, PLAIN, one).0, Refusal::AddressNewcomers);
}

#[test]
fn who_is_half_in_is_not_crowded_out_by_the_silent_and_has_a_grace_before_others_like_it() {
    let keys = Keys::new();
    let grace = Duration::from_secs(2);
    let mut bench = crate::tls::bench(Limits { newcomers_max: 2, newcomer_grace: grace, ..small() }, &keys);
    let half_in = |bench: &mut Bench| {
        let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut client = Client::new(keys.connect(), peer);
        client.send();
        bench.settle();
        assert!(!client.peer.output().is_empty(), "it was answered");
        (conn, client)
    };
    let (first, mut client) = half_in(&mut bench);
    let (silent, _) = bench.admit(PLAIN, PeerAddr::UNIX);
    // What it has sent may not have been read.
    assert_eq!(bench.engine.accept_pause(bench.now), Some(Duration::ZERO));
    bench.settle();
    assert_eq!(bench.engine.accept_pause(bench.now), None);
    let (second, _) = half_in(&mut bench);
    assert_eq!(bench.service.end_of(silent), Some(closed(CloseReason::CrowdedOut)), "though it came later");
    // Nobody is accepted in whose place one of these would have to go.
    assert!(bench.engine.accept_pause(bench.now).is_some());
    bench.pass(grace / 2);
    assert!(bench.engine.accept_pause(bench.now).is_some());
    bench.pass(grace);
    assert_eq!(bench.engine.accept_pause(bench.now), None);
    let crowded_out = |bench: &Bench| bench.engine.counters().closed[CloseReason::CrowdedOut as usize];
    assert_eq!(crowded_out(&bench), 1);
    bench.admit(PLAIN, PeerAddr::UNIX);
    bench.settle();
    assert_eq!(crowded_out(&bench), 2);
    assert!(bench.service.of(first).is_empty() && bench.service.of(second).is_empty());
    client.take();
    client.send();
    bench.settle();
    assert!(bench.service.of(first).is_empty(), "it was the older one that had to go");
}

#[test]
fn half_said_handshakes_do_not_take_the_places_of_whole_ones() {
    let keys = Keys::new();
    let limits = Limits { handshakes_turn_max: 2, handshakes_waiting_max: 4, ..small() };
    let mut bench = crate::tls::bench(limits, &keys);
    for _ in 0..8 {
        let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        peer.send(&[22, 3, 1]);
    }
    let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer);
    client.send();
    bench.turn();
    assert!(!client.peer.output().is_empty(), "it need not wait behind those who dribble");
    assert!(bench.engine.may_enter(LISTENER));
}

#[test]
fn whoever_is_not_in_yet_does_not_keep_a_service_that_ends() {
    let keys = Keys::new();
    let mut bench = crate::tls::bench(small(), &keys);
    let (_, entering) = bench.admit(LISTENER, PeerAddr::UNIX);
    let (open, _) = bench.admit(PLAIN, PeerAddr::UNIX);
    bench.settle();
    bench.io().stop_listening();
    bench.settle();
    assert!(entering.wire().closed, "nothing could be told it");
    assert_eq!(bench.service.of(open), [Told::Open]);
    assert_eq!(bench.io().len(), 1);
}

#[test]
fn whoever_is_on_its_way_out_does_not_have_others_crowded_out() {
    let mut bench = Bench::new(Limits { newcomers_max: 2, ..small() }, Script::messages());
    let leaving = [bench.admit(PLAIN, PeerAddr::UNIX), bench.admit(PLAIN, PeerAddr::UNIX)];
    for (conn, peer) in &leaving {
        peer.take(0);
        bench.io().send(*conn, &mut Outgoing::to_one(&message(50, 1)), Lane::Traffic).expect("room");
        bench.io().close(*conn);
    }
    bench.settle();
    for _ in 0..2 {
        let (conn, _) = bench.admit(PLAIN, PeerAddr::UNIX);
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::Open], "it stays, although those before it do not read");
    }
}

#[test]
fn whoever_is_kept_waiting_for_what_it_has_sent_is_not_taken_for_silent() {
    let rate = RateLimit { bytes_per_second_max: Some(100), ..RateLimit::default() };
    let mut bench = Bench::new(Limits { rate, ..small() }, Script::messages());
    let (conn, _) = bench.open();
    assert!(!bench.io().spend(conn, 1, 1100));
    assert!(bench.io().is_receiving(conn));
    bench.pass(Duration::from_secs(9));
    assert!(bench.io().is_receiving(conn), "it has sent what it may in eleven seconds");
    bench.pass(Duration::from_secs(2));
    assert!(!bench.io().is_receiving(conn));
}

#[test]
fn whoever_sends_more_than_it_may_waits_and_loses_nothing() {
    let rate = RateLimit { messages_per_second_max: Some(10), ..RateLimit::default() };
    let mut bench = Bench::new(Limits { rate, ..small() }, Script::messages());
    bench.service.data = Box::new(|io, conn, data, told| {
        let mut consumed = 0;
        while consumed < data.len() && io.is_reading(conn) {
            told.push((conn, Told::Message(data[consumed..consumed + 20].to_vec())));
            consumed += 20;
            assert!(!io.spend(conn, 1, 20), "it is not to be closed");
        }
        Progress { consumed, wanted: 0 }
    });
    let (busy, peer) = bench.open();
    let (calm, other) = bench.open();
    let sent: Vec<_> = (0..40).map(|number| message(20, number)).collect();
    peer.send(&sent.concat());
    other.send(&message(20, 1));
    bench.settle();
    let count = |bench: &Bench| bench.service.messages_of(busy).len();
    assert_eq!(count(&bench), 11, "a second's worth at once, and the one that was too much");
    assert_eq!(bench.service.messages_of(calm).len(), 1);
    bench.pass(Duration::from_secs(1));
    assert!((20..=22).contains(&count(&bench)), "{}", count(&bench));
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.service.messages_of(busy), sent);
    assert!(bench.engine.counters().rate_exceeded > 0);
    // Rested, it may send a second's worth again.
    bench.pass(Duration::from_secs(5));
    peer.send(&sent[..10].concat());
    bench.settle();
    assert_eq!(count(&bench), 50);
}

#[test]
fn a_slot_s_next_user_does_not_inherit_what_the_last_one_has_sent() {
    let rate = RateLimit { bytes_per_second_max: Some(100), closes: true, ..RateLimit::default() };
    let mut bench = Bench::new(Limits { rate, ..small() }, Script::messages());
    let (first, peer) = bench.open();
    assert!(bench.io().spend(first, 1, 1000), "it is to be closed");
    peer.reset();
    bench.settle();
    let (next, _) = bench.open();
    assert_eq!(next.index(), first.index());
    assert!(!bench.io().spend(next, 1, 100));
    assert!(bench.io().spend(next, 1, 1));
}
