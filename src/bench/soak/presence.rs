//! Who is here, as one that watches is told: its list must be the truth, and no DELTA may be missing unless a GAP
//! has said so.

use std::collections::HashMap;

use crate::wire::control::{Member, Presence, presence};
use crate::wire::{BodyError, Flags, Header, Id};

/// What one that watches knows.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Everybody; true for those of this run.
    here: HashMap<Id, bool>,
    state: State,
    /// A GAP has said that frames are missing.
    is_excused: bool,
    /// Somebody was here who is not of this run.
    pub(super) has_strangers: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Asked(u32),
    /// The correlation, and the number of the last DELTA.
    Filling(u32, u64),
    Whole(u64),
}

/// What has to be done after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// The list is whole.
    Whole,
    /// A DELTA is missing, and a GAP has said so: WATCH again.
    WatchAgain,
    /// A DELTA is missing in silence: WATCH again, and say it.
    Fault,
}

impl List {
    /// A WATCH was sent.
    pub(super) fn asked(&mut self, correlation: u32) {
        self.state = State::Asked(correlation);
    }

    /// A GAP has come; says whether to WATCH again, because what is missing may be a page that is under way.
    pub(super) fn gap(&mut self) -> bool {
        self.is_excused = true;
        matches!(self.state, State::Asked(_) | State::Filling(..))
    }

    /// How many are here that are not of this run.
    pub(super) fn strangers(&self) -> usize {
        self.here.values().filter(|is_ours| !**is_ours).count()
    }

    /// Whether exactly those of this run are here that `is_here` says, `count` of them.
    pub(super) fn is_true(&self, count: usize, is_here: impl Fn(Id) -> bool) -> bool {
        let mut ours = self.here.iter().filter(|(_, is_ours)| **is_ours);
        matches!(self.state, State::Whole(_))
            && self.here.len() - self.strangers() == count
            && ours.all(|(id, _)| is_here(*id))
    }

    /// A SNAPSHOT has come.
    pub(super) fn snapshot(&mut self, header: &Header, payload: &[u8], prefix: &str) -> Result<Next, BodyError> {
        let is_first = self.state == State::Asked(header.correlation);
        let last = match self.state {
            State::Asked(_) if is_first => None,
            State::Filling(correlation, last) if correlation == header.correlation => Some(last),
            _ => return Ok(Next::Nothing),
        };
        if is_first {
            self.here.clear();
        }
        let mut sequence = 0;
        for item in presence(payload) {
            match item? {
                Presence::Sequence(number) => sequence = number,
                Presence::Member(member) => self.insert(&member, prefix),
                _ => {}
            }
        }
        let last = last.unwrap_or(sequence);
        if header.flags.has(Flags::MORE) {
            self.state = State::Filling(header.correlation, last);
            return Ok(Next::Nothing);
        }
        self.state = State::Whole(last);
        self.is_excused = false;
        Ok(Next::Whole)
    }

    /// A DELTA of everybody has come; tells of those who have departed.
    pub(super) fn delta(
        &mut self,
        payload: &[u8],
        prefix: &str,
        mut departed: impl FnMut(Id),
    ) -> Result<Next, BodyError> {
        let (State::Filling(_, last) | State::Whole(last)) = &mut self.state else {
            // What it says is in the snapshot to come; but who departs departs.
            for item in presence(payload) {
                if let Presence::Departed(member) = item? {
                    departed(member.client);
                }
            }
            return Ok(Next::Nothing);
        };
        let mut has_hole = false;
        for item in presence(payload) {
            match item? {
                Presence::Sequence(number) => has_hole = number != std::mem::replace(last, number) + 1,
                Presence::Arrived(member) | Presence::Changed(member) => {
                    let is_ours = is_ours(&member, prefix);
                    self.here.insert(member.client, is_ours);
                    self.has_strangers |= !is_ours;
                }
                Presence::Departed(member) => {
                    self.here.remove(&member.client);
                    departed(member.client);
                }
                Presence::Member(_) | Presence::Room(_) => {}
            }
        }
        if !has_hole {
            return Ok(Next::Nothing);
        }
        self.state = State::Idle;
        Ok(if self.is_excused { Next::WatchAgain } else { Next::Fault })
    }

    /// Whether somebody is on the list.
    pub(super) fn has(&self, id: Id) -> bool {
        self.here.contains_key(&id)
    }

    fn insert(&mut self, member: &Member<'_>, prefix: &str) {
        let is_ours = is_ours(member, prefix);
        self.here.insert(member.client, is_ours);
        self.has_strangers |= !is_ours;
    }
}

fn is_ours(member: &Member<'_>, prefix: &str) -> bool {
    member.profile.name.is_some_and(|name| name.starts_with(prefix))
}
