//! The account: a relay that loses, repeats, swaps, bends or misdirects a single frame is caught, and one that
//! does not is believed, in every scenario.

mod client_support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use client_support::{Relay, assert_code, run, stderr, stdout};
use serde_json::Value;
use switchboard::wire::{Header, Type};

/// What happens to one of the frames that pass a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lost,
    Twice,
    /// It comes after the one behind it.
    Late,
    Bent,
    /// It goes to another client.
    Misdirected,
}

/// The delivered frame that it happens to.
const VICTIM: u64 = 1000;

/// A proxy in front of `relay` that does `fault` to one delivered frame.
struct Proxy {
    relay: SocketAddr,
    fault: Fault,
    delivered: AtomicU64,
    /// The clients' sides of all connections.
    clients: Mutex<Vec<TcpStream>>,
}

fn proxy(relay: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let proxy = Arc::new(Proxy { relay, fault, delivered: AtomicU64::new(0), clients: Mutex::default() });
    // Its threads end with the connections, at the latest with the test.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.expect("a connection"), TcpStream::connect(proxy.relay).expect("a relay"));
            client.set_nodelay(true).expect("a socket");
            server.set_nodelay(true).expect("a socket");
            let kept = client.try_clone().expect("a descriptor");
            proxy.clients.lock().expect("nobody panics").push(kept);
            let (from_client, to_server) = (client.try_clone().expect("a descriptor"), server.try_clone());
            let to_server = to_server.expect("a descriptor");
            thread::spawn(move || {
                let _ = io::copy(&mut &from_client, &mut &to_server);
                let _ = to_server.shutdown(Shutdown::Write);
            });
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || {
                let _ = proxy.pass(&server, &client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

impl Proxy {
    /// Passes on what the relay sends, frame by frame.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut held = None;
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut frame = length.to_vec();
            frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
            from.read_exact(&mut frame[4..])?;
            let is_delivery = Header::read(&frame).frame_type() == Some(Type::Send);
            let is_victim = is_delivery && self.delivered.fetch_add(1, Ordering::Relaxed) + 1 == VICTIM;
            match self.fault {
                Fault::Lost if is_victim => continue,
                Fault::Twice if is_victim => to.write_all(&frame)?,
                Fault::Late if is_victim => {
                    held = Some(frame);
                    continue;
                }
                Fault::Bent if is_victim => frame[90] ^= 1,
                Fault::Misdirected if is_victim => {
                    // The last two are clients; the ones before only looked at the relay, and are gone.
                    let clients = self.clients.lock().expect("nobody panics");
                    let other = clients.iter().rfind(|c| c.peer_addr().ok() != to.peer_addr().ok());
                    other.expect("there are several").write_all(&frame)?;
                    continue;
                }
                _ => {}
            }
            to.write_all(&frame)?;
            if is_delivery && let Some(late) = held.take() {
                to.write_all(&late)?;
            }
        }
    }
}

fn bench(arguments: &[&str]) -> (Output, Value) {
    let output = run("127.0.0.1:1", &[&["bench"], arguments, &["--json"]].concat(), b"");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", stdout(&output), stderr(&output)));
    (output, report)
}

/// Four clients, each sending to its partner: a window long enough that a frame behind a missing one comes.
fn through(fault: Fault) -> (Output, Value) {
    let relay = Relay::start();
    let address = proxy(relay.address.parse().expect("an address"), fault).to_string();
    bench(&["pairs", &address, "--connections", "4", "--window", "8", "--warmup", "0", "--seconds", "1"])
}

#[test]
fn a_relay_that_keeps_its_promise_is_believed() {
    let (output, report) = through(Fault::None);
    assert_code(&output, 0);
    let account = &report["account"];
    assert!(account["sent"].as_u64() > Some(VICTIM), "{account}");
    assert_eq!(account["sent"], account["delivered"]);
}

#[test]
fn a_relay_that_loses_one_frame_is_caught() {
    let (output, report) = through(Fault::Lost);
    assert_code(&output, 1);
    assert_eq!(report["account"]["lost"], 1, "{}", report["account"]);
    assert!(stderr(&output).contains("1 frame was lost: neither delivered nor refused nor counted"));
}

#[test]
fn a_relay_that_delivers_one_frame_twice_is_caught() {
    let (output, report) = through(Fault::Twice);
    assert_code(&output, 1);
    assert_eq!((&report["account"]["lost"], &report["account"]["misordered"]), (&0.into(), &1.into()));
}

#[test]
fn a_relay_that_swaps_two_frames_is_caught() {
    let (output, report) = through(Fault::Late);
    assert_code(&output, 1);
    assert_eq!(report["account"]["misordered"], 1, "{}", report["account"]);
}

#[test]
fn a_relay_that_changes_one_bit_is_caught() {
    let (output, report) = through(Fault::Bent);
    assert_code(&output, 1);
    assert_eq!(report["account"]["damaged"], 1, "{}", report["account"]);
}

#[test]
fn a_relay_that_delivers_one_frame_to_somebody_else_is_caught() {
    let (output, report) = through(Fault::Misdirected);
    assert_code(&output, 1);
    assert_eq!((&report["account"]["damaged"], &report["account"]["lost"]), (&1.into(), &1.into()));
}

#[test]
fn every_scenario_runs_and_its_account_holds() {
    for arguments in [
        &["pairs", "--connections", "20", "--window", "128"][..],
        &["fanout", "--connections", "50"],
        &["fanout", "--connections", "50", "--rooms", "1"],
        &["rooms", "--connections", "60", "--rooms", "7"],
        &["idle", "--connections", "100"],
        &["rate", "--connections", "40", "--rate", "2000"],
        &["churn", "--connections", "30", "--rate", "200"],
        &["storm", "--connections", "200"],
        &["slow", "--connections", "20", "--stuck", "2"],
        &["file", "--connections", "2", "--size", "64KiB"],
    ] {
        let warmup: &[&str] = if matches!(arguments[0], "idle" | "storm") { &[] } else { &["--warmup", "0.1"] };
        let (output, report) = bench(&[arguments, warmup, &["--seconds", "0.4"]].concat());
        assert_code(&output, 0);
        let count = |name: &str| report["account"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
        assert_eq!(count("sent"), count("delivered") + count("refused") + count("counted"), "{arguments:?}");
        assert!(count("sent") > 0 || arguments[0] == "idle", "{arguments:?} sent nothing");
        assert_eq!(report["scenario"], arguments[0]);
    }
}
