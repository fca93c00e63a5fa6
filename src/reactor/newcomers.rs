//! Those who have come in and are not settled: how many there may be, and who goes when one more comes.
//!
//! ```text
//!   accepted ─► waiting ──── has been answered ────► answered ─► settled, or gone
//!                  │ the oldest goes                     │ the oldest goes before any of the others, but only after a
//!                                                        │ grace; while nobody else can go nobody is accepted
//! ```
//!
//! Two rows, because two kinds look alike to a counter. Whoever has said nothing that was worth an answer costs nothing to
//! make: a flood of silent connections crowds out itself. Whoever was answered waits for a round trip, or for its client to
//! hash a password, and was paid for already; when there are only those, the others wait in the system's backlog, where they
//! cost nothing, instead of taking the place of somebody who is half in.

use std::collections::VecDeque;

use super::connection::{Connection, Phase, flag};
use super::connections::live;
use super::tls::Session;
use super::{ConnId, Connections, Transport};
use crate::time::Tick;

/// Entries of those who were settled, or are gone, that may lie in a row before it is cleared of them.
const STALE_MIN: usize = 64;

enum Row {
    Waiting,
    Answered,
}

/// Connections that the service has not settled.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// Oldest first, and among them others that were settled or are gone.
    waiting: VecDeque<ConnId>,
    /// Those that were found to have been answered, and when; likewise.
    answered: VecDeque<(ConnId, Tick)>,
    count: usize,
    /// Those at the end of `waiting` who have come in this turn. What they have sent may lie there, and nobody has looked.
    fresh: usize,
}

impl<T: Transport> Connections<T> {
    /// Takes a connection for one that belongs here: it is not among those any more of whom one has to go when there are too
    /// many.
    pub fn settle(&mut self, conn: ConnId) {
        if let Some(connection) = live(&mut self.slots, conn).filter(|c| c.has(flag::NEWCOMER)) {
            connection.set(flag::NEWCOMER, false);
            self.newcomers.count -= 1;
            if connection.is_counted {
                self.gatekeeper.settled(connection.peer, &self.limits);
            }
        }
    }

    /// Has a connection count among those who have not been settled, where they are counted.
    pub(super) fn note_newcomer(&mut self, conn: ConnId) {
        if self.limits.newcomers_max < usize::MAX {
            self.slots[conn.index()].set(flag::NEWCOMER, true);
            self.newcomers.count += 1;
            self.newcomers.waiting.push_back(conn);
            self.newcomers.fresh += 1;
        }
    }

    /// Who has come until now will have been read from when somebody has to go.
    pub(super) const fn note_turn(&mut self) {
        self.newcomers.fresh = 0;
    }

    /// Whether somebody who has come in this turn can go in the next one.
    pub(super) fn has_fresh_newcomers(&self) -> bool {
        !self.newcomers.waiting.is_empty()
    }

    /// Whether there is room for one more, or somebody who can go.
    pub(super) fn may_come(&mut self) -> bool {
        self.newcomers.count < self.limits.newcomers_max || self.next_to_go().is_some()
    }

    /// Of too many, the one that has to go.
    pub(super) fn next_crowded_out(&mut self) -> Option<ConnId> {
        if self.newcomers.count > self.limits.newcomers_max {
            let (row, conn) = self.next_to_go()?;
            match row {
                Row::Waiting => drop(self.newcomers.waiting.pop_front()),
                Row::Answered => drop(self.newcomers.answered.pop_front()),
            }
            return Some(conn);
        }
        // Most have been settled long since. Behind one that is slow they must not pile up.
        let most = 2 * self.newcomers.count + STALE_MIN;
        if self.newcomers.waiting.len() > most || self.newcomers.answered.len() > most {
            let Newcomers { mut waiting, mut answered, count, fresh } = std::mem::take(&mut self.newcomers);
            waiting.retain(|conn| self.is_newcomer(*conn));
            answered.retain(|(conn, _)| self.is_newcomer(*conn));
            self.newcomers = Newcomers { waiting, answered, count, fresh };
        }
        None
    }

    /// Who would go if one more came, at the front of which row.
    fn next_to_go(&mut self) -> Option<(Row, ConnId)> {
        while let Some(conn) = self.newcomers.waiting.front().copied() {
            let is_here = self.is_newcomer(conn);
            if is_here && !self.was_answered(conn) {
                break;
            }
            self.newcomers.waiting.pop_front();
            if is_here {
                self.newcomers.answered.push_back((conn, self.tick));
            }
        }
        while let Some((conn, since)) = self.newcomers.answered.front().copied() {
            if self.is_newcomer(conn) {
                if self.now.since(since.time()) >= self.limits.newcomer_grace {
                    return Some((Row::Answered, conn));
                }
                break;
            }
            self.newcomers.answered.pop_front();
        }
        // Whoever has said HELLO at once must not have to go before that is read.
        let is_old = self.newcomers.waiting.len() > self.newcomers.fresh;
        self.newcomers.waiting.front().filter(|_| is_old).map(|conn| (Row::Waiting, *conn))
    }

    fn is_newcomer(&self, conn: ConnId) -> bool {
        let is_there = |c: &Connection<T>| c.has(flag::NEWCOMER) && matches!(c.phase, Phase::Entering | Phase::Open);
        self.get(conn).is_some_and(is_there)
    }

    /// Whether this side has said something to a connection: in its handshake, or behind that.
    fn was_answered(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|c| c.written > 0 || c.queue().is_some())
            || self.session(conn).is_some_and(Session::has_answered)
    }

    pub(super) fn check_newcomers(&self) {
        let count = self.slots.iter().filter(|(_, connection)| connection.has(flag::NEWCOMER)).count();
        assert_eq!(count, self.newcomers.count, "those who have not been settled");
    }
}
