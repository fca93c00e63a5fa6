//! The text of a users file: it is read or its line is named, in whatever slices; and a change of it changes what was meant.

use switchboard::auth::edit::{Change, EditError, changed};
use switchboard::auth::{FileError, Loader, Progress, SECRET_BYTES, TokenDigest, User, Users, Verifier};

use super::steers_a_terminal;

/// What lines are made of where the input is no text.
const PIECES: [&str; 40] = [
    "ada",
    "bob",
    "'Ada L'",
    "eve",
    " ",
    "\t",
    "\n",
    "\r\n",
    "#",
    "'",
    "\"",
    "\\",
    "%secret ",
    "AAECAwQFBgcICQoLDA0ODw==",
    VERIFIER,
    "SCRAM-SHA-256$",
    "4096:",
    "token:",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
    "certificate",
    " certificate\n",
    "names=",
    "join=",
    "create=",
    "send=",
    "to=",
    "all=",
    "watch=",
    "admin=",
    "yes",
    "no",
    "*",
    "-",
    ",",
    "/",
    "swb_",
    "\u{feff}",
    "\u{202e}",
    "\u{fb01}",
];
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
/// What stands in a verifier and is to be shown to nobody.
const MARK: &str = "WG5d8oPm3";
const OTHER: &str = "SCRAM-SHA-256$5000:AAAA$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const SECRET: [u8; SECRET_BYTES] = [1; SECRET_BYTES];

pub(crate) fn run(input: &[u8]) {
    let text: String = match input {
        [0, pieces @ ..] => pieces.iter().map(|byte| PIECES[usize::from(*byte) % PIECES.len()]).collect(),
        _ => String::from_utf8_lossy(input).into_owned(),
    };
    let whole = Users::parse(&*text);
    check_error(&text, whole.as_ref().err());
    let slices = in_slices(&text);
    assert_eq!(whole.as_ref().map(shape), slices.as_ref().map(shape), "{text:?}");
    if let Ok(users) = &whole {
        check_users(users);
    }
    let known: Vec<&str> = whole.iter().flat_map(Users::iter).map(User::name).take(3).collect();
    for user in known.into_iter().chain(["new", "a b"]) {
        check_token(&text, user);
        check_password(&text, user);
        check_removal(&text, user);
    }
}

fn in_slices(text: &str) -> Result<Users, FileError> {
    let mut loader = Loader::new(text.to_owned());
    loop {
        loader = match loader.advance(1) {
            Progress::More(loader) => loader,
            Progress::Ready(users) => return Ok(users),
            Progress::Failed(error) => return Err(error),
        };
    }
}

/// What can be seen of each user from outside.
fn shape(users: &Users) -> Vec<String> {
    users.iter().map(shape_of).collect()
}

fn shape_of(user: &User) -> String {
    format!("{:?} {} {}", user.access(), user.has_password(), user.may_use_certificate())
}

fn check_error(text: &str, error: Option<&FileError>) {
    let Some(error) = error else { return };
    assert!((1..=text.split('\n').count()).contains(&error.line), "{error}");
    assert!(!error.what.is_empty() && !error.what.chars().any(steers_a_terminal), "{error:?}");
    // A user may be called anything, and what stands where yes or no should is shown.
    let is_hidden = !text.replace(VERIFIER, "").contains(MARK);
    let secret = |word: &str| word.starts_with("swb_") && word.len() > 4 || word.contains(MARK) && is_hidden;
    let is_of_name = error.what.contains("user's name");
    assert!(is_of_name || !error.what.split([' ', '"']).any(secret), "{error}");
}

fn check_users(users: &Users) {
    for user in users.iter() {
        let key = users.find(user.name()).expect("who is there is found");
        assert_eq!(users.user(key).name(), user.name());
        let (found, verifier) = users.verifier_or_mock(user.name());
        assert_eq!(found.is_some(), user.has_password());
        assert!(found.is_none_or(|found| found == key) && verifier.iterations().get() >= 4096);
        assert!(user.access().addresses_everyone() <= user.access().may_address("anybody"));
    }
    assert_eq!(users.verifier_or_mock("stranger"), users.verifier_or_mock("stranger"));
    assert!(users.by_token(b"swb_ that nobody has").is_none());
}

fn digest() -> TokenDigest {
    TokenDigest::of(b"a token of the fuzzer")
}

/// The users before and after a change, and the text after it; nothing if there was none, for a reason that holds.
fn made(text: &str, user: &str, change: &Change<'_>) -> Option<(String, Option<Users>, Users)> {
    match changed(text, user, change, &SECRET) {
        Ok(after) => {
            let users = Users::parse(&*after).unwrap_or_else(|error| panic!("{text:?} became {after:?}: {error}"));
            Some((after, Users::parse(text).ok(), users))
        }
        Err(EditError::File(error)) => {
            check_error(&format!("{text}\n\n"), Some(&error));
            // What makes sense can be changed, unless there is too much of it then.
            let is_full = error.what.contains("are the most") || error.what.contains("more than");
            assert!(is_full || Users::parse(text).is_err(), "{text:?}: {error}");
            None
        }
        Err(EditError::NoSuchUser) => {
            assert!(matches!(change, Change::Remove));
            None
        }
        Err(EditError::Name(_)) => panic!("{user:?} may be a user"),
    }
}

/// All but one are as they were.
fn check_others(before: Option<&Users>, after: &Users, user: &str) {
    let others = |users: &Users| users.iter().filter(|other| other.name() != user).map(shape_of).collect::<Vec<_>>();
    assert!(before.is_none_or(|before| others(before) == others(after)));
}

fn check_token(text: &str, user: &str) {
    let Some((after, old, new)) = made(text, user, &Change::Token(digest())) else { return };
    check_others(old.as_ref(), &new, user);
    assert_eq!(new.by_token(b"a token of the fuzzer"), new.find(user));
    assert!(new.find(user).is_some());
    // Without the word all is as it was, but for what stands behind it all.
    let word = format!(" token:{}", digest());
    assert_eq!(after.matches(&word).count(), 1, "{after:?}");
    assert!(after.replace(&word, "").starts_with(text), "{text:?} became {after:?}");
}

fn check_password(text: &str, user: &str) {
    let verifier: Verifier = OTHER.parse().expect("a verifier");
    let Some((after, old, new)) = made(text, user, &Change::Password(&verifier)) else { return };
    check_others(old.as_ref(), &new, user);
    let (key, now) = new.verifier_or_mock(user);
    assert!(key.is_some() && now == verifier, "{text:?} became {after:?}");
    let again = changed(&after, user, &Change::Password(&verifier), &SECRET);
    assert_eq!(again.as_deref(), Ok(&*after), "what is set is set");
}

fn check_removal(text: &str, user: &str) {
    let Some((after, old, new)) = made(text, user, &Change::Remove) else { return };
    check_others(old.as_ref(), &new, user);
    assert!(new.find(user).is_none());
    // The mark at its beginning stays, in front of whatever comes first now.
    let mut lines = after.trim_start_matches('\u{feff}').split('\n');
    assert!(
        lines.all(|line| text.contains(line.trim_end_matches('\r')) || line.starts_with("%secret ")),
        "{text:?} became {after:?}"
    );
}
