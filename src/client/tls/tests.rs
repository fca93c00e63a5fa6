//! A channel and the server's end of it, joined by a pair of sockets.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::super::outbox::Outbox;
use super::super::socket::Socket;
use super::super::stream::Stream;
use super::{Fault, Tls};

type Server = StreamOwned<ServerConnection, UnixStream>;

/// Both ends after the handshake.
fn joined(version: &'static SupportedProtocolVersion) -> (Socket, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).expect("written");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
        .expect("a pair");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("set");
    let server = thread::spawn(move || {
        let connection = ServerConnection::new(Arc::new(config)).expect("a configuration");
        let mut server = StreamOwned::new(connection, theirs);
        server.conn.complete_io(&mut server.sock).expect("hands are shaken");
        server
    });
    let plan = Tls { ca: Some(ca), identity: None }.plan("localhost", 1).expect("good files");
    let stream = Stream::Unix(ours);
    let channel = plan.open(&stream, Instant::now() + Duration::from_secs(30)).expect("hands are shaken");
    (Socket::new(stream, Some(channel)), server.join().expect("hands are shaken"))
}

/// Reads until nothing is there.
fn settle(socket: &Socket) {
    let error = socket.read(&mut [0; 100]).expect_err("nothing");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Whether the socket says at once that there is something to read.
fn is_readable(socket: &Socket) -> bool {
    socket.wait(true, false, Some(Duration::ZERO)).expect("waited").readable
}

#[test]
fn what_a_small_buffer_has_left_is_readable_though_the_stream_is_empty() {
    let (socket, mut server) = joined(&TLS13);
    settle(&socket);
    assert!(!is_readable(&socket));
    server.write_all(b"0123456789").expect("sent");
    let mut got = Vec::new();
    while got.len() < 10 {
        assert!(is_readable(&socket), "after {got:?}");
        // Nobody is told to wait for room meanwhile.
        assert!(socket.wait(true, true, Some(Duration::ZERO)).expect("waited").writable);
        let mut buffer = [0; 3];
        let count = socket.read(&mut buffer).expect("read");
        got.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(got, b"0123456789");
    settle(&socket);
    assert!(!is_readable(&socket));
}

#[test]
fn an_end_is_told_behind_what_came_before_it_and_again_whenever_one_asks() {
    for says_so in [true, false] {
        let (socket, mut server) = joined(&TLS13);
        server.write_all(b"last").expect("sent");
        if says_so {
            server.conn.send_close_notify();
            server.flush().expect("sent");
        }
        drop(server);
        let mut buffer = [0; 100];
        assert_eq!(socket.read(&mut buffer).expect("read"), 4);
        for _ in 0..2 {
            assert!(is_readable(&socket));
            match socket.read(&mut buffer) {
                Ok(count) => assert!(says_so && count == 0),
                Err(error) => assert!(!says_so && matches!(Fault::of(&error), Some(Fault::Truncated)), "{error}"),
            }
        }
    }
}

#[test]
fn what_finds_no_room_is_kept_and_somebody_waits_for_room() {
    let (socket, mut server) = joined(&TLS13);
    settle(&socket);
    let outbox = Outbox::default();
    assert!(!outbox.owes(&socket));
    let piece = vec![7; 50_000];
    let mut sent = 0;
    // Until the socket is full: the last piece is taken, and not all of it is written.
    while !socket.is_unwritten() {
        sent += socket.write(&[IoSlice::new(&piece)]).expect("taken");
    }
    assert!(outbox.owes(&socket), "nobody else would write it");
    assert_eq!(socket.write(&[IoSlice::new(&piece)]).expect_err("full").kind(), ErrorKind::WouldBlock);
    let reading = thread::spawn(move || {
        let mut got = vec![0; sent];
        server.read_exact(&mut got).expect("all of it");
        assert!(got.iter().all(|byte| *byte == 7));
        server
    });
    while !socket.flush().expect("written") {
        assert!(socket.wait(false, true, Some(Duration::from_secs(30))).expect("waited").writable);
    }
    assert!(!outbox.owes(&socket));
    drop(reading.join().expect("all came"));
}

#[test]
fn what_was_written_as_a_whole_is_on_its_way_though_nobody_writes_behind_it() {
    let (socket, mut server) = joined(&TLS13);
    settle(&socket);
    let reading = thread::spawn(move || {
        let mut got = vec![0; 40 * 150_000];
        server.read_exact(&mut got).expect("all of it");
    });
    let (front, back) = (vec![7; 100_000], vec![8; 50_000]);
    for _ in 0..40 {
        socket.write_all(&mut [IoSlice::new(&front), IoSlice::new(&back)]).expect("written");
        assert!(!socket.is_unwritten());
    }
    reading.join().expect("all came");
}

#[test]
fn both_ends_export_the_same_binding_and_each_connection_its_own() {
    let (label, context) = (b"EXPORTER-Channel-Binding", Some(&b""[..]));
    let (socket, server) = joined(&TLS13);
    let theirs = server.conn.export_keying_material([0; 32], label, context).expect("exported");
    assert_eq!(socket.channel_binding(), Some(theirs));
    let (other, _server) = joined(&TLS13);
    assert_ne!(other.channel_binding(), socket.channel_binding());
    // No relay takes one of TLS 1.2.
    let (old, _server) = joined(&TLS12);
    assert_eq!(old.channel_binding(), None);
}

#[test]
fn a_channel_is_private_wherever_it_leads() {
    let (socket, _server) = joined(&TLS12);
    assert!(socket.is_private());
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    assert!(Socket::new(Stream::Unix(ours), None).is_private(), "a Unix socket does not leave the machine");
}
