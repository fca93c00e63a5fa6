//! Who is let in, by address: lists of networks, how many from one address, how many a second.
//!
//! Asked once for each connection that comes, before anything is read from it. Limits by address count an IPv6 network
//! of 64 bits as one address ([`Origin`]).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ipnet::IpNet;

use super::{Limits, PeerAddr, Refusal};
use crate::origin::Origin;
use crate::planted::{self, Bug};
use crate::time::Time;

/// Which addresses are treated how. By default all are let in, and all alike.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// If there are any, only these are let in.
    pub allow: Vec<IpNet>,
    /// These are not let in, also where [`Gate::allow`] has them.
    pub deny: Vec<IpNet>,
    /// Limits by address do not hold for these.
    pub exempt: Vec<IpNet>,
    /// Proxies: whoever comes from one of these must begin with the PROXY protocol's header, and counts as whom that
    /// names. Nobody else's word is taken for it.
    pub proxies: Vec<IpNet>,
}

impl Gate {
    /// Whether the connections of this peer begin with a proxy's header.
    #[must_use]
    pub fn is_proxy(&self, peer: PeerAddr) -> bool {
        contains(&self.proxies, peer)
    }

    pub(super) const fn has_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    pub(super) fn is_exempt(&self, peer: PeerAddr) -> bool {
        contains(&self.exempt, peer)
    }

    fn admits(&self, peer: PeerAddr) -> bool {
        // What came through a Unix socket has passed the permissions of its file.
        peer.socket_addr().is_none()
            || !contains(&self.deny, peer) && (self.allow.is_empty() || contains(&self.allow, peer))
    }
}

fn contains(nets: &[IpNet], peer: PeerAddr) -> bool {
    // One by one: few have more than a handful, and a connection costs a thousand times as much.
    !nets.is_empty() && peer.socket_addr().is_some_and(|address| nets.iter().any(|net| net.contains(&address.ip())))
}

/// What is known of one origin.
#[derive(Debug)]
struct Known {
    origin: Origin,
    connections: u32,
    /// Those of them that are not settled.
    newcomers: u32,
    /// When it would have come as often as it may, if it came no more: a bucket that leaks, told by its end.
    busy_until: Time,
}

/// Origins that are remembered before those are looked for that need not be.
const KNOWN_MIN: usize = 1024;

/// The gate, and what has come through it.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    pub(super) gate: Gate,
    known: HashTable<Known>,
    hasher: RandomState,
    /// How many may be remembered until the next clearing out.
    room: usize,
    /// As [`Known::busy_until`], for all together.
    busy_until: Time,
}

impl Gatekeeper {
    pub(super) fn new() -> Self {
        Self {
            gate: Gate::default(),
            known: HashTable::new(),
            hasher: RandomState::new(),
            room: KNOWN_MIN,
            busy_until: Time::ZERO,
        }
    }

    /// How long nobody is to be accepted, if more come in a second than may.
    pub(super) fn pause(&self, limits: &Limits, now: Time) -> Option<Duration> {
        let rate = limits.accepts_per_second_max?;
        let ahead = self.busy_until.since(now);
        (ahead >= BURST).then(|| ahead.saturating_sub(BURST).max(interval(rate)).max(Duration::from_millis(1)))
    }

    /// Notes that one has been accepted.
    pub(super) fn accepted(&mut self, limits: &Limits, now: Time) {
        if let Some(rate) = limits.accepts_per_second_max {
            self.busy_until = self.busy_until.max(now) + interval(rate);
        }
    }

    /// Lets a connection in, which then counts for its address, or says why not.
    pub(super) fn enter(&mut self, peer: PeerAddr, limits: &Limits, now: Time) -> Result<(), Refusal> {
        if !self.gate.admits(peer) {
            return Err(Refusal::Denied);
        }
        let Some(origin) = self.counted(peer, limits) else { return Ok(()) };
        if self.known.len() >= self.room {
            self.forget(now);
        }
        let hash = self.hasher.hash_one(origin);
        let hasher = &self.hasher;
        let entry = self.known.entry(hash, |known| known.origin == origin, |known| hasher.hash_one(known.origin));
        let known = match entry {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Known { origin, connections: 0, newcomers: 0, busy_until: Time::ZERO }).into_mut()
            }
        };
        if known.connections as usize >= limits.connections_per_address_max {
            return Err(Refusal::AddressConnections);
        }
        if known.newcomers as usize >= limits.newcomers_per_address_max {
            return Err(Refusal::AddressNewcomers);
        }
        if let Some(rate) = limits.accepts_per_address_per_second_max {
            let busy_until = known.busy_until.max(now) + interval(rate);
            if busy_until.since(now) > BURST {
                return Err(Refusal::AddressRate);
            }
            known.busy_until = busy_until;
        }
        known.connections += u32::from(!planted::has(Bug::GateForgetsToCount));
        // All who come are new, where that is counted.
        known.newcomers += u32::from(limits.newcomers_max < usize::MAX);
        Ok(())
    }

    /// Notes that a connection that was let in is new no more.
    pub(super) fn settled(&mut self, peer: PeerAddr, limits: &Limits) {
        let is_kept = planted::has(Bug::NewcomerKept);
        if let Some(known) = self.known_of(peer, limits).filter(|_| !is_kept) {
            known.newcomers = known.newcomers.saturating_sub(1);
        }
    }

    /// Notes the end of a connection that was let in.
    pub(super) fn left(&mut self, peer: PeerAddr, limits: &Limits) {
        if let Some(known) = self.known_of(peer, limits) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    fn known_of(&mut self, peer: PeerAddr, limits: &Limits) -> Option<&mut Known> {
        let origin = self.counted(peer, limits)?;
        let hash = self.hasher.hash_one(origin);
        self.known.find_mut(hash, |known| known.origin == origin)
    }

    /// The origin of a peer for which the limits by address hold, if there are any.
    fn counted(&self, peer: PeerAddr, limits: &Limits) -> Option<Origin> {
        if !Self::counts(limits) {
            return None;
        }
        if self.gate.is_exempt(peer) { None } else { peer.origin() }
    }

    /// Whether there are limits by address.
    pub(super) const fn counts(limits: &Limits) -> bool {
        limits.connections_per_address_max < usize::MAX
            || limits.newcomers_per_address_max < usize::MAX
            || limits.accepts_per_address_per_second_max.is_some()
    }

    /// Forgets origins of which nothing needs to be remembered; looks again when twice as many have come as were left.
    fn forget(&mut self, now: Time) {
        self.known.retain(|known| known.connections > 0 || known.busy_until > now);
        self.room = (self.known.len() * 2).max(KNOWN_MIN);
        let hasher = &self.hasher;
        self.known.shrink_to(self.room, |known| hasher.hash_one(known.origin));
    }

    /// Connections that count for some address, for tests and simulations.
    pub(super) fn counted_connections(&self) -> usize {
        self.known.iter().map(|known| known.connections as usize).sum()
    }
}

/// As many as may come in a second may come at once: then each at its time.
const BURST: Duration = Duration::from_secs(1);

fn interval(per_second: u32) -> Duration {
    BURST / per_second.max(1)
}

impl PeerAddr {
    /// Where it comes from, as limits by address count it; `None` through a Unix socket.
    #[must_use]
    pub fn origin(self) -> Option<Origin> {
        Some(match self.socket_addr()?.ip() {
            IpAddr::V4(ip) => Origin::v4(ip.octets()),
            IpAddr::V6(ip) => {
                let network = u128::from(ip) >> 64;
                Origin::v6_network((network as u64).to_be_bytes())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> PeerAddr {
        text.parse::<std::net::SocketAddr>().expect("an address").into()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    fn second(number: u64) -> Time {
        Time::from_micros(number * 1_000_000)
    }

    #[test]
    fn lists_say_who_comes_in_and_denial_is_stronger() {
        let mut keeper = Gatekeeper::new();
        keeper.gate.allow = nets(&["10.0.0.0/8", "2001:db8::/32"]);
        keeper.gate.deny = nets(&["10.6.6.0/24"]);
        let limits = Limits::default();
        for (from, is_let_in) in [
            ("10.1.2.3:1", true),
            ("10.6.6.6:1", false),
            ("[::ffff:10.1.2.3]:1", true),
            ("192.0.2.1:1", false),
            ("[2001:db8:1::1]:1", true),
            ("[2001:db9::1]:1", false),
        ] {
            assert_eq!(keeper.enter(peer(from), &limits, second(1)).is_ok(), is_let_in, "{from}");
        }
        assert_eq!(keeper.enter(PeerAddr::UNIX, &limits, second(1)), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_of_64_bits_count_together_and_the_exempt_do_not_count() {
        let mut keeper = Gatekeeper::new();
        keeper.gate.exempt = nets(&["127.0.0.0/8"]);
        let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
        let crowded = Err(Refusal::AddressConnections);
        for (from, says) in [
            ("[2001:db8::1]:1", Ok(())),
            ("[2001:db8::2]:1", Ok(())),
            ("[2001:db8::3]:1", crowded),
            ("[2001:db8:0:1::3]:1", Ok(())),
            ("192.0.2.1:1", Ok(())),
            ("192.0.2.2:1", Ok(())),
            ("127.0.0.1:1", Ok(())),
            ("127.0.0.1:2", Ok(())),
            ("127.0.0.1:3", Ok(())),
        ] {
            assert_eq!(keeper.enter(peer(from), &limits, second(1)), says, "{from}");
        }
        keeper.left(peer("[2001:db8::2]:1"), &limits);
        assert_eq!(keeper.enter(peer("[2001:db8::3]:1"), &limits, second(1)), Ok(()));
        assert_eq!(keeper.counted_connections(), 5);
    }

    #[test]
    fn whoever_comes_too_often_is_refused_until_time_has_passed() {
        let mut keeper = Gatekeeper::new();
        let limits = Limits { accepts_per_address_per_second_max: Some(4), ..Limits::default() };
        let one = peer("192.0.2.1:1");
        let let_in = |keeper: &mut Gatekeeper, now| (0..10).filter(|_| keeper.enter(one, &limits, now).is_ok()).count();
        assert_eq!(let_in(&mut keeper, second(10)), 4);
        assert_eq!(keeper.enter(peer("192.0.2.2:1"), &limits, second(10)), Ok(()));
        assert_eq!(let_in(&mut keeper, second(10) + Duration::from_millis(500)), 2);
        assert_eq!(let_in(&mut keeper, second(100)), 4);
    }

    #[test]
    fn all_together_are_accepted_no_faster_than_said() {
        let mut keeper = Gatekeeper::new();
        let limits = Limits { accepts_per_second_max: Some(100), ..Limits::default() };
        let (mut now, mut accepted) = (second(1), 0);
        while now < second(3) {
            if let Some(pause) = keeper.pause(&limits, now) {
                now += pause;
            } else {
                accepted += 1;
                keeper.accepted(&limits, now);
            }
        }
        assert!((290..=310).contains(&accepted), "a burst of a second, and two seconds: {accepted}");
    }

    #[test]
    fn what_is_known_of_many_addresses_does_not_grow_without_end() {
        let mut keeper = Gatekeeper::new();
        let limits = Limits { accepts_per_address_per_second_max: Some(1000), ..Limits::default() };
        for number in 0..100_000_u32 {
            let address = std::net::SocketAddr::from((number.to_be_bytes(), 1));
            let now = Time::from_micros(1_000_000 + u64::from(number) * 100);
            assert_eq!(keeper.enter(address.into(), &limits, now), Ok(()));
            keeper.left(address.into(), &limits);
        }
        assert!(keeper.known.len() <= 2 * KNOWN_MIN, "{}", keeper.known.len());
    }
}
