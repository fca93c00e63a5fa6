//! Thousands guess at passwords, while others chat.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::OnceLock;

use switchboard::auth::{TokenDigest, Verifier, token_text};
use switchboard::wire::control::{Auth, Body, ErrorBody, Hello, Profile};
use switchboard::wire::{Code, Header, Type};

use crate::bystanders::Part;
use crate::crowd::{Crowd, source};
use crate::relay::Start;
use crate::scene::{Scene, Size};
use crate::support::RawClient;

/// Guesses that are under way at once: as many as the relay grants who are not registered, and some room.
const AT_ONCE: usize = 1000;

fn users() -> std::path::PathBuf {
    std::env::temp_dir().join("switchboard-fault-users")
}

/// What lets this test's own clients in, where the relay asks for something.
fn token() -> Option<&'static str> {
    static TOKEN: OnceLock<Option<String>> = OnceLock::new();
    TOKEN.get_or_init(|| users().exists().then(|| token_text(&[7; 32]).to_string())).as_deref()
}

/// A HELLO that the relay welcomes.
pub(crate) fn hello(name: &str) -> Hello<'_> {
    let mut hello = Hello::new(Profile::named(name));
    if let Some(token) = token() {
        (hello.mechanism, hello.auth_data) = (Some("TOKEN"), Some(token.as_bytes()));
    }
    hello
}

/// A client that the relay has welcomed.
pub(crate) fn welcomed(address: SocketAddr, name: &str) -> RawClient {
    let mut client = RawClient::greet(address, &hello(name), std::net::Ipv4Addr::LOCALHOST);
    client.welcomed();
    client
}

pub(crate) fn with_users(_: Size) -> Start {
    let verifier = Verifier::from_password("a good one", NonZeroU32::new(4096).expect("some"), b"sixteen bytes of");
    let digest = TokenDigest::of(token_text(&[7; 32]).to_string().as_bytes());
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(users(), format!("%secret {secret}\nada {verifier}\nrobot token:{digest} names=*\n"))
        .expect("a file");
    Start::with(&["--users", users().to_str().expect("text")])
}

/// Clients that talk to one another, on a schedule that the fault does not change.
pub(crate) fn chat(scene: &mut Scene) {
    let chatting = scene.size.of(50_u64, 1000);
    let mut chat = Crowd::start("chat", scene.relay.address, &["chat", &chatting.to_string()]);
    assert_eq!(chat.line(), "talking");
    scene.note(format!("beside {chatting} who chat"));
    scene.company.push(chat);
}

/// Guesses by thousands, half of them at a user that there is, half at users that there are not: none gets in, all are told
/// the same, and those who chat need not wait for them.
pub(crate) fn wrong_passwords(scene: &mut Scene) {
    let guesses = scene.size.of(200_u64, 10_000);
    scene.bystanders.begin(Part::Unmeasured);
    let mut crowd = Crowd::start("guess", scene.relay.address, &[&guesses.to_string()]);
    assert_eq!(crowd.line(), "ready");
    let before = scene.relay.counters();
    scene.bystanders.begin(Part::Disturbed);
    crowd.tell("guess");
    assert_eq!(crowd.line(), format!("{guesses} failed"));
    scene.bystanders.begin(Part::Unmeasured);
    let counters = scene.relay.counters();
    let failed = counters.closed("AUTH_FAILED") - before.closed("AUTH_FAILED");
    assert_eq!(failed, guesses, "{counters:?}");
    let clients = counters.total("clients");
    assert_eq!(clients, before.total("clients"), "all who chat are here");
    scene.note(format!("{failed} × AUTH_FAILED in {:.1?}", scene.lasted()));
}

/// Is the crowd of those who guess.
pub(crate) fn guess(address: SocketAddr, count: usize) {
    let mut next = 0;
    while next < count {
        let last = (next + AT_ONCE).min(count);
        let begin = |number: usize| {
            let user = if number.is_multiple_of(2) { "ada".to_owned() } else { format!("nobody-{number}") };
            let first = format!("n,,n={user},r=nonce{number}");
            let name = format!("guess-{number}");
            let hello = Hello {
                mechanism: Some("SCRAM-SHA-256"),
                auth_data: Some(first.as_bytes()),
                ..Hello::new(Profile::named(&name))
            };
            RawClient::greet(address, &hello, source(number % AT_ONCE))
        };
        let mut clients: Vec<RawClient> = (next..last).map(begin).collect();
        for client in &mut clients {
            let (header, payload) = client.frame();
            assert_eq!(header.frame_type(), Some(Type::Auth));
            let answer = String::from_utf8(Auth::parse(&payload).expect("an AUTH").data.to_vec()).expect("text");
            let nonce = answer.split(',').find_map(|part| part.strip_prefix("r=")).expect("a nonce");
            let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            let data = format!("c=biws,r={nonce},p={proof}");
            client.say(Header::new(Type::Auth), &Auth { data: data.as_bytes() });
        }
        for client in &mut clients {
            let (header, payload) = client.frame();
            assert_eq!(header.frame_type(), Some(Type::Error));
            assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::AuthFailed));
        }
        next = last;
    }
}
