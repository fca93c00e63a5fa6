//! Where a new password comes from: a person at a terminal, who types it twice, or a pipe.

use std::fs::File;
use std::io::{self, IsTerminal};

use zeroize::Zeroizing;

use crate::cli::{Trouble, secret};

/// What is said behind a refusal.
const UNCHANGED: &str = ": nothing is changed";

/// What is asked on, whatever standard input is.
const TERMINAL: &str = "/dev/tty";

/// Asks until the same was typed twice; once is enough to be told that not.
pub(super) fn on_terminal(user: &str) -> Result<Zeroizing<String>, Trouble> {
    // Only a process that has a terminal can open it.
    if File::open(TERMINAL).is_err() {
        return Err(Trouble::Usage(format!("there is no terminal to ask for the password of {user:?}: use --stdin")));
    }
    let password = secret::prompt(&format!("New password of {user}: "), UNCHANGED)?;
    let again = secret::prompt("The same again: ", UNCHANGED)?;
    if *password == *again {
        Ok(password)
    } else {
        Err(Trouble::system("the two passwords differ: nothing is changed"))
    }
}

/// The first line of standard input.
pub(super) fn from_stdin() -> Result<Zeroizing<String>, Trouble> {
    let stdin = io::stdin().lock();
    if stdin.is_terminal() {
        return Err(Trouble::Usage("--stdin is for pipes: without it the password is asked for, and not shown".into()));
    }
    secret::first_line(stdin, "standard input")
}
