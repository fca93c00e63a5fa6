//! The users file, read: who there is, how each can prove it, what each may do.
//!
//! A line is a user, its words separated as in a shell; `#` begins a comment:
//!
//! ```text
//! %secret BASE64
//! ada  SCRAM-SHA-256$600000:...$...:...  token:BASE64  certificate  names=ada,ada/*  join=tea,news/*  admin=yes
//! ```
//!
//! Whoever asks for a user who is not there is answered as if there were one: with a salt that is made of the name and the
//! file's secret, so that it is the same whenever somebody asks, and with the iterations of one of the users. The path
//! through the code is the same, and so is the work.

pub mod edit;
mod line;
mod load;

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::hmac;
use hashbrown::HashTable;

pub use load::{FileError, Loader, Progress, text_of};

use super::access::Access;
use super::crypto::{KEY_BYTES, hmac_key, hmac_with};
use super::token::TokenDigest;
use super::verifier::{ITERATIONS_DEFAULT, SALT_BYTES, Verifier};

/// The longest users file, in bytes: room for as many users as there may be, with a verifier and some words each.
pub const FILE_BYTES_MAX: usize = 64 << 20;
/// The most users. Each takes about 200 bytes as long as the relay runs.
pub const USERS_MAX: usize = 1 << 18;
/// What is wrong with a list in which nobody is.
pub const NOBODY_IS_IN_IT: &str = "nobody is in it, so nobody could come in: `switchboard passwd` adds users";
/// Bytes of a new secret, as `%secret` has it in base64.
pub const SECRET_BYTES: usize = 32;

/// A user's place in [`Users`], below 2^30. It means nothing in another one, or in the file when it is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserKey(u32);

impl UserKey {
    /// As a number, to be kept among other bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The key that [`bits`](Self::bits) was asked of.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// A user.
#[derive(Debug)]
pub struct User {
    verifier: Option<Verifier>,
    may_use_certificate: bool,
    tokens: Box<[TokenDigest]>,
    access: Access,
}

impl User {
    /// The name, as the file writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.access.user
    }

    /// What the user may do.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Whether a client certificate of this name will do.
    #[must_use]
    pub const fn may_use_certificate(&self) -> bool {
        self.may_use_certificate
    }

    /// Whether the user still has all ways in that it had as `old`, in another list: whoever came in by one of them could do
    /// so again.
    #[must_use]
    pub fn keeps_ways_in_of(&self, old: &Self) -> bool {
        (old.verifier.is_none() || old.verifier == self.verifier)
            && (!old.may_use_certificate || self.may_use_certificate)
            && old.tokens.iter().all(|token| self.tokens.contains(token))
    }

    /// Whether there is a password.
    #[must_use]
    pub const fn has_password(&self) -> bool {
        self.verifier.is_some()
    }
}

/// All users. To drop it takes a few milliseconds if there are many thousands.
pub struct Users {
    list: Vec<User>,
    /// Users by name. The hash has a random key, for strangers ask for names.
    names: HashTable<u32>,
    tokens: HashTable<(TokenDigest, u32)>,
    /// Those who have a password, in the order of the file.
    with_password: Vec<u32>,
    has_certificates: bool,
    secret: hmac::Key,
    hasher: RandomState,
    nobody: User,
}

impl Users {
    fn with_capacity(most: usize) -> Self {
        let nobody =
            User { verifier: None, may_use_certificate: false, tokens: Box::default(), access: Access::nothing() };
        Self {
            list: Vec::with_capacity(most),
            names: HashTable::with_capacity(most),
            tokens: HashTable::new(),
            with_password: Vec::with_capacity(most),
            has_certificates: false,
            secret: hmac_key(&[]),
            hasher: RandomState::new(),
            nobody,
        }
    }

    /// Reads a whole file at once.
    ///
    /// # Errors
    /// With the first line that makes no sense, and what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, FileError> {
        let mut loader = Loader::new(text.into());
        loop {
            loader = match loader.advance(usize::MAX) {
                Progress::More(loader) => loader,
                Progress::Ready(users) => return Ok(users),
                Progress::Failed(error) => return Err(error),
            };
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether anybody has a password: else SCRAM need not be offered.
    #[must_use]
    pub const fn has_passwords(&self) -> bool {
        !self.with_password.is_empty()
    }

    /// Whether anybody has a token.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether anybody may use a certificate.
    #[must_use]
    pub const fn has_certificates(&self) -> bool {
        self.has_certificates
    }

    /// The user of this name, byte for byte.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<UserKey> {
        let found = self.names.find(self.hasher.hash_one(name), |at| self.list[*at as usize].name() == name);
        found.copied().map(UserKey)
    }

    /// The user whose token this is.
    #[must_use]
    pub fn by_token(&self, token: &[u8]) -> Option<UserKey> {
        let digest = TokenDigest::of(token);
        let found = self.tokens.find(self.hasher.hash_one(digest.bytes()), |(other, _)| *other == digest);
        found.map(|(_, at)| UserKey(*at))
    }

    /// What the user is and may do. For a key of other users that is somebody else, or nobody, who may do nothing.
    #[must_use]
    pub fn user(&self, key: UserKey) -> &User {
        self.list.get(key.0 as usize).unwrap_or(&self.nobody)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.list.iter()
    }

    /// The verifier of the user of this name. For whom is not there, or has no password, there is one that nobody can
    /// prove, always the same, and with the iterations and the length of salt of one of the users.
    #[must_use]
    pub fn verifier_or_mock(&self, name: &str) -> (Option<UserKey>, Verifier) {
        // Made for everybody, so that the time is the same.
        let mock = self.mock(name);
        let known = self.find(name).and_then(|key| Some((key, self.user(key).verifier.as_ref()?)));
        let (key, verifier) = known.map_or((None, &mock), |(key, verifier)| (Some(key), verifier));
        (key, verifier.clone())
    }

    fn mock(&self, name: &str) -> Verifier {
        let made = |what: &str| hmac_with(&self.secret, &[what.as_bytes(), b"\0", name.as_bytes()]);
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = made("choice");
        let choice = place_of(u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]), self.with_password.len() as u64);
        let model = self.with_password.get(choice as usize).and_then(|at| self.list[*at as usize].verifier.as_ref());
        let (iterations, salt_bytes) =
            model.map_or((ITERATIONS_DEFAULT, SALT_BYTES), |model| (model.iterations(), model.salt().len()));
        let (start, rest) = (made("salt"), made("more salt"));
        let salt: Box<[u8]> = start.into_iter().chain(rest).take(salt_bytes).collect();
        const { assert!(super::SALT_BYTES_MAX <= 2 * KEY_BYTES) };
        Verifier::from_keys(iterations, salt, made("stored key"), made("server key"))
    }
}

/// A place below `count` for `key`, which almost always stays the same when there is one more: else the iterations that
/// strangers are told would change whenever a user is added. It is jump consistent hashing (Lamping and Veach, 2014).
const fn place_of(mut key: u64, count: u64) -> u64 {
    let (mut place, mut next) = (0, 0);
    while next < count {
        place = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((place + 1) << 31) / ((key >> 33) + 1);
    }
    place
}

/// How many, and nothing of what they prove themselves by.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.len())
    }
}

#[cfg(test)]
mod tests;
