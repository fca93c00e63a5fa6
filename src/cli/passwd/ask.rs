//! Where a password comes from: a person at a terminal, who is not shown it, or a pipe.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::Arc;

use signal_hook::consts::SIGINT;
use signal_hook::low_level::{emulate_default_handler, unregister};
use zeroize::Zeroizing;

use crate::cli::Trouble;

/// The longest password, in bytes: what is longer is a file that was piped in by mistake.
const PASSWORD_BYTES_MAX: usize = 1024;
/// `\r\n`.
const END_OF_LINE_BYTES_MAX: usize = 2;

/// Asks on the terminal, whatever standard input is, until the same was typed twice; once is enough to be told that not.
pub(super) fn on_terminal(user: &str) -> Result<Zeroizing<String>, Trouble> {
    let password = check(prompt(&format!("New password of {user}: "))?)?;
    let again = prompt("The same again: ")?;
    if *password == *again {
        Ok(password)
    } else {
        Err(Trouble::system("the two passwords differ: nothing is changed"))
    }
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Trouble> {
    // Ctrl-C reaches this process as a key, and is made a signal of. Without a handler that would be the end at once, and
    // the terminal would go on showing nothing that is typed.
    let handler = signal_hook::flag::register(SIGINT, Arc::default());
    let answer = rpassword::prompt_password(text).map(Zeroizing::new);
    if let Ok(handler) = handler {
        unregister(handler);
    }
    answer.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => {
            // Whoever has started this is to see that it was interrupted.
            let _ = emulate_default_handler(SIGINT);
            Trouble::system("interrupted: nothing is changed")
        }
        io::ErrorKind::UnexpectedEof => Trouble::system("no password was given: nothing is changed"),
        _ => Trouble::System(format!("there is no terminal to ask on ({error}): pipe the password to --stdin")),
    })
}

/// The first line of standard input.
pub(super) fn from_stdin() -> Result<Zeroizing<String>, Trouble> {
    let mut stdin = io::stdin().lock();
    if stdin.is_terminal() {
        return Err(Trouble::Usage("--stdin is for pipes: without it the password is asked for, and not shown".into()));
    }
    // As large as it can become, so that no copy is left behind where it has grown.
    let most = PASSWORD_BYTES_MAX + END_OF_LINE_BYTES_MAX + 1;
    let mut line = Zeroizing::new(Vec::with_capacity(most));
    let read = (&mut stdin).take(most as u64).read_until(b'\n', &mut line);
    read.map_err(|error| Trouble::System(format!("cannot read standard input: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| Trouble::system("the password is not UTF-8"))?;
    check(Zeroizing::new(text.to_owned()))
}

fn check(password: Zeroizing<String>) -> Result<Zeroizing<String>, Trouble> {
    if password.is_empty() {
        return Err(Trouble::system("the password is empty: nothing is changed"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Trouble::System(format!("the password has more than {PASSWORD_BYTES_MAX} bytes")));
    }
    if password.contains('\0') {
        return Err(Trouble::system("the password has a zero byte: is it a binary file?"));
    }
    Ok(password)
}
