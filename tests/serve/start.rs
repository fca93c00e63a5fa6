//! What an operator gets to see of a relay that starts and works.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use switchboard::wire::control::{Body, Hello, Profile};
use switchboard::wire::{Header, Type};

use crate::support::{RawClient, Relay};

#[test]
fn a_wildcard_is_announced_as_addresses_that_can_be_reached() {
    let relay = Relay::start(&["--listen", "0.0.0.0:0"]);
    let lines = relay.announced(2);
    assert!(lines.iter().all(|line| !line.contains("0.0.0.0")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("listening on 127.0.0.1:")), "{lines:?}");
}

#[test]
fn it_listens_on_ipv4_ipv6_and_a_unix_socket_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let endpoint = format!("unix:{}", path.display());
    let mut relay = Relay::start(&["--listen", "[::1]:0", "--listen", &endpoint]);
    let mut four = RawClient::connect(relay.address, "four");

    let mut frame = Vec::new();
    Hello::new(Profile::named("unix")).write_frame(Header::new(Type::Hello), &mut frame);
    let mut unix = UnixStream::connect(&path).expect("it listens there");
    unix.write_all(&frame).expect("open");
    // The newcomer has been registered when the other can write to it by name.
    loop {
        four.say(Header::new(Type::Who), &switchboard::wire::control::Who::Named("unix"));
        if four.frame().0.frame_type() == Some(Type::Snapshot) {
            break;
        }
    }
    relay.signal(Signal::TERM);
    drop((four, unix));
    assert!(relay.wait().success());
    assert!(!path.exists(), "the socket's file goes with the relay");
}

#[test]
fn every_frame_is_logged_on_request_decoded_and_in_hexadecimal() {
    let mut relay = Relay::start(&["--log-frames"]);
    let mut client = RawClient::connect(relay.address, "ada");
    let line = relay.log_line("HELLO");
    assert!(line.contains("NAME=\"ada\"") && line.contains("53574244 01010000"), "{line}");
    let line = relay.log_line("WELCOME");
    assert!(line.contains(&format!("CLIENT={}", client.id)), "{line}");
    client.send(Header::new(Type::Send).to(client.id).correlating(9), b"hi");
    assert!(relay.log_line("SEND").contains("correlation 9"));
}

#[test]
fn the_times_of_a_log_have_one_length() {
    // Of digits that end where zeros do one line in ten would be shorter.
    let mut relay = Relay::start(&["--log-frames"]);
    let mut client = RawClient::connect(relay.address, "ada");
    for number in 0..100 {
        client.send(Header::new(Type::Send).to(client.id).correlating(number), b"hi");
    }
    for line in relay.log_lines("correlation 99") {
        let (time, _) = line.split_once(" [").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(time.len(), "2026-11-27T11:38:25.604300Z".len(), "{line}");
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{line}");
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_relay() {
    // Its standard error is a pipe that this test does not read: it holds 64 KiB, and this is more.
    let relay = Relay::start(&["--log-frames"]);
    let mut client = RawClient::connect(relay.address, "ada");
    for number in 0..2_000 {
        client.send(Header::new(Type::Send).to(client.id).correlating(number), &[0; 100]);
        assert_eq!(client.frame_of(Type::Send).0.correlation, number);
    }
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_anew_at_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let moved = path.with_extension("1");
    let mut relay = Relay::start(&["--log-file", &path.to_string_lossy()]);
    std::fs::rename(&path, &moved).expect("it is there");
    relay.signal(Signal::HUP);
    // Signals are handled in turns, and the log is written before the next is: both lines are there at the end.
    while !path.exists() {
        std::thread::yield_now();
    }
    relay.signal(Signal::TERM);
    assert!(relay.wait().success());
    let (old, new) = [&moved, &path].map(|path| std::fs::read_to_string(path).expect("text")).into();
    assert!(old.contains("listening on") && !old.contains("saying goodbye"), "{old}");
    assert!(new.contains("opened anew") && new.contains("SIGTERM: saying goodbye"), "{new}");
}

#[test]
fn a_log_file_that_cannot_be_opened_anew_goes_on_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let [before, moved] = ["before", "moved"].map(|name| folder.path().join(name));
    std::fs::create_dir(&before).expect("a folder");
    let mut relay = Relay::start(&["--log-file", &before.join("log").to_string_lossy()]);
    std::fs::rename(&before, &moved).expect("it is there");
    relay.signal(Signal::HUP);
    let log = || std::fs::read_to_string(moved.join("log")).expect("text");
    while !log().contains("SIGHUP") {
        std::thread::yield_now();
    }
    relay.signal(Signal::TERM);
    assert!(relay.wait().success());
    let log = log();
    assert!(log.contains("[ERROR] SIGHUP: the log goes on as it was: ") && log.contains("saying goodbye"), "{log}");
    assert!(!log.contains("opened anew"), "{log}");
}

#[test]
fn without_a_log_file_sighup_is_an_end_like_any_other() {
    let mut relay = Relay::start(&[]);
    let mut client = RawClient::connect(relay.address, "ada");
    relay.signal(Signal::HUP);
    assert_eq!(client.frame().0.frame_type(), Some(Type::Goodbye));
    drop(client);
    assert_eq!(relay.wait().code(), Some(0));
}
