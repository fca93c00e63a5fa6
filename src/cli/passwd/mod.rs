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
use crate::auth::edit::{Change, EditError, changed, check_user};
use crate::auth::{
    ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, SECRET_BYTES, TOKEN_BYTES, TokenDigest, Users,
    Verifier, random, token_text,
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
    /// Take the user out of the file.
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
        change(&arguments, user, &Change::Token(TokenDigest::of(token.as_bytes())))?;
        return told(&arguments, "token", user, Some(&token));
    }
    if arguments.remove {
        change(&arguments, user, &Change::Remove)?;
        return told(&arguments, "remove", user, None);
    }
    // What would be refused in the end is not asked for.
    UsersFile::open(&arguments.file)?.check()?;
    let password = if arguments.stdin { ask::from_stdin()? } else { ask::on_terminal(user)? };
    let verifier = Verifier::from_password(&password, arguments.iterations, &*fresh::<SALT_BYTES>()?);
    change(&arguments, user, &Change::Password(&verifier))?;
    told(&arguments, "password", user, None)
}

fn parse_iterations(text: &str) -> Result<NonZeroU32, String> {
    let range = ITERATIONS_MIN..=ITERATIONS_MAX;
    let count: Option<NonZeroU32> = text.parse().ok().filter(|count: &NonZeroU32| range.contains(&count.get()));
    count.ok_or_else(|| format!("write a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}"))
}

fn fresh<const N: usize>() -> Result<Zeroizing<[u8; N]>, Trouble> {
    random().map(Zeroizing::new).map_err(Trouble::system)
}

/// Makes one change, with nobody else changing the file meanwhile.
fn change(arguments: &Arguments, user: &str, change: &Change<'_>) -> Result<(), Trouble> {
    let file = UsersFile::open(&arguments.file)?;
    let secret = fresh::<SECRET_BYTES>()?;
    let text = changed(file.text(), user, change, &secret).map_err(|why| match why {
        EditError::NoSuchUser => Trouble::System(format!("{} has no user {user:?}", arguments.file.display())),
        why => Trouble::System(format!("{}: {why}", arguments.file.display())),
    })?;
    file.replace(&text)
}

/// Says what was done: a token and JSON where a program reads them, all else where a person does.
fn told(arguments: &Arguments, done: &str, user: &str, token: Option<&str>) -> Result<(), Trouble> {
    if arguments.json {
        let mut object = json!({"done": done, "user": user});
        if let (Some(token), Some(fields)) = (token, object.as_object_mut()) {
            fields.insert("token".into(), token.into());
        }
        return print(&object);
    }
    match done {
        "token" => output::complain(&format!("a token of {user}, shown this once:")),
        "remove" => output::complain(&format!("{user} is taken out")),
        _ => output::complain(&format!("the password of {user} is set")),
    }
    if let Some(token) = token {
        writeln!(io::stdout().lock(), "{token}")?;
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
