//! The three servers in `examples/`, each run as a process of its own and attacked over plain sockets.
//!
//! The time limits here only turn a hang into a failure; nothing is judged by how long it takes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const WATCHDOG: Duration = Duration::from_mins(1);

/// `cargo test` builds the examples before it runs a test, next to the directory that the test is in; told to
/// run this test alone, it does not.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "no example is built: run cargo build --examples, or the whole of cargo test");
    path
}

/// An example that runs until this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Kept open: the server would otherwise write into a broken pipe.
    _output: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut child = Command::new(example(name))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("an example that runs");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address = line.trim_end().strip_prefix("listening on ").expect("where it listens").parse();
        let mut errors = child.stderr.take().expect("a pipe");
        let log = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("a log in UTF-8");
            text
        });
        Self { child, address: address.expect("an address"), _output: output, log: Some(log) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(WATCHDOG)).expect("a socket");
        stream.set_write_timeout(Some(WATCHDOG)).expect("a socket");
        stream
    }

    /// Ends the server and returns what it logged.
    fn stop(mut self) -> String {
        assert!(self.child.try_wait().expect("a child").is_none(), "the server has ended by itself");
        self.child.kill().expect("a child");
        self.log.take().expect("only taken here").join().expect("the log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn random_bytes(random: &mut fastrand::Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    random.fill(&mut bytes);
    bytes
}

/// Cuts `bytes` at random places, mostly into small pieces at the beginning and large ones later.
fn pieces<'a>(random: &mut fastrand::Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = rest.len().min(1 << random.u32(0..18));
        let (piece, more) = rest.split_at(random.usize(1..=most));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// Writes from another thread, so that a client can read meanwhile; then shuts the writing side.
fn write_in_pieces(stream: &TcpStream, bytes: &[u8], seed: u64) -> JoinHandle<()> {
    let (mut stream, bytes) = (stream.try_clone().expect("a socket"), bytes.to_vec());
    thread::spawn(move || {
        for piece in pieces(&mut fastrand::Rng::with_seed(seed), &bytes) {
            stream.write_all(piece).expect("the server reads");
        }
        stream.shutdown(Shutdown::Write).expect("a socket");
    })
}

fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}

/// Closes so that the peer sees a reset instead of an end.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

/// Sends `question` and expects `answer`.
fn ask(mut stream: &TcpStream, question: &[u8], answer: &[u8]) {
    stream.write_all(question).expect("the server reads");
    let mut found = vec![0; answer.len()];
    stream.read_exact(&mut found).expect("an answer");
    assert!(found == answer, "the answer to {} bytes differs", question.len());
}

/// Writes copies of `bytes` and reads nothing, until the server takes no more while it answers another
/// client a thousand times. Returns how many bytes it took.
fn stuff(server: &Server, stream: &TcpStream, bytes: &[u8], question: &[u8], answer: &[u8]) -> usize {
    const MORE_THAN_ALL_BUFFERS: usize = 256 * 1024 * 1024;
    let other = server.connect();
    stream.set_nonblocking(true).expect("a socket");
    let (mut sent, mut idle) = (0, 0);
    while idle < 1000 {
        assert!(sent < MORE_THAN_ALL_BUFFERS, "the server reads on and on from a client that reads nothing");
        match (&*stream).write(&bytes[sent % bytes.len()..]) {
            Ok(count) => (sent, idle) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                ask(&other, question, answer);
                idle += 1;
            }
            Err(error) => panic!("the server has ended the connection: {error}"),
        }
    }
    stream.set_nonblocking(false).expect("a socket");
    sent
}

/// Runs an example that is expected to end by itself.
fn run_to_end(name: &str, arguments: &[&str]) -> Output {
    Command::new(example(name)).args(arguments).stdin(Stdio::null()).output().expect("an example that runs")
}

const EXAMPLES: [&str; 3] = ["echo", "line_echo", "fixed_header"];

#[test]
fn a_wrong_argument_is_one_line_and_exit_code_2() {
    for name in EXAMPLES {
        for arguments in [&["nowhere"][..], &["127.0.0.1"], &["127.0.0.1:0", "more"]] {
            let output = run_to_end(name, arguments);
            assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
            let text = String::from_utf8(output.stderr).expect("UTF-8");
            assert!(text.starts_with("usage: ") && text.lines().count() == 1, "{name} {arguments:?}: {text}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let server = Server::start("echo");
    for name in EXAMPLES {
        let output = run_to_end(name, &[&server.address.to_string()]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(text.contains("in use") && text.lines().count() == 1, "{name}: {text}");
    }
}

mod echo {
    use super::*;

    #[test]
    fn every_byte_comes_back_once_whatever_the_sizes() {
        let server = Server::start("echo");
        let mut random = fastrand::Rng::with_seed(1);
        for size in [1, 2, 3, 255, 4096, 4097, 65_535, 65_536, 262_144, 262_145, 1 << 20, (5 << 20) + 1] {
            let bytes = random_bytes(&mut random, size);
            let stream = server.connect();
            let writer = write_in_pieces(&stream, &bytes, size as u64);
            assert!(read_to_end(&stream) == bytes, "{size} bytes");
            writer.join().expect("the writer");
        }
    }

    #[test]
    fn one_connection_answers_many_times() {
        let server = Server::start("echo");
        let mut random = fastrand::Rng::with_seed(2);
        let stream = server.connect();
        for _ in 0..2000 {
            let size = random.usize(1..5000);
            let bytes = random_bytes(&mut random, size);
            ask(&stream, &bytes, &bytes);
        }
    }

    #[test]
    fn a_client_that_has_shut_its_writing_side_still_gets_everything() {
        let server = Server::start("echo");
        let bytes = random_bytes(&mut fastrand::Rng::with_seed(3), 4 << 20);
        let stream = server.connect();
        // The writer is done, end included, or stuck, before anything is read here.
        let writer = write_in_pieces(&stream, &bytes, 3);
        ask(&server.connect(), b"another client", b"another client");
        assert!(read_to_end(&stream) == bytes);
        writer.join().expect("the writer");
        // A lone end, and an end right behind a byte.
        let stream = server.connect();
        stream.shutdown(Shutdown::Write).expect("a socket");
        assert!(read_to_end(&stream).is_empty());
        let mut stream = server.connect();
        stream.write_all(b"x").expect("a socket");
        stream.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(read_to_end(&stream), b"x");
    }

    #[test]
    fn who_does_not_read_is_not_read_from_and_loses_nothing() {
        let server = Server::start("echo");
        let bytes = random_bytes(&mut fastrand::Rng::with_seed(4), 1 << 20);
        let stream = server.connect();
        let sent = stuff(&server, &stream, &bytes, b"ping", b"ping");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let found = read_to_end(&stream);
        assert_eq!(found.len(), sent);
        for (index, chunk) in found.chunks(bytes.len()).enumerate() {
            assert!(chunk == &bytes[..chunk.len()], "the echoes differ in MiB {index}");
        }
    }

    #[test]
    fn many_clients_at_once_get_their_own_bytes() {
        let server = Server::start("echo");
        let mut random = fastrand::Rng::with_seed(5);
        let mut clients: Vec<_> = (0..500).map(|_| (server.connect(), Vec::new())).collect();
        for _ in 0..10 {
            for (stream, sent) in &mut clients {
                let size = random.usize(1..2000);
                let bytes = random_bytes(&mut random, size);
                stream.write_all(&bytes).expect("the server reads");
                sent.extend_from_slice(&bytes);
            }
        }
        for (stream, sent) in &clients {
            stream.shutdown(Shutdown::Write).expect("a socket");
            assert!(read_to_end(stream) == *sent);
        }
    }

    #[test]
    fn a_reset_in_the_middle_concerns_nobody_else() {
        let server = Server::start("echo");
        let bytes = random_bytes(&mut fastrand::Rng::with_seed(6), 300_000);
        let witness = server.connect();
        for round in 0..100 {
            let mut stream = server.connect();
            if round % 4 > 0 {
                stream.write_all(&bytes[..1 << (round % 18)]).expect("the server reads");
            }
            if round % 4 > 1 {
                let _ = stream.read(&mut [0; 100]).expect("an echo");
            }
            if round % 4 > 2 {
                stream.shutdown(Shutdown::Write).expect("a socket");
            }
            reset(stream);
            ask(&witness, &bytes[..1 << (round % 17)], &bytes[..1 << (round % 17)]);
        }
        // And while a paused client's echoes wait.
        let stuck = server.connect();
        stuff(&server, &stuck, &bytes, b"ping", b"ping");
        reset(stuck);
        ask(&witness, &bytes, &bytes);
        server.stop();
    }
}

mod line_echo {
    use super::*;

    const LINE_BYTES_MAX: usize = 4096;

    fn answer(line: &str) -> String {
        format!("From server -> {line}\n")
    }

    #[test]
    fn each_line_is_answered_wherever_it_is_cut() {
        let server = Server::start("line_echo");
        let text = "one\ntwo\r\n\n\r\nwith \r inside\nEXIT\nexit now\n\u{fc}\u{1f600}\nlast\n";
        let expected: String = text.split_terminator('\n').map(|l| answer(l.strip_suffix('\r').unwrap_or(l))).collect();
        for cut in 0..=text.len() {
            let (front, back) = text.as_bytes().split_at(cut);
            let mut stream = server.connect();
            let whole = front.split(|byte| *byte == b'\n').count() - 1;
            // What the front asks for has been answered, so it has been read by itself.
            let so_far: String = expected.split_inclusive('\n').take(whole).collect();
            ask(&stream, front, so_far.as_bytes());
            stream.write_all(back).expect("the server reads");
            stream.shutdown(Shutdown::Write).expect("a socket");
            assert_eq!(so_far + &String::from_utf8(read_to_end(&stream)).expect("UTF-8"), expected, "cut at {cut}");
        }
    }

    #[test]
    fn long_streams_of_lines_are_answered_whatever_their_pieces() {
        let server = Server::start("line_echo");
        let mut random = fastrand::Rng::with_seed(10);
        for round in 0..10 {
            let mut sent = String::new();
            let mut expected = String::new();
            for _ in 0..3000 {
                let longest = 1 << random.u32(0..=12);
                let line = "x".repeat(random.usize(0..=longest));
                sent.push_str(&line);
                sent.push_str(if random.bool() { "\n" } else { "\r\n" });
                expected.push_str(&answer(&line));
            }
            let stream = server.connect();
            let writer = write_in_pieces(&stream, sent.as_bytes(), round);
            assert!(read_to_end(&stream) == expected.as_bytes(), "round {round}");
            writer.join().expect("the writer");
        }
    }

    #[test]
    fn exit_closes_its_own_client_once_all_is_answered() {
        let server = Server::start("line_echo");
        let witness = server.connect();
        for exit in ["Exit\n", "exit\n", "exit\r\n", "Exit\nnot a word after that\n"] {
            let mut stream = server.connect();
            stream.write_all("a line\n".repeat(1000).as_bytes()).expect("the server reads");
            stream.write_all(exit.as_bytes()).expect("the server reads");
            assert!(read_to_end(&stream) == answer("a line").repeat(1000).as_bytes(), "{exit:?}");
            ask(&witness, b"still here\n", answer("still here").as_bytes());
        }
    }

    #[test]
    fn a_line_at_the_limit_is_answered_and_a_longer_one_refused_in_words() {
        let server = Server::start("line_echo");
        let longest = "y".repeat(LINE_BYTES_MAX);
        let refusal = "error: a line may have at most 4096 bytes\n";
        for end in ["\n", "\r\n"] {
            let stream = server.connect();
            ask(&stream, format!("{longest}{end}").as_bytes(), answer(&longest).as_bytes());
            for (before, line) in
                [("", format!("{longest}y{end}")), ("ok\n", format!("{longest}yy")), ("", "z".repeat(1 << 20))]
            {
                let stream = server.connect();
                // Sent to the end although the refusal comes early: it must reach the client all the same.
                let _ = (&stream).write_all(format!("{before}{line}").as_bytes());
                let expected = if before.is_empty() { String::new() } else { answer("ok") } + refusal;
                assert_eq!(String::from_utf8(read_to_end(&stream)).expect("UTF-8"), expected, "{} bytes", line.len());
            }
        }
        server.stop();
    }

    #[test]
    fn many_clients_talk_at_once() {
        let server = Server::start("line_echo");
        let clients: Vec<_> = (0..500).map(|_| server.connect()).collect();
        for round in 0..5 {
            for (number, mut stream) in clients.iter().enumerate() {
                stream.write_all(format!("client {number} in round {round}\n").as_bytes()).expect("the server reads");
            }
            for (number, stream) in clients.iter().enumerate() {
                ask(stream, b"", answer(&format!("client {number} in round {round}")).as_bytes());
            }
        }
    }

    #[test]
    fn answers_that_nobody_reads_hold_their_own_lines_up_and_none_is_lost() {
        let server = Server::start("line_echo");
        let stream = server.connect();
        // Each newline asks for sixteen bytes.
        let sent = stuff(&server, &stream, &vec![b'\n'; 1 << 20], b"hello\n", answer("hello").as_bytes());
        stream.shutdown(Shutdown::Write).expect("a socket");
        let found = read_to_end(&stream);
        assert_eq!(found.len(), sent * answer("").len());
        assert!(found.chunks(answer("").len()).all(|chunk| chunk == answer("").as_bytes()));
    }
}

mod fixed_header {
    use super::*;

    const PROTOCOL: u16 = 0x5342;
    const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

    fn header(protocol: u16, length: i32) -> Vec<u8> {
        [&protocol.to_le_bytes()[..], &length.to_le_bytes()].concat()
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = i32::try_from(payload.len()).expect("a short payload");
        [&header(PROTOCOL, length)[..], payload].concat()
    }

    #[test]
    fn the_header_is_little_endian() {
        assert_eq!(frame(b"hello"), b"\x42\x53\x05\0\0\0hello");
        let server = Server::start("fixed_header");
        ask(&server.connect(), b"\x42\x53\x05\0\0\0hello", b"\x42\x53\x05\0\0\0hello");
    }

    #[test]
    fn frames_are_acknowledged_wherever_they_are_cut() {
        let server = Server::start("fixed_header");
        let frames = [frame(b"one"), frame(b""), frame(&[7; 30])];
        let all = frames.concat();
        for cut in 0..=all.len() {
            let (front, back) = all.split_at(cut);
            let stream = server.connect();
            let ends = frames.iter().scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            });
            let whole = ends.take_while(|end| *end <= cut).last().unwrap_or(0);
            ask(&stream, front, &all[..whole]);
            ask(&stream, back, &all[whole..]);
            stream.shutdown(Shutdown::Write).expect("a socket");
            assert!(read_to_end(&stream).is_empty());
        }
    }

    #[test]
    fn payloads_of_every_size_come_back_whatever_their_pieces() {
        let server = Server::start("fixed_header");
        let mut random = fastrand::Rng::with_seed(20);
        for round in 0..10 {
            let mut all = Vec::new();
            for _ in 0..100 {
                let longest = 1 << random.u32(0..=16);
                let size = random.usize(0..=longest);
                all.extend_from_slice(&frame(&random_bytes(&mut random, size)));
            }
            all.extend_from_slice(&frame(&random_bytes(&mut random, PAYLOAD_BYTES_MAX)));
            let stream = server.connect();
            let writer = write_in_pieces(&stream, &all, round);
            assert!(read_to_end(&stream) == all, "round {round}");
            writer.join().expect("the writer");
        }
    }

    #[test]
    fn a_bad_header_closes_its_client_with_an_error_in_the_log() {
        let server = Server::start("fixed_header");
        let witness = server.connect();
        let too_large = i32::try_from(PAYLOAD_BYTES_MAX + 1).expect("a small number");
        let bad = [
            header(PROTOCOL + 1, 5),
            header(PROTOCOL.swap_bytes(), 5),
            vec![0xff, 0xff],
            header(PROTOCOL, -1),
            header(PROTOCOL, i32::MIN),
            header(PROTOCOL, too_large),
            header(PROTOCOL, i32::MAX),
        ];
        for header in &bad {
            let mut stream = server.connect();
            let good = frame(b"good");
            stream.write_all(&[&good[..], header, b"more that nobody looks at"].concat()).expect("the server reads");
            assert_eq!(read_to_end(&stream), good, "the acknowledgement of the frame before {header:x?}");
            ask(&witness, &good, &good);
        }
        let log = server.stop();
        let errors: Vec<_> = log.lines().filter(|line| line.contains("[ERROR]")).collect();
        assert_eq!(errors.len(), bad.len(), "{log}");
        for (errors, text) in [(&errors[..3], "identifier"), (&errors[3..5], "negative"), (&errors[5..], "above 65536")]
        {
            assert!(errors.iter().all(|error| error.contains(text)), "{errors:?}");
        }
    }

    #[test]
    fn an_end_within_a_frame_is_no_error_for_anybody_else() {
        let server = Server::start("fixed_header");
        let witness = server.connect();
        let all = frame(&[9; 1000]);
        for cut in [1, 2, 5, 6, 7, 1005] {
            for abrupt in [false, true] {
                let mut stream = server.connect();
                stream.write_all(&all[..cut]).expect("the server reads");
                if abrupt {
                    reset(stream);
                } else {
                    stream.shutdown(Shutdown::Write).expect("a socket");
                    assert!(read_to_end(&stream).is_empty());
                }
                ask(&witness, &all, &all);
            }
        }
        server.stop();
    }

    #[test]
    fn who_does_not_read_is_not_read_from_and_loses_nothing() {
        let server = Server::start("fixed_header");
        let frames: Vec<u8> = (0..100).flat_map(|n: u8| frame(&vec![n; 10_000])).collect();
        let stream = server.connect();
        let sent = stuff(&server, &stream, &frames, &frame(b"ping"), &frame(b"ping"));
        let rest = (frames.len() - sent % frames.len()) % frames.len();
        let writer = write_in_pieces(&stream, &frames[frames.len() - rest..], 0);
        let found = read_to_end(&stream);
        writer.join().expect("the writer");
        assert_eq!(found.len(), sent + rest);
        assert!(found.chunks(frames.len()).all(|chunk| chunk == frames));
    }

    #[test]
    fn many_clients_send_at_once() {
        let server = Server::start("fixed_header");
        let clients: Vec<_> =
            (0..300_u16).map(|number| (server.connect(), frame(&number.to_le_bytes().repeat(500)))).collect();
        for (mut stream, frame) in clients.iter().map(|(stream, frame)| (stream, frame)) {
            stream.write_all(frame).expect("the server reads");
        }
        for (stream, frame) in &clients {
            ask(stream, b"", frame);
        }
    }
}
