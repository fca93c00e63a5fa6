//! Who a client is and whom it trusts: the flags, the files and the environment that `join`, `send` and `listen` share.
//!
//! A password or a token is never an argument: every process of the machine can read those.
//!
//! What it does not do: it proves nothing; that is the client library's business.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::{Trouble, output, parse_name, passing_name, secret};
use crate::client::{Credentials, Identity, Options, Secret, Tls};
use crate::wire::{NAME_BYTES_MAX, PAYLOAD_BYTES_CEILING};

/// The environment variable with a user's password.
const PASSWORD_VARIABLE: &str = "SWITCHBOARD_PASSWORD";
/// The environment variable with a token.
const TOKEN_VARIABLE: &str = "SWITCHBOARD_TOKEN";

/// What a command that connects takes beside the relay's address and its own name.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Who you are, and whom you trust")]
pub(super) struct Login {
    /// The user to authenticate as, and to be known as by the relay [default: the client's name, where a password is given].
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    user: Option<String>,
    /// The user's password is the first line of this file; else it is that of the environment's SWITCHBOARD_PASSWORD, and
    /// with --user alone a terminal is asked for it.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A token, for machines, is the first line of this file; else it is that of the environment's SWITCHBOARD_TOKEN. Say
    /// --user as well: a token does not tell whose it is, and the client's name begins with that.
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    token_file: Option<PathBuf>,
    /// At a tls:// address: believe the certificates in this file (PEM) and not those of the system. The relay's own
    /// does, if it is self-signed.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// At a tls:// address: your own certificate (PEM). Where the relay asks, it says who you are, unless a password or a
    /// token does; with --user the relay must ask.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// What a client without a name of its own choice is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unnamed<'a> {
    /// A person: as the user, or else as this.
    Person(Option<&'a str>),
    /// A command that nobody is meant to write to, by this word: `user/word-PID-NNNN`, or without a user `word-PID-NNNN`.
    Passing(&'a str),
}

/// The way in before its secret is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way<'a> {
    Nothing,
    PasswordFile(&'a Path),
    TokenFile(&'a Path),
    Certificate,
    PasswordVariable,
    TokenVariable,
    Prompt(&'a str),
}

impl Login {
    /// Options of a client that takes whatever the relay allows, with everything that these flags say.
    pub(super) fn options(&self, name: Option<String>, unnamed: Unnamed<'_>) -> Result<Options, Trouble> {
        let identity = self.cert.clone().zip(self.key.clone());
        let identity = identity.map(|(certificate, key)| Identity { certificate, key });
        if let Some(key) = &self.key {
            warn_if_exposed(key);
        }
        let way = self.way(|variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()))?;
        let user = match way {
            Way::Certificate => self.user.clone().or_else(|| identity.as_ref().and_then(Identity::user)),
            Way::PasswordFile(_) | Way::PasswordVariable => {
                let user = self.user.as_deref().or(name.as_deref()).or(unnamed.person());
                let whose = || Trouble::Usage("say whose password it is with --user NAME".into());
                Some(user.ok_or_else(whose)?.to_owned())
            }
            _ => self.user.clone(),
        };
        let name = match name {
            Some(name) => name,
            None => unnamed.name(user.as_deref())?,
        };
        let password = |password| user.map(|user| Credentials::Password { user, password });
        let credentials = match way {
            Way::Nothing => None,
            // Without --user the certificate may be for TLS alone: it is offered where the relay asks.
            Way::Certificate => self.user.is_some().then_some(Credentials::Certificate),
            Way::TokenFile(path) => Some(Credentials::Token(read_secret(path)?)),
            Way::TokenVariable => Some(Credentials::Token(variable(TOKEN_VARIABLE)?)),
            Way::PasswordFile(path) => password(read_secret(path)?),
            Way::PasswordVariable => password(variable(PASSWORD_VARIABLE)?),
            Way::Prompt(user) => password(ask(user)?),
        };
        Ok(Options {
            payload_bytes_max: PAYLOAD_BYTES_CEILING,
            tls: Tls { ca: self.ca.clone(), identity },
            credentials,
            expected_user: self.user.clone(),
            ..Options::named(name)
        })
    }

    /// Flags count before the environment, which may hold something for another command.
    fn way(&self, is_set: impl Fn(&str) -> bool) -> Result<Way<'_>, Trouble> {
        Ok(match (&self.password_file, &self.token_file) {
            (Some(path), _) => Way::PasswordFile(path),
            (None, Some(path)) => Way::TokenFile(path),
            (None, None) if self.cert.is_some() => Way::Certificate,
            (None, None) => match (is_set(PASSWORD_VARIABLE), is_set(TOKEN_VARIABLE)) {
                (true, true) if self.user.is_none() => {
                    let line = format!("{PASSWORD_VARIABLE} and {TOKEN_VARIABLE} are both set: unset one of them");
                    return Err(Trouble::Usage(line));
                }
                (true, _) => Way::PasswordVariable,
                (false, true) => Way::TokenVariable,
                (false, false) => self.user.as_deref().map_or(Way::Nothing, Way::Prompt),
            },
        })
    }
}

impl<'a> Unnamed<'a> {
    const fn person(self) -> Option<&'a str> {
        match self {
            Self::Person(name) => name,
            Self::Passing(_) => None,
        }
    }

    fn name(self, user: Option<&str>) -> Result<String, Trouble> {
        let name = match (self, user) {
            (Self::Person(_), Some(user)) => user.to_owned(),
            (Self::Person(Some(name)), None) => name.to_owned(),
            (Self::Person(None), None) => {
                return Err(Trouble::Usage("say who you are with --name NAME: $USER is not set".into()));
            }
            // By default a user may have every name that begins so.
            (Self::Passing(what), Some(user)) => format!("{user}/{}", passing_name(what)),
            (Self::Passing(what), None) => passing_name(what),
        };
        if name.len() > NAME_BYTES_MAX {
            return Err(Trouble::Usage("the user's name leaves no room behind it: choose a --name".into()));
        }
        Ok(name)
    }
}

/// The first line of a file.
fn read_secret(path: &Path) -> Result<Secret, Trouble> {
    secret_line(path).map(|line| line.as_str().into())
}

/// The same, for whoever proves it without the client library.
pub(super) fn secret_line(path: &Path) -> Result<Zeroizing<String>, Trouble> {
    let file = File::open(path);
    let file = file.map_err(|error| Trouble::System(format!("cannot read {}: {error}", path.display())))?;
    warn_if_exposed(path);
    secret::first_line(file, &path.display().to_string())
}

/// Says so if others than its owner can read a file that they should not.
fn warn_if_exposed(path: &Path) {
    // A pipe belongs to whoever has made it; what cannot be looked at is told by who opens it.
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o077 != 0) {
        let path = path.display();
        output::complain(&format!("switchboard: {path} can be read by others than you: chmod 600 {path}"));
    }
}

fn variable(name: &str) -> Result<Secret, Trouble> {
    match std::env::var(name) {
        Ok(value) => Ok(value.into()),
        Err(_) => Err(Trouble::Usage(format!("{name} is not UTF-8"))),
    }
}

fn ask(user: &str) -> Result<Secret, Trouble> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Trouble::Usage(format!(
            "there is no terminal to ask for the password of {user:?}: use --password-file FILE or {PASSWORD_VARIABLE}"
        )));
    }
    secret::prompt(&format!("password of {}: ", output::one_line(user)), "").map(|password| password.as_str().into())
}
