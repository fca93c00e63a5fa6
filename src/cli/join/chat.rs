//! What `join` knows and says: who is here, the rooms, the target, and what has not been answered.
//!
//! Notices and lines go in, frames and shown texts come out.
//!
//! What it does not do: it reads no terminal, writes to none, and waits for nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::link::Notice;
use super::super::output;
use super::command::{self, Command, Target};
use super::pending::{Errand, Many, Pending, Search};
use super::words;
use crate::client::{Directory, Envelope, Event, Failure, Happening, JoinedRoom, Message, Options, Pong};
use crate::client::{ReceiptFor, SendError, Sender, Snapshot, Step};
use crate::wire::control::{Profile, Who};
use crate::wire::{Code, Id, TEXT_BYTES_MAX};

/// How many are remembered by name whom the directory does not have: who have left, for frames of theirs and errors about
/// them that come after their departure, and who were looked for.
const REMEMBERED_MAX: usize = 256;

pub(super) struct Chat {
    address: String,
    name: String,
    options: Arc<Mutex<Options>>,
    sender: Option<Sender>,
    directory: Directory,
    /// Names of those who are not in the directory, the latest last.
    remembered: VecDeque<(Id, String)>,
    /// The rooms to be in, with the id once the relay has said it.
    rooms: BTreeMap<String, Option<Id>>,
    target: Target,
    pending: HashMap<u32, Pending>,
    /// Who is here is to be shown when the directory is complete.
    introduce: bool,
    /// What is to be said of rooms behind that.
    joined_early: Vec<String>,
    shown: Vec<String>,
    /// Lines and requests that came to nothing.
    failed: u64,
}

impl Chat {
    pub(super) fn new(address: String, name: String, rooms: Vec<String>, options: Arc<Mutex<Options>>) -> Self {
        Self {
            address,
            name,
            options,
            sender: None,
            directory: Directory::default(),
            remembered: VecDeque::new(),
            // Who comes into a room by name has come to talk there.
            target: rooms.first().map_or(Target::All, |room| Target::Room(room.clone())),
            rooms: rooms.into_iter().map(|room| (room, None)).collect(),
            pending: HashMap::new(),
            introduce: true,
            joined_early: Vec::new(),
            shown: Vec::new(),
            failed: 0,
        }
    }

    /// What is to be shown by now.
    pub(super) fn take_shown(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shown)
    }

    /// How many lines and requests have come to nothing so far.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn prompt(&self) -> String {
        words::prompt(&self.target)
    }

    /// Nothing that a next line could build on is under way: rooms, names, who is here.
    pub(super) fn is_settled(&self) -> bool {
        let independent = |pending: &Pending| matches!(pending, Pending::Line { .. } | Pending::Ping { .. });
        let is_introduced = self.directory.is_complete() || self.directory.is_denied();
        self.sender.is_some() && is_introduced && self.pending.values().all(independent)
    }

    /// There is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.sender.is_some()
    }

    /// Every line and request has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Connected(sender) => self.connected(sender),
            Notice::Event(event) => self.event(event),
            Notice::Lost { why, attempt, delay } => {
                self.lost();
                let (why, delay) = (words::reason(why), delay.as_secs_f64());
                self.show(format!("* not connected: {why}; attempt {attempt} follows in {delay:.1} s"));
            }
            Notice::Idle | Notice::Deadline => {}
        }
    }

    fn connected(&mut self, sender: Sender) {
        self.directory = Directory::default();
        self.introduce = true;
        self.joined_early.clear();
        self.sender = Some(sender);
        for name in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.request(Pending::Join { name: name.clone() }, |sender| sender.join(&name));
        }
        self.watch();
    }

    fn lost(&mut self) {
        self.sender = None;
        self.rooms.values_mut().for_each(|room| *room = None);
        let is_typed = |(_, pending): &(u32, Pending)| !matches!(pending, Pending::Join { .. });
        let unanswered = self.pending.drain().filter(is_typed).count();
        if unanswered > 0 {
            let lines = output::counted(unanswered as u64, "line");
            self.failed += unanswered as u64;
            self.show(format!("* no answer yet to {lines}: what became of that is not known"));
        }
    }

    fn watch(&mut self) {
        if let Some(Ok(correlation)) = self.sender.as_ref().map(|sender| sender.watch(None)) {
            self.directory.asked(correlation);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.message(&message),
            Event::Receipt(receipt) => self.receipt(&receipt),
            Event::Error(failure) => self.failure(&failure),
            Event::Gap { frames, bytes } => self.gap(frames, bytes),
            Event::Snapshot(page) => self.snapshot(page),
            Event::Delta(delta) => {
                let me = self.sender.as_ref().map(|sender| sender.session().client);
                let (shown, remembered) = (&mut self.shown, &mut self.remembered);
                let step = self.directory.apply_delta(delta, |happening| {
                    if let Happening::Departed { peer, .. } = &happening {
                        remember(remembered, peer.id, &peer.name);
                    }
                    shown.extend(words::happening(&happening, me));
                });
                if step == Step::WatchAgain {
                    self.watch();
                }
            }
            Event::Joined(joined) => self.joined(joined),
            Event::Pong(pong) => self.pong(&pong),
            Event::Ack { from, .. } => {
                let name = self.name_of(from);
                self.show(format!("* {name} has taken a message"));
            }
            // Told as the reason of the end, which follows.
            Event::Goodbye(_) | Event::Closed(_) => {}
        }
    }

    fn message(&mut self, message: &Message) {
        let from = self.name_of(message.header.source);
        let room = |id: Id| self.rooms.iter().find(|(_, room)| **room == Some(id)).map(|(name, _)| name.as_str());
        let line = words::message(&from, message, room(message.header.destination));
        self.show(line);
        self.ask_who_is(message.header.source);
    }

    /// Asks for the name of a stranger: its next line is shown with it.
    fn ask_who_is(&mut self, id: Id) {
        if self.directory.is_stranger(id)
            && let Some(Ok(correlation)) = self.sender.as_ref().map(|sender| sender.who(Who::Client(id)))
        {
            self.directory.asked_for(id, correlation);
        }
    }

    fn receipt(&mut self, receipt: &ReceiptFor) {
        match self.pending.remove(&receipt.correlation) {
            Some(Pending::Line { to: Many::One | Many::Room }) => {
                self.shown.extend(words::receipt(receipt));
                self.failed += u64::from(receipt.skipped.is_some_and(|skipped| skipped > 0));
            }
            Some(Pending::Leave { name }) => {
                self.rooms.remove(&name);
                self.show(format!("* you have left #{name}"));
                if self.target == Target::Room(name) {
                    self.target = Target::All;
                    self.show("* you now talk to all".into());
                }
            }
            Some(Pending::Evict { name }) => self.show(format!("* the connection of {name} has been ended")),
            Some(Pending::Rename { name }) => {
                self.options.lock().unwrap_or_else(PoisonError::into_inner).name.clone_from(&name);
                self.show(format!("* you are now called {name}"));
                self.name = name;
            }
            // Each of several has been told of already.
            Some(Pending::Line { to: Many::Several }) | None => {}
            Some(other) => drop(self.pending.insert(receipt.correlation, other)),
        }
    }

    fn failure(&mut self, failure: &Failure) {
        if failure.closes() {
            // Told as the reason of the end.
            return;
        }
        if failure.code() == Some(Code::Denied) && self.directory.denied(failure.correlation) {
            return self.introduced();
        }
        if self.directory.refused(failure.correlation) {
            return;
        }
        let recipient = failure.client.map(|client| self.name_of(client));
        // Of several recipients each fails on its own, and the receipt for the others still comes.
        if let Some(Pending::Line { to: Many::Several }) = self.pending.get(&failure.correlation)
            && recipient.is_some()
        {
            self.fail(words::failure(failure, recipient.as_deref()));
            return;
        }
        let why = words::reason(failure);
        let line = match self.pending.remove(&failure.correlation) {
            Some(Pending::Who { room: Some(name), .. }) => format!("* cannot tell who is in #{name}: {why}"),
            Some(Pending::Who { room: None, .. }) => format!("* cannot tell who is here: {why}"),
            Some(Pending::Join { name }) => {
                self.rooms.remove(&name);
                format!("* cannot join #{name}: {why}")
            }
            Some(Pending::Leave { name }) => format!("* cannot leave #{name}: {why}"),
            Some(Pending::Rename { name }) => match failure.code() {
                Some(Code::NameTaken) => format!("* somebody else is called {name}: your name stays {}", self.name),
                _ => format!("* cannot rename to {name}: {why}"),
            },
            Some(Pending::Ping { name }) => format!("* cannot reach {name}: {why}"),
            Some(Pending::Evict { name }) => format!("* cannot evict {name}: {why}"),
            Some(Pending::Find { name, search }) => {
                match failure.code() {
                    Some(Code::NoSuchClient) => self.fail(search.errand.without(&name)),
                    _ => self.fail(format!("* cannot look up {name}: {why}")),
                }
                return self.search(search);
            }
            Some(Pending::Line { .. }) | None => words::failure(failure, recipient.as_deref()),
        };
        self.fail(line);
    }

    fn gap(&mut self, frames: u64, bytes: u64) {
        let (messages, bytes) = (output::counted(frames, "message"), output::counted(bytes, "byte"));
        self.show(format!("* missing here: {messages} of {bytes}, which came faster than they were read"));
        if self.directory.gap() == Step::WatchAgain {
            self.watch();
        }
        if !self.pending.is_empty() {
            // Answers may be among what is missing, so none can be waited for.
            self.pending.clear();
            self.fail("* answers to your last lines may be among them".into());
        }
    }

    fn snapshot(&mut self, page: Snapshot) {
        let (correlation, more) = (page.correlation, page.more);
        if let Some(Pending::Who { peers, .. }) = self.pending.get_mut(&correlation) {
            peers.extend(page.members);
            // A WATCH may be waiting for this answer to end.
            if self.directory.apply_snapshot(Snapshot { correlation, more, ..Snapshot::default() }) == Step::WatchAgain
            {
                self.watch();
            }
            if !more && let Some(Pending::Who { room, peers }) = self.pending.remove(&correlation) {
                let place = room.map_or_else(|| "here".to_owned(), |room| format!("in #{room}"));
                self.show(words::who(&place, peers.iter().collect()));
            }
            return;
        }
        if matches!(self.pending.get(&correlation), Some(Pending::Find { .. }))
            && let Some(Pending::Find { name, mut search }) = self.pending.remove(&correlation)
        {
            match page.members.first() {
                Some(peer) => {
                    remember(&mut self.remembered, peer.id, &name);
                    search.found.push((peer.id, name));
                }
                None => self.fail(search.errand.without(&name)),
            }
            return self.search(search);
        }
        match self.directory.apply_snapshot(page) {
            Step::WatchAgain => self.watch(),
            Step::Complete => self.introduced(),
            _ => {}
        }
    }

    /// It is known who is here, or that this may not be known.
    fn introduced(&mut self) {
        if !std::mem::take(&mut self.introduce) {
            return;
        }
        let user = self.sender.as_ref().and_then(|sender| sender.session().user.as_deref());
        let line = words::introduction(&self.address, &self.name, user, &self.directory);
        self.show(line);
        self.shown.append(&mut self.joined_early);
    }

    fn joined(&mut self, joined: JoinedRoom) {
        self.pending.remove(&joined.correlation);
        let is_target = matches!(&self.target, Target::Room(name) if *name == joined.name);
        let line = words::joined(&joined, is_target);
        // That there is a connection is said before what came of it.
        if self.introduce {
            self.joined_early.push(line);
        } else {
            self.show(line);
        }
        self.rooms.insert(joined.name, Some(joined.room));
    }

    fn pong(&mut self, pong: &Pong) {
        if let Some(Pending::Ping { name }) = self.pending.remove(&pong.correlation) {
            self.show(words::pong(&name, pong));
        }
    }

    /// Does what a line asks for; breaks off where it asks to leave.
    pub(super) fn line(&mut self, line: &str) -> ControlFlow<()> {
        match command::parse(line) {
            Ok(Some(Command::Quit)) => return ControlFlow::Break(()),
            Ok(Some(command)) => self.command(command),
            Ok(None) => {}
            Err(why) => self.fail(format!("* {why}")),
        }
        ControlFlow::Continue(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Say(text) => self.say(&self.target.clone(), &text),
            Command::Message { to, text } => self.say(&Target::Peers(vec![to]), &text),
            Command::To(target) => self.talk_to(target),
            Command::Who { room: None } if self.directory.is_denied() => {
                self.fail("* you may not know who is here".into());
            }
            Command::Who { room: None } => {
                let line = words::who("here", self.directory.iter().collect());
                self.show(line);
            }
            Command::Who { room: Some(name) } => {
                if let Some(id) = self.room(&name) {
                    let pending = Pending::Who { room: Some(name), peers: Vec::new() };
                    self.request(pending, |sender| sender.who(Who::Room(id)));
                }
            }
            Command::Join(name) => {
                self.request(Pending::Join { name: name.clone() }, |sender| sender.join(&name));
            }
            Command::Leave(name) => {
                if let Some(id) = self.room(&name) {
                    self.request(Pending::Leave { name }, |sender| sender.leave(id));
                }
            }
            Command::Rooms if self.rooms.is_empty() => self.show("* you are in no room; /join one".into()),
            Command::Rooms => {
                let names: Vec<String> = self.rooms.keys().map(|name| format!("#{name}")).collect();
                self.show(format!("* you are in {}", names.join(", ")));
            }
            Command::Rename(name) => {
                let profile = Profile::named(&name);
                self.request(Pending::Rename { name: name.clone() }, |sender| sender.update(profile));
            }
            Command::Ping { to: None } => {
                self.request(Pending::Ping { name: "the relay".into() }, |sender| sender.ping(Id::RELAY));
            }
            Command::Ping { to: Some(name) } => self.find(&[name], Errand::Ping),
            Command::Evict { why, .. } if why.len() > TEXT_BYTES_MAX => {
                self.fail(format!("* not sent: the reason may have {TEXT_BYTES_MAX} bytes, and has {}", why.len()));
            }
            Command::Evict { name, why } => self.find(&[name], Errand::Evict(why)),
            Command::Help => self.show(command::HELP.into()),
            Command::Quit => {}
        }
    }

    fn talk_to(&mut self, target: Target) {
        if let Target::Room(name) = &target
            && self.room(name).is_none()
        {
            // What is typed next is for this room, and must not go to whomever the lines before it went to.
            self.target = target;
            return;
        }
        let mut line = format!("* you now talk to {target}");
        if let Target::Peers(names) = &target
            && !self.directory.is_denied()
        {
            let is_absent = |name: &&String| self.directory.by_name(name).is_none();
            let absent: Vec<&str> = names.iter().filter(is_absent).map(String::as_str).collect();
            if absent.len() == names.len() {
                line.push_str(" (not here at the moment)");
            } else if !absent.is_empty() {
                let _ = write!(line, " (not here at the moment: {})", absent.join(", "));
            }
        }
        self.show(line);
        self.target = target;
    }

    fn say(&mut self, target: &Target, text: &str) {
        let envelope = Envelope::text().receipt().no_echo();
        match target {
            Target::All => self.send(Id::ALL, envelope, text, Many::Room),
            Target::Room(name) => {
                if let Some(id) = self.room(name) {
                    self.send(id, envelope, text, Many::Room);
                }
            }
            Target::Peers(names) => self.find(names, Errand::Say(text.to_owned())),
        }
    }

    /// Does something with those who have these names. Who may not know who is here asks for each of them first.
    fn find(&mut self, names: &[String], errand: Errand) {
        if self.directory.is_denied() {
            return self.search(Search::new(names, errand));
        }
        let mut found = Vec::new();
        for name in names {
            match self.directory.by_name(name) {
                Some(peer) => found.push((peer.id, name.clone())),
                None => self.fail(errand.without(name)),
            }
        }
        self.carry_out(errand, found);
    }

    /// Looks for the next one, and at the end does what all were looked for.
    fn search(&mut self, mut search: Search) {
        match search.names.pop_front() {
            Some(name) => {
                self.request(Pending::Find { name: name.clone(), search }, |sender| sender.who(Who::Named(&name)));
            }
            None => self.carry_out(search.errand, search.found),
        }
    }

    fn carry_out(&mut self, errand: Errand, mut found: Vec<(Id, String)>) {
        let envelope = Envelope::text().receipt();
        // Each who is not here has been told of.
        let Some((id, name)) = found.pop() else { return };
        match errand {
            Errand::Say(text) if found.is_empty() => self.send(id, envelope, &text, Many::One),
            Errand::Say(text) => {
                let ids: Vec<Id> = found.iter().map(|(id, _)| *id).chain([id]).collect();
                self.request(Pending::Line { to: Many::Several }, |sender| {
                    sender.send_many(&ids, envelope, text.as_bytes())
                });
            }
            Errand::Ping => self.request(Pending::Ping { name }, |sender| sender.ping(id)),
            Errand::Evict(why) => self.request(Pending::Evict { name }, |sender| sender.evict(id, &why)),
        }
    }

    fn send(&mut self, to: Id, envelope: Envelope, text: &str, many: Many) {
        self.request(Pending::Line { to: many }, |sender| sender.send(to, envelope, text.as_bytes()));
    }

    /// Sends, and notes what the answer will be about. Answers come through this thread, so none is missed.
    fn request(&mut self, pending: Pending, send: impl FnOnce(&Sender) -> Result<u32, SendError>) {
        match self.sender.as_ref().map(send) {
            Some(Ok(correlation)) => drop(self.pending.insert(correlation, pending)),
            Some(Err(error)) => self.fail(format!("* not sent: {error}")),
            None => self.fail("* not sent: there is no connection at the moment".into()),
        }
    }

    /// The id of a room that we are in; says so if we are not.
    fn room(&mut self, name: &str) -> Option<Id> {
        let id = self.rooms.get(name).copied().flatten();
        if id.is_none() {
            let is_coming = self.rooms.contains_key(name);
            let how = if is_coming { " yet".to_owned() } else { format!("; /join {name} first") };
            self.fail(format!("* you are not in #{name}{how}"));
        }
        id
    }

    fn name_of(&self, id: Id) -> String {
        let remembered = || self.remembered.iter().rev().find(|(other, _)| *other == id).map(|(_, name)| name);
        let name = self.directory.by_id(id).map(|peer| &peer.name).or_else(remembered);
        name.map_or_else(|| format!("client {id}"), |name| output::one_line(name))
    }

    /// Shows what has come to nothing, and why.
    fn fail(&mut self, text: String) {
        self.failed += 1;
        self.show(text);
    }

    fn show(&mut self, text: String) {
        self.shown.push(text);
    }
}

fn remember(names: &mut VecDeque<(Id, String)>, id: Id, name: &str) {
    names.retain(|(other, _)| *other != id);
    names.push_back((id, name.to_owned()));
    names.drain(..names.len().saturating_sub(REMEMBERED_MAX));
}
