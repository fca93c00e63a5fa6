//! Flows: who sends what to whom, how much of it may be outstanding, and what became of every frame.
//!
//! A flow is one sender's frames to one destination, numbered. Each recipient of a flow knows which number
//! comes next, so that a frame that is missing, comes twice, comes late or comes to somebody else is noticed
//! by whom it concerns. Nothing here knows sockets or protocols.

use std::collections::{BTreeMap, VecDeque};

use super::dialect::Destination;
use super::payload::Stamp;
use super::report::Account;

/// One sender's frames to one destination.
#[derive(Debug)]
pub(super) struct Flow {
    /// Who sends.
    pub(super) sender: u32,
    /// To whom.
    pub(super) to: Destination,
    /// How many get each frame.
    recipients: u32,
    /// Where the recipients' next numbers stand.
    first: usize,
    /// Frames that may be outstanding; `None` if a schedule decides when to send.
    window: Option<u32>,
    /// Frames sent so far.
    sent: u64,
    /// Copies that were delivered, refused, or counted.
    done: u64,
    /// Frames that are outstanding.
    outstanding: u32,
    /// For several recipients: how many have not got each outstanding frame, the oldest first.
    waiting: VecDeque<u32>,
    /// It is on the list of those that may send again.
    touched: bool,
}

/// All flows of a run.
#[derive(Debug, Default)]
pub(super) struct Flows {
    all: Vec<Flow>,
    /// The number that each recipient of each flow expects next.
    expected: Vec<u32>,
    /// The flow that each client sends, and the one for many that it hears.
    clients: Vec<Ends>,
    /// Flows that may have room in their window again.
    touched: Vec<u32>,
    account: Account,
    refusals: BTreeMap<&'static str, u64>,
    payload_bytes: u64,
    measured: Option<u32>,
    /// No new frames: what is outstanding comes to its end.
    stopped: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    sends: Option<u32>,
    hears: Option<u32>,
    /// Its place among the recipients of the flow that it hears.
    place: u32,
}

impl Flows {
    /// Only deliveries of flows with numbers below this one are worth a latency.
    pub(super) fn measure_below(&mut self, flow: u32) {
        self.measured = Some(flow);
    }

    /// Whether the latencies of a flow are measured.
    #[must_use]
    pub(super) fn is_measured(&self, flow: u32) -> bool {
        self.measured.is_none_or(|most| flow < most)
    }

    /// Flows between `clients` clients.
    #[must_use]
    pub(super) fn new(clients: u32) -> Self {
        Self { clients: vec![Ends::default(); clients as usize], ..Self::default() }
    }

    /// Adds a flow from `sender` to the clients in `hearers`. A client sends one flow and hears one.
    pub(super) fn add(
        &mut self,
        sender: u32,
        to: Destination,
        hearers: impl Iterator<Item = u32>,
        window: Option<u32>,
    ) {
        let number = self.all.len() as u32;
        let first = self.expected.len();
        let mut recipients = 0;
        for hearer in hearers {
            let ends = &mut self.clients[hearer as usize];
            (ends.hears, ends.place) = (Some(number), recipients);
            recipients += 1;
        }
        self.expected.resize(first + recipients as usize, 0);
        self.clients[sender as usize].sends = Some(number);
        self.all.push(Flow {
            sender,
            to,
            recipients,
            first,
            window,
            sent: 0,
            done: 0,
            outstanding: 0,
            waiting: VecDeque::new(),
            touched: false,
        });
        self.touch(number);
    }

    /// How many flows there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Sends no more from here on.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Copies delivered so far.
    #[must_use]
    pub(super) const fn delivered(&self) -> u64 {
        self.account.delivered
    }

    /// Payload bytes delivered so far.
    #[must_use]
    pub(super) const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Copies of which nothing is known yet.
    #[must_use]
    pub(super) fn open_copies(&self) -> u64 {
        self.all.iter().map(|flow| (flow.sent * u64::from(flow.recipients)).saturating_sub(flow.done)).sum()
    }

    /// The next flow that may have room in its window, and how many frames it may send now.
    pub(super) fn next_with_room(&mut self) -> Option<(u32, u32)> {
        while let Some(number) = self.touched.pop() {
            let flow = &mut self.all[number as usize];
            flow.touched = false;
            let room = flow.window.map_or(0, |window| window - flow.outstanding.min(window));
            if room > 0 && !self.stopped {
                return Some((number, room));
            }
        }
        None
    }

    /// Who sends a flow, and to whom.
    #[must_use]
    pub(super) fn ends(&self, flow: u32) -> (u32, Destination) {
        let flow = &self.all[flow as usize];
        (flow.sender, flow.to)
    }

    /// Takes the next frame of a flow as sent at `time_ns`.
    pub(super) fn send(&mut self, number: u32, time_ns: u64) -> Stamp {
        let flow = &mut self.all[number as usize];
        let stamp = Stamp { flow: number, number: flow.sent as u32, time_ns };
        flow.sent += 1;
        if flow.window.is_some() {
            flow.outstanding += 1;
            if flow.recipients > 1 {
                flow.waiting.push_back(flow.recipients);
            }
        }
        self.account.sent += u64::from(flow.recipients);
        stamp
    }

    /// A frame has arrived at `client`; says whether it was the one that it waited for.
    pub(super) fn delivered_to(&mut self, client: u32, stamp: Stamp, payload_bytes: usize) -> bool {
        let ends = self.clients[client as usize];
        let Some(flow) = self.all.get_mut(stamp.flow as usize).filter(|_| ends.hears == Some(stamp.flow)) else {
            self.account.damaged += 1;
            return false;
        };
        let expected = &mut self.expected[flow.first + ends.place as usize];
        let ahead = stamp.number.wrapping_sub(*expected);
        let in_flight = (flow.sent as u32).wrapping_sub(*expected);
        if ahead >= in_flight {
            // Before the next one: it has come already, or it comes too late. Or it was never sent.
            self.account.misordered += 1;
            return false;
        }
        // The frames between are missing; for one recipient their sender is told, for several a GAP says so,
        // and if neither happens they are lost.
        let first = *expected;
        *expected = stamp.number.wrapping_add(1);
        self.account.delivered += 1;
        self.payload_bytes += payload_bytes as u64;
        flow.done += 1;
        if flow.recipients == 1 {
            flow.outstanding = flow.outstanding.saturating_sub(1);
        } else {
            flow.copies_done(first, ahead + 1);
        }
        self.touch(stamp.flow);
        true
    }

    /// A frame has arrived that is not as it was sent.
    pub(super) fn damaged(&mut self) {
        self.account.damaged += 1;
    }

    /// Frame `refused` of what `client` sent was refused for one of its recipients.
    pub(super) fn refused_to(&mut self, client: u32, refused: u32, why: &'static str) {
        let Some(number) = self.clients[client as usize].sends else { return };
        let flow = &mut self.all[number as usize];
        if u64::from((flow.sent as u32).wrapping_sub(refused)).wrapping_sub(1) >= flow.sent {
            // It was never sent.
            self.account.damaged += 1;
            return;
        }
        *self.refusals.entry(why).or_default() += 1;
        self.account.refused += 1;
        flow.done += 1;
        if flow.recipients == 1 {
            flow.outstanding = flow.outstanding.saturating_sub(1);
        }
        self.touch(number);
    }

    /// `client` is told that it has missed so many frames, which would have stood here.
    pub(super) fn missed_by(&mut self, client: u32, frames: u64) {
        self.account.counted += frames;
        let ends = self.clients[client as usize];
        let Some(number) = ends.hears else { return };
        let flow = &mut self.all[number as usize];
        flow.done += frames;
        let expected = &mut self.expected[flow.first + ends.place as usize];
        let first = *expected;
        *expected = first.wrapping_add(frames as u32);
        if flow.recipients > 1 {
            flow.copies_done(first, frames as u32);
        }
        self.touch(number);
    }

    /// What became of every frame. What is open now counts as lost: ask when nothing comes any more.
    #[must_use]
    pub(super) fn account(&self) -> Account {
        let mut account = self.account.clone();
        let known = account.delivered + account.refused + account.counted;
        account.lost = account.sent.saturating_sub(known);
        account.refusals = self.refusals.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
        account
    }

    fn touch(&mut self, number: u32) {
        let flow = &mut self.all[number as usize];
        if flow.window.is_some() && !flow.touched {
            flow.touched = true;
            self.touched.push(number);
        }
    }
}

impl Flow {
    /// One recipient has, or will never have, `count` frames from number `first` on.
    fn copies_done(&mut self, first: u32, count: u32) {
        let oldest = (self.sent as u32).wrapping_sub(self.waiting.len() as u32);
        let start = first.wrapping_sub(oldest) as usize;
        let len = self.waiting.len();
        for left in self.waiting.range_mut(start.min(len)..(start + count as usize).min(len)) {
            *left = left.saturating_sub(1);
        }
        while self.waiting.front() == Some(&0) {
            self.waiting.pop_front();
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 128;

    /// One flow from client 0 to the clients behind it.
    fn one_to(recipients: u32, window: u32) -> Flows {
        let mut flows = Flows::new(recipients + 1);
        let to = if recipients == 1 { Destination::Client(1) } else { Destination::All };
        flows.add(0, to, 1..=recipients, Some(window));
        flows
    }

    fn send(flows: &mut Flows, frames: usize) -> Vec<Stamp> {
        (0..frames).map(|at| flows.send(0, at as u64)).collect()
    }

    #[test]
    fn a_window_lets_so_many_out_and_no_more() {
        let mut flows = one_to(1, 3);
        assert_eq!(flows.next_with_room(), Some((0, 3)));
        let stamps = send(&mut flows, 3);
        assert_eq!(flows.next_with_room(), None);
        assert!(flows.delivered_to(1, stamps[0], SIZE));
        assert!(flows.delivered_to(1, stamps[1], SIZE));
        assert_eq!((flows.next_with_room(), flows.next_with_room()), (Some((0, 2)), None));
        assert_eq!(flows.open_copies(), 1);
    }

    #[test]
    fn a_frame_for_several_is_outstanding_until_the_last_has_it() {
        let mut flows = one_to(3, 2);
        let _ = flows.next_with_room();
        let stamps = send(&mut flows, 2);
        for client in [1, 2] {
            for stamp in &stamps {
                assert!(flows.delivered_to(client, *stamp, SIZE));
            }
        }
        assert_eq!(flows.next_with_room(), None);
        assert!(flows.delivered_to(3, stamps[0], SIZE));
        assert_eq!(flows.next_with_room(), Some((0, 1)));
        assert_eq!(flows.account(), Account { sent: 6, delivered: 5, lost: 1, ..Account::default() });
    }

    #[test]
    fn one_lost_frame_is_missing_in_the_account() {
        let mut flows = one_to(1, 10);
        let stamps = send(&mut flows, 5);
        for stamp in stamps.iter().filter(|stamp| stamp.number != 2) {
            assert!(flows.delivered_to(1, *stamp, SIZE));
        }
        assert_eq!(flows.account(), Account { sent: 5, delivered: 4, lost: 1, ..Account::default() });
    }

    #[test]
    fn a_frame_that_comes_twice_does_not_make_up_for_one_that_is_lost() {
        let mut flows = one_to(1, 10);
        let stamps = send(&mut flows, 3);
        assert!(flows.delivered_to(1, stamps[0], SIZE));
        assert!(!flows.delivered_to(1, stamps[0], SIZE));
        assert!(flows.delivered_to(1, stamps[2], SIZE));
        assert!(!flows.delivered_to(1, stamps[1], SIZE), "it comes too late");
        let account = flows.account();
        assert_eq!((account.lost, account.misordered, account.delivered), (1, 2, 2));
    }

    #[test]
    fn a_frame_for_somebody_else_is_no_delivery() {
        let mut flows = Flows::new(4);
        flows.add(0, Destination::Client(1), 1..2, Some(1));
        flows.add(2, Destination::Client(3), 3..4, Some(1));
        let stamp = flows.send(0, 0);
        assert!(!flows.delivered_to(3, stamp, SIZE));
        assert!(!flows.delivered_to(1, Stamp { flow: 9, ..stamp }, SIZE));
        let account = flows.account();
        assert_eq!((account.damaged, account.lost), (2, 1));
    }

    #[test]
    fn what_is_refused_or_counted_is_not_lost() {
        let mut flows = one_to(1, 4);
        let _ = flows.next_with_room();
        let stamps = send(&mut flows, 4);
        assert!(flows.delivered_to(1, stamps[0], SIZE));
        flows.refused_to(0, 1, "QUEUE_FULL");
        assert!(flows.delivered_to(1, stamps[2], SIZE));
        assert_eq!(flows.next_with_room(), Some((0, 3)));
        flows.refused_to(0, 3, "RECIPIENT_LOST");
        flows.refused_to(0, 4, "QUEUE_FULL");
        let account = flows.account();
        assert_eq!((account.delivered, account.refused, account.lost, flows.open_copies()), (2, 2, 0, 0));
        assert_eq!(account.damaged, 1, "number 4 was never sent");
        assert_eq!(account.refusals, [("QUEUE_FULL".to_owned(), 1), ("RECIPIENT_LOST".to_owned(), 1)]);

        let mut flows = one_to(2, 4);
        let stamps = send(&mut flows, 4);
        for stamp in &stamps {
            assert!(flows.delivered_to(1, *stamp, SIZE));
        }
        assert!(flows.delivered_to(2, stamps[0], SIZE));
        flows.missed_by(2, 2);
        assert!(flows.delivered_to(2, stamps[3], SIZE), "the GAP says exactly which are missing");
        let account = flows.account();
        assert_eq!((account.counted, account.lost, account.misordered, flows.open_copies()), (2, 0, 0, 0));
        assert_eq!(flows.next_with_room(), Some((0, 4)));
    }

    #[test]
    fn numbers_go_on_behind_the_largest() {
        let mut flows = one_to(1, 2);
        flows.all[0].sent = u64::from(u32::MAX);
        flows.expected[0] = u32::MAX;
        for _ in 0..3 {
            let stamp = flows.send(0, 0);
            assert!(flows.delivered_to(1, stamp, SIZE));
        }
        assert_eq!(flows.expected[0], 2);
    }
}
