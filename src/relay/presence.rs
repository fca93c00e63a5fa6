//! Who is here, told to those who ask: once (WHO), from now on (WATCH), and what a client says of itself
//! (UPDATE). All changes of one turn go out as one DELTA, the same bytes for everybody who watches.

use super::counters::Denial;
use super::delivery::tell_of_others;
use super::outbox::Outbox;
use super::peers::{Listing, Peer};
use super::rooms::EVERYBODY;
use super::session::card;
use super::{Refused, Relay};
use crate::outgoing::Outgoing;
use crate::planted::{self, Bug};
use crate::wire::body::{self, Fields, Tag};
use crate::wire::control::{self, Body, Profile, Unwatch, Update, Watch, Who};
use crate::wire::{Code, Flags, HEADER_BYTES, Header, Id, PAYLOAD_BYTES_FLOOR, Type, is_valid_name};

/// Pages of a listing are written until so many bytes wait for the client; the rest follows when they have
/// been read, so that a list of a million clients costs no more memory than one of a thousand.
const LISTING_QUEUE_BYTES: usize = 64 * 1024;
/// What a SNAPSHOT or a DELTA holds besides records: a room and a sequence number.
const PREAMBLE_BYTES: usize = 24;
/// Changes that may wait for the end of a turn; more are told at once, on the account of who caused them.
pub(super) const CHANGES_BYTES_MAX: usize = 64 * 1024;

impl Relay {
    /// WATCH: a listing now, and every change from now on.
    pub(super) fn watch(
        &mut self,
        from: Id,
        header: &Header,
        payload: &[u8],
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let slot = self.scope(from, Watch::parse(payload)?.room.map(Id::from_bits))?;
        self.check_watch(from, slot)?;
        self.start_listing(from, slot, header.correlation)?;
        if let Some(peer) = self.peers.get_mut(from)
            && peer.watching(slot).is_none()
            && let (Some(room), Some(place)) = (self.rooms.get_mut(slot), peer.watching_mut(slot))
        {
            *place = Some(room.watchers.len() as u32);
            room.watchers.push(from);
        }
        self.continue_listing(from, out);
        Ok(())
    }

    /// UNWATCH: no more changes.
    pub(super) fn unwatch(&mut self, from: Id, payload: &[u8]) -> Result<(), Refused> {
        let slot = self.scope(from, Unwatch::parse(payload)?.room.map(Id::from_bits))?;
        if !planted::has(Bug::UnwatchIgnored) {
            self.stop_watching(from, slot);
        }
        Ok(())
    }

    pub(super) fn stop_watching(&mut self, id: Id, slot: u32) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.watching(slot).is_some()) else { return };
        let Some(place) = peer.watching_mut(slot).and_then(Option::take) else { return };
        let Some(room) = self.rooms.get_mut(slot) else { return };
        if room.watchers.get(place as usize) != Some(&id) {
            return; // The relay is going down, and nobody is told anything any more.
        }
        room.watchers.swap_remove(place as usize);
        let moved = room.watchers.get(place as usize).copied();
        if room.watchers.is_empty() {
            self.rooms.forget_changes(slot);
        }
        if let Some(noted) = moved.and_then(|moved| self.peers.get_mut(moved)?.watching_mut(slot)) {
            *noted = Some(place);
        }
    }

    /// WHO: a listing, or one client.
    pub(super) fn who(
        &mut self,
        from: Id,
        header: &Header,
        payload: &[u8],
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let found = match Who::parse(payload)? {
            Who::Named(name) => {
                let access = self.access(from).filter(|access| !access.may_watch() && !access.may_address(name));
                if access.is_some() && self.peers.get(from).is_none_or(|peer| peer.name() != name) {
                    // Whether there is somebody of this name or not.
                    return Err(Refused::denied(Denial::Address, format_args!("{name:?}")));
                }
                self.peers.named(name)
            }
            Who::Client(id) => {
                if let Some(peer) = self.peers.get(from)
                    && id != from
                    && self.rights.access(peer.badge).is_some_and(|access| !access.may_watch())
                {
                    let checked = self.check_address(peer.badge, id);
                    checked.map_err(|code| Refused::of_address(code, self.described(id)))?;
                }
                self.peers.get(id).filter(|peer| !peer.card.is_empty() && peer.is_registered())
            }
            Who::Room(room) => return self.list(from, header, Some(room), out),
            Who::Everybody => return self.list(from, header, None, out),
        };
        let peer = found.ok_or(Refused::plain(Code::NoSuchClient))?;
        let sequence = self.rooms.everybody().sequence;
        let mut frame = Vec::new();
        Header::new(Type::Snapshot).to(from).correlating(header.correlation).write_frame(&mut frame, |payload| {
            body::put_integer(payload, Tag::SEQUENCE, sequence);
            control::put_member(payload, Tag::MEMBER, peer.id, &peer.card);
        });
        self.say(from, out, |out| out.extend_from_slice(&frame));
        Ok(())
    }

    fn list(&mut self, from: Id, header: &Header, room: Option<Id>, out: &mut impl Outbox) -> Result<(), Refused> {
        let slot = self.scope(from, room)?;
        self.check_watch(from, slot)?;
        self.start_listing(from, slot, header.correlation)?;
        self.continue_listing(from, out);
        Ok(())
    }

    /// The room that a request is about: one that the client is in, or everybody.
    fn scope(&self, from: Id, room: Option<Id>) -> Result<u32, Refused> {
        let Some(room) = room.filter(|room| *room != Id::ALL) else { return Ok(EVERYBODY) };
        let slot = self.rooms.slot(room).ok_or_else(|| Refused::plain(self.no_such_room(from)))?;
        if self.peers.get(from).is_none_or(|peer| peer.membership(slot).is_none()) {
            return Err(Refused::plain(Code::NotMember));
        }
        Ok(slot)
    }

    /// Who is in a room its members may know; who is here, not everybody.
    fn check_watch(&self, from: Id, slot: u32) -> Result<(), Refused> {
        match self.access(from) {
            Some(access) if slot == EVERYBODY && !access.may_watch() => {
                Err(Refused::denied(Denial::Watch, "everybody"))
            }
            _ => Ok(()),
        }
    }

    fn start_listing(&mut self, from: Id, slot: u32, correlation: u32) -> Result<(), Refused> {
        let (Some(room), Some(peer)) = (self.rooms.get(slot), self.peers.get_mut(from)) else { return Ok(()) };
        let extra = peer.extra();
        if extra.listing.is_some() {
            return Err(Refused::plain(Code::Busy));
        }
        // All who are there when the first page is written: that may be later, and whoever comes until then is
        // in no DELTA behind it.
        extra.listing = Some(Listing { room: slot, room_id: room.id, cursor: usize::MAX, correlation });
        Ok(())
    }

    /// Writes pages of a client's listing for as long as little waits for it.
    pub(super) fn continue_listing(&mut self, id: Id, out: &mut impl Outbox) {
        loop {
            let Some(peer) = self.peers.registered(id) else { return };
            let Some(listing) = peer.extra.as_ref().and_then(|extra| extra.listing) else { return };
            // In a small queue there must be room for a page.
            if out.queued_bytes(id) >= LISTING_QUEUE_BYTES.min(self.settings.queue_bytes_max / 2) {
                out.notify_written(id, true);
                return;
            }
            let rest = self.write_page(id, listing, out);
            if let Some(extra) = self.peers.get_mut(id).and_then(|peer| peer.extra.as_mut()) {
                extra.listing = rest;
            }
        }
    }

    /// Writes one page, and says what is left.
    fn write_page(&mut self, id: Id, listing: Listing, out: &mut impl Outbox) -> Option<Listing> {
        // Who has left a room since is told no more of it than that the list ends here: its cursor is 0 then.
        let room = self.rooms.get(listing.room).filter(|room| room.id == listing.room_id);
        let mut payload = Vec::new();
        put_preamble(&mut payload, listing.room_id, room.map_or(0, |room| room.sequence));
        let mut cursor = room.map_or(0, |room| listing.cursor.min(room.members.len()));
        while let Some(room) = room.filter(|_| cursor > 0) {
            let before = payload.len();
            if let Some(peer) = self.peers.get(room.members[cursor - 1]) {
                control::put_member(&mut payload, Tag::MEMBER, peer.id, &peer.card);
            }
            if payload.len() > PAYLOAD_BYTES_FLOOR as usize {
                payload.truncate(before);
                cursor -= usize::from(planted::has(Bug::MemberSkipped));
                break;
            }
            cursor -= 1;
        }
        let flags = if cursor > 0 { Flags::MORE } else { Flags::NONE };
        let header = Header::new(Type::Snapshot).to(id).correlating(listing.correlation).flagged(flags);
        self.say(id, out, |frame| header.write_frame(frame, |out| out.extend_from_slice(&payload)));
        (cursor > 0).then_some(Listing { cursor, ..listing })
    }

    /// UPDATE: a client has a new name or says something new of itself.
    pub(super) fn update(&mut self, from: Id, payload: &[u8], out: &mut impl Outbox) -> Result<(), Refused> {
        let Update(update) = Update::parse(payload)?;
        if let Some(name) = update.name {
            if !is_valid_name(name) {
                return Err(Refused::plain(Code::BadName));
            }
            if self.access(from).is_some_and(|access| !access.may_be_called(name)) {
                return Err(Refused::denied(Denial::Name, format_args!("{name:?}")));
            }
            if self.peers.named(name).is_some_and(|other| other.id != from) {
                return Err(Refused::plain(Code::NameTaken));
            }
        }
        let mut address = String::new();
        out.put_address(from, &mut address);
        let Some(old) = self.peers.get(from).and_then(Peer::member).map(|member| member.profile) else {
            return Ok(());
        };
        let replaces_endpoints = update.endpoints.iter().any(Option::is_some);
        let card = card(
            &Profile {
                name: update.name.or(old.name),
                station: update.station.or(old.station),
                endpoints: if replaces_endpoints { update.endpoints } else { old.endpoints },
                details: update.details.or(old.details),
            },
            &address,
        );
        if self.peers.get(from).is_some_and(|peer| peer.card == card) {
            return Ok(());
        }
        let rooms = self.peers.get(from).map(|peer| peer.rooms().collect::<Vec<_>>()).unwrap_or_default();
        for slot in rooms.into_iter().chain([EVERYBODY]) {
            self.rooms.note_changed(slot, from, &card);
        }
        self.peers.set_card(from, card);
        Ok(())
    }

    /// Sends what has changed in this turn to those who watch.
    pub(super) fn send_deltas(&mut self, out: &mut impl Outbox) {
        while let Some(slot) = self.rooms.changed.pop() {
            let Some((mut changes, watchers)) = self.rooms.take_changes(slot) else { continue };
            let Some((room_id, mut sequence)) = self.rooms.get(slot).map(|room| (room.id, room.sequence)) else {
                continue;
            };
            let mut frame = std::mem::take(&mut self.frame);
            for page in pages(&changes) {
                sequence += 1;
                frame.clear();
                Header::new(Type::Delta).to(room_id).write_frame(&mut frame, |payload| {
                    put_preamble(payload, room_id, sequence);
                    payload.extend_from_slice(page);
                });
                let mut outgoing = Outgoing::to_many(&frame);
                let told = watchers.len() - usize::from(watchers.len() > 1 && planted::has(Bug::DeltaLost));
                for id in &watchers[..told] {
                    if let Some(peer) = self.peers.registered(*id) {
                        tell_of_others(peer, &mut outgoing, &self.settings, &mut self.counters, out);
                    }
                }
            }
            self.frame = frame;
            changes.clear();
            if let Some(room) = self.rooms.get_mut(slot) {
                // A storm's worth of memory is not kept for quiet times, and a room's not at all: there may be many.
                if slot == EVERYBODY && changes.capacity() <= CHANGES_BYTES_MAX {
                    room.changes = changes;
                }
                room.watchers = watchers;
                room.sequence = sequence;
            }
        }
    }
}

fn put_preamble(payload: &mut Vec<u8>, room: Id, sequence: u64) {
    if room != Id::ALL {
        body::put_integer(payload, Tag::ROOM, room.bits());
    }
    body::put_integer(payload, Tag::SEQUENCE, sequence);
}

/// Cuts records into pieces that fit one frame each.
fn pages(records: &[u8]) -> impl Iterator<Item = &[u8]> {
    let page_bytes_max = PAYLOAD_BYTES_FLOOR as usize - PREAMBLE_BYTES;
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut end = 0;
        for record in Fields::new(rest).map_while(Result::ok) {
            let next = end + 4 + record.value.len();
            if next > page_bytes_max && end > 0 {
                break;
            }
            end = next;
        }
        let (page, after) = rest.split_at(end);
        rest = after;
        (!page.is_empty()).then_some(page)
    })
}

// A record of a client with all its texts at their limits fits one frame, with its header and preamble.
const _: () = {
    use crate::wire::{DETAILS_BYTES_MAX, ENDPOINT_BYTES_MAX, ENDPOINTS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
    let texts = NAME_BYTES_MAX + 2 * TEXT_BYTES_MAX + ENDPOINTS_MAX * ENDPOINT_BYTES_MAX + DETAILS_BYTES_MAX;
    let fields = 4 * (5 + ENDPOINTS_MAX) + 12;
    assert!(HEADER_BYTES + PREAMBLE_BYTES + texts + fields < PAYLOAD_BYTES_FLOOR as usize);
};
