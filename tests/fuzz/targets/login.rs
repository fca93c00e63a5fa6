//! Who is let in at a relay with users: the bytes say who comes over what, what it says to prove who it is, which list
//! of users holds and what time passes. Whatever they say, nobody is registered who has not proved to be a user that
//! may have that name, and nobody who has not is told anything or waits for ever.

use std::sync::OnceLock;
use std::time::Duration;

use switchboard::auth::Mechanism;
use switchboard::auth::scram::{Binding, ClientExchange};
use switchboard::origin::Origin;
use switchboard::relay::{Input, Settings, Takeover};
use switchboard::wire::control::{Auth, Hello, Welcome};
use switchboard::wire::control::{Body, Profile};
use switchboard::wire::{Code, HEADER_BYTES, Header, Id, Type};

use super::relay::frames::{Got, frame};
use super::relay::people::{by, file_of, listed, password, token};
use super::relay::world::{Facts, World};
use crate::dice::Dice;

const STEPS_MAX: usize = 400;
const CONNECTIONS_MAX: usize = 8;
const USERS: [&str; 4] = ["ada", "bob", "eve", "nobody"];
const NAMES: [&str; 6] = ["ada", "bob", "eve", "x", "ada/1", " "];
const LISTS: [&[&str]; 3] = [
    &["ada", "bob names=*", "eve names=x,eve to=ada watch=no all=no"],
    &["ada names=x", "bob names=* watch=no"],
    &["eve names=*", "ada"],
];
/// Until it is registered, or not: HELLO, the exchange, an answer that comes late, and a name that is asked about.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Whether a user may have a name by one of the lists, written down once more.
fn may_be_called(list: usize, user: &str, name: &str) -> bool {
    let own = name == user || name.strip_prefix(user).is_some_and(|rest| rest.starts_with('/'));
    match (list, user) {
        (0 | 2, "ada") => own,
        (0 | 1, "bob") | (2, "eve") => true,
        (0, "eve") => name == "x" || name == "eve",
        (1, "ada") => name == "x",
        _ => false,
    }
}

/// The lists, read by the relay's own reader from what was hashed once.
fn list(place: usize) -> switchboard::auth::Users {
    static FILES: OnceLock<[String; 3]> = OnceLock::new();
    listed(FILES.get_or_init(|| LISTS.map(file_of))[place].clone())
}

/// One connection, as its client sees it.
struct Somebody {
    id: Id,
    name: &'static str,
    /// Whom it can prove to be, by what it has said.
    proves: Option<&'static str>,
    /// A password exchange that waits for its next message, and what the relay has said to it.
    exchange: Option<(ClientExchange, Vec<u8>)>,
    is_welcomed: bool,
}

struct Door {
    dice: Dice,
    world: World,
    list: usize,
    people: Vec<Somebody>,
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let takeover = if dice.bool() { Takeover::Reject } else { Takeover::Replace };
    let world = World::with_users(Settings { takeover, ..Settings::default() }, list(0));
    let mut door = Door { dice, world, list: 0, people: Vec::new() };
    for _ in 0..STEPS_MAX {
        if door.dice.is_empty() {
            break;
        }
        door.step();
        door.look();
    }
}

impl Door {
    fn step(&mut self) {
        match self.dice.u8(..16) {
            0..3 => self.arrive(),
            3..8 => self.say_hello(),
            8..11 => self.prove(),
            11 => self.say_anything(),
            12 => self.world.pass(Duration::from_millis(1 << self.dice.u32(4..15))),
            13 => {
                self.list = self.dice.usize(..LISTS.len());
                self.world.relay.set_users(Some(Box::new(list(self.list))), self.world.now, &mut self.world.net);
            }
            14 => self.leave(),
            _ => {
                self.world.relay.review(self.world.now, &mut self.world.net);
                self.world.end_turn();
            }
        }
    }

    fn arrive(&mut self) {
        if self.people.len() >= CONNECTIONS_MAX {
            return;
        }
        let bits = self.dice.u8(..);
        self.world.net.facts = Facts {
            origin: (bits & 1 != 0).then(|| Origin::v4([192, 0, 2, bits >> 7])),
            binding: (bits & 2 != 0).then_some([bits; 32]),
            certificate: (bits & 4 != 0).then(|| USERS[usize::from(bits >> 5 & 3)].to_owned()),
            is_private: bits & 8 != 0,
        };
        let id = self.world.connect();
        self.people.push(Somebody { id, name: "", proves: None, exchange: None, is_welcomed: false });
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.people.is_empty()).then(|| self.dice.usize(..self.people.len()))
    }

    /// Somebody whose turn it is, or now and then anybody.
    fn pick_whose_turn(&mut self, is_it: impl Fn(&Somebody) -> bool) -> Option<usize> {
        let places = 0..self.people.len();
        let anybody = self.dice.u8(..16) == 0;
        let places: Vec<usize> = places.filter(|place| anybody || is_it(&self.people[*place])).collect();
        self.dice.choice(places)
    }

    fn say_hello(&mut self) {
        let Some(place) = self.pick_whose_turn(|somebody| somebody.name.is_empty()) else { return };
        let (user, name) = (USERS[self.dice.usize(..4)], NAMES[self.dice.usize(..NAMES.len())]);
        let (mechanism, is_right) = (Mechanism::ALL[self.dice.usize(..4)], self.dice.bool());
        let id = self.people[place].id;
        let facts = self.world.net.peek(id).facts.clone();
        let word = if is_right { password(user) } else { "another".to_owned() };
        let binding = facts.binding.filter(|_| mechanism == Mechanism::ScramSha256Plus);
        let exchange = ClientExchange::new(user, &word, binding.map_or(Binding::None, Binding::Exporter), [3; 18]);
        let (first, token) = (exchange.first(), token(if is_right { user } else { "stranger" }));
        let data = match mechanism {
            Mechanism::Token => token.as_bytes(),
            Mechanism::External => user.as_bytes(),
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => first.as_bytes(),
        };
        let hello = match self.dice.u8(..8) {
            0 => Hello::new(Profile::named(name)),
            1 => Hello { auth_data: None, ..by(mechanism, name, data) },
            2 => by(mechanism, name, &data[data.len() / 2..]),
            _ => by(mechanism, name, data),
        };
        let says = hello.auth_data.unwrap_or_default();
        let proves = match mechanism {
            Mechanism::External if says.is_empty() || says == data => facts.certificate.as_deref() == Some(user),
            Mechanism::External => false,
            _ => is_right && says == data,
        };
        // Without a name the certificate says whose it is.
        let shown = USERS.into_iter().find(|user| facts.certificate.as_deref() == Some(*user));
        let user =
            if mechanism == Mechanism::External && says.is_empty() { shown } else { Some(user).filter(|_| proves) };
        self.world.say(id, &hello);
        let somebody = &mut self.people[place];
        if !somebody.is_welcomed && somebody.exchange.is_none() {
            (somebody.name, somebody.proves) = (name, user.filter(|_| hello.mechanism.is_some()));
            let is_scram = matches!(mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus);
            somebody.exchange = is_scram.then_some((exchange, Vec::new()));
        }
    }

    fn prove(&mut self) {
        let is_asked = |somebody: &Somebody| {
            !somebody.is_welcomed && somebody.exchange.as_ref().is_some_and(|(_, question)| !question.is_empty())
        };
        let Some(place) = self.pick_whose_turn(is_asked) else { return };
        let somebody = &mut self.people[place];
        let id = somebody.id;
        let mut answer = b"c=biws,r=x,p=AAAA".to_vec();
        if let Some((exchange, question)) = &mut somebody.exchange
            && let Ok(right) = exchange.answer(question)
        {
            answer = right.into_bytes();
        }
        if self.dice.u8(..4) == 0 {
            let at = self.dice.usize(..answer.len());
            answer[at] ^= 1 << self.dice.u8(..7);
            if !self.people[place].is_welcomed {
                self.people[place].proves = None;
            }
        }
        self.world.say(id, &Auth { data: &answer });
    }

    fn say_anything(&mut self) {
        let Some(place) = self.pick() else { return };
        let (from, to) = (self.people[place].id, self.pick().map_or(Id::ALL, |to| self.people[to].id));
        let frame_type = self.dice.choice(Type::ALL.iter().copied()).unwrap_or(Type::Send);
        self.world.send(from, &frame(Header::new(frame_type).to(to), b""));
    }

    fn leave(&mut self) {
        let Some(place) = self.pick() else { return };
        let id = self.people[place].id;
        if self.dice.bool() {
            self.world.handle(id, Input::Ended);
        } else if self.world.is_here(id) {
            self.world.lose(id);
        }
    }

    /// What everybody has got, and what must be so of all.
    fn look(&mut self) {
        for place in 0..self.people.len() {
            self.world.drain(self.people[place].id);
            for bytes in self.world.raw(self.people[place].id) {
                self.hear(place, &bytes);
            }
        }
        let world = &mut self.world;
        self.people.retain(|somebody| !world.is_closed(somebody.id));
        let welcomed = self.people.iter().filter(|somebody| somebody.is_welcomed);
        assert_eq!(world.relay.clients(), welcomed.count(), "whoever is registered has been welcomed");
        for somebody in &self.people {
            let deadline = world.deadline(somebody.id).expect("nobody waits for ever");
            assert!(somebody.is_welcomed || deadline <= world.now + WAIT_MAX, "{:?} can wait for long", somebody.id);
            if somebody.is_welcomed && !world.relay.is_reviewing() {
                let user = somebody.proves.expect("it has proved who it is");
                assert!(may_be_called(self.list, user, somebody.name), "{user} may not be {:?}", somebody.name);
            }
        }
    }

    fn hear(&mut self, place: usize, bytes: &[u8]) {
        let somebody = &mut self.people[place];
        match Got::read(bytes) {
            Got::Welcome { .. } => {
                let welcome = Welcome::parse(&bytes[HEADER_BYTES..]).expect("read above");
                assert!(!somebody.is_welcomed, "{:?} is welcomed twice", somebody.id);
                assert_eq!(welcome.user, somebody.proves, "as {:?}", somebody.name);
                let user = welcome.user.expect("compared above");
                assert!(may_be_called(self.list, user, somebody.name), "{user} is let in as {:?}", somebody.name);
                if let Some((exchange, _)) = &somebody.exchange {
                    exchange.verify(welcome.auth_data.unwrap_or_default()).expect("the relay's proof is right");
                }
                somebody.is_welcomed = true;
            }
            Got::Auth { data, .. } => {
                let Some((_, question)) = &mut somebody.exchange else { panic!("an AUTH for {:?}", somebody.id) };
                assert!(question.is_empty(), "{:?} is asked once", somebody.id);
                *question = data;
            }
            _ if somebody.is_welcomed => {}
            Got::Error { code, .. } => assert!(code.closes() && code != Code::Denied, "{code}"),
            other => panic!("{:?} is no client and is told {other:?}", somebody.id),
        }
    }
}
