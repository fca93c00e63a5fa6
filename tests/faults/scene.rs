//! A run of one fault: a relay, bystanders at work, the fault, and what is held against all of them.

use std::time::{Duration, Instant};

use switchboard::bench::Cores;
use switchboard::wire::{Header, Type};

use crate::bystanders::{Bystanders, Load, Outcome, Part};
use crate::catalogue::Fault;
use crate::crowd::Crowd;
use crate::network;
use crate::relay::{Relay, Start};
use crate::support::RawClient;
use crate::table::Round;

/// How large a fault is, and whether times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// For every test run: once, small, and nothing depends on how long it takes.
    Small,
    /// For the table: at full size, for as long as a p99 needs.
    Full,
}

impl Size {
    pub(crate) const fn of<T: Copy>(self, small: T, full: T) -> T {
        match self {
            Self::Small => small,
            Self::Full => full,
        }
    }

    pub(crate) fn load(self) -> Load {
        Load {
            pairs: self.of(10, 25),
            pairs_rate: self.of(400.0, 1500.0),
            members: self.of(5, 10),
            room_rate: self.of(20.0, 100.0),
            is_measured: self == Self::Full,
        }
    }
}

/// How long each of the three parts of a measurement takes: before, with and after the fault.
const PART: Duration = Duration::from_secs(2);
/// Copies that must have been delivered before and after a fault where nothing is measured.
const COPIES_MIN: u64 = 100;

/// Whether the relay ends in the course of the fault, and its bystanders' connections with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    LivesOn,
    SaysGoodbye,
    Killed,
}

/// What a fault has to work with.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) relay: Relay,
    pub(crate) bystanders: Bystanders,
    pub(crate) size: Size,
    /// What the fault has found, in words.
    pub(crate) notes: Vec<String>,
    pub(crate) ending: Ending,
    /// What other bystanders found that came after the relay was started again.
    pub(crate) after: Option<Outcome>,
    pub(crate) start: Start,
    pub(crate) cores: Option<Cores>,
    /// Others who talk all the while.
    pub(crate) company: Vec<Crowd>,
    began: Instant,
}

impl Scene {
    /// Runs a fault once.
    pub(crate) fn run(fault: &Fault, size: Size) -> Round {
        if fault.network {
            network::begin();
        }
        let cores = if size == Size::Full { Cores::split() } else { None };
        let start = (fault.start)(size);
        let relay = Relay::start(&start, cores.as_ref());
        let bystanders = Bystanders::start(relay.address, size.load());
        let notes = Vec::new();
        let (ending, after, began) = (Ending::LivesOn, None, Instant::now());
        let company = Vec::new();
        let mut scene = Self { relay, bystanders, size, notes, ending, after, start, cores, company, began };
        if let Some(come) = fault.company {
            scene.bystanders.begin(Part::Unmeasured);
            come(&mut scene);
            scene.bystanders.begin(Part::Undisturbed);
        }
        scene.undisturbed();
        scene.bystanders.begin(Part::Disturbed);
        scene.began = Instant::now();
        (fault.run)(&mut scene);
        scene.bystanders.begin(Part::Undisturbed);
        let ends = scene.ending != Ending::LivesOn;
        if !ends {
            scene.undisturbed();
        }
        let outcome = scene.bystanders.finish();
        let mut failures = outcome.account.verdict(ends);
        if let Some(after) = &scene.after {
            failures.extend(after.account.verdict(false));
        }
        if scene.ending == Ending::SaysGoodbye {
            let unsaid = outcome.ended.iter().filter(|how| !how.contains("ShuttingDown")).count();
            if unsaid > 0 {
                failures.push(format!("{unsaid} bystanders were not told that the relay goes down"));
            }
        }
        if !ends {
            failures.extend(outcome.ended.iter().map(|how| format!("a bystander's connection ended: {how}")));
            scene.lives_on();
        }
        scene.round(fault, &outcome, failures)
    }

    fn undisturbed(&self) {
        self.bystanders.go_on(COPIES_MIN);
        if self.size == Size::Full {
            std::thread::sleep(PART);
        }
    }

    /// Whether the fault is to go on: in a small run it happens once.
    pub(crate) fn goes_on(&self) -> bool {
        self.size == Size::Full && self.began.elapsed() < PART
    }

    /// How long the fault has lasted.
    pub(crate) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the part is as long as the others, where it is measured.
    pub(crate) fn fill(&self) {
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// A newcomer is let in and served.
    fn lives_on(&mut self) {
        assert_eq!(self.relay.has_ended(), None, "the relay has ended: {:?}", self.relay.log());
        let hello = crate::passwords::hello("newcomer");
        let mut newcomer = RawClient::greet(self.relay.address, &hello, std::net::Ipv4Addr::LOCALHOST);
        newcomer.welcomed();
        newcomer.send(Header::new(Type::Send).to(newcomer.id).correlating(7), b"still there?");
        assert_eq!(newcomer.frame_of(Type::Send).1, b"still there?");
    }

    fn round(self, fault: &Fault, outcome: &Outcome, failures: Vec<String>) -> Round {
        let (totals, ends) = (outcome.totals(), self.ending != Ending::LivesOn);
        let after = self.after.as_ref().map(Outcome::totals).unwrap_or_default();
        let disturbed = self.after.as_ref().unwrap_or(outcome);
        let p99_us = |latencies: &hdrhistogram::Histogram<u64>| {
            (!latencies.is_empty()).then(|| Duration::from_nanos(latencies.value_at_quantile(0.99)).as_secs_f64() * 1e6)
        };
        Round {
            fault: fault.name.to_owned(),
            undisturbed_p99_us: p99_us(&outcome.undisturbed),
            disturbed_p99_us: if ends && self.after.is_none() { None } else { p99_us(&disturbed.disturbed) },
            own_lateness_p99_us: p99_us(&disturbed.lateness),
            disturbed_max_us: Duration::from_nanos(disturbed.disturbed.max()).as_secs_f64() * 1e6,
            sent: totals.sent + after.sent,
            delivered: totals.delivered + after.delivered,
            refused: totals.refused,
            counted: totals.counted,
            lost: totals.open,
            notes: self.notes,
            failures,
            skipped: None,
        }
    }
}
