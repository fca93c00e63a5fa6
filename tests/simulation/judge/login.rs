//! Who somebody is, and what it may do: logins with their deadlines, failures that are told late, names that change hands,
//! and lists of users that are changed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use switchboard::auth::{AuthSettings, Mechanism};
use switchboard::relay::{Denial, Takeover};
use switchboard::time::Time;
use switchboard::wire::control::{Body, Evict, Hello};
use switchboard::wire::{Code, HEADER_BYTES, Header, Id, Type};

use super::{Arrival, Facts, GRAIN_US, Judge, conn_of};
use crate::doors::Door;
use crate::people::{Login, People, Rights, has_room, name, token};
use crate::secure::Version;

/// What the judge knows of the users.
#[derive(Debug, Default)]
pub(super) struct Users {
    people: People,
    /// The list that holds, and how often there has been another one.
    list: usize,
    changes: u32,
    /// Those who are registered in slots from here on have not been held against it.
    review: Option<usize>,
    /// The salt and the iterations that somebody who is there, or is not, has been asked with.
    questions: HashMap<(String, bool), String>,
    /// Failures by name, with the last one's time, and by address, with the first one's.
    names: HashMap<String, Failures>,
    origins: HashMap<IpAddr, Failures>,
    /// Clients that were to be asked for a sign of life since this was looked at.
    probes: u64,
    /// Those of them who had not been asked since they were last heard.
    probes_due: u64,
    pub(super) authenticated: [u64; Mechanism::ALL.len()],
    pub(super) failed: [u64; Mechanism::ALL.len()],
    pub(super) denied: [u64; Denial::COUNT],
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    at: Time,
}

/// How a connection came, and who it is.
#[derive(Debug)]
pub(super) struct Identity {
    door: Door,
    /// The list that held when its client set out.
    set_out: usize,
    /// The user whose certificate it shows.
    certificate: Option<usize>,
    origin: IpAddr,
    attempt: Option<Attempt>,
    /// Once it is registered: its user, and the list that says what it may do.
    user: Option<usize>,
    list: usize,
    /// The relay has to prove that it knew the password.
    pub(super) has_proof: bool,
}

/// A login, from HELLO to its end.
#[derive(Clone, Debug)]
struct Attempt {
    /// Whom it says to know the password of, if it has one.
    said: Option<String>,
    user: Option<usize>,
    mechanism: Mechanism,
    is_right: bool,
    hello: Vec<u8>,
    changes: u32,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The relay has asked; the answer has to come by then.
    Asked { until: Time, is_told: bool },
    /// It is told so then.
    Failed { at: Time },
    /// It is let in then.
    Passed { at: Time },
    /// The name that it wants is another connection's of the same user, which is to show life by then, and was heard last
    /// before this.
    Probing { holder: Id, heard: Time, until: Time, has_ended: bool },
}

impl Identity {
    pub(super) const fn new(arrival: &Arrival, origin: IpAddr) -> Self {
        let (door, set_out, certificate) = (arrival.door, arrival.list, arrival.certificate);
        Self { door, set_out, certificate, origin, attempt: None, user: None, list: 0, has_proof: false }
    }

    /// Its login comes to nothing.
    pub(super) fn give_up(&mut self) {
        self.attempt = None;
    }

    pub(super) const fn is_proving(&self) -> bool {
        self.attempt.is_some()
    }

    /// When something must have become of its login.
    pub(super) fn until(&self) -> Option<Time> {
        self.attempt.as_ref().map(|attempt| match attempt.stage {
            Stage::Asked { until, .. } | Stage::Probing { until, .. } => until,
            Stage::Failed { at } | Stage::Passed { at } => at,
        })
    }

    pub(super) fn user_name(&self) -> Option<String> {
        self.user.map(name)
    }
}

impl Users {
    pub(super) fn new(people: People) -> Self {
        Self { people, ..Self::default() }
    }

    pub(super) const fn ask(&self) -> bool {
        self.people.ask()
    }

    fn rights(&self, user: usize, list: usize) -> Option<&Rights> {
        self.people.lists[list].get(user)?.as_ref()
    }

    fn by_name(&self, said: &str) -> Option<usize> {
        (0..self.people.count()).find(|user| name(*user) == said && self.rights(*user, self.list).is_some())
    }

    fn by_token(&self, data: &[u8]) -> Option<usize> {
        let has = |user: &usize| {
            let number = self.rights(*user, self.list).and_then(|rights| rights.token);
            number.is_some_and(|number| token(*user, number).as_bytes() == data)
        };
        (0..self.people.count()).find(has)
    }

    fn by_certificate(&self, user: usize, data: &[u8]) -> Option<usize> {
        let may_use = self.rights(user, self.list).is_some_and(|rights| rights.certificate);
        (may_use && (data.is_empty() || data == name(user).as_bytes())).then_some(user)
    }

    /// How late an answer for this name comes because of those before it.
    fn delay(&self, said: &str, auth: &AuthSettings, now: Time) -> Duration {
        let Some(failures) = self.names.get(said).filter(|failures| now.since(failures.at) < auth.failures_memory)
        else {
            return Duration::ZERO;
        };
        let doubled = 1_u32.checked_shl(failures.count - 1).unwrap_or(u32::MAX);
        auth.delay.saturating_mul(doubled).min(auth.delay_max)
    }

    fn is_refused(&self, origin: IpAddr, auth: &AuthSettings, now: Time) -> bool {
        self.origins.get(&origin).is_some_and(|failures| {
            failures.count >= auth.failures_per_origin_max && now.since(failures.at) < auth.failures_window
        })
    }

    fn fail(&mut self, said: &str, origin: IpAddr, auth: &AuthSettings, now: Time) {
        let failures = self.names.entry(said.to_owned()).or_insert(Failures { count: 0, at: now });
        let is_over = now.since(failures.at) >= auth.failures_memory;
        *failures = Failures { count: if is_over { 1 } else { failures.count + 1 }, at: now };
        let failures = self.origins.entry(origin).or_insert(Failures { count: 0, at: now });
        if now.since(failures.at) >= auth.failures_window {
            *failures = Failures { count: 0, at: now };
        }
        failures.count += 1;
    }
}

impl Judge {
    /// How a connection came that the service has just been told of.
    pub(super) fn identify(&mut self, id: Id, arrival: &Arrival, origin: IpAddr) {
        self.record(id).identity = Some(Identity::new(arrival, origin));
    }

    fn identity(&mut self, id: Id) -> &mut Identity {
        self.record(id).identity.as_mut().unwrap_or_else(|| panic!("{id} has come in no way"))
    }

    /// Whether a connection has said HELLO, and is not in.
    pub(super) fn is_proving(&self, id: Id) -> bool {
        self.records.get(&id).is_some_and(|record| record.identity.as_ref().is_some_and(Identity::is_proving))
    }

    /// The ways to prove something that a connection is offered.
    pub(super) fn offered(&self, id: Id) -> Vec<Mechanism> {
        let identity = self.records[&id].identity.as_ref();
        let version = identity.and_then(|identity| identity.door.tls);
        let has_certificate = identity.is_some_and(|identity| identity.certificate.is_some());
        let users = self.users.people.lists.get(self.users.list);
        let has_tokens = users.is_some_and(|users| users.iter().flatten().any(|rights| rights.token.is_some()));
        let has_certificates = users.is_some_and(|users| users.iter().flatten().any(|rights| rights.certificate));
        let is_offered = |mechanism: &Mechanism| match mechanism {
            Mechanism::ScramSha256Plus => version == Some(Version::V13),
            Mechanism::ScramSha256 => true,
            Mechanism::External => has_certificate && has_certificates,
            Mechanism::Token => version.is_some() && has_tokens,
        };
        Mechanism::ALL.into_iter().filter(is_offered).collect()
    }

    /// For how long nothing more is taken from where a connection comes from.
    pub(super) fn refused_for(&self, id: Id, now: Time) -> Duration {
        let origin = self.records[&id].identity.as_ref().map(|identity| identity.origin);
        let failures = origin.and_then(|origin| self.users.origins.get(&origin));
        failures.map_or(Duration::ZERO, |failures| {
            self.settings.auth.failures_window.saturating_sub(now.since(failures.at))
        })
    }

    fn auth(&self) -> AuthSettings {
        self.settings.auth.clone()
    }

    /// A good HELLO at a relay that asks who somebody is.
    pub(super) fn begin_login(
        &mut self,
        from: Id,
        header: &Header,
        payload: &[u8],
        hello: &Hello<'_>,
        facts: &Facts<'_>,
        now: Time,
    ) {
        let (auth, changes) = (self.auth(), self.users.changes);
        let (door, origin) = (self.identity(from).door, self.identity(from).origin);
        let Some(mechanism) = hello.mechanism else {
            return self.fail_for(from, header.correlation, Code::AuthRequired, facts);
        };
        let Some(mechanism) = self.offered(from).into_iter().find(|offered| offered.name() == mechanism) else {
            return self.fail_for(from, header.correlation, Code::BadMechanism, facts);
        };
        self.record(from).final_correlation = header.correlation;
        let data = hello.auth_data.unwrap_or_default();
        if !mechanism.is_password() {
            let user = match self.identity(from).certificate.filter(|_| mechanism == Mechanism::External) {
                None => self.users.by_token(data),
                Some(user) => self.users.by_certificate(user, data),
            };
            let (stage, is_right) = (Stage::Failed { at: now }, user.is_some());
            let attempt = Attempt { said: None, user, mechanism, is_right, hello: payload.to_vec(), changes, stage };
            return self.conclude(from, attempt, facts, now);
        }
        if self.users.is_refused(origin, &auth, now) {
            return self.fail_for(from, header.correlation, Code::TooManyAttempts, facts);
        }
        let text = String::from_utf8_lossy(data);
        let said = text.split(',').find_map(|part| part.strip_prefix("n=")).expect("a name").to_owned();
        let user = self.users.by_name(&said);
        // It has the password of the list by which it set out.
        let set_out = self.identity(from).set_out;
        let password =
            |list: usize| user.and_then(|user| self.users.rights(user, list)).map_or(0, |rights| rights.password);
        let is_right =
            password(set_out) == password(self.users.list) && user.is_some() && door.login.is_honest(door.tls);
        let stage = Stage::Asked { until: now + auth.exchange_deadline, is_told: false };
        let hello = payload.to_vec();
        self.identity(from).attempt =
            Some(Attempt { said: Some(said), user, mechanism, is_right, hello, changes, stage });
    }

    /// A frame of somebody who has said HELLO and is not registered.
    pub(super) fn prove(&mut self, from: Id, header: &Header, facts: &Facts<'_>, now: Time) {
        let (auth, correlation) = (self.auth(), self.record(from).final_correlation);
        let identity = self.identity(from);
        let (origin, login) = (identity.origin, identity.door.login);
        let attempt = identity.attempt.take().expect("it is proving");
        let is_asked = matches!(attempt.stage, Stage::Asked { .. });
        if !is_asked || header.frame_type() != Some(Type::Auth) {
            return self.fail_for(from, header.correlation, Code::OutOfOrder, facts);
        }
        assert!(!matches!(login, Login::Silent | Login::Impatient), "{from} has answered");
        if self.users.is_refused(origin, &auth, now) {
            return self.fail_for(from, correlation, Code::TooManyAttempts, facts);
        }
        self.conclude(from, attempt, facts, now);
    }

    fn conclude(&mut self, from: Id, attempt: Attempt, facts: &Facts<'_>, now: Time) {
        let (auth, origin) = (self.auth(), self.identity(from).origin);
        let said = attempt.said.clone();
        let mut delay = said.as_ref().map_or(Duration::ZERO, |said| self.users.delay(said, &auth, now));
        let stage = if attempt.is_right {
            self.users.authenticated[attempt.mechanism as usize] += 1;
            self.entry.settle(conn_of(from));
            Stage::Passed { at: now + delay }
        } else {
            self.users.failed[attempt.mechanism as usize] += 1;
            delay = delay.max(auth.delay.min(auth.delay_max));
            // What cannot be right whatever the password is guesses nothing.
            let door = self.identity(from).door;
            let is_guess =
                door.login != Login::Garbled && (door.login != Login::BoundElsewhere || door.login.is_honest(door.tls));
            if let Some(said) = said.as_ref().filter(|_| is_guess) {
                self.users.fail(said, origin, &auth, now);
            }
            Stage::Failed { at: now + delay }
        };
        self.identity(from).attempt = Some(Attempt { stage, ..attempt });
        if delay.is_zero() {
            self.go_on(from, false, facts, now);
        }
    }

    /// Whether a connection that waits for its login has its deadline now.
    pub(super) fn login_deadline(&mut self, id: Id, may_answer: bool, has_queued: bool, facts: &Facts<'_>, now: Time) {
        let Some(attempt) = self.identity(id).attempt.clone() else { return };
        let is_time = |at: Time| assert!(now.micros() + GRAIN_US >= at.micros(), "{id} is told before {at:?}");
        match attempt.stage {
            Stage::Asked { until, is_told } => {
                is_time(until);
                assert!(is_told || has_queued, "{id} has been told nothing that it could answer");
                self.identity(id).attempt = None;
                return self.fail(id, Code::AuthTimeout, facts);
            }
            Stage::Failed { at } | Stage::Passed { at } => is_time(at),
            Stage::Probing { holder, heard, until, has_ended } => {
                let has_shown_life = self.records.get(&holder).is_none_or(|record| record.life.heard != heard);
                if !has_shown_life && !has_ended {
                    is_time(until);
                }
            }
        }
        self.go_on(id, may_answer, facts, now);
    }

    /// What was to come late comes. `may_answer`: the holder of a name that was asked for a sign of life could not give it.
    fn go_on(&mut self, id: Id, may_answer: bool, facts: &Facts<'_>, now: Time) {
        let correlation = self.record(id).final_correlation;
        let attempt = self.identity(id).attempt.take().expect("it is proving");
        if matches!(attempt.stage, Stage::Failed { .. }) {
            return self.fail_for(id, correlation, Code::AuthFailed, facts);
        }
        match self.claim(&attempt, may_answer, facts, now) {
            Ok(None) => {
                let (user, list) = (attempt.user, self.users.list);
                let identity = self.identity(id);
                (identity.user, identity.list) = (user, list);
                identity.has_proof = attempt.said.is_some();
                let hello = Hello::parse(&attempt.hello).expect("a good HELLO");
                let header = Header::new(Type::Hello).correlating(correlation);
                self.welcome(id, &header, &hello, now);
            }
            Ok(Some(stage)) => self.identity(id).attempt = Some(Attempt { stage, ..attempt }),
            Err(code) => self.fail_for(id, correlation, code, facts),
        }
    }

    /// Whether somebody can have the name that it wants, or must wait for it.
    fn claim(
        &mut self,
        attempt: &Attempt,
        may_answer: bool,
        facts: &Facts<'_>,
        now: Time,
    ) -> Result<Option<Stage>, Code> {
        let user = attempt.user.expect("it is right");
        if attempt.changes != self.users.changes {
            return Err(Code::AccessChanged);
        }
        let rights = self.users.rights(user, self.users.list).ok_or(Code::AccessChanged)?;
        let hello = Hello::parse(&attempt.hello).expect("a good HELLO");
        let wanted = hello.profile.name.unwrap_or_default();
        if !self.users.people.may_be_called(user, rights, wanted) {
            self.users.denied[Denial::Name.ordinal()] += 1;
            return Err(Code::NameDenied);
        }
        if let Some(holder) = self.named(wanted) {
            self.review_one(holder, facts);
        }
        let Some(holder) = self.named(wanted) else { return Ok(None) };
        if self.identity(holder).user != Some(user) {
            return Err(Code::HelloNameTaken);
        }
        let heard = self.record(holder).life.heard;
        match (self.settings.takeover, &attempt.stage) {
            (Takeover::Replace, _) => {
                self.fail(holder, Code::TakenOver, facts);
                Ok(None)
            }
            (Takeover::Reject, Stage::Probing { holder: asked, heard: before, has_ended, .. }) => {
                if *asked != holder || *before != heard || *has_ended || may_answer {
                    return Err(Code::HelloNameTaken);
                }
                self.fail(holder, Code::IdleTimeout, facts);
                Ok(None)
            }
            (Takeover::Reject, _) => {
                let life = &mut self.record(holder).life;
                let is_asked = std::mem::replace(&mut life.was_asked, true);
                self.users.probes += 1;
                self.users.probes_due += u64::from(!is_asked);
                let until = now + self.settings.takeover_probe;
                Ok(Some(Stage::Probing { holder, heard, until, has_ended: false }))
            }
        }
    }

    /// Who is asked for a sign of life for the sake of this connection.
    pub(crate) fn probed_by(&self, id: Id) -> Option<Id> {
        match &self.records.get(&id)?.identity.as_ref()?.attempt.as_ref()?.stage {
            Stage::Probing { holder, .. } => Some(*holder),
            _ => None,
        }
    }

    /// A client has gone, or said something: those who wait for its name may hear of that.
    pub(super) fn end_probes(&mut self, gone: Id) {
        let ids: Vec<Id> = self.alive.iter().copied().filter(|id| self.probed_by(*id) == Some(gone)).collect();
        for id in ids {
            if let Some(Attempt { stage: Stage::Probing { has_ended, .. }, .. }) = &mut self.identity(id).attempt {
                *has_ended = true;
            }
        }
    }

    /// The relay has asked so many clients for a sign of life while it handled something.
    pub(crate) fn probed(&mut self, pings: u64) {
        let (most, least) = (std::mem::take(&mut self.users.probes), std::mem::take(&mut self.users.probes_due));
        assert!((least..=most).contains(&pings), "{pings} are asked for a sign of life, of {least} to {most}");
        self.ledger.pings += pings;
    }

    /// The relay asks somebody who it is.
    pub(super) fn asked(&mut self, id: Id, correlation: u32, question: &[u8]) {
        assert!(self.users.ask(), "{id} is asked who it is by a relay without users");
        let answered = self.record(id).final_correlation;
        let Some(Attempt { stage: Stage::Asked { is_told, .. }, user, said, .. }) = &mut self.identity(id).attempt
        else {
            // It may be written when the login has gone on.
            return;
        };
        assert!(!std::mem::replace(is_told, true), "{id} is asked twice");
        assert_eq!(correlation, answered, "which HELLO {id} is asked about");
        // Whoever is not there is asked the same each time, as if it were.
        let who = (said.clone().unwrap_or_default(), user.is_some());
        let question = String::from_utf8_lossy(question);
        let (_, hash) = question.split_once(",s=").unwrap_or_else(|| panic!("{id} is asked {question:?}"));
        let known = self.users.questions.entry(who).or_insert_with(|| hash.to_owned());
        assert_eq!(known, hash, "with which salt {id} is asked");
        assert!(hash.ends_with(",i=4096"), "{id} is asked for another number of iterations than others: {hash}");
    }

    /// What a client may do; everything, at a relay that asks nobody.
    fn rights(&self, id: Id) -> Option<&Rights> {
        let identity = self.records.get(&id)?.identity.as_ref()?;
        self.users.rights(identity.user?, identity.list)
    }

    pub(super) fn is_allowed(&self, id: Id, may: impl Fn(&Rights) -> bool) -> bool {
        self.rights(id).is_none_or(may)
    }

    /// The same, and notes that it was denied.
    pub(super) fn check(&mut self, id: Id, what: Denial, may: impl Fn(&Rights) -> bool) -> Result<(), Code> {
        if self.is_allowed(id, may) {
            return Ok(());
        }
        self.users.denied[what.ordinal()] += 1;
        Err(Code::Denied)
    }

    pub(crate) fn may_watch(&self, id: Id) -> bool {
        self.is_allowed(id, |rights| rights.watch)
    }

    /// Who may not know who is here is told of a room that is not there what it is told of others that it is not in.
    pub(super) fn no_such_room(&self, from: Id) -> Code {
        if self.may_watch(from) { Code::NoSuchRoom } else { Code::NotMember }
    }

    /// Whether a client may have this name.
    pub(super) fn check_name(&mut self, id: Id, name: &str) -> Result<(), Code> {
        let user = self.identity(id).user.unwrap_or_default();
        let people = self.users.people.clone();
        self.check(id, Denial::Name, |rights| people.may_be_called(user, rights, name))
    }

    pub(super) fn check_join(&mut self, id: Id, room: &str) -> Result<(), Code> {
        self.check(id, Denial::Join, |rights| has_room(rights.join, room))?;
        let is_new = !self.rooms.contains_key(room);
        self.check(id, Denial::Create, |rights| !is_new || has_room(rights.create, room))
    }

    /// Whether a client may address another one, and what it is told if not.
    pub(super) fn check_address(&mut self, from: Id, to: Id) -> Result<(), Code> {
        let Some(rights) = self.rights(from).filter(|rights| rights.to.is_some()) else { return Ok(()) };
        let known = self.records.get(&to).filter(|_| self.is_registered(to));
        match known {
            Some(record) if rights.may_address(&record.card.name) => Ok(()),
            None if rights.watch => Err(Code::NoSuchClient),
            _ => {
                self.users.denied[Denial::Address.ordinal()] += 1;
                Err(Code::Denied)
            }
        }
    }

    pub(super) fn evict(&mut self, from: Id, frame: &[u8], facts: &Facts<'_>) -> Result<(), Code> {
        let Evict { client, .. } = Evict::parse(&frame[HEADER_BYTES..]).map_err(|_| Code::BadBody)?;
        let is_admin = self.rights(from).is_some_and(|rights| rights.admin);
        if !is_admin {
            self.users.denied[Denial::Administer.ordinal()] += 1;
            return Err(Code::Denied);
        }
        if client == from {
            return Err(Code::BadBody);
        }
        if !self.is_registered(client) {
            return Err(Code::NoSuchClient);
        }
        self.fail(client, Code::Evicted, facts);
        Ok(())
    }

    /// Another list of users holds from now on.
    pub(crate) fn reloaded(&mut self, list: usize) {
        self.users.list = list;
        self.users.changes += 1;
        self.users.review = Some(0);
    }

    /// Those who are registered are held against the list that holds, some in each turn.
    pub(crate) fn review(&mut self, facts: &Facts<'_>) {
        let Some(start) = self.users.review else { return };
        let end = start + self.settings.reviews_turn_max;
        let mut ids: Vec<Id> =
            self.registered.iter().copied().filter(|id| (start..end).contains(&id.index())).collect();
        ids.sort_unstable_by_key(|id| id.index());
        for id in ids {
            self.review_one(id, facts);
        }
        let is_left = self.registered.iter().any(|id| id.index() >= end);
        self.users.review = is_left.then_some(end);
    }

    /// What is left of that is done at once when another list comes.
    pub(crate) fn review_all(&mut self, facts: &Facts<'_>) {
        while self.users.review.is_some() {
            self.review(facts);
        }
    }

    fn review_one(&mut self, id: Id, facts: &Facts<'_>) {
        let list = self.users.list;
        let watches = self.scopes.get(&None).is_some_and(|scope| scope.watchers.contains(&id));
        let rooms: Vec<String> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.members.contains_key(&id))
            .map(|(name, _)| name.clone())
            .collect();
        let called = self.record(id).card.name.clone();
        // Whether a list of everybody has been queued to its end nobody sees from outside.
        let is_listing = self.record(id).may_be_told_of_all();
        let identity = self.identity(id);
        let Some(user) = identity.user else { return };
        if identity.list == list {
            return;
        }
        let old = identity.list;
        let keeps_ways = |old: &Rights, new: &Rights| {
            old.password == new.password
                && (old.token.is_none() || old.token == new.token)
                && (!old.certificate || new.certificate)
        };
        let before = self.users.rights(user, old).copied();
        let stays = self.users.rights(user, list).is_some_and(|rights| {
            before.is_some_and(|before| keeps_ways(&before, rights))
                && self.users.people.may_be_called(user, rights, &called)
                && (rights.watch || !watches && (!is_listing || facts.is_open(id)))
                && rooms.iter().all(|room| has_room(rights.join, room))
        });
        if stays {
            self.identity(id).list = list;
        } else {
            self.fail(id, Code::AccessChanged, facts);
        }
    }
}
