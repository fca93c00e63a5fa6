//! From a HELLO to the registration of whoever has proved to be a user: mechanisms, and answers that come late.
//!
//! ```text
//!   greet ─► begin_login ─┬─ SCRAM: AUTH out ─► Asked ─► AUTH in ─┬─► conclude ─┬─ wrong ─► Failed ··► AUTH_FAILED
//!                         └─ TOKEN, EXTERNAL ─────────────────────┘             └─ right ─► Passed ··► enrol ─► welcome
//! ```
//!
//! A dotted way is taken when the connection's deadline comes: an answer that should come late waits for it, and nobody
//! sleeps. What is kept of a HELLO meanwhile is boxed, and dropped when the client is registered.
//!
//! What it does not do: the mathematics and the bookkeeping of failures are `auth`'s, and whether a name can be had is
//! `takeover`'s.

use std::fmt;
use std::time::Duration;

use log::warn;

use super::outbox::Outbox;
use super::peers::State;
use super::session::Admission;
use super::takeover::Claim;
use super::{Refused, Relay};
use crate::auth::scram::{ScramError, ServerExchange};
use crate::auth::{Binding, Mechanism};
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::control::{Auth, Body, Hello};
use crate::wire::{Code, Header, Id, Run, Type};

/// A connection between its HELLO and its registration.
#[derive(Debug)]
pub(super) struct Login {
    kept: Kept,
    stage: Stage,
}

/// What is kept of its HELLO.
pub(super) struct Kept {
    /// The payload.
    pub(super) hello: Box<[u8]>,
    /// That of the HELLO, which every answer has.
    correlation: u32,
    mechanism: Mechanism,
    /// The list of users that held then: see [`super::access::Rights::changes`].
    pub(super) list: u32,
}

/// Without the HELLO, which can hold a token.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.mechanism.name())
    }
}

#[derive(Debug)]
enum Stage {
    /// The relay has said its part; the client's is to come.
    Asked(ServerExchange),
    /// It has failed, and is told so when it is time.
    Failed,
    /// It has proved who it is, and goes on when it is time.
    Passed(Proof),
}

/// What a client has proved.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) user: Box<str>,
    /// The relay's own proof, for WELCOME.
    answer: Option<String>,
}

impl Relay {
    /// The mechanisms that somebody could use on this connection, the one to prefer first.
    pub(super) fn offered(&self, id: Id, out: &impl Outbox) -> Vec<Mechanism> {
        let Some(users) = self.rights.users() else { return Vec::new() };
        let is_offered = |mechanism: &Mechanism| match mechanism {
            Mechanism::ScramSha256Plus => users.has_passwords() && out.channel_binding(id).is_some(),
            Mechanism::ScramSha256 => users.has_passwords(),
            Mechanism::External => users.has_certificates() && out.certificate_user(id, &mut String::new()),
            Mechanism::Token => users.has_tokens() && out.is_private(id),
        };
        Mechanism::ALL.into_iter().filter(is_offered).collect()
    }

    /// A good HELLO at a relay that asks who somebody is.
    pub(super) fn begin_login(
        &mut self,
        id: Id,
        run: &Run<'_>,
        hello: &Hello<'_>,
        now: Time,
        out: &mut impl Outbox,
    ) -> Result<(), Refused> {
        let name = hello.mechanism.ok_or(Refused::plain(Code::AuthRequired))?;
        let mechanism = Mechanism::named(name).filter(|known| self.offered(id, out).contains(known));
        let mechanism = mechanism.ok_or(Refused::plain(Code::BadMechanism))?;
        if mechanism.is_password() {
            self.check_attempts(id, now, out)?;
        }
        let (correlation, list) = (run.header().correlation, self.rights.changes);
        let kept = Kept { hello: run.payload().into(), correlation, mechanism, list };
        let data = hello.auth_data.unwrap_or_default();
        // Whom it says to be; a token says nobody.
        let (tried, user) = match mechanism {
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                match self.begin_exchange(id, mechanism, data, out) {
                    Ok((exchange, challenge)) => {
                        self.ask(id, Login { kept, stage: Stage::Asked(exchange) }, &challenge, now, out);
                    }
                    Err(why) => self.conclude(id, kept, None, Err(why), now, out),
                }
                return Ok(());
            }
            Mechanism::Token => (None, self.bearer(data)),
            Mechanism::External => {
                let mut name = String::new();
                let is_shown = out.certificate_user(id, &mut name);
                let is_said = data.is_empty() || data == name.as_bytes();
                let user = self.certified(&name).filter(|_| is_shown && is_said);
                (Some(name), user)
            }
        };
        let proof = user.map(|user| Proof { user, answer: None }).ok_or(None);
        self.conclude(id, kept, tried.as_deref(), proof, now, out);
        Ok(())
    }

    /// Whether another attempt from where this connection comes from is looked at.
    fn check_attempts(&mut self, id: Id, now: Time, out: &impl Outbox) -> Result<(), Refused> {
        let Some(left) = self.rights.attempts.refusal(out.origin(id), now) else { return Ok(()) };
        self.note_held_back(now);
        if self.rights.log.admit(now) {
            let mut address = String::new();
            out.put_address(id, &mut address);
            let seconds = left.as_secs_f64();
            warn!("{id} at {address} is not heard: too many passwords from there were wrong; {seconds:.0} s are left");
        }
        Err(Refused::plain(Code::TooManyAttempts))
    }

    /// The user that a token is for.
    fn bearer(&self, token: &[u8]) -> Option<Box<str>> {
        let users = self.rights.users()?;
        Some(users.user(users.by_token(token)?).name().into())
    }

    /// The user that a certificate is for.
    fn certified(&self, name: &str) -> Option<Box<str>> {
        let users = self.rights.users()?;
        let user = users.user(users.find(name)?);
        (user.may_use_certificate() || planted::has(Bug::CertificateUnchecked)).then(|| user.name().into())
    }

    fn begin_exchange(
        &self,
        id: Id,
        mechanism: Mechanism,
        client_first: &[u8],
        out: &mut impl Outbox,
    ) -> Result<(ServerExchange, String), Option<ScramError>> {
        let users = self.rights.users().ok_or(None)?;
        let unbound = if self.settings.binds_channels { Binding::Withheld } else { Binding::None };
        let binding = out.channel_binding(id).map_or(unbound, Binding::Exporter);
        let is_plus = mechanism == Mechanism::ScramSha256Plus;
        let lookup = |name: &str| users.verifier_or_mock(name).1;
        let nonce = out.nonce().ok_or(None)?;
        ServerExchange::begin_with(client_first, is_plus, binding, lookup, &nonce).map_err(Some)
    }

    /// Says the relay's part of an exchange, and waits for the client's.
    fn ask(&mut self, id: Id, login: Login, challenge: &str, now: Time, out: &mut impl Outbox) {
        let header = Header::new(Type::Auth).correlating(login.kept.correlation);
        let auth = Auth { data: challenge.as_bytes() };
        self.say(id, out, |frame| auth.write_frame(header, frame));
        self.hold(id, login, now + self.settings.auth.exchange_deadline, out);
    }

    /// Keeps a login until something comes of it, at the latest at `until`.
    fn hold(&mut self, id: Id, login: Login, until: Time, out: &mut impl Outbox) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.state = State::Authenticating;
        peer.extra().login = Some(Box::new(login));
        out.set_deadline(id, Some(until));
    }

    /// A frame of a connection that has said HELLO and is not registered.
    pub(super) fn prove(&mut self, id: Id, run: &Run<'_>, now: Time, out: &mut impl Outbox) {
        let header = run.header();
        let login = self.peers.take_login(id).map(|login| *login);
        let Some(Login { kept, stage: Stage::Asked(exchange) }) =
            login.filter(|_| header.frame_type() == Some(Type::Auth))
        else {
            let refused = Refused::because(Code::OutOfOrder, "nothing but an AUTH that was asked for is taken here");
            return self.fail_with(id, header.correlation, &refused, now, out);
        };
        // Others from there may have failed since the HELLO: nobody gets more attempts by making them side by side.
        if let Err(refused) = self.check_attempts(id, now, out) {
            return self.fail_with(id, kept.correlation, &refused, now, out);
        }
        let user = exchange.user().to_owned();
        let data = Auth::parse(run.payload()).map_err(|_| ScramError::Malformed);
        let proven = data.and_then(|auth| exchange.finish(auth.data)).map_err(Some);
        let proof = proven.map(|(user, answer)| Proof { user: user.into(), answer: Some(answer) });
        self.conclude(id, kept, Some(&user), proof, now, out);
    }

    /// It is known whether somebody is who it says, or why not; `tried` is the name, if it gave one. The answer comes when it
    /// is time.
    fn conclude(
        &mut self,
        id: Id,
        kept: Kept,
        tried: Option<&str>,
        proof: Result<Proof, Option<ScramError>>,
        now: Time,
        out: &mut impl Outbox,
    ) {
        let (origin, mechanism) = (out.origin(id), kept.mechanism);
        // Only passwords can be guessed: whoever has a token or a certificate neither waits nor is refused because others
        // guess, has nobody refused by failing, and forgives nobody by coming.
        let guessed = tried.filter(|_| mechanism.is_password());
        let (stage, delay) = match proof {
            Ok(proof) => {
                self.counters.authenticated[mechanism as usize] += 1;
                let delay = self.rights.attempts.delay(guessed, now);
                // It waits because others have failed, and must not have to go before it is welcomed because others come.
                out.settle(id);
                (Stage::Passed(proof), delay)
            }
            Err(why) => {
                self.counters.auth_failed[mechanism as usize] += 1;
                self.log_failure(id, mechanism, tried, why, now, out);
                // What could not have been right whatever the password is guesses nothing.
                let is_guess = why == Some(ScramError::Proof);
                let attempts = &mut self.rights.attempts;
                let at_least = attempts.delay(guessed, now);
                let (origin, guessed) = (origin.filter(|_| is_guess), guessed.filter(|_| is_guess));
                let is_counted = !planted::has(Bug::FailuresUncounted);
                let late = attempts.failed(origin.filter(|_| is_counted), guessed, now).max(at_least);
                (Stage::Failed, if planted::has(Bug::FailureToldAtOnce) { Duration::ZERO } else { late })
            }
        };
        self.hold(id, Login { kept, stage }, now + delay, out);
        if delay.is_zero() {
            self.go_on(id, now, out);
        }
    }

    /// What the client is told depends on nothing of this.
    fn log_failure(
        &mut self,
        id: Id,
        mechanism: Mechanism,
        tried: Option<&str>,
        why: Option<ScramError>,
        now: Time,
        out: &impl Outbox,
    ) {
        self.note_held_back(now);
        if self.rights.log.admit(now) {
            let mut address = String::new();
            out.put_address(id, &mut address);
            // The client is not told this, the operator is.
            let found =
                tried.and_then(|name| self.rights.users().map(|users| users.find(name).map(|key| users.user(key))));
            let why = match (mechanism, found) {
                (Mechanism::Token, _) => "nobody has this token".to_owned(),
                (_, Some(None)) => "there is no such user".to_owned(),
                (Mechanism::External, Some(Some(user))) if user.may_use_certificate() => {
                    "it says another name than its certificate".to_owned()
                }
                (Mechanism::External, _) => "the user's line lacks the word `certificate`".to_owned(),
                (_, Some(Some(user))) if !user.has_password() => "the user has no password".to_owned(),
                _ => why.map_or_else(|| "it cannot be read".to_owned(), |why| why.to_string()),
            };
            let whom = tried.map_or_else(|| "who it is".to_owned(), |name| format!("to be {name:?}"));
            warn!("{id} at {address} has not proved by {} {whom}: {why}", mechanism.name());
        }
    }

    /// The deadline of somebody who is not registered yet has come.
    pub(super) fn go_on(&mut self, id: Id, now: Time, out: &mut impl Outbox) {
        let Some(login) = self.peers.take_login(id) else { return };
        let Login { kept, stage } = *login;
        match stage {
            Stage::Asked(_) => self.fail(id, Code::AuthTimeout, "", now, out),
            Stage::Failed => self.fail_with(id, kept.correlation, &Refused::plain(Code::AuthFailed), now, out),
            Stage::Passed(proof) => self.enrol(id, kept, proof, now, out),
        }
    }

    /// Registers somebody who has proved to be a user, if the name that it wants can be had.
    fn enrol(&mut self, id: Id, kept: Kept, proof: Proof, now: Time, out: &mut impl Outbox) {
        match self.claim(id, &kept, &proof, now, out) {
            Ok(Claim::Granted(badge)) => {
                let Ok(hello) = Hello::parse(&kept.hello) else { return };
                let answer = proof.answer.as_deref();
                let admission = Admission { correlation: kept.correlation, hello: &hello, badge, proof: answer };
                self.welcome(id, &admission, now, out);
            }
            Ok(Claim::Probing) => {
                let until = now + self.settings.takeover_probe;
                self.hold(id, Login { kept, stage: Stage::Passed(proof) }, until, out);
            }
            Err(refused) => self.fail_with(id, kept.correlation, &refused, now, out),
        }
    }
}
