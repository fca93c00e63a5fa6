//! Where a relay listens, as a person writes it: `host:port`, `host`, `:port`, `[::1]:9999`, `tls://host:port`,
//! `unix:/path`.
//!
//! Behind `tls://` stands what may stand without it, and the port is the same where none is named: whether a port
//! speaks TLS is its relay's choice, and there is one number to remember.
//!
//! What it does not do: it looks nothing up and connects to nothing.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::wire::PORT;

/// The host that is meant where only a port is named: the relay of this machine.
const HOST_DEFAULT: &str = "127.0.0.1";
/// What stands in front of the path of a Unix socket.
const UNIX_PREFIX: &str = "unix:";
/// What stands in front of a host that is spoken to over TLS.
const TLS_PREFIX: &str = "tls://";
/// What stands between a scheme and the rest in what people know as an address.
const SCHEME_END: &str = "://";
/// The host whose name with a port would look like that.
const UNIX_HOST: &str = "unix";
/// What an address may look like, for those who wrote something else.
const FORMS: &str = "host:port, host, :port, [ipv6]:port, tls://host:port or unix:/path";

/// Where a relay listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host, by name or number (an IPv6 number without its brackets), and a TCP port.
    Tcp {
        /// The host's name or number.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// The same, and the connection is encrypted: the relay proves by a certificate that it is called `host`.
    Tls {
        /// The host's name or number.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// What stands behind the last colon is not a port from 1 to 65535.
    BadPort,
    /// The port is a number over 65535; this one.
    PortTooHigh(String),
    /// Nothing stands where a host should, or something that no host can be called.
    BadHost,
    /// A number stands where a host should, which systems read as an IPv4 address; this one.
    NumberForHost(String),
    /// An IPv6 number and a port, or a longer number: without brackets nobody can tell.
    BracketsMissing {
        /// What stands before the last colon.
        host: String,
        /// What stands behind it.
        port: String,
    },
    /// There is no text.
    Empty,
    /// `unix:` without a path.
    MissingPath,
    /// `tls://` in front of a Unix socket.
    TlsOverUnix,
    /// A scheme that leads to no relay; this one.
    UnknownScheme(String),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPort => f.write_str("the port must be a number from 1 to 65535"),
            Self::PortTooHigh(port) => write!(f, "{port} is no port: the highest is 65535"),
            Self::BadHost => write!(f, "write {FORMS}"),
            Self::NumberForHost(number) if parse_port(number).is_ok() => {
                write!(f, "`{number}` is a port: write `:{number}` or `{HOST_DEFAULT}:{number}`")
            }
            Self::NumberForHost(number) => write!(f, "`{number}` is neither a host nor a port: write {FORMS}"),
            Self::BracketsMissing { host, port } => {
                write!(f, "write `[{host}]:{port}`; without brackets a port cannot be told from the number's last part")
            }
            Self::Empty => write!(f, "the address is empty: write {FORMS}"),
            Self::MissingPath => f.write_str("unix: wants a path behind it"),
            Self::TlsOverUnix => {
                f.write_str("a Unix socket does not leave the machine and has no TLS: write unix:/path")
            }
            Self::UnknownScheme(scheme) => write!(f, "`{scheme}://` leads to no relay: write {FORMS}"),
        }
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
            Self::Tcp { .. } | Self::Tls { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() { Err(AddressError::MissingPath) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(rest) = text.strip_prefix(TLS_PREFIX) {
            if rest.starts_with("unix:/") {
                return Err(AddressError::TlsOverUnix);
            }
            return host_and_port(rest).map(|(host, port)| Self::Tls { host, port });
        }
        if let Some((scheme, _)) = text.split_once(SCHEME_END).filter(|(scheme, _)| is_scheme(scheme)) {
            return Err(AddressError::UnknownScheme(scheme.into()));
        }
        host_and_port(text).map(|(host, port)| Self::Tcp { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A number with colons, and a host that would else be read as what stands in front of a path.
            Self::Tcp { host, port } if host.contains(':') || host == UNIX_HOST => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Tls { host, port } if host.contains(':') => write!(f, "{TLS_PREFIX}[{host}]:{port}"),
            Self::Tls { host, port } => write!(f, "{TLS_PREFIX}{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressError::BadHost)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => PORT,
            None => return Err(AddressError::BadHost),
        };
        return checked(host, port);
    }
    match text.rsplit_once(':') {
        // Several colons without brackets: an IPv6 number and no port, unless it reads both ways.
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && is_number(port) => {
            Err(AddressError::BracketsMissing { host: host.into(), port: port.into() })
        }
        Some((before, _)) if before.contains(':') => checked(text, PORT),
        Some(("", port)) => checked(HOST_DEFAULT, parse_port(port)?),
        Some((host, port)) => checked(host, parse_port(port)?),
        None => checked(text, PORT),
    }
}

fn checked(host: &str, port: u16) -> Result<(String, u16), AddressError> {
    let unfit = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '[' | ']' | '/');
    if host.is_empty() || host.chars().any(unfit) {
        return Err(AddressError::BadHost);
    }
    if is_number(host) {
        return Err(AddressError::NumberForHost(host.into()));
    }
    Ok((host.into(), port))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        Err(_) if is_number(text) => Err(AddressError::PortTooHigh(text.into())),
        _ => Err(AddressError::BadPort),
    }
}

/// What can stand in front of `://` (RFC 3986).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
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
            ("2001:db8::a", "[2001:db8::a]:9999"),
            ("[::1:9997]", "[::1:9997]:9999"),
            ("unix:/run/relay.sock", "unix:/run/relay.sock"),
            // A host of this name is not the path "9999".
            ("unix", "[unix]:9999"),
            ("[unix]:7000", "[unix]:7000"),
            ("tls://example.org:7000", "tls://example.org:7000"),
            ("tls://example.org", "tls://example.org:9999"),
            ("tls://:7000", "tls://127.0.0.1:7000"),
            ("tls://[::1]:7000", "tls://[::1]:7000"),
            ("tls://::1", "tls://[::1]:9999"),
            ("tls://unix:7000", "tls://unix:7000"),
            // A host of this name, without TLS.
            ("tls:7000", "tls:7000"),
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
            ("", AddressError::Empty),
            ("host:", AddressError::BadPort),
            ("host:0", AddressError::BadPort),
            ("host:65536", AddressError::PortTooHigh("65536".into())),
            (":99999999999", AddressError::PortTooHigh("99999999999".into())),
            ("7000:7000", AddressError::NumberForHost("7000".into())),
            ("a b:1", AddressError::BadHost),
            ("[::1", AddressError::BadHost),
            ("[::1]7", AddressError::BadHost),
            ("http://host", AddressError::UnknownScheme("http".into())),
            ("TLS://host:1", AddressError::UnknownScheme("TLS".into())),
            ("unix:", AddressError::MissingPath),
            ("tls://", AddressError::BadHost),
            ("tls://host:0", AddressError::BadPort),
            ("tls://9999", AddressError::NumberForHost("9999".into())),
            ("tls://tls://host", AddressError::BadPort),
            ("tls://host:1/path", AddressError::BadPort),
            ("tls://unix:/run/relay.sock", AddressError::TlsOverUnix),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_port_alone_and_a_number_without_its_brackets_are_told_how_to_be_written() {
        for (text, says) in [
            ("9997", "`9997` is a port: write `:9997` or `127.0.0.1:9997`"),
            ("::1:9997", "write `[::1]:9997`"),
            ("1:2:3:4:5:6:7:8:9997", "write `[1:2:3:4:5:6:7:8]:9997`"),
            ("99999", "`99999` is neither a host nor a port"),
            ("host:65536", "65536 is no port: the highest is 65535"),
            ("", "empty"),
            ("https://host", "`https://` leads to no relay: write host:port"),
        ] {
            let why = text.parse::<Address>().expect_err(text).to_string();
            assert!(why.contains(says), "{text:?}: {why}");
        }
    }
}
