//! SIGINT and SIGTERM: the first asks the command to leave in good order, the second ends it at once.

use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Trouble;

/// What the shell reports for a command that a SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Signals that come closer together are one wish: a terminal and a supervisor may both pass it on.
const SAME_WISH: Duration = Duration::from_millis(300);

/// Calls `leave` on the first signal, on a thread of its own; the second one ends the process.
pub(super) fn on_interrupt(leave: impl FnOnce() + Send + 'static) -> Result<(), Trouble> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Trouble::System(format!("cannot await signals: {error}")))?;
    thread::spawn(move || {
        let mut leave = Some(leave);
        let mut first = None;
        for _ in signals.forever() {
            match (leave.take(), first) {
                (Some(leave), _) => {
                    first = Some(Instant::now());
                    // Leaving may take a while, as writing to a relay does; the next signal must not wait for it.
                    drop(thread::spawn(leave));
                }
                (None, Some(first)) if first.elapsed() < SAME_WISH => {}
                (None, _) => std::process::exit(EXIT_INTERRUPTED),
            }
        }
    });
    Ok(())
}
