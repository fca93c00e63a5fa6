//! The dialect of switchboard itself, spoken by clients that do as little as the protocol allows.

use std::time::Duration;

use super::dialect::{Destination, Dialect, Event, Role};
use super::login::Login;
use crate::reactor::Progress;
use crate::wire::control::{
    Auth, Body, ErrorBody, Gap, Goodbye, Hello, Join, Joined, Ping, Pong, Profile, Reason, Welcome,
};
use crate::wire::{Code, Flags, Frames, HEADER_BYTES, Header, Id, PAYLOAD_BYTES_DEFAULT, Type};

/// Speaks to a switchboard relay for all clients of a run.
#[derive(Debug)]
pub struct Switchboard {
    /// Tells the clients of this run from those of another.
    run: u32,
    clients: Vec<Client>,
    /// The ids of rooms, as far as somebody has joined them.
    rooms: Vec<Id>,
    /// What carries a payload: SEND, or CHUNK for the pieces of files.
    carrier: Type,
    payload_bytes_max: u32,
    keepalive: Option<Duration>,
    login: Option<Login>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    id: Id,
    room: Option<u32>,
    /// It has asked to join its room and has not been answered.
    is_joining: bool,
    /// How often it has come: each time under another name, because the relay may not have noticed yet that
    /// its last connection is gone.
    visits: u32,
}

impl Switchboard {
    /// A dialect whose messages carry `size` bytes, and whose clients wish for `keepalive`.
    #[must_use]
    pub fn new(size: usize, keepalive: Option<Duration>) -> Self {
        Self {
            run: fastrand::u32(..),
            clients: Vec::new(),
            rooms: Vec::new(),
            carrier: Type::Send,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT.max(u32::try_from(size).unwrap_or(u32::MAX)),
            keepalive,
            login: None,
        }
    }

    /// Has all clients prove who they are.
    #[must_use]
    pub fn with_login(mut self, login: Option<Login>) -> Self {
        self.login = login;
        self
    }

    /// Sends payloads as the pieces of files.
    #[must_use]
    pub const fn of_files(mut self) -> Self {
        self.carrier = Type::Chunk;
        self
    }

    fn client(&mut self, client: u32) -> &mut Client {
        let index = client as usize;
        if self.clients.len() <= index {
            self.clients.resize(index + 1, Client::default());
        }
        &mut self.clients[index]
    }

    fn room(&self, room: u32) -> Id {
        self.rooms.get(room as usize).copied().unwrap_or(Id::RELAY)
    }

    fn welcomed(
        &mut self,
        client: u32,
        payload: &[u8],
        reply: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), String> {
        let welcome = Welcome::parse(payload).map_err(|error| format!("its WELCOME cannot be read: {error}"))?;
        let wanted = self.payload_bytes_max;
        if welcome.payload_bytes_max < wanted && wanted > PAYLOAD_BYTES_DEFAULT {
            return Err(format!(
                "it takes payloads of {} bytes at most: lower --size, or raise its --payload-max",
                welcome.payload_bytes_max
            ));
        }
        if let Some(login) = &mut self.login {
            login.check(client, &welcome)?;
        }
        let this = self.client(client);
        this.id = welcome.client;
        match this.room {
            None => on(Event::Ready),
            Some(room) => {
                self.client(client).is_joining = true;
                let name = format!("bench-{:08x}-{room}", self.run);
                Join { name: &name }.write_frame(Header::new(Type::Join), reply);
            }
        }
        Ok(())
    }

    fn joined(&mut self, client: u32, payload: &[u8]) -> Result<(), String> {
        let joined = Joined::parse(payload).map_err(|error| format!("its JOINED cannot be read: {error}"))?;
        self.client(client).is_joining = false;
        if let Some(room) = self.client(client).room {
            let index = room as usize;
            if self.rooms.len() <= index {
                self.rooms.resize(index + 1, Id::RELAY);
            }
            self.rooms[index] = joined.room;
        }
        Ok(())
    }
}

/// A code's name in the specification.
fn name_of(reason: &Reason<'_>) -> &'static str {
    reason.code().map_or("a code that this version does not know", Code::name)
}

impl Dialect for Switchboard {
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>) {
        let run = self.run;
        let this = self.client(client);
        this.room = role.room;
        this.visits += 1;
        let visits = this.visits;
        let prefix = self.login.as_ref().map(Login::prefix).unwrap_or_default();
        let name = format!("{prefix}bench-{run:08x}-{client}-{visits}");
        let mut hello = Hello::new(Profile::named(&name));
        hello.payload_bytes_max = Some(self.payload_bytes_max);
        hello.keepalive_ms = self.keepalive.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        if let Some(login) = &mut self.login {
            login.greet(client, &mut hello);
        }
        hello.write_frame(Header::new(Type::Hello), out);
    }

    fn read(
        &mut self,
        client: u32,
        data: &[u8],
        reply: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String> {
        let mut consumed = 0;
        for frame in Frames::new(data) {
            consumed += frame.len();
            if frame.len() < HEADER_BYTES {
                return Err("a frame is shorter than a header: this is no switchboard relay".to_owned());
            }
            let header = Header::read(frame);
            let payload = &frame[HEADER_BYTES..];
            if header.type_number == self.carrier.number() {
                on(Event::Delivered(payload));
                continue;
            }
            let unreadable = |error| format!("its {:?} cannot be read: {error}", header.frame_type());
            match header.frame_type() {
                Some(Type::Welcome) => self.welcomed(client, payload, reply, on)?,
                Some(Type::Auth) => {
                    let Auth { data } = Auth::parse(payload).map_err(unreadable)?;
                    let login = self.login.as_mut().ok_or("it asks for a proof that nobody has begun")?;
                    let answer = login.answer(client, data)?;
                    Auth { data: answer.as_bytes() }.write_frame(Header::new(Type::Auth), reply);
                }
                Some(Type::Joined) => {
                    self.joined(client, payload)?;
                    on(Event::Ready);
                }
                Some(Type::Ping) => {
                    let asked = Ping::parse(payload).map_err(unreadable)?;
                    let answer = Pong { ping_clock_us: asked.clock_us, clock_us: None };
                    answer.write_frame(Header::new(Type::Pong).correlating(header.correlation), reply);
                }
                Some(Type::Gap) => on(Event::Missed(Gap::parse(payload).map_err(unreadable)?.frames)),
                Some(Type::Error) => {
                    let ErrorBody(reason) = ErrorBody::parse(payload).map_err(unreadable)?;
                    if self.client(client).is_joining {
                        return Err(format!("it lets nobody more into a room: {}: {}", name_of(&reason), reason.text));
                    }
                    if reason.code().is_some_and(|code| !code.closes()) {
                        on(Event::Refused { number: header.correlation, why: name_of(&reason) });
                    } else {
                        on(Event::Ending(&format!("{}: {}", name_of(&reason), reason.text)));
                    }
                }
                Some(Type::Goodbye) => {
                    let Goodbye(reason) = Goodbye::parse(payload).map_err(unreadable)?;
                    on(Event::Ending(&format!("{}: {}", name_of(&reason), reason.text)));
                }
                _ => {}
            }
        }
        let rest = &data[consumed..];
        let wanted = rest.first_chunk().map_or(HEADER_BYTES, |length| 4 + u32::from_be_bytes(*length) as usize);
        if wanted > HEADER_BYTES + self.payload_bytes_max as usize {
            return Err("a frame is longer than agreed: this is no switchboard relay".to_owned());
        }
        Ok(Progress { consumed, wanted })
    }

    fn send(&mut self, _: u32, to: Destination, number: u32, payload: &[u8], out: &mut Vec<u8>) {
        let header = match to {
            Destination::Client(client) => Header::new(self.carrier).to(self.client(client).id),
            Destination::Room(room) => Header::new(self.carrier).to(self.room(room)).flagged(Flags::NO_ECHO),
            Destination::All => Header::new(self.carrier).to(Id::ALL).flagged(Flags::NO_ECHO),
        };
        out.extend_from_slice(&header.correlating(number).bytes(payload.len()));
        out.extend_from_slice(payload);
    }

    fn leave(&mut self, _: u32, out: &mut Vec<u8>) {
        Goodbye(Reason::default()).write_frame(Header::new(Type::Goodbye), out);
    }
}
