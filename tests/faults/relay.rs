//! The relay under a fault: a `switchboard serve` in a process of its own, and what its operator sees of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use switchboard::bench::{Cores, Process};

use crate::support::HANG;

/// How a relay is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// Beyond what all are told.
    pub(crate) arguments: Vec<String>,
    /// Where it listens.
    pub(crate) listen: String,
    /// The largest size of a file that it may write, in the shell's blocks.
    pub(crate) file_blocks: Option<usize>,
    /// Variables of its environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Nobody reads its standard error.
    pub(crate) is_log_unread: bool,
}

impl Start {
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            listen: "127.0.0.1:0".to_owned(),
            file_blocks: None,
            variables: Vec::new(),
            is_log_unread: false,
        }
    }

    fn command(&self) -> Command {
        let executable = env!("CARGO_BIN_EXE_switchboard");
        let mut command = match self.file_blocks {
            None => Command::new(executable),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -f {count}; exec \"$0\" \"$@\""), executable]);
                shell
            }
        };
        command.args(["serve", "--listen", &self.listen, "--end-with-parent", &std::process::id().to_string()]);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A relay in a process of its own, ended with the test.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: SocketAddr,
    tls_address: Option<SocketAddr>,
    log: Arc<Log>,
    /// Kept open where nobody reads it.
    unread: Option<ChildStderr>,
    /// How much of the log has been looked at.
    looked: usize,
}

/// The log as far as it has come.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Relay {
    pub(crate) fn start(start: &Start, cores: Option<&Cores>) -> Self {
        let mut command = start.command();
        let spawned = match cores {
            Some(cores) => cores.spawn(&mut command),
            None => command.spawn(),
        };
        let mut child = spawned.expect("a process");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        // All lines come at once, the listener for TLS in the second.
        let mut tls_address = None;
        if start.arguments.iter().any(|argument| argument.starts_with("tls://")) {
            line.clear();
            stdout.read_line(&mut line).expect("a line");
            let rest = line.strip_prefix("listening on tls://");
            tls_address = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            assert!(tls_address.is_some(), "{line:?}");
        }
        let log = Arc::new(Log::default());
        let mut stderr = child.stderr.take();
        let unread = if start.is_log_unread { stderr.take() } else { None };
        if let Some(stderr) = stderr {
            let log = Arc::clone(&log);
            std::thread::spawn(move || keep(stderr, &log));
        }
        if cores.is_some() {
            put_first(Pid::from_child(&child));
        }
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}: {:?}", log.lines.lock().expect("log")));
        Self { child, address, tls_address, log, unread, looked: 0 }
    }

    /// Where it speaks TLS, if it was told to.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.tls_address.expect("it was told to")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for a line that holds `text`, behind those that were waited for before, and returns it.
    pub(crate) fn log_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + HANG;
        let mut lines = self.log.lines.lock().expect("the log");
        loop {
            if let Some(at) = lines.0[self.looked..].iter().position(|line| line.contains(text)) {
                self.looked += at + 1;
                return lines.0[self.looked - 1].clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "the log has no {text:?}: {:?}", &lines.0[self.looked..]);
            lines = self.log.grown.wait_timeout(lines, left).expect("the log").0;
        }
    }

    /// Begins to read the log that nobody has read.
    pub(crate) fn read_log(&mut self) {
        let (stderr, log) = (self.unread.take().expect("unread"), Arc::clone(&self.log));
        std::thread::spawn(move || keep(stderr, &log));
    }

    /// All lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines.lock().expect("the log").0.clone()
    }

    /// Its counters, as it logs them at SIGUSR1.
    pub(crate) fn counters(&mut self) -> Counters {
        self.signal(Signal::USR1);
        let totals = self.log_line("; frames in ");
        // The tables come behind; a second look at the totals is behind those.
        self.signal(Signal::USR1);
        let (from, _) = (self.looked, self.log_line("; frames in "));
        let lines = self.log.lines.lock().expect("the log");
        let table = |name: &str| {
            let mut lines = lines.0[from..self.looked].iter();
            lines.find_map(|line| line.split_once(name).map(|(_, rest)| rest.to_owned())).unwrap_or_default()
        };
        let (before, no_tls) = (table(" ended before they were in: "), table(" no TLS: "));
        Counters { totals, closed: table(" closed: "), before, no_tls }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it was started")
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it was started")
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        Process::of(self.pid()).and_then(|process| process.usage()).map_or(0, |usage| usage.resident_bytes)
    }

    pub(crate) fn cpu(&self) -> Duration {
        Process::of(self.pid()).and_then(|process| process.cpu()).unwrap_or_default()
    }
}

/// What a relay has counted.
#[derive(Debug)]
pub(crate) struct Counters {
    totals: String,
    closed: String,
    before: String,
    no_tls: String,
}

impl Counters {
    /// A number of the first line, by the words in front of it.
    pub(crate) fn total(&self, words: &str) -> u64 {
        number_behind(&self.totals, words).unwrap_or_else(|| panic!("no {words:?} in {:?}", self.totals))
    }

    /// Connections that ended with this code.
    pub(crate) fn closed(&self, code: &str) -> u64 {
        number_behind(&self.closed, code).unwrap_or(0)
    }

    /// Connections that ended for this reason before the relay knew of them.
    pub(crate) fn before(&self, reason: &str) -> u64 {
        number_behind(&self.before, reason).unwrap_or(0)
    }

    /// Peers with which no TLS could be spoken, and why.
    pub(crate) fn no_tls(&self, fault: &str) -> u64 {
        number_behind(&self.no_tls, fault).unwrap_or(0)
    }
}

/// Has a process or thread run before all others, where the system grants it: a core is one's own only as far as
/// nobody else on this machine uses it. Otherwise both parts of a measurement feel the others.
pub(crate) fn put_first(pid: Pid) {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "1", &pid.as_raw_nonzero().to_string()]);
    let done = chrt.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        let _ = setpriority_process(Some(pid), -20);
    }
}

fn number_behind(text: &str, words: &str) -> Option<u64> {
    let rest = text.split(&format!("{words} ")).nth(1)?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(stderr: ChildStderr, log: &Log) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        log.lines.lock().expect("the log").0.push(String::from_utf8_lossy(&line).into_owned());
        log.grown.notify_all();
    }
    log.lines.lock().expect("the log").1 = true;
    log.grown.notify_all();
}
