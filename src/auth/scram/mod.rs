//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677), both ends of the exchange: text in, text out.
//!
//! ```text
//!  client                                        server
//!  n,,n=ada,r=NONCE                          ─►            begin
//!         answer        ◄─  r=NONCE+MORE,s=SALT,i=600000
//!  c=biws,r=NONCE+MORE,p=PROOF               ─►            finish
//!         verify        ◄─  v=SIGNATURE
//! ```
//!
//! The client hashes, the server does a few HMACs. The first letter says what the client could bind the proof to: `p` to
//! the channel (`tls-exporter`, RFC 9266), `n` to nothing, `y` that it could have but believes that the server cannot; a
//! server that can refuses the last, for somebody between them has changed what is offered.
//!
//! What it does not do: no message of RFC 5802 says why an exchange failed (`e=`). Whoever fails is told that, and no more.

mod client;
mod message;
mod server;

use std::fmt;

pub use client::ClientExchange;
pub use server::ServerExchange;

use super::verifier::{ITERATIONS_MAX, ITERATIONS_MIN};

/// The longest message of an exchange, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2048;
/// Bytes of a nonce as its maker gives it: 144 bits, as 24 characters on the wire.
pub const NONCE_BYTES: usize = 18;
/// The longest nonce of a client, in characters: it is sent back, and has to leave room for the rest.
const NONCE_CHARS_MAX: usize = 256;
/// The name of the only channel binding that is known here.
const EXPORTER: &str = "tls-exporter";

/// What an end can bind a proof to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Nothing, here or anywhere: this end binds to no channel.
    None,
    /// Nothing on this channel, though this end binds to others: a client says so over TLS that has nothing of its own,
    /// and a server refuses who was made to believe that it could not bind.
    Withheld,
    /// The 32 bytes of `tls-exporter`, which are this TLS connection's and no other's (RFC 9266).
    Exporter([u8; 32]),
}

/// Without the bytes, which belong to the two ends.
impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Withheld => "Withheld",
            Self::Exporter(_) => "Exporter",
        })
    }
}

/// Why an exchange came to nothing: for a log, or for the person at the client. What a server tells a client is only that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// It is no message of RFC 5802 in this place.
    Malformed,
    /// It asks for an extension that is not known here.
    Extension,
    /// It wants to act for somebody else than it proves to be.
    OtherIdentity,
    /// It binds to another channel than this, or not as its mechanism says.
    Binding,
    /// The client could bind to the channel and was kept from it.
    Downgrade,
    /// The nonce is not the one of this exchange.
    Nonce,
    /// The proof is wrong, or nobody could have made it.
    Proof,
    /// The server asks for so many iterations, which is too few or too many.
    Iterations(u32),
    /// The server has not proven that it knows the password's verifier.
    Server,
    /// The server has refused the exchange.
    Refused,
    /// The exchange is not at this step.
    Order,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the message is not one of SCRAM",
            Self::Extension => "the message asks for an extension of SCRAM that is not known here",
            Self::OtherIdentity => "the client wants to act for somebody else",
            Self::Binding => "the proof is not bound to this channel",
            Self::Downgrade => "the client was told that the relay cannot bind a proof to the channel, and it can",
            Self::Nonce => "the nonce is not the one of this exchange",
            Self::Proof => "the proof of the password is wrong",
            Self::Iterations(count) => {
                return write!(
                    f,
                    "the relay asks for {count} iterations of the hash; {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken"
                );
            }
            Self::Server => "the relay has not proven that it knows the user: it may be another than it should be",
            Self::Refused => "the relay has refused the proof",
            Self::Order => "the exchange is not at this step",
        })
    }
}

impl std::error::Error for ScramError {}

#[cfg(test)]
mod tests;
