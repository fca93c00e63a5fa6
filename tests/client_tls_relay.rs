//! The commands and the client library over TLS against the relay itself.

mod client_support;
mod tls_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use client_support::{BINARY, PATIENCE, Relay, Running, assert_code, run, signal, stderr, stdout, wait_for};
use rustix::process::Signal;
use switchboard::client::{Address, Client, Closed, ConnectError, Envelope, Event, Identity, Options, Tls, TlsError};
use switchboard::wire::Id;
use tempfile::TempDir;

/// A relay that speaks TLS with a certificate of its own, and where its files are.
struct SafeRelay {
    relay: Relay,
    folder: TempDir,
}

impl SafeRelay {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("relay");
        assert_code(&run("", &["cert", "--out", text(&out)], b""), 0);
        Self::start_with(folder, &out, arguments)
    }

    fn start_with(folder: TempDir, pair: &Path, arguments: &[&str]) -> Self {
        let (certificate, key) = (pair.join("cert.pem"), pair.join("key.pem"));
        let files = ["--tls-cert", text(&certificate), "--tls-key", text(&key)];
        let relay = Relay::start_at("tls://127.0.0.1:0", &[&files, arguments].concat());
        Self { relay, folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("relay/cert.pem")
    }

    /// At the name that its certificate is for.
    fn address(&self) -> String {
        self.relay.address.replace("127.0.0.1", "localhost")
    }

    fn client(&self, name: &str) -> Client {
        let tls = Tls { ca: Some(self.ca()), identity: None };
        let address: Address = self.address().parse().expect("an address");
        Client::connect(&address, &Options { tls, ..Options::named(name) }).expect("welcomed")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn commands_talk_over_tls_as_they_do_without() {
    let safe = SafeRelay::start(&[]);
    let (address, ca) = (safe.address(), safe.ca());
    let trusting = ["--ca", text(&ca)];
    let ear = Running::listen(&address, &[&["--name", "ear", "--count", "3"], &trusting[..]].concat());
    let send = |arguments: &[&str], input: &[u8]| {
        run(
            &address,
            &[&["send", "--to", "ear", "--name", "ada", "--receipt"][..], &trusting, arguments].concat(),
            input,
        )
    };
    assert_code(&send(&["hello"], b""), 0);
    assert_code(&send(&["--kind", "bytes"], &vec![7; 65_536]), 0);
    let mut ada = Running::start(&address, &[&["join", "--name", "ada"], &trusting[..]].concat());
    let connected = ada.line("connected");
    assert!(connected.starts_with(&format!("* connected to {address} as ada; here: ear")), "{connected}");
    ada.type_line("/to ear");
    ada.type_line("good morning");
    let (code, lines) = ear.end();
    assert_eq!((code, lines.len()), (Some(0), 3));
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("ada: hello", "ada: good morning"));
    assert!(lines[1].starts_with("ada: [65536 bytes: 07"), "{}", lines[1]);
    ada.end_input();
    assert_eq!(ada.end().0, Some(0));
}

#[test]
fn a_relay_that_is_not_believed_is_told_in_one_line_with_what_to_change() {
    let safe = SafeRelay::start(&["--listen", "127.0.0.1:0"]);
    let port = safe.relay.address.rsplit(':').next().expect("a port").to_owned();
    let elsewhere = tempfile::tempdir().expect("a folder");
    assert_code(&run("", &["cert", "--out", text(elsewhere.path())], b""), 0);
    let (ca, other) = (safe.ca(), elsewhere.path().join("cert.pem"));
    let plain = Relay::start();
    let plain_over_tls = format!("tls://{}", plain.address);
    let with_name = format!("tls://ip6-localhost:{port}");
    let (localhost, by_number) = (format!("tls://localhost:{port}"), format!("127.0.0.1:{port}"));
    let cases: [(&str, &[&str], i32, &str); 7] = [
        (&localhost, &[][..], 1, "is signed by nobody who is trusted here; give its certificate"),
        (&localhost, &["--ca", text(&other)], 1, "is it the right file that --ca names?"),
        (
            &localhost,
            &["--ca", "/nonexistent"],
            1,
            "switchboard: cannot use /nonexistent: it cannot be read: No such file",
        ),
        (&plain_over_tls, &["--ca", text(&ca)], 1, "does not speak TLS: try 127.0.0.1:"),
        (&by_number, &[], 1, "that port speaks TLS: write tls://127.0.0.1:"),
        (&plain.address, &["--ca", text(&ca)], 2, "write the address as tls://host:port"),
        (&localhost, &["--cert", text(&ca)], 2, "--key"),
    ];
    for (address, more, code, says) in cases {
        let output = run(address, &[&["send", "--all", "x"], more].concat(), b"");
        assert_code(&output, code);
        assert!(stderr(&output).contains(says), "{says:?}: {}", stderr(&output));
        assert!(stderr(&output).lines().count() == 1, "{}", stderr(&output));
    }
    // Not every machine has such a name for itself.
    let output = run(&with_name, &["send", "--all", "x", "--ca", text(&ca)], b"");
    let said = stderr(&output);
    assert!(said.contains("not for ip6-localhost but for localhost, 127.0.0.1") || said.contains("known"), "{said}");
}

#[test]
fn without_a_file_the_authorities_of_the_system_are_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, relay] = ["ca", "relay"].map(|name| folder.path().join(name));
    assert_code(&run("", &["cert", "--authority", "--out", text(&ca)], b""), 0);
    assert_code(&run("", &["cert", "--signed-by", text(&ca), "--out", text(&relay)], b""), 0);
    let safe = SafeRelay::start_with(folder, &relay, &[]);
    let send = |authorities: &Path| {
        let mut command = Command::new(BINARY);
        command.args(["send", "--addr", &safe.address(), "--all", "--name", "ada", "x"]);
        // Where a system keeps them is told by these, or by its custom.
        command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        command.stdin(Stdio::null()).output().expect("started")
    };
    assert_code(&send(&ca.join("cert.pem")), 0);
    let output = send(Path::new("/nonexistent"));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("this system has no certificates of authorities"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--ca FILE") && stderr(&output).lines().count() == 1, "{}", stderr(&output));
}

#[test]
fn a_relay_that_wants_certificates_of_its_clients_gets_them_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, relay, ada] = ["ca", "relay", "ada"].map(|name| folder.path().join(name));
    assert_code(&run("", &["cert", "--authority", "--out", text(&ca)], b""), 0);
    assert_code(&run("", &["cert", "--signed-by", text(&ca), "--out", text(&relay)], b""), 0);
    assert_code(&run("", &["cert", "--signed-by", text(&ca), "--user", "ada", "--out", text(&ada)], b""), 0);
    let ca = ca.join("cert.pem");
    let safe = SafeRelay::start_with(folder, &relay, &["--tls-client-ca", text(&ca), "--tls-client-required"]);
    let send = ["send", "--all", "x", "--ca", text(&ca)];
    let output = run(&safe.address(), &send, b"");
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("wants a certificate of the client; give yours with --cert"),
        "{}",
        stderr(&output)
    );
    let address: Address = safe.address().parse().expect("an address");
    let identity = Identity { certificate: ada.join("cert.pem"), key: ada.join("key.pem") };
    assert_eq!(identity.user().as_deref(), Some("ada"));
    let options = Options { tls: Tls { ca: Some(ca), identity: Some(identity) }, ..Options::named("ada") };
    drop(Client::connect(&address, &options).expect("welcomed"));
}

#[test]
fn many_large_frames_pass_both_ways_at_once_through_the_relay() {
    const FRAMES: u32 = 200;
    let safe = SafeRelay::start(&[]);
    let (ada, bob) = (safe.client("ada"), safe.client("bob"));
    let ids = [ada.session().client, bob.session().client];
    let halves = [ada.split(), bob.split()];
    let talks: Vec<_> = halves
        .into_iter()
        .zip(ids.into_iter().rev())
        .map(|((sender, mut receiver), to)| {
            thread::spawn(move || {
                // One at a time: what is on its way fits every queue, and each is receipted before the next.
                let writing = {
                    let sender = sender.clone();
                    let (go, receipts) = std::sync::mpsc::channel();
                    let handle = thread::spawn(move || {
                        for n in 1..=FRAMES {
                            sender.send_as(n, to, Envelope::bytes().receipt(), &vec![n as u8; 60_000]).expect("sent");
                            receipts.recv_timeout(PATIENCE).expect("a receipt");
                        }
                    });
                    (go, handle)
                };
                let (mut messages, mut receipts) = (0, 0);
                while messages < FRAMES || receipts < FRAMES {
                    match receiver.recv() {
                        Event::Message(message) => {
                            messages += 1;
                            assert!(message.payload.iter().all(|byte| *byte == messages as u8), "intact, in order");
                        }
                        Event::Receipt(_) => {
                            receipts += 1;
                            let _ = writing.0.send(());
                        }
                        other => panic!("{other:?}"),
                    }
                }
                writing.1.join().expect("all sent");
            })
        })
        .collect();
    for talk in talks {
        talk.join().expect("all came");
    }
}

#[test]
fn the_end_is_told_by_the_relay_and_by_tls() {
    let safe = SafeRelay::start(&[]);
    let mut ada = safe.client("ada");
    ada.sender().goodbye().expect("sent");
    let closed = wait_for(&mut ada, |event| if let Event::Closed(closed) = event { Some(closed) } else { None });
    assert_eq!(closed, Closed::Ended);

    // A relay that is killed has no time for words.
    let mut bob = safe.client("bob");
    bob.sender().send(Id::ALL, Envelope::text(), b"x").expect("sent");
    assert!(matches!(bob.receiver().recv(), Event::Message(_)));
    drop(safe);
    let closed = wait_for(&mut bob, |event| if let Event::Closed(closed) = event { Some(closed) } else { None });
    assert!(matches!(closed, Closed::Truncated | Closed::Broken { .. }) && closed.may_return(), "{closed:?}");
}

#[test]
fn a_listener_comes_back_to_a_relay_over_tls() {
    let safe = SafeRelay::start(&[]);
    let (address, ca) = (safe.address(), safe.ca());
    let arguments = ["--name", "ear", "--count", "1", "--reconnect", "--ca", text(&ca)];
    let ear = Running::listen(&address, &arguments);
    let SafeRelay { relay, folder } = safe;
    let at = relay.address.clone();
    relay.stop();
    ear.error_line("lost:");
    let (certificate, key) = (folder.path().join("relay/cert.pem"), folder.path().join("relay/key.pem"));
    let again = Relay::start_at(&at, &["--tls-cert", text(&certificate), "--tls-key", text(&key)]);
    ear.error_line("listening at");
    let output = run(&address, &["send", "--to", "ear", "--name", "ada", "--ca", text(&ca), "again"], b"");
    assert_code(&output, 0);
    assert_eq!(ear.end(), (Some(0), vec!["ada: again".to_owned()]), "{}", stdout(&output));
    drop(again);
}

#[test]
fn an_interrupt_ends_a_listener_over_tls_in_good_order() {
    let safe = SafeRelay::start(&[]);
    let (address, ca) = (safe.address(), safe.ca());
    let watcher = Running::listen(&address, &["--name", "watcher", "--presence", "--ca", text(&ca)]);
    let ear = Running::listen(&address, &["--name", "ear", "--ca", text(&ca)]);
    signal(&ear.child, Signal::INT);
    assert_eq!(ear.end(), (Some(0), vec![]));
    assert_eq!(watcher.line("- ear"), "- ear (LEFT)");
}

#[test]
fn a_relay_away_and_a_relay_in_disguise_are_told_apart_by_whether_to_try_again() {
    let safe = SafeRelay::start(&[]);
    let address: Address = safe.address().parse().expect("an address");
    let error =
        Client::connect(&address, &Options { tls: Tls::default(), ..Options::named("ada") }).expect_err("unknown");
    assert!(matches!(error, ConnectError::Tls(TlsError::UnknownIssuer)) && !error.may_retry(), "{error}");
    let ca = safe.ca();
    let tls = Tls { ca: Some(ca), identity: None };
    let SafeRelay { relay, folder } = safe;
    relay.stop();
    let error = Client::connect(&address, &Options { tls, ..Options::named("ada") }).expect_err("away");
    assert!(matches!(error, ConnectError::Network(_)) && error.may_retry(), "{error}");
    drop(folder);
}
