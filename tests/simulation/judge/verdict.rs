//! What must be true once everything has come to rest.

use std::collections::BTreeSet;

use switchboard::wire::{Code, Id};

use super::{Judge, Outcome};

impl Judge {
    /// Everybody reads, nothing is on its way: every frame has met its fate, and everybody knows who is here.
    pub(crate) fn rest(&mut self) {
        self.watch_outputs();
        self.judge_frames();
        let is_lawful = self.is_lawful();
        for id in &self.registered {
            let Some(record) = self.records.get_mut(id) else { continue };
            assert!(record.partial.is_empty(), "{id} has half a frame and nothing behind it");
            for due in std::mem::take(&mut record.due).into_iter().filter(|due| due.fans_out) {
                let has_reason = due.may_lack_room || due.is_too_large;
                assert!(has_reason, "{id} had room for the frame {} and has not got it", due.correlation);
                record.skipped += 1;
                record.skipped_bytes += due.bytes as u64;
                if let Some(fan) = self.fans.get_mut(&(due.from, due.correlation)) {
                    fan.skipped += 1;
                }
            }
            let unanswered = std::mem::take(&mut record.answers);
            assert!(unanswered.is_empty() || !is_lawful, "{id} waits for {unanswered:?}");
            record.missed += unanswered.len() as u64;
            let known = record.skipped + record.missed;
            assert!(
                record.counted >= known || !record.is_exact && record.counted >= record.skipped,
                "{id} has missed {} frames of others and {} of the relay's, and GAPs count {}",
                record.skipped,
                record.missed,
                record.counted
            );
            let is_known = record.is_exact;
            assert!(
                record.counted == known || !is_known,
                "{id} has missed {} frames of others and {} of the relay's, and GAPs count {}",
                record.skipped,
                record.missed,
                record.counted
            );
            let has_others_only = record.counted == record.skipped && record.missed == 0;
            assert!(
                !has_others_only || record.counted_bytes == record.skipped_bytes,
                "{id} has missed {} bytes, and GAPs count {}",
                record.skipped_bytes,
                record.counted_bytes
            );
        }
        self.judge_fans();
        self.presence_is_true(|_| false);
    }

    /// What a receipt said of a room or of all is what has become of it.
    fn judge_fans(&mut self) {
        for ((from, correlation), fan) in std::mem::take(&mut self.fans) {
            let Some((recipients, skipped)) = fan.said else { continue };
            let is_right = (fan.delivered..=fan.delivered + fan.unknown).contains(&recipients)
                && (fan.skipped..=fan.skipped + fan.unknown).contains(&skipped);
            assert!(is_right, "the receipt of {correlation} for {from} does not say the truth: {fan:?}");
        }
    }

    /// Every frame for one client or a list is delivered, or refused, or its refusal is counted.
    fn judge_frames(&mut self) {
        let open: Vec<_> = self
            .fates
            .iter()
            .filter(|(_, fate)| fate.state == Outcome::Open)
            .map(|(key, fate)| (*key, *fate))
            .collect();
        for ((from, correlation, to), fate) in open {
            self.fates.remove(&(from, correlation, to));
            self.owed.remove(&(from, correlation));
            if !self.is_registered(from) {
                continue;
            }
            assert!(
                fate.must.is_some() || fate.may_lack_room || fate.may_be_gone,
                "the frame {correlation} of {from} for {to} is lost"
            );
            let is_others_fault = fate.must == Some(Code::RecipientLost);
            assert!(
                is_others_fault || !self.is_lawful(),
                "{from} never hears of the frame {correlation} for {to}: {fate:?}"
            );
            self.record(from).missed += 1;
        }
        for ((from, correlation), to) in std::mem::take(&mut self.owed) {
            let state = self.fates[&(from, correlation, to)].state;
            if state == Outcome::Delivered && self.is_registered(from) {
                self.record(from).missed += 1;
            }
        }
    }

    /// Everybody knows who is here, but those who cannot hear of it.
    pub(crate) fn presence_is_true(&self, is_deaf: impl Fn(Id) -> bool) {
        let everybody = &self.registered;
        for id in everybody.iter().filter(|id| !is_deaf(**id)) {
            for (scope, directory) in &self.records[id].directories {
                if !directory.is_wanted || directory.has_hole || directory.listing.is_some() || directory.last.is_none()
                {
                    continue;
                }
                let room = scope.and_then(|scope| self.rooms.values().find(|room| room.id == Some(scope)));
                let truth = room.map_or_else(|| everybody.clone(), |room| room.members.keys().copied().collect());
                let known: BTreeSet<Id> = directory.members.keys().copied().collect();
                assert_eq!(known, truth, "who is in {scope:?}, as {id} knows it");
                for (other, seen) in &directory.members {
                    assert_eq!(*seen, self.records[other].card, "what {id} knows of {other}");
                }
            }
        }
    }

    /// Whether this client knows who is here: it watches everybody, and nothing is missing.
    pub(crate) fn knows_everybody(&self, id: Id) -> bool {
        self.records.get(&id).and_then(|record| record.directories.get(&None)).is_some_and(|directory| {
            directory.is_wanted && !directory.has_hole && directory.listing.is_none() && directory.last.is_some()
        })
    }

    /// Whether the relay counts it among its clients.
    pub(crate) fn is_here(&self, id: Id) -> bool {
        self.is_registered(id)
    }
}
