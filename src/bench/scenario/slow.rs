//! Recipients that stop reading: what the others feel of it.

use super::{Work, tell_lag, traffic::gather};
use crate::bench::dialect::{Destination, Dialect, Role};
use crate::bench::report::{Figure, Report};
use crate::bench::rig::{Rig, Trouble, lossy};
use crate::bench::schedule::Schedule;

/// Pairs that keep a window outstanding, first undisturbed, then beside recipients that stop reading and are
/// sent to all the same. In the end they read on, and every frame is accounted for.
pub(super) fn slow<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    // The last pairs are those whose second member gets stuck.
    let quick = work.connections - 2 * work.stuck;
    gather(rig, work, report, |client| Role { partner: Some(client ^ 1), ..Role::default() })?;
    for client in 0..quick {
        let partner = client ^ 1;
        rig.fleet.flows.add(client, Destination::Client(partner), partner..=partner, Some(work.window));
    }
    let first_stuck = rig.fleet.flows.len() as u32;
    for sender in (quick..work.connections).step_by(2) {
        let stuck = sender + 1;
        rig.fleet.flows.add(sender, Destination::Client(stuck), stuck..=stuck, None);
    }
    let stuck_flows = first_stuck..rig.fleet.flows.len() as u32;
    rig.fleet.flows.measure_below(first_stuck);
    rig.start();
    rig.run_for("warming up", work.warmup)?;
    rig.fleet.begin_part("undisturbed");
    let mark = rig.mark();
    rig.run_for("undisturbed", work.time)?;
    let undisturbed = rig.since(&mark);
    rig.fleet.end_part();

    let stuck = move || (quick + 1..work.connections).step_by(2);
    for client in stuck() {
        rig.with(|fleet, io| fleet.stall(io, client, true));
    }
    let now_ns = rig.fleet.now_ns();
    rig.fleet.schedules.push(Schedule::new(stuck_flows, work.rate, now_ns));
    rig.fleet.begin_part("beside stuck recipients");
    let mark = rig.mark();
    let ended = rig.run_for("beside stuck recipients", work.time);
    let disturbed = rig.since(&mark);
    tell_lag(rig, work, report);
    report.traffic = Some(disturbed);
    rig.fleet.end_part();
    let ratio = disturbed.delivered_per_second / undisturbed.delivered_per_second.max(1.0);
    report.figures.push(Figure::new("throughput_ratio", "throughput beside stuck recipients", ratio * 100.0, "%"));
    if let (Some(memory), Some(usage)) = (&mut report.memory, rig.target.usage()) {
        memory.end_bytes = usage.resident_bytes;
    }
    for client in stuck() {
        rig.with(|fleet, io| fleet.stall(io, client, false));
    }
    ended?;
    rig.settle()?;
    let refused = rig.fleet.flows.account().refused;
    if refused == 0 {
        report.remarks.push(
            "the queues of the stuck recipients did not fill: give more --seconds or a higher --rate to see what full ones \
             do to the others"
                .to_owned(),
        );
    }
    report.figures.push(Figure::new("refused", "refused to those who send to stuck ones", lossy(refused), ""));
    Ok(())
}
