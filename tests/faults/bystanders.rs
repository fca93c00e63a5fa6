//! Bystanders: clients that have nothing to do with a fault and must not feel it.
//!
//! Pairs send to each other and one member of a room to the others, at fixed times, whatever the relay does.
//!
//! They stand for clients on other machines, but share a core with those who make the fault, which may hold them up
//! for longer than any relay. So a latency ends when the relay's bytes have come back to the system, whose own time
//! stamp says when that was, and begins when the frame was handed to the system: at its fixed time, or later if
//! this thread was not let run. A relay that does not read cannot delay that beginning: nobody waits for it.

use std::io::{ErrorKind, IoSliceMut, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use switchboard::wire::control::{Body, ErrorBody, Gap, Goodbye, Join, Joined};
use switchboard::wire::{Code, Flags, Frames, HEADER_BYTES, Header, Id, Type};

use crate::account::{Account, Totals};
use crate::relay::put_first;
use crate::support::RawClient;

/// Payload of their frames: flow, number, when it was due and when it was sent, and a pattern of all four.
const PAYLOAD_BYTES: usize = 128;
/// Nothing comes any more after so long: then what is open is lost. A machine that is busy takes its time.
const SILENCE: Duration = Duration::from_secs(10);
/// How long what should not come any more may take to come.
const AFTERMATH: Duration = Duration::from_millis(50);
/// An hour: longer is none.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// How many they are, and how often they send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) pairs: usize,
    /// Frames a second of all pairs together.
    pub(crate) pairs_rate: f64,
    /// Members of the room that hear; one more sends.
    pub(crate) members: usize,
    pub(crate) room_rate: f64,
    /// Their latencies count.
    pub(crate) is_measured: bool,
}

/// The part of a run that a frame belongs to, by the time at which it should have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Undisturbed,
    Disturbed,
    /// A fault is prepared, or what it does is no matter of latency.
    Unmeasured,
}

/// Bystanders at work on a thread of their own.
#[derive(Debug)]
pub(crate) struct Bystanders {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcome>>,
}

#[derive(Debug)]
struct Shared {
    zero: Instant,
    stop: AtomicBool,
    delivered: AtomicU64,
    ended: AtomicU64,
    /// From when on which part goes.
    parts: Mutex<Vec<(u64, Part)>>,
}

/// What they have found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) undisturbed: Histogram<u64>,
    pub(crate) disturbed: Histogram<u64>,
    /// How late they were themselves in sending, while the fault went on: the part of a latency that is not the
    /// relay's.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) account: Account,
    /// Connections that ended, in the relay's words.
    pub(crate) ended: Vec<String>,
}

impl Bystanders {
    /// Has them come, and begin.
    pub(crate) fn start(address: SocketAddr, load: Load) -> Self {
        let shared = Arc::new(Shared {
            zero: Instant::now(),
            stop: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            parts: Mutex::new(vec![(0, Part::Undisturbed)]),
        });
        let crowd = Crowd::connect(address, load, Arc::clone(&shared));
        Self { shared, thread: Some(std::thread::spawn(move || crowd.run())) }
    }

    /// Measures apart what should be sent from now on.
    pub(crate) fn begin(&self, part: Part) {
        let now_ns = self.shared.now_ns();
        self.shared.parts.lock().expect("the parts").push((now_ns, part));
    }

    /// Copies delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::Relaxed)
    }

    /// Connections that have ended so far.
    pub(crate) fn ended(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Waits until so many further copies have been delivered: traffic goes on.
    pub(crate) fn go_on(&self, copies: u64) {
        let (wanted, deadline) = (self.delivered() + copies, Instant::now() + crate::support::HANG);
        while self.delivered() < wanted {
            assert!(Instant::now() < deadline, "the bystanders' traffic has stopped");
            assert_eq!(self.ended(), 0, "a bystander's connection has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends no more, and waits for what is on its way.
    pub(crate) fn finish(&mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("bystanders do not panic")
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }

    fn part(&self, at_ns: u64) -> Part {
        let parts = self.parts.lock().expect("the parts");
        parts.iter().rev().find(|(from, _)| *from <= at_ns).map_or(Part::Undisturbed, |(_, part)| *part)
    }
}

#[derive(Debug)]
struct Client {
    socket: TcpStream,
    id: Id,
    input: Vec<u8>,
    out: Vec<u8>,
    /// The flow that it sends, and to whom.
    sends: Option<(usize, Id)>,
    /// The flows that it hears, its place among their recipients, and who sends.
    hears: Vec<(usize, usize, Id)>,
    last_words: Option<String>,
    is_open: bool,
}

/// A fixed schedule over some flows.
#[derive(Debug)]
struct Schedule {
    senders: std::ops::Range<usize>,
    rate: f64,
    count: u64,
    start_ns: u64,
}

impl Schedule {
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "exact to a nanosecond for months")]
    fn due_ns(&self) -> u64 {
        self.start_ns + (self.count as f64 * 1e9 / self.rate) as u64
    }
}

#[derive(Debug)]
struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<Client>,
    schedules: Vec<Schedule>,
    outcome: Outcome,
    /// They run before others: what they find is measured.
    is_first: bool,
}

impl Crowd {
    fn connect(address: SocketAddr, load: Load, shared: Arc<Shared>) -> Self {
        let mut account = Account::default();
        let total = 2 * load.pairs + 1 + load.members;
        let mut clients: Vec<Client> = (0..total)
            .map(|number| {
                let name = format!("bystander-{number}");
                let mut come = RawClient::greet(address, &crate::passwords::hello(&name), Ipv4Addr::LOCALHOST);
                come.welcomed();
                let RawClient { socket, id } = come;
                Client {
                    socket,
                    id,
                    input: Vec::new(),
                    out: Vec::new(),
                    sends: None,
                    hears: Vec::new(),
                    last_words: None,
                    is_open: true,
                }
            })
            .collect();
        for number in 0..2 * load.pairs {
            let (flow, partner, sender) = (account.add(1), number ^ 1, clients[number].id);
            clients[number].sends = Some((flow, clients[partner].id));
            clients[partner].hears.push((flow, 0, sender));
        }
        let host = 2 * load.pairs;
        let (flow, sender) = (account.add(load.members), clients[host].id);
        for (place, client) in clients[host..].iter_mut().enumerate() {
            let room = join(client, "bystanders");
            match place.checked_sub(1) {
                None => client.sends = Some((flow, room)),
                Some(place) => client.hears.push((flow, place, sender)),
            }
        }
        for client in &clients {
            client.socket.set_nonblocking(true).expect("an option");
            setsockopt(&client.socket, sockopt::ReceiveTimestampns, &true).expect("an option");
        }
        let start_ns = shared.now_ns();
        let schedule = |senders, rate| Schedule { senders, rate, count: 0, start_ns };
        let schedules = vec![schedule(0..host, load.pairs_rate), schedule(host..host + 1, load.room_rate)];
        let empty = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("its bounds are constants");
        let outcome =
            Outcome { undisturbed: empty(), disturbed: empty(), lateness: empty(), account, ended: Vec::new() };
        Self { shared, clients, schedules, outcome, is_first: load.is_measured }
    }

    fn run(mut self) -> Outcome {
        // They stand for clients on other machines: whoever makes the fault must not take their time, and a sleep
        // must end when it should.
        if self.is_first {
            put_first(rustix::thread::gettid());
        }
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        while !self.shared.stop.load(Ordering::Relaxed) && self.is_anybody_here() {
            let wait = self.send_due();
            self.turn(wait);
        }
        let (mut open, mut progressed) = (self.outcome.account.totals().open, Instant::now());
        while open > 0 && progressed.elapsed() < SILENCE && self.is_anybody_here() {
            self.turn(AFTERMATH);
            let left = self.outcome.account.totals().open;
            if left != open {
                (open, progressed) = (left, Instant::now());
            }
        }
        let settled = Instant::now();
        while settled.elapsed() < AFTERMATH && self.is_anybody_here() {
            self.turn(AFTERMATH);
        }
        self.outcome
    }

    fn is_anybody_here(&self) -> bool {
        self.clients.iter().any(|client| client.is_open)
    }

    /// Sends what is due, and says how long nothing will be.
    fn send_due(&mut self) -> Duration {
        let now_ns = self.shared.now_ns();
        for schedule in &mut self.schedules {
            while schedule.due_ns() <= now_ns {
                let due_ns = schedule.due_ns();
                let at = schedule.senders.start + schedule.count as usize % schedule.senders.len();
                schedule.count += 1;
                let client = &mut self.clients[at];
                let Some((flow, to)) = client.sends.filter(|_| client.is_open) else { continue };
                let number = self.outcome.account.sent(flow);
                let header = Header::new(Type::Send).to(to).flagged(Flags::NO_ECHO).correlating(number);
                client.out.extend_from_slice(&header.bytes(PAYLOAD_BYTES));
                client.out.extend_from_slice(&payload(flow as u32, number, due_ns, wall_ns()));
                client.write();
                if self.shared.part(due_ns) == Part::Disturbed {
                    let late_ns = self.shared.now_ns().saturating_sub(due_ns).max(1);
                    self.outcome.lateness.saturating_record(late_ns);
                }
            }
        }
        let next = self.schedules.iter().map(Schedule::due_ns).min().unwrap_or(u64::MAX);
        Duration::from_nanos(next.saturating_sub(self.shared.now_ns()))
    }

    /// Waits for at most `wait` for something to come, and takes it in.
    fn turn(&mut self, wait: Duration) {
        let wait = wait.min(AFTERMATH);
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut places: Vec<usize> = Vec::with_capacity(self.clients.len());
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(self.clients.len());
        for (place, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_open) {
            let out = if client.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            places.push(place);
            polled.push(PollFd::new(&client.socket, PollFlags::IN | out));
        }
        if poll(&mut polled, Some(&wait)).unwrap_or(0) == 0 {
            return;
        }
        let ready = polled.iter().map(PollFd::revents).zip(places).filter(|(events, _)| !events.is_empty());
        let ready: Vec<usize> = ready.map(|(_, place)| place).collect();
        for place in ready {
            self.clients[place].write();
            self.read(place);
        }
    }

    fn read(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let mut buffer = [0; 16_384];
        let (is_over, came_ns) = match receive(&client.socket, &mut buffer) {
            Ok((0, _)) => (true, 0),
            Ok((count, came_ns)) => {
                client.input.extend_from_slice(&buffer[..count]);
                (false, came_ns)
            }
            Err(error) => (!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted), 0),
        };
        let input = std::mem::take(&mut client.input);
        let mut consumed = 0;
        for frame in Frames::new(&input) {
            consumed += frame.len();
            client.take(frame, came_ns, &self.shared, &mut self.outcome);
        }
        client.input = input;
        client.input.drain(..consumed);
        client.write();
        if is_over {
            client.is_open = false;
            let how = client.last_words.take().unwrap_or_else(|| "without a word".to_owned());
            self.outcome.ended.push(how);
            self.shared.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Client {
    fn write(&mut self) {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                // What cannot be written any more is missing in the account; the end of the stream says why.
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, frame: &[u8], came_ns: u64, shared: &Shared, outcome: &mut Outcome) {
        let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
        match header.frame_type() {
            Some(Type::Send) => {
                let Some(stamp) = stamp(payload) else {
                    return outcome.account.complain(format_args!("a frame has other bytes than were sent: {frame:?}"));
                };
                let Stamp { flow, number, due_ns, sent_ns } = stamp;
                let heard = self.hears.iter().find(|(heard, ..)| *heard == flow as usize);
                let Some(&(_, place, sender)) = heard else {
                    return outcome.account.complain(format_args!("a frame of flow {flow} came to somebody else"));
                };
                if header.source != sender || header.correlation != number {
                    outcome.account.complain(format_args!("the header of frame {number} of flow {flow} was changed"));
                }
                outcome.account.delivered(flow as usize, place, number);
                shared.delivered.fetch_add(1, Ordering::Relaxed);
                let latencies = match shared.part(due_ns) {
                    Part::Undisturbed => &mut outcome.undisturbed,
                    Part::Disturbed => &mut outcome.disturbed,
                    Part::Unmeasured => return,
                };
                latencies.saturating_record(came_ns.saturating_sub(sent_ns).max(1));
            }
            Some(Type::Gap) => {
                let frames = Gap::parse(payload).map_or(0, |gap| gap.frames);
                // Only a room's frames are counted, and who hears it sends nothing.
                match self.hears.first().filter(|_| self.sends.is_none()) {
                    Some(&(flow, place, _)) => outcome.account.counted(flow, place, frames),
                    None => outcome.account.complain(format_args!("a GAP for somebody who hears no room")),
                }
            }
            Some(Type::Error) => {
                let ErrorBody(reason) = ErrorBody::parse(payload).expect("an ERROR that can be read");
                match (reason.code().is_some_and(Code::closes), self.sends) {
                    (false, Some((flow, _))) => outcome.account.refused(flow, header.correlation),
                    _ => self.last_words = Some(format!("{:?}: {}", reason.code(), reason.text)),
                }
            }
            Some(Type::Goodbye) => {
                let Goodbye(reason) = Goodbye::parse(payload).expect("a GOODBYE that can be read");
                self.last_words = Some(format!("{:?}: {}", reason.code(), reason.text));
            }
            Some(Type::Ping) => {
                let pong = Header::new(Type::Pong).correlating(header.correlation);
                self.out.extend_from_slice(&pong.bytes(0));
            }
            _ => {}
        }
    }
}

fn join(client: &mut Client, room: &str) -> Id {
    let mut raw = RawClient { socket: client.socket.try_clone().expect("a descriptor"), id: client.id };
    raw.say(Header::new(Type::Join), &Join { name: room });
    let (_, payload) = raw.frame_of(Type::Joined);
    Joined::parse(&payload).expect("a JOINED").room
}

/// What a payload begins with.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    flow: u32,
    number: u32,
    /// On the bystanders' own clock.
    due_ns: u64,
    /// On the system's clock, on which it notes when something has come.
    sent_ns: u64,
}

/// Every byte depends on what stands in front, so that a piece of another frame does not fit.
fn payload(flow: u32, number: u32, due_ns: u64, sent_ns: u64) -> [u8; PAYLOAD_BYTES] {
    let mut payload = [0; PAYLOAD_BYTES];
    payload[..4].copy_from_slice(&flow.to_be_bytes());
    payload[4..8].copy_from_slice(&number.to_be_bytes());
    payload[8..16].copy_from_slice(&due_ns.to_be_bytes());
    payload[16..24].copy_from_slice(&sent_ns.to_be_bytes());
    let mut word = ((u64::from(flow) << 32) | u64::from(number)) ^ due_ns ^ sent_ns.rotate_left(20);
    for place in payload[24..].chunks_exact_mut(8) {
        word = (word ^ (word >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        place.copy_from_slice(&word.to_be_bytes());
    }
    payload
}

/// The stamp of a payload that is as it was sent.
fn stamp(bytes: &[u8]) -> Option<Stamp> {
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let long = |at: usize| Some((u64::from(word(at)?) << 32) | u64::from(word(at + 4)?));
    let stamp = Stamp { flow: word(0)?, number: word(4)?, due_ns: long(8)?, sent_ns: long(16)? };
    (bytes == payload(stamp.flow, stamp.number, stamp.due_ns, stamp.sent_ns)).then_some(stamp)
}

fn wall_ns() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64)
}

/// Reads what has come, and when the last of it came, by the system's time stamp.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> std::io::Result<(usize, u64)> {
    let mut stamp = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let got = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut stamp), MsgFlags::empty())?;
    let came_ns = got.cmsgs().ok().into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => {
            Some(time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned())
        }
        _ => None,
    });
    Ok((got.bytes, came_ns.unwrap_or_else(wall_ns)))
}

/// A client that did not come with the others, whose HELLO wishes for this keepalive.
pub(crate) fn client_with_keepalive(address: SocketAddr, name: &str, keepalive_ms: u32) -> RawClient {
    let mut hello = crate::passwords::hello(name);
    hello.keepalive_ms = Some(keepalive_ms);
    let mut client = RawClient::greet(address, &hello, Ipv4Addr::LOCALHOST);
    client.welcomed();
    client
}

/// Sums for the table.
impl Outcome {
    pub(crate) fn totals(&self) -> Totals {
        self.account.totals()
    }
}
