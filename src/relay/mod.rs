//! The relay: who is here and who hears whom.
//!
//! A pure state machine. The server hands it what happened and what time it is ([`Relay::handle`]); what
//! follows from it goes, at once and in order, to an [`Outbox`]: bytes for a client, a close, a deadline. It
//! knows no socket, no poll and no clock, so a test or a simulation drives it exactly as the server does.
//!
//! ```text
//!   Input ─► handle ─┬─ session    HELLO, keepalive, GOODBYE, departures
//!                    ├─ login      who it is: AUTH, answers that come late; takeover: whose name it is
//!                    ├─ delivery   one, several, a room, all; refusals, gaps, receipts
//!                    ├─ presence   WATCH, WHO, UPDATE, the turn's DELTA
//!                    ├─ rooms      JOIN, LEAVE
//!                    └─ access     what users may do; another list of users
//!                         │
//!                         ▼
//!   Peers (who they are)  Rooms (who belongs together; everybody is room 0)  ─► Outbox
//! ```

mod access;
mod counters;
mod delivery;
mod login;
mod outbox;
mod peers;
mod presence;
mod rooms;
mod session;
mod settings;
mod takeover;

pub use counters::{Counters, Denial};
pub use outbox::Outbox;
pub use settings::{Settings, Takeover};

use std::time::Duration;

use crate::auth::Attempts;
use crate::planted::{self, Bug};
use crate::throttle::Throttle;
use crate::time::Time;
use crate::wire::{Code, Flags, FrameError, Header, Id, Run, Type, is_routed};
use access::{Badge, Rights};
use peers::{Peers, State};
use rooms::Rooms;
use takeover::Probe;

/// What has happened to one connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// It has been accepted.
    Connected,
    /// Whole frames have arrived that can be handled as one.
    Frames(Run<'a>),
    /// The stream is not frames any more, or one is longer than agreed.
    Broken(FrameError),
    /// A frame has been incomplete for too long.
    Overdue,
    /// It is the oldest of too many that are not registered.
    CrowdedOut,
    /// It sends more in a second than it may, and is not just to wait for that.
    RateExceeded,
    /// Its client will send no more.
    Ended,
    /// The deadline that was asked for has come.
    Deadline,
    /// So many bytes have been handed to its socket since it was accepted.
    Written(u64),
    /// It is gone. What was queued and not written is handed back.
    Closed {
        /// Why, unless the relay closed it itself.
        code: Option<Code>,
        /// Bytes handed to its socket.
        written: u64,
        /// The header of the frame that was cut off in the middle, if one was.
        cut: &'a [u8],
        /// The frames of which nothing was written.
        unsent: &'a [u8],
    },
}

/// All state of a relay.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    peers: Peers,
    rooms: Rooms,
    counters: Counters,
    random: fastrand::Rng,
    /// The time of day at which the clock stood at zero.
    epoch: Duration,
    /// Recipients of the SEND_MANY that is being handled.
    recipients: Vec<Id>,
    /// A frame that is being written; kept for its memory.
    frame: Vec<u8>,
    /// Lost clients may come by the thousand; the log takes so many lines a second.
    lost_log: Throttle,
    rights: Rights,
    /// Connections that are to show life because another one of their user wants their name.
    probes: Vec<Probe>,
    stopping: bool,
}

impl Relay {
    /// A relay with nobody in it. `seed` decides all jitter; `epoch` is the time of day at time zero.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, epoch: Duration) -> Self {
        let lost_log = Throttle::new(settings.log_lost_per_second_max);
        let rights = Rights::new(Attempts::new(settings.auth.clone()), settings.log_denied_per_second_max);
        Self {
            peers: Peers::new(settings.connections_max),
            rooms: Rooms::new(settings.rooms_max),
            settings,
            counters: Counters::default(),
            random: fastrand::Rng::with_seed(seed),
            epoch,
            recipients: Vec::new(),
            frame: Vec::new(),
            lost_log,
            rights,
            probes: Vec::new(),
            stopping: false,
        }
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The settings that hold.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Registered clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.rooms.everybody().members.len()
    }

    /// Rooms that somebody is in.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// The largest payload that this connection may send, in bytes: little until it is registered.
    #[must_use]
    pub fn payload_bytes_max(&self, from: Id) -> u32 {
        self.peers.get(from).map_or(0, |peer| peer.payload_bytes_max)
    }

    /// Handles what has happened to the connection `from`.
    pub fn handle(&mut self, from: Id, input: Input<'_>, now: Time, out: &mut impl Outbox) {
        match input {
            Input::Frames(run) => self.frames(from, run, now, out),
            Input::Connected => self.connected(from, now, out),
            Input::Broken(error) => self.broken(from, error, now, out),
            Input::Overdue => self.fail(from, Code::FrameTimeout, "", now, out),
            Input::CrowdedOut => self.fail(from, Code::CrowdedOut, "", now, out),
            Input::RateExceeded => self.fail(from, Code::RateExceeded, "", now, out),
            Input::Ended => self.ended(from, now, out),
            Input::Deadline => self.deadline(from, now, out),
            Input::Written(written) => self.written(from, written, out),
            Input::Closed { code, written, cut, unsent } => {
                self.closed(from, code.unwrap_or(Code::HungUp), written, cut, unsent, now, out);
            }
        }
        if self.rooms.pending_bytes > presence::CHANGES_BYTES_MAX {
            self.send_deltas(out);
        }
    }

    fn frames(&mut self, from: Id, run: Run<'_>, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        match peer.state {
            State::Registered => {
                let badge = peer.badge;
                if peer.heard(now) && !planted::has(Bug::AnswerTimed) {
                    // Until now the deadline was that of the answer, which is further away than the next silence.
                    self.answer_asked(from, now, out);
                }
                self.counters.frames_in += u64::from(run.frames);
                self.counters.bytes_in += run.bytes.len() as u64;
                let header = run.header();
                if is_routed(header.type_number, header.destination) {
                    self.route(from, &header, run, badge, now, out);
                } else {
                    self.control(from, &header, run, badge, now, out);
                }
            }
            State::Greeting => self.greet(from, &run, now, out),
            State::Authenticating => self.prove(from, &run, now, out),
            State::Leaving => {}
        }
    }

    /// Handles a frame for the relay itself.
    fn control(&mut self, from: Id, header: &Header, run: Run<'_>, badge: Badge, now: Time, out: &mut impl Outbox) {
        if !matches!(header.frame_type(), Some(Type::SendMany | Type::Pong)) {
            out.charge(from, REQUEST_WORK);
        }
        let payload = run.payload();
        // WATCH, WHO and JOIN have an answer of their own, and get no receipt on top of it.
        let (done, is_answered) = match header.frame_type() {
            Some(Type::SendMany) => return self.send_many(from, header, run, badge, now, out),
            Some(Type::Ping) => return self.ping(from, header, payload, now, out),
            Some(Type::Pong) => return,
            Some(Type::Error) => {
                self.counters.errors_in += 1;
                return;
            }
            Some(Type::Goodbye) => return self.goodbye(from, now, out),
            Some(Type::Hello) => {
                let refused = Refused::because(Code::OutOfOrder, "HELLO has been said already");
                return self.fail_with(from, header.correlation, &refused, now, out);
            }
            Some(Type::Watch) => (self.watch(from, header, payload, out), true),
            Some(Type::Who) => (self.who(from, header, payload, out), true),
            Some(Type::Join) => (self.join(from, header, payload, out), true),
            Some(Type::Unwatch) => (self.unwatch(from, payload), false),
            Some(Type::Update) => (self.update(from, payload, out), false),
            Some(Type::Leave) => (self.leave(from, payload), false),
            Some(Type::Evict) => (self.evict(from, payload, now, out), false),
            _ if header.flags.has(Flags::IGNORABLE) => return,
            _ => (Err(Refused::plain(Code::UnknownType)), false),
        };
        match done {
            Ok(()) if header.flags.has(Flags::RECEIPT) && !is_answered => {
                self.receipt_done(from, header.correlation, out);
            }
            Ok(()) => {}
            Err(refused) => {
                if let Some(denial) = refused.denial {
                    self.note_denial(from, denial, |_| refused.object.clone(), 1, now, out);
                }
                self.refuse_with(from, header.correlation, &refused, out);
            }
        }
    }

    /// Ends a turn: what has changed goes out to those who watch.
    pub fn end_turn(&mut self, out: &mut impl Outbox) {
        self.send_deltas(out);
    }

    /// Compares all state that is kept twice.
    ///
    /// # Panics
    /// If anything disagrees. For tests and simulations: it looks at every client and room.
    pub fn check_consistency(&self) {
        self.peers.check_consistency();
        self.rooms.check_consistency(&self.peers);
        self.check_probes();
    }
}

/// A request is as much work as so many messages: who asks for a thousand rooms has others served in between.
const REQUEST_WORK: usize = 64;

/// Why a request failed, for the ERROR that says so.
#[derive(Debug)]
struct Refused {
    code: Code,
    /// For people; the code's own meaning if it is empty.
    text: String,
    /// What was denied, if that is why.
    denial: Option<Denial>,
    /// Which room, name or client that was, for the log.
    object: String,
}

impl Refused {
    const fn plain(code: Code) -> Self {
        Self { code, text: String::new(), denial: None, object: String::new() }
    }

    fn because(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), denial: None, object: String::new() }
    }

    fn text(&self) -> &str {
        if self.text.is_empty() { self.code.meaning() } else { &self.text }
    }
}
