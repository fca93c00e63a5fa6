//! Starts that cannot work. Each ends with one line that says what to change, and with nothing else.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::files::{BAD_KEYS, BAD_USERS, Bad, Files, flag, text};

/// The exit codes: the arguments make no sense, or the system or a file says no.
const USAGE: i32 = 2;
const SYSTEM: i32 = 1;

/// Runs `switchboard serve` with arguments that cannot work, and returns the line that it says.
fn fails(arguments: &[impl AsRef<str>], code: i32) -> String {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.arg("serve").args(&arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // One that starts after all says so, and would then run for ever.
    let mut announced = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut announced).expect("text");
    if !announced.is_empty() {
        child.kill().expect("it runs");
    }
    let output = child.wait_with_output().expect("it has ended");
    assert_eq!(announced, "", "{arguments:?}: nothing on standard output");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    let line = said.strip_prefix("switchboard: ").and_then(|rest| rest.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("{arguments:?}: {said:?}"));
    assert!(!line.contains('\n'), "{arguments:?}: more than a line: {line}");
    line.to_owned()
}

fn each_fails(cases: &[(&[&str], &str)], code: i32) {
    for (arguments, says) in cases {
        let line = fails(arguments, code);
        assert!(line.contains(says), "{arguments:?}: {line}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_told_in_one_line() {
    const VALUE: &str = "invalid value '";
    each_fails(
        &[
            (&["--no-such-flag"], "unexpected argument '--no-such-flag'"),
            (&["extra"], "unexpected argument 'extra'"),
            (&["--users"], "a value is required for '--users <PATH>'"),
            (&["--listen", "nonsense:port"], "write HOST:PORT"),
            (&["--listen", "http://localhost:1"], "http:// is not spoken here: write HOST:PORT"),
            (&["--listen", "tls://ws://localhost:1"], "ws:// is not spoken here: write HOST:PORT"),
            (&["--listen", "tls://unix:/run/s"], "leave tls:// out"),
            (&["--listen", "unix:"], "unix:PATH"),
            (&["--listen", ""], VALUE),
            (&["--log-level", "loud"], "write off, error, warn, info, debug or trace"),
            (&["--allow", "10.0.0.0/99"], "'--allow <CIDR>': write a network, as 10.0.0.0/8"),
            (&["--deny", "10.0.0.1/8"], "'--deny <CIDR>': 10.0.0.1/8 is an address within a network: write 10.0.0.0/8"),
            (&["--limit-exempt", "localhost"], "'--limit-exempt <CIDR|none>': write a network, as 10.0.0.0/8"),
            (&["--proxy-from", ""], "'--proxy-from <CIDR>': write a network, as 10.0.0.0/8"),
            (&["--rate-excess", "nonsense"], "[possible values: pause, close]"),
            (&["--takeover", "reject"], "--takeover is of no use without users"),
            (&["--takeover", "nonsense"], "[possible values: replace, reject]"),
        ],
        USAGE,
    );
}

#[test]
fn limits_of_nothing_of_too_much_and_of_no_number_are_told_with_their_bounds() {
    each_fails(
        &[
            (&["--payload-max", "1KiB"], "--payload-max 1.0 KiB must lie between"),
            (&["--payload-max", "1TiB"], "--payload-max 1.0 TiB must lie between"),
            (&["--queue-max", "0"], "--queue-max 0 B must hold a frame"),
            (&["--queue-max", "2TiB"], "at most 1.0 TiB"),
            (&["--buffered-total-max", "0"], "--buffered-total-max 0 B must hold one full queue"),
            (&["--connections-max", "0"], "write a whole number from 1 to"),
            (&["--connections-max", "99999999999"], "write a whole number from 1 to"),
            (&["--connections-per-address-max", "0"], "write a whole number from 1 to"),
            (&["--unregistered-max", "0"], "write a whole number from 1 to"),
            (&["--unregistered-max", "1"], "--unregistered-max 1 must not be below 128"),
            (&["--accepts-per-second-max", "0"], "from 1 to 1000000000, or none"),
            (&["--accepts-per-address-per-second-max", "4294967296"], "from 1 to 1000000000, or none"),
            (&["--frames-per-second-max", "many"], "from 1 to 1000000000, or none"),
            (&["--bytes-per-second-max", "0"], "write a size above 0, or none"),
            (&["--bytes-per-second-max", "-1"], "unexpected argument '-1'"),
            (&["--auth-failures-max", "0"], "0 is not in 1..=1000000"),
            (&["--backlog", "65536"], "65536 is not in 1..=65535"),
            (&["--keepalive", "0s"], "at least 1s"),
            (&["--keepalive", "20m"], "--keepalive must lie between"),
            (&["--handshake-deadline", "0s"], "above zero and at most a year"),
            (&["--drain-deadline", "2years"], "above zero and at most a year"),
            (&["--auth-delay", "5s"], "--auth-delay must not be above --auth-delay-max"),
        ],
        USAGE,
    );
}

#[test]
fn tls_by_halves_is_told_with_what_is_missing() {
    let files = Files::new();
    let flags = files.tls_flags();
    let [cert, key, ca] = [&flags[0..2], &flags[2..4], &flags[4..6]];
    let over_tls = ["--listen".to_owned(), "tls://127.0.0.1:0".to_owned()];
    let required = ["--tls-client-required".to_owned()];
    for (arguments, says) in [
        ([&over_tls[..], cert].concat(), "--tls-cert needs its private key: add --tls-key PATH"),
        ([&over_tls, key].concat(), "--tls-key needs its certificate: add --tls-cert PATH"),
        (cert.to_vec(), "add --tls-key PATH"),
        (key.to_vec(), "add --tls-cert PATH"),
        (over_tls.to_vec(), "a tls:// listener needs --tls-cert PATH and --tls-key PATH; `switchboard cert` makes"),
        ([&over_tls, ca].concat(), "a tls:// listener needs --tls-cert PATH"),
        ([cert, key].concat(), "--tls-cert is of no use without a tls:// listener: add --listen tls://HOST:PORT"),
        (ca.to_vec(), "--tls-client-ca is of no use without a tls:// listener"),
        ([&over_tls, cert, key, &required].concat(), "were not provided: --tls-client-ca <PATH>"),
    ] {
        let line = fails(&arguments, USAGE);
        assert!(line.contains(says), "{arguments:?}: {line}");
    }
}

/// Each of the files, spoilt in each way, ends a start with its line.
fn each_is_told(bad: &[Bad], arguments: fn(&Files) -> Vec<String>) {
    let files = Files::new();
    for (spoil, name, says) in bad {
        spoil(&files);
        let line = fails(&arguments(&files), SYSTEM);
        let begins = format!("{} {}: ", flag(name), text(&files.path(name)));
        assert!(line.starts_with(&begins) && line.contains(says), "{says}: {line}");
        files.assert_no_secret(&line);
        files.make_good();
    }
}

#[test]
fn keys_that_cannot_be_used_are_told_by_flag_and_file() {
    each_is_told(&BAD_KEYS, |files| [files.tls_flags(), vec!["--listen".into(), "tls://127.0.0.1:0".into()]].concat());
}

#[test]
fn users_that_cannot_be_read_are_told_by_file_and_line() {
    each_is_told(&BAD_USERS, |files| [files.users_flags(), vec!["--listen".into(), "127.0.0.1:0".into()]].concat());
}

#[test]
fn a_place_where_it_cannot_listen_and_a_log_that_it_cannot_write_are_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let in_use = "in use already; stop the other process or choose another with --listen";
    each_fails(
        &[
            (&["--listen", &taken], in_use),
            (&["--listen", "192.0.2.1:7000"], "this machine does not have this address"),
            (&["--listen", "unix:/no/such/folder/socket"], "cannot listen on unix:/no/such/folder/socket"),
            (&["--log-file", "/no/such/folder/log", "--listen", "127.0.0.1:0"], "cannot write --log-file"),
            // What it would warn of is of no interest to whoever has to read why it did not start.
            (&["--listen", &taken, "--connections-max", "16000000"], in_use),
        ],
        SYSTEM,
    );
}

#[test]
fn a_start_that_fails_half_way_leaves_no_socket_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let line = fails(&["--listen", &format!("unix:{}", socket.display()), "--listen", "192.0.2.1:7000"], SYSTEM);
    assert!(line.contains("this machine does not have this address"), "{line}");
    assert!(!socket.exists(), "its file is gone");
}

#[test]
fn a_log_file_that_is_a_named_pipe_without_a_reader_is_told_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    // It neither waits for a reader nor goes on without one.
    let line = fails(&["--listen", "127.0.0.1:0", "--log-file", &text(&pipe)], SYSTEM);
    assert!(line.contains("it is a named pipe that nobody reads"), "{line}");
}
