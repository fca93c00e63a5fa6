//! The server under load: one that is started for the purpose, or one that is there already.
//!
//! Whatever the system's books say of its process is read here; how it is spoken to is a
//! [`Dialect`](super::Dialect)'s business, and what its figures mean is the scenario's.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cores::Cores;
use super::machine::source;
use super::process::{Process, Usage};
use super::report;
use super::tls::{Keys, Tls};
use crate::client::Address;
use crate::reactor::{ConnId, Endpoint, Reactor};

/// How long each address of a host may take to answer, before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a relay may take to say what it has counted, and how often it is looked for that.
const COUNTERS_WAIT_MAX: Duration = Duration::from_secs(2);
const COUNTERS_STEP: Duration = Duration::from_millis(20);
/// Lines of its log that are kept: the last ones say why it ended.
const LOG_LINES_MAX: usize = 20;
/// What stands in front of an address where TLS is spoken.
const TLS_PREFIX: &str = "tls://";

/// The server under load.
#[derive(Debug)]
pub struct Target {
    endpoint: Endpoint,
    software: String,
    /// What a relay of our own was told beyond what all are.
    arguments: Vec<String>,
    process: Option<Process>,
    child: Option<Relay>,
    /// How its clients speak TLS, if they do.
    tls: Option<Tls>,
    /// Dropped last: the load's thread is freed when the server is gone.
    cores: Option<Cores>,
}

/// A relay of our own.
#[derive(Debug)]
struct Relay {
    child: Child,
    log: Arc<Mutex<VecDeque<String>>>,
    /// Reads the log; it ends with the relay.
    reading: Option<JoinHandle<()>>,
    connections_max: Option<usize>,
    /// How it ended, once that is known.
    ended: Option<String>,
}

impl Target {
    /// Starts a relay of one's own: `executable serve`, on a port of the system's choice, with further
    /// `arguments`. Where there are two cores, it has one, and this thread another. It ends when the target
    /// is dropped, and on Linux also when this process ends in any other way.
    ///
    /// Its log is read, so that its lines do not run into what is shown meanwhile: see [`Target::log`].
    ///
    /// # Errors
    /// One line: it cannot be started, or ended before it listened.
    pub fn start(executable: &Path, arguments: &[String]) -> Result<Self, String> {
        let mut command = Command::new(executable);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::launch(command, arguments)
    }

    /// The same for clients that speak TLS as `tls` says. The relay has read `keys` when this returns.
    ///
    /// # Errors
    /// As [`Target::start`].
    pub fn start_tls(executable: &Path, arguments: &[String], keys: &Keys, tls: Tls) -> Result<Self, String> {
        let mut command = Command::new(executable);
        command.args(["serve", "--listen", "tls://127.0.0.1:0", "--tls-cert"]).arg(keys.certificate_file());
        command.arg("--tls-key").arg(keys.key_file());
        Ok(Self::launch(command, arguments)?.over(tls))
    }

    fn launch(mut command: Command, arguments: &[String]) -> Result<Self, String> {
        if !arguments.iter().any(|argument| argument == "--log-level") {
            command.args(["--log-level", "warn"]);
        }
        command.args(["--end-with-parent", &std::process::id().to_string()]);
        // Clients go by the thousand: those lines must not drive out the others.
        command.args(["--log-lost-per-second-max", "3"]);
        // In a group of its own: a Ctrl-C for us must not end the relay before its figures are read.
        command.args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cores = Cores::split();
        let spawned = match &cores {
            Some(cores) => cores.spawn(&mut command),
            None => command.spawn(),
        };
        let program = || Path::new(command.get_program()).display().to_string();
        let child = spawned.map_err(|error| format!("cannot start {}: {error}", program()))?;
        let (relay, address) = Relay::announced(child)?;
        Ok(Self {
            endpoint: Endpoint::Tcp(address),
            software: String::new(),
            arguments: arguments.to_vec(),
            process: Process::of(relay.child.id()),
            child: Some(relay),
            tls: None,
            cores,
        })
    }

    /// A server that is there already; how TLS is spoken at a `tls://` address is for [`Target::over`]. Of a host with several addresses the first that answers is taken. If
    /// it is a process of this machine that may be looked at, it is looked for, which takes some ms.
    ///
    /// # Errors
    /// One line: the host is not known, or nobody listens there.
    pub fn at(address: &Address) -> Result<Self, String> {
        let endpoint = reachable(address).map_err(|error| format!("cannot connect to {address}: {error}"))?;
        let process = Process::listening_at(&endpoint);
        let (software, arguments) = (String::new(), Vec::new());
        Ok(Self { endpoint, software, arguments, process, child: None, tls: None, cores: None })
    }

    /// Has clients speak TLS with it.
    #[must_use]
    pub fn over(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How clients speak TLS with it, if they do.
    #[must_use]
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Begins the connection of a client, from an address of the second number `network` where that can be chosen.
    pub(super) fn connect(&self, reactor: &mut Reactor, network: u8, client: u32) -> Result<ConnId, String> {
        let source = source(&self.endpoint, network, client);
        let begun = match self.tls.as_ref().filter(|tls| !tls.is_behind_line()) {
            Some(tls) => reactor.connect_tls(&self.endpoint, source, tls.role()),
            None => reactor.connect(&self.endpoint, source),
        };
        begun.map_err(|error| format!("client {client} cannot connect to {}: {error}", self.endpoint))
    }

    /// Where it listens.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same as a person writes it.
    #[must_use]
    pub fn address(&self) -> String {
        if self.tls.is_some() { format!("{TLS_PREFIX}{}", self.endpoint) } else { self.endpoint.to_string() }
    }

    /// Whether it was started for the purpose.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.child.is_some()
    }

    /// The process, if its figures can be read.
    #[must_use]
    pub const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The cores that server and load are pinned to.
    #[must_use]
    pub const fn cores(&self) -> Option<&Cores> {
        self.cores.as_ref()
    }

    /// How many connections a relay of one's own says that it takes.
    #[must_use]
    pub fn connections_max(&self) -> Option<usize> {
        self.child.as_ref()?.connections_max
    }

    /// Notes what the server calls itself.
    pub fn set_software(&mut self, software: impl Into<String>) {
        self.software = software.into();
    }

    /// What a report says of it.
    #[must_use]
    pub fn describe(&self) -> report::Target {
        report::Target {
            address: self.address(),
            software: self.software.clone(),
            pid: self.process.as_ref().map(Process::pid),
            core: self.cores.as_ref().map(|cores| cores.server),
            arguments: self.arguments.clone(),
        }
    }

    /// What it has used so far, where that is known.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref()?.usage()
    }

    /// Its CPU time so far, where that is known; cheaper than [`Target::usage`].
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        self.process.as_ref()?.cpu()
    }

    /// How many files it has open, where that is known.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        self.process.as_ref()?.descriptors()
    }

    /// Whether the server's process has ended: a line that says how. `None` also where that is not known.
    pub fn ended(&mut self) -> Option<String> {
        if let Some(relay) = &mut self.child {
            return relay.ended();
        }
        let process = self.process.as_ref().filter(|process| !process.is_alive())?;
        Some(format!("the server's process, {}, has ended", process.pid()))
    }

    /// What a relay of one's own has counted, line by line: it says so in its log when it is asked, if that has
    /// `--log-level info`. Nothing from others, and nothing if it does not answer.
    #[must_use]
    pub fn counters(&self) -> Vec<String> {
        /// How each of the lines begins.
        const LINES: [&str; 3] = ["clients ", "closed: ", "refused: "];
        let Some(relay) = self.child.as_ref().filter(|relay| relay.ended.is_none()) else { return Vec::new() };
        let counters = || -> Vec<String> {
            let log = relay.lock();
            // Behind the time and the level; the last of each are those that were asked for.
            let last = |begin: &&str| {
                let words = log.iter().rev().filter_map(|line| Some(&line[line.find("[INFO] ")? + "[INFO] ".len()..]));
                words.into_iter().find(|words| words.starts_with(begin)).map(str::to_owned)
            };
            LINES.iter().filter_map(last).collect()
        };
        if rustix::process::kill_process(rustix::process::Pid::from_child(&relay.child), rustix::process::Signal::USR1)
            .is_err()
        {
            return Vec::new();
        }
        let began = Instant::now();
        while counters().is_empty() && began.elapsed() < COUNTERS_WAIT_MAX {
            thread::sleep(COUNTERS_STEP);
        }
        // The lines come one by one.
        thread::sleep(COUNTERS_STEP);
        counters()
    }

    /// The last lines that a relay of one's own has logged: warnings and errors, for those who look for why a
    /// run has failed.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.child.as_ref().map_or_else(Vec::new, |relay| relay.lock().iter().cloned().collect())
    }
}

impl Relay {
    /// A relay that has said where it listens, or why it does not.
    fn announced(mut child: Child) -> Result<(Self, SocketAddr), String> {
        let stdout = child.stdout.take();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let reading = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            thread::spawn(move || keep_log(stderr, &log))
        });
        let mut relay = Self { child, log, reading, connections_max: None, ended: None };
        let mut address = None;
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("listening"), Some("on"), Some(word)) => {
                    address = address.or_else(|| word.strip_prefix(TLS_PREFIX).unwrap_or(word).parse().ok());
                }
                (Some("ready"), Some("for"), Some(word)) => {
                    relay.connections_max = word.parse().ok();
                    break;
                }
                _ => {}
            }
        }
        match address {
            Some(address) => Ok((relay, address)),
            None => Err(relay.wait()),
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        if self.ended.is_none() && self.child.try_wait().is_ok_and(|status| status.is_some()) {
            let line = self.wait();
            self.ended = Some(line);
        }
        self.ended.clone()
    }

    /// Waits for its end, and says how it came.
    fn wait(&mut self) -> String {
        let how = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        let last = self.lock().back().map_or_else(String::new, |line| format!("; its last words: {line}"));
        format!("the relay under load has ended ({how}){last}")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its clients are gone or about to go: there is nothing to say goodbye for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the last lines of a log until its writer ends. A relay that warns all the time is not slowed down.
fn keep_log(stderr: ChildStderr, log: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let mut lines = log.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
    }
}

/// The first address of a host at which somebody listens.
fn reachable(address: &Address) -> io::Result<Endpoint> {
    let (host, port) = match address {
        Address::Unix(path) => return Ok(Endpoint::Unix(path.clone())),
        Address::Tcp { host, port } | Address::Tls { host, port } => (host, *port),
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for candidate in (host.as_str(), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(Endpoint::Tcp(candidate)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
