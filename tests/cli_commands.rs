//! The commands as a person or a script uses them: pipes, exit codes, signals.

mod client_support;

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Command, Output, Stdio};

use client_support::{BINARY, Relay, Running, assert_code, run, signal, stderr, stdout};
use rustix::process::Signal;
use serde_json::Value;
use switchboard::auth::TokenDigest;
use switchboard::client::{Client, Options};

#[test]
fn what_makes_no_sense_exits_2_and_says_what_to_change() {
    for (arguments, says) in [
        (&["send", "hello"][..], "--to"),
        (&["send", "--to", "ada", "--all", "hello"], "cannot be used with"),
        (&["send", "--to", "ada", "--kind", "x", "hello"], "text, json, bytes"),
        (&["send", "--to", "ada", "--file", "x", "hello"], "--file"),
        (&["send", "--to", "ada", "--lines", "hello"], "--lines"),
        (&["send", "--to", "", "hello"], "the name is empty"),
        (&["send", "--room", "", "hello"], "the name is empty"),
        (&["listen", "--room", " x"], "no space at either end"),
        (&["send", "--to", "ada", "--addr", "9997", "hello"], "`:9997`"),
        (&["send", "--to", "ada", "--name", " x", "hello"], "name"),
        (&["send", "--to", "ada", "--timeout", "0", "hello"], "time"),
        (&["listen", "host:0"], "port"),
        (&["listen", "9997"], "`9997` is a port: write `:9997` or `127.0.0.1:9997`"),
        (&["listen", "::1:9997"], "write `[::1]:9997`"),
        (&["listen", ""], "empty"),
        (&["join", "host:65536", "--name", "ada"], "65536 is no port"),
        (&["listen", "--raw", "--json"], "--json"),
        (&["listen", "--count", "0"], "--count"),
        (&["join"], "--name"),
        (&["join", "--name", "a\u{1b}b"], "name"),
    ] {
        let output = run("127.0.0.1:1", arguments, b"");
        assert_code(&output, 2);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    let output = run("host:0", &["send", "--to", "ada", "hello"], b"");
    assert_code(&output, 2);
    assert!(stderr(&output).contains("SWITCHBOARD_ADDR"), "{}", stderr(&output));
}

#[test]
fn a_relay_that_is_not_there_exits_1_with_one_line_and_a_hint() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    for arguments in [&["send", "--to", "ada", "hello"][..], &["listen"], &["join", "--name", "ada"]] {
        let output = run(&gone.to_string(), arguments, b"");
        assert_code(&output, 1);
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains("switchboard serve"), "{}", stderr(&output));
    }
}

#[test]
fn text_files_and_standard_input_arrive_at_a_listener() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--count", "4"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text");
    std::fs::write(&path, "from a file\n").expect("written");
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--name", "ada", "hello", "there"], b""), 0);
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--file", path.to_str().expect("UTF-8")], b""), 0);
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--receipt"], b"\xff\x00"), 0);
    let address = relay.address.as_str();
    assert_code(&run("ignored:1", &["send", "--addr", address, "--all", "--receipt", ":9999", "to all"], b""), 0);
    let (code, lines) = ear.end();
    assert_eq!(code, Some(0));
    assert_eq!(lines[0], "ada: hello there");
    assert!(lines[1].ends_with(": from a file\\n") && lines[2].ends_with(": [2 bytes: ff 00]"), "{lines:?}");
    assert!(lines[3].ends_with(": :9999 to all"), "{lines:?}");
}

#[test]
fn each_line_is_a_frame_of_its_own_and_all_of_them_are_receipted() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--count", "1000"]);
    let input = (0..1000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    assert_code(
        &run(&relay.address, &["send", "--to", "ear", "--name", "ada", "--lines", "--receipt"], input.as_bytes()),
        0,
    );
    let (code, lines) = ear.end();
    assert_eq!(code, Some(0));
    assert!(lines.iter().enumerate().all(|(n, line)| *line == format!("ada: line {n}")), "{:?}", lines.first());
}

#[test]
fn send_fails_when_it_cannot_be_delivered() {
    let relay = Relay::start();
    for (arguments, says) in [
        (&["send", "--to", "nobody", "x"][..], "nobody here is called \"nobody\""),
        (&["send", "--all", "--receipt", "x"], "nobody else is here"),
        (&["send", "--room", "empty", "--receipt", "x"], "nobody else is in the room"),
    ] {
        let output = run(&relay.address, arguments, b"");
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let _ear = Running::listen(&relay.address, &["--name", "ear"]);
    let output = run(&relay.address, &["send", "--to", "ear"], &vec![b'x'; 70_000]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("70000") && stderr(&output).contains("65536"), "{}", stderr(&output));
    let output = run(&relay.address, &["send", "--to", "ear", "--name", "ear", "x"], b"");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("HELLO_NAME_TAKEN"), "{}", stderr(&output));
}

#[test]
fn lines_that_fail_alike_are_told_once_with_their_number() {
    let relay = Relay::start();
    let output = run(&relay.address, &["send", "--all", "--lines", "--receipt"], &b"x\n".repeat(30));
    assert_code(&output, 1);
    assert_eq!(stderr(&output), "switchboard: nobody else is here (30 times)\n");
}

#[test]
fn what_no_relay_takes_is_not_even_sent() {
    let output = run("127.0.0.1:1", &["send", "--all"], &vec![b'x'; (16 << 20) + 3]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("more than 16 MiB"), "{}", stderr(&output));
}

#[test]
fn several_recipients_and_a_room_each_get_one() {
    let relay = Relay::start();
    let one = Running::listen(&relay.address, &["--name", "one", "--room", "lobby", "--count", "2"]);
    let two = Running::listen(&relay.address, &["--name", "two", "--room", "lobby", "--count", "2"]);
    assert_code(&run(&relay.address, &["send", "--to", "one", "--to", "two", "--receipt", "a pair"], b""), 0);
    assert_code(&run(&relay.address, &["send", "--room", "lobby", "--receipt", "a room"], b""), 0);
    for ear in [one, two] {
        let (code, lines) = ear.end();
        assert_eq!(code, Some(0));
        assert!(lines[0].ends_with(": a pair") && lines[1].ends_with(": a room"), "{lines:?}");
    }
}

#[test]
fn json_lines_hold_what_the_frame_said() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--json", "--presence"]);
    assert_code(
        &run(&relay.address, &["send", "--to", "ear", "--name", "ada", "--kind", "json", "{\"a\": 1}"], b""),
        0,
    );
    let parse = |line: String| -> Value { serde_json::from_str(&line).expect("JSON") };
    let arrived = parse(ear.line("arrived"));
    assert_eq!((&arrived["name"], &arrived["event"]), (&"ada".into(), &"arrived".into()));
    let message = parse(ear.line("message"));
    assert_eq!(message["source"], arrived["client"]);
    assert_eq!((&message["source_name"], &message["encoding"]), (&"ada".into(), &"json".into()));
    assert_eq!((&message["payload"]["a"], &message["type_name"]), (&1.into(), &"SEND".into()));
    assert_eq!((&message["kind"], &message["destination_kind"]), (&2.into(), &"client".into()));
    let departed = parse(ear.line("departed"));
    assert_eq!((&departed["name"], &departed["reason"]), (&"ada".into(), &"LEFT".into()));
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--kind", "700"], b"\xff\xfe\xfd"), 0);
    let message = parse(ear.line("message"));
    assert_eq!((&message["encoding"], &message["payload"]), (&"base64".into(), &"//79".into()));
    assert_eq!((&message["kind"], &message["payload_bytes"]), (&700.into(), &3.into()));
}

#[test]
fn what_claims_to_be_json_is_checked_before_it_is_sent() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear"]);
    let send = |more: &[&str], input: &[u8]| {
        let arguments = [&["send", "--to", "ear", "--name", "ada", "--kind", "json"], more].concat();
        run(&relay.address, &arguments, input)
    };
    for (more, input, code) in [(&["{"][..], &b""[..], 2), (&[], b"nope\n", 1), (&["--lines"], b"{}\n[1\n{}\n", 1)] {
        let output = send(more, input);
        assert_code(&output, code);
        assert!(stderr(&output).contains("not JSON"), "{}", stderr(&output));
    }
    assert_code(&send(&["[2]"], b""), 0);
    assert_eq!((ear.line("ada"), ear.line("ada")), ("ada: {}".into(), "ada: [2]".into()));
}

#[test]
fn piped_text_loses_its_last_end_of_line_and_nothing_else_does() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--count", "4"]);
    let cases = [(&[][..], "a\\b\n"), (&["--kind", "json"], "{}\r\n"), (&["--kind", "bytes"], "c\n"), (&[], "d\n\n")];
    for (more, input) in cases {
        let arguments = [&["send", "--to", "ear", "--name", "ada"], more].concat();
        assert_code(&run(&relay.address, &arguments, input.as_bytes()), 0);
    }
    assert_eq!(ear.end().1, ["ada: a\\\\b", "ada: {}", "ada: [2 bytes: 63 0a]", "ada: d\\n"]);
}

#[test]
fn raw_output_is_the_payload_and_nothing_else() {
    let relay = Relay::start();
    let mut child = Command::new(BINARY)
        .args(["listen", &relay.address, "--name", "ear", "--raw", "--count", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let payload: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    // It may take a moment until the listener is registered; only then can it be found.
    while !run(&relay.address, &["send", "--to", "ear", "--receipt"], &payload).status.success() {}
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--receipt"], &payload), 0);
    let mut bytes = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut bytes).expect("read");
    assert!(child.wait().expect("ended").success());
    assert_eq!(bytes, [payload.clone(), payload].concat());
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let relay = Relay::start();
    let mut child = Command::new(BINARY)
        .args(["listen", &relay.address, "--name", "ear"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    drop(child.stdout.take());
    while !run(&relay.address, &["send", "--to", "ear", "--receipt", "into the void"], b"").status.success() {}
    let output = child.wait_with_output().expect("ended");
    assert_code(&output, 0);
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    let mut help = Command::new(BINARY).arg("--help").stdout(Stdio::piped()).spawn().expect("started");
    drop(help.stdout.take());
    assert!(help.wait().expect("ended").success());
}

#[test]
fn an_interrupt_ends_a_listener_in_good_order() {
    let relay = Relay::start();
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--presence"]);
    let ear = Running::listen(&relay.address, &["--name", "ear"]);
    signal(&ear.child, Signal::INT);
    assert_eq!(ear.end(), (Some(0), vec![]));
    assert_eq!(watcher.line("- ear"), "- ear (LEFT)");
}

#[test]
fn whatever_a_command_ends_with_it_says_goodbye() {
    let relay = Relay::start_at("127.0.0.1:0", &["--payload-max", "16MiB", "--queue-max", "32MiB"]);
    let address = relay.address.as_str();
    let watcher = Running::listen(address, &["--name", "watcher", "--presence"]);
    let ended = |output: &Output, code: i32, says: &str, name: &str| {
        assert_code(output, code);
        assert!(stderr(output).contains(says), "{says}: {}", stderr(output));
        let departure = format!("- {name} (");
        assert_eq!(watcher.line(&departure), departure + "LEFT)");
    };
    let output = run(address, &["send", "--name", "a", "--to", "nobody", "x"], b"");
    ended(&output, 1, "nobody here is called", "a");
    let output = run(address, &["send", "--name", "b", "--room", "empty", "--receipt", "x"], b"");
    ended(&output, 1, "nobody else is in the room", "b");
    let output = run(address, &["send", "--name", "c", "--to", "watcher", "--lines", "--kind", "text"], b"x\n\xff\n");
    ended(&output, 1, "is not UTF-8", "c");
    // It takes no more than fits into its socket, and so there is no receipt.
    let options = Options { payload_bytes_max: 16 << 20, ..Options::named("silent") };
    let _silent = Client::connect(&relay.address(), &options).expect("welcomed");
    let arguments = ["send", "--name", "d", "--to", "silent", "--receipt", "--timeout", "0.5"];
    ended(&run(address, &arguments, &vec![b'x'; 16 << 20]), 1, "no receipt within 0.5 s", "d");
    ended(&run(address, &["listen", "--name", "e", "--timeout", "0.5"], b""), 0, "listening", "e");
    let output = run(address, &["listen", "--name", "f", "--timeout", "0.5", "--count", "1"], b"");
    ended(&output, 1, "0 of 1", "f");
    ended(&run(address, &["join", "--name", "g"], b"/msg nobody x\n"), 1, "1 request failed", "g");
    let join = |name: &str| {
        let mut command = Command::new(BINARY);
        command.args(["join", address, "--name", name]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    // A folder cannot be read.
    let output = join("h").stdin(std::fs::File::open("/").expect("a folder")).output().expect("started");
    ended(&output, 1, "cannot read standard input", "h");
    // Nobody reads what it shows.
    let mut child = join("i").stdin(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    ended(&child.wait_with_output().expect("ended"), 0, "", "i");
}

#[test]
fn a_payload_that_is_too_large_for_the_relay_is_refused_with_a_goodbye() {
    let relay = Relay::start();
    let watcher = Running::listen(&relay.address, &["--name", "watcher", "--presence"]);
    let output = run(&relay.address, &["send", "--name", "ada", "--all"], &vec![b'x'; 70_000]);
    assert_code(&output, 1);
    assert_eq!(watcher.line("- ada"), "- ada (LEFT)");
}

#[test]
fn time_that_is_over_is_a_failure_only_when_frames_were_counted_on() {
    let relay = Relay::start();
    assert_code(&run(&relay.address, &["listen", "--timeout", "1"], b""), 0);
    let output = run(&relay.address, &["listen", "--timeout", "1", "--count", "3"], b"");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("0 of 3"), "{}", stderr(&output));
}

#[test]
fn the_time_of_a_listener_includes_connecting() {
    // Connections wait here to be accepted, for ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    for (more, says) in [(&[][..], "no answer within 0."), (&["--reconnect"], "no connection to")] {
        let output = run(&address, &[&["listen", "--timeout", "0.3"], more].concat(), b"");
        assert_code(&output, 1);
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}

#[test]
fn a_listener_that_is_to_come_back_waits_for_its_relay_from_the_start() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let ear = Running::start(&gone.to_string(), &["listen", "--name", "ear", "--reconnect", "--count", "1"]);
    ear.error_line("not connected yet: ");
    let relay = Relay::start_at(&gone.to_string(), &[]);
    ear.error_line("listening at");
    assert_code(&run(&relay.address, &["send", "--to", "ear", "--name", "ada", "at last"], b""), 0);
    assert_eq!(ear.end(), (Some(0), vec!["ada: at last".to_owned()]));
}

#[test]
fn a_listener_ends_with_its_relay_unless_it_is_to_come_back() {
    let relay = Relay::start();
    let address = relay.address.clone();
    let ends = Running::listen(&address, &["--name", "ends"]);
    let stays = Running::listen(&address, &["--name", "stays", "--room", "lobby", "--reconnect", "--count", "1"]);
    relay.stop();
    ends.error_line("is gone");
    assert_eq!(ends.end().0, Some(1));
    stays.error_line("lost:");
    let relay = Relay::start_at(&address, &[]);
    stays.error_line("listening at");
    assert_code(&run(&relay.address, &["send", "--room", "lobby", "--receipt", "--name", "ada", "again"], b""), 0);
    assert_eq!(stays.end(), (Some(0), vec!["ada: again".to_owned()]));
}

#[test]
fn two_people_talk_through_pipes() {
    let relay = Relay::start();
    let mut ada = Running::start(&relay.address, &["join", "--name", "ada", "--station", "desk"]);
    ada.line("nobody else is here");
    let mut bob = Running::start(&relay.address, &["join", "--name", "bob", "--room", "lobby"]);
    assert!(bob.line("connected").ends_with("here: ada"));
    ada.line("+ bob is here");
    ada.type_line("good morning");
    assert_eq!(bob.line("morning"), "ada: good morning");
    bob.type_line("/to ada");
    bob.type_line("only you");
    assert_eq!(ada.line("only"), "bob -> you: only you");
    ada.type_line("/join lobby");
    ada.type_line("/to #lobby");
    ada.type_line("//in the room");
    assert_eq!(bob.line("room"), "ada #lobby: /in the room");
    ada.type_line("/who #lobby");
    ada.line("2 in #lobby");
    ada.type_line("/rename lady");
    bob.line("ada is now called lady");
    bob.type_line("/msg ada lost?");
    bob.line("ada is not here and did not get it");
    for (ping, answer) in [("/ping lady", "lady: round trip"), ("/ping", "the relay: round trip")] {
        bob.type_line(ping);
        // All three have the same clock on the wall; it may have been set between their starts, by little.
        let line = bob.line(answer);
        let (_, offset) = line.split_once("clock offset ").expect("an offset");
        let seconds: f64 = offset.trim_end_matches(" s").parse().expect("seconds");
        assert!(seconds.abs() < 5.0, "{line}");
    }
    bob.type_line("/rename lady");
    bob.line("somebody else is called lady");
    bob.type_line("/quit");
    // Two of his lines came to nothing.
    assert_eq!(bob.end().0, Some(1));
    ada.line("bob has left: said goodbye");
    ada.type_line("exit");
    assert_eq!(ada.end().0, Some(0));
}

#[test]
fn a_script_that_joins_is_answered_in_full_before_it_leaves() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--count", "2"]);
    let script = b"/join lobby\n/to #lobby\nanybody?\n/to ear\nyou!\n/ping\n/to all\nall!";
    let output = run(&relay.address, &["join", "--name", "script"], script);
    assert_code(&output, 0);
    let said = stdout(&output);
    for expected in ["you are in #lobby", "nobody else was there", "the relay: round trip", "you now talk to all"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(ear.end(), (Some(0), vec!["script: you!".to_owned(), "script: all!".to_owned()]));
}

#[test]
fn a_script_whose_lines_fail_is_told_by_the_exit_code() {
    let relay = Relay::start();
    let ear = Running::listen(&relay.address, &["--name", "ear", "--room", "tea", "--count", "1"]);
    // What is typed goes to the first room.
    let output = run(&relay.address, &["join", "--name", "script", "--room", "tea"], b"a cup of it\n");
    assert_code(&output, 0);
    assert_eq!(ear.end(), (Some(0), vec!["script: a cup of it".to_owned()]));
    for (script, why) in
        [("/msg nobody hi\n", "nobody is not here"), ("/evict script\n", "cannot evict"), ("/nonsense\n", "not known")]
    {
        let output = run(&relay.address, &["join", "--name", "script"], script.as_bytes());
        assert_code(&output, 1);
        assert!(stdout(&output).contains(why), "{why}: {}", stdout(&output));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "switchboard: 1 request failed, as told on standard output\n"
        );
    }
}

/// A relay with a user who may do everything, three who may not know who is here, of whom one may write to the boss only
/// and one may administer, and their tokens in files.
fn relay_with_users(folder: &std::path::Path) -> Relay {
    let mut users = String::new();
    for (user, rights) in [
        ("ops", "admin=yes names=*"),
        ("robot", "watch=no names=* all=no"),
        ("guard", "watch=no admin=yes names=*"),
        ("spy", "watch=no names=* to=boss"),
    ] {
        let token = format!("swb_{user:-<43}");
        std::fs::write(folder.join(user), &token).expect("a file");
        let digest = TokenDigest::of(token.as_bytes());
        let _ = writeln!(users, "{user} token:{digest} {rights}");
    }
    let file = folder.join("users");
    std::fs::write(&file, users).expect("a file");
    Relay::start_at("127.0.0.1:0", &["--users", file.to_str().expect("text")])
}

#[test]
fn who_may_not_know_who_is_here_can_talk_and_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = relay_with_users(folder.path());
    let token = |user: &str| folder.path().join(user).to_str().expect("text").to_owned();
    let robot = ["--user", "robot", "--token-file", &token("robot")];
    let ops = ["--user", "ops", "--token-file", &token("ops")];
    let listen = [&["--room", "reports", "--count", "2"], &robot[..]].concat();
    // It says that it listens, although it will not know who anybody is.
    let ear = Running::listen(&relay.address, &listen);
    let output = run(&relay.address, &[&["join", "--room", "reports"], &ops[..]].concat(), b"from ops\n");
    assert_code(&output, 0);
    let output =
        run(&relay.address, &[&["join", "--name", "bot", "--room", "reports"], &robot[..]].concat(), b"from a bot\n");
    assert_code(&output, 0);
    let said = stdout(&output);
    assert!(said.contains("authenticated as robot; who else is here you may not know"), "{said}");
    let heard = ear.end();
    assert_eq!((heard.0, heard.1.len()), (Some(0), 2), "{heard:?}");
    assert!(heard.1[0].ends_with(": from ops") && heard.1[1].ends_with(": from a bot"), "{heard:?}");

    let failing = [
        ("/msg ops hi\n", "ops is not here and did not get it"),
        ("/to all\nhi\n", "the user may not send to all"),
        ("/who\n", "may not know who is here"),
    ];
    for (script, why) in failing {
        let output = run(&relay.address, &[&["join", "--name", "bot"], &robot[..]].concat(), script.as_bytes());
        assert_code(&output, 1);
        assert!(stdout(&output).contains(why), "{why}: {}", stdout(&output));
    }
    let output = run(&relay.address, &[&["listen", "--presence", "--count", "1"], &robot[..]].concat(), b"");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("--presence is not to be had"), "{}", stderr(&output));
}

#[test]
fn who_may_not_know_who_is_here_finds_those_whom_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = relay_with_users(folder.path());
    let token = |user: &str| folder.path().join(user).to_str().expect("text").to_owned();
    let join = |user: &str, script: &str| {
        let arguments = ["join", "--name", "script", "--user", user, "--token-file", &token(user)];
        let output = run(&relay.address, &arguments, script.as_bytes());
        (output.status.code(), stdout(&output))
    };
    let listen = |name: &str, count: &str| {
        let arguments = ["--name", name, "--count", count, "--user", "ops", "--token-file", &token("ops")];
        Running::listen(&relay.address, &arguments)
    };
    let (ada, bob) = (listen("ada", "3"), listen("bob", "1"));
    // In this order, though each name is asked for first.
    let (code, said) = join("robot", "/msg ada one\n/to ada,bob\ntwo\n/to ada\nthree\n/ping\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("* you now talk to ada\n") && said.contains("you can write to a name that you know"),
        "{said}"
    );
    assert_eq!(ada.end(), (Some(0), ["one", "two", "three"].map(|text| format!("script: {text}")).to_vec()));
    assert_eq!(bob.end(), (Some(0), vec!["script: two".to_owned()]));

    let ada = listen("ada", "2");
    let (code, said) = join("robot", "/to nobody,ada\nhi\n/ping nobody\n/ping ada\n/msg ada bye\n");
    assert_eq!(code, Some(1), "{said}");
    for line in ["* nobody is not here and did not get it\n", "* nobody is not here\n", "* ada: round trip"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(ada.end(), (Some(0), ["hi", "bye"].map(|text| format!("script: {text}")).to_vec()));
    // Whether somebody is here whom one may not write to is not told.
    for name in ["script/ada", "nobody"] {
        let (code, said) = join("spy", &format!("/msg {name} hi\n"));
        assert_eq!(code, Some(1), "{said}");
        let why = "the user may not address this client, or it is not here (DENIED)";
        assert!(said.contains(&format!("* cannot look up {name}: {why}\n")), "{said}");
    }
    let loud = listen("loud", "1");
    let (code, said) = join("guard", "/evict nobody\n/evict loud too loud\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("* nobody is not here\n* the connection of loud has been ended\n"), "{said}");
    assert_eq!(loud.end().0, Some(1));
}

#[test]
fn who_may_not_know_who_is_here_asks_for_the_names_of_those_who_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = relay_with_users(folder.path());
    let token = |user: &str| folder.path().join(user).to_str().expect("text").to_owned();
    let join = |name: &str, user: &str| {
        let arguments = ["join", "--name", name, "--user", user, "--token-file", &token(user)];
        Running::start(&relay.address, &arguments)
    };
    let listen = |name: &str, user: &str| {
        let arguments = ["--name", name, "--count", "2", "--user", user, "--token-file", &token(user)];
        Running::listen(&relay.address, &arguments)
    };
    let (ear, spy) = (listen("ear", "robot"), listen("spy", "spy"));
    let bot = join("bot", "robot");
    bot.line("connected");
    let mut ada = join("ada", "ops");
    ada.line("connected");
    ada.type_line("one");
    let number = ear.line("one").strip_suffix(": one").expect("a number").to_owned();
    assert!(number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()), "{number}");
    assert_eq!(bot.line("one"), format!("client {number}: one"));
    // Their answers stand behind their questions, and so do the lines that follow.
    for name in ["ear", "bot"] {
        ada.type_line(&format!("/ping {name}"));
        ada.line(&format!("* {name}: round trip"));
    }
    ada.type_line("two");
    assert_eq!(ear.end(), (Some(0), vec!["ada: two".to_owned()]));
    assert_eq!(bot.line("two"), "ada: two");
    // Who may not ask shows the number, and says nothing of it.
    let (code, lines, errors) = spy.end_with_errors();
    assert_eq!((code, lines), (Some(0), vec![format!("{number}: one"), format!("{number}: two")]));
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn a_script_evicts_whom_it_may_and_hears_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = relay_with_users(folder.path());
    let token = |user: &str| folder.path().join(user).to_str().expect("text").to_owned();
    let as_user =
        |user: &'static str| vec!["--user".to_owned(), user.to_owned(), "--token-file".to_owned(), token(user)];
    let arguments = |command: &[&'static str], user: &'static str| -> Vec<String> {
        command.iter().map(|word| (*word).to_owned()).chain(as_user(user)).collect()
    };
    let listen = arguments(&["--name", "loud"], "ops");
    let loud = Running::listen(&relay.address, &listen.iter().map(String::as_str).collect::<Vec<_>>());
    let join = arguments(&["join", "--name", "ops/script"], "ops");
    let output =
        run(&relay.address, &join.iter().map(String::as_str).collect::<Vec<_>>(), b"/evict loud too loud\n/quit\n");
    assert_code(&output, 0);
    assert!(stdout(&output).contains("the connection of loud has been ended"), "{}", stdout(&output));
    loud.error_line("has ended the connection: too loud (EVICTED)");
    assert_eq!(loud.end().0, Some(1));
}

#[test]
fn a_script_whose_line_gets_no_answer_is_told_by_the_exit_code() {
    let relay = Relay::start();
    // It never answers a PING from another client, as it reads nothing.
    let silent = relay.client("silent");
    let output = run(&relay.address, &["join", "--name", "script"], b"/ping silent\n");
    assert_code(&output, 1);
    assert!(stderr(&output).contains("without an answer to every line"), "{}", stderr(&output));
    drop(silent);
}

#[test]
fn a_person_stays_while_the_relay_restarts_and_is_back_in_the_rooms() {
    let relay = Relay::start();
    let address = relay.address.clone();
    let mut ada = Running::start(&address, &["join", "--name", "ada", "--room", "lobby"]);
    ada.line("you are in #lobby");
    relay.stop();
    ada.line("not connected");
    let relay = Relay::start_at(&address, &[]);
    ada.line("* connected to");
    assert_eq!(ada.line(""), "* you are in #lobby, with nobody else; what you type goes there");
    ada.type_line("/to zed");
    assert_eq!(ada.line(""), "* you now talk to zed (not here at the moment)");
    ada.type_line("/to #lobby");
    ada.line("you now talk to #lobby");
    let ear = Running::listen(&relay.address, &["--name", "ear", "--room", "lobby", "--count", "1"]);
    ada.type_line("still here");
    assert_eq!(ear.end(), (Some(0), vec!["ada: still here".to_owned()]));
    ada.end_input();
    assert_eq!(ada.end().0, Some(0));
}

#[test]
fn strangers_bytes_do_not_reach_the_terminal_as_they_are() {
    let relay = Relay::start();
    let ada = Running::start(&relay.address, &["join", "--name", "ada"]);
    ada.line("connected");
    assert_code(&run(&relay.address, &["send", "--to", "ada", "--name", "eve"], b"\x1b[2Jgotcha\x07"), 0);
    assert_eq!(ada.line("gotcha"), "eve -> you: \\u{1b}[2Jgotcha\\u{7}");
}
