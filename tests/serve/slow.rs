//! A recipient that stops reading while others go on.

use switchboard::wire::control::{Body, ErrorBody, Gap, Join, Joined};
use switchboard::wire::{Code, Flags, Header, Id, Type};

use crate::support::{RawClient, Relay};

const PAYLOAD: [u8; 1000] = [7; 1000];

fn join(client: &mut RawClient, room: &str) -> Id {
    client.say(Header::new(Type::Join), &Join { name: room });
    let (_, payload) = client.frame_of(Type::Joined);
    Joined::parse(&payload).expect("a JOINED").room
}

/// Sends frames to `to` until one is refused, and a further hundred; returns how many were sent and the
/// correlations of those that were refused. A PING behind every tenth keeps the answers in step.
fn send_until_refused(sender: &mut RawClient, to: Id) -> (u32, Vec<u32>) {
    let mut refused = Vec::new();
    let mut sent = 0;
    let mut left = 100;
    while left > 0 {
        for _ in 0..10 {
            sent += 1;
            sender.send(Header::new(Type::Send).to(to).correlating(sent), &PAYLOAD);
        }
        sender.send(Header::new(Type::Ping), &[]);
        loop {
            let (header, payload) = sender.frame();
            match header.frame_type() {
                Some(Type::Pong) => break,
                Some(Type::Error) => {
                    let error = ErrorBody::parse(&payload).expect("an ERROR").0;
                    assert_eq!((error.code(), error.client), (Some(Code::QueueFull), Some(to)));
                    refused.push(header.correlation);
                }
                other => panic!("{other:?}"),
            }
        }
        if !refused.is_empty() {
            left -= 10;
        }
        assert!(sent < 1_000_000, "the queue has a limit");
    }
    (sent, refused)
}

#[test]
fn every_frame_for_a_reader_that_pauses_is_delivered_or_refused_in_order() {
    let relay = Relay::start(&["--queue-max", "256KiB"]);
    let mut sender = RawClient::connect(relay.address, "sender");
    let mut reader = RawClient::connect(relay.address, "reader");
    let (sent, refused) = send_until_refused(&mut sender, reader.id);
    let expected: Vec<u32> = (1..=sent).filter(|number| !refused.contains(number)).collect();
    for number in expected {
        let (header, payload) = reader.frame_of(Type::Send);
        assert_eq!((header.correlation, header.source), (number, sender.id));
        assert_eq!(payload, PAYLOAD);
    }
    // And it goes on as if nothing had been.
    sender.send(Header::new(Type::Send).to(reader.id).correlating(0).flagged(Flags::RECEIPT), b"again");
    assert_eq!(reader.frame_of(Type::Send).1, b"again");
    assert_eq!(sender.frame_of(Type::Receipt).0.correlation, 0);
}

#[test]
fn a_room_goes_on_without_a_member_that_pauses_whose_gap_counts_what_it_missed() {
    let relay = Relay::start(&["--queue-max", "256KiB"]);
    let mut sender = RawClient::connect(relay.address, "sender");
    let mut reader = RawClient::connect(relay.address, "reader");
    let mut bystander = RawClient::connect(relay.address, "bystander");
    let room = join(&mut sender, "room");
    join(&mut reader, "room");
    join(&mut bystander, "room");

    // The bystander takes each frame before the next is sent: it never misses one.
    let mut sent: u32 = 0;
    let mut skipped = 0;
    while skipped < 50 {
        sent += 1;
        let header = Header::new(Type::Send).to(room).correlating(sent);
        sender.send(header.flagged(Flags::NO_ECHO.with(Flags::RECEIPT)), &PAYLOAD);
        assert_eq!(bystander.frame_of(Type::Send).0.correlation, sent);
        let (header, payload) = sender.frame_of(Type::Receipt);
        assert_eq!(header.correlation, sent);
        let receipt = switchboard::wire::control::Receipt::parse(&payload).expect("a RECEIPT");
        assert_eq!(receipt.recipients.unwrap_or(0) + receipt.skipped.unwrap_or(0), 2);
        skipped += receipt.skipped.unwrap_or(0);
        assert!(sent < 1_000_000, "the queue has a limit");
    }

    // The reader reads on: what it was sent, then the GAP in place of the rest, exactly.
    let mut expected = 1;
    let mut missed = 0;
    while missed < 50 {
        let (header, payload) = reader.frame();
        match header.frame_type() {
            Some(Type::Send) => {
                assert_eq!(u64::from(header.correlation), expected, "nothing is missing but what a GAP counts");
                expected += 1;
            }
            Some(Type::Gap) => {
                let gap = Gap::parse(&payload).expect("a GAP");
                assert_eq!(gap.bytes, gap.frames * (PAYLOAD.len() as u64 + 28));
                expected += gap.frames;
                missed += gap.frames;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((missed, expected - 1), (skipped, u64::from(sent)));
}

#[test]
fn a_reader_that_never_comes_back_is_closed_at_its_deadline_and_its_senders_are_told() {
    let mut relay = Relay::start(&["--queue-max", "256KiB", "--write-deadline", "1s"]);
    let mut sender = RawClient::connect(relay.address, "sender");
    let reader = RawClient::connect(relay.address, "stuck");
    let resident = relay.resident_bytes();
    let (sent, refused) = send_until_refused(&mut sender, reader.id);
    let grown = relay.resident_bytes().saturating_sub(resident);
    assert!(grown < 8 << 20, "{grown} bytes of memory for a queue of 256 KiB");

    // Others talk on all the while.
    let mut left = RawClient::connect(relay.address, "left");
    let mut right = RawClient::connect(relay.address, "right");
    let mut lost = Vec::new();
    let mut talked = 0;
    loop {
        let number = talked;
        talked += 1;
        left.send(Header::new(Type::Send).to(right.id).correlating(number), &PAYLOAD);
        assert_eq!(right.frame_of(Type::Send).0.correlation, number);
        sender.socket.set_nonblocking(true).expect("an option");
        let ready = sender.socket.peek(&mut [0; 28]).is_ok();
        sender.socket.set_nonblocking(false).expect("an option");
        if ready {
            break;
        }
    }
    sender.send(Header::new(Type::Ping), &[]);
    loop {
        let (header, payload) = sender.frame();
        if header.frame_type() == Some(Type::Pong) {
            break;
        }
        assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::RecipientLost));
        lost.push(header.correlation);
    }
    assert!(relay.log_line("\"stuck\"").contains("SLOW_CONSUMER"));
    // What was written lies in the sockets' buffers: a beginning of the stream. The rest came back.
    let accepted: Vec<u32> = (1..=sent).filter(|number| !refused.contains(number)).collect();
    let written = accepted.len() - lost.len();
    assert!(written > 0 && lost.len() > 100, "{written} written, {} lost", lost.len());
    println!(
        "{sent} frames for a reader that is stuck: {} refused, {written} written, {} given back at its end; \
         {} KiB of memory; {talked} round trips of a bystander pair meanwhile",
        refused.len(),
        lost.len(),
        grown / 1024
    );
    assert_eq!(lost, accepted[written..], "every frame that was not written is given back, in order");
}
