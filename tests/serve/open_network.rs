//! What somebody is believed, and for how long somebody is heard who guesses.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use rustix::process::Signal;
use switchboard::auth::{Mechanism, TokenDigest, Verifier};
use switchboard::client::{Address, Client, ConnectError, Credentials, Identity, Options, Tls};
use switchboard::wire::control::{Body, ErrorBody, Hello, Profile};
use switchboard::wire::{Code, Header, Id, Type};

use crate::files::{Files, token};
use crate::support::{RawClient, Relay, dial};
use crate::tls_support::{Pair, client};

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
    let line = format!("ada token:{} all=no names=ada,ada/*\n", TokenDigest::of(token.as_bytes()));
    std::fs::write(&file, line).expect("a file");
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

    let hello = Hello { mechanism, auth_data, ..Hello::new(Profile::named("eve")) };
    let mut eve = RawClient::greet(relay.address, &hello, Ipv4Addr::LOCALHOST);
    let (_, payload) = eve.frame();
    assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::NameDenied));
    let line = relay.log_line("denied ");
    let from = eve.socket.local_addr().expect("connected");
    let says = format!(", a newcomer at {from}: the user may not have this name (\"eve\" for the user \"ada\")\n");
    assert!(line.ends_with(&says), "{line}");
}

#[test]
fn why_somebody_has_not_proved_who_it_is_stands_in_the_log_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    let verifier = Verifier::from_password("right", NonZeroU32::new(4096).expect("some"), b"0123456789abcdef");
    let secret = "%secret MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let bot = TokenDigest::of(token("bot").as_bytes());
    std::fs::write(&file, format!("{secret}\nada {verifier}\nbot token:{bot}\n")).expect("a file");
    let mut relay = Relay::start(&["--users", file.to_str().expect("text"), "--auth-delay", "1ms"]);
    let address = Address::Tcp { host: "127.0.0.1".into(), port: relay.address.port() };
    let password = |user: &str| Credentials::Password { user: user.into(), password: "wrong".into() };
    let mut told = Vec::new();
    for (credentials, why) in [
        (password("ada"), "SCRAM-SHA-256 to be \"ada\": the proof of the password is wrong"),
        (password("bot"), "SCRAM-SHA-256 to be \"bot\": the user has no password"),
        (password("eve"), "SCRAM-SHA-256 to be \"eve\": there is no such user"),
        (Credentials::Token(token("eve").as_str().into()), "TOKEN who it is: nobody has this token"),
    ] {
        let options = Options { credentials: Some(credentials), ..Options::named("x") };
        let Err(ConnectError::Refused(failure)) = Client::connect(&address, &options) else { panic!("{why}") };
        assert_eq!(failure.code(), Some(Code::AuthFailed));
        told.push(failure.to_string());
        let line = relay.log_line("has not proved by ");
        assert!(line.trim_end().ends_with(why), "{why}: {line}");
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn an_address_that_may_not_come_in_stands_in_the_log_once_in_a_while() {
    let refused = |flags: &[&str], front: &[u8], says: &str| {
        let mut relay = Relay::start(flags);
        for _ in 0..2 {
            let mut socket = dial(relay.address, Ipv4Addr::LOCALHOST);
            let _ = socket.write_all(front);
            let _ = socket.read_to_end(&mut Vec::new());
        }
        relay.signal(Signal::USR1);
        let lines = relay.log_lines("; frames in ");
        let told: Vec<_> = lines.iter().filter(|line| line.contains(says)).collect();
        assert_eq!(told.len(), 1, "{says}: {lines:?}");
    };
    refused(&["--deny", "127.0.0.0/8"], b"", "are refused: its address may not come in (--allow, --deny)");
    refused(&["--allow", "10.0.0.0/8"], b"", "are refused: its address may not come in (--allow, --deny)");
    let proxied = ["--proxy-from", "127.0.0.0/8", "--deny", "10.0.0.0/8"];
    let header = b"PROXY TCP4 10.0.0.1 127.0.0.1 5000 9999\r\n";
    refused(&proxied, header, "connections from 10.0.0.1:5000 are refused: its address may not come in");
    refused(&proxied, b"GET / HTTP/1.1\r\n\r\n", " is refused: no header of the PROXY protocol, or a bad one");
}

#[test]
fn a_certificate_that_is_not_believed_stands_in_the_log() {
    let files = Files::new();
    let flags = files.tls_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut relay = Relay::start(&[&["--listen", "tls://127.0.0.1:0"], &flags[..]].concat());
    let line = relay.announced(1).remove(0);
    let port = line.rsplit(':').next().and_then(|port| port.split(' ').next()).expect(&line);
    let address = Address::Tls { host: "localhost".into(), port: port.parse().expect("a port") };
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = Pair::authority("somebody's").sign("eve", &[], client).save(folder.path(), "eve");
    let tls = Tls { ca: Some(files.trusted("trusted")), identity: Some(Identity { certificate, key }) };
    let refused = Client::connect(&address, &Options { tls, ..Options::named("eve") });
    assert!(matches!(refused, Err(ConnectError::Tls(_))), "{refused:?}");
    let line = relay.log_line("its certificate is not believed");
    assert!(line.contains("[WARN] TLS with 127.0.0.1:"), "{line}");
}

#[test]
fn a_chain_of_certificates_that_would_be_much_work_is_not_looked_at() {
    let files = Files::new();
    let flags = files.tls_flags();
    let folder = tempfile::tempdir().expect("a folder");
    for (behind, is_taken) in [(0, true), (4, true), (5, false)] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut relay = Relay::start(&[&["--listen", "tls://127.0.0.1:0"], &flags[..]].concat());
        let line = relay.announced(1).remove(0);
        let port = line.rsplit(':').next().and_then(|port| port.split(' ').next()).expect(&line);
        let address = Address::Tls { host: "localhost".into(), port: port.parse().expect("a port") };
        let (certificate, key) = files.signed("ada").save(folder.path(), "ada");
        let mut chain = std::fs::read_to_string(&certificate).expect("text");
        for _ in 0..behind {
            chain += &Pair::authority("an authority").certificate.pem();
        }
        std::fs::write(&certificate, chain).expect("written");
        let tls = Tls { ca: Some(files.trusted("trusted")), identity: Some(Identity { certificate, key }) };
        let done = Client::connect(&address, &Options { tls, ..Options::named("ada") });
        assert_eq!(done.is_ok(), is_taken, "{behind}: {done:?}");
        if !is_taken {
            relay.log_line("5 certificates stand behind its own; 4 are the most");
        }
    }
}

#[test]
fn one_address_has_a_part_of_the_places_of_those_who_are_not_registered() {
    let mut relay = Relay::start(&["--limit-exempt", "none", "--unregistered-per-address-max", "2"]);
    let from = Ipv4Addr::new(127, 0, 0, 2);
    let silent = [dial(relay.address, from), dial(relay.address, from)];
    let mut third = RawClient { socket: dial(relay.address, from), id: Id::RELAY };
    let (_, payload) = third.frame();
    assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::AddressCrowded));
    let line = relay.log_line("are refused: ");
    assert!(line.contains("there are 2 from its address that are not registered yet"), "{line}");
    // Others have places, and whoever is registered takes none.
    for name in ["ada", "bob", "eve"] {
        RawClient::greet(relay.address, &Hello::new(Profile::named(name)), Ipv4Addr::LOCALHOST).welcomed();
    }
    drop(silent);
}
