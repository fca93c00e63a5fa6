//! Who is here, as a client knows it that applies the specification's rules and nothing else.

use std::collections::BTreeMap;

use switchboard::wire::Id;

use super::frames::{Change, Got, Seen};

/// What a client knows of one scope.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Everybody, or a room.
    pub(crate) room: Option<Id>,
    pub(crate) members: BTreeMap<Id, Seen>,
    /// The number of the last DELTA; unknown before the first SNAPSHOT.
    last: Option<u64>,
    /// The correlation of a WATCH whose first SNAPSHOT has not come.
    pub(crate) asked: Option<u32>,
    /// The answer to this WATCH is under way.
    pub(crate) listing: Option<u32>,
    /// Something is missing: WATCH again.
    pub(crate) has_hole: bool,
}

impl Directory {
    /// A client that sends a WATCH with this correlation.
    pub(crate) fn asking(room: Option<Id>, correlation: u32) -> Self {
        Self { room, asked: Some(correlation), ..Self::default() }
    }

    /// WATCH again.
    pub(crate) fn ask_again(&mut self, correlation: u32) {
        self.asked = Some(correlation);
    }

    /// Applies a frame, in the order of the stream.
    pub(crate) fn apply(&mut self, got: &Got) {
        match got {
            Got::Snapshot { correlation, more, room, sequence, members } if *room == self.room => {
                if self.asked == Some(*correlation) {
                    self.members.clear();
                    self.last = Some(*sequence);
                    self.has_hole = false;
                    self.asked = None;
                    self.listing = Some(*correlation);
                }
                if self.listing != Some(*correlation) {
                    return; // An answer to WHO.
                }
                self.members.extend(members.iter().map(|member| (member.id, member.clone())));
                if !more {
                    self.listing = None;
                }
            }
            Got::Delta { room, sequence, changes } if *room == self.room => {
                let Some(last) = self.last else { return };
                if *sequence != last + 1 {
                    self.has_hole = true;
                }
                self.last = Some(*sequence);
                for change in changes {
                    match change {
                        Change::Arrived(member) | Change::Changed(member) => {
                            self.members.insert(member.id, member.clone());
                        }
                        Change::Departed(id, _) => {
                            self.members.remove(id);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.members.values().map(|member| &*member.name).collect();
        names.sort_unstable();
        names
    }
}
