//! Messages of the handshake that come in part, or with others behind them in the same record: during it, when the library keeps
//! where they lie in the memory that it is shown, and has to be shown the same memory again; and behind it.

use std::time::Duration;

use switchboard::reactor::{CloseReason, ConnId, Limits, PeerAddr, TlsFault};

use crate::forger::{DATA, Forger, HANDSHAKE, KEY_UPDATE};
use crate::support::{Bench, Peer, Told, closed, message, small};
use crate::tls::{Client, LISTENER, bench, send, shake_hands};
use crate::tls_support::Keys;

#[test]
fn a_message_behind_one_that_breaks_the_rules_is_not_looked_for_in_vain() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut hello = Client::new(keys.connect(), peer.clone()).outgoing();
    // Another message in the same record, where none may be.
    hello.extend_from_slice(&[0; 4]);
    let length = u16::try_from(hello.len() - 5).expect("a short record");
    hello[3..5].copy_from_slice(&length.to_be_bytes());
    peer.send(&hello);
    bench.settle();
    assert_eq!(bench.service.of(conn), []);
    let counters = bench.engine.counters();
    assert_eq!(counters.tls_faults[TlsFault::Broken as usize], 1, "{:?}", counters.tls_faults);
    assert_eq!(peer.output().first(), Some(&21), "an alert");
}

#[test]
fn a_message_in_a_thousand_pieces_is_not_kept_for_ever() {
    let keys = Keys::new();
    let mut bench = bench(Limits { handshake_bytes_max: 5000, ..small() }, &keys);
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let piece = |bytes: &[u8]| [&[HANDSHAKE, 3, 1, 0, bytes.len() as u8][..], bytes].concat();
    peer.send(&piece(&[1, 0, 0x40, 0]));
    for _ in 0..1500 {
        peer.send(&piece(&[0]));
        bench.settle();
        assert!(bench.io().buffered_total_bytes() < 12_000);
    }
    assert_eq!(bench.engine.counters().tls_faults[TlsFault::Broken as usize], 1);
    assert_eq!(bench.service.of(conn), []);
}

/// A connection on which TLS has been agreed on, and its client's sending half.
fn forged(bench: &mut Bench, keys: &Keys) -> (ConnId, Peer, Forger) {
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer.clone());
    shake_hands(bench, &mut client);
    assert_eq!(bench.service.of(conn), [Told::Open]);
    (conn, peer, Forger::of_client(client.tls))
}

#[test]
fn what_is_sent_while_a_message_of_the_handshake_has_come_in_part_arrives() {
    let keys = Keys::new();
    for cut in 1..KEY_UPDATE.len() {
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys);
        let before = peer.output().len();
        peer.send(&forger.record(HANDSHAKE, &KEY_UPDATE[..cut]));
        bench.settle();
        send(&mut bench, conn, &message(100, 1)).expect("room");
        bench.settle();
        assert!(peer.output().len() > before + 100, "it was sent");
        peer.send(&forger.record(HANDSHAKE, &KEY_UPDATE[cut..]));
        bench.settle();
        send(&mut bench, conn, &message(100, 2)).expect("room");
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::Open], "nobody was ended for that");
    }
}

#[test]
fn half_a_message_of_the_handshake_is_overdue_like_half_a_record() {
    let keys = Keys::new();
    for cut in 1..KEY_UPDATE.len() {
        let mut bench = bench(Limits { input_deadline: Duration::from_secs(5), ..small() }, &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys);
        peer.send(&forger.record(HANDSHAKE, &KEY_UPDATE[..cut]));
        bench.pass(Duration::from_secs(6));
        assert_eq!(bench.service.of(conn)[1..], [Told::Overdue, closed(CloseReason::InputOverdue)]);
    }
}

#[test]
fn a_message_of_the_handshake_that_is_said_in_small_pieces_has_the_time_of_one() {
    let keys = Keys::new();
    let mut bench = bench(Limits { input_deadline: Duration::from_secs(5), ..small() }, &keys);
    let (conn, peer, mut forger) = forged(&mut bench, &keys);
    for byte in &KEY_UPDATE[..4] {
        peer.send(&forger.record(HANDSHAKE, &[*byte]));
        bench.pass(Duration::from_secs(2));
    }
    assert_eq!(bench.service.of(conn)[1..], [Told::Overdue, closed(CloseReason::InputOverdue)]);
}

#[test]
fn whoever_is_closed_in_the_middle_of_such_a_message_is_told_that_nothing_follows() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer, mut forger) = forged(&mut bench, &keys);
    peer.send(&forger.record(HANDSHAKE, &KEY_UPDATE[..2]));
    bench.settle();
    let before = peer.output().len();
    bench.io().close(conn);
    bench.settle();
    assert!(peer.wire().shut && peer.output().len() > before);
    peer.end();
    bench.settle();
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::Finished)));
}

#[test]
fn data_within_such_a_message_ends_the_connection() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer, mut forger) = forged(&mut bench, &keys);
    let part = forger.record(HANDSHAKE, &KEY_UPDATE[..2]);
    peer.send(&[part, forger.record(DATA, &message(100, 1))].concat());
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Open, closed(CloseReason::TlsFailed)]);
}
