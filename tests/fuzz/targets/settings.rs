//! Settings: whatever a command line says, the settings hold what they promise, or one line says what is wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{Args, Command, FromArgMatches};
use switchboard::client::Address;
use switchboard::config::Settings;
use switchboard::wire::control::{Hello, Profile};

use super::relay::frames::Got;
use super::relay::world::World;
use crate::dice::Dice;

const NUMBERS: [&str; 18] = [
    "0", "1", "-1", "2", "4095", "4096", "65535", "65536", "1048576", "16777215", "16777216", "16777217",
    "4294967295", "4294967296", "1099511627776", "18446744073709551615", "18446744073709551616", "0.5",
];
const UNITS: [&str; 24] = [
    "", "ns", "us", "ms", "s", "m", "h", "d", "days", "year", "years", "B", "kB", "KB", "KiB", "MiB", "GiB", "TiB",
    "PiB", "EiB", " KiB", " s", "e9", "e400",
];
const WORDS: [&str; 16] = [
    "", "off", "info", "127.0.0.1:1", ":0", ":9999", "[::]:1", "::1", "[::1]", "unix:", "unix:/a", "inf", "NaN", "+1",
    "1h 1s", "٣",
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
    while !dice.is_empty() && arguments.len() < 40 {
        let flag = flags[dice.usize(..flags.len())];
        let value = value(&mut dice);
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
    world.pass(granted);
    assert!(matches!(world.got(ada)[..], [Got::Ping { .. }]), "silent for a keepalive and not asked");
    world.pass(granted);
    world.drain(ada);
    assert!(world.is_closed(ada), "silent for twice the keepalive and not lost");
    let greeting = world.connect();
    world.pass(settings.hello_deadline);
    assert!(world.is_closed(greeting));
    let retry_ms = Duration::from_millis(world.relay.retry_ms().into());
    assert!(retry_ms <= settings.retry_delay * 3 / 2 + Duration::from_millis(1));
}
