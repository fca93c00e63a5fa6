//! The account: a relay that loses, repeats, swaps, bends or misdirects a single frame is caught, and one that
//! does not is believed, in every scenario.

mod client_support;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use client_support::{Relay, assert_code, run, stderr, stdout};
use serde_json::Value;
use switchboard::wire::control::{Body, ErrorBody, Gap, Reason};
use switchboard::wire::{Code, Header, Type};

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
    /// It is lost, and the one behind it is both delivered and refused.
    LostAndNextRefused,
    /// It is lost, and the recipient is told of one that is missing, behind the next one.
    LostAndCountedLate,
    /// It, and all that come behind it to the same client, wait for a second.
    Stalled,
    /// The last one of all comes again, a moment later.
    LastAgain,
    /// What is said first to a client waits for a tenth of a second.
    SlowWelcome,
}

/// The delivered frame that it happens to.
const VICTIM: u64 = 500;

/// A proxy in front of `relay` that does `fault` to one delivered frame.
struct Proxy {
    relay: SocketAddr,
    fault: Fault,
    delivered: AtomicU64,
    /// The clients' sides of all connections.
    clients: Mutex<Vec<TcpStream>>,
    /// A delivered frame that its sender is still to be told was refused.
    refused: Mutex<Option<Header>>,
}

fn proxy(relay: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let proxy = Arc::new(Proxy {
        relay,
        fault,
        delivered: AtomicU64::new(0),
        clients: Mutex::default(),
        refused: Mutex::default(),
    });
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
        let mut last: Option<Vec<u8>> = None;
        if self.fault == Fault::SlowWelcome {
            thread::sleep(Duration::from_millis(100));
        }
        loop {
            let mut length = [0; 4];
            if self.fault == Fault::LastAgain && last.is_some() {
                from.set_read_timeout(Some(Duration::from_millis(30)))?;
                if from.peek(&mut length).is_err() {
                    to.write_all(&last.take().unwrap_or_default())?;
                }
                from.set_read_timeout(None)?;
            }
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
                Fault::Stalled if is_victim => thread::sleep(Duration::from_secs(1)),
                Fault::LastAgain if is_delivery => last = Some(frame.clone()),
                Fault::Bent if is_victim => frame[90] ^= 1,
                Fault::Misdirected if is_victim => {
                    // The last two are clients; the ones before only looked at the relay, and are gone.
                    let clients = self.clients.lock().expect("nobody panics");
                    let other = clients.iter().rfind(|c| c.peer_addr().ok() != to.peer_addr().ok());
                    other.expect("there are several").write_all(&frame)?;
                    continue;
                }
                Fault::LostAndNextRefused | Fault::LostAndCountedLate if is_victim => {
                    held = Some(Vec::new());
                    continue;
                }
                Fault::LostAndNextRefused if is_delivery && held.take().is_some() => {
                    // The sender is the recipient's partner: it has a connection and a source of its own.
                    *self.refused.lock().expect("nobody panics") = Some(Header::read(&frame));
                }
                Fault::LostAndNextRefused if is_delivery => {
                    let mut refused = self.refused.lock().expect("nobody panics");
                    // The first frame that comes from the recipient is for the sender.
                    if let Some(header) = refused.take_if(|refused| refused.source == Header::read(&frame).destination)
                    {
                        let error = ErrorBody(Reason::new(Code::QueueFull, ""));
                        error.write_frame(Header::new(Type::Error).correlating(header.correlation), &mut frame);
                    }
                }
                Fault::LostAndCountedLate if is_delivery && held.take().is_some() => {
                    Gap { frames: 1, bytes: 156 }.write_frame(Header::new(Type::Gap), &mut frame);
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
    assert_eq!(
        (&report["account"]["damaged"], &report["account"]["lost"]),
        (&1.into(), &1.into()),
        "{} {}",
        report["account"],
        report["failures"]
    );
}

#[test]
fn a_relay_that_loses_one_frame_and_refuses_another_that_it_delivered_is_caught() {
    let (output, report) = through(Fault::LostAndNextRefused);
    assert_code(&output, 1);
    let account = &report["account"];
    assert_eq!((&account["lost"], &account["contradicted"]), (&1.into(), &1.into()), "{account}");
}

#[test]
fn a_relay_that_says_of_a_frame_behind_the_next_one_that_it_is_missing_is_caught() {
    let (output, report) = through(Fault::LostAndCountedLate);
    assert_code(&output, 1);
    assert_eq!(report["account"]["lost"], 1, "{}", report["account"]);
}

#[test]
fn a_relay_that_delivers_its_last_frame_again_a_moment_later_is_caught() {
    let (output, report) = through(Fault::LastAgain);
    assert_code(&output, 1);
    let account = &report["account"];
    assert!(account["misordered"].as_u64() > Some(0), "{account}");
    assert_eq!((&account["lost"], &account["contradicted"]), (&0.into(), &0.into()));
}

#[test]
fn frames_that_arrive_when_the_time_is_over_are_measured_as_well() {
    let relay = Relay::start();
    let address = proxy(relay.address.parse().expect("an address"), Fault::Stalled).to_string();
    let load = ["--connections", "2", "--rate", "1000", "--warmup", "0", "--seconds", "0.7"];
    let (output, report) = bench(&[&["rate", &address], &load[..]].concat());
    assert_code(&output, 0);
    let latency = &report["latencies"][0];
    let (count, sent) = (latency["count"].as_u64(), report["account"]["sent"].as_u64());
    // All but what was due before the measurement began, a moment after the schedule.
    assert!(sent > Some(VICTIM) && count.map(|count| count + 5) >= sent, "{count:?} of {sent:?}");
    // Half of what was due in the last 0.2 s of 0.7 waited for the rest of the second, 0.8 s at least.
    assert!(latency["p90_us"].as_f64() > Some(800_000.0), "{latency}");
}

#[test]
fn who_cannot_leave_yet_because_registration_is_slow_leaves_later_and_comes_again() {
    let relay = Relay::start();
    let address = proxy(relay.address.parse().expect("an address"), Fault::SlowWelcome).to_string();
    let load = ["--connections", "2", "--rate", "40", "--seconds", "2"];
    let (output, report) = bench(&[&["churn", &address], &load[..]].concat());
    assert_code(&output, 0);
    let figures = report["figures"].as_array().expect("figures");
    let rate = figures.iter().find(|figure| figure["name"] == "registered_per_second").expect("a figure");
    assert!(rate["value"].as_f64() > Some(30.0), "{figures:?}");
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

#[test]
fn every_scenario_runs_over_tls_with_whole_handshakes_and_its_account_holds() {
    for (arguments, connections) in [
        (&["pairs", "--connections", "20", "--window", "128"][..], 20),
        (&["fanout", "--connections", "20"], 20),
        (&["rooms", "--connections", "20", "--rooms", "3"], 20),
        (&["idle", "--connections", "20"], 20),
        (&["rate", "--connections", "20", "--rate", "500"], 20),
        // Those that come and those that were there before, and two who see them.
        (&["churn", "--connections", "10", "--rate", "40"], 12),
        (&["storm", "--connections", "30"], 62),
        (&["slow", "--connections", "8", "--stuck", "1"], 8),
        (&["file", "--connections", "2", "--size", "100KiB"], 2),
    ] {
        let warmup: &[&str] = if matches!(arguments[0], "idle" | "storm") { &[] } else { &["--warmup", "0.1"] };
        let (output, report) = bench(&[arguments, warmup, &["--tls", "--seconds", "0.3"]].concat());
        assert_code(&output, 0);
        let count = |name: &str| report["account"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
        assert_eq!(count("sent"), count("delivered") + count("refused") + count("counted"), "{arguments:?}");
        assert!(count("sent") > 0 || arguments[0] == "idle", "{arguments:?} sent nothing");
        let tls = &report["tls"];
        assert_eq!((&tls["version"], &tls["resumed"]), (&"TLS 1.3".into(), &0.into()), "{arguments:?}: {tls}");
        let handshakes = tls["handshakes"].as_u64().expect("a count");
        assert!(if arguments[0] == "churn" { handshakes > connections } else { handshakes == connections }, "{tls}");
        assert!(report["target"]["address"].as_str().is_some_and(|address| address.starts_with("tls://127.0.0.1:")));
    }
}

#[test]
fn records_are_counted_as_they_pass() {
    let load = ["pairs", "--connections", "2", "--window", "1", "--seconds", "0.2", "--warmup", "0"];
    let (_, plain) = bench(&load);
    assert_eq!((&plain["tls"], &plain["traffic"]["records"]), (&Value::Null, &Value::Null));
    let (_, report) = bench(&[&load[..], &["--tls"]].concat());
    let traffic = &report["traffic"];
    let count = |value: &Value| value.as_u64().expect("a count");
    let delivered = count(&traffic["delivered"]);
    // One outstanding: each frame comes in a record of its own, and goes in another.
    for way in ["to_server", "from_server"] {
        let records = count(&traffic["records"][way]);
        assert!(records.abs_diff(delivered) <= 4, "{traffic}");
        let bytes = count(&traffic["records"][format!("{way}_bytes")]);
        // A payload of 128 bytes and a header; a PING may be among them.
        assert!((128 * records..200 * records).contains(&bytes), "{traffic}");
    }
}

#[test]
fn whoever_comes_back_takes_up_its_session_if_that_is_asked_for() {
    let (output, report) = bench(&["storm", "--connections", "40", "--seconds", "0.2", "--tls", "--resume"]);
    assert_code(&output, 0);
    let tls = &report["tls"];
    assert_eq!(tls["handshakes"], 82, "{tls}");
    assert!(tls["resumed"].as_u64() >= Some(40), "{tls}");
}
