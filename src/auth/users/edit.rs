//! Changes to the text of a users file: one word or line is another, and every other byte stays as it is.
//!
//! Each change reads the file before and after. What makes no sense is not written, and neither is what would have changed
//! something else than it should.

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::token::TokenDigest;
use super::super::verifier::Verifier;
use super::line::{check_name, is_right, word_places, words};
use super::{FileError, SECRET_BYTES, User, UserKey, Users};

/// What is to be changed about a user.
#[derive(Debug)]
pub enum Change<'a> {
    /// This is the password now; the user is added if it is not there.
    Password(&'a Verifier),
    /// There is one more token; the user is added if it is not there.
    Token(TokenDigest),
    /// There is this token and none of those that there were. The user must be there: to add it where a name was mistyped
    /// would leave the old tokens of the other, and nobody would know.
    OnlyToken(TokenDigest),
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
    /// There is no user of this name, to take out or to take tokens from.
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
    let (mark, text) = split_mark(text);
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if !lines.iter().any(|line| is_of("%secret", line)) {
        add_line(&mut lines, &format!("%secret {}", STANDARD.encode(secret)));
    }
    // As it is written: of two marks the second one belongs to a word.
    let written = |lines: &[String]| format!("{mark}{}", lines.concat());
    let before = Users::parse(written(&lines)).map_err(EditError::File)?;
    let place = lines.iter().position(|line| is_of(user, line));
    let word = match change {
        Change::Password(verifier) => verifier.to_string(),
        Change::Token(digest) | Change::OnlyToken(digest) => format!("token:{digest}"),
        Change::Remove => String::new(),
    };
    match (change, place) {
        (Change::Remove, Some(place)) => drop(lines.remove(place)),
        (Change::Remove | Change::OnlyToken(_), None) => return Err(EditError::NoSuchUser),
        (Change::Password(_), Some(place)) => set_word(&mut lines[place], "SCRAM-SHA-256$", &word),
        (Change::OnlyToken(_), Some(place)) => set_word(&mut lines[place], "token:", &word),
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

/// The words of a user's line that say what it may do, and `certificate`, as they are written: what is lost with the line,
/// but for what it proves itself by. None, if there is no such line.
#[must_use]
pub fn rights_of<'a>(text: &'a str, user: &str) -> Vec<&'a str> {
    let (_, text) = split_mark(text);
    let line = text.split('\n').find(|line| is_of(user, line)).map_or("", body);
    let places = word_places(line).into_iter().skip(1);
    places.filter(|place| is_right(&word_at(line, place))).map(|place| &line[place]).collect()
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
            Change::OnlyToken(digest) => {
                let old_tokens = old.map_or(0, |user| user.tokens.len());
                let is_alone = new.is_some_and(|user| *user.tokens == [*digest]);
                let others_stay = after.tokens.len() + old_tokens == before.tokens.len() + 1;
                keeps_rest && is_alone && others_stay && new_verifier == old_verifier
            }
            Change::Remove => new.is_none(),
        }
}

/// The mark that some editors begin a file with, and the text behind it.
fn split_mark(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 })
}

/// A line without its end.
fn body(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// Whether this is the first word of a line.
fn is_of(first: &str, line: &str) -> bool {
    words(body(line)).is_ok_and(|words| words.first().is_some_and(|word| word == first))
}

/// The word at a place of [`word_places`], without its quotes.
fn word_at(line: &str, place: &Range<usize>) -> String {
    words(&line[place.clone()]).unwrap_or_default().concat()
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

/// Puts a word in the place of the first that begins so, and takes all others that do out, each with the space in front of
/// it. Where there is none it is added.
fn set_word(line: &mut String, start: &str, word: &str) {
    let places = word_places(body(line));
    // The first word is the name, whatever that looks like.
    let pairs = places.windows(2).filter(|pair| word_at(line, &pair[1]).starts_with(start));
    let pairs: Vec<&[Range<usize>]> = pairs.collect();
    let [first, others @ ..] = &pairs[..] else { return add_word(line, word) };
    // The last one first, so that the places of those in front of it stay what they are.
    for pair in others.iter().rev() {
        line.replace_range(pair[0].end..pair[1].end, "");
    }
    line.replace_range(first[1].clone(), word);
}

/// Adds a word behind all others, in front of a comment.
fn add_word(line: &mut String, word: &str) {
    let end = word_places(body(line)).last().map_or(0, |place| place.end);
    line.insert_str(end, &format!(" {word}"));
}
