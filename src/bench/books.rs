//! Where the books stand at a moment: what was delivered, and what it has cost; and what happened between two moments.

use std::time::{Duration, Instant};

use super::process::Process;
use super::report::{Records, Traffic};
use super::rig::lossy;
use super::target::Target;

/// A moment in the books.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) at: Instant,
    pub(super) delivered: u64,
    pub(super) payload_bytes: u64,
    /// The server's.
    pub(super) cpu: Option<Duration>,
    /// The load generator's.
    pub(super) own_cpu: Option<Duration>,
    /// What has passed in records of TLS.
    pub(super) records: Records,
}

impl Mark {
    /// What was delivered by now, and what it has cost `target` and `own`.
    pub(super) fn now(delivered: u64, payload_bytes: u64, target: &Target, own: Option<&Process>) -> Self {
        let own_cpu = own.and_then(Process::cpu);
        let records = Records::default();
        Self { at: Instant::now(), delivered, payload_bytes, cpu: target.cpu(), own_cpu, records }
    }

    /// The same, with the records that have passed.
    pub(super) const fn with_records(mut self, records: Records) -> Self {
        self.records = records;
        self
    }

    /// What was passed on from this mark to another.
    #[must_use]
    pub(super) fn until(&self, after: &Self) -> Traffic {
        let seconds = after.at.duration_since(self.at).as_secs_f64();
        let delivered = after.delivered - self.delivered;
        let spent = |after: Option<Duration>, before: Option<Duration>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64())
        };
        let (cpu, own_cpu) = (spent(after.cpu, self.cpu), spent(after.own_cpu, self.own_cpu));
        let per_second = |count: u64| if seconds > 0.0 { lossy(count) / seconds } else { 0.0 };
        Traffic {
            seconds,
            delivered,
            delivered_per_second: per_second(delivered),
            bytes_per_second: per_second(after.payload_bytes - self.payload_bytes),
            server_cpu_ns_per_delivery: cpu.filter(|_| delivered > 0).map(|cpu| cpu * 1e9 / lossy(delivered)),
            server_core_share: cpu.filter(|_| seconds > 0.0).map(|cpu| cpu / seconds),
            load_core_share: own_cpu.filter(|_| seconds > 0.0).map(|cpu| cpu / seconds),
            records: after.records.since(&self.records),
        }
    }
}
