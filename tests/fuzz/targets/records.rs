//! The reactor before a peer over TLS that has shaken hands in order, and then seals what it likes: records of any type,
//! length and contents, messages of the handshake in any pieces, alerts, nonsense between them. It is a client or a server,
//! of either version.
//!
//! The service is shown what data was sent and nothing else, in order; what is kept for the peer stays small; what the peer
//! is told opens, and nothing stands behind a last word.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, ServerConnection};
use switchboard::reactor::{ConnId, Lane, Outgoing, PeerAddr, TlsRole};

use super::support::{Bench, Peer, Pipe, Script, message, small};
use super::tls::keys::{Keys, NAME, connect};
use crate::dice::Dice;

#[path = "../../support/forger.rs"]
mod forger;

use forger::{ALERT, DATA, Forger, HANDSHAKE, KEY_UPDATE};

const LISTENER: usize = 1;
/// What may be kept of one peer: a record of it, a message of the handshake, and what it does not read.
const HELD_BYTES_MAX: usize = 80 * 1024;

/// Made once: an input must do the same each time.
fn configs() -> &'static (Arc<ServerConfig>, [Arc<ClientConfig>; 2]) {
    static CONFIGS: OnceLock<(Arc<ServerConfig>, [Arc<ClientConfig>; 2])> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let keys = Keys::new();
        let client = |version| {
            let mut config = keys.client(&[version]);
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        (Arc::new(keys.server()), [client(&rustls::version::TLS13), client(&rustls::version::TLS12)])
    })
}

/// The peer, and what has become of both streams.
struct Attacker {
    forger: Forger,
    peer: Peer,
    /// Bytes of the engine's output that it has opened.
    seen: usize,
    /// What it has been told beside data.
    told: Vec<(u8, Vec<u8>)>,
    /// The engine has a new key, so the rest cannot be opened here.
    is_deaf: bool,
    /// The engine has said that it writes no more.
    is_over: bool,
    /// The data that it has sent.
    said: Vec<u8>,
}

/// The engine is connected to.
fn as_client(bench: &mut Bench, config: &Arc<ClientConfig>) -> (ConnId, Attacker) {
    let (peer, pipe) = Peer::new();
    let mut found = None;
    let register = |_: &mut Pipe, conn: ConnId| {
        found = Some(conn);
        Ok(())
    };
    let now = bench.now;
    let admitted = bench.engine.admit(&mut bench.service, pipe, PeerAddr::UNIX, LISTENER, now, register);
    admitted.expect("a slot");
    let conn = found.expect("a slot");
    bench.watch(conn, &peer);
    let mut tls = connect(Arc::clone(config));
    let mut seen = 0;
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).expect("memory");
        }
        peer.send(&bytes);
        bench.settle();
        let output = peer.output();
        let mut new = &output[seen..];
        seen = output.len();
        while !new.is_empty() {
            tls.read_tls(&mut new).expect("memory");
            tls.process_new_packets().expect("good records");
        }
    }
    (conn, attacker(Forger::of_client(tls), peer, seen))
}

/// The engine connects.
fn as_server(bench: &mut Bench, server: &Arc<ServerConfig>, config: &Arc<ClientConfig>) -> (ConnId, Attacker) {
    let (conn, peer) = bench.open();
    let name = ServerName::try_from(NAME).expect("a name");
    bench.io().start_tls(conn, TlsRole::Client(Arc::clone(config), name)).expect("a configuration");
    let mut tls = ServerConnection::new(Arc::clone(server)).expect("a configuration");
    let mut seen = 0;
    for _ in 0..4 {
        bench.settle();
        let output = peer.output();
        let mut new = &output[seen..];
        seen = output.len();
        while !new.is_empty() {
            tls.read_tls(&mut new).expect("memory");
            tls.process_new_packets().expect("good records");
        }
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).expect("memory");
        }
        peer.send(&bytes);
    }
    bench.settle();
    (conn, attacker(Forger::of_server(tls), peer, seen))
}

fn attacker(forger: Forger, peer: Peer, seen: usize) -> Attacker {
    Attacker { forger, peer, seen, told: Vec::new(), is_deaf: false, is_over: false, said: Vec::new() }
}

impl Attacker {
    /// Sends bytes, cut by the dice.
    fn send(&mut self, bench: &mut Bench, bytes: &[u8], dice: &mut Dice) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = if dice.bool() { rest.len() } else { dice.usize(1..=rest.len()) };
            self.peer.send(&rest[..count]);
            rest = &rest[count..];
            if dice.bool() {
                bench.turn();
            }
        }
    }

    /// Opens the records that have been written as a whole.
    fn take(&mut self) {
        let output = self.peer.output();
        while !self.is_deaf
            && let [_, _, _, high, low, more @ ..] = &output[self.seen..]
            && let length = usize::from(u16::from_be_bytes([*high, *low]))
            && more.len() >= length
        {
            let record = &output[self.seen..self.seen + 5 + length];
            self.seen += record.len();
            for (kind, bytes) in self.forger.open(record) {
                assert!(!self.has_last_word(), "something stands behind the last word: {kind} {bytes:?}");
                self.is_deaf = kind == HANDSHAKE;
                if kind != DATA {
                    self.told.push((kind, bytes));
                }
            }
        }
    }

    fn has_last_word(&self) -> bool {
        self.told.iter().any(|(kind, bytes)| *kind == ALERT && (bytes[0] == 2 || bytes[1] == 0))
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let dice = &mut dice;
    let (server, clients) = configs();
    let mut bench = Bench::new(small(), Script::messages());
    bench.engine.set_tls(LISTENER, Some(Arc::clone(server)));
    let client = &clients[dice.usize(..2)];
    let (conn, mut attacker) =
        if dice.bool() { as_client(&mut bench, client) } else { as_server(&mut bench, server, client) };
    assert!(bench.io().tls_terms(conn).is_some(), "it is in");
    for _ in 0..60 {
        if dice.is_empty() {
            break;
        }
        act(&mut bench, conn, &mut attacker, dice);
        bench.settle();
        check(&mut bench, conn, &mut attacker);
    }
    attacker.peer.reset();
    bench.settle();
    bench.pass(Duration::from_mins(1));
    check(&mut bench, conn, &mut attacker);
    assert!(bench.service.end_of(conn).is_some(), "it has an end");
    assert_eq!((bench.io().len(), bench.io().buffered_total_bytes()), (0, 0), "something is left");
}

fn act(bench: &mut Bench, conn: ConnId, attacker: &mut Attacker, dice: &mut Dice) {
    let records = match dice.u8(..16) {
        0..=3 => {
            let text = message(dice.usize(2..1500), dice.u8(..));
            let (first, second) = text.split_at(dice.usize(..text.len()));
            attacker.said.extend_from_slice(&text);
            // One of the two may be empty.
            vec![attacker.forger.record(DATA, first), attacker.forger.record(DATA, second)]
        }
        4 => (0..dice.usize(1..40)).map(|_| attacker.forger.record(DATA, &[])).collect(),
        5 => {
            let (kind, count) = (dice.u8(..), dice.usize(..30));
            // Nothing that is data after all, be it that its type stands in front of padding.
            let bytes = if kind == 0 { vec![0; count] } else { dice.bytes(count) };
            vec![attacker.forger.record(if kind == DATA { ALERT } else { kind }, &bytes)]
        }
        6 | 7 => handshake(&mut attacker.forger, dice),
        8 => vec![attacker.forger.record(ALERT, &[dice.u8(..4), [0, 10, 20, 90, 100, 255][dice.usize(..6)]])],
        9 => {
            let text = message(dice.usize(2..300), 1);
            let mut record = attacker.forger.record(DATA, &text);
            // One byte of the header may be anything in TLS 1.3.
            attacker.said.extend(text);
            let (place, change) = (dice.usize(..record.len()), dice.u8(1..));
            record[place] ^= change;
            vec![record]
        }
        10 => vec![attacker.forger.record(DATA, &vec![0; 16 * 1024 - 4 + dice.usize(5..700)])],
        11 => {
            let count = dice.usize(..40);
            vec![dice.bytes(count)]
        }
        12 if attacker.is_over => return,
        12 => {
            let text = message(dice.usize(2..6000), dice.u8(..));
            let _ = bench.io().send(conn, &mut Outgoing::to_one(&text), Lane::Traffic);
            return;
        }
        13 => return attacker.peer.take(if dice.bool() { usize::MAX } else { dice.usize(..9000) }),
        14 if dice.bool() => {
            // Only where nothing waits may that be said.
            if bench.io().is_open(conn) && bench.io().queued_bytes(conn) == 0 {
                bench.io().end_writing(conn);
                attacker.is_over = true;
            }
            return;
        }
        14 => return attacker.peer.end(),
        _ => return bench.pass(Duration::from_millis(1 << dice.u32(0..12))),
    };
    attacker.send(bench, &records.concat(), dice);
}

/// Messages of the handshake, in one record or several.
fn handshake(forger: &mut Forger, dice: &mut Dice) -> Vec<Vec<u8>> {
    let ticket = [&[4, 0, 0, 17, 0, 0, 1, 0, 1, 2, 3, 4, 1, 9, 0, 3][..], &[7; 3], &[0; 2]].concat();
    let mut said = Vec::new();
    for _ in 0..dice.usize(1..4) {
        match dice.u8(..8) {
            0 => said.extend(KEY_UPDATE),
            1 => said.extend([24, 0, 0, 1, dice.u8(..3)]),
            2 => said.extend([1, 0, 0, 4, 3, 3, 0, 0]),
            3 => said.extend([0; 4]),
            4 => said.extend([dice.u8(..25), 0, dice.u8(..), dice.u8(..)]),
            _ => said.extend(&ticket),
        }
    }
    if dice.bool() {
        return vec![forger.record(HANDSHAKE, &said)];
    }
    let size = dice.usize(1..=said.len());
    said.chunks(size).map(|piece| forger.record(HANDSHAKE, piece)).collect()
}

/// What can be said at any time.
fn check(bench: &mut Bench, conn: ConnId, attacker: &mut Attacker) {
    let shown = bench.service.messages_of(conn).concat();
    assert!(attacker.said.starts_with(&shown), "the service is shown what was not sent as data");
    attacker.take();
    let held = bench.io().buffered_total_bytes();
    assert!(held <= HELD_BYTES_MAX, "{held} bytes are kept for one peer");
}
