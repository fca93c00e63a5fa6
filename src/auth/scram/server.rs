//! The server's end: it tells salt and iterations, and checks a proof. A few HMACs, no slow hash.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::crypto::{KEY_BYTES, are_equal, hmac, sha256};
use super::super::verifier::{Verifier, prepared};
use super::message::{Attributes, ClientFirst, Flag, bound, text, unescaped};
use super::{Binding, NONCE_BYTES, ScramError};
use crate::wire::NAME_BYTES_MAX;

/// A name as somebody types it can be longer than as it is compared, where marks stand behind their letters.
const NAME_BYTES_WRITTEN_MAX: usize = 4 * NAME_BYTES_MAX;

/// An exchange of which the first two messages are said: what the last two depend on.
pub struct ServerExchange {
    user: String,
    /// What the client must say behind `c=`.
    binding: String,
    /// Both nonces.
    nonce: String,
    /// What the proof covers, without the last message.
    transcript: String,
    stored_key: Zeroizing<[u8; KEY_BYTES]>,
    server_key: Zeroizing<[u8; KEY_BYTES]>,
}

/// Without its keys.
impl fmt::Debug for ServerExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerExchange({:?})", self.user)
    }
}

impl ServerExchange {
    /// Takes the client's first message, and gives the server's first one.
    ///
    /// `plus` is whether the client has asked for SCRAM-SHA-256-PLUS. `binding` is what this end can bind to, which is
    /// also whether PLUS is offered on this connection, or on another. `lookup` is asked once, for the user's name as it is compared
    /// (unescaped and prepared); for whom it does not know it must give a verifier that nobody can prove, in the same
    /// time ([`Users::verifier_or_mock`](super::super::Users::verifier_or_mock)). `nonce` must never be used again.
    ///
    /// # Errors
    /// If the message is none, or binds otherwise than the mechanism says. That depends on no user.
    pub fn begin(
        client_first: &[u8],
        plus: bool,
        binding: Binding,
        lookup: impl FnOnce(&str) -> Verifier,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<(Self, String), ScramError> {
        Self::begin_with(client_first, plus, binding, lookup, &STANDARD.encode(nonce))
    }

    /// The same with the characters of the nonce, as the examples of the RFCs give them. They must be printable ASCII and
    /// no comma.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_with(
        client_first: &[u8],
        plus: bool,
        binding: Binding,
        lookup: impl FnOnce(&str) -> Verifier,
        own_nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let first = ClientFirst::parse(text(client_first)?)?;
        match (first.flag, plus, binding) {
            (Flag::Bound, true, Binding::Exporter(_))
            | (Flag::Cannot, false, _)
            | (Flag::CouldHave, false, Binding::None) => {}
            // The client has been told, by somebody, that this end does not bind.
            (Flag::CouldHave, false, Binding::Exporter(_) | Binding::Withheld) => return Err(ScramError::Downgrade),
            _ => return Err(ScramError::Binding),
        }
        let user = name(first.user)?;
        if let Some(identity) = first.identity
            && name(identity)? != user
        {
            return Err(ScramError::OtherIdentity);
        }
        let verifier = lookup(&user);
        let nonce = format!("{}{own_nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(verifier.salt()), verifier.iterations());
        let exchange = Self {
            user,
            binding: STANDARD.encode(bound(first.header, first.flag, binding)),
            nonce,
            transcript: format!("{},{server_first},", first.bare),
            stored_key: Zeroizing::new(verifier.stored_key),
            server_key: Zeroizing::new(verifier.server_key),
        };
        Ok((exchange, server_first))
    }

    /// Takes the client's last message. If its proof is right, this gives the user's name and the server's last message,
    /// by which the client knows that the server knew its verifier.
    ///
    /// Whoever calls this must still look the name up: a user can have gone since [`begin`](Self::begin).
    ///
    /// # Errors
    /// If the message is none of this exchange, or the proof is wrong.
    pub fn finish(self, client_final: &[u8]) -> Result<(String, String), ScramError> {
        let message = text(client_final)?;
        let (covered, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut attributes = Attributes::of(covered);
        let (binding, nonce) = (attributes.take('c')?, attributes.take('r')?);
        attributes.finish()?;
        let proof = STANDARD.decode(proof).map_err(|_| ScramError::Malformed)?;
        let proof: [u8; KEY_BYTES] = proof.try_into().map_err(|_| ScramError::Malformed)?;
        if binding != self.binding {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let everything: [&[u8]; 2] = [self.transcript.as_bytes(), covered.as_bytes()];
        // The proof is the client's key under this signature: whoever has the key can prove the password again.
        let mut client_key = Zeroizing::new(hmac(&*self.stored_key, &everything));
        for (key, proven) in client_key.iter_mut().zip(proof) {
            *key ^= proven;
        }
        if !are_equal(&sha256(&*client_key), &*self.stored_key) {
            return Err(ScramError::Proof);
        }
        let signature = STANDARD.encode(hmac(&*self.server_key, &everything));
        Ok((self.user, format!("v={signature}")))
    }

    /// The user's name that the client gives, as it is compared; nothing has been proven yet.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// A name as it is compared. One that no user can have is not prepared, or kept: some characters become eleven times as
/// long by that.
fn name(escaped: &str) -> Result<String, ScramError> {
    let written = unescaped(escaped)?;
    let prepared = if written.len() > NAME_BYTES_WRITTEN_MAX { Cow::Borrowed("") } else { prepared(&written) };
    if prepared.is_empty() || prepared.len() > NAME_BYTES_MAX {
        return Err(ScramError::Malformed);
    }
    Ok(prepared.into_owned())
}
