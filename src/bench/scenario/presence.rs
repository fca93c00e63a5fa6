//! Scenarios in which clients come, stay and go: idle, churn, storm.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::traffic::gather;
use super::{Work, bystanders};
use crate::bench::dialect::{Dialect, Role};
use crate::bench::report::{Figure, Latency, Report};
use crate::bench::rig::{CONNECTING_TURN_MAX, Rig, Trouble, lossy};
use crate::bench::schedule::{due_count, due_ns};

/// Within this time every client was asked at least once whether it is still there.
const HEARTBEATS_WITHIN: Duration = Duration::from_secs(30);
/// Connections dropped in a turn.
const DROPS_TURN_MAX: u32 = 32;

/// Registered clients that say nothing: what they cost in memory, and their heartbeats in CPU time.
pub(super) fn idle<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |_| Role::default())?;
    let mark = rig.mark();
    let ended = rig.run_for("staying silent", work.time);
    let traffic = rig.since(&mark);
    if let Some(share) = traffic.server_core_share {
        let label = "the server's CPU for silent clients";
        report.figures.push(Figure::new("server_core_percent", label, share * 100.0, "%"));
    }
    if work.time < HEARTBEATS_WITHIN {
        report.remarks.push(
            "heartbeats come after a silence of 30 s unless the relay or --keepalive says otherwise: give more --seconds to \
             see what they cost"
                .to_owned(),
        );
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
    // All places are taken before it is measured: else the first seconds would be arrivals only.
    report.arrival = Some(rig.connect_all(0..work.connections, work.connections)?);
    rig.start();
    rig.fleet.begin_part("bystanders, undisturbed");
    let mark = rig.mark();
    rig.run_for("undisturbed", work.warmup.max(Duration::from_secs(1)))?;
    let bystanders_share = rig.since(&mark).server_core_share;
    rig.fleet.registrations.reset();
    rig.fleet.begin_part("bystanders, disturbed");

    let (began, start_ns, mark) = (Instant::now(), rig.fleet.now_ns(), rig.mark());
    let arrivals_before = rig.fleet.census.arrivals;
    let mut present: VecDeque<u32> = (0..work.connections).collect();
    let mut waiting: VecDeque<u32> = (work.connections..work.churners()).collect();
    let (mut due, mut late) = (0_u64, 0_u64);
    let mut ended = Ok(());
    rig.phase("coming and going", work.time);
    while ended.is_ok() && began.elapsed() < work.time {
        let (now_ns, turn) = (rig.fleet.now_ns(), Instant::now());
        // Connecting takes the system's time here too, and the bystanders must not wait for that.
        while due_ns(start_ns, work.rate, due) <= now_ns && turn.elapsed() < CONNECTING_TURN_MAX {
            // A place is free once its last user has gone for good; if none is, the server lags behind.
            let Some(client) = waiting.front().copied().filter(|client| rig.fleet.is_absent(*client)) else {
                late += 1;
                due += 1;
                continue;
            };
            waiting.pop_front();
            rig.connect(client, due_ns(start_ns, work.rate, due))?;
            present.push_back(client);
            due += 1;
        }
        // Who is still on the way in cannot leave yet.
        while present.len() > work.connections as usize
            && let Some(client) = present.pop_front_if(|client| rig.fleet.is_ready(*client))
        {
            rig.with(|fleet, io| fleet.leave(io, client));
            waiting.push_back(client);
        }
        let next = Duration::from_nanos(due_ns(start_ns, work.rate, due).saturating_sub(rig.fleet.now_ns()));
        ended = rig.turn(next);
        rig.show(began.elapsed());
    }
    rig.fleet.end_part();
    late += due_count(start_ns, work.rate, rig.fleet.now_ns()).saturating_sub(due + 1);
    let seconds = began.elapsed().as_secs_f64();
    let arrived = rig.fleet.census.arrivals - arrivals_before;
    report.figures.push(Figure::new("registered_per_second", "registered and left", lossy(arrived) / seconds, "/s"));
    if late > 0 {
        report.figures.push(Figure::new(
            "not_connected",
            "could not come: no place was free, or the load generator was behind",
            lossy(late),
            "",
        ));
    }
    if let (Some(share), Some(bystanders)) = (rig.since(&mark).server_core_share, bystanders_share) {
        let each = (share - bystanders).max(0.0) * seconds * 1e6 / lossy(arrived.max(1));
        report.figures.push(Figure::new("server_cpu_us_per_visit", "server CPU for each visit", each, "µs"));
    }
    report.latencies.push(Latency::of("until registered", &rig.fleet.registrations));
    ended?;
    rig.settle()
}

/// All clients are lost at once, and are back at once.
pub(super) fn storm<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |_| Role::default())?;
    bystanders(rig, work)?;
    rig.start();
    rig.fleet.begin_part("bystanders, undisturbed");
    let mark = rig.mark();
    rig.run_for("undisturbed", work.time)?;
    let bystanders_share = rig.since(&mark).server_core_share;
    rig.fleet.registrations.reset();

    rig.fleet.begin_part("bystanders, in the storm");
    let (began, mark) = (Instant::now(), rig.mark());
    for client in 0..work.connections {
        rig.with(|fleet, io| fleet.drop_client(io, client));
        // Closing takes the system's time here too, and the bystanders must not wait for that.
        if client % DROPS_TURN_MAX == 0 {
            rig.turn(Duration::ZERO)?;
        }
    }
    rig.turn(Duration::ZERO)?;
    rig.change_sources();
    let arrived = rig.arrive(0..work.connections, work.connections);
    rig.fleet.end_part();
    report.latencies.push(Latency::of("until registered", &rig.fleet.registrations));
    arrived?;
    let label = "lost at once, all registered again after";
    report.figures.push(Figure::new("registered_after_seconds", label, began.elapsed().as_secs_f64(), "s"));
    rig.rest()?;
    let traffic = rig.since(&mark);
    if let (Some(share), Some(bystanders)) = (traffic.server_core_share, bystanders_share) {
        let each = (share - bystanders).max(0.0) * traffic.seconds * 1e6 / f64::from(work.connections.max(1));
        let label = "server CPU for each client lost and registered again";
        report.figures.push(Figure::new("server_cpu_us_per_return", label, each, "µs"));
    }
    rig.settle()
}
