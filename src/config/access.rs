//! Who may come in and how: keys for TLS, and limits by address, by connection and by time.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::parse::{
    BytesCeiling, Ceiling, parse_bytes, parse_bytes_limit, parse_count, parse_limit, parse_net, parse_net_or_none,
    parse_time,
};
use crate::auth::AuthSettings;
use crate::reactor::{Gate, RateLimit};
use crate::relay::Takeover;

/// What becomes of a user's connection when another one of the same user comes under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TakeoverChoice {
    /// The new one has the name, and the old one is told so: whoever has lost its network is back at once.
    Replace,
    /// The old one keeps it, unless it shows no life.
    Reject,
}

/// What becomes of a client that sends more in a second than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Excess {
    /// It is not read from until it has waited for long enough.
    Pause,
    /// It is closed with RATE_EXCEEDED.
    Close,
}

/// Where the keys for TLS are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// Whether they must.
    pub requires_client: bool,
}

/// Who may come in, and how.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// The certificate for tls:// listeners, PEM, with those that lead to an authority behind it. Read again at SIGHUP
    #[arg(long, value_name = "PATH", help_heading = "TLS")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM. `switchboard cert` makes a pair for a first try
    #[arg(long, value_name = "PATH", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,

    /// Authorities, PEM: a client may show a certificate of theirs. With --users that says who it is, if the user's line has
    /// the word `certificate`
    #[arg(long, value_name = "PATH", help_heading = "TLS")]
    pub tls_client_ca: Option<PathBuf>,

    /// Clients must show one
    #[arg(long, requires = "tls_client_ca", help_heading = "TLS")]
    pub tls_client_required: bool,

    /// Time for the handshake of TLS, or the header of a proxy: a slow line makes it, an idle attacker is gone soon
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time, help_heading = "TLS")]
    pub handshake_deadline: Duration,

    /// Steps of handshakes in one turn of the loop, at most: each takes as long as a thousand frames, which the connected
    /// must not wait for. In a short turn they are fewer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = parse_count, help_heading = "TLS")]
    pub handshakes_turn_max: usize,

    /// The users file: a line for each, with what it may do. With it everybody must prove to be one of them; without it
    /// everybody is let in. `switchboard passwd` writes it. Read again at SIGHUP
    #[arg(long, value_name = "PATH", help_heading = "Users")]
    pub users: Option<PathBuf>,

    /// What becomes of a user's connection when another one of the same user comes under its name
    #[arg(long, value_name = "WHAT", default_value = "replace", help_heading = "Users")]
    pub takeover: TakeoverChoice,

    /// Time that an old connection has to show life, where --takeover is reject: longer than any round trip, shorter than
    /// somebody's patience
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time, help_heading = "Users")]
    pub takeover_probe: Duration,

    /// Connected clients that are held against a changed users file in one turn: all of ten thousand at once would have
    /// everybody wait for milliseconds
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = parse_count, help_heading = "Users")]
    pub reviews_turn_max: usize,

    /// Time from the relay's first answer of an exchange to its end: the client hashes its password meanwhile, on whatever
    /// it runs on
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_time, help_heading = "Users")]
    pub auth_deadline: Duration,

    /// Attempts that may fail from one address within --auth-failures-window; what comes then is refused unseen. More than
    /// somebody mistypes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Users")]
    pub auth_failures_max: u32,

    /// How long an address is remembered after the first of its failures
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_time, help_heading = "Users")]
    pub auth_failures_window: Duration,

    /// How late the first failure under a name is told; each further one, and then a success as well, twice as late
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_time, help_heading = "Users")]
    pub auth_delay: Duration,

    /// The latest that an answer comes: what somebody waits whose name others are guessing at
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = parse_time, help_heading = "Users")]
    pub auth_delay_max: Duration,

    /// How long a name is remembered after its last failure
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time, help_heading = "Users")]
    pub auth_failures_memory: Duration,

    /// Addresses, and names, whose failures are remembered: 2.5 MB of each when all are used
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = parse_count, help_heading = "Users")]
    pub auth_remembered_max: usize,

    /// Let in only addresses of this network, as 10.0.0.0/8. Can be given several times
    #[arg(long, value_name = "CIDR", value_parser = parse_net, help_heading = "Addresses")]
    pub allow: Vec<IpNet>,

    /// Do not let in addresses of this network, also where --allow has them. Can be given several times
    #[arg(long, value_name = "CIDR", value_parser = parse_net, help_heading = "Addresses")]
    pub deny: Vec<IpNet>,

    /// Connections from one address, or one IPv6 network of 64 bits: ten thousand behind one router are welcome, and
    /// nobody takes all the places
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = parse_count, help_heading = "Addresses")]
    pub connections_per_address_max: usize,

    /// Connections accepted in a second from one address; more are refused for the moment
    #[arg(long, value_name = "N|none", default_value = "10000", value_parser = parse_limit, help_heading = "Addresses")]
    pub accepts_per_address_per_second_max: Ceiling,

    /// Connections accepted in a second from all addresses; more wait in the system's backlog. Above what a storm of ten
    /// thousand needs
    #[arg(long, value_name = "N|none", default_value = "50000", value_parser = parse_limit, help_heading = "Addresses")]
    pub accepts_per_second_max: Ceiling,

    /// Limits by address, and for wrong passwords, do not hold for this network. Can be given several times; the default is
    /// this machine, where proxies and load generators run. With `none` they hold for all
    #[arg(long, value_name = "CIDR|none", value_parser = parse_net_or_none, default_values = ["127.0.0.0/8", "::1"], help_heading = "Addresses")]
    pub limit_exempt: Vec<IpNet>,

    /// Connections from this network come through a proxy, and begin with the header of the PROXY protocol, version 1 or
    /// 2, which says for whom. Only what you run yourself belongs here. Can be given several times
    #[arg(long, value_name = "CIDR", value_parser = parse_net, help_heading = "Addresses")]
    pub proxy_from: Vec<IpNet>,

    /// Bytes that may be kept of what somebody says who is not through its handshake. By default 16 KiB, ten times what
    /// clients begin with; with --tls-client-ca 32 KiB, for chains of certificates. Times --unregistered-max it should leave
    /// room in --buffered-total-max
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = "TLS")]
    pub handshake_max: Option<usize>,

    /// Connections that are not registered yet; one more, and the oldest of them goes (CROWDED_OUT) that has not been
    /// answered yet. Whoever says HELLO at once is not among them for long
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = parse_count, help_heading = "Connections")]
    pub unregistered_max: usize,

    /// Of these from one address, or one IPv6 network of 64 bits: whoever begins and does not end leaves the others places.
    /// As many behind one router can log in at once
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = parse_count, help_heading = "Addresses")]
    pub unregistered_per_address_max: usize,

    /// How long a connection that was answered, in its handshake or its login, cannot be the one that goes; when there are
    /// only those, others wait in the backlog. Longer than a round trip, and than a client takes to hash a password
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, help_heading = "Connections")]
    pub unregistered_grace: Duration,

    /// Frames that a client may send in a second; a second's worth may come at once. By default as many as the loop has
    /// time for, which it shares out evenly
    #[arg(long, value_name = "N|none", default_value = "none", value_parser = parse_limit, help_heading = "Rates")]
    pub frames_per_second_max: Ceiling,

    /// Bytes that a client may send in a second, as above
    #[arg(long, value_name = "BYTES|none", default_value = "none", value_parser = parse_bytes_limit, help_heading = "Rates")]
    pub bytes_per_second_max: BytesCeiling,

    /// What becomes of a client that sends more
    #[arg(long, value_name = "WHAT", default_value = "pause", help_heading = "Rates")]
    pub rate_excess: Excess,
}

impl Access {
    /// Checks what only makes sense together. In a turn so many connections may be accepted.
    ///
    /// # Errors
    /// One line that says what to change.
    pub(super) fn validate(&self, listens_for_tls: bool, accepts_max: usize) -> Result<(), String> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err("--tls-cert needs its private key: add --tls-key PATH".to_owned()),
            (None, Some(_)) => return Err("--tls-key needs its certificate: add --tls-cert PATH".to_owned()),
            (None, None) if listens_for_tls => {
                return Err(
                    "a tls:// listener needs --tls-cert PATH and --tls-key PATH; `switchboard cert` makes a pair \
                            for a first try"
                        .to_owned(),
                );
            }
            (Some(_), Some(_)) if !listens_for_tls => {
                return Err(
                    "--tls-cert is of no use without a tls:// listener: add --listen tls://HOST:PORT".to_owned()
                );
            }
            (None, None) if self.tls_client_ca.is_some() => {
                return Err("--tls-client-ca is of no use without a tls:// listener".to_owned());
            }
            _ => {}
        }
        if self.users.is_none() && self.takeover() == Takeover::Reject {
            return Err(
                "--takeover is of no use without users, who alone can be told to be the same: add --users PATH"
                    .to_owned(),
            );
        }
        if self.auth_delay > self.auth_delay_max {
            return Err("--auth-delay must not be above --auth-delay-max".to_owned());
        }
        let least = accepts_max.max(self.handshakes_turn_max);
        if self.unregistered_max < least {
            return Err(format!(
                "--unregistered-max {} must not be below {least}, which may come in one turn of the loop (--accepts-turn-max \
                 for each listener): nobody would get in",
                self.unregistered_max
            ));
        }
        Ok(())
    }

    /// Bytes of a handshake that may wait for their end.
    pub(super) fn handshake_bytes_max(&self) -> usize {
        self.handshake_max.unwrap_or(if self.tls_client_ca.is_some() { 32 * 1024 } else { 16 * 1024 })
    }

    /// Where the keys for TLS are, if it is spoken.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.tls_client_ca.clone(),
            requires_client: self.tls_client_required,
        })
    }

    /// Which addresses are treated how.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate {
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            exempt: self.limit_exempt.clone(),
            proxies: self.proxy_from.clone(),
        }
    }

    /// How failed attempts to authenticate are counted, delayed and refused.
    pub(super) const fn auth(&self) -> AuthSettings {
        AuthSettings {
            failures_per_origin_max: self.auth_failures_max,
            failures_window: self.auth_failures_window,
            delay: self.auth_delay,
            delay_max: self.auth_delay_max,
            failures_memory: self.auth_failures_memory,
            remembered_max: self.auth_remembered_max,
            exchange_deadline: self.auth_deadline,
        }
    }

    /// What becomes of a user's other connection.
    pub(super) const fn takeover(&self) -> Takeover {
        match self.takeover {
            TakeoverChoice::Replace => Takeover::Replace,
            TakeoverChoice::Reject => Takeover::Reject,
        }
    }

    /// What each client may send.
    pub(super) const fn rate(&self) -> RateLimit {
        RateLimit {
            messages_per_second_max: self.frames_per_second_max.0,
            bytes_per_second_max: self.bytes_per_second_max.0,
            closes: matches!(self.rate_excess, Excess::Close),
        }
    }
}
