//! A few dozen clients that do whatever dice say, and a judge that knows what the relay owes them.

use std::collections::BTreeMap;
use std::time::Duration;

use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Body, Hello, Leave, Profile, Watch, Who};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type};

use super::dice::Dice;
use super::directory::Directory;
use super::frames::{Got, frame_of};
use super::judge::Judge;
use super::world::World;

const CLIENTS_MAX: usize = 24;
/// A turn ends at least as often: what changes in one is told at its end, unless it is very much.
const STEPS_TURN_MAX: u32 = 64;

/// What a client knows and waits for.
#[derive(Debug, Default)]
pub(super) struct Player {
    directories: Vec<Directory>,
    /// The correlation of a WATCH or WHO whose answer has not ended.
    asked: Option<u32>,
}

pub(crate) struct Model {
    pub(super) world: World,
    pub(crate) judge: Judge,
    pub(super) random: Dice,
    pub(super) players: BTreeMap<Id, Player>,
    /// Ids that have been anybody's or any room's.
    pub(super) known: Vec<Id>,
    correlation: u32,
    /// The mark of the last frames that were put behind one another: others never run on from them.
    pub(super) mark: u8,
    sockets_break: bool,
    /// Steps since the last turn ended.
    steps: u32,
}

impl Model {
    pub(crate) fn new(mut random: Dice) -> Self {
        // Half of the reserve holds twenty refusals, which is the most that one run here can meet.
        let queue_bytes_max = [10_000, 20_000, 4_000][random.usize(..3)];
        let limits = [(100_000, 64, 100_000), (2, 64, 100_000), (100_000, 2, 100_000), (100_000, 64, 5)];
        let (rooms_max, rooms_per_client_max, members_max) = limits[random.usize(..4)];
        let settings = Settings {
            queue_bytes_max,
            queue_reserve_bytes: 6_000,
            rooms_max,
            rooms_per_client_max,
            members_max,
            ..Settings::default()
        };
        let sockets_break = random.bool();
        Self {
            world: World::seeded(settings.clone(), random.u8(..).into()),
            judge: Judge::new(settings),
            random,
            players: BTreeMap::new(),
            known: vec![Id::RELAY, Id::ALL, Id::MANY, Id::from_bits(7), Id::client(900, 900), Id::room(900, 900)],
            correlation: 0,
            mark: 0,
            sockets_break,
            steps: 0,
        }
    }

    /// So many steps, or as many as there are dice for; then everybody comes to rest, and the relay goes down.
    pub(crate) fn play(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.random.is_empty() {
                break;
            }
            self.step();
        }
        self.settle();
        self.check_end();
        self.shut_down();
    }

    pub(super) fn pick(&mut self) -> Option<Id> {
        let ids: Vec<Id> = self.players.keys().copied().collect();
        self.random.choice(ids)
    }

    pub(super) fn correlate(&mut self) -> u32 {
        self.correlation += 1;
        self.correlation
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps > STEPS_TURN_MAX {
            self.end_turn();
        }
        match self.random.u8(0..100) {
            0..8 => self.arrive(),
            8..40 => self.say_something(),
            40..44 => self.pass(),
            44..45 => self.pick().into_iter().for_each(|id| self.be_overdue(id)),
            45..75 => self.read_something(),
            75..85 => self.end_turn(),
            85..88 => {
                if let Some(id) = self.pick() {
                    self.world.net.wire(id).room = self.random.usize(0..9_000);
                }
            }
            88..90 => self.pick().into_iter().for_each(|id| self.lose(id)),
            90..91 => self.pick().into_iter().for_each(|id| self.hang_up(id)),
            91..92 if self.sockets_break => {
                if let Some(id) = self.pick() {
                    self.world.net.wire(id).broken = true;
                    self.judge.clients.get_mut(&id).expect("it is connected").broken = true;
                }
            }
            _ => self.watch_something(),
        }
    }

    fn arrive(&mut self) {
        if self.players.len() >= CLIENTS_MAX {
            return;
        }
        let id = self.world.connect();
        self.judge.connected(id);
        self.players.insert(id, Player::default());
        self.known.push(id);
        // Some take their time.
        if self.random.u8(0..8) > 0 {
            self.say_hello(id);
        }
    }

    fn say_hello(&mut self, id: Id) {
        let (name, correlation) = (self.name(), self.correlate());
        let payload_bytes_max = self.random.bool().then_some(4_096);
        let keepalive_ms = self.random.bool().then(|| self.random.u32(500..20_000));
        let hello = Hello { payload_bytes_max, keepalive_ms, ..Hello::new(Profile::named(&name)) };
        let mut frame = frame_of(correlation, Flags::NONE, &hello);
        if self.random.u8(0..16) == 0 {
            let place = self.random.usize(HEADER_BYTES..frame.len());
            frame[place] = self.random.u8(..);
        }
        self.hear(id, &frame);
    }

    /// Has bytes arrive from a client, and the relay handle what it will.
    fn hear(&mut self, id: Id, bytes: &[u8]) {
        self.world.receive(id, bytes);
        self.pump(id);
    }

    fn pump(&mut self, id: Id) {
        loop {
            let run = self.world.peek(id);
            match &run {
                Ok(run) if run.is_empty() => break,
                Ok(run) => self.judge.foresee(id, run, self.world.now),
                Err(error) => self.judge.foresee_broken(id, *error),
            }
            self.world.step(id);
            self.judge();
            if let Ok(run) = run {
                self.note_subscriptions(id, &run);
            }
        }
        self.bury(id);
    }

    /// Takes up, and drops, what a client will be told of from now on.
    fn note_subscriptions(&mut self, id: Id, run: &[u8]) {
        let header = Header::read(run);
        let payload = &run[HEADER_BYTES..];
        let room = match header.frame_type() {
            Some(Type::Watch | Type::Unwatch) => Watch::parse(payload).map(|watch| watch.room),
            Some(Type::Leave) => Leave::parse(payload).map(|leave| Some(leave.room)),
            _ => return,
        };
        let Ok(room) = room.map(|room| room.map(Id::from_bits)) else { return };
        let is_member =
            room.is_none_or(|room| self.judge.rooms.values().any(|r| r.id == Some(room) && r.members.contains(&id)));
        let Some(player) = self.players.get_mut(&id) else { return };
        let place = player.directories.iter().position(|directory| directory.room == room);
        match (header.frame_type(), place) {
            (Some(Type::Watch), Some(place)) => player.directories[place].ask_again(header.correlation),
            (Some(Type::Watch), None) if is_member => {
                player.directories.push(Directory::asking(room, header.correlation));
            }
            (Some(Type::Unwatch | Type::Leave), Some(place)) => drop(player.directories.remove(place)),
            _ => {}
        }
    }

    /// A client that the relay has closed goes when all is written.
    fn bury(&mut self, id: Id) {
        let wire = self.world.net.wire(id);
        if wire.closing && wire.queued == 0 && !wire.gone {
            self.judge.foresee_end(id, self.world.net.wire(id).written);
            self.world.close(id, None);
            self.judge();
        }
        if !self.world.is_here(id) {
            self.players.remove(&id);
        }
    }

    fn say_something(&mut self) {
        let Some(id) = self.pick() else { return };
        let mut bytes = Vec::new();
        if self.judge.clients[&id].greeting && self.random.u8(0..8) > 0 {
            return self.say_hello(id);
        }
        for _ in 0..self.random.usize(1..4) {
            self.put_frames(id, &mut bytes);
        }
        if self.random.u8(0..64) == 0 {
            let over = 24 + self.world.relay.payload_bytes_max(id) + 1;
            let lengths = [0, 23, 0x8000_0018, u32::MAX, over];
            bytes.extend(self.random.choice(lengths).unwrap_or(0).to_be_bytes());
        }
        // What is cut off arrives later, or never.
        let cut = if self.random.bool() { bytes.len() } else { self.random.usize(0..=bytes.len()) };
        self.hear(id, &bytes[..cut]);
        self.end_turn_sometimes();
        if self.players.contains_key(&id) {
            self.hear(id, &bytes[cut..]);
        }
    }

    fn end_turn_sometimes(&mut self) {
        if self.random.u8(0..4) == 0 {
            self.end_turn();
        }
    }

    /// Asks who is here, once or from now on; one question at a time, as the specification has it.
    fn watch_something(&mut self) {
        let Some(id) = self.pick() else { return };
        if self.players[&id].asked.is_some() {
            return;
        }
        let correlation = self.correlate();
        self.players.get_mut(&id).expect("it was picked").asked = Some(correlation);
        let rooms = self.judge.rooms.values().filter(|room| room.members.contains(&id)).filter_map(|room| room.id);
        let rooms: Vec<Option<Id>> = rooms.map(Some).chain([None, None]).collect();
        let room = self.random.choice(rooms).flatten();
        let question = if self.random.u8(0..4) == 0 {
            frame_of(correlation, Flags::NONE, &room.map_or(Who::Everybody, Who::Room))
        } else {
            frame_of(correlation, Flags::NONE, &Watch { room: room.map(Id::bits) })
        };
        self.hear(id, &question);
    }

    /// Lets time pass, each deadline a step of its own.
    fn pass(&mut self) {
        let end = self.world.now + Duration::from_millis(1 << self.random.u32(6..16));
        while let Some(id) = self.world.due(end) {
            let queued = self.world.net.peek(id).queued;
            self.judge.foresee_deadline(id, queued, self.world.now);
            self.world.handle(id, Input::Deadline);
            self.judge();
            self.bury(id);
        }
        self.world.now = end;
        // Whom the relay has let be for so long it has forgotten.
        for (id, record) in self.judge.clients.iter().filter(|(_, record)| record.registered || record.greeting) {
            let deadline = self.world.deadline(*id).unwrap_or_else(|| panic!("{id:?} has no deadline"));
            assert!(deadline <= end + (2 * record.keepalive).max(Duration::from_secs(10)), "{id:?} has time for ever");
        }
    }

    /// A frame was begun too long ago; where all its answers may be queued, or else the last may be missing.
    fn be_overdue(&mut self, id: Id) {
        let wire = self.world.net.peek(id);
        if wire.queued <= 4_000 && !wire.broken && !wire.closing {
            self.judge.foresee_overdue(id);
            self.world.handle(id, Input::Overdue);
            self.judge();
            self.bury(id);
        }
    }

    fn read_something(&mut self) {
        let Some(id) = self.pick() else { return };
        if id.generation().is_multiple_of(4) && self.random.u8(0..8) > 0 {
            return; // There are some who hardly read.
        }
        let count = match self.random.u8(0..4) {
            0 => usize::MAX,
            1 => self.random.usize(0..100),
            _ => self.random.usize(0..6_000),
        };
        self.read(id, count);
    }

    fn read(&mut self, id: Id, count: usize) {
        let wire = self.world.net.wire(id);
        if wire.gone || wire.broken {
            return;
        }
        // The end of a connection that the relay has closed is a step of its own.
        let closing = std::mem::replace(&mut wire.closing, false);
        let written = wire.written + wire.queued.min(count) as u64;
        let notify = wire.notify;
        self.judge.foresee_written(id, written, notify);
        self.world.flush(id, count);
        self.world.net.wire(id).closing |= closing;
        self.judge();
        for got in self.world.seen(id) {
            self.apply(id, &got);
        }
        self.pump(id);
    }

    fn apply(&mut self, id: Id, got: &Got) {
        let Some(player) = self.players.get_mut(&id) else { return };
        player.directories.iter_mut().for_each(|directory| directory.apply(got));
        match got {
            Got::Snapshot { correlation, more: false, .. } | Got::Error { correlation, .. }
                if player.asked == Some(*correlation) =>
            {
                player.asked = None;
            }
            Got::Joined { room, .. } => self.known.push(*room),
            // A DELTA may be among it, and the hole in the numbers shows with the next one only.
            Got::Gap { .. } => player.directories.iter_mut().for_each(|directory| directory.has_hole = true),
            Got::Error { code: Code::Busy, .. } => panic!("{id:?} asks one question at a time"),
            _ => {}
        }
    }

    fn judge(&mut self) {
        let queued = self.world.take_queued();
        self.judge.judge(queued, self.world.counters().control_skipped);
    }

    fn end_turn(&mut self) {
        self.steps = 0;
        self.judge.foresee_turn();
        self.world.end_turn();
        self.judge();
    }

    fn lose(&mut self, id: Id) {
        self.judge.foresee_end(id, self.world.net.wire(id).written);
        self.world.lose(id);
        self.judge();
        self.players.remove(&id);
    }

    fn hang_up(&mut self, id: Id) {
        self.judge.foresee_nothing();
        if !self.world.net.wire(id).broken {
            self.judge.depart(id);
            self.world.handle(id, Input::Ended);
            self.judge();
            self.bury(id);
        }
    }

    /// Everybody reads everything; those with a hole ask again.
    fn settle(&mut self) {
        for id in self.players.keys().copied().collect::<Vec<_>>() {
            if self.world.net.wire(id).broken {
                self.lose(id);
            }
        }
        for round in 0.. {
            let restless = || self.players.iter().filter(|(id, _)| !self.is_at_rest(**id)).collect::<Vec<_>>();
            assert!(round < 50, "the clients never come to rest: {:?}", restless());
            let before = (self.world.counters().frames_in, self.players.len());
            self.end_turn();
            for id in self.players.keys().copied().collect::<Vec<_>>() {
                while self.world.is_here(id) && self.world.queued(id) > 0 {
                    self.read(id, usize::MAX);
                }
                self.read(id, 0);
                self.ask_again(id);
            }
            let after = (self.world.counters().frames_in, self.players.len());
            if after == before && self.players.keys().all(|id| self.is_at_rest(*id)) {
                break;
            }
        }
    }

    fn is_at_rest(&self, id: Id) -> bool {
        self.world.net.peek(id).queued == 0 && self.players[&id].asked.is_none()
    }

    fn ask_again(&mut self, id: Id) {
        let Some(player) = self.players.get(&id).filter(|player| player.asked.is_none()) else { return };
        let Some(room) = player.directories.iter().find(|directory| directory.has_hole).map(|d| d.room) else { return };
        let correlation = self.correlate();
        self.players.get_mut(&id).expect("it is here").asked = Some(correlation);
        self.hear(id, &frame_of(correlation, Flags::NONE, &Watch { room: room.map(Id::bits) }));
    }

    /// When all is read, nothing is missing that nobody has been told of, and all know who is here.
    fn check_end(&self) {
        for (id, record) in &self.judge.clients {
            assert_eq!(record.missed_frames, 0, "{id:?} is never told what it has missed");
            assert!(!self.world.net.peek(*id).paused, "{id:?} has read everything and is not heard");
        }
        let registered = |id: &Id| self.judge.clients[id].registered;
        for (id, player) in &self.players {
            for directory in &player.directories {
                let members: Vec<Id> = match directory.room {
                    None => self.judge.clients.keys().copied().filter(registered).collect(),
                    Some(room) => {
                        let room = self.judge.rooms.values().find(|other| other.id == Some(room));
                        room.map(|room| room.members.iter().copied().collect()).unwrap_or_default()
                    }
                };
                let truth: Vec<_> = members
                    .iter()
                    .map(|id| (*id, &*self.judge.clients[id].name, self.judge.clients[id].station.as_deref()))
                    .collect();
                let seen: Vec<_> = directory.members.values().map(|m| (m.id, &*m.name, m.station.as_deref())).collect();
                assert_eq!(seen, truth, "what {id:?} knows of {:?}", directory.room);
            }
        }
        let (counters, tally) = (self.world.counters(), &self.judge.tally);
        assert_eq!(counters.frames_queued, tally.queued);
        assert_eq!((counters.frames_lost, counters.frames_void), (tally.lost, tally.void));
        assert_eq!(counters.gaps, tally.gaps);
        if !self.sockets_break {
            assert_eq!(counters.frames_skipped, tally.skipped);
        }
    }

    /// The relay goes down: everybody is told so as the last that it hears, and nobody is left.
    fn shut_down(&mut self) {
        self.world.relay.shut_down(self.world.now, &mut self.world.net);
        self.world.relay.check_consistency();
        for id in self.players.keys().copied().collect::<Vec<_>>() {
            let was_registered = self.judge.clients[&id].registered;
            let last = self.world.got(id).pop();
            let is_told = matches!(last, Some(Got::Goodbye { code: Code::ShuttingDown, retry_ms: Some(_) }));
            assert!(is_told || !was_registered, "{id:?} is told {last:?}");
            assert!(!self.world.is_here(id));
        }
        assert_eq!(self.world.relay.clients(), 0);
    }
}
