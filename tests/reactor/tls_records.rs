//! Records behind the handshake: many of them, with new keys between them, and those that break the rules.

use std::io::Write;
use std::sync::Arc;

use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, default_provider};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, RootCertStore, ServerConnection, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
    Tls13CipherSuite,
};
use switchboard::reactor::{CloseReason, ConnId, PeerAddr, TlsFault, TlsRole};

use crate::forger::{ALERT, CHANGE_CIPHER_SPEC, DATA, Forger, HANDSHAKE, KEY_UPDATE};
use crate::support::{Bench, Peer, Told, closed, message, small};
use crate::tls::{Client, LISTENER, bench, send, shake_hands};
use crate::tls_support::{Keys, NAME, connect};

/// Alerts (RFC 8446, section 6): a level, and what it is about.
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

/// A request to begin anew, as short as one can be.
const CLIENT_HELLO: [u8; 8] = [1, 0, 0, 4, 3, 3, 0, 0];

/// A client that knows this suite only.
fn client_with(keys: &Keys, suite: SupportedCipherSuite) -> ClientConfig {
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let mut roots = RootCertStore::empty();
    roots.add(keys.certificate.clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

fn established(bench: &mut Bench, config: ClientConfig) -> (ConnId, Client) {
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(connect(config), peer);
    shake_hands(bench, &mut client);
    bench.settle();
    client.take();
    assert_eq!(bench.service.of(conn), [Told::Open]);
    (conn, client)
}

/// A client whose handshake is over, and that seals what it likes from then on.
fn forged(bench: &mut Bench, keys: &Keys, version: &'static SupportedProtocolVersion) -> (ConnId, Peer, Forger) {
    let (conn, client) = established(bench, keys.client(&[version]));
    (conn, client.peer, Forger::of_client(client.tls))
}

fn say(client: &mut Client, bytes: &[u8]) {
    client.tls.writer().write_all(bytes).expect("memory");
    client.send();
}

/// The lengths of the records of `output`, from byte `start` on.
fn lengths(output: &[u8], start: usize) -> Vec<usize> {
    let mut rest = &output[start..];
    let mut found = Vec::new();
    while let [_, _, _, high, low, more @ ..] = rest {
        found.push(usize::from(u16::from_be_bytes([*high, *low])));
        rest = &more[found[found.len() - 1]..];
    }
    found
}

#[test]
fn hundreds_of_records_go_both_ways_with_every_suite_of_either_version() {
    let keys = Keys::new();
    let mut met = 0;
    for suite in ALL_CIPHER_SUITES {
        // The certificate is not for all of them.
        if format!("{suite:?}").contains("RSA") {
            continue;
        }
        met += 1;
        let mut bench = bench(small(), &keys);
        let (conn, mut client) = established(&mut bench, client_with(&keys, *suite));
        assert_eq!(bench.io().tls_terms(conn).expect("agreed").suite, suite.suite());
        let mut sent = Vec::new();
        for number in 0..300_u16 {
            let text = message(2 + usize::from(number) * 7, number as u8);
            send(&mut bench, conn, &text).expect("room");
            say(&mut client, &text);
            bench.settle();
            client.take();
            sent.push(text);
        }
        assert_eq!(client.messages(), sent, "{suite:?}");
        assert_eq!(bench.service.messages_of(conn), sent, "{suite:?}");
        assert!(bench.engine.counters().records_opened >= 300 && bench.engine.counters().records_sealed >= 300);
    }
    assert_eq!(met, 6);
}

#[test]
fn a_client_may_take_a_new_key_at_any_time_and_gets_an_answer_under_a_new_one() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, keys.client(&[&TLS13]));
    let mut sent = Vec::new();
    for number in 0..32_u8 {
        let before = client.peer.output().len();
        client.tls.refresh_traffic_keys().expect("it is over");
        client.send();
        bench.settle();
        assert_eq!(lengths(&client.peer.output(), before), [KEY_UPDATE.len() + 1 + 16], "an answer, at once");
        let text = message(100, number);
        send(&mut bench, conn, &text).expect("room");
        say(&mut client, &text);
        bench.settle();
        client.take();
        sent.push(text);
    }
    assert_eq!((bench.service.messages_of(conn), client.messages()), (sent.clone(), sent));
}

#[test]
fn whoever_asks_for_new_keys_and_reads_nothing_has_one_answer_kept() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, keys.client(&[&TLS13]));
    client.peer.take(0);
    send(&mut bench, conn, &message(100, 1)).expect("room");
    bench.settle();
    let held = bench.io().buffered_total_bytes();
    for number in 0..30 {
        client.tls.refresh_traffic_keys().expect("it is over");
        say(&mut client, &message(10, number));
        bench.settle();
    }
    assert!(bench.io().buffered_total_bytes() < held + 40, "{held} and an answer");
    send(&mut bench, conn, &message(100, 2)).expect("room");
    client.peer.take(usize::MAX);
    bench.settle();
    client.take();
    assert_eq!(client.messages(), [message(100, 1), message(100, 2)]);
    // When it has been taken, the next one is answered.
    let before = client.peer.output().len();
    client.tls.refresh_traffic_keys().expect("it is over");
    client.send();
    bench.settle();
    assert_eq!(lengths(&client.peer.output(), before).len(), 1);
    assert_eq!(bench.service.messages_of(conn).len(), 30);
}

#[test]
fn new_keys_and_nothing_else_are_too_many_in_the_end() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, keys.client(&[&TLS13]));
    for _ in 0..32 {
        client.tls.refresh_traffic_keys().expect("it is over");
        client.send();
    }
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Open]);
    client.tls.refresh_traffic_keys().expect("it is over");
    client.send();
    bench.settle();
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
}

#[test]
fn new_keys_cost_a_client_as_much_data_as_they_cost_the_relay_work() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, keys.client(&[&TLS13]));
    let refresh = |client: &mut Client, bench: &mut Bench| {
        client.tls.refresh_traffic_keys().expect("it is over");
        client.send();
        bench.settle();
    };
    for _ in 0..32 {
        refresh(&mut client, &mut bench);
    }
    // Messages that are all of 2 bytes and 1,022 of payload: one record each, and 16 KiB together.
    for number in 0..16 {
        say(&mut client, &message(1024, number));
    }
    bench.settle();
    refresh(&mut client, &mut bench);
    for number in 0..15 {
        say(&mut client, &message(1024, number));
    }
    bench.settle();
    assert_eq!(bench.service.messages_of(conn).len(), 31);
    assert_eq!(bench.service.end_of(conn), None);
    refresh(&mut client, &mut bench);
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
}

/// The suite with a key that may seal so many records.
fn limited(suite: SupportedCipherSuite, most: u64) -> SupportedCipherSuite {
    let limited = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: most,
    };
    match suite {
        SupportedCipherSuite::Tls13(suite) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: limited(&suite.common),
            hkdf_provider: suite.hkdf_provider,
            aead_alg: suite.aead_alg,
            quic: None,
        }))),
        SupportedCipherSuite::Tls12(suite) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
            common: limited(&suite.common),
            prf_provider: suite.prf_provider,
            kx: suite.kx,
            sign: suite.sign,
            aead_alg: suite.aead_alg,
        }))),
    }
}

/// A bench whose keys may seal so many records, and a client that knows no such limit.
fn with_limit(keys: &Keys, version: &'static SupportedProtocolVersion, most: u64) -> (Bench, ConnId, Client) {
    let mut provider = default_provider();
    provider.cipher_suites = provider.cipher_suites.iter().map(|suite| limited(*suite, most)).collect();
    let mut bench = bench(small(), keys);
    bench.engine.set_tls(LISTENER, Some(Arc::new(keys.server_with(Arc::new(provider)))));
    let (conn, client) = established(&mut bench, keys.client(&[version]));
    (bench, conn, client)
}

#[test]
fn a_key_that_is_used_up_is_replaced_before_the_next_record() {
    let keys = Keys::new();
    let (mut bench, conn, mut client) = with_limit(&keys, &TLS13, 20);
    let before = client.peer.output().len();
    let sent: Vec<_> = (0..200).map(|number| message(60, number)).collect();
    for text in &sent {
        send(&mut bench, conn, text).expect("room");
        bench.settle();
        client.take();
    }
    assert_eq!(client.messages(), sent);
    let lengths = lengths(&client.peer.output(), before);
    let is_new_key = |length: &usize| *length == KEY_UPDATE.len() + 1 + 16;
    let runs: Vec<usize> = lengths.split(is_new_key).map(<[usize]>::len).collect();
    assert!(runs.len() == 11 && runs.iter().all(|run| *run <= 19), "{runs:?}");
    // Many in one write.
    client.peer.take(0);
    let long: Vec<_> = (0..9).map(|number| message(1500, number)).collect();
    for text in &long {
        send(&mut bench, conn, text).expect("room");
    }
    client.peer.take(usize::MAX);
    bench.settle();
    client.take();
    assert_eq!(client.messages()[200..], long);
}

#[test]
fn with_a_key_that_is_used_up_and_cannot_be_replaced_a_connection_ends_in_order() {
    let keys = Keys::new();
    let (mut bench, conn, mut client) = with_limit(&keys, &TLS12, 20);
    let mut accepted = Vec::new();
    for text in (0..30).map(|number| message(60, number)) {
        if send(&mut bench, conn, &text).is_ok() {
            accepted.push(text);
        }
        bench.settle();
    }
    client.take();
    // One record was the end of the handshake, and one is left for the last word.
    assert_eq!(client.messages(), accepted[..18]);
    assert!(client.tls.process_new_packets().expect("good records").peer_has_closed(), "it is told");
    let whole = accepted[18..].concat();
    assert_eq!(bench.service.end_of(conn), Some(Told::Close { reason: CloseReason::Reset, cut: Vec::new(), whole }));
}

/// What was opened ends with this alert, and the connection with it.
#[track_caller]
fn assert_faulty(bench: &mut Bench, conn: ConnId, peer: &Peer, forger: &mut Forger, seen: usize, alert: u8) {
    bench.settle();
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)), "{:?}", bench.service.of(conn));
    // An alert that is not one is an alert all the same.
    let faults = &bench.engine.counters().tls_faults;
    assert_eq!(faults[TlsFault::Broken as usize] + faults[TlsFault::Rejected as usize], 1, "{faults:?}");
    let said = forger.open(&peer.output()[seen..]);
    assert_eq!(said.last(), Some(&(ALERT, vec![FATAL, alert])), "{said:?}");
    assert_eq!(said.iter().filter(|(kind, _)| *kind == ALERT).count(), 1, "it is told once");
    assert_eq!(bench.io().buffered_total_bytes(), 0);
}

/// Types and contents.
type Records<'a> = &'a [(u8, &'a [u8])];

/// Each of these records, of a type and with contents, ends a connection with the alert.
fn assert_all_faulty(version: &'static SupportedProtocolVersion, faults: &[(Records<'_>, u8)]) {
    let keys = Keys::new();
    for (records, alert) in faults {
        println!("{records:?}");
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys, version);
        let seen = peer.output().len();
        let bytes: Vec<u8> = records.iter().flat_map(|(kind, bytes)| forger.record(*kind, bytes)).collect();
        peer.send(&bytes);
        assert_faulty(&mut bench, conn, &peer, &mut forger, seen, *alert);
    }
}

#[test]
fn every_record_that_breaks_the_rules_of_tls_1_3_is_answered_with_its_alert() {
    let long = vec![1; 16 * 1024 + 1];
    let empty: (u8, &[u8]) = (DATA, &[]);
    let canceled: (u8, &[u8]) = (ALERT, &[WARNING, USER_CANCELED]);
    assert_all_faulty(
        &TLS13,
        &[
            (&[(DATA, &long)], RECORD_OVERFLOW),
            // Padding and nothing else.
            (&[(0, &[0, 0, 0])], UNEXPECTED_MESSAGE),
            (&[(CHANGE_CIPHER_SPEC, &[1])], UNEXPECTED_MESSAGE),
            // A heartbeat, and a type that there is not.
            (&[(24, &[1, 2, 3])], UNEXPECTED_MESSAGE),
            (&[(99, &[1])], UNEXPECTED_MESSAGE),
            (&[(ALERT, &[])], UNEXPECTED_MESSAGE),
            (&[(ALERT, &[FATAL])], DECODE_ERROR),
            (&[(ALERT, &[WARNING, USER_CANCELED, 0])], DECODE_ERROR),
            (&[(ALERT, &[3, USER_CANCELED])], ILLEGAL_PARAMETER),
            (&[(ALERT, &[WARNING, NO_RENEGOTIATION])], DECODE_ERROR),
            (&[canceled, canceled, canceled, canceled, canceled], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &CLIENT_HELLO)], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[20, 0, 0, 32])], UNEXPECTED_MESSAGE),
            // A ticket is for clients.
            (&[(HANDSHAKE, &[4, 0, 0, 16])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[24, 0, 0, 0])], DECODE_ERROR),
            (&[(HANDSHAKE, &[24, 0, 0, 2])], DECODE_ERROR),
            (&[(HANDSHAKE, &[24, 0, 0, 1, 2])], ILLEGAL_PARAMETER),
            (&[(HANDSHAKE, &[24, 0, 0, 1, 0, 24])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &KEY_UPDATE[..3]), (DATA, &[1])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &KEY_UPDATE[..1]), (ALERT, &[WARNING, 0])], UNEXPECTED_MESSAGE),
            // The old key under which the next record is sealed is no longer that with which it is opened.
            (&[(HANDSHAKE, &KEY_UPDATE), (DATA, &[1])], BAD_RECORD_MAC),
            (&[empty; 33], UNEXPECTED_MESSAGE),
        ],
    );
}

#[test]
fn every_record_that_breaks_the_rules_of_tls_1_2_is_answered_with_its_alert() {
    let long = vec![1; 16 * 1024 + 1];
    let empty: (u8, &[u8]) = (DATA, &[]);
    let warning: (u8, &[u8]) = (ALERT, &[WARNING, NO_RENEGOTIATION]);
    assert_all_faulty(
        &TLS12,
        &[
            (&[(DATA, &long)], RECORD_OVERFLOW),
            (&[(CHANGE_CIPHER_SPEC, &[1])], UNEXPECTED_MESSAGE),
            (&[(24, &[1, 2, 3])], UNEXPECTED_MESSAGE),
            (&[(ALERT, &[])], UNEXPECTED_MESSAGE),
            (&[(ALERT, &[WARNING])], DECODE_ERROR),
            (&[(ALERT, &[0, NO_RENEGOTIATION])], ILLEGAL_PARAMETER),
            (&[warning, warning, warning, warning, warning], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[])], UNEXPECTED_MESSAGE),
            // A request to begin anew comes from a server.
            (&[(HANDSHAKE, &[0, 0, 0, 0])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &KEY_UPDATE)], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[20, 0, 0, 12])], UNEXPECTED_MESSAGE),
            (&[(HANDSHAKE, &[1, 1, 0, 0])], DECODE_ERROR),
            (&[(HANDSHAKE, &CLIENT_HELLO[..5]), (DATA, &[1])], UNEXPECTED_MESSAGE),
            (&[empty; 33], UNEXPECTED_MESSAGE),
        ],
    );
}

#[test]
fn what_is_wrong_with_a_record_from_outside_is_known_before_its_end_has_come() {
    let keys = Keys::new();
    for (version, header, alert) in [
        (&TLS13, [DATA, 3, 3, 0x41, 1], RECORD_OVERFLOW),
        (&TLS13, [DATA, 2, 3, 0, 100], DECODE_ERROR),
        // In this version everything looks like data.
        (&TLS13, [HANDSHAKE, 3, 3, 0, 100], UNEXPECTED_MESSAGE),
        (&TLS13, [ALERT, 3, 3, 0, 2], UNEXPECTED_MESSAGE),
        (&TLS13, [CHANGE_CIPHER_SPEC, 3, 3, 0, 1], UNEXPECTED_MESSAGE),
        (&TLS13, *b"this ", UNEXPECTED_MESSAGE),
        (&TLS12, [DATA, 3, 3, 0x48, 1], RECORD_OVERFLOW),
        (&TLS12, [HANDSHAKE, 3, 3, 0x48, 1], RECORD_OVERFLOW),
        (&TLS12, [DATA, 4, 3, 0, 100], DECODE_ERROR),
        (&TLS12, [CHANGE_CIPHER_SPEC, 3, 3, 0, 1], UNEXPECTED_MESSAGE),
        (&TLS12, [24, 3, 3, 0, 1], UNEXPECTED_MESSAGE),
    ] {
        println!("{version:?} {header:?}");
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys, version);
        let seen = peer.output().len();
        peer.send(&header);
        assert_faulty(&mut bench, conn, &peer, &mut forger, seen, alert);
    }
}

#[test]
fn a_record_that_was_changed_repeated_left_out_or_is_too_short_to_be_one_does_not_open() {
    let keys = Keys::new();
    for version in [&TLS13, &TLS12] {
        for change in 0..4 {
            let mut bench = bench(small(), &keys);
            let (conn, peer, mut forger) = forged(&mut bench, &keys, version);
            let seen = peer.output().len();
            let mut records: Vec<_> = (0..3).map(|number| forger.record(DATA, &message(40, number))).collect();
            match change {
                0 => records[1][30] ^= 1,
                1 => records[1] = records[0].clone(),
                2 => drop(records.remove(1)),
                _ => records[1] = vec![DATA, 3, 3, 0, 0],
            }
            peer.send(&records[0]);
            bench.settle();
            peer.send(&records[1..].concat());
            bench.settle();
            assert_eq!(bench.service.messages_of(conn), [message(40, 0)]);
            bench.service.told.retain(|(_, told)| !matches!(told, Told::Message(_)));
            assert_faulty(&mut bench, conn, &peer, &mut forger, seen, BAD_RECORD_MAC);
        }
    }
}

#[test]
fn what_may_be_ignored_is_and_padding_is_taken_off() {
    let keys = Keys::new();
    for (version, warning) in [(&TLS13, USER_CANCELED), (&TLS12, NO_RENEGOTIATION)] {
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys, version);
        let mut bytes = Vec::new();
        for number in 0..4 {
            bytes.extend(forger.record(ALERT, &[WARNING, warning]));
            for _ in 0..8 {
                bytes.extend(forger.record(DATA, &[]));
            }
            bytes.extend(forger.record(DATA, &message(50, number)));
        }
        if version.version == TLS13.version {
            // Behind what is sealed stands its type, and any number of zeros, of which the forger takes one for the type.
            bytes.extend(forger.record(0, &[&message(50, 4)[..], &[DATA, 0, 0, 0]].concat()));
        } else {
            bytes.extend(forger.record(DATA, &message(50, 4)));
        }
        // What stands behind the end means nothing.
        bytes.extend(forger.record(ALERT, &[WARNING, 0]));
        bytes.extend(b"whatever");
        peer.send(&bytes);
        bench.settle();
        let sent: Vec<_> = (0..5).map(|number| message(50, number)).collect();
        assert_eq!(bench.service.messages_of(conn), sent);
        assert!(bench.service.of(conn).contains(&Told::End));
        peer.end();
        bench.settle();
        assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::Finished)));
    }
}

#[test]
fn whoever_gives_up_is_not_answered() {
    let keys = Keys::new();
    for version in [&TLS13, &TLS12] {
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = forged(&mut bench, &keys, version);
        let seen = peer.output().len();
        peer.send(&forger.record(ALERT, &[FATAL, DECODE_ERROR]));
        bench.settle();
        assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
        assert_eq!(bench.engine.counters().tls_faults[TlsFault::Rejected as usize], 1);
        assert_eq!(forger.open(&peer.output()[seen..]), []);
    }
}

#[test]
fn to_begin_anew_is_declined_once() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer, mut forger) = forged(&mut bench, &keys, &TLS12);
    let seen = peer.output().len();
    // In two records.
    peer.send(&forger.record(HANDSHAKE, &CLIENT_HELLO[..6]));
    bench.settle();
    peer.send(&forger.record(HANDSHAKE, &CLIENT_HELLO[6..]));
    peer.send(&forger.record(DATA, &message(40, 1)));
    bench.settle();
    assert_eq!(forger.open(&peer.output()[seen..]), [(ALERT, vec![WARNING, NO_RENEGOTIATION])]);
    assert_eq!(bench.service.of(conn), [Told::Open, Told::Message(message(40, 1))]);
    peer.send(&forger.record(HANDSHAKE, &CLIENT_HELLO));
    bench.settle();
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
}

#[test]
fn what_is_said_after_this_side_s_end_is_not_answered() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, mut client) = established(&mut bench, keys.client(&[&TLS13]));
    bench.io().end_writing(conn);
    bench.settle();
    let said = client.peer.output().len();
    // It may be asked for a new key, and it may be told nonsense.
    client.tls.refresh_traffic_keys().expect("it is over");
    say(&mut client, &message(40, 1));
    bench.settle();
    assert_eq!(bench.service.messages_of(conn), [message(40, 1)]);
    client.peer.send(b"this is no record");
    bench.settle();
    assert_eq!(client.peer.output().len(), said);
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::TlsFailed)));
}

/// A connection on which this side is the client, and the server at its other end.
fn served(bench: &mut Bench, keys: &Keys, version: &'static SupportedProtocolVersion) -> (ConnId, Peer, Forger) {
    let (conn, peer) = bench.open();
    let name = ServerName::try_from(NAME).expect("a name");
    let config = Arc::new(keys.client(&[version]));
    bench.io().start_tls(conn, TlsRole::Client(config, name)).expect("a configuration");
    let mut server = ServerConnection::new(Arc::new(keys.server())).expect("a configuration");
    let mut seen = 0;
    for _ in 0..3 {
        bench.settle();
        let output = peer.output();
        let mut new = &output[seen..];
        seen = output.len();
        while !new.is_empty() {
            server.read_tls(&mut new).expect("memory");
            server.process_new_packets().expect("good records");
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        peer.send(&bytes);
    }
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Established]);
    (conn, peer, Forger::of_server(server))
}

#[test]
fn a_client_takes_tickets_in_any_pieces_and_none_that_never_ends() {
    let keys = Keys::new();
    // How long it holds, what is added to its age, a nonce, the ticket, and no extensions (RFC 8446, section 4.6.1).
    let ticket = [&[4, 0, 0, 14 + 3, 0, 0, 1, 0, 1, 2, 3, 4, 1, 9, 0, 3][..], &[7, 7, 7], &[0, 0]].concat();
    let long = [&[4, 0, 0x10, 0, 0, 0, 1, 0, 1, 2, 3, 4, 0, 0x0f, 0xf4][..], &[7; 0xff4], &[0; 3]].concat();
    for cut in [1, 3, 4, 7, ticket.len() + 2, 2 * ticket.len()] {
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = served(&mut bench, &keys, &TLS13);
        let two = [&ticket[..], &ticket].concat();
        peer.send(&forger.record(HANDSHAKE, &two[..cut]));
        bench.settle();
        assert_eq!(bench.io().is_receiving(conn), cut % ticket.len() > 0, "it waits for the rest");
        if cut < two.len() {
            peer.send(&forger.record(HANDSHAKE, &two[cut..]));
        }
        peer.send(&forger.record(DATA, &message(50, 1)));
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::Established, Told::Message(message(50, 1))], "{cut}");
        assert_eq!(bench.io().buffered_total_bytes(), 0);
    }
    for (bytes, alert) in [
        (&[4, 0x40, 0, 0][..], DECODE_ERROR),
        (&[4, 0, 0, 3, 1, 2, 3], DECODE_ERROR),
        (&long[..], DECODE_ERROR),
        (&[1, 0, 0, 0], UNEXPECTED_MESSAGE),
    ] {
        println!("{:?}", &bytes[..4]);
        let mut bench = bench(small(), &keys);
        let (conn, peer, mut forger) = served(&mut bench, &keys, &TLS13);
        let seen = peer.output().len();
        peer.send(&forger.record(HANDSHAKE, bytes));
        assert_faulty(&mut bench, conn, &peer, &mut forger, seen, alert);
    }
}

#[test]
fn a_client_declines_to_begin_anew_and_takes_a_new_key() {
    let keys = Keys::new();
    let mut bench = bench(small(), &keys);
    let (conn, peer, mut forger) = served(&mut bench, &keys, &TLS12);
    let seen = peer.output().len();
    peer.send(&forger.record(HANDSHAKE, &[0, 0, 0, 0]));
    peer.send(&forger.record(DATA, &message(50, 1)));
    bench.settle();
    assert_eq!(forger.open(&peer.output()[seen..]), [(ALERT, vec![WARNING, NO_RENEGOTIATION])]);
    assert_eq!(bench.service.of(conn), [Told::Established, Told::Message(message(50, 1))]);

    let (conn, peer, mut forger) = served(&mut bench, &keys, &TLS13);
    let seen = peer.output().len();
    peer.send(&forger.record(HANDSHAKE, &[24, 0, 0, 1, 1]));
    bench.settle();
    assert_eq!(forger.open(&peer.output()[seen..]), [(HANDSHAKE, KEY_UPDATE.to_vec())]);
    assert_eq!(bench.service.of(conn), [Told::Established]);
}

#[test]
fn a_configuration_that_keeps_the_keys_to_itself_is_of_no_use_and_says_so() {
    let keys = Keys::new();
    let mut config = keys.server();
    config.enable_secret_extraction = false;
    let mut bench = bench(small(), &keys);
    let (conn, _) = bench.open();
    let error = bench.io().start_tls(conn, TlsRole::Server(Arc::new(config))).expect_err("it is refused");
    assert!(error.to_string().contains("enable_secret_extraction"), "{error}");
    assert!(!bench.io().is_encrypted(conn));
}
