//! One run: the production engine and relay, clients, a network and a clock, and the turns that they make together.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use switchboard::reactor::{Admitted, ConnId, Engine, PeerAddr, Readiness};
use switchboard::relay::Relay;
use switchboard::server::RelayService;
use switchboard::time::Time;
use switchboard::wire::control::Watch;
use switchboard::wire::{Flags, Frames, Header, Id, Type};

use super::client::{Client, Link};
use super::doors::{Door, Doors, Manner, Speech, TLS};
use super::endings::Endings;
use super::frames::{frame, frame_of};
use super::judge::{Arrival, EPOCH, Facts, Judge, Tally, id_of};
use super::network::{Line, Log, Peer, Pipe};
use super::people::People;
use super::plan::{Plan, Reader, Step};
use super::secure::{Configs, Secure};
use super::tap::Tap;

/// The most turns that anything takes to come to rest.
const TURNS_TO_REST_MAX: usize = 200_000;

pub(crate) struct World {
    pub(super) engine: Engine<Pipe>,
    pub(super) tap: Tap,
    pub(super) clients: Vec<Client>,
    log: Rc<RefCell<Log>>,
    /// Connections that wait to be accepted, at each listener, and when that goes on again.
    backlogs: [VecDeque<(Peer, Pipe, Arrival)>; 2],
    retry_at: [Option<Time>; 2],
    doors: Doors,
    pub(super) people: People,
    /// The list of users that holds.
    pub(super) list: usize,
    configs: Option<Configs>,
    /// Connections whose clients have forgotten them, until the relay has too.
    orphans: Vec<Link>,
    /// Of connections that have gone: events for them still come.
    graveyard: Vec<ConnId>,
    late: Vec<(ConnId, Readiness)>,
    pub(super) rooms: BTreeMap<String, Id>,
    pub(super) now: Time,
    pub(super) correlation: u32,
    pub(super) is_stopping: bool,
    turn: u64,
    /// As many connections as there are, or were a short while ago.
    crowd: usize,
    /// The same of those who were not in yet: nobody waits longer for a step than for all who were in front.
    shaking: usize,
    ports: u16,
    seed: u64,
    random: fastrand::Rng,
    is_restless: bool,
    endings_turn_max: usize,
    endings: Endings,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let log = Rc::new(RefCell::new(Log::default()));
        let mut relay = Relay::new(plan.settings.clone(), plan.seed, EPOCH);
        if plan.people.ask() {
            relay = relay.with_users(plan.people.users(0));
        }
        let judge = Judge::new(plan.limits, plan.settings.clone(), plan.people.clone(), Rc::clone(&log));
        let mut engine = Engine::new::<Tap>(plan.limits);
        engine.connections.set_gate(plan.doors.gate(plan.clients));
        let configs = plan.is_over_tls().then(|| Configs::new(plan.people.take_certificates));
        engine.set_tls(TLS, configs.as_ref().map(|configs| Arc::clone(&configs.server)));
        Self {
            engine,
            tap: Tap::new(RelayService::new(relay, false), judge),
            clients: (0..plan.clients).map(|_| Client { link: None, former: None }).collect(),
            log,
            backlogs: Default::default(),
            retry_at: [None; 2],
            doors: plan.doors.clone(),
            people: plan.people.clone(),
            list: 0,
            configs,
            orphans: Vec::new(),
            graveyard: Vec::new(),
            late: Vec::new(),
            rooms: BTreeMap::new(),
            now: Time::from_micros(1_000_000),
            correlation: 0,
            is_stopping: false,
            turn: 0,
            crowd: 0,
            shaking: 0,
            ports: 0,
            seed: plan.seed,
            random: fastrand::Rng::with_seed(plan.seed ^ 0x5eed),
            is_restless: plan.restless_poll,
            endings_turn_max: plan.limits.endings_turn_max,
            endings: Endings::new(&plan.limits),
        }
    }

    /// Runs a plan to its end and sees everybody off; panics if the judge finds fault.
    pub(crate) fn run(plan: &Plan) -> Tally {
        let mut world = Self::new(plan);
        for step in &plan.steps {
            world.perform(step);
            for _ in 0..step.turns {
                world.turn();
            }
        }
        world.conclude(plan.longest_silence());
        world.tap.judge.tally
    }

    /// Has nothing go wrong any more, looks at what has become of everything, and sees everybody off.
    fn conclude(&mut self, longest_silence: Duration) {
        self.is_restless = false;
        for link in self.links() {
            link.reader = Reader::Prompt;
            link.peer.wire().line = Line::PLAIN;
        }
        self.settle();
        // The last who has gone was the last that happened, and nobody waits for anything to be told of it.
        let peers = self.tap.peers.borrow();
        let is_cut = |id: Id| peers.iter().any(|(conn, peer)| id_of(*conn) == id && peer.wire().is_cut);
        self.tap.judge.presence_is_true(is_cut);
        drop(peers);
        // Those who say nothing, or never finish what they have begun, are given up; whoever has said more than it may is not
        // silent before it has been heard.
        while self.tap.judge.is_anybody_throttled(self.now) {
            self.pass(Duration::from_secs(1));
        }
        self.pass(longest_silence);
        self.settle();
        self.tap.judge.rest();
        self.greet_everybody();
        self.settle();
        self.tap.judge.rest();
        for client in 0..self.clients.len() {
            if let Some(id) = self.clients[client].link.as_ref().and_then(|link| link.id)
                && self.tap.judge.is_here(id)
            {
                assert!(
                    self.tap.judge.knows_everybody(id) || !self.tap.judge.may_watch(id),
                    "{id} has asked who is here, and does not know it"
                );
            }
        }
        self.see_off();
    }

    /// Everybody who is here asks who is here, and says something to all.
    fn greet_everybody(&mut self) {
        let now = self.now;
        for number in 0..self.clients.len() {
            let watch = frame_of(self.next(), Flags::NONE, &Watch { room: None });
            let word = self.frame(number, Id::ALL, 0x10, 1, 0, 20);
            let Some(link) = &mut self.clients[number].link else { continue };
            link.watches.push(None);
            link.send(now, &watch);
            if number < 20 {
                link.send(now, &word);
            }
        }
    }

    fn see_off(&mut self) {
        for number in 0..self.clients.len() {
            let goodbye = frame(Header::new(Type::Goodbye), &[]);
            let now = self.now;
            let Some(link) = &mut self.clients[number].link else { continue };
            match number % 3 {
                0 => link.send(now, &goodbye),
                1 => link.peer.half_close(),
                _ => link.peer.reset(),
            }
        }
        self.settle();
        self.pass(Duration::from_secs(40));
        self.settle();
        assert!(self.engine.connections.is_empty(), "{} connections are left", self.engine.connections.len());
        assert_eq!(self.engine.connections.buffered_total_bytes(), 0, "bytes are held for nobody");
        assert_eq!(
            (self.tap.service.clients(), self.tap.service.relay().rooms()),
            (0, 0),
            "clients and rooms are left"
        );
        self.tap.judge.balance(self.tap.service.relay().counters(), self.engine.counters());
    }

    /// Turns until there is nothing to do but wait for deadlines.
    fn settle(&mut self) {
        for _ in 0..TURNS_TO_REST_MAX {
            let now = self.now;
            let is_moving = |link: &mut Link| {
                link.peer.is_announcing() || link.peer.next_arrival().is_some() || link.next_read(now).is_some()
            };
            let is_reviewing = self.tap.service.is_reviewing();
            let is_busy = is_reviewing || self.engine.has_work() || !self.late.is_empty() || self.may_accept();
            let is_waiting = self.backlogs.iter().any(|backlog| !backlog.is_empty());
            if !is_busy && !is_waiting && !self.links().any(is_moving) {
                return self.check_rest();
            }
            self.turn();
        }
        let now = self.now;
        let work = self.engine.has_work();
        let moving: Vec<_> = self
            .links()
            .map(|link| {
                (link.conn(), link.peer.is_announcing(), link.peer.next_arrival(), link.next_read(now), link.reader)
            })
            .filter(|(_, announcing, arrival, read, _)| *announcing || arrival.is_some() || read.is_some())
            .collect();
        panic!("it never comes to rest: at {now:?} work {work}, backlog {:?}, moving {moving:?}", self.retry_at);
    }

    /// At rest nothing waits that could go on.
    fn check_rest(&self) {
        let io = &self.engine.connections;
        for (conn, peer) in self.tap.peers.borrow().iter() {
            let wire = peer.wire();
            let is_stuck = io.queued_bytes(*conn) > 0 && wire.is_writable();
            assert!(!is_stuck, "{conn:?} has room, and what waits for it is not written");
            if self.tap.judge.may_be_throttled(*conn, self.now) {
                continue;
            }
            let is_unread = wire.has_unread() && !wire.is_cut && io.is_open(*conn) && io.queued_bytes(*conn) == 0;
            assert!(!is_unread, "{conn:?} has sent something, and nobody reads it");
            // Nor does a whole frame lie where the engine has put it.
            let unconsumed: Vec<u8> = wire.unconsumed.iter().copied().collect();
            let is_held = !wire.is_cut && io.is_open(*conn) && Frames::new(&unconsumed).next().is_some();
            assert!(!is_held, "{conn:?} has sent a frame, and nobody handles it");
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let wait = self.sleep().unwrap_or(duration);
            if self.now + wait >= end {
                break;
            }
            self.turn();
        }
        self.now = self.now.max(end);
        self.turn_now();
    }

    pub(super) fn next(&mut self) -> u32 {
        self.correlation += 1;
        self.correlation
    }

    /// A client begins a connection.
    pub(super) fn dial(&mut self, client: usize, line: Line, door: Door, reader: Reader, step: &Step) {
        if let Some(link) = self.clients[client].link.take() {
            self.abandon(client, link);
        }
        // What a network does to a connection depends on nothing but the seed, the step and the client.
        let seed = self.seed ^ (step.number << 20) ^ client as u64;
        let (peer, pipe) = Peer::new(line, seed, Rc::clone(&self.log));
        self.ports = self.ports.wrapping_add(1);
        let from = SocketAddr::new(self.doors.ip(client), self.ports);
        let socket = if door.proxy.is_some() { SocketAddr::from(([10, 9, 0, 1], self.ports)) } else { from };
        let known_as = if door.proxy.is_some_and(Speech::names_somebody) { from } else { socket };
        let is_asked = self.people.take_certificates && door.tls.is_some();
        let certificate = door.login.certificate_of(self.people.user_of(client)).filter(|_| is_asked);
        let arrival =
            Arrival { door, socket, known_as, is_denied: self.doors.is_denied(client), list: self.list, certificate };
        self.backlogs[door.listener()].push_back((peer.clone(), pipe, arrival));
        let mut fresh = Link::new(peer, reader);
        self.begin(&mut fresh, door, from, certificate);
        self.clients[client].link = Some(fresh);
    }

    /// What stands in front of a HELLO.
    fn begin(&self, link: &mut Link, door: Door, from: SocketAddr, certificate: Option<usize>) {
        let (now, peer) = (self.now, &link.peer);
        if let Some(speech) = door.proxy {
            peer.send_raw(now, &speech.bytes(from));
            link.is_spoilt = matches!(speech, Speech::Half(_));
        }
        let Some(version) = door.tls else { return };
        if link.is_spoilt {
            return;
        }
        let configs = self.configs.as_ref().expect("made where somebody speaks TLS");
        match door.manner {
            Manner::Plain => return,
            Manner::Noise => {
                peer.send_raw(now, &[0x77; 100]);
                link.is_spoilt = true;
                return;
            }
            _ => peer.secure(Secure::new(configs, version, certificate)),
        }
        let hello = match door.manner {
            Manner::Silent => peer.with_tls(now, Secure::take_hello).map(|_| Vec::new()),
            Manner::Half(length) => peer.with_tls(now, Secure::take_hello).map(|mut hello| {
                hello.truncate(length);
                hello
            }),
            _ => peer.with_tls(now, |_| Vec::new()),
        };
        peer.send_raw(now, &hello.unwrap_or_default());
    }

    /// A client that begins a new connection has dropped its old one.
    fn abandon(&mut self, client: usize, mut link: Link) {
        self.clients[client].former = link.id.or(self.clients[client].former);
        link.peer.half_close();
        (link.reader, link.is_done) = (Reader::Prompt, true);
        self.orphans.push(link);
    }

    fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        self.clients.iter_mut().filter_map(|client| client.link.as_mut()).chain(&mut self.orphans)
    }

    /// One turn of the loop, after as much time as it would have slept.
    pub(super) fn turn(&mut self) {
        let is_busy = self.engine.has_work()
            || self.tap.service.is_reviewing()
            || !self.late.is_empty()
            || self.may_accept()
            || self.links().any(|link| link.peer.is_announcing());
        let pause = if is_busy { Duration::ZERO } else { self.sleep().unwrap_or_default() };
        self.now = self.now + pause + Duration::from_micros(self.random.u64(1..60));
        self.turn_now();
    }

    /// How long until something happens by itself.
    fn sleep(&mut self) -> Option<Duration> {
        let now = self.now;
        let arrivals = self.links().filter_map(|link| link.peer.next_arrival()).min();
        let reads = self.links().filter_map(|link| link.next_read(now)).min();
        let others = [arrivals, reads].into_iter().flatten().min().map(|at| at.since(now));
        let is_waited_for = |place: usize| self.retry_at[place].filter(|_| !self.backlogs[place].is_empty());
        let retries = [0, 1].into_iter().filter_map(is_waited_for).min().map(|at| at.since(now));
        [self.engine.wait(now), others, retries].into_iter().flatten().min()
    }

    /// Whether somebody waits who could be accepted.
    fn may_accept(&self) -> bool {
        (0..2).any(|place| !self.backlogs[place].is_empty() && self.retry_at[place].is_none_or(|at| at <= self.now))
    }

    fn turn_now(&mut self) {
        self.turn += 1;
        self.tap.turn = self.turn;
        let crowd = self.crowd - usize::from(self.turn.is_multiple_of(4) && self.crowd > 0);
        self.crowd = crowd.max(self.tap.peers.borrow().len());
        let shaking = self.shaking - usize::from(self.turn.is_multiple_of(4) && self.shaking > 0);
        self.shaking = shaking.max(self.tap.judge.count_entering());
        let now = self.now;
        self.tap.judge.begin(now);
        self.log.borrow_mut().now = now;
        self.move_clients();
        self.engine.begin_turn(now);
        for (conn, readiness) in self.events() {
            self.engine.note(conn, readiness);
        }
        self.engine.turn(&mut self.tap, now);
        self.tap.judge.watch_entering(&self.tap.peers.borrow(), self.engine.counters(), now);
        let is_alive = |conn: &ConnId| self.tap.judge.is_alive(*conn) || self.tap.judge.is_entering(*conn);
        self.endings.check(&self.tap.peers.borrow(), is_alive, self.turn, self.patience_turns(), now);
        self.accept();
        self.bury();
        self.check();
    }

    /// Everything that arrives by now arrives, and everybody reads who may.
    fn move_clients(&mut self) {
        let (now, mut correlation, mut learnt) = (self.now, self.correlation, Vec::new());
        for link in self.links() {
            link.read(now, &mut correlation, &mut learnt);
            if link.peer.is_over() || link.is_done && link.peer.inbox_bytes() == 0 {
                link.peer.half_close();
            }
            link.peer.arrive(now);
        }
        self.correlation = correlation;
        self.rooms.extend(learnt);
    }

    fn events(&mut self) -> Vec<(ConnId, Readiness)> {
        let turn = self.turn;
        let announced = |link: &mut Link| Some((link.conn()?, link.peer.announced()?));
        let mut events: Vec<_> = self.links().filter_map(announced).collect();
        events.append(&mut self.late);
        if !self.is_restless {
            return events;
        }
        self.random.shuffle(&mut events);
        // What was announced comes a turn late; a part of it comes twice; something comes for nothing.
        let late = self.random.usize(..=events.len() / 4);
        self.late = events.split_off(events.len() - late);
        for index in 0..events.len() {
            if self.random.u8(..8) == 0 {
                events.push(events[index]);
            }
        }
        let nothing = Readiness { readable: self.random.bool(), writable: self.random.bool(), ..Readiness::default() };
        let anybody = self.tap.peers.borrow().keys().copied().min_by_key(|conn| conn.index() as u64 ^ turn);
        events.extend(anybody.filter(|_| turn.is_multiple_of(7)).map(|conn| (conn, nothing)));
        if let Some(stale) = self.graveyard.last().filter(|_| turn.is_multiple_of(5)) {
            let all = Readiness { readable: true, writable: true, ends: true, failed: turn.is_multiple_of(2) };
            events.push((*stale, all));
        }
        events
    }

    /// The end of a turn, as the reactor does it.
    fn accept(&mut self) {
        if self.is_stopping {
            self.backlogs.iter_mut().for_each(VecDeque::clear);
        }
        if !self.engine.may_admit() {
            return;
        }
        for listener in 0..2 {
            if self.retry_at[listener].is_some_and(|at| at > self.now) {
                continue;
            }
            self.retry_at[listener] = None;
            for _ in 0..self.engine.connections.limits().accepts_turn_max {
                if self.backlogs[listener].is_empty() || !self.engine.may_enter(listener) {
                    break;
                }
                if let Some(pause) = self.engine.accept_pause(self.now) {
                    self.retry_at[listener] = Some(self.now + pause);
                    break;
                }
                self.accept_one(listener);
            }
        }
    }

    fn accept_one(&mut self, listener: usize) {
        let Some((peer, pipe, arrival)) = self.backlogs[listener].pop_front() else { return };
        let (wire, turn, now) = (peer.clone(), self.turn, self.now);
        let (peers, arrivals) = (Rc::clone(&self.tap.peers), Rc::clone(&self.tap.arrivals));
        let mut taken_in = None;
        let of_it = arrival.clone();
        let register = |pipe: &mut Pipe, conn| {
            pipe.register(conn);
            peer.wire().idle_since = turn;
            peers.borrow_mut().insert(conn, peer);
            arrivals.borrow_mut().insert(conn, of_it);
            taken_in = Some(conn);
            Ok(())
        };
        let address = PeerAddr::from(arrival.socket);
        let admitted = self.engine.admit(&mut self.tap, pipe, address, listener, now, register);
        let refused = match admitted {
            Ok(Admitted::Open) => None,
            Ok(Admitted::Refused(why)) => Some(why),
            Err(error) => panic!("there is a slot: {error}"),
        };
        self.tap.judge.admitted(taken_in, refused, &arrival, now);
        // Somebody may have been crowded out for it.
        let before = self.tap.judge.count_entering();
        self.tap.judge.watch_entering(&self.tap.peers.borrow(), self.engine.counters(), now);
        self.endings.crowded_out(before - self.tap.judge.count_entering());
        if let Some(why) = refused {
            let is_told = arrival.door.tls.is_none() && arrival.door.proxy.is_none();
            let taken = wire.wire().taken();
            assert!(is_told || taken.is_empty(), "whoever cannot understand it is told {taken:?}");
            self.tap.judge.turned_away(why, &taken);
            self.endings.turned_away(&wire, now);
        }
    }

    fn bury(&mut self) {
        let gone: Vec<ConnId> =
            self.tap.peers.borrow().iter().filter(|(_, peer)| peer.wire().is_gone).map(|(conn, _)| *conn).collect();
        for conn in gone {
            self.tap.peers.borrow_mut().remove(&conn);
            self.tap.arrivals.borrow_mut().remove(&conn);
            self.graveyard.push(conn);
        }
        self.orphans.retain(|link| !link.peer.wire().is_gone);
    }

    /// Turns until something is read of whoever has sent something: endings wait for each other, and others for them; and
    /// those who send more than anybody can take wait for their like.
    fn patience_turns(&self) -> u64 {
        // Those who were in front of somebody may be gone by now.
        let clients = self.crowd as u64;
        // Each of those in front makes two or three steps.
        let steps = 3 * self.shaking / self.engine.connections.limits().handshakes_turn_max;
        16 + clients + clients * 2 / self.endings_turn_max as u64 + steps as u64
    }

    /// What must hold after every turn.
    fn check(&mut self) {
        self.engine.connections.check_consistency();
        self.tap.service.relay().check_consistency();
        let io = &self.engine.connections;
        self.tap.judge.turn(&Facts(io), self.now);
        self.tap.judge.turn_of_entry(&self.tap.peers.borrow(), &Facts(io), self.now);
        let peers = self.tap.peers.borrow();
        let patience = self.patience_turns();
        for (conn, peer) in peers.iter() {
            let mut wire = peer.wire();
            let was_read = std::mem::take(&mut wire.was_read);
            let judge = &self.tap.judge;
            let is_read = io.is_open(*conn) || judge.is_entering(*conn);
            let is_stopped = judge.may_be_stopped(*conn) || judge.may_be_throttled(*conn, self.now);
            let may_wait = !wire.has_unread() || wire.is_cut || !is_read || is_stopped;
            let is_record_overdue = io.is_open(*conn)
                && wire.record_since.is_some_and(|since| judge.must_have_ended(*conn, since, self.now));
            assert!(!is_record_overdue, "{conn:?} has begun a record long since, and lives");
            if was_read || may_wait {
                wire.idle_since = self.turn;
            }
            let idle = self.turn - wire.idle_since;
            assert!(idle <= patience, "{conn:?} has sent something, and nobody has read it for {idle} turns");
        }
    }
}
