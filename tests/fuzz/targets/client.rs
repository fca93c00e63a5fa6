//! A client and a relay that says anything: whatever comes, and in whatever pieces, the client hands on what can be
//! read, ends where nothing can, answers as it must, and shows nothing that steers a terminal.
//!
//! The relay is a thread with a Unix socket: what is fuzzed is the library as an application uses it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use switchboard::client::{Address, Change, Client, Closed, ConnectError, Directory, Event, Happening, Options, Step};
use switchboard::wire::control::{Body, Hello, Ping, Pong, Welcome};
use switchboard::wire::{Frames, HEADER_BYTES, Header, Id, LENGTH_BYTES, LENGTH_MIN, Tag, Type, is_routed};

use super::cli::join::check_told;
use crate::dice::Dice;

/// What the client takes before it is welcomed, and agrees to take then.
const GREETING_BYTES_MAX: u32 = 4_096;
const PAYLOAD_BYTES_MAX: u32 = 65_536;
/// What a socket takes at once, so that the relay is never blocked by a client that has ended.
const STREAM_BYTES_MAX: usize = 48 * 1024;

/// A relay that says what it is given, to one client after the other, and gives back what it heard.
struct Relay {
    path: PathBuf,
    say: Sender<(UnixListener, Vec<Vec<u8>>)>,
    heard: Receiver<Vec<u8>>,
}

impl Relay {
    fn start() -> Self {
        // As for every Rust program; a fuzzer's own is none.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default());
        let path: PathBuf = std::env::temp_dir().join(format!("switchboard-fuzz-{}", std::process::id()));
        let (say, to_say) = channel::<(UnixListener, Vec<Vec<u8>>)>();
        let (hear, heard) = channel();
        thread::spawn(move || {
            for (listener, pieces) in to_say {
                let (mut socket, _) = listener.accept().expect("a client");
                // A client that has had enough closes while it is still spoken to.
                let said = pieces.iter().try_for_each(|piece| socket.write_all(piece));
                let _ = said.and_then(|()| socket.shutdown(Shutdown::Write));
                let mut all = Vec::new();
                let _ = socket.read_to_end(&mut all);
                if hear.send(all).is_err() {
                    return;
                }
            }
        });
        Self { path, say, heard }
    }

    /// Says `pieces` to the client that connects now. Its socket has a name no longer than that takes: nobody would
    /// take it away when the process ends.
    fn meet(&self, pieces: Vec<Vec<u8>>) -> Result<Client, ConnectError> {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a socket");
        self.say.send((listener, pieces)).expect("the relay listens");
        let connected = Client::connect(&Address::Unix(self.path.clone()), &Options::named("ada"));
        std::fs::remove_file(&self.path).expect("its own");
        connected
    }
}

pub(crate) fn run(input: &[u8]) {
    static RELAY: OnceLock<Mutex<Relay>> = OnceLock::new();
    let relay = RELAY.get_or_init(|| Mutex::new(Relay::start())).lock().unwrap_or_else(PoisonError::into_inner);
    let mut dice = Dice::given(input);
    let pieces = dice.u8(..);
    let stream = compose(&mut dice);
    let connected = relay.meet(cut(&stream, pieces));
    let expected = Expected::of(&stream);
    let pings = match connected {
        Ok(client) => {
            let pings = expected.pings.clone();
            converse(client, expected);
            pings
        }
        Err(error) => {
            assert!(!expected.is_welcome, "{error}");
            assert!(!matches!(error, ConnectError::TimedOut { .. } | ConnectError::BadOptions(_)), "{error}");
            assert!(!error.to_string().is_empty());
            Vec::new()
        }
    };
    check_heard(&relay.heard.recv().expect("the relay has heard"), &pings);
}

/// Frames that a relay may send, or nearly, and bytes that are none.
fn compose(dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    if dice.u8(..16) > 0 {
        let welcome = Welcome {
            version: if dice.u8(..16) > 0 { 1 } else { dice.u8(..) },
            client: Id::client(1, 1),
            payload_bytes_max: if dice.bool() { PAYLOAD_BYTES_MAX } else { dice.u32(..) },
            keepalive_ms: 0,
            queue_bytes_max: 0,
            clock_us: 0,
            epoch_us: dice.u64(..),
            address: "somewhere",
            agent: "fuzz",
            user: dice.bool().then_some("ada"),
            auth_data: dice.bool().then_some(b"v=abc"),
        };
        welcome.write_frame(Header::new(Type::Welcome).correlating(1), &mut stream);
    }
    while !dice.is_empty() && stream.len() < STREAM_BYTES_MAX {
        if dice.u8(..16) == 0 {
            let count = dice.usize(..40);
            stream.extend(dice.bytes(count));
            continue;
        }
        let known = dice.choice(Type::ALL).map_or(0, |known| known.number());
        let sources = [Id::RELAY, Id::RELAY, Id::client(1, 1), Id::client(2, 1)];
        let header = Header {
            type_number: if dice.u8(..16) == 0 { dice.u8(..) } else { known },
            correlation: dice.u32(..4),
            flags: switchboard::wire::Flags(dice.u8(..)),
            kind: u16::from(dice.u8(..4)),
            destination: dice.choice([Id::ALL, Id::client(1, 1), Id::room(1, 1), Id::MANY]).unwrap_or(Id::RELAY),
            source: dice.choice(sources).unwrap_or(Id::RELAY),
        };
        let payload = if dice.u8(..8) == 0 {
            let count = dice.usize(..60);
            dice.bytes(count)
        } else {
            fields(dice, 0)
        };
        header.write_frame(&mut stream, |out| out.extend_from_slice(&payload));
    }
    stream.truncate(STREAM_BYTES_MAX);
    stream
}

fn fields(dice: &mut Dice, depth: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..dice.usize(..6) {
        let tag = Tag::ALL[dice.usize(..Tag::ALL.len())].0;
        let value = match tag.0 >> 12 {
            1 if tag == Tag::KEEPALIVE_MS => vec![0; 8],
            1 => dice.u64(..2_000).to_be_bytes().to_vec(),
            2 => {
                let words = ["ada", "bob", "", "\u{202e}", "\u{2028}x", "ü"];
                dice.choice(words).unwrap_or_default().repeat(dice.usize(1..3)).into_bytes()
            }
            4 if depth == 0 => fields(dice, 1),
            _ => vec![0; dice.usize(..4)],
        };
        body.extend(tag.0.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(value);
    }
    body
}

/// A stream in pieces.
fn cut(stream: &[u8], seed: u8) -> Vec<Vec<u8>> {
    let mut dice = Dice::seeded(seed.into());
    let most = 1 << dice.usize(4..16);
    let mut pieces = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(dice.usize(1..=most).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

/// What a client must make of a stream, by the specification.
#[derive(Default)]
struct Expected {
    is_welcome: bool,
    /// The relay wants to be asked for signs of life: then it depends on the time how the connection ends.
    has_keepalive: bool,
    /// The frames of other clients, as they are, up to the first that ends the connection.
    messages: Vec<(Header, Vec<u8>)>,
    pings: Vec<(Header, Option<u64>)>,
}

impl Expected {
    fn of(stream: &[u8]) -> Self {
        let mut expected = Self::default();
        let (mut rest, mut limit) = (stream, GREETING_BYTES_MAX);
        while let Some(frame) = Frames::new(rest).next() {
            let length = (frame.len() - LENGTH_BYTES) as u32;
            if !(LENGTH_MIN..=LENGTH_MIN.saturating_add(limit)).contains(&length) {
                break;
            }
            rest = &rest[frame.len()..];
            let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
            if !expected.is_welcome {
                let welcome = Welcome::parse(payload).ok().filter(|welcome| welcome.version == 1);
                let Some(welcome) = welcome.filter(|_| header.frame_type() == Some(Type::Welcome)) else { break };
                (expected.is_welcome, expected.has_keepalive) = (true, welcome.keepalive_ms > 0);
                limit = welcome.payload_bytes_max.min(PAYLOAD_BYTES_MAX);
            } else if header.frame_type() == Some(Type::Ping) {
                expected.pings.push((header, Ping::parse(payload).ok().and_then(|ping| ping.clock_us)));
            } else if is_routed(header.type_number, header.destination)
                && !matches!(header.frame_type(), Some(Type::Ack | Type::Pong))
            {
                expected.messages.push((header, payload.to_vec()));
            }
        }
        expected
    }
}

/// Takes all events, keeps who is here, and has each said as `join` says it.
fn converse(client: Client, expected: Expected) {
    assert!(expected.is_welcome, "it takes something else for a WELCOME");
    let (_, mut receiver) = client.split();
    let mut messages = expected.messages.into_iter();
    let mut everybody = Directory::new(None);
    let mut room = Directory::new(Some(Id::room(1, 1)));
    for correlation in 0..100_000 {
        let event = receiver.recv();
        check_told(&event);
        match event {
            Event::Message(message) => {
                let expected = messages.next().expect("somebody has sent it");
                assert_eq!((message.header, message.payload.to_vec()), expected, "as it was sent, in its place");
            }
            Event::Snapshot(page) => {
                assert!(!page.members.iter().any(|peer| peer.endpoints.iter().any(String::is_empty)));
                for directory in [&mut everybody, &mut room] {
                    if directory.apply_snapshot(page.clone()) == Step::WatchAgain {
                        directory.asked(correlation % 4);
                    }
                }
            }
            Event::Delta(delta) => {
                for directory in [&mut everybody, &mut room] {
                    let told = delta.changes.iter().filter(|change| !matches!(change, Change::Departed { .. })).count();
                    let mut heard = 0;
                    let step = directory.apply_delta(delta.clone(), |happening| {
                        heard += usize::from(!matches!(happening, Happening::Departed { .. }));
                    });
                    assert!(step == Step::NotMine && heard == 0 || heard == told, "each change is told once");
                    if step == Step::WatchAgain {
                        directory.asked(correlation % 4);
                    }
                }
            }
            Event::Gap { .. } => {
                for directory in [&mut everybody, &mut room] {
                    if directory.gap() == Step::WatchAgain {
                        directory.asked(correlation % 4);
                    }
                }
            }
            Event::Closed(closed) => {
                let all = matches!(closed, Closed::Ended | Closed::ByRelay(_) | Closed::Broken { .. });
                assert!(!all || messages.next().is_none(), "{closed}, and something is left");
                assert!(expected.has_keepalive || !matches!(closed, Closed::Silent { .. }));
                assert!(!closed.to_string().is_empty());
                assert!(matches!(receiver.recv(), Event::Closed(again) if again == closed), "it ends once");
                break;
            }
            _ => {}
        }
        for directory in [&everybody, &room] {
            assert_eq!(directory.iter().count(), directory.len());
            for peer in directory.iter() {
                assert_eq!(directory.by_id(peer.id), Some(peer));
                assert!(directory.by_name(&peer.name).is_some_and(|other| other.name == peer.name));
            }
        }
    }
}

/// The client has said HELLO, and then nothing but the answers to the PINGs that it got, each to whom it came from,
/// and PINGs of its own if it was told to watch over the relay.
fn check_heard(heard: &[u8], pings: &[(Header, Option<u64>)]) {
    let mut frames = Frames::new(heard);
    let hello = frames.next().expect("a HELLO");
    assert_eq!(Hello::parse(&hello[HEADER_BYTES..]).expect("a good one").profile.name, Some("ada"));
    let mut pings = pings.iter();
    for frame in frames {
        let header = Header::read(frame);
        if header.frame_type() == Some(Type::Ping) {
            assert_eq!(header.correlation, 0);
            continue;
        }
        let (ping, clock) = pings.next().expect("a PING for each PONG");
        assert_eq!((header.frame_type(), header.correlation), (Some(Type::Pong), ping.correlation));
        assert_eq!(header.destination, ping.source);
        assert_eq!(Pong::parse(&frame[HEADER_BYTES..]).expect("a good one").ping_clock_us, *clock);
    }
}
