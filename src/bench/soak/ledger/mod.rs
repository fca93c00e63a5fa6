//! The account of a soak: what became of every copy of every frame, while clients come, go and are cut off and
//! rooms are joined and left.
//!
//! A *visit* is one client from its connection to its end; who comes again is another visit. Each recipient has
//! a *link* from each sender, with the copies that are to come over it, in their order. A copy for one client is
//! delivered or refused. A copy for a room is delivered, or counted by a GAP that stands between its neighbours;
//! whether somebody who is just coming or going gets one is not known before the receipt, which says how many do.
//!
//! Where the promise ends, the account says so: a frame that was on its way from or to somebody whose connection was
//! cut off may have arrived or not. Such a copy is *cut off*, and nothing else is.
//!
//! Nothing here knows sockets, bytes or clocks.

mod ends;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::bench::report::Account;

/// One client from its connection to its end.
pub(super) type Visit = u32;
/// Whom a frame for many is for: everybody, or a room.
pub(super) type Scope = u32;

/// Everybody.
pub(super) const EVERYBODY: Scope = 0;

/// How a visit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has said that it goes, and has read to the end.
    Orderly,
    /// Its connection was broken in the midst of things.
    Cut,
}

/// As what a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// For its recipient alone.
    One,
    /// For its recipient and others, as a list.
    List,
    /// For a room, or everybody.
    Many(Scope),
}

/// What is to come over a link.
#[derive(Clone, Copy, Debug)]
struct Copy {
    number: u32,
    payload_bytes: u32,
    aim: Aim,
    /// Its recipient is a member for sure: if it is missing, somebody has to say so.
    is_sure: bool,
}

/// What one recipient gets from one sender.
#[derive(Debug, Default)]
struct Link {
    copies: VecDeque<Copy>,
    /// The frame that arrived last.
    last: Option<u32>,
    /// What GAPs had counted for the recipient when it arrived.
    counted_before: u64,
    /// How the sender has ended.
    ended: Option<End>,
    /// The recipient was told that the sender has gone.
    has_departed: bool,
}

/// What is known of a copy for a single client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It has arrived, and its receipt has not.
    Arrived,
    /// Its receipt has come, and it has not arrived.
    Written,
}

/// What will answer a frame.
#[derive(Clone, Copy, Debug)]
enum Due {
    Written(Visit),
    Listed {
        copies: u64,
        refused: u64,
    },
    Queued,
    /// It is for a room that is not there.
    Refusal,
}

/// A frame for many whose copies have not all met their fate.
#[derive(Debug, Default)]
struct Cast {
    payload_bytes: u32,
    /// As the receipt says: queued and skipped.
    told: Option<(u64, u64)>,
    sure: u64,
    /// For those who were coming or going.
    unsure: u64,
    /// Copies of which nothing is known yet.
    open: u64,
    delivered: u64,
    counted: u64,
    lost: u64,
    /// Copies to those who were cut off.
    void: u64,
}

#[derive(Debug, Default)]
struct Person {
    inbound: HashMap<Visit, Link>,
    /// What GAPs have counted for it, and how many of these are known by name.
    counted: u64,
    named: u64,
    /// Its own frames that will be answered.
    due: BTreeMap<u32, Due>,
    /// Its copies for single clients of which not all is known.
    open: BTreeMap<(u32, Visit), Known>,
    casts: BTreeMap<u32, Cast>,
    /// It is told of others, which a GAP counts as well.
    watches: bool,
    ended: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Sure,
    /// Coming or going.
    Unsure,
    /// Its connection was broken, and nobody has been told yet that it has departed: the relay may take it for a member.
    Ghost,
}

#[derive(Debug, Default)]
struct Members {
    standing: BTreeMap<Visit, Standing>,
    /// Frames for it whose receipt has not come.
    open: Vec<(Visit, u32)>,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    people: HashMap<Visit, Person>,
    scopes: HashMap<Scope, Members>,
    account: Account,
    refusals: BTreeMap<&'static str, u64>,
    payload_bytes: u64,
    /// Others than our own clients are there, or were: a frame for everybody has more recipients than we know.
    pub(super) has_strangers: bool,
    /// Copies that receipts tell of and nobody here has got, and receipts that do not agree with what came: those of
    /// strangers, or faults if there are none.
    unexplained: u64,
    disagreeing: u64,
    /// Frames that asked for a receipt and never had an answer; known at the end.
    unanswered: u64,
}

impl Ledger {
    /// Somebody has begun to connect: from now on it may get what is for everybody.
    pub(super) fn begins(&mut self, visit: Visit) {
        self.people.insert(visit, Person::default());
        self.comes(EVERYBODY, visit);
    }

    /// Somebody has asked to be a member, and may be one from now on.
    pub(super) fn comes(&mut self, scope: Scope, visit: Visit) {
        let members = self.scopes.entry(scope).or_default();
        members.standing.insert(visit, Standing::Unsure);
        // What is on its way may reach the relay after this.
        for (sender, number) in members.open.clone().into_iter().filter(|(sender, _)| *sender != visit) {
            let Some(cast) = self.cast(sender, number) else { continue };
            cast.unsure += 1;
            cast.open += 1;
            let copy = Copy { number, payload_bytes: cast.payload_bytes, aim: Aim::Many(scope), is_sure: false };
            let copies = &mut self.person(visit).inbound.entry(sender).or_default().copies;
            let place = copies.partition_point(|other| other.number < number);
            copies.insert(place, copy);
        }
    }

    /// Somebody is a member.
    pub(super) fn is_in(&mut self, scope: Scope, visit: Visit) {
        self.scopes.entry(scope).or_default().standing.insert(visit, Standing::Sure);
    }

    /// Somebody has asked to be no member any more.
    pub(super) fn goes(&mut self, scope: Scope, visit: Visit) {
        let Some(members) = self.scopes.get_mut(&scope) else { return };
        members.standing.insert(visit, Standing::Unsure);
        for (sender, number) in members.open.clone() {
            let Some(copy) =
                self.people.get_mut(&visit).and_then(|person| person.inbound.get_mut(&sender)?.find(number))
            else {
                continue;
            };
            if std::mem::replace(&mut copy.is_sure, false)
                && let Some(cast) = self.cast(sender, number)
            {
                cast.sure -= 1;
                cast.unsure += 1;
            }
        }
    }

    /// Somebody is no member any more.
    pub(super) fn is_out(&mut self, scope: Scope, visit: Visit) {
        if let Some(members) = self.scopes.get_mut(&scope) {
            members.standing.remove(&visit);
            if members.standing.is_empty() && members.open.is_empty() {
                self.scopes.remove(&scope);
            }
        }
    }

    /// A frame for one client is sent.
    pub(super) fn sends(&mut self, from: Visit, number: u32, to: Visit, payload_bytes: usize, wants_receipt: bool) {
        self.account.sent += 1;
        if wants_receipt {
            self.person(from).due.insert(number, Due::Written(to));
        }
        self.add_copy(from, number, to, payload_bytes, Aim::One);
    }

    /// A frame for a list of clients is sent, and asks for a receipt.
    pub(super) fn lists(&mut self, from: Visit, number: u32, to: &[Visit], payload_bytes: usize) {
        self.account.sent += to.len() as u64;
        self.person(from).due.insert(number, Due::Listed { copies: to.len() as u64, refused: 0 });
        for visit in to {
            self.add_copy(from, number, *visit, payload_bytes, Aim::List);
        }
    }

    fn add_copy(&mut self, from: Visit, number: u32, to: Visit, payload_bytes: usize, aim: Aim) {
        self.person(from).open.insert((number, to), Known::Nothing);
        let copy = Copy { number, payload_bytes: payload_bytes as u32, aim, is_sure: true };
        if let Some(person) = self.people.get_mut(&to).filter(|person| person.ended.is_none()) {
            person.inbound.entry(from).or_default().copies.push_back(copy);
        }
    }

    /// A frame for a room or for everybody is sent, and asks for a receipt.
    pub(super) fn casts(&mut self, from: Visit, number: u32, scope: Scope, payload_bytes: usize) {
        let members = self.scopes.entry(scope).or_default();
        members.open.push((from, number));
        let mut cast = Cast { payload_bytes: payload_bytes as u32, ..Cast::default() };
        for (visit, standing) in members.standing.iter().filter(|(visit, _)| **visit != from) {
            if *standing == Standing::Ghost {
                cast.unsure += 1;
                cast.void += 1;
                continue;
            }
            let Some(person) = self.people.get_mut(visit) else { continue };
            let is_sure = *standing == Standing::Sure;
            let copy = Copy { number, payload_bytes: payload_bytes as u32, aim: Aim::Many(scope), is_sure };
            person.inbound.entry(from).or_default().copies.push_back(copy);
            *(if is_sure { &mut cast.sure } else { &mut cast.unsure }) += 1;
            cast.open += 1;
        }
        let person = self.person(from);
        person.due.insert(number, Due::Queued);
        person.casts.insert(number, cast);
    }

    /// A frame is sent to a room that is not there any more: it must be refused.
    pub(super) fn probes(&mut self, from: Visit, number: u32) {
        self.account.sent += 1;
        self.person(from).due.insert(number, Due::Refusal);
    }

    /// A frame has arrived as it was sent, as far as its bytes tell; says whether it was to come.
    pub(super) fn arrives(&mut self, to: Visit, from: Visit, number: u32, payload_bytes: usize, aim: Aim) -> bool {
        let Some(person) = self.people.get_mut(&to) else { return false };
        let counted = person.counted;
        let Some(link) = person.inbound.get_mut(&from) else {
            self.account.damaged += 1;
            return false;
        };
        let place = link.copies.partition_point(|copy| copy.number < number);
        let Some(copy) = link.copies.get(place).copied().filter(|copy| copy.number == number) else {
            // It has come already, or it comes too late, or it was refused or counted; or it is not for this client.
            if link.last.is_some_and(|last| number <= last) || link.has_departed {
                self.account.misordered += 1;
            } else {
                self.account.damaged += 1;
            }
            return false;
        };
        if copy.payload_bytes as usize != payload_bytes || copy.aim != aim {
            self.account.damaged += 1;
            return false;
        }
        link.last = Some(number);
        let counted_before = std::mem::replace(&mut link.counted_before, counted);
        let ended = link.ended;
        let skipped: Vec<Copy> = link.copies.drain(..=place).take(place).collect();
        let mut nameless = counted - counted_before.max(person.named.min(counted));
        for copy in skipped {
            self.skip(to, from, copy, ended, &mut nameless);
        }
        self.account.delivered += 1;
        self.payload_bytes += payload_bytes as u64;
        match aim {
            Aim::Many(_) => self.with_cast(from, number, |cast| {
                cast.delivered += 1;
                cast.open -= 1;
            }),
            Aim::One | Aim::List => {
                let Some(sender) = self.people.get_mut(&from) else { return true };
                if matches!(sender.due.get(&number), Some(Due::Written(_))) {
                    sender.open.insert((number, to), Known::Arrived);
                } else {
                    sender.open.remove(&(number, to));
                }
            }
        }
        true
    }

    /// A later frame than this has arrived, or no more can come. `nameless` frames were counted in its place.
    fn skip(&mut self, to: Visit, from: Visit, copy: Copy, sender_ended: Option<End>, nameless: &mut u64) {
        match (copy.aim, sender_ended) {
            // Its sender will be told, or it is missing in the end.
            (Aim::One | Aim::List, None) => {}
            (Aim::One | Aim::List, Some(End::Orderly)) => self.account.lost += 1,
            (Aim::One | Aim::List, Some(End::Cut)) => self.account.cut_off += 1,
            (Aim::Many(_), _) => {
                let is_counted = *nameless > 0;
                if is_counted {
                    *nameless -= 1;
                    self.person(to).named += 1;
                    self.account.counted += 1;
                } else if copy.is_sure {
                    self.account.lost += 1;
                }
                self.with_cast(from, copy.number, |cast| {
                    cast.open -= 1;
                    cast.counted += u64::from(is_counted);
                    cast.lost += u64::from(!is_counted && copy.is_sure);
                });
            }
        }
    }

    /// A frame has arrived that is not as it was sent, or from nobody.
    pub(super) fn is_damaged(&mut self) {
        self.account.damaged += 1;
    }

    /// Whether a visit has ended.
    pub(super) fn has_ended(&self, visit: Visit) -> bool {
        self.people.get(&visit).is_none_or(|person| person.ended.is_some())
    }

    /// Somebody is told of others from now on.
    pub(super) fn watches(&mut self, visit: Visit) {
        self.person(visit).watches = true;
    }

    /// A GAP says that so many frames are missing here.
    pub(super) fn misses(&mut self, visit: Visit, frames: u64) {
        let person = self.person(visit);
        person.counted = person.counted.saturating_add(frames);
    }

    /// A frame with this number was refused, for one client if the refusal names it.
    pub(super) fn is_refused(&mut self, from: Visit, number: u32, to: Option<Visit>, why: &'static str) {
        let person = self.people.entry(from).or_default();
        let copies = match (person.due.get_mut(&number), to) {
            (Some(Due::Refusal), None) => {
                person.due.remove(&number);
                1
            }
            (Some(Due::Queued), None) => self.refuse_cast(from, number),
            (due, Some(to)) if person.open.get(&(number, to)) == Some(&Known::Nothing) => {
                if let Some(Due::Listed { refused, .. }) = due {
                    *refused += 1;
                } else if due.is_some() {
                    person.due.remove(&number);
                }
                person.open.remove(&(number, to));
                if let Some(link) = self.people.get_mut(&to).and_then(|person| person.inbound.get_mut(&from)) {
                    link.copies.retain(|copy| copy.number != number);
                }
                1
            }
            // It was delivered, or refused before, or never sent.
            _ => {
                self.account.contradicted += 1;
                return;
            }
        };
        self.account.refused += copies;
        *self.refusals.entry(why).or_default() += copies;
    }

    /// A frame for many reaches nobody.
    fn refuse_cast(&mut self, from: Visit, number: u32) -> u64 {
        let person = self.person(from);
        person.due.remove(&number);
        let Some(cast) = person.casts.remove(&number) else { return 0 };
        for members in self.scopes.values_mut() {
            members.open.retain(|open| *open != (from, number));
        }
        for person in self.people.values_mut() {
            if let Some(link) = person.inbound.get_mut(&from) {
                link.copies.retain(|copy| copy.number != number);
            }
        }
        self.account.contradicted += cast.delivered + cast.counted;
        self.account.sent += cast.sure + cast.unsure;
        cast.sure + cast.unsure
    }

    /// The receipt of a frame for one client: it was handed to its recipient's socket.
    pub(super) fn is_written(&mut self, from: Visit, number: u32) {
        let person = self.person(from);
        let Some(Due::Written(to)) = person.due.get(&number).copied() else {
            self.account.contradicted += 1;
            return;
        };
        person.due.remove(&number);
        if person.open.get(&(number, to)) == Some(&Known::Arrived) {
            person.open.remove(&(number, to));
            return;
        }
        let ended = self.people.get(&to).map_or(Some(End::Cut), |person| person.ended);
        match ended {
            // It must arrive.
            None => {
                self.person(from).open.insert((number, to), Known::Written);
                return;
            }
            Some(End::Orderly) => self.account.lost += 1,
            Some(End::Cut) => self.account.cut_off += 1,
        }
        self.person(from).open.remove(&(number, to));
    }

    /// The receipt of a frame for several: to how many it was queued, and to how many not.
    pub(super) fn is_queued(&mut self, from: Visit, number: u32, queued: u64, skipped: u64) {
        let person = self.person(from);
        match person.due.remove(&number) {
            Some(Due::Listed { copies, refused }) => {
                if Cast::sum((queued, skipped)) != copies || skipped != refused {
                    self.account.contradicted += 1;
                }
            }
            Some(Due::Queued) => {
                for members in self.scopes.values_mut() {
                    members.open.retain(|open| *open != (from, number));
                }
                self.scopes.retain(|_, members| !members.standing.is_empty() || !members.open.is_empty());
                let Some(cast) = self.cast(from, number) else { return };
                let told = Cast::sum((queued, skipped));
                let (least, most) = (cast.sure, cast.sure + cast.unsure);
                cast.told = Some((queued, skipped));
                self.account.contradicted += u64::from(told < least);
                self.disagreeing += u64::from(told > most);
                self.with_cast(from, number, |_| {});
            }
            _ => self.account.contradicted += 1,
        }
    }

    /// Whether something is to come from one to the other.
    pub(super) fn is_open_between(&self, from: Visit, to: Visit) -> bool {
        self.people.get(&to).and_then(|person| person.inbound.get(&from)).is_some_and(|link| !link.copies.is_empty())
    }

    /// All pairs of which something is to come from the first to the second.
    pub(super) fn open_links(&self) -> Vec<(Visit, Visit)> {
        let links =
            self.people.iter().flat_map(|(to, person)| person.inbound.iter().map(move |(from, link)| (from, to, link)));
        links.filter(|(_, _, link)| !link.copies.is_empty()).map(|(from, to, _)| (*from, *to)).collect()
    }

    /// How many copies and answers have not come yet.
    pub(super) fn open(&self) -> u64 {
        let person = |person: &Person| {
            let links: usize = person.inbound.values().map(|link| link.copies.len()).sum();
            (links + person.due.len() + person.open.len()) as u64
        };
        self.people.values().map(person).sum()
    }

    /// Copies delivered so far.
    pub(super) const fn delivered(&self) -> u64 {
        self.account.delivered
    }

    /// Payload bytes delivered so far.
    pub(super) const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    fn person(&mut self, visit: Visit) -> &mut Person {
        self.people.entry(visit).or_default()
    }

    fn cast(&mut self, from: Visit, number: u32) -> Option<&mut Cast> {
        self.people.get_mut(&from)?.casts.get_mut(&number)
    }

    /// Changes a frame for many, and closes it once all is known.
    fn with_cast(&mut self, from: Visit, number: u32, change: impl FnOnce(&mut Cast)) {
        let Some(person) = self.people.get_mut(&from) else { return };
        let Some(cast) = person.casts.get_mut(&number) else { return };
        change(cast);
        let Some((queued, skipped)) = cast.told.filter(|_| cast.open == 0) else { return };
        let known = cast.delivered + cast.counted + cast.lost;
        let told = Cast::sum((queued, skipped));
        // What else was queued was queued for those who were cut off.
        let void = told.saturating_sub(known).min(cast.void);
        self.account.sent += known + void;
        self.account.cut_off += void;
        self.unexplained += told.saturating_sub(known + void);
        self.account.contradicted += u64::from(known > told);
        let is_exact = cast.void == 0 && cast.lost == 0 && told == known;
        self.disagreeing += u64::from(is_exact && cast.counted != skipped);
        person.casts.remove(&number);
    }
}

impl Cast {
    /// All copies that a receipt tells of.
    const fn sum((queued, skipped): (u64, u64)) -> u64 {
        queued.saturating_add(skipped)
    }
}

impl Link {
    /// The copy with this number, if it is still to come.
    fn find(&mut self, number: u32) -> Option<&mut Copy> {
        let place = self.copies.partition_point(|copy| copy.number < number);
        self.copies.get_mut(place).filter(|copy| copy.number == number)
    }
}
