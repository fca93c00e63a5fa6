//! Peers that are there and do not read, or hardly: stopped, zero window, a trickle.
//!
//! Whoever sends to them learns of every frame that did not get there, and which ones did can be told.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type as SocketType};
use switchboard::wire::control::{Body, ErrorBody, Hello, Profile};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type};

use crate::bystanders::Part;
use crate::crowd::{Crowd, Got, LAST};
use crate::scene::Scene;
use crate::support::{HANG, RawClient};

/// The smallest that the system grants: what a peer does not read stays with the relay.
const RECEIVE_BUFFER_BYTES: usize = 2048;

/// Somebody who sends numbered frames and keeps what it is told of them.
#[derive(Debug)]
pub(crate) struct Teller {
    client: RawClient,
    sent: u32,
    /// Frames that nobody has refused, by number, each with its recipient.
    accepted: BTreeSet<u32>,
    refused: u32,
    lost: u32,
}

impl Teller {
    pub(crate) fn connect(scene: &Scene, name: &str) -> Self {
        let client = RawClient::connect(scene.relay.address, name);
        Self { client, sent: 0, accepted: BTreeSet::new(), refused: 0, lost: 0 }
    }

    /// Sends so many frames, and waits for the answers to all.
    pub(crate) fn send(&mut self, to: Id, frames: u32, payload: &[u8]) {
        for _ in 0..frames {
            self.sent += 1;
            self.accepted.insert(self.sent);
            self.client.send(Header::new(Type::Send).to(to).correlating(self.sent), payload);
        }
        self.catch_up();
    }

    /// Sends until one is refused because the queue is full, and some more.
    pub(crate) fn fill(&mut self, to: Id, payload: &[u8]) {
        let before = self.refused;
        while self.refused == before {
            self.send(to, 20, payload);
            assert!(self.sent < 1_000_000, "the queue has a limit");
        }
        self.send(to, 20, payload);
    }

    /// Hears everything that the relay has to say of what was sent: a PONG stands behind it.
    fn catch_up(&mut self) {
        self.client.send(Header::new(Type::Ping), &[]);
        while self.hear() != Some(Type::Pong) {}
    }

    fn hear(&mut self) -> Option<Type> {
        let (header, payload) = self.client.frame();
        match header.frame_type() {
            Some(Type::Error) => {
                let ErrorBody(reason) = ErrorBody::parse(&payload).expect("an ERROR");
                assert!(self.accepted.remove(&header.correlation), "frame {} failed twice", header.correlation);
                match reason.code() {
                    Some(Code::QueueFull | Code::NoSuchClient) => self.refused += 1,
                    Some(Code::RecipientLost) => self.lost += 1,
                    other => panic!("{other:?}"),
                }
            }
            Some(Type::Ping) => {
                self.client.send(Header::new(Type::Pong).correlating(header.correlation), &[]);
            }
            _ => {}
        }
        header.frame_type()
    }

    /// Waits until the recipient of all frames so far is lost.
    fn hear_of_loss(&mut self) {
        let before = self.lost;
        while self.lost == before {
            self.hear();
        }
        self.catch_up();
    }

    /// Has the reader tell what it has got, which must be what was accepted.
    pub(crate) fn settle(&mut self, reader: &mut Crowd, to: Id) -> Got {
        let header = Header::new(Type::Send).to(to).flagged(Flags::RECEIPT).correlating(u32::MAX);
        loop {
            // While its queue is more than half full it is told to wait.
            self.client.send(header, LAST);
            let (answer, _) = self.client.frame();
            match answer.frame_type() {
                Some(Type::Receipt) => break,
                Some(Type::Error) => std::thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?}"),
            }
        }
        let accepted = std::mem::take(&mut self.accepted);
        let sum = accepted.iter().copied().map(u64::from).sum();
        let expected = Got { frames: accepted.len() as u64, sum, in_order: true };
        assert_eq!(reader.line(), expected.to_string(), "what was not refused has been delivered, in order");
        expected
    }
}

/// A process is stopped, frames for it pile up and are refused; then it goes on, and has got all others.
pub(crate) fn stopped(scene: &mut Scene) {
    let mut reader = Crowd::start("read", scene.relay.address, &["stopped"]);
    let id = Id::from_bits(reader.line().parse().expect("an id"));
    let mut teller = Teller::connect(scene, "teller");
    let (mut stops, mut delivered) = (0, 0);
    loop {
        reader.signal(Signal::STOP);
        teller.fill(id, &[7; 4000]);
        scene.bystanders.go_on(20);
        reader.signal(Signal::CONT);
        delivered += teller.settle(&mut reader, id).frames;
        stops += 1;
        if !scene.goes_on() {
            break;
        }
    }
    assert!(teller.refused > 0);
    scene.note(format!(
        "stopped {stops} times; of {} frames {} refused as QUEUE_FULL, {delivered} delivered in order afterwards",
        teller.sent, teller.refused
    ));
}

/// Connects with the smallest window that the system grants, and registers.
fn narrow_client(address: SocketAddr, name: &str) -> RawClient {
    let socket = Socket::new(Domain::IPV4, SocketType::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).expect("an option");
    socket.connect(&address.into()).expect("the relay listens");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(HANG)).expect("an option");
    let mut client = RawClient { socket, id: Id::RELAY };
    client.say(Header::new(Type::Hello), &Hello::new(Profile::named(name)));
    client.welcomed();
    client
}

/// Clients that never read again: their windows close, their queues fill, and the write deadline ends them.
pub(crate) fn zero_window(scene: &mut Scene) {
    let count = scene.size.of(3_u64, 20);
    let stuck: Vec<RawClient> =
        (0..count).map(|number| narrow_client(scene.relay.address, &format!("stuck-{number}"))).collect();
    let mut tellers: Vec<Teller> =
        (0..count).map(|number| Teller::connect(scene, &format!("teller-{number}"))).collect();
    for (teller, stuck) in tellers.iter_mut().zip(&stuck) {
        teller.fill(stuck.id, &[7; 4000]);
    }
    scene.bystanders.go_on(50);
    while scene.goes_on() {
        for (teller, stuck) in tellers.iter_mut().zip(&stuck) {
            teller.send(stuck.id, 5, &[7; 4000]);
        }
    }
    for (teller, stuck) in tellers.iter_mut().zip(&stuck) {
        if teller.lost == 0 {
            teller.hear_of_loss();
        }
        // Of what it was sent the beginning lies in its window; the sender was told of all the rest, in order.
        let written = teller.accepted.len() as u32;
        assert!(teller.accepted.iter().copied().eq(1..=written), "a hole in what {} got", stuck.id);
    }
    let (sum, refused) =
        (tellers.iter().map(|one| one.sent).sum::<u32>(), tellers.iter().map(|one| one.refused).sum::<u32>());
    let lost: u32 = tellers.iter().map(|one| one.lost).sum();
    let closed = scene.relay.counters().closed("SLOW_CONSUMER");
    assert_eq!(closed, count, "each was closed by its write deadline");
    scene.note(format!(
        "{count} windows closed; {sum} frames, {refused} refused, {lost} given back, {closed} × SLOW_CONSUMER"
    ));
}

/// A client that reads a byte now and then is ended by the age of its oldest byte all the same.
pub(crate) fn trickle_out(scene: &mut Scene) {
    let (mut ended, mut bytes) = (0, 0);
    loop {
        let name = format!("trickle-{ended}");
        let mut reader = narrow_client(scene.relay.address, &name);
        let mut teller = Teller::connect(scene, &format!("teller-{ended}"));
        teller.fill(reader.id, &[7; 4000]);
        reader.socket.set_read_timeout(Some(Duration::from_millis(1))).expect("an option");
        teller.client.socket.set_nonblocking(true).expect("an option");
        // It reads all the time, a byte each millisecond, until its sender hears that it is lost.
        while teller.client.socket.peek(&mut [0]).is_err() {
            bytes += reader.socket.read(&mut [0; 1]).unwrap_or(0);
            std::thread::sleep(Duration::from_millis(1));
        }
        teller.client.socket.set_nonblocking(false).expect("an option");
        teller.hear_of_loss();
        let written = teller.accepted.len() as u32;
        assert!(teller.accepted.iter().copied().eq(1..=written), "a hole in what it got");
        ended += 1;
        if !scene.goes_on() {
            break;
        }
    }
    assert_eq!(scene.relay.counters().closed("SLOW_CONSUMER"), ended);
    scene.note(format!("{ended} closed as SLOW_CONSUMER, though they read {bytes} bytes one by one all the while"));
}

/// Frames that begin and go on a byte at a time: the frame deadline ends them.
pub(crate) fn trickle_in(scene: &mut Scene) {
    let count = scene.size.of(20_u64, 300);
    let mut frame = Vec::new();
    Header::new(Type::Send).to(Id::ALL).write_frame(&mut frame, |out| out.extend_from_slice(&vec![0; 60_000]));
    let mut ended = 0;
    loop {
        let mut writers: Vec<RawClient> =
            (0..count).map(|number| RawClient::connect(scene.relay.address, &format!("loris-{number}"))).collect();
        for writer in &mut writers {
            writer.socket.write_all(&frame[..HEADER_BYTES]).expect("open");
            writer.socket.set_nonblocking(true).expect("an option");
        }
        let mut bytes = frame[HEADER_BYTES..].chunks(1);
        while !writers.is_empty() {
            let byte = bytes.next().expect("the deadline comes before the end");
            writers.retain_mut(|writer| match writer.socket.read(&mut [0; 4096]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => writer.socket.write_all(byte).is_ok(),
                _ => false,
            });
            std::thread::sleep(Duration::from_millis(2));
        }
        ended += count;
        if !scene.goes_on() {
            break;
        }
    }
    assert_eq!(scene.relay.counters().closed("FRAME_TIMEOUT"), ended);
    scene.note(format!("{ended} closed as FRAME_TIMEOUT, though a byte came every 2 ms"));
}

/// The relay itself is stopped for longer than any deadline, as a machine that is suspended: whoever has done its
/// part meanwhile stays.
pub(crate) fn relay_stopped(scene: &mut Scene) {
    // What a stop does to latency is no question.
    scene.bystanders.begin(Part::Unmeasured);
    let clients = 10;
    let mut living = Crowd::start("live", scene.relay.address, &["living", &clients.to_string()]);
    assert_eq!(living.line(), "here");
    let mut reader = Crowd::start("read", scene.relay.address, &["reader"]);
    let id = Id::from_bits(reader.line().parse().expect("an id"));
    let mut teller = Teller::connect(scene, "teller");
    // Something waits for the reader when the relay is stopped.
    reader.signal(Signal::STOP);
    teller.fill(id, &[7; 4000]);
    scene.relay.signal(Signal::STOP);
    reader.signal(Signal::CONT);
    // Twice the keepalive of those who live, and more than twice the write deadline.
    std::thread::sleep(Duration::from_millis(2500));
    scene.relay.signal(Signal::CONT);
    teller.settle(&mut reader, id);
    scene.bystanders.go_on(100);
    let counters = scene.relay.counters();
    let ends: Vec<_> = ["IDLE_TIMEOUT", "SLOW_CONSUMER", "FRAME_TIMEOUT", "RESET", "HUNG_UP"]
        .into_iter()
        .filter(|code| counters.closed(code) > 0)
        .collect();
    assert!(ends.is_empty(), "somebody was ended for what the relay itself had slept through: {ends:?}");
    let log = scene.relay.log();
    assert!(log.iter().any(|line| line.contains("deadlines are put off")), "its operator learns of it: {log:?}");
    scene.note("stopped for 2.5 s with a keepalive and a write deadline of 1 s: nobody was ended for that");
}
