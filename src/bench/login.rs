//! How the clients of a run prove who they are: all of them as one user, each in an exchange of its own.
//!
//! A password is hashed once, as a client hashes it that comes back: thousands of hashes would be this program's work, and
//! not the relay's. Proofs are not bound to TLS; what that costs the relay is one more comparison.

use std::fmt;

use zeroize::Zeroizing;

use crate::auth::scram::{Binding, ClientExchange, ScramError};
use crate::auth::{Mechanism, NONCE_BYTES, SaltedPassword, random};
use crate::wire::control::{Hello, Welcome};

/// A user, and what its clients prove that with.
pub struct Login {
    user: String,
    secret: Secret,
    salted: Option<SaltedPassword>,
    /// Those that are under way, by client.
    exchanges: Vec<Option<Box<ClientExchange>>>,
    /// What the client that is just greeted says first.
    said: Zeroizing<String>,
}

enum Secret {
    Password(Zeroizing<String>),
    Token(Zeroizing<String>),
}

/// Without the secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?})", self.user)
    }
}

impl Login {
    /// As a user with a password, which is proved and never sent (SCRAM-SHA-256).
    #[must_use]
    pub fn with_password(user: &str, password: Zeroizing<String>) -> Self {
        Self::new(user, Secret::Password(password))
    }

    /// As a user with a token, which is sent as it is.
    #[must_use]
    pub fn with_token(user: &str, token: Zeroizing<String>) -> Self {
        Self::new(user, Secret::Token(token))
    }

    fn new(user: &str, secret: Secret) -> Self {
        Self { user: user.to_owned(), secret, salted: None, exchanges: Vec::new(), said: Zeroizing::default() }
    }

    /// What the names of its clients begin with: by default a user may have every name that does.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}/", self.user)
    }

    /// Has a client's HELLO say what it is to say. If the system has no random numbers it says nothing, and the relay asks
    /// in vain.
    pub(super) fn greet<'a>(&'a mut self, client: u32, hello: &mut Hello<'a>) {
        let mechanism = match &self.secret {
            Secret::Token(token) => {
                self.said.clone_from(token);
                Mechanism::Token
            }
            Secret::Password(password) => {
                let Ok(nonce) = random::<NONCE_BYTES>() else { return };
                let exchange = ClientExchange::new(&self.user, password, Binding::None, nonce);
                self.said = Zeroizing::new(exchange.first());
                let index = client as usize;
                if self.exchanges.len() <= index {
                    self.exchanges.resize_with(index + 1, || None);
                }
                self.exchanges[index] = Some(Box::new(exchange));
                Mechanism::ScramSha256
            }
        };
        (hello.mechanism, hello.auth_data) = (Some(mechanism.name()), Some(self.said.as_bytes()));
    }

    /// The answer to what the relay says to a client in an AUTH.
    ///
    /// # Errors
    /// One line: what the relay says is no challenge.
    pub(super) fn answer(&mut self, client: u32, challenge: &[u8]) -> Result<String, String> {
        let found = self.exchanges.get_mut(client as usize).and_then(Option::take);
        let mut exchange = *found.ok_or("it asks for a proof that nobody has begun")?;
        if let Some(salted) = &self.salted {
            exchange = exchange.with_salted(salted.clone());
        }
        let answer = exchange.answer(challenge).map_err(unproven)?;
        if self.salted.is_none() {
            self.salted = exchange.salted().cloned();
        }
        self.exchanges[client as usize] = Some(Box::new(exchange));
        Ok(answer)
    }

    /// Whether the relay has let a client in as whom it proved to be, and has proved that it knew the password.
    ///
    /// # Errors
    /// One line: it has not.
    pub(super) fn check(&mut self, client: u32, welcome: &Welcome<'_>) -> Result<(), String> {
        if welcome.user != Some(&self.user) {
            return Err("the relay does not ask who its clients are: leave --user out".to_owned());
        }
        match self.exchanges.get_mut(client as usize).and_then(Option::take) {
            Some(exchange) => exchange.verify(welcome.auth_data.unwrap_or_default()).map_err(unproven),
            None if matches!(self.secret, Secret::Token(_)) => Ok(()),
            None => Err("the relay has let a client in that has proved nothing".to_owned()),
        }
    }
}

fn unproven(error: ScramError) -> String {
    format!("the relay does not prove that it knows the password: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;
    use crate::auth::scram::ServerExchange;
    use crate::wire::Id;
    use crate::wire::control::Profile;

    /// The relay's end of an exchange, and its challenge.
    fn begin(first: &[u8], verifier: &Verifier) -> (ServerExchange, String) {
        ServerExchange::begin(first, false, Binding::None, |_| verifier.clone(), [9; NONCE_BYTES]).expect("a beginning")
    }

    fn welcome<'a>(user: Option<&'a str>, last: &'a str) -> Welcome<'a> {
        Welcome {
            version: 1,
            client: Id::RELAY,
            payload_bytes_max: 0,
            keepalive_ms: 0,
            queue_bytes_max: 0,
            clock_us: 0,
            epoch_us: 0,
            address: "",
            agent: "",
            user,
            auth_data: Some(last.as_bytes()),
        }
    }

    #[test]
    fn each_client_has_an_exchange_of_its_own_and_the_password_is_hashed_once() {
        let verifier = Verifier::from_password("pw", 4096.try_into().expect("not zero"), &[7; 16]);
        let mut login = Login::with_password("load", "pw".to_owned().into());
        assert_eq!(login.prefix(), "load/");
        let mut servers = Vec::new();
        for client in 0..3 {
            let mut hello = Hello::new(Profile::named("load/x"));
            login.greet(client, &mut hello);
            assert_eq!(hello.mechanism, Some("SCRAM-SHA-256"));
            let first = hello.auth_data.expect("it says something").to_vec();
            servers.push(begin(&first, &verifier));
        }
        for (client, (server, challenge)) in servers.into_iter().enumerate().rev() {
            let client = client as u32;
            let answer = login.answer(client, challenge.as_bytes()).expect("a challenge");
            let (_, last) = server.finish(answer.as_bytes()).expect("a proof");
            login.check(client, &welcome(None, &last)).expect_err("nobody was let in as a user");
            login.check(client, &welcome(Some("load"), &last)).expect("it knew the password");
            login.check(client, &welcome(Some("load"), &last)).expect_err("once");
        }
    }
}
