//! Who is here: one compact record for each connection, and the table of names.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::access::Badge;
use super::login::Login;
use crate::planted::{self, Bug};
use crate::time::{Tick, Time};
use crate::wire::control::Member;
use crate::wire::{HELLO_BYTES_MAX, Id};

/// Where a client stands between its connection and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not said HELLO.
    Greeting,
    /// It has said HELLO, and has not proved who it is or not been answered yet.
    Authenticating,
    /// It is registered.
    Registered,
    /// It has departed; what is queued for it may still be on its way.
    Leaving,
}

/// One connection. What every frame needs is here; what only some clients have is behind `extra`.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its id; `Id::RELAY` in an empty slot.
    pub(super) id: Id,
    /// What others are told of it, as it stands in a record on the wire; its name comes first. Empty until
    /// it is registered.
    pub(super) card: Box<[u8]>,
    pub(super) extra: Option<Box<Extra>>,
    /// The largest payload that it sends or takes.
    pub(super) payload_bytes_max: u32,
    pub(super) keepalive_ms: u32,
    last_heard: Tick,
    /// Its place among the members of the room of everybody.
    pub(super) place: u32,
    /// Who it is, and what it is asked for with every frame.
    pub(super) badge: Badge,
    pub(super) state: State,
    /// Frames have been skipped, and its GAP has not been queued yet.
    pub(super) has_gap: bool,
    /// Its own frames are not taken until it has read what it was sent.
    pub(super) paused: bool,
    /// A PING is on its way to it, and nothing was heard since.
    pub(super) is_asked: bool,
}

// Less than a cache line: the memory of an idle client is a promise.
const _: () = assert!(size_of::<Peer>() <= 56);

/// What a client has only if it uses rooms, presence or receipts, or does not keep up; or while it is not a client yet.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// What is kept of its HELLO until it has proved who it is.
    pub(super) login: Option<Box<Login>>,
    /// The rooms that it is in, and its places there.
    pub(super) memberships: Vec<Membership>,
    /// Its place among those who watch everybody.
    pub(super) watching: Option<u32>,
    /// An answer to WATCH or WHO that is still under way.
    pub(super) listing: Option<Listing>,
    /// Frames to it whose senders want to know when they are written, in the order of the stream.
    pub(super) receipts: VecDeque<PendingReceipt>,
    /// What it has missed.
    pub(super) gap_frames: u64,
    pub(super) gap_bytes: u64,
}

/// A client in a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) room: u32,
    /// Its place among the members.
    pub(super) place: u32,
    /// Its place among those who watch the room.
    pub(super) watching: Option<u32>,
    /// Its user may send to the room.
    pub(super) may_send: bool,
}

/// An answer of several pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    pub(super) room: u32,
    pub(super) room_id: Id,
    /// Members below this place have not been listed. Downwards, because a member that leaves is
    /// replaced by the last one: nobody can slip past.
    pub(super) cursor: usize,
    pub(super) correlation: u32,
}

/// A frame whose sender wants to know when it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingReceipt {
    /// Where the frame ends in the recipient's stream.
    pub(super) position: u64,
    pub(super) sender: Id,
    pub(super) correlation: u32,
}

impl Peer {
    fn vacant() -> Self {
        Self {
            id: Id::RELAY,
            card: Box::default(),
            extra: None,
            payload_bytes_max: 0,
            keepalive_ms: 0,
            last_heard: Tick::NEVER,
            place: 0,
            badge: Badge::NOBODY,
            state: State::Leaving,
            has_gap: false,
            paused: false,
            is_asked: false,
        }
    }

    /// Notes a sign of life; rounded up, so that no silence is taken for longer than it is. Says whether it had been
    /// asked for one.
    pub(super) const fn heard(&mut self, now: Time) -> bool {
        self.last_heard = Tick::not_before(now);
        std::mem::replace(&mut self.is_asked, false)
    }

    pub(super) const fn last_heard(&self) -> Time {
        self.last_heard.time()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.state == State::Registered
    }

    pub(super) fn name(&self) -> &str {
        name_of(&self.card)
    }

    /// What its card says, parsed; it was written by [`Member::write_card`].
    pub(super) fn member(&self) -> Option<Member<'_>> {
        Member::parse_card(self.id, &self.card).ok()
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Whether the outbox has to say what it has written for this client.
    pub(super) fn wants_notice(&self) -> bool {
        let extra = self.extra.as_ref();
        self.has_gap || self.paused || extra.is_some_and(|e| e.listing.is_some() || !e.receipts.is_empty())
    }
}

/// The name in a card: its first field.
fn name_of(card: &[u8]) -> &str {
    let Some(([_, _, l0, l1], rest)) = card.split_first_chunk() else { return "" };
    let name = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1]))).unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default()
}

/// Names that the table is made for at most: about ten megabytes, of which those are touched that are used.
const NAMES_MAX: usize = 1 << 20;

/// All connections, by slot, and the names of the registered.
#[derive(Debug)]
pub(super) struct Peers {
    slots: Vec<Peer>,
    /// Slots of registered clients by their name. Clients choose names, so the hash has a random key.
    names: HashTable<u32>,
    hasher: RandomState,
}

impl Peers {
    /// Nobody, and a table of names for `most`, so that it need not grow while thousands come. It is less than half full
    /// then, so that names that go leave hardly a trace for which it would have to be made anew.
    pub(super) fn new(most: usize) -> Self {
        let names = HashTable::with_capacity(most.min(NAMES_MAX) * 2);
        Self { slots: Vec::new(), names, hasher: RandomState::new() }
    }

    /// Takes in a connection.
    pub(super) fn insert(&mut self, id: Id, now: Time) {
        let index = id.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Peer::vacant);
        }
        self.slots[index] = Peer {
            id,
            payload_bytes_max: HELLO_BYTES_MAX,
            last_heard: Tick::not_before(now),
            state: State::Greeting,
            ..Peer::vacant()
        };
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(peer) = self.get_mut(id) {
            *peer = Peer::vacant();
        }
    }

    /// The connection with this id, in whatever state.
    pub(super) fn get(&self, id: Id) -> Option<&Peer> {
        self.slots.get(id.index()).filter(|peer| peer.id == id || planted::has(Bug::StaleGeneration))
    }

    /// The connection with this id, in whatever state.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Peer> {
        self.slots.get_mut(id.index()).filter(|peer| peer.id == id || planted::has(Bug::StaleGeneration))
    }

    /// The registered client with this id.
    pub(super) fn registered(&mut self, id: Id) -> Option<&mut Peer> {
        self.get_mut(id).filter(|peer| peer.state == State::Registered)
    }

    /// The registered client with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Peer> {
        let slot = self.names.find(self.hasher.hash_one(name), |slot| self.slots[*slot as usize].name() == name)?;
        self.slots.get(*slot as usize)
    }

    /// Gives a client its card, and its name with it. Its name must not be taken by another.
    pub(super) fn set_card(&mut self, id: Id, card: Box<[u8]>) {
        self.forget_name(id);
        let Some(peer) = self.get_mut(id) else { return };
        peer.card = card;
        let slots = &self.slots;
        let hash = |slot: &u32| self.hasher.hash_one(slots[*slot as usize].name());
        let slot = id.index() as u32;
        self.names.insert_unique(hash(&slot), slot, hash);
    }

    /// Lets others take a client's name; the card stays, for the log.
    pub(super) fn forget_name(&mut self, id: Id) {
        let Some(peer) = self.get(id) else { return };
        let hash = self.hasher.hash_one(peer.name());
        if let Ok(entry) = self.names.find_entry(hash, |slot| *slot as usize == id.index()) {
            entry.remove();
        }
    }

    /// What is kept of a HELLO, which is then kept here no longer: a client that has proved who it is should cost no more
    /// than one that need not.
    pub(super) fn take_login(&mut self, id: Id) -> Option<Box<Login>> {
        let peer = self.get_mut(id)?;
        let login = peer.extra.as_mut()?.login.take();
        if !peer.has_gap {
            // Before it is registered nothing else is there.
            peer.extra = None;
        }
        login
    }

    /// Connections in `count` slots from `start` on.
    pub(super) fn in_slots(&self, start: usize, count: usize) -> impl Iterator<Item = &Peer> {
        self.slots.iter().skip(start).take(count).filter(|peer| peer.id != Id::RELAY)
    }

    /// Slots, empty ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// All connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter(|peer| peer.id != Id::RELAY)
    }

    pub(super) fn check_consistency(&self) {
        let mut registered = 0;
        for peer in self.iter() {
            if peer.state == State::Registered {
                registered += 1;
                let found = self.named(peer.name()).map(|found| found.id);
                assert_eq!(found, Some(peer.id), "the name {:?} leads to its owner", peer.name());
            }
            let is_kept = peer.extra.as_ref().is_some_and(|extra| extra.login.is_some());
            assert_eq!(is_kept, peer.state == State::Authenticating, "{:?}: a HELLO is kept until it is done", peer.id);
            let missed = peer.extra.as_ref().is_some_and(|extra| extra.gap_frames > 0);
            assert_eq!(peer.has_gap, missed, "{:?}: what was missed will be told", peer.id);
        }
        assert_eq!(self.names.len(), registered, "a name for each registered client");
    }
}
