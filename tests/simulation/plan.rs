//! What happens in a run: settings, and a list of steps that a seed decides.
//!
//! A plan is data. A failing one is shrunk by leaving steps out, so every step makes sense (or does nothing) whatever
//! came before it, and no step draws from the random numbers of another.

use std::time::Duration;

use switchboard::reactor::Limits;
use switchboard::relay::Settings;

use super::doors::{Door, Doors, Trick};
use super::network::Line;
use super::people::People;

/// A run, whole.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
    pub(crate) clients: usize,
    pub(crate) steps: Vec<Step>,
    /// Events come late, twice, for nothing, or for those who have gone.
    pub(crate) restless_poll: bool,
    /// How clients come in.
    pub(crate) doors: Doors,
    /// Who they are.
    pub(crate) people: People,
}

/// One thing that one client, the network or time does, and how many turns the loop makes after it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) client: usize,
    pub(crate) action: Action,
    pub(crate) turns: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Connects, unless it is connected.
    Connect {
        hello: Greeting,
        payload_bytes_max: Option<u32>,
        keepalive_ms: Option<u32>,
        line: Line,
        door: Door,
        reader: Reader,
    },
    /// So many clients connect at once, this one and those behind it.
    Crowd {
        count: usize,
        line: Line,
        door: Door,
    },
    Send {
        to: Target,
        payload_bytes: usize,
        count: u32,
        flags: u8,
        kind: u16,
        type_number: u8,
    },
    SendMany {
        to: Vec<Target>,
        /// So many on top of them who are not here.
        strangers: usize,
        /// Where the frame itself goes: to the relay, if it is right.
        via: Target,
        payload_bytes: usize,
        flags: u8,
    },
    Ask {
        ask: Ask,
        flags: u8,
    },
    /// So many clients ask the same at once, this one and those behind it.
    Together {
        count: usize,
        ask: Ask,
    },
    Spoil(Spoil),
    Goodbye,
    HalfClose,
    Reset,
    /// Does what can only be done over TLS.
    Trick(Trick),
    /// The cable is pulled: nothing more in either direction, and nobody is told.
    Cut,
    /// Reads from now on in another way.
    Read(Reader),
    /// So many clients are lost at once.
    Storm {
        count: usize,
    },
    /// Time passes.
    Pass(Duration),
    /// Another list of users holds from now on.
    Reload(usize),
    ShutDown,
}

/// How a client greets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    Good,
    /// With the name of another.
    As(usize),
    BadName,
    LongName,
    BadBody,
    NotSwitchboard,
    OtherVersion,
    /// Something else first.
    Send,
    /// Not at all.
    None,
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Client(usize),
    /// The id that a client had before its last one.
    Former(usize),
    Nobody(u64),
    Room(usize),
    All,
    Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Watch(Option<usize>),
    Unwatch(Option<usize>),
    Who,
    WhoNamed(usize),
    WhoClient(usize),
    WhoFormer(usize),
    WhoRoom(usize),
    Join(usize),
    Leave(usize),
    Rename(usize),
    Details(usize),
    /// A station and endpoints, or none.
    Station(u8),
    /// With a clock, or without.
    Ping(Option<u64>),
    JoinBadName,
    RenameBadly,
    Unknown,
    /// An ERROR, which the relay only counts.
    Error,
    BadBody,
    BadPing,
    Evict(Target),
}

/// How a stream of frames comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// Noise.
    Garbage(usize),
    /// A length over the limit.
    TooLarge,
    /// A length that cannot be.
    Malformed,
    /// A whole frame over the limit, behind a good one for the same destination.
    TooLargeBehind,
    /// The same with a length that cannot be, in front of what looks like the rest of a header.
    MalformedBehind,
    /// A frame that is begun and not ended.
    Half(usize),
    /// A second HELLO.
    Again,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Prompt,
    Stalled,
    /// So many bytes every so many microseconds.
    Slow(usize, u64),
}

/// What a run is made of: each kind of step gets a weight, and many get none (swarm testing: Groce et al., ISSTA
/// 2012), because what is mixed with everything never comes in a row.
pub(crate) struct Swarm<'a> {
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) clients: usize,
    payload_bytes_max: u32,
    weights: [u32; 16],
    many: u8,
    receipts: u8,
    size_bits: u32,
    lines: u8,
}

impl Plan {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let random = &mut random;
        let crowd = match random.u8(..) {
            0 if random.bool() => 200 << random.u32(0..4),
            0..=8 => random.usize(30..200),
            9..=60 => random.usize(6..20),
            _ => random.usize(2..7),
        };
        let (mut limits, mut settings) = limits(random, crowd);
        let mut weights = [0; 16];
        for weight in &mut weights {
            *weight = if random.u8(..3) == 0 { 0 } else { random.u32(1..10) };
        }
        weights[0] = weights[0].max(3); // connect
        weights[1] = weights[1].max(2) * 3; // send
        let Settings { payload_bytes_max, queue_bytes_max, queue_reserve_bytes, .. } = settings;
        let restless_poll = random.bool();
        let count = if crowd > 200 { crowd } else { random.usize(50..600) };
        let mut swarm = Swarm {
            clients: crowd,
            payload_bytes_max,
            weights,
            many: random.u8(1..60),
            receipts: random.u8(..=255),
            size_bits: random.u32(4..17),
            lines: random.u8(..=255),
            random,
        };
        let mut steps: Vec<Step> = Vec::new();
        if crowd > 20 {
            let line = swarm.line();
            steps.push(Step {
                number: 0,
                client: 0,
                action: Action::Crowd { count: crowd, line, door: Door::PLAIN },
                turns: 20,
            });
        }
        // Once at most, and where it takes little.
        let may_play = crowd <= 20 && queue_bytes_max <= 64 * 1024 && swarm.random.bool();
        let scene = may_play.then(|| (swarm.random.u64(1..=count as u64), swarm.scene()));
        for number in 1..=count as u64 {
            if let Some((at, scene)) = scene
                && at == number
            {
                swarm.play(scene, number, queue_bytes_max, queue_reserve_bytes, &mut steps);
            }
            let client = swarm.random.usize(..crowd);
            let action = swarm.action();
            let most = if crowd > 200 { 1 } else { 4 };
            let turns = if swarm.random.u8(..3) == 0 { 0 } else { 1 << swarm.random.u8(..most) };
            steps.push(Step { number, client, action, turns });
        }
        let doors = Doors::from_seed(seed, crowd, &mut limits, &mut steps);
        let people = People::from_seed(seed, crowd, &mut settings, &mut steps);
        Self { seed, limits, settings, clients: crowd, steps, restless_poll, doors, people }
    }
}

impl Plan {
    /// Whether anybody speaks TLS.
    pub(crate) fn is_over_tls(&self) -> bool {
        self.steps.iter().any(|step| match step.action {
            Action::Connect { door, .. } | Action::Crowd { door, .. } => door.tls.is_some(),
            _ => false,
        })
    }

    /// How long it takes until whoever says nothing is given up.
    pub(crate) fn longest_silence(&self) -> Duration {
        let wished = self.steps.iter().map(|step| match step.action {
            Action::Connect { keepalive_ms: Some(keepalive_ms), .. } => Duration::from_millis(keepalive_ms.into()),
            _ => self.settings.keepalive,
        });
        let keepalive =
            wished.max().unwrap_or_default().clamp(self.settings.keepalive_min, self.settings.keepalive_max);
        let deadlines = self.limits.input_deadline + self.limits.write_deadline + self.settings.hello_deadline;
        let auth = &self.settings.auth;
        let login = auth.exchange_deadline + auth.delay_max + self.settings.takeover_probe;
        keepalive * 3 + deadlines + self.limits.linger + self.limits.handshake_deadline + login
    }
}

/// Small, so that runs reach them; some at their defaults, so that runs reach the others.
fn limits(random: &mut fastrand::Rng, crowd: usize) -> (Limits, Settings) {
    let payload_bytes_max: u32 = 4096 << random.u32(0..5);
    let frame_bytes_max = payload_bytes_max as usize + 28;
    let queue_bytes_max = (1_usize << random.u32(13..19)).max(frame_bytes_max);
    let queue_reserve_bytes = if random.bool() { 256 * 1024 } else { 1 << random.u32(13..16) };
    let tight = random.u8(..4) == 0;
    let least = queue_bytes_max + queue_reserve_bytes + frame_bytes_max;
    let budget = if tight { least.max(1 << random.u32(16..20)) + crowd * 512 } else { 256 << 20 };
    let small = Limits {
        connections_max: if random.u8(..8) == 0 { random.usize(1..=crowd) } else { crowd * 4 },
        accepts_turn_max: random.usize(1..9),
        endings_turn_max: random.usize(1..9),
        expiries_turn_max: random.usize(1..9),
        read_scratch_bytes: 1 << random.u32(6..13),
        read_turn_bytes_max: 1 << random.u32(7..14),
        turn_work_max: 1 << random.u32(1..9),
        input_bytes_max: frame_bytes_max.max(8192),
        input_deadline: Duration::from_secs(random.u64(1..30)),
        queue_bytes_max,
        queue_reserve_bytes,
        buffered_total_bytes_max: budget,
        write_through_bytes_min: 1 << random.u32(6..13),
        write_turn_bytes_max: 1 << random.u32(9..16),
        write_deadline: Duration::from_secs(random.u64(1..30)),
        linger: Duration::from_millis(random.u64(1..3000)),
        lingering_max: random.usize(0..8),
        ..Limits::default()
    };
    let limits = if random.u8(..4) == 0 {
        let Limits { connections_max, .. } = small;
        Limits {
            connections_max,
            queue_bytes_max,
            queue_reserve_bytes,
            input_bytes_max: small.input_bytes_max,
            ..Limits::default()
        }
    } else {
        small
    };
    let settings = Settings {
        payload_bytes_max,
        queue_bytes_max,
        queue_reserve_bytes,
        hello_deadline: Duration::from_secs(random.u64(1..20)),
        keepalive: Duration::from_secs(random.u64(1..100)),
        keepalive_min: Duration::from_secs(1),
        keepalive_max: Duration::from_mins(5),
        rooms_max: if random.u8(..4) == 0 { random.usize(1..4) } else { 1000 },
        rooms_per_client_max: if random.u8(..4) == 0 { random.usize(1..3) } else { 64 },
        members_max: if random.u8(..4) == 0 { random.usize(1..4) } else { 100_000 },
        log_lost_per_second_max: 0,
        ..Settings::default()
    };
    (limits, settings)
}

impl Swarm<'_> {
    fn action(&mut self) -> Action {
        let total: u32 = self.weights.iter().sum();
        let mut dice = self.random.u32(..total);
        let mut place = 0;
        while dice >= self.weights[place] {
            dice -= self.weights[place];
            place += 1;
        }
        match place {
            0 | 2 => self.connect(),
            1 | 3 => self.send(),
            4 => {
                let count = 1 + self.random.usize(..6);
                let to = (0..count).map(|_| self.target()).collect();
                let strangers = if self.random.u8(..16) == 0 { self.random.usize(..1100) } else { 0 };
                let via = if self.random.u8(..32) == 0 { self.target() } else { Target::Relay };
                Action::SendMany { to, strangers, via, payload_bytes: self.payload_bytes(), flags: self.flags() }
            }
            5 if self.random.u8(..6) == 0 => {
                let ask = match self.random.u8(..5) {
                    0 => Ask::Join(self.random.usize(..ROOMS)),
                    1 => Ask::Watch(self.room()),
                    2 => Ask::Who,
                    _ => Ask::Details(self.random.usize(500..1024)),
                };
                Action::Together { count: 1 + self.random.usize(..self.clients), ask }
            }
            5 | 6 => Action::Ask { ask: self.ask(), flags: self.flags() },
            7 => self.join_or_leave(),
            8 => Action::Read(self.reader()),
            9 => Action::Read(Reader::Prompt),
            10 => match self.random.u8(..10) {
                8 => Action::Spoil(Spoil::TooLargeBehind),
                9 => Action::Spoil(Spoil::MalformedBehind),
                0 => Action::Spoil(Spoil::Garbage(1 << self.random.u32(0..12))),
                1 => Action::Spoil(Spoil::TooLarge),
                2 => Action::Spoil(Spoil::Malformed),
                3 => Action::Spoil(Spoil::Again),
                4 => Action::Spoil(Spoil::Half(self.random.usize(1..200))),
                _ => Action::Goodbye,
            },
            11 => Action::HalfClose,
            12 => Action::Reset,
            13 if self.random.u8(..4) == 0 => Action::Cut,
            13 => Action::Goodbye,
            14 if self.random.u8(..3) == 0 => Action::Storm { count: 1 + self.random.usize(..self.clients) },
            14 => {
                let count = 1 + self.random.usize(..self.clients);
                Action::Crowd { count, line: self.line(), door: Door::PLAIN }
            }
            _ if self.random.u16(..2000) == 0 => Action::ShutDown,
            _ => Action::Pass(Duration::from_micros(1 << self.random.u32(8..28))),
        }
    }

    fn connect(&mut self) -> Action {
        let hello = match self.random.u8(..40) {
            0..=2 => Greeting::As(self.random.usize(..self.clients)),
            3 => match self.random.u8(..3) {
                0 => Greeting::BadName,
                1 => Greeting::LongName,
                _ => Greeting::BadBody,
            },
            4 => Greeting::NotSwitchboard,
            5 => Greeting::OtherVersion,
            6 => Greeting::Send,
            7 => Greeting::None,
            _ => Greeting::Good,
        };
        let payload_bytes_max = match self.random.u8(..8) {
            0 => Some(4096),
            1 => Some(self.random.u32(..4096)),
            2 => None,
            _ => Some(self.payload_bytes_max),
        };
        let keepalive_ms = match self.random.u8(..8) {
            0 | 1 => Some(self.random.u32(500..200_000)),
            2 => None,
            _ => Some(20_000),
        };
        let reader = if self.random.u8(..6) == 0 { self.reader() } else { Reader::Prompt };
        Action::Connect { hello, payload_bytes_max, keepalive_ms, line: self.line(), door: Door::PLAIN, reader }
    }

    fn line(&mut self) -> Line {
        if self.random.u8(..) > self.lines {
            return Line::PLAIN;
        }
        Line {
            piece_bytes_max: 1 << self.random.u32(0..16),
            delay_us_max: if self.random.bool() { 0 } else { 1 << self.random.u32(0..21) },
            window_bytes: 1 << self.random.u32(5..18),
            write_bytes_max: if self.random.bool() { usize::MAX } else { 1 << self.random.u32(0..15) },
            interrupts: self.random.u8(..4) == 0,
            reads_before_reset: self.random.bool(),
            breaks_after: if self.random.u8(..12) == 0 { 1 << self.random.u32(6..18) } else { u64::MAX },
        }
    }

    fn reader(&mut self) -> Reader {
        match self.random.u8(..4) {
            0 => Reader::Prompt,
            1 => Reader::Slow(1 << self.random.u32(0..12), 1 << self.random.u32(6..21)),
            _ => Reader::Stalled,
        }
    }

    fn send(&mut self) -> Action {
        let mut count = if self.random.u8(..100) < self.many { 1 << self.random.u32(0..9) } else { 1 };
        let type_number = match self.random.u8(..20) {
            0 => 0x13,
            1 => 0x42,
            2 => self.random.u8(0x80..),
            3 => 0x06,
            _ => 0x10,
        };
        let kind = if self.random.u8(..8) == 0 { super::client::ACK_ME } else { self.random.u16(..) & 0xFF };
        let payload_bytes = if count > 16 { self.payload_bytes().min(1024) } else { self.payload_bytes() };
        // Many PINGs to the relay, or frames to nobody, from a client that does not read the answers: it is paused.
        let is_nagging = count > 16 && self.random.u8(..4) == 0;
        // More of them than one run may have.
        let is_flood = is_nagging && self.random.u8(..8) == 0;
        if is_flood {
            count = 5000;
        }
        let payload_bytes = if is_flood { 0 } else { payload_bytes };
        let (to, type_number) = match is_nagging {
            true if self.random.bool() => (Target::Relay, 0x06),
            true => (Target::Nobody(1 << 62 | 1 << 60), 0x10),
            false => (self.target(), type_number),
        };
        Action::Send { to, payload_bytes, count, flags: self.flags(), kind, type_number }
    }

    fn target(&mut self) -> Target {
        match self.random.u8(..32) {
            0..=17 => Target::Client(self.random.usize(..self.clients)),
            18 => Target::Former(self.random.usize(..self.clients)),
            19 => Target::Nobody(self.random.u64(..) >> self.random.u32(0..4)),
            20 if self.random.u8(..4) == 0 => Target::Relay,
            20..=25 => Target::Room(self.random.usize(..ROOMS)),
            _ => Target::All,
        }
    }

    fn payload_bytes(&mut self) -> usize {
        let most = (1_usize << self.random.u32(0..=self.size_bits)).min(self.payload_bytes_max as usize);
        if self.random.u8(..6) == 0 { most } else { self.random.usize(..=most) }
    }

    fn flags(&mut self) -> u8 {
        let receipt = u8::from(self.random.u8(..) < self.receipts);
        let no_echo = if self.random.bool() { 8 } else { 0 };
        let ignorable = if self.random.u8(..8) == 0 { 4 } else { 0 };
        receipt | no_echo | ignorable
    }

    fn room(&mut self) -> Option<usize> {
        self.random.bool().then(|| self.random.usize(..ROOMS))
    }

    fn ask(&mut self) -> Ask {
        match self.random.u8(..20) {
            0..=5 => Ask::Watch(self.room()),
            6 => Ask::Unwatch(self.room()),
            7 => Ask::Who,
            8 => match self.random.u8(..3) {
                0 => Ask::WhoNamed(self.random.usize(..self.clients)),
                1 => Ask::WhoClient(self.random.usize(..self.clients)),
                _ => Ask::WhoFormer(self.random.usize(..self.clients)),
            },
            9 => Ask::WhoRoom(self.random.usize(..ROOMS)),
            10 | 11 => Ask::Rename(self.random.usize(..self.clients * 2)),
            12 | 13 => Ask::Details(self.random.usize(..1024)),
            14 => Ask::Station(self.random.u8(..6)),
            15 => match self.random.u8(..5) {
                0 => Ask::Unknown,
                1 => Ask::Error,
                2 => Ask::BadBody,
                3 => Ask::BadPing,
                _ if self.random.bool() => Ask::JoinBadName,
                _ => Ask::RenameBadly,
            },
            16 => Ask::Ping(None),
            _ => Ask::Ping(Some(self.random.u64(..))),
        }
    }

    fn join_or_leave(&mut self) -> Action {
        let room = self.random.usize(..ROOMS);
        let ask = if self.random.u8(..4) == 0 { Ask::Leave(room) } else { Ask::Join(room) };
        Action::Ask { ask, flags: self.flags() }
    }
}

/// Names of rooms that are used.
pub(crate) const ROOMS: usize = 6;
