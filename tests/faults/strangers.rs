//! Who comes to an open port: scans, browsers, and those who come and then hardly move.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use switchboard::wire::control::{Body, ErrorBody};
use switchboard::wire::{Code, Id, Type};

use crate::bystanders::Part;
use crate::crowd::{Crowd, source};
use crate::scene::Scene;
use crate::secure::{certificate, config};
use crate::support::{RawClient, dial};

/// A scan connects and closes: one number each, and not a line in the log.
pub(crate) fn port_scan(scene: &mut Scene) {
    let before = scene.relay.counters();
    let lines = scene.relay.log().len();
    let (mut plain, mut tls) = (0_u64, 0_u64);
    while scene.goes_on() || plain < scene.size.of(50, 0) {
        drop(dial(scene.relay.address, source(plain as usize)));
        drop(dial(scene.relay.tls_address(), source(plain as usize)));
        (plain, tls) = (plain + 1, tls + 1);
    }
    let silent = before.total("without a byte");
    let counters = loop {
        let counters = scene.relay.counters();
        if counters.total("without a byte") - silent >= plain + tls {
            break counters;
        }
    };
    assert_eq!(counters.total("without a byte") - silent, plain + tls);
    assert_eq!(counters.before("abandoned") - before.before("abandoned"), tls, "{counters:?}");
    assert_eq!(counters.closed("HUNG_UP") - before.closed("HUNG_UP"), plain, "{counters:?}");
    let log = scene.relay.log();
    let noise: Vec<&String> =
        log[lines..].iter().filter(|line| line.contains("127.0.") || line.contains("WARN")).collect();
    assert!(noise.is_empty(), "{noise:?}");
    scene.note(format!("{plain} at the plain port, {tls} at that for TLS; one number each, no line in the log"));
}

/// A browser comes by mistake: to the plain port, and to that for TLS, in both languages.
pub(crate) fn browser(scene: &mut Scene) {
    let mut browser = config(&certificate(), rustls::ALL_VERSIONS);
    browser.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let browser = Arc::new(browser);
    let hello = || {
        let server = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&browser), server).expect("a configuration");
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes).expect("memory");
        (tls, bytes)
    };
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n";
    let before = scene.relay.counters();
    let mut visits = 0_u64;
    while scene.goes_on() || visits < scene.size.of(20, 0) {
        for bytes in [&get[..], &hello().1] {
            let mut stranger = RawClient { socket: dial(scene.relay.address, source(visits as usize)), id: Id::RELAY };
            stranger.socket.write_all(bytes).expect("open");
            let (header, payload) = stranger.frame();
            assert_eq!(header.frame_type(), Some(Type::Error));
            assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::NotSwitchboard));
        }
        let mut socket = dial(scene.relay.tls_address(), source(visits as usize));
        socket.write_all(get).expect("open");
        assert_eq!(rest(&mut socket).first(), Some(&21), "an alert");

        let (mut tls, bytes) = hello();
        let mut socket = dial(scene.relay.tls_address(), source(visits as usize));
        socket.write_all(&bytes).expect("open");
        let answer = rest(&mut socket);
        tls.read_tls(&mut &answer[..]).expect("memory");
        let error = tls.process_new_packets().expect_err("there is no protocol for it");
        assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
        visits += 1;
    }
    let counters = scene.relay.counters();
    assert_eq!(counters.closed("NOT_SWITCHBOARD") - before.closed("NOT_SWITCHBOARD"), 2 * visits);
    assert_eq!(counters.no_tls("not TLS") - before.no_tls("not TLS"), visits, "{counters:?}");
    assert_eq!(counters.no_tls("no agreement") - before.no_tls("no agreement"), visits, "{counters:?}");
    scene.note(format!(
        "{visits} visits to each port with HTTP and with HTTPS (h2): NOT_SWITCHBOARD, or an alert that says why"
    ));
}

/// What a relay has still to say before it closes.
fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    let _ = socket.shutdown(Shutdown::Both);
    bytes
}

/// Thousands connect and then send next to nothing: without a word, within the handshake, within a HELLO.
pub(crate) fn slow_loris(scene: &mut Scene) {
    let count = scene.size.of(300_u64, 10_000);
    let tls = scene.relay.tls_address().to_string();
    scene.bystanders.begin(Part::Unmeasured);
    let before = scene.relay.counters();
    let mut crowd = Crowd::start("loris", scene.relay.address, &[&count.to_string(), &tls]);
    assert_eq!(crowd.line(), "ready");
    scene.bystanders.begin(Part::Disturbed);
    crowd.tell("come");
    assert_eq!(crowd.line(), "all gone");
    scene.bystanders.begin(Part::Unmeasured);
    let counters = scene.relay.counters();
    let closed = |code: &str| counters.closed(code) - before.closed(code);
    let (hello, crowded) = (closed("HELLO_TIMEOUT") + closed("FRAME_TIMEOUT"), closed("CROWDED_OUT"));
    let handshake = counters.before("handshake overdue") - before.before("handshake overdue");
    let entering = counters.before("crowded out") - before.before("crowded out");
    assert_eq!(hello + crowded + handshake + entering, count, "each is ended for one of these reasons: {counters:?}");
    scene.note(format!(
        "{count}, a third silent, a third in the handshake, a third in HELLO: {hello} × HELLO_TIMEOUT, {handshake} × \
         handshake overdue, {} × crowded out",
        crowded + entering
    ));
}

/// Is the crowd of the slow.
pub(crate) fn loris_crowd(count: usize, plain: std::net::SocketAddr, tls: std::net::SocketAddr) {
    // A record that announces a ClientHello of 512 bytes, and a HELLO of 200.
    let (record, hello) = ([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], [0, 0, 0, 200, 1, 0, 0, 0]);
    let mut slow: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut socket = dial(if number % 3 == 1 { tls } else { plain }, source(number));
            let begin: &[u8] = match number % 3 {
                0 => &[],
                1 => &record,
                _ => &hello,
            };
            let _ = socket.write_all(begin);
            socket
        })
        .collect();
    // A byte now and then, from some of them; then each waits for its end.
    for socket in slow.iter_mut().skip(1).step_by(7) {
        let _ = socket.write_all(&[0]);
    }
    for socket in &mut slow {
        rest(socket);
    }
}
