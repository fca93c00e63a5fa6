//! Where a connection comes from, as limits by address count it.
//!
//! Whoever has one IPv6 address has 2^64 of them: a network of 64 bits is what is handed out to a household or to a
//! machine (RFC 6177), so that is what counts as one origin. Nothing here knows a socket.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or the first 64 bits of an IPv6 address. A Unix socket has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The address, or the network; an IPv4 address stands in the last four bytes.
    bits: u64,
    is_v4: bool,
}

impl Origin {
    /// An IPv4 address.
    #[must_use]
    pub const fn v4(address: [u8; 4]) -> Self {
        Self { bits: u32::from_be_bytes(address) as u64, is_v4: true }
    }

    /// The first 64 bits of an IPv6 address.
    #[must_use]
    pub const fn v6_network(network: [u8; 8]) -> Self {
        Self { bits: u64::from_be_bytes(network), is_v4: false }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4 {
            return Ipv4Addr::from_bits(self.bits as u32).fmt(f);
        }
        write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.bits) << 64))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_shown_as_the_address_or_network_that_it_is() {
        assert_eq!(Origin::v4([192, 0, 2, 7]).to_string(), "192.0.2.7");
        assert_eq!(Origin::v6_network([0x20, 1, 0xd, 0xb8, 0, 1, 0, 2]).to_string(), "2001:db8:1:2::/64");
        assert_ne!(Origin::v4([0, 0, 0, 1]), Origin::v6_network([0, 0, 0, 0, 0, 0, 0, 1]));
    }
}
