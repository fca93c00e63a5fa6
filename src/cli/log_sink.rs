//! Where log lines go: a writer that never waits.
//!
//! A relay that blocks on its log is a relay that a full pipe or a stopped terminal can stop. So each line
//! is written only if the sink takes it at once; what it does not take is counted, and the count is the
//! first thing that it gets when it takes lines again.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::termios::{isatty, ttyname};

/// A pipe that is writable takes this much at once (PIPE_BUF on Linux); longer lines are cut.
const LINE_BYTES_MAX: usize = 4096;

/// A sink of whole lines.
#[derive(Debug)]
pub(super) struct LogSink<W> {
    sink: W,
    /// The sink opened once more, if it is a terminal: that one may be writable and still have no room for a
    /// line. It is not made non-blocking itself, as the shell and others write to the same description.
    terminal: Option<OwnedFd>,
    line: Vec<u8>,
    dropped: u64,
    /// The last write ended within a line.
    within_line: bool,
    successor: Successor<W>,
}

/// Where the sink is left that a [`LogSink`] goes on with: a file that was opened anew.
pub(super) type Successor<W> = Arc<Mutex<Option<W>>>;

impl<W: AsFd> LogSink<W> {
    pub(super) fn new(sink: W) -> Self {
        // Without one of its own, the poll before each write has to do.
        let terminal = isatty(&sink).then(|| reopen(sink.as_fd()).ok()).flatten();
        Self { sink, terminal, line: Vec::new(), dropped: 0, within_line: false, successor: Arc::new(Mutex::new(None)) }
    }

    pub(super) fn successor(&self) -> Successor<W> {
        Arc::clone(&self.successor)
    }

    /// Goes on with another sink, if there is one.
    fn succeed(&mut self) {
        let successor = self.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sink) = successor {
            *self = Self {
                successor: Arc::clone(&self.successor),
                line: std::mem::take(&mut self.line),
                ..Self::new(sink)
            };
        }
    }

    /// Writes in a single call, if the sink takes anything at once. Returns whether it took the line.
    fn put(&mut self, line: &[u8]) -> bool {
        let sink = self.terminal.as_ref().map_or(self.sink.as_fd(), AsFd::as_fd);
        if !is_writable(sink) {
            return false;
        }
        let mut on_its_own_line = Vec::new();
        let text = if self.within_line {
            on_its_own_line.push(b'\n');
            on_its_own_line.extend_from_slice(line);
            &on_its_own_line
        } else {
            line
        };
        let count = rustix::io::retry_on_intr(|| rustix::io::write(sink, text)).unwrap_or(0);
        if count > 0 {
            self.within_line = count < text.len();
        }
        // If only the end of the line is left over, that goes first next time.
        count > 0 && count + 1 >= text.len()
    }

    fn end_line(&mut self) {
        self.succeed();
        if self.line.len() > LINE_BYTES_MAX {
            self.line.truncate(LINE_BYTES_MAX - 5);
            while std::str::from_utf8(&self.line).is_err_and(|error| error.error_len().is_none()) {
                self.line.pop();
            }
            self.line.extend_from_slice(" …\n".as_bytes());
        }
        if self.dropped > 0 {
            let told = format!("(the log was not taken: {} lines are missing here)\n", self.dropped);
            if self.put(told.as_bytes()) {
                self.dropped = 0;
            }
        }
        // A log that cannot be written is no reason to stop serving.
        let line = std::mem::take(&mut self.line);
        if self.dropped > 0 || !self.put(&line) {
            self.dropped += 1;
        }
        self.line = line;
        self.line.clear();
    }
}

fn is_writable(sink: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut sinks = [PollFd::from_borrowed_fd(sink, PollFlags::OUT)];
    poll(&mut sinks, Some(&now)).is_ok_and(|ready| ready > 0) && sinks[0].revents().contains(PollFlags::OUT)
}

/// Opens a terminal once more, with flags of its own.
fn reopen(terminal: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The name may lead nowhere, as in a container; Linux opens the descriptor itself.
    open(format!("/proc/self/fd/{}", terminal.as_raw_fd()), flags, Mode::empty())
        .or_else(|_| open(ttyname(terminal, Vec::new())?, flags, Mode::empty()))
}

impl<W: AsFd> Write for LogSink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is cut off anyway need not be kept.
            let room = (2 * LINE_BYTES_MAX).saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(&piece[..room]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::fcntl_getfl;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// Times only turn a hang into a failure.
    const WATCHDOG: Duration = Duration::from_mins(1);

    #[test]
    fn a_full_pipe_loses_lines_and_says_how_many_but_never_blocks() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut log = LogSink::new(writer);
        // A pipe holds 64 KiB; this is far more.
        for number in 0..5_000 {
            writeln!(log, "line {number} {}", "x".repeat(50)).expect("never an error");
        }
        assert!(log.dropped > 0);
        let lost = log.dropped;
        let mut buffer = vec![0; 1 << 20];
        let count = reader.read(&mut buffer).expect("lines");
        let before = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(before.starts_with("line 0 ") && before.ends_with("x\n"), "whole lines");
        writeln!(log, "after").expect("never an error");
        let count = reader.read(&mut buffer).expect("lines");
        let after = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert_eq!(after, format!("(the log was not taken: {lost} lines are missing here)\nafter\n"));
        assert_eq!(before.lines().count() as u64 + lost, 5_000);
    }

    #[test]
    fn a_line_too_long_for_a_pipe_is_cut_at_a_character() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut log = LogSink::new(writer);
        writeln!(log, "{}", "ü".repeat(9_000)).expect("never an error");
        let mut buffer = vec![0; 1 << 16];
        let count = reader.read(&mut buffer).expect("a line");
        assert!(count <= LINE_BYTES_MAX);
        assert!(std::str::from_utf8(&buffer[..count]).expect("whole characters").ends_with(" …\n"));
    }

    #[test]
    fn a_terminal_that_nobody_reads_loses_lines_and_says_how_many_but_never_blocks() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("its name");
        let of_the_shell = terminal.try_clone().expect("a descriptor");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut log = LogSink::new(terminal);
            // A terminal holds some 20 KiB, and a busy system some more for it; this is more than both.
            for number in 0..50_000 {
                writeln!(log, "line {number} {}.", "x".repeat(50)).expect("never an error");
            }
            sender.send(log).expect("somebody waits");
        });
        let mut log = receiver.recv_timeout(WATCHDOG).expect("it does not block");
        assert!(log.dropped > 0);
        assert!(!fcntl_getfl(&of_the_shell).expect("flags").contains(OFlags::NONBLOCK), "others are left alone");

        // Somebody reads again.
        let reader = std::thread::spawn(move || {
            BufReader::new(File::from(master)).lines().map_while(Result::ok).collect::<Vec<_>>()
        });
        let mut written = 50_000;
        while log.dropped > 0 {
            let watchdog = Timespec { tv_sec: WATCHDOG.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&of_the_shell, PollFlags::OUT)], Some(&watchdog));
            assert_eq!(ready, Ok(1), "there is room again");
            writeln!(log, "after.").expect("never an error");
            written += 1;
        }
        drop((log, of_the_shell));
        let lines = reader.join().expect("the lines");
        let is_whole = |line: &str| line.ends_with('.');
        let missing = |line: &str| {
            let rest = line.strip_prefix("(the log was not taken: ")?;
            rest.strip_suffix(" lines are missing here)")?.parse::<usize>().ok()
        };
        let missing: usize = lines.iter().filter_map(|line| missing(line)).sum();
        assert_eq!(lines.iter().filter(|line| is_whole(line)).count() + missing, written);
        assert!(missing > 0 && lines.last().is_some_and(|line| line == "after."));
        // Each begins where a line begins, even after one that was cut.
        assert!(lines.iter().filter(|line| is_whole(line)).all(|line| line == "after." || line.starts_with("line ")));
    }
}
