//! Clients in other languages, written from `docs/PROTOCOL.md` alone, talk to `switchboard join`.
//!
//! Where Python with Twisted, or Erlang, is not there, the test says so and passes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use support::Relay;

/// A command that has been started, its standard output read line by line; ended with the test.
struct Talking {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Talking {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is there");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// `switchboard join` under a name.
    fn join(address: SocketAddr, name: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        let mut joined = Self::start(command.args(["join", &address.to_string(), "--name", name]));
        joined.wait_for("connected to");
        joined
    }

    /// Reads until a line holds `text`, and returns that line.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("text") > 0, "it ended without {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("it reads");
    }

    fn succeeds(mut self) {
        assert!(self.child.wait().expect("it was started").success());
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn foreign(file: &str) -> String {
    format!("{}/tests/foreign/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn runs(command: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(command);
    let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A Python that has Twisted; says so where there is none. Debian's Twisted belongs to Debian's Python, which need
/// not be the first on the path.
fn python() -> Option<&'static str> {
    let found = ["/usr/bin/python3", "python3"].into_iter().find(|python| runs(python, &["-c", "import twisted"]));
    if found.is_none() {
        println!("skipped: there is no Python with Twisted here (Debian: apt-get install python3-twisted)");
    }
    found
}

#[test]
fn a_twisted_client_finds_its_way_back_when_frames_are_missing() {
    if let Some(python) = python() {
        // -B: nothing compiled is left beside the sources.
        assert!(runs(python, &["-B", &foreign("twisted_client_test.py")]), "run tests/foreign/twisted_client_test.py");
    }
}

#[test]
fn a_twisted_client_and_a_person_talk_to_each_other() {
    let Some(python) = python() else { return };
    let relay = Relay::start(&[]);
    let (host, port) = (relay.address.ip().to_string(), relay.address.port().to_string());
    let mut person = Talking::join(relay.address, "person");
    let mut twisted =
        Talking::start(Command::new(python).args([&foreign("twisted_client.py"), &host, &port, "twisted", "person"]));
    person.wait_for("hello from twisted");
    twisted.wait_for("receipt WRITTEN");
    person.say("/to twisted");
    person.say("good evening");
    twisted.wait_for("got good evening");
    person.wait_for("GOOD EVENING");
    twisted.wait_for("done");
    twisted.succeeds();
    person.wait_for("twisted has left");
    person.say("exit");
    person.succeeds();
}

#[test]
fn an_erlang_client_reaches_a_person() {
    if !runs("escript", &["--version"]) && !runs("erl", &["-noshell", "-s", "init", "stop"]) {
        println!("skipped: there is no Erlang here (Debian: apt-get install erlang-base)");
        return;
    }
    let relay = Relay::start(&[]);
    let (host, port) = (relay.address.ip().to_string(), relay.address.port().to_string());
    let mut person = Talking::join(relay.address, "person");
    let arguments = [&foreign("client.escript"), &host, &port, "erlang", "person", "hello from erlang"];
    let mut erlang = Talking::start(Command::new("escript").args(arguments));
    person.wait_for("hello from erlang");
    erlang.wait_for("receipt 2");
    erlang.wait_for("done");
    erlang.succeeds();
    person.say("exit");
    person.succeeds();
}
