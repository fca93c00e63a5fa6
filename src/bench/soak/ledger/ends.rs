//! The ends in the account: of a visit, of what others are told of it, and of the run.

use std::collections::HashSet;

use super::{Aim, Cast, Due, End, Known, Ledger, Standing, Visit};
use crate::bench::report::Account;

impl Ledger {
    /// A visit has ended. Nobody tells it any more what became of what it has sent; but what was taken in is
    /// delivered all the same.
    pub(in crate::bench::soak) fn ends(&mut self, visit: Visit, end: End) {
        for members in self.scopes.values_mut() {
            match (end, members.standing.get_mut(&visit)) {
                (End::Cut, Some(standing)) => *standing = Standing::Ghost,
                _ => drop(members.standing.remove(&visit)),
            }
        }
        self.scopes.retain(|_, members| !members.standing.is_empty() || !members.open.is_empty());
        let Some(person) = self.people.get_mut(&visit).filter(|person| person.ended.is_none()) else { return };
        person.ended = Some(end);
        let mut nameless = person.counted.saturating_sub(person.named);
        let inbound = std::mem::take(&mut person.inbound);
        let (open, due) = (std::mem::take(&mut person.open), std::mem::take(&mut person.due));
        for (sender, link) in inbound {
            for copy in link.copies {
                match (copy.aim, end) {
                    // Its sender is told that it was refused, or that it was written.
                    (Aim::One | Aim::List, _) => {}
                    (Aim::Many(_), End::Orderly) => self.skip(visit, sender, copy, None, &mut nameless),
                    (Aim::Many(_), End::Cut) => self.with_cast(sender, copy.number, |cast| {
                        // What the relay has not told of yet may reach it behind the end.
                        if copy.is_sure && cast.told.is_none() {
                            cast.sure -= 1;
                            cast.unsure += 1;
                        }
                        cast.open -= 1;
                        cast.void += 1;
                    }),
                }
            }
        }
        for ((number, to), known) in open {
            let recipient = self.people.get_mut(&to).filter(|person| person.ended != Some(End::Cut));
            let link = recipient.and_then(|person| person.inbound.get_mut(&visit));
            match link.map(|link| link.find(number).is_some()) {
                // What is still to come is known when the recipient is told that this visit has gone.
                _ if known == Known::Arrived => {}
                Some(true) => {}
                Some(false) if end == End::Orderly => self.account.lost += 1,
                // Its refusal may have been on its way, or it was written to somebody who is cut off.
                _ => self.account.cut_off += 1,
            }
        }
        // All answers that come at once stand before the end; only that a frame was written may be known too late.
        if end == End::Orderly {
            self.unanswered += due.values().filter(|due| !matches!(due, Due::Written(_))).count() as u64;
        }
        let mut told = Vec::new();
        for (at, person) in &mut self.people {
            if let Some(link) = person.inbound.get_mut(&visit) {
                link.ended = Some(end);
                told.extend(link.has_departed.then_some(*at));
            }
        }
        for at in told {
            self.departs(at, visit);
        }
    }

    /// `at` is told that `gone` has departed: nothing from it may follow.
    pub(in crate::bench::soak) fn departs(&mut self, at: Visit, gone: Visit) {
        for members in self.scopes.values_mut() {
            if members.standing.get(&gone) == Some(&Standing::Ghost) {
                members.standing.remove(&gone);
            }
        }
        let Some(person) = self.people.get_mut(&at) else { return };
        let Some(link) = person.inbound.get_mut(&gone) else { return };
        link.has_departed = true;
        // Otherwise it has not read its last words yet, among which may be why nothing has come.
        if let Some(end) = link.ended {
            for copy in std::mem::take(&mut link.copies) {
                self.skip(at, gone, copy, Some(end), &mut 0);
            }
            self.person(at).inbound.remove(&gone);
        }
    }

    /// Forgets those who have gone and whom nobody refers to any more; says who is still known.
    pub(in crate::bench::soak) fn forget(&mut self) -> HashSet<Visit> {
        let mut known: HashSet<Visit> =
            self.scopes.values().flat_map(|members| members.standing.keys()).copied().collect();
        for (visit, person) in &self.people {
            if person.ended.is_none() || !person.casts.is_empty() {
                known.insert(*visit);
                known.extend(person.inbound.keys());
                known.extend(person.open.keys().map(|(_, to)| to));
            }
        }
        self.people.retain(|visit, _| known.contains(visit));
        known
    }

    /// What became of every copy, and how many frames that were to be answered never were: ask when nothing comes any
    /// more. If somebody has stopped the run, what is open was on its way.
    pub(in crate::bench::soak) fn close(mut self, is_whole: bool) -> (Account, u64) {
        let mut open = 0;
        if !self.has_strangers {
            self.account.sent += self.unexplained;
            self.account.lost += self.unexplained;
            self.account.contradicted += self.disagreeing;
        }
        for person in self.people.values() {
            open += person.open.values().filter(|known| **known != Known::Arrived).count() as u64;
            open += person.due.values().filter(|due| matches!(due, Due::Refusal)).count() as u64;
            self.unanswered += person.due.len() as u64;
            for cast in person.casts.values() {
                let known = cast.delivered + cast.counted + cast.lost;
                let sent = cast.told.map_or(cast.sure.max(known), Cast::sum);
                self.account.sent += sent;
                open += sent.saturating_sub(known);
            }
            // Of who is here, its own list says what is open.
            let orphans = person.inbound.values().filter(|link| link.ended.is_some());
            open += orphans.map(|link| link.copies.len() as u64).sum::<u64>();
            if is_whole && !person.watches {
                self.account.contradicted += person.counted - person.named;
            }
        }
        *(if is_whole { &mut self.account.lost } else { &mut self.account.open }) += open;
        self.account.refusals = self.refusals.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        (self.account, if is_whole { self.unanswered } else { 0 })
    }
}
