//! What a step does.

use switchboard::wire::control::{Evict, Hello, Join, Leave, Ping, Profile, Unwatch, Update, Watch, Who};
use switchboard::wire::{Flags, HEADER_BYTES, Header, Id, Type};

use super::client::Link;
use super::doors::{Door, Manner, Trick};
use super::frames::{frame, frame_of, send_many};
use super::judge::Facts;
use super::people::Proving;
use super::plan::{Action, Ask, Greeting, Reader, Spoil, Step, Target};
use super::world::World;

impl World {
    pub(super) fn perform(&mut self, step: &Step) {
        let client = step.client;
        match &step.action {
            Action::Connect { hello, payload_bytes_max, keepalive_ms, line, door, reader } => {
                if !self.is_connected(client) {
                    self.dial(client, *line, *door, *reader, step);
                    self.greet(client, *hello, *payload_bytes_max, *keepalive_ms, *door);
                    self.leave_early(client, *door);
                }
            }
            Action::Crowd { count, line, door } => {
                for client in (client..self.clients.len()).take(*count) {
                    if !self.is_connected(client) {
                        self.dial(client, *line, *door, Reader::Prompt, step);
                        self.greet(client, Greeting::Good, Some(u32::MAX), Some(20_000), *door);
                        self.leave_early(client, *door);
                    }
                }
            }
            Action::Send { to, payload_bytes, count, flags, kind, type_number } => {
                let Some(to) = self.id_of(*to) else { return };
                for place in 0..*count as usize {
                    // Not all of one length, so that some fit where others do not.
                    let payload_bytes = payload_bytes / (1 + place % 3);
                    let word = self.frame(client, to, *type_number, *flags, *kind, payload_bytes);
                    self.say(client, &word);
                }
            }
            Action::SendMany { to, strangers, via, payload_bytes, flags } => {
                let Some(via) = self.id_of(*via) else { return };
                let mut list: Vec<Id> = to.iter().filter_map(|to| self.id_of(*to)).collect();
                list.sort_unstable();
                list.dedup();
                let correlation = self.next();
                let most = self.clients[client].link.as_ref().map_or(0, |link| link.payload_bytes_max);
                let strangers = (*strangers).min(most.saturating_sub(4 + 8 * list.len()) / 8);
                list.extend((0..strangers).map(|index| Id::client(index, 1 << 30)));
                let room = most.saturating_sub(4 + 8 * list.len());
                let payload = filling(correlation, (*payload_bytes).min(room));
                let mut word = send_many(Flags(*flags), correlation, &list, &payload);
                word[12..20].copy_from_slice(&via.bits().to_be_bytes());
                self.say(client, &word);
            }
            Action::Ask { ask, flags } => self.ask(client, *ask, Flags(*flags)),
            Action::Together { count, ask } => {
                for client in (client..self.clients.len()).take(*count) {
                    self.ask(client, *ask, Flags::NONE);
                    if matches!(ask, Ask::Who | Ask::Watch(_)) {
                        self.ask(client, *ask, Flags::NONE); // The first may still be under way.
                    }
                }
            }
            Action::Spoil(spoil) => self.spoil(client, *spoil),
            Action::Goodbye | Action::HalfClose => {
                // Whoever leaves in order reads to the end, or not.
                if step.number.is_multiple_of(2) {
                    self.with(client, |link| link.reader = Reader::Prompt);
                }
                if step.action == Action::HalfClose {
                    self.with(client, |link| link.peer.half_close());
                } else {
                    self.say(client, &frame(Header::new(Type::Goodbye), &[]));
                }
            }
            Action::Trick(trick) => self.play_trick(client, *trick),
            Action::Reset => self.with(client, |link| link.peer.reset()),
            Action::Cut => self.with(client, |link| link.peer.cut()),
            Action::Read(reader) => self.with(client, |link| link.reader = *reader),
            Action::Storm { count } => {
                for client in (client..self.clients.len()).take(*count) {
                    self.with(client, |link| link.peer.reset());
                }
            }
            Action::Pass(duration) => self.pass(*duration),
            Action::Reload(list) if self.people.ask() && !self.is_stopping => self.reload(*list),
            Action::ShutDown if !self.is_stopping => {
                self.is_stopping = true;
                self.tap.judge.watch_outputs();
                self.tap.service.shut_down(&mut self.engine.connections, self.now);
                self.tap.judge.shut_down(&Facts(&self.engine.connections));
            }
            // Not twice, and not where nobody is asked.
            Action::Reload(_) | Action::ShutDown => {}
        }
    }

    /// Another list of users holds from now on.
    fn reload(&mut self, list: usize) {
        self.list = list;
        self.tap.judge.watch_outputs();
        self.tap.service.set_users(&mut self.engine.connections, *self.people.users(list), self.now);
        // What was left to do for the list before it is done at once.
        self.tap.judge.review_all(&Facts(&self.engine.connections));
        self.tap.judge.reloaded(list);
    }

    /// Some hang up in the midst of the handshake.
    fn leave_early(&mut self, client: usize, door: Door) {
        if door.manner == Manner::Gone {
            self.with(client, |link| link.peer.cut_off());
        }
    }

    fn play_trick(&mut self, client: usize, trick: Trick) {
        let (now, word) = (self.now, self.frame(client, Id::ALL, 0x10, 0, 0, 100));
        self.with(client, |link| {
            let is_over_tls = link.peer.wire().secure.as_ref().is_some_and(|secure| secure.is_established());
            if !is_over_tls || link.is_done || link.is_spoilt {
                return;
            }
            let seal = |link: &Link| link.peer.with_tls(now, |secure| secure.seal(&word)).flatten();
            match trick {
                Trick::Refresh(count) => {
                    link.peer.with_tls(now, |secure| (0..count).for_each(|_| secure.refresh()));
                }
                Trick::CloseNotify => drop(link.peer.with_tls(now, super::secure::Secure::close)),
                Trick::CutOff => link.peer.cut_off(),
                Trick::Scramble => {
                    let Some(mut record) = seal(link) else { return };
                    if let Some(last) = record.last_mut() {
                        *last ^= 1;
                    }
                    link.peer.send_raw(now, &record);
                }
                Trick::HalfRecord(missing) => {
                    let Some(record) = seal(link) else { return };
                    link.peer.send_raw(now, &record[..record.len() - missing.min(record.len() - 1)]);
                }
                Trick::Raw => {
                    if link.peer.with_tls(now, super::secure::Secure::spoil) == Some(true) {
                        link.peer.send_raw(now, b"PLAIN TEXT IN THE MIDST OF RECORDS\r\n");
                    }
                }
            }
            link.is_spoilt = !matches!(trick, Trick::Refresh(_));
            if link.is_spoilt {
                link.held.clear();
            }
        });
    }

    fn with(&mut self, client: usize, act: impl FnOnce(&mut Link)) {
        if let Some(link) = &mut self.clients[client].link {
            act(link);
        }
    }

    fn is_connected(&self, client: usize) -> bool {
        let link = self.clients[client].link.as_ref();
        link.is_some_and(|link| !link.is_done && !link.peer.is_over() && !link.peer.wire().is_gone)
    }

    fn say(&mut self, client: usize, bytes: &[u8]) {
        let now = self.now;
        self.with(client, |link| link.send(now, bytes));
    }

    fn greet(
        &mut self,
        client: usize,
        greeting: Greeting,
        payload_bytes_max: Option<u32>,
        keepalive_ms: Option<u32>,
        door: Door,
    ) {
        let correlation = self.next();
        let owner = if let Greeting::As(other) = greeting { other } else { client };
        let name = match greeting {
            Greeting::BadName => " ".to_owned(),
            Greeting::LongName => "n".repeat(65),
            _ => client_name(owner),
        };
        let proving = self.proving(client, door, correlation);
        let first = proving.as_ref().map(Proving::first).unwrap_or_default();
        let mechanism = proving.as_ref().and_then(|proving| proving.login.mechanism(door.tls));
        let auth_data = mechanism.map(|_| &*first);
        let hello =
            Hello { payload_bytes_max, keepalive_ms, mechanism, auth_data, ..Hello::new(Profile::named(&name)) };
        let bytes = match greeting {
            Greeting::Good | Greeting::As(_) | Greeting::BadName | Greeting::LongName => {
                frame_of(correlation, Flags::NONE, &hello)
            }
            Greeting::BadBody => {
                let hello = frame_of(correlation, Flags::NONE, &hello);
                frame(Header::read(&hello), &hello[HEADER_BYTES..hello.len() - 1])
            }
            Greeting::OtherVersion => {
                let hello = Hello { version_min: 7, version_max: 9, ..hello };
                frame_of(correlation, Flags::NONE, &hello)
            }
            Greeting::NotSwitchboard => b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec(),
            Greeting::Send => self.frame(client, Id::ALL, 0x10, 0, 0, 10),
            Greeting::None => Vec::new(),
        };
        self.say(client, &bytes);
        self.with(client, |link| link.proving = proving);
    }

    /// A client's end of its login, at a relay that asks who somebody is.
    fn proving(&self, client: usize, door: Door, number: u32) -> Option<Proving> {
        let user = self.people.user_of(client);
        let rights = self.people.lists.get(self.list).and_then(|list| list[user]);
        self.people.ask().then(|| Proving::new(door.login, user, rights, door.tls, number))
    }

    /// A frame of a client that is within its limit.
    pub(super) fn frame(
        &mut self,
        client: usize,
        to: Id,
        type_number: u8,
        flags: u8,
        kind: u16,
        payload_bytes: usize,
    ) -> Vec<u8> {
        let correlation = self.next();
        let most = self.clients[client].link.as_ref().map_or(0, |link| link.payload_bytes_max);
        // A PING has a body of its own, and this is none.
        let length = if type_number == 0x06 { 0 } else { payload_bytes.min(most) };
        let header = Header { type_number, kind, ..Header::new(Type::Send).to(to).flagged(Flags(flags)) };
        frame(header.correlating(correlation), &filling(correlation, length))
    }

    fn id_of(&self, target: Target) -> Option<Id> {
        match target {
            Target::Client(client) => self.clients[client].link.as_ref()?.id,
            Target::Former(client) => self.clients[client].former,
            Target::Nobody(bits) => Some(Id::from_bits(bits)),
            Target::Room(room) => Some(self.room(room)),
            Target::All => Some(Id::ALL),
            Target::Relay => Some(Id::RELAY),
        }
    }

    /// The last id that anybody has learnt of a room; if nobody has, one of a room that never was.
    fn room(&self, room: usize) -> Id {
        self.rooms.get(&room_name(room)).copied().unwrap_or(Id::room(room, 1 << 30))
    }

    fn ask(&mut self, client: usize, ask: Ask, flags: Flags) {
        let correlation = self.next();
        let room = |room: Option<usize>| room.map(|room| self.room(room));
        let bits = |id: Option<Id>| id.map(Id::bits);
        let bytes = match ask {
            Ask::Watch(scope) => {
                let scope = room(scope);
                self.with(client, |link| {
                    link.watches.retain(|other| *other != scope);
                    link.watches.push(scope);
                });
                frame_of(correlation, flags, &Watch { room: bits(scope) })
            }
            Ask::Unwatch(scope) => {
                let scope = room(scope);
                self.with(client, |link| link.watches.retain(|other| *other != scope));
                frame_of(correlation, flags, &Unwatch { room: bits(scope) })
            }
            Ask::Who => frame_of(correlation, flags, &Who::Everybody),
            Ask::WhoClient(other) | Ask::WhoFormer(other) => {
                let target = if ask == Ask::WhoClient(other) { Target::Client(other) } else { Target::Former(other) };
                let Some(id) = self.id_of(target) else { return };
                frame_of(correlation, flags, &Who::Client(id))
            }
            Ask::WhoNamed(other) => frame_of(correlation, flags, &Who::Named(&client_name(other))),
            Ask::WhoRoom(number) => frame_of(correlation, flags, &Who::Room(self.room(number))),
            Ask::Join(number) => frame_of(correlation, flags, &Join { name: &room_name(number) }),
            Ask::Leave(number) => frame_of(correlation, flags, &Leave { room: self.room(number).bits() }),
            Ask::Rename(other) => frame_of(correlation, flags, &Update(Profile::named(&client_name(other)))),
            Ask::Details(length) => {
                let details = filling(correlation, length);
                frame_of(correlation, flags, &Update(Profile { details: Some(&details), ..Profile::default() }))
            }
            Ask::Station(number) => {
                let text = number.to_string();
                let station = Some(if number % 3 == 0 { "" } else { &text });
                let endpoints = [Some(&*text), Some("elsewhere")].map(|endpoint| endpoint.filter(|_| number > 1));
                let mut profile = Profile { station: station.filter(|_| number < 4), ..Profile::default() };
                profile.endpoints[..2].copy_from_slice(&endpoints);
                if number == 1 {
                    profile.endpoints[0] = Some("");
                }
                frame_of(correlation, flags, &Update(profile))
            }
            Ask::Ping(clock_us) => frame_of(correlation, flags, &Ping { clock_us }),
            Ask::JoinBadName => frame_of(correlation, flags, &Join { name: "" }),
            Ask::RenameBadly => frame_of(correlation, flags, &Update(Profile::named(" "))),
            Ask::Error => frame(Header::new(Type::Error).flagged(flags).correlating(correlation), &[]),
            Ask::BadPing => frame(Header::new(Type::Ping).flagged(flags).correlating(correlation), &[0x10, 5, 0]),
            Ask::Unknown => {
                let header = Header { type_number: 0x7f, ..Header::new(Type::Send).flagged(flags) };
                frame(header.correlating(correlation), &[1, 2, 3])
            }
            Ask::Evict(target) => {
                let Some(client) = self.id_of(target) else { return };
                frame_of(correlation, flags, &Evict { client, text: "enough" })
            }
            Ask::BadBody => frame(Header::new(Type::Join).flagged(flags).correlating(correlation), &[0x10, 0, 0]),
        };
        self.say(client, &bytes);
    }

    fn spoil(&mut self, client: usize, spoil: Spoil) {
        let correlation = self.next();
        let most = self.clients[client].link.as_ref().map_or(0, |link| link.payload_bytes_max);
        let bytes = match spoil {
            // Noise that begins with what can only be a length over any limit.
            Spoil::Garbage(length) => {
                let mut noise = filling(correlation, length.max(4));
                noise[0] |= 0x40;
                noise
            }
            Spoil::TooLarge => {
                let mut bytes = frame(Header::new(Type::Send).correlating(correlation), &[]);
                bytes[..4].copy_from_slice(&(most as u32 + 25).to_be_bytes());
                bytes
            }
            Spoil::TooLargeBehind => {
                let mut bytes = self.frame(client, Id::ALL, 0x10, 0, 0, 20);
                let header = Header::new(Type::Send).to(Id::ALL).correlating(correlation);
                bytes.extend(frame(header, &filling(correlation, most + 1)));
                bytes
            }
            Spoil::MalformedBehind => {
                let good = self.frame(client, Id::ALL, 0x10, 0, 0, 20);
                let mut bad = self.frame(client, Id::ALL, 0x10, 0, 0, 20);
                bad[..4].copy_from_slice(&23_u32.to_be_bytes());
                [good, bad].concat()
            }
            Spoil::Malformed => [0, 0, 0, 23, 1, 2, 3].to_vec(),
            Spoil::Half(missing) => {
                let mut bytes = self.frame(client, Id::ALL, 0x10, 0, 0, 200);
                bytes.truncate(bytes.len().saturating_sub(missing).max(1));
                bytes
            }
            Spoil::Again => {
                let hello = Hello::new(Profile::named("again"));
                return self.say(client, &frame_of(correlation, Flags::NONE, &hello));
            }
        };
        self.say(client, &bytes);
        self.with(client, |link| link.is_spoilt = true);
    }
}

fn client_name(client: usize) -> String {
    format!("client-{client}")
}

fn room_name(room: usize) -> String {
    format!("room-{room}")
}

/// Bytes that tell which frame they belong to, and which place in it.
fn filling(correlation: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(31).wrapping_add(correlation.wrapping_mul(7)) as u8).collect()
}
