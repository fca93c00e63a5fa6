//! Where a relay listens, as a person writes it: `host:port`, `host`, `:port`, `[::1]:9999`, `unix:/path`.
//!
//! What it does not do: it looks nothing up and connects to nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::wire::PORT;

/// The host that is meant where only a port is named: the relay of this machine.
const HOST_DEFAULT: &str = "127.0.0.1";
/// What stands in front of the path of a Unix socket.
const UNIX_PREFIX: &str = "unix:";

/// Where a relay listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host, by name or number (an IPv6 number without its brackets), and a TCP port.
    Tcp {
        /// The host's name or number.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// What stands behind the last colon is not a port from 1 to 65535.
    BadPort,
    /// Nothing stands where a host should, or something that no host can be called.
    BadHost,
    /// `unix:` without a path.
    MissingPath,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadPort => "the port must be a number from 1 to 65535",
            Self::BadHost => "write host:port, host, :port, [ipv6]:port or unix:/path",
            Self::MissingPath => "unix: wants a path behind it",
        })
    }
}

impl std::error::Error for AddressError {}

/// The relay of this machine at its usual port.
impl Default for Address {
    fn default() -> Self {
        Self::Tcp { host: HOST_DEFAULT.into(), port: PORT }
    }
}

impl Address {
    /// The path, where it is a Unix socket.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() { Err(AddressError::MissingPath) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']').ok_or(AddressError::BadHost)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if rest.is_empty() => PORT,
                None => return Err(AddressError::BadHost),
            };
            return tcp(host, port);
        }
        match text.rsplit_once(':') {
            // Several colons without brackets: an IPv6 number and no port.
            Some((before, _)) if before.contains(':') => tcp(text, PORT),
            Some(("", port)) => tcp(HOST_DEFAULT, parse_port(port)?),
            Some((host, port)) => tcp(host, parse_port(port)?),
            None => tcp(text, PORT),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

fn tcp(host: &str, port: u16) -> Result<Address, AddressError> {
    let unfit = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '[' | ']' | '/');
    if host.is_empty() || host.chars().any(unfit) {
        return Err(AddressError::BadHost);
    }
    Ok(Address::Tcp { host: host.into(), port })
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(AddressError::BadPort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_every_form_is_printed_as_it_is_read() {
        for (text, printed) in [
            ("example.org:7000", "example.org:7000"),
            ("example.org", "example.org:9999"),
            (":7000", "127.0.0.1:7000"),
            ("[::1]:7000", "[::1]:7000"),
            ("[::1]", "[::1]:9999"),
            ("::1", "[::1]:9999"),
            ("unix:/run/relay.sock", "unix:/run/relay.sock"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse(), Ok(address));
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:9999");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, error) in [
            ("", AddressError::BadHost),
            ("host:", AddressError::BadPort),
            ("host:0", AddressError::BadPort),
            ("host:65536", AddressError::BadPort),
            ("a b:1", AddressError::BadHost),
            ("[::1", AddressError::BadHost),
            ("[::1]7", AddressError::BadHost),
            ("http://host", AddressError::BadPort),
            ("unix:", AddressError::MissingPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }
}
