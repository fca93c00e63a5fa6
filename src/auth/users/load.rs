//! Reads a users file some lines at a time, so that a file of many thousands does not hold up a loop.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::crypto::hmac_key;
use super::line::{Entry, shown, words};
use super::{FILE_BYTES_MAX, SECRET_BYTES, USERS_MAX, Users};

/// Fewer bytes than that are no secret.
const SECRET_BYTES_MIN: usize = 16;
/// Bytes of a line with a password and little else: by these the tables are made as large as they will be.
const LINE_BYTES_USUAL: usize = 140;

/// What is wrong with a users file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The line, the first being 1.
    pub line: usize,
    /// What is wrong with it, and what to do. It holds nothing that could steer a terminal, and no secret.
    pub what: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for FileError {}

/// The text of a users file.
///
/// # Errors
/// With the first line that is not UTF-8, or if there is more of it than [`FILE_BYTES_MAX`].
pub fn text_of(bytes: Vec<u8>) -> Result<String, FileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FileError { line: 1, what: format!("the file has more than {} MiB", FILE_BYTES_MAX >> 20) });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        FileError { line, what: "it is not UTF-8".into() }
    })
}

/// A users file that is being read.
#[derive(Debug)]
pub struct Loader {
    text: String,
    /// Where the next line begins.
    at: usize,
    /// Lines before it.
    line: usize,
    has_secret: bool,
    /// The line of the first user with a password.
    first_password: Option<usize>,
    users: Users,
}

/// How far a [`Loader`] has come.
#[derive(Debug)]
pub enum Progress {
    /// There are more lines.
    More(Loader),
    /// That was all.
    Ready(Users),
    /// The file makes no sense.
    Failed(FileError),
}

impl Loader {
    /// Begins to read; nothing is looked at yet.
    #[must_use]
    pub fn new(text: String) -> Self {
        let users = Users::with_capacity((text.len() / LINE_BYTES_USUAL).min(USERS_MAX));
        // Some editors begin a file so.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, line: 0, has_secret: false, first_password: None, users }
    }

    /// The same for what was read from a file.
    ///
    /// # Errors
    /// With the first line that is not UTF-8, or if there is too much of it.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, FileError> {
        text_of(bytes).map(Self::new)
    }

    /// Reads at most so many lines.
    #[must_use]
    pub fn advance(mut self, lines_max: usize) -> Progress {
        for _ in 0..lines_max {
            let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) else { return self.finish() };
            let length = rest.find('\n').unwrap_or(rest.len());
            let line = self.at..self.at + length;
            self.at = line.end + 1;
            self.line += 1;
            if let Err(what) = self.take(line.start, line.end) {
                return Progress::Failed(FileError { line: self.line, what });
            }
        }
        Progress::More(self)
    }

    fn take(&mut self, start: usize, end: usize) -> Result<(), String> {
        let words = words(self.text[start..end].trim_end_matches('\r'))?;
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        if name == "%secret" {
            return self.take_secret(rest);
        }
        self.take_user(Entry::parse(name, rest)?)
    }

    fn take_secret(&mut self, words: &[String]) -> Result<(), String> {
        if self.has_secret {
            return Err("%secret is there twice".into());
        }
        let [secret] = words else { return Err("behind %secret stands one word, in base64".into()) };
        let secret = STANDARD.decode(secret).map_err(|_| "the word behind %secret is not base64")?;
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("%secret has {} bytes; {SECRET_BYTES_MIN} are the fewest", secret.len()));
        }
        self.has_secret = true;
        self.users.secret = hmac_key(&secret);
        Ok(())
    }

    fn take_user(&mut self, entry: Entry) -> Result<(), String> {
        use std::hash::BuildHasher;

        let users = &mut self.users;
        let name = entry.user.name();
        if users.find(name).is_some() {
            return Err(format!("{} is there twice", shown(name)));
        }
        if users.len() >= USERS_MAX {
            return Err(format!("there are more than {USERS_MAX} users"));
        }
        let at = users.list.len() as u32;
        for digest in entry.tokens {
            let hash = users.hasher.hash_one(digest.bytes());
            if users.tokens.find(hash, |(other, _)| *other == digest).is_some() {
                return Err("a token is there twice: a token belongs to one user".into());
            }
            users.tokens.insert_unique(hash, (digest, at), |(digest, _)| users.hasher.hash_one(digest.bytes()));
        }
        if entry.user.has_password() {
            users.with_password.push(at);
            self.first_password.get_or_insert(self.line);
        }
        users.has_certificates |= entry.user.may_use_certificate;
        let hash = users.hasher.hash_one(entry.user.name());
        users.list.push(entry.user);
        let (list, hasher) = (&users.list, &users.hasher);
        users.names.insert_unique(hash, at, |at| hasher.hash_one(list[*at as usize].name()));
        Ok(())
    }

    fn finish(self) -> Progress {
        match self.first_password {
            Some(line) if !self.has_secret => {
                let what = format!(
                    "a password needs a line `%secret` and {SECRET_BYTES} random bytes in base64 somewhere in the file, \
                     so that strangers cannot find out who is in it: `switchboard passwd` writes one"
                );
                Progress::Failed(FileError { line, what })
            }
            _ => Progress::Ready(self.users),
        }
    }
}
