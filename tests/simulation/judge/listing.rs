//! The answers to WATCH and WHO: who must be on their pages, who may be, and where they end.

use std::collections::BTreeSet;

use switchboard::relay::Denial;
use switchboard::wire::control::{Body, Watch, Who};
use switchboard::wire::{Code, Id};

use super::{Answer, Judge, Record};
use crate::frames::Seen;

/// An answer of one page or several that a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    scope: Option<Id>,
    /// When it was asked for.
    asked: u64,
    /// An earlier one may still be under way.
    may_be_busy: bool,
    /// The client has left the room: behind this byte it is told no more than that the answer ends.
    over_at: Option<u64>,
    listed: BTreeSet<Id>,
}

impl Judge {
    fn listing(&mut self, from: Id, scope: Option<Id>) -> Answer {
        let asked = self.tick();
        let may_be_busy = self.record(from).answers.iter().any(|(_, answer)| matches!(answer, Answer::Snapshot(_)));
        Answer::Snapshot(Listing { scope, asked, may_be_busy, over_at: None, listed: BTreeSet::new() })
    }

    pub(super) fn watch(&mut self, from: Id, correlation: u32, payload: &[u8]) -> Result<Option<Answer>, Code> {
        let watch = Watch::parse(payload).map_err(|_| Code::BadBody)?;
        let scope = self.scope(from, watch.room)?;
        self.check(from, Denial::Watch, |rights| rights.watch || scope.is_some())?;
        let answer = self.listing(from, scope);
        let Answer::Snapshot(Listing { may_be_busy, .. }) = answer else { unreachable!() };
        if !may_be_busy {
            self.scopes.entry(scope).or_default().watchers.insert(from);
        }
        let record = self.record(from);
        record.watches.insert(correlation, scope);
        let counted = record.counted;
        let directory = record.directories.entry(scope).or_default();
        (directory.is_wanted, directory.over_at) = (true, None);
        if directory.last.is_none() && directory.asked.is_empty() {
            directory.counted_before = counted;
        }
        directory.asked.insert(correlation);
        Ok(Some(answer))
    }

    fn found(&self, id: Id) -> Answer {
        Answer::Found(self.records[&id].card.clone())
    }

    pub(super) fn who(&mut self, from: Id, payload: &[u8]) -> Result<Option<Answer>, Code> {
        match Who::parse(payload).map_err(|_| Code::BadBody)? {
            Who::Named(name) => {
                let is_own = self.records[&from].card.name == name;
                self.check(from, Denial::Address, |rights| is_own || rights.watch || rights.may_address(name))?;
                self.named(name).map(|id| Some(self.found(id))).ok_or(Code::NoSuchClient)
            }
            Who::Client(id) => {
                if id != from && !self.may_watch(from) {
                    self.check_address(from, id)?;
                }
                self.is_registered(id).then(|| Some(self.found(id))).ok_or(Code::NoSuchClient)
            }
            Who::Room(room) => {
                let scope = self.scope(from, Some(room.bits()))?;
                self.check(from, Denial::Watch, |rights| rights.watch || scope.is_some())?;
                Ok(Some(self.listing(from, scope)))
            }
            Who::Everybody => {
                self.check(from, Denial::Watch, |rights| rights.watch)?;
                Ok(Some(self.listing(from, None)))
            }
        }
    }

    /// A page has come.
    pub(super) fn page(
        &mut self,
        id: Id,
        correlation: u32,
        more: bool,
        room: Option<Id>,
        members: &[Seen],
        frame_bytes: usize,
    ) {
        let is_it = |(other, answer): &(u32, Answer)| *other == correlation && matches!(answer, Answer::Snapshot(_));
        let record = self.record(id);
        let begins_at = record.stream_bytes - frame_bytes as u64;
        let place = record.answers.iter().position(is_it);
        let place = place.unwrap_or_else(|| panic!("{id} has not asked for the listing {correlation}"));
        let (_, Answer::Snapshot(mut listing)) = record.answers.remove(place) else { unreachable!() };
        assert_eq!(room, listing.scope, "the scope of the listing {correlation} for {id}");
        let is_over = listing.over_at.is_some_and(|end| begins_at >= end);
        assert!(
            !is_over || members.is_empty() && !more,
            "{id} has left {room:?}, and the listing {correlation} goes on"
        );
        assert!(!more || !members.is_empty(), "an empty page of {correlation} that says that more follow");
        for member in members {
            self.may_be_listed(&listing, member);
            listing.listed.insert(member.id);
        }
        if more {
            self.record(id).answers.push((correlation, Answer::Snapshot(listing)));
        } else if listing.over_at.is_none() && self.is_lawful() {
            let lacks = self.lacking(&listing);
            assert!(lacks.is_none(), "{lacks:?} is not in the listing {correlation} for {id}");
        }
    }

    /// It has been a member since the listing was asked for, and has been as it is shown.
    fn may_be_listed(&self, listing: &Listing, member: &Seen) {
        let other = member.id;
        let record = self.records.get(&other).unwrap_or_else(|| panic!("{other}, who is listed, was never here"));
        let was_here = record.since > 0 && record.until.is_none_or(|until| until >= listing.asked);
        let room = listing.scope.and_then(|scope| self.rooms.values().find(|room| room.id == Some(scope)));
        let was_in_it = room.is_none_or(|room| {
            room.members.contains_key(&other) || room.former.get(&other).is_some_and(|until| *until >= listing.asked)
        });
        assert!(was_here && was_in_it, "{other} is listed in {:?} and is not there", listing.scope);
        let was_so = |(until, card): &(u64, Seen)| *until >= listing.asked && card == member;
        let is_true = record.card == *member || record.former_cards.iter().any(was_so);
        assert!(is_true, "{member:?} is listed, and is {:?}", record.card);
    }

    /// Who has been a member all the while and is not on any page.
    fn lacking(&self, listing: &Listing) -> Option<Id> {
        let is_missed = |other: &Id, since: u64| since < listing.asked && !listing.listed.contains(other);
        match listing.scope {
            None => self.registered.iter().copied().find(|other| is_missed(other, self.records[other].since)),
            Some(scope) => {
                let room = self.rooms.values().find(|room| room.id == Some(scope))?;
                room.members.iter().find(|(other, since)| is_missed(other, **since)).map(|(other, _)| *other)
            }
        }
    }

    /// WATCH or WHO is refused because an earlier answer is under way.
    pub(super) fn busy(&mut self, id: Id, correlation: u32) {
        let may_be = |(other, answer): &(u32, Answer)| {
            *other == correlation && matches!(answer, Answer::Snapshot(Listing { may_be_busy: true, .. }))
        };
        self.ledger.refused[Code::Busy.ordinal()] += 1;
        let record = self.record(id);
        let place = record.answers.iter().position(may_be);
        record.answers.remove(place.unwrap_or_else(|| panic!("{id} is told to wait with {correlation}")));
        let Some(scope) = record.watches.remove(&correlation) else { return };
        let watches = self.scopes.get(&scope).is_some_and(|scope| scope.watchers.contains(&id));
        if let Some(directory) = self.record(id).directories.get_mut(&scope) {
            directory.asked.remove(&correlation);
            directory.is_wanted &= watches || !directory.asked.is_empty();
        }
    }
}

impl Record {
    /// Whether it may just be told of everybody.
    pub(super) fn may_be_told_of_all(&self) -> bool {
        let is_it = |answer: &Answer| matches!(answer, Answer::Snapshot(Listing { scope: None, .. }));
        self.answers.iter().any(|(_, answer)| is_it(answer))
    }

    /// It has left a room, and all that is queued for it ends at this byte.
    pub(super) fn end_listings(&mut self, room: Id, end: u64) {
        for (_, answer) in &mut self.answers {
            if let Answer::Snapshot(listing) = answer
                && listing.scope == Some(room)
            {
                listing.over_at.get_or_insert(end);
            }
        }
    }
}
