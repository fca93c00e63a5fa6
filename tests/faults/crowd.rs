//! Peers in a process of their own, which can be killed, stopped, or lose thousands of connections at once.
//!
//! The test starts them with `--crowd ROLE ADDRESS ...` and reads what they say, a line at a time.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use switchboard::wire::control::{Body, ErrorBody, Hello, Join, Profile};
use switchboard::wire::{Code, Header, Type};

use crate::bystanders::client_with_keepalive;
use crate::support::RawClient;

/// Connections from each source address: beyond that the system's search for a free port gets slow.
const CLIENTS_PER_ADDRESS: usize = 1000;
/// The last argument of a crowd that is to wait for its network.
const WAIT: &str = "wait";
/// How often each of those says something who chat: a thousand of them make ten thousand frames a second.
const CHAT_PAUSE: Duration = Duration::from_millis(100);
/// Payload of what talkers say.
const TALK: [u8; 200] = [0x54; 200];

/// Peers in a process of their own, ended with the test.
#[derive(Debug)]
pub(crate) struct Crowd {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Crowd {
    pub(crate) fn start(role: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(std::env::current_exe().expect("its own name")), role, address, arguments)
    }

    /// Starts it in a network of its own, where it waits for a line before it connects.
    pub(crate) fn start_apart(role: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(std::env::current_exe().expect("its own name"));
        let mut crowd = Self::spawn(command, role, address, &[arguments, &[WAIT]].concat());
        assert_eq!(crowd.line(), WAIT);
        crowd
    }

    fn spawn(mut command: Command, role: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        command.args(["--crowd", role, &address.to_string()]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("itself");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Waits for what it says next.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).expect("a line") > 0, "the peers' process has ended");
        line.trim().to_owned()
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it reads");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends it as the system would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is a crowd, until its input ends.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let address: SocketAddr = arguments[1].parse().expect("an address");
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    if arguments.last().is_some_and(|last| last == WAIT) {
        say(WAIT);
        hear();
    }
    match arguments[0].as_str() {
        "talk" => talk(address, &arguments[2], number(3), None),
        "chat" => talk(address, &arguments[2], number(3), Some(CHAT_PAUSE)),
        "read" => read(address, &arguments[2]),
        "live" => live(address, &arguments[2], number(3)),
        "storm" => storm(address, number(2)),
        "namesakes" => namesakes(address, number(2)),
        "tls-storm" => {
            let (tls, certificate) = (arguments[3].parse().expect("an address"), std::path::Path::new(&arguments[4]));
            crate::secure::storm_crowd(number(2), tls, certificate, |word| {
                say(word);
                hear().is_some()
            });
        }
        "loris" => {
            say("ready");
            hear();
            crate::strangers::loris_crowd(number(2), address, arguments[3].parse().expect("an address"));
            say("all gone");
            hear();
        }
        "guess" => {
            say("ready");
            hear();
            crate::passwords::guess(address, number(2));
            say(&format!("{} failed", number(2)));
            hear();
        }
        "rooms" => rooms(address, number(2), number(3)),
        role => panic!("no role {role}"),
    }
    ExitCode::SUCCESS
}

/// Waits for a line; its input ends with the test.
fn hear() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).expect("a line");
    (count > 0).then(|| line.trim().to_owned())
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("somebody reads");
}

/// Where a client of a crowd comes from.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, 1 + (number / CLIENTS_PER_ADDRESS) as u8)
}

/// The same on a later visit: the ports of the one before are not free for a minute.
fn source_of_visit(number: usize, visit: u8) -> Ipv4Addr {
    let [a, b, c, d] = source(number).octets();
    Ipv4Addr::new(a, b, c + visit, d)
}

/// Has clients come, all at once. On a loopback address each thousand has one of its own.
fn arrive(address: SocketAddr, prefix: &str, clients: usize, visit: u8) -> Vec<RawClient> {
    let greet = |number| {
        let name = format!("{prefix}-{number}");
        let from = if address.ip().is_loopback() { source_of_visit(number, visit) } else { Ipv4Addr::LOCALHOST };
        RawClient::greet(address, &crate::passwords::hello(&name), from)
    };
    let mut clients: Vec<RawClient> = (0..clients).map(greet).collect();
    clients.iter_mut().for_each(RawClient::welcomed);
    clients
}

/// Clients that send to their neighbours and read, until they are ended: as fast as they are let, or, if there is a
/// `pause`, each once in that time, one after the other by the clock.
fn talk(address: SocketAddr, prefix: &str, count: usize, pause: Option<Duration>) {
    let mut clients = arrive(address, prefix, count, 0);
    let ids: Vec<_> = clients.iter().map(|client| client.id).collect();
    for client in &clients {
        client.socket.set_nonblocking(true).expect("an option");
    }
    let mut buffer = [0; 16_384];
    let mut waiting = vec![Vec::new(); count];
    say("talking");
    let began = Instant::now();
    for turn in 0.. {
        for (number, client) in clients.iter_mut().enumerate() {
            if let Some(pause) = pause {
                let due = pause * turn + pause * number as u32 / count as u32;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
            if waiting[number].is_empty() {
                let header = Header::new(Type::Send).to(ids[(number + 1) % count]).correlating(turn);
                waiting[number].extend_from_slice(&header.bytes(TALK.len()));
                waiting[number].extend_from_slice(&TALK);
            }
            match client.socket.write(&waiting[number]) {
                Ok(count) => drop(waiting[number].drain(..count)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            match client.socket.read(&mut buffer) {
                Ok(count) => assert!(count > 0, "the relay has closed"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        if pause.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A client that reads numbered frames, and at each that says "last" tells what it has got since the one before.
fn read(address: SocketAddr, name: &str) {
    let mut client = crate::passwords::welcomed(address, name);
    say(&client.id.bits().to_string());
    let (mut frames, mut sum, mut last, mut in_order) = (0_u64, 0_u64, 0, true);
    loop {
        let (header, payload) = client.frame_of(Type::Send);
        if payload == LAST {
            say(&Got { frames, sum, in_order }.to_string());
            (frames, sum, last, in_order) = (0, 0, 0, true);
            continue;
        }
        in_order &= header.correlation > last;
        last = header.correlation;
        frames += 1;
        sum += u64::from(header.correlation);
    }
}

/// The payload at which a reader tells what it has got.
pub(crate) const LAST: &[u8] = b"last";

/// What a reader has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) frames: u64,
    /// Of their correlations.
    pub(crate) sum: u64,
    pub(crate) in_order: bool,
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames, sum {}, in order {}", self.frames, self.sum, self.in_order)
    }
}

/// Clients that wish for the shortest keepalive and answer each PING at once.
fn live(address: SocketAddr, prefix: &str, count: usize) {
    let mut clients: Vec<RawClient> =
        (0..count).map(|number| client_with_keepalive(address, &format!("{prefix}-{number}"), 1_000)).collect();
    say("here");
    let mut polled: Vec<TcpStream> = Vec::new();
    for client in &clients {
        polled.push(client.socket.try_clone().expect("a descriptor"));
    }
    loop {
        let mut ready: Vec<_> = polled.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        poll(&mut ready, None).expect("a poll");
        let ready: Vec<usize> = (0..count).filter(|at| !ready[*at].revents().is_empty()).collect();
        for at in ready {
            let (header, _) = clients[at].frame();
            if header.frame_type() == Some(Type::Ping) {
                clients[at].send(Header::new(Type::Pong).correlating(header.correlation), &[]);
            }
        }
    }
}

/// Clients that come, and at each further line are all lost at once and come again.
fn storm(address: SocketAddr, count: usize) {
    let mut clients = arrive(address, "storm-0", count, 0);
    say("here");
    for visit in 1.. {
        let Some(_) = hear() else { return };
        drop(clients);
        // As in life they come under their own names, which the relay may still know; here each visit has its own,
        // so that all of them get in.
        clients = arrive(address, &format!("storm-{visit}"), count, visit);
        say("here");
    }
}

/// Clients that all say the same name, at each line again; tells how many were let in and how many were not.
fn namesakes(address: SocketAddr, count: usize) {
    say("here");
    for visit in 0.. {
        let Some(name) = hear() else { return };
        let hello = Hello::new(Profile::named(&name));
        let greet = |number| RawClient::greet(address, &hello, source_of_visit(number, visit));
        let mut clients: Vec<_> = (0..count).map(greet).collect();
        let (mut welcomed, mut taken) = (0, 0);
        for client in &mut clients {
            let (header, payload) = client.frame();
            match header.frame_type() {
                Some(Type::Welcome) => welcomed += 1,
                Some(Type::Error) => {
                    let ErrorBody(reason) = ErrorBody::parse(&payload).expect("an ERROR");
                    assert_eq!(reason.code(), Some(Code::HelloNameTaken));
                    taken += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        drop(clients);
        say(&format!("{welcomed} welcomed, {taken} refused"));
    }
}

/// Clients that each ask for so many rooms of their own; tells how many were given.
fn rooms(address: SocketAddr, count: usize, each: usize) {
    let mut clients = arrive(address, "host", count, 0);
    say("here");
    hear();
    let (mut joined, mut refused) = (0_u64, 0_u64);
    for (number, client) in clients.iter_mut().enumerate() {
        let mut frames = Vec::new();
        for room in 0..each {
            Join { name: &format!("room-{number}-{room}") }.write_frame(Header::new(Type::Join), &mut frames);
        }
        client.socket.write_all(&frames).expect("the relay reads");
        for _ in 0..each {
            match client.frame().0.frame_type() {
                Some(Type::Joined) => joined += 1,
                Some(Type::Error) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    say(&format!("{joined} joined, {refused} refused"));
    hear();
}
