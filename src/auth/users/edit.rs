//! Changes to the text of a users file: one word or line is another, and every other byte stays as it is.
//!
//! Each change reads the file before and after. What makes no sense is not written, and neither is what would have changed
//! something else than it should.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::token::TokenDigest;
use super::super::verifier::Verifier;
use super::line::{check_name, word_places, words};
use super::{FileError, SECRET_BYTES, User, UserKey, Users};

/// What is to be changed about a user.
#[derive(Debug)]
pub enum Change<'a> {
    /// This is the password now; the user is added if it is not there.
    Password(&'a Verifier),
    /// There is one more token; the user is added if it is not there.
    Token(TokenDigest),
    /// The user is taken out.
    Remove,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The file makes no sense, as it is or with the change.
    File(FileError),
    /// That cannot be a user's name; why, in words.
    Name(String),
    /// There is no user of this name to take out.
    NoSuchUser,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Name(why) => f.write_str(why),
            Self::NoSuchUser => f.write_str("there is no such user"),
        }
    }
}

impl std::error::Error for EditError {}

/// What is wrong with a user's name, if anything: to be asked before a password is asked for.
///
/// # Errors
/// If it cannot be a user's name.
pub fn check_user(name: &str) -> Result<(), EditError> {
    check_name(name).map_err(EditError::Name)
}

/// The text of a users file with a change made. If it has no `%secret`, it is given this one in a line at its end.
///
/// # Errors
/// If the file makes no sense, before or after; if there is no such user, or cannot be one.
pub fn changed(text: &str, user: &str, change: &Change<'_>, secret: &[u8; SECRET_BYTES]) -> Result<String, EditError> {
    check_user(user)?;
    let (mark, text) = text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 });
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let first_word = |line: &String| words(body(line)).ok()?.into_iter().next();
    if !lines.iter().any(|line| first_word(line).is_some_and(|word| word == "%secret")) {
        add_line(&mut lines, &format!("%secret {}", STANDARD.encode(secret)));
    }
    // As it is written: of two marks the second one belongs to a word.
    let written = |lines: &[String]| format!("{mark}{}", lines.concat());
    let before = Users::parse(written(&lines)).map_err(EditError::File)?;
    let place = lines.iter().position(|line| first_word(line).is_some_and(|word| word == user));
    let word = match change {
        Change::Password(verifier) => verifier.to_string(),
        Change::Token(digest) => format!("token:{digest}"),
        Change::Remove => String::new(),
    };
    match (change, place) {
        (Change::Remove, Some(place)) => drop(lines.remove(place)),
        (Change::Remove, None) => return Err(EditError::NoSuchUser),
        (Change::Password(_), Some(place)) => set_password(&mut lines[place], &word),
        (Change::Token(_), Some(place)) => add_word(&mut lines[place], &word),
        (_, None) => {
            let name = shlex::try_quote(user).unwrap_or_default();
            add_line(&mut lines, &format!("{name} {word}"));
        }
    }
    let after = Users::parse(written(&lines)).map_err(EditError::File)?;
    if !is_made(&before, &after, user, change) {
        let line = place.map_or(lines.len(), |place| place + 1);
        let what = "it is written in a way that cannot be changed safely: change it by hand".into();
        return Err(EditError::File(FileError { line, what }));
    }
    Ok(written(&lines))
}

/// Whether the change was made, and nothing else about the user. Other lines are as they were.
fn is_made(before: &Users, after: &Users, user: &str, change: &Change<'_>) -> bool {
    let [old, new] = [before, after].map(|users| users.find(user).map(|key| users.user(key)));
    let others = after.len() - usize::from(new.is_some()) == before.len() - usize::from(old.is_some());
    let new_tokens = after.tokens.len().checked_sub(before.tokens.len());
    let rest = |user: &User| (user.access.clone(), user.may_use_certificate);
    let keeps_rest = old.is_none() || old.map(rest) == new.map(rest);
    let [old_verifier, new_verifier] = [old, new].map(|user| user.and_then(|user| user.verifier.as_ref()));
    others
        && match change {
            Change::Password(verifier) => keeps_rest && new_tokens == Some(0) && new_verifier == Some(*verifier),
            Change::Token(digest) => {
                let owner =
                    after.tokens.iter().find(|(other, _)| other == digest).map(|(_, at)| UserKey::from_bits(*at));
                let is_theirs = owner.is_some() && owner == after.find(user);
                keeps_rest && new_tokens == Some(1) && is_theirs && new_verifier == old_verifier
            }
            Change::Remove => new.is_none(),
        }
}

/// A line without its end.
fn body(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// Adds a line at the end, which ends as the others do.
fn add_line(lines: &mut Vec<String>, line: &str) {
    let end = if lines.iter().any(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    if let Some(last) = lines.last_mut()
        && !last.ends_with('\n')
    {
        last.push_str(end);
    }
    lines.push(format!("{line}{end}"));
}

/// Puts a verifier in the place of the one that is there, or behind all words.
fn set_password(line: &mut String, word: &str) {
    let is_verifier = |place: &std::ops::Range<usize>| {
        words(&line[place.clone()]).is_ok_and(|words| words.iter().any(|word| word.starts_with("SCRAM-SHA-256$")))
    };
    match word_places(body(line)).into_iter().find(is_verifier) {
        Some(place) => line.replace_range(place, word),
        None => add_word(line, word),
    }
}

/// Adds a word behind all others, in front of a comment.
fn add_word(line: &mut String, word: &str) {
    let end = word_places(body(line)).last().map_or(0, |place| place.end);
    line.insert_str(end, &format!(" {word}"));
}
