//! A network that fails without a word: a cable that is pulled, and peers that vanish behind it.
//!
//! The whole test has a network of its own, and the peers have another, with one cable between them. Both are gone
//! with their processes.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use switchboard::wire::Id;

use crate::crowd::Crowd;
use crate::lost_peers::{departures, watcher};
use crate::relay::Start;
use crate::scene::{Scene, Size};
use crate::slow_peers::Teller;

/// The relay's end of the cable and the peers', and their addresses.
const NEAR: &str = "near";
const FAR: &str = "far";
const NEAR_ADDRESS: &str = "10.71.0.1";
const FAR_ADDRESS: &str = "10.71.0.2";

fn command(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().expect("it is there");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The network of this process begins to work: what is sent to oneself arrives.
pub(crate) fn begin() {
    command(&["ip", "link", "set", "lo", "up"]);
}

/// A relay that listens at both ends, and gives up on bytes that nobody acknowledges.
pub(crate) fn relay(_: Size) -> Start {
    Start { listen: "0.0.0.0:0".to_owned(), ..Start::with(&["--user-timeout", "1500ms", "--queue-max", "256KiB"]) }
}

/// The same, which relies on heartbeats.
pub(crate) fn relay_with_heartbeats(_: Size) -> Start {
    Start { listen: "0.0.0.0:0".to_owned(), ..Start::with(&["--keepalive", "1s"]) }
}

/// Peers behind a cable.
fn crowd_behind_a_cable(scene: &Scene, role: &str, arguments: &[&str]) -> Crowd {
    let relay = SocketAddr::new(NEAR_ADDRESS.parse().expect("an address"), scene.relay.address.port());
    let mut crowd = Crowd::start_apart(role, relay, arguments);
    let pid = crowd.pid().to_string();
    command(&["ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", &pid]);
    command(&["ip", "addr", "add", &format!("{NEAR_ADDRESS}/24"), "dev", NEAR]);
    command(&["ip", "link", "set", NEAR, "up"]);
    let there = ["nsenter", "--target", &pid, "--net", "ip"];
    command(&[&there[..], &["addr", "add", &format!("{FAR_ADDRESS}/24"), "dev", FAR]].concat());
    command(&[&there[..], &["link", "set", FAR, "up"]].concat());
    crowd.tell("go");
    crowd
}

fn plug(state: &str) {
    command(&["ip", "link", "set", NEAR, state]);
}

/// The cable is pulled while frames are on their way, and put back; then it is pulled for good.
pub(crate) fn cable_pulled(scene: &mut Scene) {
    let mut watcher = watcher(scene);
    let mut reader = crowd_behind_a_cable(scene, "read", &["behind the cable"]);
    let id = Id::from_bits(reader.line().parse().expect("an id"));
    let mut teller = Teller::connect(scene, "teller");
    let (mut pulls, mut frames) = (0, 0);
    loop {
        teller.send(id, 10, &[7; 1000]);
        plug("down");
        teller.send(id, 100, &[7; 1000]);
        scene.bystanders.go_on(20);
        plug("up");
        frames += teller.settle(&mut reader, id).frames;
        pulls += 1;
        if !scene.goes_on() {
            break;
        }
    }
    // Now nobody puts it back: what is sent is not acknowledged, and that ends the connection.
    let began = Instant::now();
    plug("down");
    teller.send(id, 10, &[7; 1000]);
    let codes = departures(&mut watcher, 1);
    let after = began.elapsed();
    let [code] = codes[..] else { panic!("{codes:?}") };
    assert_eq!(code, 3, "the system gave up (TCP_USER_TIMEOUT)");
    scene.note(format!(
        "pulled {pulls} times and put back: {frames} frames delivered in order; for good: given up after {after:.1?}"
    ));
}

/// Peers vanish with their machine: no FIN, no RST. Heartbeats find out.
pub(crate) fn half_open(scene: &mut Scene) {
    let count = scene.size.of(10, 200);
    let mut watcher = watcher(scene);
    let mut crowd = crowd_behind_a_cable(scene, "live", &["vanishing", &count.to_string()]);
    assert_eq!(crowd.line(), "here");
    scene.bystanders.go_on(20);
    let began = Instant::now();
    plug("down");
    // Their network goes with them.
    crowd.kill();
    let codes = departures(&mut watcher, count);
    let after = began.elapsed();
    assert!(codes.iter().all(|code| *code == 2003), "{codes:?}");
    assert_eq!(scene.relay.counters().closed("IDLE_TIMEOUT"), count as u64);
    scene.fill();
    scene.note(format!("{count} vanished; all found within {after:.1?} by heartbeats of 1 s"));
}
