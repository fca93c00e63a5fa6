//! Agreeing on TLS: who is let in with what, who is not and how it is told, and whose turn it is.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use switchboard::reactor::{CloseReason, Limits, PeerAddr, Progress, TlsFault};

use crate::support::{Told, message, message_bytes, small};
use crate::tls::{Client, LISTENER, bench, established, shake_hands};
use crate::tls_support::{Keys, connect};

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
