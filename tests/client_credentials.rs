//! How the client proves who it is, against a relay of a few lines that says what each test wants.

mod tls_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::version::TLS12;
use switchboard::auth::Mechanism;
use switchboard::auth::Verifier;
use switchboard::auth::scram::{Binding, ServerExchange};
use switchboard::client::{Address, Client, ConnectError, Credentials, Identity, Options, Tls};
use switchboard::wire::control::{Auth, Body, ErrorBody, Hello, Reason, Welcome};
use switchboard::wire::{Code, Header, Type};
use tls_support::{Frames, PATIENCE, Pair, Style, at, client, listen_tls, usual, welcome};

const PASSWORD: &str = "correct horse";
const SALT: &[u8] = b"sixteen bytes of";
const ITERATIONS: u32 = 4096;

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password, NonZeroU32::new(ITERATIONS).expect("some"), SALT)
}

fn password(password: &str) -> Credentials {
    Credentials::Password { user: "ada".into(), password: password.into() }
}

/// A HELLO as it came: what it proves, by what.
type Said = (Option<String>, Option<Vec<u8>>);

fn read_hello(line: &mut impl Frames) -> Said {
    let (header, payload) = line.frame();
    assert_eq!(header.frame_type(), Some(Type::Hello));
    let hello = Hello::parse(&payload).expect("a HELLO");
    (hello.mechanism.map(str::to_owned), hello.auth_data.map(<[u8]>::to_vec))
}

fn welcome_as(line: &mut impl Frames, user: Option<&str>, auth_data: Option<&[u8]>) {
    line.say(Header::new(Type::Welcome).correlating(1), &Welcome { user, auth_data, ..welcome() });
}

fn refuse(line: &mut impl Frames, code: Code, mechanisms: &[Mechanism], retry_ms: Option<u32>) {
    let mut reason = Reason { retry_ms, ..Reason::new(code, "no") };
    for (place, mechanism) in reason.mechanisms.iter_mut().zip(mechanisms) {
        *place = Some(mechanism.name());
    }
    line.say(Header::new(Type::Error).correlating(1), &ErrorBody(reason));
}

/// The relay's part of SCRAM up to the proof; gives what it says behind it, which is `None` if the proof is wrong.
fn scram(line: &mut impl Frames, said: &Said, binding: Binding, known: &str) -> Option<String> {
    let (mechanism, first) = said;
    let is_plus = mechanism.as_deref() == Some("SCRAM-SHA-256-PLUS");
    let first = first.as_deref().expect("a first message");
    let begun = ServerExchange::begin(
        first,
        is_plus,
        binding,
        |user| {
            assert_eq!(user, "ada");
            verifier(known)
        },
        [7; 18],
    );
    let (exchange, challenge) = begun.expect("a first message of SCRAM");
    line.say(Header::new(Type::Auth).correlating(1), &Auth { data: challenge.as_bytes() });
    let (header, payload) = line.frame();
    assert_eq!(header.frame_type(), Some(Type::Auth));
    let proof = Auth::parse(&payload).expect("an AUTH").data.to_vec();
    exchange.finish(&proof).ok().map(|(_, signature)| signature)
}

/// A relay without TLS for as many connections as there are `runs`.
fn relay<F: FnOnce(&mut TcpStream) + Send + 'static>(runs: Vec<F>) -> (Address, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
    let handle = thread::spawn(move || {
        for run in runs {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            run(&mut stream);
        }
    });
    (address, handle)
}

fn with(credentials: Credentials) -> Options {
    Options { credentials: Some(credentials), ..Options::named("ada") }
}

/// What comes of these credentials at a relay that does this.
fn try_at(credentials: Credentials, run: impl FnOnce(&mut TcpStream) + Send + 'static) -> Result<Client, ConnectError> {
    let (address, handle) = relay(vec![run]);
    let connected = Client::connect(&address, &with(credentials));
    handle.join().expect("the relay is content");
    connected
}

#[test]
fn a_password_is_proved_and_never_sent_and_the_relay_says_who_one_is() {
    let client = try_at(password(PASSWORD), |line| {
        let said = read_hello(line);
        assert_eq!(said.0.as_deref(), Some("SCRAM-SHA-256"));
        let first = String::from_utf8(said.1.clone().expect("data")).expect("text");
        assert!(first.starts_with("n,,n=ada,r=") && !first.contains(PASSWORD), "{first}");
        let signature = scram(line, &said, Binding::None, PASSWORD).expect("the right proof");
        welcome_as(line, Some("ada"), Some(signature.as_bytes()));
    });
    assert_eq!(client.expect("welcomed").session().user.as_deref(), Some("ada"));
}

#[test]
fn no_two_proofs_are_alike() {
    let mut firsts = Vec::new();
    for _ in 0..2 {
        let (told, tells) = std::sync::mpsc::channel();
        let error = try_at(password(PASSWORD), move |line| {
            told.send(read_hello(line).1).expect("heard");
            refuse(line, Code::AuthFailed, &[], None);
        });
        assert!(error.is_err());
        firsts.push(tells.recv().expect("told"));
    }
    assert_ne!(firsts[0], firsts[1]);
}

#[test]
fn a_relay_that_does_not_know_the_user_is_not_believed_whatever_it_says() {
    // It welcomes without having asked, with and without a name, and with a signature that it has made up.
    for (user, word) in [(None, None), (Some("ada"), None), (Some("ada"), Some(&b"v=AAAA"[..]))] {
        let error = try_at(password(PASSWORD), move |line| {
            read_hello(line);
            welcome_as(line, user, word);
        });
        let error = error.expect_err("not believed");
        assert!(matches!(error, ConnectError::NotAsked) && !error.may_retry(), "{error}");
    }
    // It asks, and knows another password than ours.
    let known = verifier("another");
    for word in [None, Some("v=".to_owned() + &"A".repeat(43) + "="), Some("e=other-error".to_owned())] {
        let known = known.clone();
        let error = try_at(password(PASSWORD), move |line| {
            let (_, first) = read_hello(line);
            let first = first.expect("a first message");
            let (_, challenge) = ServerExchange::begin(&first, false, Binding::None, |_| known, [7; 18]).expect("good");
            line.say(Header::new(Type::Auth), &Auth { data: challenge.as_bytes() });
            line.frame();
            welcome_as(line, Some("ada"), word.as_deref().map(str::as_bytes));
        });
        let error = error.expect_err("not believed");
        assert!(matches!(error, ConnectError::Unproven(_)) && !error.may_retry(), "{error}");
    }
    // It knows the password and does not say who we are.
    let error = try_at(password(PASSWORD), |line| {
        let said = read_hello(line);
        let signature = scram(line, &said, Binding::None, PASSWORD).expect("the right proof");
        welcome_as(line, None, Some(signature.as_bytes()));
    });
    assert!(matches!(error.expect_err("not believed"), ConnectError::NotAsked));
}

#[test]
fn a_challenge_that_cannot_be_one_is_not_answered() {
    for challenge in [
        &b""[..],
        b"\xff",
        b"e=unknown-user",
        b"r=other,s=c2l4dGVlbiBieXRlcyBvZg==,i=4096",
        b"m=ext,r=x,s=c2l4dGVlbiBieXRlcyBvZg==,i=4096",
    ] {
        let error = try_at(password(PASSWORD), move |line| {
            read_hello(line);
            line.say(Header::new(Type::Auth), &Auth { data: challenge });
            assert_eq!(line.read_to_end(&mut Vec::new()).expect("closed"), 0, "nothing more is said");
        });
        let error = error.expect_err("no challenge");
        assert!(matches!(error, ConnectError::Unproven(_)) && !error.may_retry(), "{error}");
    }
    // As many iterations as would keep the client busy for an hour.
    let error = try_at(password(PASSWORD), |line| {
        let (_, first) = read_hello(line);
        let first = String::from_utf8(first.expect("data")).expect("text");
        let nonce = first.rsplit_once("r=").expect("a nonce").1;
        let challenge = format!("r={nonce}more,s=c2l4dGVlbiBieXRlcyBvZg==,i=4294967295");
        line.say(Header::new(Type::Auth), &Auth { data: challenge.as_bytes() });
        assert_eq!(line.read_to_end(&mut Vec::new()).expect("closed"), 0);
    });
    assert!(matches!(error.expect_err("too many"), ConnectError::Unproven(_)));
}

#[test]
fn an_auth_that_nobody_waits_for_is_not_answered() {
    for credentials in [None, Some(Credentials::Token("swb_x".into()))] {
        let (address, handle) = relay(vec![|line: &mut TcpStream| {
            read_hello(line);
            line.say(Header::new(Type::Auth), &Auth { data: b"r=x,s=AAAA,i=4096" });
            assert_eq!(line.read_to_end(&mut Vec::new()).expect("closed"), 0);
        }]);
        let options = Options { credentials, ..Options::named("ada") };
        let error = Client::connect(&address, &options).expect_err("out of place");
        assert!(matches!(error, ConnectError::NotARelay(_)), "{error}");
        handle.join().expect("the relay is content");
    }
}

#[test]
fn a_token_and_a_certificate_need_a_word_of_the_relay_too() {
    let client = try_at(Credentials::Token("swb_secret".into()), |line| {
        assert_eq!(read_hello(line), (Some("TOKEN".into()), Some(b"swb_secret".to_vec())));
        welcome_as(line, Some("robot"), None);
    });
    assert_eq!(client.expect("welcomed").session().user.as_deref(), Some("robot"));
    let error = try_at(Credentials::Token("swb_secret".into()), |line| {
        read_hello(line);
        welcome_as(line, None, None);
    });
    assert!(matches!(error.expect_err("not asked"), ConnectError::NotAsked));

    let folder = tempfile::tempdir().expect("a folder");
    let ca = Pair::authority("here");
    let (file, _) = ca.save(folder.path(), "ca");
    let pair = ca.sign("a relay", &["localhost"], usual);
    let (certificate, key) = ca.sign("ada", &[], client_certificate).save(folder.path(), "ada");
    let style = Style { clients: Some(ca.certificate.der().clone()), ..Style::default() };
    let (port, handle) = listen_tls(style.config(&pair), usize::MAX, |mut line| {
        assert_eq!(read_hello(&mut line), (Some("EXTERNAL".into()), None));
        welcome_as(&mut line, Some("ada"), None);
    });
    let tls = Tls { ca: Some(file), identity: Some(Identity { certificate, key }) };
    let client = Client::connect(&at(port), &Options { tls, ..with(Credentials::Certificate) }).expect("welcomed");
    assert_eq!(client.session().user.as_deref(), Some("ada"));
    handle.join().expect("the relay is content");
}

#[test]
fn a_certificate_is_offered_only_where_the_relay_asks_who_one_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Pair::authority("here");
    let (file, _) = ca.save(folder.path(), "ca");
    let pair = ca.sign("a relay", &["localhost"], usual);
    let (certificate, key) = ca.sign("ada", &[], client_certificate).save(folder.path(), "ada");
    let style = Style { clients: Some(ca.certificate.der().clone()), ..Style::default() };
    let config = style.config(&pair);
    let tls = Tls { ca: Some(file), identity: Some(Identity { certificate, key }) };
    let options = Options { tls, ..Options::named("ada") };
    for (offer, comes_again) in [(None, false), (Some(Mechanism::External), true), (Some(Mechanism::Token), false)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let config = config.clone();
        let handle = thread::spawn(move || {
            let mut line = tls_support::accept(&listener, &config);
            assert_eq!(read_hello(&mut line), (None, None));
            match offer {
                None => welcome_as(&mut line, None, None),
                Some(offer) => refuse(&mut line, Code::AuthRequired, &[offer], None),
            }
            line.say_end();
            if comes_again {
                let mut line = tls_support::accept(&listener, &config);
                assert_eq!(read_hello(&mut line), (Some("EXTERNAL".into()), None));
                welcome_as(&mut line, Some("ada"), None);
            }
        });
        let connected = Client::connect(&at(port), &options);
        handle.join().expect("the relay is content");
        match connected {
            Ok(client) => assert_eq!(client.session().user.is_some(), comes_again),
            Err(error) => assert!(offer == Some(Mechanism::Token) && !error.may_retry(), "{error}"),
        }
    }
}

fn client_certificate(params: &mut rcgen::CertificateParams) {
    client(params);
}

#[test]
fn over_tls_a_password_is_bound_to_the_connection_and_nobody_in_between_can_pass_it_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, _) = pair.save(folder.path(), "relay");
    let options = Options { tls: Tls { ca: Some(certificate), identity: None }, ..with(password(PASSWORD)) };
    let first_letter = Arc::new(Mutex::new(None));
    let connect = |config, exported: fn([u8; 32]) -> [u8; 32]| {
        let first_letter = Arc::clone(&first_letter);
        let (port, handle) = listen_tls(config, usize::MAX, move |mut line| {
            let said = read_hello(&mut line);
            let (label, context) = (b"EXPORTER-Channel-Binding", Some(&b""[..]));
            let own = line.0.conn.export_keying_material([0; 32], label, context).expect("exported");
            let is_plus = said.0.as_deref() == Some("SCRAM-SHA-256-PLUS");
            *first_letter.lock().expect("whole") = said.1.as_deref().and_then(|first| first.first().copied());
            let binding = if is_plus { Binding::Exporter(exported(own)) } else { Binding::None };
            match scram(&mut line, &said, binding, PASSWORD) {
                Some(signature) => welcome_as(&mut line, Some("ada"), Some(signature.as_bytes())),
                None => refuse(&mut line, Code::AuthFailed, &[], None),
            }
        });
        let connected = Client::connect(&at(port), &options);
        handle.join().expect("the relay is content");
        connected
    };
    connect(Style::default().config(&pair), |own| own).expect("welcomed");
    assert_eq!(*first_letter.lock().expect("whole"), Some(b'p'), "it is bound");
    // The other side of somebody in between is another connection.
    let error = connect(Style::default().config(&pair), |_| [1; 32]).expect_err("another connection");
    assert!(matches!(&error, ConnectError::Refused(failure) if failure.code() == Some(Code::AuthFailed)), "{error}");
    assert!(!error.may_retry());
    // No relay binds to TLS 1.2; the client says that it would have, which a relay that can bind does not take.
    let old = Style { versions: vec![&TLS12], ..Style::default() };
    connect(old.config(&pair), |own| own).expect("welcomed");
    assert_eq!(*first_letter.lock().expect("whole"), Some(b'y'));
}

#[test]
fn behind_something_that_ends_tls_a_password_is_proved_without_it_once_and_the_proof_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = Pair::self_signed(&["localhost"], usual);
    let (certificate, _) = pair.save(folder.path(), "relay");
    let config = Style::default().config(&pair);
    let options = Options { tls: Tls { ca: Some(certificate), identity: None }, ..with(password(PASSWORD)) };
    let offered: fn(&[Mechanism]) -> Vec<Mechanism> = <[Mechanism]>::to_vec;
    for (offer, comes_again) in [
        (offered(&[Mechanism::ScramSha256]), true),
        // A relay that says so and offers it all the same contradicts itself.
        (offered(&[Mechanism::ScramSha256Plus, Mechanism::ScramSha256]), false),
        (offered(&[Mechanism::Token]), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let config = config.clone();
        let handle = thread::spawn(move || {
            let mut line = tls_support::accept(&listener, &config);
            assert_eq!(read_hello(&mut line).0.as_deref(), Some("SCRAM-SHA-256-PLUS"));
            refuse(&mut line, Code::BadMechanism, &offer, None);
            line.say_end();
            if comes_again {
                let mut line = tls_support::accept(&listener, &config);
                let said = read_hello(&mut line);
                assert_eq!(said.0.as_deref(), Some("SCRAM-SHA-256"));
                assert!(said.1.as_deref().is_some_and(|first| first.starts_with(b"y,,n=ada,")));
                let signature = scram(&mut line, &said, Binding::None, PASSWORD).expect("the right proof");
                welcome_as(&mut line, Some("ada"), Some(signature.as_bytes()));
            }
        });
        let connected = Client::connect(&at(port), &options);
        handle.join().expect("the relay is content");
        match connected {
            Ok(_) => assert!(comes_again),
            Err(error) => {
                let refused = matches!(&error, ConnectError::Refused(failure)
                    if failure.code() == Some(Code::BadMechanism) && !failure.mechanisms.is_empty());
                assert!(refused && !comes_again && error.to_string().contains("it takes"), "{error}");
            }
        }
    }
}

#[test]
fn what_is_refused_says_whether_and_when_to_come_back() {
    for (code, may_retry) in [
        (Code::AuthRequired, false),
        (Code::AuthFailed, false),
        (Code::BadMechanism, false),
        (Code::NameDenied, false),
        (Code::AddressDenied, false),
        (Code::TakenOver, false),
        (Code::TooManyAttempts, true),
        (Code::AddressCrowded, true),
        (Code::CrowdedOut, true),
        (Code::RateExceeded, true),
        (Code::AccessChanged, true),
        (Code::AuthTimeout, true),
    ] {
        let retry_ms = may_retry.then_some(1_500);
        let error = try_at(Credentials::Token("swb_x".into()), move |line| {
            read_hello(line);
            refuse(line, code, &[], retry_ms);
        });
        let error = error.expect_err("refused");
        assert_eq!(error.may_retry(), may_retry, "{error}");
        assert_eq!(error.retry_after(), may_retry.then_some(Duration::from_millis(1_500)));
    }
}

#[test]
fn what_lets_somebody_in_is_shown_nowhere() {
    for credentials in [password("hunter2"), Credentials::Token("hunter2".into())] {
        let options = with(credentials);
        assert!(!format!("{options:?}").contains("hunter2"));
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: Address = silent.local_addr().expect("bound").to_string().parse().expect("an address");
        let options = Options { connect_timeout: Duration::from_millis(50), ..options };
        let error = Client::connect(&address, &options).expect_err("silent");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[test]
fn a_relay_that_is_slow_to_ask_is_given_up_in_time() {
    let (address, handle) = relay(vec![|line: &mut TcpStream| {
        let said = read_hello(line);
        let first = said.1.expect("a first message");
        let begun = ServerExchange::begin(&first, false, Binding::None, |_| verifier(PASSWORD), [7; 18]);
        line.say(Header::new(Type::Auth), &Auth { data: begun.expect("good").1.as_bytes() });
        // It takes the proof and says nothing; the client goes.
        let _ = line.read_to_end(&mut Vec::new());
        let _ = line.flush();
    }]);
    let options = Options { connect_timeout: Duration::from_secs(1), ..with(password(PASSWORD)) };
    let error = Client::connect(&address, &options).expect_err("silent");
    assert!(matches!(error, ConnectError::TimedOut { .. }) && error.may_retry(), "{error}");
    handle.join().expect("the relay is content");
}
