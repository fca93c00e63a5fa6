//! What the document says of authentication, tried on a relay whose users, nonces and time a test can choose.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU32;

use switchboard::auth::scram::ClientExchange;
use switchboard::auth::{Binding, NONCE_BYTES, Verifier};
use switchboard::relay::Settings;
use switchboard::wire::control::{Auth, Body, Hello, Welcome};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Tag, Type};

use crate::document::document;
use crate::examples::ADA;
use crate::frames::{Got, frame, frame_of};
use crate::people::{SECRET, by, file_of, listed, password, world_of};
use crate::relay::{Relay, described, read_frame};
use crate::world::World;

/// The salt of the example in RFC 7677, and the characters that its server adds to the client's nonce.
const SALT: &[u8] = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

#[test]
fn the_login_takes_place_as_it_is_written() {
    let iterations = NonZeroU32::new(4096).expect("not zero");
    let verifier = Verifier::from_password("pencil", iterations, SALT);
    let mut world = World::with_users(Settings::default(), listed(format!("{SECRET}\nuser {verifier}\n")));
    world.net.nonce = Some(NONCE.to_owned());
    let id = world.connect();
    let ids = BTreeMap::from([(ADA, id)]);
    let conversation = document().conversation("login");
    assert_eq!(conversation.len(), 4);
    for (from, _, frame) in conversation {
        if from == "relay" {
            world.drain(id);
            let received = world.raw(id);
            assert_eq!(received.len(), 1);
            assert_eq!(described(&received[0], &BTreeMap::new()), described(&frame, &ids));
        } else {
            world.send(id, &frame);
        }
    }
    assert_eq!(world.relay.clients(), 1);
}

#[test]
fn the_login_takes_place_with_a_relay_that_has_a_nonce_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    std::fs::write(&file, file_of(&["user"])).expect("written");
    let relay = Relay::start_with(&["--users".as_ref(), file.as_ref()]);
    let mut stream = relay.connect();
    let mut exchange = ClientExchange::new("user", &password("user"), Binding::None, [7; NONCE_BYTES]);
    let [hello, question, answer, welcome] = &document().conversation("login")[..] else { panic!("four frames") };
    let rest = |frame: &[u8], ids: &BTreeMap<Id, Id>| {
        let (header, mut said) = described(frame, ids);
        said.iter_mut().filter(|(tag, _)| *tag == Tag::AUTH_DATA).for_each(|(_, value)| value.clear());
        (header, said)
    };

    // As they are written, all but the messages in AUTH_DATA.
    let first = exchange.first();
    let ours = frame_of(1, Flags::NONE, &by(exchange.mechanism(), "user", first.as_bytes()));
    let plain = |frame: &[u8]| {
        let hello = Hello::parse(&frame[HEADER_BYTES..]).expect("a good HELLO");
        format!("{:?}", Hello { auth_data: None, ..hello })
    };
    assert_eq!((Header::read(&ours), plain(&ours)), (Header::read(&hello.2), plain(&hello.2)));
    stream.write_all(&ours).expect("written");
    let asked = read_frame(&mut stream);
    assert_eq!(rest(&asked, &BTreeMap::new()), rest(&question.2, &BTreeMap::new()));
    let data = Auth::parse(&asked[HEADER_BYTES..]).expect("a good AUTH").data;
    let proof = exchange.answer(data).expect("what it asks for can be answered");
    let ours = frame_of(2, Flags::NONE, &Auth { data: proof.as_bytes() });
    assert_eq!(rest(&ours, &BTreeMap::new()), rest(&answer.2, &BTreeMap::new()));
    stream.write_all(&ours).expect("written");
    let received = read_frame(&mut stream);
    let ids = BTreeMap::from([(ADA, Header::read(&received).destination)]);
    assert_eq!(rest(&received, &BTreeMap::new()), rest(&welcome.2, &ids));
    let signature = Welcome::parse(&received[HEADER_BYTES..]).expect("a good WELCOME").auth_data;
    exchange.verify(signature.expect("a proof of the relay")).expect("the relay knows the password too");
}

#[test]
fn nothing_but_hello_and_auth_is_taken_before_welcome() {
    let mut world = world_of(&["user"]);
    for frame_type in Type::ALL.iter().filter(|frame_type| !matches!(frame_type, Type::Hello)) {
        let id = world.connect();
        world.send(id, &frame(Header::new(*frame_type).correlating(4), b""));
        assert_eq!(world.got(id), [Got::error(4, Code::OutOfOrder, None)], "{frame_type}");
    }
    let client = world.user("user");
    world.ask(client, 4, &Auth { data: b"" });
    assert_eq!(world.got(client), [Got::error(4, Code::UnknownType, None)], "an AUTH that nobody has asked for");
}
