//! What must agree among the connections, compared: for tests and simulations.

use std::collections::HashSet;

use super::connection::{Phase, flag};
use super::gate::Gatekeeper;
use super::tls::Session;
use super::{ConnId, Connections, Transport};

impl<T: Transport> Connections<T> {
    /// Compares all state that is kept twice.
    ///
    /// # Panics
    /// If anything disagrees. For tests and simulations: it looks at every connection.
    pub fn check_consistency(&self) {
        let mut buffered = 0;
        let (mut lease_count, mut queue_count, mut lingering) = (0, 0, 0);
        let (mut front_count, mut counted) = (0, 0);
        let once = |list: &mut dyn Iterator<Item = ConnId>, what: &str| {
            let mut listed = HashSet::new();
            for conn in list {
                assert!(listed.insert(conn), "{conn:?} is twice on {what}");
            }
            listed
        };
        let ready = once(
            &mut self.ready.iter().chain(&self.heavy).chain(&self.entering).chain(&self.ending).copied(),
            "the lists of what is to be read",
        );
        let dirty = once(&mut self.dirty.iter().copied(), "the dirty list");
        let condemned = once(&mut self.condemned.iter().map(|(conn, _)| *conn), "the list of the condemned");
        for (index, connection) in &self.slots {
            let conn = ConnId::new(index, connection.generation);
            lease_count += usize::from(connection.lease().is_some());
            lingering += usize::from(connection.phase == Phase::Lingering);
            let is_ready = ready.contains(&conn);
            assert_eq!(connection.has(flag::READY), is_ready, "{conn:?} and the lists of what is to be read");
            assert_eq!(connection.has(flag::DIRTY), dirty.contains(&conn), "{conn:?} and the dirty list");
            let is_condemned = condemned.contains(&conn);
            assert_eq!(connection.phase == Phase::Condemned, is_condemned, "{conn:?} and the list of the condemned");
            counted += usize::from(connection.is_counted);
            if let Some(front) = self.fronts.get(conn).filter(|_| connection.has(flag::FRONTED)) {
                front_count += 1;
                if connection.phase != Phase::Condemned {
                    let held = front.held_bytes_at_most(self.queued_bytes(conn));
                    assert_eq!(front.accounted_bytes, held, "the account of {conn:?}'s front");
                    assert!(front.accounted_bytes <= self.heaviest_bytes, "{conn:?} is heavier than the heaviest");
                    buffered += front.accounted_bytes;
                    let sealed = front.tls.as_ref().map_or(0, Session::sealed_bytes);
                    let queued = connection.queue().map_or(0, |key| self.queues[key].len());
                    assert!(sealed <= queued, "{conn:?} has sealed what does not wait for it");
                }
            } else {
                assert!(!connection.has(flag::FRONTED), "{conn:?} has no front");
                assert_ne!(connection.phase, Phase::Entering, "{conn:?} has nothing to wait for");
            }
            if connection.has(flag::HELD) {
                assert!(connection.lease().is_some(), "{conn:?} holds bytes without a lease");
            }
            if let Some(key) = connection.lease() {
                let lease = &self.leases[key];
                assert_eq!((lease.owner, lease.accounted_bytes), (conn, lease.buffer.len()), "the account of a lease");
                if connection.phase != Phase::Condemned {
                    assert!(lease.accounted_bytes <= self.heaviest_bytes, "{conn:?} is heavier than the heaviest");
                    buffered += lease.accounted_bytes;
                }
            }
            if let Some(key) = connection.queue() {
                queue_count += 1;
                let queue = &self.queues[key];
                queue.check_consistency();
                assert_eq!(queue.owner, conn, "the owner of a queue");
                assert!(!queue.is_empty(), "{conn:?} keeps an empty queue");
                let most = self.limits.queue_bytes_max + self.limits.queue_reserve_bytes;
                assert!(queue.len() <= most.max(self.limits.input_bytes_max), "{conn:?} has a queue over its limit");
                if connection.phase != Phase::Condemned {
                    assert!(queue.weight_bytes() <= self.heaviest_bytes, "{conn:?} is heavier than the heaviest");
                    buffered += queue.held_bytes();
                    assert!(connection.has(flag::BLOCKED | flag::DIRTY), "{conn:?} has bytes that nothing will write");
                }
            }
        }
        assert_eq!(buffered, self.buffered_total_bytes, "bytes in all queues and leases");
        let is_within = self.buffered_total_bytes() <= self.most_bytes();
        assert!(is_within || !condemned.is_empty(), "the memory budget, and one message that was begun");
        assert_eq!(
            (lease_count, queue_count),
            (self.leases.len(), self.queues.len()),
            "leases and queues without an owner"
        );
        assert_eq!(lingering, self.lingering, "connections that linger");
        assert_eq!(front_count, self.fronts.iter().count(), "fronts without an owner");
        if Gatekeeper::counts(&self.limits) && self.gatekeeper.gate.exempt.is_empty() {
            assert!(self.gatekeeper.counted_connections() <= counted, "connections that count for an address");
        }
        self.check_newcomers();
    }
}
