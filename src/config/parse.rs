//! Arguments, one by one, as people write them: sizes, times, counts, places to listen, networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use log::LevelFilter;

use super::Listen;
use crate::reactor::Endpoint;
use crate::wire::PORT;

/// What is larger is a slip, and its sums could wrap.
const BYTES_MAX: ByteSize = ByteSize::tib(1);

/// A year of 365.25 days, as it is read: what is longer is a slip, and could not be added to a clock.
const TIME_MAX: Duration = Duration::from_hours(8766);

/// The system counts it as milliseconds in an `i32`, which end after 24.8 days; and 0 would be its own default.
const USER_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24 * 24);

/// With less, a connection that is read well waits for room with every other write, and 0 would be the
/// system's default; with more, nothing is left of what it is for.
const UNSENT: RangeInclusive<ByteSize> = ByteSize::kib(16)..=ByteSize::gib(1);

/// Deadlines have a grain of 66 ms: a shorter keepalive would be imprecise, and little but heartbeats.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);

/// More often, the counters would be most of the log, and the grain of deadlines would show.
const STATS_INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(super) fn bytes(count: usize) -> ByteSize {
    ByteSize(count as u64)
}

pub(super) fn parse_bytes(text: &str) -> Result<usize, String> {
    let size = ByteSize::from_str(text).map_err(|_| "write a size, as 65536, 64KiB or 1MiB".to_owned())?;
    if size > BYTES_MAX {
        return Err(format!("it must be at most {BYTES_MAX}"));
    }
    usize::try_from(size.as_u64()).map_err(|_| "it is larger than this machine's memory could be".to_owned())
}

pub(super) fn parse_unsent(text: &str) -> Result<u32, String> {
    let size = parse_bytes(text)?;
    match u32::try_from(size) {
        Ok(count) if UNSENT.contains(&bytes(size)) => Ok(count),
        _ => Err(format!("it must lie between {} and {}", UNSENT.start(), UNSENT.end())),
    }
}

pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    time_in(Duration::from_nanos(1)..=TIME_MAX, text, "it must be above zero and at most a year")
}

pub(super) fn parse_user_timeout(text: &str) -> Result<Duration, String> {
    time_in(USER_TIMEOUT, text, "the system counts it in milliseconds: it must lie between 1ms and 24days")
}

pub(super) fn parse_keepalive(text: &str) -> Result<Duration, String> {
    time_in(KEEPALIVE_MIN..=TIME_MAX, text, "deadlines have a grain of 66ms: it must be at least 1s and at most a year")
}

pub(super) fn parse_stats_interval(text: &str) -> Result<Duration, String> {
    time_in(STATS_INTERVAL_MIN..=TIME_MAX, text, "it must be at least 100ms and at most a year")
}

pub(super) fn time_in(range: RangeInclusive<Duration>, text: &str, says: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "write a time, as 500ms, 30s or 2m".to_owned())?;
    if range.contains(&time) { Ok(time) } else { Err(says.to_owned()) }
}

pub(super) fn parse_rooms_per_client(text: &str) -> Result<usize, String> {
    /// The relay looks through a client's rooms one by one.
    const ROOMS_PER_CLIENT_MAX: usize = 1024;
    let count = parse_count(text)?;
    if count > ROOMS_PER_CLIENT_MAX {
        return Err(format!(
            "a client's rooms are looked through one by one: it must be at most {ROOMS_PER_CLIENT_MAX}"
        ));
    }
    Ok(count)
}

pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 && count <= crate::wire::Id::INDEX_MAX => Ok(count),
        _ => Err(format!("write a whole number from 1 to {}", crate::wire::Id::INDEX_MAX)),
    }
}

pub(super) fn parse_log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "write off, error, warn, info, debug or trace".to_owned())
}

/// Reads where to listen, and whether TLS is spoken there.
pub(super) fn parse_listen(text: &str) -> Result<Listen, String> {
    match text.strip_prefix("tls://") {
        Some(address) if address.starts_with("unix:") => {
            Err("what passes over a Unix socket stays on this machine: leave tls:// out".to_owned())
        }
        Some(address) => Ok(Listen { endpoint: parse_endpoint(address)?, tls: true }),
        None => Ok(Listen { endpoint: parse_endpoint(text)?, tls: false }),
    }
}

/// Reads a network of addresses, or a single address.
pub(super) fn parse_net(text: &str) -> Result<IpNet, String> {
    let help = "write a network, as 10.0.0.0/8 or 2001:db8::/32, or an address";
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| help.to_owned())?,
    };
    if net.addr() != net.network() {
        return Err(format!("{net} is an address within a network: write {} for the network", net.trunc()));
    }
    Ok(net)
}

/// Reads a network, or `none`: no peer has the address that stands for that.
pub(super) fn parse_net_or_none(text: &str) -> Result<IpNet, String> {
    if text == "none" {
        Ok(IpAddr::from([0, 0, 0, 0]).into())
    } else {
        parse_net(text).map_err(|why| why + ", or none")
    }
}

/// Reads a limit that may also not be there.
pub(super) fn parse_limit(text: &str) -> Result<Ceiling, String> {
    if text == "none" {
        return Ok(Ceiling(None));
    }
    match text.parse() {
        Ok(count) if (1..=1_000_000_000_u32).contains(&count) => Ok(Ceiling(Some(count))),
        _ => Err("write a whole number from 1 to 1000000000, or none".to_owned()),
    }
}

/// Reads a limit in bytes that may also not be there.
pub(super) fn parse_bytes_limit(text: &str) -> Result<BytesCeiling, String> {
    match text {
        "none" => Ok(BytesCeiling(None)),
        text => match parse_bytes(text)? {
            0 => Err("write a size above 0, or none".to_owned()),
            size => Ok(BytesCeiling(Some(size as u64))),
        },
    }
}

/// A number that something may not exceed, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling(pub Option<u32>);

/// A number of bytes that something may not exceed, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesCeiling(pub Option<u64>);

/// Reads where to listen. Names are looked up, and the first address counts.
pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    let help = "write HOST:PORT, HOST, :PORT, tls:// and one of these, or unix:PATH";
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("{scheme}:// is not spoken here: {help}"));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(help.to_owned()) } else { Ok(Endpoint::Unix(PathBuf::from(path))) };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Endpoint::Tcp(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Endpoint::Tcp(SocketAddr::new(ip, PORT)));
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| help.to_owned())?;
        return Ok(Endpoint::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)));
    }
    if let Some(port) = text.strip_prefix("[::]:") {
        let port = port.parse().map_err(|_| help.to_owned())?;
        return Ok(Endpoint::Tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| help.to_owned())?),
        None => (text, PORT),
    };
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("{host:?} has no address: {error}"))?;
    found.next().map(Endpoint::Tcp).ok_or_else(|| format!("{host:?} has no address"))
}
