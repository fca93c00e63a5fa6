//! Users of a relay that asks who they are: the commands and the client library against the relay itself.

mod client_support;

use std::fs::{self, Permissions};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use client_support::{BINARY, Relay, Running, assert_code, run, stderr, stdout, wait_for};
use serde_json::Value;
use switchboard::auth::{TokenDigest, Verifier, token_text};
use switchboard::client::{Address, Client, Closed, ConnectError, Credentials, Event, Identity, Options, Tls};
use switchboard::wire::Code;
use tempfile::TempDir;

const PASSWORD: &str = "correct horse";

/// A relay over TLS and without, with users: `ada` has a password, `robot` a token, `eve` a certificate.
struct Safe {
    relay: Relay,
    folder: TempDir,
    token: String,
}

impl Safe {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [ca, relay, eve] = ["ca", "relay", "eve"].map(|name| folder.path().join(name));
        assert_code(&run("", &["cert", "--authority", "--out", text(&ca)], b""), 0);
        assert_code(&run("", &["cert", "--signed-by", text(&ca), "--out", text(&relay)], b""), 0);
        assert_code(&run("", &["cert", "--signed-by", text(&ca), "--user", "eve", "--out", text(&eve)], b""), 0);
        let verifier = Verifier::from_password(PASSWORD, NonZeroU32::new(4096).expect("some"), b"sixteen bytes of");
        let token = token_text(&[7; 32]).to_string();
        let digest = TokenDigest::of(token.as_bytes());
        let users = folder.path().join("users");
        let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let lines = format!("%secret {secret}\nada {verifier} admin=yes\nrobot token:{digest}\neve certificate\n");
        fs::write(&users, lines).expect("written");
        let (certificate, key) = (relay.join("cert.pem"), relay.join("key.pem"));
        let ca = ca.join("cert.pem");
        let arguments = [
            ["--tls-cert", text(&certificate)],
            ["--tls-key", text(&key)],
            ["--tls-client-ca", text(&ca)],
            ["--users", text(&users)],
            ["--listen", "127.0.0.1:0"],
        ];
        let relay = Relay::start_at("tls://127.0.0.1:0", &arguments.concat());
        Self { relay, folder, token }
    }

    fn address(&self) -> String {
        self.relay.address.replace("127.0.0.1", "localhost")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, name: &str, credentials: Credentials) -> Options {
        let tls = Tls { ca: Some(self.path("ca/cert.pem")), identity: None };
        Options { tls, credentials: Some(credentials), ..Options::named(name) }
    }

    fn connect(&self, options: &Options) -> Result<Client, ConnectError> {
        let address: Address = self.address().parse().expect("an address");
        Client::connect(&address, options)
    }

    /// A file that only its owner reads.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        text(&path).to_owned()
    }

    /// A command with `--ca`, and this in its environment.
    fn run(&self, arguments: &[&str], password: Option<&str>) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--ca", text(&self.path("ca/cert.pem"))]);
        command.env("SWITCHBOARD_ADDR", self.address()).env_remove("SWITCHBOARD_TOKEN").env_remove("USER");
        match password {
            Some(password) => command.env("SWITCHBOARD_PASSWORD", password),
            None => command.env_remove("SWITCHBOARD_PASSWORD"),
        };
        command.stdin(Stdio::null()).output().expect("started")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn password(password: &str) -> Credentials {
    Credentials::Password { user: "ada".into(), password: password.into() }
}

#[test]
fn each_way_to_prove_who_one_is_is_taken_over_tls() {
    let safe = Safe::start();
    let client = safe.connect(&safe.options("ada", password(PASSWORD))).expect("welcomed");
    assert_eq!(client.session().user.as_deref(), Some("ada"));
    let token = Credentials::Token(safe.token.as_str().into());
    let client = safe.connect(&safe.options("robot/1", token)).expect("welcomed");
    assert_eq!(client.session().user.as_deref(), Some("robot"));
    let identity = Identity { certificate: safe.path("eve/cert.pem"), key: safe.path("eve/key.pem") };
    let mut options = safe.options("eve", Credentials::Certificate);
    options.tls.identity = Some(identity);
    // Where the relay asks, the certificate is offered without having been told to prove anything.
    for credentials in [options.credentials.clone(), None] {
        let client = safe.connect(&Options { credentials, ..options.clone() }).expect("welcomed");
        assert_eq!(client.session().user.as_deref(), Some("eve"));
        let mut client = client;
        client.sender().goodbye().expect("sent");
        wait_for(&mut client, |event| matches!(event, Event::Closed(Closed::Ended)).then_some(()));
    }
}

#[test]
fn who_proves_nothing_or_something_wrong_is_refused_and_does_not_try_again() {
    let safe = Safe::start();
    let refused = |options: &Options| {
        let error = safe.connect(options).expect_err("refused");
        assert!(!error.may_retry(), "{error}");
        let ConnectError::Refused(failure) = error else { panic!("{error:?}") };
        failure
    };
    let nobody = Options { credentials: None, ..safe.options("ada", password("")) };
    let failure = refused(&nobody);
    assert_eq!(failure.code(), Some(Code::AuthRequired));
    assert!(failure.mechanisms.iter().any(|mechanism| mechanism == "SCRAM-SHA-256-PLUS"), "{failure}");
    assert_eq!(refused(&safe.options("ada", password("wrong"))).code(), Some(Code::AuthFailed));
    assert_eq!(refused(&safe.options("bob", password(PASSWORD))).code(), Some(Code::NameDenied));
    assert_eq!(refused(&safe.options("x", Credentials::Token("swb_x".into()))).code(), Some(Code::AuthFailed));
}

#[test]
fn a_relay_without_users_is_not_taken_for_one_with() {
    let relay = Relay::start();
    let options = Options { credentials: Some(password(PASSWORD)), ..Options::named("ada") };
    let error = Client::connect(&relay.address(), &options).expect_err("it proves nothing");
    assert!(matches!(error, ConnectError::NotAsked) && !error.may_retry(), "{error}");
}

#[test]
fn commands_say_who_they_are_and_are_called_after_their_user() {
    let safe = Safe::start();
    let token_file = safe.file("token", &format!("{}\n", safe.token));
    let password_file = safe.file("password", PASSWORD);
    let (address, ca) = (safe.address(), safe.path("ca/cert.pem"));
    let trusting = ["--ca", text(&ca)];
    let arguments = ["--user", "robot", "--token-file", &token_file, "--count", "2"];
    let ear = Running::start(&address, &[&["listen"], &arguments[..], &trusting].concat());
    assert!(ear.error_line("listening at").ends_with(", authenticated as robot"));
    let mut ada = Running::start(
        &address,
        &[&["join", "--user", "ada", "--password-file", &password_file], &trusting[..]].concat(),
    );
    let connected = ada.line("connected");
    assert!(
        connected.starts_with(&format!("* connected to {address} as ada, authenticated as ada; here: robot/listen-"))
    );
    ada.type_line("good morning");
    let output = safe.run(&["send", "--all", "--user", "ada", "hello"], Some(PASSWORD));
    assert_code(&output, 0);
    let (code, lines) = ear.end();
    assert_eq!(code, Some(0));
    assert_eq!(lines[0], "ada: good morning");
    assert!(lines[1].starts_with("ada/send-") && lines[1].ends_with(": hello"), "{lines:?}");
    ada.end_input();
    assert_eq!(ada.end().0, Some(0));
    let certificate = [text(&safe.path("eve/cert.pem")).to_owned(), text(&safe.path("eve/key.pem")).to_owned()];
    let output = safe.run(&["join", "--cert", &certificate[0], "--key", &certificate[1]], None);
    assert_code(&output, 0);
    assert!(stdout(&output).contains(" as eve, authenticated as eve; "), "{}", stdout(&output));
}

#[test]
fn a_refusal_is_one_line_with_what_to_change() {
    let safe = Safe::start();
    for (arguments, environment, says) in [
        (&["send", "--all", "x"][..], None, "(AUTH_REQUIRED); it takes SCRAM-SHA-256-PLUS"),
        (&["send", "--all", "x"], None, "say who you are with --user NAME"),
        (
            &["send", "--all", "--user", "ada", "x"],
            Some("wrong"),
            "the relay refused: the client has not proved to be a user (AUTH_FAILED)",
        ),
        (&["send", "--all", "--user", "ada", "--name", "bob", "x"], Some(PASSWORD), "other than \"bob\""),
        (&["listen", "--reconnect", "--user", "ada"], Some("wrong"), "(AUTH_FAILED)"),
        (&["join", "--user", "ada"], Some("wrong"), "(AUTH_FAILED)"),
    ] {
        let output = safe.run(arguments, environment);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says) && stderr(&output).lines().count() == 1, "{}", stderr(&output));
    }
}

/// A port that leads to another one, and how often it has been connected to.
fn counted_way_to(address: &str) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (count, address) = (Arc::new(AtomicU32::new(0)), address.to_owned());
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.expect("a client"), TcpStream::connect(&address).expect("the relay"));
            counted.fetch_add(1, Ordering::Relaxed);
            let back = (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
            for (mut from, mut to) in [(near, far), back] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (port, count)
}

#[test]
fn the_line_that_is_printed_with_a_users_certificate_costs_one_handshake() {
    let safe = Safe::start();
    let (ca, out) = (safe.path("ca"), safe.path("new"));
    let output = run("", &["cert", "--signed-by", text(&ca), "--user", "eve", "--out", text(&out), "--json"], b"");
    assert_code(&output, 0);
    let made: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let line = shlex::split(made["next"][1].as_str().expect("a line")).expect("words");
    let (port, count) = counted_way_to(safe.relay.address.trim_start_matches("tls://"));
    let address = format!("tls://localhost:{port}");
    let words = line[1..].iter().map(|word| if word == "tls://localhost" { &address } else { word });
    let words: Vec<&str> = words.map(String::as_str).collect();
    let output = run("", &words, b"");
    assert_code(&output, 0);
    assert!(stdout(&output).contains(" as eve, authenticated as eve; "), "{}", stdout(&output));
    assert_eq!(count.load(Ordering::Relaxed), 1, "{line:?}");
}

#[test]
fn who_may_administer_ends_anothers_connection_which_stays_away() {
    let safe = Safe::start();
    let (secret, token) = (safe.file("password", PASSWORD), safe.file("token", &safe.token));
    let ca = safe.path("ca/cert.pem");
    let join = |who: &[&str]| Running::start(&safe.address(), &[&["join", "--ca", text(&ca)], who].concat());
    let mut ada = join(&["--user", "ada", "--password-file", &secret]);
    ada.line("nobody else is here");
    let mut robot = join(&["--name", "robot", "--token-file", &token]);
    ada.line("+ robot is here");
    robot.type_line("/evict ada");
    robot.line("cannot evict ada");
    ada.type_line("/evict robot you repeat yourself");
    ada.line("the connection of robot has been ended");
    ada.line("robot has left");
    robot.error_line("you repeat yourself");
    assert_eq!(robot.end().0, Some(1));
    ada.type_line("/evict robot");
    ada.line("robot is not here");
}

#[test]
fn who_is_known_as_somebody_else_than_it_meant_to_be_does_not_go_on() {
    let safe = Safe::start();
    let token = safe.file("token", &safe.token);
    let [certificate, key] = ["eve/cert.pem", "eve/key.pem"].map(|name| text(&safe.path(name)).to_owned());
    for proof in [&["--token-file", &token][..], &["--cert", &certificate, "--key", &key]] {
        let name = if proof[0] == "--cert" { "eve" } else { "robot" };
        let arguments = [&["send", "--all", "x", "--user", "bob", "--name", name], proof].concat();
        let output = safe.run(&arguments, None);
        assert_code(&output, 1);
        let says = format!("the relay knows this client as {name:?}, and \"bob\" was meant");
        assert!(stderr(&output).contains(&says), "{}", stderr(&output));
    }
}
