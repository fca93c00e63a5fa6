//! What proxies say before anything else: any bytes, cut anywhere, before the reactor, and an independent reading of the
//! specification beside it (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Whatever the specification calls a good header must be taken, and nobody may be let in for what it does not; what comes
//! behind the header is the service's, every byte of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use switchboard::reactor::{Admitted, CloseReason, ConnId, Gate, Limits, PeerAddr, Progress};

use super::support::{Bench, Peer, Pipe, Script, Told, small};
use crate::dice::Dice;

/// What a proxy may say at most, and be taken.
const HEADER_BYTES_MAX: usize = 4096;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A reading of the beginning of a stream.
enum Reading {
    /// Its length, and whom it names.
    Good(usize, Option<SocketAddr>),
    /// Some would take it, and some would not: as above if it is taken.
    Odd(usize, Option<SocketAddr>),
    Bad,
    Unfinished,
}

fn read(bytes: &[u8]) -> Reading {
    if bytes.starts_with(V2) {
        return read_v2(bytes);
    }
    let begins = |whole: &[u8]| whole.starts_with(bytes);
    if begins(V2) || begins(b"PROXY ") {
        return Reading::Unfinished;
    }
    if bytes.starts_with(b"PROXY ") { read_v1(bytes) } else { Reading::Bad }
}

fn read_v1(bytes: &[u8]) -> Reading {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let Some(end) = end.filter(|end| end + 2 <= 107) else {
        return if bytes.len() < 107 { Reading::Unfinished } else { Reading::Bad };
    };
    // What stands behind that word is to be ignored, text or not.
    match bytes[6..end].strip_prefix(b"UNKNOWN") {
        Some([]) => return Reading::Good(end + 2, None),
        Some(_) => return Reading::Odd(end + 2, None),
        None => {}
    }
    let Ok(line) = std::str::from_utf8(&bytes[6..end]) else { return Reading::Bad };
    let words: Vec<&str> = line.split(' ').collect();
    let [family, from, to, port, to_port] = words[..] else { return Reading::Bad };
    let (Ok(from_ip), Ok(to_ip)) = (from.parse::<IpAddr>(), to.parse::<IpAddr>()) else { return Reading::Bad };
    let (Ok(port_number), Ok(to_number)) = (port.parse::<u16>(), to_port.parse::<u16>()) else { return Reading::Bad };
    let is_family = match family {
        "TCP4" => from_ip.is_ipv4() && to_ip.is_ipv4(),
        "TCP6" => from_ip.is_ipv6() && to_ip.is_ipv6(),
        _ => false,
    };
    if !is_family {
        return Reading::Bad;
    }
    let named = Some(SocketAddr::new(from_ip, port_number));
    let is_canonical = port_number.to_string() == port && to_number.to_string() == to_port;
    if is_canonical { Reading::Good(end + 2, named) } else { Reading::Odd(end + 2, named) }
}

fn read_v2(bytes: &[u8]) -> Reading {
    let [command, family, high, low] = bytes[V2.len()..].first_chunk().copied().unwrap_or([0x20, 0, 0, 0]);
    if bytes.len() < V2.len() + 4 {
        return match bytes.get(V2.len()) {
            Some(command) if !matches!(command, 0x20 | 0x21) => Reading::Odd(usize::MAX, None),
            _ => Reading::Unfinished,
        };
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = V2.len() + 4 + length;
    let addresses = &bytes[V2.len() + 4..];
    if !matches!(command, 0x20 | 0x21) {
        return Reading::Bad;
    }
    let is_known = matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32);
    let least = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    if length < least {
        // It will be found out at some time.
        return Reading::Odd(whole, None);
    }
    if addresses.len() < length {
        return Reading::Unfinished;
    }
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    let named = match family >> 4 {
        1 => addresses.first_chunk::<4>().map(|ip| SocketAddr::new(IpAddr::from(*ip), port(8))),
        2 => addresses.first_chunk::<16>().map(|ip| SocketAddr::new(IpAddr::from(*ip), port(32))),
        _ => None,
    };
    let named = named.filter(|_| command == 0x21);
    if is_known && length <= 1000 { Reading::Good(whole, named) } else { Reading::Odd(whole, named) }
}

/// A good header, some of whose bytes the dice may have changed.
fn header(dice: &mut Dice) -> Vec<u8> {
    let mut header = match dice.u8(..8) {
        0 => b"PROXY TCP4 198.51.100.7 10.0.0.1 8080 9999\r\n".to_vec(),
        1 => b"PROXY TCP6 2001:db8::1 ::1 8080 9999\r\n".to_vec(),
        2 => b"PROXY UNKNOWN\r\n".to_vec(),
        3 => {
            let count = dice.usize(..200);
            return dice.bytes(count);
        }
        number => {
            let (family, least) = [(0x11, 12), (0x21, 36), (0x31, 216), (0, 0)][usize::from(number % 4)];
            let length = least + dice.usize(..100);
            let mut header = [V2, &[0x20 | dice.u8(..2), family]].concat();
            header.extend_from_slice(&(length as u16).to_be_bytes());
            header.extend(dice.bytes(length));
            header.resize(V2.len() + 4 + length, 7);
            header
        }
    };
    for _ in 0..dice.u8(..3) {
        let (place, byte) = (dice.usize(..header.len()), dice.u8(..));
        header[place] = byte;
    }
    header
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let mut stream = header(&mut dice);
    let more = dice.usize(..300);
    let behind = dice.bytes(more);
    stream.extend_from_slice(&behind);

    // A service that takes every byte for a message.
    let service = Script::with(|_, conn, data, told| {
        told.push((conn, Told::Message(data.to_vec())));
        Progress::all(data)
    });
    let mut bench = Bench::new(Limits { handshake_deadline: Duration::from_secs(5), ..small() }, service);
    let all: Vec<IpNet> = vec!["0.0.0.0/0".parse().expect("a network")];
    bench.io().set_gate(Gate { proxies: all, ..Gate::default() });
    let (peer, pipe) = Peer::new();
    let mut found = None;
    let socket = PeerAddr::from(SocketAddr::from(([10, 9, 0, 1], 5)));
    let register = |_: &mut Pipe, conn: ConnId| {
        found = Some(conn);
        Ok(())
    };
    let now = bench.now;
    let admitted = bench.engine.admit(&mut bench.service, pipe, socket, 0, now, register);
    assert_eq!(admitted.expect("a slot"), Admitted::Open);
    let conn = found.expect("a slot");
    bench.watch(conn, &peer);

    let mut sent = 0;
    while sent < stream.len() {
        let count = dice.usize(1..=stream.len() - sent);
        peer.send(&stream[sent..sent + count]);
        sent += count;
        bench.settle();
        judge(&mut bench, conn, socket, &stream[..sent], sent == stream.len());
    }
    bench.pass(Duration::from_secs(6));
    let is_in = bench.service.of(conn).contains(&Told::Open);
    if !is_in {
        let counters = bench.engine.counters();
        let (bad, late) =
            (counters.closed(CloseReason::BadProxyHeader), counters.closed(CloseReason::HandshakeOverdue));
        assert_eq!(bad + late, 1, "whoever is not in is gone in time, for a reason");
    }
    peer.end();
    bench.settle();
    bench.pass(Duration::from_secs(10));
    assert_eq!((bench.io().len(), bench.io().buffered_total_bytes()), (0, 0), "something is left");
}

/// What the service has been told is what the bytes so far say.
fn judge(bench: &mut Bench, conn: ConnId, socket: PeerAddr, so_far: &[u8], is_all: bool) {
    let told = bench.service.of(conn);
    let is_in = told.contains(&Told::Open);
    let is_bad = bench.engine.counters().closed(CloseReason::BadProxyHeader) > 0;
    let shown = bench.service.messages_of(conn).concat();
    let mut is_as = |length: usize, named: Option<SocketAddr>| {
        assert_eq!(shown, &so_far[length..], "what stands behind the header");
        let expected = named.map_or(socket, PeerAddr::from);
        assert_eq!(bench.io().peer(conn), Some(expected), "for whom the proxy speaks");
    };
    match read(so_far) {
        Reading::Good(length, named) => {
            assert!(is_in, "a good header is not taken");
            is_as(length, named);
        }
        Reading::Odd(length, named) if is_in => is_as(length, named),
        Reading::Odd(..) => {}
        Reading::Bad => {
            assert!(!is_in, "let in for a bad header: {so_far:02x?}");
            assert!(is_bad || !is_all, "a bad header is waited on: {so_far:02x?}");
        }
        Reading::Unfinished => {
            assert!(!is_in, "let in before the header has ended");
            assert!(
                !is_bad || so_far.len() > HEADER_BYTES_MAX || is_odd(so_far),
                "turned away in the midst of a header"
            );
        }
    }
}

/// Whether what has come of a header can already be known to be no good.
fn is_odd(so_far: &[u8]) -> bool {
    so_far.starts_with(b"PROXY ") || so_far.starts_with(V2) && so_far.len() > V2.len()
}
