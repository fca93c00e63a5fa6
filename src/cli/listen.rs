//! `switchboard listen`: every frame that arrives, to standard output.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::link::{Leave, Link, Notice};
use super::login::{Login, Unnamed};
use super::{ADDRESS_VARIABLE, Trouble, output, parse_address, parse_name, parse_seconds, signals};
use crate::client::{Address, Directory, Event, Happening, Message, Peer, Sender, Step};
use crate::wire::control::Who;
use crate::wire::{Code, Flags, Id, IdKind, Type, kind};

/// Write arriving frames to standard output, one a line.
///
/// Within a line of text an end of line stands as `\n`, a backslash as `\\`, and what could steer a terminal as
/// `\u{...}`.
///
/// Once it listens it says so on standard error. It ends at SIGINT, after --count frames, after --timeout,
/// or when the relay goes away.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Arguments {
    /// The relay's address: host:port, tls://host:port, or unix:/path.
    #[arg(value_parser = parse_address, default_value_t, env = ADDRESS_VARIABLE)]
    addr: Address,
    /// The name to listen as [default: one by chance, with the user in front of it].
    #[arg(long)]
    name: Option<String>,
    /// A room to join; may be repeated.
    #[arg(long, value_parser = parse_name)]
    room: Vec<String>,
    /// One JSON object a line; `payload` is the value itself (`encoding` json), text, or base64.
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Payload bytes and nothing else, not even an end of line.
    #[arg(long)]
    raw: bool,
    /// End after this many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write arrivals, changes and departures as well.
    #[arg(long, conflicts_with = "raw")]
    presence: bool,
    /// End after this many seconds, connecting included; a failure if there was no connection, or --count is not
    /// reached.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Wait for a relay that is not there yet, and come back when it goes away.
    #[arg(long)]
    reconnect: bool,
    #[command(flatten)]
    login: Login,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let options = arguments.login.options(arguments.name.clone(), Unnamed::Passing("listen"))?;
    let leave = Arc::new(Leave::default());
    let link = Link {
        address: arguments.addr.clone(),
        options: Arc::new(Mutex::new(options)),
        reconnect: arguments.reconnect,
        await_first: arguments.reconnect,
        deadline: arguments.timeout.and_then(|time| Instant::now().checked_add(time)),
        leave: Arc::clone(&leave),
    };
    signals::on_interrupt(move || leave.ask())?;
    let mut listener = Listener::new(arguments);
    let mut trouble = None;
    let ended = link.run(|notice| {
        listener.note(notice).unwrap_or_else(|why| {
            trouble = Some(why);
            ControlFlow::Break(())
        })
    });
    listener.out.flush()?;
    match trouble {
        Some(trouble) => Err(trouble),
        None => ended.and_then(|()| listener.verdict()),
    }
}

struct Listener {
    arguments: Arguments,
    out: BufWriter<io::Stdout>,
    /// Of the last connection; none before the first.
    sender: Option<Sender>,
    directory: Directory,
    /// The rooms that this client is a member of, by id.
    rooms: HashMap<Id, String>,
    /// Correlations of the JOINs that have not been answered, with the rooms' names.
    joining: HashMap<u32, String>,
    /// It has been said that this connection listens.
    announced: bool,
    frames: u64,
    timed_out: bool,
}

type Flow = Result<ControlFlow<()>, Trouble>;
const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

impl Listener {
    fn new(arguments: Arguments) -> Self {
        Self {
            arguments,
            out: BufWriter::new(io::stdout()),
            sender: None,
            directory: Directory::default(),
            rooms: HashMap::new(),
            joining: HashMap::new(),
            announced: false,
            frames: 0,
            timed_out: false,
        }
    }

    fn note(&mut self, notice: Notice) -> Flow {
        match notice {
            Notice::Connected(sender) => self.connected(sender),
            Notice::Event(event) => {
                let flow = self.event(event)?;
                self.announce_once();
                return Ok(flow);
            }
            Notice::Idle => self.out.flush()?,
            Notice::Lost { why, delay, .. } => {
                self.out.flush()?;
                let what = if self.sender.is_some() { "lost" } else { "not connected yet" };
                output::complain(&format!("{what}: {why}; next attempt in {:.1} s", delay.as_secs_f64()));
            }
            Notice::Deadline => {
                self.timed_out = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(GO_ON)
    }

    fn connected(&mut self, sender: Sender) {
        self.rooms.clear();
        self.joining.clear();
        self.announced = false;
        // A failure to send here is the connection's end, which comes as an event.
        for room in &self.arguments.room {
            if let Ok(correlation) = sender.join(room) {
                self.joining.insert(correlation, room.clone());
            }
        }
        self.directory = Directory::default();
        self.sender = Some(sender);
        if !self.arguments.raw {
            self.watch();
        }
        self.announce_once();
    }

    fn watch(&mut self) {
        if let Some(Ok(correlation)) = self.sender.as_ref().map(|sender| sender.watch(None)) {
            self.directory.asked(correlation);
        }
    }

    /// Says that everything is in place: rooms joined and names known.
    fn announce_once(&mut self) {
        let ready = self.joining.is_empty()
            && (self.arguments.raw || self.directory.is_complete() || self.directory.is_denied());
        if let Some(sender) = self.sender.as_ref().filter(|_| ready && !self.announced) {
            let session = sender.session();
            let user = session.user.as_ref().map_or_else(String::new, |user| format!(", authenticated as {user}"));
            output::complain(&format!("listening at {} as client {}{user}", self.arguments.addr, session.client));
            self.announced = true;
        }
    }

    fn event(&mut self, event: Event) -> Flow {
        match event {
            Event::Message(message) => return self.message(&message),
            Event::Joined(joined) => {
                self.joining.remove(&joined.correlation);
                self.rooms.insert(joined.room, joined.name);
            }
            Event::Snapshot(page) => {
                if self.directory.apply_snapshot(page) == Step::WatchAgain {
                    self.watch();
                }
            }
            Event::Delta(delta) => {
                let mut lines = Vec::new();
                let (show, as_json) = (self.arguments.presence, self.arguments.json);
                let step = self.directory.apply_delta(delta, |happening| {
                    if show {
                        lines.push(if as_json { presence_json(&happening) } else { presence_text(&happening) });
                    }
                });
                for line in lines {
                    writeln!(self.out, "{line}")?;
                }
                if step == Step::WatchAgain {
                    self.watch();
                }
            }
            Event::Gap { frames, bytes } => {
                if self.directory.gap() == Step::WatchAgain {
                    self.watch();
                }
                if self.arguments.json {
                    writeln!(self.out, "{}", json!({"event": "gap", "frames": frames, "bytes": bytes}))?;
                }
                let (frames, bytes) = (output::counted(frames, "frame"), output::counted(bytes, "byte"));
                output::complain(&format!("missing here: {frames} of {bytes}, which came faster than they were read"));
            }
            Event::Error(failure) => {
                if let Some(room) = self.joining.get(&failure.correlation) {
                    return Err(Trouble::System(format!("cannot join the room {room:?}: {failure}")));
                }
                if failure.code() == Some(Code::Denied) && self.directory.denied(failure.correlation) {
                    // Who may not know who is here gets frames all the same, with ids for the names that it may not ask
                    // for either.
                    if self.arguments.presence {
                        return Err(Trouble::System(format!(
                            "--presence is not to be had: the relay refused: {failure}"
                        )));
                    }
                    return Ok(GO_ON);
                }
                // A closing one is the reason of the end, and told there.
                if !failure.closes() && !self.directory.refused(failure.correlation) {
                    output::complain(&format!("the relay refused: {failure}"));
                }
            }
            Event::Ack { .. } | Event::Receipt(_) | Event::Pong(_) | Event::Goodbye(_) | Event::Closed(_) => {}
        }
        Ok(GO_ON)
    }

    fn message(&mut self, message: &Message) -> Flow {
        if self.arguments.raw {
            self.out.write_all(&message.payload)?;
        } else if self.arguments.json {
            let line = self.message_json(message);
            writeln!(self.out, "{line}")?;
        } else {
            let source = message.header.source;
            let text = match output::payload_text(message.header.kind, &message.payload) {
                Some(text) => output::unambiguous_line(text),
                None => format!("[{}]", output::preview(&message.payload)),
            };
            match self.directory.by_id(source) {
                Some(peer) => writeln!(self.out, "{}: {text}", output::unambiguous_line(&peer.name))?,
                None => writeln!(self.out, "{source}: {text}")?,
            }
        }
        self.frames += 1;
        if self.arguments.count.is_some_and(|count| self.frames >= count) {
            return Ok(ControlFlow::Break(()));
        }
        self.ask_who_is(message.header.source);
        Ok(GO_ON)
    }

    /// Asks for the name of a stranger: its next frame is shown with it.
    fn ask_who_is(&mut self, id: Id) {
        if self.directory.is_stranger(id)
            && let Some(Ok(correlation)) = self.sender.as_ref().map(|sender| sender.who(Who::Client(id)))
        {
            self.directory.asked_for(id, correlation);
        }
    }

    fn message_json(&self, message: &Message) -> Value {
        let header = &message.header;
        let (encoding, payload) = payload_json(header.kind, &message.payload);
        let mut object = json!({
            "event": "message",
            "type": header.type_number,
            "type_name": header.frame_type().map(Type::name),
            "kind": header.kind,
            "correlation": header.correlation,
            "source": header.source.to_string(),
            "source_name": self.directory.by_id(header.source).map(|peer| &peer.name),
            "destination": header.destination.to_string(),
            "destination_kind": kind_name(header.destination),
            "receipt_asked": header.flags.has(Flags::RECEIPT),
            "payload_bytes": message.payload.len(),
            "encoding": encoding,
            "payload": payload,
        });
        if let Some(room) = self.rooms.get(&header.destination) {
            object["room"] = json!(room);
        }
        object
    }

    fn verdict(&self) -> Result<(), Trouble> {
        match (self.timed_out, self.arguments.count) {
            (true, Some(count)) => {
                Err(Trouble::System(format!("{} of {count} frames came within the time given", self.frames)))
            }
            (true, None) if self.sender.is_none() => {
                Err(Trouble::System(format!("no connection to {} within the time given", self.arguments.addr)))
            }
            _ => Ok(()),
        }
    }
}

/// JSON that can be read stands as what it is, so that no reader has to unpack it; what only claims to be JSON
/// is text like other text.
fn payload_json(payload_kind: u16, payload: &[u8]) -> (&'static str, Value) {
    let parsed = if payload_kind == kind::JSON { serde_json::from_slice(payload).ok() } else { None };
    match (parsed, output::payload_text(payload_kind, payload)) {
        (Some(value), _) => ("json", value),
        (None, Some(text)) => ("text", json!(text)),
        (None, None) => ("base64", json!(BASE64_STANDARD.encode(payload))),
    }
}

const fn kind_name(id: Id) -> &'static str {
    match id.kind() {
        IdKind::Relay => "relay",
        IdKind::Client => "client",
        IdKind::Room => "room",
        IdKind::All => "all",
        IdKind::Many => "many",
        IdKind::Invalid => "invalid",
    }
}

fn presence_text(happening: &Happening<'_>) -> String {
    match happening {
        Happening::Arrived(peer) => format!("+ {}", output::unambiguous_line(&peer.name)),
        Happening::Changed { before, now } => {
            let old = before.map_or_else(String::new, |peer| output::unambiguous_line(&peer.name));
            format!("* {old} -> {}", output::unambiguous_line(&now.name))
        }
        Happening::Departed { peer, code_number } => {
            format!("- {} ({})", output::unambiguous_line(&peer.name), code_name(*code_number))
        }
    }
}

fn presence_json(happening: &Happening<'_>) -> String {
    let object = match happening {
        Happening::Arrived(peer) => peer_json("arrived", peer),
        Happening::Changed { before, now } => {
            let mut object = peer_json("changed", now);
            object["name_before"] = json!(before.map(|peer| &peer.name));
            object
        }
        Happening::Departed { peer, code_number } => {
            let mut object = peer_json("departed", peer);
            object["code"] = json!(code_number);
            object["reason"] = json!(code_name(*code_number));
            object
        }
    };
    object.to_string()
}

fn peer_json(event: &str, peer: &Peer) -> Value {
    json!({
        "event": event,
        "client": peer.id.to_string(),
        "name": peer.name,
        "station": peer.station,
        "address": peer.address,
        "endpoints": peer.endpoints,
    })
}

fn code_name(number: u16) -> String {
    Code::from_number(number).map_or_else(|| number.to_string(), |code| code.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_if_it_says_so_and_is_so() {
        assert_eq!(payload_json(kind::JSON, b"{\"n\": 1}"), ("json", json!({"n": 1})));
        assert_eq!(payload_json(kind::JSON, b"{\"n\""), ("text", json!("{\"n\"")));
        assert_eq!(payload_json(kind::TEXT, b"1"), ("text", json!("1")));
        assert_eq!(payload_json(kind::BYTES, b"1"), ("base64", json!("MQ==")));
        assert_eq!(payload_json(kind::JSON, b"\xff"), ("base64", json!("/w==")));
    }
}
