//! What users may do: who somebody is at a glance, what is denied, and a list of users that changes.
//!
//! Place in the flow: `login` gives a client its [`Badge`] when it is registered; `delivery`, `rooms` and `presence` ask
//! here before they do what not everybody may. Whoever may do everything is told from the others by two bits of its own
//! record, so nobody pays for permissions who is not restricted by any.
//!
//! What it does not do: it reads no file and proves no identity. What a user may do is `auth`'s to know.

use std::fmt;

use log::{Level, info, log, warn};

use super::counters::Denial;
use super::outbox::Outbox;
use super::peers::Peer;
use super::rooms::EVERYBODY;
use super::{Refused, Relay};
use crate::auth::{Access, Attempts, User, UserKey, Users};
use crate::planted::{self, Bug};
use crate::throttle::Throttle;
use crate::time::Time;
use crate::wire::{Code, Id, IdKind};

/// Who a client is, and what is asked for each of its frames, in four bytes of its record.
///
/// ```text
///  31                30                29             28 ... 0
///  | addresses only | may not send to | which of two | the user's key; all ones:     |
///  | some clients   | all             | lists        | nobody, who may do everything |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge(u32);

impl Badge {
    const ONLY_SOME: u32 = 1 << 31;
    const NOT_ALL: u32 = 1 << 30;
    const LIST: u32 = 1 << 29;
    const KEY: u32 = Self::LIST - 1;
    /// Of a client at a relay without users.
    pub(super) const NOBODY: Self = Self(Self::KEY);

    const fn nobody(list: usize) -> Self {
        Self(Self::KEY | if list == 0 { 0 } else { Self::LIST })
    }

    fn of(key: UserKey, access: &Access, list: usize) -> Self {
        let mut bits = (key.bits() & Self::KEY) | (Self::nobody(list).0 & Self::LIST);
        if !access.addresses_everyone() {
            bits |= Self::ONLY_SOME;
        }
        if !access.may_send_to_all() {
            bits |= Self::NOT_ALL;
        }
        Self(bits)
    }

    /// It may not address every client: whom it may is to be looked up.
    pub(super) const fn addresses_only_some(self) -> bool {
        self.0 & Self::ONLY_SOME != 0
    }

    pub(super) const fn may_send_to_all(self) -> bool {
        self.0 & Self::NOT_ALL == 0
    }

    /// Both of the newest list.
    pub(super) fn is_of_same_user(self, other: Self) -> bool {
        self.key().is_some() && self.list() == other.list() && self.key() == other.key()
    }

    const fn list(self) -> usize {
        (self.0 & Self::LIST != 0) as usize
    }

    const fn key(self) -> Option<u32> {
        if self.0 & Self::KEY == Self::KEY { None } else { Some(self.0 & Self::KEY) }
    }
}

/// The users, and all that is remembered of those who tried to be one.
#[derive(Debug)]
pub(super) struct Rights {
    /// The newest list and the one before it, which is kept until nobody's badge is of it.
    lists: [Option<Box<Users>>; 2],
    newest: usize,
    /// How often the list has changed: what was checked against another one is not believed.
    pub(super) changes: u32,
    /// Connections in slots from here on have not been looked up in the newest list.
    review: Option<usize>,
    /// Connections that had to go because of it.
    ended: u64,
    pub(super) attempts: Attempts,
    /// A client can be denied something with every frame, and fail with every connection.
    pub(super) log: Throttle,
}

impl Rights {
    pub(super) fn new(attempts: Attempts, log_per_second_max: u32) -> Self {
        Self {
            lists: [None, None],
            newest: 0,
            changes: 0,
            review: None,
            ended: 0,
            attempts,
            log: Throttle::new(log_per_second_max),
        }
    }

    /// The list of users, if this relay asks who somebody is.
    pub(super) fn users(&self) -> Option<&Users> {
        self.lists[self.newest].as_deref()
    }

    /// The badge of a user of the newest list.
    pub(super) fn badge(&self, name: &str) -> Option<Badge> {
        let users = self.users()?;
        let key = users.find(name)?;
        Some(Badge::of(key, users.user(key).access(), self.newest))
    }

    /// The user that a badge stands for.
    pub(super) fn user(&self, badge: Badge) -> Option<&User> {
        let users = self.lists[badge.list()].as_deref()?;
        badge.key().map(|key| users.user(UserKey::from_bits(key)))
    }

    /// What the bearer of a badge may do; everything, if there is nothing.
    pub(super) fn access(&self, badge: Badge) -> Option<&Access> {
        self.user(badge).map(User::access)
    }

    /// The badge of a client at a relay without users.
    pub(super) fn nobody(&self) -> Badge {
        Badge::nobody(self.newest)
    }

    fn is_current(&self, badge: Badge) -> bool {
        badge.list() == self.newest
    }

    /// The badge that a client gets out of the newest list; none if it may not stay.
    fn reviewed(&self, peer: &Peer, rooms: &super::rooms::Rooms) -> Option<Badge> {
        let Some(users) = self.users() else { return Some(Badge::nobody(self.newest)) };
        let old = self.user(peer.badge)?;
        let key = users.find(old.name())?;
        let new = users.user(key);
        let stays = new.keeps_ways_in_of(old)
            && new.access().may_be_called(peer.name())
            && (new.access().may_watch() || !peer.is_told_of(EVERYBODY))
            && peer.rooms().all(|slot| rooms.get(slot).is_none_or(|room| new.access().may_join(&room.name)));
        stays.then(|| Badge::of(key, new.access(), self.newest))
    }
}

impl Relay {
    /// The same relay with users, whom it asks to prove who they are.
    #[must_use]
    pub fn with_users(mut self, users: Box<Users>) -> Self {
        self.rights.lists[self.rights.newest] = Some(users);
        self
    }

    /// Has another list of users hold from now on, or none: then everybody is let in.
    ///
    /// Who is connected is looked up in it little by little: see [`Relay::review`]. Whoever may stay keeps what it has and
    /// may from then on do what the new list says; whoever may not (its user is gone, or its way in; it has a name, is in a
    /// room or watches where it may not any more) is closed with [`Code::AccessChanged`].
    pub fn set_users(&mut self, users: Option<Box<Users>>, now: Time, out: &mut impl Outbox) {
        // Of two lists at a time there are badges, not of three.
        while self.review(now, out) {}
        let rights = &mut self.rights;
        rights.newest ^= 1;
        rights.changes = rights.changes.wrapping_add(1);
        rights.lists[rights.newest] = users;
        (rights.review, rights.ended) = (Some(0), 0);
    }

    /// Goes on looking up who is connected in a new list, some at a time; says whether there are more. The server asks
    /// for it in each turn, and does not wait for anything else while there are.
    pub fn review(&mut self, now: Time, out: &mut impl Outbox) -> bool {
        let Some(start) = self.rights.review else { return false };
        let most = self.settings.reviews_turn_max.max(1);
        let mut ids: Vec<Id> = self.peers.in_slots(start, most).map(|peer| peer.id).collect();
        ids.truncate(ids.len() - usize::from(!ids.is_empty() && planted::has(Bug::ReviewCutShort)));
        for id in ids {
            self.review_one(id, now, out);
        }
        let end = start.saturating_add(most);
        let is_over = end >= self.peers.slots();
        self.rights.review = (!is_over).then_some(end);
        if is_over {
            self.rights.lists[self.rights.newest ^ 1] = None;
            if self.rights.ended > 0 {
                info!("connections that had to go with the new list of users: {}", self.rights.ended);
            }
        }
        !is_over
    }

    /// Whether [`Relay::review`] has something left to do.
    #[must_use]
    pub const fn is_reviewing(&self) -> bool {
        self.rights.review.is_some()
    }

    /// Looks a registered client up in the newest list, unless that has been done.
    pub(super) fn review_one(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.registered(id).filter(|peer| !self.rights.is_current(peer.badge)) else { return };
        let Some(badge) = self.rights.reviewed(peer, &self.rooms) else {
            self.rights.ended += 1;
            return self.fail(id, Code::AccessChanged, "", now, out);
        };
        peer.badge = badge;
        let access = self.rights.access(badge);
        for membership in peer.extra.iter_mut().flat_map(|extra| &mut extra.memberships) {
            let name = self.rooms.get(membership.room).map_or("", |room| &room.name);
            let is_kept = planted::has(Bug::RightKept) && membership.may_send;
            membership.may_send = is_kept || access.is_none_or(|access| access.may_send(name));
        }
    }

    /// What a client may do; everything, if there is nothing.
    pub(super) fn access(&self, id: Id) -> Option<&Access> {
        self.rights.access(self.peers.get(id)?.badge)
    }

    /// Whether a client that may address only some may address this one, and what it is told if not.
    ///
    /// Who may watch knows who is here, and is told the truth. To others somebody whom they may not address is no other
    /// than somebody who is not here: nobody is found by trying one id after the other.
    #[inline(never)]
    pub(super) fn check_address(&self, badge: Badge, to: Id) -> Result<(), Code> {
        let Some(access) = self.rights.access(badge) else { return Ok(()) };
        match self.peers.get(to).filter(|peer| peer.is_registered()) {
            Some(peer) if access.may_address(peer.name()) => Ok(()),
            None if access.may_watch() || access.addresses_everyone() => Err(Code::NoSuchClient),
            _ => Err(Code::Denied),
        }
    }

    /// What a client is told of a room that is not there. Who may not know who is here is told nothing else of one that is,
    /// unless it is in it: nobody finds rooms by trying one id after the other.
    #[cold]
    pub(super) fn no_such_room(&self, from: Id) -> Code {
        let may_know = self.access(from).is_none_or(Access::may_watch);
        if may_know { Code::NoSuchRoom } else { Code::NotMember }
    }

    /// Counts what a client was denied, and says so in the log, unless that has said enough: only then `object` is asked
    /// what it was about.
    #[cold]
    pub(super) fn note_denial(
        &mut self,
        id: Id,
        denial: Denial,
        object: impl FnOnce(&Self) -> String,
        times: u32,
        now: Time,
        out: &impl Outbox,
    ) {
        self.counters.denied[denial.ordinal()] += u64::from(times);
        self.note_held_back(now);
        if self.rights.log.admit(now)
            && let Some(peer) = self.peers.get(id)
        {
            let user = self.rights.user(peer.badge).map_or("", User::name);
            let mut who = "a newcomer at ".to_owned();
            if let Some(member) = peer.member().filter(|_| peer.is_registered()) {
                who = format!("{:?} of the user {user:?} at {}", peer.name(), member.address);
            } else {
                out.put_address(id, &mut who);
            }
            // Programs that show who is here ask for that whether they may or not.
            let level = if denial == Denial::Watch { Level::Info } else { Level::Warn };
            log!(level, "denied {id}, {who}: {} ({})", denial.meaning(), object(self));
        }
    }

    /// Whom or what an id stands for, for the log.
    #[cold]
    pub(super) fn described(&self, id: Id) -> String {
        match id.kind() {
            IdKind::All => "all".to_owned(),
            IdKind::Room => {
                let room = self.rooms.slot(id).and_then(|slot| self.rooms.get(slot));
                room.map_or_else(|| id.to_string(), |room| format!("#{}", room.name.escape_debug()))
            }
            _ => match self.peers.get(id).filter(|peer| peer.is_registered()) {
                Some(peer) => format!("{:?}", peer.name()),
                None => id.to_string(),
            },
        }
    }

    pub(super) fn note_held_back(&mut self, now: Time) {
        let held_back = self.rights.log.take_held_back(now);
        if held_back > 0 {
            warn!("{held_back} more attempts to authenticate or to do something have failed");
        }
    }
}

impl Refused {
    /// Somebody asks for a client that it may not address, or that is not here.
    pub(super) fn of_address(code: Code, to: String) -> Self {
        if code == Code::Denied { Self::denied(Denial::Address, to) } else { Self::plain(code) }
    }

    /// Somebody asks for what it may not have: this.
    pub(super) fn denied(denial: Denial, object: impl fmt::Display) -> Self {
        let refused = Self::because(Code::Denied, denial.meaning());
        Self { denial: Some(denial), object: object.to_string(), ..refused }
    }
}

const _: () = assert!(size_of::<Badge>() == 4);
