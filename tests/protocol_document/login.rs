//! What the document says of authentication, tried on a relay whose users, nonces and time a test can choose.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use switchboard::auth::Verifier;
use switchboard::relay::Settings;
use switchboard::wire::control::Auth;
use switchboard::wire::{Code, Header, Type};

use crate::document::document;
use crate::examples::ADA;
use crate::frames::{Got, frame};
use crate::people::{SECRET, listed, world_of};
use crate::relay::described;
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
