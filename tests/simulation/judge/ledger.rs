//! The relay's and the engine's own counters, held against what the judge has seen.

use switchboard::reactor::{CloseReason, Counters as Reactor, Refusal};
use switchboard::relay::Counters as Relay;
use switchboard::wire::{Code, Frames, HEADER_BYTES, Header, Id, Type};

use super::Judge;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) bytes_in: u64,
    pub(super) registered: u64,
    pub(super) errors_in: u64,
    pub(super) pings: u64,
    pub(super) gaps: u64,
    /// RECEIPTs that were due at once.
    pub(super) receipts: u64,
    pub(super) receipts_written: u64,
    /// Frames that want to be told when they are written.
    pub(super) receipts_owed: u64,
    /// Recipients of frames for a room or for all, those who were on their way out, and those who got them.
    pub(super) fans_due: u64,
    pub(super) fans_doubtful: u64,
    pub(super) fans_delivered: u64,
    /// Frames for one client or a list, by recipient.
    pub(super) fates: u64,
    pub(super) fates_delivered: u64,
    /// Of these, those to recipients who were on their way out.
    pub(super) fates_doubtful: u64,
    /// Refusals that were due at once, and of single recipients.
    pub(super) refused: Codes,
    pub(super) refused_fates: Codes,
    pub(super) closed: Codes,
    /// Ends of connections, in the order of [`CloseReason::ALL`].
    pub(super) reasons: [u64; CloseReason::ALL.len()],
    /// Frames that were handed back when their recipient was lost: those whose senders are told, and the others.
    lost: u64,
    void: u64,
}

/// A count for each code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes([u64; Code::COUNT]);

impl Codes {
    /// Each code that has come, and how often.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.iter().copied().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl std::ops::AddAssign for Codes {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}

impl Default for Codes {
    fn default() -> Self {
        Self([0; Code::COUNT])
    }
}

impl std::ops::Index<usize> for Codes {
    type Output = u64;

    fn index(&self, place: usize) -> &u64 {
        &self.0[place]
    }
}

impl std::ops::IndexMut<usize> for Codes {
    fn index_mut(&mut self, place: usize) -> &mut u64 {
        &mut self.0[place]
    }
}

impl Judge {
    /// What was still queued for a client that is gone: the frame that was cut off, and those behind it.
    pub(crate) fn handed_back(&mut self, id: Id, cut: &[u8], whole: &[u8]) {
        for frame in Some(cut).filter(|cut| cut.len() >= HEADER_BYTES).into_iter().chain(Frames::new(whole)) {
            let header = Header::read(frame);
            if header.source == Id::RELAY {
                self.ledger.gaps += u64::from(header.frame_type() == Some(Type::Gap));
            } else if header.destination == id || header.destination == Id::MANY {
                self.ledger.lost += 1;
            } else {
                self.ledger.void += 1;
            }
        }
    }

    /// Everybody is gone: the counters must say what was seen.
    pub(crate) fn balance(&mut self, relay: &Relay, reactor: &Reactor) {
        self.tally.closed = self.ledger.closed;
        for (why, count) in Refusal::ALL.into_iter().zip(self.entry.refused) {
            self.tally.closed[Self::code_of(why).ordinal()] += count;
        }
        self.tally.failed = self.ledger.refused;
        self.tally.failed += self.ledger.refused_fates;
        let seen = &self.ledger;
        let back = seen.lost + seen.void;
        let delivered = seen.fans_delivered + seen.fates_delivered;
        for (what, counted, seen) in [
            ("frames that were taken in", relay.frames_in, self.tally.frames),
            ("their bytes", relay.bytes_in, seen.bytes_in),
            ("frames that were lost with their recipient", relay.frames_lost, seen.lost),
            ("frames that nobody waits for", relay.frames_void, seen.void),
            ("GAPs", relay.gaps, seen.gaps),
            ("PINGs", relay.pings, seen.pings),
            ("ERRORs that came in", relay.errors_in, seen.errors_in),
            ("clients", relay.registered, seen.registered),
            ("connections", reactor.accepted, self.tally.connections),
            ("bytes written", reactor.written_bytes, self.records.values().map(|record| record.taken_bytes).sum()),
        ] {
            assert_eq!(counted, seen, "the count of {what}");
        }
        assert_eq!(relay.authenticated, self.users.authenticated, "proofs that were right, by mechanism");
        assert_eq!(relay.auth_failed, self.users.failed, "proofs that were wrong, by mechanism");
        assert_eq!(relay.denied, self.users.denied, "what was denied");
        let (queued, doubtful) = (delivered + back, seen.fans_doubtful + seen.fates_doubtful);
        assert!(
            (queued.saturating_sub(doubtful)..=queued).contains(&relay.frames_queued),
            "frames queued: {} counted, {queued} seen",
            relay.frames_queued
        );
        let mut reasons = seen.reasons;
        reasons.iter_mut().zip(self.entry.reasons).for_each(|(count, more)| *count += more);
        assert_eq!(reactor.closed, reasons, "the ends of connections by reason");
        let mut refused = self.entry.refused;
        // Those for whom a proxy speaks are refused later.
        let later = reactor.refused.iter().sum::<u64>() - refused.iter().sum::<u64>();
        assert_eq!(
            later,
            self.entry.reasons[CloseReason::Refused as usize],
            "connections of proxies that were refused"
        );
        refused[Refusal::Denied as usize] = reactor.refused(Refusal::Denied);
        for why in [Refusal::AddressConnections, Refusal::AddressNewcomers] {
            refused[why as usize] = reactor.refused(why);
        }
        assert_eq!(reactor.refused, refused, "connections that were not let in");
        let skipped = seen.fans_due - seen.fans_delivered - seen.void;
        let is_right = relay.frames_skipped <= skipped && skipped - relay.frames_skipped <= seen.fans_doubtful;
        assert!(is_right, "frames skipped: {} counted, {skipped} seen", relay.frames_skipped);
        let (least, most) = (seen.receipts + seen.receipts_written, seen.receipts + seen.receipts_owed);
        assert!((least..=most).contains(&relay.receipts), "receipts: {} counted, {least} to {most}", relay.receipts);
        // A refusal whose sender is gone is counted and never seen.
        let unseen = seen.fates - seen.fates_delivered - seen.refused_fates.0.iter().sum::<u64>();
        for (place, code) in Code::ALL.iter().enumerate() {
            assert_eq!(relay.closed[place], seen.closed[place], "connections closed with {code}");
            let (counted, least) = (relay.refused[place], seen.refused[place] + seen.refused_fates[place]);
            let most = if *code == Code::Busy { u64::MAX } else { least + unseen };
            assert!((least..=most).contains(&counted), "{code}: {counted} counted, {least} to {most} seen");
        }
    }
}
