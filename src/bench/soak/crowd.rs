//! The clients of a soak: a service on the reactor that speaks the protocol for all of them, sends what it is told
//! to, and enters into the account whatever comes.
//!
//! It decides nothing: what is done when is in [`acts`](super::acts).

use std::collections::HashMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::acts::Acts;
use super::groups::{Groups, Role};
use super::ledger::{Aim, EVERYBODY, End, Ledger, Scope, Visit};
use super::presence::{List, Next};
use crate::bench::fleet::histogram;
use crate::bench::payload::{Payloads, Stamp};
use crate::bench::scenario::Work;
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::reactor::{CloseReason, ConnId, Connections, Progress, Service, Unsent};
use crate::time::Time;
use crate::wire::control::{
    Body, ErrorBody, Gap, Goodbye, Hello, Join, Joined, Leave, Ping, Pong, Profile, Reason, Receipt, Stage, Watch, Welcome,
    put_recipients,
};
use crate::wire::{Code, Flags, Frames, HEADER_BYTES, Header, Id, IdKind, PAYLOAD_BYTES_DEFAULT, Type};

/// Payloads of a soak, in bytes: short messages, and ones that a read or a block of a queue does not hold. The last is
/// what was asked for.
const SIZES: [usize; 4] = [32, 128, 1024, 8192];

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Absent,
    /// It is connecting, or has not been welcomed.
    Arriving,
    Here,
    /// It has said that it goes, and reads on to the end.
    Leaving,
    /// Its connection is broken by ourselves.
    Broken,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: Option<ConnId>,
    pub(super) place: Place,
    /// Its present visit, or the last one.
    pub(super) visit: Visit,
    pub(super) id: Id,
    /// How often it has taken another name.
    pub(super) names: u32,
    next_number: u32,
    /// The other side has said that nothing follows.
    has_heard_all: bool,
    list: Option<Box<List>>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Join(Scope),
    Leave(Scope),
    Watch,
}

/// What happened, in numbers, beside the account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) said_goodbye: u64,
    pub(super) hung_up: u64,
    pub(super) cut: u64,
    pub(super) names_taken: u64,
    pub(super) joins: u64,
    pub(super) gaps: u64,
    pub(super) pings: u64,
    pub(super) receipts: u64,
    pub(super) changes: u64,
    pub(super) stalls: u64,
    pub(super) rooms: u64,
}

/// All clients of a soak.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) groups: Groups,
    pub(super) ledger: Ledger,
    pub(super) acts: Acts,
    pub(super) tally: Tally,
    pub(super) clients: Vec<Client>,
    /// Rooms that somebody has joined.
    pub(super) rooms: HashMap<Scope, Id>,
    scopes: HashMap<Id, Scope>,
    requests: HashMap<(Visit, u32), Request>,
    /// Those of this run who are here, or were not long ago.
    ids: HashMap<Id, Visit>,
    visits: Visit,
    /// Ends that nobody on this side asked for.
    pub(super) broken: u64,
    /// What went wrong first.
    pub(super) complaint: Option<String>,
    /// DELTAs that were missing in silence, and lists that are not the truth.
    pub(super) misinformed: u64,
    /// Ids that were given twice.
    pub(super) twins: u64,
    pub(super) is_full: bool,
    /// Latencies of all that came on time to those who read, in nanoseconds; and of the interval that goes on.
    pub(super) latencies: Histogram<u64>,
    pub(super) interval: Histogram<u64>,
    pub(super) is_measured: bool,
    /// What the relay queues for a client, as it says.
    pub(super) queue_bytes_max: u64,
    prefix: String,
    keepalive_ms: Option<u32>,
    payload_bytes_max: u32,
    payloads: Vec<Payloads>,
    sizes: Vec<usize>,
    /// Which client a slot of the reactor belongs to.
    slots: Vec<u32>,
    /// Those whose side is to be closed once all is written.
    hanging_up: Vec<u32>,
    zero: Instant,
    out: Vec<u8>,
}

impl Crowd {
    pub(super) fn new(work: &Work, keepalive_ms: Option<u32>, acts: Acts) -> Self {
        let mut sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size < work.size).collect();
        sizes.push(work.size);
        let absent = |_| Client {
            conn: None,
            place: Place::Absent,
            visit: 0,
            id: Id::RELAY,
            names: 0,
            next_number: 0,
            has_heard_all: false,
            list: None,
        };
        Self {
            groups: Groups::of(work),
            ledger: Ledger::default(),
            acts,
            tally: Tally::default(),
            clients: (0..work.connections).map(absent).collect(),
            rooms: HashMap::new(),
            scopes: HashMap::new(),
            requests: HashMap::new(),
            ids: HashMap::new(),
            visits: 0,
            broken: 0,
            complaint: None,
            misinformed: 0,
            twins: 0,
            is_full: false,
            latencies: histogram(),
            interval: histogram(),
            is_measured: false,
            queue_bytes_max: 0,
            prefix: format!("soak-{:08x}-", fastrand::u32(..)),
            keepalive_ms,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT.max(u32::try_from(work.size).unwrap_or(u32::MAX)),
            payloads: sizes.iter().map(|size| Payloads::new(*size)).collect(),
            sizes,
            slots: Vec::new(),
            hanging_up: Vec::new(),
            zero: Instant::now(),
            out: Vec::new(),
        }
    }

    /// Nanoseconds on the clock of the run.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many sizes of payloads there are, the shortest first.
    pub(super) const fn sizes(&self) -> usize {
        self.sizes.len()
    }

    pub(super) fn is_here(&self, client: u32) -> bool {
        self.clients[client as usize].place == Place::Here
    }

    /// How many are registered.
    pub(super) fn present(&self) -> usize {
        self.clients.iter().filter(|client| client.place == Place::Here).count()
    }

    /// Whether nobody waits for the relay to be let in, or for an answer.
    pub(super) fn is_settled(&self) -> bool {
        self.requests.is_empty() && !self.clients.iter().any(|client| client.place == Place::Arriving)
    }

    /// A client has been connected as `conn`.
    pub(super) fn connected(&mut self, io: &mut Connections, client: u32, conn: ConnId) {
        if self.slots.len() <= conn.index() {
            self.slots.resize(conn.index() + 1, u32::MAX);
        }
        self.slots[conn.index()] = client;
        self.visits += 1;
        self.ledger.begins(self.visits);
        let is_host = self.groups.role(client) == Role::Host;
        let this = &mut self.clients[client as usize];
        (this.conn, this.place, this.visit, this.next_number) = (Some(conn), Place::Arriving, self.visits, 1);
        (this.has_heard_all, this.list) = (false, is_host.then(Box::default));
        let name = format!("{}{client}-{}", self.prefix, this.names);
        let mut hello = Hello::new(Profile::named(&name));
        (hello.payload_bytes_max, hello.keepalive_ms) = (Some(self.payload_bytes_max), self.keepalive_ms);
        self.say(io, client, |out| hello.write_frame(Header::new(Type::Hello), out));
    }

    /// Sends a frame to one client, `size` being one of the sizes.
    pub(super) fn send(&mut self, io: &mut Connections, from: u32, to: u32, size: usize, receipt: bool, time_ns: u64) {
        let (visit, number) = self.number(from);
        let recipient = &self.clients[to as usize];
        self.ledger.sends(visit, number, recipient.visit, self.sizes[size], receipt);
        let flags = if receipt { Flags::RECEIPT } else { Flags::NONE };
        let header = Header::new(Type::Send).to(recipient.id).flagged(flags);
        self.emit(io, from, header, number, &[], size, time_ns);
    }

    /// Sends a frame to a list of clients, and asks for a receipt.
    pub(super) fn send_list(&mut self, io: &mut Connections, from: u32, to: &[u32], size: usize, time_ns: u64) {
        let (visit, number) = self.number(from);
        let all = || to.iter().map(|client| &self.clients[*client as usize]);
        let visits: Vec<Visit> = all().map(|client| client.visit).collect();
        let mut list = Vec::new();
        put_recipients(&mut list, &all().map(|client| client.id).collect::<Vec<Id>>());
        self.ledger.lists(visit, number, &visits, self.sizes[size]);
        let header = Header::new(Type::SendMany).flagged(Flags::RECEIPT);
        self.emit(io, from, header, number, &list, size, time_ns);
    }

    /// Sends a frame to a room or to everybody, and asks for a receipt.
    pub(super) fn send_many(&mut self, io: &mut Connections, from: u32, scope: Scope, size: usize, time_ns: u64) {
        let to = if scope == EVERYBODY { Some(Id::ALL) } else { self.rooms.get(&scope).copied() };
        let Some(to) = to else { return };
        let (visit, number) = self.number(from);
        self.ledger.casts(visit, number, scope, self.sizes[size]);
        let header = Header::new(Type::Send).to(to).flagged(Flags::RECEIPT.with(Flags::NO_ECHO));
        self.emit(io, from, header, number, &[], size, time_ns);
    }

    /// Sends a frame to a room that has vanished.
    pub(super) fn probe(&mut self, io: &mut Connections, from: u32, room: Id, time_ns: u64) {
        let (visit, number) = self.number(from);
        self.ledger.probes(visit, number);
        self.emit(io, from, Header::new(Type::Send).to(room), number, &[], 0, time_ns);
    }

    /// Asks to be a member of a room.
    pub(super) fn join(&mut self, io: &mut Connections, client: u32, scope: Scope) {
        let (visit, number) = self.number(client);
        self.requests.insert((visit, number), Request::Join(scope));
        self.ledger.comes(scope, visit);
        let name = format!("{}{scope}", self.prefix);
        let header = Header::new(Type::Join).correlating(number);
        self.say(io, client, |out| Join { name: &name }.write_frame(header, out));
    }

    /// Asks to be no member of a room any more.
    pub(super) fn leave_room(&mut self, io: &mut Connections, client: u32, scope: Scope) {
        let Some(room) = self.rooms.get(&scope).copied() else { return };
        let (visit, number) = self.number(client);
        self.requests.insert((visit, number), Request::Leave(scope));
        self.ledger.goes(scope, visit);
        let header = Header::new(Type::Leave).correlating(number).flagged(Flags::RECEIPT);
        self.say(io, client, |out| Leave { room: room.bits() }.write_frame(header, out));
    }

    /// Forgets a room that nobody is in.
    pub(super) fn forget_room(&mut self, scope: Scope) -> Option<Id> {
        let id = self.rooms.remove(&scope)?;
        self.scopes.remove(&id);
        Some(id)
    }

    /// Forgets those who have gone, as far as nothing is open with them.
    pub(super) fn forget(&mut self) {
        let known = self.ledger.forget();
        self.ids.retain(|_, visit| known.contains(visit));
    }

    /// A client says goodbye and reads to the end.
    pub(super) fn say_goodbye(&mut self, io: &mut Connections, client: u32) {
        self.begin_to_leave(client);
        self.say(io, client, |out| Goodbye(Reason::default()).write_frame(Header::new(Type::Goodbye), out));
        self.tally.said_goodbye += 1;
    }

    /// A client closes its side, and reads to the end.
    pub(super) fn hang_up(&mut self, client: u32) {
        self.begin_to_leave(client);
        self.hanging_up.push(client);
        self.tally.hung_up += 1;
    }

    fn begin_to_leave(&mut self, client: u32) {
        let this = &mut self.clients[client as usize];
        this.place = Place::Leaving;
        self.ledger.goes(EVERYBODY, this.visit);
    }

    /// A client's connection is reset, with whatever is on its way.
    pub(super) fn cut(&mut self, io: &mut Connections, client: u32) {
        let this = &mut self.clients[client as usize];
        let Some(conn) = this.conn else { return };
        this.place = Place::Broken;
        if let Some(stream) = io.transport(conn) {
            // Without it, a connection of which everything has been read would end in good order.
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
        io.abort(conn, CloseReason::Aborted);
        self.ledger.ends(this.visit, End::Cut);
        self.tally.cut += 1;
    }

    /// A client reads no more, or reads on.
    pub(super) fn stall(&mut self, io: &mut Connections, client: u32, stalled: bool) {
        if let Some(conn) = self.clients[client as usize].conn {
            if stalled { io.pause(conn) } else { io.resume(conn) }
        }
    }

    /// How many watchers do not know who is here.
    pub(super) fn count_misinformed(&self) -> u64 {
        let here: Vec<Id> = self.clients.iter().filter(|client| client.place == Place::Here).map(|client| client.id).collect();
        let is_here = |id| here.contains(&id);
        let lists = self.clients.iter().filter(|client| client.place == Place::Here).filter_map(|client| client.list.as_ref());
        lists.filter(|list| !list.is_true(here.len(), is_here)).count() as u64
    }

    /// Whether somebody who watches knows of others than those of this run.
    pub(super) fn strangers(&self) -> usize {
        self.clients.iter().filter_map(|client| client.list.as_ref()).map(|list| list.strangers()).max().unwrap_or(0)
    }

    /// The next number of a client, which all its frames share.
    fn number(&mut self, client: u32) -> (Visit, u32) {
        let this = &mut self.clients[client as usize];
        let number = this.next_number;
        this.next_number += 1;
        (this.visit, number)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one frame")]
    fn emit(&mut self, io: &mut Connections, from: u32, header: Header, number: u32, list: &[u8], size: usize, time_ns: u64) {
        let stamp = Stamp { flow: self.clients[from as usize].visit, number, time_ns };
        let payload = self.payloads[size].stamped(stamp);
        self.out.clear();
        self.out.extend_from_slice(&header.correlating(number).bytes(list.len() + payload.len()));
        self.out.extend_from_slice(list);
        self.out.extend_from_slice(payload);
        self.flush(io, from, Lane::Traffic);
    }

    fn say(&mut self, io: &mut Connections, client: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        write(&mut self.out);
        self.flush(io, client, Lane::Control);
    }

    fn flush(&mut self, io: &mut Connections, client: u32, lane: Lane) {
        // If the connection has ended, the account says what is missing.
        if let Some(conn) = self.clients[client as usize].conn
            && io.send(conn, &mut Outgoing::to_one(&self.out), lane) == Err(SendError::Full)
        {
            self.is_full = true;
        }
    }

    fn complain(&mut self, what: &str) {
        if self.complaint.is_none() {
            self.complaint = Some(what.to_owned());
        }
    }

    fn watch(&mut self, io: &mut Connections, client: u32) {
        let (visit, number) = self.number(client);
        self.requests.insert((visit, number), Request::Watch);
        if let Some(list) = &mut self.clients[client as usize].list {
            list.asked(number);
        }
        self.say(io, client, |out| Watch::default().write_frame(Header::new(Type::Watch).correlating(number), out));
    }

    /// Takes one frame in.
    fn take(&mut self, io: &mut Connections, client: u32, frame: &[u8], now_ns: u64) -> Result<(), String> {
        let header = Header::read(frame);
        let payload = &frame[HEADER_BYTES..];
        let visit = self.clients[client as usize].visit;
        let unreadable = |error| format!("its {:?} cannot be read: {error}", header.frame_type());
        match header.frame_type() {
            Some(Type::Send) => self.delivered(client, &header, payload, now_ns),
            Some(Type::Receipt) => {
                let receipt = Receipt::parse(payload).map_err(unreadable)?;
                self.tally.receipts += 1;
                match Stage::from_number(receipt.stage) {
                    Some(Stage::Written) => self.ledger.is_written(visit, header.correlation),
                    Some(Stage::Queued) => {
                        let (queued, skipped) = (receipt.recipients.unwrap_or(0), receipt.skipped.unwrap_or(0));
                        self.ledger.is_queued(visit, header.correlation, queued, skipped);
                        self.told_of_skips(io, client, skipped);
                    }
                    _ => self.done(io, client, header.correlation),
                }
            }
            Some(Type::Welcome) => self.welcomed(io, client, &Welcome::parse(payload).map_err(unreadable)?)?,
            Some(Type::Joined) => {
                let joined = Joined::parse(payload).map_err(unreadable)?;
                if let Some(Request::Join(scope)) = self.requests.remove(&(visit, header.correlation)) {
                    self.rooms.insert(scope, joined.room);
                    self.scopes.insert(joined.room, scope);
                    self.ledger.is_in(scope, visit);
                    self.tally.joins += 1;
                    self.moved(client);
                }
            }
            Some(Type::Ping) => {
                let asked = Ping::parse(payload).map_err(unreadable)?;
                self.tally.pings += 1;
                if self.is_here(client) {
                    let answer = Pong { ping_clock_us: asked.clock_us, clock_us: None };
                    let header = Header::new(Type::Pong).correlating(header.correlation);
                    self.say(io, client, |out| answer.write_frame(header, out));
                }
            }
            Some(Type::Gap) => {
                self.ledger.misses(visit, Gap::parse(payload).map_err(unreadable)?.frames);
                self.tally.gaps += 1;
                let list = self.clients[client as usize].list.as_mut();
                if list.is_some_and(|list| list.gap()) && self.is_here(client) {
                    self.watch(io, client);
                }
            }
            Some(Type::Snapshot | Type::Delta) => self.learnt(io, client, &header, payload).map_err(unreadable)?,
            Some(Type::Error) => {
                let ErrorBody(reason) = ErrorBody::parse(payload).map_err(unreadable)?;
                self.failed(io, client, header.correlation, &reason)?;
            }
            Some(Type::Goodbye) => {
                let Goodbye(reason) = Goodbye::parse(payload).map_err(unreadable)?;
                self.complain(&format!("{}: {}", name_of(&reason), reason.text));
            }
            _ => {}
        }
        Ok(())
    }

    fn delivered(&mut self, client: u32, header: &Header, payload: &[u8], now_ns: u64) {
        let this = &self.clients[client as usize];
        let visit = this.visit;
        let aim = match header.destination.kind() {
            IdKind::Client if header.destination == this.id => Some(Aim::One),
            IdKind::Many => Some(Aim::List),
            IdKind::All => Some(Aim::Many(EVERYBODY)),
            _ => self.scopes.get(&header.destination).map(|scope| Aim::Many(*scope)),
        };
        let size = self.sizes.iter().position(|size| *size == payload.len());
        let stamp = size.and_then(|size| self.payloads[size].read(payload)).filter(|stamp| {
            stamp.number == header.correlation && self.ids.get(&header.source) == Some(&stamp.flow)
        });
        let Some((stamp, aim)) = stamp.zip(aim) else {
            self.ledger.is_damaged();
            return;
        };
        if self.ledger.arrives(visit, stamp.flow, stamp.number, payload.len(), aim)
            && self.is_measured
            && self.groups.role(client) != Role::Slow
        {
            let nanos = now_ns.saturating_sub(stamp.time_ns).max(1);
            self.latencies.saturating_record(nanos);
            self.interval.saturating_record(nanos);
        }
    }

    fn welcomed(&mut self, io: &mut Connections, client: u32, welcome: &Welcome<'_>) -> Result<(), String> {
        if welcome.payload_bytes_max < self.payload_bytes_max {
            return Err(format!(
                "it takes payloads of {} bytes at most: lower --size, or raise its --payload-max",
                welcome.payload_bytes_max
            ));
        }
        let role = self.groups.role(client);
        self.queue_bytes_max = welcome.queue_bytes_max;
        let this = &mut self.clients[client as usize];
        (this.id, this.place) = (welcome.client, Place::Here);
        let visit = this.visit;
        self.twins += u64::from(self.ids.insert(welcome.client, visit).is_some());
        self.ledger.is_in(EVERYBODY, visit);
        if role == Role::Host {
            self.ledger.watches(visit);
            self.watch(io, client);
        }
        self.settle_in(io, client, role);
        Ok(())
    }

    fn done(&mut self, io: &mut Connections, client: u32, number: u32) {
        let visit = self.clients[client as usize].visit;
        if let Some(Request::Leave(scope)) = self.requests.remove(&(visit, number)) {
            self.ledger.is_out(scope, visit);
            self.has_left(io, client, scope);
            self.moved(client);
        }
    }

    fn learnt(
        &mut self,
        io: &mut Connections,
        client: u32,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), crate::wire::BodyError> {
        let this = &mut self.clients[client as usize];
        let (visit, Some(list)) = (this.visit, &mut this.list) else { return Ok(()) };
        let next = if header.frame_type() == Some(Type::Snapshot) {
            list.snapshot(header, payload, &self.prefix)?
        } else {
            let (ids, ledger, tally) = (&self.ids, &mut self.ledger, &mut self.tally);
            list.delta(payload, &self.prefix, |id| {
                tally.changes += 1;
                if let Some(gone) = ids.get(&id) {
                    ledger.departs(visit, *gone);
                }
            })?
        };
        match next {
            Next::Nothing => {}
            Next::Whole => {
                self.requests.remove(&(visit, header.correlation));
                self.ledger.has_strangers |= list.strangers() > 0;
                // What a DELTA that is missing would have said.
                for (id, gone) in &self.ids {
                    if !list.has(*id) && self.ledger.has_ended(*gone) {
                        self.ledger.departs(visit, *gone);
                    }
                }
            }
            Next::WatchAgain => self.watch(io, client),
            Next::Fault => {
                self.misinformed += 1;
                self.watch(io, client);
            }
        }
        Ok(())
    }

    fn failed(&mut self, io: &mut Connections, client: u32, number: u32, reason: &Reason<'_>) -> Result<(), String> {
        let this = &self.clients[client as usize];
        let (visit, place) = (this.visit, this.place);
        let says = format!("{}: {}", name_of(reason), reason.text);
        match reason.code() {
            // The relay may not have noticed yet that its last connection is gone.
            Some(Code::HelloNameTaken) if place == Place::Arriving && self.groups.role(client) == Role::Visitor => {
                self.tally.names_taken += 1;
                self.clients[client as usize].place = Place::Leaving;
            }
            Some(code) if !code.closes() => match self.requests.remove(&(visit, number)) {
                Some(Request::Watch) if code == Code::Busy => self.watch(io, client),
                Some(_) => return Err(format!("it refuses a request: {says}")),
                None => {
                    let to = reason.client.map(|id| self.ids.get(&id).copied().unwrap_or(Visit::MAX));
                    self.ledger.is_refused(visit, number, to, code.name());
                }
            },
            _ => self.complain(&says),
        }
        Ok(())
    }
}

/// A code's name in the specification.
fn name_of(reason: &Reason<'_>) -> &'static str {
    reason.code().map_or("a code that this version does not know", Code::name)
}

impl Service for Crowd {
    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        let Some(&client) = self.slots.get(conn.index()).filter(|client| **client != u32::MAX) else {
            return Progress::all(data);
        };
        let now_ns = self.now_ns();
        let mut consumed = 0;
        for frame in Frames::new(data) {
            consumed += frame.len();
            let taken = if frame.len() < HEADER_BYTES {
                Err("a frame is shorter than a header: this is no switchboard relay".to_owned())
            } else {
                self.take(io, client, frame, now_ns)
            };
            if let Err(why) = taken {
                self.complain(&why);
                io.abort(conn, CloseReason::Aborted);
                return Progress::all(data);
            }
        }
        let rest = &data[consumed..];
        let wanted = rest.first_chunk().map_or(HEADER_BYTES, |length| 4 + u32::from_be_bytes(*length) as usize);
        if wanted > HEADER_BYTES + self.payload_bytes_max as usize {
            self.complain("a frame is longer than agreed: this is no switchboard relay");
            io.abort(conn, CloseReason::Aborted);
            return Progress::all(data);
        }
        Progress { consumed, wanted }
    }

    fn on_end(&mut self, io: &mut Connections, conn: ConnId, _: Time) {
        if let Some(client) = self.slots.get(conn.index()).filter(|client| **client != u32::MAX) {
            self.clients[*client as usize].has_heard_all = true;
        }
        io.close(conn);
    }

    fn on_close(&mut self, _: &mut Connections, conn: ConnId, reason: CloseReason, _: Unsent<'_>, _: Time) {
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        let client = std::mem::replace(slot, u32::MAX);
        let Some(this) = self.clients.get_mut(client as usize).filter(|this| this.conn == Some(conn)) else { return };
        this.conn = None;
        let (place, visit) = (std::mem::replace(&mut this.place, Place::Absent), this.visit);
        self.requests.retain(|(asking, _), _| *asking != visit);
        match place {
            Place::Broken => {}
            Place::Leaving if this.has_heard_all => self.ledger.ends(visit, End::Orderly),
            _ => {
                self.ledger.ends(visit, End::Cut);
                self.broken += 1;
                self.complain(match reason {
                    CloseReason::Unreachable => "nobody listens there, or nobody answers",
                    CloseReason::Reset if place == Place::Leaving => "the relay reset a connection that was to end in good order",
                    CloseReason::Reset => "a connection was reset",
                    CloseReason::InputOverdue => "a message was begun and not completed in time",
                    CloseReason::InputTooLarge => "a message is larger than this client takes",
                    CloseReason::MemoryPressure => "more waits here for the server to read it than is kept",
                    CloseReason::WriteOverdue => "the server does not read what it is sent",
                    _ => "the server closed a connection",
                });
            }
        }
    }

    fn on_turn_end(&mut self, io: &mut Connections, _: Time) {
        self.act(io);
        let clients = &self.clients;
        self.hanging_up.retain(|client| {
            let Some(conn) = clients[*client as usize].conn else { return false };
            // What it has said before is still to be written.
            if io.queued_bytes(conn) > 0 {
                return true;
            }
            if let Some(stream) = io.transport(conn) {
                let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
            }
            false
        });
    }
}
