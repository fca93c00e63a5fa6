//! `switchboard send`: one payload, or each line of standard input, to somebody, to a room or to all.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};

use super::login::{Login, Unnamed};
use super::{ADDRESS_VARIABLE, Trouble, link, output, parse_address, parse_name, parse_seconds};
use crate::client::{Address, Client, Closed, Envelope, Event, Failure, ReceiptFor, SendError, Sender};
use crate::wire::control::{Stage, Who};
use crate::wire::{Code, Id, PAYLOAD_BYTES_CEILING, kind};

/// How many of the lines that were sent may lack their receipt at a time: enough to fill any way to the
/// relay and back, and a small part of what the relay queues for a client.
const RECEIPTS_WAITING_MAX: usize = 256;
/// How many different failures are told; equal ones are counted, and what goes beyond is a number.
const FAILURES_TOLD_MAX: usize = 20;
/// `\r\n`: what may be cut from the end of piped text.
const END_OF_LINE_BYTES_MAX: u64 = 2;
/// How long answers may take where `--timeout` does not say.
const TIMEOUT_DEFAULT: &str = "10";

/// Send a payload to clients, to a room, or to all.
///
/// The payload is the TEXT of the arguments with a space between two, or the file of --file, or standard input.
/// Piped text loses one end of line at its very end, so that `echo hello | switchboard send` says `hello`; a
/// file, and what is sent with --kind bytes or a number, is sent as it is.
#[derive(Debug, Args)]
#[command(override_usage = "switchboard send [OPTIONS] (--to <NAME>... | --room <ROOM> | --all) [TEXT...]")]
#[command(group = ArgGroup::new("target").required(true).args(["to", "room", "all"]))]
pub(super) struct Arguments {
    /// What to send; every word of it is text, none an address.
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
    /// The relay's address: host:port, tls://host:port, or unix:/path [default: that of the environment's
    /// SWITCHBOARD_ADDR, or else 127.0.0.1:9999].
    #[arg(long, value_parser = parse_address)]
    addr: Option<Address>,
    /// A client, by name; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    to: Vec<String>,
    /// A room, by name; it is joined for the purpose.
    #[arg(long, value_parser = parse_name)]
    room: Option<String>,
    /// Every client of the relay.
    #[arg(long)]
    all: bool,
    /// What the payload is: text, json (which is checked), bytes, or a number up to 65535 [default: text, or bytes if it is not UTF-8].
    #[arg(long, value_parser = parse_kind)]
    kind: Option<u16>,
    /// The name to send as [default: one by chance, with the user in front of it].
    #[arg(long)]
    name: Option<String>,
    /// Succeed only when the relay confirms: written into the one client's socket, or queued for everybody meant.
    #[arg(long)]
    receipt: bool,
    /// Send this file's bytes.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["text", "lines"])]
    file: Option<PathBuf>,
    /// Send each line of standard input as a frame of its own, without its end of line.
    #[arg(long, conflicts_with = "text")]
    lines: bool,
    /// How many seconds to wait for the relay's answers.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = TIMEOUT_DEFAULT)]
    timeout: Duration,
    #[command(flatten)]
    login: Login,
}

pub(super) fn run(mut arguments: Arguments) -> Result<(), Trouble> {
    let address = relay_address(arguments.addr.take())?;
    let payload = if arguments.lines { None } else { Some(read_payload(&arguments)?) };
    if let Some(Err(why)) = payload.as_ref().map(|payload| check(arguments.kind, payload)) {
        let why = format!("the payload {why}");
        return Err(if arguments.text.is_empty() { Trouble::System(why) } else { Trouble::Usage(why) });
    }
    let mut options = arguments.login.options(arguments.name.clone(), Unnamed::Passing("send"))?;
    options.connect_timeout = arguments.timeout;
    let mut client =
        Client::connect(&address, &options).map_err(|error| link::cannot_connect(&address, &options, &error))?;
    let target = Target::resolve(&mut client, &arguments);
    let (sender, mut receiver) = client.split();
    let target = target.inspect_err(|_| link::part(&sender, &mut receiver))?;
    let tally = Arc::new(Tally::new(target.clone()));
    let reading = {
        let tally = Arc::clone(&tally);
        thread::spawn(move || while tally.note(receiver.recv()).is_continue() {})
    };
    let job = Job { sender, target, tally: Arc::clone(&tally), arguments };
    let sent = match payload {
        Some(payload) => job.send(&payload),
        None => job.send_lines(),
    };
    let finished = job.finish(sent);
    if tally.lock().closed.is_some() {
        let _ = reading.join();
    }
    finished
}

/// The address: of `--addr`, of the environment, or the default. No word is ever taken for one: a text that
/// happens to look like an address must arrive as text.
fn relay_address(given: Option<Address>) -> Result<Address, Trouble> {
    match (given, std::env::var(ADDRESS_VARIABLE)) {
        (Some(address), _) => Ok(address),
        (None, Err(_)) => Ok(Address::default()),
        (None, Ok(text)) => parse_address(&text)
            .map_err(|why| Trouble::Usage(format!("{ADDRESS_VARIABLE}={text:?} is no address: {why}"))),
    }
}

fn parse_kind(text: &str) -> Result<u16, String> {
    match text {
        "text" => Ok(kind::TEXT),
        "json" => Ok(kind::JSON),
        "bytes" => Ok(kind::BYTES),
        number => number.parse().map_err(|_| "write text, json, bytes, or a number up to 65535".to_owned()),
    }
}

fn read_payload(arguments: &Arguments) -> Result<Vec<u8>, Trouble> {
    // One byte over what any relay takes is enough to know that it is too much, an end of line not counted.
    let limit = u64::from(PAYLOAD_BYTES_CEILING) + 1 + END_OF_LINE_BYTES_MAX;
    let mut payload = Vec::new();
    if let Some(path) = &arguments.file {
        let cannot = |error: io::Error| Trouble::System(format!("cannot read {}: {error}", path.display()));
        File::open(path).map_err(cannot)?.take(limit).read_to_end(&mut payload).map_err(cannot)?;
    } else if arguments.text.is_empty() {
        let read = io::stdin().lock().take(limit).read_to_end(&mut payload);
        read.map_err(|error| Trouble::System(format!("cannot read standard input: {error}")))?;
        if is_text(arguments.kind.unwrap_or_else(|| guess(&payload))) {
            cut_end_of_line(&mut payload);
        }
    } else {
        payload = arguments.text.join(" ").into_bytes();
    }
    Ok(payload)
}

const fn is_text(payload_kind: u16) -> bool {
    matches!(payload_kind, kind::TEXT | kind::JSON)
}

/// The kind of a payload for which none was given.
fn guess(payload: &[u8]) -> u16 {
    if std::str::from_utf8(payload).is_ok() { kind::TEXT } else { kind::BYTES }
}

/// What is wrong with a payload that any relay would refuse, or of a kind that was asked for, to be said behind its name.
fn check(asked: Option<u16>, payload: &[u8]) -> Result<(), String> {
    match asked {
        _ if payload.len() > PAYLOAD_BYTES_CEILING as usize => {
            // It was not read to its end, so its size is not known.
            Err(format!("has more than {} MiB, which no relay takes", PAYLOAD_BYTES_CEILING >> 20))
        }
        Some(kind::TEXT | kind::JSON) if std::str::from_utf8(payload).is_err() => {
            Err("is not UTF-8: send it with --kind bytes".into())
        }
        Some(kind::JSON) => {
            serde_json::from_slice::<serde_json::Value>(payload).map(drop).map_err(|why| format!("is not JSON: {why}"))
        }
        _ => Ok(()),
    }
}

/// Takes one end of line away, if one stands at the very end.
fn cut_end_of_line(payload: &mut Vec<u8>) {
    if payload.last() == Some(&b'\n') {
        payload.pop();
        if payload.last() == Some(&b'\r') {
            payload.pop();
        }
    }
}

/// Whom the frames go to, by id, with the names for what is told.
#[derive(Clone, Debug)]
enum Target {
    One { id: Id, name: String },
    Many(Vec<(Id, String)>),
    Room { id: Id, name: String },
    All,
}

impl Target {
    fn resolve(client: &mut Client, arguments: &Arguments) -> Result<Self, Trouble> {
        let deadline = Instant::now() + arguments.timeout;
        if arguments.all {
            return Ok(Self::All);
        }
        if let Some(room) = &arguments.room {
            let asked = client.sender().join(room).map_err(Trouble::system)?;
            return match answer(client, asked, deadline)? {
                Event::Joined(joined) => Ok(Self::Room { id: joined.room, name: joined.name }),
                other => Err(Trouble::System(format!("cannot join the room {room:?}: {}", describe(&other)))),
            };
        }
        let mut found: Vec<(Id, String)> = Vec::new();
        for name in &arguments.to {
            let asked = client.sender().who(Who::Named(name)).map_err(Trouble::system)?;
            let peer = match answer(client, asked, deadline)? {
                Event::Snapshot(mut page) => page.members.pop(),
                Event::Error(failure) if failure.code() == Some(Code::NoSuchClient) => None,
                other => return Err(Trouble::System(format!("cannot look up {name:?}: {}", describe(&other)))),
            };
            let peer = peer.ok_or_else(|| Trouble::System(format!("nobody here is called {name:?}")))?;
            if found.iter().all(|(id, _)| *id != peer.id) {
                found.push((peer.id, peer.name));
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some((id, name)), true) => Ok(Self::One { id, name }),
            (Some(last), false) => {
                found.push(last);
                Ok(Self::Many(found))
            }
            (None, _) => Err(Trouble::Usage("name somebody with --to".into())),
        }
    }

    fn name_of(&self, client: Id) -> Option<&str> {
        match self {
            Self::One { id, name } => (*id == client).then_some(name.as_str()),
            Self::Many(list) => list.iter().find(|(id, _)| *id == client).map(|(_, name)| name.as_str()),
            Self::Room { .. } | Self::All => None,
        }
    }
}

/// Waits for what answers the frame with this correlation.
fn answer(client: &mut Client, correlation: u32, deadline: Instant) -> Result<Event, Trouble> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = client.receiver().recv_timeout(left);
        let event = event.ok_or_else(|| Trouble::system("the relay did not answer in time"))?;
        let mine = match &event {
            Event::Joined(joined) => joined.correlation == correlation,
            Event::Snapshot(page) => page.correlation == correlation,
            Event::Error(failure) => failure.correlation == correlation || failure.closes(),
            Event::Closed(closed) => return Err(Trouble::System(format!("the connection ended: {closed}"))),
            _ => false,
        };
        if mine {
            return Ok(event);
        }
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Error(failure) => failure.to_string(),
        _ => "the answer makes no sense".into(),
    }
}

/// What has come back so far; shared by the thread that sends and the one that reads.
#[derive(Debug)]
struct Tally {
    target: Target,
    state: Mutex<TallyState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TallyState {
    /// Correlations whose receipt, or refusal, has not come.
    waiting: HashSet<u32>,
    /// The failures so far in the order of their first coming, and how often each came; at most
    /// [`FAILURES_TOLD_MAX`].
    failures: Vec<(String, u64)>,
    /// Failures of yet other kinds.
    failures_untold: u64,
    closed: Option<Closed>,
}

impl Tally {
    fn new(target: Target) -> Self {
        Self { target, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, TallyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) -> std::ops::ControlFlow<()> {
        let mut state = self.lock();
        match event {
            Event::Receipt(receipt) => {
                if state.waiting.remove(&receipt.correlation)
                    && let Some(failure) = self.fault_of(&receipt)
                {
                    state.fail(failure);
                }
            }
            Event::Error(failure) => {
                // Of several recipients each fails on its own, and the receipt for the others still comes.
                if failure.client.is_none() || matches!(self.target, Target::One { .. }) {
                    state.waiting.remove(&failure.correlation);
                }
                let line = self.describe(&failure);
                state.fail(line);
            }
            Event::Closed(closed) => {
                state.closed = Some(closed);
                self.changed.notify_all();
                return std::ops::ControlFlow::Break(());
            }
            _ => {}
        }
        self.changed.notify_all();
        std::ops::ControlFlow::Continue(())
    }

    /// What is wrong with a receipt that came; nothing, mostly.
    fn fault_of(&self, receipt: &ReceiptFor) -> Option<String> {
        let (recipients, skipped) = (receipt.recipients.unwrap_or(0), receipt.skipped.unwrap_or(0));
        match (receipt.stage, &self.target) {
            (Some(Stage::Queued), Target::One { name, .. }) => Some(format!("{name} has it queued, not yet written")),
            (Some(Stage::Queued), _) if skipped > 0 => {
                Some(format!("{skipped} of {} recipients did not get it", recipients.saturating_add(skipped)))
            }
            (Some(Stage::Queued), Target::Room { name, .. }) if recipients == 0 => {
                Some(format!("nobody else is in the room {name:?}"))
            }
            (Some(Stage::Queued), _) if recipients == 0 => Some("nobody else is here".into()),
            (Some(Stage::Written), Target::One { .. }) | (Some(Stage::Queued), _) => None,
            (stage, _) => Some(format!("the receipt's stage {stage:?} is not the one that was asked for")),
        }
    }

    fn describe(&self, failure: &Failure) -> String {
        match failure.client.map(|client| (client, self.target.name_of(client))) {
            Some((_, Some(name))) => format!("{name} did not get it: {failure}"),
            Some((client, None)) => format!("client {client} did not get it: {failure}"),
            None => format!("the relay refused: {failure}"),
        }
    }

    /// Waits until `enough`, the connection's end, or the deadline; whether it was enough.
    fn wait(&self, deadline: Instant, enough: impl Fn(&TallyState) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited =
            self.changed.wait_timeout_while(self.lock(), left, |state| !enough(state) && state.closed.is_none());
        enough(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl TallyState {
    /// Notes a failure; equal ones, as a thousand lines to somebody who has left bring them, are counted.
    fn fail(&mut self, line: String) {
        if let Some((_, times)) = self.failures.iter_mut().find(|(other, _)| *other == line) {
            *times += 1;
        } else if self.failures.len() < FAILURES_TOLD_MAX {
            self.failures.push((line, 1));
        } else {
            self.failures_untold += 1;
        }
    }

    /// Every failure as a line of its own, the first one first, with how often it came.
    fn failure_lines(&self) -> Vec<String> {
        let told = |(line, times): &(String, u64)| match times {
            1 => line.clone(),
            times => format!("{line} ({times} times)"),
        };
        let mut lines: Vec<String> = self.failures.iter().map(told).collect();
        if self.failures_untold > 0 {
            lines.push(format!("and {} of other kinds", output::counted(self.failures_untold, "failure")));
        }
        lines
    }

    /// Tells the failures; the last line is the reason of the exit code, and told by whoever takes it.
    fn tell_failures(&self) -> Option<Trouble> {
        let mut lines = self.failure_lines();
        let last = lines.pop()?;
        for line in lines {
            output::complain(&format!("switchboard: {line}"));
        }
        Some(Trouble::System(last))
    }
}

struct Job {
    sender: Sender,
    target: Target,
    tally: Arc<Tally>,
    arguments: Arguments,
}

impl Job {
    fn send_lines(&self) -> Result<(), Trouble> {
        let mut input = io::stdin().lock();
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            // A line that is too long is refused with its size, which takes reading no more than any relay takes.
            let mut bounded = (&mut input).take(u64::from(PAYLOAD_BYTES_CEILING) + 1 + END_OF_LINE_BYTES_MAX);
            let read = bounded.read_until(b'\n', &mut line);
            if read.map_err(|error| Trouble::System(format!("cannot read standard input: {error}")))? == 0 {
                return Ok(());
            }
            cut_end_of_line(&mut line);
            if let Err(why) = check(self.arguments.kind, &line) {
                // What was sent before still wants its receipts and a good end.
                self.tally.lock().fail(format!("line {number} {why}; neither it nor what follows was sent"));
                return Ok(());
            }
            self.send(&line)?;
        }
        Ok(())
    }

    fn send(&self, payload: &[u8]) -> Result<(), Trouble> {
        let mut envelope = Envelope::kind(self.arguments.kind.unwrap_or_else(|| guess(payload)));
        let correlation = self.sender.next_correlation();
        if self.arguments.receipt {
            envelope = envelope.receipt();
            let deadline = Instant::now() + self.arguments.timeout;
            if !self.tally.wait(deadline, |state| state.waiting.len() < RECEIPTS_WAITING_MAX) {
                return Err(self.unanswered());
            }
            self.tally.lock().waiting.insert(correlation);
        }
        let sent = match &self.target {
            Target::One { id, .. } => self.sender.send_as(correlation, *id, envelope, payload),
            Target::Room { id, .. } => self.sender.send_as(correlation, *id, envelope.no_echo(), payload),
            Target::All => self.sender.send_as(correlation, Id::ALL, envelope.no_echo(), payload),
            Target::Many(list) => {
                let ids: Vec<Id> = list.iter().map(|(id, _)| *id).collect();
                self.sender.send_many_as(correlation, &ids, envelope, payload)
            }
        };
        sent.map_err(|error| match error {
            // The receiver knows better why than the socket does.
            SendError::Closed(_) => {
                self.tally.wait(Instant::now() + self.arguments.timeout, |_| false);
                self.unanswered()
            }
            error => Trouble::system(error),
        })
    }

    /// Awaits the receipts, leaves in good order whatever has come of it, and judges.
    fn finish(&self, sent: Result<(), Trouble>) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.arguments.timeout;
        let answered = sent.and_then(|()| {
            let all = self.tally.wait(deadline, |state| state.waiting.is_empty());
            if all { Ok(()) } else { Err(self.unanswered()) }
        });
        let sender = self.sender.clone();
        // A relay that takes nothing any more would keep this thread from ending.
        thread::spawn(move || drop(sender.goodbye()));
        self.tally.wait(if answered.is_ok() { deadline } else { Instant::now() + link::GOODBYE_TIMEOUT }, |_| false);
        answered?;
        let state = self.tally.lock();
        if let Some(failed) = state.tell_failures() {
            return Err(failed);
        }
        match &state.closed {
            None => Err(Trouble::system("the relay did not confirm the end of the connection in time")),
            Some(Closed::Ended) => Ok(()),
            // With every receipt in hand nothing is in doubt any more.
            Some(_) if self.arguments.receipt => Ok(()),
            Some(closed) => Err(Trouble::System(format!("it may not have been delivered: {closed}"))),
        }
    }

    fn unanswered(&self) -> Trouble {
        let state = self.tally.lock();
        match (state.tell_failures(), &state.closed) {
            (Some(failed), _) => failed,
            (None, Some(closed)) => Trouble::System(format!("the connection ended: {closed}")),
            (None, None) => Trouble::System(format!(
                "no receipt within {} s for {}: what becomes of that is not known",
                self.arguments.timeout.as_secs_f64(),
                output::counted(state.waiting.len() as u64, "frame")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_line_is_cut_and_no_more() {
        for (text, left) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("", "")] {
            let mut payload = text.as_bytes().to_vec();
            cut_end_of_line(&mut payload);
            assert_eq!(payload, left.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn only_a_kind_that_was_asked_for_is_checked() {
        assert!(check(Some(kind::JSON), b" {\"a\": [1, null]}\n").is_ok() && check(None, b"{").is_ok());
        for bad in [&b""[..], b"{", b"{} {}", b"nope"] {
            assert!(check(Some(kind::JSON), bad).is_err_and(|why| why.contains("not JSON")), "{bad:?}");
        }
        assert!(check(Some(kind::TEXT), b"\xff").is_err_and(|why| why.contains("UTF-8")));
        assert!(check(Some(kind::BYTES), b"\xff").is_ok() && check(Some(700), b"\xff").is_ok());
    }

    #[test]
    fn equal_failures_are_one_line_with_their_number() {
        let mut state = TallyState::default();
        for line in ["a", "b", "a", "a"] {
            state.fail(line.into());
        }
        assert_eq!(state.failure_lines(), ["a (3 times)", "b"]);
        for n in 0..30 {
            state.fail(n.to_string());
        }
        let lines = state.failure_lines();
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 12 failures of other kinds"));
    }

    #[test]
    fn a_receipt_must_say_what_was_asked_for() {
        let one = Tally::new(Target::One { id: Id::client(1, 1), name: "ada".into() });
        let all = Tally::new(Target::All);
        let receipt = |stage, recipients, skipped| ReceiptFor {
            correlation: 1,
            stage: Some(stage),
            recipients: Some(recipients),
            skipped: Some(skipped),
        };
        assert_eq!(one.fault_of(&receipt(Stage::Written, 0, 0)), None);
        assert!(one.fault_of(&receipt(Stage::Queued, 1, 0)).is_some());
        assert_eq!(all.fault_of(&receipt(Stage::Queued, 3, 0)), None);
        assert!(all.fault_of(&receipt(Stage::Queued, 3, 1)).is_some());
        assert!(all.fault_of(&receipt(Stage::Queued, 0, 0)).is_some());
        assert!(all.fault_of(&receipt(Stage::Done, 3, 0)).is_some());
    }
}
