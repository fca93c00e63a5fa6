//! The phase of a turn for deadlines: whatever was not done in time.
//!
//! A connection has one entry in the wheel that counts. When it comes up the connection is asked what is due; what has
//! happened since has moved the answer, not the entry.

use super::connection::{Phase, flag};
use super::wheel::Wheel;
use super::{CloseReason, ConnId, Engine, Service, Transport};
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};

impl<T: Transport> Engine<T> {
    /// Acts on the deadlines that have come: on so many at most that the others do not wait for them, as thousands may
    /// come at once.
    pub fn expire<S: Service<T>>(&mut self, service: &mut S, now: Time) {
        let tick = self.connections.tick;
        self.connections.wheel.advance(tick, &mut self.due);
        let mut budget = self.storm_budget(self.connections.limits.expiries_turn_max);
        while budget > 0 {
            let Some((slot, conn)) = self.due.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            if connection.check_at > tick {
                // The entry is for a later round of the wheel, or an earlier one has replaced it. The latter
                // is dropped: put in again, it would stay as long as its connection, with all its like.
                let check_at = connection.check_at;
                if check_at != Tick::NEVER && slot == Wheel::slot(check_at) && !planted::has(Bug::LaterRoundLost) {
                    self.connections.wheel.insert(check_at, conn);
                }
                continue;
            }
            connection.check_at = Tick::NEVER;
            budget -= usize::from(self.expire_connection(service, conn, now));
        }
    }

    /// Whether anything was done but to look when to look again.
    fn expire_connection<S: Service<T>>(&mut self, service: &mut S, conn: ConnId, now: Time) -> bool {
        let connections = &mut self.connections;
        let tick = connections.tick;
        let connection = &mut connections.slots[conn.index()];
        if connection.phase == Phase::Entering {
            if connection.deadline <= tick {
                self.turn_away(conn, CloseReason::HandshakeOverdue, now);
                return true;
            }
            let deadline = connection.deadline;
            connections.check_by(conn, deadline);
            return false;
        }
        if connection.has(flag::THROTTLED) {
            connections.unthrottle(conn);
        }
        let connection = &mut connections.slots[conn.index()];
        if connection.phase == Phase::Lingering {
            if connection.deadline <= tick || planted::has(Bug::LingerCutShort) {
                connections.condemn(conn, CloseReason::Finished);
            } else {
                let deadline = connection.deadline;
                connections.check_by(conn, deadline);
            }
            return false;
        }
        if let Some(key) = connection.queue()
            && let Some(oldest) = connections.queues[key].oldest()
            && Tick::not_before(oldest.time() + connections.limits.write_deadline) <= tick
        {
            connections.condemn(conn, CloseReason::WriteOverdue);
            return true;
        }
        let mut acted = false;
        if let Some(key) = connection.lease()
            && !connection.has(flag::STOPPED)
            && Tick::not_before(connections.leases[key].since.time() + connections.limits.input_deadline) <= tick
        {
            acted = true;
            service.on_input_overdue(connections, conn, now);
        }
        let is_record_overdue = connections.slots[conn.index()].phase == Phase::Open
            && connections.session(conn).is_some_and(|session| {
                session.since != Tick::NEVER
                    && Tick::not_before(session.since.time() + connections.limits.input_deadline) <= tick
            });
        if is_record_overdue && !connections.slots[conn.index()].has(flag::STOPPED) {
            acted = true;
            service.on_input_overdue(connections, conn, now);
        }
        let connection = &mut connections.slots[conn.index()];
        if connection.deadline <= tick && matches!(connection.phase, Phase::Open | Phase::Flushing) {
            connection.deadline = Tick::NEVER;
            acted = true;
            service.on_deadline(connections, conn, now);
        }
        if matches!(connections.slots[conn.index()].phase, Phase::Open | Phase::Flushing) {
            let deadline = connections.slots[conn.index()].deadline;
            connections.check_by(conn, deadline);
            connections.watch_queue(conn);
            if !connections.slots[conn.index()].has(flag::STOPPED) {
                connections.watch_lease(conn);
                connections.watch_session(conn);
            }
        }
        acted
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSliceMut};
    use std::time::Duration;

    use super::*;
    use crate::reactor::{Connections, Limits, PeerAddr, Progress};

    /// Nothing comes and nothing goes.
    struct Silence;

    impl Transport for Silence {
        fn read_vectored(&mut self, _: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn write_vectored(&mut self, _: &[io::IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Sets a far deadline whenever a near one has come.
    struct Idle(u32);

    impl Service<Silence> for Idle {
        fn on_data(&mut self, _: &mut Connections<Silence>, _: ConnId, data: &mut [u8], _: Time) -> Progress {
            Progress::all(data)
        }

        fn on_deadline(&mut self, io: &mut Connections<Silence>, conn: ConnId, now: Time) {
            self.0 += 1;
            io.set_deadline(conn, Some(now + Duration::from_mins(5)));
        }
    }

    #[test]
    fn entries_that_earlier_ones_replaced_do_not_pile_up_in_the_wheel() {
        let mut engine = Engine::new::<Idle>(Limits::default());
        let conn = engine.open(Silence, PeerAddr::UNIX, |_, _| Ok(())).expect("a slot");
        let mut service = Idle(0);
        let mut now = Time::ZERO;
        for round in 0..5000 {
            // An idle deadline far away, and again and again one that comes before it.
            engine.connections.set_deadline(conn, Some(now + Duration::from_mins(5)));
            engine.connections.set_deadline(conn, Some(now + Duration::from_secs(2)));
            let end = now + Duration::from_secs(3);
            while let Some(wait) = engine.wait(now).filter(|wait| now + *wait <= end) {
                now += wait;
                engine.begin_turn(now);
                engine.expire(&mut service, now);
            }
            now = end;
            assert!(engine.connections.wheel.len() < 200, "{} in round {round}", engine.connections.wheel.len());
        }
        assert_eq!(service.0, 5000, "every deadline came");
    }
}
