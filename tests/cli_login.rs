//! Who a command says that it is: files, the environment, a terminal; and what it is called then.

mod client_support;
mod terminal_support;
mod tls_support;

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use client_support::{BINARY, assert_code, stderr};
use switchboard::auth::Verifier;
use switchboard::auth::scram::{Binding, ServerExchange};
use switchboard::wire::control::{Auth, Body, Hello, Welcome};
use switchboard::wire::{Header, Type};
use tempfile::TempDir;
use terminal_support::AtTerminal;
use tls_support::{Frames, PATIENCE, welcome};

/// What a command has said of itself.
#[derive(Debug)]
struct Heard {
    name: String,
    mechanism: Option<String>,
    data: String,
}

/// A relay for one `send --all`: of a password it knows that it is this, and whoever has a token is the user `robot`.
fn relay(password: &'static str) -> (String, JoinHandle<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let handle = thread::spawn(move || {
        let (mut line, _) = listener.accept().expect("a client");
        line.set_read_timeout(Some(PATIENCE)).expect("set");
        let (_, payload) = line.frame();
        let hello = Hello::parse(&payload).expect("a HELLO");
        let data = hello.auth_data.unwrap_or_default();
        let (user, word) = match hello.mechanism {
            Some("SCRAM-SHA-256") => scram(&mut line, data, password),
            _ => ("robot".to_owned(), String::new()),
        };
        let heard = Heard {
            name: hello.profile.name.expect("a name").to_owned(),
            mechanism: hello.mechanism.map(str::to_owned),
            data: String::from_utf8_lossy(data).into_owned(),
        };
        let auth_data = Some(word.as_bytes()).filter(|word| !word.is_empty());
        let user = hello.mechanism.map(|_| user.as_str());
        line.say(Header::new(Type::Welcome).correlating(1), &Welcome { user, auth_data, ..welcome() });
        while line.try_frame().is_ok_and(|(header, _)| header.frame_type() != Some(Type::Goodbye)) {}
        heard
    });
    (address, handle)
}

fn scram(line: &mut TcpStream, first: &[u8], password: &str) -> (String, String) {
    let iterations = NonZeroU32::new(4096).expect("some");
    let known = Verifier::from_password(password, iterations, b"sixteen bytes of");
    let (exchange, challenge) =
        ServerExchange::begin(first, false, Binding::None, |_| known, [7; 18]).expect("a first message");
    line.say(Header::new(Type::Auth).correlating(1), &Auth { data: challenge.as_bytes() });
    let (_, payload) = line.frame();
    exchange.finish(Auth::parse(&payload).expect("an AUTH").data).expect("the right password")
}

/// A command whose environment says nothing of who it is.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("SWITCHBOARD_PASSWORD").env_remove("SWITCHBOARD_TOKEN").env_remove("USER");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends with these arguments and this environment to a relay that knows the password `secret`.
fn send(arguments: &[&str], environment: &[(&str, &str)]) -> (Output, Heard) {
    let (address, handle) = relay("secret");
    let mut command = command(&[&["send", "--addr", &address, "--all", "x"], arguments].concat());
    let output = command.envs(environment.iter().copied()).output().expect("started");
    assert_code(&output, 0);
    (output, handle.join().expect("the relay is content"))
}

/// A file that only its owner reads.
fn file(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
    path
}

#[test]
fn a_token_is_the_first_line_of_its_file_or_stands_in_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "token", "swb_first\r\nswb_second\n");
    let from_file = ["--token-file", path.to_str().expect("UTF-8")];
    let (output, heard) = send(&from_file, &[("SWITCHBOARD_TOKEN", "swb_env"), ("SWITCHBOARD_PASSWORD", "x")]);
    assert_eq!((heard.mechanism.as_deref(), heard.data.as_str()), (Some("TOKEN"), "swb_first"));
    assert!(heard.name.starts_with("send-"), "{heard:?}");
    assert_eq!(stderr(&output), "");
    let (_, heard) = send(&[], &[("SWITCHBOARD_TOKEN", "swb_env"), ("SWITCHBOARD_PASSWORD", "")]);
    assert_eq!((heard.mechanism.as_deref(), heard.data.as_str()), (Some("TOKEN"), "swb_env"));
    let (_, heard) = send(&["--user", "robot"], &[("SWITCHBOARD_TOKEN", "swb_env")]);
    assert!(heard.name.starts_with("robot/send-") && heard.data == "swb_env", "{heard:?}");
    let (_, heard) = send(&[], &[]);
    assert_eq!((heard.mechanism, heard.data.as_str()), (None, ""));
}

#[test]
fn a_password_is_the_first_line_of_its_file_or_stands_in_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "password", "secret\nanother line\n");
    let from_file = ["--user", "ada", "--password-file", path.to_str().expect("UTF-8")];
    let (_, heard) = send(&from_file, &[("SWITCHBOARD_PASSWORD", "wrong"), ("SWITCHBOARD_TOKEN", "swb_x")]);
    assert_eq!(heard.mechanism.as_deref(), Some("SCRAM-SHA-256"));
    assert!(heard.data.starts_with("n,,n=ada,r=") && heard.name.starts_with("ada/send-"), "{heard:?}");
    let environment = [("SWITCHBOARD_PASSWORD", "secret")];
    let (_, heard) = send(&["--user", "ada", "--name", "ada/desk"], &environment);
    assert!(heard.data.starts_with("n,,n=ada,r=") && heard.name == "ada/desk", "{heard:?}");
    // Without --user it is the client's own name.
    let (_, heard) = send(&["--name", "ada"], &environment);
    assert!(heard.data.starts_with("n,,n=ada,r=") && heard.name == "ada", "{heard:?}");
}

#[test]
fn a_file_that_others_can_read_is_complained_of_and_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "token", "swb_x");
    let text = path.to_str().expect("UTF-8");
    for (mode, complains) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        let (output, heard) = send(&["--token-file", text], &[]);
        assert_eq!(heard.data, "swb_x");
        let line = format!("switchboard: {text} can be read by others than you: chmod 600 {text}\n");
        assert_eq!(stderr(&output), if complains { line.as_str() } else { "" }, "{mode:o}");
    }
}

#[test]
fn what_does_not_say_who_one_is_is_told_before_anybody_is_connected_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = file(&folder, "empty", "\nsecond\n");
    let long = file(&folder, "long", &"x".repeat(5_000));
    let [empty, long] = [&empty, &long].map(|path| path.to_str().expect("UTF-8"));
    let name = "n".repeat(60);
    for (arguments, environment, code, says) in [
        (&["--user", "ada"][..], &[][..], 2, "no terminal to ask for the password of \"ada\""),
        (&[], &[("SWITCHBOARD_PASSWORD", "x")], 2, "--user NAME"),
        (&[], &[("SWITCHBOARD_PASSWORD", "x"), ("SWITCHBOARD_TOKEN", "y")], 2, "both set"),
        (&["--password-file", empty, "--user", "ada"], &[], 1, "is empty"),
        (&["--token-file", long], &[], 1, "has more than 1024 bytes"),
        (&["--token-file", "/nonexistent"], &[], 1, "cannot read /nonexistent"),
        (&["--token-file", empty, "--password-file", empty], &[], 2, "cannot be used with"),
        (&["--cert", "x"], &[], 2, "--key"),
        (&["--user", " ada"], &[], 2, "no space at either end"),
        (&["--user", &name], &[("SWITCHBOARD_TOKEN", "y")], 2, "choose a --name"),
        (&["--cert", empty, "--key", empty], &[], 2, "tls://"),
    ] {
        // Nobody listens there.
        let mut command = command(&[&["send", "--addr", "127.0.0.1:1", "--all", "x"], arguments].concat());
        let output = command.envs(environment.iter().copied()).output().expect("started");
        assert_code(&output, code);
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    }
    for secret in ["--password", "--token"] {
        let output = command(&["send", "--all", "x", secret, "swb_x"]).output().expect("started");
        assert_code(&output, 2);
        assert!(stderr(&output).contains("unexpected argument"), "no secret is an argument");
    }
}

#[test]
fn a_terminal_is_asked_for_the_password_and_does_not_show_it() {
    let (address, handle) = relay("secret");
    let mut terminal = AtTerminal::start(&["send", "--addr", &address, "--all", "--user", "ada", "x"]);
    terminal.is_asked("password of ada: ");
    terminal.types("secret\n");
    assert!(terminal.child.wait().expect("ended").success());
    assert!(handle.join().expect("the relay is content").data.starts_with("n,,n=ada,r="));
    assert!(!terminal.rest().contains("secret"));
}

#[test]
fn who_interrupts_instead_of_a_password_has_a_terminal_that_shows_again_what_is_typed() {
    for command in ["join", "send", "listen"] {
        let all = if command == "send" { &["--all"][..] } else { &[] };
        let what = if command == "send" { &["x"][..] } else { &[] };
        let mut terminal = AtTerminal::start(&[&[command, "--user", "ada"], all, what].concat());
        terminal.is_asked("password of ada: ");
        terminal.types("sec");
        terminal.types("\u{3}");
        let status = terminal.child.wait().expect("ended");
        assert_eq!(status.signal(), Some(2), "{command}: {status:?}");
        assert!(terminal.echoes(), "{command}");
    }
}
