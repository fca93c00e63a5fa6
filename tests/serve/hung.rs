//! Clients that are lost, hang, or never were clients: each is found, said and forgotten.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use switchboard::wire::control::{Body, ErrorBody, Hello, Presence, Profile, Watch, presence};
use switchboard::wire::{Code, Header, Id, Type};

use crate::support::{RawClient, Relay, dial};

/// Waits for the departure of `id` and returns its reason.
fn departure(watcher: &mut RawClient, id: Id) -> Option<Code> {
    loop {
        let (_, payload) = watcher.frame_of(Type::Delta);
        for entry in presence(&payload) {
            if let Presence::Departed(member) = entry.expect("a DELTA")
                && member.client == id
            {
                return Code::from_number(member.code_number);
            }
        }
    }
}

fn watcher(relay: &Relay) -> RawClient {
    let mut watcher = RawClient::connect(relay.address, "watcher");
    watcher.say(Header::new(Type::Watch), &Watch::default());
    watcher.frame_of(Type::Snapshot);
    watcher
}

fn error_code(payload: &[u8]) -> Option<Code> {
    ErrorBody::parse(payload).expect("an ERROR").0.code()
}

#[test]
fn a_client_that_falls_silent_is_pinged_then_closed_and_everybody_learns_why() {
    let mut relay = Relay::start(&[]);
    let mut watcher = watcher(&relay);
    let mut hello = Hello::new(Profile::named("silent"));
    hello.keepalive_ms = Some(1_000);
    let mut silent = RawClient::greet(relay.address, &hello, Ipv4Addr::LOCALHOST);
    silent.welcomed();
    assert_eq!(silent.frame().0.frame_type(), Some(Type::Ping));
    let (header, payload) = silent.frame();
    assert_eq!((header.frame_type(), error_code(&payload)), (Some(Type::Error), Some(Code::IdleTimeout)));
    assert!(silent.is_closed());
    assert_eq!(departure(&mut watcher, silent.id), Some(Code::IdleTimeout));
    let line = relay.log_line("IDLE_TIMEOUT");
    for part in ["WARN", &silent.id.to_string(), "\"silent\"", "127.0.0.1:", "last heard 2"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let relay = Relay::start(&[]);
    let mut hello = Hello::new(Profile::named("busy"));
    hello.keepalive_ms = Some(1_000);
    let mut busy = RawClient::greet(relay.address, &hello, Ipv4Addr::LOCALHOST);
    busy.welcomed();
    // For three keepalives it answers no PING but sends frames to itself, each as soon as the last is back.
    let mut quiet = Hello::new(Profile::named("clock"));
    quiet.keepalive_ms = Some(1_000);
    let mut clock = RawClient::greet(relay.address, &quiet, Ipv4Addr::LOCALHOST);
    clock.welcomed();
    for _ in 0..3 {
        let (header, _) = clock.frame_of(Type::Ping);
        clock.send(Header::new(Type::Pong).correlating(header.correlation), &[]);
        busy.send(Header::new(Type::Send).to(busy.id), b"tick");
        assert_eq!(busy.frame_of(Type::Send).0.source, busy.id);
    }
}

#[test]
fn a_reset_a_half_close_and_a_goodbye_are_told_apart() {
    let relay = Relay::start(&[]);
    let mut watcher = watcher(&relay);

    let reset = RawClient::connect(relay.address, "reset");
    socket2::SockRef::from(&reset.socket).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
    let id = reset.id;
    drop(reset);
    assert_eq!(departure(&mut watcher, id), Some(Code::Reset));

    let mut half = RawClient::connect(relay.address, "half");
    half.send(Header::new(Type::Send).to(half.id), b"the last word");
    half.socket.shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(half.frame().1, b"the last word", "what was queued is still written");
    assert!(half.is_closed());
    assert_eq!(departure(&mut watcher, half.id), Some(Code::HungUp));

    let mut polite = RawClient::connect(relay.address, "polite");
    polite.send(Header::new(Type::Goodbye), &[]);
    assert!(polite.is_closed());
    assert_eq!(departure(&mut watcher, polite.id), Some(Code::Left));
}

#[test]
fn who_says_no_hello_in_time_is_told_and_closed() {
    let relay = Relay::start(&["--hello-deadline", "200ms"]);
    let mut mute = RawClient { socket: dial(relay.address, Ipv4Addr::LOCALHOST), id: Id::RELAY };
    assert_eq!(error_code(&mute.frame().1), Some(Code::HelloTimeout));
    assert!(mute.is_closed());
}

#[test]
fn a_frame_that_is_never_finished_closes_its_sender_although_bytes_trickle() {
    let mut relay = Relay::start(&["--frame-deadline", "500ms"]);
    let mut slow = RawClient::connect(relay.address, "loris");
    let mut frame = Vec::new();
    Header::new(Type::Send).to(Id::ALL).write_frame(&mut frame, |out| out.extend_from_slice(&[0; 4_000]));
    slow.socket.write_all(&frame[..100]).expect("open");
    // A byte at a time, as long as the relay lets it; the answer is there as soon as the deadline is over.
    slow.socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).expect("an option");
    let mut answer = Vec::new();
    let mut trickle = frame[100..].chunks(1);
    let mut buffer = [0; 512];
    loop {
        match slow.socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let _ = slow.socket.write_all(trickle.next().expect("the relay closes long before the end"));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(error_code(&answer[28..]), Some(Code::FrameTimeout));
    assert!(relay.log_line("\"loris\"").contains("FRAME_TIMEOUT"));
}

#[test]
fn other_protocols_and_port_scans_leave_counters_and_no_noise() {
    let mut relay = Relay::start(&[]);
    drop(dial(relay.address, Ipv4Addr::LOCALHOST));
    for first in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1], &[0; 64], &[0xff; 4]] {
        let mut stranger = RawClient { socket: dial(relay.address, Ipv4Addr::LOCALHOST), id: Id::RELAY };
        stranger.socket.write_all(first).expect("open");
        assert_eq!(error_code(&stranger.frame().1), Some(Code::NotSwitchboard), "{first:?}");
        assert!(stranger.is_closed());
    }
    let line = relay.stats();
    assert!(line.contains("let in 5, ended without a byte 1"), "{line}");
    let line = relay.log_line("closed: ");
    assert!(line.contains("NOT_SWITCHBOARD 4"), "{line}");
    relay.signal(rustix::process::Signal::TERM);
    assert!(relay.wait().success());
    let mut rest = String::new();
    relay.rest_of_log(&mut rest);
    assert!(!rest.contains("WARN"), "{rest}");
}

#[test]
fn a_thousand_lost_clients_do_not_flood_the_log() {
    let mut relay = Relay::start(&["--log-lost-per-second-max", "5"]);
    let clients: Vec<_> = (0..1_000).map(|n| RawClient::connect(relay.address, &format!("c{n}"))).collect();
    let mut witness = watcher(&relay);
    drop(clients);
    let mut gone = 0;
    while gone < 1_000 {
        let (_, payload) = witness.frame_of(Type::Delta);
        gone += presence(&payload).filter(|entry| matches!(entry, Ok(Presence::Departed(_)))).count();
    }
    relay.signal(rustix::process::Signal::TERM);
    assert!(relay.wait().success());
    let mut log = String::new();
    relay.rest_of_log(&mut log);
    let lines = log.lines().filter(|line| line.contains("WARN")).count();
    assert!((5..100).contains(&lines), "{lines} warnings for a thousand clients");
}
