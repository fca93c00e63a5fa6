//! Where a relay can really be reached: a wildcard is of no use to somebody who wants to connect.

use std::net::{IpAddr, SocketAddr};

use crate::config::Listen;
use crate::reactor::Endpoint;

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// What to connect to.
    pub address: String,
    /// Who can: from everywhere, or from this machine only.
    pub is_local: bool,
}

/// Every address at which a listener can be reached, as clients write it: for a wildcard, each of the machine's.
#[must_use]
pub fn reachable(listen: &Listen) -> Vec<Listening> {
    let mut found = addresses(&listen.endpoint);
    if listen.tls {
        for one in &mut found {
            one.address.insert_str(0, "tls://");
        }
    }
    found
}

fn addresses(endpoint: &Endpoint) -> Vec<Listening> {
    let Endpoint::Tcp(address) = endpoint else {
        return vec![Listening { address: endpoint.to_string(), is_local: true }];
    };
    if !address.ip().is_unspecified() {
        return vec![Listening { address: address.to_string(), is_local: address.ip().is_loopback() }];
    }
    let mut found: Vec<Listening> = Vec::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let ip = interface.ip();
        if ip.is_ipv4() != address.is_ipv4() {
            continue;
        }
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let mut text = SocketAddr::new(ip, address.port()).to_string();
        if is_link_local {
            // Without its interface such an address leads nowhere.
            text = format!("[{ip}%{}]:{}", interface.name, address.port());
        }
        if found.iter().all(|other| other.address != text) {
            found.push(Listening { address: text, is_local: ip.is_loopback() });
        }
    }
    if found.is_empty() {
        found.push(Listening { address: address.to_string(), is_local: false });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_shown_as_addresses_that_one_can_connect_to() {
        let listen = |text: &str, tls| Listen { endpoint: Endpoint::Tcp(text.parse().expect("an address")), tls };
        let all = reachable(&listen("0.0.0.0:7", false));
        assert!(all.iter().any(|one| one.address == "127.0.0.1:7" && one.is_local), "{all:?}");
        assert!(all.iter().all(|one| !one.address.starts_with("0.0.0.0")), "{all:?}");
        let one = reachable(&listen("[::1]:8", true));
        assert_eq!(one, [Listening { address: "tls://[::1]:8".to_owned(), is_local: true }]);
    }
}
