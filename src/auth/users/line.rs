//! One line of the users file: its words, and what they say of a user.

use std::ops::Range;

use super::super::access::{Access, List};
use super::super::token::{TOKEN_PREFIX, TokenDigest};
use super::super::verifier::{ITERATIONS_MAX, ITERATIONS_MIN, Verifier, prepared};
use super::User;
use crate::wire::{NAME_BYTES_MAX, is_valid_name};

/// The longest line, in bytes. A turn of the loop reads some hundred lines.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// The most tokens that a user can have.
pub(super) const TOKENS_MAX: usize = 16;
/// As much of a word as is repeated in an error.
const SHOWN_CHARS: usize = 40;
/// As long as what stands before an equals sign can be, mistyped as it may be.
const KEY_BYTES_SHOWN: usize = 10;

/// Where the words of a line are, quotes and all; a comment is none. A quote that is not closed ends with the line.
pub(super) fn word_places(line: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut bytes = line.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None, b' ' | b'\t') => {
                places.extend(start.take().map(|start| start..at));
                continue;
            }
            (None, b'#') if start.is_none() => return places,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            // Within single quotes a backslash is one.
            (None | Some(b'"'), b'\\') => drop(bytes.next()),
            _ => {}
        }
        start.get_or_insert(at);
    }
    places.extend(start.map(|start| start..line.len()));
    places
}

/// The words of a line, without their quotes.
pub(super) fn words(line: &str) -> Result<Vec<String>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("the line has {} bytes; {LINE_BYTES_MAX} are the most", line.len()));
    }
    shlex::split(line).ok_or_else(|| "a quote is not closed, or a backslash ends the line".into())
}

/// A word as an error repeats it: in quotes, with nothing that could steer a terminal, and not all of it; of a token, which
/// can stand in a wrong place and within other words, only what all of them have, and of a pair (`ada:password`,
/// `secret=...`) only how it begins.
pub(super) fn shown(word: &str) -> String {
    let pair = word.find([':', '=']).map(|at| at + 1);
    let token = word.find(TOKEN_PREFIX).map(|at| at + TOKEN_PREFIX.len());
    let start = &word[..pair.into_iter().chain(token).min().unwrap_or(word.len())];
    let start: String = start.chars().take(SHOWN_CHARS).collect();
    format!("{start:?}{}", if start.len() < word.len() { "..." } else { "" })
}

/// What is wrong with the name of a user, if anything.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("the user's name has {} bytes; {NAME_BYTES_MAX} are the most", name.len()));
    }
    if !is_valid_name(name) {
        let why = "is empty, has a space at an end, or a character that could garble a terminal";
        return Err(format!("the user's name {} {why}", shown(name)));
    }
    if name.contains('\u{feff}') {
        // Nobody sees it, and in front of the first line it is no part of the name: a line that becomes the first would
        // be somebody else's.
        return Err(format!("the user's name {} has a byte order mark (U+FEFF) in it: take that out", shown(name)));
    }
    if name.starts_with('%') {
        return Err(format!("a user's name cannot begin with %, as {} does", shown(name)));
    }
    let written = prepared(name);
    if written != name {
        // What a client asks for is prepared, and so would never find it.
        return Err(format!("write the user's name {} as {}: so do clients (SASLprep)", shown(name), shown(&written)));
    }
    Ok(())
}

/// A user as a line writes it, and its tokens.
pub(super) struct Entry {
    pub(super) user: User,
    pub(super) tokens: Vec<TokenDigest>,
}

impl Entry {
    /// Reads the words behind the name.
    pub(super) fn parse(name: &str, words: &[String]) -> Result<Self, String> {
        check_name(name)?;
        let user =
            User { verifier: None, may_use_certificate: false, tokens: Box::default(), access: Access::usual(name) };
        let mut entry = Self { user, tokens: Vec::new() };
        let mut seen: Vec<&str> = Vec::new();
        for word in words {
            let key = entry.take(word)?;
            if seen.contains(&key) && key != "token:" {
                return Err(format!("{key} is there twice"));
            }
            seen.push(key);
        }
        let user = &entry.user;
        if user.verifier.is_none() && entry.tokens.is_empty() && !user.may_use_certificate {
            return Err(format!(
                "{} has no way in: no password, no token, and `certificate` is not there",
                shown(name)
            ));
        }
        entry.user.tokens = entry.tokens.as_slice().into();
        Ok(entry)
    }

    /// Reads one word, and gives what it is about.
    fn take(&mut self, word: &str) -> Result<&'static str, String> {
        let access = &mut self.user.access;
        if word == "certificate" {
            self.user.may_use_certificate = true;
            return Ok("certificate");
        }
        if word.starts_with("SCRAM-SHA-256$") {
            self.user.verifier = Some(parse_verifier(word)?);
            return Ok("a password");
        }
        if let Some(digest) = word.strip_prefix("token:") {
            self.tokens.push(digest.parse().map_err(|why| format!("a token's hash {why}"))?);
            if self.tokens.len() > TOKENS_MAX {
                return Err(format!("there are more than {TOKENS_MAX} tokens"));
            }
            return Ok("token:");
        }
        if word.starts_with(TOKEN_PREFIX) {
            return Err(
                "a token stands there itself; write `token:` and its hash, as `switchboard passwd --token` does".into(),
            );
        }
        let (key, value) = word.split_once('=').ok_or_else(|| unknown(word))?;
        let list = || List::parse(value).map_err(|why| format!("{}= {why}", shown_key(key)));
        let rooms = || {
            if value.split(',').any(|room| room.starts_with('#')) {
                return Err(format!("{}= has a room with a #: rooms are written without", shown_key(key)));
            }
            list()
        };
        let is_yes = || match value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(format!("{}= is yes or no, not {}", shown_key(key), shown(value))),
        };
        match key {
            "names" => access.names = Some(list()?),
            "join" => access.join = rooms()?,
            "create" => access.create = rooms()?,
            "send" => access.send = rooms()?,
            "to" => access.to = list()?,
            "all" => access.all = is_yes()?,
            "watch" => access.watch = is_yes()?,
            "admin" => access.admin = is_yes()?,
            _ => return Err(unknown(word)),
        }
        Ok(KEYS.into_iter().find(|known| known.trim_end_matches('=') == key).unwrap_or_default())
    }
}

/// What can stand before an equals sign.
const KEYS: [&str; 8] = ["names=", "join=", "create=", "send=", "to=", "all=", "watch=", "admin="];

/// Whether a word says what a user may do, or that a certificate will do: one that holds nothing secret.
pub(super) fn is_right(word: &str) -> bool {
    word == "certificate" || KEYS.into_iter().any(|key| word.starts_with(key))
}

fn shown_key(key: &str) -> &str {
    KEYS.into_iter().map(|known| known.trim_end_matches('=')).find(|known| *known == key).unwrap_or_default()
}

/// What is not known can be a password or a key that was put there by mistake. So it is repeated only as far as its equals
/// sign, and only if that looks like one of the words that can stand there.
fn unknown(word: &str) -> String {
    let key = word.split_once('=').filter(|(_, value)| !value.is_empty()).map(|(key, _)| key);
    let key = key.filter(|key| key.len() <= KEY_BYTES_SHOWN && key.bytes().all(|byte| byte.is_ascii_lowercase()));
    let what = key.map_or_else(|| "a word".to_owned(), |key| format!("\"{key}=\""));
    format!("{what} is not known; after the name stand SCRAM-SHA-256$..., token:..., certificate, {}", KEYS.join(", "))
}

fn parse_verifier(word: &str) -> Result<Verifier, String> {
    let verifier: Verifier = word.parse().map_err(|why| format!("the password's verifier {why}"))?;
    let iterations = verifier.iterations().get();
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        return Err(format!(
            "the password's verifier has {iterations} iterations; clients take {ITERATIONS_MIN} to {ITERATIONS_MAX}"
        ));
    }
    Ok(verifier)
}
