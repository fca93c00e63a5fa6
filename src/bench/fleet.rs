//! The clients of a run: a service on the reactor that greets, sends what the flows allow, and checks what
//! arrives.
//!
//! It knows no scenario: the rig says who comes, who sends what to whom, and when to stop.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::dialect::{Dialect, Event, Role};
use super::flows::Flows;
use super::payload::Payloads;
use super::schedule::Schedule;
use super::tls::{Agreed, Tls};
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::reactor::{CloseReason, ConnId, Connections, Progress, Service, Unsent};
use crate::time::Time;

/// Frames that schedules may send in a turn: what is overdue after a stall must not stall the next turn.
const SCHEDULED_TURN_MAX: usize = 1024;
/// Bytes of frames that are handed to the reactor at once.
const BATCH_BYTES: usize = 256 * 1024;
/// A latency is at least a nanosecond and at most an hour. With bounds, nothing is allocated in a run.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Absent,
    /// It is connecting, or has not been registered yet.
    Arriving,
    Ready,
    /// It has been told to go.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    conn: Option<ConnId>,
    role: Role,
    stage: Stage,
    /// When it should have begun to connect.
    due_ns: u64,
}

/// How the clients fare, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Those that are registered.
    pub(super) ready: u32,
    /// Those that are on their way to it.
    pub(super) arriving: u32,
    /// Those that have said goodbye and wait for the end.
    pub(super) leaving: u32,
    /// Registrations so far.
    pub(super) arrivals: u64,
    /// Ends that nobody on this side asked for.
    pub(super) broken: u64,
}

/// A part of a scenario whose latencies are measured: those of the frames that should have been sent in it,
/// whenever they arrive. If only what arrives in it were measured, a server would look the better the more it has
/// left undone at the end.
#[derive(Debug)]
pub(super) struct Part {
    /// Its name in the report.
    pub(super) name: &'static str,
    from_ns: u64,
    until_ns: u64,
    /// In nanoseconds: from the time when each frame should have been sent.
    pub(super) latencies: Histogram<u64>,
}

/// All clients of a run.
#[derive(Debug)]
pub(super) struct Fleet<D> {
    dialect: D,
    /// Who sends what to whom, and what became of it.
    pub(super) flows: Flows,
    /// What sends by the clock.
    pub(super) schedules: Vec<Schedule>,
    /// What is measured, in the order of time; one at a time.
    pub(super) parts: Vec<Part>,
    /// Times from the moment when a client should have connected to its registration, in nanoseconds.
    pub(super) registrations: Histogram<u64>,
    /// How the clients fare.
    pub(super) census: Census,
    /// What went wrong first, in the server's words or in ours.
    pub(super) complaint: Option<String>,
    /// So much waits for the server to read it that no more is kept.
    pub(super) is_full: bool,
    clients: Vec<Client>,
    /// Which client a slot of the reactor belongs to.
    slots: Vec<u32>,
    /// How all of them speak TLS, if they do.
    tls: Option<Tls>,
    /// What they have agreed on with the server.
    pub(super) agreed: Agreed,
    payloads: Payloads,
    zero: Instant,
    sending: bool,
    out: Vec<u8>,
    reply: Vec<u8>,
}

impl<D: Dialect> Fleet<D> {
    /// A fleet of so many clients, none of which has come yet, whose messages carry `size` bytes.
    pub(super) fn new(dialect: D, clients: u32, size: usize) -> Self {
        let absent = Client { conn: None, role: Role::default(), stage: Stage::Absent, due_ns: 0 };
        Self {
            dialect,
            flows: Flows::new(clients),
            schedules: Vec::new(),
            parts: Vec::new(),
            registrations: histogram(),
            census: Census::default(),
            complaint: None,
            is_full: false,
            clients: vec![absent; clients as usize],
            slots: Vec::new(),
            tls: None,
            agreed: Agreed::default(),
            payloads: Payloads::new(size),
            zero: Instant::now(),
            sending: false,
            out: Vec::new(),
            reply: Vec::new(),
        }
    }

    /// Has all clients speak TLS.
    pub(super) fn over(mut self, tls: Option<&Tls>) -> Self {
        self.tls = tls.cloned();
        self
    }

    /// Nanoseconds on the clock of the run.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Measures the frames that should be sent from now on, apart from those before.
    pub(super) fn begin_part(&mut self, name: &'static str) {
        self.end_part();
        let from_ns = self.now_ns();
        self.parts.push(Part { name, from_ns, until_ns: u64::MAX, latencies: histogram() });
    }

    /// Measures nothing that should be sent from now on.
    pub(super) fn end_part(&mut self) {
        let now_ns = self.now_ns();
        if let Some(part) = self.parts.last_mut() {
            part.until_ns = part.until_ns.min(now_ns);
        }
    }

    /// Frames that should have been sent by now, and were not.
    pub(super) fn overdue(&self) -> u64 {
        let now_ns = self.now_ns();
        self.schedules.iter().map(|schedule| schedule.overdue(now_ns)).sum()
    }

    /// Says what a client is there for, before it comes.
    pub(super) fn assign(&mut self, client: u32, role: Role) {
        self.clients[client as usize].role = role;
    }

    /// A client has been connected as `conn`; it should have been at `due_ns`.
    pub(super) fn connected(&mut self, io: &mut Connections, client: u32, conn: ConnId, due_ns: u64) {
        if self.slots.len() <= conn.index() {
            self.slots.resize(conn.index() + 1, u32::MAX);
        }
        self.slots[conn.index()] = client;
        let this = &mut self.clients[client as usize];
        (this.conn, this.stage, this.due_ns) = (Some(conn), Stage::Arriving, due_ns);
        self.census.arriving += 1;
        if self.tls.as_ref().is_some_and(Tls::is_behind_line) {
            return; // The server speaks first.
        }
        self.greet(io, client, conn);
        if !D::ANSWERS && self.tls.is_none() {
            self.registered(client);
        }
    }

    fn greet(&mut self, io: &mut Connections, client: u32, conn: ConnId) {
        self.out.clear();
        self.dialect.greet(client, self.clients[client as usize].role, &mut self.out);
        let _ = io.send(conn, &mut Outgoing::to_one(&self.out), Lane::Control);
    }

    /// Begins TLS once the line that the server says before it has come.
    fn begin_tls(&mut self, io: &mut Connections, client: u32, conn: ConnId, data: &[u8]) -> Progress {
        let Some(tls) = self.tls.as_ref().filter(|_| data.ends_with(b"\n")) else {
            return Progress { consumed: 0, wanted: 0 };
        };
        match io.start_tls(conn, tls.role()) {
            Ok(()) => self.greet(io, client, conn),
            Err(error) => {
                self.complain(&error.to_string());
                io.abort(conn, CloseReason::Aborted);
            }
        }
        Progress::all(data)
    }

    /// Whether a client has no connection.
    pub(super) fn is_absent(&self, client: u32) -> bool {
        self.clients[client as usize].stage == Stage::Absent
    }

    /// Whether a client is registered.
    pub(super) fn is_ready(&self, client: u32) -> bool {
        self.clients[client as usize].stage == Stage::Ready
    }

    /// A registered client says goodbye and waits for the server to close.
    pub(super) fn leave(&mut self, io: &mut Connections, client: u32) {
        let this = &mut self.clients[client as usize];
        let Some(conn) = this.conn.filter(|_| this.stage == Stage::Ready) else { return };
        this.stage = Stage::Leaving;
        self.census.ready -= 1;
        self.census.leaving += 1;
        self.out.clear();
        self.dialect.leave(client, &mut self.out);
        if self.out.is_empty() {
            io.close(conn);
        } else {
            let _ = io.send(conn, &mut Outgoing::to_one(&self.out), Lane::Control);
        }
    }

    /// A client is gone without a word, as if its machine had been switched off.
    pub(super) fn drop_client(&mut self, io: &mut Connections, client: u32) {
        let this = &mut self.clients[client as usize];
        let Some(conn) = this.conn else { return };
        match this.stage {
            Stage::Ready => self.census.ready -= 1,
            Stage::Arriving => self.census.arriving -= 1,
            Stage::Leaving | Stage::Absent => return,
        }
        this.stage = Stage::Leaving;
        self.census.leaving += 1;
        io.abort(conn, CloseReason::Aborted);
    }

    /// A client reads no more, or reads on.
    pub(super) fn stall(&mut self, io: &mut Connections, client: u32, stalled: bool) {
        if let Some(conn) = self.clients[client as usize].conn {
            if stalled { io.pause(conn) } else { io.resume(conn) }
        }
    }

    /// Lets the flows send, from now on.
    pub(super) fn start(&mut self, io: &mut Connections) {
        self.sending = true;
        let now_ns = self.now_ns();
        self.refill(io, now_ns);
    }

    /// Sends nothing new from here on.
    pub(super) fn stop(&mut self) {
        self.sending = false;
        self.flows.stop();
        self.schedules.clear();
    }

    /// How long nothing has to be sent by the clock; `None`: for ever.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.schedules.iter().filter_map(Schedule::due_ns).min().filter(|_| self.sending)?;
        Some(Duration::from_nanos(next.saturating_sub(self.now_ns())))
    }

    fn registered(&mut self, client: u32) {
        let now_ns = self.now_ns();
        let this = &mut self.clients[client as usize];
        if this.stage == Stage::Arriving {
            this.stage = Stage::Ready;
            self.census.arriving -= 1;
            self.census.ready += 1;
            self.census.arrivals += 1;
            record(&mut self.registrations, now_ns.saturating_sub(this.due_ns));
        }
    }

    /// Sends what the windows allow.
    fn refill(&mut self, io: &mut Connections, now_ns: u64) {
        if !self.sending {
            return;
        }
        while let Some((flow, mut room)) = self.flows.next_with_room() {
            let (sender, to) = self.flows.ends(flow);
            let Some(conn) = self.clients[sender as usize].conn else { continue };
            while room > 0 {
                self.out.clear();
                while room > 0 && self.out.len() < BATCH_BYTES {
                    let stamp = self.flows.send(flow, now_ns);
                    let payload = self.payloads.stamped(stamp);
                    self.dialect.send(sender, to, stamp.number, payload, &mut self.out);
                    room -= 1;
                }
                // If the connection has ended the frames are missing in the account, which says so.
                if io.send(conn, &mut Outgoing::to_one(&self.out), Lane::Traffic) == Err(SendError::Full) {
                    self.is_full = true;
                    return;
                }
            }
        }
    }

    /// Sends what is due by the clock.
    fn send_due(&mut self, io: &mut Connections) {
        let now_ns = self.now_ns();
        let mut left = SCHEDULED_TURN_MAX;
        for schedule in &mut self.schedules {
            while left > 0
                && let Some((flow, time_ns)) = schedule.next_due(now_ns)
            {
                left -= 1;
                let (sender, to) = self.flows.ends(flow);
                let Some(conn) = self.clients[sender as usize].conn else { continue };
                let stamp = self.flows.send(flow, time_ns);
                self.out.clear();
                self.dialect.send(sender, to, stamp.number, self.payloads.stamped(stamp), &mut self.out);
                // If it fails the frame is missing in the account, which says so.
                if io.send(conn, &mut Outgoing::to_one(&self.out), Lane::Traffic) == Err(SendError::Full) {
                    self.is_full = true;
                    return;
                }
            }
        }
    }

    fn complain(&mut self, what: &str) {
        if self.complaint.is_none() {
            self.complaint = Some(what.to_owned());
        }
    }
}

impl<D: Dialect> Service for Fleet<D> {
    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        let Some(&client) = self.slots.get(conn.index()).filter(|client| **client != u32::MAX) else {
            return Progress::all(data);
        };
        if self.tls.as_ref().is_some_and(Tls::is_behind_line) && !io.is_encrypted(conn) {
            return self.begin_tls(io, client, conn, data);
        }
        let now_ns = self.now_ns();
        let (mut ready, mut ending) = (false, None);
        self.reply.clear();
        let Self { dialect, flows, payloads, parts, reply, .. } = self;
        let result = dialect.read(client, data, reply, &mut |event| match event {
            Event::Ready => ready = true,
            Event::Delivered(payload) => match payloads.read(payload) {
                Some(stamp) if flows.delivered_to(client, stamp, payload.len()) => {
                    let mut parts = parts.iter_mut().rev();
                    if flows.is_measured(stamp.flow)
                        && let Some(part) = parts.find(|part| (part.from_ns..part.until_ns).contains(&stamp.time_ns))
                    {
                        record(&mut part.latencies, now_ns.saturating_sub(stamp.time_ns));
                    }
                }
                Some(_) => {}
                None => flows.damaged(),
            },
            Event::Refused { number, why } => flows.refused_to(client, number, why),
            Event::Missed(frames) => flows.missed_by(client, frames),
            Event::Ending(why) => ending = Some(why.to_owned()),
        });
        if let Some(why) = ending {
            self.complain(&why);
        }
        let progress = match result {
            Ok(progress) => progress,
            Err(why) => {
                self.complain(&why);
                io.abort(conn, CloseReason::Aborted);
                return Progress::all(data);
            }
        };
        if ready {
            self.registered(client);
        }
        if !self.reply.is_empty()
            && io.send(conn, &mut Outgoing::to_one(&self.reply), Lane::Control) == Err(SendError::Full)
        {
            self.is_full = true;
        }
        self.refill(io, now_ns);
        progress
    }

    fn on_established(&mut self, io: &mut Connections, conn: ConnId, _: Time) {
        self.agreed.note(io.tls_terms(conn));
        let client = self.slots.get(conn.index()).copied().filter(|client| *client != u32::MAX);
        if let Some(client) = client.filter(|_| !D::ANSWERS) {
            self.registered(client);
            if D::LEAVES {
                self.leave(io, client);
            }
        }
    }

    fn on_close(&mut self, _: &mut Connections, conn: ConnId, reason: CloseReason, _: Unsent<'_>, _: Time) {
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        let client = std::mem::replace(slot, u32::MAX);
        let Some(this) = self.clients.get_mut(client as usize).filter(|this| this.conn == Some(conn)) else { return };
        this.conn = None;
        match std::mem::replace(&mut this.stage, Stage::Absent) {
            Stage::Leaving => {
                self.census.leaving -= 1;
                return;
            }
            Stage::Ready => self.census.ready -= 1,
            Stage::Arriving => self.census.arriving -= 1,
            Stage::Absent => {}
        }
        self.census.broken += 1;
        self.complain(what_broke(reason));
    }

    fn on_turn_end(&mut self, io: &mut Connections, _: Time) {
        if self.sending && !self.schedules.is_empty() {
            self.send_due(io);
        }
    }
}

/// An empty histogram of times in nanoseconds: three digits, up to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("its bounds are constants")
}

fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.max(1));
}

/// Why a connection broke, for people.
pub(in crate::bench) const fn what_broke(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Unreachable => "nobody listens there, or nobody answers",
        CloseReason::Reset => "a connection was reset",
        CloseReason::InputOverdue => "a message was begun and not completed in time",
        CloseReason::InputTooLarge => "a message is larger than this client takes",
        CloseReason::MemoryPressure => "more waits here for the server to read it than is kept",
        CloseReason::TlsFailed => "the server and a client could not agree on TLS",
        CloseReason::WriteOverdue => "the server does not read what it is sent",
        _ => "the server closed a connection",
    }
}
