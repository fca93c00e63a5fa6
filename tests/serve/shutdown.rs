//! The end of a relay: everybody is told, and what is queued is written.

use rustix::process::Signal;
use switchboard::wire::control::{Body, Goodbye};
use switchboard::wire::{Code, Header, Type};

use crate::support::{RawClient, Relay};

/// A payload that fills the buffers of sockets and queues soon.
static LONG: [u8; 60_000] = [1; 60_000];

#[test]
fn a_signal_has_everybody_told_when_to_come_back_and_ends_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut relay = Relay::start(&["--retry-delay", "2s"]);
        let mut clients: Vec<_> = (0..50).map(|n| RawClient::connect(relay.address, &format!("c{n}"))).collect();
        relay.signal(signal);
        let mut delays = Vec::new();
        for client in &mut clients {
            let (header, payload) = client.frame();
            assert_eq!(header.frame_type(), Some(Type::Goodbye), "and no word of the others' departures");
            let reason = Goodbye::parse(&payload).expect("a GOODBYE").0;
            assert_eq!(reason.code(), Some(Code::ShuttingDown));
            delays.push(reason.retry_ms.expect("a delay"));
            assert!(client.is_closed());
        }
        drop(clients);
        assert!(delays.iter().all(|delay| (1_000..=3_000).contains(delay)), "{delays:?}");
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 25, "they do not come back together");
        assert_eq!(relay.wait().code(), Some(0));
    }
}

#[test]
fn what_is_queued_is_written_before_the_end() {
    let mut relay = Relay::start(&["--drain-deadline", "30s"]);
    let mut sender = RawClient::connect(relay.address, "sender");
    let mut reader = RawClient::connect(relay.address, "reader");
    // Until one is refused: then something waits in the relay. A PING behind each keeps the answers in step.
    let mut sent = 0;
    loop {
        sent += 1;
        sender.send(Header::new(Type::Send).to(reader.id).correlating(sent), &LONG);
        sender.send(Header::new(Type::Ping), &[]);
        if sender.frame().0.frame_type() == Some(Type::Error) {
            break;
        }
    }
    relay.signal(Signal::TERM);
    let mut got = 0;
    loop {
        let (header, _) = reader.frame();
        match header.frame_type() {
            Some(Type::Send) => got = header.correlation,
            Some(Type::Goodbye) => break,
            other => panic!("{other:?}"),
        }
    }
    // The last was refused; all before it arrived.
    assert_eq!(got, sent - 1);
    drop((sender, reader));
    assert_eq!(relay.wait().code(), Some(0));
}

/// A client that reads nothing, for which the relay's queue is full; and the one that filled it.
fn stuck_client(relay: &Relay) -> (RawClient, RawClient) {
    let mut sender = RawClient::connect(relay.address, "sender");
    let stuck = RawClient::connect(relay.address, "stuck");
    for _ in 0..200 {
        sender.send(Header::new(Type::Send).to(stuck.id), &LONG);
    }
    sender.send(Header::new(Type::Ping), &[]);
    while sender.frame().0.frame_type() != Some(Type::Pong) {}
    (sender, stuck)
}

#[test]
fn a_stuck_client_does_not_hold_up_the_end_beyond_the_deadline() {
    let mut relay = Relay::start(&["--drain-deadline", "300ms"]);
    let stuck = stuck_client(&relay);
    relay.signal(Signal::TERM);
    assert_eq!(relay.wait().code(), Some(0));
    drop(stuck);
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut relay = Relay::start(&["--drain-deadline", "1h"]);
    let stuck = stuck_client(&relay);
    relay.signal(Signal::INT);
    relay.log_line("saying goodbye");
    relay.signal(Signal::INT);
    assert_eq!(relay.wait().code(), Some(1));
    drop(stuck);
}
