//! `switchboard passwd`: changes a users file, one user at a time, or says what is wrong with it.
//!
//! A password comes from the terminal or from standard input: never from the command line, which everybody on the machine
//! can read, and it goes nowhere but into its hash. The file is changed by `auth::edit`, which knows no file; `file.rs`
//! puts the result in its place.

mod ask;
mod file;

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::file::UsersFile;
use super::{Trouble, output};
use crate::auth::edit::{Change, EditError, changed, check_user, rights_of};
use crate::auth::{
    ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, NOBODY_IS_IN_IT, SALT_BYTES, SECRET_BYTES, TOKEN_BYTES,
    TokenDigest, Users, Verifier, random, token_text,
};

/// What a users file says, for those who write what stands behind a name by hand.
const FORMAT: &str = "\
THE USERS FILE has a line for each user: the name, the ways in, and what the user may do.
Names and values with spaces stand in quotes, and # begins a comment.

  %secret AAEC...   (made with the file: keep it)
  ada   SCRAM-SHA-256$...  names=ada,ada/*  admin=yes
  bot   token:...          join=reports  create=reports  send=reports  to=-  all=no  watch=no
  eve   certificate

Ways in, at least one:
  SCRAM-SHA-256$...  a password, as `switchboard passwd FILE USER` writes it
  token:...          a token's hash, as --token writes it; up to 16
  certificate        a client certificate in the user's name, of an authority of --tls-client-ca

What a user may do; lists have commas, * stands for anything, a lone - for nothing:
  names=LIST         names that its clients may have     [default: its own, own/*]
  join=LIST          rooms that it may join              [default: *]
  create=LIST        rooms that it may make by joining   [default: *]
  send=LIST          rooms that it may send to, of those [default: *]
  to=LIST            clients that it may address         [default: *]
  all=yes|no         whether it may send to all          [default: yes]
  watch=yes|no       whether it may know who is here     [default: yes]
  admin=yes|no       whether it may evict others         [default: no]

Only members send to a room, so one in send= must be in join=, and in create= if nobody else is there.
Rooms are written without #. To keep somebody out, take the line away and send the relay SIGHUP.

Whoever may write the file can be anybody: keep it to the relay's own user.";

/// What was done.
#[derive(Debug)]
enum Done<'a> {
    Password,
    /// This token was made.
    Token(&'a str),
    /// The user was taken out, and with it these words.
    Removal(Vec<&'a str>),
}

/// Set the password of a user in a users file, give out a token, or check the file.
///
/// The password is asked for twice on the terminal. The file is made if it is not there; whatever else stands in it, with
/// its comments, stays as it is. A relay that runs reads the file again at SIGHUP.
#[derive(Debug, Args)]
#[command(override_usage = "switchboard passwd [OPTIONS] <FILE> <USER>\n       switchboard passwd --check <FILE>")]
#[command(after_long_help = FORMAT)]
#[command(group = ArgGroup::new("action").args(["token", "remove", "check"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Arguments {
    /// The users file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The user's name; who is not there is added, and may do whatever the file does not say otherwise.
    #[arg(value_name = "USER", required_unless_present = "check", conflicts_with = "check")]
    user: Option<String>,
    /// Read the password from standard input, as its first line, instead of asking.
    #[arg(long, conflicts_with = "action")]
    stdin: bool,
    /// How often the password is hashed, 4096 to 2000000. Clients do that when they connect, the relay does not: the
    /// default takes them some tenths of a second, and whoever steals the file as long for each try.
    #[arg(long, value_name = "N", conflicts_with = "action", default_value_t = ITERATIONS_DEFAULT)]
    #[arg(value_parser = parse_iterations)]
    iterations: NonZeroU32,
    /// Make a new token for the user, beside those that there are, and print it: this once, for the file has its hash only.
    #[arg(long)]
    token: bool,
    /// With --token: the new token takes the place of all that the user has. Hand it out, then send SIGHUP: until then a
    /// relay takes the old ones only, and at it the user's clients are closed, and the new one lets them in. With --token
    /// alone old and new are both valid after SIGHUP, until the old one's hash is taken out of the line by hand.
    // What is required is not asked for where something else that is there excludes it: so each of those is named.
    #[arg(long, requires = "token", conflicts_with_all = ["remove", "check", "stdin", "iterations"])]
    replace: bool,
    /// Take the user out of the file, and say what it was allowed: that goes with it.
    #[arg(long)]
    remove: bool,
    /// Say how many users the file has, or what is wrong with it.
    #[arg(long)]
    check: bool,
    /// Say what was done as an object of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let Some(user) = &arguments.user else { return check(&arguments) };
    check_user(user).map_err(|why| Trouble::Usage(why.to_string()))?;
    if arguments.token {
        let bytes: Zeroizing<[u8; TOKEN_BYTES]> = fresh()?;
        let token = token_text(&bytes);
        let digest = TokenDigest::of(token.as_bytes());
        let what = if arguments.replace { Change::OnlyToken(digest) } else { Change::Token(digest) };
        change(&arguments, user, &what)?;
        return told(&arguments, user, &Done::Token(&token));
    }
    if arguments.remove {
        let before = change(&arguments, user, &Change::Remove)?;
        return told(&arguments, user, &Done::Removal(rights_of(before.text(), user)));
    }
    // What would be refused in the end is not asked for.
    UsersFile::open(&arguments.file)?.check()?;
    let password = if arguments.stdin { ask::from_stdin()? } else { ask::on_terminal(user)? };
    let verifier = Verifier::from_password(&password, arguments.iterations, &*fresh::<SALT_BYTES>()?);
    change(&arguments, user, &Change::Password(&verifier))?;
    told(&arguments, user, &Done::Password)
}

fn parse_iterations(text: &str) -> Result<NonZeroU32, String> {
    let range = ITERATIONS_MIN..=ITERATIONS_MAX;
    let count: Option<NonZeroU32> = text.parse().ok().filter(|count: &NonZeroU32| range.contains(&count.get()));
    count.ok_or_else(|| format!("write a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}"))
}

fn fresh<const N: usize>() -> Result<Zeroizing<[u8; N]>, Trouble> {
    random().map(Zeroizing::new).map_err(Trouble::system)
}

/// Makes one change, with nobody else changing the file meanwhile, and gives the file as it was.
fn change(arguments: &Arguments, user: &str, change: &Change<'_>) -> Result<UsersFile, Trouble> {
    let file = UsersFile::open(&arguments.file)?;
    let secret = fresh::<SECRET_BYTES>()?;
    let text = changed(file.text(), user, change, &secret).map_err(|why| match why {
        EditError::NoSuchUser => Trouble::System(format!("{} has no user {user:?}", arguments.file.display())),
        why => Trouble::System(format!("{}: {why}", arguments.file.display())),
    })?;
    file.replace(&text)?;
    Ok(file)
}

/// Says what was done: a token and JSON where a program reads them, all else where a person does.
fn told(arguments: &Arguments, user: &str, done: &Done<'_>) -> Result<(), Trouble> {
    if arguments.json {
        return print(&match done {
            Done::Password => json!({"done": "password", "user": user}),
            Done::Token(token) => json!({"done": "token", "user": user, "token": token}),
            Done::Removal(rights) => json!({"done": "remove", "user": user, "rights": rights}),
        });
    }
    match done {
        Done::Password => output::complain(&format!("the password of {user} is set")),
        Done::Token(token) => {
            let which = if arguments.replace { "the only" } else { "a" };
            output::complain(&format!("{which} token of {user}, shown this once:"));
            writeln!(io::stdout().lock(), "{token}")?;
        }
        Done::Removal(rights) if rights.is_empty() => output::complain(&format!("{user} is taken out")),
        // Whoever takes a user out to set another password does not see that this has been lost.
        Done::Removal(rights) => output::complain(&format!(
            "{user} is taken out, and with it {}: who is added again has the usual rights",
            rights.join(" ")
        )),
    }
    Ok(())
}

fn check(arguments: &Arguments) -> Result<(), Trouble> {
    let file = UsersFile::open(&arguments.file)?;
    if file.is_new() {
        return Err(Trouble::System(format!("{} is not there", arguments.file.display())));
    }
    file.warn_of_readers();
    match Users::parse(file.text()) {
        Ok(users) if users.is_empty() => {
            if arguments.json {
                print(&json!({"ok": false, "error": NOBODY_IS_IN_IT}))?;
            }
            Err(Trouble::System(format!("{}: {NOBODY_IS_IN_IT}", arguments.file.display())))
        }
        Ok(users) if arguments.json => print(&json!({"ok": true, "users": users.len()})),
        Ok(users) => Ok(writeln!(io::stdout().lock(), "{}", output::counted(users.len() as u64, "user"))?),
        Err(error) => {
            if arguments.json {
                print(&json!({"ok": false, "line": error.line, "error": error.what}))?;
            }
            Err(Trouble::System(format!("{}: {error}", arguments.file.display())))
        }
    }
}

fn print(object: &Value) -> Result<(), Trouble> {
    Ok(writeln!(io::stdout().lock(), "{object}")?)
}
