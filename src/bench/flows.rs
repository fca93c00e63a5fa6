//! Flows: who sends what to whom, how much of it may be outstanding, and what became of every frame.
//!
//! A flow is one sender's frames to one destination, numbered. Each recipient of a flow knows which number
//! comes next, so that a frame that is missing, comes twice, comes late or comes to somebody else is noticed
//! by whom it concerns. Nothing here knows sockets or protocols.
//!
//! Invariant: every copy has one fate. Whatever says that a frame has met a second one is a fault of its own and
//! changes no sum, so that one fault cannot make up for another.

use std::collections::{BTreeMap, VecDeque};

use super::dialect::Destination;
use super::numbers::Numbers;
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
    /// For one recipient: frames that it has not got, though it has got later ones, and of which nobody has said why.
    skipped: Numbers,
    /// Frames that were refused; for one recipient only those before which it has got no later one.
    refused: Numbers,
    /// It is on the list of those that may send again.
    touched: bool,
}

/// All flows of a run.
#[derive(Debug, Default)]
pub(super) struct Flows {
    all: Vec<Flow>,
    /// The number that each recipient of each flow expects next.
    expected: Vec<u64>,
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
            skipped: Numbers::default(),
            refused: Numbers::default(),
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
        self.all.iter().map(Flow::open_copies).sum()
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
        flow.outstanding += 1;
        if flow.recipients > 1 {
            flow.waiting.push_back(flow.recipients);
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
        let Some(number) = flow.full_number(stamp.number).filter(|number| *number >= *expected) else {
            // It has come already, or it comes too late, or it was never sent.
            self.account.misordered += 1;
            return false;
        };
        // The frames between are missing; for one recipient their sender is told, for several a GAP says so,
        // and if neither happens they are lost.
        let first = std::mem::replace(expected, number + 1);
        let was_open = if flow.recipients > 1 {
            flow.copies_done(first, number + 1);
            !flow.refused.contains(number) && flow.open_copies() > 0
        } else {
            flow.skip(first, number);
            let was_open = !flow.refused.remove(number);
            flow.outstanding -= u32::from(was_open);
            was_open
        };
        if !was_open {
            self.account.contradicted += 1;
            return false;
        }
        flow.done += 1;
        self.account.delivered += 1;
        self.payload_bytes += payload_bytes as u64;
        self.touch(stamp.flow);
        true
    }

    /// A frame has arrived that is not as it was sent.
    pub(super) fn damaged(&mut self) {
        self.account.damaged += 1;
    }

    /// Frame `refused` of what `client` sent was refused: nobody gets it.
    pub(super) fn refused_to(&mut self, client: u32, refused: u32, why: &'static str) {
        let Some(number) = self.clients[client as usize].sends else {
            self.account.damaged += 1;
            return;
        };
        let flow = &mut self.all[number as usize];
        let Some(frame) = flow.full_number(refused) else {
            // It was never sent.
            self.account.damaged += 1;
            return;
        };
        let copies = u64::from(flow.recipients);
        let was_open =
            if copies > 1 { flow.refuse_to_all(frame) } else { flow.refuse(frame, self.expected[flow.first]) };
        if !was_open {
            self.account.contradicted += 1;
            return;
        }
        *self.refusals.entry(why).or_default() += copies;
        self.account.refused += copies;
        flow.done += copies;
        self.touch(number);
    }

    /// `client` is told that it has missed so many frames, which would have stood here.
    pub(super) fn missed_by(&mut self, client: u32, frames: u64) {
        let ends = self.clients[client as usize];
        let Some(number) = ends.hears else {
            self.account.contradicted = self.account.contradicted.saturating_add(frames);
            return;
        };
        let flow = &mut self.all[number as usize];
        let expected = &mut self.expected[flow.first + ends.place as usize];
        let first = *expected;
        // No more can be missing than were sent, and what was refused is not missing.
        let mut counted = 0;
        while counted < frames && *expected < flow.sent {
            counted += u64::from(!flow.refused.contains(*expected));
            *expected += 1;
        }
        if flow.recipients > 1 {
            counted = counted.min(flow.open_copies());
            flow.copies_done(first, *expected);
        } else {
            flow.refused.remove_below(*expected, |_, _| {});
            flow.outstanding -= counted as u32;
        }
        flow.done += counted;
        self.account.counted += counted;
        self.account.contradicted = self.account.contradicted.saturating_add(frames - counted);
        self.touch(number);
    }

    /// What became of every frame. What is open now counts as lost: ask when nothing comes any more.
    #[must_use]
    pub(super) fn account(&self) -> Account {
        let mut account = self.account.clone();
        account.lost = self.open_copies();
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
    /// The number of a frame that was sent, from its last 32 bits.
    fn full_number(&self, number: u32) -> Option<u64> {
        let behind = (self.sent as u32).wrapping_sub(number);
        self.sent.checked_sub(u64::from(behind)).filter(|number| *number < self.sent)
    }

    /// Copies of which nothing is known yet.
    const fn open_copies(&self) -> u64 {
        self.sent * self.recipients as u64 - self.done
    }

    /// For several recipients: one of them has, or will never have, the frames from `first` up to `end`.
    fn copies_done(&mut self, first: u64, end: u64) {
        // What all have is not waited for any more.
        let oldest = self.sent - self.waiting.len() as u64;
        let (start, end) = (first.saturating_sub(oldest) as usize, end.saturating_sub(oldest) as usize);
        for left in self.waiting.range_mut(start..end) {
            // Nobody is waited for if the frame was refused.
            *left = left.saturating_sub(1);
        }
        self.pop_done();
    }

    fn pop_done(&mut self) {
        while self.waiting.front() == Some(&0) {
            self.waiting.pop_front();
            self.outstanding -= 1;
        }
    }

    /// For several recipients: a frame is refused; says whether it was open for so many. Whose copies they were is
    /// not looked up: a server that refuses what was delivered is noticed by what it delivers after that.
    fn refuse_to_all(&mut self, number: u64) -> bool {
        if self.refused.contains(number) || self.open_copies() < u64::from(self.recipients) {
            return false;
        }
        self.refused.add(number, number + 1);
        let oldest = self.sent - self.waiting.len() as u64;
        if let Some(left) = number.checked_sub(oldest).and_then(|at| self.waiting.get_mut(at as usize)) {
            *left = 0;
        }
        self.pop_done();
        true
    }

    /// For one recipient: it has got a later frame than those from `first` up to `end`.
    fn skip(&mut self, first: u64, end: u64) {
        if first == end {
            return;
        }
        let mut start = first;
        let skipped = &mut self.skipped;
        self.refused.remove_below(end, |refused, refused_end| {
            skipped.add(start, refused);
            start = refused_end;
        });
        skipped.add(start, end);
    }

    /// For one recipient, which waits for frame `expected`: a frame is refused; says whether it was open.
    fn refuse(&mut self, number: u64, expected: u64) -> bool {
        let was_open = if number < expected { self.skipped.remove(number) } else { !self.refused.contains(number) };
        if was_open {
            if number >= expected {
                self.refused.add(number, number + 1);
            }
            self.outstanding -= 1;
        }
        was_open
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
    fn a_frame_that_is_refused_although_it_was_delivered_does_not_make_up_for_one_that_is_lost() {
        let mut flows = one_to(1, 4);
        let stamps = send(&mut flows, 4);
        // Number 1 is lost, and number 0 refused once more than it should be.
        for at in [0, 2, 3] {
            assert!(flows.delivered_to(1, stamps[at], SIZE));
        }
        flows.refused_to(0, 0, "QUEUE_FULL");
        let account = flows.account();
        assert_eq!((account.lost, account.refused, account.contradicted), (1, 0, 1));
    }

    #[test]
    fn a_frame_that_is_refused_twice_or_delivered_all_the_same_is_a_fault() {
        let mut flows = one_to(1, 8);
        let stamps = send(&mut flows, 6);
        for refused in [1, 1, 3, 3] {
            flows.refused_to(0, refused, "QUEUE_FULL");
        }
        assert!(flows.delivered_to(1, stamps[0], SIZE));
        assert!(!flows.delivered_to(1, stamps[1], SIZE), "it was refused");
        assert!(flows.delivered_to(1, stamps[5], SIZE));
        flows.refused_to(0, 3, "QUEUE_FULL");
        let account = flows.account();
        assert_eq!((account.delivered, account.refused, account.contradicted, account.lost), (2, 2, 4, 2));
        // What is said late of frames that were skipped is no fault.
        flows.refused_to(0, 2, "RECIPIENT_LOST");
        flows.refused_to(0, 4, "RECIPIENT_LOST");
        let account = flows.account();
        assert_eq!((account.refused, account.contradicted, account.lost), (4, 4, 0));
        assert_eq!(flows.next_with_room(), Some((0, 8)));
    }

    #[test]
    fn a_gap_counts_no_more_than_can_be_missing() {
        for recipients in [1, 2] {
            let mut flows = one_to(recipients, 8);
            let stamps = send(&mut flows, 3);
            let copies = u64::from(recipients) * 3;
            assert!(flows.delivered_to(1, stamps[0], SIZE));
            flows.missed_by(1, u64::MAX);
            flows.missed_by(1, u64::MAX);
            let account = flows.account();
            assert_eq!((account.counted, account.lost), (2, copies - 3), "{recipients}");
            assert!(account.contradicted > u64::MAX / 2);
            assert!(!flows.delivered_to(1, stamps[2], SIZE), "it was counted as missing");
            flows.missed_by(0, 1);
            assert_eq!(flows.account().counted, 2, "client 0 hears nothing that could be missing");
        }
    }

    #[test]
    fn a_gap_makes_room_in_the_window_of_a_flow_whose_only_recipient_is_a_room_or_all() {
        let mut flows = Flows::new(2);
        flows.add(0, Destination::All, 1..=1, Some(3));
        let _ = flows.next_with_room();
        let _ = send(&mut flows, 3);
        flows.refused_to(0, 1, "QUEUE_FULL");
        flows.missed_by(1, 2);
        assert_eq!(flows.next_with_room(), Some((0, 3)));
        let account = flows.account();
        assert_eq!((account.counted, account.refused, account.lost, account.contradicted), (2, 1, 0, 0));
    }

    #[test]
    fn a_frame_for_several_that_is_refused_reaches_nobody_and_is_not_waited_for() {
        let mut flows = one_to(3, 4);
        let _ = flows.next_with_room();
        let stamps = send(&mut flows, 4);
        for client in 1..=3 {
            assert!(flows.delivered_to(client, stamps[0], SIZE));
        }
        flows.refused_to(0, 1, "NOT_MEMBER");
        assert_eq!(flows.account().refused, 3);
        for client in 1..=3 {
            assert!(flows.delivered_to(client, stamps[2], SIZE));
        }
        flows.refused_to(0, 3, "NOT_MEMBER");
        assert_eq!(flows.next_with_room(), Some((0, 4)));
        assert_eq!(
            flows.account(),
            Account {
                sent: 12,
                delivered: 6,
                refused: 6,
                refusals: vec![("NOT_MEMBER".to_owned(), 6)],
                ..Account::default()
            }
        );
        flows.refused_to(0, 0, "NOT_MEMBER");
        assert!(!flows.delivered_to(1, stamps[3], SIZE));
        assert_eq!(flows.account().contradicted, 2);
    }

    #[test]
    fn numbers_go_on_behind_the_largest() {
        let mut flows = one_to(1, 2);
        flows.all[0].sent = u64::from(u32::MAX);
        flows.all[0].done = u64::from(u32::MAX);
        flows.expected[0] = u64::from(u32::MAX);
        for _ in 0..3 {
            let stamp = flows.send(0, 0);
            assert!(flows.delivered_to(1, stamp, SIZE));
        }
        assert_eq!(flows.expected[0], (1 << 32) + 2);
        assert_eq!(flows.account(), Account { sent: 3, delivered: 3, ..Account::default() });
    }
}
