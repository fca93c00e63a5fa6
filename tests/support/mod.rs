//! What the tests against a real `switchboard serve` have in common: the process, and a raw client that
//! knows frames and nothing else.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type as SocketType};
use switchboard::wire::control::{Body, Hello, Profile, Welcome};
use switchboard::wire::{HEADER_BYTES, Header, Id, Type};

/// After so long nothing more will come: a test fails instead of hanging.
pub(crate) const HANG: Duration = Duration::from_mins(1);

/// A relay in a process of its own, ended with the test.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: SocketAddr,
    stdout: std::cell::RefCell<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Relay {
    /// Starts `switchboard serve` on a port of the system's choice, with further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command)
    }

    /// Starts it with at most so many open files.
    pub(crate) fn start_with_descriptors(descriptors: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_switchboard")).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok());
        let stderr = child.stderr.take().map(BufReader::new);
        Self {
            address: address.unwrap_or_else(|| panic!("no address in {line:?}")),
            child,
            stdout: stdout.into(),
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Reads the log until a line holds `text`, and returns that line.
    pub(crate) fn log_line(&mut self, text: &str) -> String {
        self.log_lines(text).pop().unwrap_or_default()
    }

    /// Reads the log until a line holds `text`, and returns all lines up to that.
    pub(crate) fn log_lines(&mut self, text: &str) -> Vec<String> {
        let stderr = self.stderr.as_mut().expect("piped");
        let mut lines = Vec::new();
        loop {
            if stderr.buffer().is_empty() {
                let hang = Timespec { tv_sec: HANG.as_secs().cast_signed(), tv_nsec: 0 };
                let ready = poll(&mut [PollFd::new(stderr.get_ref(), PollFlags::IN)], Some(&hang));
                assert_eq!(ready, Ok(1), "nothing more is logged, and there was no {text:?}: {lines:?}");
            }
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("the log") > 0, "the log ended without {text:?}: {lines:?}");
            let is_last = line.contains(text);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// The next lines of what it announces on standard output.
    pub(crate) fn announced(&self, lines: usize) -> Vec<String> {
        let mut stdout = self.stdout.borrow_mut();
        let mut next = || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line");
            line
        };
        (0..lines).map(|_| next()).collect()
    }

    /// Reads the log to its end: the process has to be over.
    pub(crate) fn rest_of_log(&mut self, log: &mut String) {
        self.stderr.as_mut().expect("piped").read_to_string(log).expect("text");
    }

    /// Has the relay log its counters, and returns the lines.
    pub(crate) fn stats(&mut self) -> String {
        self.signal(rustix::process::Signal::USR1);
        self.log_line("clients ")
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started")
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("procfs");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// CPU time used so far, by the scheduler's account.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).expect("procfs");
        Duration::from_nanos(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("a number"))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registered client on a plain socket.
#[derive(Debug)]
pub(crate) struct RawClient {
    pub(crate) socket: TcpStream,
    pub(crate) id: Id,
}

impl RawClient {
    pub(crate) fn connect(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::greet(address, &Hello::new(Profile::named(name)), Ipv4Addr::LOCALHOST);
        client.welcomed();
        client
    }

    /// Connects from one of the loopback addresses and says HELLO, without waiting for the answer.
    pub(crate) fn greet(address: SocketAddr, hello: &Hello<'_>, from: Ipv4Addr) -> Self {
        let mut frame = Vec::new();
        hello.write_frame(Header::new(Type::Hello), &mut frame);
        let mut socket = dial(address, from);
        socket.write_all(&frame).expect("the relay reads");
        Self { socket, id: Id::RELAY }
    }

    /// Waits for the WELCOME.
    pub(crate) fn welcomed(&mut self) {
        let (header, payload) = self.frame();
        assert_eq!(header.frame_type(), Some(Type::Welcome));
        self.id = Welcome::parse(&payload).expect("a WELCOME").client;
    }

    pub(crate) fn send(&mut self, header: Header, payload: &[u8]) {
        let mut frame = Vec::new();
        header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
        self.socket.write_all(&frame).expect("the relay reads");
    }

    pub(crate) fn say<'a>(&mut self, header: Header, body: &impl Body<'a>) {
        let mut frame = Vec::new();
        body.write_frame(header, &mut frame);
        self.socket.write_all(&frame).expect("the relay reads");
    }

    /// The next frame, whatever it is.
    pub(crate) fn frame(&mut self) -> (Header, Vec<u8>) {
        self.try_frame().expect("a frame")
    }

    /// The next frame, or why there is none.
    pub(crate) fn try_frame(&mut self) -> std::io::Result<(Header, Vec<u8>)> {
        let mut head = [0; HEADER_BYTES];
        self.socket.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut payload = vec![0; length + 4 - HEADER_BYTES];
        self.socket.read_exact(&mut payload)?;
        Ok((Header::read(&head), payload))
    }

    /// The next frame of this type; PINGs are answered, an ERROR is a failure, everything else is passed over.
    pub(crate) fn frame_of(&mut self, wanted: Type) -> (Header, Vec<u8>) {
        loop {
            let (header, payload) = self.frame();
            if header.frame_type() == Some(wanted) {
                return (header, payload);
            }
            assert!(header.frame_type() != Some(Type::Error), "{}", String::from_utf8_lossy(&payload));
            if header.frame_type() == Some(Type::Ping) {
                self.send(Header::new(Type::Pong).correlating(header.correlation), &[]);
            }
        }
    }

    /// Whether the relay has closed, after whatever it still had to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).is_ok()
    }
}

/// Connects from one of the loopback addresses, with a bound on everything.
pub(crate) fn dial(address: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, SocketType::STREAM, None).expect("a socket");
    if from != Ipv4Addr::LOCALHOST {
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).expect("a loopback address");
    }
    socket.connect(&address.into()).expect("the relay listens");
    socket.set_tcp_nodelay(true).expect("an option");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG)).expect("an option");
    stream.set_write_timeout(Some(HANG)).expect("an option");
    stream
}
