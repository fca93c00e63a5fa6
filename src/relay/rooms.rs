//! Who belongs together. Everybody is the members of room 0, so arrival, departure, listing and fan-out
//! are the same for a room and for all.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

use super::counters::Denial;
use super::outbox::Outbox;
use super::peers::{Membership, Peer, Peers};
use super::{Refused, Relay};
use crate::wire::body::{self, Tag};
use crate::wire::control::{self, Body, Join, Joined, Leave};
use crate::wire::{Code, Header, Id, Type, is_valid_name};

/// The slot of the room of everybody.
pub(super) const EVERYBODY: u32 = 0;

/// Members, those of them who watch, and what has changed since the watchers were told.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) id: Id,
    pub(super) name: Box<str>,
    /// In no order: a member that leaves is replaced by the last.
    pub(super) members: Vec<Id>,
    pub(super) watchers: Vec<Id>,
    /// The number of the last DELTA.
    pub(super) sequence: u64,
    /// Records for the next DELTA.
    pub(super) changes: Vec<u8>,
    /// It is on the list of changed rooms.
    pub(super) is_listed: bool,
    /// Whose new card is the last record of `changes`, and where that begins.
    last_changed: Option<(Id, usize)>,
}

/// Names that the table is made for at most: about five megabytes, of which those are touched that are used.
const NAMES_MAX: usize = 1 << 20;

/// All rooms, by slot and by name.
#[derive(Debug)]
pub(super) struct Rooms {
    slots: Slab<Room>,
    names: HashTable<u32>,
    hasher: RandomState,
    generation: u64,
    /// Rooms whose watchers have something to be told at the end of the turn.
    pub(super) changed: Vec<u32>,
    /// Bytes of the changes in all rooms.
    pub(super) pending_bytes: usize,
}

impl Rooms {
    /// No rooms, and a table of names for `most`: one that grows would have everybody wait until all names are in the new
    /// one, for milliseconds.
    pub(super) fn new(most: usize) -> Self {
        let mut slots = Slab::new();
        let everybody = slots.insert(Room::new(Id::ALL, ""));
        debug_assert_eq!(everybody, EVERYBODY as usize);
        Self {
            slots,
            names: HashTable::with_capacity(most.min(NAMES_MAX)),
            hasher: RandomState::new(),
            generation: 0,
            changed: Vec::new(),
            pending_bytes: 0,
        }
    }

    pub(super) fn everybody(&self) -> &Room {
        &self.slots[EVERYBODY as usize]
    }

    /// Rooms, that of everybody not counted.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - 1
    }

    /// The slot of the room with this id.
    pub(super) fn slot(&self, id: Id) -> Option<u32> {
        let slot = if id == Id::ALL { EVERYBODY } else { id.index() as u32 };
        self.slots.get(slot as usize).filter(|room| room.id == id).map(|_| slot)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Room> {
        self.slots.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Room> {
        self.slots.get_mut(slot as usize)
    }

    fn named(&self, name: &str) -> Option<u32> {
        let same = |slot: &u32| &*self.slots[*slot as usize].name == name;
        self.names.find(self.hasher.hash_one(name), same).copied()
    }

    fn insert(&mut self, name: &str) -> u32 {
        self.generation += 1;
        let index = self.slots.vacant_key();
        let slot = self.slots.insert(Room::new(Id::room(index, self.generation), name)) as u32;
        let slots = &self.slots;
        let hash = |slot: &u32| self.hasher.hash_one(&*slots[*slot as usize].name);
        self.names.insert_unique(hash(&slot), slot, hash);
        slot
    }

    fn remove(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(&*self.slots[slot as usize].name);
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        let room = self.slots.remove(slot as usize);
        self.pending_bytes -= room.changes.len();
    }

    /// Notes a change for the next DELTA, if anybody watches.
    pub(super) fn note(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(room) = self.slots.get_mut(slot as usize).filter(|room| !room.watchers.is_empty()) else { return };
        let before = room.changes.len();
        write(&mut room.changes);
        room.last_changed = None;
        self.pending_bytes += room.changes.len() - before;
        if !room.is_listed {
            room.is_listed = true;
            self.changed.push(slot);
        }
    }

    /// Notes that a client has a new card. Of several changes of one client that follow each other only the
    /// last is told: a client that updates in a loop is no burden to those who watch.
    pub(super) fn note_changed(&mut self, slot: u32, id: Id, card: &[u8]) {
        let Some(room) = self.slots.get_mut(slot as usize) else { return };
        if let Some((last, start)) = room.last_changed
            && last == id
        {
            self.pending_bytes -= room.changes.len() - start;
            room.changes.truncate(start);
        }
        let start = room.changes.len();
        self.note(slot, |changes| control::put_member(changes, Tag::CHANGED, id, card));
        if let Some(room) = self.slots.get_mut(slot as usize).filter(|room| room.changes.len() > start) {
            room.last_changed = Some((id, start));
        }
    }

    /// Takes the changes that the watchers of a room are to be told, and its watchers until they have been.
    pub(super) fn take_changes(&mut self, slot: u32) -> Option<(Vec<u8>, Vec<Id>)> {
        let room = self.slots.get_mut(slot as usize).filter(|room| room.is_listed)?;
        room.is_listed = false;
        room.last_changed = None;
        self.pending_bytes -= room.changes.len();
        Some((std::mem::take(&mut room.changes), std::mem::take(&mut room.watchers)))
    }

    /// Forgets the changes of a room that its last watcher has left. What follows them is not noted, so whoever
    /// watches next would take them for the last that has happened.
    pub(super) fn forget_changes(&mut self, slot: u32) {
        let Some(room) = self.slots.get_mut(slot as usize) else { return };
        self.pending_bytes -= std::mem::take(&mut room.changes).len();
        room.last_changed = None;
    }

    /// Tells nobody of anything any more.
    pub(super) fn forget_watchers(&mut self) {
        for (_, room) in &mut self.slots {
            room.watchers.clear();
            room.changes.clear();
            room.last_changed = None;
        }
        self.pending_bytes = 0;
    }

    pub(super) fn check_consistency(&self, peers: &Peers) {
        let pending: usize = self.slots.iter().map(|(_, room)| room.changes.len()).sum();
        assert_eq!(pending, self.pending_bytes, "bytes of the changes in all rooms");
        for (slot, room) in &self.slots {
            assert!(slot == 0 || !room.members.is_empty(), "a room that nobody is in");
            for (place, id) in room.members.iter().enumerate() {
                let peer = peers.get(*id).expect("members are here");
                let noted = if slot == 0 { Some(peer.place) } else { peer.membership(slot as u32).map(|m| m.place) };
                assert_eq!(noted, Some(place as u32), "{id:?} knows its place in {:?}", room.id);
            }
            for (place, id) in room.watchers.iter().enumerate() {
                let peer = peers.get(*id).expect("watchers are here");
                assert_eq!(peer.watching(slot as u32), Some(place as u32), "{id:?} watches {:?}", room.id);
            }
            assert!(room.changes.is_empty() || room.is_listed, "changes that nobody will be told of");
            assert!(room.changes.is_empty() || !room.watchers.is_empty(), "changes that nobody wants to be told of");
        }
        for peer in peers.iter() {
            for membership in peer.extra.iter().flat_map(|extra| &extra.memberships) {
                let room = self.get(membership.room).expect("a member's room is there");
                assert_eq!(room.members[membership.place as usize], peer.id);
            }
        }
    }
}

impl Room {
    fn new(id: Id, name: &str) -> Self {
        Self {
            id,
            name: name.into(),
            members: Vec::new(),
            watchers: Vec::new(),
            sequence: 0,
            changes: Vec::new(),
            is_listed: false,
            last_changed: None,
        }
    }
}

impl Peer {
    /// Its membership of the room in this slot.
    pub(super) fn membership(&self, room: u32) -> Option<&Membership> {
        self.extra.as_ref()?.memberships.iter().rfind(|membership| membership.room == room)
    }

    /// The rooms that it is in.
    pub(super) fn rooms(&self) -> impl Iterator<Item = u32> {
        self.extra.iter().flat_map(|extra| &extra.memberships).map(|membership| membership.room)
    }

    /// A room that it is in, if there is any.
    pub(super) fn any_room(&self) -> Option<u32> {
        self.rooms().last()
    }

    /// Where its place in a room is noted.
    fn place_mut(&mut self, room: u32) -> Option<&mut u32> {
        if room == EVERYBODY {
            return Some(&mut self.place);
        }
        self.membership_mut(room).map(|membership| &mut membership.place)
    }

    fn membership_mut(&mut self, room: u32) -> Option<&mut Membership> {
        self.extra.as_mut()?.memberships.iter_mut().rfind(|membership| membership.room == room)
    }

    /// Its place among those who watch a room.
    pub(super) fn watching(&self, room: u32) -> Option<u32> {
        if room == EVERYBODY { self.extra.as_ref()?.watching } else { self.membership(room)?.watching }
    }

    /// Whether it watches a room, or is just being told who is in it.
    pub(super) fn is_told_of(&self, room: u32) -> bool {
        let listing = self.extra.as_ref().and_then(|extra| extra.listing);
        self.watching(room).is_some() || listing.is_some_and(|listing| listing.room == room)
    }

    /// Where its place among those who watch a room is noted.
    pub(super) fn watching_mut(&mut self, room: u32) -> Option<&mut Option<u32>> {
        if room == EVERYBODY {
            return Some(&mut self.extra().watching);
        }
        self.membership_mut(room).map(|membership| &mut membership.watching)
    }
}

impl Relay {
    /// JOIN: makes a client a member, of a new room if need be.
    pub(super) fn join(
        &mut self,
        from: Id,
        header: &Header,
        payload: &[u8],
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let join = Join::parse(payload)?;
        if !is_valid_name(join.name) {
            return Err(Refused::plain(Code::BadName));
        }
        let access = self.access(from);
        if access.is_some_and(|access| !access.may_join(join.name)) {
            return Err(Refused::denied(Denial::Join, format_args!("{:?}", join.name)));
        }
        let may_create = access.is_none_or(|access| access.may_create(join.name));
        let slot = match self.rooms.named(join.name) {
            Some(slot) => slot,
            None if !may_create => return Err(Refused::denied(Denial::Create, format_args!("{:?}", join.name))),
            None if self.rooms.len() >= self.settings.rooms_max => {
                return Err(Refused::because(Code::LimitReached, "there are as many rooms as there may be"));
            }
            None => {
                self.check_membership_limit(from)?;
                self.rooms.insert(join.name)
            }
        };
        let is_member = self.peers.get(from).is_some_and(|peer| peer.membership(slot).is_some());
        if !is_member {
            self.check_membership_limit(from)?;
            if self.rooms.get(slot).is_some_and(|room| room.members.len() >= self.settings.members_max) {
                return Err(Refused::because(Code::LimitReached, "the room has as many members as it may have"));
            }
            self.enter(from, slot);
        }
        let Some(room) = self.rooms.get(slot) else { return Ok(()) };
        let (room, members) = (room.id, room.members.len() as u64);
        let header = Header::new(Type::Joined).to(from).correlating(header.correlation);
        self.say(from, out, |frame| Joined { room, name: join.name, members }.write_frame(header, frame));
        Ok(())
    }

    fn check_membership_limit(&self, id: Id) -> Result<(), Refused> {
        let memberships = self.peers.get(id).and_then(|peer| peer.extra.as_ref()).map_or(0, |e| e.memberships.len());
        if memberships >= self.settings.rooms_per_client_max {
            return Err(Refused::because(Code::LimitReached, "this client is in as many rooms as it may be"));
        }
        Ok(())
    }

    /// LEAVE: ends a membership.
    pub(super) fn leave(&mut self, from: Id, payload: &[u8]) -> Result<(), Refused> {
        let room = Id::from_bits(Leave::parse(payload)?.room);
        let slot = self.rooms.slot(room).filter(|slot| *slot != EVERYBODY);
        let slot = slot.ok_or_else(|| Refused::plain(self.no_such_room(from)))?;
        if self.peers.get(from).is_none_or(|peer| peer.membership(slot).is_none()) {
            return Err(Refused::plain(Code::NotMember));
        }
        self.exit(from, slot, Code::Left);
        Ok(())
    }

    /// Adds a member to a room and notes its arrival.
    pub(super) fn enter(&mut self, id: Id, slot: u32) {
        let Some(room) = self.rooms.get_mut(slot) else { return };
        let place = room.members.len() as u32;
        room.members.push(id);
        let Some(peer) = self.peers.get_mut(id) else { return };
        let access = self.rights.access(peer.badge);
        if slot == EVERYBODY {
            peer.place = place;
        } else {
            let may_send = access.is_none_or(|access| access.may_send(&room.name));
            peer.extra().memberships.push(Membership { room: slot, place, watching: None, may_send });
        }
        self.rooms.note(slot, |changes| control::put_member(changes, Tag::ARRIVED, id, &peer.card));
    }

    /// Takes a member out of a room, which ends with its last member, and notes the departure.
    pub(super) fn exit(&mut self, id: Id, slot: u32, code: Code) {
        self.stop_watching(id, slot);
        let Some(room) = self.rooms.get_mut(slot) else { return };
        let Some(place) = self.peers.get_mut(id).and_then(|peer| peer.place_mut(slot)).map(|place| *place) else {
            return;
        };
        room.members.swap_remove(place as usize);
        let (moved, empty) = (room.members.get(place as usize).copied(), room.members.is_empty());
        if let Some(noted) = moved.and_then(|moved| self.peers.get_mut(moved)?.place_mut(slot)) {
            *noted = place;
        }
        if slot != EVERYBODY
            && let Some(extra) = self.peers.get_mut(id).and_then(|peer| peer.extra.as_mut())
        {
            // From the end: whoever leaves all its rooms leaves the last one first, a thousand of them at no more cost each.
            if let Some(at) = extra.memberships.iter().rposition(|membership| membership.room == slot) {
                extra.memberships.swap_remove(at);
            }
            // An answer about this room that is under way ends here, also if its client comes back before the next page.
            if let Some(listing) = extra.listing.as_mut().filter(|listing| listing.room == slot) {
                listing.cursor = 0;
            }
        }
        self.rooms.note(slot, |changes| {
            body::put_record(changes, Tag::DEPARTED, |record| {
                body::put_integer(record, Tag::CLIENT, id.bits());
                body::put_integer(record, Tag::CODE, u64::from(code.number()));
            });
        });
        if empty && slot != EVERYBODY {
            self.rooms.remove(slot);
        }
    }
}
