//! The turn of the loop: poll, read, expire, end of turn, flush, reap, accept.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::ServerConfig;

use super::admission::{Admitted, tell};
use super::connection::flag;
use super::connector::{self, Outbound};
use super::listener::{Listener, Reserve, concerns_one_connection, is_out_of_descriptors};
use super::notices::Notice;
use super::tls::Session;
use super::{
    Clock, ConnId, Connections, Counters, Endpoint, Engine, Limits, PeerAddr, Readiness, Refusal, Service,
    SocketOptions, Stream, TlsRole, Transport,
};
use crate::time::Time;

/// Events taken from the system at once: it hands them out in the order in which they came, so that when thousands
/// of connections end at once, what the others have sent waits behind all of that.
const EVENTS_MAX: usize = 4096;

/// A poll, its listeners and its connections: everything that one thread serves.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    clock: Clock,
    engine: Engine<Stream>,
    listeners: Vec<Listener>,
    reserve: Reserve,
    sources: usize,
    /// When this turn began, or the last one.
    turned: Time,
    /// How much of it was spent on handshakes.
    entered: Duration,
    /// When it was last noted what this thread had computed, and what that was.
    noted: (Time, Duration),
}

/// A turn or a wait that takes so much longer than its wait and its work is not the peers' doing: the process was
/// stopped, or its machine was. What a busy machine does is shorter.
const STALL_MIN: Duration = Duration::from_secs(1);
/// How often it is noted what this thread has computed: asking the system in each turn would cost more than all other
/// clocks together.
const NOTE_INTERVAL: Duration = Duration::from_millis(250);

/// A connection that comes or goes takes 20 to 100 microseconds in all, with what it says and what others are told. One for
/// each so many that the last turn took, its handshakes left out: a storm gets up to a fifth of the time of a busy loop, and
/// never feeds itself.
const STORM_SHARE_US: usize = 512;

/// Listeners and the program's own sources share the tokens of generation 0, which no connection has.
const SOURCE_BASE: usize = 1 << 16;

impl Reactor {
    /// A reactor for services of type `S` that listens nowhere yet.
    ///
    /// # Errors
    /// The system grants no poll.
    pub fn new<S: Service>(limits: Limits) -> io::Result<Self> {
        const { assert!(usize::BITS >= 64, "a token holds a slot and its generation") };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            clock: Clock::new(),
            engine: Engine::new::<S>(limits),
            listeners: Vec::new(),
            reserve: Reserve::new(),
            sources: 0,
            turned: Time::ZERO,
            entered: Duration::ZERO,
            noted: (Time::ZERO, Duration::ZERO),
        })
    }

    /// Listens at `endpoint`, and says where that really is. Listeners are numbered from 0 in the order of
    /// these calls.
    ///
    /// # Errors
    /// The system's, as of bind(2) and listen(2).
    pub fn listen(&mut self, endpoint: &Endpoint, options: SocketOptions) -> io::Result<Endpoint> {
        let mut listener = Listener::bind(endpoint, options)?;
        listener.register(self.poll.registry(), Token(self.listeners.len()))?;
        let endpoint = listener.endpoint.clone();
        self.listeners.push(listener);
        Ok(endpoint)
    }

    /// Has [`Service::on_source`] called when `source` is readable, with the number that is returned.
    ///
    /// # Errors
    /// The system cannot poll this source.
    pub fn watch(&mut self, source: &mut impl Source) -> io::Result<usize> {
        let number = self.sources;
        self.poll.registry().register(source, Token(SOURCE_BASE + number), Interest::READABLE)?;
        self.sources += 1;
        Ok(number)
    }

    /// Begins a connection to `endpoint`, over IP from the address `source` if one is given. What is sent to it
    /// before it stands waits in its queue; if it cannot be made it ends as [`super::CloseReason::Unreachable`]. It is
    /// not refused for [`Limits::connections_max`], but takes one of those places.
    ///
    /// # Errors
    /// The system's: what it knows at once of an endpoint that cannot be reached, or that no descriptor is left.
    pub fn connect(&mut self, endpoint: &Endpoint, source: Option<IpAddr>) -> io::Result<ConnId> {
        let Outbound { stream, peer, stands } = connector::begin(endpoint, source)?;
        let register = |stream: &mut Stream, conn| register(self.poll.registry(), stream, conn);
        let conn = self.engine.open(stream, peer, register)?;
        if !stands {
            self.engine.connections.slots[conn.index()].set(flag::BLOCKED | flag::CONNECTING, true);
        }
        Ok(conn)
    }

    /// As [`Reactor::connect`], with TLS: what is sent waits until it is agreed on.
    ///
    /// # Errors
    /// As [`Reactor::connect`], and those of a configuration with which TLS cannot begin.
    pub fn connect_tls(&mut self, endpoint: &Endpoint, source: Option<IpAddr>, role: TlsRole) -> io::Result<ConnId> {
        let session = Session::new(role).map_err(io::Error::other)?;
        let conn = self.connect(endpoint, source)?;
        self.engine.connections.put_session(conn, session);
        Ok(conn)
    }

    /// How TLS is spoken with those who come to a listener from now on, by the number of [`Reactor::listen`].
    pub fn set_tls(&mut self, listener: usize, config: Option<Arc<ServerConfig>>) {
        self.engine.set_tls(listener, config);
    }

    /// The clock of the loop.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When the last turn began, without a look at the clock; before the first one the time.
    #[must_use]
    pub fn turned(&self) -> Time {
        if self.turned == Time::ZERO { self.clock.now() } else { self.turned }
    }

    /// The connections.
    pub const fn connections(&mut self) -> &mut Connections<Stream> {
        &mut self.engine.connections
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        self.engine.counters()
    }

    /// Runs turns for ever.
    ///
    /// # Errors
    /// The poll itself has failed: nothing a peer can cause.
    pub fn run<S: Service>(&mut self, service: &mut S) -> io::Result<()> {
        loop {
            self.turn(service, None)?;
        }
    }

    /// Runs one turn, waiting at most `wait` for something to happen.
    ///
    /// # Errors
    /// The poll itself has failed.
    pub fn turn<S: Service>(&mut self, service: &mut S, wait: Option<Duration>) -> io::Result<()> {
        let now = self.poll(service, wait)?;
        self.engine.read(service, now);
        // Handshakes can cost milliseconds each, if the key is long. The turn must not seem busy for that, or the storm's
        // share of it would grow by the storm itself.
        self.entered = if self.engine.has_entering() {
            let began = self.clock.now();
            self.engine.enter_some(service, now);
            self.clock.now().since(began)
        } else {
            Duration::ZERO
        };
        self.engine.finish_turn(service, now);
        if !self.engine.connections.listening {
            self.listeners.clear();
        }
        self.accept(service, now);
        Ok(())
    }

    fn poll<S: Service>(&mut self, service: &mut S, wait: Option<Duration>) -> io::Result<Time> {
        // Before the first turn the program did what it had to, for as long as it liked.
        let now = if self.turned == Time::ZERO { self.clock.now() } else { self.now(self.turned, Duration::ZERO) };
        let busy = now.since(self.turned).saturating_sub(self.entered);
        self.engine.storm_share = busy.as_micros() as usize / STORM_SHARE_US;
        let waits = [wait, self.engine.wait(now), self.listeners_wait(now)];
        let wait = waits.into_iter().flatten().min();
        if let Err(error) = self.poll.poll(&mut self.events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = if let Some(wait) = wait { self.now(now, wait) } else { self.clock.now() };
        if self.turned == Time::ZERO || now.since(self.noted.0) >= NOTE_INTERVAL {
            self.noted = (now, Clock::computed());
        }
        self.turned = now;
        self.engine.begin_turn(now);
        for event in &self.events {
            let token = event.token().0;
            if let Some(listener) = self.listeners.get_mut(token) {
                listener.pending = true;
            } else if token >> 24 != 0 {
                self.engine.note(ConnId::from_bits(token as u64), readiness(event));
            } else if token >= SOURCE_BASE {
                service.on_source(&mut self.engine.connections, token - SOURCE_BASE, now);
            }
        }
        Ok(now)
    }

    /// The time, `wait` after `then` at the latest unless there was so much to do, or the process was not let run. Then
    /// the clock goes on from `then` and what was done: otherwise every deadline would be over that came meanwhile, with
    /// no time for anybody to meet it. Work is no such stop: a clock that stood still in each long turn would never
    /// end whoever is stuck, as long as others make enough work.
    fn now(&mut self, then: Time, wait: Duration) -> Time {
        let now = self.clock.now();
        if now.since(then + wait) < STALL_MIN {
            return now;
        }
        // What was computed between the note and `then` counts as well: at most one interval of it.
        let work = Clock::computed().saturating_sub(self.noted.1).min(now.since(then));
        if now.since(then + wait + work) < STALL_MIN {
            return now;
        }
        let on = then + work;
        self.clock.go_on_from(on);
        warn!(
            "nothing could be done for {:.1?}: this process or its machine was stopped; all deadlines are put off by that",
            now.since(on)
        );
        on
    }

    fn listeners_wait(&self, now: Time) -> Option<Duration> {
        let wait = |listener: &Listener| match listener.retry_at {
            Some(at) => Some(at.since(now)),
            None => listener.pending.then_some(Duration::ZERO),
        };
        self.listeners.iter().filter_map(wait).min()
    }

    fn accept<S: Service>(&mut self, service: &mut S, now: Time) {
        if !self.engine.may_admit() {
            return;
        }
        for number in 0..self.listeners.len() {
            let listener = &mut self.listeners[number];
            if listener.retry_at.is_some_and(|at| at <= now) {
                listener.retry_at = None;
                // No event will come for connections that wait already.
                listener.pending = true;
                self.reserve.take_back();
            }
            let mut budget = self.engine.storm_budget(self.engine.connections.limits.accepts_turn_max);
            while budget > 0 && self.listeners[number].pending && self.listeners[number].retry_at.is_none() {
                if !self.engine.may_enter(number) {
                    break;
                }
                if let Some(pause) = self.engine.accept_pause(now) {
                    self.listeners[number].retry_at = Some(now + pause);
                    break;
                }
                budget -= 1;
                self.accept_one(service, number, now);
            }
        }
    }

    fn accept_one<S: Service>(&mut self, service: &mut S, number: usize, now: Time) {
        match self.listeners[number].accept() {
            Ok((stream, peer)) => {
                if let Err(error) = self.admit(service, stream, peer, number, now) {
                    self.engine.connections.counters.accept_errors += 1;
                    let text = || format!("a connection from {peer} could not be taken in: {error}");
                    self.engine.notices.tell(Notice::TakingIn, now, text);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.listeners[number].pending = false,
            Err(error) if is_out_of_descriptors(&error) => self.shed(service, number, now),
            Err(error) if concerns_one_connection(&error) => self.engine.connections.counters.accept_errors += 1,
            Err(error) => {
                self.engine.connections.counters.accept_errors += 1;
                self.rest(number, now);
                let text = || format!("accepting fails and is tried again later: {error}");
                self.engine.notices.tell(Notice::Accepting, now, text);
            }
        }
    }

    /// Takes in a new connection, or tells it that there is no room.
    fn admit<S: Service>(
        &mut self,
        service: &mut S,
        stream: Stream,
        peer: PeerAddr,
        number: usize,
        now: Time,
    ) -> io::Result<()> {
        let Self { poll, engine, .. } = self;
        let register = |stream: &mut Stream, conn| register(poll.registry(), stream, conn);
        let admitted = engine.admit(service, stream, peer, number, now, register)?;
        if let Admitted::Refused(why) = admitted {
            self.engine.note_refusal(peer, why, now);
        }
        Ok(())
    }

    /// There is no file descriptor: gives the reserve for the next connection in the backlog, tells it why it
    /// cannot stay, and closes it.
    fn shed<S: Service>(&mut self, service: &mut S, number: usize, now: Time) {
        let accepted = if self.reserve.give_up() { self.listeners[number].accept().ok() } else { None };
        if let Some((mut stream, _)) = accepted {
            self.engine.connections.counters.refuse(Refusal::Descriptors);
            if self.engine.tls.get(number).is_none_or(Option::is_none) {
                tell(&mut stream, service.refusal(Refusal::Descriptors));
            }
            let _ = stream.shutdown_write();
            drop(stream);
        } else {
            // Nothing waits, or somebody else took the descriptor. Only a timer looks again: the next event
            // would come with the next connection, and the ones that wait have come already.
            self.rest(number, now);
        }
        if !self.reserve.take_back() {
            self.rest(number, now);
        }
        self.engine.note_refusal(PeerAddr::UNIX, Refusal::Descriptors, now);
    }

    fn rest(&mut self, number: usize, now: Time) {
        self.listeners[number].retry_at = Some(now + self.engine.connections.limits.accept_retry);
    }
}

fn register(registry: &Registry, stream: &mut Stream, conn: ConnId) -> io::Result<()> {
    registry.register(stream, Token(conn.bits() as usize), Interest::READABLE | Interest::WRITABLE)
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        ends: event.is_read_closed() || event.is_error(),
        failed: event.is_error(),
    }
}
