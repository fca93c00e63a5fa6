//! What a load needs of the machine that it comes from: open files, ports, and addresses to come from. Looked
//! at before anything is connected, because what is missing is better said than run into.

use std::net::{IpAddr, Ipv4Addr};

use super::plan::Plan;
use super::scenario::Work;
use crate::descriptors::{RESERVED_DESCRIPTORS, make_room, raise_descriptor_limit};
use crate::reactor::Endpoint;

/// Clients from one source address: beyond that the kernel's search for a free port costs twenty times the
/// connect.
const CLIENTS_PER_SOURCE: u32 = 1000;
/// The ports that Linux gives to clients where nothing else is set: those from 32768 to 60999.
const PORTS_DEFAULT: u32 = 28_232;

/// Raises the limit on open files as far as it goes, and holds the clients against it.
///
/// # Errors
/// One line: how many are needed, how many there are, and what to change.
pub fn check_descriptors(plan: &Plan) -> Result<(), String> {
    enough_descriptors(&plan.work, raise_descriptor_limit())?;
    make_room(plan.work.clients() as usize + RESERVED_DESCRIPTORS);
    Ok(())
}

fn enough_descriptors(work: &Work, limit: usize) -> Result<(), String> {
    let clients = work.clients() as usize;
    let needed = clients.saturating_add(RESERVED_DESCRIPTORS);
    if needed <= limit {
        return Ok(());
    }
    Err(format!(
        "{clients} clients need {needed} open files, and this process may have {limit}: {}",
        advice(needed, work, limit.saturating_sub(RESERVED_DESCRIPTORS))
    ))
}

/// Holds the clients against what a relay of one's own says that it takes.
///
/// # Errors
/// One line: how many it takes, and what to change.
pub fn check_capacity(plan: &Plan, connections_max: usize) -> Result<(), String> {
    let clients = plan.work.clients() as usize;
    if clients <= connections_max {
        return Ok(());
    }
    // It keeps some for connections that end: an eighth, up to about a thousand.
    let needed = clients + (clients / 7).min(1024) + 2 * RESERVED_DESCRIPTORS;
    Err(format!(
        "{clients} clients are more than the {connections_max} that a relay takes with the open files it may have: {}",
        advice(needed, &plan.work, connections_max)
    ))
}

fn advice(needed: usize, work: &Work, clients_max: usize) -> String {
    // Whatever the scenario adds to the clients that are asked for comes off again; pairs stay pairs.
    let added = (work.clients() - work.connections) as usize;
    let share = if added > 2 { 2 * clients_max / 3 } else { clients_max };
    let fewer = share.saturating_sub(added.min(18)) & !1;
    let raise =
        format!("raise the limit to {needed} (ulimit -n {needed}, where the hard limit, ulimit -Hn, allows it)");
    if fewer < 2 { raise } else { format!("{raise}, or give at most --connections {fewer}") }
}

/// Holds the clients against the ports that one address can connect from.
///
/// # Errors
/// One line: how many there are, and what to change.
pub fn check_ports(plan: &Plan, endpoint: &Endpoint) -> Result<(), String> {
    enough_ports(&plan.work, endpoint, ports())
}

fn enough_ports(work: &Work, endpoint: &Endpoint, ports: u32) -> Result<(), String> {
    let clients = work.clients();
    if clients <= ports || matches!(endpoint, Endpoint::Unix(_)) || source(endpoint, 1, 0).is_some() {
        return Ok(());
    }
    Err(format!(
        "{clients} clients to {endpoint} need as many ports, and this machine's address has {ports} of them \
         (net.ipv4.ip_local_port_range): widen that, run several load generators, or give at most --connections {}",
        ports & !1
    ))
}

/// Ports that the system gives to those who connect.
fn ports() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().map_while(|word| word.parse::<u32>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) if first <= last => last - first + 1,
        _ => PORTS_DEFAULT,
    }
}

/// The address that a client comes from, where that can be chosen: all of 127.0.0.0/8 is this machine's, on
/// Linux, and an address of its own for every thousand clients keeps the search for a free port short. Clients
/// that come again get others with another `network`, from 1 to 254, because the ports of their last connections
/// are not free for a minute.
#[must_use]
pub fn source(endpoint: &Endpoint, network: u8, client: u32) -> Option<IpAddr> {
    let Endpoint::Tcp(address) = endpoint else { return None };
    let is_spread = cfg!(target_os = "linux") && address.is_ipv4() && address.ip().is_loopback();
    is_spread.then(|| {
        // 254 addresses of each 127.n.x.0/24, which is enough for every client that a relay can have.
        let group = client / CLIENTS_PER_SOURCE;
        IpAddr::V4(Ipv4Addr::new(127, network, (group / 254) as u8, (group % 254) as u8 + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Wishes;
    use crate::bench::scenario::Scenario;

    fn plan(scenario: Scenario, connections: u32) -> Plan {
        Plan::new(scenario, &Wishes { connections: Some(connections), ..Wishes::default() }).expect("it makes sense")
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::Tcp(text.parse().expect("an address"))
    }

    #[test]
    fn too_few_open_files_are_said_with_what_would_do() {
        for (scenario, connections, limit) in [
            (Scenario::Pairs, 10_000, 1024),
            (Scenario::Storm, 10_000, 1024),
            (Scenario::Churn, 1000, 1024),
            (Scenario::Pairs, 100, 65),
        ] {
            let work = plan(scenario, connections).work;
            let line = enough_descriptors(&work, limit).expect_err("too few");
            assert!(line.contains(&format!("need {} open files", work.clients() + 16)), "{line}");
            assert!(line.contains(&format!("may have {limit}: raise the limit")), "{line}");
            let fewer = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a number");
            enough_descriptors(&plan(scenario, fewer).work, limit).expect("what it says would do");
            let enough = work.clients() as usize + RESERVED_DESCRIPTORS;
            enough_descriptors(&work, enough).expect("enough");
            assert!(enough_descriptors(&work, enough - 1).is_err());
        }
        let line = enough_descriptors(&plan(Scenario::Pairs, 2).work, 16).expect_err("too few");
        assert!(!line.contains("--connections"), "nothing less would do: {line}");
    }

    #[test]
    fn a_relay_that_takes_fewer_is_said() {
        let line = check_capacity(&plan(Scenario::Storm, 999), 1000).expect_err("two bystanders come as well");
        assert!(line.contains("1001 clients are more than the 1000") && line.ends_with("--connections 998"), "{line}");
        check_capacity(&plan(Scenario::Storm, 998), 1000).expect("enough");
    }

    #[test]
    fn clients_of_a_relay_on_this_machine_come_from_many_addresses_and_others_from_one() {
        let many = plan(Scenario::Idle, 30_000).work;
        for (text, first, last) in
            [("127.0.0.1:1", "127.1.0.1", "127.1.66.14"), ("127.3.2.1:1", "127.1.0.1", "127.1.66.14")]
        {
            if cfg!(target_os = "linux") {
                assert_eq!(source(&endpoint(text), 1, 999), first.parse().ok());
                assert_eq!(source(&endpoint(text), 9, 1000), "127.9.0.2".parse().ok());
                assert_eq!(source(&endpoint(text), 1, (1 << 24) - 1), last.parse().ok());
                enough_ports(&many, &endpoint(text), 28_232).expect("enough");
            }
        }
        for text in ["[::1]:1", "192.0.2.1:1"] {
            assert_eq!(source(&endpoint(text), 1, 0), None);
            let line = enough_ports(&many, &endpoint(text), 28_233).expect_err("too few ports");
            assert!(line.contains("has 28233") && line.ends_with("--connections 28232"), "{line}");
        }
        let unix = Endpoint::Unix("/run/relay".into());
        assert!(source(&unix, 1, 0).is_none() && enough_ports(&many, &unix, 1).is_ok());
        assert!(ports() > 0);
    }
}
