//! The client of the appendix, taken out of the document and tried: against a listener that only looks at what it
//! says, and on a real relay.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use switchboard::wire::control::{self, ErrorBody, Goodbye, Hello, Presence, Profile, Reason};
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id, Type, kind};

use crate::document::document;
use crate::examples::{ADA, ADA_ADDRESS, BOB, control, from, numbered, of_kind, plain, welcome};
use crate::relay::{Relay, read_frame, welcomed};

/// The client of the appendix in a file of its own.
fn python_client(directory: &Path) -> PathBuf {
    let document = document();
    let block = document.blocks.iter().find(|block| block.language == "python").expect("the appendix");
    let path = directory.join("client.py");
    std::fs::write(&path, &block.text).expect("a temporary file");
    path
}

/// Starts the client of the appendix; `None` if there is no Python.
fn start_python_client(directory: &Path, port: u16, name: &str, text: &str) -> Option<Child> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3");
        return None;
    }
    let client = python_client(directory);
    // Where SIGINT is ignored, as in a job in the background, Python would ignore it too.
    let run = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); \
               runpy.run_path(sys.argv.pop(1), run_name='__main__')";
    let mut command = Command::new("python3");
    command.args(["-B", "-c", run]).arg(&client).args(["127.0.0.1", &port.to_string(), name, text]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command.spawn().expect("python3 starts"))
}

#[test]
fn the_client_of_the_appendix_says_what_it_should() {
    let directory = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let Some(child) = start_python_client(directory.path(), port, "ada", "hello") else { return };

    // A client that does not even compile never connects: its end does, so that nothing waits for ever.
    let ended = std::thread::spawn(move || {
        let output = child.wait_with_output().expect("it ends");
        let _ = TcpStream::connect(("127.0.0.1", port));
        output
    });
    let (mut stream, _) = listener.accept().expect("a connection");
    let stream = &mut stream;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");

    let hello = read_frame(stream);
    assert_eq!(hello, control(numbered(1), Hello::new(Profile::named("ada"))));
    stream.write_all(&welcome(ADA, ADA_ADDRESS, 1)).expect("written");
    let send = Header::new(Type::Send).flagged(Flags::NO_ECHO).correlating(2).to(Id::ALL);
    assert_eq!(read_frame(stream), plain(of_kind(send, kind::TEXT), b"hello"));
    let ping = from(BOB, &control(numbered(77).to(ADA), control::Ping { clock_us: Some(5) }));
    stream.write_all(&ping).expect("written");
    assert_eq!(read_frame(stream), plain(Header::new(Type::Pong).correlating(77).to(BOB), b""));
    let text = of_kind(Header::new(Type::Send).to(ADA), kind::TEXT);
    stream.write_all(&from(BOB, &plain(text, b"good morning"))).expect("written");
    let refused = Reason { client: Some(BOB), ..Reason::new(Code::QueueFull, "") };
    stream.write_all(&control(numbered(2), ErrorBody(refused))).expect("written");
    let ending = Goodbye(Reason::new(Code::ShuttingDown, "restarting"));
    stream.write_all(&control(numbered(0), ending)).expect("written");
    // It reads on, says nothing more, and closes when the stream ends.
    stream.write_all(&ping).expect("written");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    assert!(stream.read(&mut [0]).is_err(), "it waits for the end of the stream");
    stream.shutdown(Shutdown::Write).expect("open");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);

    let output = ended.join().expect("it was waited for");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    let expected = "I am 4000000001000001\n4000000002000002: good morning\nframe 2: code 1005\nframe 0: code 2001\n";
    assert_eq!(printed, expected);
}

// ---- a real relay ----

/// Waits until the system says that a process waits for something; where it does not say, goes on.
fn until_it_sleeps(child: &Child) {
    let state = || {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        // The name in parentheses may hold anything.
        text.rsplit_once(") ").map(|(_, rest)| rest.starts_with('S'))
    };
    while state() == Some(false) {
        std::thread::yield_now();
    }
}

#[test]
fn the_client_of_the_appendix_talks_to_the_relay() {
    let directory = tempfile::tempdir().expect("a folder");
    let relay = Relay::start();
    let mut bob = relay.connect();
    bob.write_all(&control(numbered(1), Hello::new(Profile::named("bob")))).expect("written");
    let bob_id = welcomed(&read_frame(&mut bob));
    bob.write_all(&control(numbered(2), control::Watch { room: None })).expect("written");
    read_frame(&mut bob);

    let Some(mut ada) = start_python_client(directory.path(), relay.port(), "ada", "hello") else { return };
    let delta = read_frame(&mut bob);
    let arrived = control::presence(&delta[HEADER_BYTES..]).find_map(|said| match said {
        Ok(Presence::Arrived(member)) => Some(member),
        _ => None,
    });
    let ada_id = arrived.filter(|member| member.profile.name == Some("ada")).expect("ada arrives").client;
    let send = Header::new(Type::Send).flagged(Flags::NO_ECHO).correlating(2).to(Id::ALL);
    assert_eq!(read_frame(&mut bob), from(ada_id, &plain(of_kind(send, kind::TEXT), b"hello")));

    let morning = of_kind(Header::new(Type::Send).flagged(Flags::RECEIPT).correlating(3).to(ada_id), kind::TEXT);
    bob.write_all(&plain(morning, b"good morning")).expect("written");
    let written = control::Receipt { stage: control::Stage::Written.number(), ..control::Receipt::default() };
    assert_eq!(read_frame(&mut bob), control(numbered(3).to(bob_id), written));
    bob.write_all(&control(numbered(4).to(ada_id), control::Ping { clock_us: Some(5) })).expect("written");
    let pong = plain(Header::new(Type::Pong).correlating(4).to(bob_id), b"");
    assert_eq!(read_frame(&mut bob), from(ada_id, &pong));

    // Names are taken once: another client of this name is refused, and ends by itself.
    let second =
        start_python_client(directory.path(), relay.port(), "ada", "hello").expect("python3 has started before");
    let second = second.wait_with_output().expect("it ends");
    assert_eq!((second.status.success(), second.stdout.as_slice()), (true, &b"frame 1: code 3006\n"[..]));

    // Ctrl-C makes it say GOODBYE.
    let carol =
        start_python_client(directory.path(), relay.port(), "carol", "hello").expect("python3 has started before");
    assert_eq!(Header::read(&read_frame(&mut bob)).frame_type(), Some(Type::Delta));
    let hello = Header::read(&read_frame(&mut bob));
    assert_eq!(hello.frame_type(), Some(Type::Send));
    // Not while it is still busy: it says GOODBYE only where it waits for the next frame.
    bob.write_all(&control(numbered(5).to(hello.source), control::Ping { clock_us: None })).expect("written");
    assert_eq!(Header::read(&read_frame(&mut bob)).frame_type(), Some(Type::Pong));
    until_it_sleeps(&carol);
    let interrupt = rustix::process::Signal::INT;
    rustix::process::kill_process(rustix::process::Pid::from_child(&carol), interrupt).expect("it runs");
    let delta = read_frame(&mut bob);
    let departed = control::presence(&delta[HEADER_BYTES..]).find_map(|said| match said {
        Ok(Presence::Departed(member)) => Some(member.code_number),
        _ => None,
    });
    assert_eq!(departed, Some(Code::Left.number()));
    assert!(carol.wait_with_output().expect("it ends").status.success());

    // What is left is a connection that breaks off.
    drop(relay);
    let mut printed = String::new();
    ada.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
    assert_eq!(ada.wait().expect("it ends").code(), Some(1));
    assert_eq!(printed, format!("I am {ada_id}\n{bob_id}: good morning\n{}: hello\n", hello.source));
}
