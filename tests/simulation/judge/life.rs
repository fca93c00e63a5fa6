//! Deadlines: that none comes early, and that each comes. The specification promises them to within 0.1 s.

use std::collections::BTreeMap;

use switchboard::reactor::ConnId;
use switchboard::time::Time;
use switchboard::wire::{Code, Id};

use super::login::Identity;
use super::scope::Scope;
use super::{Facts, GRAIN_US, Judge, Record, State, id_of};

/// What the deadlines of a connection depend on.
#[derive(Debug)]
pub(super) struct Life {
    opened: Time,
    pub(super) heard: Time,
    /// Since when the frame at the front has been incomplete, at the earliest.
    pub(super) partial_since: Option<Time>,
    /// When it was last asked for a sign of life that it has not given yet.
    asked: Option<Time>,
    /// It has been asked, for whatever reason, since it was last heard.
    pub(super) was_asked: bool,
    /// When something waited for it last, or a frame of it was incomplete.
    busy: Time,
    /// So much waited for it that the relay has stopped reading from it, and may not have gone on.
    is_stopped: bool,
    /// That may be so, by what was queued and written in a turn.
    pub(super) may_be_stopped: bool,
    /// When that was so for certain, and when it was possible.
    stopped_at: Time,
    may_have_stopped_at: Time,
    /// When it was last not read from because it had sent too much, as far as that is known.
    throttled_at: Time,
}

impl Life {
    pub(super) fn new(now: Time) -> Self {
        Self {
            opened: now,
            heard: now,
            partial_since: None,
            asked: None,
            was_asked: false,
            busy: now,
            is_stopped: false,
            may_be_stopped: false,
            stopped_at: Time::ZERO,
            may_have_stopped_at: Time::ZERO,
            throttled_at: Time::ZERO,
        }
    }

    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
        (self.asked, self.was_asked) = (None, false);
    }

    /// Whether so much may have waited for it that the relay does not read from it.
    const fn guess(&mut self, queued: usize, taken: usize, stop_at: usize, go_on_at: usize) {
        if queued <= go_on_at {
            self.may_be_stopped = false;
        } else if queued + taken > stop_at {
            self.may_be_stopped = true;
        }
    }

    /// It has sent too much, and is not read from.
    pub(super) const fn throttled(&mut self, now: Time) {
        self.busy = now;
        self.may_have_stopped_at = now;
        self.throttled_at = now;
    }

    /// Looks at how much waits for it.
    pub(super) fn look(&mut self, queued: usize, stop_at: usize, go_on_at: usize, now: Time) {
        if queued > stop_at {
            self.is_stopped = true;
            self.stopped_at = now;
        } else if queued <= go_on_at {
            self.is_stopped = false;
        }
        if self.is_stopped {
            self.may_have_stopped_at = now;
        }
        if queued > 0 || self.partial_since.is_some() {
            self.busy = now;
        }
    }
}

pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Judge {
    /// The deadline of a connection has come, and the relay has taken it out of its clients, or asked it for a sign
    /// of life, or neither; `queued` bytes waited for it before.
    #[allow(clippy::too_many_arguments, reason = "what was seen of one deadline")]
    pub(crate) fn deadline(
        &mut self,
        id: Id,
        has_ended: bool,
        pings: u64,
        queued: usize,
        may_answer: bool,
        facts: &Facts<'_>,
        now: Time,
    ) {
        let hello_us = micros(self.settings.hello_deadline);
        if self.is_proving(id) {
            self.login_deadline(id, may_answer, queued > 0, facts, now);
            return self.probed(pings);
        }
        self.ledger.pings += pings;
        let is_asked = pings > 0;
        let record = self.record(id);
        let (keepalive_us, life) = (record.keepalive_us, &mut record.life);
        let silent_us = now.micros() - life.heard.micros();
        match record.state {
            State::Greeting => {
                let waited = now.micros() - life.opened.micros();
                assert!(waited + GRAIN_US >= hello_us, "{id} had {waited} us for its HELLO");
                self.fail(id, Code::HelloTimeout, facts);
            }
            State::Registered if has_ended => {
                assert!(
                    silent_us + GRAIN_US >= 2 * keepalive_us,
                    "{id} is given up after {silent_us} us of silence, with a keepalive of {keepalive_us}",
                );
                assert_eq!(queued, 0, "{id} is given up although bytes wait for it");
                let asked = life.asked.unwrap_or_else(|| panic!("{id} is given up unasked"));
                assert!(!record.sent.is_full(now), "{id} is given up for silence, and is not read from");
                let patience = now.micros() - asked.micros();
                assert!(patience + GRAIN_US >= keepalive_us, "{id} is given up {patience} us after it was asked");
                self.fail(id, Code::IdleTimeout, facts);
            }
            State::Registered if is_asked => {
                assert_eq!(queued, 0, "{id} is asked for a sign of life behind what it has not read");
                let least = keepalive_us - keepalive_us / 10;
                assert!(silent_us + GRAIN_US >= least, "{id} is asked after {silent_us} us, not {least}");
                (life.asked, life.was_asked) = (Some(now), true);
            }
            State::Registered => {
                // A PING that waits behind other bytes asks nobody.
                if queued > 0 {
                    life.asked = None;
                }
            }
            State::Leaving(_) => {}
        }
    }

    /// The service is about to be shown bytes of a client: not if its answers have used up half of the reserve, until half
    /// of its queue has been written.
    pub(crate) fn is_shown(&self, id: Id, facts: &Facts<'_>) {
        let queued = facts.queued(id);
        let is_stopped = self.records[&id].life.is_stopped && queued > self.settings.queue_bytes_max / 2;
        assert!(!is_stopped, "{id} is read although {queued} bytes wait for it");
    }

    /// Something has been written to a client.
    pub(crate) fn flushed(&mut self, id: Id, facts: &Facts<'_>) {
        let go_on_at = self.settings.queue_bytes_max / 2;
        if facts.queued(id) <= go_on_at {
            self.record(id).life.is_stopped = false;
        }
    }

    /// Whether the relay may have reason not to read from a client.
    pub(crate) fn may_be_stopped(&self, conn: ConnId) -> bool {
        self.records.get(&id_of(conn)).is_some_and(|record| record.life.may_be_stopped)
    }

    pub(crate) fn overdue(&mut self, id: Id, record_since: Option<Time>, facts: &Facts<'_>, now: Time) {
        let deadline = micros(self.limits.input_deadline);
        let life = &self.record(id).life;
        let since = [life.partial_since, record_since].into_iter().flatten().min();
        let since = since.unwrap_or_else(|| panic!("{id} has no incomplete frame"));
        assert!(life.stopped_at < now || !life.is_stopped, "{id} is to end a frame that the relay does not read");
        // What the relay did not read its client could not end.
        let age = now.micros() - since.max(life.stopped_at).micros();
        assert!(age + GRAIN_US >= deadline, "{id} had {age} us for a frame");
        self.fail(id, Code::FrameTimeout, facts);
    }

    /// Whether a record of a client that has begun must have ended by now, as the relay has been reading from it all the while.
    pub(crate) fn must_have_ended(&self, conn: ConnId, record_since: Time, now: Time) -> bool {
        let Some(record) = self.records.get(&id_of(conn)) else { return false };
        let is_stopped = record.life.may_have_stopped_at == now || record.life.may_be_stopped;
        let since = record_since.max(record.life.may_have_stopped_at);
        !is_stopped
            && !matches!(record.state, State::Leaving(_))
            && now.micros() - since.micros() > micros(self.limits.input_deadline) + 2 * GRAIN_US
    }

    /// A turn is over: how old is what waits, and does it wait for a reason?
    pub(crate) fn turn(&mut self, facts: &Facts<'_>, now: Time) {
        self.watch_outputs();
        self.tally.turns += 1;
        let write_deadline = micros(self.limits.write_deadline);
        let (hello_us, input_us) = (micros(self.settings.hello_deadline), micros(self.limits.input_deadline));
        let most = self.settings.queue_bytes_max;
        let stop_at = most + self.settings.queue_reserve_bytes / 2;
        let is_tight = self.is_tight();
        for id in &self.alive {
            let Some(record) = self.records.get_mut(id) else { continue };
            record.receipts_pending =
                record.receipts_pending.saturating_sub(std::mem::take(&mut record.receipts_written));
            let queued = facts.queued(*id);
            if record.sent.may_be_full(now) {
                record.life.throttled(now);
            }
            record.life.look(queued, stop_at, most / 2, now);
            if facts.has_begun_record(*id) {
                record.life.busy = now;
            }
            if queued == 0 && self.registered.contains(id) && !(is_tight && facts.has_blocked(*id)) {
                record.has_been_told(*id, &self.scopes);
            }
            record.check_life(*id, hello_us, input_us, now);
            let end = record.taken_bytes + queued as u64;
            let taken = record.taken_bytes - record.taken_before;
            record.life.guess(queued, taken as usize, stop_at, most / 2);
            (record.end_before, record.taken_before) = (end, record.taken_bytes);
            while record.marks.front().is_some_and(|(end, _)| *end <= record.taken_bytes) {
                record.marks.pop_front();
            }
            if queued == 0 {
                continue;
            }
            if record.marks.back().is_none_or(|(last, _)| *last < end) {
                record.marks.push_back((end, now));
            }
            let age = record.marks.front().map_or(0, |(_, since)| now.micros() - since.micros());
            assert!(age <= write_deadline + GRAIN_US, "{id} has not taken a byte that waits for {age} us");
        }
    }
}

impl Record {
    /// Whoever watches and has read everything has been told what has happened.
    fn has_been_told(&self, id: Id, scopes: &BTreeMap<Option<Id>, Scope>) {
        for (room, directory) in &self.directories {
            let Some(scope) = scopes.get(room).filter(|scope| scope.watchers.contains(&id)) else { continue };
            let Some(last) = directory.last.filter(|_| self.counted <= directory.counted) else { continue };
            let untold = scope.untold(last);
            assert!(untold.is_none(), "{id} watches {room:?}, has read all, and is not told of {untold:?}");
        }
    }

    /// Whether a deadline has passed, and nobody has noticed.
    fn check_life(&self, id: Id, hello_us: u64, input_us: u64, now: Time) {
        let life = &self.life;
        let since = |then: Time| now.micros() - then.micros();
        let is_paused = life.may_have_stopped_at == now;
        if let Some(partial) = life.partial_since.filter(|_| !is_paused && !matches!(self.state, State::Leaving(_))) {
            let age = since(partial.max(life.may_have_stopped_at));
            assert!(age <= input_us + 2 * GRAIN_US, "{id} has not ended a frame for {age} us, and lives");
        }
        match self.state {
            State::Greeting => {
                if let Some(until) = self.identity.as_ref().and_then(Identity::until) {
                    let is_late = now.micros() > until.micros() + 2 * GRAIN_US;
                    assert!(!is_late, "{id} should have heard of its login at {until:?}");
                } else {
                    let age = since(life.opened);
                    assert!(age <= hello_us + GRAIN_US, "{id} has said no HELLO for {age} us, and lives");
                }
            }
            State::Registered => {
                let age = since(life.heard.max(life.busy));
                let is_asked = life.asked.is_some();
                assert!(
                    is_asked || age <= self.keepalive_us + 2 * GRAIN_US,
                    "{id} is silent for {age} us, and not asked"
                );
                assert!(age <= 2 * self.keepalive_us + 3 * GRAIN_US, "{id} is silent for {age} us, and lives");
            }
            State::Leaving(_) => {}
        }
    }
}
