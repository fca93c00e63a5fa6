//! What each dialect says, and that it understands its server however the bytes are cut.

use switchboard::bench::{Destination, Dialect, Event, Role};

use crate::dialects::{AcceptOnly, Floor, MESSAGE_BYTES_MAX, Mqtt, Nats, Redis};

const CLIENT: u32 = 7;
const PAIRED: Role = Role { partner: Some(8), room: None, hears_all: false };
const HEARER: Role = Role { partner: None, room: Some(3), hears_all: true };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Ready,
    Delivered(Vec<u8>),
    Ending(String),
}
use Heard::{Delivered, Ending, Ready};

fn delivered(text: &str) -> Heard {
    Delivered(text.as_bytes().to_vec())
}

/// A dialect whose client has said its greeting.
fn greeted<D: Dialect>(mut dialect: D, role: Role) -> D {
    dialect.greet(CLIENT, role, &mut Vec::new());
    dialect
}

/// Shows bytes to a dialect as the reactor would, in these pieces: what is not consumed is shown again once as
/// much is there as the dialect wants.
fn read<D: Dialect>(
    dialect: &mut D,
    pieces: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Result<(Vec<Heard>, Vec<u8>), String> {
    let (mut heard, mut reply) = (Vec::new(), Vec::new());
    let (mut data, mut wanted) = (Vec::<u8>::new(), 0);
    for piece in pieces {
        data.extend_from_slice(piece.as_ref());
        if data.len() < wanted {
            continue;
        }
        let progress = dialect.read(CLIENT, &data, &mut reply, &mut |event| {
            heard.push(match event {
                Event::Ready => Ready,
                Event::Delivered(payload) => Delivered(payload.to_vec()),
                Event::Ending(why) => Ending(why.to_owned()),
                Event::Refused { .. } | Event::Missed(_) => panic!("no other server says that: {event:?}"),
            });
        })?;
        assert!(progress.consumed <= data.len());
        data.drain(..progress.consumed);
        assert!(progress.wanted == 0 || progress.wanted > data.len(), "it is not asked again for what is there");
        wanted = progress.wanted;
    }
    Ok((heard, reply))
}

/// The same events come of whole bytes, of two pieces cut anywhere, and byte by byte.
fn understood<D: Dialect>(dialect: impl Fn() -> D, bytes: &[u8], expected: &[Heard], replies: &[u8]) {
    let expected = Ok((expected.to_vec(), replies.to_vec()));
    assert_eq!(read(&mut dialect(), [bytes]), expected);
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(read(&mut dialect(), [front, back]), expected, "cut at {cut}");
    }
    assert_eq!(read(&mut dialect(), bytes.iter().map(std::slice::from_ref)), expected, "byte by byte");
}

/// Whatever comes, it is refused or left, and nothing fails; nor is a message waited for that is too long.
fn survives<D: Dialect>(dialect: impl Fn() -> D, valid: &[u8]) {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes = valid.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.choice(*b"0123456789\r\n$>*%\x00\xFF").unwrap_or_default()),
                2 => bytes.truncate(at.max(1)),
                _ => _ = bytes.remove(at),
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        let mut on = |_: Event<'_>| {};
        if let Ok(progress) = dialect().read(CLIENT, &bytes, &mut Vec::new(), &mut on) {
            assert!(progress.consumed <= bytes.len());
            assert!(progress.wanted <= 2 * MESSAGE_BYTES_MAX, "{progress:?}");
        }
    }
}

fn refused<D: Dialect>(dialect: impl Fn() -> D, cases: &[&[u8]]) {
    for bytes in cases {
        assert!(read(&mut dialect(), [bytes]).is_err(), "{:?} was taken", String::from_utf8_lossy(bytes));
    }
}

fn said<D: Dialect>(dialect: &mut D, role: Role) -> String {
    let mut out = Vec::new();
    dialect.greet(CLIENT, role, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn sent<D: Dialect>(mut dialect: D, to: Destination) -> Vec<u8> {
    let mut out = Vec::new();
    dialect.send(CLIENT, to, 0, b"hello", &mut out);
    out
}

const NATS: &[u8] = b"INFO {\"server_id\":\"X\",\"max_payload\":1048576} \r\nPONG\r\nMSG c7 1 5\r\nhello\r\n\
MSG c7 1 reply.to 0\r\n\r\nPING\r\n+OK\r\nMSG all 2 7\r\na\r\nPING\r\n-ERR 'Slow Consumer'\r\n";

#[test]
fn nats_is_understood_however_it_is_cut() {
    let heard =
        [Ready, delivered("hello"), delivered(""), delivered("a\r\nPING"), Ending("-ERR 'Slow Consumer'".to_owned())];
    understood(|| greeted(Nats, PAIRED), NATS, &heard, b"PONG\r\n");
    survives(|| Nats, NATS);
    let long = b"x".repeat(20_000);
    refused(
        || Nats,
        &[
            b"HTTP/1.1 200 OK\r\n",
            b"MSG c7 1 x\r\n",
            b"MSG c7 1 99999999999\r\n",
            b"MSG c7 1 1\r\nabcd",
            b"PONG\n",
            &long,
        ],
    );
}

#[test]
fn nats_is_told_what_a_client_hears_and_sends() {
    let greeting = said(&mut Nats, PAIRED);
    assert!(greeting.starts_with("CONNECT {") && greeting.contains("\"echo\":false"), "{greeting}");
    assert!(greeting.ends_with("}\r\nSUB c7 1\r\nPING\r\n"), "{greeting}");
    assert!(said(&mut Nats, HEARER).ends_with("}\r\nSUB r3 1\r\nSUB all 2\r\nPING\r\n"));
    assert!(said(&mut Nats, Role::default()).ends_with("}\r\nSUB c7 1\r\nPING\r\n"), "it can be reached");
    assert_eq!(sent(Nats, Destination::Client(4_294_967_295)), b"PUB c4294967295 5\r\nhello\r\n");
    assert_eq!(sent(Nats, Destination::Room(0)), b"PUB r0 5\r\nhello\r\n");
    assert_eq!(sent(Nats, Destination::All), b"PUB all 5\r\nhello\r\n");
}

const REDIS: &[u8] = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*0\r\n\
>3\r\n$9\r\nsubscribe\r\n$2\r\nr3\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$3\r\nall\r\n:2\r\n\
>3\r\n$7\r\nmessage\r\n$3\r\nall\r\n$5\r\nhello\r\n>3\r\n$7\r\nmessage\r\n$2\r\nr3\r\n$0\r\n\r\n+OK\r\n\
>3\r\n$7\r\nmessage\r\n$3\r\nall\r\n$6\r\n\r\n>3\r\n\r\n|1\r\n+a\r\n:1\r\n#t\r\n-ERR max number of clients\r\n";

#[test]
fn redis_is_understood_however_it_is_cut() {
    let ending = Ending("ERR max number of clients".to_owned());
    let heard = [Ready, delivered("hello"), delivered(""), delivered("\r\n>3\r\n"), ending];
    understood(|| greeted(Redis::default(), HEARER), REDIS, &heard, b"");
    survives(|| greeted(Redis::default(), HEARER), REDIS);
    let deep = b"*1000\r\n".repeat(1000);
    refused(
        || greeted(Redis::default(), PAIRED),
        &[
            b"INFO {}\r\n",
            b">3\r\n$7\r\nmessage\r\n:1\r\n",
            b">3\r\n$7\r\nmessage\r\n$2\r\nc7\r\n$99999999\r\n",
            b">3\r\n$7\r\nmessage\r\n$2\r\nc7\r\n$1\r\nabcd",
            b"*99999\r\n",
            &deep,
            b">3\r\n$9\r\nsubscribe\r\n$2\r\nc7\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$2\r\nc8\r\n:2\r\n",
        ],
    );
}

#[test]
fn redis_is_told_what_a_client_hears_and_sends() {
    let hello = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
    let off = "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n";
    let subscribe = |name: &str| format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len());
    assert_eq!(said(&mut Redis::default(), PAIRED), format!("{hello}{}{off}", subscribe("c7")));
    let both = format!("{}{}", subscribe("r3"), subscribe("all"));
    assert_eq!(said(&mut Redis::default(), HEARER), format!("{hello}{both}{off}"));
    let publish = b"*3\r\n$7\r\nPUBLISH\r\n$2\r\nc8\r\n$5\r\nhello\r\n";
    assert_eq!(sent(Redis::default(), Destination::Client(8)), publish);
}

const MQTT: &[u8] = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x09\x00\x02c7hello\x30\x04\x00\x02c7\xD0\x00\
\x31\x08\x00\x03allabc\x20\x02\x00\x05";

#[test]
fn mqtt_is_understood_however_it_is_cut() {
    let ending = Ending("CONNACK with return code 5".to_owned());
    let mut bytes = MQTT.to_vec();
    // A packet whose length takes two bytes.
    bytes.extend_from_slice(b"\x30\xCC\x01\x00\x02c7");
    bytes.extend_from_slice(&[b'z'; 200]);
    let heard = [Ready, delivered("hello"), delivered(""), delivered("abc"), ending, Delivered(vec![b'z'; 200])];
    understood(|| greeted(Mqtt, PAIRED), &bytes, &heard, b"");
    survives(|| Mqtt, &bytes);
    understood(|| Mqtt, b"\x90\x04\x00\x01\x00\x80", &[Ending("a subscription was refused".to_owned())], b"");
    refused(
        || Mqtt,
        &[
            b"\x30\xFF\xFF\xFF\xFF\x01",
            b"\x30\xFF\xFF\xFF\x7F",
            b"\x30\x01\x00",
            b"\x30\x03\x00\x09x",
            b"\x32\x09\x00\x02c7\x00\x01abc",
            b"\x38\x04\x00\x02c7",
            b"\x20\x01\x00",
            b"\x90\x02\x00\x01",
            b"INFO {}\r\n and a good deal more, so that it is whole, whatever its second byte says of its length.",
        ],
    );
}

#[test]
fn mqtt_is_told_what_a_client_hears_and_sends() {
    let connect = b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x00\x00\x02c7";
    let mut out = Vec::new();
    Mqtt.greet(CLIENT, PAIRED, &mut out);
    assert_eq!(out, [&connect[..], b"\x82\x07\x00\x01\x00\x02c7\x00"].concat());
    out.clear();
    Mqtt.greet(CLIENT, HEARER, &mut out);
    assert_eq!(out, [&connect[..], b"\x82\x0D\x00\x01\x00\x02r3\x00\x00\x03all\x00"].concat());
    assert_eq!(sent(Mqtt, Destination::All), b"\x30\x0A\x00\x03allhello");
    out.clear();
    Mqtt.send(CLIENT, Destination::Client(1), 0, &[1; 200], &mut out);
    assert_eq!(out[..7], *b"\x30\xCC\x01\x00\x02c1");
}

#[test]
fn the_floor_is_understood_however_it_is_cut() {
    let heard = [Ready, delivered("one"), delivered("two"), delivered("\x01\x01\x01")];
    understood(|| greeted(Floor::new(3), PAIRED), b"\x01onetwo\x01\x01\x01", &heard, b"");
    survives(|| greeted(Floor::new(3), PAIRED), b"\x01onetwo");
    refused(|| greeted(Floor::new(3), PAIRED), &[b"\x02", b"one"]);
    assert_eq!(sent(Floor::new(5), Destination::All), b"hello");
    assert!(read(&mut AcceptOnly, [b"x"]).is_err());
}

#[test]
fn a_client_that_comes_again_has_to_be_answered_again() {
    let mut floor = greeted(Floor::new(1), PAIRED);
    assert_eq!(read(&mut floor, [b"\x01a"]).map(|(heard, _)| heard.len()), Ok(2));
    let mut floor = greeted(floor, PAIRED);
    assert_eq!(read(&mut floor, [b"\x01"]).map(|(heard, _)| heard), Ok(vec![Ready]));
}
