//! Settings: whatever a command line says, the settings hold what they promise, or one line says what is wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use switchboard::bench::{Parameter, Plan, Scenario, Wishes};
use switchboard::client::Address;
use switchboard::config::Settings;
use switchboard::wire::control::{Hello, Profile};

use super::relay::frames::Got;
use super::relay::world::World;
use crate::dice::Dice;

const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "2",
    "4095",
    "4096",
    "65535",
    "65536",
    "1048576",
    "16777215",
    "16777216",
    "16777217",
    "4294967295",
    "4294967296",
    "1099511627776",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
];
const UNITS: [&str; 24] = [
    "", "ns", "us", "ms", "s", "m", "h", "d", "days", "year", "years", "B", "kB", "KB", "KiB", "MiB", "GiB", "TiB",
    "PiB", "EiB", " KiB", " s", "e9", "e400",
];
const WORDS: [&str; 16] = [
    "",
    "off",
    "info",
    "127.0.0.1:1",
    ":0",
    ":9999",
    "[::]:1",
    "::1",
    "[::1]",
    "unix:",
    "unix:/a",
    "inf",
    "NaN",
    "+1",
    "1h 1s",
    "٣",
];
const YEAR: Duration = Duration::from_hours(8766);

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    if dice.u8(..4) == 0 {
        return check_commands(&mut dice);
    }
    let mut arguments = vec!["serve".to_owned()];
    let command = Settings::augment_args(Command::new("serve"));
    let flags: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    // The last size that was given, which others are often near.
    let mut size = 4_096_u64;
    while !dice.is_empty() && arguments.len() < 40 {
        let flag = flags[dice.usize(..flags.len())];
        let value = match dice.u8(..4) {
            0 => size.saturating_mul(dice.u64(1..3)).saturating_add(dice.u64(..64)).to_string(),
            _ => value(&mut dice),
        };
        size = value.parse().unwrap_or(size);
        // Whatever else stands there would be looked up in the network.
        if flag == "listen" && !is_numeric(&value) {
            continue;
        }
        arguments.push(format!("--{flag}"));
        if flag != "log-frames" {
            arguments.push(value);
        }
    }
    let settings = match command.try_get_matches_from(&arguments) {
        Ok(matches) => Settings::from_arg_matches(&matches).expect("what was matched is there"),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Format);
            return assert!(error.to_string().starts_with("error: "), "{error}");
        }
    };
    match settings.validate() {
        Ok(()) => check(&settings, &mut Dice::given(input)),
        Err(line) => assert!(!line.is_empty() && !line.contains('\n'), "{line:?}"),
    }
}

fn value(dice: &mut Dice) -> String {
    match dice.u8(..8) {
        0 => String::from_utf8_lossy(&{
            let count = dice.usize(..20);
            dice.bytes(count)
        })
        .into_owned(),
        1 => dice.choice(WORDS).unwrap_or_default().to_owned(),
        2 => format!("{}{}", dice.u64(..), dice.choice(UNITS).unwrap_or_default()),
        3 => format!("{}{}", dice.u64(..5_000), dice.choice(UNITS).unwrap_or_default()),
        _ => format!("{}{}", dice.choice(NUMBERS).unwrap_or_default(), dice.choice(UNITS).unwrap_or_default()),
    }
}

fn is_numeric(endpoint: &str) -> bool {
    let prefixes = ["unix:", ":", "[::]:"];
    prefixes.iter().any(|prefix| endpoint.starts_with(prefix))
        || endpoint.parse::<SocketAddr>().is_ok()
        || endpoint.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// What every setting says of itself, and what those promise together; then a relay that is told so.
fn check(settings: &Settings, dice: &mut Dice) {
    const MIB: usize = 1 << 20;
    const TIB: usize = MIB << 20;
    let Settings { payload_max, queue_max, queue_reserve, buffered_total_max, .. } = *settings;
    assert!((4_096..=16 * MIB).contains(&payload_max));
    assert!(payload_max + 28 <= queue_max && queue_max <= TIB);
    assert!((2 * 1024 * 120..=TIB).contains(&queue_reserve));
    assert!(queue_max + queue_reserve <= buffered_total_max && buffered_total_max <= TIB);
    assert!((16 << 10..=1 << 30).contains(&settings.unsent_max));
    assert!((1..=65_535).contains(&settings.backlog));
    assert!((1..=1024).contains(&settings.rooms_per_client_max));
    for count in [settings.accepts_turn_max, settings.rooms_max, settings.members_max] {
        assert!((1..1 << 24).contains(&count));
    }
    assert!(settings.connections_max.is_none_or(|count| (1..1 << 24).contains(&count)));
    for time in [
        settings.hello_deadline,
        settings.frame_deadline,
        settings.write_deadline,
        settings.keepalive_max,
        settings.linger,
        settings.drain_deadline,
        settings.retry_delay,
    ] {
        assert!(Duration::ZERO < time && time <= YEAR);
    }
    assert!(Duration::from_secs(1) <= settings.keepalive_min);
    assert!(settings.keepalive_min <= settings.keepalive && settings.keepalive <= settings.keepalive_max);
    assert!((1..=i32::MAX as u128).contains(&settings.user_timeout.as_millis()));
    assert!(settings.stats_interval.is_none_or(|time| Duration::from_millis(100) <= time && time <= YEAR));
    let limits = settings.reactor_limits();
    assert!(limits.input_bytes_max >= payload_max + 28);
    assert!(limits.buffered_total_bytes_max >= limits.queue_bytes_max + limits.queue_reserve_bytes);
    assert_eq!(settings.relay().payload_bytes_max as usize, payload_max);
    check_relay(settings, dice);
}

/// A client of such a relay is granted what the settings say, asked for a sign of life in time, and lost in time.
fn check_relay(settings: &Settings, dice: &mut Dice) {
    let mut world = World::new(settings.relay());
    let wish = dice.bool().then(|| dice.u32(..));
    let keepalive = dice.bool().then(|| dice.u32(..));
    let ada = world.connect();
    world.say(ada, &Hello { payload_bytes_max: wish, keepalive_ms: keepalive, ..Hello::new(Profile::named("ada")) });
    let [Got::Welcome { payload_bytes_max, keepalive_ms, .. }] = world.got(ada)[..] else { panic!("no WELCOME") };
    assert!(payload_bytes_max >= 4_096 && payload_bytes_max as usize <= settings.payload_max);
    assert!(wish.is_none_or(|wish| payload_bytes_max <= wish.max(4_096)));
    let wished = keepalive.map_or(settings.keepalive, |ms| Duration::from_millis(ms.into()));
    let granted = wished.clamp(settings.keepalive_min, settings.keepalive_max);
    let granted = Duration::from_millis(granted.as_millis().min(u32::MAX.into()) as u64);
    assert_eq!(Duration::from_millis(keepalive_ms.into()), granted);
    // Deadlines have a grain.
    let soon = granted + Duration::from_millis(100);
    world.pass(soon);
    assert!(matches!(world.got(ada)[..], [Got::Ping { .. }]), "silent for a keepalive and not asked");
    world.pass(soon);
    world.drain(ada);
    assert!(world.is_closed(ada), "silent for twice the keepalive and not lost");
    let greeting = world.connect();
    world.pass(settings.hello_deadline);
    assert!(world.is_closed(greeting));
    let retry_ms = Duration::from_millis(world.relay.retry_ms().into());
    assert!(retry_ms <= settings.retry_delay * 3 / 2 + Duration::from_millis(1));
}

/// The command line of every subcommand: what it takes for a time, a name or an address is one.
fn check_commands(dice: &mut Dice) {
    let command = switchboard::cli::command();
    let mut arguments = vec!["switchboard".to_owned()];
    let mut at = &command;
    while !dice.is_empty() && arguments.len() < 20 {
        let below: Vec<&Command> = at.get_subcommands().collect();
        if !below.is_empty() && dice.u8(..16) > 0 {
            at = below[dice.usize(..below.len())];
            arguments.push(at.get_name().to_owned());
            continue;
        }
        let flags: Vec<_> = at.get_arguments().filter(|argument| argument.get_long() != Some("listen")).collect();
        let Some(argument) = dice.choice(flags) else { break };
        arguments.extend(argument.get_long().map(|flag| format!("--{flag}")));
        if argument.get_action().takes_values() {
            arguments.push(value(dice));
        }
    }
    let mut matches = match command.clone().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    while let Some((name, below)) = matches.remove_subcommand() {
        matches = below;
        if let Some(scenario) = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name) {
            check_plan(scenario, &matches);
        }
        for id in matches.ids().map(|id| id.as_str().to_owned()).collect::<Vec<_>>() {
            if let Ok(Some(time)) = matches.try_get_one::<Duration>(&id)
                && !arguments.iter().any(|argument| argument == "bench")
            {
                // What is waited for ends at a point that a clock can hold.
                assert!(Instant::now().checked_add(*time).is_some(), "--{id} {time:?} is longer than any clock");
            }
            if let Ok(Some(names)) = matches.try_get_many::<String>(&id)
                && matches!(&*id, "to" | "room")
            {
                names.for_each(|name| assert!(switchboard::wire::is_valid_name(name), "{name:?}"));
            }
            if let Ok(Some(address)) = matches.try_get_one::<Address>(&id) {
                assert_eq!(address.to_string().parse(), Ok(address.clone()));
            }
        }
    }
}

/// A load test whose numbers make sense asks for a relay that can be had.
fn check_plan(scenario: Scenario, matches: &ArgMatches) {
    let count = |id: Parameter| matches.try_get_one::<u32>(id.name()).ok().flatten().copied();
    let time = |id: Parameter| matches.try_get_one::<Duration>(id.name()).ok().flatten().copied();
    let wishes = Wishes {
        connections: count(Parameter::Connections),
        rooms: count(Parameter::Rooms),
        stuck: count(Parameter::Stuck),
        size: matches.try_get_one(Parameter::Size.name()).ok().flatten().copied(),
        window: count(Parameter::Window),
        rate: matches.try_get_one(Parameter::Rate.name()).ok().flatten().copied(),
        time: time(Parameter::Seconds),
        warmup: time(Parameter::Warmup),
        ..Wishes::default()
    };
    let plan = match Plan::new(scenario, &wishes) {
        Ok(plan) => plan,
        Err(line) => return assert!(!line.is_empty() && !line.contains('\n'), "{line:?}"),
    };
    assert!(plan.work.time + plan.work.warmup <= YEAR && !plan.work.time.is_zero());
    let arguments = plan.relay_arguments();
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    let matches = command.try_get_matches_from(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let settings = Settings::from_arg_matches(&matches).expect("what was matched is there");
    assert_eq!(settings.validate(), Ok(()), "{arguments:?}");
}
