//! A soak over time: the relay's memory, descriptors and CPU, what was delivered, and how late; as many samples for
//! an hour as for a minute.

use std::time::{Duration, Instant};

use super::crowd::Crowd;
use crate::bench::books::Mark;
use crate::bench::process::Process;
use crate::bench::report::Sample;
use crate::bench::rig::lossy;
use crate::bench::target::Target;

/// More often, what a sample costs would be seen in the next one.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Samples in a run: more than a plot shows, and no more however long it takes.
const SAMPLES: u32 = 600;

/// The samples of a run.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) samples: Vec<Sample>,
    /// Descriptors of the relay beyond one for each connection that this side has.
    pub(super) excess: Vec<(f64, f64)>,
    /// This process, for its own share of a core and its own memory.
    own: Option<Process>,
    /// Its resident memory, in bytes.
    pub(super) own_resident: Vec<(f64, f64)>,
    pub(super) interval: Duration,
    began: Instant,
    last: Mark,
    next: Instant,
}

impl Series {
    /// The series of a run of `time`.
    pub(super) fn new(time: Duration, target: &Target) -> Self {
        let own = Process::of(std::process::id());
        let interval = (time / SAMPLES).max(INTERVAL_MIN);
        let now = Instant::now();
        let last = Mark::now(0, 0, target, own.as_ref());
        Self {
            samples: Vec::new(),
            excess: Vec::new(),
            own,
            own_resident: Vec::new(),
            interval,
            began: now,
            last,
            next: now + interval,
        }
    }

    /// How long it goes on.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Where the books stand now.
    pub(super) fn mark(&self, crowd: &Crowd, target: &Target) -> Mark {
        Mark::now(crowd.ledger.delivered(), crowd.ledger.payload_bytes(), target, self.own.as_ref())
    }

    /// Takes a sample; `connections` of this side are open.
    pub(super) fn sample(&mut self, now: Instant, crowd: &mut Crowd, target: &Target, connections: usize) {
        self.next = now + self.interval;
        let mark = self.mark(crowd, target);
        let traffic = self.last.until(&mark);
        self.last = mark;
        let at_seconds = now.duration_since(self.began).as_secs_f64();
        let us = |nanos: u64| lossy(nanos) / 1e3;
        let of_interval =
            |quantile| (!crowd.interval.is_empty()).then(|| us(crowd.interval.value_at_quantile(quantile)));
        let descriptors = target.descriptors();
        if let Some(descriptors) = descriptors {
            self.excess.push((at_seconds, lossy(descriptors) - lossy(connections as u64)));
        }
        if let Some(usage) = self.own.as_ref().and_then(Process::usage) {
            self.own_resident.push((at_seconds, lossy(usage.resident_bytes)));
        }
        self.samples.push(Sample {
            at_seconds,
            clients: crowd.present() as u32,
            delivered_per_second: traffic.delivered_per_second,
            bytes_per_second: traffic.bytes_per_second,
            resident_bytes: target.usage().map(|usage| usage.resident_bytes),
            server_core_share: traffic.server_core_share,
            descriptors,
            p50_us: of_interval(0.5),
            p99_us: of_interval(0.99),
        });
        crowd.interval.reset();
        crowd.forget();
    }
}
