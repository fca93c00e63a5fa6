//! What is done when in a soak: by the clock, whatever the relay does meanwhile.
//!
//! Frames go out in beats of some milliseconds, so that the load generator sleeps in between: a soak shares its
//! machine for hours. What a frame is, and who sends it, is drawn by lot, with the same lots in every run.
//!
//! | of 1,000 frames | |
//! | --- | --- |
//! | 600 | from a talker to its partner, one in eight with a receipt |
//! | 150 | from the first member of a room to the others |
//! | 150 | between a visitor and its host, with a receipt |
//! | 45 | to the room of the slow, long ones |
//! | 30 | to a room that is there for a moment only |
//! | 20 | to a list of 16, some of whom may be slow or about to leave |
//! | 5 | to everybody |

use std::collections::VecDeque;
use std::time::Duration;

use super::crowd::{Crowd, Place};
use super::groups::Role;
use super::ledger::{EVERYBODY, Scope};
use crate::bench::scenario::Work;
use crate::bench::schedule::Schedule;
use crate::reactor::Connections;

/// The time between two beats: short beside what people notice, long beside what a turn costs.
pub(super) const BEAT: Duration = Duration::from_millis(5);
/// Frames that go out in a turn: what is overdue after a pause of the machine must not cause the next one.
const FRAMES_TURN_MAX: u32 = 1024;
/// Visits begin and end, and guests move, so often a second for each client: at 200 clients ten times.
const MOVES_PER_CLIENT: f64 = 0.05;
/// Frames between a visitor and its host, in each direction, at the very end of a visit.
const LAST_WORDS: usize = 3;
/// Recipients of a list.
const LIST_CLIENTS: usize = 16;
/// The slow read on when so many frames in a row found somebody's queue full.
const SKIPS_ENOUGH: u32 = 8;
/// Or when they have not read for so long: a third of a relay's write deadline.
const STALL_MAX_NS: u64 = 10_000_000_000;
/// And stop again after so long.
const READING_NS: u64 = 1_000_000_000;
/// The lots: a soak that has failed can be run again.
const SEED: u64 = 0x50a4;

/// Two guests who move together.
#[derive(Debug)]
struct Couple {
    guests: [u32; 2],
    /// The room that is theirs, or was.
    own: Scope,
    /// Where each of them is a guest.
    visited: [Scope; 2],
    stage: Stage,
    /// Answers that they wait for.
    waiting: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Apart,
    /// In a room of their own.
    Together,
    /// In rooms of others.
    Out,
}

/// What the slow do.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Read { since_ns: u64 },
    Stall { since_ns: u64, skips: u32 },
}

/// What is done when.
#[derive(Debug)]
pub(super) struct Acts {
    random: fastrand::Rng,
    rate: f64,
    moves_rate: f64,
    static_rooms: u32,
    frames: Option<Schedule>,
    visits: Option<Schedule>,
    moves: Option<Schedule>,
    couples: Vec<Couple>,
    next_couple: usize,
    next_room: Scope,
    slow: Slow,
    /// Visitors who are here, or on their way, the oldest first; and those whose turn comes.
    visiting: VecDeque<u32>,
    away: VecDeque<u32>,
}

impl Acts {
    pub(super) fn new(work: &Work) -> Self {
        let groups = super::groups::Groups::of(work);
        let couple = |first: u32| Couple {
            guests: [first, first + 1],
            own: 0,
            visited: [0; 2],
            stage: Stage::Apart,
            waiting: 0,
        };
        // Three of four visitors are here at a time; the others are on their way out, or about to come.
        let visitors: Vec<u32> = groups.visitors.clone().collect();
        let (visiting, away) = visitors.split_at(visitors.len() * 3 / 4);
        Self {
            random: fastrand::Rng::with_seed(SEED),
            rate: work.rate,
            moves_rate: f64::from(work.connections) * MOVES_PER_CLIENT,
            static_rooms: work.rooms,
            frames: None,
            visits: None,
            moves: None,
            couples: groups.guests.step_by(2).map(couple).collect(),
            next_couple: 0,
            next_room: work.rooms + 2,
            slow: Slow::Read { since_ns: 0 },
            visiting: visiting.iter().copied().collect(),
            away: away.iter().copied().collect(),
        }
    }

    /// Visits that begin, and end, in a second.
    pub(super) const fn moves_rate(&self) -> f64 {
        self.moves_rate
    }

    /// Visitors who come before anything is measured.
    pub(super) fn first_visitors(&self) -> Vec<u32> {
        self.visiting.iter().copied().collect()
    }

    /// Begins to do things.
    pub(super) fn start(&mut self, now_ns: u64) {
        let schedule = |rate: f64| Some(Schedule::new(0..1, rate, now_ns));
        self.frames = schedule(self.rate);
        self.visits = schedule(self.moves_rate);
        self.moves = schedule(self.moves_rate);
        self.slow = Slow::Read { since_ns: now_ns };
    }

    /// Frames that should have been sent by now, and were not.
    pub(super) fn overdue(&self, now_ns: u64) -> u64 {
        self.frames.as_ref().map_or(0, |frames| frames.overdue(now_ns))
    }

    const fn loud_room(&self) -> Scope {
        self.static_rooms + 1
    }
}

/// The beat at or behind a time: when a frame that is due then goes out.
const fn beat_of(due_ns: u64) -> u64 {
    let beat = BEAT.as_nanos() as u64;
    due_ns.div_ceil(beat).saturating_mul(beat)
}

/// What of a schedule has had its beat.
fn due(schedule: Option<&mut Schedule>, now_ns: u64) -> Option<u64> {
    let beat = BEAT.as_nanos() as u64;
    schedule?.next_due(now_ns / beat * beat).map(|(_, due_ns)| beat_of(due_ns))
}

impl Crowd {
    /// How long until the next beat.
    pub(super) fn wait(&self) -> Duration {
        if self.acts.frames.is_none() {
            return BEAT;
        }
        let now_ns = self.now_ns();
        Duration::from_nanos(beat_of(now_ns + 1) - now_ns)
    }

    /// Does nothing new from here on; those who do not read read on.
    pub(super) fn stop(&mut self, io: &mut Connections) {
        (self.acts.frames, self.acts.visits, self.acts.moves) = (None, None, None);
        self.stall_all(io, false);
    }

    /// Does what is due.
    pub(super) fn act(&mut self, io: &mut Connections) {
        let now_ns = self.now_ns();
        for _ in 0..FRAMES_TURN_MAX {
            let Some(due_ns) = due(self.acts.frames.as_mut(), now_ns) else { break };
            self.send_something(io, due_ns);
        }
        while let Some(due_ns) = due(self.acts.moves.as_mut(), now_ns) {
            self.move_somebody(io, due_ns);
        }
        if self.acts.frames.is_some() {
            self.stall_or_read(io, now_ns);
        }
    }

    /// Has the oldest visitor leave whose time has come; says who is to come instead.
    pub(super) fn next_visit(&mut self, io: &mut Connections) -> Option<u32> {
        let now_ns = self.now_ns();
        let due_ns = due(self.acts.visits.as_mut(), now_ns)?;
        if let Some(leaving) = self.acts.visiting.pop_front() {
            let (place, visit) = (self.clients[leaving as usize].place, self.clients[leaving as usize].visit);
            if place == Place::Here {
                self.say_last_words(io, leaving, due_ns);
            }
            match (place, visit % 3) {
                (Place::Here, 0) => self.say_goodbye(io, leaving),
                (Place::Here, 1) => self.hang_up(leaving),
                (Place::Here, _) => self.cut(io, leaving),
                _ => {}
            }
            match place {
                Place::Arriving => self.acts.visiting.push_front(leaving),
                _ => self.acts.away.push_back(leaving),
            }
        }
        let next = self.acts.away.pop_front()?;
        let this = &mut self.clients[next as usize];
        if this.place != Place::Absent {
            self.acts.away.push_front(next);
            return None;
        }
        // Every second one comes under a new name, the others under the one that they had.
        this.names += this.visit % 2;
        self.acts.visiting.push_back(next);
        Some(next)
    }

    /// Visitor and host send to each other, so that something is on its way when the visitor leaves.
    fn say_last_words(&mut self, io: &mut Connections, visitor: u32, due_ns: u64) {
        let host = self.groups.host_of(visitor);
        for (from, to) in [(visitor, host), (host, visitor)] {
            for _ in 0..LAST_WORDS {
                let size = self.size(5);
                self.send(io, from, to, size, true, due_ns);
            }
        }
    }

    fn send_something(&mut self, io: &mut Connections, due_ns: u64) {
        let (talkers, herald) = (self.groups.talkers.clone(), self.groups.herald);
        let is_sent = match self.acts.random.u32(..1000) {
            0..5 => {
                let size = self.size(2);
                self.send_many(io, herald, EVERYBODY, size, due_ns);
                true
            }
            5..25 => self.send_to_a_list(io, due_ns),
            25..70 if !self.groups.slow.is_empty() => {
                let size = (self.sizes() - 1).min(3);
                self.send_many(io, herald, self.acts.loud_room(), size, due_ns);
                true
            }
            70..100 => self.send_between_guests(io, due_ns),
            100..250 => self.send_to_or_from_a_visitor(io, due_ns),
            250..400 => {
                let room = self.acts.random.u32(..self.acts.static_rooms);
                let size = self.size(5);
                self.send_many(io, talkers.start + room, room + 1, size, due_ns);
                true
            }
            _ => false,
        };
        if !is_sent {
            let talker = self.acts.random.u32(talkers);
            let (size, receipt) = (self.size(5), self.acts.random.u32(..8) == 0);
            self.send(io, talker, self.groups.partner_of(talker), size, receipt, due_ns);
        }
    }

    /// One of the first `count` sizes: half are short messages, one in fifty as long as they may be.
    fn size(&mut self, count: usize) -> usize {
        let size = match self.acts.random.u32(..100) {
            0..18 => 0,
            18..63 => 1,
            63..88 => 2,
            88..98 => 3,
            _ => 4,
        };
        size.min(count - 1).min(self.sizes() - 1)
    }

    fn send_to_a_list(&mut self, io: &mut Connections, due_ns: u64) -> bool {
        let all = self.clients.len() as u32;
        let mut list: Vec<u32> = Vec::new();
        for _ in 0..LIST_CLIENTS {
            let client = self.acts.random.u32(1..all);
            // What is refused for somebody who is cut off may be told or not.
            let is_cut = self.groups.role(client) == Role::Visitor && self.clients[client as usize].visit % 3 == 2;
            if self.is_here(client) && !is_cut && !list.contains(&client) {
                list.push(client);
            }
        }
        let size = self.size(3);
        self.send_list(io, self.groups.herald, &list, size, due_ns);
        true
    }

    fn send_between_guests(&mut self, io: &mut Connections, due_ns: u64) -> bool {
        let place = self.acts.random.usize(..self.acts.couples.len());
        let couple = &self.acts.couples[place];
        if couple.stage != Stage::Together || couple.waiting > 0 {
            return false;
        }
        let (from, room, size) = (couple.guests[0], couple.own, self.size(4));
        self.send_many(io, from, room, size, due_ns);
        true
    }

    fn send_to_or_from_a_visitor(&mut self, io: &mut Connections, due_ns: u64) -> bool {
        let visitor = self.acts.random.u32(self.groups.visitors.clone());
        if !self.is_here(visitor) {
            return false;
        }
        let (host, size) = (self.groups.host_of(visitor), self.size(5));
        let (from, to) = if self.acts.random.bool() { (visitor, host) } else { (host, visitor) };
        self.send(io, from, to, size, true, due_ns);
        true
    }

    /// The next couple of guests goes a step further, unless it still waits for an answer.
    fn move_somebody(&mut self, io: &mut Connections, due_ns: u64) {
        let acts = &mut self.acts;
        acts.next_couple = (acts.next_couple + 1) % acts.couples.len();
        let place = acts.next_couple;
        let couple = &mut acts.couples[place];
        if couple.waiting > 0 {
            return;
        }
        couple.waiting = 2;
        let guests = couple.guests;
        match couple.stage {
            Stage::Apart => {
                couple.stage = Stage::Together;
                couple.own = acts.next_room;
                let room = couple.own;
                acts.next_room += 1;
                self.tally.rooms += 1;
                for guest in guests {
                    self.join(io, guest, room);
                }
            }
            Stage::Together => {
                couple.stage = Stage::Out;
                let room = couple.own;
                for guest in guests {
                    self.leave_room(io, guest, room);
                }
            }
            Stage::Out if couple.visited == [0; 2] => {
                let first = acts.random.u32(..acts.static_rooms);
                let rooms = [first + 1, (first + 1) % acts.static_rooms + 1];
                couple.visited = rooms;
                let vanished = couple.own;
                if let Some(id) = self.forget_room(vanished) {
                    self.probe(io, guests[0], id, due_ns);
                }
                for (guest, room) in guests.into_iter().zip(rooms) {
                    self.join(io, guest, room);
                }
            }
            Stage::Out => {
                couple.stage = Stage::Apart;
                let rooms = std::mem::take(&mut couple.visited);
                for (guest, room) in guests.into_iter().zip(rooms) {
                    self.leave_room(io, guest, room);
                }
            }
        }
    }

    /// A client has joined a room, or left it.
    pub(super) fn moved(&mut self, client: u32) {
        if let Some(couple) = self.acts.couples.iter_mut().find(|couple| couple.guests.contains(&client)) {
            couple.waiting = couple.waiting.saturating_sub(1);
        }
    }

    /// A guest is in a room no more. A frame to it alone stands behind all that it has got from there, so that it is
    /// known whether it was to get what was on its way when it left.
    pub(super) fn has_left(&mut self, io: &mut Connections, client: u32, scope: Scope) {
        let couple = self.acts.couples.iter().find(|couple| couple.guests.contains(&client));
        let own = couple.filter(|couple| couple.own == scope).map(|couple| couple.guests[0]);
        let sender = own.unwrap_or_else(|| self.groups.talkers.start + scope - 1);
        let (from, to) = (self.clients[sender as usize].visit, self.clients[client as usize].visit);
        if sender != client && self.ledger.is_open_between(from, to) {
            let now_ns = self.now_ns();
            self.send(io, sender, client, 0, false, now_ns);
        }
    }

    /// A client has been welcomed: it goes where it belongs.
    pub(super) fn settle_in(&mut self, io: &mut Connections, client: u32, role: Role) {
        match role {
            Role::Herald if self.groups.slow.is_empty() => {}
            Role::Herald | Role::Slow => self.join(io, client, self.acts.loud_room()),
            Role::Talker => {
                let room = (client - self.groups.talkers.start) % self.acts.static_rooms;
                self.join(io, client, room + 1);
            }
            Role::Visitor | Role::Host | Role::Guest | Role::Idle => {}
        }
    }

    /// The herald is told for how many there was no room.
    pub(super) fn told_of_skips(&mut self, io: &mut Connections, client: u32, skipped: u64) {
        if client == self.groups.herald
            && skipped > 0
            && let Slow::Stall { skips, .. } = &mut self.acts.slow
        {
            *skips += 1;
            if *skips >= SKIPS_ENOUGH {
                self.stall_all(io, false);
            }
        }
    }

    fn stall_or_read(&mut self, io: &mut Connections, now_ns: u64) {
        match self.acts.slow {
            Slow::Read { since_ns } if now_ns.saturating_sub(since_ns) >= READING_NS => self.stall_all(io, true),
            Slow::Stall { since_ns, .. } if now_ns.saturating_sub(since_ns) >= STALL_MAX_NS => {
                self.stall_all(io, false);
            }
            _ => {}
        }
    }

    fn stall_all(&mut self, io: &mut Connections, stalled: bool) {
        let since_ns = self.now_ns();
        self.acts.slow = if stalled { Slow::Stall { since_ns, skips: 0 } } else { Slow::Read { since_ns } };
        self.tally.stalls += u64::from(stalled && !self.groups.slow.is_empty());
        for client in self.groups.slow.clone() {
            self.stall(io, client, stalled);
        }
    }

    /// Has everybody who may still wait for something be sent a frame that stands behind it.
    pub(super) fn send_marks(&mut self, io: &mut Connections) {
        let now_ns = self.now_ns();
        let client_of =
            |visit| self.clients.iter().position(|client| client.visit == visit && client.place == Place::Here);
        let links = self.ledger.open_links().into_iter();
        let links: Vec<_> = links.filter_map(|(from, to)| Some((client_of(from)?, client_of(to)?))).collect();
        for (from, to) in links {
            self.send(io, from as u32, to as u32, 0, false, now_ns);
        }
    }
}
