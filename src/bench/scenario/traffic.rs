//! Scenarios that pass frames on as fast as windows or a schedule let them: pairs, fan-out, rooms, rate, files.

use super::{Work, tell_lag};
use crate::bench::dialect::{Destination, Dialect, Role};
use crate::bench::report::Report;
use crate::bench::rig::{Rig, Trouble, memory};
use crate::bench::schedule::Schedule;

/// Each client sends to its partner, a window outstanding.
pub(super) fn pairs<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |client| Role { partner: Some(client ^ 1), ..Role::default() })?;
    for client in 0..work.connections {
        let partner = client ^ 1;
        rig.fleet.flows.add(client, Destination::Client(partner), partner..=partner, Some(work.window));
    }
    measure(rig, work, report)
}

/// One client of each pair sends, and the other takes: the pieces of files.
pub(super) fn file<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |client| Role { partner: Some(client ^ 1), ..Role::default() })?;
    for sender in (0..work.connections).step_by(2) {
        let taker = sender + 1;
        rig.fleet.flows.add(sender, Destination::Client(taker), taker..=taker, Some(work.window));
    }
    measure(rig, work, report)
}

/// One client sends to all others: to ALL, or to a room that they are in.
pub(super) fn fanout<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    let in_room = work.rooms > 0;
    // The sender has to be in the room, and hears nothing else.
    gather(rig, work, report, |client| Role {
        room: in_room.then_some(0),
        hears_all: !in_room && client > 0,
        ..Role::default()
    })?;
    let to = if in_room { Destination::Room(0) } else { Destination::All };
    rig.fleet.flows.add(0, to, 1..work.connections, Some(work.window));
    measure(rig, work, report)
}

/// Many rooms: in each, the first member sends to all others.
pub(super) fn rooms<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    let rooms = work.rooms.max(1);
    gather(rig, work, report, |client| Role { room: Some(client % rooms), ..Role::default() })?;
    for room in 0..rooms {
        let members = (room..work.connections).step_by(rooms as usize);
        rig.fleet.flows.add(room, Destination::Room(room), members.skip(1), Some(work.window));
    }
    measure(rig, work, report)
}

/// Pairs on a fixed schedule. Latencies count from the time when a frame should have been sent, so that what
/// could not be sent while the server was busy is not left out.
pub(super) fn rate<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    gather(rig, work, report, |client| Role { partner: Some(client ^ 1), ..Role::default() })?;
    for client in 0..work.connections {
        let partner = client ^ 1;
        rig.fleet.flows.add(client, Destination::Client(partner), partner..=partner, None);
    }
    let flows = rig.fleet.flows.len() as u32;
    let now_ns = rig.fleet.now_ns();
    rig.fleet.schedules.push(Schedule::new(0..flows, work.rate, now_ns));
    measure(rig, work, report)
}

/// Has all clients come, and notes what they cost while they are silent.
pub(super) fn gather<D: Dialect>(
    rig: &mut Rig<'_, D>,
    work: &Work,
    report: &mut Report,
    role: impl Fn(u32) -> Role,
) -> Result<(), Trouble> {
    let before = rig.resident_bytes()?;
    for client in 0..work.connections {
        rig.fleet.assign(client, role(client));
    }
    let arrival = rig.connect_all(0..work.connections, work.connections)?;
    report.arrival = Some(arrival);
    let after = rig.resident_bytes()?;
    report.memory = before.zip(after).map(|(before, after)| memory(before, after, after, arrival.clients));
    Ok(())
}

/// Lets the flows send, and measures them once they are warm. What was measured when trouble comes is reported.
fn measure<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work, report: &mut Report) -> Result<(), Trouble> {
    rig.start();
    rig.run_for("warming up", work.warmup)?;
    rig.fleet.begin_part("");
    let mark = rig.mark();
    let ended = rig.run_for("measuring", work.time);
    report.traffic = Some(rig.since(&mark));
    rig.fleet.end_part();
    tell_lag(rig, work, report);
    ended?;
    rig.settle()?;
    if let (Some(memory), Some(end)) = (&mut report.memory, rig.resident_bytes()?) {
        memory.end_bytes = end;
    }
    Ok(())
}
