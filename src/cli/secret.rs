//! Passwords and tokens as they come in: what a person types and is not shown, or the first line of a file or a pipe.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use signal_hook::consts::SIGINT;
use signal_hook::low_level::{emulate_default_handler, unregister};
use zeroize::Zeroizing;

use super::Trouble;

/// The longest password or token, in bytes: what is longer is some other file, given by mistake.
const SECRET_BYTES_MAX: usize = 1024;
/// `\r\n`.
const END_OF_LINE_BYTES_MAX: usize = 2;

/// Asks on the terminal, whatever standard input is. `besides` is what is said behind a refusal: what has not been done.
pub(super) fn prompt(question: &str, besides: &str) -> Result<Zeroizing<String>, Trouble> {
    // Ctrl-C reaches this process as a key, and is made a signal of. Without a handler that would be the end at once, and
    // the terminal would go on showing nothing that is typed.
    let handler = signal_hook::flag::register(SIGINT, Arc::default());
    let answer = rpassword::prompt_password(question).map(Zeroizing::new);
    if let Ok(handler) = handler {
        unregister(handler);
    }
    match answer {
        Ok(secret) => match fault(&secret) {
            None => Ok(secret),
            Some(why) => Err(Trouble::System(format!("the password {why}{besides}"))),
        },
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            // Whoever has started this is to see that it was interrupted.
            let _ = emulate_default_handler(SIGINT);
            Err(Trouble::System(format!("interrupted{besides}")))
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Trouble::System(format!("no password was given{besides}")))
        }
        Err(error) => Err(Trouble::System(format!(
            "there is no terminal to ask for the password on ({error}): `passwd` takes it with --stdin, others with --password-file"
        ))),
    }
}

/// The first line of `source`, which is `name` where something is wrong with it.
pub(super) fn first_line(source: impl Read, name: &str) -> Result<Zeroizing<String>, Trouble> {
    // As large as it can become, so that no copy is left behind where it has grown.
    let most = SECRET_BYTES_MAX + END_OF_LINE_BYTES_MAX + 1;
    let mut line = Zeroizing::new(Vec::with_capacity(most));
    let read = BufReader::with_capacity(1, source.take(most as u64)).read_until(b'\n', &mut line);
    read.map_err(|error| Trouble::System(format!("cannot read {name}: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let bad = |why: &str| Trouble::System(format!("the first line of {name} {why}"));
    let text = std::str::from_utf8(&line).map_err(|_| bad("is not UTF-8"))?;
    match fault(text) {
        None => Ok(Zeroizing::new(text.to_owned())),
        Some(why) => Err(bad(why)),
    }
}

/// What keeps a text from being a password or a token, if anything.
fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > SECRET_BYTES_MAX {
        const { assert!(SECRET_BYTES_MAX == 1024) };
        Some("has more than 1024 bytes")
    } else if text.contains('\0') {
        Some("has a zero byte: is it a binary file?")
    } else {
        None
    }
}
