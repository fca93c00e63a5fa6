//! The byte floor loses nothing, and passes to whom it should.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use switchboard::bench::{Progress, Scenario, Stop, Target, Work, run};
use switchboard::client::Address;

use crate::dialects::Floor;
use crate::floor::{self, ANSWER, HEARS_ALL, NOBODY};

/// After so long nothing more will come: a test fails instead of hanging.
const HANG: Duration = Duration::from_mins(1);

/// Starts a floor that runs as long as the tests.
fn start() -> SocketAddr {
    let listener = mio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(|| floor::serve(listener));
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the floor accepts");
    socket.set_nodelay(true).expect("an option");
    socket.set_read_timeout(Some(HANG)).expect("an option");
    socket.set_write_timeout(Some(HANG)).expect("an option");
    socket
}

fn setup(words: [u32; 3]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A client that has been answered.
fn client(address: SocketAddr, number: u32, partner: u32, mode: u32) -> TcpStream {
    let mut socket = connect(address);
    socket.write_all(&setup([number, partner, mode])).expect("the floor reads");
    assert_eq!(hear(&socket, 1), [ANSWER]);
    socket
}

fn hear(mut socket: &TcpStream, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    socket.read_exact(&mut data).expect("the floor passes it on");
    data
}

#[test]
fn a_chunk_goes_to_the_partner_and_nobody_else() {
    let address = start();
    let mut one = client(address, 0, 1, 0);
    let other = client(address, 1, 0, HEARS_ALL);
    let mut both = [client(address, 2, 3, 0), client(address, 3, 2, 0)];
    one.write_all(b"to one").expect("the floor reads");
    both[1].write_all(b"to two").expect("the floor reads");
    assert_eq!(hear(&other, 6), b"to one");
    assert_eq!(hear(&both[0], 6), b"to two");
    (&other).write_all(b"back").expect("the floor reads");
    assert_eq!(hear(&one, 4), b"back");
}

#[test]
fn a_chunk_without_a_partner_goes_to_all_that_hear_all_but_the_sender() {
    let address = start();
    let hearers: Vec<TcpStream> = (1..20).map(|number| client(address, number, NOBODY, HEARS_ALL)).collect();
    client(address, 0, NOBODY, 0).write_all(b"one").expect("the floor reads");
    for hearer in &hearers {
        assert_eq!(hear(hearer, 3), b"one");
    }
    (&hearers[0]).write_all(b"two").expect("the floor reads");
    for hearer in &hearers[1..] {
        assert_eq!(hear(hearer, 3), b"two");
    }
    client(address, 0, NOBODY, 0).write_all(b"three").expect("the floor reads");
    assert_eq!(hear(&hearers[0], 5), b"three", "it did not hear itself");
}

#[test]
fn the_setup_may_come_in_pieces_and_bytes_right_behind_it_are_passed_on() {
    let address = start();
    let partner = client(address, 1, 0, 0);
    let mut socket = connect(address);
    let bytes = setup([0, 1, 0]);
    for byte in &bytes[..11] {
        socket.write_all(&[*byte]).expect("the floor reads");
    }
    socket.write_all(&[&bytes[11..], b"first"].concat()).expect("the floor reads");
    assert_eq!(hear(&socket, 1), [ANSWER]);
    assert_eq!(hear(&partner, 5), b"first");
}

#[test]
fn what_a_reader_has_no_room_for_waits_and_nothing_is_lost() {
    let address = start();
    let mut sender = client(address, 0, 1, 0);
    let reader = client(address, 1, 0, 0);
    let mut bytes = vec![0; 24 * 1024 * 1024];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    // All of it is written before anything is read: more than the system keeps for a connection.
    sender.write_all(&bytes).expect("the floor reads");
    assert!(hear(&reader, bytes.len()) == bytes, "not the bytes that were sent");
    sender.write_all(b"after").expect("the floor reads");
    assert_eq!(hear(&reader, 5), b"after");
}

#[test]
fn who_leaves_is_forgotten_and_may_come_again() {
    let address = start();
    let mut sender = client(address, 0, 1, 0);
    for round in 0..3 {
        let mut reader = client(address, 1, 0, HEARS_ALL);
        sender.write_all(&[round]).expect("the floor reads");
        assert_eq!(hear(&reader, 1), [round]);
        reader.shutdown(std::net::Shutdown::Write).expect("a socket");
        assert_eq!(reader.read(&mut [0]).expect("an orderly end"), 0);
    }
}

#[test]
fn a_tiny_run_on_the_floor_accounts_for_every_frame() {
    let address: Address = start().to_string().parse().expect("an address");
    let mut target = Target::at(&address).expect("the floor listens");
    let work = Work {
        scenario: Scenario::Pairs,
        connections: 10,
        size: 128,
        window: 8,
        rate: 0.0,
        rooms: 0,
        stuck: 0,
        warmup: Duration::ZERO,
        time: Duration::from_millis(100),
        in_flight_max: 10,
    };
    for scenario in [Scenario::Pairs, Scenario::Fanout] {
        let work = Work { scenario, ..work };
        let report = run(&work, Floor::new(work.size), &mut target, &mut Progress::default(), &Stop::default());
        assert_eq!(report.failures, [""; 0]);
        assert!(report.account.delivered > 0);
        assert_eq!(report.account.delivered, report.account.sent);
    }
}
