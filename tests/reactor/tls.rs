//! TLS between sockets and service: the same promises as without it, however the ciphertext is cut and held up.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use switchboard::reactor::{
    Admitted, CloseReason, ConnId, Lane, Limits, Outgoing, PeerAddr, Progress, SendError, TlsFault,
};

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
    seen: usize,
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
fn established(bench: &mut Bench, keys: &Keys) -> (ConnId, Client) {
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
fn a_handshake_that_does_not_go_on_ends_at_its_deadline_and_nobody_else_hears_of_it() {
    let keys = Keys::new();
    let mut bench = bench(Limits { handshake_deadline: Duration::from_secs(3), ..small() }, &keys);
    let (silent, _) = bench.admit(LISTENER, PeerAddr::UNIX);
    let (half, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let hello = Client::new(keys.connect(), peer.clone()).outgoing();
    peer.send(&hello[..100]);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.io().len(), 2);
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.io().len(), 0);
    assert_eq!(bench.engine.counters().closed[CloseReason::HandshakeOverdue as usize], 2);
    assert_eq!(bench.engine.counters().silent, 1);
    assert_eq!((bench.service.of(silent), bench.service.of(half)), (vec![], vec![]));
}

#[test]
fn what_is_no_tls_gets_an_alert_and_one_counter() {
    let keys = Keys::new();
    for (bytes, fault) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], TlsFault::NotTls),
        (&[0, 0, 0, 39, 1, 0, 0, 0, 0, 0, 0, 1], TlsFault::NotTls),
        (&[22, 3, 1, 0, 4, 1, 0, 0, 0], TlsFault::Broken),
    ] {
        let mut bench = bench(small(), &keys);
        let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        peer.send(bytes);
        bench.settle();
        assert_eq!(bench.service.of(conn), []);
        let counters = bench.engine.counters();
        assert_eq!(counters.tls_faults[fault as usize], 1, "{bytes:?}: {:?}", counters.tls_faults);
        assert_eq!(counters.closed[CloseReason::TlsFailed as usize], 1);
        assert_eq!(peer.output().first(), Some(&21), "an alert: {:?}", peer.output());
        assert!(peer.wire().shut, "and the end");
    }
}

#[test]
fn a_client_for_another_protocol_is_told_that_there_is_none() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut config = keys.client(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut browser = Client::new(connect(config), peer);
    browser.send();
    bench.settle();
    let mut output = &browser.peer.output()[..];
    browser.tls.read_tls(&mut output).expect("memory");
    let error = browser.tls.process_new_packets().expect_err("an alert");
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    assert_eq!(bench.engine.counters().tls_faults[TlsFault::NoAgreement as usize], 1);
    assert_eq!(bench.service.of(conn), []);
}

#[test]
fn a_client_that_does_not_trust_the_certificate_is_counted_as_such() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(Keys::new().connect(), peer);
    client.send();
    bench.settle();
    let mut output = &client.peer.output()[..];
    client.tls.read_tls(&mut output).expect("memory");
    client.tls.process_new_packets().expect_err("a stranger's certificate");
    client.send();
    bench.settle();
    assert_eq!(bench.engine.counters().tls_faults[TlsFault::Rejected as usize], 1);
    assert_eq!(bench.service.of(conn), []);
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
fn of_handshakes_that_come_at_once_a_turn_deals_with_some_and_the_connected_are_served() {
    let keys = Keys::new();
    let mut bench = bench(Limits { handshakes_turn_max: 2, storm_turn_min: 2, ..small() }, &keys);
    let (conn, mut client) = established(&mut bench, &keys);
    let mut newcomers = Vec::new();
    for _ in 0..7 {
        let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut newcomer = Client::new(keys.connect(), peer);
        newcomer.send();
        newcomers.push(newcomer);
    }
    client.tls.writer().write_all(&message(100, 1)).expect("memory");
    client.send();
    let answered = |newcomers: &[Client]| newcomers.iter().filter(|one| !one.peer.output().is_empty()).count();
    for turn in 1..=4 {
        bench.turn();
        assert_eq!(answered(&newcomers), (turn * 2).min(7));
        assert_eq!(bench.service.messages_of(conn).len(), 1, "the connected need not wait");
    }
}

#[test]
fn whoever_hangs_up_in_its_handshake_waits_its_turn_with_the_others() {
    let keys = Keys::new();
    let limits = Limits { handshakes_turn_max: 2, endings_turn_max: 8, storm_turn_min: 8, ..small() };
    let mut bench = bench(limits, &keys);
    let mut newcomers = Vec::new();
    for _ in 0..7 {
        let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut newcomer = Client::new(keys.connect(), peer);
        newcomer.send();
        newcomer.peer.end();
        newcomers.push(newcomer);
    }
    bench.turn();
    let answered = newcomers.iter().filter(|one| !one.peer.output().is_empty()).count();
    assert!(answered <= 2, "{answered} handshakes in a turn");
    bench.settle();
    assert_eq!(bench.engine.counters().closed(CloseReason::Abandoned), 7);
}

#[test]
fn whoever_has_gone_in_its_handshake_takes_nobody_s_turn() {
    let keys = Keys::new();
    let mut bench = bench(Limits { handshakes_turn_max: 1, ..small() }, &keys);
    for _ in 0..20 {
        let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut quitter = Client::new(keys.connect(), peer);
        quitter.send();
        // It would be read on to its end, which it does not live to: what it is answered cannot be written.
        quitter.peer.end();
        quitter.peer.wire().breaks_after = 0;
    }
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer);
    let mut turns = 0;
    while bench.service.of(conn).is_empty() {
        client.send();
        bench.turn();
        client.take();
        turns += 1;
    }
    assert!(turns <= 20 + 3, "{turns} turns for twenty handshakes that were begun, and one");
}

#[test]
fn what_comes_with_the_end_of_a_handshake_is_shown_though_it_is_more_than_a_turn_s_work() {
    let keys = Keys::new();
    let mut bench = bench(Limits { turn_work_max: 2, ..small() }, &keys);
    bench.service.data = Box::new(|io, conn, data, told| {
        let mut consumed = 0;
        while consumed < data.len() && io.is_reading(conn) {
            let length = message_bytes(&data[consumed..]);
            told.push((conn, Told::Message(data[consumed..consumed + length].to_vec())));
            consumed += length;
            io.charge(1);
        }
        Progress { consumed, wanted: 0 }
    });
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(keys.connect(), peer);
    client.send();
    bench.settle();
    client.take();
    let sent: Vec<_> = (0..7).map(|number| message(20, number)).collect();
    client.tls.writer().write_all(&sent.concat()).expect("memory");
    client.send();
    bench.settle();
    assert_eq!(bench.service.messages_of(conn), sent);
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

#[test]
fn both_ends_have_the_same_channel_binding_and_no_other_connection_has_it() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let mut bindings = Vec::new();
    for _ in 0..2 {
        let (conn, client) = established(&mut bench, &keys);
        let theirs =
            client.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).expect("an exporter");
        assert_eq!(bench.io().channel_binding(conn), Some(theirs));
        bindings.push(theirs);
    }
    assert_ne!(bindings[0], bindings[1]);
    // Of a suite with the other hash.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(keys.certificate.clone()).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(connect(config), peer);
    shake_hands(&mut bench, &mut client);
    let theirs =
        client.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).expect("an exporter");
    assert_eq!(bench.io().channel_binding(conn), Some(theirs));
    // TLS 1.2 has none that could be trusted without further conditions.
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(connect(keys.client(&[&rustls::version::TLS12])), peer);
    shake_hands(&mut bench, &mut client);
    assert_eq!(bench.io().channel_binding(conn), None);
    assert!(bench.io().is_encrypted(conn));
}

#[test]
fn whoever_comes_back_takes_up_its_session_also_after_the_keys_were_read_anew() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let config = Arc::new(keys.client(rustls::ALL_VERSIONS));
    let server = keys.server();
    bench.engine.set_tls(LISTENER, Some(Arc::new(server.clone())));
    for round in 0..3 {
        let (_, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut client = Client::new(connect(Arc::clone(&config)), peer);
        shake_hands(&mut bench, &mut client);
        bench.settle();
        client.take();
        assert_eq!(bench.engine.counters().handshakes_resumed, round);
        let mut renewed = keys.server();
        renewed.ticketer = Arc::clone(&server.ticketer);
        bench.engine.set_tls(LISTENER, Some(Arc::new(renewed)));
    }
}

/// A record of the kind `content` with `payload`, as a client of TLS 1.3 seals it with the keys that it has agreed on: what
/// no library would send.
fn forge(keys: &rustls::ExtractedSecrets, number: u64, content: u8, payload: &[u8]) -> Vec<u8> {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let (sequence, secrets) = &keys.tx;
    let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another suite") };
    let mut nonce: [u8; 12] = iv.as_ref().try_into().expect("twelve bytes");
    for (place, byte) in nonce[4..].iter_mut().zip((sequence + number).to_be_bytes()) {
        *place ^= byte;
    }
    let mut sealed = payload.to_vec();
    sealed.push(content);
    let header = [23, 3, 3, 0, (sealed.len() + 16) as u8];
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key"));
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed).expect("room");
    [&header[..], &sealed].concat()
}

/// A connection whose client's keys are known.
fn with_known_keys(bench: &mut Bench, keys: &Keys) -> (ConnId, Peer, rustls::ExtractedSecrets) {
    let mut config = keys.client(&[&rustls::version::TLS13]);
    config.enable_secret_extraction = true;
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(connect(config), peer.clone());
    shake_hands(bench, &mut client);
    bench.settle();
    client.take();
    (conn, peer, client.tls.dangerous_extract_secrets().expect("the keys"))
}

#[test]
fn a_message_of_the_handshake_that_stays_half_said_does_not_disturb_what_is_written() {
    const HANDSHAKE: u8 = 22;
    let keys = Keys::new();
    for cut in 1..5 {
        let mut bench = bench(Limits { input_deadline: Duration::from_secs(5), ..small() }, &keys);
        let (conn, peer, secrets) = with_known_keys(&mut bench, &keys);
        let key_update = [24, 0, 0, 1, 0];
        peer.send(&forge(&secrets, 0, HANDSHAKE, &key_update[..cut]));
        bench.settle();
        let before = peer.output().len();
        send(&mut bench, conn, &message(100, 1)).expect("room");
        send(&mut bench, conn, &message(100, 2)).expect("room");
        bench.settle();
        assert!(peer.output().len() > before, "it is written to");
        peer.send(&forge(&secrets, 1, HANDSHAKE, &key_update[cut..]));
        bench.settle();
        send(&mut bench, conn, &message(100, 3)).expect("room");
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::Open], "and goes on");
        // Half said again, and nothing more.
        let (conn, peer, secrets) = with_known_keys(&mut bench, &keys);
        peer.send(&forge(&secrets, 0, HANDSHAKE, &key_update[..cut]));
        bench.pass(Duration::from_secs(6));
        assert_eq!(bench.service.of(conn)[1..], [Told::Overdue, closed(CloseReason::InputOverdue)]);
    }
}

#[test]
fn a_message_of_the_handshake_in_a_thousand_pieces_is_not_kept_for_ever() {
    let keys = Keys::new();
    let mut bench = bench(Limits { handshake_bytes_max: 20_000, ..small() }, &keys);
    let (conn, peer, secrets) = with_known_keys(&mut bench, &keys);
    peer.send(&forge(&secrets, 0, 22, &[24, 0, 255, 255]));
    for number in 1..2000 {
        peer.send(&forge(&secrets, number, 22, &[0]));
        bench.settle();
        assert!(bench.io().buffered_total_bytes() < 40_000);
        if bench.service.end_of(conn).is_some() {
            break;
        }
    }
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
}

#[test]
fn whoever_must_show_a_certificate_and_has_none_is_told_so_and_nobody_else_notices() {
    let keys = Keys::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(keys.certificate.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a root"))
        .with_single_cert(vec![keys.certificate.clone()], keys.private())
        .expect("a pair");
    config.enable_secret_extraction = true;
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut bench = bench(small(), &keys);
        bench.engine.set_tls(LISTENER, Some(Arc::new(config.clone())));
        let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
        let mut client_config = keys.client(versions);
        client_config.alpn_protocols.clear();
        let mut client = Client::new(connect(client_config), peer);
        let mut answer = Ok(());
        for _ in 0..4 {
            client.send();
            bench.settle();
            let output = client.peer.output();
            let mut new = &output[client.seen..];
            client.seen = output.len();
            while !new.is_empty() && answer.is_ok() {
                client.tls.read_tls(&mut new).expect("memory");
                answer = client.tls.process_new_packets().map(drop);
            }
        }
        assert!(matches!(answer, Err(rustls::Error::AlertReceived(_))), "{answer:?}");
        assert_eq!(bench.engine.counters().tls_faults[TlsFault::BadCertificate as usize], 1);
        assert_eq!(bench.service.of(conn), []);
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
