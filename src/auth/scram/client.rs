//! The client's end: it hashes the password, proves it, and has the server prove that it knew it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::Mechanism;
use super::super::crypto::{KEY_BYTES, are_equal, hmac, sha256};
use super::super::verifier::{ITERATIONS_MAX, ITERATIONS_MIN, SaltedPassword, parse_iterations, prepared};
use super::message::{Attributes, Flag, bound, escaped, is_nonce, text};
use super::{Binding, NONCE_BYTES, ScramError};

/// One exchange, from the first message to the server's last one.
pub struct ClientExchange {
    password: Zeroizing<String>,
    salted: Option<SaltedPassword>,
    binding: Binding,
    flag: Flag,
    /// The first message without its header.
    bare: String,
    nonce: String,
    /// What the server's last message must say, once the proof is made.
    expected: Option<[u8; KEY_BYTES]>,
}

/// Without the password.
impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientExchange({:?}, {})", self.bare, self.mechanism().name())
    }
}

impl ClientExchange {
    /// An exchange for `user`, with SCRAM-SHA-256-PLUS if there is something to bind to. `nonce` must never be used again.
    #[must_use]
    pub fn new(user: &str, password: &str, binding: Binding, nonce: [u8; NONCE_BYTES]) -> Self {
        Self::with_nonce(user, password, binding, STANDARD.encode(nonce))
    }

    /// The same with the characters of the nonce, as the examples of the RFCs give them.
    pub(super) fn with_nonce(user: &str, password: &str, binding: Binding, nonce: String) -> Self {
        let flag = match binding {
            Binding::None => Flag::Cannot,
            Binding::Withheld => Flag::CouldHave,
            Binding::Exporter(_) => Flag::Bound,
        };
        let bare = format!("n={},r={nonce}", escaped(&prepared(user)));
        let password = Zeroizing::new(password.to_owned());
        Self { password, salted: None, binding, flag, bare, nonce, expected: None }
    }

    /// For a server that does not offer PLUS: the proof is bound to nothing, and covers that the client would have bound it.
    #[must_use]
    pub fn without_plus(mut self) -> Self {
        if self.flag == Flag::Bound {
            self.flag = Flag::CouldHave;
        }
        self
    }

    /// Takes a hash of the password from an earlier exchange; it counts if the server names the same salt and iterations.
    #[must_use]
    pub fn with_salted(mut self, salted: SaltedPassword) -> Self {
        self.salted = Some(salted);
        self
    }

    /// The mechanism to ask for.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        match self.flag {
            Flag::Bound => Mechanism::ScramSha256Plus,
            Flag::Cannot | Flag::CouldHave => Mechanism::ScramSha256,
        }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> String {
        format!("{}{}", self.header(), self.bare)
    }

    const fn header(&self) -> &'static str {
        match self.flag {
            Flag::Cannot => "n,,",
            Flag::CouldHave => "y,,",
            Flag::Bound => "p=tls-exporter,,",
        }
    }

    /// Takes the server's first message, and gives the last one to the server. This hashes the password, which takes as
    /// long as the server's iterations want, unless its hash is known.
    ///
    /// # Errors
    /// If the message is no answer to the first one, or wants too few or too many iterations.
    pub fn answer(&mut self, server_first: &[u8]) -> Result<String, ScramError> {
        if self.expected.is_some() {
            return Err(ScramError::Order);
        }
        let server_first = server_text(server_first)?;
        let mut attributes = Attributes::of(server_first);
        let (nonce, salt, iterations) = (attributes.take('r')?, attributes.take('s')?, attributes.take('i')?);
        attributes.finish()?;
        if !is_nonce(nonce) || nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations = parse_iterations(iterations).ok_or(ScramError::Malformed)?;
        if salt.is_empty() {
            return Err(ScramError::Malformed);
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()) {
            return Err(ScramError::Iterations(iterations.get()));
        }
        let known = self.salted.take().filter(|known| *known.salt == *salt && known.iterations == iterations);
        let salted = known.unwrap_or_else(|| SaltedPassword::new(&self.password, iterations, &salt));
        let binding = STANDARD.encode(bound(self.header(), self.flag, self.binding));
        let covered = format!("c={binding},r={nonce}");
        let transcript = format!("{},{server_first},{covered}", self.bare);
        let client_key = salted.client_key();
        let signature = hmac(&sha256(&*client_key), &[transcript.as_bytes()]);
        let mut proof = [0; KEY_BYTES];
        for (byte, (key, signed)) in proof.iter_mut().zip(client_key.iter().zip(signature)) {
            *byte = key ^ signed;
        }
        self.expected = Some(hmac(&salted.server_key(), &[transcript.as_bytes()]));
        self.salted = Some(salted);
        Ok(format!("{covered},p={}", STANDARD.encode(proof)))
    }

    /// Takes the server's last message. Only when this is well has the server proven that it knew the password's verifier.
    ///
    /// # Errors
    /// If the message proves nothing of the kind.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let expected = self.expected.as_ref().ok_or(ScramError::Order)?;
        let mut attributes = Attributes::of(server_text(server_final)?);
        let signature = attributes.take('v')?;
        attributes.finish()?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed)?;
        if are_equal(&signature, expected) { Ok(()) } else { Err(ScramError::Server) }
    }

    /// The hash of the password, once it was made: for the next exchange of the same user.
    #[must_use]
    pub const fn salted(&self) -> Option<&SaltedPassword> {
        self.salted.as_ref()
    }
}

/// A server's message. RFC 5802 lets it say an error in either place.
fn server_text(message: &[u8]) -> Result<&str, ScramError> {
    match text(message)? {
        error if error.starts_with("e=") => Err(ScramError::Refused),
        message => Ok(message),
    }
}
