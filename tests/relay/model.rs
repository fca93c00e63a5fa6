//! A few dozen clients that do anything at random, and a judge that knows what the relay owes them.

use std::collections::BTreeMap;

use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Hello, Join, Leave, Ping, Profile, Unwatch, Update, Watch, Who};
use switchboard::wire::{Code, Flags, Header, Id, Type};

use super::directory::Directory;
use super::frames::{Got, frame, frame_of, send_flagged, send_many};
use super::judge::Judge;
use super::world::World;

const CLIENTS_MAX: usize = 24;
const STEPS: usize = 400;
const SEEDS: u64 = 300;

/// What a client knows and waits for.
#[derive(Debug, Default)]
struct Player {
    directories: Vec<Directory>,
    /// The correlation of a WATCH or WHO whose answer has not ended.
    asked: Option<u32>,
}

struct Model {
    world: World,
    judge: Judge,
    random: fastrand::Rng,
    players: BTreeMap<Id, Player>,
    /// Ids that have been anybody's or any room's.
    known: Vec<Id>,
    correlation: u32,
    sockets_break: bool,
}

impl Model {
    fn new(seed: u64) -> Self {
        // Half of the reserve holds twenty refusals, which is the most that one run here can meet.
        let queue_bytes_max = [10_000, 20_000, 4_000][seed as usize % 3];
        let settings = Settings { queue_bytes_max, queue_reserve_bytes: 6_000, ..Settings::default() };
        Self {
            world: World::seeded(settings, seed),
            judge: Judge::default(),
            random: fastrand::Rng::with_seed(seed),
            players: BTreeMap::new(),
            known: vec![Id::RELAY, Id::ALL, Id::MANY, Id::from_bits(7), Id::client(900, 900), Id::room(900, 900)],
            correlation: 0,
            sockets_break: seed.is_multiple_of(2),
        }
    }

    fn pick(&mut self) -> Option<Id> {
        let ids: Vec<Id> = self.players.keys().copied().collect();
        self.random.choice(ids)
    }

    fn correlate(&mut self) -> u32 {
        self.correlation += 1;
        self.correlation
    }

    /// A payload for a frame of this client; now and then over its limit.
    fn payload(&mut self, from: Id) -> Vec<u8> {
        let own = if self.random.u8(0..50) == 0 { u32::MAX } else { self.world.relay.payload_bytes_max(from) };
        let length = match self.random.u8(0..12) {
            0 => self.random.usize(2_000..6_000).min(own as usize),
            1..5 => 0,
            _ => self.random.usize(0..400),
        };
        let fill = self.random.u8(..);
        vec![fill; length]
    }

    fn step(&mut self) {
        match self.random.u8(0..100) {
            0..8 => self.arrive(),
            8..45 => self.say_something(),
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
        let name = self.name();
        let payload_bytes_max = self.random.bool().then_some(4_096);
        let hello = Hello { payload_bytes_max, ..Hello::new(Profile::named(&name)) };
        let correlation = self.correlate();
        self.hear(id, &frame_of(correlation, Flags::NONE, &hello));
    }

    fn name(&mut self) -> String {
        format!("client-{}", self.random.u8(0..40))
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
                Err(_) => self.judge.foresee_broken(id),
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
        let payload = &run[switchboard::wire::HEADER_BYTES..];
        let room = match header.frame_type() {
            Some(Type::Watch | Type::Unwatch | Type::Leave) => {
                use switchboard::wire::control::Body as _;
                Watch::parse(payload).expect("a good body").room.map(Id::from_bits)
            }
            _ => return,
        };
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

    fn destination(&mut self) -> Id {
        match self.random.u8(0..10) {
            0..2 => Id::ALL,
            2..4 => {
                let rooms: Vec<Id> = self.judge.rooms.values().filter_map(|room| room.id).collect();
                self.random.choice(rooms).unwrap_or(Id::ALL)
            }
            4..5 => {
                let place = self.random.usize(0..self.known.len());
                self.known[place]
            }
            _ => self.pick().unwrap_or(Id::ALL),
        }
    }

    fn flags(&mut self) -> Flags {
        Flags(self.random.u8(..) & 0xfa | u8::from(self.random.u8(0..4) == 0))
    }

    fn say_something(&mut self) {
        let Some(id) = self.pick() else { return };
        let mut bytes = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            self.put_frames(id, &mut bytes);
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

    fn put_frames(&mut self, id: Id, out: &mut Vec<u8>) {
        let (to, flags) = (self.destination(), self.flags());
        match self.random.u8(0..40) {
            0..20 => {
                for _ in 0..self.random.usize(1..20) {
                    let (correlation, payload) = (self.correlate(), self.payload(id));
                    out.extend(send_flagged(flags, correlation, to, &payload));
                }
            }
            20..26 => {
                let mut list: Vec<Id> = (0..self.random.usize(0..20)).map(|_| self.destination()).collect();
                list.sort_unstable();
                list.dedup();
                let (correlation, payload) = (self.correlate(), self.payload(id));
                out.extend(send_many(flags, correlation, &list, &payload));
            }
            _ => self.put_request(id, flags, out),
        }
    }

    fn put_request(&mut self, id: Id, flags: Flags, out: &mut Vec<u8>) {
        let correlation = self.correlate();
        let name = self.name();
        let room = self.judge.rooms.values().filter(|room| room.members.contains(&id)).find_map(|room| room.id);
        out.extend(match self.random.u8(0..60) {
            0..10 => {
                let station = Some(&*name).filter(|_| self.random.bool());
                let name = Some(&*name).filter(|_| self.random.bool());
                frame_of(correlation, flags, &Update(Profile { name, station, ..Profile::default() }))
            }
            10..30 => frame_of(correlation, flags, &Join { name: ["red", "green", "blue"][self.random.usize(0..3)] }),
            30..36 => {
                let room = room.unwrap_or(Id::room(900, 900)).bits();
                frame_of(correlation, flags, &Leave { room })
            }
            36..39 => frame_of(correlation, flags, &Unwatch { room: room.map(Id::bits) }),
            39..46 => frame_of(correlation, flags, &Ping::default()),
            46..52 => {
                let unknown = Header { type_number: 0x7f, ..Header::new(Type::Send) };
                frame(unknown.correlating(correlation).flagged(flags), b"")
            }
            52..57 => frame_of(correlation, flags, &Who::Named(&name)),
            57..59 => frame(Header::new(Type::Goodbye).correlating(correlation), b""),
            _ => frame_of(correlation, flags, &Hello::new(Profile::named(&name))),
        });
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
            assert!(round < 50, "the clients never come to rest");
            let before = self.world.counters().frames_in;
            self.end_turn();
            for id in self.players.keys().copied().collect::<Vec<_>>() {
                while self.world.is_here(id) && self.world.queued(id) > 0 {
                    self.read(id, usize::MAX);
                }
                self.read(id, 0);
                self.ask_again(id);
            }
            if self.world.counters().frames_in == before && self.players.keys().all(|id| self.is_at_rest(*id)) {
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
}

#[test]
fn whatever_clients_do_each_frame_is_delivered_refused_or_counted() {
    let mut sums = [0; 7];
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..STEPS {
                model.step();
            }
            model.settle();
            model.check_end();
            let tally = &model.judge.tally;
            [tally.queued, tally.written, tally.refused, tally.skipped, tally.lost, tally.gaps, tally.full]
        });
        match run {
            Ok(tally) => sums.iter_mut().zip(tally).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                eprintln!("the seed is {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("queued, written, refused, skipped, lost, gaps, full: {sums:?}");
    assert!(sums.iter().all(|sum| *sum > 50), "every fate is met: {sums:?}");
}
