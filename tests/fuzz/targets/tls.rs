//! The reactor before a client over TLS whose records the bytes cut, change, hold back and mix with others; the service
//! sends at any time, and the network takes what it likes.
//!
//! Nothing is told to the service before the handshake is over; what it is shown is what the client has sent, up to the
//! first record that was tampered with; what the client can open is what was sent to it; and in the end all that was sent
//! has been delivered or is handed back.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, ServerConfig};
use switchboard::reactor::{Admitted, ConnId, Lane, Limits, Outgoing, PeerAddr};

use super::support::{Bench, Peer, Pipe, Script, Told, message, message_bytes, small};
use crate::dice::Dice;

#[path = "../../support/tls.rs"]
pub(super) mod keys;

use keys::{Keys, connect};

const LISTENER: usize = 1;

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

/// The client, and what has become of its stream.
struct Client {
    tls: ClientConnection,
    peer: Peer,
    seen: usize,
    got: Vec<u8>,
    /// What it has sent, in whole messages.
    said: Vec<Vec<u8>>,
    /// It has tampered with what it sends, or says no more.
    is_spoilt: bool,
    /// What the engine writes cannot be read any more: it has given up.
    is_deaf: bool,
    /// How often it has taken new keys: the engine takes no more than so many, and each is answered.
    refreshes: u8,
}

const REFRESHES_MAX: u8 = 32;

impl Client {
    /// What it has to send, cut by the dice, with bytes changed and others put in between as they say.
    fn send(&mut self, bench: &mut Bench, dice: &mut Dice) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("memory");
        }
        if !bytes.is_empty() && dice.u8(..24) == 0 {
            let (place, change) = (dice.usize(..bytes.len()), dice.u8(1..));
            match dice.u8(..4) {
                0 => bytes.truncate(place),
                1 => {
                    let count = dice.usize(..40);
                    let noise = dice.bytes(count);
                    bytes.splice(place..place, noise);
                }
                2 => bytes.extend_from_within(..),
                _ => bytes[place] ^= change,
            }
            self.is_spoilt = true;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let count = if dice.bool() { rest.len() } else { dice.usize(1..=rest.len()) };
            self.peer.send(&rest[..count]);
            rest = &rest[count..];
            if dice.bool() {
                bench.turn();
            }
        }
        bench.settle();
    }

    /// Takes what the engine has written since.
    fn take(&mut self) {
        let output = self.peer.output();
        let mut new = &output[self.seen..];
        self.seen = output.len();
        while !new.is_empty() && !self.is_deaf {
            self.tls.read_tls(&mut new).expect("memory");
            let done = self.tls.process_new_packets();
            let mut buffer = [0; 4096];
            loop {
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => self.got.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if let Err(error) = done {
                assert!(self.is_spoilt, "what the engine has written does not open: {error}");
                self.is_deaf = true;
            }
        }
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let dice = &mut dice;
    let (server, clients) = configs();
    let limits = Limits { write_through_bytes_min: 512, handshake_deadline: Duration::from_secs(5), ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    bench.engine.set_tls(LISTENER, Some(Arc::clone(server)));
    let (peer, pipe) = Peer::new();
    let mut found = None;
    let register = |_: &mut Pipe, conn: ConnId| {
        found = Some(conn);
        Ok(())
    };
    let now = bench.now;
    let admitted = bench.engine.admit(&mut bench.service, pipe, PeerAddr::UNIX, LISTENER, now, register);
    assert_eq!(admitted.expect("a slot"), Admitted::Open);
    let conn = found.expect("a slot");
    bench.watch(conn, &peer);
    let mut tls = connect(Arc::clone(&clients[usize::from(dice.u8(..4) == 0)]));
    // What it says before the handshake is over waits, however much it is.
    tls.set_buffer_limit(None);
    let (got, said) = (Vec::new(), Vec::new());
    let mut client = Client { tls, peer, seen: 0, got, said, is_spoilt: false, is_deaf: false, refreshes: 0 };
    let mut accepted: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        if dice.is_empty() {
            break;
        }
        act(&mut bench, conn, &mut client, &mut accepted, dice);
        check(&bench, conn, &client, &accepted);
    }
    client.peer.reset();
    bench.settle();
    bench.pass(Duration::from_mins(1));
    client.take();
    check(&bench, conn, &client, &accepted);
    let is_in = bench.service.of(conn).contains(&Told::Open);
    let end = bench.service.end_of(conn);
    assert_eq!(end.is_some(), is_in, "who was let in has an end, and nobody else");
    if let (Some(Told::Close { cut, whole, .. }), false) = (end, client.is_deaf) {
        // What was opened, what was cut off and what is handed back is all that was sent.
        let opened = messages(&client.got).len();
        let start = (opened + usize::from(!cut.is_empty())).min(accepted.len());
        assert_eq!(whole, accepted[start..].concat(), "what is handed back");
    }
    assert_eq!((bench.io().len(), bench.io().buffered_total_bytes()), (0, 0), "something is left");
}

fn act(bench: &mut Bench, conn: ConnId, client: &mut Client, accepted: &mut Vec<Vec<u8>>, dice: &mut Dice) {
    match dice.u8(..16) {
        0..=4 if !client.is_deaf => {
            let text = message(dice.usize(2..1500), dice.u8(..));
            client.tls.writer().write_all(&text).expect("memory");
            client.said.push(text);
            client.send(bench, dice);
        }
        5..=8 if bench.io().is_open(conn) && bench.service.of(conn).contains(&Told::Open) => {
            let text = message(dice.usize(2..9000), dice.u8(..));
            if bench.io().send(conn, &mut Outgoing::to_one(&text), Lane::Traffic).is_ok() {
                accepted.push(text);
            }
            bench.settle();
        }
        9 => client.peer.take(dice.usize(..20_000)),
        10 => client.peer.take(usize::MAX),
        11 if client.refreshes < REFRESHES_MAX => {
            client.refreshes += 1;
            let _ = client.tls.refresh_traffic_keys();
            client.is_spoilt |= client.tls.is_handshaking();
            client.send(bench, dice);
        }
        // In the midst of the handshake there is nobody to tell, and the client's own library has not thought of it.
        12 if dice.bool() && !client.tls.is_handshaking() => {
            client.tls.send_close_notify();
            client.is_spoilt = true;
            client.send(bench, dice);
        }
        13 if dice.u8(..4) == 0 => {
            client.is_spoilt = true;
            let count = dice.usize(..100);
            client.peer.send(&dice.bytes(count));
            bench.settle();
        }
        14 if dice.u8(..4) == 0 => {
            client.is_spoilt = true;
            client.peer.end();
            bench.settle();
        }
        15 => bench.pass(Duration::from_millis(1 << dice.u32(0..12))),
        _ => {
            client.send(bench, dice);
            client.take();
        }
    }
    bench.settle();
    client.take();
}

/// What can be said at any time.
fn check(bench: &Bench, conn: ConnId, client: &Client, accepted: &[Vec<u8>]) {
    let told = bench.service.of(conn);
    assert!(told.is_empty() || told[0] == Told::Open, "something is told before the handshake is over");
    assert!(told.is_empty() || bench.engine.counters().handshakes == 1, "let in without a handshake");
    let shown = bench.service.messages_of(conn);
    assert!(client.said.starts_with(&shown), "the service is shown what the client has not sent");
    let opened = messages(&client.got);
    assert!(accepted.starts_with(&opened), "the client is sent something else, or not in order");
    let rest = &client.got[opened.concat().len()..];
    let is_next = rest.is_empty() || accepted.get(opened.len()).is_some_and(|next| next.starts_with(rest));
    assert!(is_next || bench.service.end_of(conn).is_some(), "the client is sent something else");
}

fn messages(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while rest.len() >= 2 && rest.len() >= message_bytes(rest) {
        let (message, more) = rest.split_at(message_bytes(rest));
        found.push(message.to_vec());
        rest = more;
    }
    found
}
