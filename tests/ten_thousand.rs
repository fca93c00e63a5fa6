//! One relay process, 10,000 registered clients, each sending to one other, a watcher that sees everybody
//! come; then all of them idle, with heartbeats.

mod support;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use support::{RawClient, Relay};
use switchboard::wire::control::{Hello, Presence, Profile, Watch, presence};
use switchboard::wire::{Header, Id, Type};

const CLIENTS: usize = 10_000;
/// Connections from each source address: beyond that the system's search for a free port gets slow.
const CLIENTS_PER_ADDRESS: usize = 1_000;
/// Payload of each client's frame: its number, twice.
const NUMBER_BYTES: usize = 8;

#[test]
fn ten_thousand_clients_each_reach_one_other_and_a_watcher_sees_them_all() {
    let relay = Relay::start(&[]);
    let mut watcher = RawClient::connect(relay.address, "watcher");
    watcher.say(Header::new(Type::Watch), &Watch::default());
    watcher.frame_of(Type::Snapshot);
    let resident_before = relay.resident_bytes();
    // It reads while they come: what it let wait would be memory of the relay's.
    let watching = std::thread::spawn(move || see_arrivals(&mut watcher));

    let started = Instant::now();
    let mut clients: Vec<RawClient> = (0..CLIENTS)
        .map(|number| {
            let name = format!("client-{number}");
            let mut hello = Hello::new(Profile::named(&name));
            // Soon, so that the test need not wait for long; but whoever has its turn late, on a busy machine, has
            // twice this time before it is given up.
            hello.keepalive_ms = Some(10_000);
            let from = Ipv4Addr::new(127, 0, 1, 1 + (number / CLIENTS_PER_ADDRESS) as u8);
            let mut client = RawClient::greet(relay.address, &hello, from);
            client.welcomed();
            client
        })
        .collect();
    let registered = started.elapsed();
    let ids: HashSet<Id> = clients.iter().map(|client| client.id).collect();
    assert_eq!(ids.len(), CLIENTS, "every client has an id of its own");

    assert_eq!(watching.join().expect("the watcher"), ids, "all have been seen to come, and nobody else");
    let resident = relay.resident_bytes().saturating_sub(resident_before);

    // Everybody sends before anybody reads, so that frames queue in all directions.
    let cpu_before = relay.cpu_time();
    for number in 0..CLIENTS {
        let to = clients[partner(number)].id;
        let payload = [(number as u32).to_be_bytes(), (number as u32).to_be_bytes()].concat();
        clients[number].send(Header::new(Type::Send).to(to).correlating(number as u32), &payload);
    }
    let numbers: HashMap<Id, usize> = clients.iter().enumerate().map(|(number, client)| (client.id, number)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let (header, payload) = client.frame_of(Type::Send);
        let sender = numbers[&header.source];
        assert_eq!(partner(sender), number, "the frame reached the client that it was for");
        assert_eq!((header.correlation, header.destination), (sender as u32, client.id));
        assert_eq!(payload.len(), NUMBER_BYTES);
        assert_eq!(payload[..4], (sender as u32).to_be_bytes());
    }
    let cpu_traffic = relay.cpu_time().saturating_sub(cpu_before);

    // Idle: every client is pinged, and answers.
    let cpu_before = relay.cpu_time();
    let started = Instant::now();
    for client in &mut clients {
        let (header, _) = client.frame_of(Type::Ping);
        client.send(Header::new(Type::Pong).correlating(header.correlation), &[]);
    }
    let (elapsed, cpu) = (started.elapsed(), relay.cpu_time().saturating_sub(cpu_before));

    // And nothing else has come, or is lost: the next thing that everybody hears is an answer.
    for client in &mut clients {
        client.send(Header::new(Type::Ping).correlating(77), &[]);
        loop {
            let (header, _) = client.frame();
            match header.frame_type() {
                Some(Type::Ping) => client.send(Header::new(Type::Pong).correlating(header.correlation), &[]),
                Some(Type::Pong) => break assert_eq!(header.correlation, 77),
                other => panic!("{other:?} came unasked"),
            }
        }
    }
    println!(
        "{CLIENTS} clients registered in {registered:.1?}; resident {} bytes a connection; traffic {:.1?} of CPU a \
         frame; heartbeats {:.2?} of CPU in {elapsed:.1?} for about one each: {:.2} % of a core at one in 30 s",
        resident / CLIENTS as u64,
        cpu_traffic / CLIENTS as u32,
        cpu,
        cpu.as_secs_f64() / 30.0 * 100.0,
    );
    assert!(resident / (CLIENTS as u64) < 1024, "{} bytes for each idle connection", resident / CLIENTS as u64);
}

/// Pairs at a distance: nobody sends to itself, and everybody is sent to once.
fn partner(number: usize) -> usize {
    (number + CLIENTS / 2 + 1) % CLIENTS
}

/// Reads DELTAs until everybody has arrived, each once, with no DELTA missing; returns who they are.
fn see_arrivals(watcher: &mut RawClient) -> HashSet<Id> {
    let mut arrived = HashSet::new();
    let mut last_sequence = None;
    while arrived.len() < CLIENTS {
        let (_, payload) = watcher.frame_of(Type::Delta);
        for entry in presence(&payload) {
            match entry.expect("a DELTA") {
                Presence::Sequence(sequence) => {
                    assert!(last_sequence.is_none_or(|last| last + 1 == sequence), "a DELTA is missing");
                    last_sequence = Some(sequence);
                }
                Presence::Arrived(member) => assert!(arrived.insert(member.client), "an arrival too many"),
                other => panic!("{other:?}"),
            }
        }
    }
    arrived
}
