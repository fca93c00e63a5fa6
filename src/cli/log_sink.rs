//! Where log lines go: a writer that never waits.
//!
//! A relay that blocks on its log is a relay that a full pipe or a stopped terminal can stop. So each line
//! is written only if the sink takes it at once; what it does not take is counted, and the count is the
//! first thing that it gets when it takes lines again.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A pipe that is writable takes this much at once (PIPE_BUF on Linux); longer lines are cut.
const LINE_BYTES_MAX: usize = 4096;

/// A sink of whole lines.
#[derive(Debug)]
pub(super) struct LogSink<W> {
    sink: W,
    line: Vec<u8>,
    dropped: u64,
}

impl<W: Write + AsFd> LogSink<W> {
    pub(super) const fn new(sink: W) -> Self {
        Self { sink, line: Vec::new(), dropped: 0 }
    }

    fn takes_a_line(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut sinks = [PollFd::new(&self.sink, PollFlags::OUT)];
        poll(&mut sinks, Some(&now)).is_ok_and(|ready| ready > 0) && sinks[0].revents().contains(PollFlags::OUT)
    }

    fn end_line(&mut self) {
        if self.line.len() > LINE_BYTES_MAX {
            self.line.truncate(LINE_BYTES_MAX - 5);
            while std::str::from_utf8(&self.line).is_err_and(|error| error.error_len().is_none()) {
                self.line.pop();
            }
            self.line.extend_from_slice(" …\n".as_bytes());
        }
        if self.dropped > 0 && self.takes_a_line() {
            let told = format!("(the log was not taken: {} lines are missing here)\n", self.dropped);
            if self.sink.write_all(told.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        // A log that cannot be written is no reason to stop serving.
        if self.dropped > 0 || !self.takes_a_line() || self.sink.write_all(&self.line).is_err() {
            self.dropped += 1;
        }
        self.line.clear();
    }
}

impl<W: Write + AsFd> Write for LogSink<W> {
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
    use std::io::Read;

    use super::*;

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
}
