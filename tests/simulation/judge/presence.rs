//! What a client knows of who is here, rebuilt from its SNAPSHOTs and DELTAs.

use std::collections::{BTreeMap, BTreeSet};

use switchboard::wire::{HEADER_BYTES, Id};

use super::{Judge, hash};
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
    /// WATCHes since it last said that it wants no more.
    pub(super) asked: BTreeSet<u32>,
    /// The WATCH whose answer is under way.
    pub(super) listing: Option<u32>,
    /// A DELTA is missing.
    pub(super) has_hole: bool,
    /// What its client's GAPs had counted when it asked.
    pub(super) counted_before: u64,
    /// What its client's GAPs had counted at the last DELTA.
    pub(super) counted: u64,
}

impl Judge {
    pub(super) fn snapshot(
        &mut self,
        id: Id,
        correlation: u32,
        more: bool,
        room: Option<Id>,
        sequence: u64,
        members: Vec<Seen>,
    ) {
        let record = self.records.get_mut(&id).expect("it has got something");
        if !record.watches.contains_key(&correlation) {
            return; // An answer to WHO.
        }
        let (counted, directory) = (record.counted, record.directories.entry(room).or_default());
        if directory.is_wanted && directory.asked.contains(&correlation) && self.registered.contains(&id) {
            self.scopes.entry(room).or_default().watchers.insert(id);
        }
        if directory.listing != Some(correlation) {
            if let Some(last) = directory.last {
                assert!(sequence >= last, "{id} has seen DELTA {last}, and gets a listing as of {sequence}");
                record.missed += sequence - last;
            } else if counted > directory.counted_before {
                // How many DELTAs it has missed before the first page nobody will learn.
                record.is_exact = false;
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

    pub(super) fn delta(&mut self, id: Id, room: Option<Id>, sequence: u64, changes: Vec<Change>, frame: &[u8]) {
        let scope = self.scopes.entry(room).or_default();
        let whose = scope.tell(sequence, &changes, hash(&frame[HEADER_BYTES..])).to_vec();
        let record = self.record(id);
        for (other, serial) in whose {
            let told = record.told.entry(other).or_default();
            *told = serial.max(*told);
        }
        if room.is_none() {
            let gone = changes.iter().filter_map(|change| match change {
                Change::Departed(other, _) => Some(*other),
                _ => None,
            });
            record.departed.extend(gone);
        }
        let directory = record.directories.get_mut(&room);
        let directory = directory.unwrap_or_else(|| panic!("{id} does not watch {room:?}"));
        let begins_at = record.stream_bytes - frame.len() as u64;
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
