//! The scenarios: each a page that says who comes, who sends what to whom, what is measured, and when it ends.

mod presence;
mod slow;
mod traffic;

use std::time::Duration;

use super::dialect::{Destination, Dialect, Role};
use super::fleet::Fleet;
use super::progress::Progress;
use super::report::{Figure, Report, Settings};
use super::rig::{Pace, Rig, Trouble, lossy};
use super::schedule::Schedule;
use super::soak::soak;
use super::stop::Stop;
use super::target::Target;

/// Frames a second between bystanders: enough for a p99 within seconds, too few to be a load.
const BYSTANDERS_RATE: f64 = 1000.0;
/// What is due at the end of a schedule and has not been sent is that of the last moment, or a sign that more was
/// asked for than this program can send.
const LAG_MAX: Duration = Duration::from_millis(10);
/// Bytes that a protocol may put around a payload.
pub(in crate::bench) const ENVELOPE_BYTES_MAX: usize = 4096;

/// What can be put on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Each client sends to its partner, a window outstanding.
    Pairs,
    /// One client sends to all others.
    Fanout,
    /// Many rooms; in each, one member sends to the others.
    Rooms,
    /// Registered clients that say nothing.
    Idle,
    /// Pairs on a fixed schedule.
    Rate,
    /// Clients come and go at a rate.
    Churn,
    /// All clients are lost at once, and are back at once.
    Storm,
    /// Some recipients stop reading.
    Slow,
    /// The pieces of files, from one client of each pair to the other.
    File,
    /// Mixed traffic, rooms and churn for a long time.
    Soak,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 10] = [
        Self::Pairs,
        Self::Fanout,
        Self::Rooms,
        Self::Idle,
        Self::Rate,
        Self::Churn,
        Self::Storm,
        Self::Slow,
        Self::File,
        Self::Soak,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Idle => "idle",
            Self::Rate => "rate",
            Self::Churn => "churn",
            Self::Storm => "storm",
            Self::Slow => "slow",
            Self::File => "file",
            Self::Soak => "soak",
        }
    }
}

/// A scenario with all its numbers. Those that do not apply to it are not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// What is done.
    pub scenario: Scenario,
    /// Clients, bystanders left out.
    pub connections: u32,
    /// Payload of a frame, in bytes.
    pub size: usize,
    /// Frames that a sender has outstanding.
    pub window: u32,
    /// Frames a second in all, or connections a second.
    pub rate: f64,
    /// Rooms; in a fan-out 0 means ALL.
    pub rooms: u32,
    /// Recipients that stop reading.
    pub stuck: u32,
    /// How long it runs before it is measured.
    pub warmup: Duration,
    /// How long each part is measured.
    pub time: Duration,
    /// Clients on their way in at once.
    pub in_flight_max: u32,
}

impl Work {
    /// Clients that the scenario needs, bystanders included.
    #[must_use]
    pub fn clients(&self) -> u32 {
        match self.scenario {
            Scenario::Churn => self.churners() + 2,
            Scenario::Storm => self.connections + 2,
            _ => self.connections,
        }
    }

    /// In a churn, clients come while others are on their way out: half as many again.
    fn churners(&self) -> u32 {
        self.connections + self.connections / 2 + 16
    }

    /// The first of the two bystanders.
    fn bystander(&self) -> u32 {
        self.clients() - 2
    }
}

/// Runs a scenario on a server that `dialect` speaks to. If trouble ends it, the report holds what was
/// measured until then, and says so. A soak speaks to a switchboard relay by itself, whatever the dialect.
pub fn run<D: Dialect>(work: &Work, dialect: D, target: &mut Target, progress: &mut Progress, stop: &Stop) -> Report {
    if work.scenario == Scenario::Soak {
        return soak(work, None, None, target, progress, stop);
    }
    let mut report = Report {
        scenario: work.scenario.name().to_owned(),
        target: target.describe(),
        settings: settings(work),
        ..Report::default()
    };
    let fleet = Fleet::new(dialect, work.clients(), work.size).over(target.tls());
    let message_bytes_max = work.size + ENVELOPE_BYTES_MAX;
    let pace = Pace { in_flight_max: work.in_flight_max, message_bytes_max };
    let mut rig = match Rig::new(fleet, target, progress, stop, pace) {
        Ok(rig) => rig,
        Err(Trouble(line)) => {
            report.failures.push(line);
            return report;
        }
    };
    let ended = match work.scenario {
        Scenario::Pairs => traffic::pairs(&mut rig, work, &mut report),
        Scenario::Fanout => traffic::fanout(&mut rig, work, &mut report),
        Scenario::Rooms => traffic::rooms(&mut rig, work, &mut report),
        Scenario::Idle => presence::idle(&mut rig, work, &mut report),
        Scenario::Rate => traffic::rate(&mut rig, work, &mut report),
        Scenario::Churn => presence::churn(&mut rig, work, &mut report),
        Scenario::Storm => presence::storm(&mut rig, work, &mut report),
        Scenario::Slow => slow::slow(&mut rig, work, &mut report),
        Scenario::File => traffic::file(&mut rig, work, &mut report),
        // It has had its way above.
        Scenario::Soak => Ok(()),
    };
    // What breaks in the last moment breaks as well.
    let ended = ended.and_then(|()| rig.check());
    let ended_well = ended.is_ok();
    if let Err(Trouble(line)) = ended {
        report.failures.push(line);
    }
    rig.conclude(&mut report, ended_well);
    remark(&mut report);
    // What was on its way when trouble came is nobody's loss.
    if ended_well {
        judge(&mut report);
    }
    report
}

/// Says what the figures do not say of themselves.
fn remark(report: &mut Report) {
    /// So much of a core is all of it, as far as can be told.
    const BUSY: f64 = 0.95;
    if let Some(traffic) = report.traffic
        && report.settings.rate.is_none()
        && let (Some(load), Some(server)) = (traffic.load_core_share, traffic.server_core_share)
        && load > BUSY
        && server < BUSY
    {
        report.remarks.push(
            "the load generator was the limit of the throughput, as its core was busy all the time; the server's CPU a \
             delivery is its own"
                .to_owned(),
        );
    }
    if report.settings.window.is_some() && !report.latencies.is_empty() {
        report.remarks.push(
            "latency counts from when a frame was sent, and a window sends none while the server stalls: `rate` leaves \
             nothing out"
                .to_owned(),
        );
    }
}

/// Holds the account against the promise: delivered, refused or counted, once, in order, intact, to nobody else.
pub(in crate::bench) fn judge(report: &mut Report) {
    let account = &report.account;
    let faults = [
        (account.lost, "lost: neither delivered nor refused nor counted"),
        (account.misordered, "delivered twice or out of order"),
        (account.damaged, "delivered damaged or to somebody else"),
        (account.contradicted, "refused or counted as missing although delivered, or more often than once"),
    ];
    for (count, what) in faults {
        if count > 0 {
            let frames = if count == 1 { "frame was" } else { "frames were" };
            report.failures.push(format!("{count} {frames} {what}"));
        }
    }
}

/// What a report repeats of the work: only what applies.
pub(in crate::bench) fn settings(work: &Work) -> Settings {
    use Scenario::{Churn, Fanout, File, Idle, Pairs, Rate, Rooms, Slow, Soak, Storm};
    let scenario = work.scenario;
    Settings {
        connections: work.connections,
        size_bytes: (!matches!(scenario, Idle | Churn | Storm | Soak)).then_some(work.size),
        size_bytes_max: matches!(scenario, Soak).then_some(work.size),
        window: matches!(scenario, Pairs | Fanout | Rooms | Slow | File).then_some(work.window),
        rate: matches!(scenario, Rate | Churn | Slow | Soak).then_some(work.rate),
        seconds: work.time.as_secs_f64(),
        rooms: (matches!(scenario, Rooms | Soak) || matches!(scenario, Fanout | Storm) && work.rooms > 0)
            .then_some(work.rooms),
        stuck: matches!(scenario, Slow | Soak).then_some(work.stuck),
        warmup_seconds: (!matches!(scenario, Idle | Storm | Soak)).then_some(work.warmup.as_secs_f64()),
        in_flight: work.in_flight_max,
    }
}

/// Tells of frames that were due by now and could not be sent: what was measured beside them is no measure of the
/// server alone.
fn tell_lag<D: Dialect>(rig: &Rig<'_, D>, work: &Work, report: &mut Report) {
    let overdue = lossy(rig.fleet.overdue());
    if overdue > work.rate * LAG_MAX.as_secs_f64() {
        report.figures.push(Figure::new("not_sent", "due and not sent: the load generator was behind", overdue, ""));
        report.remarks.push(
            "the load generator did not keep up with the rate that was asked for, and the latencies contain its own delay"
                .to_owned(),
        );
    }
}

/// Has two clients come that send to each other by the clock, and are measured while others do what they do.
fn bystanders<D: Dialect>(rig: &mut Rig<'_, D>, work: &Work) -> Result<(), Trouble> {
    let first = work.bystander();
    for client in [first, first + 1] {
        let partner = if client == first { first + 1 } else { first };
        rig.fleet.assign(client, Role { partner: Some(partner), ..Role::default() });
    }
    rig.connect_all(first..first + 2, 2)?;
    for client in [first, first + 1] {
        let partner = if client == first { first + 1 } else { first };
        rig.fleet.flows.add(client, Destination::Client(partner), partner..=partner, None);
    }
    let now_ns = rig.fleet.now_ns();
    rig.fleet.schedules.push(Schedule::new(0..2, BYSTANDERS_RATE, now_ns));
    Ok(())
}
