//! The client library over TLS, against a relay of a few lines that speaks TLS as each test says.

mod tls_support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, ServerConnection};
use switchboard::client::{Address, Client, Closed, ConnectError, Envelope, Event, Identity, Options, Tls, TlsError};
use switchboard::wire::control::{Body, Gap, Goodbye, Ping, Pong, Reason};
use switchboard::wire::{Code, Header, Id, Type};
use tls_support::{
    Frames, Line, ME, OTHER, PATIENCE, Pair, Style, at, authority, check_flooded, client, expired, flood, listen,
    listen_tls, of_tomorrow, usual,
};
use x509_parser::prelude::{ASN1Time, FromDer, Validity, X509Certificate};

/// Options of a client that believes the certificates of this file.
fn trusting(ca: &Path) -> Options {
    Options { tls: Tls { ca: Some(ca.to_owned()), identity: None }, ..Options::named("ada") }
}

/// A relay with a self-signed certificate, and a client that it has welcomed.
fn welcomed(piece_bytes: usize, run: impl FnOnce(Line) + Send + 'static) -> (Client, thread::JoinHandle<()>) {
    welcomed_by(&Style::default(), piece_bytes, run)
}

fn welcomed_by(
    style: &Style,
    piece_bytes: usize,
    run: impl FnOnce(Line) + Send + 'static,
) -> (Client, thread::JoinHandle<()>) {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, _) = pair.save(folder.path(), "relay");
    let (port, handle) = listen_tls(style.config(&pair), piece_bytes, |mut line| {
        line.welcome();
        run(line);
    });
    (Client::connect(&at(port), &trusting(&certificate)).expect("welcomed"), handle)
}

/// What a client that believes `ca` says of a relay with this pair.
fn refusal(pair: &Pair, ca: &Pair, host: &str) -> TlsError {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, _) = ca.save(folder.path(), "ca");
    let (port, handle) = listen_tls(Style::default().config(pair), usize::MAX, |mut line| {
        assert!(line.try_frame().is_err(), "nothing is said to a relay that is not believed");
    });
    let address = Address::Tls { host: host.into(), port };
    let error = Client::connect(&address, &trusting(&ca)).expect_err("not believed");
    handle.join().expect("the relay is content");
    assert!(!error.may_retry(), "{error}");
    let ConnectError::Tls(error) = error else { panic!("{error:?}") };
    error
}

#[test]
fn both_versions_of_tls_carry_frames_and_name_the_protocol() {
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let style = Style { versions: vec![version], ..Style::default() };
        let (mut client, handle) = welcomed_by(&style, usize::MAX, move |mut line| {
            let (header, payload) = line.frame();
            assert_eq!((header.destination, payload.as_slice()), (OTHER, &b"over there"[..]));
            assert_eq!(line.0.conn.protocol_version(), Some(number));
            assert_eq!(line.0.conn.alpn_protocol(), Some(&b"switchboard/1"[..]));
            assert_eq!(line.0.conn.server_name(), Some("localhost"));
            line.say_payload(Header { source: OTHER, ..Header::new(Type::Send).to(ME) }, b"over here");
            line.say_end();
        });
        client.sender().send(OTHER, Envelope::text(), b"over there").expect("sent");
        let Event::Message(message) = client.receiver().recv() else { panic!("a message") };
        assert_eq!(message.payload.as_ref(), b"over here");
        assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)));
        handle.join().expect("the relay is content");
    }
}

#[test]
fn a_relay_that_knows_no_alpn_is_taken_and_one_of_another_protocol_is_not() {
    let silent = Style { protocols: Vec::new(), ..Style::default() };
    drop(welcomed_by(&silent, usize::MAX, drop));

    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, _) = pair.save(folder.path(), "relay");
    let web = Style { protocols: vec![b"h2"], ..Style::default() };
    let (port, _handle) = listen_tls(web.config(&pair), usize::MAX, |mut line| drop(line.try_frame()));
    let error = Client::connect(&at(port), &trusting(&certificate)).expect_err("another protocol");
    assert!(matches!(error, ConnectError::Tls(TlsError::OtherProtocol)) && !error.may_retry(), "{error}");
}

#[test]
fn a_certificate_vouches_for_itself_whether_it_calls_itself_an_authority_or_not() {
    for change in [usual, authority] {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = Pair::self_signed(&["localhost", "127.0.0.1"], change);
        let (certificate, _) = pair.save(folder.path(), "relay");
        for host in ["localhost", "127.0.0.1"] {
            let (port, handle) = listen_tls(Style::default().config(&pair), usize::MAX, |mut line| line.welcome());
            let address = Address::Tls { host: host.into(), port };
            Client::connect(&address, &trusting(&certificate)).expect("believed");
            handle.join().expect("the relay is content");
        }
    }
}

#[test]
fn an_authority_vouches_for_what_it_has_signed_and_nobody_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Pair::authority("here");
    let (file, _) = ca.save(folder.path(), "ca");
    let signed = ca.sign("a relay", &["localhost"], usual);
    let (port, handle) = listen_tls(Style::default().config(&signed), usize::MAX, |mut line| line.welcome());
    Client::connect(&at(port), &trusting(&file)).expect("believed");
    handle.join().expect("the relay is content");

    let other = Pair::authority("there");
    assert!(matches!(refusal(&signed, &other, "localhost"), TlsError::UnknownIssuer));
    let stranger = Pair::self_signed(&["localhost"], usual);
    let own = Pair::self_signed(&["localhost"], usual);
    assert!(matches!(refusal(&stranger, &own, "localhost"), TlsError::UnknownIssuer));
    // Who has a certificate that is believed may not make another one with it.
    let made_by_own = own.sign("a relay", &["localhost"], usual);
    assert!(matches!(refusal(&made_by_own, &own, "localhost"), TlsError::UnknownIssuer));
    // Who is only called like an authority is none.
    let namesake = Pair::authority("here");
    assert!(matches!(refusal(&signed, &namesake, "localhost"), TlsError::UnknownIssuer));
    let made_by_signed = signed.sign("a relay", &["localhost"], usual);
    assert!(matches!(refusal(&made_by_signed, &ca, "localhost"), TlsError::UnknownIssuer));
}

#[test]
fn a_certificate_for_others_is_refused_with_their_names() {
    let ca = Pair::authority("here");
    let signed = ca.sign("a relay", &["example.org", "*.example.net", "192.0.2.7"], usual);
    let own = Pair::self_signed(&["example.org", "*.example.net", "192.0.2.7"], usual);
    for (pair, ca) in [(&signed, &ca), (&own, &own)] {
        let error = refusal(pair, ca, "localhost");
        assert_eq!(
            error.to_string(),
            "the relay's certificate is not for localhost but for example.org, *.example.net, 192.0.2.7"
        );
    }
    let nobody = Pair::self_signed(&[], usual);
    assert!(refusal(&nobody, &nobody, "127.0.0.1").to_string().ends_with("it names nobody"));
}

#[test]
fn a_certificate_of_the_past_or_of_the_future_is_refused_even_if_it_is_the_very_one() {
    let ca = Pair::authority("here");
    let own = Pair::self_signed(&["localhost"], expired);
    for (pair, ca) in [(&ca.sign("a relay", &["localhost"], expired), &ca), (&own, &own)] {
        assert_eq!(refusal(pair, ca, "localhost").to_string(), "the relay's certificate has expired 10 days ago");
    }
    let own = Pair::self_signed(&["localhost"], of_tomorrow);
    for (pair, ca) in [(&ca.sign("a relay", &["localhost"], of_tomorrow), &ca), (&own, &own)] {
        assert!(matches!(refusal(pair, ca, "localhost"), TlsError::NotValidYet));
    }
}

#[test]
fn a_certificate_for_clients_is_none_for_a_relay() {
    let ca = Pair::authority("here");
    let error = refusal(&ca.sign("ada", &["localhost"], client), &ca, "localhost");
    assert!(error.to_string().ends_with("it is not meant for a server"), "{error}");
}

#[test]
fn files_that_are_of_no_use_are_named_before_anybody_is_connected_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, key) = pair.save(folder.path(), "relay");
    let (_, other_key) = Pair::self_signed(&["localhost"], usual).save(folder.path(), "other");
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
    let missing = folder.path().join("missing.pem");
    let [locked, locked_of_old] = ["locked.pem", "old.pem"].map(|name| folder.path().join(name));
    std::fs::write(&locked, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .expect("written");
    let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,4B8AF2D5B7E5D7A9\n";
    let text = format!("-----BEGIN EC PRIVATE KEY-----\n{headers}\nAAAA\n-----END EC PRIVATE KEY-----\n");
    std::fs::write(&locked_of_old, text).expect("written");
    let with = |ca: &Path, identity: Option<(&Path, &Path)>| {
        let identity = identity.map(|(certificate, key)| Identity { certificate: certificate.into(), key: key.into() });
        Options { tls: Tls { ca: Some(ca.into()), identity }, ..Options::named("ada") }
    };
    for (options, culprit, says) in [
        (with(&missing, None), &missing, "cannot be read"),
        (with(folder.path(), None), &folder.path().to_owned(), "cannot be read"),
        (with(&key, None), &key, "holds no certificate"),
        (with(&garbage, None), &garbage, "damaged"),
        (with(&certificate, Some((&missing, &key))), &missing, "cannot be read"),
        (with(&certificate, Some((&certificate, &certificate))), &certificate, "holds no private key"),
        (with(&certificate, Some((&certificate, &other_key))), &other_key, "it is not the key of"),
        (with(&certificate, Some((&certificate, &locked))), &locked, "the key in it has a passphrase, and must not"),
        (with(&certificate, Some((&certificate, &locked_of_old))), &locked_of_old, "has a passphrase, and must not"),
    ] {
        // Nobody listens at this address, and nobody is asked to.
        let error = Client::connect(&at(1), &options).expect_err("of no use");
        let ConnectError::Tls(TlsError::File { path, why }) = &error else { panic!("{error:?}") };
        assert_eq!(path, culprit);
        assert!(why.contains(says) && !error.may_retry(), "{error}");
    }
    let unfit = Address::Tls { host: "no host".into(), port: 1 };
    let error = Client::connect(&unfit, &trusting(&certificate)).expect_err("no name");
    assert!(matches!(error, ConnectError::Tls(TlsError::UnfitHost(_))), "{error}");
}

#[test]
fn a_port_without_tls_is_told_from_a_relay_that_is_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, _) = Pair::self_signed(&["localhost"], usual).save(folder.path(), "relay");
    let (port, _handle) = listen(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = Client::connect(&at(port), &trusting(&certificate)).expect_err("no TLS");
    assert!(!error.may_retry(), "{error}");
    let advice = format!("does not speak TLS: try localhost:{port} without tls://");
    assert!(error.to_string().contains(&advice), "{error}");

    // It accepts, and says nothing for ever.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = at(silent.local_addr().expect("bound").port());
    let options = Options { connect_timeout: Duration::from_millis(50), ..trusting(&certificate) };
    let error = Client::connect(&address, &options).expect_err("silent");
    // On a busy machine the time may be over before the first word.
    let is_late = matches!(error, ConnectError::Tls(TlsError::TimedOut { .. }) | ConnectError::TimedOut { .. });
    assert!(is_late && error.may_retry(), "{error}");
}

#[test]
fn a_relay_that_closes_without_a_word_is_told_of_alike_with_tls_and_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, _) = pair.save(folder.path(), "relay");
    let says =
        "the relay closed the connection without a word (it may be full, or not take this address; its log says)";
    // All is read, so that it is no reset.
    let end = |mut stream: TcpStream| drop(stream.read(&mut [0; 10_000]));
    let (before, _handle) = listen(end);
    let (behind, _handle) = listen_tls(Style::default().config(&pair), usize::MAX, |mut line| drop(line.frame()));
    let (told, _handle) = listen_tls(Style::default().config(&pair), usize::MAX, |mut line| {
        line.frame();
        line.say_end();
    });
    for port in [before, behind, told] {
        let error = Client::connect(&at(port), &trusting(&certificate)).expect_err("gone");
        assert_eq!(error.to_string(), says);
        assert!(error.may_retry());
    }
    let (port, _handle) = listen(end);
    let error = Client::connect(&Address::Tcp { host: "localhost".into(), port }, &Options::named("ada"));
    let error = error.expect_err("gone");
    assert_eq!(error.to_string(), says);
    assert!(error.may_retry());
}

#[test]
fn a_client_without_tls_is_told_that_the_port_wants_it() {
    let pair = Pair::self_signed(&["localhost"], usual);
    let (port, _handle) = listen_tls(Style::default().config(&pair), usize::MAX, |mut line| drop(line.try_frame()));
    let plain = Address::Tcp { host: "127.0.0.1".into(), port };
    let error = Client::connect(&plain, &Options::named("ada")).expect_err("it speaks TLS");
    assert_eq!(error.to_string(), format!("that port speaks TLS: write tls://127.0.0.1:{port}"));
    assert!(!error.may_retry());
}

#[test]
fn records_that_come_byte_by_byte_are_read_as_they_are() {
    let (mut client, handle) = welcomed(1, |mut line| {
        for n in 0..20_u32 {
            line.say_payload(Header { source: OTHER, ..Header::new(Type::Send).correlating(n) }, &[7; 100]);
        }
        line.say_end();
    });
    for n in 0..20 {
        let Event::Message(message) = client.receiver().recv() else { panic!("a message") };
        assert_eq!((message.header.correlation, message.payload.as_ref()), (n, &[7; 100][..]));
    }
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)));
    handle.join().expect("the relay is content");
}

#[test]
fn what_lies_behind_a_frame_in_the_same_record_or_read_is_found_without_another_byte() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (mut client, handle) = welcomed(usize::MAX, move |mut line| {
        // Frames that share a record, and records that share a segment.
        let mut plain = Vec::new();
        for n in 0..5_000_u32 {
            Header { source: OTHER, ..Header::new(Type::Send).correlating(n) }.write_frame(&mut plain, |_| ());
        }
        let mut records = Vec::new();
        for piece in plain.chunks(3_001) {
            line.0.conn.writer().write_all(piece).expect("room");
            while line.0.conn.wants_write() {
                line.0.conn.write_tls(&mut records).expect("written");
            }
        }
        line.0.sock.stream.write_all(&records).expect("sent");
        // Nothing more comes until all of that is read.
        let _ = wait.recv();
    });
    for n in 0..5_000 {
        let Some(Event::Message(message)) = client.receiver().recv_timeout(PATIENCE) else { panic!("message {n}") };
        assert_eq!(message.header.correlation, n);
    }
    assert!(client.receiver().recv_timeout(Duration::ZERO).is_none());
    drop(go);
    handle.join().expect("the relay is content");
}

#[test]
fn large_frames_pass_both_ways_at_once() {
    const FRAMES: u32 = 300;
    let (client, handle) = welcomed(usize::MAX, |mut line| {
        let mut outgoing = line.0.sock.stream.try_clone().expect("a handle");
        let mut received = 0;
        let mut next = 0;
        let mut scratch = vec![0; 100_000];
        // All of its own is on its way before it reads a byte, and goes on while it reads.
        outgoing.set_nonblocking(true).expect("set");
        let mut inbound = Vec::new();
        while received < FRAMES || next < FRAMES || line.0.conn.wants_write() {
            if next < FRAMES && !line.0.conn.wants_write() {
                let mut frame = Vec::new();
                let header = Header { source: OTHER, ..Header::new(Type::Send).correlating(next) };
                header.write_frame(&mut frame, |out| out.resize(out.len() + 60_000, next as u8));
                line.0.conn.writer().write_all(&frame).expect("room");
                next += 1;
            }
            if line.0.conn.wants_write() {
                let _ = line.0.conn.write_tls(&mut outgoing);
            }
            match outgoing.read(&mut scratch) {
                Ok(0) => panic!("the client has gone"),
                Ok(count) => take(&mut line.0.conn, &scratch[..count], &mut inbound),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            while inbound.len() >= 60_028 {
                assert!(inbound[28..60_028].iter().all(|byte| *byte == received as u8), "frame {received} is intact");
                inbound.drain(..60_028);
                received += 1;
            }
        }
        line.say_end();
        let _ = outgoing.set_nonblocking(false);
        let _ = outgoing.read_to_end(&mut Vec::new());
    });
    let (sender, mut receiver) = client.split();
    let sending = thread::spawn(move || {
        for n in 0..FRAMES {
            sender.send_as(n, OTHER, Envelope::bytes(), &vec![n as u8; 60_000]).expect("sent");
        }
    });
    for n in 0..FRAMES {
        let event = receiver.recv();
        let Event::Message(message) = event else { panic!("message {n}: {event:?}") };
        assert_eq!(message.header.correlation, n);
        assert!(message.payload.iter().all(|byte| *byte == n as u8), "frame {n} is intact");
    }
    sending.join().expect("all sent");
    assert!(matches!(receiver.recv(), Event::Closed(Closed::Ended)));
    handle.join().expect("the relay is content");
}

/// Decrypts what came.
fn take(connection: &mut ServerConnection, mut bytes: &[u8], plain: &mut Vec<u8>) {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).expect("taken");
        connection.process_new_packets().expect("good records");
        let _ = connection.reader().read_to_end(plain);
    }
}

#[test]
fn a_blocked_sender_does_not_keep_the_receiver_from_reading_and_owed_answers_follow() {
    let (client, handle) = welcomed(usize::MAX, |mut line| {
        flood(&mut line);
        line.say_end();
    });
    check_flooded(client);
    handle.join().expect("the relay is content");
}

#[test]
fn many_answers_that_find_no_room_are_written_when_there_is_room() {
    const PINGS: u64 = 400;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (client, handle) = welcomed(usize::MAX, move |mut line| {
        // The client's sender fills the way to here; what the receiver owes meanwhile has to wait.
        let (first, _) = line.frame();
        assert_eq!(first.frame_type(), Some(Type::Send));
        for n in 0..PINGS {
            line.say(Header::new(Type::Ping), &Ping { clock_us: Some(n) });
        }
        line.say(Header::new(Type::Gap), &Gap { frames: 1, bytes: 1 });
        wait.recv_timeout(PATIENCE).expect("the client has read the PINGs");
        let mut next = 0;
        while next < PINGS {
            let (header, payload) = line.frame();
            if header.frame_type() == Some(Type::Pong) {
                assert_eq!(Pong::parse(&payload).expect("a PONG").ping_clock_us, Some(next));
                next += 1;
            }
        }
    });
    let (sender, mut receiver) = client.split();
    let sending = thread::spawn(move || while sender.send(OTHER, Envelope::bytes(), &vec![6; 60_000]).is_ok() {});
    assert!(matches!(receiver.recv(), Event::Gap { .. }));
    go.send(()).expect("the relay waits");
    assert!(matches!(receiver.recv(), Event::Closed(_)));
    sending.join().expect("woken");
    handle.join().expect("the relay is content");
}

#[test]
fn new_keys_in_the_midst_of_a_conversation_change_nothing() {
    let (mut client, handle) = welcomed(usize::MAX, |mut line| {
        for n in 0..10_u32 {
            line.0.conn.refresh_traffic_keys().expect("TLS 1.3");
            line.say_payload(Header { source: OTHER, ..Header::new(Type::Send).correlating(n) }, b"x");
            assert_eq!(line.frame().0.correlation, n + 100);
        }
    });
    for n in 0..10 {
        let Event::Message(message) = client.receiver().recv() else { panic!("a message") };
        assert_eq!(message.header.correlation, n);
        client.sender().send_as(n + 100, OTHER, Envelope::text(), b"y").expect("sent");
    }
    handle.join().expect("the relay is content");
}

#[test]
fn the_end_of_a_stream_is_believed_only_when_tls_was_told_of_it() {
    let (mut client, _handle) = welcomed(usize::MAX, |mut line| line.say_end());
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)));

    let (mut client, _handle) = welcomed(usize::MAX, drop);
    let Event::Closed(closed) = client.receiver().recv() else { panic!("closed") };
    assert!(closed == Closed::Truncated && closed.may_return(), "{closed:?}");
    assert!(closed.to_string().contains("close_notify"), "{closed}");

    // The relay's own words say more than how they ended.
    let (mut client, _handle) = welcomed(usize::MAX, |mut line| {
        line.say(Header::new(Type::Goodbye), &Goodbye(Reason::new(Code::ShuttingDown, "going down")));
    });
    assert!(matches!(client.receiver().recv(), Event::Goodbye(_)));
    let Event::Closed(Closed::ByRelay(last_word)) = client.receiver().recv() else { panic!("closed") };
    assert_eq!(last_word.code(), Some(Code::ShuttingDown));
}

#[test]
fn a_client_that_leaves_tells_tls_however_it_leaves() {
    let (client, handle) = welcomed(usize::MAX, |mut line| {
        assert_eq!(line.0.read(&mut [0; 1]).expect("told"), 0);
    });
    drop(client);
    handle.join().expect("the relay is content");

    let (client, handle) = welcomed(usize::MAX, |mut line| {
        assert_eq!(line.0.read(&mut [0; 1]).expect("told"), 0);
    });
    client.sender().shutdown();
    handle.join().expect("the relay is content");

    let (mut client, handle) = welcomed(usize::MAX, |mut line| {
        assert_eq!(line.frame().0.frame_type(), Some(Type::Goodbye));
        line.say_end();
        assert_eq!(line.0.read(&mut [0; 1]).expect("told"), 0);
    });
    client.sender().goodbye().expect("sent");
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)));
    handle.join().expect("the relay is content");
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection() {
    let (mut client, _handle) = welcomed(usize::MAX, |mut line| {
        let mut record = Vec::new();
        line.0.conn.writer().write_all(&[0; 100]).expect("room");
        line.0.conn.write_tls(&mut record).expect("written");
        let last = record.len() - 1;
        record[last] ^= 1;
        line.0.sock.stream.write_all(&record).expect("sent");
        let _ = line.0.sock.stream.read_to_end(&mut Vec::new());
    });
    let Event::Closed(closed) = client.receiver().recv() else { panic!("closed") };
    assert!(matches!(closed, Closed::Broken { kind: ErrorKind::InvalidData, .. }), "{closed:?}");
    assert!(closed.to_string().contains("TLS has failed"), "{closed}");
    assert!(client.sender().send(Id::ALL, Envelope::text(), b"x").is_err());
}

fn for_a_relay(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// A day of a certificate's time, as people write it.
fn day(pair: &Pair, of: fn(&Validity) -> ASN1Time) -> String {
    let (_, certificate) = X509Certificate::from_der(pair.certificate.der()).expect("a certificate");
    let seconds = of(certificate.validity()).timestamp().unsigned_abs();
    humantime::format_rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()[..10].to_owned()
}

#[test]
fn a_relay_that_wants_a_certificate_of_the_client_gets_it_or_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Pair::authority("here");
    let (file, _) = ca.save(folder.path(), "ca");
    let pair = ca.sign("a relay", &["localhost"], usual);
    let ada = ca.sign("ada", &[], client);
    let (certificate, key) = ada.save(folder.path(), "ada");
    let connect = |version, identity: Option<(&Path, &Path)>| {
        let versions = vec![version];
        let style = Style { versions, clients: Some(ca.certificate.der().clone()), ..Style::default() };
        let (port, handle) = listen_tls(style.config(&pair), usize::MAX, |mut line| {
            if let Ok((header, _)) = line.try_frame() {
                assert!(line.0.conn.peer_certificates().is_some_and(|chain| chain.len() == 1));
                line.welcome_to(header);
            }
        });
        let mut options = trusting(&file);
        options.tls.identity =
            identity.map(|(certificate, key)| Identity { certificate: certificate.into(), key: key.into() });
        let connected = Client::connect(&at(port), &options);
        handle.join().expect("the relay is content");
        connected
    };
    let late = ca.sign("ada", &[], |params| (client(params), expired(params)).1);
    let early = ca.sign("ada", &[], |params| (client(params), of_tomorrow(params)).1);
    let (ended, begins) = (day(&late, |validity| validity.not_after), day(&early, |validity| validity.not_before));
    let path = |name: &str| folder.path().join(format!("{name}.pem")).display().to_string();
    let cases = [
        (
            ("wrong", Pair::authority("there").sign("ada", &[], client)),
            "the relay does not take your certificate: the relay does not know the authority that signed it".to_owned(),
        ),
        (
            ("other", ca.sign("ada", &[], for_a_relay)),
            "the relay does not take your certificate: it is not meant for a client".to_owned(),
        ),
        (("late", late), format!("your certificate {} ended on {ended}: renew it", path("late"))),
        (
            ("early", early),
            format!(
                "your certificate {} does not hold before {begins}: is the clock of this machine right?",
                path("early")
            ),
        ),
    ];
    for version in [&TLS12, &TLS13] {
        connect(version, Some((&certificate, &key))).expect("welcomed");
        for ((name, pair), says) in &cases {
            let (certificate, key) = pair.save(folder.path(), name);
            let error = connect(version, Some((&certificate, &key))).expect_err("refused");
            assert_eq!(error.to_string(), *says, "{version:?}");
            assert!(matches!(error, ConnectError::Tls(_)) && !error.may_retry(), "{version:?}: {error:?}");
        }
    }
    let error = connect(&TLS13, None).expect_err("refused");
    assert!(matches!(error, ConnectError::Tls(TlsError::CertificateRequired)) && !error.may_retry(), "{error}");
    // TLS 1.2 has no word for it.
    let error = connect(&TLS12, None).expect_err("refused");
    assert!(matches!(error, ConnectError::Tls(_)) && !error.may_retry(), "{error}");
}
