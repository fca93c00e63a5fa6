//! TLS between sockets and service: the same promises as without it, however the ciphertext is cut and held up.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use switchboard::reactor::{Admitted, CloseReason, ConnId, Lane, Limits, Outgoing, PeerAddr, Progress, SendError};

use crate::dice::Dice;
use crate::support::{Bench, Peer, Pipe, Script, Told, closed, message, message_bytes, small};
use crate::tls_support::{Keys, connect};

/// The listener on which TLS is spoken.
pub(crate) const LISTENER: usize = 1;

/// A client over TLS, at the far end of a transport that the test controls.
pub(crate) struct Client {
    pub(crate) tls: ClientConnection,
    pub(crate) peer: Peer,
    /// Bytes of the engine's output that it has seen.
    pub(crate) seen: usize,
    /// What it has been sent.
    pub(crate) got: Vec<u8>,
}

impl Client {
    pub(crate) fn new(tls: ClientConnection, peer: Peer) -> Self {
        Self { tls, peer, seen: 0, got: Vec::new() }
    }

    /// The ciphertext that it wants to send.
    pub(crate) fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    /// Sends what it has to send.
    pub(crate) fn send(&mut self) {
        let bytes = self.outgoing();
        self.peer.send(&bytes);
    }

    /// Takes what the engine has written since.
    pub(crate) fn take(&mut self) {
        let output = self.peer.output();
        let mut new = &output[self.seen..];
        self.seen = output.len();
        while !new.is_empty() {
            self.tls.read_tls(&mut new).expect("memory");
            self.tls.process_new_packets().expect("good records");
            let mut buffer = [0; 4096];
            loop {
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => self.got.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let mut rest = &self.got[..];
        let mut found = Vec::new();
        while rest.len() >= 2 && rest.len() >= message_bytes(rest) {
            let (message, more) = rest.split_at(message_bytes(rest));
            found.push(message.to_vec());
            rest = more;
        }
        found
    }
}

pub(crate) fn bench(limits: Limits, keys: &Keys) -> Bench {
    let mut bench = Bench::new(limits, Script::messages());
    bench.engine.set_tls(LISTENER, Some(Arc::new(keys.server())));
    bench
}

/// A connection on which TLS has been agreed on.
pub(crate) fn established(bench: &mut Bench, keys: &Keys) -> (ConnId, Client) {
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer);
    shake_hands(bench, &mut client);
    assert_eq!(bench.service.of(conn), [Told::Open]);
    (conn, client)
}

pub(crate) fn shake_hands(bench: &mut Bench, client: &mut Client) {
    while client.tls.is_handshaking() || client.tls.wants_write() {
        client.send();
        bench.settle();
        client.take();
    }
}

pub(crate) fn send(bench: &mut Bench, conn: ConnId, bytes: &[u8]) -> Result<(), SendError> {
    bench.io().send(conn, &mut Outgoing::to_one(bytes), Lane::Traffic)
}

#[test]
fn the_service_hears_of_nobody_before_tls_is_agreed_on_and_then_of_what_came_with_it() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer);
    let hello = client.outgoing();
    let (last, first) = hello.split_last().expect("it speaks first");
    client.peer.send(first);
    bench.settle();
    assert_eq!(bench.service.of(conn), []);
    client.peer.send(&[*last]);
    bench.settle();
    client.take();
    assert_eq!(bench.service.of(conn), []);
    // The end of the handshake and the first message in one piece.
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    client.send();
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Open, Told::Message(message(100, 1))]);
    assert_eq!(bench.engine.counters().handshakes, 1);
    assert_eq!(bench.engine.counters().accepted, 1);
}

#[test]
fn ciphertext_may_come_and_go_byte_by_byte() {
    let keys = Keys::new();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut bench = bench(small(), &keys);
        let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut client = Client::new(connect(keys.client(versions)), peer);
        client.peer.wire().write_max = 1;
        client.tls.writer().write_all(&[message(700, 1), message(2, 2), message(90, 3)].concat()).expect("memory");
        let mut answered = false;
        for _ in 0..20 {
            for byte in client.outgoing() {
                client.peer.send(&[byte]);
                bench.settle();
            }
            bench.settle();
            client.take();
            if !answered && bench.service.messages_of(conn).len() == 3 {
                answered = true;
                send(&mut bench, conn, &message(3000, 4)).expect("room");
                send(&mut bench, conn, &message(20, 5)).expect("room");
            }
        }
        assert_eq!(bench.service.messages_of(conn), [message(700, 1), message(2, 2), message(90, 3)]);
        assert_eq!(client.messages(), [message(3000, 4), message(20, 5)]);
    }
}

#[test]
fn many_records_in_one_read_and_one_message_in_many_records_are_the_same() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    let mut sent = Vec::new();
    for round in 0..40_u8 {
        // A record each, all of which lie in the socket at once.
        client.tls.writer().write_all(&message(50 + usize::from(round), round)).expect("memory");
        sent.push(message(50 + usize::from(round), round));
    }
    client.send();
    bench.settle();
    assert_eq!(bench.service.messages_of(conn), sent);

    let long = message(4000, 9);
    for piece in long.chunks(100) {
        client.tls.writer().write_all(piece).expect("memory");
    }
    client.send();
    bench.settle();
    assert_eq!(bench.service.messages_of(conn).last(), Some(&long));
}

#[test]
fn at_rest_it_keeps_no_buffer_and_what_it_keeps_in_between_is_counted() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    assert_eq!(bench.io().buffered_total_bytes(), 0);
    client.tls.writer().write_all(&message(1000, 1)).expect("memory");
    let record = client.outgoing();
    client.peer.send(&record[..900]);
    bench.settle();
    assert_eq!(bench.io().buffered_total_bytes(), 900);
    client.peer.send(&record[900..]);
    bench.settle();
    assert_eq!(bench.io().buffered_total_bytes(), 0);

    client.peer.take(100);
    send(&mut bench, conn, &message(3000, 2)).expect("room");
    bench.settle();
    let held = bench.io().buffered_total_bytes();
    assert!((6000..=9000).contains(&held), "the message in its queue, and sealed: {held}");
    client.peer.take(usize::MAX);
    bench.settle();
    client.take();
    assert_eq!(client.messages(), [message(3000, 2)]);
    assert_eq!(bench.io().buffered_total_bytes(), 0);
}

#[test]
fn a_record_that_never_ends_is_overdue_like_a_message_that_never_does() {
    let keys = Keys::new();
    let mut bench = bench(Limits { input_deadline: Duration::from_secs(5), ..small() }, &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    let record = client.outgoing();
    client.peer.send(&record[..20]);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.service.of(conn), [Told::Open]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.service.of(conn)[1..], [Told::Overdue, closed(CloseReason::InputOverdue)]);
}

#[test]
fn an_end_that_was_announced_is_one_and_any_other_is_a_reset() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (orderly, mut client) = established(&mut bench, &keys);
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    client.tls.send_close_notify();
    client.send();
    bench.settle();
    client.take();
    assert!(client.peer.wire().shut);
    client.peer.end();
    bench.settle();
    let told = [Told::Open, Told::Message(message(100, 1)), Told::End, closed(CloseReason::Finished)];
    assert_eq!(bench.service.of(orderly), told);

    let (cut_off, mut client) = established(&mut bench, &keys);
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    client.send();
    client.peer.end();
    bench.settle();
    let told = [Told::Open, Told::Message(message(100, 1)), closed(CloseReason::Reset)];
    assert_eq!(bench.service.of(cut_off), told);
}

#[test]
fn an_end_that_was_announced_waits_for_a_pause_to_be_over() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    bench.service.data = Box::new(|io, conn, data, told| {
        let length = message_bytes(data);
        told.push((conn, Told::Message(data[..length].to_vec())));
        io.pause(conn);
        Progress { consumed: length, wanted: 0 }
    });
    client.tls.writer().write_all(&[message(10, 1), message(10, 2)].concat()).expect("memory");
    client.tls.send_close_notify();
    client.send();
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Open, Told::Message(message(10, 1))]);
    bench.io().resume(conn);
    bench.settle();
    bench.io().resume(conn);
    bench.settle();
    client.peer.end();
    bench.settle();
    assert_eq!(bench.service.of(conn)[2..], [Told::Message(message(10, 2)), Told::End, closed(CloseReason::Finished)]);
}

#[test]
fn whoever_is_closed_is_told_that_nothing_follows() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    send(&mut bench, conn, &message(5000, 1)).expect("room");
    bench.io().close(conn);
    bench.settle();
    client.take();
    assert_eq!(client.messages(), [message(5000, 1)]);
    // Read by `take` up to the end that was announced: a stream that is cut would be an error.
    assert!(matches!(client.tls.reader().read(&mut [0; 8]), Ok(0)));
}

#[test]
fn what_gets_out_with_an_alert_is_written_and_not_handed_back_as_well() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    client.peer.take(100);
    send(&mut bench, conn, &message(1000, 1)).expect("room");
    bench.settle();
    // There is room again before anybody is told of it, and the client breaks the rules.
    client.peer.wire().room = usize::MAX;
    client.peer.send(b"this is no record\r\n");
    bench.settle();
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)), "nothing is handed back");
    let output = client.peer.output();
    let mut new = &output[client.seen..];
    client.tls.read_tls(&mut new).expect("memory");
    let alert = client.tls.process_new_packets().expect_err("an alert behind the message");
    assert!(matches!(alert, rustls::Error::AlertReceived(_)), "{alert}");
    let mut got = vec![0; 1000];
    client.tls.reader().read_exact(&mut got).expect("all of it");
    assert_eq!(got, message(1000, 1));
}

#[test]
fn a_record_that_could_not_be_ended_in_a_pause_has_its_time_behind_it() {
    let keys = Keys::new();
    let mut bench = bench(Limits { input_deadline: Duration::from_secs(5), ..small() }, &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    let record = client.outgoing();
    client.peer.send(&record[..20]);
    bench.settle();
    bench.io().pause(conn);
    bench.pass(Duration::from_secs(20));
    bench.io().resume(conn);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.service.of(conn), [Told::Open], "it has the whole time again");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.service.of(conn)[1..], [Told::Overdue, closed(CloseReason::InputOverdue)], "and no more");
}

#[test]
fn what_is_for_readers_that_are_stuck_is_refused_over_tls_too_and_ends_nobody() {
    let keys = Keys::new();
    let limits = Limits { buffered_total_bytes_max: 256 * 1024, queue_bytes_max: 128 * 1024, ..small() };
    let mut bench = bench(limits, &keys);
    let readers: Vec<_> = (0..20).map(|_| established(&mut bench, &keys)).collect();
    for (_, client) in &readers {
        client.peer.take(100);
    }
    let (mut refused, mut sent) = (0, 0);
    for round in 0..20 {
        for (conn, _) in &readers {
            match send(&mut bench, *conn, &message(2000, round)) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        bench.settle();
    }
    assert!(refused > 300 && sent > 10, "{sent} sent, {refused} refused");
    let ended: Vec<_> = readers.iter().filter_map(|(conn, _)| bench.service.end_of(*conn)).collect();
    assert!(ended.is_empty(), "{ended:?}");
}

#[test]
fn what_is_sealed_for_readers_that_stop_is_within_the_budget_and_ends_nobody() {
    let keys = Keys::new();
    let budget = 256 * 1024;
    let limits = Limits { buffered_total_bytes_max: budget, queue_bytes_max: 64 * 1024, ..small() };
    for room in [0, 100, 7000] {
        let mut bench = bench(limits, &keys);
        let readers: Vec<_> = (0..20).map(|_| established(&mut bench, &keys)).collect();
        for (conn, _) in &readers {
            // Whoever gets several in a turn has them gathered in the next one as well: nothing is sealed before its end.
            for _ in 0..3 {
                send(&mut bench, *conn, &message(10, 1)).expect("room");
            }
        }
        bench.settle();
        for (_, client) in &readers {
            client.peer.take(room);
        }
        let mut sent = 0;
        for round in 0..5 {
            for (conn, _) in &readers {
                sent += u32::from(send(&mut bench, *conn, &message(1900, round)).is_ok());
            }
        }
        for _ in 0..3 {
            bench.turn();
            let held = bench.io().buffered_total_bytes();
            assert!(held <= budget, "{held} bytes");
        }
        assert!(sent < 100, "as plain text all of it would have found room");
        let ended: Vec<_> = readers.iter().filter_map(|(conn, _)| bench.service.end_of(*conn)).collect();
        assert!(ended.is_empty(), "{ended:?}");
    }
}

/// Random messages both ways, over a network that cuts and holds up at random and breaks in the end: what the client
/// could open, what was handed back and what was cut off are together what was sent, once and in order.
#[test]
fn no_byte_is_lost_repeated_or_told_twice_wherever_the_network_breaks() {
    let keys = Keys::new();
    let (server, config) = (Arc::new(keys.server()), Arc::new(keys.client(rustls::ALL_VERSIONS)));
    for seed in 0..150 {
        println!("seed {seed}");
        let mut dice = Dice::seeded(seed);
        let mut bench = Bench::new(Limits { write_through_bytes_min: 512, ..small() }, Script::messages());
        bench.engine.set_tls(LISTENER, Some(Arc::clone(&server)));
        let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut client = Client::new(connect(Arc::clone(&config)), peer);
        shake_hands(&mut bench, &mut client);
        let (mut accepted, mut said) = (Vec::new(), Vec::new());
        client.peer.take(dice.usize(..2000));
        for _ in 0..dice.usize(1..60) {
            match dice.u8(..4) {
                0 => {
                    let text = message(dice.usize(2..3900), dice.u8(..));
                    client.tls.writer().write_all(&text).expect("memory");
                    said.push(text);
                    let bytes = client.outgoing();
                    for piece in bytes.chunks(dice.usize(1..2000)) {
                        client.peer.send(piece);
                        bench.settle();
                    }
                }
                1 => client.peer.take(dice.usize(..40_000)),
                _ => {
                    for _ in 0..dice.usize(1..6) {
                        let length = if dice.u8(..3) == 0 { dice.usize(500..16_000) } else { dice.usize(2..200) };
                        let text = message(length, dice.u8(..));
                        if send(&mut bench, conn, &text).is_ok() {
                            accepted.push(text);
                        }
                    }
                }
            }
            if dice.u8(..2) == 0 {
                bench.settle();
            }
        }
        assert_eq!(bench.service.messages_of(conn), said);
        client.peer.reset();
        bench.settle();
        client.take();
        let Some(Told::Close { reason: CloseReason::Reset, cut, whole }) = bench.service.end_of(conn) else {
            panic!("it was reset")
        };
        let delivered = client.messages();
        let handed_back = accepted[delivered.len() + usize::from(!cut.is_empty())..].concat();
        assert_eq!(accepted[..delivered.len()], delivered);
        assert_eq!(whole, handed_back);
        let rest = &client.got[delivered.concat().len()..];
        if cut.is_empty() {
            assert!(rest.is_empty(), "a part was delivered of what was handed back whole");
        } else {
            assert!(accepted[delivered.len()].starts_with(&cut[..2]), "the message that was cut");
            assert!(!rest.is_empty() && accepted[delivered.len()].starts_with(rest));
        }
        assert_eq!(bench.io().buffered_total_bytes(), 0);
    }
}

impl Bench {
    /// A connection that a listener has accepted.
    pub(crate) fn admit(&mut self, listener: usize, from: PeerAddr) -> (ConnId, Peer) {
        let (peer, pipe) = Peer::new();
        let mut found = None;
        let register = |_: &mut Pipe, conn| {
            found = Some(conn);
            Ok(())
        };
        let admitted = self.engine.admit(&mut self.service, pipe, from, listener, self.now, register);
        assert_eq!(admitted.expect("a slot"), Admitted::Open);
        let conn = found.expect("it was taken in");
        self.watch(conn, &peer);
        (conn, peer)
    }
}
