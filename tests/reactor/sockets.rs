//! The same promises on sockets of the system, and what only they have: addresses, options, backlogs, files
//! and descriptors.
//!
//! Everything happens on one thread: what a client has written lies with the server before the next turn.
//! Times only turn a hang into a failure.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use switchboard::reactor::{
    CloseReason, ConnId, Endpoint, Lane, Limits, Outgoing, Progress, Reactor, SendError, SocketOptions, Stream,
};

use crate::support::{Script, Told, closed};

pub(crate) const WATCHDOG: Duration = Duration::from_mins(1);

pub(crate) struct Live {
    pub(crate) reactor: Reactor,
    pub(crate) service: Script<Stream>,
}

impl Live {
    /// A reactor whose service sends everything back.
    pub(crate) fn echo(limits: Limits) -> Self {
        let service = Script::with(|io, conn, data, told| {
            told.push((conn, Told::Message(data.to_vec())));
            // Whoever has gone meanwhile hears no echo.
            assert_ne!(io.send(conn, &mut Outgoing::to_one(data), Lane::Traffic), Err(SendError::Full));
            Progress::all(data)
        });
        Self { reactor: Reactor::new::<Script<Stream>>(limits).expect("a poll"), service }
    }

    pub(crate) fn listen(&mut self) -> SocketAddr {
        let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().expect("an address"));
        match self.reactor.listen(&endpoint, SocketOptions::default()).expect("a port") {
            Endpoint::Tcp(address) => address,
            Endpoint::Unix(_) => unreachable!("TCP was asked for"),
        }
    }

    pub(crate) fn turn(&mut self, wait: Duration) {
        self.reactor.turn(&mut self.service, Some(wait)).expect("a poll");
        self.reactor.connections().check_consistency();
    }

    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            // A turn that sleeps through what it waits for is a fault as well.
            self.turn(WATCHDOG);
            assert!(start.elapsed() < WATCHDOG, "this never happens: {what}");
        }
    }

    /// Connects, and returns the connection on both sides.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> (ConnId, TcpStream) {
        let stream = connect(address);
        (self.accepted(), stream)
    }

    /// The next connection that is accepted.
    fn accepted(&mut self) -> ConnId {
        let opened = |live: &Self| live.service.told.iter().filter(|(_, told)| *told == Told::Open).count();
        let before = opened(self);
        self.until("a connection is accepted", |live| opened(live) > before);
        self.service.told.iter().rfind(|(_, told)| *told == Told::Open).expect("just counted").0
    }

    /// Sends something, and sees it come back.
    pub(crate) fn ask(&mut self, client: &mut (impl Read + Write), text: &[u8]) {
        let before = self.reactor.connections().counters().written_bytes;
        client.write_all(text).expect("the server is there");
        self.until("an answer", |live| {
            live.reactor.connections().counters().written_bytes >= before + text.len() as u64
        });
        let mut found = vec![0; text.len()];
        client.read_exact(&mut found).expect("an answer");
        assert_eq!(found, text);
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the system accepts");
    stream.set_read_timeout(Some(WATCHDOG)).expect("a socket");
    stream
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    BeforeAccept,
    AtRest,
    WithInput,
    WithOutput,
    Flushing,
    Lingering,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leave {
    Reset,
    HalfClose,
    Close,
}

#[test]
fn a_client_may_leave_in_any_way_at_any_moment() {
    use Moment::{AtRest, BeforeAccept, Flushing, Lingering, WithInput, WithOutput};
    for moment in [BeforeAccept, AtRest, WithInput, WithOutput, Flushing, Lingering] {
        for leave in [Leave::Reset, Leave::HalfClose, Leave::Close] {
            let mut live = Live::echo(Limits { queue_bytes_max: 1 << 26, ..Limits::default() });
            let address = live.listen();
            let (_, mut witness) = live.connect(address);
            let mut client = connect(address);
            let more_than_buffers = vec![7; 1 << 25];
            if moment != BeforeAccept {
                let conn = live.accepted();
                match moment {
                    WithInput => client.write_all(b"not read yet").expect("the server is there"),
                    WithOutput | Flushing => {
                        let mut outgoing = Outgoing::to_one(&more_than_buffers);
                        live.reactor.connections().send(conn, &mut outgoing, Lane::Traffic).expect("room");
                    }
                    _ => {}
                }
                if matches!(moment, Flushing | Lingering) {
                    live.reactor.connections().close(conn);
                }
                if moment != WithInput {
                    live.turn(Duration::ZERO);
                    live.turn(Duration::ZERO);
                }
            }
            let mut rest = None;
            match leave {
                Leave::Reset => reset(client),
                Leave::Close => drop(client),
                Leave::HalfClose => {
                    client.shutdown(Shutdown::Write).expect("a socket");
                    rest = Some(client);
                }
            }
            let reader = rest.map(|mut client| {
                std::thread::spawn(move || {
                    let mut bytes = Vec::new();
                    client.read_to_end(&mut bytes).map(|_| bytes)
                })
            });
            live.until("the client has come and gone", |live| {
                let io = live.reactor.connections();
                io.counters().accepted + io.counters().accept_errors == 2 && io.len() == 1
            });
            if let Some(reader) = reader {
                let bytes = reader.join().expect("the reader").expect("an orderly end");
                let expected = match moment {
                    WithInput => &b"not read yet"[..],
                    WithOutput | Flushing => &more_than_buffers,
                    _ => b"",
                };
                assert!(bytes == expected, "{moment:?}, {leave:?}: {} bytes", bytes.len());
            }
            let ends = live.service.told.iter().filter(|(_, told)| matches!(told, Told::Close { .. })).count();
            let opened = live.service.told.iter().filter(|(_, told)| matches!(told, Told::Open)).count();
            assert_eq!(ends, opened - 1, "{moment:?}, {leave:?}: an end is told once for each that was opened");
            live.ask(&mut witness, b"still here");
        }
    }
}

#[test]
fn connections_through_ipv4_ipv6_and_unix_are_served_side_by_side() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut live = Live::echo(Limits::default());
    let v4 = live.listen();
    let unix =
        live.reactor.listen(&Endpoint::Unix(scratch.path().join("socket")), SocketOptions::default()).expect("a path");
    assert_eq!(unix, Endpoint::Unix(scratch.path().join("socket")));
    // The same port, which an IPv6 listener must not take from IPv4; and not the same for a machine without IPv6.
    let mut v6: SocketAddr = "[::1]:0".parse().expect("an address");
    v6.set_port(v4.port());
    let has_v6 = match live.reactor.listen(&Endpoint::Tcp(v6), SocketOptions::default()) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => false,
        Err(error) => panic!("{error}"),
    };
    let (v4_conn, mut v4_client) = live.connect(v4);
    let mut unix_client = UnixStream::connect(scratch.path().join("socket")).expect("the system accepts");
    let unix_conn = live.accepted();
    live.ask(&mut v4_client, b"over IPv4");
    live.ask(&mut unix_client, b"over a path");
    let io = live.reactor.connections();
    let local = v4_client.local_addr().expect("an address");
    assert_eq!(io.peer(v4_conn).and_then(|peer| peer.socket_addr()), Some(local));
    assert_eq!(io.peer(unix_conn).map(|peer| peer.to_string()), Some("unix".to_owned()));
    if has_v6 {
        let (v6_conn, mut v6_client) = live.connect(v6);
        live.ask(&mut v6_client, b"over IPv6");
        let local = v6_client.local_addr().expect("an address");
        assert_eq!(live.reactor.connections().peer(v6_conn).and_then(|peer| peer.socket_addr()), Some(local));
    }
    // A Unix client that leaves with something unread resets its connection.
    unix_client.write_all(b"and an answer that it does not read").expect("the server is there");
    live.until("the answer", |live| live.service.messages_of(unix_conn).len() == 2);
    drop(unix_client);
    live.until("the end", |live| live.service.end_of(unix_conn).is_some());
    live.ask(&mut v4_client, b"still here");
}

#[test]
fn a_storm_of_connections_is_taken_in_some_at_a_time_and_whole() {
    let mut live = Live::echo(Limits { accepts_turn_max: 7, storm_turn_min: 7, ..Limits::default() });
    let address = live.listen();
    let mut clients: Vec<_> = (0..300).map(|_| connect(address)).collect();
    let start = Instant::now();
    for turn in 1..=300 / 7 {
        live.turn(WATCHDOG);
        assert!(start.elapsed() < WATCHDOG, "it sleeps although connections wait");
        assert_eq!(live.reactor.connections().counters().accepted, turn * 7, "no event comes for the rest");
    }
    live.until("all are in", |live| live.reactor.connections().len() == 300);
    for client in &mut clients {
        live.ask(client, b"hello");
    }
}

#[test]
fn who_is_refused_at_the_cap_can_read_why_although_it_has_already_sent_something() {
    let mut live = Live::echo(Limits { connections_max: 2, ..Limits::default() });
    live.service.refusal = b"there is no room\n".to_vec();
    let address = live.listen();
    let (first, first_client) = live.connect(address);
    let (_, mut second_client) = live.connect(address);
    for refused in 1..=20 {
        let mut client = connect(address);
        client.write_all(&vec![1; 50_000]).expect("the system takes it");
        live.until("it is refused", |live| {
            live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Connections) == refused
        });
        // More arrives where nobody reads any more.
        client.write_all(&vec![2; 50_000]).expect("the system takes it");
        for _ in 0..5 {
            live.turn(Duration::ZERO);
        }
        let mut text = Vec::new();
        client.read_to_end(&mut text).expect("an end, and no reset before it");
        assert_eq!(text, b"there is no room\n");
    }
    live.until("the refused have gone", |live| live.reactor.connections().len() == 2);
    assert_eq!(live.service.told.len(), 2, "the service never heard of them");
    live.ask(&mut second_client, b"still here");
    drop(first_client);
    live.until("one has left", |live| live.service.end_of(first).is_some());
    let (_, mut third_client) = live.connect(address);
    live.ask(&mut third_client, b"now there is room");
}

#[test]
fn those_who_linger_or_are_refused_take_no_place_from_others() {
    let mut live = Live::echo(Limits { connections_max: 3, lingering_max: 2, ..Limits::default() });
    let address = live.listen();
    // They are closed, and do not close themselves.
    let lingering: Vec<_> = (0..2)
        .map(|_| {
            let (conn, client) = live.connect(address);
            live.reactor.connections().close(conn);
            live.turn(Duration::ZERO);
            client
        })
        .collect();
    let mut clients: Vec<_> = (0..3).map(|_| live.connect(address).1).collect();
    // No place is left even to linger in: the refused one is closed at once.
    let mut refused = connect(address);
    live.until("it is refused", |live| {
        live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Connections) == 1
    });
    assert_eq!(refused.read(&mut [0]).expect("an end"), 0);
    for client in &mut clients {
        live.ask(client, b"hello");
    }
    drop(lingering);
}

#[test]
fn closing_tells_the_client_everything_although_it_keeps_sending() {
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    let (conn, mut client) = live.connect(address);
    client.write_all(&vec![1; 100_000]).expect("the system takes it");
    let mut outgoing = Outgoing::to_one(b"the last word");
    live.reactor.connections().send(conn, &mut outgoing, Lane::Control).expect("room");
    live.reactor.connections().close(conn);
    live.until("it is told", |live| live.service.end_of(conn).is_some());
    client.write_all(&vec![2; 100_000]).expect("the system takes it");
    live.turn(Duration::ZERO);
    let mut text = Vec::new();
    client.read_to_end(&mut text).expect("an end, and no reset before it");
    assert_eq!(text, b"the last word");
    drop(client);
    live.until("it is freed", |live| live.reactor.connections().is_empty());
    assert_eq!(live.service.of(conn), [Told::Open, closed(CloseReason::Finished)]);
}

#[test]
fn connections_stay_when_listening_stops() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    live.reactor.listen(&Endpoint::Unix(scratch.path().join("socket")), SocketOptions::default()).expect("a path");
    let (_, mut client) = live.connect(address);
    live.reactor.connections().stop_listening();
    live.turn(Duration::ZERO);
    assert_eq!(TcpStream::connect(address).expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    assert!(!scratch.path().join("socket").exists());
    live.ask(&mut client, b"still here");
}

#[test]
fn a_loop_with_nothing_to_do_sleeps() {
    let mut live = Live::echo(Limits { linger: Duration::from_millis(1), ..Limits::default() });
    let address = live.listen();
    let (conn, mut client) = live.connect(address);
    live.ask(&mut client, b"hello");
    let (_, other) = live.connect(address);
    live.reactor.connections().pause(conn);
    client.write_all(b"held back").expect("the server is there");
    drop(other);
    live.until("it has gone", |live| live.reactor.connections().len() == 1);
    // Whatever has been announced is noted in these; each of them waits for more.
    let turns = |live: &mut Live| live.reactor.connections().counters().turns;
    let (start, before) = (Instant::now(), turns(&mut live));
    while start.elapsed() < Duration::from_millis(300) {
        live.reactor.turn(&mut live.service, Some(Duration::from_millis(100))).expect("a poll");
    }
    let count = turns(&mut live) - before;
    assert!(count < 50, "{count} turns where a handful would do");
}

#[test]
fn a_source_of_the_program_s_own_is_told_by_its_number() {
    let mut live = Live::echo(Limits::default());
    live.listen();
    let mut sockets: Vec<_> = (0..2)
        .map(|_| mio::net::UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket"))
        .collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(live.reactor.watch(socket).expect("it can be polled"), number);
    }
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sender.send_to(b"x", sockets[1].local_addr().expect("an address")).expect("it is there");
    live.until("the source is ready", |live| live.service.sources.contains(&1));
    assert!(!live.service.sources.contains(&0));
}

#[test]
fn a_socket_file_that_nobody_listens_at_is_replaced_and_removed_in_the_end() {
    let scratch = tempfile::tempdir().expect("a folder");
    drop(UnixListener::bind(scratch.path().join("socket")).expect("a path"));
    assert!(scratch.path().join("socket").exists(), "the system leaves the file");
    let mut live = Live::echo(Limits::default());
    live.reactor.listen(&Endpoint::Unix(scratch.path().join("socket")), SocketOptions::default()).expect("it is stale");
    let mut client = UnixStream::connect(scratch.path().join("socket")).expect("the new one listens");
    live.ask(&mut client, b"hello");
    drop(live);
    assert!(!scratch.path().join("socket").exists());
}

#[test]
fn the_socket_file_of_a_successor_is_left_alone_in_the_end() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut live = Live::echo(Limits::default());
    live.reactor.listen(&Endpoint::Unix(scratch.path().join("socket")), SocketOptions::default()).expect("a path");
    std::fs::remove_file(scratch.path().join("socket")).expect("it is there");
    let successor = UnixListener::bind(scratch.path().join("socket")).expect("the path is free");
    drop(live);
    UnixStream::connect(scratch.path().join("socket")).expect("the successor still listens");
    drop(successor);
}

#[test]
fn a_file_that_somebody_uses_is_left_alone() {
    let scratch = tempfile::tempdir().expect("a folder");
    let refused = || {
        let mut live = Live::echo(Limits::default());
        let result = live.reactor.listen(&Endpoint::Unix(scratch.path().join("socket")), SocketOptions::default());
        assert!(result.is_err(), "it took somebody else's file");
        drop(live);
        assert!(scratch.path().join("socket").exists());
    };
    let other = UnixListener::bind(scratch.path().join("socket")).expect("a path");
    refused();
    UnixStream::connect(scratch.path().join("socket")).expect("the other one still listens");
    drop(other);
    std::fs::remove_file(scratch.path().join("socket")).expect("it is there");

    // A socket that cannot be connected to like this is in use all the same.
    let other = UnixDatagram::bind(scratch.path().join("socket")).expect("a path");
    refused();
    drop(other);
    std::fs::remove_file(scratch.path().join("socket")).expect("it is there");

    std::fs::write(scratch.path().join("socket"), "somebody's text").expect("a file");
    refused();
    assert_eq!(std::fs::read(scratch.path().join("socket")).expect("a file"), b"somebody's text");
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.lock().expect("nobody panics here").push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
#[cfg(target_os = "linux")]
fn a_backlog_that_the_system_cuts_down_is_said_once() {
    log::set_logger(&Keep).expect("the only logger of these tests");
    log::set_max_level(log::LevelFilter::Warn);
    let mut live = Live::echo(Limits::default());
    let options = SocketOptions { backlog: i32::MAX, ..SocketOptions::default() };
    for _ in 0..3 {
        let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().expect("an address"));
        live.reactor.listen(&endpoint, options).expect("a port");
    }
    let log = LOG.lock().expect("nobody panics here");
    let warnings: Vec<_> = log.iter().filter(|text| text.contains("backlog")).collect();
    assert!(matches!(warnings[..], [text] if text.contains("somaxconn")), "{warnings:?}");
}

/// Runs one of these tests again in a process of its own, whose limits it may change; there it does `case`.
fn in_a_process_of_its_own(test: &str, case: fn()) {
    const ALONE: &str = "SWITCHBOARD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return case();
    }
    let output = std::process::Command::new(std::env::current_exe().expect("the path of this test"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Allows this process `more` descriptors than it has.
fn allow_descriptors(more: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The system gives out the lowest number that is free: it is the number of those in use.
    let next = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").expect("a descriptor"));
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(u64::try_from(next).expect("a number of things") + more);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("less than before, or allowed");
}

fn lift_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("it is allowed");
}

#[test]
fn out_of_descriptors_it_refuses_at_once_sleeps_and_recovers_without_a_new_connection() {
    in_a_process_of_its_own(
        "sockets::out_of_descriptors_it_refuses_at_once_sleeps_and_recovers_without_a_new_connection",
        || {
            let mut live = Live::echo(Limits { accept_retry: Duration::from_secs(2), ..Limits::default() });
            live.service.refusal = b"no descriptor is left\n".to_vec();
            let address = live.listen();
            let mut clients: Vec<_> = (0..30).map(|_| connect(address)).collect();
            allow_descriptors(5);
            live.until("all others are refused", |live| {
                live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Descriptors) == 25
            });
            assert_eq!(live.reactor.connections().counters().accepted, 5);
            for client in &mut clients[5..] {
                let mut text = Vec::new();
                client.read_to_end(&mut text).expect("an end");
                assert_eq!(text, b"no descriptor is left\n");
            }
            // Whoever is in is served; and with nothing to do, the loop sleeps although accepting fails.
            for client in &mut clients[..5] {
                live.ask(client, b"still here");
            }
            let before = live.reactor.connections().counters().turns;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(1) {
                live.reactor.turn(&mut live.service, Some(Duration::from_millis(200))).expect("a poll");
            }
            let turns = live.reactor.connections().counters().turns - before;
            assert!(turns < 100, "{turns} turns in which nothing can be done");
            // The next attempt may be anywhere in its two seconds: see it pass.
            let refused = live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Descriptors);
            lift_limit();
            let extra = connect(address);
            allow_descriptors(0);
            live.until("the next attempt", |live| {
                live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Descriptors) > refused
            });
            drop(extra);
            // One arrives while accepting rests, and one leaves: the timer lets the new one in.
            lift_limit();
            let mut late = connect(address);
            allow_descriptors(0);
            live.turn(Duration::ZERO);
            drop(clients.drain(..25));
            live.until("the timer looks again", |live| live.reactor.connections().counters().accepted == 6);
            live.ask(&mut late, b"in at last");
            assert_eq!(
                live.reactor.connections().counters().refused(switchboard::reactor::Refusal::Descriptors),
                refused + 1
            );
        },
    );
}

#[test]
fn a_connection_that_this_side_makes_carries_bytes_both_ways() {
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    let conn = live.reactor.connect(&Endpoint::Tcp(address), Some([127, 0, 0, 9].into())).expect("it listens");
    let server = live.accepted();
    let from = live.reactor.connections().peer(server).and_then(|peer| peer.socket_addr()).expect("over IP");
    assert_eq!(from.ip().to_string(), "127.0.0.9");
    // The service echoes on both sides; whoever closes first ends the game.
    let io = live.reactor.connections();
    io.send(conn, &mut Outgoing::to_one(b"there and back"), Lane::Traffic).expect("room");
    let heard = |live: &Live, by: ConnId| {
        live.service.told.iter().any(|(conn, told)| *conn == by && *told == Told::Message(b"there and back".to_vec()))
    };
    live.until("both have heard it", |live| heard(live, server) && heard(live, conn));
    live.reactor.connections().abort(conn, CloseReason::Aborted);
    live.until("both ends are told", |live| live.reactor.connections().is_empty());
}

#[test]
fn a_connection_that_cannot_be_made_ends_as_unreachable() {
    let mut live = Live::echo(Limits::default());
    // A port that was just free, and is again.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    match live.reactor.connect(&Endpoint::Tcp(address), None) {
        // The system may know at once, or tell it by the poll.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        Ok(conn) => {
            let io = live.reactor.connections();
            io.send(conn, &mut Outgoing::to_one(b"anybody"), Lane::Traffic).expect("it waits");
            live.until("it has ended", |live| live.reactor.connections().is_empty());
            let told = live.service.told.iter().find(|(told_of, _)| *told_of == conn).map(|(_, told)| told);
            assert!(matches!(told, Some(Told::Close { reason: CloseReason::Unreachable, .. })), "{told:?}");
        }
    }
}

#[test]
fn a_service_may_set_options_of_a_connection_and_end_it_by_a_reset() {
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    for (resets, ends_as) in [(true, CloseReason::Reset), (false, CloseReason::Finished)] {
        let conn = live.reactor.connect(&Endpoint::Tcp(address), None).expect("it listens");
        let server = live.accepted();
        if resets {
            let stream = live.reactor.connections().transport(conn).expect("it is there");
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        live.reactor.connections().abort(conn, CloseReason::Aborted);
        live.until("both ends are told", |live| live.reactor.connections().is_empty());
        assert!(live.reactor.connections().transport(conn).is_none());
        let told = live.service.told.iter().find(|(of, told)| *of == server && matches!(told, Told::Close { .. }));
        let Some((_, Told::Close { reason, .. })) = told else { panic!("{told:?}") };
        assert_eq!(*reason, ends_as);
    }
}
