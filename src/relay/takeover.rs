//! Whether a user's connection can have the name that it wants: it may be its own old connection that holds it.
//!
//! Half-open connections give way: whoever loses its network comes back long before the relay knows that it had gone.
//! Either the old connection goes at once, told so that it does not come back and push out the new one in turn; or it
//! is asked for a sign of life first, and the new one waits for that.

use log::debug;

use super::access::Badge;
use super::counters::Denial;
use super::login::{Kept, Proof};
use super::outbox::Outbox;
use super::peers::{Peer, State};
use super::settings::Takeover;
use super::{Refused, Relay};
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::control::{Body, Hello, Ping};
use crate::wire::{Code, Header, Id, Type};

/// What becomes of somebody who has proved to be a user and wants a name.
pub(super) enum Claim {
    /// It has the name.
    Granted(Badge),
    /// Its own other connection is to show life, or else give way.
    Probing,
}

/// A connection that is to show life because its user wants its name for another one.
#[derive(Debug)]
pub(super) struct Probe {
    holder: Id,
    newcomer: Id,
    /// When the holder had been heard of when it was asked.
    heard: Time,
    has_answered: bool,
}

impl Relay {
    /// Checks what a user's connection wants to be called, and makes the name free if it can be.
    pub(super) fn claim(
        &mut self,
        newcomer: Id,
        kept: &Kept,
        proof: &Proof,
        now: Time,
        out: &mut impl Outbox,
    ) -> Result<Claim, Refused> {
        // What was proved against a list that does not hold any more may not be true by the new one.
        let is_current = kept.list == self.rights.changes || planted::has(Bug::OldProofBelieved);
        let badge = self.rights.badge(&proof.user).filter(|_| is_current);
        let badge = badge.ok_or(Refused::plain(Code::AccessChanged))?;
        let hello = Hello::parse(&kept.hello).map_err(|_| Refused::plain(Code::BadHello))?;
        let name = hello.profile.name.unwrap_or_default();
        if self.rights.access(badge).is_some_and(|access| !access.may_be_called(name)) {
            let object = format!("{name:?} for the user {:?}", proof.user);
            return Err(Refused { denial: Some(Denial::Name), object, ..Refused::plain(Code::NameDenied) });
        }
        let probe = self.take_probe(newcomer);
        if let Some(holder) = self.peers.named(name).map(|holder| holder.id) {
            // By the new list it may be gone.
            self.review_one(holder, now, out);
        }
        let Some(holder) = self.peers.named(name) else { return Ok(Claim::Granted(badge)) };
        if !holder.badge.is_of_same_user(badge) && !planted::has(Bug::AnybodysName) {
            return Err(Refused::plain(Code::HelloNameTaken));
        }
        // Whoever is in the midst of a frame, or is not read from, cannot answer, and is not silent either.
        let is_silent =
            probe.as_ref().is_some_and(|probe| probe.is_unanswered_by(holder)) && !out.is_receiving(holder.id);
        let gives_way = is_silent && !planted::has(Bug::GhostKept);
        let id = holder.id;
        match (self.settings.takeover, probe) {
            (Takeover::Replace, _) => {
                debug!("{newcomer} takes {name:?} over from {id}, of the same user");
                self.fail(id, Code::TakenOver, "", now, out);
            }
            (Takeover::Reject, None) => {
                self.probe(id, newcomer, now, out);
                return Ok(Claim::Probing);
            }
            (Takeover::Reject, Some(_)) if gives_way => self.fail(id, Code::IdleTimeout, "", now, out),
            (Takeover::Reject, Some(_)) => return Err(Refused::plain(Code::HelloNameTaken)),
        }
        Ok(Claim::Granted(badge))
    }

    /// Asks a connection for a sign of life, for another that waits for it.
    fn probe(&mut self, holder: Id, newcomer: Id, now: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.registered(holder) else { return };
        self.probes.push(Probe { holder, newcomer, heard: peer.last_heard(), has_answered: false });
        if !std::mem::replace(&mut peer.is_asked, true) {
            self.counters.pings += 1;
            let ping = Ping { clock_us: Some(now.micros()) };
            self.say(holder, out, |frame| ping.write_frame(Header::new(Type::Ping).to(holder), frame));
        }
    }

    fn take_probe(&mut self, newcomer: Id) -> Option<Probe> {
        let place = self.probes.iter().position(|probe| probe.newcomer == newcomer)?;
        Some(self.probes.swap_remove(place))
    }

    /// A client that was asked has shown life: whoever wants its name is told at the next tick.
    pub(super) fn show_life(&mut self, holder: Id, now: Time, out: &mut impl Outbox) {
        for probe in self.probes.iter_mut().filter(|probe| probe.holder == holder) {
            probe.has_answered = true;
            out.set_deadline(probe.newcomer, Some(now));
        }
    }

    /// A connection has ended: it does not wait for a name any more, and whoever waits for its name can have it.
    pub(super) fn end_probes(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        self.probes.retain(|probe| probe.newcomer != id);
        self.show_life(id, now, out);
    }

    /// Nobody waits for a name who is registered or gone.
    pub(super) fn check_probes(&self) {
        for probe in &self.probes {
            let state = self.peers.get(probe.newcomer).map(|peer| peer.state);
            assert_eq!(state, Some(State::Authenticating), "{:?} waits for a name", probe.newcomer);
        }
    }
}

impl Probe {
    fn is_unanswered_by(&self, holder: &Peer) -> bool {
        self.holder == holder.id && !self.has_answered && self.heard == holder.last_heard()
    }
}
