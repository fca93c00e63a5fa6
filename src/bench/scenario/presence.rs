//! Scenarios in which clients come, stay and go: idle, churn, storm.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::traffic::gather;
use super::{Work, bystanders};
use crate::bench::dialect::{Dialect, Role};
use crate::bench::fleet::histogram;
use crate::bench::report::{Figure, Latency, Report};
use crate::bench::rig::{Rig, Trouble, lossy};

/// Connections dropped in a turn.
const DROPS_TURN_MAX: u32 = 32;

/// Registered clients that say nothing: what they cost in memory, and their heartbeats in CPU time.
pub(super) fn idle<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |_| Role::default())?;
    let mark = rig.mark();
    let ended = rig.run_for("staying silent", work.time);
    let traffic = rig.since(&mark);
    if let Some(share) = traffic.server_core_share {
        report.figures.push(Figure::new("server_core_percent", "CPU of the silent clients", share * 100.0, "%"));
    }
    ended?;
    if let (Some(memory), Some(end)) = (&mut report.memory, rig.resident_bytes()?) {
        memory.end_bytes = end;
    }
    Ok(())
}

/// Clients come at a rate, are registered, and leave when as many are there as may be. A pair of bystanders
/// shows what the others feel of it.
pub(super) fn churn<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    bystanders(rig, work)?;
    rig.start();
    rig.run_for("undisturbed", work.warmup.max(Duration::from_secs(1)))?;
    report.latencies.push(Latency::of("bystanders, undisturbed", &rig.fleet.latencies));
    rig.fleet.latencies.reset();
    rig.fleet.registrations.reset();

    let (began, start_ns, mark) = (Instant::now(), rig.fleet.now_ns(), rig.mark());
    let arrivals_before = rig.fleet.census.arrivals;
    let mut present = VecDeque::new();
    let mut waiting: VecDeque<u32> = (0..work.churners()).collect();
    let (mut due, mut late) = (0_u64, 0_u64);
    let mut ended = Ok(());
    rig.phase("coming and going", work.time);
    while ended.is_ok() && began.elapsed() < work.time {
        let now_ns = rig.fleet.now_ns();
        while due_ns(start_ns, due, work.rate) <= now_ns {
            // A place is free once its last user has gone for good; if none is, the server lags behind.
            let Some(client) = waiting.front().copied().filter(|client| rig.fleet.is_absent(*client)) else {
                late += 1;
                due += 1;
                continue;
            };
            waiting.pop_front();
            rig.connect(client, due_ns(start_ns, due, work.rate))?;
            present.push_back(client);
            due += 1;
        }
        while present.len() > work.connections as usize
            && let Some(client) = present.pop_front()
        {
            rig.with(|fleet, io| fleet.leave(io, client));
            waiting.push_back(client);
        }
        let next = Duration::from_nanos(due_ns(start_ns, due, work.rate).saturating_sub(rig.fleet.now_ns()));
        ended = rig.turn(next);
        rig.show(began.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    let arrived = rig.fleet.census.arrivals - arrivals_before;
    report.figures.push(Figure::new("registered_per_second", "registered and left", lossy(arrived) / seconds, "/s"));
    if late > 0 {
        report.figures.push(Figure::new("not_connected", "could not come: no place was free", lossy(late), ""));
    }
    if let Some(share) = rig.since(&mark).server_core_share {
        let each = share * seconds * 1e6 / lossy(arrived.max(1));
        report.figures.push(Figure::new("server_cpu_us_per_visit", "server CPU for each visit", each, "µs"));
    }
    report.latencies.push(Latency::of("bystanders, disturbed", &rig.fleet.latencies));
    report.latencies.push(Latency::of("until registered", &rig.fleet.registrations));
    ended?;
    rig.settle()
}

/// All clients are lost at once, and are back at once.
pub(super) fn storm<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |_| Role::default())?;
    bystanders(rig, work)?;
    rig.start();
    rig.run_for("undisturbed", work.time)?;
    report.latencies.push(Latency::of("bystanders, undisturbed", &rig.fleet.latencies));
    rig.fleet.latencies.reset();
    rig.fleet.registrations = histogram();

    let (began, cpu) = (Instant::now(), rig.target.cpu());
    for client in 0..work.connections {
        rig.with(|fleet, io| fleet.drop_client(io, client));
        // Closing takes the system's time here too, and the bystanders must not wait for that.
        if client % DROPS_TURN_MAX == 0 {
            rig.turn(Duration::ZERO)?;
        }
    }
    rig.turn(Duration::ZERO)?;
    rig.change_sources();
    rig.arrive(0..work.connections, work.connections)?;
    let label = "lost at once, all registered again after";
    report.figures.push(Figure::new("registered_after_seconds", label, began.elapsed().as_secs_f64(), "s"));
    report.latencies.push(Latency::of("bystanders, in the storm", &rig.fleet.latencies));
    report.latencies.push(Latency::of("until registered", &rig.fleet.registrations));
    rig.rest()?;
    if let (Some(before), Some(after)) = (cpu, rig.target.cpu()) {
        let each = after.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(work.connections.max(1));
        let label = "server CPU for each client lost and registered again";
        report.figures.push(Figure::new("server_cpu_us_per_return", label, each, "µs"));
    }
    rig.settle()
}

/// When event number `count` of a schedule is due.
#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "exact to a nanosecond for three months")]
fn due_ns(start_ns: u64, count: u64, rate: f64) -> u64 {
    start_ns.saturating_add((count as f64 * 1e9 / rate) as u64)
}
