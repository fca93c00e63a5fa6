//! The account of the bystanders' frames: what became of every copy, once.
//!
//! It is kept apart from the load generator's on purpose: it knows each copy by its number, so that what one
//! of the two accounts gets wrong the other does not.

use std::fmt;

/// Complaints that are kept word for word; of further ones only the first matter.
const COMPLAINTS_MAX: usize = 10;

/// What became of a copy of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Delivered,
    Refused,
    Counted,
}

/// One recipient of a flow.
#[derive(Debug, Default)]
struct Recipient {
    fates: Vec<Fate>,
    /// The number behind the highest that it has got, or that was counted.
    next: usize,
}

/// All flows between bystanders.
#[derive(Debug, Default)]
pub(crate) struct Account {
    flows: Vec<Vec<Recipient>>,
    complaints: Vec<String>,
    totals: Totals,
}

/// Sums over all copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) counted: u64,
    /// Of which nothing is known.
    pub(crate) open: u64,
}

impl Account {
    /// Adds a flow to so many recipients, and returns its number.
    pub(crate) fn add(&mut self, recipients: usize) -> usize {
        self.flows.push((0..recipients).map(|_| Recipient::default()).collect());
        self.flows.len() - 1
    }

    /// Takes the next frame of a flow as sent, and returns its number.
    pub(crate) fn sent(&mut self, flow: usize) -> u32 {
        let recipients = &mut self.flows[flow];
        self.totals.sent += recipients.len() as u64;
        self.totals.open += recipients.len() as u64;
        for recipient in recipients.iter_mut() {
            recipient.fates.push(Fate::Open);
        }
        recipients[0].fates.len() as u32 - 1
    }

    /// A recipient has got a frame, whole.
    pub(crate) fn delivered(&mut self, flow: usize, recipient: usize, number: u32) {
        let number = number as usize;
        let Some(this) = self.flows.get_mut(flow).and_then(|recipients| recipients.get_mut(recipient)) else {
            return self.complain(format_args!("a frame of flow {flow} came to somebody else"));
        };
        if number >= this.fates.len() {
            return self.complain(format_args!("frame {number} of flow {flow} was never sent"));
        }
        if number < this.next {
            return self.complain(format_args!("frame {number} of flow {flow} came twice or too late"));
        }
        this.next = number + 1;
        self.settle(flow, recipient, number, Fate::Delivered);
    }

    /// A sender is told that a frame of its flow failed for all recipients.
    pub(crate) fn refused(&mut self, flow: usize, number: u32) {
        if number as usize >= self.flows[flow][0].fates.len() {
            return self.complain(format_args!("frame {number} of flow {flow} was refused and never sent"));
        }
        for recipient in 0..self.flows[flow].len() {
            self.settle(flow, recipient, number as usize, Fate::Refused);
        }
    }

    /// A recipient is told that so many frames of a flow would have stood here.
    pub(crate) fn counted(&mut self, flow: usize, recipient: usize, frames: u64) {
        for _ in 0..frames {
            let this = &mut self.flows[flow][recipient];
            let number = this.next;
            if number == this.fates.len() {
                return self.complain(format_args!("more frames of flow {flow} are counted than were sent"));
            }
            this.next += 1;
            self.settle(flow, recipient, number, Fate::Counted);
        }
    }

    /// Something arrived that was not sent like that.
    pub(crate) fn complain(&mut self, what: fmt::Arguments<'_>) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what.to_string());
        }
    }

    fn settle(&mut self, flow: usize, recipient: usize, number: usize, fate: Fate) {
        let place = &mut self.flows[flow][recipient].fates[number];
        let before = *place;
        if before != Fate::Open {
            return self.complain(format_args!("frame {number} of flow {flow} is {fate:?} and was {before:?}"));
        }
        *place = fate;
        self.totals.open -= 1;
        match fate {
            Fate::Delivered => self.totals.delivered += 1,
            Fate::Refused => self.totals.refused += 1,
            Fate::Counted => self.totals.counted += 1,
            Fate::Open => {}
        }
    }

    pub(crate) const fn totals(&self) -> Totals {
        self.totals
    }

    /// What is wrong. Where the relay has ended, what its clients had on their way to it may be open: then these
    /// frames are the last of their flow, with nothing delivered behind them.
    pub(crate) fn verdict(&self, relay_ended: bool) -> Vec<String> {
        let mut complaints = self.complaints.clone();
        for (number, flow) in self.flows.iter().enumerate() {
            for recipient in flow {
                let settled = if relay_ended { recipient.next } else { recipient.fates.len() };
                let lost = recipient.fates[..settled].iter().filter(|fate| **fate == Fate::Open).count();
                if lost > 0 && complaints.len() < COMPLAINTS_MAX {
                    complaints.push(format!("{lost} frames of flow {number} were lost in silence"));
                }
            }
        }
        complaints
    }
}

/// Breaks each promise once, and panics if the account does not notice.
pub(crate) fn check_itself() {
    /// What is done, and what must be said of it.
    type Break = (&'static str, fn(&mut Account));
    let breaks: [Break; 7] = [
        ("lost in silence", |a| a.delivered(0, 0, 1)),
        ("twice", |a| (0..2).for_each(|_| a.delivered(0, 0, 0))),
        ("too late", |a| [1, 0].into_iter().for_each(|number| a.delivered(0, 0, number))),
        ("never sent", |a| a.delivered(0, 0, 3)),
        ("somebody else", |a| a.delivered(1, 0, 0)),
        ("is Refused and was Delivered", |a| {
            a.delivered(0, 0, 0);
            a.refused(0, 0);
        }),
        ("more frames", |a| a.counted(0, 0, 4)),
    ];
    for (says, act) in breaks {
        let mut account = Account::default();
        account.add(1);
        (0..3).for_each(|_| {
            account.sent(0);
        });
        act(&mut account);
        let complaints = account.verdict(false);
        assert!(complaints.iter().any(|line| line.contains(says)), "{says} is not noticed: {complaints:?}");
    }
    let mut account = Account::default();
    account.add(2);
    (0..5).for_each(|_| {
        account.sent(0);
    });
    account.refused(0, 1);
    for recipient in 0..2 {
        account.delivered(0, recipient, 0);
        account.delivered(0, recipient, 2);
        account.counted(0, recipient, 1);
    }
    assert!(account.verdict(true).is_empty() && !account.verdict(false).is_empty());
    let all = Totals { sent: 10, delivered: 4, refused: 2, counted: 2, open: 2 };
    assert_eq!(account.totals(), all);
}
