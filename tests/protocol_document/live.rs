//! What the document says of a relay's behaviour, tried on a real one: the conversation, the order of frames, what
//! is refused and how.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use switchboard::wire::body::{self};
use switchboard::wire::control::{self, Body, ErrorBody, Hello, Presence, Profile};
use switchboard::wire::{self, Code, Flags, HEADER_BYTES, Header, Id, Tag, Type};

use crate::document::document;
use crate::examples::{control, from, numbered, plain};
use crate::relay::{Relay, described, read_frame, welcomed};

#[test]
fn the_conversation_takes_place_as_it_is_written() {
    let relay = Relay::start();
    let mut clients: BTreeMap<String, TcpStream> = BTreeMap::new();
    // The ids of the document and those that this relay has given.
    let mut ids: BTreeMap<Id, Id> = BTreeMap::new();
    for (from, to, frame) in document().conversation("talk") {
        if from == "relay" {
            let stream = clients.get_mut(&to).expect("the client spoke first");
            let received = read_frame(stream);
            if Header::read(&frame).frame_type() == Some(Type::Welcome) {
                ids.insert(welcomed(&frame), welcomed(&received));
            }
            assert_eq!(described(&received, &BTreeMap::new()), described(&frame, &ids), "{from} to {to}");
        } else {
            assert_eq!(to, "relay");
            let stream = clients.entry(from).or_insert_with(|| relay.connect());
            let header = Header::read(&frame);
            let to = ids.get(&header.destination).copied().unwrap_or(header.destination);
            stream.write_all(&plain(header.to(to), &frame[HEADER_BYTES..])).expect("written");
        }
    }
    for (name, stream) in &mut clients {
        assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0, "{name}");
    }
}

/// A client of this relay, with the HELLO that `profile` makes and a limit on payloads.
fn client(relay: &Relay, profile: Profile<'_>, payload_bytes_max: u32) -> (TcpStream, Id) {
    let mut stream = relay.connect();
    let hello = Hello { payload_bytes_max: Some(payload_bytes_max), ..Hello::new(profile) };
    stream.write_all(&control(numbered(1), hello)).expect("written");
    let id = welcomed(&read_frame(&mut stream));
    (stream, id)
}

#[test]
fn an_error_that_closes_names_the_frame_at_fault() {
    let relay = Relay::start();
    let (mut ada, _) = client(&relay, Profile::named("ada"), 0);
    let hello = |name| control(numbered(9), Hello::new(Profile::named(name)));
    let mut other_version = hello("bob");
    other_version[HEADER_BYTES + 4..HEADER_BYTES + 6].fill(2);
    let mut other_magic = hello("bob");
    other_magic[HEADER_BYTES] = b'X';
    let early = plain(Header::new(Type::Send).correlating(9).to(Id::ALL), b"");
    let refused = [
        (hello("ada"), Code::HelloNameTaken),
        (hello(" bob"), Code::HelloBadName),
        (hello("b\u{7}b"), Code::HelloBadName),
        (plain(numbered(9), b"SWBD\x01\x01\0\0\x20"), Code::BadHello),
        (other_version, Code::BadVersion),
        (other_magic, Code::NotSwitchboard),
        (early, Code::OutOfOrder),
    ];
    let error = |stream: &mut TcpStream| {
        let frame = read_frame(stream);
        assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
        let ErrorBody(reason) = ErrorBody::parse(&frame[HEADER_BYTES..]).expect("an ERROR");
        (reason.code(), Header::read(&frame).correlation)
    };
    for (frame, code) in refused {
        let mut stream = relay.connect();
        stream.write_all(&frame).expect("written");
        assert_eq!(error(&mut stream), (Some(code), 9));
    }
    for length in [23, wire::LENGTH_MIN + wire::HELLO_BYTES_MAX + 1, 1 << 31] {
        let mut stream = relay.connect();
        stream.write_all(&length.to_be_bytes()).expect("written");
        assert_eq!(error(&mut stream), (Some(Code::NotSwitchboard), 0), "{length}");
    }
    ada.write_all(&hello("ada")).expect("written");
    assert_eq!(error(&mut ada), (Some(Code::OutOfOrder), 9));
}

#[test]
fn what_is_empty_is_left_out_and_what_is_too_large_leaves_a_gap_at_once() {
    let relay = Relay::start();
    let mut profile = Profile { station: Some(""), details: Some(b""), ..Profile::named("ada") };
    profile.endpoints = [Some(""), Some("192.0.2.7:7000"), None, None, None, None, None, None];
    let (mut ada, ada_id) = client(&relay, profile, 1);
    ada.write_all(&control(numbered(2), control::Watch { room: None })).expect("written");
    let snapshot = read_frame(&mut ada);
    let said: Vec<_> = control::presence(&snapshot[HEADER_BYTES..]).collect::<Result<_, _>>().expect("a SNAPSHOT");
    let [Presence::Sequence(0), Presence::Member(member)] = said[..] else { panic!("{said:?}") };
    profile.endpoints = [Some("192.0.2.7:7000"), None, None, None, None, None, None, None];
    assert_eq!(member.profile, Profile { station: None, details: None, ..profile });

    let (mut bob, _) = client(&relay, Profile::named("bob"), 1 << 16);
    read_frame(&mut ada);
    let all = Header::new(Type::Send).flagged(Flags::NO_ECHO).to(Id::ALL);
    let payload = [0; wire::PAYLOAD_BYTES_FLOOR as usize + 1];
    bob.write_all(&plain(all, &payload)).expect("written");
    let gap = control::Gap { frames: 1, bytes: (HEADER_BYTES + payload.len()) as u64 };
    assert_eq!(read_frame(&mut ada), control(numbered(0).to(ada_id), gap));
}

#[test]
fn frames_stand_in_the_order_that_the_document_says() {
    let relay = Relay::start();
    let (mut ada, ada_id) = client(&relay, Profile::named("ada"), 0);
    ada.write_all(&control(numbered(2), control::Watch { room: None })).expect("written");
    read_frame(&mut ada);
    let (mut bob, bob_id) = client(&relay, Profile::named("bob"), 0);
    read_frame(&mut ada);
    let frame_type = |frame: &[u8]| Header::read(frame).frame_type();

    // What bob sends behind an UPDATE may overtake its DELTA; what it sends before a GOODBYE does not come late.
    let text = |text| plain(Header::new(Type::Send).to(ada_id), text);
    let update = control(numbered(3), control::Update(Profile { station: Some("train"), ..Profile::default() }));
    bob.write_all(&[update, text(b"one")].concat()).expect("written");
    let mut both = [frame_type(&read_frame(&mut ada)), frame_type(&read_frame(&mut ada))];
    both.sort_by_key(|frame_type| frame_type.map(Type::number));
    assert_eq!(both, [Some(Type::Send), Some(Type::Delta)]);

    // The receipt stands before the reaction.
    let asked = Header::new(Type::Send).flagged(Flags::RECEIPT).correlating(7).to(bob_id);
    ada.write_all(&plain(asked, b"well?")).expect("written");
    read_frame(&mut bob);
    let goodbye = plain(Header::new(Type::Goodbye), b"");
    bob.write_all(&[text(b"two"), text(b"three"), goodbye, text(b"four")].concat()).expect("written");
    let order: Vec<_> = (0..4).map(|_| frame_type(&read_frame(&mut ada))).collect();
    assert_eq!(order, [Type::Receipt, Type::Send, Type::Send, Type::Delta].map(Some));
    assert_eq!(bob.read(&mut [0]).expect("an orderly end"), 0);

    // An ERROR comes unasked.
    ada.write_all(&plain(Header::new(Type::Send).correlating(8).to(bob_id), b"")).expect("written");
    let (header, code) = refused(&mut ada);
    assert_eq!((header.correlation, code), (8, Some(Code::NoSuchClient)));
}

/// The header and the code of the ERROR that comes next.
fn refused(stream: &mut TcpStream) -> (Header, Option<Code>) {
    let frame = read_frame(stream);
    let header = Header::read(&frame);
    assert_eq!(header.frame_type(), Some(Type::Error));
    let ErrorBody(reason) = ErrorBody::parse(&frame[HEADER_BYTES..]).expect("an ERROR");
    (header, reason.code())
}

#[test]
fn names_that_nobody_can_have_are_not_found_and_what_is_no_text_is_refused() {
    let relay = Relay::start();
    let (mut ada, _) = client(&relay, Profile::named("ada"), 0);
    let too_long = [b'x'; wire::NAME_BYTES_MAX + 1];
    let asked: [(&[u8], Code); 7] = [
        (b"", Code::NoSuchClient),
        (b" ada", Code::NoSuchClient),
        ("a\u{202e}da".as_bytes(), Code::NoSuchClient),
        (b"nobody", Code::NoSuchClient),
        (b"a\x07da", Code::BadName),
        (b"\xff", Code::BadName),
        (&too_long, Code::BadName),
    ];
    for (name, code) in asked {
        let mut body = Vec::new();
        body::put_bytes(&mut body, Tag::NAME, name);
        ada.write_all(&plain(Header::new(Type::Who), &body)).expect("written");
        assert_eq!(refused(&mut ada).1, Some(code), "{name:?}");
    }
}

#[test]
fn the_relay_does_not_look_at_the_body_of_a_ping_between_clients() {
    let relay = Relay::start();
    let (mut ada, ada_id) = client(&relay, Profile::named("ada"), 0);
    let (mut bob, bob_id) = client(&relay, Profile::named("bob"), 0);
    let ping = |to| plain(Header::new(Type::Ping).correlating(4).to(to), b"\xff");
    bob.write_all(&ping(ada_id)).expect("written");
    assert_eq!(read_frame(&mut ada), from(bob_id, &ping(ada_id)));
    bob.write_all(&ping(Id::RELAY)).expect("written");
    assert_eq!(refused(&mut bob).1, Some(Code::BadBody));
}
