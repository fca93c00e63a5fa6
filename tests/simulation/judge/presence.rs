//! What a client knows of who is here, rebuilt from its SNAPSHOTs and DELTAs.

use std::collections::BTreeMap;

use switchboard::wire::{Code, Id};

use super::{Judge, Record, State};
use crate::frames::{Change, Seen};

/// What a client knows of everybody, or of a room.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// It watches, as far as the relay has been shown.
    pub(super) is_wanted: bool,
    /// Where its stream stood when it said that it wants no more.
    pub(super) over_at: Option<u64>,
    pub(super) members: BTreeMap<Id, Seen>,
    /// The number of the last DELTA that is in it.
    pub(super) last: Option<u64>,
    /// The WATCH whose answer is under way.
    pub(super) listing: Option<u32>,
    /// A DELTA is missing.
    pub(super) has_hole: bool,
    /// What its client's GAPs had counted at the last DELTA.
    counted: u64,
}

impl Record {
    pub(super) fn snapshot(
        &mut self,
        id: Id,
        correlation: u32,
        more: bool,
        room: Option<Id>,
        sequence: u64,
        members: Vec<Seen>,
    ) {
        let Some(scope) = self.watches.get(&correlation) else { return }; // An answer to WHO.
        assert_eq!(room, *scope, "the scope of a listing for {id}");
        let (counted, directory) = (self.counted, self.directories.entry(room).or_default());
        if directory.listing != Some(correlation) {
            if let Some(last) = directory.last {
                assert!(sequence >= last, "{id} has seen DELTA {last}, and gets a listing as of {sequence}");
                self.missed += sequence - last;
            }
            directory.members.clear();
            directory.last = Some(sequence);
            directory.has_hole = false;
            directory.counted = counted;
            directory.listing = Some(correlation);
        }
        directory.members.extend(members.into_iter().map(|member| (member.id, member)));
        if !more {
            directory.listing = None;
        }
    }
}

impl Judge {
    pub(super) fn delta(&mut self, id: Id, room: Option<Id>, sequence: u64, changes: Vec<Change>, frame_bytes: usize) {
        for change in &changes {
            let Change::Departed(other, code) = change else { continue };
            let state = self.records.get(other).map(|record| record.state);
            let has_left_the_room = room.is_some() && *code == Code::Left;
            assert!(
                has_left_the_room || state == Some(State::Leaving(*code)),
                "{id} is told that {other} has left {room:?} with {code}, and it is {state:?}"
            );
        }
        let record = self.record(id);
        if room.is_none() {
            let gone = changes.iter().filter_map(|change| match change {
                Change::Departed(other, _) => Some(*other),
                _ => None,
            });
            record.departed.extend(gone);
        }
        let directory = record.directories.get_mut(&room);
        let directory = directory.unwrap_or_else(|| panic!("{id} does not watch {room:?}"));
        let begins_at = record.stream_bytes - frame_bytes as u64;
        assert!(directory.over_at.is_none_or(|end| begins_at < end), "{id} does not watch {room:?} any more");
        // A page of the listing may be missing, and then so is the beginning.
        let Some(last) = directory.last else { return };
        assert!(sequence > last, "{id} has seen DELTA {last} of {room:?}, and gets {sequence}");
        let missing = sequence - last - 1;
        if missing > 0 {
            assert!(
                record.counted > directory.counted || !directory.is_wanted,
                "{id} misses {missing} DELTAs of {room:?} before {sequence}, and no GAP says so"
            );
            record.missed += missing;
            directory.has_hole = true;
        }
        directory.counted = record.counted;
        directory.last = Some(sequence);
        for change in changes {
            match change {
                Change::Arrived(member) | Change::Changed(member) => {
                    directory.members.insert(member.id, member);
                }
                Change::Departed(other, _) => {
                    directory.members.remove(&other);
                }
            }
        }
    }
}
