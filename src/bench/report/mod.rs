//! What a run has found, as one value: written for people, for machines, and as a page.
//!
//! It only holds and shows; nothing here measures or judges.
//!
//! # The shape of the JSON
//!
//! [`Report::write_json`] writes one object: `format`, the version of the shape, and then the fields of
//! [`Report`] under their names here. Units end the names. What was not measured, or does not apply, is `null`,
//! an empty list or an empty text; a run counts if `failures` is empty.
//!
//! ```json
//! { "format": 1, "scenario": "pairs", "command": "switchboard bench pairs", "date": "2026-01-31T12:00:00Z",
//!   "target": { "address": "127.0.0.1:7400", "software": "switchboard 0.1.0", "pid": 4711, "core": 0 },
//!   "settings": { "connections": 100, "size_bytes": 128, "window": 16, "rate": null, "seconds": 10.0, "rooms": null },
//!   "tls": { "version": "TLS 1.3", "cipher_suite": "TLS_AES_256_GCM_SHA384", "handshakes": 100, "resumed": 0 },
//!   "arrival": { "clients": 100, "seconds": 0.0123, "server_cpu_us_per_client": 12.3 },
//!   "traffic": { "seconds": 10.0, "delivered": 12100000, "delivered_per_second": 1210000.0,
//!                "bytes_per_second": 154880000.0, "server_cpu_ns_per_delivery": 235.0, "server_core_share": 0.284,
//!                "records": { "to_server": 756250, "to_server_bytes": 2081200000, "from_server": 756250,
//!                             "from_server_bytes": 2081200000 } },
//!   "latencies": [{ "part": "", "count": 12100000, "min_us": 4.1, "mean_us": 15.0, "p50_us": 12.3, "p90_us": 20.0,
//!                   "p99_us": 45.6, "p999_us": 78.9, "p9999_us": 120.0, "max_us": 2200.0,
//!                   "curve": [[0.0, 4.1], [90.0, 20.0]] }],
//!   "memory": { "before_bytes": 2097152, "registered_bytes": 2120704, "end_bytes": 2150000,
//!               "per_connection_bytes": 235.5 },
//!   "account": { "sent": 12100000, "delivered": 12099997, "refused": 3, "counted": 0, "cut_off": 0, "lost": 0, "open": 0,
//!                "misordered": 0, "damaged": 0, "contradicted": 0, "refusals": { "QUEUE_FULL": 3 } },
//!   "figures": [{ "name": "registered_after_seconds", "label": "all registered again after", "value": 1.2,
//!                 "unit": "s" }],
//!   "series": [{ "at_seconds": 0.25, "clients": 100, "delivered_per_second": 0.0, "bytes_per_second": 0.0,
//!                "resident_bytes": 2097152, "server_core_share": 0.1, "descriptors": 108, "p50_us": 12.3,
//!                "p99_us": 45.6 }],
//!   "verdicts": [{ "name": "memory", "holds": true, "says": "memory is flat",
//!                  "reasons": ["7.1 MiB at most after the first tenth, 6.9 MiB within it"] }],
//!   "failures": [] }
//! ```

mod latency;
mod text;

pub use text::wants_colour;
pub(super) use text::{Paint, latency_rows};

use std::io;

use serde::{Serialize, Serializer};

/// The version of the shape of the JSON: it grows when a name goes or changes its meaning, not when one comes.
const FORMAT: u32 = 1;

/// The outcome of a scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The command that repeats it; empty if nobody has said.
    pub command: String,
    /// When it ran, in words; empty if nobody has said.
    pub date: String,
    /// What was measured.
    pub target: Target,
    /// What was asked for.
    pub settings: Settings,
    /// What was agreed on in handshakes of TLS; absent where none was spoken.
    pub tls: Option<Tls>,
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
    /// What a long run was for, one by one; empty in a scenario that only measures.
    pub verdicts: Vec<Verdict>,
    /// What the server has counted itself, line by line, where it says so.
    pub server_counters: Vec<String>,
    /// What a reader must know to read the figures rightly; empty if they speak for themselves.
    pub remarks: Vec<String>,
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
    /// What a relay of our own was told beyond its defaults.
    pub arguments: Vec<String>,
}

/// What was asked for, so that a run can be repeated. What does not apply is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// Clients.
    pub connections: u32,
    /// Payload of a frame, in bytes.
    pub size_bytes: Option<usize>,
    /// The largest payload, where they differ.
    pub size_bytes_max: Option<usize>,
    /// Frames that a sender has outstanding.
    pub window: Option<u32>,
    /// Frames a second in all; connections a second where connections are the load.
    pub rate: Option<f64>,
    /// How long it was measured.
    pub seconds: f64,
    /// Rooms.
    pub rooms: Option<u32>,
    /// Recipients that stop reading.
    pub stuck: Option<u32>,
    /// How long it ran before it was measured.
    pub warmup_seconds: Option<f64>,
    /// Clients on their way in at once.
    pub in_flight: u32,
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
    /// The load generator's own share of one core, 0 to 1: near 1 the load was the limit, not the server.
    pub load_core_share: Option<f64>,
    /// The records of TLS that all this came in.
    pub records: Option<Records>,
}

/// Records of TLS that have passed, as the clients count them, and the bytes in them before they were sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// Records that the clients sealed and the server opened.
    pub to_server: u64,
    /// Bytes in them.
    pub to_server_bytes: u64,
    /// Records that the server sealed and the clients opened.
    pub from_server: u64,
    /// Bytes in them.
    pub from_server_bytes: u64,
}

impl Records {
    /// Those that have passed since `before`; `None` if there were none.
    #[must_use]
    pub(in crate::bench) fn since(&self, before: &Self) -> Option<Self> {
        let records = Self {
            to_server: self.to_server - before.to_server,
            to_server_bytes: self.to_server_bytes - before.to_server_bytes,
            from_server: self.from_server - before.from_server,
            from_server_bytes: self.from_server_bytes - before.from_server_bytes,
        };
        (records.to_server + records.from_server > 0).then_some(records)
    }
}

/// What the clients have agreed on with the server, where they spoke TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The version: "TLS 1.3".
    pub version: String,
    /// The cipher suite, by its name in the registry.
    pub cipher_suite: String,
    /// Handshakes that were completed, as the clients count them.
    pub handshakes: u64,
    /// Of these, those that took up an earlier session.
    pub resumed: u64,
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
    /// The most that any sample found.
    pub peak_bytes: u64,
    /// For each registered client; absent with too few clients to tell it from the noise of pages.
    pub per_connection_bytes: Option<f64>,
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
    /// None of these, but sent by or to a client whose connection was broken meanwhile: there the promise ends.
    pub cut_off: u64,
    /// None of these: the server has lost them.
    pub lost: u64,
    /// None of these either, but the run was stopped while they were on their way.
    pub open: u64,
    /// Delivered more often than once, or not in order.
    pub misordered: u64,
    /// Delivered with other bytes than were sent, or to somebody else.
    pub damaged: u64,
    /// Refused or counted although they were delivered, or more often than once; or delivered although they were
    /// refused or counted.
    pub contradicted: u64,
    /// Why frames were refused, and how many. In JSON an object with the reasons as names.
    #[serde(serialize_with = "as_object")]
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

/// Whether something is as it must be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What was judged, for machines: `memory`.
    pub name: String,
    /// Whether it is as it must be; absent where that cannot be known.
    pub holds: Option<bool>,
    /// The verdict in a few words: "memory is flat".
    pub says: String,
    /// What it rests on.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// The verdict and its reasons, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        if self.reasons.is_empty() { self.says.clone() } else { format!("{}: {}", self.says, self.reasons.join("; ")) }
    }
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
    /// Files that the server has open, where that was looked at.
    pub descriptors: Option<u64>,
    /// The median latency of what arrived since the sample before, in microseconds, where it was looked at.
    pub p50_us: Option<f64>,
    /// 99 of 100 were at most this.
    pub p99_us: Option<f64>,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(name: &str, label: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), label: label.to_owned(), value, unit: unit.to_owned() }
    }
}

impl Report {
    /// Writes it as one JSON object; its shape is described at the head of [this module](self).
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        write_document(self, out)
    }
}

fn as_object<S: Serializer>(pairs: &[(String, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, count)| (name, count)))
}

/// Writes a value as one JSON object in one line, the version of its shape in front.
pub(super) fn write_document<T: Serialize>(value: &T, out: &mut dyn io::Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        format: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_writer(&mut *out, &Document { format: FORMAT, value })?;
    writeln!(out)
}
