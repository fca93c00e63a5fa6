//! Both halves of a client against a relay of a few lines that does exactly what each test says.

mod tls_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use switchboard::client::{Address, Client, Closed, ConnectError, Envelope, Event, Options, SendError};
use switchboard::wire::control::{self, Body, ErrorBody, Goodbye, Hello, Ping, Reason, Welcome};
use switchboard::wire::{Code, Header, Id, Type};
use tls_support::{Frames, ME, OTHER, PATIENCE, check_flooded, flood, listen};

fn header() -> Header {
    Header::new(Type::Send)
}

fn welcome(keepalive_ms: u32) -> Welcome<'static> {
    Welcome { keepalive_ms, ..tls_support::welcome() }
}

/// Runs `relay` on the first connection to a port of its own, and gives the address.
fn relay(run: impl FnOnce(TcpStream) + Send + 'static) -> (Address, thread::JoinHandle<()>) {
    let (port, handle) = listen(run);
    (Address::Tcp { host: "127.0.0.1".into(), port }, handle)
}

/// The same for a client that has been welcomed.
fn welcomed(keepalive_ms: u32, run: impl FnOnce(TcpStream) + Send + 'static) -> (Client, thread::JoinHandle<()>) {
    let (address, handle) = relay(move |mut line| {
        let (hello, _) = line.frame();
        line.say(header().correlating(hello.correlation), &welcome(keepalive_ms));
        run(line);
    });
    (Client::connect(&address, &Options::named("ada")).expect("welcomed"), handle)
}

#[test]
fn connecting_says_who_one_is_and_learns_what_holds() {
    let (address, handle) = relay(|mut line| {
        let (first, payload) = line.frame();
        assert_eq!(first.frame_type(), Some(Type::Hello));
        let hello = Hello::parse(&payload).expect("a HELLO");
        assert_eq!((hello.profile.name, hello.profile.station), (Some("ada"), Some("desk")));
        line.say(header(), &welcome(0));
    });
    let options = Options { station: "desk".into(), ..Options::named("ada") };
    let client = Client::connect(&address, &options).expect("welcomed");
    // The relay would take more than this client has said it takes.
    assert_eq!((client.session().client, client.session().payload_bytes_max), (ME, 65_536));
    handle.join().expect("the relay is content");
}

#[test]
fn a_refusal_keeps_its_code_and_says_whether_to_come_back() {
    for (code, retry_ms, may_retry) in [(Code::HelloNameTaken, None, false), (Code::ShuttingDown, Some(700), true)] {
        let (address, _handle) = relay(move |mut line| {
            line.frame();
            line.say(header(), &ErrorBody(Reason { retry_ms, ..Reason::new(code, "no") }));
        });
        let error = Client::connect(&address, &Options::named("ada")).expect_err("refused");
        assert_eq!(error.may_retry(), may_retry);
        assert_eq!(error.is_name_taken(), code == Code::HelloNameTaken);
        assert_eq!(error.retry_after(), retry_ms.map(|ms| Duration::from_millis(u64::from(ms))));
    }
}

#[test]
fn what_is_no_relay_is_told_apart_from_one_that_is_away() {
    let (address, _handle) = relay(|mut line| {
        let _ = line.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        line.frame();
    });
    let error = Client::connect(&address, &Options::named("ada")).expect_err("no relay");
    assert!(matches!(error, ConnectError::NotARelay(_)) && !error.may_retry(), "{error}");

    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let error = Client::connect(&gone.to_string().parse().expect("good"), &Options::named("ada")).expect_err("gone");
    assert!(matches!(error, ConnectError::Network(_)) && error.may_retry(), "{error}");
}

#[test]
fn a_relay_that_says_nothing_is_given_up_in_time() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (address, handle) = relay(move |line| {
        let _ = held.recv();
        drop(line);
    });
    let options = Options { connect_timeout: Duration::from_millis(50), ..Options::named("ada") };
    let error = Client::connect(&address, &options).expect_err("silent");
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    drop(release);
    handle.join().expect("the relay is content");
}

#[test]
fn pings_are_answered_while_receiving_and_messages_keep_their_source() {
    let (mut client, handle) = welcomed(0, |mut line| {
        line.say(header().correlating(9), &Ping { clock_us: Some(77) });
        line.say(Header { source: OTHER, destination: ME, ..header().correlating(8) }, &Ping { clock_us: None });
        let from_other = Header { source: OTHER, destination: ME, ..header().correlating(4) };
        line.say_payload(from_other, b"hi");
        for (to, correlation, clock) in [(Id::RELAY, 9, Some(77)), (OTHER, 8, None)] {
            let (pong, payload) = line.frame();
            assert_eq!((pong.frame_type(), pong.destination), (Some(Type::Pong), to));
            assert_eq!(pong.correlation, correlation);
            assert_eq!(control::Pong::parse(&payload).expect("a PONG").ping_clock_us, clock);
        }
    });
    let Event::Message(message) = client.receiver().recv() else { panic!("a message") };
    assert_eq!((message.header.source, message.header.correlation, &message.payload[..]), (OTHER, 4, &b"hi"[..]));
    handle.join().expect("the relay is content");
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)));
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Ended)), "the end stays the end");
}

#[test]
fn a_silent_relay_is_asked_for_a_sign_of_life_and_given_up_after_twice_the_keepalive() {
    let (mut client, handle) = welcomed(400, |mut line| {
        let (ping, payload) = line.frame();
        assert_eq!((ping.frame_type(), ping.destination), (Some(Type::Ping), Id::RELAY));
        let ping_clock_us = Ping::parse(&payload).expect("a PING").clock_us;
        line.say(header().correlating(ping.correlation), &control::Pong { ping_clock_us, clock_us: Some(1) });
        let (again, _) = line.frame();
        assert_eq!(again.frame_type(), Some(Type::Ping));
        // Said nothing to the second one: the client closes.
        let mut rest = Vec::new();
        assert_eq!(line.read_to_end(&mut rest).expect("closed"), 0);
    });
    let Event::Closed(Closed::Silent { silence }) = client.receiver().recv() else { panic!("given up") };
    assert!(silence >= Duration::from_millis(800), "{silence:?}");
    handle.join().expect("the relay is content");
}

#[test]
fn waiting_with_a_timeout_ends_without_an_event_and_loses_none() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (mut client, _handle) = welcomed(0, move |mut line| {
        let _ = wait.recv();
        line.say(header().correlating(3), &control::Gap { frames: 2, bytes: 99 });
    });
    assert!(client.receiver().recv_timeout(Duration::ZERO).is_none());
    assert!(client.receiver().recv_timeout(Duration::from_millis(5)).is_none());
    go.send(()).expect("the relay waits");
    assert!(matches!(client.receiver().recv_timeout(PATIENCE), Some(Event::Gap { frames: 2, bytes: 99 })));
}

#[test]
fn the_last_word_of_the_relay_is_the_reason_of_the_end() {
    let (mut client, _handle) = welcomed(0, |mut line| {
        line.say(header(), &ErrorBody(Reason::new(Code::QueueFull, "full")));
        let reason = Reason { retry_ms: Some(1500), ..Reason::new(Code::ShuttingDown, "going down") };
        line.say(header(), &Goodbye(reason));
    });
    assert!(matches!(client.receiver().recv(), Event::Error(failure) if failure.code() == Some(Code::QueueFull)));
    assert!(matches!(client.receiver().recv(), Event::Goodbye(_)));
    let Event::Closed(closed) = client.receiver().recv() else { panic!("closed") };
    assert_eq!(closed.retry_after(), Some(Duration::from_millis(1500)));
    assert!(closed.may_return() && closed.to_string().contains("SHUTTING_DOWN"), "{closed}");
}

#[test]
fn a_frame_over_the_limit_ends_the_connection_before_it_is_received() {
    let (mut client, _handle) = welcomed(0, |mut line| {
        line.write_all(&(70_000u32).to_be_bytes()).expect("sent");
        let _ = line.read(&mut [0; 1]);
    });
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::BadFrame(_))));
    let error = client.sender().send(Id::ALL, Envelope::text(), b"too late").expect_err("closed");
    assert!(error.is_closed());
}

#[test]
fn a_body_of_the_relay_that_cannot_be_read_ends_the_connection() {
    let (mut client, handle) = welcomed(0, |mut line| {
        line.say_payload(Header { correlation: 7, ..Header::new(Type::Receipt) }, b"x");
        let mut rest = Vec::new();
        assert_eq!(line.read_to_end(&mut rest).expect("closed"), 0);
    });
    let Event::Closed(closed) = client.receiver().recv() else { panic!("closed") };
    assert!(matches!(closed, Closed::BadBody { correlation: 7, .. }), "{closed:?}");
    assert!(closed.to_string().starts_with("the relay's RECEIPT cannot be read: "), "{closed}");
    handle.join().expect("the relay is content");
}

#[test]
fn a_stream_that_ends_within_a_frame_is_broken_and_not_ended() {
    let (mut client, _handle) = welcomed(0, |mut line| line.write_all(&[0, 0, 0, 24, 16]).expect("sent"));
    assert!(matches!(client.receiver().recv(), Event::Closed(Closed::Broken { .. })));
}

#[test]
fn what_the_relay_would_refuse_is_never_sent() {
    let (client, handle) = welcomed(0, |mut line| {
        let (only, payload) = line.frame();
        assert_eq!((only.frame_type(), payload.len()), (Some(Type::Send), 65_536));
    });
    let sender = client.sender();
    let payload = vec![0; 65_537];
    assert!(matches!(sender.send(OTHER, Envelope::bytes(), &payload), Err(SendError::TooLarge { .. })));
    let list = sender.send_many(&[OTHER; 2], Envelope::bytes(), &payload[..65_530]);
    assert!(matches!(list, Err(SendError::TooLarge { payload_bytes: 65_550, .. })));
    assert!(matches!(sender.send_many(&[], Envelope::bytes(), b""), Err(SendError::BadRecipients { count: 0 })));
    assert!(sender.send(OTHER, Envelope::bytes(), &payload[..65_536]).is_ok());
    handle.join().expect("the relay is content");
}

#[test]
fn frames_of_many_threads_and_owed_answers_never_mix_even_when_the_relay_reads_slowly() {
    const THREADS: u32 = 4;
    const FRAMES: u32 = 200;
    let (client, handle) = welcomed(0, |mut line| {
        let mut writer = line.try_clone().expect("a handle");
        for n in 0..100 {
            let mut frame = Vec::new();
            Ping { clock_us: Some(n) }.write_frame(header(), &mut frame);
            writer.write_all(&frame).expect("sent");
        }
        let mut next = vec![0; THREADS as usize];
        let (mut sent, mut pongs) = (0, 0);
        while sent < THREADS * FRAMES || pongs < 100 {
            let (header, payload) = line.frame();
            match header.frame_type() {
                Some(Type::Pong) => {
                    let pong = control::Pong::parse(&payload).expect("a PONG");
                    assert_eq!(pong.ping_clock_us, Some(pongs));
                    pongs += 1;
                }
                Some(Type::Send) => {
                    let thread = usize::from(header.kind);
                    assert!(payload.iter().all(|byte| usize::from(*byte) == thread));
                    assert_eq!(header.correlation, next[thread], "in the sender's order");
                    next[thread] += 1;
                    sent += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let (sender, mut receiver) = client.split();
    let senders: Vec<_> = (0..THREADS)
        .map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                let payload = vec![thread as u8; 20_000];
                for n in 0..FRAMES {
                    sender.send_as(n, OTHER, Envelope::kind(thread as u16), &payload).expect("sent");
                }
            })
        })
        .collect();
    assert!(matches!(receiver.recv(), Event::Closed(_)));
    for sender in senders {
        sender.join().expect("all sent");
    }
    handle.join().expect("the relay is content");
}

#[test]
fn a_blocked_sender_does_not_keep_the_receiver_from_reading_and_owed_answers_follow() {
    let (client, handle) = welcomed(0, |mut line| flood(&mut line));
    check_flooded(client);
    handle.join().expect("the relay is content");
}

#[test]
fn an_answer_that_fell_due_behind_a_blocked_sender_is_sent_when_the_sender_is_done() {
    const FRAMES: usize = 300;
    let (seen, wait) = std::sync::mpsc::channel();
    let (client, handle) = welcomed(0, move |mut line| {
        // The sender is in the midst of its frames once their first has come.
        assert_eq!(line.frame().0.frame_type(), Some(Type::Send));
        line.say(header().correlating(9), &Ping { clock_us: Some(1) });
        line.say(header(), &control::Gap { frames: 1, bytes: 1 });
        wait.recv_timeout(PATIENCE).expect("the client has read the PING");
        for _ in 1..FRAMES {
            assert_eq!(line.frame().0.frame_type(), Some(Type::Send));
        }
        assert_eq!(line.frame().0.correlation, 9);
    });
    let (sender, mut receiver) = client.split();
    let mut frames = Vec::new();
    for _ in 0..FRAMES {
        Header::new(Type::Send).to(OTHER).write_frame(&mut frames, |out| out.resize(out.len() + 60_000, 7));
    }
    let sending = thread::spawn(move || sender.send_frames(&frames).expect("sent"));
    assert!(matches!(receiver.recv(), Event::Gap { .. }));
    seen.send(()).expect("the relay waits");
    assert!(matches!(receiver.recv(), Event::Closed(_)));
    sending.join().expect("all sent");
    handle.join().expect("the relay is content");
}

#[test]
fn a_relay_that_answered_while_nobody_looked_is_not_given_up() {
    let keepalive = Duration::from_millis(400);
    let (go, wait) = std::sync::mpsc::channel();
    let (done, answered) = std::sync::mpsc::channel();
    let (mut client, handle) = welcomed(400, move |mut line| {
        assert_eq!(line.frame().0.frame_type(), Some(Type::Ping));
        wait.recv_timeout(PATIENCE).expect("the client has stopped looking");
        line.say(header(), &control::Gap { frames: 1, bytes: 1 });
        done.send(()).expect("the client waits");
        let _ = wait.recv();
    });
    assert!(client.receiver().recv_timeout(keepalive + keepalive / 4).is_none());
    go.send(()).expect("the relay waits");
    answered.recv_timeout(PATIENCE).expect("answered");
    // This is the time under test: more of it passes than a relay may be silent.
    thread::sleep(keepalive);
    assert!(matches!(client.receiver().recv(), Event::Gap { .. }));
    drop(go);
    handle.join().expect("the relay is content");
}

#[test]
fn the_end_of_the_connection_wakes_a_sender_that_waits_for_room() {
    let (client, handle) = welcomed(40, |line| {
        // Reads nothing, says nothing: the client gives it up, and its sender must not wait for ever.
        let mut byte = [0; 1];
        let _ = line.peek(&mut byte);
        thread::park_timeout(PATIENCE);
    });
    let (sender, mut receiver) = client.split();
    let sending = thread::spawn(move || while sender.send(OTHER, Envelope::bytes(), &vec![6; 60_000]).is_ok() {});
    assert!(matches!(receiver.recv(), Event::Closed(_)));
    sending.join().expect("woken");
    handle.thread().unpark();
    handle.join().expect("the relay is content");
}

#[test]
fn events_that_were_put_back_come_first_and_in_order() {
    let (mut client, _handle) = welcomed(0, |mut line| line.say(header(), &control::Gap { frames: 3, bytes: 0 }));
    let gap = |frames| Event::Gap { frames, bytes: 0 };
    client.receiver().put_back([gap(1), gap(2)].into_iter());
    for expected in 1..=3 {
        assert!(matches!(client.receiver().recv(), Event::Gap { frames, .. } if frames == expected));
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut frame = Vec::new();
        welcome(0).write_frame(header(), &mut frame);
        stream.write_all(&frame).expect("sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("read");
    });
    let address: Address = format!("unix:{}", path.display()).parse().expect("good");
    let client = Client::connect(&address, &Options::named("ada")).expect("welcomed");
    assert_eq!(client.session().client, ME);
    drop(client);
    handle.join().expect("the relay is content");
}
