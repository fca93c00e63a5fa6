//! A client's way from its connection to its end: HELLO, WELCOME, keepalive, GOODBYE, and every other way to go.

use std::time::Duration;

use log::{Level, debug, info, log_enabled, warn};

use super::access::Badge;
use super::counters::Denial;
use super::delivery::send_gap;
use super::outbox::Outbox;
use super::peers::{Peer, State};
use super::rooms::EVERYBODY;
use super::{Refused, Relay};
use crate::auth::{Access, User};
use crate::outgoing::Lane;
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::control::{Body, ErrorBody, Evict, Goodbye, Hello, Member, Ping, Pong, Profile, Reason, Welcome};
use crate::wire::{
    BodyError, Code, FrameError, Header, Id, MECHANISMS_MAX, PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_FLOOR, Run, Tag,
    Type, VERSION, is_valid_name,
};

/// When to look again at what should be over by then: the next tick of the deadlines.
const SOON: Duration = Duration::from_millis(1);

/// A client that may be registered.
pub(super) struct Admission<'a> {
    /// That of its HELLO.
    pub(super) correlation: u32,
    pub(super) hello: &'a Hello<'a>,
    pub(super) badge: Badge,
    /// The relay's own proof, if it has one to give.
    pub(super) proof: Option<&'a str>,
}

impl Relay {
    pub(super) fn connected(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        self.peers.insert(id, now);
        out.set_deadline(id, Some(now + self.settings.hello_deadline));
    }

    /// The first frame of a connection.
    pub(super) fn greet(&mut self, from: Id, run: &Run<'_>, now: Time, out: &mut impl Outbox) {
        let header = run.header();
        let checked = if header.frame_type() == Some(Type::Hello) {
            self.check_hello(run.payload())
        } else {
            Err(Refused::because(Code::OutOfOrder, "the first frame must be a HELLO"))
        };
        let greeted = checked.and_then(|hello| {
            if self.rights.users().is_some() {
                return self.begin_login(from, run, &hello, now, out);
            }
            if self.peers.named(hello.profile.name.unwrap_or_default()).is_some() {
                return Err(Refused::plain(Code::HelloNameTaken));
            }
            let (correlation, badge) = (header.correlation, self.rights.nobody());
            self.welcome(from, &Admission { correlation, hello: &hello, badge, proof: None }, now, out);
            Ok(())
        });
        if let Err(refused) = greeted {
            self.fail_with(from, header.correlation, &refused, now, out);
        }
    }

    fn check_hello<'a>(&self, payload: &'a [u8]) -> Result<Hello<'a>, Refused> {
        let (min, max) = Hello::versions(payload).ok_or(Refused::plain(Code::NotSwitchboard))?;
        if min > VERSION || max < VERSION {
            return Err(Refused::plain(Code::BadVersion));
        }
        if self.stopping {
            return Err(Refused::plain(Code::ShuttingDown));
        }
        let hello = Hello::parse(payload).map_err(|error| match Refused::from(error) {
            refused if refused.code == Code::BadName => Refused { code: Code::HelloBadName, ..refused },
            refused => Refused { code: Code::BadHello, ..refused },
        })?;
        let name = hello.profile.name.unwrap_or_default();
        if !is_valid_name(name) {
            return Err(Refused::plain(Code::HelloBadName));
        }
        Ok(hello)
    }

    /// Registers a client whose name is free.
    pub(super) fn welcome(&mut self, id: Id, admission: &Admission<'_>, now: Time, out: &mut impl Outbox) {
        let Admission { correlation, hello, badge, proof } = *admission;
        let mut address = String::new();
        out.put_address(id, &mut address);
        let settings = &self.settings;
        let wish = hello.payload_bytes_max.unwrap_or(PAYLOAD_BYTES_DEFAULT).max(PAYLOAD_BYTES_FLOOR);
        let payload_bytes_max = wish.min(settings.payload_bytes_max);
        let wish = hello.keepalive_ms.map_or(settings.keepalive, |ms| Duration::from_millis(ms.into()));
        let keepalive = wish.clamp(settings.keepalive_min, settings.keepalive_max);
        let keepalive_ms = u32::try_from(keepalive.as_millis()).unwrap_or(u32::MAX);

        let card = card(&hello.profile, &address);
        self.peers.set_card(id, card);
        let Some(peer) = self.peers.get_mut(id) else { return };
        debug_assert!(peer.extra.is_none() || peer.has_gap, "what was kept for the login of {id} is kept on");
        peer.state = State::Registered;
        peer.badge = badge;
        peer.payload_bytes_max = payload_bytes_max;
        peer.keepalive_ms = keepalive_ms;
        peer.heard(now);
        let user = self.rights.user(badge).map(|user| user.name().to_owned());
        let welcome = Welcome {
            version: VERSION,
            client: id,
            payload_bytes_max,
            keepalive_ms,
            queue_bytes_max: settings.queue_bytes_max as u64,
            clock_us: now.micros(),
            epoch_us: self.epoch.as_micros() as u64,
            address: &address,
            agent: &settings.agent.clone(),
            user: user.as_deref(),
            auth_data: proof.map(str::as_bytes),
        };
        let header = Header::new(Type::Welcome).to(id).correlating(correlation);
        self.say(id, out, |frame| welcome.write_frame(header, frame));
        out.settle(id);
        self.enter(id, EVERYBODY);
        self.counters.registered += 1;
        self.watch_silence(id, now, out);
        let name = hello.profile.name.unwrap_or_default();
        match user {
            Some(user) => debug!("{id} {name:?} of the user {user:?} from {address} is here"),
            None => debug!("{id} {name:?} from {address} is here"),
        }
    }

    /// A client has answered that was asked for a sign of life.
    #[inline(never)]
    pub(super) fn answer_asked(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        self.watch_silence(id, now, out);
        self.show_life(id, now, out);
    }

    /// Has a client looked at when it has been silent for its keepalive.
    pub(super) fn watch_silence(&mut self, id: Id, heard: Time, out: &mut impl Outbox) {
        let Some(keepalive_ms) = self.peers.get(id).map(|peer| peer.keepalive_ms) else { return };
        let at = heard + self.jittered(keepalive_ms);
        out.set_deadline(id, Some(at));
    }

    /// The keepalive less up to a tenth: clients that came together are not pinged together for ever.
    fn jittered(&mut self, keepalive_ms: u32) -> Duration {
        Duration::from_millis((keepalive_ms - self.random.u32(0..=keepalive_ms / 10)).into())
    }

    /// The deadline of a connection: for its HELLO, for the next step of its login, or for any sign of life.
    pub(super) fn deadline(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get(id) else { return };
        match peer.state {
            State::Greeting => self.fail(id, Code::HelloTimeout, "", now, out),
            State::Authenticating => self.go_on(id, now, out),
            State::Registered => self.check_life(id, now, out),
            State::Leaving => {}
        }
    }

    fn check_life(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let keepalive = Duration::from_millis(peer.keepalive_ms.into());
        let (heard, idle) = (peer.last_heard(), now.since(peer.last_heard()));
        if out.is_blocked(id) || out.is_receiving(id) {
            // A PING would wait behind what it has not read yet; the write deadline watches that. One that is
            // on its way may wait there too, so it does not count.
            peer.is_asked = false;
            out.set_deadline(id, Some(now + keepalive));
        } else if out.queued_bytes(id) > 0 {
            // Only until the end of this turn, most likely.
            out.set_deadline(id, Some(now + SOON));
        } else if peer.is_asked && idle >= keepalive * 2 {
            self.fail(id, Code::IdleTimeout, "", now, out);
        } else if idle >= keepalive * 9 / 10 {
            // Nobody is given up unasked: who only listens has said nothing for as long as its queue was busy.
            peer.is_asked = true;
            self.counters.pings += 1;
            let ping = Ping { clock_us: Some(now.micros()) };
            self.say(id, out, |frame| ping.write_frame(Header::new(Type::Ping).to(id), frame));
            out.set_deadline(id, Some((heard + keepalive * 2).max(now + keepalive)));
        } else {
            self.watch_silence(id, heard, out);
        }
    }

    pub(super) fn ping(&mut self, from: Id, header: &Header, payload: &[u8], now: Time, out: &mut impl Outbox) {
        match Ping::parse(payload) {
            Ok(Ping { clock_us }) => {
                let pong = Pong { ping_clock_us: clock_us, clock_us: Some(now.micros()) };
                let header = Header::new(Type::Pong).to(from).correlating(header.correlation);
                self.say(from, out, |frame| pong.write_frame(header, frame));
            }
            Err(error) => self.refuse_with(from, header.correlation, &error.into(), out),
        }
    }

    pub(super) fn goodbye(&mut self, from: Id, now: Time, out: &mut impl Outbox) {
        self.leave_in_order(from, Code::Left, now, out);
    }

    /// The client will send no more; what is queued for it is still written.
    pub(super) fn ended(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        self.leave_in_order(id, Code::HungUp, now, out);
    }

    /// Lets a client go that reads to the end: what it has missed is the last that it is told.
    fn leave_in_order(&mut self, id: Id, code: Code, now: Time, out: &mut impl Outbox) {
        let is_told = |peer: &&mut Peer| peer.has_gap && !planted::has(Bug::LastGapForgotten);
        if let Some(peer) = self.peers.registered(id).filter(is_told) {
            send_gap(peer, Lane::Answer, &mut self.counters, out);
        }
        self.depart(id, code, now, out);
        out.close(id);
    }

    /// EVICT: ends another client's connection. Nobody may at a relay without users: there everybody could.
    pub(super) fn evict(&mut self, from: Id, payload: &[u8], now: Time, out: &mut impl Outbox) -> Result<(), Refused> {
        let Evict { client, text } = Evict::parse(payload)?;
        if !self.access(from).is_some_and(Access::may_administer) {
            return Err(Refused::denied(Denial::Administer, self.described(client)));
        }
        if client == from {
            return Err(Refused::because(Code::BadBody, "a client leaves with GOODBYE"));
        }
        let Some(peer) = self.peers.registered(client) else { return Err(Refused::plain(Code::NoSuchClient)) };
        let name = peer.name().to_owned();
        let user = self.peers.get(from).and_then(|peer| self.rights.user(peer.badge)).map_or("", User::name);
        info!("{from} of the user {user:?} evicts {client} {name:?}: {text:?}");
        self.fail(client, Code::Evicted, text, now, out);
        Ok(())
    }

    pub(super) fn broken(&mut self, id: Id, error: FrameError, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get(id) else { return };
        let code = match error {
            // Another protocol's first bytes are a length like any other.
            _ if peer.state == State::Greeting => Code::NotSwitchboard,
            FrameError::Malformed { .. } => Code::BadFrame,
            FrameError::TooLarge { .. } => Code::FrameTooLarge,
        };
        self.fail(id, code, &error.to_string(), now, out);
    }

    /// Closes a connection with an ERROR that no frame is to blame for; `text` may be empty.
    pub(super) fn fail(&mut self, id: Id, code: Code, text: &str, now: Time, out: &mut impl Outbox) {
        self.fail_with(id, 0, &Refused::because(code, text), now, out);
    }

    /// Closes a connection with an ERROR that says why and names the frame at fault.
    pub(super) fn fail_with(&mut self, id: Id, correlation: u32, refused: &Refused, now: Time, out: &mut impl Outbox) {
        let code = refused.code;
        let versions = (code == Code::BadVersion).then_some((VERSION, VERSION));
        let retry_ms = code.has_delay().then(|| self.retry_ms_after(id, code, now, out));
        let mut mechanisms = [None; MECHANISMS_MAX];
        if matches!(code, Code::AuthRequired | Code::BadMechanism) {
            let offered = self.offered(id, out);
            mechanisms.iter_mut().zip(offered).for_each(|(place, mechanism)| *place = Some(mechanism.name()));
        }
        if let Some(denial) = refused.denial {
            self.note_denial(id, denial, |_| refused.object.clone(), 1, now, out);
        }
        let reason = Reason { retry_ms, versions, mechanisms, ..Reason::new(code, refused.text()) };
        // An id says how many have come, and is nobody's business before it has one.
        let to = if self.peers.registered(id).is_some() { id } else { Id::RELAY };
        let header = Header::new(Type::Error).to(to).correlating(correlation);
        self.say(id, out, |frame| ErrorBody(reason).write_frame(header, frame));
        self.depart(id, code, now, out);
        out.close(id);
    }

    /// Takes a client out of everything that others can see of it. What is queued for it stays.
    fn depart(&mut self, id: Id, code: Code, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.state != State::Leaving) else { return };
        let was_registered = peer.state == State::Registered;
        peer.state = State::Leaving;
        self.counters.closed[code.ordinal()] += 1;
        out.set_deadline(id, None);
        if was_registered {
            self.log_departure(id, code, now);
            if code == Code::Left || !planted::has(Bug::NameKept) {
                self.peers.forget_name(id);
            }
            while let Some(room) = self.peers.get(id).and_then(Peer::any_room) {
                self.exit(id, room, code);
            }
            self.exit(id, EVERYBODY, code);
        } else {
            self.peers.take_login(id);
            if log_enabled!(Level::Debug) {
                let mut address = String::new();
                out.put_address(id, &mut address);
                debug!("{id} at {address} ended before it was registered: {code}");
            }
        }
        if !self.probes.is_empty() {
            self.end_probes(id, now, out);
        }
    }

    fn log_departure(&mut self, id: Id, code: Code, now: Time) {
        let held_back = self.lost_log.take_held_back(now);
        if held_back > 0 {
            warn!("{held_back} more clients were lost or had to go");
        }
        let Some(peer) = self.peers.get(id) else { return };
        let name = peer.name();
        // Whoever was evicted has a line that says by whom.
        if matches!(code, Code::Left | Code::ShuttingDown | Code::Evicted) {
            debug!("{id} {name:?} has left: {code}");
        } else if self.lost_log.admit(now) {
            let address = peer.member().map(|member| member.address.to_owned()).unwrap_or_default();
            if matches!(code, Code::TakenOver | Code::AccessChanged) {
                let user = self.rights.user(peer.badge).map_or("", User::name);
                info!("{id} {name:?} of the user {user:?} at {address} had to go: {code}");
            } else {
                let idle = now.since(peer.last_heard());
                warn!("lost {id} {name:?} at {address}: {code}, last heard {:.1} s ago", idle.as_secs_f64());
            }
        }
    }

    /// A connection is gone; `code` counts unless the relay closed it itself.
    #[allow(clippy::too_many_arguments, reason = "the parts of one input")]
    pub(super) fn closed(
        &mut self,
        id: Id,
        code: Code,
        written: u64,
        cut: &[u8],
        unsent: &[u8],
        now: Time,
        out: &mut impl Outbox,
    ) {
        self.depart(id, code, now, out);
        self.written(id, written, out);
        self.give_back(id, cut, unsent, out);
        self.peers.remove(id);
    }

    /// When a client may come back, in milliseconds: another time for each, so that they do not come together.
    pub fn retry_ms(&mut self) -> u32 {
        let mean = u32::try_from(self.settings.retry_delay.as_millis()).unwrap_or(u32::MAX).min(u32::MAX / 2);
        mean / 2 + self.random.u32(0..=mean)
    }

    /// The same after a certain end: who has failed too often is told when that is forgotten.
    fn retry_ms_after(&mut self, id: Id, code: Code, now: Time, out: &impl Outbox) -> u32 {
        let refusal = (code == Code::TooManyAttempts).then(|| self.rights.attempts.refusal(out.origin(id), now));
        let least = u32::try_from(refusal.flatten().unwrap_or_default().as_millis()).unwrap_or(u32::MAX);
        least.saturating_add(self.retry_ms())
    }

    /// Says GOODBYE to all and closes them; whoever connects from now on is refused.
    pub fn shut_down(&mut self, now: Time, out: &mut impl Outbox) {
        self.stopping = true;
        self.rooms.forget_watchers();
        let ids: Vec<(Id, State)> = self.peers.iter().map(|peer| (peer.id, peer.state)).collect();
        for (id, state) in ids {
            match state {
                State::Registered => {
                    let retry_ms = Some(self.retry_ms());
                    let reason = Reason { retry_ms, ..Reason::new(Code::ShuttingDown, Code::ShuttingDown.meaning()) };
                    self.say(id, out, |frame| Goodbye(reason).write_frame(Header::new(Type::Goodbye).to(id), frame));
                    self.depart(id, Code::ShuttingDown, now, out);
                    out.close(id);
                }
                State::Greeting | State::Authenticating => self.fail(id, Code::ShuttingDown, "", now, out),
                State::Leaving => {}
            }
        }
    }
}

/// What others are told of a client. What it has left empty is as if it had not been said.
pub(super) fn card(profile: &Profile<'_>, address: &str) -> Box<[u8]> {
    let profile = Profile {
        name: profile.name,
        station: profile.station.filter(|station| !station.is_empty()),
        endpoints: profile.endpoints.map(|endpoint| endpoint.filter(|text| !text.is_empty())),
        details: profile.details.filter(|details| !details.is_empty()),
    };
    let mut card = Vec::new();
    Member { client: Id::RELAY, profile, address, code_number: 0 }.write_card(&mut card);
    card.into_boxed_slice()
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLong(Tag::NAME) | BodyError::BadText(Tag::NAME) => Code::BadName,
            _ => Code::BadBody,
        };
        Self::because(code, error.to_string())
    }
}
