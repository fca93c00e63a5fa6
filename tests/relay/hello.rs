//! From the connection to WELCOME, and every way not to get there.

use std::time::Duration;

use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Body, ErrorBody, Hello, Ping, Profile, Update, Welcome};
use switchboard::wire::{
    Code, FrameError, HEADER_BYTES, HELLO_BYTES_MAX, Header, Id, PAYLOAD_BYTES_CEILING, PAYLOAD_BYTES_FLOOR, Tag, Type,
    body,
};

use super::frames::{Got, frame, send};
use super::world::{EPOCH, World, types};

fn hello(name: &str) -> Hello<'_> {
    Hello::new(Profile::named(name))
}

/// A HELLO with this payload, correlation 5.
fn hello_frame(payload: &[u8]) -> Vec<u8> {
    frame(Header::new(Type::Hello).correlating(5), payload)
}

/// The payload of a HELLO, to be spoilt.
fn hello_payload(name: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    hello(name).write(&mut payload);
    payload
}

/// What a connection gets for these first bytes, after which it must be closed and unknown to all.
fn refusal(world: &mut World, bytes: &[u8]) -> Got {
    let (id, clients) = (world.connect(), world.relay.clients());
    world.send(id, bytes);
    assert!(world.is_closed(id), "the connection ends");
    assert_eq!(world.deadline(id), None, "nothing is waited for any more");
    let mut got = world.got(id);
    assert_eq!(got.len(), 1, "one frame, the last: {got:?}");
    assert_eq!(world.relay.clients(), clients, "nobody is registered");
    got.remove(0)
}

#[test]
fn welcome_says_what_holds_from_now_on() {
    let mut world = World::new(Settings::default());
    let id = world.connect();
    world.send(id, &hello_frame(&hello_payload("ada")));
    world.drain(id);
    let frames = world.raw(id);
    assert_eq!(frames.len(), 1);
    assert_eq!(Header::read(&frames[0]).correlation, 5);
    let welcome = Welcome::parse(&frames[0][HEADER_BYTES..]).expect("a good WELCOME");
    let expected = Welcome {
        version: 1,
        client: id,
        payload_bytes_max: 65_536,
        keepalive_ms: 30_000,
        queue_bytes_max: 1024 * 1024,
        clock_us: world.now.micros(),
        epoch_us: EPOCH.as_micros() as u64,
        address: "203.0.113.5:50812",
        agent: concat!("switchboard/", env!("CARGO_PKG_VERSION")),
        user: None,
        auth_data: None,
    };
    assert_eq!(welcome, expected);
    assert_eq!((world.relay.clients(), world.counters().registered), (1, 1));
    assert_eq!(world.relay.payload_bytes_max(id), 65_536);
}

#[test]
fn what_is_not_our_protocol_is_told_so() {
    let mut world = World::new(Settings::default());
    let mut wrong_magic = hello_payload("ada");
    wrong_magic[0] = b's';
    for payload in [&wrong_magic[..], b"SWBD", b"", b"SWBD\x01\x01\x00"] {
        let got = refusal(&mut world, &hello_frame(payload));
        assert_eq!(got, Got::error(5, Code::NotSwitchboard, None), "{payload:?}");
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH", &[0x16, 3, 1, 2, 0, 1, 0, 1], &[0, 0, 0, 3]] {
        assert_eq!(refusal(&mut world, bytes), Got::error(0, Code::NotSwitchboard, None), "{bytes:?}");
    }
    assert_eq!(world.closed(Code::NotSwitchboard), 8);
}

#[test]
fn a_hello_over_its_limit_is_told_so_before_it_is_there() {
    let mut world = World::new(Settings::default());
    for payload_bytes in [HELLO_BYTES_MAX + 1, PAYLOAD_BYTES_CEILING] {
        let length = (24 + payload_bytes).to_be_bytes();
        assert_eq!(refusal(&mut world, &length), Got::error(0, Code::NotSwitchboard, None));
    }
    let mut largest = hello_payload("ada");
    largest.resize(HELLO_BYTES_MAX as usize - 4, 0);
    let unknown = largest.len() - hello_payload("ada").len() - 4;
    let start = hello_payload("ada").len();
    largest[start..start + 4].copy_from_slice(&[0x7a, 0xbc, (unknown >> 8) as u8, unknown as u8]);
    let id = world.connect();
    world.send(id, &hello_frame(&largest));
    assert!(matches!(world.got(id)[..], [Got::Welcome { .. }]), "one of the largest size is taken");
}

#[test]
fn a_version_range_without_ours_is_told_ours() {
    let mut world = World::new(Settings::default());
    for (min, max, known) in [(1, 1, true), (0, 9, true), (1, 200, true), (2, 3, false), (0, 0, false), (3, 1, false)] {
        let id = world.connect();
        let mut payload = hello_payload(&format!("ada-{min}-{max}"));
        payload[4..6].copy_from_slice(&[min, max]);
        world.send(id, &hello_frame(&payload));
        world.drain(id);
        let frames = world.raw(id);
        assert_eq!(types(&frames), [Some(if known { Type::Welcome } else { Type::Error })], "{min} to {max}");
        if !known {
            let ErrorBody(reason) = ErrorBody::parse(&frames[0][HEADER_BYTES..]).expect("a good ERROR");
            assert_eq!((reason.code(), reason.versions), (Some(Code::BadVersion), Some((1, 1))));
            assert_eq!(Header::read(&frames[0]).correlation, 5, "the HELLO's correlation");
        }
    }
}

#[test]
fn the_version_is_looked_at_before_anything_that_a_later_one_may_have_changed() {
    let mut world = World::new(Settings::default());
    let got = refusal(&mut world, &hello_frame(b"SWBD\x02\x02\x00\x00what fields look like by then"));
    assert_eq!(got, Got::error(5, Code::BadVersion, None));
}

#[test]
fn a_name_must_be_good_and_free() {
    let mut world = World::new(Settings::default());
    world.client("ada");
    for (name, code) in [
        ("ada", Code::HelloNameTaken),
        ("", Code::HelloBadName),
        (" ada", Code::HelloBadName),
        ("a\u{202e}b", Code::HelloBadName),
        ("a\nb", Code::HelloBadName),
        (&"x".repeat(65), Code::HelloBadName),
    ] {
        assert_eq!(refusal(&mut world, &hello_frame(&hello_payload(name))), Got::error(5, code, None), "{name:?}");
    }
    let mut not_utf8 = hello_payload("abc");
    let end = not_utf8.len() - 1;
    not_utf8[end] = 0xff;
    assert_eq!(refusal(&mut world, &hello_frame(&not_utf8)), Got::error(5, Code::HelloBadName, None));
    for name in ["Ada", "ada ada", &"x".repeat(64)] {
        world.client(name);
    }
    assert_eq!((world.closed(Code::HelloNameTaken), world.closed(Code::HelloBadName)), (1, 6));
}

#[test]
fn a_hello_that_cannot_be_read_is_bad() {
    let mut world = World::new(Settings::default());
    let missing_name = b"SWBD\x01\x01\x00\x00".to_vec();
    let mut cut = hello_payload("ada");
    cut.pop();
    let mut keepalive = hello_payload("ada");
    body::put_integer(&mut keepalive, Tag::KEEPALIVE_MS, 1 << 32);
    let mut endpoints = hello_payload("ada");
    for _ in 0..9 {
        body::put_text(&mut endpoints, Tag::ENDPOINT, "host:1");
    }
    for payload in [missing_name, cut, keepalive, endpoints] {
        assert_eq!(refusal(&mut world, &hello_frame(&payload)), Got::error(5, Code::BadHello, None));
    }
}

#[test]
fn a_name_is_free_again_as_soon_as_its_owner_has_departed() {
    let mut world = World::new(Settings::default());
    let old = world.client("ada");
    world.send(old, &frame(Header::new(Type::Goodbye), b""));
    assert!(world.is_here(old), "its connection still closes");
    let new = world.client("ada");
    assert_ne!(old.index(), new.index());
    world.drain(old);
    assert_eq!(refusal(&mut world, &hello_frame(&hello_payload("ada"))), Got::error(5, Code::HelloNameTaken, None));
}

#[test]
fn the_payload_limit_is_the_smaller_of_both_sides_within_bounds() {
    let settings = Settings { payload_bytes_max: 100_000, ..Settings::default() };
    let mut world = World::new(settings);
    let wishes = [
        (None, 65_536),
        (Some(70_000), 70_000),
        (Some(u32::MAX), 100_000),
        (Some(5_000), 5_000),
        (Some(0), PAYLOAD_BYTES_FLOOR),
    ];
    for (number, (wish, agreed)) in wishes.into_iter().enumerate() {
        let id = world.connect();
        world.say(id, &Hello { payload_bytes_max: wish, ..hello(&number.to_string()) });
        let got = world.got(id);
        assert!(
            matches!(got[..], [Got::Welcome { payload_bytes_max, .. }] if payload_bytes_max == agreed),
            "{wish:?}: {got:?}"
        );
        assert_eq!(world.relay.payload_bytes_max(id), agreed);
    }
}

#[test]
fn a_frame_over_the_agreed_limit_ends_the_connection_at_its_length_field() {
    let mut world = World::new(Settings::default());
    let id = world.client_with(&Hello { payload_bytes_max: Some(5_000), ..hello("ada") });
    let whole = send(1, Id::ALL, &[0; 5_000]);
    world.send(id, &whole);
    assert_eq!(world.got(id).len(), 1, "exactly the limit is taken");
    world.send(id, &5_025_u32.to_be_bytes());
    assert_eq!(world.got(id), [Got::error(0, Code::FrameTooLarge, None)]);
    assert_eq!(world.closed(Code::FrameTooLarge), 1);

    let id = world.client("bob");
    world.handle(id, Input::Broken(FrameError::Malformed { length: 3 }));
    assert_eq!(world.got(id), [Got::error(0, Code::BadFrame, None)]);
}

#[test]
fn the_keepalive_wish_is_brought_into_the_relays_range() {
    let mut world = World::new(Settings::default());
    for (wish, granted) in [(None, 30_000), (Some(20_000), 20_000), (Some(0), 1_000), (Some(u32::MAX), 600_000)] {
        let id = world.connect();
        world.say(id, &Hello { keepalive_ms: wish, ..hello(&granted.to_string()) });
        let got = world.got(id);
        assert!(matches!(got[..], [Got::Welcome { keepalive_ms, .. }] if keepalive_ms == granted), "{wish:?}: {got:?}");
    }
}

#[test]
fn anything_before_hello_ends_the_connection() {
    let mut world = World::new(Settings::default());
    let other = world.client("bob");
    for frame_type in Type::ALL {
        if *frame_type == Type::Hello {
            continue;
        }
        let got = refusal(&mut world, &frame(Header::new(*frame_type).to(other).correlating(8), b""));
        assert_eq!(got, Got::error(8, Code::OutOfOrder, None), "{frame_type}");
    }
    assert_eq!(world.got(other), [], "and reaches nobody");
    assert_eq!(world.counters().frames_in, 0);
}

#[test]
fn what_follows_a_refused_hello_is_not_taken() {
    let mut world = World::new(Settings::default());
    let other = world.client("bob");
    let id = world.connect();
    let mut bytes = hello_frame(&hello_payload("bob"));
    bytes.extend(hello_frame(&hello_payload("ada")));
    bytes.extend(send(1, other, b"hello"));
    world.send(id, &bytes);
    assert_eq!(world.got(id), [Got::error(5, Code::HelloNameTaken, None)]);
    assert_eq!(world.got(other), []);
}

#[test]
fn a_second_hello_ends_the_connection() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    world.ask(id, 9, &hello("ada"));
    assert_eq!(world.got(id), [Got::error(9, Code::OutOfOrder, None)]);
    assert_eq!((world.relay.clients(), world.closed(Code::OutOfOrder)), (0, 1));
    world.client("ada");
}

#[test]
fn requests_may_follow_hello_at_once_in_the_relays_eyes() {
    let mut world = World::new(Settings::default());
    let id = world.connect();
    let mut bytes = hello_frame(&hello_payload("ada"));
    bytes.extend(super::frames::frame_of(6, switchboard::wire::Flags::NONE, &Ping { clock_us: Some(4) }));
    world.send(id, &bytes);
    assert!(matches!(world.got(id)[..], [Got::Welcome { .. }, Got::Pong { correlation: 6, .. }]));
}

#[test]
fn a_connection_without_a_hello_is_closed_at_the_deadline() {
    let mut world = World::new(Settings::default());
    let id = world.connect();
    assert_eq!(world.deadline(id), Some(world.now + Duration::from_secs(10)));
    world.receive(id, &hello_frame(&hello_payload("ada"))[..20]);
    world.pass(Duration::from_millis(9_999));
    assert!(!world.is_closed(id));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.got(id), [Got::error(0, Code::HelloTimeout, None)]);
    assert_eq!(world.closed(Code::HelloTimeout), 1);
}

#[test]
fn a_frame_that_is_not_completed_in_time_ends_the_connection() {
    let mut world = World::new(Settings::default());
    let id = world.client("ada");
    world.handle(id, Input::Overdue);
    assert_eq!(world.got(id), [Got::error(0, Code::FrameTimeout, None)]);
    assert_eq!(world.closed(Code::FrameTimeout), 1);
}

#[test]
fn unknown_fields_of_a_hello_are_skipped() {
    let mut world = World::new(Settings::default());
    let mut payload = hello_payload("ada");
    body::put_bytes(&mut payload, Tag(0x7abc), b"of a later version");
    body::put_text(&mut payload, Tag::MECHANISM, "none");
    payload[6] = 0xff;
    let id = world.connect();
    world.send(id, &hello_frame(&payload));
    assert!(matches!(world.got(id)[..], [Got::Welcome { .. }]));
    world.say(id, &Update(Profile::named("eve")));
    assert_eq!(world.got(id), []);
}
