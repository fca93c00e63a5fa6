//! The text of a users file: it is read or its line is named, in whatever slices; and a change of it changes what was meant.

use switchboard::auth::edit::{Change, EditError, changed, rights_of};
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
        check_only_token(&text, user);
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
    let is_hidden = !text.replace(VERIFIER, "").replace(['\'', '"', '\\'], "").contains(MARK);
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
            assert!(matches!(change, Change::Remove | Change::OnlyToken(_)));
            None
        }
        Err(EditError::Name(_)) => panic!("{user:?} may be a user"),
    }
}

/// All but one are as they were.
fn check_others(before: Option<&Users>, after: &Users, user: &str) {
    let others = |users: &Users| users.iter().filter(|other| other.name() != user).map(shape_of).collect::<Vec<_>>();
    let Some(before) = before else { return };
    assert_eq!(others(before), others(after));
    let names = before.iter().map(User::name).filter(|name| *name != user);
    for [old, new] in names.map(|name| [before, after].map(|users| named(users, name))) {
        assert!(new.keeps_ways_in_of(old) && old.keeps_ways_in_of(new), "{}", old.name());
    }
}

fn named<'a>(users: &'a Users, name: &str) -> &'a User {
    users.user(users.find(name).expect("there"))
}

fn verifier(users: &Users, name: &str) -> Option<Verifier> {
    let (key, verifier) = users.verifier_or_mock(name);
    key.map(|_| verifier)
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

fn check_only_token(text: &str, user: &str) {
    let Some((after, old, new)) = made(text, user, &Change::OnlyToken(digest())) else { return };
    check_others(old.as_ref(), &new, user);
    assert_eq!(new.by_token(b"a token of the fuzzer"), new.find(user));
    let now = named(&new, user);
    // Somebody who has the other ways in, and this token alone, has as many.
    let password = verifier(&new, user).map_or_else(String::new, |verifier| verifier.to_string());
    let certificate = if now.may_use_certificate() { "certificate" } else { "" };
    let line = format!("x token:{} {password} {certificate}", digest());
    let alone = Users::parse(format!("%secret {}=\n{line}", "A".repeat(43))).expect("a user");
    let alone = named(&alone, "x");
    assert!(now.keeps_ways_in_of(alone) && alone.keeps_ways_in_of(now), "{text:?} became {after:?}");
    // If it makes sense, the user was there.
    if let Some(old) = &old {
        assert_eq!(shape_of(named(old, user)), shape_of(now));
        assert_eq!(verifier(old, user), verifier(&new, user));
    }
    // What else there is stands there still.
    assert_eq!(rights_of(text, user), rights_of(&after, user), "{text:?} became {after:?}");
    let again = changed(&after, user, &Change::OnlyToken(digest()), &SECRET);
    assert_eq!(again.as_deref(), Ok(&*after), "what is alone is alone");
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
    check_rights(text, user);
    // The mark at its beginning stays, in front of whatever comes first now.
    let mut lines = after.trim_start_matches('\u{feff}').split('\n');
    assert!(
        lines.all(|line| text.contains(line.trim_end_matches('\r')) || line.starts_with("%secret ")),
        "{text:?} became {after:?}"
    );
}

/// What is said of a line that was taken out gives back what it allowed, and nothing that anybody could prove.
fn check_rights(text: &str, user: &str) {
    let Ok(old) = Users::parse(text) else { return };
    let old = named(&old, user);
    let line = changed("", user, &Change::Token(digest()), &SECRET).expect("a line");
    let line = line.trim_end();
    let rights = rights_of(text, user).join(" ");
    let new = Users::parse(format!("{line} {rights}")).expect("a line");
    let new = named(&new, user);
    assert_eq!(format!("{:?}", new.access()), format!("{:?}", old.access()), "{text:?}: {rights}");
    let certificate = if old.may_use_certificate() { "certificate" } else { "" };
    let alone = Users::parse(format!("{line} {certificate}")).expect("a line");
    let alone = named(&alone, user);
    assert!(new.keeps_ways_in_of(alone) && alone.keeps_ways_in_of(new), "{text:?}: {rights}");
}
