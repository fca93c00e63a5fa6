//! What a run has found, as one value: written for people, for machines, and as a page.

mod latency;

use std::io;

use serde::Serialize;

/// The version of the shape of the JSON: it grows when a name goes or changes its meaning, not when one comes.
const FORMAT: u32 = 1;

/// The outcome of a scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What was measured.
    pub target: Target,
    /// What was asked for.
    pub settings: Settings,
    /// How the clients came in.
    pub arrival: Option<Arrival>,
    /// What was passed on while it was measured.
    pub traffic: Option<Traffic>,
    /// Times from the moment when a frame should have been sent to the one when it was received, one for
    /// each part of the scenario ("disturbed", "undisturbed"); most have one part.
    pub latencies: Vec<Latency>,
    /// The server's memory.
    pub memory: Option<Memory>,
    /// What became of every frame.
    pub account: Account,
    /// Figures that only this scenario has.
    pub figures: Vec<Figure>,
    /// How it went over time.
    pub series: Vec<Sample>,
    /// Why the run does not count; empty if it does.
    pub failures: Vec<String>,
}

/// The server under load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Target {
    /// Where it listens.
    pub address: String,
    /// What it calls itself.
    pub software: String,
    /// Its process, if it runs on this machine and may be looked at.
    pub pid: Option<u32>,
    /// The core that it was pinned to.
    pub core: Option<usize>,
}

/// What was asked for, so that a run can be repeated. What does not apply is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// Clients.
    pub connections: u32,
    /// Payload of a frame, in bytes.
    pub size_bytes: Option<usize>,
    /// Frames that a sender has outstanding.
    pub window: Option<u32>,
    /// Frames a second in all; connections a second where connections are the load.
    pub rate: Option<f64>,
    /// How long it was measured.
    pub seconds: f64,
    /// Rooms.
    pub rooms: Option<u32>,
}

/// How the clients came in.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Arrival {
    /// Clients that were registered.
    pub clients: u32,
    /// From the first connect to the last registration.
    pub seconds: f64,
    /// The server's CPU time for each client, in microseconds, where it is known.
    pub server_cpu_us_per_client: Option<f64>,
}

/// What was passed on.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// How long it was measured.
    pub seconds: f64,
    /// Frames that arrived at a recipient.
    pub delivered: u64,
    /// The same in a second.
    pub delivered_per_second: f64,
    /// Payload bytes that arrived, in a second.
    pub bytes_per_second: f64,
    /// The server's CPU time for each delivered frame, in nanoseconds, where it is known.
    pub server_cpu_ns_per_delivery: Option<f64>,
    /// The server's share of one core, 0 to 1.
    pub server_core_share: Option<f64>,
}

/// A histogram of latencies, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Which part of the scenario it belongs to; empty if there is only one.
    pub part: String,
    /// Frames.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Their mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90 of 100 were at most this.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p999_us: f64,
    /// 9,999 of 10,000.
    pub p9999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Points of the percentile curve: percentile from 0 to 100, and microseconds.
    pub curve: Vec<(f64, f64)>,
}

/// The server's resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Before the clients came.
    pub before_bytes: u64,
    /// With all of them registered and silent.
    pub registered_bytes: u64,
    /// At the end of the run.
    pub end_bytes: u64,
    /// For each registered client.
    pub per_connection_bytes: f64,
}

/// What became of every frame, counted once for each recipient that it was meant for.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Account {
    /// Frames sent, times their recipients.
    pub sent: u64,
    /// Delivered whole, in order and once.
    pub delivered: u64,
    /// Refused to their sender.
    pub refused: u64,
    /// Counted to their recipient as missing.
    pub counted: u64,
    /// None of these: the server has lost them.
    pub lost: u64,
    /// Delivered more often than once, or not in order.
    pub misordered: u64,
    /// Delivered with other bytes than were sent, or to somebody else.
    pub damaged: u64,
    /// Why frames were refused, and how many.
    pub refusals: Vec<(String, u64)>,
}

/// A figure that only one scenario has.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figure {
    /// A name for machines: `registered_after_seconds`.
    pub name: String,
    /// Words for people: "all registered again after".
    pub label: String,
    /// The value.
    pub value: f64,
    /// Its unit; empty for a count.
    pub unit: String,
}

/// The state of things at a moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Since the run began.
    pub at_seconds: f64,
    /// Clients that are registered.
    pub clients: u32,
    /// Frames delivered in a second, since the sample before.
    pub delivered_per_second: f64,
    /// Payload bytes delivered in a second.
    pub bytes_per_second: f64,
    /// The server's resident memory.
    pub resident_bytes: Option<u64>,
    /// The server's share of one core, since the sample before.
    pub server_core_share: Option<f64>,
    /// Files that the server has open.
    pub descriptors: Option<u64>,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(name: &str, label: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), label: label.to_owned(), value, unit: unit.to_owned() }
    }
}

/// Writes a value as one JSON object in lines, the version of its shape in front.
pub(super) fn write_document<T: Serialize>(value: &T, out: &mut dyn io::Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        format: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_writer_pretty(&mut *out, &Document { format: FORMAT, value })?;
    writeln!(out)
}
