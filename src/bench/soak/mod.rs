//! A soak: mixed traffic, rooms and churn on one relay for as long as it takes, to see that nothing grows and nothing
//! is lost.
//!
//! Unlike the other scenarios it speaks switchboard's own protocol: receipts, rooms that come and vanish, presence and
//! GAPs are what it is about, and no other server has them all. So it has clients and an account of its own
//! ([`crowd`], [`ledger`]); the clock, the payloads, the target and the report are those of all.

mod acts;
mod crowd;
mod groups;
mod ledger;
mod presence;
mod series;
mod verdict;
mod verdicts;

pub(super) use groups::Groups;

use std::time::{Duration, Instant};

use acts::Acts;
use crowd::{Crowd, Place};
use series::Series;

use super::login::Login;
use super::progress::Progress;
use super::report::{Arrival, Latency, Report};
use super::rig::{CONNECTING_TURN_MAX, HANDSHAKES_TURN_MAX, Trouble, lossy, memory};
use super::scenario::{ENVELOPE_BYTES_MAX, Work, settings};
use super::stop::Stop;
use super::target::Target;
use super::units;
use crate::reactor::{Limits, Reactor};
use verdicts::Findings;

/// The poll waits for whole milliseconds, rounded up, and wakes a little later than it should.
const POLL_LATENESS: Duration = Duration::from_micros(100);
/// The time between two looks at whether all is well.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Clients that do not get in, or do not get away, are given up when nothing has changed for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What is open is given up for lost when nothing has come for so long, though nothing new is sent.
const SETTLE_SILENCE: Duration = Duration::from_secs(2);
/// The time between two frames that stand behind all that may still come.
const MARK_INTERVAL: Duration = Duration::from_millis(200);
/// How long what should not come any more may take to come: frames that were delivered already.
const AFTERMATH: Duration = Duration::from_millis(50);
/// The relay has given back what its clients had after so long, or never will: its longest wait, of two seconds, is
/// for those whom it closes.
const GIVE_BACK_MAX: Duration = Duration::from_secs(10);
/// Bytes that may wait here for the relay to read them: far more than a pause of the machine causes.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// Soaks a relay. If trouble ends it, the report holds what was found until then, and says so.
pub fn soak(
    work: &Work,
    keepalive: Option<Duration>,
    login: Option<Login>,
    target: &mut Target,
    progress: &mut Progress,
    stop: &Stop,
) -> Report {
    let mut report = Report {
        scenario: work.scenario.name().to_owned(),
        target: target.describe(),
        settings: settings(work),
        ..Report::default()
    };
    let mut findings = Findings::default();
    match Soak::new(work, keepalive, login, target, progress, stop) {
        Ok(mut soak) => {
            let ended = soak.run(&mut report, &mut findings);
            soak.conclude(&mut report, findings, ended);
        }
        Err(Trouble(line)) => report.failures.push(line),
    }
    report
}

/// A soak at work.
struct Soak<'a> {
    reactor: Reactor,
    crowd: Crowd,
    series: Series,
    work: &'a Work,
    target: &'a mut Target,
    progress: &'a mut Progress,
    stop: &'a Stop,
    next_check: Instant,
}

impl<'a> Soak<'a> {
    fn new(
        work: &'a Work,
        keepalive: Option<Duration>,
        login: Option<Login>,
        target: &'a mut Target,
        progress: &'a mut Progress,
        stop: &'a Stop,
    ) -> Result<Self, Trouble> {
        let limits = Limits {
            connections_max: 0,
            input_bytes_max: work.size + ENVELOPE_BYTES_MAX,
            // What waits here waits because the relay does not read: it shows in the latencies.
            queue_bytes_max: usize::MAX / 4,
            buffered_total_bytes_max: WAITING_BYTES_MAX,
            write_deadline: Duration::from_hours(1),
            input_deadline: Duration::from_hours(1),
            turn_work_max: usize::MAX,
            handshakes_turn_max: HANDSHAKES_TURN_MAX,
            ..Limits::default()
        };
        let reactor =
            Reactor::new::<Crowd>(limits).map_err(|error| Trouble(format!("the system grants no poll: {error}")))?;
        let keepalive_ms = keepalive.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        let crowd = Crowd::new(work, keepalive_ms, login, Acts::new(work));
        let series = Series::new(work.time, target);
        Ok(Self { reactor, crowd, series, work, target, progress, stop, next_check: Instant::now() })
    }

    /// All of it: everybody comes, does what there is to do, and leaves.
    fn run(&mut self, report: &mut Report, findings: &mut Findings) -> Result<(), Trouble> {
        // Whoever only looked at the relay before us is gone for good by then.
        self.pass(AFTERMATH)?;
        findings.before = self.target.descriptors();
        let before = self.target.usage();
        report.arrival = Some(self.gather()?);
        let registered = self.target.usage();
        self.series = Series::new(self.work.time, self.target);
        let mark = self.series.mark(&self.crowd, self.target);
        let ended = self.go_on(findings);
        report.traffic = Some(mark.until(&self.series.mark(&self.crowd, self.target)));
        findings.seconds = self.series.seconds();
        if let Some(((before, registered), end)) = before.zip(registered).zip(self.target.usage()) {
            let clients = report.arrival.map_or(0, |arrival| arrival.clients);
            let bytes = [before, registered, end].map(|usage| usage.resident_bytes);
            report.memory = Some(memory(bytes[0], bytes[1], bytes[2], clients));
        }
        self.tell_lag(report);
        ended?;
        self.settle()?;
        findings.close_account(&mut self.crowd, true);
        self.leave()?;
        findings.left = self.give_back(findings.before)?;
        Ok(())
    }

    /// Runs one turn, to the next beat at the latest.
    fn turn(&mut self) -> Result<(), Trouble> {
        let wait = self.crowd.wait().saturating_sub(POLL_LATENESS);
        let wait = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.reactor
            .turn(&mut self.crowd, Some(wait))
            .map_err(|error| Trouble(format!("the poll has failed: {error}")))?;
        if self.crowd.is_full {
            return Err(Trouble(format!(
                "{} MiB wait for the relay to read them, and no more are kept: lower --rate or --size",
                WAITING_BYTES_MAX >> 20
            )));
        }
        while let Some(client) = self.crowd.next_visit(self.reactor.connections()) {
            self.connect(client)?;
        }
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + CHECK_INTERVAL;
            self.check()?;
        }
        Ok(())
    }

    /// Whether it can go on.
    fn check(&mut self) -> Result<(), Trouble> {
        if let Some(line) = self.target.ended() {
            return Err(Trouble(line));
        }
        if self.crowd.broken > 0 || self.crowd.complaint.is_some() {
            let why = self.crowd.complaint.clone().unwrap_or_else(|| "for no known reason".to_owned());
            return Err(Trouble(format!("a connection ended: {why}")));
        }
        Ok(())
    }

    fn connect(&mut self, client: u32) -> Result<(), Trouble> {
        let conn = self.target.connect(&mut self.reactor, 1, client).map_err(Trouble)?;
        self.crowd.connected(self.reactor.connections(), client, conn);
        Ok(())
    }

    /// Has everybody come who is to be there in the beginning, and be where they belong.
    fn gather(&mut self) -> Result<Arrival, Trouble> {
        let groups = &self.crowd.groups;
        let mut coming: Vec<u32> =
            (0..self.work.connections).filter(|client| !groups.visitors.contains(client)).collect();
        coming.extend(self.crowd.acts.first_visitors());
        let total = coming.len();
        self.progress.phase("connecting", total as u64);
        let began = Instant::now();
        let cpu = self.target.cpu();
        let (mut coming, mut connected) = (coming.into_iter().peekable(), 0);
        let (mut progressed, mut last) = (began, (0, 0));
        while coming.peek().is_some() || !self.crowd.is_settled() {
            if self.stop.is_asked() {
                return Err(Trouble("stopped before its time".to_owned()));
            }
            let turn = Instant::now();
            while connected - self.crowd.present() < self.work.in_flight_max as usize
                && turn.elapsed() < CONNECTING_TURN_MAX
                && let Some(client) = coming.next()
            {
                self.connect(client)?;
                connected += 1;
            }
            self.turn()?;
            let state = (self.crowd.present(), self.crowd.ledger.open());
            if state != last {
                (last, progressed) = (state, Instant::now());
            } else if progressed.elapsed() > SILENCE_MAX {
                let missing = total - state.0;
                return Err(Trouble(format!("{missing} clients wait to be registered, and nothing has come for 10 s")));
            }
            self.progress.set(state.0 as u64, "");
        }
        self.check()?;
        let spent = self.target.cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        Ok(Arrival {
            clients: total as u32,
            seconds: began.elapsed().as_secs_f64(),
            server_cpu_us_per_client: spent.map(|time| time.as_secs_f64() * 1e6 / lossy(total as u64)),
        })
    }

    /// Everything that there is to do, for as long as was asked for or until somebody wants it to end.
    fn go_on(&mut self, findings: &mut Findings) -> Result<(), Trouble> {
        let time = self.work.time;
        self.progress.timed_phase("soaking", time);
        self.crowd.interval.reset();
        self.crowd.is_measured = true;
        let now_ns = self.crowd.now_ns();
        self.crowd.acts.start(now_ns);
        let began = Instant::now();
        loop {
            let spent = began.elapsed();
            if spent >= time || self.stop.is_asked() {
                break;
            }
            self.turn()?;
            let now = Instant::now();
            if self.series.is_due(now) {
                let connections = self.reactor.connections().len();
                self.series.sample(now, &mut self.crowd, self.target, connections);
                findings.note(spent, time, &self.crowd);
            }
            let rate = self.series.samples.last().map_or(0.0, |sample| sample.delivered_per_second);
            let rate = std::fmt::from_fn(|f| if rate > 0.0 { f.write_str(&units::rate(rate)) } else { Ok(()) });
            self.progress.set(u64::try_from(spent.as_millis()).unwrap_or(u64::MAX), rate);
        }
        self.crowd.is_measured = false;
        if began.elapsed() < time {
            findings.stopped_after = Some(began.elapsed());
        }
        Ok(())
    }

    /// Tells of frames that were due and could not be sent.
    fn tell_lag(&self, report: &mut Report) {
        let overdue = lossy(self.crowd.acts.overdue(self.crowd.now_ns()));
        if overdue > self.work.rate * Duration::from_millis(50).as_secs_f64() {
            report.remarks.push(format!(
                "the load generator did not keep up with the rate that was asked for: {overdue} frames were due and not sent; \
                 queues that fill for that can make memory look as if it grew: repeat it where nothing else runs"
            ));
        }
    }

    /// Sends nothing new, and waits until it is known what became of every frame, or nothing comes any more.
    fn settle(&mut self) -> Result<(), Trouble> {
        self.crowd.stop(self.reactor.connections());
        let open = self.crowd.ledger.open();
        self.progress.phase("waiting for what is on its way", open);
        let (mut last, mut moved) = ((u64::MAX, 0), Instant::now());
        let mut marked: Option<Instant> = None;
        loop {
            let leaving =
                self.crowd.clients.iter().filter(|client| client.conn.is_some() && client.place != Place::Here);
            let state = (self.crowd.ledger.open(), leaving.count());
            if state == (0, 0) && self.crowd.is_settled() && self.crowd.count_misinformed() == 0 {
                break;
            }
            if state != last {
                (last, moved) = (state, Instant::now());
                self.progress.set(open.saturating_sub(state.0), "");
            } else if moved.elapsed() > SETTLE_SILENCE {
                break;
            }
            if marked.is_none_or(|at| at.elapsed() > MARK_INTERVAL) {
                marked = Some(Instant::now());
                self.crowd.send_marks(self.reactor.connections());
                last.0 = self.crowd.ledger.open();
            }
            self.turn()?;
        }
        self.pass(AFTERMATH)
    }

    /// Lets some time go by.
    fn pass(&mut self, time: Duration) -> Result<(), Trouble> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.turn()?;
        }
        Ok(())
    }

    /// Has everybody leave, and waits until all are gone.
    fn leave(&mut self) -> Result<(), Trouble> {
        self.progress.phase("leaving", self.reactor.connections().len() as u64);
        for client in 0..self.work.connections {
            if self.crowd.is_here(client) {
                self.crowd.say_goodbye(self.reactor.connections(), client);
            }
        }
        let (mut last, mut moved) = (usize::MAX, Instant::now());
        while !self.reactor.connections().is_empty() {
            self.turn()?;
            let here = self.reactor.connections().len();
            if here != last {
                (last, moved) = (here, Instant::now());
            } else if moved.elapsed() > SILENCE_MAX {
                return Err(Trouble(format!("{here} clients have said goodbye, and the relay does not let them go")));
            }
        }
        Ok(())
    }

    /// Waits until the relay has no more files open than it had in the beginning; says how many it has.
    fn give_back(&mut self, before: Option<u64>) -> Result<Option<u64>, Trouble> {
        self.progress.phase("waiting for what the relay gives back", 0);
        let began = Instant::now();
        while let Some((now, before)) = self.target.descriptors().zip(before)
            && now > before
            && began.elapsed() < GIVE_BACK_MAX
        {
            self.turn()?;
        }
        Ok(self.target.descriptors())
    }

    /// Enters into the report what was found.
    fn conclude(mut self, report: &mut Report, mut findings: Findings, ended: Result<(), Trouble>) {
        self.progress.finish();
        if let Err(Trouble(line)) = &ended {
            report.failures.push(line.clone());
        }
        findings.close_account(&mut self.crowd, false);
        report.latencies.push(Latency::of("", &self.crowd.latencies));
        findings.tell(report, &self.crowd, &self.series, self.work, ended.is_ok());
        report.series = std::mem::take(&mut self.series.samples);
        if let Some(memory) = &mut report.memory {
            let sampled = report.series.iter().filter_map(|sample| sample.resident_bytes).max();
            memory.peak_bytes = memory.end_bytes.max(sampled.unwrap_or(0));
        }
        report.server_counters = self.target.counters();
        report.tls = self.crowd.agreed.report();
        report.target = self.target.describe();
    }
}
