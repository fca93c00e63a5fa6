//! Every setting and limit of `switchboard serve`: its flag, its default, its unit and its reason.
//!
//! A flag's comment is its help text. The arguments are checked one by one as they are read;
//! [`Settings::validate`] checks what only makes sense together.

mod access;
mod parse;

pub use access::{Access, Excess, TakeoverChoice, TlsFiles};
pub use parse::{BytesCeiling, Ceiling};

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use log::LevelFilter;

use crate::reactor::{Endpoint, Limits, SocketOptions};
use crate::relay;
use crate::wire::{HEADER_BYTES, PAYLOAD_BYTES_CEILING, PAYLOAD_BYTES_FLOOR};
use parse::{
    bytes, parse_bytes, parse_count, parse_keepalive, parse_listen, parse_log_level, parse_rooms_per_client,
    parse_stats_interval, parse_time, parse_unsent, parse_user_timeout,
};

/// Half of the reserve must hold an ERROR for each frame of a run, or each recipient of a SEND_MANY: 1,024
/// of less than 120 bytes.
const QUEUE_RESERVE_MIN: usize = 2 * 1024 * 120;

/// Where to listen, and how it is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address and port, or the path.
    pub endpoint: Endpoint,
    /// Over TLS.
    pub tls: bool,
}

/// All that a relay can be told.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Where to listen: HOST:PORT, HOST, :PORT (every IPv4 address) or unix:PATH; with tls:// in front over TLS, which
    /// needs --tls-cert and --tls-key. Can be given several times. The default is reachable from this machine only
    #[arg(long = "listen", short, value_name = "ADDR", value_parser = parse_listen, default_value = "127.0.0.1:9999", help_heading = "Listening")]
    pub listen: Vec<Listen>,

    /// Connections that the system completes and keeps until they are accepted; a storm fills it
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..=65_535), help_heading = "Listening")]
    pub backlog: i32,

    /// Time after which unacknowledged bytes end a connection (TCP_USER_TIMEOUT, Linux): finds a pulled cable.
    /// From 1ms to 24days, which is what the system can count
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_user_timeout, help_heading = "Listening")]
    pub user_timeout: Duration,

    /// Bytes that the system takes for a connection beyond those on their way (TCP_NOTSENT_LOWAT, Linux): what a
    /// slow reader has not got waits in its queue, where limits and deadlines apply. From 16KiB to 1GiB
    #[arg(long, value_name = "BYTES", default_value = "128KiB", value_parser = parse_unsent, help_heading = "Listening")]
    pub unsent_max: u32,

    /// What to log: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::Info, value_parser = parse_log_level, help_heading = "Logging")]
    pub log_level: LevelFilter,

    /// Log to the end of this file instead of standard error
    #[arg(long, value_name = "PATH", help_heading = "Logging")]
    pub log_file: Option<PathBuf>,

    /// Log every frame, decoded and in hexadecimal; for a look at a few clients, not for load
    #[arg(long, help_heading = "Logging")]
    pub log_frames: bool,

    /// Log the counters this often, at least 100ms; without it at the end, and whenever SIGUSR1 comes
    #[arg(long, value_name = "TIME", value_parser = parse_stats_interval, help_heading = "Logging")]
    pub stats_interval: Option<Duration>,

    /// Lost clients that are logged one by one in a second; the rest of a mass disconnect is counted
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Logging")]
    pub log_lost_per_second_max: u32,

    /// Failed attempts to authenticate, and to do what a user may not, that are logged one by one in a second
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Logging")]
    pub log_denied_per_second_max: u32,

    /// Connections at the same time; further ones are refused with CONNECTIONS_FULL. The default is what the
    /// system's limit on open files allows
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Connections")]
    pub connections_max: Option<usize>,

    /// Connections accepted in one turn of the loop, at most: a storm must not starve the connected. In a short turn
    /// they are fewer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse_count, help_heading = "Connections")]
    pub accepts_turn_max: usize,

    /// Time from the connection to a complete HELLO: a port scanner is gone soon, a slow line makes it
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time, help_heading = "Connections")]
    pub hello_deadline: Duration,

    /// Time to complete a frame that has begun: nobody holds a buffer for ever
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Connections")]
    pub frame_deadline: Duration,

    /// Age of the oldest unsent byte at which its client is closed as SLOW_CONSUMER
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, help_heading = "Connections")]
    pub write_deadline: Duration,

    /// Silence after which a client is pinged, if it asks for nothing else; after twice that it is lost. Below
    /// the minute or two after which home routers forget a connection, and at least 1s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_keepalive, help_heading = "Connections")]
    pub keepalive: Duration,

    /// The shortest keepalive that a client may ask for, at least 1s: heartbeats cost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_keepalive, help_heading = "Connections")]
    pub keepalive_min: Duration,

    /// The longest keepalive that a client may ask for: the dead are found one day
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time, help_heading = "Connections")]
    pub keepalive_max: Duration,

    /// How long a closed connection is kept to discard what its peer still sends, so that a reset does not
    /// overtake the last frame
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, help_heading = "Connections")]
    pub linger: Duration,

    /// The largest payload that clients may agree on; a frame must fit a queue, and is held whole in memory
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = parse_bytes, help_heading = "Memory")]
    pub payload_max: usize,

    /// Bytes that may wait for one client; past it, frames to it are refused (QUEUE_FULL) or skipped (GAP)
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = parse_bytes, help_heading = "Memory")]
    pub queue_max: usize,

    /// Bytes beyond that for what the relay itself must tell a client
    #[arg(long, value_name = "BYTES", default_value = "256KiB", value_parser = parse_bytes, help_heading = "Memory")]
    pub queue_reserve: usize,

    /// Bytes that may be held for all clients together, in queues and incomplete frames; past it the client that
    /// holds the most is closed
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Memory")]
    pub buffered_total_max: usize,

    /// Rooms at the same time: a room costs about 200 bytes
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = parse_count, help_heading = "Rooms")]
    pub rooms_max: usize,

    /// Rooms that one client may be in: its departure is told to each. At most 1024, as whether it is in a room
    /// is looked up one by one
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_rooms_per_client, help_heading = "Rooms")]
    pub rooms_per_client_max: usize,

    /// Members of one room: every frame goes to each
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = parse_count, help_heading = "Rooms")]
    pub members_max: usize,

    /// How long to wait at the end for what is queued to be written
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time, help_heading = "Shutting down")]
    pub drain_deadline: Duration,

    /// The mean of the delay after which clients that are sent away are told to come back; each is told between
    /// half and one and a half of it, so that they do not come together
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, help_heading = "Shutting down")]
    pub retry_delay: Duration,

    /// Who may come in, and how.
    #[command(flatten)]
    pub access: Access,
}

impl Settings {
    /// Checks what only makes sense together.
    ///
    /// # Errors
    /// One line that says what to change.
    pub fn validate(&self) -> Result<(), String> {
        let payload = self.payload_max;
        if payload < PAYLOAD_BYTES_FLOOR as usize || payload > PAYLOAD_BYTES_CEILING as usize {
            let (floor, ceiling) = (bytes(PAYLOAD_BYTES_FLOOR as usize), bytes(PAYLOAD_BYTES_CEILING as usize));
            return Err(format!("--payload-max {} must lie between {floor} and {ceiling}", bytes(payload)));
        }
        if self.queue_max < payload + HEADER_BYTES {
            return Err(format!(
                "--queue-max {} must hold a frame with a payload of --payload-max {}: give it at least {} bytes",
                bytes(self.queue_max),
                bytes(payload),
                payload + HEADER_BYTES
            ));
        }
        if self.queue_reserve < QUEUE_RESERVE_MIN {
            return Err(format!(
                "--queue-reserve {} must hold the answers to a whole run of frames in its half: give it at least {}",
                bytes(self.queue_reserve),
                bytes(QUEUE_RESERVE_MIN)
            ));
        }
        let full_queue = self.queue_max.saturating_add(self.queue_reserve);
        if self.buffered_total_max < full_queue.saturating_add(payload + HEADER_BYTES) {
            return Err(format!(
                "--buffered-total-max {} must hold one full queue (--queue-max {} and --queue-reserve {}) and a frame of \
                 --payload-max {} that comes in",
                bytes(self.buffered_total_max),
                bytes(self.queue_max),
                bytes(self.queue_reserve),
                bytes(payload)
            ));
        }
        if !(self.keepalive_min <= self.keepalive && self.keepalive <= self.keepalive_max) {
            return Err("--keepalive must lie between --keepalive-min and --keepalive-max".to_owned());
        }
        let accepts_max = self.accepts_turn_max.saturating_mul(self.listen.len());
        self.access.validate(self.listen.iter().any(|listen| listen.tls), accepts_max)
    }

    /// What the reactor is told; the number of connections is still to be held against the system's limits.
    #[must_use]
    pub fn reactor_limits(&self) -> Limits {
        let defaults = Limits::default();
        Limits {
            accepts_turn_max: self.accepts_turn_max,
            input_bytes_max: (self.payload_max + HEADER_BYTES).max(defaults.input_bytes_max),
            input_deadline: self.frame_deadline,
            queue_bytes_max: self.queue_max,
            queue_reserve_bytes: self.queue_reserve,
            buffered_total_bytes_max: self.buffered_total_max,
            write_deadline: self.write_deadline,
            linger: self.linger,
            handshakes_turn_max: self.access.handshakes_turn_max,
            handshake_deadline: self.access.handshake_deadline,
            newcomers_max: self.access.unregistered_max,
            newcomers_per_address_max: self.access.unregistered_per_address_max,
            handshake_bytes_max: self.access.handshake_bytes_max(),
            newcomer_grace: self.access.unregistered_grace,
            connections_per_address_max: self.access.connections_per_address_max,
            accepts_per_second_max: self.access.accepts_per_second_max.0,
            accepts_per_address_per_second_max: self.access.accepts_per_address_per_second_max.0,
            rate: self.access.rate(),
            ..defaults
        }
    }

    /// What the listeners are told.
    #[must_use]
    pub const fn socket_options(&self) -> SocketOptions {
        SocketOptions {
            backlog: self.backlog,
            user_timeout: Some(self.user_timeout),
            unsent_bytes_max: Some(self.unsent_max),
        }
    }

    /// What the relay is told.
    #[must_use]
    pub fn relay(&self) -> relay::Settings {
        relay::Settings {
            payload_bytes_max: self.payload_max as u32,
            queue_bytes_max: self.queue_max,
            queue_reserve_bytes: self.queue_reserve,
            hello_deadline: self.hello_deadline,
            keepalive: self.keepalive,
            keepalive_min: self.keepalive_min,
            keepalive_max: self.keepalive_max,
            rooms_max: self.rooms_max,
            rooms_per_client_max: self.rooms_per_client_max,
            members_max: self.members_max,
            retry_delay: self.retry_delay,
            log_lost_per_second_max: self.log_lost_per_second_max,
            log_denied_per_second_max: self.log_denied_per_second_max,
            auth: self.access.auth(),
            binds_channels: self.access.tls_files().is_some(),
            takeover: self.access.takeover(),
            takeover_probe: self.access.takeover_probe,
            reviews_turn_max: self.access.reviews_turn_max,
            ..relay::Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::parse::parse_endpoint;
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let all = ["serve"].iter().chain(arguments);
        let command = Command::try_parse_from(all).map_err(|error| error.to_string())?;
        command.settings.validate().map(|()| command.settings)
    }

    #[test]
    fn the_defaults_hold_together_and_are_those_of_the_library() {
        let settings = settings(&[]).expect("defaults");
        let (limits, defaults) = (settings.reactor_limits(), Limits::default());
        assert_eq!(limits.queue_bytes_max, defaults.queue_bytes_max);
        assert_eq!(limits.queue_reserve_bytes, defaults.queue_reserve_bytes);
        assert_eq!(limits.buffered_total_bytes_max, defaults.buffered_total_bytes_max);
        assert_eq!((limits.write_deadline, limits.input_deadline), (defaults.write_deadline, defaults.input_deadline));
        let (options, defaults) = (settings.socket_options(), SocketOptions::default());
        assert_eq!(format!("{options:?}"), format!("{defaults:?}"));
        let (relay, defaults) = (settings.relay(), relay::Settings::default());
        assert_eq!(format!("{relay:?}"), format!("{defaults:?}"));
        let endpoint = Endpoint::Tcp("127.0.0.1:9999".parse().expect("an address"));
        assert_eq!(settings.listen, [Listen { endpoint, tls: false }]);
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for (text, shown) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.1", "10.0.0.1:9999"),
            (":7", "0.0.0.0:7"),
            ("::1", "[::1]:9999"),
            ("[::1]:5", "[::1]:5"),
            ("[::]:5", "[::]:5"),
            ("unix:/run/s", "unix:/run/s"),
        ] {
            assert_eq!(parse_endpoint(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(shown));
        }
        for bad in ["unix:", ":x", "127.0.0.1:99999", "nobody.invalid:1", "http://127.0.0.1:1"] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said_in_one_line() {
        for (arguments, says) in [
            (&["--payload-max", "1KiB"][..], "--payload-max 1.0 KiB must lie between"),
            (&["--payload-max", "2MiB"], "--queue-max 1.0 MiB must hold a frame"),
            (&["--queue-reserve", "64KiB"], "--queue-reserve 64.0 KiB must hold"),
            (&["--buffered-total-max", "1MiB"], "--buffered-total-max 1.0 MiB must hold one full queue"),
            (&["--keepalive", "1s", "--keepalive-min", "2s"], "--keepalive must lie between"),
            (&["--hello-deadline", "0s"], "above zero"),
            (&["--queue-max", "much"], "write a size"),
            (&["--connections-max", "0"], "whole number"),
        ] {
            let line = settings(arguments).expect_err("it makes no sense");
            assert!(line.contains(says), "{line}");
        }
    }

    #[test]
    fn every_number_has_bounds_and_says_them() {
        for (flag, least, most) in [
            ("--buffered-total-max", "1.32MiB", "1TiB"),
            ("--user-timeout", "1ms", "24days"),
            ("--unsent-max", "16KiB", "1GiB"),
            ("--keepalive", "1s", "10m"),
            ("--keepalive-min", "1s", "30s"),
            ("--stats-interval", "100ms", "1year"),
            ("--rooms-per-client-max", "1", "1024"),
        ] {
            for bound in [least, most] {
                settings(&[flag, bound]).expect(bound);
            }
        }
        for (flag, refused, says) in [
            ("--queue-max", "18446744073709551615", "at most 1.0 TiB"),
            ("--buffered-total-max", "1099511627777", "at most 1.0 TiB"),
            ("--user-timeout", "999us", "between 1ms and 24days"),
            ("--user-timeout", "25days", "between 1ms and 24days"),
            ("--unsent-max", "16383", "between 16.0 KiB and 1.0 GiB"),
            ("--unsent-max", "4GiB", "between 16.0 KiB and 1.0 GiB"),
            ("--keepalive", "999ms", "at least 1s"),
            ("--keepalive-min", "999ms", "at least 1s"),
            ("--stats-interval", "99ms", "at least 100ms"),
            ("--rooms-per-client-max", "1025", "at most 1024"),
        ] {
            let line = settings(&[flag, refused]).expect_err("it is out of bounds");
            assert!(line.contains(says), "{flag} {refused}: {line}");
        }
    }

    #[test]
    fn sums_of_sizes_do_not_wrap() {
        let huge = Settings { queue_max: usize::MAX, ..settings(&[]).expect("defaults") };
        assert!(huge.validate().expect_err("no memory holds it").contains("must hold one full queue"));
    }
}
