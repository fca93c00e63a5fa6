//! The clients of a soak: a service on the reactor that speaks the protocol for all of them, sends what it is told
//! to, and enters into the account whatever comes.
//!
//! It decides nothing: what is done when is in [`acts`](super::acts).

mod inbound;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::acts::Acts;
use super::groups::{Groups, Role};
use super::ledger::{EVERYBODY, End, Ledger, Scope, Visit};
use super::presence::List;
use crate::bench::fleet::histogram;
use crate::bench::login::Login;
use crate::bench::payload::{Payloads, Stamp};
use crate::bench::scenario::Work;
use crate::bench::tls::Agreed;
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::reactor::{CloseReason, ConnId, Connections};
use crate::wire::control::{Body, Goodbye, Hello, Join, Leave, Profile, Reason, Watch, put_recipients};
use crate::wire::{Flags, Header, Id, PAYLOAD_BYTES_DEFAULT, Type};

/// Payloads of a soak, in bytes: short messages, and ones that a read or a block of a queue does not hold. The last is
/// what was asked for.
const SIZES: [usize; 4] = [32, 128, 1024, 8192];

/// What the system may take for a slow reader.
const SLOW_BUFFER_BYTES: usize = 64 * 1024;

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
    /// What its clients have agreed on with the relay, where they speak TLS.
    pub(super) agreed: Agreed,
    /// Latencies of all that came on time to those who read, in nanoseconds; and of the interval that goes on.
    pub(super) latencies: Histogram<u64>,
    pub(super) interval: Histogram<u64>,
    pub(super) is_measured: bool,
    /// What the relay queues for a client, as it says.
    pub(super) queue_bytes_max: u64,
    prefix: String,
    login: Option<Login>,
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
    pub(super) fn new(work: &Work, keepalive_ms: Option<u32>, login: Option<Login>, acts: Acts) -> Self {
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
            agreed: Agreed::default(),
            latencies: histogram(),
            interval: histogram(),
            is_measured: false,
            queue_bytes_max: 0,
            prefix: format!("{}soak-{:08x}-", login.as_ref().map(Login::prefix).unwrap_or_default(), fastrand::u32(..)),
            login,
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
        let role = self.groups.role(client);
        let is_host = role == Role::Host;
        if role == Role::Slow
            && let Some(stream) = io.transport(conn)
        {
            // The system would take megabytes for a reader that it has come to know as a fast one, and the relay's queue
            // would be full after minutes only.
            let _ = socket2::SockRef::from(stream).set_recv_buffer_size(SLOW_BUFFER_BYTES);
        }
        let this = &mut self.clients[client as usize];
        (this.conn, this.place, this.visit, this.next_number) = (Some(conn), Place::Arriving, self.visits, 1);
        (this.has_heard_all, this.list) = (false, is_host.then(Box::default));
        let name = format!("{}{client}-{}", self.prefix, this.names);
        let mut hello = Hello::new(Profile::named(&name));
        (hello.payload_bytes_max, hello.keepalive_ms) = (Some(self.payload_bytes_max), self.keepalive_ms);
        self.out.clear();
        if let Some(login) = &mut self.login {
            login.greet(client, &mut hello);
        }
        hello.write_frame(Header::new(Type::Hello), &mut self.out);
        self.flush(io, client, Lane::Control);
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
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
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
        let here: Vec<Id> =
            self.clients.iter().filter(|client| client.place == Place::Here).map(|client| client.id).collect();
        let is_here = |id| here.contains(&id);
        let lists =
            self.clients.iter().filter(|client| client.place == Place::Here).filter_map(|client| client.list.as_ref());
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
    fn emit(
        &mut self,
        io: &mut Connections,
        from: u32,
        header: Header,
        number: u32,
        list: &[u8],
        size: usize,
        time_ns: u64,
    ) {
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
}
