//! What somebody is believed, and for how long somebody is heard who guesses.

use std::io::Write;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use rustix::process::Signal;
use switchboard::auth::{Mechanism, TokenDigest, Verifier};
use switchboard::client::{Address, Client, ConnectError, Credentials, Options};
use switchboard::wire::control::{Body, ErrorBody, Hello, Profile};
use switchboard::wire::{Code, Header, Id, Type};

use crate::files::{Files, token};
use crate::support::{RawClient, Relay, dial};

/// Says HELLO with ada's token, behind `front`; gives the answer's type and its code.
fn by_token(relay: &Relay, front: &[u8]) -> (Option<Type>, Option<Code>) {
    let token = token("ada");
    let (mechanism, auth_data) = (Some(Mechanism::Token.name()), Some(token.as_bytes()));
    let mut bytes = front.to_vec();
    Hello { mechanism, auth_data, ..Hello::new(Profile::named("ada")) }
        .write_frame(Header::new(Type::Hello), &mut bytes);
    let mut socket = dial(relay.address, Ipv4Addr::LOCALHOST);
    socket.write_all(&bytes).expect("the relay reads");
    let (header, payload) = RawClient { socket, id: Id::RELAY }.frame();
    (header.frame_type(), ErrorBody::parse(&payload).ok().and_then(|body| body.0.code()))
}

#[test]
fn a_token_is_not_taken_in_plain_from_whom_a_proxy_says_to_be_of_this_machine() {
    let files = Files::new();
    let flags = files.users_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(by_token(&Relay::start(&flags), b"").0, Some(Type::Welcome), "of this machine it is");
    let proxied = Relay::start(&[&flags[..], &["--proxy-from", "127.0.0.0/8"]].concat());
    let answer = by_token(&proxied, b"PROXY TCP4 127.0.0.1 127.0.0.1 5000 9999\r\n");
    assert_eq!(answer, (Some(Type::Error), Some(Code::BadMechanism)));
}

#[test]
fn an_address_with_wrong_passwords_is_not_heard_and_that_is_logged_unless_it_is_exempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    let verifier = Verifier::from_password("right", NonZeroU32::new(4096).expect("some"), b"0123456789abcdef");
    let secret = "%secret MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    std::fs::write(&file, format!("{secret}\nada {verifier}\n")).expect("a file");
    let flags = ["--users", file.to_str().expect("text"), "--auth-failures-max", "2", "--auth-delay", "1ms"];
    let attempt = |relay: &Relay, password: &str| {
        let credentials = Some(Credentials::Password { user: "ada".into(), password: password.into() });
        let address = Address::Tcp { host: "127.0.0.1".into(), port: relay.address.port() };
        match Client::connect(&address, &Options { credentials, ..Options::named("ada") }) {
            Err(ConnectError::Refused(failure)) => failure.code(),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    };
    // The default: this machine is exempt.
    let relay = Relay::start(&flags);
    for _ in 0..3 {
        assert_eq!(attempt(&relay, "wrong"), Some(Code::AuthFailed));
    }
    assert_eq!(attempt(&relay, "right"), None);

    let mut relay = Relay::start(&[&flags[..], &["--limit-exempt", "none"]].concat());
    for _ in 0..2 {
        assert_eq!(attempt(&relay, "wrong"), Some(Code::AuthFailed));
    }
    assert_eq!(attempt(&relay, "right"), Some(Code::TooManyAttempts));
    let line = relay.log_line("is not heard");
    assert!(line.contains("at 127.0.0.1:") && line.contains("too many passwords from there were wrong"), "{line}");
    relay.signal(Signal::USR1);
    relay.log_line("TOO_MANY_ATTEMPTS 1");
}

#[test]
fn who_was_denied_what_and_from_where_stands_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    let token = token("ada");
    std::fs::write(&file, format!("ada token:{} all=no\n", TokenDigest::of(token.as_bytes()))).expect("a file");
    let mut relay = Relay::start(&["--users", file.to_str().expect("text")]);
    let (mechanism, auth_data) = (Some(Mechanism::Token.name()), Some(token.as_bytes()));
    let hello = Hello { mechanism, auth_data, ..Hello::new(Profile::named("ada")) };
    let mut ada = RawClient::greet(relay.address, &hello, Ipv4Addr::LOCALHOST);
    ada.welcomed();
    ada.send(Header::new(Type::Send).to(Id::ALL).correlating(7), b"hear me");
    let (header, payload) = ada.frame();
    let error = ErrorBody::parse(&payload).expect("an ERROR");
    assert_eq!(
        (header.correlation, error.0.code(), error.0.text),
        (7, Some(Code::Denied), "the user may not send to all")
    );
    let line = relay.log_line("denied ");
    let says = "\"ada\" of the user \"ada\" at 127.0.0.1:";
    assert!(line.contains(says) && line.ends_with(": the user may not send to all (all)\n"), "{line}");
}
