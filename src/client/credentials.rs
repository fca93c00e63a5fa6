//! What a client proves who it is with, and the proof as a conversation: a word in HELLO, an answer to the relay's
//! challenge, and what its WELCOME must say.
//!
//! What it does not do: it sends nothing, and computes nothing of SCRAM itself, which is
//! [`auth`](crate::auth)'s business.

use std::fmt;
use std::io;

use zeroize::Zeroizing;

use super::connect_error::ConnectError;
use super::{Address, Tls};
use crate::auth::scram::{ClientExchange, ScramError};
use crate::auth::{Binding, Mechanism, prepared, random};
use crate::wire::control::Welcome;
use crate::wire::{AUTH_DATA_BYTES_MAX, is_valid_name};

/// What a client proves who it is with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user's password. It is never sent: both sides prove to each other that they know it (SCRAM-SHA-256), over TLS
    /// bound to the connection.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A long random word that belongs to one user, for machines. It is sent as it is, so the connection must be
    /// TLS, a Unix socket, or within this machine.
    Token(Secret),
    /// The certificate that TLS has shown: [`Tls::identity`].
    Certificate,
}

/// Words that are shown nowhere, and wiped when they are no longer needed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(words: String) -> Self {
        Self(Zeroizing::new(words))
    }
}

impl From<&str> for Secret {
    fn from(words: &str) -> Self {
        Self::from(words.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Credentials {
    /// Why they can be of no use at this address, if that is so.
    pub(super) fn fault(&self, address: &Address, tls: &Tls) -> Option<&'static str> {
        match self {
            Self::Password { user, .. } if !is_valid_name(user) => {
                Some("a user's name has 1 to 64 bytes, no control characters, and no space at either end")
            }
            Self::Password { password, .. } if password.0.is_empty() => Some("the password is empty"),
            Self::Token(token) if token.0.is_empty() => Some("the token is empty"),
            Self::Token(token) if token.0.len() > AUTH_DATA_BYTES_MAX => Some("no token is as long as this one"),
            Self::Certificate if tls.identity.is_none() || !matches!(address, Address::Tls { .. }) => {
                Some("a certificate proves something over TLS only: name it with its key, and write tls://host:port")
            }
            _ => None,
        }
    }
}

/// A proof under way.
#[derive(Debug)]
pub(super) enum Proof {
    /// The client says nothing of who it is.
    Nothing,
    /// What HELLO says is all.
    AtOnce { mechanism: Mechanism, data: Option<Secret> },
    /// A password, proved in two steps.
    Password { exchange: Box<ClientExchange>, first: String, is_answered: bool },
}

/// What a proof has to know of the connection that it is made on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// What it can be bound to.
    pub(super) binding: Binding,
    /// The relay is not known not to offer that.
    pub(super) is_bindable: bool,
    /// Nobody but the relay can read what is sent.
    pub(super) is_private: bool,
}

impl Proof {
    pub(super) fn begin(credentials: Option<&Credentials>, ground: Ground) -> Result<Self, ConnectError> {
        match credentials {
            None => Ok(Self::Nothing),
            // Whose certificate it is the relay reads in it.
            Some(Credentials::Certificate) => Ok(Self::AtOnce { mechanism: Mechanism::External, data: None }),
            Some(Credentials::Token(token)) if ground.is_private => {
                Ok(Self::AtOnce { mechanism: Mechanism::Token, data: Some(token.clone()) })
            }
            Some(Credentials::Token(_)) => Err(ConnectError::BadOptions(
                "a token is not sent over plain TCP to another machine, where others could read it: write tls://host:port",
            )),
            Some(Credentials::Password { user, password }) => Self::of_password(user, password, ground),
        }
    }

    fn of_password(user: &str, password: &Secret, ground: Ground) -> Result<Self, ConnectError> {
        let nonce = random().map_err(|error| ConnectError::Network(io::Error::other(error)))?;
        let mut exchange = ClientExchange::new(user, &password.0, ground.binding, nonce);
        if !ground.is_bindable {
            exchange = exchange.without_plus();
        }
        let first = exchange.first();
        Ok(Self::Password { exchange: Box::new(exchange), first, is_answered: false })
    }

    /// What HELLO says of it.
    pub(super) fn hello(&self) -> (Option<&'static str>, Option<&[u8]>) {
        match self {
            Self::Nothing => (None, None),
            Self::AtOnce { mechanism, data } => (Some(mechanism.name()), data.as_ref().map(|data| data.0.as_bytes())),
            Self::Password { exchange, first, .. } => (Some(exchange.mechanism().name()), Some(first.as_bytes())),
        }
    }

    /// The answer to what the relay says in an AUTH. It hashes the password, which takes as long as the user's iterations
    /// want.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<String, ConnectError> {
        let Self::Password { exchange, is_answered: is_answered @ false, .. } = self else {
            return Err(ConnectError::NotARelay("it asks for a proof that it has, or that nobody offers"));
        };
        *is_answered = true;
        exchange.answer(challenge).map_err(unproven)
    }

    /// Whether a WELCOME says what it has to: whoever proves who they are is told as whom they are known, which must be as
    /// `expected`, and whoever proves a password is proved that the relay knows it too.
    pub(super) fn check(self, welcome: &Welcome<'_>, expected: Option<&str>) -> Result<(), ConnectError> {
        match self {
            Self::Nothing => return Ok(()),
            Self::AtOnce { .. } => {}
            // A relay that asks for no proof gives none.
            Self::Password { is_answered: false, .. } => return Err(ConnectError::NotAsked),
            Self::Password { exchange, .. } => {
                exchange.verify(welcome.auth_data.unwrap_or_default()).map_err(unproven)?;
            }
        }
        let user = welcome.user.ok_or(ConnectError::NotAsked)?;
        match expected {
            Some(expected) if prepared(expected) != prepared(user) => {
                Err(ConnectError::OtherUser { expected: expected.to_owned(), user: user.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn unproven(error: ScramError) -> ConnectError {
    ConnectError::Unproven(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_only_where_nobody_else_reads_it() {
        let token = Credentials::Token("swb_x".into());
        let ground = Ground { binding: Binding::None, is_bindable: true, is_private: true };
        let proof = Proof::begin(Some(&token), ground).expect("private");
        assert_eq!(proof.hello(), (Some("TOKEN"), Some(&b"swb_x"[..])));
        let error = Proof::begin(Some(&token), Ground { is_private: false, ..ground }).expect_err("in the open");
        assert!(matches!(error, ConnectError::BadOptions(why) if why.contains("tls://")));
        // A password is not sent, so it may be proved there.
        let password = Credentials::Password { user: "ada".into(), password: "x".into() };
        assert!(Proof::begin(Some(&password), Ground { is_private: false, ..ground }).is_ok());
    }
}
