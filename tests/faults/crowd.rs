//! Peers in a process of their own, which can be killed, stopped, or lose thousands of connections at once.
//!
//! The test starts them with `--crowd ROLE ADDRESS ...` and reads what they say, a line at a time.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use switchboard::wire::control::{Hello, Profile};
use switchboard::wire::{Header, Type};

use crate::support::RawClient;

/// Connections from each source address: beyond that the system's search for a free port gets slow.
const CLIENTS_PER_ADDRESS: usize = 1000;
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
        let mut command = Command::new(std::env::current_exe().expect("its own name"));
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
    // What it does must not take the bystanders' time: they stand for other machines.
    let _ = rustix::process::nice(19);
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let address: SocketAddr = arguments[1].parse().expect("an address");
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    match arguments[0].as_str() {
        "talk" => talk(address, &arguments[2], number(3)),
        role => panic!("no role {role}"),
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("somebody reads");
}

/// Where a client of a crowd comes from.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, 1 + (number / CLIENTS_PER_ADDRESS) as u8)
}

/// Has clients come, all at once.
fn arrive(address: SocketAddr, prefix: &str, clients: usize) -> Vec<RawClient> {
    let greet = |number| {
        let name = format!("{prefix}-{number}");
        RawClient::greet(address, &Hello::new(Profile::named(&name)), source(number))
    };
    let mut clients: Vec<RawClient> = (0..clients).map(greet).collect();
    clients.iter_mut().for_each(RawClient::welcomed);
    clients
}

/// Clients that send to their neighbours and read, as fast as they are let, until they are ended.
fn talk(address: SocketAddr, prefix: &str, count: usize) {
    let mut clients = arrive(address, prefix, count);
    let ids: Vec<_> = clients.iter().map(|client| client.id).collect();
    for client in &clients {
        client.socket.set_nonblocking(true).expect("an option");
    }
    let mut buffer = [0; 65_536];
    let mut waiting = vec![Vec::new(); count];
    say("talking");
    for turn in 0.. {
        for (number, client) in clients.iter_mut().enumerate() {
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
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
