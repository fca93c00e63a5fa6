//! A soak of a small crowd, through a proxy that does something to what a good relay says. To the load generator the
//! test is then the server's process: what the proxy keeps is what the relay would keep.
#![allow(dead_code)] // Each test file uses a part of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;
use switchboard::wire::control::{Body, ErrorBody, Receipt};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, IdKind, Type};

use super::client_support::{Relay, run, stderr, stdout};

/// Where no relay is, for commands that must not go there.
pub(crate) const NOWHERE: &str = "127.0.0.1:1";
/// A small crowd: each group has somebody.
pub(crate) const CROWD: [&str; 6] = ["--connections", "40", "--rooms", "3", "--stuck", "1"];

/// What a proxy does to one of the frames that pass, or to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A frame from one talker to another is lost.
    LostBetweenTwo,
    /// A copy of a frame for a room is lost.
    LostInARoom,
    Twice,
    /// It comes behind the next one of the same sender.
    Late,
    Bent,
    /// A refusal never comes.
    NoRefusal,
    /// A receipt never comes.
    NoReceipt,
    /// A watcher is not told who has come and gone.
    NoNews,
    /// Each connection leaves a descriptor behind.
    KeepsDescriptors,
    /// Whatever passes is kept.
    KeepsMemory,
}

struct Proxy {
    relay: SocketAddr,
    fault: Fault,
    candidates: AtomicU64,
    kept_files: Mutex<Vec<TcpStream>>,
    kept_bytes: Mutex<Vec<Vec<u8>>>,
}

/// A proxy in front of `relay`; its threads end with the connections, at the latest with the test.
fn proxy(relay: &str, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let proxy = Arc::new(Proxy {
        relay: relay.parse().expect("an address"),
        fault,
        candidates: AtomicU64::new(0),
        kept_files: Mutex::default(),
        kept_bytes: Mutex::default(),
    });
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.expect("a connection"), TcpStream::connect(proxy.relay).expect("a relay"));
            client.set_nodelay(true).expect("a socket");
            server.set_nodelay(true).expect("a socket");
            if fault == Fault::KeepsDescriptors {
                let kept = client.try_clone().expect("a descriptor");
                proxy.kept_files.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
            }
            let (client, server) = (Arc::new(client), Arc::new(server));
            let (from_client, to_server) = (Arc::clone(&client), Arc::clone(&server));
            thread::spawn(move || {
                let _ = io::copy(&mut &*from_client, &mut &*to_server);
                let _ = to_server.shutdown(Shutdown::Write);
            });
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || {
                let _ = proxy.pass(&server, &client);
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

impl Fault {
    /// How many of the frames that it is for pass before it happens.
    const fn before(self) -> u64 {
        match self {
            // They are rare.
            Self::NoRefusal | Self::NoNews => 3,
            _ => 40,
        }
    }
}

impl Proxy {
    /// Passes on what the relay sends, frame by frame.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut held: Option<(Id, Vec<u8>)> = None;
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut frame = length.to_vec();
            frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
            from.read_exact(&mut frame[4..])?;
            let header = Header::read(&frame);
            let is_victim =
                self.is_for(&header, &frame) && self.candidates.fetch_add(1, Ordering::Relaxed) == self.fault.before();
            match self.fault {
                Fault::KeepsMemory => {
                    self.kept_bytes.lock().unwrap_or_else(PoisonError::into_inner).push(frame.clone());
                }
                Fault::Twice if is_victim => to.write_all(&frame)?,
                Fault::Bent if is_victim => *frame.last_mut().expect("it has a header") ^= 1,
                Fault::Late if is_victim => {
                    held = Some((header.source, frame));
                    continue;
                }
                _ if is_victim => continue,
                _ => {}
            }
            to.write_all(&frame)?;
            if let Some((_, late)) = held.take_if(|(source, _)| *source == header.source) {
                to.write_all(&late)?;
            }
        }
    }

    /// Whether the fault is for frames like this one. Of those who come and go, some are cut off with what is on its
    /// way: their frames have receipts, and those between talkers mostly have not.
    fn is_for(&self, header: &Header, frame: &[u8]) -> bool {
        let is_send = header.frame_type() == Some(Type::Send);
        match self.fault {
            Fault::None | Fault::KeepsDescriptors | Fault::KeepsMemory => false,
            Fault::LostBetweenTwo | Fault::Twice | Fault::Late | Fault::Bent => {
                is_send && header.flags == Flags::NONE && header.destination.kind() == IdKind::Client
            }
            Fault::LostInARoom => is_send && header.destination.kind() == IdKind::Room,
            // Of who sends to a room that has vanished.
            Fault::NoRefusal => {
                let refused =
                    (header.frame_type() == Some(Type::Error)).then(|| ErrorBody::parse(&frame[HEADER_BYTES..]));
                refused.is_some_and(|body| body.expect("a reason").0.code() == Some(Code::NoSuchRoom))
            }
            // For a room or for all: nobody who sends there is cut off.
            Fault::NoReceipt => {
                header.frame_type() == Some(Type::Receipt)
                    && Receipt::parse(&frame[HEADER_BYTES..]).expect("a receipt").recipients.is_some()
            }
            Fault::NoNews => header.frame_type() == Some(Type::Delta),
        }
    }
}

pub(crate) fn soak(arguments: &[&str]) -> (Output, Value) {
    let output = run(NOWHERE, &[&["bench", "soak"], arguments, &["--json", "--quiet"]].concat(), b"");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", stdout(&output), stderr(&output)));
    (output, report)
}

pub(crate) fn through(fault: Fault, minutes: &str) -> (Output, Value) {
    let relay = Relay::start();
    let address = proxy(&relay.address, fault).to_string();
    soak(&[&[&address, "--minutes", minutes], &CROWD[..]].concat())
}

pub(crate) fn verdict<'a>(report: &'a Value, name: &str) -> &'a Value {
    let verdicts = report["verdicts"].as_array().expect("verdicts");
    verdicts.iter().find(|verdict| verdict["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

pub(crate) fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().expect("figures");
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name} in {figures:?}"))
}

/// The failures that are not of memory or descriptors, which in a proxy's process are anybody's.
pub(crate) fn faults(report: &Value) -> Vec<String> {
    let failures = report["failures"].as_array().expect("failures").iter().filter_map(Value::as_str);
    let is_of_account = |line: &&str| !line.starts_with("memory") && !line.starts_with("descriptors");
    failures.filter(is_of_account).map(str::to_owned).collect()
}

pub(crate) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

pub(crate) fn counts(report: &Value, names: [&str; 2]) -> [u64; 2] {
    names.map(|name| report["account"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}")))
}
