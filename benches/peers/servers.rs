//! The servers, each started as a process of its own for one run, with nothing configured that the work does not
//! need: no persistence, no log, no limit on connections or on what waits for a slow reader.
//!
//! What they are asked to do, and what that costs, is not known here.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use switchboard::bench::comparison::Role;
use switchboard::bench::{Cores, Keys, Target, Tls};
use switchboard::client::Address;
use tempfile::TempDir;

/// How long a server may take to listen: so many looks, so far apart.
const LOOKS_MAX: u32 = 1000;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A port that was free may be taken before the server has it.
const STARTS_MAX: u32 = 3;
/// More connections than any work makes, and fewer than a process may have files.
const CONNECTIONS_MAX: u32 = 19_900;
/// The most that Linux allows by default. Where a server has no such setting, it is the server's.
const BACKLOG: u32 = 4096;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The byte floor: the least that any relay must do.
    Floor,
    Switchboard,
    Nats,
    Redis,
    Mosquitto,
    /// Passes no messages: for what a handshake of TLS costs.
    Nginx,
}

impl Kind {
    /// All of them, in the order in which they are run.
    pub(crate) const ALL: [Self; 6] =
        [Self::Floor, Self::Switchboard, Self::Nats, Self::Redis, Self::Mosquitto, Self::Nginx];

    /// Those that pass messages.
    pub(crate) const RELAYS: &'static [Self] =
        &[Self::Floor, Self::Switchboard, Self::Nats, Self::Redis, Self::Mosquitto];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Switchboard => "switchboard",
            Self::Nats => "nats",
            Self::Redis => "redis",
            Self::Mosquitto => "mosquitto",
            Self::Nginx => "nginx",
        }
    }

    /// What it is there for.
    pub(crate) const fn role(self) -> Role {
        match self {
            Self::Floor => Role::Floor,
            Self::Switchboard => Role::Subject,
            Self::Nats | Self::Redis | Self::Mosquitto | Self::Nginx => Role::Peer,
        }
    }

    /// The name of its program where it is not part of this project.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Switchboard => None,
            Self::Nats => Some("nats-server"),
            Self::Redis => Some("redis-server"),
            Self::Mosquitto => Some("mosquitto"),
            Self::Nginx => Some("nginx"),
        }
    }

    /// Where its program is; `None` if it is not installed.
    pub(crate) fn executable(self) -> Option<PathBuf> {
        match self.program() {
            None if self == Self::Switchboard => Some(PathBuf::from(env!("CARGO_BIN_EXE_switchboard"))),
            None => std::env::current_exe().ok(),
            Some(program) => find(program),
        }
    }

    /// What it calls its version; empty where it does not say.
    pub(crate) fn version(self) -> String {
        let Some(program) = self.program().and_then(find) else {
            return if self == Self::Switchboard { env!("CARGO_PKG_VERSION").to_owned() } else { String::new() };
        };
        let argument = match self {
            // It says its version on top of its usage, and ends with a failure.
            Self::Mosquitto => "-h",
            Self::Nginx => "-v",
            _ => "--version",
        };
        let said = Command::new(program).arg(argument).stdin(Stdio::null()).output();
        let said = said.map(|output| if self == Self::Nginx { output.stderr } else { output.stdout });
        let said = said.map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
        let mut words = said.lines().next().unwrap_or_default().split_whitespace();
        let version = words.find_map(|word| {
            let word = word.trim_start_matches("v=").trim_start_matches('v').trim_start_matches("nginx/");
            word.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
        });
        version.unwrap_or_default()
    }

    /// Starts it on a core of its own and waits until it listens; with `keys`, for TLS.
    pub(crate) fn start(self, keys: Option<&Keys>) -> Result<Server, String> {
        let executable = self.executable().ok_or("it is not installed")?;
        let tls = keys.map(Tls::to_keys_alike).transpose()?;
        if self == Self::Switchboard {
            let target = match keys.zip(tls) {
                Some((keys, tls)) => Target::start_tls(&executable, &[], keys, tls),
                None => Target::start(&executable, &[]),
            };
            return Ok(Server { target: target?, _own: None });
        }
        let tls = tls.map(|tls| if self == Self::Nats { tls.behind_line() } else { tls }.without_protocol());
        let mut trouble = String::new();
        for _ in 0..STARTS_MAX {
            match self.start_child(&executable, keys) {
                Ok(mut server) => {
                    if let Some(tls) = tls {
                        server.target = server.target.over(tls);
                    }
                    return Ok(server);
                }
                Err(why) => trouble = why,
            }
        }
        Err(trouble)
    }

    fn start_child(self, executable: &Path, keys: Option<&Keys>) -> Result<Server, String> {
        let folder = tempfile::Builder::new().prefix("switchboard-peers-").tempdir();
        let folder = folder.map_err(|error| format!("the system grants no temporary folder: {error}"))?;
        let mut command = ending_with_us(executable);
        // In a group of its own: a Ctrl-C for us must not end it before its figures are read.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder.path());
        let announces = self == Self::Floor;
        let port = if announces { 0 } else { free_port()? };
        if announces {
            command.arg("floor").stdout(Stdio::piped()).stderr(Stdio::inherit());
        } else {
            let file = folder.path().join("conf");
            let written = std::fs::write(&file, self.configuration(port, folder.path(), keys));
            written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            match self {
                Self::Redis => {}
                // It would open its usual log before it has read what it should write to.
                Self::Nginx => {
                    command.arg("-p").arg(folder.path()).args(["-e", "/dev/null", "-c"]);
                }
                _ => {
                    command.arg("-c");
                }
            }
            // With one processor Go's own threads do not outnumber the core.
            command.arg(file).env("GOMAXPROCS", "1");
        }
        let cores = Cores::split();
        let spawned = match &cores {
            Some(cores) => cores.spawn(&mut command),
            None => command.spawn(),
        };
        let child = spawned.map_err(|error| format!("cannot start {}: {error}", executable.display()))?;
        let mut own = Own { child, _folder: folder, _cores: cores };
        let address = if announces { own.announced()? } else { SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        own.wait_for(address)?;
        let address: Address = address.to_string().parse().map_err(|error| format!("{address}: {error}"))?;
        let target = Target::at(&address)?;
        // Somebody else's server at that port would be measured in its place.
        let pid = target.process().map(switchboard::bench::Process::pid);
        if pid.is_some_and(|pid| pid != own.child.id()) {
            return Err(format!("another process listens at {address}"));
        }
        Ok(Server { target, _own: Some(own) })
    }

    /// Its configuration file; with keys it speaks TLS and nothing else.
    fn configuration(self, port: u16, folder: &Path, keys: Option<&Keys>) -> String {
        let mut text = String::new();
        let files = keys.map(|keys| (keys.certificate_file(), keys.key_file()));
        let files = files.as_ref();
        let mut line = |line: std::fmt::Arguments<'_>| {
            // A string takes everything.
            let _ = writeln!(text, "{line}");
        };
        match self {
            Self::Nats => {
                line(format_args!("listen: \"127.0.0.1:{port}\""));
                line(format_args!("max_connections: {CONNECTIONS_MAX}"));
                line(format_args!("max_pending: 1GB"));
                line(format_args!("write_deadline: \"1h\""));
                if let Some((certificate, key)) = files {
                    // Thousands shake hands at once; its own limit is for one.
                    line(format_args!("tls {{"));
                    line(format_args!("cert_file: \"{}\"", certificate.display()));
                    line(format_args!("key_file: \"{}\"", key.display()));
                    line(format_args!("timeout: 60"));
                    line(format_args!("}}"));
                }
            }
            Self::Redis => {
                line(format_args!("bind 127.0.0.1"));
                line(format_args!("port {}", if files.is_some() { 0 } else { port }));
                if let Some((certificate, key)) = files {
                    line(format_args!("tls-port {port}"));
                    line(format_args!("tls-cert-file {}", certificate.display()));
                    line(format_args!("tls-key-file {}", key.display()));
                    line(format_args!("tls-auth-clients no"));
                }
                line(format_args!("protected-mode no"));
                line(format_args!("tcp-backlog {BACKLOG}"));
                line(format_args!("maxclients {CONNECTIONS_MAX}"));
                line(format_args!("io-threads 1"));
                line(format_args!("save \"\""));
                line(format_args!("appendonly no"));
                line(format_args!("client-output-buffer-limit normal 0 0 0"));
                line(format_args!("client-output-buffer-limit pubsub 0 0 0"));
                line(format_args!("dir \"{}\"", folder.display()));
            }
            Self::Mosquitto => {
                line(format_args!("listener {port} 127.0.0.1"));
                if let Some((certificate, key)) = files {
                    line(format_args!("certfile {}", certificate.display()));
                    line(format_args!("keyfile {}", key.display()));
                }
                line(format_args!("allow_anonymous true"));
                line(format_args!("persistence false"));
                line(format_args!("max_connections -1"));
                line(format_args!("set_tcp_nodelay true"));
                line(format_args!("max_inflight_messages 0"));
                line(format_args!("max_queued_messages 0"));
                line(format_args!("sys_interval 0"));
                line(format_args!("connection_messages false"));
                line(format_args!("log_dest none"));
                // Started by root it would become another user, who may not look into the folder.
                if rustix::process::geteuid().is_root() {
                    line(format_args!("user root"));
                }
            }
            Self::Nginx => {
                // One process, which is its own worker.
                line(format_args!("daemon off; master_process off; pid {}/pid;", folder.display()));
                line(format_args!("events {{ worker_connections {CONNECTIONS_MAX}; }}"));
                line(format_args!("http {{ access_log off;"));
                for (kind, name) in
                    [("client_body", "body"), ("proxy", "p"), ("fastcgi", "f"), ("uwsgi", "u"), ("scgi", "s")]
                {
                    line(format_args!("{kind}_temp_path {}/{name};", folder.display()));
                }
                let tls = if files.is_some() { " ssl" } else { "" };
                line(format_args!("server {{ listen 127.0.0.1:{port}{tls} backlog={BACKLOG};"));
                if let Some((certificate, key)) = files {
                    line(format_args!("ssl_certificate {};", certificate.display()));
                    line(format_args!("ssl_certificate_key {};", key.display()));
                    line(format_args!("ssl_protocols TLSv1.3;"));
                }
                line(format_args!("}} }}"));
            }
            Self::Floor | Self::Switchboard => {}
        }
        text
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    /// What is measured.
    pub(crate) target: Target,
    /// Dropped after the target.
    _own: Option<Own>,
}

/// A child of this process, with what it needs.
struct Own {
    child: Child,
    _folder: TempDir,
    /// Given up when the server is gone.
    _cores: Option<Cores>,
}

impl Own {
    /// Where it says that it listens.
    fn announced(&mut self) -> Result<SocketAddr, String> {
        let mut line = String::new();
        if let Some(out) = self.child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(|error| format!("says nothing: {error}"))?;
        }
        let address = line.trim_end().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        address.ok_or_else(|| format!("says {line:?} instead of where it listens"))
    }

    /// Waits until somebody accepts at `address`.
    fn wait_for(&mut self, address: SocketAddr) -> Result<(), String> {
        for _ in 0..LOOKS_MAX {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended before it listened ({status})"));
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Err(format!("it does not listen after {} s", (LOOK_INTERVAL * LOOKS_MAX).as_secs()))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that the system ends when this process ends in whatever way, where there is `setpriv`, which asks
/// for that and then becomes the program.
fn ending_with_us(executable: &Path) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(executable);
            command
        }
        None => Command::new(executable),
    }
}

/// A port that nobody uses at the moment.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("the system grants no port: {error}"))
}

/// A program on the path, or where Debian puts servers, which is not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
