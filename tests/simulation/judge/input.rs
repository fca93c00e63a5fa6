//! What must come of a frame, worked out from the specification when the relay has been shown it.

use std::collections::BTreeMap;

use switchboard::relay::Denial;
use switchboard::time::Time;
use switchboard::wire::control::{self, Body, Hello, Join, Leave, Ping, Profile, Unwatch, Update};
use switchboard::wire::{BodyError, Code, Flags, Frames, HEADER_BYTES, Header, Id, IdKind, Tag, Type, is_valid_name};

use crate::frames::{Change, Seen};
use crate::people::has_room;

use super::{Answer, Due, Facts, Fan, Fate, Judge, Outcome, Room, State, hash};

impl Judge {
    /// The service has been shown bytes of a client, and has consumed these of them; `rest` if it was shown more.
    pub(crate) fn shown(&mut self, from: Id, consumed: &[u8], has_rest: bool, facts: &Facts<'_>, now: Time) {
        self.look_at_memory(consumed.len(), facts);
        self.count_sent(from, consumed, now);
        let mut rest = consumed;
        while !rest.is_empty() && !matches!(self.record(from).state, State::Leaving(_)) {
            let limit = self.record(from).payload_bytes_max;
            let is_greeting = self.record(from).state == State::Greeting && !self.is_proving(from);
            let length = rest.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
            if length < 24 || length >> 31 != 0 || length as usize > limit + 24 {
                let code = match length {
                    _ if is_greeting => Code::NotSwitchboard,
                    24..0x8000_0000 => Code::FrameTooLarge,
                    _ => Code::BadFrame,
                };
                self.fail(from, code, facts);
                break;
            }
            let (frame, after) = rest.split_at(length as usize + 4);
            rest = after;
            self.frame(from, frame, facts, now);
        }
        self.ends_for_sending(from, facts, now);
        let most = self.settings.queue_bytes_max;
        let stop_at = most + self.settings.queue_reserve_bytes / 2;
        let life = &mut self.record(from).life;
        if !has_rest {
            life.partial_since = None;
        } else if !consumed.is_empty() || life.partial_since.is_none() {
            life.partial_since = Some(now);
        }
        life.look(facts.queued(from), stop_at, 0, now);
    }

    fn frame(&mut self, from: Id, frame: &[u8], facts: &Facts<'_>, now: Time) {
        let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
        if self.is_proving(from) {
            return self.prove(from, &header, facts, now);
        }
        if self.record(from).state == State::Greeting {
            return self.hello(from, &header, payload, facts, now);
        }
        self.tick();
        self.tally.frames += 1;
        self.ledger.bytes_in += frame.len() as u64;
        self.record(from).life.hear(now);
        self.end_probes(from);
        let is_routed = match header.type_number {
            0x10 | 0x13 | 0x40..=0x4f | 0x80.. => true,
            0x06 | 0x07 => header.destination != Id::RELAY,
            _ => false,
        };
        if is_routed {
            self.routed(from, &header, frame, facts);
        } else {
            self.request(from, &header, frame, facts, now);
        }
    }

    fn answer(&mut self, to: Id, correlation: u32, answer: Answer) {
        match answer {
            Answer::Error(code) => self.ledger.refused[code.ordinal()] += 1,
            Answer::Done | Answer::Queued(..) => self.ledger.receipts += 1,
            _ => {}
        }
        self.record(to).answers.push((correlation, answer));
    }

    fn hello(&mut self, from: Id, header: &Header, payload: &[u8], facts: &Facts<'_>, now: Time) {
        let code = if header.frame_type() != Some(Type::Hello) {
            Code::OutOfOrder
        } else if Hello::versions(payload).is_none() {
            Code::NotSwitchboard
        } else if Hello::versions(payload).is_some_and(|(min, max)| min > 1 || max < 1) {
            Code::BadVersion
        } else if self.stopping {
            Code::ShuttingDown
        } else {
            match Hello::parse(payload) {
                Err(BodyError::TooLong(Tag::NAME) | BodyError::BadText(Tag::NAME)) => Code::HelloBadName,
                Err(_) => Code::BadHello,
                Ok(hello) if !is_valid_name(hello.profile.name.unwrap_or_default()) => Code::HelloBadName,
                Ok(hello) if self.users.ask() => return self.begin_login(from, header, payload, &hello, facts, now),
                Ok(hello) if self.named(hello.profile.name.unwrap_or_default()).is_some() => Code::HelloNameTaken,
                Ok(hello) => return self.welcome(from, header, &hello, now),
            }
        };
        self.fail_for(from, header.correlation, code, facts);
    }

    pub(super) fn welcome(&mut self, from: Id, header: &Header, hello: &Hello<'_>, now: Time) {
        let most = self.settings.payload_bytes_max;
        let keepalive_us =
            hello.keepalive_ms.map_or(self.settings.keepalive.as_micros() as u64, |ms| u64::from(ms) * 1000);
        let (least_us, most_us) =
            (self.settings.keepalive_min.as_micros() as u64, self.settings.keepalive_max.as_micros() as u64);
        let serial = self.tick();
        let record = self.record(from);
        record.state = State::Registered;
        self.registered.insert(from);
        let record = self.record(from);
        record.card.amend(&hello.profile);
        record.since = serial;
        record.payload_bytes_max = hello.payload_bytes_max.unwrap_or(65_536).max(4096).min(most) as usize;
        record.keepalive_us = keepalive_us.clamp(least_us, most_us);
        record.life.hear(now);
        record.welcomed = now;
        let card = record.card.clone();
        self.note(None, Change::Arrived(card));
        self.ledger.registered += 1;
        self.answer(from, header.correlation, Answer::Welcome);
    }

    fn routed(&mut self, from: Id, header: &Header, frame: &[u8], facts: &Facts<'_>) {
        let is_fan = !matches!(header.type_number, 0x13 | 0x06 | 0x07);
        let members: Vec<Id> = match header.destination.kind() {
            IdKind::Client => {
                let wants_receipt = header.flags.has(Flags::RECEIPT);
                if wants_receipt {
                    self.owed.insert((from, header.correlation), header.destination);
                    self.ledger.receipts_owed += 1;
                }
                return self.one_due(from, header, frame, header.destination, wants_receipt, facts);
            }
            IdKind::All if is_fan => match self.check(from, Denial::All, |rights| rights.all) {
                Ok(()) => self.registered.iter().copied().collect(),
                Err(code) => return self.answer(from, header.correlation, Answer::Error(code)),
            },
            IdKind::Room if is_fan => match self.room_to_send_to(from, header.destination) {
                Ok(members) => members,
                Err(code) => return self.answer(from, header.correlation, Answer::Error(code)),
            },
            _ => return self.answer(from, header.correlation, Answer::Error(Code::BadDestination)),
        };
        let except = header.flags.has(Flags::NO_ECHO).then_some(from);
        let (mut least, mut most) = (0, 0);
        let hash = hash(&stamped(header, from, header.destination, frame));
        for to in members.into_iter().filter(|to| Some(*to) != except) {
            most += 1;
            least += u64::from(facts.is_open(to));
            self.ledger.fans_due += 1;
            self.ledger.fans_doubtful += u64::from(!facts.is_open(to));
            let (serial, may_lack_room) = (self.serial, self.may_lack_room(to, frame.len(), facts));
            let record = self.record(to);
            let is_too_large = frame.len() - HEADER_BYTES > record.payload_bytes_max;
            record.due.push_back(Due {
                from,
                correlation: header.correlation,
                hash,
                bytes: frame.len(),
                fans_out: true,
                may_lack_room,
                may_be_gone: !facts.is_open(to),
                is_too_large,
                written: facts.written(to),
                serial,
            });
        }
        if header.flags.has(Flags::RECEIPT) {
            self.fans.insert((from, header.correlation), Fan::default());
            self.answer(from, header.correlation, Answer::Queued(least, most));
        }
    }

    /// The members of a room that a client is in, and may send to.
    fn room_to_send_to(&mut self, from: Id, id: Id) -> Result<Vec<Id>, Code> {
        let room = self.rooms.iter().find(|(_, room)| room.id == Some(id));
        let room = room.ok_or_else(|| self.no_such_room(from))?;
        let (name, members) = (room.0.clone(), room.1.members.keys().copied().collect::<Vec<_>>());
        if !members.contains(&from) {
            return Err(Code::NotMember);
        }
        self.check(from, Denial::Send, |rights| has_room(rights.send, &name))?;
        Ok(members)
    }

    /// A frame for one client, alone or among others.
    fn one_due(&mut self, from: Id, header: &Header, frame: &[u8], to: Id, receipt: bool, facts: &Facts<'_>) {
        let is_registered = self.is_registered(to);
        let is_listed = header.type_number == Type::SendMany.number();
        let allowed = self.check_address(from, to);
        let must = match self.records.get(&to).filter(|_| is_registered) {
            _ if allowed.is_err() => allowed.err(),
            None => Some(Code::NoSuchClient),
            Some(record) if frame.len() - HEADER_BYTES > record.payload_bytes_max => Some(Code::TooLargeForRecipient),
            Some(_) => None,
        };
        let may_lack_room = is_registered && self.may_lack_room(to, frame.len(), facts);
        let fate = Fate { state: Outcome::Open, must, may_lack_room, may_be_gone: !facts.is_open(to) };
        self.ledger.fates += 1;
        self.ledger.fates_doubtful += u64::from(fate.may_be_gone && must.is_none());
        let key = (from, header.correlation, to);
        assert!(self.fates.insert(key, fate).is_none(), "the simulation sends the frame {key:?} twice");
        if must.is_some() {
            return;
        }
        let destination = if is_listed { Id::MANY } else { to };
        let (hash, serial) = (hash(&stamped(header, from, destination, frame)), self.serial);
        let record = self.record(to);
        record.receipts_pending += usize::from(receipt);
        record.due.push_back(Due {
            from,
            correlation: header.correlation,
            hash,
            bytes: frame.len(),
            fans_out: false,
            may_lack_room,
            may_be_gone: !facts.is_open(to),
            is_too_large: false,
            written: facts.written(to),
            serial,
        });
    }

    /// Whether so many bytes may have found no room in a queue, by what is in it afterwards.
    fn may_lack_room(&mut self, to: Id, bytes: usize, facts: &Facts<'_>) -> bool {
        let queued = facts.queued(to);
        let most = self.settings.queue_bytes_max;
        let receipts_max = most / 256;
        let lacks_memory = self.may_lack_memory(to, facts);
        // While a GAP is open nothing is queued before half of the queue is free.
        lacks_memory
            || queued > most / 2
            || queued + bytes + 52 > most
            || self.record(to).receipts_pending >= receipts_max
            || !facts.is_open(to)
    }

    fn request(&mut self, from: Id, header: &Header, frame: &[u8], facts: &Facts<'_>, now: Time) {
        let (correlation, payload) = (header.correlation, &frame[HEADER_BYTES..]);
        let done = match header.frame_type() {
            Some(Type::SendMany) => return self.send_many(from, header, frame, facts),
            Some(Type::Ping) => match Ping::parse(payload) {
                Ok(ping) => return self.answer(from, correlation, Answer::Pong(ping.clock_us, now.micros())),
                Err(_) => Err(Code::BadBody),
            },
            Some(Type::Pong) => return,
            Some(Type::Error) => {
                self.ledger.errors_in += 1;
                return;
            }
            Some(Type::Goodbye) => return self.depart(from, Code::Left),
            Some(Type::Hello) => return self.fail_for(from, correlation, Code::OutOfOrder, facts),
            Some(Type::Watch) => self.watch(from, correlation, payload),
            Some(Type::Unwatch) => self.unwatch(from, payload, facts).map(|()| Some(Answer::Done)),
            Some(Type::Who) => self.who(from, payload),
            Some(Type::Update) => self.update(from, payload).map(|()| Some(Answer::Done)),
            Some(Type::Join) => self.join(from, payload),
            Some(Type::Evict) => self.evict(from, frame, facts).map(|()| Some(Answer::Done)),
            Some(Type::Leave) => self.leave(from, payload, facts).map(|()| Some(Answer::Done)),
            _ if header.flags.has(Flags::IGNORABLE) => return,
            _ => Err(Code::UnknownType),
        };
        match done {
            Ok(Some(Answer::Done)) if !header.flags.has(Flags::RECEIPT) => {}
            Ok(Some(answer)) => self.answer(from, correlation, answer),
            Ok(None) => {}
            Err(code) => self.answer(from, correlation, Answer::Error(code)),
        }
    }

    fn send_many(&mut self, from: Id, header: &Header, frame: &[u8], facts: &Facts<'_>) {
        let payload = &frame[HEADER_BYTES..];
        let code = if header.destination == Id::RELAY {
            match control::recipients(payload) {
                Ok((list, start)) => {
                    let list: Vec<Id> = list.collect();
                    return self.list_due(from, header, &list, &payload[start..], facts);
                }
                Err(BodyError::TooMany(_)) => Code::LimitReached,
                Err(_) => Code::BadBody,
            }
        } else {
            Code::BadDestination
        };
        self.answer(from, header.correlation, Answer::Error(code));
    }

    fn list_due(&mut self, from: Id, header: &Header, list: &[Id], payload: &[u8], facts: &Facts<'_>) {
        let except = header.flags.has(Flags::NO_ECHO).then_some(from);
        let mut frame = header.bytes(payload.len()).to_vec();
        frame.extend_from_slice(payload);
        let mut recipients = 0;
        for to in list.iter().filter(|to| Some(**to) != except) {
            recipients += 1;
            self.one_due(from, header, &frame, *to, false, facts);
        }
        if header.flags.has(Flags::RECEIPT) {
            self.answer(from, header.correlation, Answer::Queued(recipients, recipients));
        }
    }

    /// The scope of a request: everybody, or a room that the client is in.
    pub(super) fn scope(&self, from: Id, room: Option<u64>) -> Result<Option<Id>, Code> {
        let Some(id) = room.map(Id::from_bits).filter(|id| *id != Id::ALL) else { return Ok(None) };
        match self.rooms.values().find(|room| room.id == Some(id)) {
            None => Err(self.no_such_room(from)),
            Some(room) if room.members.contains_key(&from) => Ok(Some(id)),
            Some(_) => Err(Code::NotMember),
        }
    }

    fn unwatch(&mut self, from: Id, payload: &[u8], facts: &Facts<'_>) -> Result<(), Code> {
        let unwatch = Unwatch::parse(payload).map_err(|_| Code::BadBody)?;
        let scope = self.scope(from, unwatch.room)?;
        self.watch_no_more(from, scope, facts);
        Ok(())
    }

    fn watch_no_more(&mut self, from: Id, scope: Option<Id>, facts: &Facts<'_>) {
        let end = facts.written(from) + facts.queued(from) as u64;
        self.forsaken(scope, from);
        let record = self.record(from);
        if let Some(directory) = record.directories.get_mut(&scope) {
            directory.is_wanted = false;
            directory.over_at = Some(end);
            directory.asked.clear();
            // How many DELTAs it has missed until here nobody will learn.
            record.is_exact = false;
        }
    }

    fn update(&mut self, from: Id, payload: &[u8]) -> Result<(), Code> {
        let Update(profile) = Update::parse(payload).map_err(|_| Code::BadBody)?;
        if let Some(name) = profile.name {
            if !is_valid_name(name) {
                return Err(Code::BadName);
            }
            self.check_name(from, name)?;
            if self.named(name).is_some_and(|other| other != from) {
                return Err(Code::NameTaken);
            }
        }
        let serial = self.tick();
        let record = self.record(from);
        let before = record.card.clone();
        record.card.amend(&profile);
        if record.card == before {
            return Ok(());
        }
        record.former_cards.push((serial, before));
        let card = record.card.clone();
        let rooms = self.rooms.values().filter(|room| room.members.contains_key(&from)).filter_map(|room| room.id);
        for scope in rooms.map(Some).chain([None]).collect::<Vec<_>>() {
            self.note(scope, Change::Changed(card.clone()));
        }
        Ok(())
    }

    fn join(&mut self, from: Id, payload: &[u8]) -> Result<Option<Answer>, Code> {
        let join = Join::parse(payload).map_err(|_| Code::BadBody)?;
        if !is_valid_name(join.name) {
            return Err(Code::BadName);
        }
        self.check_join(from, join.name)?;
        let memberships = self.rooms.values().filter(|room| room.members.contains_key(&from)).count();
        let is_full = memberships >= self.settings.rooms_per_client_max;
        let (rooms, serial) = (self.rooms.len(), self.tick());
        let card = self.record(from).card.clone();
        let mut entered = None;
        match self.rooms.get_mut(join.name) {
            None if rooms >= self.settings.rooms_max || is_full => return Err(Code::LimitReached),
            None => {
                self.rooms_ever += 1;
                let members = BTreeMap::from([(from, serial)]);
                let room = Room { number: self.rooms_ever, id: None, members, former: BTreeMap::new() };
                self.rooms.insert(join.name.to_owned(), room);
            }
            Some(room) if room.members.contains_key(&from) => {}
            Some(room) if is_full || room.members.len() >= self.settings.members_max => return Err(Code::LimitReached),
            Some(room) => {
                room.members.insert(from, serial);
                entered = room.id;
            }
        }
        if entered.is_some() {
            self.note(entered, Change::Arrived(card));
        }
        let room = &self.rooms[join.name];
        Ok(Some(Answer::Joined(join.name.to_owned(), room.number, room.members.len() as u64)))
    }

    fn leave(&mut self, from: Id, payload: &[u8], facts: &Facts<'_>) -> Result<(), Code> {
        let leave = Leave::parse(payload).map_err(|_| Code::BadBody)?;
        let id = Id::from_bits(leave.room);
        let serial = self.tick();
        let none = self.no_such_room(from);
        let room = self.rooms.values_mut().find(|room| room.id == Some(id)).ok_or(none)?;
        if room.members.remove(&from).is_none() {
            return Err(Code::NotMember);
        }
        room.former.insert(from, serial);
        self.rooms.retain(|_, room| !room.members.is_empty());
        self.watch_no_more(from, Some(id), facts);
        self.note(Some(id), Change::Departed(from, Code::Left));
        let end = facts.written(from) + facts.queued(from) as u64;
        self.record(from).end_listings(id, end);
        Ok(())
    }
}

impl Seen {
    /// Takes over what a client says of itself; what is absent stays, what is empty goes.
    fn amend(&mut self, profile: &Profile<'_>) {
        if let Some(name) = profile.name {
            name.clone_into(&mut self.name);
        }
        if let Some(station) = profile.station {
            self.station = Some(station.to_owned()).filter(|station| !station.is_empty());
        }
        if profile.endpoints.iter().any(Option::is_some) {
            let given = profile.endpoints.iter().flatten().filter(|endpoint| !endpoint.is_empty());
            self.endpoints = given.map(|&endpoint| endpoint.to_owned()).collect();
        }
        if let Some(details) = profile.details {
            self.details = Some(details.to_vec()).filter(|details| !details.is_empty());
        }
    }
}

/// What a recipient must get of a frame.
fn stamped(header: &Header, from: Id, destination: Id, frame: &[u8]) -> Vec<u8> {
    let mut type_number = header.type_number;
    if type_number == Type::SendMany.number() {
        type_number = Type::Send.number();
    }
    let header = Header { type_number, source: from, destination, ..*header };
    let payload = &frame[HEADER_BYTES..];
    let mut stamped = header.bytes(payload.len()).to_vec();
    stamped.extend_from_slice(payload);
    stamped
}

/// Whole frames at the front of `bytes`, and how long they are together.
pub(super) fn whole(bytes: &[u8]) -> usize {
    Frames::new(bytes).map(<[u8]>::len).sum()
}
