//! A relay without a reactor: connections are queues in memory, sockets take as many bytes as a test says,
//! and time is a number.
//!
//! The queues keep the contract of the reactor's: a message for an empty queue is always taken, a long one is
//! written at once as far as the socket has room, and what is left at the end is handed back in whole frames.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use switchboard::auth::Users;
use switchboard::origin::Origin;
use switchboard::outgoing::{Lane, Outgoing, SendError};
use switchboard::relay::{Counters, Input, Outbox, Relay, Settings};
use switchboard::time::Time;
use switchboard::wire::control::{Body, Hello, Profile};
use switchboard::wire::{Code, Flags, FrameError, Frames, HEADER_BYTES, Header, Id, Next, Run, Type, next_run};

use super::frames::{Got, frame_of};

/// The time of day at which the clock of every relay here stands at zero.
pub(crate) const EPOCH: Duration = Duration::from_hours(490_896);
/// From this length on a message for an empty queue is offered to the socket at once, as the reactor does.
const WRITE_THROUGH_BYTES_MIN: usize = 2048;

/// What the relay can know of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) origin: Option<Origin>,
    /// What an exchange can be bound to: it is over TLS.
    pub(crate) binding: Option<[u8; 32]>,
    /// The user's name in the certificate that its client has shown.
    pub(crate) certificate: Option<String>,
    pub(crate) is_private: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { origin: None, binding: None, certificate: None, is_private: true }
    }
}

/// One connection, seen from the relay's side.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "the bits of a connection, each on its own")]
pub(crate) struct Wire {
    /// Frames that wait; of the first, `begun` bytes are written.
    queue: VecDeque<Vec<u8>>,
    begun: usize,
    pub(crate) queued: usize,
    pub(crate) written: u64,
    /// Bytes that the client has got and no test has looked at.
    received: Vec<u8>,
    /// Bytes from the client that the relay has not been shown.
    inbound: Vec<u8>,
    /// What the socket takes before it blocks, of what is written at once.
    pub(crate) room: usize,
    pub(crate) notify: bool,
    pub(crate) paused: bool,
    /// A frame of the client's has begun and not ended.
    pub(crate) receiving: bool,
    /// The relay has closed it; what is queued is still written.
    pub(crate) closing: bool,
    /// The socket has failed, and the relay has not been told yet.
    pub(crate) broken: bool,
    pub(crate) gone: bool,
    deadline: Option<Time>,
    pub(crate) facts: Facts,
    /// The relay has said that it is registered.
    pub(crate) settled: bool,
    /// Frames that were queued since a test asked for them.
    taken: Vec<Vec<u8>>,
}

impl Wire {
    fn push(&mut self, frames: &[u8]) {
        for frame in Frames::new(frames) {
            self.taken.push(frame.to_vec());
            self.queue.push_back(frame.to_vec());
        }
        self.queued += frames.len();
    }

    /// Writes up to `count` bytes of what waits.
    fn take(&mut self, count: usize) {
        let mut left = count.min(self.queued);
        self.queued -= left;
        self.written += left as u64;
        while left > 0 {
            let front = self.queue.front().expect("queued bytes have a frame");
            let step = left.min(front.len() - self.begun);
            self.received.extend_from_slice(&front[self.begun..self.begun + step]);
            self.begun += step;
            left -= step;
            if self.begun == front.len() {
                self.queue.pop_front();
                self.begun = 0;
            }
        }
    }

    /// What is handed back when it ends: the head of the frame that was cut, and the whole ones behind it.
    fn unsent(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut frames = std::mem::take(&mut self.queue);
        let cut = if self.begun > 0 { frames.pop_front() } else { None };
        let cut = cut.map(|frame| frame[..frame.len().min(32)].to_vec()).unwrap_or_default();
        (cut, frames.into_iter().flatten().collect())
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Net {
    wires: HashMap<Id, Wire>,
    queue_bytes_max: usize,
    queue_reserve_bytes: usize,
    /// The work that requests were, in messages.
    pub(crate) charged: usize,
    /// The address that every client seems to come from.
    pub(crate) address: String,
    /// What is so of connections that are made from now on.
    pub(crate) facts: Facts,
    /// The relay's part of the next exchanges; a number where there is none.
    pub(crate) nonce: Option<String>,
    nonces: u64,
}

impl Net {
    /// A connection, to be looked at.
    pub(crate) fn peek(&self, id: Id) -> &Wire {
        &self.wires[&id]
    }

    pub(crate) fn wire(&mut self, id: Id) -> &mut Wire {
        self.wires.get_mut(&id).expect("a connection that was made")
    }
}

impl Outbox for Net {
    fn send(&mut self, to: Id, frames: &mut Outgoing<'_>, lane: Lane) -> Result<(), SendError> {
        let reserve = if lane == Lane::Traffic { 0 } else { self.queue_reserve_bytes };
        let bytes_max = self.queue_bytes_max + reserve;
        let wire = self.wires.get_mut(&to).filter(|wire| !wire.gone && !wire.closing && !wire.broken);
        let wire = wire.ok_or(SendError::Gone)?;
        let bytes = frames.bytes();
        assert_eq!(Frames::new(bytes).map(<[u8]>::len).sum::<usize>(), bytes.len(), "only whole frames are sent");
        let was_empty = wire.queued == 0;
        if !was_empty && wire.queued + bytes.len() > bytes_max {
            return Err(SendError::Full);
        }
        wire.push(bytes);
        if was_empty && bytes.len() >= WRITE_THROUGH_BYTES_MIN {
            let count = wire.room.min(bytes.len());
            wire.room -= count;
            wire.take(count);
        }
        Ok(())
    }

    fn queued_bytes(&self, to: Id) -> usize {
        self.wires.get(&to).filter(|wire| !wire.gone).map_or(0, |wire| wire.queued)
    }

    fn is_blocked(&self, to: Id) -> bool {
        self.queued_bytes(to) > 0
    }

    fn is_receiving(&self, from: Id) -> bool {
        self.wires.get(&from).is_some_and(|wire| wire.receiving)
    }

    fn position(&self, to: Id) -> u64 {
        self.wires.get(&to).filter(|wire| !wire.gone).map_or(0, |wire| wire.written + wire.queued as u64)
    }

    fn notify_written(&mut self, to: Id, on: bool) {
        self.wire(to).notify = on;
    }

    fn charge(&mut self, _: Id, messages: usize) {
        self.charged += messages;
    }

    fn set_deadline(&mut self, id: Id, at: Option<Time>) {
        self.wire(id).deadline = at;
    }

    fn pause(&mut self, id: Id, on: bool) {
        self.wire(id).paused = on;
    }

    fn close(&mut self, id: Id) {
        self.wire(id).closing = true;
    }

    fn put_address(&self, _: Id, text: &mut String) {
        text.push_str(&self.address);
    }

    fn origin(&self, id: Id) -> Option<Origin> {
        self.peek(id).facts.origin
    }

    fn channel_binding(&self, id: Id) -> Option<[u8; 32]> {
        self.peek(id).facts.binding
    }

    fn certificate_user(&self, id: Id, name: &mut String) -> bool {
        let shown = self.peek(id).facts.certificate.as_deref();
        name.push_str(shown.unwrap_or_default());
        shown.is_some()
    }

    fn is_private(&self, id: Id) -> bool {
        self.peek(id).facts.is_private
    }

    fn settle(&mut self, id: Id) {
        self.wire(id).settled = true;
    }

    fn nonce(&mut self) -> Option<String> {
        self.nonces += 1;
        Some(self.nonce.clone().unwrap_or_else(|| format!("relay-{}", self.nonces)))
    }
}

/// A relay, its connections and the time.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) net: Net,
    pub(crate) now: Time,
    generation: u64,
    slots: usize,
    free: Vec<usize>,
    inputs: u64,
}

/// Settings with a queue of 10,000 bytes and as much again in reserve: a test can fill them.
pub(crate) fn small_queues() -> Settings {
    Settings { queue_bytes_max: 10_000, queue_reserve_bytes: 10_000, ..Settings::default() }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::seeded(settings, 7)
    }

    pub(crate) fn seeded(settings: Settings, seed: u64) -> Self {
        let net = Net {
            wires: HashMap::new(),
            queue_bytes_max: settings.queue_bytes_max,
            queue_reserve_bytes: settings.queue_reserve_bytes,
            charged: 0,
            address: "203.0.113.5:50812".to_owned(),
            facts: Facts::default(),
            nonce: None,
            nonces: 0,
        };
        let relay = Relay::new(settings, seed, EPOCH);
        let now = Time::from_micros(90_000_000);
        Self { relay, net, now, generation: 0, slots: 0, free: Vec::new(), inputs: 0 }
    }

    /// A relay with users.
    pub(crate) fn with_users(settings: Settings, users: Users) -> Self {
        let mut world = Self::new(settings.clone());
        world.relay = Relay::new(settings, 7, EPOCH).with_users(Box::new(users));
        world
    }

    /// Has another list of users hold, and everybody looked up in it.
    pub(crate) fn set_users(&mut self, users: Option<Users>) {
        self.relay.set_users(users.map(Box::new), self.now, &mut self.net);
        while self.relay.review(self.now, &mut self.net) {}
        self.check();
    }

    /// Hands the relay an input and compares all that must agree.
    pub(crate) fn handle(&mut self, id: Id, input: Input<'_>) {
        self.relay.handle(id, input, self.now, &mut self.net);
        self.check();
    }

    /// Compares all that the relay keeps twice; in a crowd, where that takes long, now and then.
    fn check(&mut self) {
        self.inputs += 1;
        if self.relay.clients() < 200 || self.inputs.is_multiple_of(100) {
            self.relay.check_consistency();
        }
    }

    /// Ends the turn.
    pub(crate) fn end_turn(&mut self) {
        self.relay.end_turn(&mut self.net);
        self.check();
    }

    /// Accepts a connection, in the slot that was freed last.
    pub(crate) fn connect(&mut self) -> Id {
        self.generation += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        let id = Id::client(index, self.generation);
        self.net.wires.insert(id, Wire { facts: self.net.facts.clone(), ..Wire::default() });
        self.handle(id, Input::Connected);
        id
    }

    /// A registered client that has read its WELCOME.
    pub(crate) fn client(&mut self, name: &str) -> Id {
        self.client_with(&Hello::new(Profile::named(name)))
    }

    /// A registered client with this HELLO that has read its WELCOME.
    pub(crate) fn client_with(&mut self, hello: &Hello<'_>) -> Id {
        let id = self.connect();
        self.say(id, hello);
        assert!(matches!(self.got(id)[..], [Got::Welcome { .. }]), "{id:?} is registered");
        id
    }

    /// Registered clients whose names begin with `name`.
    pub(crate) fn clients(&mut self, name: &str, count: usize) -> Vec<Id> {
        (0..count).map(|number| self.client(&format!("{name}-{number}"))).collect()
    }

    /// Has a client send a control frame with correlation 1.
    pub(crate) fn say<'a>(&mut self, from: Id, body: &impl Body<'a>) {
        self.ask(from, 1, body);
    }

    /// Has a client send a control frame.
    pub(crate) fn ask<'a>(&mut self, from: Id, correlation: u32, body: &impl Body<'a>) {
        self.send(from, &frame_of(correlation, Flags::NONE, body));
    }

    /// Has bytes arrive from a client: frames, in as many pieces as the relay makes of them.
    pub(crate) fn send(&mut self, from: Id, bytes: &[u8]) {
        self.receive(from, bytes);
        while self.step(from) {}
    }

    /// Has bytes arrive that the relay is not shown yet.
    pub(crate) fn receive(&mut self, from: Id, bytes: &[u8]) {
        self.net.wire(from).inbound.extend_from_slice(bytes);
    }

    /// The frames that [`World::step`] would hand over; an error where it would hand over that.
    pub(crate) fn peek(&mut self, from: Id) -> Result<Vec<u8>, FrameError> {
        let payload_bytes_max = self.relay.payload_bytes_max(from);
        let wire = self.net.wire(from);
        if wire.paused || wire.closing || wire.broken || wire.gone {
            return Ok(Vec::new());
        }
        Ok(match next_run(&mut wire.inbound, from, payload_bytes_max)? {
            Next::Run(run) => run.bytes.to_vec(),
            Next::Incomplete { .. } => Vec::new(),
        })
    }

    /// Hands over what has arrived up to the next run of frames; says whether there was one.
    pub(crate) fn step(&mut self, from: Id) -> bool {
        let payload_bytes_max = self.relay.payload_bytes_max(from);
        let wire = self.net.wire(from);
        if wire.paused || wire.closing || wire.broken || wire.gone {
            return false;
        }
        let mut inbound = std::mem::take(&mut wire.inbound);
        let consumed = match next_run(&mut inbound, from, payload_bytes_max) {
            Ok(Next::Run(Run { bytes, frames, payload_bytes_max })) => {
                let consumed = bytes.len();
                self.handle(from, Input::Frames(Run { bytes, frames, payload_bytes_max }));
                consumed
            }
            Ok(Next::Incomplete { .. }) => 0,
            Err(error) => {
                self.handle(from, Input::Broken(error));
                inbound.len()
            }
        };
        self.net.wire(from).inbound = inbound.split_off(consumed);
        consumed > 0
    }

    /// Has the socket of a client take up to `count` bytes, and tells the relay if it wants to know.
    pub(crate) fn write(&mut self, id: Id, count: usize) {
        self.flush(id, count);
        while self.step(id) {}
    }

    /// The same, but what the client has sent meanwhile waits on.
    pub(crate) fn flush(&mut self, id: Id, count: usize) {
        let wire = self.net.wire(id);
        if wire.gone || wire.broken {
            return;
        }
        wire.take(count);
        let written = wire.written;
        if wire.notify {
            self.handle(id, Input::Written(written));
        }
        let wire = self.net.wire(id);
        if wire.closing && wire.queued == 0 {
            self.close(id, None);
        }
    }

    /// The connection is lost.
    pub(crate) fn lose(&mut self, id: Id) {
        self.close(id, Some(Code::Reset));
    }

    pub(crate) fn close(&mut self, id: Id, code: Option<Code>) {
        let wire = self.net.wire(id);
        let (written, (cut, unsent)) = (wire.written, wire.unsent());
        wire.gone = true;
        wire.queued = 0;
        self.free.push(id.index());
        self.handle(id, Input::Closed { code, written, cut: &cut, unsent: &unsent });
    }

    /// Writes all that waits for a client, what the relay adds while that happens included.
    pub(crate) fn drain(&mut self, id: Id) {
        while self.is_here(id) && (self.net.wire(id).queued > 0 || self.net.wire(id).closing) {
            self.write(id, usize::MAX);
        }
    }

    /// All frames that a client gets until nothing more comes.
    pub(crate) fn got(&mut self, id: Id) -> Vec<Got> {
        self.drain(id);
        self.seen(id)
    }

    /// The frames that were written to a client so far.
    pub(crate) fn seen(&mut self, id: Id) -> Vec<Got> {
        self.raw(id).iter().map(|frame| Got::read(frame)).collect()
    }

    /// The same, as they are.
    pub(crate) fn raw(&mut self, id: Id) -> Vec<Vec<u8>> {
        let received = &mut self.net.wire(id).received;
        let frames: Vec<Vec<u8>> = Frames::new(received).map(<[u8]>::to_vec).collect();
        let whole: usize = frames.iter().map(Vec::len).sum();
        received.drain(..whole);
        frames
    }

    /// What the relay has queued for whom since this was asked last.
    pub(crate) fn take_queued(&mut self) -> Vec<(Id, Vec<Vec<u8>>)> {
        let wires = self.net.wires.iter_mut().filter(|(_, wire)| !wire.taken.is_empty());
        let mut taken: Vec<_> = wires.map(|(id, wire)| (*id, std::mem::take(&mut wire.taken))).collect();
        taken.sort_by_key(|(id, _)| *id);
        taken
    }

    /// Whether the connection exists, closing or not.
    pub(crate) fn is_here(&mut self, id: Id) -> bool {
        !self.net.wire(id).gone
    }

    pub(crate) fn is_paused(&mut self, id: Id) -> bool {
        self.net.wire(id).paused
    }

    /// Whether the relay has ended the connection.
    pub(crate) fn is_closed(&mut self, id: Id) -> bool {
        let wire = self.net.wire(id);
        wire.gone || wire.closing
    }

    pub(crate) fn queued(&mut self, id: Id) -> usize {
        self.net.wire(id).queued
    }

    pub(crate) fn deadline(&mut self, id: Id) -> Option<Time> {
        self.net.wire(id).deadline
    }

    /// Lets time pass; deadlines come at their time, in their order.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(id) = self.due(end) {
            self.handle(id, Input::Deadline);
        }
        self.now = end;
    }

    /// Lets time pass up to the next deadline before `end`: whose it is, and the relay is to be told.
    pub(crate) fn due(&mut self, end: Time) -> Option<Id> {
        let due = self.net.wires.iter().filter(|(_, wire)| !wire.gone);
        let due = due.filter_map(|(id, wire)| Some((wire.deadline?, *id))).min();
        let (at, id) = due.filter(|(at, _)| *at <= end)?;
        self.now = self.now.max(at);
        self.net.wire(id).deadline = None;
        Some(id)
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.relay.counters()
    }

    pub(crate) fn refused(&self, code: Code) -> u64 {
        self.counters().refused[code.ordinal()]
    }

    pub(crate) fn closed(&self, code: Code) -> u64 {
        self.counters().closed[code.ordinal()]
    }

    /// Fills a client's queue with frames of 100 bytes from `from`, until one is refused.
    pub(crate) fn fill(&mut self, from: Id, to: Id) {
        let filler = super::frames::send(0xF111, to, &[b'.'; 100 - HEADER_BYTES]);
        let refused = self.refused(Code::QueueFull);
        while self.refused(Code::QueueFull) == refused {
            self.send(from, &filler);
        }
        if from != to {
            let last = self.got(from).pop();
            assert_eq!(last, Some(Got::error(0xF111, Code::QueueFull, Some(to))));
        }
    }
}

/// What the relay's type of an answer must be: written where a test only cares for the kinds of frames.
pub(crate) fn types(frames: &[Vec<u8>]) -> Vec<Option<Type>> {
    frames.iter().map(|frame| Header::read(frame).frame_type()).collect()
}
