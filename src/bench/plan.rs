//! What a load test is asked to do: the checks that turn what somebody wrote into [`Work`].
//!
//! What it does not do: it reads no command line and looks at no machine; that is for the command, and for
//! [`machine`](super::machine).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::parameter::{Parameter, SIZE_DEFAULT};
use super::payload::STAMP_BYTES;
use super::scenario::{Scenario, Work};
use super::soak::Groups;
use crate::wire::{HEADER_BYTES, Id, PAYLOAD_BYTES_CEILING, PAYLOAD_BYTES_DEFAULT};

/// Clients on their way in at once, where nothing else is asked for: a quarter of the relay's backlog, so
/// that none is dropped by the system and comes again a second later.
pub const IN_FLIGHT_DEFAULT: u32 = 1000;
/// What a relay's backlog can be at most.
const IN_FLIGHT_MAX: u32 = 65_535;
/// More outstanding frames than this wait in the load generator itself.
const WINDOW_MAX: u32 = 65_536;
/// Neither a relay nor this program is near it: what is larger is a slip.
const RATE_MAX: f64 = 1e8;
/// What is longer is a slip.
const TIME_MAX: Duration = Duration::from_hours(7 * 24);
/// The relay's deadlines have a grain that a shorter keepalive would feel.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// What the relay of one's own has unless more is needed.
const QUEUE_BYTES: u64 = 1024 * 1024;
const QUEUE_RESERVE_BYTES: u64 = 256 * 1024;
const BUFFERED_TOTAL_BYTES: u64 = 256 * 1024 * 1024;
/// What its settings take at most: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
const BACKLOG: u32 = 4096;
const ROOMS_MAX: u32 = 100_000;
const MEMBERS_MAX: u32 = 100_000;
const KEEPALIVE_MAX: Duration = Duration::from_mins(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// What somebody asked for; what is `None` has its default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wishes {
    /// See [`Parameter::Connections`].
    pub connections: Option<u32>,
    /// See [`Parameter::Rooms`].
    pub rooms: Option<u32>,
    /// See [`Parameter::Stuck`].
    pub stuck: Option<u32>,
    /// See [`Parameter::Size`].
    pub size: Option<usize>,
    /// See [`Parameter::Window`].
    pub window: Option<u32>,
    /// See [`Parameter::Rate`].
    pub rate: Option<f64>,
    /// See [`Parameter::Seconds`], where the scenario has that.
    pub time: Option<Duration>,
    /// See [`Parameter::Minutes`], where the scenario has that.
    pub minutes: Option<Duration>,
    /// See [`Parameter::Warmup`]; may be zero.
    pub warmup: Option<Duration>,
    /// The keepalive that the clients ask for; the relay's own if they do not.
    pub keepalive: Option<Duration>,
    /// Clients on their way in at once.
    pub in_flight: Option<u32>,
}

impl Wishes {
    fn has(&self, parameter: Parameter) -> bool {
        match parameter {
            Parameter::Connections => self.connections.is_some(),
            Parameter::Rooms => self.rooms.is_some(),
            Parameter::Stuck => self.stuck.is_some(),
            Parameter::Size => self.size.is_some(),
            Parameter::Window => self.window.is_some(),
            Parameter::Rate => self.rate.is_some(),
            Parameter::Warmup => self.warmup.is_some(),
            Parameter::Seconds => self.time.is_some(),
            Parameter::Minutes => self.minutes.is_some(),
        }
    }
}

/// A load test whose numbers make sense together.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What is done.
    pub work: Work,
    /// The keepalive that the clients ask for.
    pub keepalive: Option<Duration>,
}

impl Plan {
    /// Fills in the defaults of `scenario`, and checks all numbers.
    ///
    /// # Errors
    /// One line that says what to change.
    pub fn new(scenario: Scenario, wishes: &Wishes) -> Result<Self, String> {
        if let Some(extra) = Parameter::ALL.into_iter().find(|one| wishes.has(*one) && scenario.offer(*one).is_none()) {
            let has: Vec<_> = scenario.offers().iter().map(|offer| format!("--{}", offer.parameter.name())).collect();
            return Err(format!(
                "--{} has no meaning in {}: leave it out; there are {}",
                extra.name(),
                scenario.name(),
                has.join(" ")
            ));
        }
        let default = |parameter| scenario.offer(parameter).map(|offer| offer.default);
        let count = |wish: Option<u32>, parameter| wish.or(default(parameter)).unwrap_or(0);
        let seconds = |parameter| Duration::from_secs(u64::from(default(parameter).unwrap_or(0)));
        let work = Work {
            scenario,
            connections: count(wishes.connections, Parameter::Connections),
            // Bystanders, where a scenario has them, send short messages too.
            size: wishes.size.unwrap_or(default(Parameter::Size).unwrap_or(SIZE_DEFAULT) as usize),
            window: wishes.window.or(default(Parameter::Window)).unwrap_or(1),
            rate: wishes.rate.or(default(Parameter::Rate).map(f64::from)).unwrap_or(0.0),
            rooms: count(wishes.rooms, Parameter::Rooms),
            stuck: count(wishes.stuck, Parameter::Stuck),
            warmup: wishes.warmup.unwrap_or(seconds(Parameter::Warmup)),
            time: wishes
                .time
                .or(wishes.minutes)
                .unwrap_or(seconds(Parameter::Seconds) + 60 * seconds(Parameter::Minutes)),
            in_flight_max: wishes.in_flight.unwrap_or(IN_FLIGHT_DEFAULT),
        };
        check_numbers(&work, wishes.keepalive)?;
        check_groups(&work)?;
        Ok(Self { work, keepalive: wishes.keepalive })
    }

    /// What a relay of one's own must be told to take this load: what is beyond its defaults.
    #[must_use]
    pub fn relay_arguments(&self) -> Vec<String> {
        let work = &self.work;
        let mut arguments = Vec::new();
        let mut say = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
        if work.scenario == Scenario::Soak {
            // Its counters are asked for at the end, and it says them in its log.
            say("log-level", "info".to_owned());
        }
        if work.size > PAYLOAD_BYTES_DEFAULT as usize {
            say("payload-max", work.size.to_string());
        }
        // What a recipient has outstanding may wait for it all at once.
        let waiting = (work.size + HEADER_BYTES) as u64 * (u64::from(work.window) + 1);
        let queue = waiting.clamp(QUEUE_BYTES, BYTES_MAX / 2);
        if queue > QUEUE_BYTES {
            say("queue-max", queue.to_string());
        }
        let total = waiting.saturating_mul(u64::from(work.connections)).saturating_add(queue + QUEUE_RESERVE_BYTES);
        if total > BUFFERED_TOTAL_BYTES {
            say("buffered-total-max", total.min(BYTES_MAX).to_string());
        }
        if work.in_flight_max > BACKLOG {
            say("backlog", work.in_flight_max.to_string());
        }
        if work.rooms > ROOMS_MAX {
            say("rooms-max", work.rooms.to_string());
        }
        // Everybody is a room, too.
        if work.clients() > MEMBERS_MAX {
            say("members-max", work.clients().to_string());
        }
        // Those who are stuck for as long as it is measured are to be there when they read on.
        let stuck = work.time.saturating_add(WRITE_DEADLINE / 2);
        if work.scenario == Scenario::Slow && stuck > WRITE_DEADLINE {
            say("write-deadline", format!("{}s", stuck.as_secs() + 1));
        }
        if let Some(time) = self.keepalive.filter(|time| *time > KEEPALIVE_MAX) {
            say("keepalive-max", format!("{}s", time.as_secs() + 1));
        }
        arguments
    }
}

/// Holds every number against its own bounds.
fn check_numbers(work: &Work, keepalive: Option<Duration>) -> Result<(), String> {
    let has = |parameter| work.scenario.offer(parameter).is_some();
    within("--connections", work.connections, 1..=Id::INDEX_MAX as u32 - 2)?;
    if has(Parameter::Window) {
        within("--window", work.window, 1..=WINDOW_MAX)?;
    }
    within("--in-flight", work.in_flight_max, 1..=IN_FLIGHT_MAX)?;
    if work.size < STAMP_BYTES {
        return Err(format!(
            "--size {} is too small: give at least {STAMP_BYTES} bytes, which a frame's stamp takes",
            work.size
        ));
    }
    if work.size > PAYLOAD_BYTES_CEILING as usize {
        return Err(format!("--size {} is too large: no relay takes payloads beyond 16MiB", work.size));
    }
    if has(Parameter::Rate) && !(work.rate > 0.0 && work.rate <= RATE_MAX) {
        return Err(format!("--rate {} must be above 0 and at most {RATE_MAX} a second", work.rate));
    }
    if work.time.is_zero() || work.time > TIME_MAX {
        let seconds = work.time.as_secs_f64();
        let (flag, time) = if has(Parameter::Minutes) { ("--minutes", seconds / 60.0) } else { ("--seconds", seconds) };
        return Err(format!("{flag} {time} must be above 0 and at most a week"));
    }
    if work.warmup > TIME_MAX {
        return Err(format!("--warmup {} must be at most a week", work.warmup.as_secs_f64()));
    }
    match keepalive {
        Some(time) if !KEEPALIVE.contains(&time) => {
            Err(format!("--keepalive {} must be at least 1 second and at most a day", time.as_secs_f64()))
        }
        _ => Ok(()),
    }
}

/// Holds the numbers of clients, rooms and stuck recipients against one another.
fn check_groups(work: &Work) -> Result<(), String> {
    let (connections, rooms, stuck) = (work.connections, work.rooms, work.stuck);
    if work.scenario.is_paired() && !connections.is_multiple_of(2) {
        let fewer = if connections > 2 { format!("{} or ", connections - 1) } else { String::new() };
        let more = connections + 1;
        return Err(format!("--connections {connections} must be even, as each has a partner: give {fewer}{more}"));
    }
    match work.scenario {
        Scenario::Fanout if connections < 2 => {
            Err("--connections 1 leaves nobody to send to: give at least 2".to_owned())
        }
        Scenario::Fanout if rooms > 1 => {
            Err(format!("--rooms {rooms} is for the scenario rooms: in fanout give 0 (everybody) or 1 (a room)"))
        }
        Scenario::Rooms if rooms == 0 => Err("--rooms 0 leaves no room to send to: give at least 1".to_owned()),
        Scenario::Rooms if u64::from(connections) < 2 * u64::from(rooms) => Err(format!(
            "--rooms {rooms} leaves rooms without a recipient: give at most {} or at least --connections {}",
            connections / 2,
            2 * u64::from(rooms)
        )),
        Scenario::Slow if stuck == 0 => Err("--stuck 0 leaves nobody to be slow: give at least 1".to_owned()),
        Scenario::Slow if u64::from(connections) < 2 * u64::from(stuck) + 2 => Err(format!(
            "--stuck {stuck}, and those that send to them, leave no pair undisturbed: give at least --connections {}",
            2 * u64::from(stuck) + 2
        )),
        Scenario::Soak => Groups::check(work),
        _ => Ok(()),
    }
}

fn within(flag: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{flag} {value} must lie between {} and {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(scenario: Scenario, wishes: Wishes) -> String {
        Plan::new(scenario, &wishes).expect_err("it makes no sense")
    }

    #[test]
    fn every_scenario_makes_sense_by_default_and_says_what_its_numbers_are() {
        for scenario in Scenario::ALL {
            let plan = Plan::new(scenario, &Wishes::default()).expect("it makes sense");
            for offer in scenario.offers() {
                assert_eq!(scenario.offer(offer.parameter).map(|it| it.default), Some(offer.default), "told once");
                assert!(!offer.help.ends_with('.'), "{}", offer.help);
            }
            let time = if scenario == Scenario::Soak { Parameter::Minutes } else { Parameter::Seconds };
            for always in [Parameter::Connections, time] {
                assert!(scenario.offer(always).is_some(), "{} needs {}", scenario.name(), always.name());
            }
            assert!(plan.work.time > Duration::ZERO);
            let arguments = plan.relay_arguments().join(" ");
            match scenario {
                Scenario::File => assert!(arguments.starts_with("--queue-max"), "{arguments}"),
                Scenario::Soak => assert_eq!(arguments, "--log-level info"),
                _ => assert_eq!(arguments, ""),
            }
        }
    }

    #[test]
    fn what_has_no_meaning_in_a_scenario_is_refused() {
        let with = |parameter| match parameter {
            Parameter::Connections => Wishes { connections: Some(10), ..Wishes::default() },
            Parameter::Rooms => Wishes { rooms: Some(1), ..Wishes::default() },
            Parameter::Stuck => Wishes { stuck: Some(1), ..Wishes::default() },
            Parameter::Size => Wishes { size: Some(64), ..Wishes::default() },
            Parameter::Window => Wishes { window: Some(2), ..Wishes::default() },
            Parameter::Rate => Wishes { rate: Some(5.0), ..Wishes::default() },
            Parameter::Warmup => Wishes { warmup: Some(Duration::ZERO), ..Wishes::default() },
            Parameter::Seconds => Wishes { time: Some(Duration::from_secs(1)), ..Wishes::default() },
            Parameter::Minutes => Wishes { minutes: Some(Duration::from_secs(1)), ..Wishes::default() },
        };
        for scenario in Scenario::ALL {
            for parameter in Parameter::ALL {
                let mut wishes = with(parameter);
                wishes.connections = wishes.connections.or(Some(100));
                if scenario == Scenario::Rooms {
                    wishes.rooms = wishes.rooms.or(Some(2));
                }
                let planned = Plan::new(scenario, &wishes);
                if scenario.offer(parameter).is_some() {
                    // Ten clients are too few for the rooms or the stuck by default.
                    assert!(planned.is_ok() || parameter == Parameter::Connections, "{planned:?}");
                } else {
                    let line = planned.expect_err("no meaning");
                    assert!(line.contains(parameter.name()) && line.contains("leave it out"), "{line}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_in_one_line_with_what_to_change() {
        use Scenario::{Churn, Fanout, File, Idle, Pairs, Rate, Rooms, Slow, Storm};
        let none = Wishes::default();
        let connections = |count| Wishes { connections: Some(count), ..none };
        let size = |bytes| Wishes { size: Some(bytes), ..none };
        let time = |seconds| Wishes { time: Some(Duration::from_secs(seconds)), ..none };
        let rate = |rate| Wishes { rate: Some(rate), ..none };
        for (scenario, wishes, says) in [
            (Pairs, connections(101), "--connections 101 must be even, as each has a partner: give 100 or 102"),
            (Rate, connections(1), "partner: give 2"),
            (File, connections(7), "give 6 or 8"),
            (Slow, connections(13), "give 12 or 14"),
            (Pairs, connections(0), "--connections 0 must lie between 1 and"),
            (Idle, connections(1 << 24), "--connections 16777216 must lie between 1 and 16777213"),
            (Storm, connections(u32::MAX), "must lie between"),
            (Pairs, size(15), "--size 15 is too small: give at least 16 bytes"),
            (File, size((16 << 20) + 1), "--size 16777217 is too large"),
            (Pairs, Wishes { window: Some(0), ..none }, "--window 0 must lie between 1 and 65536"),
            (Pairs, Wishes { window: Some(65_537), ..none }, "--window 65537 must lie"),
            (Rate, rate(0.0), "--rate 0 must be above 0"),
            (Churn, rate(-1.0), "--rate -1 must be above 0"),
            (Rate, rate(f64::NAN), "--rate NaN must be above 0"),
            (Rate, rate(f64::INFINITY), "--rate inf must be above 0"),
            (Idle, time(0), "--seconds 0 must be above 0"),
            (Idle, time(604_801), "--seconds 604801 must be above 0 and at most a week"),
            (Pairs, Wishes { warmup: Some(Duration::MAX), ..none }, "--warmup"),
            (Fanout, connections(1), "nobody to send to: give at least 2"),
            (Fanout, Wishes { rooms: Some(2), ..none }, "--rooms 2 is for the scenario rooms"),
            (Rooms, Wishes { rooms: Some(0), ..none }, "give at least 1"),
            (Rooms, Wishes { rooms: Some(501), ..none }, "give at most 500 or at least --connections 1002"),
            (Rooms, Wishes { rooms: Some(u32::MAX), ..none }, "give at most 500"),
            (Slow, Wishes { stuck: Some(0), ..none }, "nobody to be slow"),
            (Slow, Wishes { stuck: Some(50), ..none }, "give at least --connections 102"),
            (Slow, Wishes { stuck: Some(u32::MAX), ..none }, "give at least --connections 8589934592"),
            (Idle, Wishes { in_flight: Some(0), ..none }, "--in-flight 0 must lie between 1 and 65535"),
            (
                Idle,
                Wishes { keepalive: Some(Duration::from_millis(999)), ..none },
                "--keepalive 0.999 must be at least",
            ),
        ] {
            let line = line(scenario, wishes);
            assert!(line.contains(says) && line.lines().count() == 1, "{}: {line}", scenario.name());
        }
    }

    #[test]
    fn a_relay_of_ones_own_is_told_what_is_beyond_its_defaults() {
        let plan = |scenario, wishes| Plan::new(scenario, &wishes).expect("it makes sense").relay_arguments().join(" ");
        let none = Wishes::default();
        assert_eq!(
            plan(Scenario::Pairs, Wishes { size: Some(1 << 20), window: Some(3), ..none }),
            "--payload-max 1048576 --queue-max 4194416 --buffered-total-max 423898160"
        );
        assert_eq!(
            plan(Scenario::Idle, Wishes { in_flight: Some(5000), keepalive: Some(Duration::from_hours(1)), ..none }),
            "--backlog 5000 --keepalive-max 3601s"
        );
        assert_eq!(plan(Scenario::Slow, Wishes { time: Some(Duration::from_mins(1)), ..none }), "--write-deadline 76s");
        let largest = Wishes { size: Some(16 << 20), window: Some(65_536), connections: Some(1_000_000), ..none };
        assert!(plan(Scenario::Pairs, largest).contains("--buffered-total-max 1099511627776"));
    }
}
