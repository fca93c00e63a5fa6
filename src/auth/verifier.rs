//! What is kept of a password: enough to check a proof of it, too little to make one.
//!
//! The form is PostgreSQL's, so that a verifier can be taken over from there: `SCRAM-SHA-256$iterations:salt$stored:server`,
//! the last three in base64 (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>). Whoever steals a verifier
//! can try out passwords, each at the cost of the iterations, and can pretend to be the relay, but not the user.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::crypto::{KEY_BYTES, hmac, sha256};

/// The fewest iterations that a client hashes with, and that a users file may hold: the least that RFC 7677 (section 4)
/// asks for. With fewer, whoever pretends to be a relay could have a proof that is cheap to try passwords on.
pub const ITERATIONS_MIN: u32 = 4096;
/// The most iterations that a client hashes with: about a second. A relay names the number before it has proved anything,
/// and must not be able to keep its clients busy.
pub const ITERATIONS_MAX: u32 = 2_000_000;
/// The iterations where nobody says otherwise: what OWASP's Password Storage Cheat Sheet asks of PBKDF2 with SHA-256. It
/// is the client that hashes, some tenths of a second for each connection; the relay does not.
pub const ITERATIONS_DEFAULT: NonZeroU32 = match NonZeroU32::new(600_000) {
    Some(count) => count,
    None => NonZeroU32::MAX,
};
/// Bytes of a new salt: as many as PostgreSQL takes. It has to differ between users, not to be secret.
pub const SALT_BYTES: usize = 16;
/// The longest salt, in bytes: more would only be sent about.
pub const SALT_BYTES_MAX: usize = 64;

const SCHEME: &str = "SCRAM-SHA-256";

/// A name or password as it is compared and hashed: prepared by SASLprep (RFC 4013), or as it is where that cannot be
/// done or leaves nothing, which is what PostgreSQL does with passwords. Both ends do the same, so what somebody types in
/// one normal form of Unicode is what somebody else has set in another.
#[must_use]
pub fn prepared(text: &str) -> Cow<'_, str> {
    match stringprep::saslprep(text) {
        Ok(done) if !done.is_empty() => done,
        _ => Cow::Borrowed(text),
    }
}

/// What is kept of a password. Salt and iterations are told to whoever asks for them, the keys to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    pub(super) stored_key: [u8; KEY_BYTES],
    pub(super) server_key: [u8; KEY_BYTES],
}

impl Verifier {
    /// The verifier of a password. It hashes as often as `iterations` say: on the loop of a relay nobody may call it.
    #[must_use]
    pub fn from_password(password: &str, iterations: NonZeroU32, salt: &[u8]) -> Self {
        Self::from_salted(&SaltedPassword::new(password, iterations, salt))
    }

    /// The verifier of a password that was hashed already.
    #[must_use]
    pub fn from_salted(salted: &SaltedPassword) -> Self {
        let stored_key = sha256(&*salted.client_key());
        Self::from_keys(salted.iterations, salted.salt.clone(), stored_key, salted.server_key())
    }

    pub(super) const fn from_keys(
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        stored_key: [u8; KEY_BYTES],
        server_key: [u8; KEY_BYTES],
    ) -> Self {
        Self { iterations, salt, stored_key, server_key }
    }

    /// How often the password is hashed.
    #[must_use]
    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// What is hashed with the password.
    #[must_use]
    pub const fn salt(&self) -> &[u8] {
        &self.salt
    }
}

/// As it stands in a file; this is the secret itself.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&*self.salt, &self.stored_key, &self.server_key].map(|part| STANDARD.encode(part));
        write!(f, "{SCHEME}${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// Without its keys: what is debugged ends in logs.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({SCHEME}, {} iterations)", self.iterations)
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix('$')).ok_or(VerifierError::Form)?;
        let (shape, keys) = rest.split_once('$').ok_or(VerifierError::Form)?;
        let (iterations, salt) = shape.split_once(':').ok_or(VerifierError::Form)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let iterations = parse_iterations(iterations).ok_or(VerifierError::Iterations)?;
        let salt = STANDARD.decode(salt).map_err(|_| VerifierError::Base64("salt"))?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(VerifierError::Salt);
        }
        let stored_key = parse_key("first key", stored)?;
        let server_key = parse_key("second key", server)?;
        Ok(Self::from_keys(iterations, salt.into(), stored_key, server_key))
    }
}

/// An iteration count as RFC 5802 writes it: a positive number without a sign and without zeros in front.
pub(super) fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

fn parse_key(which: &'static str, text: &str) -> Result<[u8; KEY_BYTES], VerifierError> {
    let bytes = STANDARD.decode(text).map_err(|_| VerifierError::Base64(which))?;
    bytes.try_into().map_err(|_| VerifierError::Key(which))
}

/// Why a text is no verifier. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifierError {
    /// It is not `SCRAM-SHA-256$iterations:salt$stored:server`.
    Form,
    /// The iterations are no number above 0.
    Iterations,
    /// The salt is empty or longer than [`SALT_BYTES_MAX`].
    Salt,
    /// That part is no base64.
    Base64(&'static str),
    /// That key does not have 32 bytes.
    Key(&'static str),
}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => write!(f, "is not of the form {SCHEME}$iterations:salt$stored:server"),
            Self::Iterations => f.write_str("has a number of iterations that is no number above 0"),
            Self::Salt => write!(f, "has a salt that is empty or longer than {SALT_BYTES_MAX} bytes"),
            Self::Base64(part) => write!(f, "has a {part} that is not base64"),
            Self::Key(which) => write!(f, "has a {which} that is not {KEY_BYTES} bytes long"),
        }
    }
}

impl std::error::Error for VerifierError {}

/// A password after the slow hash, with what it was hashed with. Who has it can prove the password, and needs not hash
/// again as long as the relay names the same salt and iterations: as much of a secret as the password itself, so it is
/// overwritten when it is dropped.
#[derive(Clone)]
pub struct SaltedPassword {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Box<[u8]>,
    hash: Zeroizing<[u8; KEY_BYTES]>,
}

impl SaltedPassword {
    /// Hashes a password, prepared by SASLprep where that can be done: PBKDF2 with HMAC-SHA-256 (RFC 8018).
    #[must_use]
    pub fn new(password: &str, iterations: NonZeroU32, salt: &[u8]) -> Self {
        let password = Zeroizing::new(prepared(password).into_owned());
        let mut hash = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut *hash);
        Self { iterations, salt: salt.into(), hash }
    }

    pub(super) fn client_key(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hmac(&*self.hash, &[b"Client Key"]))
    }

    pub(super) fn server_key(&self) -> [u8; KEY_BYTES] {
        hmac(&*self.hash, &[b"Server Key"])
    }
}

/// Without the hash.
impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaltedPassword({} iterations)", self.iterations)
    }
}
