//! Messages of the handshake that come in part, or with others behind them in the same record. The library keeps where they
//! lie in the memory that it is shown, and has to be shown the same memory again, whatever is done in between.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ClientConnection, ConnectionTrafficSecrets};
use switchboard::reactor::{CloseReason, ConnId, PeerAddr, TlsFault};

use crate::support::{Bench, Peer, Told, closed, message, small};
use crate::tls::{Client, LISTENER, bench, send, shake_hands};
use crate::tls_support::{Keys, connect};

/// Types of records.
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// The message that says that the sender has a new key (RFC 8446, section 4.6.3), and that the receiver need not have one.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The sending half of a client whose handshake is over, which may say what no library would.
struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Forger {
    fn new(tls: ClientConnection) -> Self {
        let secrets = tls.dangerous_extract_secrets().expect("they were asked for");
        let (number, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else { panic!("another cipher") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key"));
        Self { key, iv: iv.as_ref().try_into().expect("twelve bytes"), number }
    }

    /// A record of this type.
    fn record(&mut self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= of_number;
        }
        self.number += 1;
        let mut inner = [bytes, &[kind]].concat();
        let length = u16::try_from(inner.len() + 16).expect("a short record").to_be_bytes();
        let header = [DATA, 3, 3, length[0], length[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).expect("sealed");
        [&header[..], &inner].concat()
    }
}

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

/// A connection on which TLS has been agreed on, and its client's sending half.
fn forged(bench: &mut Bench, keys: &Keys) -> (ConnId, Peer, Forger) {
    let mut config = keys.client(rustls::ALL_VERSIONS);
    config.enable_secret_extraction = true;
    let (conn, peer) = bench.admit(LISTENER, PeerAddr::UNIX);
    let mut client = Client::new(connect(Arc::new(config)), peer.clone());
    shake_hands(bench, &mut client);
    assert_eq!(bench.service.of(conn), [Told::Open]);
    (conn, peer, Forger::new(client.tls))
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
