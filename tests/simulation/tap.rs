//! The production service, with the judge listening: everything that the engine tells it is told to the judge as
//! well, right after it was handled.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use switchboard::reactor::{CloseReason, ConnId, Connections, PeerAddr, Progress, Refusal, Service, Unsent};
use switchboard::server::RelayService;
use switchboard::time::Time;

use super::judge::{Arrival, End, Facts, Judge, id_of};
use super::network::{Peer, Pipe};

#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) service: RelayService,
    pub(crate) judge: Judge,
    /// Of every connection that the engine has.
    pub(crate) peers: Rc<RefCell<BTreeMap<ConnId, Peer>>>,
    /// How each of them has come.
    pub(crate) arrivals: Rc<RefCell<BTreeMap<ConnId, Arrival>>>,
    pub(crate) turn: u64,
    shown: Vec<u8>,
}

impl Tap {
    pub(crate) fn new(service: RelayService, judge: Judge) -> Self {
        Self { service, judge, peers: Rc::default(), arrivals: Rc::default(), turn: 0, shown: Vec::new() }
    }

    /// Both must agree on how many are here, after whatever has happened.
    fn compare(&self) {
        assert_eq!(self.service.clients(), self.judge.registered(), "how many clients are here");
        assert_eq!(self.service.relay().rooms(), self.judge.rooms(), "how many rooms there are");
    }
}

impl Service<Pipe> for Tap {
    fn on_open(&mut self, io: &mut Connections<Pipe>, conn: ConnId, peer: PeerAddr, listener: usize, now: Time) {
        self.judge.watch_outputs();
        let address = peer.socket_addr().map(|address| address.to_string()).unwrap_or_default();
        self.judge.opened(id_of(conn), address, now);
        {
            let (peers, arrivals) = (self.peers.borrow(), self.arrivals.borrow());
            let arrival = &arrivals[&conn];
            peers[&conn].wire().is_known = true;
            let from = peer.socket_addr().unwrap_or_else(|| panic!("{conn:?} comes from nowhere"));
            self.judge.introduced(conn, from, arrival, peers[&conn].wire().read_calls);
            assert_eq!(listener, arrival.door.listener(), "where {conn:?} has come in");
        }
        self.service.on_open(io, conn, peer, listener, now);
    }

    fn on_data(&mut self, io: &mut Connections<Pipe>, conn: ConnId, data: &mut [u8], now: Time) -> Progress {
        assert!(!data.is_empty() && io.is_reading(conn), "{conn:?} is shown although it is paused or closed");
        self.judge.watch_outputs();
        self.judge.is_shown(id_of(conn), &Facts(io));
        self.judge.may_send_more(id_of(conn), now);
        let pings = self.service.relay().counters().pings;
        let mut shown = std::mem::take(&mut self.shown);
        shown.clear();
        shown.extend_from_slice(data);
        let progress = self.service.on_data(io, conn, data, now);
        {
            let peers = self.peers.borrow();
            let mut wire = peers[&conn].wire();
            let (front, back) = wire.unconsumed.as_slices();
            let is_what_was_sent = shown.len() <= wire.unconsumed.len()
                && front.iter().chain(back).zip(&shown).all(|(sent, shown)| sent == shown);
            assert!(is_what_was_sent, "{conn:?} is shown what its client has not sent, or not in this place");
            wire.unconsumed.drain(..progress.consumed);
            wire.was_read |= progress.consumed > 0;
        }
        let has_rest = progress.consumed < shown.len();
        self.judge.shown(id_of(conn), &shown[..progress.consumed], has_rest, &Facts(io), now);
        self.judge.probed(self.service.relay().counters().pings - pings);
        self.shown = shown;
        if self.judge.belongs(id_of(conn)) {
            self.judge.settled(conn);
        }
        self.compare();
        progress
    }

    fn on_crowded_out(&mut self, io: &mut Connections<Pipe>, conn: ConnId, now: Time) {
        self.judge.watch_outputs();
        self.judge.crowded_out(conn, &self.peers.borrow(), &Facts(io), now);
        self.service.on_crowded_out(io, conn, now);
        self.judge.told_to_go(conn, &Facts(io));
        self.compare();
    }

    fn on_end(&mut self, io: &mut Connections<Pipe>, conn: ConnId, now: Time) {
        self.judge.watch_outputs();
        assert!(
            !self.peers.borrow()[&conn].wire().is_truncated(),
            "{conn:?} has not said over TLS that nothing follows"
        );
        self.service.on_end(io, conn, now);
        self.judge.ended(id_of(conn));
        self.compare();
    }

    fn on_input_overdue(&mut self, io: &mut Connections<Pipe>, conn: ConnId, now: Time) {
        self.judge.watch_outputs();
        self.service.on_input_overdue(io, conn, now);
        let record_since = self.peers.borrow()[&conn].wire().record_since;
        self.judge.overdue(id_of(conn), record_since, &Facts(io), now);
        self.compare();
    }

    fn on_deadline(&mut self, io: &mut Connections<Pipe>, conn: ConnId, now: Time) {
        self.judge.watch_outputs();
        let (clients, pings) = (self.service.clients(), self.service.relay().counters().pings);
        let queued = io.queued_bytes(conn);
        let holder = self.judge.probed_by(id_of(conn));
        let may_answer = holder.is_some_and(|holder| Facts(io).is_receiving(holder));
        self.service.on_deadline(io, conn, now);
        let has_ended = self.service.clients() < clients;
        let pings = self.service.relay().counters().pings - pings;
        self.judge.deadline(id_of(conn), has_ended, pings, queued, may_answer, &Facts(io), now);
        self.compare();
    }

    fn on_written(&mut self, io: &mut Connections<Pipe>, conn: ConnId, written: u64, now: Time) {
        self.judge.watch_outputs();
        self.judge.flushed(id_of(conn), &Facts(io));
        self.service.on_written(io, conn, written, now);
    }

    fn on_close(&mut self, io: &mut Connections<Pipe>, conn: ConnId, reason: CloseReason, left: Unsent<'_>, now: Time) {
        self.judge.watch_outputs();
        self.service.on_close(io, conn, reason, left, now);
        self.judge.handed_back(id_of(conn), left.cut, left.whole);
        let end = {
            let peers = self.peers.borrow();
            let wire = peers[&conn].wire();
            let waited =
                left.whole.len() + left.cut.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize + 4);
            let held = (!wire.is_reset && wire.is_all_consumed()).then_some(waited);
            let has_spoilt = wire.secure.as_ref().is_some_and(|secure| secure.is_spoilt);
            // Over TLS an end that was not announced is none.
            let is_reset = wire.is_reset || wire.is_truncated();
            End { written: left.written, is_reset, has_spoilt, held }
        };
        self.judge.closed(id_of(conn), reason, &end, &Facts(io), now);
        self.compare();
    }

    fn on_turn_end(&mut self, io: &mut Connections<Pipe>, now: Time) {
        self.judge.watch_outputs();
        self.service.on_turn_end(io, now);
        self.judge.review(&Facts(io));
        self.judge.turn_ends();
        self.compare();
    }

    fn refusal(&mut self, why: Refusal) -> &[u8] {
        <RelayService as Service<Pipe>>::refusal(&mut self.service, why)
    }

    fn message_bytes(head: &[u8]) -> usize {
        <RelayService as Service<Pipe>>::message_bytes(head)
    }
}
