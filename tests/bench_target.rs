//! The server under load, as the load generator sees it: started and ended, found by its address, and its costs.

mod client_support;

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use client_support::{BINARY, PATIENCE, Relay, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity};
use switchboard::bench::{Cores, Process, Target};
use switchboard::client::{Client, Envelope, Event, Options};
use switchboard::reactor::Endpoint;

fn own(arguments: &[&str]) -> Result<Target, String> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    Target::start(Path::new(BINARY), &arguments)
}

fn pid_of(target: &Target) -> u32 {
    target.process().expect("its figures can be read").pid()
}

/// A few thousand frames from one client to itself.
fn work(target: &Target) {
    let address = target.endpoint().to_string().parse().expect("an address");
    let mut client = Client::connect(&address, &Options::named("worker")).expect("welcomed");
    let me = client.session().client;
    for _ in 0..2_000 {
        client.sender().send(me, Envelope::bytes(), &[7; 128]).expect("sent");
    }
    for _ in 0..2_000 {
        wait_for(&mut client, |event| matches!(event, Event::Message(_)).then_some(()));
    }
}

#[test]
fn a_relay_of_ones_own_costs_something_and_is_gone_when_it_is_dropped() {
    let target = own(&["--connections-max", "77"]).expect("a relay");
    assert!(target.is_own());
    assert_eq!(target.connections_max(), Some(77));
    let before = target.usage().expect("its figures can be read");
    assert!(!before.cpu.is_zero() && before.resident_bytes > 100_000, "{before:?}");
    work(&target);
    let after = target.usage().expect("its figures can be read");
    assert!(after.cpu > before.cpu, "{before:?} {after:?}");
    assert!(target.descriptors().is_some_and(|count| count > 4), "{:?}", target.descriptors());
    let pid = pid_of(&target);
    let report = target.describe();
    assert_eq!((report.pid, report.address), (Some(pid), target.endpoint().to_string()));
    assert_eq!(report.core.is_some(), target.cores().is_some());
    drop(target);
    assert!(Process::of(pid).is_none(), "it is still there");
}

#[test]
fn a_relay_that_cannot_start_says_why_in_one_line() {
    let line = own(&["--queue-max", "1KiB"]).expect_err("it makes no sense");
    assert!(line.contains("exit status: 2") && line.contains("--queue-max 1.0 KiB must hold"), "{line}");
    assert_eq!(line.lines().count(), 1);
    let line = Target::start(Path::new("/nowhere/switchboard"), &[]).expect_err("nothing is there");
    assert!(line.contains("cannot start /nowhere/switchboard"), "{line}");
}

#[test]
fn a_relay_that_dies_is_noticed_and_so_is_how() {
    let mut target = own(&[]).expect("a relay");
    assert_eq!(target.ended(), None);
    let pid = Pid::from_raw(pid_of(&target).cast_signed()).expect("a number");
    kill_process(pid, Signal::KILL).expect("it runs");
    let line = until(|| target.ended());
    assert!(line.contains("signal: 9"), "{line}");
    assert_eq!(target.ended(), Some(line), "it is said again");
    assert_eq!(target.usage(), None);
}

#[test]
fn a_relay_that_is_there_is_found_by_its_address() {
    let relay = Relay::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let unix = Relay::start_at(&format!("unix:{}", path.display()), &[]);
    let wildcard = Relay::start_at("0.0.0.0:0", &[]);
    let port = wildcard.address.rsplit_once(':').expect("a port").1;
    for (address, pid) in [
        (relay.address.clone(), relay.pid()),
        (relay.address.replace("127.0.0.1", "localhost"), relay.pid()),
        (unix.address.clone(), unix.pid()),
        (format!("127.0.0.1:{port}"), wildcard.pid()),
        (format!("127.3.2.1:{port}"), wildcard.pid()),
    ] {
        let target = Target::at(&address.parse().expect("an address")).expect(&address);
        assert_eq!(pid_of(&target), pid, "{address}");
        assert!(!target.is_own() && target.cores().is_none() && target.usage().is_some());
    }
    let mut target = Target::at(&relay.address()).expect("it is there");
    assert_eq!(target.ended(), None);
    let pid = relay.pid();
    drop(relay);
    assert!(until(|| target.ended()).contains(&pid.to_string()));
    let line = Target::at(&target.endpoint().to_string().parse().expect("an address")).expect_err("it has gone");
    assert!(line.starts_with("cannot connect to 127.0.0.1:"), "{line}");
}

#[test]
fn whoever_listens_is_found_behind_many_other_descriptors() {
    // This process has hundreds of files open before it listens.
    let others: Vec<_> = (0..300).map(|_| std::fs::File::open("/dev/null").expect("a file")).collect();
    let listener = TcpListener::bind("[::]:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "[::1]"] {
        let endpoint = Endpoint::Tcp(format!("{host}:{port}").parse().expect("an address"));
        assert_eq!(Process::listening_at(&endpoint).map(|process| process.pid()), Some(std::process::id()), "{host}");
    }
    // Nobody of this machine listens where it is not.
    let elsewhere = Endpoint::Tcp(format!("192.0.2.1:{port}").parse().expect("an address"));
    assert!(Process::listening_at(&elsewhere).is_none());
    drop(others);
}

#[test]
fn a_relay_for_ones_own_use_ends_with_who_started_it_however_that_ends() {
    let script = r#""$0" serve --listen 127.0.0.1:0 --log-level off --end-with-parent $$ & read -r _"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn().expect("a shell");
    let mut stdout = shell.stdout.take().expect("piped");
    let mut first = [0; 12];
    stdout.read_exact(&mut first).expect("it listens");
    shell.kill().expect("it runs");
    shell.wait().expect("it has ended");
    // The relay held the other end of this pipe.
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("its end");
}

/// Where this thread may run.
fn here() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a set");
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

#[test]
fn a_server_runs_on_a_core_of_its_own_and_the_load_on_another_until_it_is_over() {
    let before = here();
    let Some(cores) = Cores::split() else {
        assert!(before.len() < 2, "{before:?}");
        return;
    };
    assert_ne!(cores.server, cores.load);
    let mut command = Command::new("grep");
    command.args(["Cpus_allowed_list:", "/proc/self/status"]).stdout(Stdio::piped());
    let output = cores.spawn(&mut command).and_then(Child::wait_with_output).expect("a process");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.split_whitespace().nth(1), Some(cores.server.to_string().as_str()), "{text}");
    assert_eq!(here(), [cores.load]);
    drop(cores);
    assert_eq!(here(), before);
}

fn until<T>(mut is_so: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = is_so() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came to that");
        std::thread::yield_now();
    }
}
