//! The numbers of each scenario: which it has, with which default, in which unit, and why.

use Parameter::{Connections, Minutes, Rate, Rooms, Seconds, Size, Stuck, Warmup, Window};

use super::scenario::Scenario;

/// A number that some scenarios have and others have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Clients.
    Connections,
    /// Rooms.
    Rooms,
    /// Recipients that stop reading.
    Stuck,
    /// Payload of a frame, in bytes.
    Size,
    /// Frames that a sender has outstanding.
    Window,
    /// Frames or connections a second.
    Rate,
    /// Time under load before anything is measured.
    Warmup,
    /// How long it is measured.
    Seconds,
    /// The same, where it takes long.
    Minutes,
}

impl Parameter {
    /// Every parameter, in the order in which people are told of them.
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::Rooms,
        Self::Stuck,
        Self::Size,
        Self::Window,
        Self::Rate,
        Self::Warmup,
        Self::Seconds,
        Self::Minutes,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rooms => "rooms",
            Self::Stuck => "stuck",
            Self::Size => "size",
            Self::Window => "window",
            Self::Rate => "rate",
            Self::Warmup => "warmup",
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
        }
    }
}

/// A parameter as a scenario has it.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Which one.
    pub parameter: Parameter,
    /// Its value where nothing else is asked for.
    pub default: u32,
    /// What it is, in which unit, and why the default is what it is.
    pub help: &'static str,
}

const fn offer(parameter: Parameter, default: u32, help: &'static str) -> Offer {
    Offer { parameter, default, help }
}

/// Payload of a frame, in bytes, where nothing else is asked for.
pub(super) const SIZE_DEFAULT: u32 = 128;

const SIZE: Offer = offer(
    Size,
    SIZE_DEFAULT,
    "Payload of a frame, from 16 bytes, which its stamp takes, to 16MiB: by default a short message",
);

const WARMUP: Offer =
    offer(Warmup, 1, "Seconds under load before anything is measured: caches and buffers take their size");

const PAIRS: &[Offer] = &[
    offer(Connections, 100, "Clients, an even number: few enough that the path of a frame is measured, not memory"),
    SIZE,
    offer(Window, 16, "Frames that each client has outstanding: 1 measures wake-ups, 16 a busy line, 128 frames alone"),
    WARMUP,
    offer(Seconds, 5, "Seconds that are measured: some hundred thousand frames"),
];

const FANOUT: &[Offer] = &[
    offer(Connections, 1000, "Clients: the first sends, and the others hear it"),
    offer(Rooms, 0, "0: everybody is sent to; 1: a room that everybody is in"),
    SIZE,
    offer(Window, 4, "Frames outstanding: the next goes out when the oldest has reached everybody"),
    WARMUP,
    offer(Seconds, 5, "Seconds that are measured: some million deliveries"),
];

const ROOMS: &[Offer] = &[
    offer(Connections, 1000, "Clients, spread evenly over the rooms"),
    offer(Rooms, 100, "Rooms, of at least two members: by default ten in each"),
    SIZE,
    offer(Window, 4, "Frames that the sender in each room has outstanding"),
    WARMUP,
    offer(Seconds, 5, "Seconds that are measured: some million deliveries"),
];

const IDLE: &[Offer] = &[
    offer(Connections, 10_000, "Clients: the everyday case of a large relay"),
    offer(Seconds, 60, "Seconds of silence: twice the usual keepalive of 30, so that heartbeats are in"),
];

const RATE: &[Offer] = &[
    offer(Connections, 10_000, "Clients, an even number: the everyday case of a large relay"),
    SIZE,
    offer(Rate, 20_000, "Frames a second, of all clients together: two a second from each"),
    WARMUP,
    offer(Seconds, 10, "Seconds that are measured: enough for the 99.9th percentile"),
];

const CHURN: &[Offer] = &[
    offer(Connections, 1000, "Clients that are here at a time: the oldest leaves when one more comes"),
    offer(Rate, 1000, "Connections a second: by default each stays for a second"),
    offer(Warmup, 1, "Seconds before that, at least 1, for the bystanders' undisturbed latency"),
    offer(Seconds, 10, "Seconds of coming and going"),
];

const STORM: &[Offer] = &[
    offer(Connections, 10_000, "Clients that are lost and come back: the everyday case of a large relay"),
    offer(Seconds, 5, "Seconds before the storm, for the bystanders' undisturbed latency"),
];

const SLOW: &[Offer] = &[
    offer(Connections, 100, "Clients, an even number, the stuck and those that send to them included"),
    offer(Stuck, 5, "Recipients that stop reading"),
    SIZE,
    offer(Window, 16, "Frames that each of the others has outstanding"),
    offer(Rate, 20_000, "Frames a second to the stuck, all together: their queues of 1MiB are full within 2 s"),
    WARMUP,
    offer(Seconds, 5, "Seconds of each part: undisturbed, and beside the stuck; less than a relay's write deadline"),
];

const FILE: &[Offer] = &[
    offer(Connections, 2, "Clients, an even number: half of them send, the other half take"),
    offer(Size, 65_536, "Payload of a frame, from 16 bytes to 16MiB: by default the largest that relays usually take"),
    offer(Window, 16, "Frames that each sender has outstanding: one MiB on its way, as file transfers have"),
    WARMUP,
    offer(Seconds, 5, "Seconds that are measured: some GB"),
];

const SOAK: &[Offer] = &[
    offer(
        Connections,
        200,
        "Clients: half of them talk in pairs and rooms, the others come and go, join and leave, watch, or say nothing",
    ),
    offer(Rooms, 10, "Rooms that are always there, of at least two members; others come and vanish meanwhile"),
    offer(Stuck, 2, "Slow readers: they stop until frames are skipped for them, read on, and stop again"),
    offer(
        Size,
        65_536,
        "The largest payload, to 16MiB: one of fifty frames; half are as short as messages are, from 16 bytes on",
    ),
    offer(
        Rate,
        2000,
        "Frames a second that are sent, some of them for many: 4 % of a core for the relay, 12 % for the load",
    ),
    offer(Minutes, 60, "Minutes, as 60 or 0.5: what grows by a MiB in an hour is noticed in one"),
];

impl Scenario {
    /// What it does, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Pairs => "Each client sends to its partner, a window of frames outstanding",
            Self::Fanout => "One client sends to all others",
            Self::Rooms => "Many rooms: in each, one member sends to the others",
            Self::Idle => "Registered clients that say nothing: memory for each, and the CPU of heartbeats",
            Self::Rate => "Pairs send by the clock: latency from the time when a frame should have been sent",
            Self::Churn => "Clients connect, register and leave, at a rate",
            Self::Storm => "All clients are lost at once, and all come back at once",
            Self::Slow => "Some recipients stop reading: what the others feel of it",
            Self::File => "Large payloads from one client of each pair to the other",
            Self::Soak => "Mixed traffic, rooms and churn for a long time: nothing grows, nothing is lost",
        }
    }

    /// Its parameters, with its own defaults.
    #[must_use]
    pub const fn offers(self) -> &'static [Offer] {
        match self {
            Self::Pairs => PAIRS,
            Self::Fanout => FANOUT,
            Self::Rooms => ROOMS,
            Self::Idle => IDLE,
            Self::Rate => RATE,
            Self::Churn => CHURN,
            Self::Storm => STORM,
            Self::Slow => SLOW,
            Self::File => FILE,
            Self::Soak => SOAK,
        }
    }

    /// A parameter as this scenario has it, if it has it.
    #[must_use]
    pub fn offer(self, parameter: Parameter) -> Option<Offer> {
        self.offers().iter().find(|offer| offer.parameter == parameter).copied()
    }

    /// Whether each client has a partner.
    pub(super) const fn is_paired(self) -> bool {
        matches!(self, Self::Pairs | Self::Rate | Self::Slow | Self::File)
    }
}
