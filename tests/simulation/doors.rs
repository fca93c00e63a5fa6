//! How clients come in: over TLS or not, through a proxy or not, and who is let in.
//!
//! What is decided here is drawn from random numbers of its own: a seed whose relay has but one open door runs as it would
//! if there were nothing else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use switchboard::reactor::{Gate, Limits, RateLimit};

use super::network::Line;
use super::people::Login;
use super::plan::{Action, Greeting, Reader, Step, Target};
use super::secure::Version;

/// The listener with TLS.
pub(crate) const TLS: usize = 1;

/// What holds for a whole run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doors {
    /// Of 256 connections so many speak TLS.
    tls_share: u8,
    /// Of 256 connections so many come through a proxy, if there is one.
    proxy_share: u8,
    pub(crate) has_proxy: bool,
    /// Clients that share an address.
    pub(crate) neighbours: usize,
    /// Each so many-th address may not come in.
    pub(crate) denied_every: usize,
    /// Of 256 connections over TLS or through a proxy so many do not come in as they should.
    spoilt_share: u8,
}

/// How one connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) tls: Option<Version>,
    pub(crate) proxy: Option<Speech>,
    pub(crate) manner: Manner,
    /// How it says who it is, once it is asked.
    pub(crate) login: Login,
}

/// What stands in front of a connection from a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    V1,
    V2,
    /// With what proxies append.
    V2Long,
    /// The proxy does not know for whom it speaks, or speaks for itself.
    V1Unknown,
    V2Local,
    /// No header at all.
    Nothing,
    Bad,
    /// So many bytes of a header and nothing more.
    Half(usize),
}

/// How a client begins with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Orderly,
    /// It says nothing.
    Silent,
    /// It says a part of what it should, and nothing more.
    Half(usize),
    /// What it says is no TLS.
    Noise,
    /// It says HELLO as if there was no TLS.
    Plain,
    /// It says what it should, and hangs up.
    Gone,
}

/// What only clients over TLS can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// New keys, so many times.
    Refresh(usize),
    /// It says over TLS that nothing follows, and leaves the socket as it is.
    CloseNotify,
    /// The socket says that nothing follows, and TLS does not.
    CutOff,
    /// A record that was changed on its way.
    Scramble,
    /// A record of which the last bytes never come.
    HalfRecord(usize),
    /// What is no record.
    Raw,
}

impl Door {
    pub(crate) const PLAIN: Self = Self { tls: None, proxy: None, manner: Manner::Orderly, login: Login::Password };

    pub(crate) const fn listener(self) -> usize {
        if self.tls.is_some() { TLS } else { 0 }
    }
}

impl Speech {
    /// Whether the relay takes it, and for which address then: `None` for that of the socket.
    pub(crate) const fn is_good(self) -> bool {
        matches!(self, Self::V1 | Self::V2 | Self::V2Long | Self::V1Unknown | Self::V2Local)
    }

    pub(crate) const fn names_somebody(self) -> bool {
        matches!(self, Self::V1 | Self::V2 | Self::V2Long)
    }

    /// What a proxy says of a connection from `from`.
    pub(crate) fn bytes(self, from: SocketAddr) -> Vec<u8> {
        let IpAddr::V4(ip) = from.ip() else { panic!("addresses here have four bytes") };
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
            header.extend_from_slice(&[0x20 | command, family]);
            header.extend_from_slice(&(rest.len() as u16).to_be_bytes());
            header.extend_from_slice(rest);
            header
        };
        let mut addresses = [ip.octets(), [10, 9, 0, 1]].concat();
        addresses.extend_from_slice(&[from.port().to_be_bytes(), [0x27, 0x0f]].concat());
        match self {
            Self::V1 => format!("PROXY TCP4 {ip} 10.9.0.1 {} 9999\r\n", from.port()).into_bytes(),
            Self::V1Unknown => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::V2 => v2(1, 0x11, &addresses),
            Self::V2Long => {
                // A name that the client asked for (PP2_TYPE_AUTHORITY), of 300 bytes.
                addresses.extend_from_slice(&[2, 1, 44]);
                addresses.extend_from_slice(&[b'n'; 300]);
                v2(1, 0x11, &addresses)
            }
            Self::V2Local => v2(0, 0, &[]),
            Self::Nothing => Vec::new(),
            Self::Bad => b"PROXY TCP4 nobody knows whom 1 2\r\n".to_vec(),
            Self::Half(length) => {
                let mut header = v2(1, 0x11, &addresses);
                header.truncate(length.clamp(1, header.len() - 1));
                header
            }
        }
    }
}

impl Doors {
    /// One door, open to all.
    pub(crate) const OPEN: Self =
        Self { tls_share: 0, proxy_share: 0, has_proxy: false, neighbours: 1, denied_every: 0, spoilt_share: 0 };

    /// What a seed has beside what it had before: limits, doors, and what goes on at them.
    pub(crate) fn from_seed(seed: u64, clients: usize, limits: &mut Limits, steps: &mut Vec<Step>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xd000_00d0);
        let random = &mut random;
        if random.u8(..) < 80 {
            return Self::OPEN;
        }
        let mut doors = Self {
            tls_share: match random.u8(..4) {
                0 => 0,
                1 => 255,
                _ => random.u8(..),
            },
            proxy_share: random.u8(..),
            has_proxy: random.u8(..4) == 0,
            neighbours: if random.u8(..3) == 0 { random.usize(2..6) } else { 1 },
            denied_every: if random.u8(..4) == 0 { random.usize(2..9) } else { 0 },
            spoilt_share: random.u8(..64),
        };
        if clients > 200 {
            doors.tls_share = doors.tls_share.min(64);
        }
        doors.narrow(limits, clients, random);
        let mut newer = fastrand::Rng::with_seed(seed ^ 0x0ad_d4e5);
        if limits.newcomers_max < usize::MAX && newer.u8(..3) == 0 {
            limits.newcomers_per_address_max = newer.usize(1..4);
        }
        doors.send_through(steps, random);
        if limits.rate.messages_per_second_max.is_some() && !limits.rate.closes && clients <= 20 {
            change_places(steps, random.usize(..clients));
        }
        doors
    }

    fn narrow(&self, limits: &mut Limits, clients: usize, random: &mut fastrand::Rng) {
        limits.handshakes_turn_max = random.usize(1..9);
        limits.handshakes_waiting_max = random.usize(1..40);
        limits.handshake_deadline = Duration::from_secs(random.u64(1..20));
        limits.handshake_bytes_max = if random.bool() { 20 * 1024 } else { 64 * 1024 };
        if random.u8(..4) == 0 {
            limits.connections_per_address_max = random.usize(1..=self.neighbours + 2);
        }
        if random.u8(..6) == 0 && !self.has_proxy {
            limits.accepts_per_address_per_second_max = Some(random.u32(1..20));
        }
        if random.u8(..6) == 0 {
            limits.accepts_per_second_max = Some(random.u32(10..400));
        }
        if random.u8(..4) == 0 {
            // Few, more often than not: else nobody has to go.
            limits.newcomers_max = if random.u8(..4) == 0 { random.usize(1..=clients) } else { random.usize(1..4) };
        }
        if random.u8(..3) == 0 {
            // What comes at the end of a handshake can be more than a turn's work.
            limits.turn_work_max = 1 << random.u32(1..4);
        }
        if random.u8(..3) == 0 {
            limits.rate = RateLimit {
                messages_per_second_max: random.bool().then(|| 1 << random.u32(3..9)),
                bytes_per_second_max: random.bool().then(|| 1 << random.u32(11..18)),
                closes: random.u8(..4) == 0,
            };
        }
    }

    /// Has some connections come over TLS or through a proxy, and some clients play tricks.
    fn send_through(&self, steps: &mut Vec<Step>, random: &mut fastrand::Rng) {
        let tricks = if self.tls_share > 0 { random.u8(..48) } else { 0 };
        for place in (0..steps.len()).rev() {
            let door = match &mut steps[place].action {
                Action::Connect { door, .. } | Action::Crowd { door, .. } => {
                    *door = self.door(random);
                    *door
                }
                _ => Door::PLAIN,
            };
            if door.tls.is_some() && random.u8(..6) == 0 {
                // Its first frames come with the end of the handshake.
                let Step { number, client, turns, .. } = steps[place];
                let (to, flags, kind, type_number) = (Target::All, 0, 0, 0x10);
                let action = Action::Send { to, payload_bytes: 20, count: 6, flags, kind, type_number };
                steps[place].turns = 0;
                steps.insert(place + 1, Step { number, client, action, turns });
            }
            if random.u8(..) < tricks {
                let Step { number, client, turns, .. } = steps[place];
                let action = Action::Trick(trick(random));
                steps.insert(place + 1, Step { number, client, action, turns });
            }
        }
    }

    fn door(&self, random: &mut fastrand::Rng) -> Door {
        let is_spoilt = random.u8(..) < self.spoilt_share;
        let tls =
            (random.u8(..) < self.tls_share).then(|| if random.u8(..4) == 0 { Version::V12 } else { Version::V13 });
        let proxy = (self.has_proxy && random.u8(..) < self.proxy_share).then(|| match random.u8(..16) {
            0 if is_spoilt => Speech::Nothing,
            1..=3 if is_spoilt => Speech::Bad,
            4..=7 if is_spoilt => Speech::Half(random.usize(1..27)),
            8 => Speech::V1Unknown,
            9 => Speech::V2Local,
            10 | 11 => Speech::V2Long,
            12 | 13 => Speech::V1,
            _ => Speech::V2,
        });
        let manner = match random.u8(..6) {
            _ if tls.is_none() || !is_spoilt => Manner::Orderly,
            0 => Manner::Silent,
            1 => Manner::Half(random.usize(1..200)),
            2 => Manner::Noise,
            3 => Manner::Plain,
            4 => Manner::Gone,
            _ => Manner::Orderly,
        };
        Door { tls, proxy, manner, login: Login::Password }
    }

    /// Who is let in.
    pub(crate) fn gate(&self, clients: usize) -> Gate {
        let denied = (0..clients).filter(|client| self.is_denied(*client)).map(|client| self.ip(client));
        let mut deny: Vec<IpNet> = denied.map(IpNet::from).collect();
        deny.dedup();
        let proxies = if self.has_proxy { vec!["10.9.0.0/16".parse().expect("a network")] } else { Vec::new() };
        Gate { deny, proxies, ..Gate::default() }
    }

    pub(crate) const fn is_denied(&self, client: usize) -> bool {
        self.denied_every > 0 && (client / self.neighbours) % self.denied_every == 1
    }

    /// Where a client comes from.
    pub(crate) fn ip(&self, client: usize) -> IpAddr {
        let number = client / self.neighbours;
        [10, 0, (number >> 8) as u8, number as u8].into()
    }
}

/// Somebody sends much more than it may and goes, and somebody else comes in its place.
fn change_places(steps: &mut Vec<Step>, client: usize) {
    let number = steps.last().map_or(0, |step| step.number);
    let send = |count: u32| Action::Send {
        to: Target::Nobody(1 << 62 | 1 << 60),
        payload_bytes: 0,
        count,
        flags: 0,
        kind: 0,
        type_number: 0x10,
    };
    let come = Action::Connect {
        hello: Greeting::Good,
        payload_bytes_max: None,
        keepalive_ms: Some(60_000),
        line: Line::PLAIN,
        door: Door::PLAIN,
        reader: Reader::Prompt,
    };
    let acts = [(come.clone(), 9), (send(600), 9), (Action::Reset, 4), (come, 9), (send(2), 90)];
    steps.extend(acts.map(|(action, turns)| Step { number, client, action, turns }));
}

fn trick(random: &mut fastrand::Rng) -> Trick {
    match random.u8(..16) {
        0..=4 => Trick::Refresh(1 << random.u32(0..6)),
        5 | 6 => Trick::CloseNotify,
        7 => Trick::CutOff,
        8..=10 => Trick::Scramble,
        11 | 12 => Trick::HalfRecord(random.usize(1..60)),
        _ => Trick::Raw,
    }
}
