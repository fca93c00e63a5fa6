//! `switchboard bench` as a person or a script uses it: what is refused and how, what ends it early, and where
//! its figures go. What the figures are worth is tested elsewhere.

mod client_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::thread;

use client_support::{BINARY, Relay, Running, assert_code, run, signal, stderr, stdout};
use rustix::process::Signal;
use serde_json::Value;
use switchboard::auth::{TokenDigest, Verifier};
use switchboard::bench::Keys;
use switchboard::wire::control::{Body, ErrorBody, Reason};
use switchboard::wire::{Code, Header, Type};

/// Where no relay is, for commands that must not go there.
const NOWHERE: &str = "127.0.0.1:1";
/// A load so small that it is over at once.
const SMALL: [&str; 7] = ["pairs", "--connections", "2", "--seconds", "0.05", "--warmup", "0"];

fn bench(arguments: &[&str]) -> Output {
    run(NOWHERE, &[&["bench"], arguments].concat(), b"")
}

/// The same, with at most so many open files.
fn bench_with_descriptors(descriptors: u32, arguments: &[&str]) -> Output {
    let script = format!("ulimit -n {descriptors}; exec \"$0\" bench \"$@\"");
    Command::new("sh").args(["-c", &script, BINARY]).args(arguments).output().expect("a shell")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

#[track_caller]
fn assert_line(output: &Output, code: i32, says: &str) {
    assert_code(output, code);
    let told = stderr(output);
    assert!(told.contains(says), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn numbers_that_make_no_sense_exit_2_with_one_line_that_says_what_to_change() {
    for (arguments, says) in [
        (&["pairs", "--connections", "101"][..], "must be even, as each has a partner: give 100 or 102"),
        (&["pairs", "--size", "15"], "give at least 16 bytes"),
        (&["file", "--size", "17MiB"], "--size 17825792 is too large"),
        (&["rate", "--rate", "0"], "--rate 0 must be above 0"),
        (&["churn", "--rate", "-3"], "--rate -3 must be above 0"),
        (&["storm", "--connections", "16777216"], "--connections 16777216 must lie between 1 and"),
        (&["rooms", "--rooms", "2", "--connections", "3"], "--rooms 2 leaves rooms without a recipient"),
        (&["slow", "--connections", "10"], "give at least --connections 12"),
        (&["idle", "--window", "4"], "--window has no meaning in idle: leave it out"),
        (&["pairs", "--rooms", "4"], "--rooms has no meaning in pairs"),
        (&["storm", "--warmup", "4"], "--warmup has no meaning in storm"),
        (&["pairs", "--in-flight", "0"], "--in-flight 0 must lie between"),
        (&["idle", "--keepalive", "0.5"], "--keepalive 0.5 must be at least 1 second"),
        (&["soak", "--seconds", "60"], "--seconds has no meaning in soak: leave it out; there are --connections"),
        (&["soak", "--minutes", "1", "--seconds", "60"], "--seconds has no meaning in soak"),
        (&["soak", "--warmup", "1"], "--warmup has no meaning in soak"),
        (&["idle", "--minutes", "1"], "--minutes has no meaning in idle"),
        (&["soak", "--minutes", "10081"], "--minutes 10081 must be above 0 and at most a week"),
        (&["soak", "--rooms", "0"], "--rooms 0 leaves the talkers without a room"),
        (&["soak", "--connections", "19"], "--connections 19 are too few for 10 rooms"),
        (&["soak", "--stuck", "150"], "150 slow readers and all the others: give at least 348"),
        (&["soak", "--size", "15"], "give at least 16 bytes"),
        (&["soak", "--rate", "-1"], "--rate -1 must be above 0"),
    ] {
        assert_line(&bench(arguments), 2, says);
    }
}

#[test]
fn arguments_that_cannot_be_read_exit_2() {
    for (arguments, says) in [
        (&["nonsense"][..], "nonsense"),
        (&["pairs", "--seconds", "0"], "above zero"),
        (&["pairs", "--warmup", "-1"], "must not be negative"),
        (&["soak", "--minutes", "0"], "above zero"),
        (&["soak", "--minutes", "-0.5"], "above zero"),
        (&["soak", "--minutes", "NaN"], "within reason"),
        (&["soak", "--minutes", "1h"], "write a number of minutes, as 60 or 0.5"),
        (&["soak", "--minutes"], "a value is required"),
        (&["rate", "--rate", "fast"], "write a number"),
        (&["pairs", "--size", "much"], "write a size"),
        (&["pairs", "--connections", "-4"], "write a whole number"),
        (&["pairs", "9999"], "`9999` is a port"),
        (&["pairs", "127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:2"),
    ] {
        let output = bench(arguments);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    assert_code(&bench(&[]), 2);
}

#[test]
fn help_shows_each_scenario_in_a_line_and_of_each_only_what_it_has() {
    let help = bench(&["--help"]);
    assert_code(&help, 0);
    for scenario in ["pairs", "fanout", "rooms", "idle", "rate", "churn", "storm", "slow", "file", "soak"] {
        assert!(stdout(&help).lines().any(|line| line.trim_start().starts_with(scenario)), "{}", stdout(&help));
        let own = bench(&[scenario, "--help"]);
        assert_code(&own, 0);
        let time = if scenario == "soak" { ["--minutes", "--seconds"] } else { ["--seconds", "--minutes"] };
        let has = |flag: &str| stdout(&own).contains(flag);
        assert!(has("--connections") && has(time[0]) && !has(time[1]), "{}", stdout(&own));
        assert_eq!(has("--stuck"), ["slow", "soak"].contains(&scenario), "{}", stdout(&own));
        assert_eq!(has("--rooms"), ["fanout", "rooms", "soak"].contains(&scenario), "{}", stdout(&own));
    }
}

#[test]
fn whatever_is_no_relay_or_another_version_is_told_before_any_load() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    assert_line(&bench(&["pairs", &gone.to_string()]), 1, "is `switchboard serve` running there?");

    let stranger = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    assert_line(&bench(&["pairs", &stranger.to_string()]), 1, "this is no switchboard relay");

    let mut refusal = Vec::new();
    let reason = Reason { versions: Some((7, 9)), ..Reason::new(Code::BadVersion, "") };
    ErrorBody(reason).write_frame(Header::new(Type::Error).correlating(1), &mut refusal);
    assert_line(&bench(&["pairs", &answering(refusal).to_string()]), 1, "BAD_VERSION");

    assert_line(&bench(&["pairs", "nobody.invalid"]), 1, "cannot connect to nobody.invalid:9999");
}

#[test]
fn a_relay_that_takes_no_such_payloads_is_told() {
    let relay = Relay::start();
    let output = bench(&["pairs", &relay.address, "--size", "1MiB"]);
    assert_line(&output, 1, "takes payloads of at most 65536 bytes: give --size 65536 or less");
}

#[test]
fn too_few_open_files_are_told_with_how_many_are_needed_and_what_to_raise() {
    let output = bench_with_descriptors(64, &["pairs", "--connections", "100"]);
    assert_line(&output, 1, "100 clients need 116 open files, and this process may have 64: raise the limit to 116");
    assert!(stderr(&output).contains("ulimit -n 116") && stderr(&output).contains("at most --connections 48"));
    // Enough for the load, but not for the relay, which keeps some for connections that end.
    let output = bench_with_descriptors(64, &["pairs", "--connections", "48"]);
    assert_line(&output, 1, "48 clients are more than the ");
    let fewer = stderr(&output).split_whitespace().last().expect("a number").to_owned();
    let output = bench_with_descriptors(64, &["pairs", "--connections", &fewer, "--seconds", "0.05", "--warmup", "0"]);
    assert_code(&output, 0);
}

#[test]
fn only_an_address_among_the_arguments_is_put_under_load() {
    let relay = Relay::start();
    let output = run(&relay.address, &[&["bench"], &SMALL[..], &["--json"]].concat(), b"");
    assert_code(&output, 0);
    let own = report(&output);
    assert_ne!(own["target"]["address"], relay.address.as_str());
    let output = bench(&[&SMALL[..], &[&relay.address, "--json"]].concat());
    assert_code(&output, 0);
    let given = report(&output);
    assert_eq!(given["target"]["address"], relay.address.as_str());
    for report in [own, given] {
        let software = report["target"]["software"].as_str().unwrap_or_default();
        assert!(software.starts_with("switchboard/"), "{report}");
        assert!(report["account"]["sent"].as_u64() > Some(0), "{report}");
        assert_eq!(report["account"]["sent"], report["account"]["delivered"]);
    }
}

#[test]
fn ctrl_c_ends_it_early_with_the_figures_so_far() {
    let relay = Relay::start();
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--presence"]);
    let bench = Running::start(NOWHERE, &["bench", "idle", &relay.address, "--connections", "10", "--json"]);
    for _ in 0..11 {
        watcher.line("+ bench-");
    }
    signal(&bench.child, Signal::INT);
    let line = bench.error_line("idle: ");
    assert!(line.contains("stopped before its time"), "{line}");
    let (code, lines) = bench.end();
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&lines.concat()).expect("a report");
    assert_eq!(report["failures"].as_array().map(Vec::len), Some(1), "{report}");
}

#[test]
fn a_relay_that_dies_under_load_is_told_in_one_line_after_the_figures_so_far() {
    let relay = Relay::start();
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--presence"]);
    let bench = Running::start(NOWHERE, &["bench", "idle", &relay.address, "--connections", "10", "--json"]);
    for _ in 0..11 {
        watcher.line("+ bench-");
    }
    drop(relay);
    bench.error_line("switchboard: idle: ");
    let (code, lines) = bench.end();
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&lines.concat()).expect("a report");
    assert_eq!(report["failures"].as_array().map(Vec::len), Some(1), "{report}");
}

#[test]
fn a_page_that_cannot_be_written_is_told_before_the_load_or_beside_the_figures() {
    let output = bench(&[&SMALL[..], &["--json", "--quiet", "--html", "/nowhere/report.html"]].concat());
    assert_line(&output, 1, "cannot write --html /nowhere/report.html");
    assert!(output.stdout.is_empty(), "nothing was run for it");

    let output = bench(&[&SMALL[..], &["--json", "--quiet", "--html", "/dev/full"]].concat());
    assert_line(&output, 1, "cannot write --html /dev/full");
    assert_eq!(report(&output)["scenario"], "pairs");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.html");
    let output = bench(&[&SMALL[..], &["--html", path.to_str().expect("UTF-8")]].concat());
    assert_code(&output, 0);
    let page = std::fs::read_to_string(&path).expect("it was written");
    assert!(page.to_lowercase().starts_with("<!doctype html>"), "{page}");
    assert!(stdout(&output).contains("pairs"), "{}", stdout(&output));
}

#[test]
fn what_was_on_its_way_when_it_was_stopped_is_not_called_lost() {
    let relay = Relay::start();
    // What is sent to ALL comes here too.
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--json"]);
    let bench = Running::start(NOWHERE, &["bench", "fanout", &relay.address, "--connections", "5", "--json"]);
    watcher.line("{");
    signal(&bench.child, Signal::INT);
    let (code, lines) = bench.end();
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&lines.concat()).expect("a report");
    let account = &report["account"];
    assert!(account["sent"].as_u64() > Some(0), "{account}");
    assert_eq!(account["lost"], 0, "{account}");
}

#[test]
fn clients_that_are_not_let_in_are_told_with_the_relays_reason_before_any_load() {
    let relay = Relay::start_at("127.0.0.1:0", &["--connections-max", "10"]);
    let output = bench(&["pairs", &relay.address, "--connections", "40", "--seconds", "0.1", "--quiet", "--json"]);
    assert_line(&output, 1, "CONNECTIONS_FULL");
    assert_eq!(report(&output)["account"]["sent"], 0);

    let relay = Relay::start_at("127.0.0.1:0", &["--members-max", "50", "--rooms-max", "3"]);
    let output =
        bench(&["rooms", &relay.address, "--connections", "40", "--rooms", "10", "--seconds", "0.1", "--quiet"]);
    assert_line(&output, 1, "it lets nobody more into a room: LIMIT_REACHED");
}

/// A relay that speaks TLS at this address, and its keys.
fn encrypted(address: &str) -> (Relay, Keys) {
    let keys = Keys::make().expect("a folder");
    let (certificate, key) = (keys.certificate_file(), keys.key_file());
    let paths = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let relay = Relay::start_at(address, &["--tls-cert", paths[0], "--tls-key", paths[1]]);
    (relay, keys)
}

#[test]
fn a_relay_at_a_tls_address_is_believed_by_the_certificate_of_a_file_and_names_are_checked() {
    let (relay, keys) = encrypted("tls://127.0.0.1:0");
    let ca = keys.certificate_file();
    let ca = ca.to_str().expect("UTF-8");
    let output = bench(&[&SMALL[..], &[&relay.address, "--ca", ca, "--json"]].concat());
    assert_code(&output, 0);
    let told = report(&output);
    assert_eq!(told["target"]["address"], relay.address.as_str());
    assert_eq!((&told["tls"]["handshakes"], &told["tls"]["resumed"]), (&2.into(), &0.into()));
    // It is also for localhost, and for nobody else.
    let port = relay.address.rsplit(':').next().expect("a port");
    assert_code(&bench(&[&SMALL[..], &[&format!("tls://localhost:{port}"), "--ca", ca]].concat()), 0);
    let (other, keys) = encrypted("tls://127.0.0.2:0");
    let ca = keys.certificate_file();
    let output = bench(&[&SMALL[..], &[&other.address, "--ca", ca.to_str().expect("UTF-8")]].concat());
    assert_line(&output, 1, "the relay's certificate is not for 127.0.0.2 but for ");
}

#[test]
fn what_is_not_spoken_there_or_not_believed_is_told_in_one_line_before_any_load() {
    let (relay, _keys) = encrypted("tls://127.0.0.1:0");
    let plain = Relay::start();
    let output = bench(&[&SMALL[..], &[&format!("tls://{}", plain.address)]].concat());
    assert_line(&output, 1, &format!("does not speak TLS: try {} without tls://", plain.address));
    let address = relay.address.strip_prefix("tls://").expect("it speaks TLS");
    assert_line(
        &bench(&[&SMALL[..], &[address]].concat()),
        1,
        &format!("that port speaks TLS: write {}", relay.address),
    );
    let stranger = Keys::make().expect("a folder").certificate_file();
    for ca in [&["--ca", stranger.to_str().expect("UTF-8")][..], &[]] {
        let output = bench(&[&SMALL[..], &[&relay.address], ca].concat());
        assert_code(&output, 1);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    let kept = Keys::make().expect("a folder");
    let ca = kept.certificate_file();
    let output = bench(&[&SMALL[..], &[&relay.address, "--ca", ca.to_str().expect("UTF-8")]].concat());
    assert_line(&output, 1, "the relay's certificate is signed by nobody who is trusted here");
}

#[test]
fn switches_for_tls_where_there_is_none_exit_2() {
    for (arguments, says) in [
        (&["127.0.0.1:1", "--tls"][..], "write the address as tls://127.0.0.1:1"),
        (&["unix:/run/relay", "--tls"], "--tls is not for a Unix socket: leave it out"),
        (&["127.0.0.1:1", "--ca", "ca.pem"], "--ca is for a relay at a tls:// address"),
        (&["--tls", "--ca", "ca.pem"], "--ca is for a relay at a tls:// address"),
        (&["--resume"], "--resume is for TLS: add --tls"),
    ] {
        assert_line(&bench(&[&SMALL[..], arguments].concat()), 2, says);
    }
}

#[test]
fn the_keys_of_a_relay_that_is_started_for_the_purpose_go_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(BINARY);
    command.arg("bench").args(SMALL).args(["--tls", "--quiet"]).env("TMPDIR", folder.path());
    let output = command.output().expect("it starts");
    assert_code(&output, 0);
    assert!(stdout(&output).contains("encrypted"), "{}", stdout(&output));
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
}

/// A relay whose users are `load`, with a password and a token, and `other`, and the folder with its files.
fn with_users(address: &str, more: &[&str]) -> (Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let verifier = Verifier::from_password("pw", 4096.try_into().expect("not zero"), &[3; 16]);
    let token = "swb_0123456789";
    let digest = TokenDigest::of(token.as_bytes());
    let secret = format!("%secret {}=\n", "A".repeat(43));
    let line = format!("{secret}load {verifier} token:{digest}\nother {verifier} names=elsewhere/*\n");
    for (name, text) in [("users", line.as_str()), ("password", "pw\n"), ("wrong", "pq\n"), ("token", token)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a file");
    }
    let users = folder.path().join("users");
    let users = ["--users", users.to_str().expect("UTF-8")];
    (Relay::start_at(address, &[&users[..], more].concat()), folder)
}

#[test]
fn all_clients_are_one_user_who_is_proved_by_a_password_or_a_token() {
    let keys = Keys::make().expect("a folder");
    let files = [keys.certificate_file(), keys.key_file()];
    let files = files.each_ref().map(|file| file.to_str().expect("UTF-8"));
    let tls = ["--tls-cert", files[0], "--tls-key", files[1]];
    for (address, more) in [("127.0.0.1:0", &[][..]), ("tls://127.0.0.1:0", &tls)] {
        let (relay, folder) = with_users(address, more);
        let ca: &[&str] = if more.is_empty() { &[] } else { &["--ca", files[0]] };
        for (flag, file) in [("--password-file", "password"), ("--token-file", "token")] {
            let file = folder.path().join(file);
            let who = ["--user", "load", flag, file.to_str().expect("UTF-8")];
            for scenario in [
                &["storm", "--connections", "20", "--seconds", "0.1"][..],
                &["churn", "--connections", "4", "--rate", "20", "--seconds", "0.5", "--warmup", "0"],
                &["soak", "--connections", "30", "--rooms", "1", "--stuck", "1", "--minutes", "0.01"],
            ] {
                let output = bench(&[scenario, &[&relay.address, "--json"], &who, ca].concat());
                let account = &report(&output)["account"];
                assert!(account["sent"].as_u64() > Some(0), "{scenario:?} {flag} {address}: {}", stderr(&output));
                assert_eq!(account["lost"], 0, "{account}");
                // So short a soak says nothing of memory.
                if scenario[0] != "soak" {
                    assert_code(&output, 0);
                }
            }
        }
    }
}

#[test]
fn who_is_not_the_user_or_may_not_have_the_names_is_told_before_any_load() {
    let (relay, folder) = with_users("127.0.0.1:0", &[]);
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    for (user, file, says) in [
        ("load", file("wrong"), "AUTH_FAILED"),
        ("nobody", file("password"), "AUTH_FAILED"),
        ("other", file("password"), "NAME_DENIED"),
    ] {
        let who = ["--user", user, "--password-file", &file];
        assert_line(&bench(&[&SMALL[..], &[&relay.address], &who].concat()), 1, says);
    }
    assert_line(&bench(&[&SMALL[..], &[&relay.address]].concat()), 1, "AUTH_REQUIRED");
    let who = ["--user", "load", "--password-file", &file("password")];
    assert_line(&bench(&[&SMALL[..], &who].concat()), 2, "--user is for a relay at an address");
    // A relay that asks nobody has proved nothing.
    let plain = Relay::start();
    let output = bench(&[&SMALL[..], &[&plain.address], &who].concat());
    assert_code(&output, 1);
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    for arguments in [&["--user", "load"][..], &["--password-file", &file("password")]] {
        assert_code(&bench(&[&SMALL[..], &[&plain.address], arguments].concat()), 2);
    }
}

/// Something that listens, and answers whatever comes first with these bytes.
fn answering(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(&bytes);
            // Until the other side has had enough.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    address
}
