//! Users as the relay's tests know them, and clients that prove to be one.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use switchboard::auth::scram::{Binding, ClientExchange};
use switchboard::auth::{Mechanism, TokenDigest, Users, Verifier};
use switchboard::relay::Settings;
use switchboard::wire::control::{Auth, Body, Hello, Profile, Welcome};
use switchboard::wire::{HEADER_BYTES, Id};

use super::frames::Got;
use super::world::World;

/// As few as there may be: what is tested is not the hash.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// What a list with passwords begins with.
pub(crate) const SECRET: &str = "%secret MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The password of a user.
pub(crate) fn password(user: &str) -> String {
    format!("the word of {user}")
}

/// The token of a user.
pub(crate) fn token(user: &str) -> String {
    format!("swb_{user:-<43}")
}

/// A list of users out of lines that say who it is and what it may do; each has a password, a token and a certificate.
pub(crate) fn users(lines: &[&str]) -> Users {
    listed(file_of(lines))
}

/// The file of such a list.
pub(crate) fn file_of(lines: &[&str]) -> String {
    let mut text = format!("{SECRET}\n");
    for line in lines {
        let (user, rights) = line.split_once(' ').unwrap_or((line, ""));
        let verifier = Verifier::from_password(&password(user), ITERATIONS, b"0123456789abcdef");
        let digest = TokenDigest::of(token(user).as_bytes());
        let _ = writeln!(text, "{user} {verifier} token:{digest} certificate {rights}");
    }
    text
}

/// A list of users as its file says it.
pub(crate) fn listed(text: String) -> Users {
    Users::parse(text).expect("a good list of users")
}

/// A relay with these users and the default settings.
pub(crate) fn world_of(lines: &[&str]) -> World {
    World::with_users(Settings::default(), users(lines))
}

/// A HELLO under `name` with a token.
pub(crate) fn by_token<'a>(name: &'a str, token: &'a str) -> Hello<'a> {
    by(Mechanism::Token, name, token.as_bytes())
}

/// A HELLO under `name` with a mechanism and its first message.
pub(crate) fn by<'a>(mechanism: Mechanism, name: &'a str, data: &'a [u8]) -> Hello<'a> {
    Hello { mechanism: Some(mechanism.name()), auth_data: Some(data), ..Hello::new(Profile::named(name)) }
}

impl World {
    /// A client of a user, under the user's name, that has read its WELCOME.
    pub(crate) fn user(&mut self, user: &str) -> Id {
        self.user_as(user, user)
    }

    /// A client of a user under some name that has read its WELCOME.
    pub(crate) fn user_as(&mut self, user: &str, name: &str) -> Id {
        let id = self.connect();
        self.say(id, &by_token(name, &token(user)));
        let (welcomed, _) = self.welcomed(id).expect("it is let in");
        assert_eq!(welcomed, user);
        id
    }

    /// Who a client is welcomed as, and the relay's proof, if that is what it got.
    pub(crate) fn welcomed(&mut self, id: Id) -> Option<(String, Option<Vec<u8>>)> {
        self.drain(id);
        let frames = self.raw(id);
        let welcome = frames.iter().find(|frame| matches!(Got::read(frame), Got::Welcome { .. }))?;
        let welcome = Welcome::parse(&welcome[HEADER_BYTES..]).expect("a good WELCOME");
        Some((welcome.user?.to_owned(), welcome.auth_data.map(<[u8]>::to_vec)))
    }

    /// A connection that has said HELLO by a password and been asked, and its end of the exchange.
    pub(crate) fn asked(&mut self, name: &str, user: &str, password: &str) -> (Id, ClientExchange, Vec<u8>) {
        let binding = self.net.facts.binding.map_or(Binding::None, Binding::Exporter);
        let exchange = ClientExchange::new(user, password, binding, *b"eighteen bytes ---");
        let id = self.connect();
        let question = self.begin(id, name, &exchange);
        (id, exchange, question)
    }

    /// Has a connection begin this exchange, and gives what it is asked.
    pub(crate) fn begin(&mut self, id: Id, name: &str, exchange: &ClientExchange) -> Vec<u8> {
        self.ask(id, 5, &by(exchange.mechanism(), name, exchange.first().as_bytes()));
        match &self.got(id)[..] {
            [Got::Auth { correlation: 5, data }] => data.clone(),
            other => panic!("asked by {other:?}"),
        }
    }

    /// Has it answer what it was asked.
    pub(crate) fn answer(&mut self, id: Id, exchange: &mut ClientExchange, question: &[u8]) {
        let answer = exchange.answer(question).expect("a question as it should be");
        self.ask(id, 6, &Auth { data: answer.as_bytes() });
    }

    /// A client that has tried a password: its connection.
    pub(crate) fn try_password(&mut self, name: &str, user: &str, password: &str) -> Id {
        let (id, mut exchange, question) = self.asked(name, user, password);
        self.answer(id, &mut exchange, &question);
        id
    }
}
