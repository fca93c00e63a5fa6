//! What there is to be told of everybody, or of a room: every change in the order in which it happened, and which DELTA
//! has told it.

use std::collections::{BTreeMap, BTreeSet};

use switchboard::time::Time;
use switchboard::wire::Id;

use crate::frames::Change;

/// A DELTA goes out at the end of the turn, or of the next one if that was over; turns follow each other at once.
const TURN_US: u64 = 1000;
/// Of so many bytes of changes in one turn, and as many in other rooms, some can be told before the turn ends.
const LOUD_BYTES: usize = 8 * 1024;

/// A change that those who watch are to be told.
#[derive(Debug)]
struct Note {
    change: Change,
    serial: u64,
    turn: u64,
    at: Time,
    /// At some time before it was to be told nobody may have watched.
    is_void: bool,
}

/// A DELTA.
#[derive(Debug)]
struct Told {
    /// Where the notes end that it tells.
    end: usize,
    /// What it looks like.
    look: u64,
    /// Whose changes it tells, and when they happened.
    whose: Vec<(Id, u64)>,
}

/// Everybody, or a room.
#[derive(Debug, Default)]
pub(super) struct Scope {
    notes: Vec<Note>,
    /// Up to here they have had to be told.
    due: usize,
    /// DELTAs that somebody has got, by their number.
    told: BTreeMap<u64, Told>,
    /// Those who watch for certain.
    pub(super) watchers: BTreeSet<Id>,
}

impl Scope {
    pub(super) fn note(&mut self, change: Change, serial: u64, turn: u64, at: Time) {
        let is_void = self.watchers.is_empty();
        self.notes.push(Note { change, serial, turn, at, is_void });
    }

    /// Somebody may watch no more. What happens while nobody watches is not counted, and nobody is told of it.
    pub(super) fn forsaken_by(&mut self, id: Id) {
        self.watchers.remove(&id);
        if self.watchers.is_empty() {
            self.notes[self.due..].iter_mut().for_each(|note| note.is_void = true);
        }
    }

    /// The relay goes down, and nobody is told anything any more.
    pub(super) fn close(&mut self) {
        self.watchers.clear();
        self.notes.iter_mut().for_each(|note| note.is_void = true);
    }

    /// The end of a turn: what has happened is told now.
    pub(super) fn end_turn(&mut self, now: Time) {
        for note in self.notes[self.due..].iter().filter(|note| !note.is_void) {
            let age = now.micros() - note.at.micros();
            assert!(age <= TURN_US, "{:?} is told {age} us after it happened", note.change);
        }
        self.due = self.notes.len();
    }

    /// The DELTA with this number says what it should. Returns, for each of its changes, whose it is and when it happened.
    pub(super) fn tell(&mut self, sequence: u64, changes: &[Change], look: u64) -> &[(Id, u64)] {
        assert!(!changes.is_empty(), "the DELTA {sequence} says nothing");
        if let Some(told) = self.told.get(&sequence) {
            assert_eq!(look, told.look, "the DELTA {sequence} is not the same for all");
        } else {
            let told = self.find(sequence, changes, look);
            self.told.insert(sequence, told);
        }
        &self.told[&sequence].whose
    }

    fn find(&self, sequence: u64, changes: &[Change], look: u64) -> Told {
        let before = self.told.range(..sequence).next_back();
        let (is_next, mut start) = before.map_or((sequence == 1, 0), |(last, told)| (last + 1 == sequence, told.end));
        // A change that may not have been told can look like one that must be: that is the one then.
        let sure = start + self.notes[start..].iter().take_while(|note| note.is_void).count();
        if let Some((end, whose)) = self.match_at(sure, changes) {
            return Told { end, look, whose };
        }
        loop {
            if let Some((end, whose)) = self.match_at(start, changes) {
                return Told { end, look, whose };
            }
            // DELTAs that nobody has got, or changes that nobody is told.
            let may_skip = self.notes.get(start).is_some_and(|note| note.is_void || !is_next);
            let rest: Vec<_> = self.notes[start..].iter().take(5).collect();
            assert!(may_skip, "the DELTA {sequence} says {changes:?}, and not {rest:?}");
            start += 1;
        }
    }

    /// Where the notes end that begin at `start` and that `changes` tell. Of several changes that one client makes in a
    /// row the last is told, unless so many changes piled up that they were told before the turn was over.
    fn match_at(&self, start: usize, changes: &[Change]) -> Option<(usize, Vec<(Id, u64)>)> {
        let (mut at, mut whose) = (start, Vec::new());
        for change in changes {
            let mut run_end = at + 1;
            while run_end < self.notes.len() && self.is_replaced_by_next(run_end - 1) {
                run_end += 1;
            }
            let run = self.notes.get(at..run_end)?;
            let place = run.iter().rposition(|note| note.change == *change)?;
            if at + place + 1 != run_end && !self.is_loud(run[place].turn) {
                return None;
            }
            whose.push((of(change), run[place].serial));
            at += place + 1;
        }
        Some((at, whose))
    }

    fn is_replaced_by_next(&self, at: usize) -> bool {
        let (this, next) = (&self.notes[at], &self.notes[at + 1]);
        let is_change = |note: &Note| matches!(note.change, Change::Changed(_));
        is_change(this) && is_change(next) && of(&this.change) == of(&next.change) && this.turn == next.turn
            // What was told at the end of a turn is told before what happens behind that end.
            && !(at < self.due && at + 1 >= self.due)
    }

    /// Whether so much happened in this turn that it was told in pieces.
    fn is_loud(&self, turn: u64) -> bool {
        let bytes = |note: &Note| match &note.change {
            Change::Arrived(seen) | Change::Changed(seen) => 100 + seen.details.as_ref().map_or(0, Vec::len),
            Change::Departed(..) => 28,
        };
        self.notes.iter().filter(|note| note.turn == turn).map(bytes).sum::<usize>() > LOUD_BYTES
    }

    /// What must have been told by now to somebody who has read everything, and whose last DELTA is this one.
    pub(super) fn untold(&self, last: u64) -> Option<&Change> {
        let end = if last == 0 { 0 } else { self.told.get(&last)?.end };
        self.notes[end.min(self.due)..self.due].iter().find(|note| !note.is_void).map(|note| &note.change)
    }
}

/// Whose change it is.
pub(super) const fn of(change: &Change) -> Id {
    match change {
        Change::Arrived(seen) | Change::Changed(seen) => seen.id,
        Change::Departed(id, _) => *id,
    }
}
