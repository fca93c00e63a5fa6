//! The load generator at work: turns of the loop, clients that come at a bounded pace, samples by the clock,
//! and the books before and after what is measured.
//!
//! A scenario is written with these verbs; the rig knows none of them.

use std::time::{Duration, Instant};

use super::books::Mark;
use super::dialect::Dialect;
use super::fleet::Fleet;
use super::process::Process;
use super::progress::Progress;
use super::report::{Arrival, Latency, Memory, Records, Report, Sample, Traffic};
use super::stop::Stop;
use super::target::Target;
use super::units;
use crate::reactor::{Counters, Limits, Reactor};

/// How long clients are connected in a turn: what arrives meanwhile waits, and its latency is measured.
pub(in crate::bench) const CONNECTING_TURN_MAX: Duration = Duration::from_micros(500);
/// Handshakes of TLS that clients take further in a turn, each of which takes a few hundred microseconds: likewise.
pub(in crate::bench) const HANDSHAKES_TURN_MAX: usize = 2;
/// The time between two points of a plot.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// The time between two signs of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Frames are given up for lost when nothing has come for so long, though all were sent.
const SETTLE_SILENCE: Duration = Duration::from_secs(2);
/// The same when bytes come and go, but none of them completes a frame.
const SETTLE_STALL: Duration = Duration::from_mins(1);
/// How long what should not come any more may take to come: frames that were delivered already.
const AFTERMATH: Duration = Duration::from_millis(50);
/// Clients that do not get in are given up when none has for so long: a lost SYN comes again after one second,
/// then after two, then four.
const ARRIVAL_SILENCE: Duration = Duration::from_secs(10);
/// The time between two looks at the server's CPU account: longer than the longest tick at which systems keep it.
const REST_STEP: Duration = Duration::from_millis(12);
/// How long to wait for a server that does not come to rest.
const REST_MAX: Duration = Duration::from_secs(1);
/// One part in so many of a core is rest: heartbeats and bystanders go on.
const REST_SHARE: u32 = 50;
/// With fewer clients the pages that a process gets by chance weigh more than the clients.
const MEMORY_CLIENTS_MIN: u32 = 1000;
/// The longest that a turn waits, so that a stop is noticed.
const TURN_WAIT_MAX: Duration = Duration::from_millis(50);
/// The poll waits for whole milliseconds, rounded up, and wakes a little later than it should.
const POLL_LATENESS: Duration = Duration::from_micros(100);
/// Bytes that may wait here for the server to read them: a server that is slower than what it is sent must not take
/// this machine's memory.
const WAITING_BYTES_MAX: usize = 1 << 30;

/// Why a run ends before its time: one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bench) struct Trouble(pub String);

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rig is told besides the work.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Pace {
    /// Clients that may be on their way in at once: beyond the listen backlog the kernel drops them.
    pub(in crate::bench) in_flight_max: u32,
    /// Bytes of a message that must fit a buffer, protocol included.
    pub(in crate::bench) message_bytes_max: usize,
}

/// The load generator at work.
#[derive(Debug)]
pub(in crate::bench) struct Rig<'a, D> {
    reactor: Reactor,
    /// The clients.
    pub(in crate::bench) fleet: Fleet<D>,
    /// The server.
    pub(in crate::bench) target: &'a mut Target,
    progress: &'a mut Progress,
    stop: &'a Stop,
    pace: Pace,
    /// The second number of the clients' addresses.
    network: u8,
    /// This process, for its own share of a core.
    own: Option<Process>,
    began: Instant,
    samples: Vec<Sample>,
    last: Mark,
    next_sample: Instant,
    next_progress: Instant,
}

impl<'a, D: Dialect> Rig<'a, D> {
    /// A rig that puts `fleet` on `target`.
    ///
    /// # Errors
    /// The system grants no poll.
    pub(in crate::bench) fn new(
        fleet: Fleet<D>,
        target: &'a mut Target,
        progress: &'a mut Progress,
        stop: &'a Stop,
        pace: Pace,
    ) -> Result<Self, Trouble> {
        let limits = Limits {
            connections_max: 0,
            input_bytes_max: pace.message_bytes_max,
            // What waits here waits because the server does not read: it shows in the latencies.
            queue_bytes_max: usize::MAX / 4,
            buffered_total_bytes_max: WAITING_BYTES_MAX,
            write_deadline: Duration::from_hours(1),
            input_deadline: Duration::from_hours(1),
            turn_work_max: usize::MAX,
            handshakes_turn_max: HANDSHAKES_TURN_MAX,
            ..Limits::default()
        };
        let reactor =
            Reactor::new::<Fleet<D>>(limits).map_err(|error| Trouble(format!("the system grants no poll: {error}")))?;
        let now = Instant::now();
        let own = Process::of(std::process::id());
        let last = Mark::now(0, 0, target, own.as_ref());
        Ok(Self {
            reactor,
            fleet,
            target,
            progress,
            stop,
            pace,
            network: 1,
            own,
            began: now,
            samples: Vec::new(),
            last,
            next_sample: now + SAMPLE_INTERVAL,
            next_progress: now,
        })
    }

    /// Runs one turn: waits for at most `wait`, and no longer than to what has to be sent next.
    ///
    /// # Errors
    /// Somebody has asked to stop, the server has gone, or connections broke.
    pub(in crate::bench) fn turn(&mut self, wait: Duration) -> Result<(), Trouble> {
        let wait = self.fleet.wait().map_or(wait, |due| due.min(wait)).min(TURN_WAIT_MAX);
        // What is due before the poll would surely be back is waited for awake.
        let wait = wait.saturating_sub(POLL_LATENESS);
        let wait = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.reactor
            .turn(&mut self.fleet, Some(wait))
            .map_err(|error| Trouble(format!("the poll has failed: {error}")))?;
        if self.fleet.is_full {
            return Err(Trouble(format!(
                "{} MiB wait for the server to read them, and no more are kept: lower --rate, --window or --size",
                WAITING_BYTES_MAX >> 20
            )));
        }
        let now = Instant::now();
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_INTERVAL;
            self.check()?;
        }
        if now >= self.next_sample {
            self.sample(now);
        }
        Ok(())
    }

    /// Whether the run can go on.
    ///
    /// # Errors
    /// See [`Rig::turn`].
    pub(in crate::bench) fn check(&mut self) -> Result<(), Trouble> {
        if self.stop.is_asked() {
            return Err(Trouble("stopped before its time".to_owned()));
        }
        if let Some(line) = self.target.ended() {
            return Err(Trouble(line));
        }
        let broken = self.fleet.census.broken;
        if broken > 0 {
            let why = self.fleet.complaint.clone().unwrap_or_else(|| "for no known reason".to_owned());
            let connections = if broken == 1 { "connection" } else { "connections" };
            return Err(Trouble(format!("{broken} {connections} ended: {why}")));
        }
        Ok(())
    }

    fn sample(&mut self, now: Instant) {
        self.next_sample = now + SAMPLE_INTERVAL;
        let mark = self.mark();
        let traffic = self.last.until(&mark);
        self.last = mark;
        self.samples.push(Sample {
            at_seconds: now.duration_since(self.began).as_secs_f64(),
            clients: self.fleet.census.ready,
            delivered_per_second: traffic.delivered_per_second,
            bytes_per_second: traffic.bytes_per_second,
            resident_bytes: self.target.usage().map(|usage| usage.resident_bytes),
            server_core_share: traffic.server_core_share,
            ..Sample::default()
        });
    }

    /// Begins the connection of a client, which should have happened at `due_ns`.
    ///
    /// # Errors
    /// The system's, in words.
    pub(in crate::bench) fn connect(&mut self, client: u32, due_ns: u64) -> Result<(), Trouble> {
        let conn = self.target.connect(&mut self.reactor, self.network, client).map_err(Trouble)?;
        self.fleet.connected(self.reactor.connections(), client, conn, due_ns);
        Ok(())
    }

    /// Has clients come as in [`Rig::arrive`], and sees what they cost the server until it rests again.
    ///
    /// # Errors
    /// See [`Rig::arrive`].
    pub(in crate::bench) fn connect_all(
        &mut self,
        clients: impl Iterator<Item = u32>,
        total: u32,
    ) -> Result<Arrival, Trouble> {
        let cpu = self.target.cpu();
        let arrival = self.arrive(clients, total)?;
        self.rest()?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(arrival.clients.max(1));
        let spent = self.target.cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        Ok(Arrival { server_cpu_us_per_client: spent.map(each), ..arrival })
    }

    /// Has clients come, as many at once as the pace allows, and waits until all are registered.
    ///
    /// # Errors
    /// See [`Rig::turn`]; or they do not get in.
    pub(in crate::bench) fn arrive(
        &mut self,
        clients: impl Iterator<Item = u32>,
        total: u32,
    ) -> Result<Arrival, Trouble> {
        self.progress.phase("connecting", u64::from(total));
        let mut clients = clients.peekable();
        let began = Instant::now();
        let before = self.fleet.census.arrivals;
        let (mut progressed, mut last) = (began, before);
        while clients.peek().is_some() || self.fleet.census.arriving > 0 {
            let turn = Instant::now();
            while self.fleet.census.arriving < self.pace.in_flight_max
                && turn.elapsed() < CONNECTING_TURN_MAX
                && let Some(client) = clients.next()
            {
                let now_ns = self.fleet.now_ns();
                self.connect(client, now_ns)?;
            }
            let wait = if clients.peek().is_some() { Duration::ZERO } else { TURN_WAIT_MAX };
            self.turn(if self.fleet.census.arriving >= self.pace.in_flight_max { TURN_WAIT_MAX } else { wait })?;
            let now = Instant::now();
            if self.fleet.census.arrivals > last {
                (last, progressed) = (self.fleet.census.arrivals, now);
            } else if now.duration_since(progressed) > ARRIVAL_SILENCE {
                return Err(Trouble(format!(
                    "{} clients wait to be registered, and nothing has come for {} s",
                    self.fleet.census.arriving,
                    ARRIVAL_SILENCE.as_secs()
                )));
            }
            self.progress.set(last - before, "");
        }
        let seconds = began.elapsed().as_secs_f64();
        let arrived = u32::try_from(self.fleet.census.arrivals - before).unwrap_or(u32::MAX);
        if arrived < total {
            let why = self.fleet.complaint.clone().unwrap_or_else(|| "no reason was given".to_owned());
            return Err(Trouble(format!("{arrived} of {total} clients were let in: {why}")));
        }
        Ok(Arrival { clients: arrived, seconds, server_cpu_us_per_client: None })
    }

    /// Has clients that come again come from other addresses: the ports of their last connections are not free
    /// for a minute, and looking for others would take the system longer and longer.
    pub(in crate::bench) const fn change_sources(&mut self) {
        self.network = if self.network == 250 { 1 } else { self.network + 1 };
    }

    /// Lets the flows send.
    pub(in crate::bench) fn start(&mut self) {
        self.fleet.start(self.reactor.connections());
    }

    /// Goes on for `time`, showing `phase` where people look.
    ///
    /// # Errors
    /// See [`Rig::turn`].
    pub(in crate::bench) fn run_for(&mut self, phase: &'static str, time: Duration) -> Result<(), Trouble> {
        let began = Instant::now();
        self.phase(phase, time);
        loop {
            let spent = began.elapsed();
            if spent >= time {
                return Ok(());
            }
            self.turn(time.saturating_sub(spent))?;
            self.show(spent);
        }
    }

    /// Says what is being done now, for so long.
    pub(in crate::bench) fn phase(&mut self, phase: &'static str, time: Duration) {
        self.progress.timed_phase(phase, time);
    }

    /// Says how much of that time has gone.
    pub(in crate::bench) fn show(&mut self, spent: Duration) {
        let rate = self.samples.last().map_or(0.0, |sample| sample.delivered_per_second);
        let rate = std::fmt::from_fn(|f| if rate > 0.0 { f.write_str(&units::rate(rate)) } else { Ok(()) });
        self.progress.set(u64::try_from(spent.as_millis()).unwrap_or(u64::MAX), rate);
    }

    /// Sends nothing new, and waits until it is known what became of every frame, or nothing comes any more.
    ///
    /// # Errors
    /// See [`Rig::turn`].
    pub(in crate::bench) fn settle(&mut self) -> Result<(), Trouble> {
        self.fleet.stop();
        let open = self.fleet.flows.open_copies();
        self.progress.phase("waiting for what is on its way", open);
        let began = Instant::now();
        let (mut last, mut progressed) = (open, began);
        let (mut bytes_last, mut moved) = (0, began);
        while last > 0 && moved.elapsed() < SETTLE_SILENCE && progressed.elapsed() < SETTLE_STALL {
            self.turn(TURN_WAIT_MAX)?;
            let (open_now, now) = (self.fleet.flows.open_copies(), Instant::now());
            let io = self.reactor.connections();
            let bytes_now = io.counters().read_bytes + io.counters().written_bytes;
            // A large frame on a slow line. Heartbeats come whole, and are no sign that anything is on its way.
            if io.buffered_total_bytes() > 0 && bytes_now != bytes_last {
                moved = now;
            }
            if open_now != last {
                (progressed, moved) = (now, now);
            }
            (last, bytes_last) = (open_now, bytes_now);
            self.progress.set(open.saturating_sub(open_now), "");
        }
        let began = Instant::now();
        while began.elapsed() < AFTERMATH {
            self.turn(AFTERMATH)?;
        }
        Ok(())
    }

    /// Notes where the books stand.
    #[must_use]
    pub(in crate::bench) fn mark(&self) -> Mark {
        let flows = &self.fleet.flows;
        let mark = Mark::now(flows.delivered(), flows.payload_bytes(), self.target, self.own.as_ref());
        mark.with_records(records(self.reactor.counters()))
    }

    /// What was passed on since a mark.
    #[must_use]
    pub(in crate::bench) fn since(&self, mark: &Mark) -> Traffic {
        mark.until(&self.mark())
    }

    /// Lets the scenario do something to connections.
    pub(in crate::bench) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Fleet<D>, &mut crate::reactor::Connections) -> R,
    ) -> R {
        act(&mut self.fleet, self.reactor.connections())
    }

    /// Goes on until the server rests, so that the work of a burst is counted whole, but no longer than a second.
    ///
    /// # Errors
    /// See [`Rig::turn`].
    pub(in crate::bench) fn rest(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        let (mut looked, mut before) = (began, self.target.cpu());
        while let Some(cpu) = before
            && began.elapsed() < REST_MAX
        {
            while looked.elapsed() < REST_STEP {
                self.turn(REST_STEP)?;
            }
            let (now, after) = (Instant::now(), self.target.cpu());
            let spent = after.unwrap_or(cpu).saturating_sub(cpu);
            if spent * REST_SHARE <= now.duration_since(looked) {
                break;
            }
            (looked, before) = (now, after);
        }
        Ok(())
    }

    /// The server's resident memory, once it rests.
    ///
    /// # Errors
    /// See [`Rig::turn`].
    pub(in crate::bench) fn resident_bytes(&mut self) -> Result<Option<u64>, Trouble> {
        self.rest()?;
        Ok(self.target.usage().map(|usage| usage.resident_bytes))
    }

    /// Enters into a report what every scenario has: the account, and how it went over time.
    ///
    /// `is_whole` says whether it ended as it should: otherwise what is open was on its way, and is not lost.
    pub(in crate::bench) fn conclude(mut self, report: &mut Report, is_whole: bool) {
        self.progress.finish();
        let parts = self.fleet.parts.iter().map(|part| Latency::of(part.name, &part.latencies));
        report.latencies.splice(0..0, parts);
        report.account = self.fleet.flows.account();
        if !is_whole {
            report.account.open = std::mem::take(&mut report.account.lost);
        }
        report.series = std::mem::take(&mut self.samples);
        if let Some(memory) = &mut report.memory {
            let sampled = report.series.iter().filter_map(|sample| sample.resident_bytes).max();
            memory.peak_bytes = memory.end_bytes.max(sampled.unwrap_or(0));
        }
        report.tls = self.fleet.agreed.report();
        report.target = self.target.describe();
    }
}

/// What has passed in records of TLS: all connections have it, or none.
fn records(counters: &Counters) -> Records {
    if counters.records_sealed + counters.records_opened == 0 {
        return Records::default();
    }
    Records {
        to_server: counters.records_sealed,
        to_server_bytes: counters.written_bytes,
        from_server: counters.records_opened,
        from_server_bytes: counters.opened_bytes,
    }
}

/// The memory of `clients` registered ones, from what was resident before and after they came.
#[must_use]
pub(in crate::bench) fn memory(before_bytes: u64, registered_bytes: u64, end_bytes: u64, clients: u32) -> Memory {
    let is_plain = clients >= MEMORY_CLIENTS_MIN && registered_bytes > before_bytes;
    let grown = lossy(registered_bytes) - lossy(before_bytes);
    Memory {
        before_bytes,
        registered_bytes,
        end_bytes,
        peak_bytes: end_bytes,
        per_connection_bytes: is_plain.then(|| grown / f64::from(clients)),
    }
}

/// A count as a number to reckon with: exact up to 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
pub(in crate::bench) const fn lossy(count: u64) -> f64 {
    count as f64
}
