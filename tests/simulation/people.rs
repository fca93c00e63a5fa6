//! Users: who there is, what each may do, and how clients prove who they are.
//!
//! What is decided here is drawn from random numbers of its own, as with doors: a relay that asks nobody runs as it would if
//! there were no users at all.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use switchboard::auth::scram::{Binding, ClientExchange};
use switchboard::auth::{AuthSettings, Mechanism, SaltedPassword, TokenDigest, Users, Verifier};
use switchboard::relay::{Settings, Takeover};
use switchboard::wire::control::Welcome;

use super::doors::Door;
use super::network::Line;
use super::plan::{Action, Ask, Greeting, ROOMS, Reader, Step, Target};
use super::secure::Version;

/// As few as a users file may have: what is looked at is not the hash.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
const SALT: &[u8] = b"0123456789abcdef";
const SECRET: &str = "%secret MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const USERS_MAX: usize = 4;
/// So few clients that a pattern for each of their names fits a list.
const CLIENTS_MAX: usize = 20;
/// Lists of users in a run.
const LISTS: usize = 4;
const ALL_ROOMS: u8 = (1 << ROOMS) - 1;

/// A user of whom no list knows.
pub(crate) const STRANGER: usize = USERS_MAX;

/// The hashes of each user's two passwords, and one that is nobody's.
static SALTED: LazyLock<Vec<SaltedPassword>> = LazyLock::new(|| {
    let salted = |number: usize| SaltedPassword::new(&format!("the word {number}"), ITERATIONS, SALT);
    (0..=2 * USERS_MAX).map(salted).collect()
});

/// The users of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct People {
    /// Lists of users, of which the first holds at the beginning; none at a relay that asks nobody.
    pub(crate) lists: Vec<Vec<Option<Rights>>>,
    /// Whether those over TLS are asked for a certificate.
    pub(crate) take_certificates: bool,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub(crate) struct Rights {
    /// Which of its passwords is the right one, and which of its tokens, if any.
    pub(crate) password: usize,
    pub(crate) token: Option<u8>,
    /// Whether its certificate will do.
    pub(crate) certificate: bool,
    /// It may have the name of any client; else those of its own.
    pub(crate) any_name: bool,
    /// Rooms, a bit for each.
    pub(crate) join: u8,
    pub(crate) create: u8,
    pub(crate) send: u8,
    /// Clients whom it may address, a bit for each name; `None`: everybody.
    pub(crate) to: Option<u64>,
    pub(crate) all: bool,
    pub(crate) watch: bool,
    pub(crate) admin: bool,
}

/// How a client says who it is, at a relay that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Password,
    /// Which is taken over TLS only.
    Token,
    /// By a password whose proof is bound to the connection, where there is TLS 1.3.
    Bound,
    WrongPassword,
    WrongToken,
    /// Bound to another connection.
    BoundElsewhere,
    /// As a user who is not there.
    Stranger,
    /// It does not say how it will prove anything.
    Nohow,
    /// In a way that nobody knows.
    Otherwise,
    /// It asks for its question, and does not answer.
    Silent,
    /// It says something else in place of the answer.
    Impatient,
    /// The answer is noise.
    Garbled,
    /// By its certificate, where there is TLS.
    Certificate,
    /// The same, and it says its name.
    NamedCertificate,
    /// It says somebody else's name beside its certificate.
    OthersName,
    /// By the certificate of a user who is not there.
    StrangersCertificate,
}

impl Login {
    /// The mechanism that it asks for.
    pub(crate) fn mechanism(self, tls: Option<Version>) -> Option<&'static str> {
        match self {
            Self::Nohow => None,
            Self::Otherwise => Some("PLAIN"),
            Self::Token | Self::WrongToken => Some(Mechanism::Token.name()),
            _ if self.shows_certificate() => Some(Mechanism::External.name()),
            Self::Bound | Self::BoundElsewhere if tls == Some(Version::V13) => Some(Mechanism::ScramSha256Plus.name()),
            _ => Some(Mechanism::ScramSha256.name()),
        }
    }

    /// Whether it shows a certificate when it is asked for one.
    pub(crate) const fn shows_certificate(self) -> bool {
        matches!(self, Self::Certificate | Self::NamedCertificate | Self::OthersName | Self::StrangersCertificate)
    }

    /// Whose certificate `user` shows when it is asked for one, if any.
    pub(crate) const fn certificate_of(self, user: usize) -> Option<usize> {
        match self {
            Self::StrangersCertificate => Some(STRANGER),
            _ if self.shows_certificate() => Some(user),
            _ => None,
        }
    }

    /// Whether what a password or a token proves is true, if it comes so far and there is such a user.
    pub(crate) fn is_honest(self, tls: Option<Version>) -> bool {
        match self {
            Self::Password | Self::Token | Self::Bound => true,
            Self::BoundElsewhere => tls != Some(Version::V13),
            _ => false,
        }
    }

    fn draw(random: &mut fastrand::Rng) -> Self {
        const WRONG: [Login; 9] = [
            Login::WrongPassword,
            Login::WrongToken,
            Login::BoundElsewhere,
            Login::Stranger,
            Login::Nohow,
            Login::Otherwise,
            Login::Silent,
            Login::Impatient,
            Login::Garbled,
        ];
        WRONG[random.usize(..WRONG.len())]
    }
}

impl Rights {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut rooms = || if random.u8(..3) == 0 { random.u8(..=ALL_ROOMS) } else { ALL_ROOMS };
        let (join, create, send) = (rooms(), rooms(), rooms());
        Self {
            password: usize::from(random.u8(..4) / 3),
            token: (random.u8(..4) > 0).then(|| random.u8(..4) / 3),
            certificate: false,
            any_name: random.bool(),
            join,
            create,
            send,
            to: (random.u8(..4) == 0).then(|| random.u64(..)),
            all: random.u8(..5) > 0,
            watch: random.u8(..5) > 0,
            admin: random.u8(..3) == 0,
        }
    }

    pub(crate) fn may_address(&self, name: &str) -> bool {
        self.to.is_none_or(|names| names >> number_of(name) & 1 == 1)
    }
}

/// What another list says of a user: little is different, so that most stay.
fn change(user: Option<Rights>, number: usize, random: &mut fastrand::Rng) -> Option<Rights> {
    let other = Rights::draw(random);
    let Some(mut rights) = user else { return Some(other) };
    match random.u8(..12) {
        0 if random.bool() => rights.password ^= 1,
        0 => rights.token = other.token,
        1 => rights.any_name ^= true,
        2 => rights.join = other.join,
        3 => rights.create = other.create,
        4..=6 => rights.send = random.u8(..=ALL_ROOMS),
        7 => rights.to = other.to,
        8 => rights.all ^= true,
        9 => rights.watch ^= true,
        10 => rights.admin ^= true,
        _ if number > 0 => return None,
        _ => {}
    }
    Some(rights)
}

/// Has users of some seeds, of those with TLS, have certificates, and clients show them; says whether it is so. The random
/// numbers are its own once more.
fn take_certificates(seed: u64, lists: &mut [Vec<Option<Rights>>], steps: &mut [Step]) -> bool {
    let mut random = fastrand::Rng::with_seed(seed ^ 0xce27_1f1c);
    if random.u8(..3) > 0 {
        return false;
    }
    for user in 0..lists[0].len() {
        let may_use = random.u8(..4) > 0;
        for rights in lists.iter_mut().filter_map(|list| list[user].as_mut()) {
            rights.certificate = may_use ^ (random.u8(..5) == 0);
        }
    }
    let share = random.u8(..);
    let mut is_asked = false;
    for step in steps {
        let (Action::Connect { door, .. } | Action::Crowd { door, .. }) = &mut step.action else { continue };
        is_asked |= door.tls.is_some();
        if random.u8(..) < share {
            door.login = match random.u8(..8) {
                0 => Login::OthersName,
                1 => Login::StrangersCertificate,
                2 | 3 => Login::NamedCertificate,
                _ if door.tls.is_some() => Login::Certificate,
                _ => continue,
            };
        }
    }
    is_asked
}

/// Somebody is in rooms, and goes on sending to them while the lists change.
fn change_lists(steps: &mut Vec<Step>, client: usize, random: &mut fastrand::Rng) {
    let number = steps.last().map_or(0, |step| step.number);
    let come = Action::Connect {
        hello: Greeting::Good,
        payload_bytes_max: None,
        keepalive_ms: Some(60_000),
        line: Line::PLAIN,
        door: Door::PLAIN,
        reader: Reader::Prompt,
    };
    let mut play = |turns: u8, action: Action| steps.push(Step { number, client, action, turns });
    // Whoever guessed at its name before it makes it wait.
    let wait = Action::Pass(Duration::from_secs(5));
    for action in [Action::Reset, come, wait] {
        play(9, action);
    }
    for _ in 0..6 {
        let room = random.usize(..ROOMS);
        play(2, Action::Ask { ask: Ask::Join(room), flags: 0 });
        play(2, Action::Reload(random.usize(..LISTS)));
        let (to, payload_bytes, count, flags) = (Target::Room(room), 20, 3, random.u8(..2));
        play(2, Action::Send { to, payload_bytes, count, flags, kind: 0, type_number: 0x10 });
    }
}

/// The number of a client's or a room's name.
fn number_of(name: &str) -> usize {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{name:?} has no number"))
}

/// Whether a mask of rooms has the one of this name.
pub(crate) fn has_room(mask: u8, name: &str) -> bool {
    mask >> number_of(name) & 1 == 1
}

impl People {
    /// What a seed has beside what it had before: users, how clients prove to be one, and what becomes of the lists.
    pub(crate) fn from_seed(seed: u64, clients: usize, settings: &mut Settings, steps: &mut Vec<Step>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x9e09_1e00);
        let random = &mut random;
        if clients > CLIENTS_MAX || random.u8(..) < 150 {
            return Self::default();
        }
        let users = random.usize(1..=USERS_MAX.min(clients));
        let mut user = |number: usize| (number == 0 || random.u8(..8) > 0).then(|| Rights::draw(random));
        let mut lists: Vec<Vec<Option<Rights>>> = vec![(0..users).map(&mut user).collect()];
        for _ in 1..LISTS {
            let mut list = lists[random.usize(..lists.len())].clone();
            for (number, user) in list.iter_mut().enumerate() {
                if random.bool() {
                    *user = change(*user, number, random);
                }
            }
            lists.push(list);
        }
        let memory = Duration::from_secs(random.u64(5..100));
        settings.auth = AuthSettings {
            failures_per_origin_max: random.u32(1..8),
            failures_window: Duration::from_secs(random.u64(5..60)),
            delay: Duration::from_millis(if random.u8(..4) == 0 { 0 } else { random.u64(1..1000) }),
            delay_max: Duration::from_millis(random.u64(500..4000)),
            failures_memory: memory,
            exchange_deadline: Duration::from_secs(random.u64(1..10)),
            ..AuthSettings::default()
        };
        settings.takeover = if random.bool() { Takeover::Replace } else { Takeover::Reject };
        settings.reviews_turn_max = 1 << random.u32(0..6);
        settings.takeover_probe = Duration::from_millis(random.u64(200..5000));
        settings.log_denied_per_second_max = 0;
        let (wrong_share, events) = (random.u8(..100), random.u8(..16));
        for place in (0..steps.len()).rev() {
            let Step { number, client, turns, ref mut action } = steps[place];
            if let Action::Connect { door, .. } | Action::Crowd { door, .. } = action {
                let is_wrong = random.u8(..) < wrong_share;
                let right = [Login::Password, Login::Token, Login::Bound];
                let at = if door.tls.is_some() { random.usize(..3) } else { 0 };
                door.login = if is_wrong { Login::draw(random) } else { right[at] };
            }
            if random.u8(..) < events {
                let action = match random.u8(..3) {
                    0 => Action::Reload(random.usize(..LISTS)),
                    _ => Action::Ask { ask: Ask::Evict(Target::Client(random.usize(..clients))), flags: 0 },
                };
                steps.insert(place + 1, Step { number, client, action, turns });
            }
        }
        if random.bool() {
            change_lists(steps, random.usize(..clients), random);
        }
        let take_certificates = take_certificates(seed, &mut lists, steps);
        Self { lists, take_certificates }
    }

    /// Whether the relay asks who somebody is.
    pub(crate) const fn ask(&self) -> bool {
        !self.lists.is_empty()
    }

    /// How many users there are at most.
    pub(crate) fn count(&self) -> usize {
        self.lists.first().map_or(1, Vec::len)
    }

    /// The user that a client is one of.
    pub(crate) fn user_of(&self, client: usize) -> usize {
        client % self.count()
    }

    /// Whether a user of these rights may have this name.
    pub(crate) fn may_be_called(&self, user: usize, rights: &Rights, name: &str) -> bool {
        rights.any_name || number_of(name) % self.count() == user
    }

    /// A list as the relay reads it.
    pub(crate) fn users(&self, list: usize) -> Box<Users> {
        let mut file = format!("{SECRET}\n");
        for (user, rights) in self.lists[list].iter().enumerate() {
            let Some(rights) = rights else { continue };
            let verifier = Verifier::from_salted(&SALTED[2 * user + rights.password]);
            let digest = |number: u8| format!("token:{}", TokenDigest::of(token(user, number).as_bytes()));
            let digest = rights.token.map(digest).unwrap_or_default();
            let rooms = |mask: u8| match (0..ROOMS).filter(|room| mask >> room & 1 == 1) {
                _ if mask == ALL_ROOMS => "*".to_owned(),
                rooms => listed("room", rooms),
            };
            let names = (0..2 * CLIENTS_MAX).filter(|name| name % self.count() == user);
            let names = if rights.any_name { "*".to_owned() } else { listed("client", names) };
            let to = |mask: u64| listed("client", (0..2 * CLIENTS_MAX).filter(|name| mask >> name & 1 == 1));
            let to = rights.to.map_or_else(|| "*".to_owned(), to);
            let yes = |is: bool| if is { "yes" } else { "no" };
            let certificate = if rights.certificate { "certificate" } else { "" };
            let _ = writeln!(
                file,
                "{} {verifier} {digest} {certificate} names={names} join={} create={} send={} to={to} all={} watch={} admin={}",
                name(user),
                rooms(rights.join),
                rooms(rights.create),
                rooms(rights.send),
                yes(rights.all),
                yes(rights.watch),
                yes(rights.admin),
            );
        }
        Box::new(Users::parse(file).expect("a good list of users"))
    }
}

/// Patterns for names of this kind with these numbers.
fn listed(kind: &str, numbers: impl Iterator<Item = usize>) -> String {
    let names: Vec<String> = numbers.map(|number| format!("{kind}-{number}")).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// What a user is called.
pub(crate) fn name(user: usize) -> String {
    format!("user-{user}")
}

/// A user's token of this number.
pub(crate) fn token(user: usize, number: u8) -> String {
    format!("swb_{:-<43}", format!("{user}-{number}"))
}

/// A client's end of a login.
#[derive(Debug)]
pub(crate) struct Proving {
    pub(crate) login: Login,
    user: usize,
    /// What it takes for its password and its token, by their numbers.
    password: usize,
    token: u8,
    tls: Option<Version>,
    nonce: [u8; 18],
    /// Once it has answered.
    exchange: Option<ClientExchange>,
}

impl Proving {
    /// `number` has not been used before.
    pub(crate) fn new(login: Login, user: usize, rights: Option<Rights>, tls: Option<Version>, number: u32) -> Self {
        let mut nonce = *b"nonce number xxxx.";
        nonce[13..17].copy_from_slice(&number.to_be_bytes());
        let is_stranger = matches!(login, Login::Stranger | Login::StrangersCertificate);
        let user = if is_stranger { STRANGER } else { user };
        let password = rights.map_or(0, |rights| rights.password);
        let token = rights.and_then(|rights| rights.token).unwrap_or_default();
        Self { login, user, password, token, tls, nonce, exchange: None }
    }

    /// Whether the relay has a question before it knows who this is. Whoever shows a token or a certificate has said all, and
    /// goes on.
    pub(crate) const fn is_asked_first(&self) -> bool {
        !matches!(self.login, Login::Token | Login::WrongToken) && !self.login.shows_certificate()
    }

    /// Who it says to be.
    pub(crate) fn user(&self) -> String {
        name(self.user)
    }

    fn begin(&self, binding: [u8; 32]) -> ClientExchange {
        let is_plus = self.login.mechanism(self.tls) == Some(Mechanism::ScramSha256Plus.name());
        let binding = if is_plus { Binding::Exporter(binding) } else { Binding::None };
        ClientExchange::new(&self.user(), "unknown", binding, self.nonce)
    }

    /// What its HELLO says beside the mechanism.
    pub(crate) fn first(&self) -> Vec<u8> {
        match self.login {
            Login::Nohow | Login::Otherwise | Login::Certificate | Login::StrangersCertificate => Vec::new(),
            Login::NamedCertificate => self.user().into_bytes(),
            Login::OthersName => name(self.user + 1).into_bytes(),
            Login::Token => token(self.user, self.token).into_bytes(),
            Login::WrongToken => token(self.user, 9).into_bytes(),
            _ => self.begin([0; 32]).first().into_bytes(),
        }
    }

    /// Its answer to the relay's question, if it gives one.
    pub(crate) fn answer(&mut self, question: &[u8], binding: Option<[u8; 32]>) -> Option<Vec<u8>> {
        match self.login {
            Login::Silent => return None,
            Login::Garbled => return Some(b"c=biws,r=nothing that was said,p=AAAA".to_vec()),
            _ => {}
        }
        let elsewhere = self.login == Login::BoundElsewhere;
        let binding = if elsewhere { [7; 32] } else { binding.unwrap_or_default() };
        let is_wrong = matches!(self.login, Login::WrongPassword | Login::Stranger);
        let known = if is_wrong { 2 * USERS_MAX } else { 2 * self.user + self.password };
        let mut exchange = self.begin(binding).with_salted(SALTED[known].clone());
        let answer = exchange.answer(question).expect("a question as it should be");
        self.exchange = Some(exchange);
        Some(answer.into_bytes())
    }

    /// The relay has to prove that it knew the password as well.
    pub(crate) fn check(&self, welcome: &Welcome<'_>) {
        if let Some(exchange) = &self.exchange {
            let proof = welcome.auth_data.unwrap_or_else(|| panic!("{} gets no proof", self.user()));
            assert!(exchange.verify(proof).is_ok(), "the relay does not prove to {} what it knows", self.user());
        }
        assert_eq!(welcome.user, Some(&*self.user()), "who somebody is welcomed as");
    }
}
