//! Where the reactor and the relay meet: from settings to a process that serves.
//!
//! The reactor calls [`RelayService`] with bytes and connections; that makes frames and ids of them for the
//! relay, and of the relay's effects bytes and connections again. Nothing else knows both.

mod addresses;
mod certificate;
mod client_auth;
mod files;
mod frame_log;
mod service;
mod tls;
mod users;

pub use addresses::{Listening, reachable};
pub use files::FileFault;
pub use service::{BEFORE_THE_RELAY, RelayService};
pub use tls::{ALPN, TlsKeys, TlsLoaded};

use std::fmt;
use std::io;
use std::time::Duration;

use log::{error, info, warn};
use rustls::pki_types::CertificateDer;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::signal_name;
use signal_hook_mio::v1_0::Signals;
use x509_parser::time::ASN1Time;

use crate::config::{Listen, Settings};
use crate::descriptors::{RESERVED_DESCRIPTORS, raise_descriptor_limit};
use crate::reactor::{Endpoint, Reactor};
use crate::relay::{self, Relay};
use crate::time::Time;
use certificate::Lasting;
use service::log_table;
use users::UsersFile;

/// Why a relay could not start.
#[derive(Debug)]
pub enum StartError {
    /// The system grants no poll or no signal handler.
    System(io::Error),
    /// It cannot listen there.
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        error: io::Error,
    },
    /// The keys for TLS, or the users, cannot be used.
    File(FileFault),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (endpoint, error) = match self {
            Self::System(error) => return write!(f, "the system does not let the relay start: {error}"),
            Self::File(fault) => return fault.fmt(f),
            Self::Listen { endpoint, error } => (endpoint, error),
        };
        write!(f, "cannot listen on {endpoint}: ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "it is in use already; stop the other process or choose another with --listen")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "this machine does not have this address; choose one that it has with --listen")
            }
            io::ErrorKind::PermissionDenied => match endpoint {
                Endpoint::Tcp(address) => write!(
                    f,
                    "port {} needs a privilege; choose a port from 1024 on with --listen, or grant CAP_NET_BIND_SERVICE",
                    address.port()
                ),
                Endpoint::Unix(_) => write!(f, "the folder cannot be written; choose another with --listen"),
            },
            _ => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Whether others than this machine's own can connect there.
fn is_open_to_others(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Tcp(address) if !address.ip().is_loopback())
}

/// How a relay came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal asked for it, and everybody was told.
    Drained,
    /// A second signal did not want to wait for that.
    Interrupted(i32),
}

/// A relay that listens.
#[allow(missing_debug_implementations, reason = "the signal handlers have none")]
pub struct Server {
    reactor: Reactor,
    service: RelayService,
    signals: Signals,
    /// Where it really listens, in the order of the settings.
    listening: Vec<Listen>,
    keys: Option<TlsKeys>,
    /// The relay's certificate, if it has one.
    certificate: Option<(CertificateDer<'static>, Lasting)>,
    /// When that is looked at again.
    remind_at: Option<Time>,
    users: Option<UsersFile>,
    connections_max: usize,
    drain_deadline: Duration,
    stats_interval: Option<Duration>,
    /// How often keys and users have been read anew, and how often what was found could not be used.
    reloads: Reloads,
}

/// In the order of [`RELOADED`].
#[derive(Debug, Default)]
struct Reloads {
    used: [u64; 2],
    unusable: [u64; 2],
}

const RELOADED: [&str; 2] = ["keys", "users"];
const KEYS: usize = 0;
const USERS: usize = 1;

impl Server {
    /// Raises the limit on open files, and listens.
    ///
    /// # Errors
    /// The first endpoint that cannot be listened on, and why.
    pub fn bind(settings: &Settings) -> Result<Self, StartError> {
        let keys = settings.access.tls_files().map(TlsKeys::new).transpose().map_err(StartError::File)?;
        let loaded = keys.as_ref().map(TlsKeys::load).transpose().map_err(StartError::File)?;
        let users = settings.access.users.as_deref().map(UsersFile::at);
        let list = users.as_ref().map(UsersFile::read).transpose().map_err(StartError::File)?;
        let descriptors = raise_descriptor_limit();
        let mut limits = settings.reactor_limits();
        let available = descriptors.saturating_sub(RESERVED_DESCRIPTORS + settings.listen.len()).max(1);
        // Connections that linger have a descriptor too: an eighth is theirs, at least a few.
        limits.lingering_max = limits.lingering_max.min(available / 8).max(1);
        let room = available.saturating_sub(limits.lingering_max).max(1);
        limits.connections_max = settings.connections_max.unwrap_or(room).min(room);

        let mut reactor = Reactor::new::<RelayService>(limits).map_err(StartError::System)?;
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map_err(StartError::System)?;
        reactor.watch(&mut signals).map_err(StartError::System)?;
        reactor.connections().set_gate(settings.access.gate());
        let mut listening = Vec::new();
        for Listen { endpoint, tls } in &settings.listen {
            let bound = reactor.listen(endpoint, settings.socket_options());
            let endpoint = bound.map_err(|error| StartError::Listen { endpoint: endpoint.clone(), error })?;
            listening.push(Listen { endpoint, tls: *tls });
        }
        // From here on it starts: whoever reads why it did not has that line and no other.
        if let Some(wish) = settings.connections_max.filter(|wish| *wish > room) {
            warn!(
                "the limit on open files, {descriptors}, allows {room} connections and not {wish}: raise it (ulimit -n)"
            );
        }
        let told = relay::Settings { connections_max: limits.connections_max, ..settings.relay() };
        let mut relay = Relay::new(told, fastrand::u64(..), reactor.clock().epoch());
        if let Some(list) = list {
            info!("users: {}", list.len());
            if let Some(file) = &users {
                file.warn(&list, keys.as_ref());
            }
            relay = relay.with_users(Box::new(list));
        } else if let Some(listen) = listening.iter().find(|listen| is_open_to_others(&listen.endpoint)) {
            warn!("whoever can reach {} is let in: --users FILE asks for proof", listen.endpoint);
        }
        if settings.access.users.is_none()
            && settings.access.tls_client_ca.is_some()
            && !settings.access.tls_client_required
        {
            warn!("--tls-client-ca lets nobody in or out by itself: add --users FILE, or --tls-client-required");
        }
        let mut server = Self {
            service: RelayService::new(relay, settings.log_frames),
            reactor,
            signals,
            listening,
            keys,
            certificate: None,
            remind_at: None,
            users,
            connections_max: limits.connections_max,
            drain_deadline: settings.drain_deadline,
            stats_interval: settings.stats_interval,
            reloads: Reloads::default(),
        };
        if let Some(loaded) = loaded {
            server.use_keys(loaded);
        }
        Ok(server)
    }

    /// Has TLS be spoken with these keys from now on; connections that stand stay as they are.
    fn use_keys(&mut self, loaded: TlsLoaded) {
        self.keys.iter().for_each(|keys| keys.warn(&loaded));
        for (number, listen) in self.listening.iter().enumerate() {
            self.reactor.set_tls(number, listen.tls.then(|| loaded.config.clone()));
        }
        self.certificate = Some((loaded.certificate, loaded.lasting));
        self.remind();
    }

    /// Says if the certificate ends soon or has ended.
    fn remind(&mut self) {
        let wait = self.certificate.as_mut().map(|(_, lasting)| lasting.remind(ASN1Time::now()));
        self.remind_at = wait.map(|wait| self.reactor.clock().now() + wait);
    }

    /// SIGHUP: has the log and the keys read anew; says whether there was anything to do.
    fn hang_up(&mut self, reload_log: &mut impl FnMut() -> bool) -> bool {
        let has_log = reload_log();
        self.reload() || has_log
    }

    /// Reads again what can change while the relay runs; says whether there is anything of that kind. What cannot be used
    /// leaves everything as it was, and is said in the log.
    fn reload(&mut self) -> bool {
        match self.keys.as_ref().map(TlsKeys::load) {
            Some(Ok(loaded)) => {
                let is_other = self.certificate.as_ref().is_none_or(|(old, _)| *old != loaded.certificate);
                let which = if is_other { "another certificate" } else { "the same certificate" };
                info!("SIGHUP: the keys for TLS have been read anew: {which}, until {}", loaded.lasting.until());
                self.use_keys(loaded);
                self.reloads.used[KEYS] += 1;
            }
            Some(Err(error)) => {
                self.reloads.unusable[KEYS] += 1;
                error!("SIGHUP: TLS goes on with the keys that it has: {error}");
            }
            None => {}
        }
        if let Some(Err(error)) = self.users.as_mut().map(UsersFile::reload) {
            self.reloads.unusable[USERS] += 1;
            error!("SIGHUP: the users stay as they were: {error}");
        }
        self.keys.is_some() || self.users.is_some()
    }

    /// Goes on with what takes more than a turn; says whether there is more of it.
    fn work_on(&mut self) -> bool {
        let Some(users) = &mut self.users else { return false };
        // The list before it must have been gone through when another one comes.
        if self.service.is_reviewing() {
            return true;
        }
        match users.read_on() {
            Some(Ok(list)) => {
                self.reloads.used[USERS] += 1;
                info!("SIGHUP: the users have been read anew: {}", list.len());
                users.warn(&list, self.keys.as_ref());
                let now = self.reactor.clock().now();
                self.service.set_users(self.reactor.connections(), list, now);
            }
            Some(Err(error)) => {
                self.reloads.unusable[USERS] += 1;
                error!("SIGHUP: the users stay as they were: {error}");
            }
            None => {}
        }
        users.is_loading() || self.service.is_reviewing()
    }

    /// Logs what has been done so far.
    fn log_stats(&mut self) {
        self.service.log_stats(self.reactor.connections());
        log_table("read anew", &RELOADED, &self.reloads.used);
        log_table("found unusable and not taken", &RELOADED, &self.reloads.unusable);
    }

    /// Where it really listens, ports that the system chose included.
    #[must_use]
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// How many connections it takes.
    #[must_use]
    pub const fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Serves until a signal ends it: SIGINT or SIGTERM tell everybody and wait for what is queued, up to
    /// the drain deadline; a second one does not wait. SIGUSR1 has the counters logged. At SIGHUP `reload` is
    /// called; if that has nothing to do, the terminal has gone, and it ends like the others.
    ///
    /// # Errors
    /// The poll itself has failed: nothing that a peer can cause.
    pub fn run(&mut self, mut reload: impl FnMut() -> bool) -> io::Result<Ended> {
        let mut stop_at: Option<Time> = None;
        let mut stats_at = self.stats_interval.map(|interval| self.reactor.clock().now() + interval);
        loop {
            let is_busy = self.work_on();
            let at = [stop_at, stats_at, self.remind_at].into_iter().flatten().min();
            let wait = at.map(|at| at.since(self.reactor.turned()));
            let wait = if is_busy { Some(Duration::ZERO) } else { wait };
            self.reactor.turn(&mut self.service, wait)?;
            let is_signalled = self.service.take_signalled();
            let is_due = at.is_some_and(|at| at <= self.reactor.turned());
            let is_drained = stop_at.is_some() && self.reactor.connections().is_empty();
            if !is_signalled && !is_due && !is_drained {
                continue; // Nearly every turn: there is nothing to look at the clock for.
            }
            let now = self.reactor.clock().now();
            if is_signalled {
                for signal in self.signals.pending() {
                    match signal {
                        SIGUSR1 => self.log_stats(),
                        SIGHUP if self.hang_up(&mut reload) => {}
                        _ if stop_at.is_some() => return Ok(Ended::Interrupted(signal)),
                        _ => {
                            let name = signal_name(signal).unwrap_or("a signal");
                            info!("{name}: saying goodbye; clients: {}", self.service.clients());
                            stop_at = Some(now + self.drain_deadline);
                            self.service.shut_down(self.reactor.connections(), now);
                        }
                    }
                }
            }
            if let (Some(at), Some(interval)) = (stats_at, self.stats_interval)
                && at <= now
            {
                self.log_stats();
                stats_at = Some(now + interval);
            }
            if self.remind_at.is_some_and(|at| at <= now) {
                self.remind();
            }
            if stop_at.is_some_and(|at| at <= now || self.reactor.connections().is_empty()) {
                self.log_stats();
                return Ok(Ended::Drained);
            }
        }
    }
}
