//! What comes to the clients of a soak, frame by frame: into the account, to those who watch, and to whoever waits for
//! an answer.

use super::{Crowd, Place, Request};
use crate::bench::fleet::what_broke;
use crate::bench::soak::groups::Role;
use crate::bench::soak::ledger::{Aim, EVERYBODY, End, Visit};
use crate::bench::soak::presence::Next;
use crate::reactor::{CloseReason, ConnId, Connections, Progress, Service, Unsent};
use crate::time::Time;
use crate::wire::control::{Auth, Body, ErrorBody, Gap, Goodbye, Joined, Ping, Pong, Reason, Receipt, Stage, Welcome};
use crate::wire::{BodyError, Code, Frames, HEADER_BYTES, Header, IdKind, Type};

impl Crowd {
    /// Takes one frame in.
    fn take(&mut self, io: &mut Connections, client: u32, frame: &[u8], now_ns: u64) -> Result<(), String> {
        let header = Header::read(frame);
        let payload = &frame[HEADER_BYTES..];
        let visit = self.clients[client as usize].visit;
        let unreadable = |error| format!("its {:?} cannot be read: {error}", header.frame_type());
        match header.frame_type() {
            Some(Type::Send) => self.delivered(client, &header, payload, now_ns),
            Some(Type::Receipt) => {
                let receipt = Receipt::parse(payload).map_err(unreadable)?;
                self.tally.receipts += 1;
                match Stage::from_number(receipt.stage) {
                    Some(Stage::Written) => self.ledger.is_written(visit, header.correlation),
                    Some(Stage::Queued) => {
                        let (queued, skipped) = (receipt.recipients.unwrap_or(0), receipt.skipped.unwrap_or(0));
                        self.ledger.is_queued(visit, header.correlation, queued, skipped);
                        self.told_of_skips(io, client, skipped);
                    }
                    _ => self.done(io, client, header.correlation),
                }
            }
            Some(Type::Auth) => {
                let Auth { data } = Auth::parse(payload).map_err(unreadable)?;
                let login = self.login.as_mut().ok_or("it asks for a proof that nobody has begun")?;
                let answer = login.answer(client, data)?;
                self.say(io, client, |out| {
                    Auth { data: answer.as_bytes() }.write_frame(Header::new(Type::Auth), out);
                });
            }
            Some(Type::Welcome) => self.welcomed(io, client, &Welcome::parse(payload).map_err(unreadable)?)?,
            Some(Type::Joined) => {
                let joined = Joined::parse(payload).map_err(unreadable)?;
                if let Some(Request::Join(scope)) = self.requests.remove(&(visit, header.correlation)) {
                    self.rooms.insert(scope, joined.room);
                    self.scopes.insert(joined.room, scope);
                    self.ledger.is_in(scope, visit);
                    self.tally.joins += 1;
                    self.moved(client);
                }
            }
            Some(Type::Ping) => {
                let asked = Ping::parse(payload).map_err(unreadable)?;
                self.tally.pings += 1;
                if self.is_here(client) {
                    let answer = Pong { ping_clock_us: asked.clock_us, clock_us: None };
                    let header = Header::new(Type::Pong).correlating(header.correlation);
                    self.say(io, client, |out| answer.write_frame(header, out));
                }
            }
            Some(Type::Gap) => {
                self.ledger.misses(visit, Gap::parse(payload).map_err(unreadable)?.frames);
                self.tally.gaps += 1;
                let list = self.clients[client as usize].list.as_mut();
                if list.is_some_and(|list| list.gap()) && self.is_here(client) {
                    self.watch(io, client);
                }
            }
            Some(Type::Snapshot | Type::Delta) => self.learnt(io, client, &header, payload).map_err(unreadable)?,
            Some(Type::Error) => {
                let ErrorBody(reason) = ErrorBody::parse(payload).map_err(unreadable)?;
                self.failed(io, client, header.correlation, &reason)?;
            }
            Some(Type::Goodbye) => {
                let Goodbye(reason) = Goodbye::parse(payload).map_err(unreadable)?;
                self.complain(&format!("{}: {}", name_of(&reason), reason.text));
            }
            _ => {}
        }
        Ok(())
    }

    fn delivered(&mut self, client: u32, header: &Header, payload: &[u8], now_ns: u64) {
        let this = &self.clients[client as usize];
        let visit = this.visit;
        let aim = match header.destination.kind() {
            IdKind::Client if header.destination == this.id => Some(Aim::One),
            IdKind::Many => Some(Aim::List),
            IdKind::All => Some(Aim::Many(EVERYBODY)),
            _ => self.scopes.get(&header.destination).map(|scope| Aim::Many(*scope)),
        };
        let size = self.sizes.iter().position(|size| *size == payload.len());
        let stamp = size
            .and_then(|size| self.payloads[size].read(payload))
            .filter(|stamp| stamp.number == header.correlation && self.ids.get(&header.source) == Some(&stamp.flow));
        let Some((stamp, aim)) = stamp.zip(aim) else {
            self.ledger.is_damaged();
            return;
        };
        if self.ledger.arrives(visit, stamp.flow, stamp.number, payload.len(), aim)
            && self.is_measured
            && self.groups.role(client) != Role::Slow
        {
            let nanos = now_ns.saturating_sub(stamp.time_ns).max(1);
            self.latencies.saturating_record(nanos);
            self.interval.saturating_record(nanos);
        }
    }

    fn welcomed(&mut self, io: &mut Connections, client: u32, welcome: &Welcome<'_>) -> Result<(), String> {
        if welcome.payload_bytes_max < self.payload_bytes_max {
            return Err(format!(
                "it takes payloads of {} bytes at most: lower --size, or raise its --payload-max",
                welcome.payload_bytes_max
            ));
        }
        if let Some(login) = &mut self.login {
            login.check(client, welcome)?;
        }
        let role = self.groups.role(client);
        self.queue_bytes_max = welcome.queue_bytes_max;
        let this = &mut self.clients[client as usize];
        (this.id, this.place) = (welcome.client, Place::Here);
        let visit = this.visit;
        self.twins += u64::from(self.ids.insert(welcome.client, visit).is_some());
        self.ledger.is_in(EVERYBODY, visit);
        if role == Role::Host {
            self.ledger.watches(visit);
            self.watch(io, client);
        }
        self.settle_in(io, client, role);
        Ok(())
    }

    fn done(&mut self, io: &mut Connections, client: u32, number: u32) {
        let visit = self.clients[client as usize].visit;
        if let Some(Request::Leave(scope)) = self.requests.remove(&(visit, number)) {
            self.ledger.is_out(scope, visit);
            self.has_left(io, client, scope);
            self.moved(client);
        }
    }

    fn learnt(&mut self, io: &mut Connections, client: u32, header: &Header, payload: &[u8]) -> Result<(), BodyError> {
        let this = &mut self.clients[client as usize];
        let (visit, Some(list)) = (this.visit, &mut this.list) else { return Ok(()) };
        let next = if header.frame_type() == Some(Type::Snapshot) {
            list.snapshot(header, payload, &self.prefix)?
        } else {
            let (ids, ledger, tally) = (&self.ids, &mut self.ledger, &mut self.tally);
            list.delta(payload, &self.prefix, |id| {
                tally.changes += 1;
                if let Some(gone) = ids.get(&id) {
                    ledger.departs(visit, *gone);
                }
            })?
        };
        self.ledger.has_strangers |= list.has_strangers;
        match next {
            Next::Nothing => {}
            Next::Whole => {
                self.requests.remove(&(visit, header.correlation));
                // What a DELTA that is missing would have said.
                for (id, gone) in &self.ids {
                    if !list.has(*id) && self.ledger.has_ended(*gone) {
                        self.ledger.departs(visit, *gone);
                    }
                }
            }
            Next::WatchAgain => self.watch(io, client),
            Next::Fault => {
                self.misinformed += 1;
                self.watch(io, client);
            }
        }
        Ok(())
    }

    fn failed(&mut self, io: &mut Connections, client: u32, number: u32, reason: &Reason<'_>) -> Result<(), String> {
        let this = &self.clients[client as usize];
        let (visit, place) = (this.visit, this.place);
        let says = format!("{}: {}", name_of(reason), reason.text);
        match reason.code() {
            // The relay may not have noticed yet that its last connection is gone.
            Some(Code::HelloNameTaken) if place == Place::Arriving && self.groups.role(client) == Role::Visitor => {
                self.tally.names_taken += 1;
                self.clients[client as usize].place = Place::Leaving;
            }
            Some(code) if !code.closes() => match self.requests.remove(&(visit, number)) {
                Some(Request::Watch) if code == Code::Busy => self.watch(io, client),
                Some(_) => return Err(format!("it refuses a request: {says}")),
                None => {
                    let to = reason.client.map(|id| self.ids.get(&id).copied().unwrap_or(Visit::MAX));
                    self.ledger.is_refused(visit, number, to, code.name());
                }
            },
            _ => self.complain(&says),
        }
        Ok(())
    }
}

/// A code's name in the specification.
fn name_of(reason: &Reason<'_>) -> &'static str {
    reason.code().map_or("a code that this version does not know", Code::name)
}

impl Service for Crowd {
    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        let Some(&client) = self.slots.get(conn.index()).filter(|client| **client != u32::MAX) else {
            return Progress::all(data);
        };
        let now_ns = self.now_ns();
        let mut consumed = 0;
        for frame in Frames::new(data) {
            consumed += frame.len();
            let taken = if frame.len() < HEADER_BYTES {
                Err("a frame is shorter than a header: this is no switchboard relay".to_owned())
            } else {
                self.take(io, client, frame, now_ns)
            };
            if let Err(why) = taken {
                self.complain(&why);
                io.abort(conn, CloseReason::Aborted);
                return Progress::all(data);
            }
        }
        let rest = &data[consumed..];
        let wanted = rest.first_chunk().map_or(HEADER_BYTES, |length| 4 + u32::from_be_bytes(*length) as usize);
        if wanted > HEADER_BYTES + self.payload_bytes_max as usize {
            self.complain("a frame is longer than agreed: this is no switchboard relay");
            io.abort(conn, CloseReason::Aborted);
            return Progress::all(data);
        }
        Progress { consumed, wanted }
    }

    fn on_established(&mut self, io: &mut Connections, conn: ConnId, _: Time) {
        self.agreed.note(io.tls_terms(conn));
    }

    fn on_end(&mut self, io: &mut Connections, conn: ConnId, _: Time) {
        if let Some(client) = self.slots.get(conn.index()).filter(|client| **client != u32::MAX) {
            self.clients[*client as usize].has_heard_all = true;
        }
        io.close(conn);
    }

    fn on_close(&mut self, _: &mut Connections, conn: ConnId, reason: CloseReason, _: Unsent<'_>, _: Time) {
        let Some(slot) = self.slots.get_mut(conn.index()) else { return };
        let client = std::mem::replace(slot, u32::MAX);
        let Some(this) = self.clients.get_mut(client as usize).filter(|this| this.conn == Some(conn)) else { return };
        this.conn = None;
        let (place, visit) = (std::mem::replace(&mut this.place, Place::Absent), this.visit);
        self.requests.retain(|(asking, _), _| *asking != visit);
        match place {
            Place::Broken => {}
            Place::Leaving if this.has_heard_all => self.ledger.ends(visit, End::Orderly),
            _ => {
                self.ledger.ends(visit, End::Cut);
                self.broken += 1;
                self.complain(match reason {
                    CloseReason::Reset if place == Place::Leaving => {
                        "the relay reset a connection that was to end in good order"
                    }
                    reason => what_broke(reason),
                });
            }
        }
    }

    fn on_turn_end(&mut self, io: &mut Connections, _: Time) {
        self.act(io);
        let clients = &self.clients;
        self.hanging_up.retain(|client| {
            let Some(conn) = clients[*client as usize].conn else { return false };
            // What it has said before is still to be written.
            if io.queued_bytes(conn) > 0 {
                return true;
            }
            io.end_writing(conn);
            false
        });
    }
}
