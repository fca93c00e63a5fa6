//! The address of a peer in nineteen bytes: a `SocketAddr` would take 32 of a connection's 64.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr {
    ip: [u8; 16],
    /// In the order of the network: nothing here wants to stand at an even address.
    port: [u8; 2],
    family: Family,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    Ip,
    Unix,
}

impl PeerAddr {
    /// A peer on this machine that came through a Unix socket.
    pub const UNIX: Self = Self { ip: [0; 16], port: [0; 2], family: Family::Unix };

    /// The peer's address and port, unless it came through a Unix socket. An IPv4 peer of a listener for
    /// both families is an IPv4 peer.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.family {
            Family::Unix => None,
            Family::Ip => {
                Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical(), u16::from_be_bytes(self.port)))
            }
        }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: address.port().to_be_bytes(), family: Family::Ip }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_people_write_it() {
        for text in ["127.0.0.1:80", "[::1]:9999", "[2001:db8::1]:1"] {
            assert_eq!(PeerAddr::from(text.parse::<SocketAddr>().expect("an address")).to_string(), text);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7".parse().expect("an address");
        assert_eq!(PeerAddr::from(mapped).to_string(), "10.0.0.1:7");
        assert_eq!(PeerAddr::UNIX.to_string(), "unix");
    }
}
