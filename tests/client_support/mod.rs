//! A relay in a process of its own, and commands run against it, for the tests of the client side.
#![allow(dead_code)] // Each test file uses a part of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use switchboard::client::{Address, Client, Event, Options};

/// The bound of every wait: long enough for the slowest machine, so no test that passes waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// A relay on a port of its own, ended with this value.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: String,
}

impl Relay {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0", &[])
    }

    pub(crate) fn start_at(address: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", address, "--log-level", "error"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("text");
        let address = line.strip_prefix("listening on ").expect(&line).split(' ').next().expect("a word").to_owned();
        // The rest is read so that the relay never writes into a closed pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn address(&self) -> Address {
        self.address.parse().expect("an address")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A registered client called `name`.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client::connect(&self.address(), &Options::named(name)).expect("welcomed")
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) {
        signal(&self.child, rustix::process::Signal::TERM);
        self.child.wait().expect("ended");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the first event that `pick` takes, past all others.
pub(crate) fn wait_for<T>(client: &mut Client, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = client.receiver().recv_timeout(PATIENCE).expect("an event in time");
        let ended = matches!(event, Event::Closed(_)).then(|| format!("{event:?}"));
        if let Some(picked) = pick(event) {
            return picked;
        }
        assert!(ended.is_none(), "waited in vain: {ended:?}");
    }
}

/// Runs a command to its end with `input` as its standard input.
pub(crate) fn run(relay: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(relay, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A command that ends early breaks this pipe, which is its right.
    let writing = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ended");
    let _ = writing.join().expect("written or refused");
    output
}

fn command(relay: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("SWITCHBOARD_ADDR", relay).env_remove("USER");
    command.env_remove("SWITCHBOARD_PASSWORD").env_remove("SWITCHBOARD_TOKEN");
    command
}

/// Asserts the exit code, showing what the command said where it is another one.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).expect("alive");
}

/// A command that runs while the test goes on; its lines can be waited for.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub(crate) fn start(relay: &str, arguments: &[&str]) -> Self {
        let mut command = command(relay, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let stdin = child.stdin.take();
        let out = lines_of(child.stdout.take().expect("piped"));
        let err = lines_of(child.stderr.take().expect("piped"));
        Self { child, stdin, out, err }
    }

    /// A `listen` that is ready when this returns.
    pub(crate) fn listen(relay: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<&str> = ["listen"].iter().chain(arguments).copied().collect();
        let running = Self::start(relay, &arguments);
        running.error_line("listening at");
        running
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("read by the command");
    }

    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of standard output that holds `text`.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> String {
        wait_for_line(&self.out, text)
    }

    /// The next line of standard error that holds `text`.
    #[track_caller]
    pub(crate) fn error_line(&self, text: &str) -> String {
        wait_for_line(&self.err, text)
    }

    /// The exit code, and what is left of standard output.
    pub(crate) fn end(self) -> (Option<i32>, Vec<String>) {
        let (code, rest, _) = self.end_with_errors();
        (code, rest)
    }

    /// The same, with what is left of standard error.
    pub(crate) fn end_with_errors(mut self) -> (Option<i32>, Vec<String>, Vec<String>) {
        drop(self.stdin.take());
        let (rest, errors) = (self.out.iter().collect(), self.err.iter().collect());
        (self.child.wait().expect("ended").code(), rest, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[track_caller]
fn wait_for_line(lines: &Receiver<String>, text: &str) -> String {
    let mut others = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(text) => return line,
            Ok(line) => others.push(line),
            Err(error) => panic!("no line with {text:?} among {others:#?}: {error}"),
        }
    }
}
