//! What the relay owes its clients, worked out of what they send and of what time it is, before it is asked.

use std::time::Duration;

use switchboard::time::Time;
use switchboard::wire::control::{self, Body, Hello, Join, Leave, Ping, Profile, Unwatch, Update, Watch, Who};
use switchboard::wire::{
    BodyError, Code, Flags, FrameError, Frames, HEADER_BYTES, Header, Id, IdKind, PAYLOAD_BYTES_DEFAULT,
    PAYLOAD_BYTES_FLOOR, Tag, Type, VERSION, is_routed, is_valid_name,
};

use super::frames::{Got, send_flagged, stamped_bytes};
use super::judge::{Judge, Room, Sent, Step};

/// The grain of deadlines, in microseconds: a sign of life counts from the next multiple.
const GRAIN_US: u64 = 1 << 16;

/// The code of a body that cannot be read.
fn unreadable(error: BodyError) -> Code {
    match error {
        BodyError::TooLong(Tag::NAME) | BodyError::BadText(Tag::NAME) => Code::BadName,
        _ => Code::BadBody,
    }
}

impl Judge {
    /// Works out what must come of frames that the relay is about to be shown.
    pub(crate) fn foresee(&mut self, from: Id, run: &[u8], now: Time) {
        self.step = Step { actor: Some(from), ..Step::default() };
        self.hear(from, now);
        for frame in Frames::new(run) {
            let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
            if !self.is_registered(from) {
                return self.foresee_greeting(from, &header, payload, now);
            }
            if is_routed(header.type_number, header.destination) {
                self.foresee_routed(from, &header, frame);
            } else {
                self.foresee_request(from, &header, payload, now);
            }
        }
    }

    fn hear(&mut self, from: Id, now: Time) {
        let record = self.clients.get_mut(&from).expect("it is connected");
        record.heard = Time::from_micros(now.micros().next_multiple_of(GRAIN_US));
        record.asked = false;
    }

    /// A length field is about to be shown that ends the connection.
    pub(crate) fn foresee_broken(&mut self, from: Id, error: FrameError) {
        self.step = Step { actor: Some(from), ..Step::default() };
        self.end_with(
            from,
            0,
            match error {
                _ if self.clients[&from].greeting => Code::NotSwitchboard,
                FrameError::TooLarge { .. } => Code::FrameTooLarge,
                FrameError::Malformed { .. } => Code::BadFrame,
            },
        );
    }

    /// A frame that was begun has not been completed in time.
    pub(crate) fn foresee_overdue(&mut self, from: Id) {
        self.step = Step { actor: Some(from), ..Step::default() };
        let record = &self.clients[&from];
        if record.registered || record.greeting {
            self.end_with(from, 0, Code::FrameTimeout);
        }
    }

    /// The deadline of a client has come, for which `queued` bytes wait.
    pub(crate) fn foresee_deadline(&mut self, from: Id, queued: usize, now: Time) {
        self.step = Step { actor: Some(from), ..Step::default() };
        let record = self.clients.get_mut(&from).expect("it is connected");
        if record.greeting {
            return self.end_with(from, 0, Code::HelloTimeout);
        }
        let (idle, keepalive) = (now.since(record.heard), record.keepalive);
        if !record.registered {
        } else if queued > 0 {
            // A PING would wait behind it.
            record.asked = false;
        } else if record.asked && idle >= 2 * keepalive {
            self.end_with(from, 0, Code::IdleTimeout);
        } else if idle >= keepalive * 9 / 10 {
            record.asked = true;
            self.tell(from, Got::Ping { clock_us: Some(now.micros()) });
        }
    }

    fn answer(&mut self, got: Got) {
        self.step.answers.push(got);
    }

    /// The relay's last word to a client.
    fn end_with(&mut self, from: Id, correlation: u32, code: Code) {
        self.depart(from);
        self.tell(from, Got::error(correlation, code, None));
    }

    /// Makes an answer due to a client, if its socket takes one.
    fn tell(&mut self, to: Id, got: Got) {
        if self.clients[&to].broken {
            self.step.for_nobody += 1;
        } else {
            self.answer(got);
        }
    }

    fn foresee_greeting(&mut self, from: Id, header: &Header, payload: &[u8], now: Time) {
        if !self.clients[&from].greeting {
            return;
        }
        let hello = match Hello::versions(payload) {
            _ if header.frame_type() != Some(Type::Hello) => Err(Code::OutOfOrder),
            None => Err(Code::NotSwitchboard),
            Some((least, most)) if !(least..=most).contains(&VERSION) => Err(Code::BadVersion),
            Some(_) => Hello::parse(payload).map_err(|error| match unreadable(error) {
                Code::BadName => Code::HelloBadName,
                _ => Code::BadHello,
            }),
        };
        let hello = hello.and_then(|hello| match hello.profile.name {
            Some(name) if !is_valid_name(name) => Err(Code::HelloBadName),
            Some(name) if self.is_taken(name) => Err(Code::HelloNameTaken),
            _ => Ok(hello),
        });
        match hello {
            Ok(hello) => self.foresee_welcome(from, header.correlation, &hello, now),
            Err(code) => self.end_with(from, header.correlation, code),
        }
    }

    fn foresee_welcome(&mut self, from: Id, correlation: u32, hello: &Hello<'_>, now: Time) {
        let settings = &self.settings;
        let wish = hello.payload_bytes_max.unwrap_or(PAYLOAD_BYTES_DEFAULT);
        let payload_bytes_max = wish.max(PAYLOAD_BYTES_FLOOR).min(settings.payload_bytes_max);
        let wish = hello.keepalive_ms.map_or(settings.keepalive, |ms| Duration::from_millis(ms.into()));
        let keepalive = wish.max(settings.keepalive_min).min(settings.keepalive_max);
        let record = self.clients.get_mut(&from).expect("it is connected");
        hello.profile.name.unwrap_or_default().clone_into(&mut record.name);
        (record.greeting, record.registered) = (false, true);
        record.payload_bytes_max = payload_bytes_max as usize;
        record.keepalive = keepalive;
        self.hear(from, now);
        let keepalive_ms = keepalive.as_millis() as u32;
        self.answer(Got::Welcome { correlation, client: from, payload_bytes_max, keepalive_ms });
    }

    fn foresee_routed(&mut self, from: Id, header: &Header, frame: &[u8]) {
        let (correlation, to) = (header.correlation, header.destination);
        let sent = Sent { from, bytes: stamped_bytes(from, frame), fans_out: to.kind() != IdKind::Client };
        let recipients: Vec<Id> = match to.kind() {
            IdKind::Client => vec![to],
            IdKind::All => self.clients.iter().filter(|(_, record)| record.registered).map(|(id, _)| *id).collect(),
            IdKind::Room => match self.room(to) {
                Some(room) if room.members.contains(&from) => room.members.iter().copied().collect(),
                Some(_) => return self.answer(Got::error(correlation, Code::NotMember, None)),
                None => return self.answer(Got::error(correlation, Code::NoSuchRoom, None)),
            },
            _ => return self.answer(Got::error(correlation, Code::BadDestination, None)),
        };
        self.deal(correlation, sent, &recipients);
    }

    /// Makes a frame due to its recipients.
    fn deal(&mut self, correlation: u32, sent: Sent, recipients: &[Id]) {
        let is_list = Header::read(&sent.bytes).destination == Id::MANY;
        let except = (sent.flags().has(Flags::NO_ECHO) && (sent.fans_out || is_list)).then_some(sent.from);
        let (mut least, mut most) = (0, 0);
        for to in recipients.iter().copied().filter(|to| Some(*to) != except) {
            let record = self.clients.get(&to).filter(|record| record.registered);
            let too_large = record.is_some_and(|r| sent.bytes.len() - HEADER_BYTES > r.payload_bytes_max);
            most += 1;
            match record {
                // The relay may still count it for one that it will soon hear to be gone.
                Some(record) if sent.fans_out && record.broken => continue,
                Some(_) if sent.fans_out || !too_large => self.step.due.entry(to).or_default().push_back(correlation),
                Some(_) => self.answer(Got::error(correlation, Code::TooLargeForRecipient, Some(to))),
                None => self.answer(Got::error(correlation, Code::NoSuchClient, Some(to))),
            }
            least += 1;
        }
        if sent.wants_receipt() && (sent.fans_out || is_list) {
            self.step.totals.insert(correlation, (least, most));
        }
        self.sent.insert(correlation, sent);
    }

    fn foresee_request(&mut self, from: Id, header: &Header, payload: &[u8], now: Time) {
        let correlation = header.correlation;
        let wants_receipt = header.flags.has(Flags::RECEIPT);
        let result = match header.frame_type() {
            Some(Type::SendMany) => {
                let (list, start) = match control::recipients(payload) {
                    Ok((list, start)) => (list.collect::<Vec<Id>>(), start),
                    Err(BodyError::TooMany(_)) => {
                        return self.answer(Got::error(correlation, Code::LimitReached, None));
                    }
                    Err(_) => return self.answer(Got::error(correlation, Code::BadBody, None)),
                };
                let copy = send_flagged(header.flags, correlation, Id::MANY, &payload[start..]);
                let sent = Sent { from, bytes: stamped_bytes(from, &copy), fans_out: false };
                return self.deal(correlation, sent, &list);
            }
            Some(Type::Ping) => match Ping::parse(payload) {
                Ok(Ping { clock_us: ping_clock_us }) => {
                    let clock_us = Some(now.micros());
                    return self.answer(Got::Pong { correlation, ping_clock_us, clock_us });
                }
                Err(error) => Err(unreadable(error)),
            },
            Some(Type::Pong | Type::Error) => return,
            Some(Type::Update) => match Update::parse(payload) {
                Ok(Update(profile)) => self.foresee_update(from, &profile),
                Err(error) => Err(unreadable(error)),
            },
            Some(Type::Join) => match Join::parse(payload).map_err(unreadable).and_then(|join| self.enters(from, join))
            {
                Ok(name) => {
                    let members = &mut self.rooms.entry(name.to_owned()).or_default().members;
                    members.insert(from);
                    return self.step.joins.push((correlation, name.to_owned(), members.len() as u64));
                }
                Err(code) => Err(code),
            },
            Some(Type::Leave) => match Leave::parse(payload) {
                Ok(Leave { room }) => self.foresee_leave(from, room),
                Err(error) => Err(unreadable(error)),
            },
            Some(Type::Watch) => {
                let watch = Watch::parse(payload).map_err(unreadable);
                watch.and_then(|watch| self.scope(from, watch.room)).map(|()| true)
            }
            Some(Type::Unwatch) => {
                let unwatch = Unwatch::parse(payload).map_err(unreadable);
                unwatch.and_then(|unwatch| self.scope(from, unwatch.room)).map(|()| false)
            }
            Some(Type::Who) => match Who::parse(payload).map_err(unreadable) {
                Ok(Who::Named(name)) if !self.is_taken(name) => Err(Code::NoSuchClient),
                Ok(Who::Client(id)) if !self.is_registered(id) => Err(Code::NoSuchClient),
                Ok(Who::Room(room)) => self.scope(from, Some(room.bits())).map(|()| true),
                Ok(_) => Ok(true),
                Err(code) => Err(code),
            },
            Some(Type::Goodbye) => return self.depart(from),
            Some(Type::Hello) => {
                self.depart(from);
                Err(Code::OutOfOrder)
            }
            _ if header.flags.has(Flags::IGNORABLE) => return,
            _ => Err(Code::UnknownType),
        };
        match result {
            Ok(answered) if answered || !wants_receipt => {}
            Ok(_) => self.answer(Got::done(correlation)),
            Err(code) => self.answer(Got::error(correlation, code, None)),
        }
    }

    /// Says that a request succeeds without an answer of its own, or how it fails.
    fn foresee_update(&mut self, from: Id, profile: &Profile<'_>) -> Result<bool, Code> {
        if profile.name.is_some_and(|name| !is_valid_name(name)) {
            return Err(Code::BadName);
        }
        if let Some(name) = profile.name
            && self.clients.iter().any(|(id, record)| *id != from && record.registered && record.name == name)
        {
            return Err(Code::NameTaken);
        }
        let record = self.clients.get_mut(&from).expect("it is registered");
        record.name = profile.name.unwrap_or(&record.name).to_owned();
        record.station = profile.station.map(str::to_owned).or_else(|| record.station.take());
        Ok(false)
    }

    /// The name of the room, if one may come in.
    fn enters<'a>(&self, from: Id, join: Join<'a>) -> Result<&'a str, Code> {
        if !is_valid_name(join.name) {
            return Err(Code::BadName);
        }
        let room = self.rooms.get(join.name);
        let is_in = |room: &&Room| room.members.contains(&from);
        let is_full = room.is_none() && self.rooms.len() >= self.settings.rooms_max
            || self.rooms.values().filter(is_in).count() >= self.settings.rooms_per_client_max
            || room.is_some_and(|room| room.members.len() >= self.settings.members_max);
        if is_full && !room.as_ref().is_some_and(is_in) { Err(Code::LimitReached) } else { Ok(join.name) }
    }

    fn foresee_leave(&mut self, from: Id, room: u64) -> Result<bool, Code> {
        self.scope(from, Some(room))?;
        self.rooms.retain(|_, other| {
            if other.id == Some(Id::from_bits(room)) {
                other.members.remove(&from);
            }
            !other.members.is_empty()
        });
        Ok(false)
    }

    fn scope(&self, from: Id, room: Option<u64>) -> Result<(), Code> {
        let Some(room) = room else { return Ok(()) };
        let room = self.room(Id::from_bits(room)).ok_or(Code::NoSuchRoom)?;
        if room.members.contains(&from) { Ok(()) } else { Err(Code::NotMember) }
    }

    /// So many bytes are about to be written, which the relay is told if it wants to know: whose receipts that
    /// brings.
    pub(crate) fn foresee_written(&mut self, id: Id, written: u64, is_told: bool) {
        self.step = Step::default();
        self.receipts(id, written);
        assert!(is_told || self.step.indirect.is_empty(), "the relay does not want to know what {id:?} was written");
    }

    fn receipts(&mut self, id: Id, written: u64) {
        let record = self.clients.get_mut(&id).expect("it is connected");
        while let Some((correlation, _)) = record.queue.front().copied().filter(|(_, end)| *end <= written) {
            record.queue.pop_front();
            self.tally.written += 1;
            let sent = &self.sent[&correlation];
            if sent.wants_receipt() && Header::read(&sent.bytes).destination == id {
                self.step.indirect.entry(sent.from).or_default().push(Got::written(correlation));
            }
        }
    }

    /// A connection is about to be told as gone: what comes back of its queue.
    pub(crate) fn foresee_end(&mut self, id: Id, written: u64) {
        self.step = Step::default();
        self.depart(id);
        self.receipts(id, written);
        let record = self.clients.remove(&id).expect("it is connected");
        for (correlation, _) in record.queue {
            let sent = &self.sent[&correlation];
            if sent.fans_out {
                self.tally.void += 1;
            } else {
                self.tally.lost += 1;
                let error = Got::error(correlation, Code::RecipientLost, Some(id));
                self.step.indirect.entry(sent.from).or_default().push(error);
            }
        }
    }

    /// Nothing is about to happen that anybody is owed an answer for.
    pub(crate) fn foresee_nothing(&mut self) {
        self.step = Step::default();
    }

    /// The turn is about to end.
    pub(crate) fn foresee_turn(&mut self) {
        self.step = Step { is_turn: true, ..Step::default() };
    }
}
