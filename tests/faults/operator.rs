//! What happens to the relay's process: no descriptors, a log that is not taken, a clock that is moved, its end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use switchboard::bench::Process;
use switchboard::wire::control::{Body, ErrorBody, Hello, Profile, Welcome};
use switchboard::wire::{Code, Header, Type};

use crate::bystanders::client_with_keepalive;
use crate::crowd::{Crowd, source};
use crate::relay::Start;
use crate::scene::{Ending, Scene, Size};
use crate::support::RawClient;

/// The descriptors run out under the relay's feet: those who come are told, those who are there stay.
pub(crate) fn descriptors(scene: &mut Scene) {
    let pid = Pid::from_raw(scene.relay.pid().cast_signed()).expect("a process");
    let open = Process::of(scene.relay.pid()).and_then(|process| process.descriptors()).expect("they are counted");
    let room = 30;
    let few = Rlimit { current: Some(open + room), maximum: None };
    let before = prlimit(Some(pid), Resource::Nofile, Rlimit { maximum: hard_limit(pid), ..few }).expect("it is ours");
    let (mut refused, mut welcomed) = (0_u64, Vec::new());
    let cpu = scene.relay.cpu();
    let mut number = 0;
    while scene.goes_on() || number < scene.size.of(60, 200) {
        let name = format!("one too many {number}");
        let mut client = RawClient::greet(scene.relay.address, &Hello::new(Profile::named(&name)), source(number));
        number += 1;
        // The answer can be overtaken by the reset that unread bytes provoke: then the end of the stream says it.
        match client.try_frame() {
            Ok((header, payload)) if header.frame_type() == Some(Type::Welcome) => {
                client.id = Welcome::parse(&payload).expect("a WELCOME").client;
                welcomed.push(client);
            }
            Ok((_, payload)) => {
                assert_eq!(ErrorBody::parse(&payload).expect("an ERROR").0.code(), Some(Code::DescriptorsOut));
                refused += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(welcomed.len() as u64 <= room + 1 && refused > 0, "{} welcomed, {refused} refused", welcomed.len());
    let (busy, lasted) = (scene.relay.cpu().saturating_sub(cpu), scene.lasted());
    let counted = scene.relay.counters().total("not let in");
    assert_eq!(counted, refused, "each that was refused is counted");
    // Nothing happens, and it does not spin; its share is that of the bystanders.
    let (idle_from, idle_cpu) = (Instant::now(), scene.relay.cpu());
    scene.bystanders.go_on(100);
    let share = (scene.relay.cpu().saturating_sub(idle_cpu)).as_secs_f64() / idle_from.elapsed().as_secs_f64();
    assert!(share < 0.9, "it uses {share} of a core for nothing");
    // Who leaves makes room again, also with the limit as it is.
    drop(welcomed);
    while scene.relay.counters().total("connections") > open {
        std::thread::yield_now();
    }
    let mut again = RawClient::greet(scene.relay.address, &Hello::new(Profile::named("again")), Ipv4Addr::LOCALHOST);
    again.welcomed();
    prlimit(Some(pid), Resource::Nofile, before).expect("it is ours");
    scene.note(format!(
        "{number} came for {room} descriptors: {refused} × OUT_OF_DESCRIPTORS, {busy:.1?} of CPU in {lasted:.1?}"
    ));
}

fn hard_limit(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).expect("procfs");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(4).and_then(|word| word.parse().ok())
}

/// A folder of the fault's own: where its process keeps what is temporary is gone with it.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join("switchboard-fault");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

pub(crate) fn every_frame_unread(_: Size) -> Start {
    Start { is_log_unread: true, ..Start::with(&["--log-frames"]) }
}

/// Standard error is a pipe that nobody reads, and every frame is logged.
pub(crate) fn log_stalled(scene: &mut Scene) {
    // A pipe holds 64 KiB: some hundred lines, and they are told of in the first line after.
    scene.bystanders.go_on(scene.size.of(400, 4000));
    scene.fill();
    scene.relay.read_log();
    let line = scene.relay.log_line("lines are missing here");
    let missing = line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).unwrap_or(0);
    assert!(missing > 0, "{line}");
    scene.note(format!("{missing} lines lost, and said so when somebody read again"));
}

pub(crate) fn to_a_full_device(_: Size) -> Start {
    Start::with(&["--log-frames", "--log-file", "/dev/full"])
}

/// The disk is full: no line of the log can be written.
pub(crate) fn log_full(scene: &mut Scene) {
    scene.bystanders.go_on(scene.size.of(200, 4000));
    scene.fill();
    assert_eq!(scene.relay.has_ended(), None);
    scene.note("every write of the log failed with ENOSPC");
}

pub(crate) fn to_a_file_with_a_limit(_: Size) -> Start {
    let log = folder().join("log");
    // The shell counts in blocks of 512 or 1,024 bytes.
    let mut start = Start::with(&["--log-frames", "--log-file", &log.to_string_lossy()]);
    start.file_blocks = Some(64);
    start
}

/// The log reaches the largest size that a file of this process may have.
pub(crate) fn log_limited(scene: &mut Scene) {
    let log = folder().join("log");
    let deadline = Instant::now() + crate::support::HANG;
    while std::fs::metadata(&log).map_or(0, |file| file.len()) < 32 * 1024 {
        assert!(Instant::now() < deadline, "the log has not grown");
        scene.bystanders.go_on(20);
    }
    scene.bystanders.go_on(scene.size.of(100, 4000));
    scene.fill();
    assert_eq!(scene.relay.has_ended(), None, "a log that cannot grow is no reason to end");
    scene.note("the file reached its limit (RLIMIT_FSIZE), and the relay served on");
}

pub(crate) fn to_a_file(_: Size) -> Start {
    Start::with(&["--log-file", &folder().join("log").to_string_lossy()])
}

/// The log becomes a named pipe whose reader comes and goes, and its operator asks for it to be opened anew.
pub(crate) fn log_pipe(scene: &mut Scene) {
    let pipe = folder().join("log");
    std::fs::rename(&pipe, pipe.with_extension("1")).expect("it is there");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    for _ in 0..3 {
        // Nobody reads: opening it for writing would wait for somebody who does.
        scene.relay.signal(Signal::HUP);
        scene.bystanders.go_on(100);
    }
    let mut reader = OpenOptions::new().read(true).custom_flags(nonblocking()).open(&pipe).expect("a pipe");
    scene.relay.signal(Signal::HUP);
    scene.relay.signal(Signal::USR1);
    wait_for_text(scene, &mut reader, "clients ");
    drop(reader);
    scene.relay.signal(Signal::USR1);
    scene.bystanders.go_on(100);
    scene.fill();
    scene.note("opened anew at SIGHUP with nobody at its other end, and with somebody: it never waited");
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}

fn wait_for_text(scene: &Scene, reader: &mut File, text: &str) {
    use std::io::Read as _;
    let (mut log, mut buffer) = (String::new(), [0; 4096]);
    while !log.contains(text) {
        let count = reader.read(&mut buffer).unwrap_or(0);
        log.push_str(&String::from_utf8_lossy(&buffer[..count]));
        scene.bystanders.go_on(1);
    }
}

/// A library that adds a number of seconds, which stands in a file, to the wall clock of a process.
const WALL_CLOCK: &str = include_str!("wall_clock.c");
const YEAR: i64 = 365 * 24 * 3600;

pub(crate) fn with_a_clock_of_its_own(_: Size) -> Start {
    let folder = folder();
    let (source, library) = (folder.join("wall_clock.c"), folder.join("wall_clock.so"));
    std::fs::write(&source, WALL_CLOCK).expect("a file");
    File::create(folder.join("offset")).and_then(|mut file| file.write_all(&[0; 8])).expect("a file");
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("a C compiler").success());
    let mut start = Start::with(&["--write-deadline", "2s", "--frame-deadline", "2s", "--hello-deadline", "2s"]);
    start.variables.push(("LD_PRELOAD".to_owned(), library.to_string_lossy().into_owned()));
    start.variables.push(("WALL_CLOCK_OFFSET".to_owned(), folder.join("offset").to_string_lossy().into_owned()));
    start
}

/// The wall clock jumps by years, to and fro: no deadline comes early and none stays away.
pub(crate) fn wall_clock(scene: &mut Scene) {
    let offset = OpenOptions::new().write(true).open(folder().join("offset")).expect("a file");
    let set = |seconds: i64| offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("a file");
    let mut quiet = client_with_keepalive(scene.relay.address, "quiet", 1_000);
    let year_of = |line: &str| line.split('-').next().and_then(|year| year.trim().parse::<i64>().ok());
    let now = year_of(&stats_line(scene)).expect("a year");
    let (mut moves, mut pings) = (0, 0);
    loop {
        for years in [1, -1, 40, 0] {
            set(years * YEAR);
            let year = year_of(&stats_line(scene)).expect("a year");
            assert!(
                (year - now - years).abs() <= 1 && (years == 0 || year != now),
                "the relay's clock has moved: {year}"
            );
            scene.bystanders.go_on(20);
            moves += 1;
        }
        // A deadline that was set at one time comes at another, neither at once nor never.
        set(if moves % 8 == 0 { YEAR } else { -YEAR });
        let (header, _) = quiet.frame();
        assert_eq!(header.frame_type(), Some(Type::Ping));
        quiet.send(Header::new(Type::Pong).correlating(header.correlation), &[]);
        pings += 1;
        if !scene.goes_on() {
            break;
        }
    }
    set(0);
    let counters = scene.relay.counters();
    for code in ["IDLE_TIMEOUT", "SLOW_CONSUMER", "FRAME_TIMEOUT", "HELLO_TIMEOUT"] {
        assert_eq!(counters.closed(code), 0, "{code}");
    }
    scene.note(format!("moved {moves} times by up to 40 years; {pings} heartbeats in their time, nobody ended"));
}

fn stats_line(scene: &mut Scene) -> String {
    scene.relay.signal(Signal::USR1);
    scene.relay.log_line("; frames in ")
}

/// The relay is asked to end while everybody sends: all are told, and what it took in is written.
pub(crate) fn sigterm(scene: &mut Scene) {
    scene.ending = Ending::SaysGoodbye;
    let mut crowd = Crowd::start("talk", scene.relay.address, &["talker", &scene.size.of(20, 200).to_string()]);
    assert_eq!(crowd.line(), "talking");
    scene.bystanders.go_on(scene.size.of(50, 2000));
    let began = Instant::now();
    scene.relay.signal(Signal::TERM);
    // They do not read to the end, so it waits for them for as long as it may.
    crowd.kill();
    let status = scene.relay.wait();
    assert_eq!(status.code(), Some(0), "{:?}", scene.relay.log());
    scene.note(format!("ended with 0 after {:.0?}", began.elapsed()));
}
