//! Who somebody is, and what they may do: proofs, the users file, permissions, the brake on guessing.
//!
//! Place in the flow: the server reads the users file and hands it to a [`Loader`]; the relay runs a [`scram::ServerExchange`]
//! or looks up a token or a certificate's name, asks [`Attempts`] how late to answer, and from then on asks the user's
//! [`Access`]. The client runs a [`scram::ClientExchange`]. `switchboard passwd` edits the file with [`edit`].
//!
//! What it does not do: it knows no socket, no clock and no file. Randomness is given to it too, except where
//! [`random`] is called to get some.

mod access;
mod attempts;
mod crypto;
mod mechanism;
pub mod scram;
mod settings;
mod token;
mod users;
mod verifier;

pub use access::Access;
pub use attempts::Attempts;
pub use crypto::{NoRandomness, random};
pub use mechanism::Mechanism;
pub use scram::{Binding, NONCE_BYTES};
pub use settings::AuthSettings;
pub use token::{TOKEN_BYTES, TOKEN_PREFIX, TokenDigest, token_text};
pub use users::{
    FILE_BYTES_MAX, FileError, Loader, NOBODY_IS_IN_IT, Progress, SECRET_BYTES, USERS_MAX, User, UserKey, Users, edit,
    text_of,
};
pub use verifier::{
    ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, SALT_BYTES_MAX, SaltedPassword, Verifier,
    VerifierError, prepared,
};
