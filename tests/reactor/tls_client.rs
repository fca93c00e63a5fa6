//! TLS that this side begins: both ends are of one reactor, on sockets of the system.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use switchboard::reactor::{CloseReason, ConnId, Endpoint, Lane, Limits, Outgoing, Progress, TlsRole};

use crate::sockets::Live;
use crate::support::{Told, closed};
use crate::tls_support::{Keys, NAME};

/// A reactor that listens for TLS and sends everything back; the client's side only takes note.
fn live(limits: Limits, keys: &Keys) -> (Live, SocketAddr) {
    let mut live = Live::echo(limits);
    let address = live.listen();
    live.reactor.set_tls(0, Some(Arc::new(keys.server())));
    let mut servers = Vec::new();
    live.service.data = Box::new(move |io, conn, data, told| {
        told.push((conn, Told::Message(data.to_vec())));
        // Whoever has said so has been accepted.
        if data.starts_with(b"echo") && !told.contains(&(conn, Told::Established)) {
            servers.push(conn);
            io.send(conn, &mut Outgoing::to_one(b"back"), Lane::Traffic).expect("room");
        }
        Progress::all(data)
    });
    (live, address)
}

fn role(keys: &Keys) -> TlsRole {
    let config = keys.client(rustls::ALL_VERSIONS);
    TlsRole::Client(Arc::new(config), ServerName::try_from(NAME).expect("a name"))
}

fn connect(live: &mut Live, address: SocketAddr, role: TlsRole) -> ConnId {
    live.reactor.connect_tls(&Endpoint::Tcp(address), None, role).expect("it listens")
}

fn say(live: &mut Live, conn: ConnId, text: &[u8]) {
    live.reactor.connections().send(conn, &mut Outgoing::to_one(text), Lane::Traffic).expect("room");
}

#[test]
fn who_begins_is_told_when_it_is_over_and_with_what_before_anything_is_shown() {
    let keys = Keys::new();
    let (mut live, address) = live(Limits::default(), &keys);
    let conn = connect(&mut live, address, role(&keys));
    assert_eq!(live.reactor.connections().tls_terms(conn), None, "nothing is agreed on yet");
    say(&mut live, conn, b"echo");
    live.until("an answer", |live| live.service.of(conn).len() == 2);
    assert_eq!(live.service.of(conn), [Told::Established, Told::Message(b"back".to_vec())]);
    let terms = live.reactor.connections().tls_terms(conn).expect("agreed");
    assert_eq!(terms.version, rustls::ProtocolVersion::TLSv1_3);
    assert_eq!(terms.suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert!(!terms.is_resumed);
    let counters = live.reactor.counters();
    // Both ends are this reactor's.
    assert_eq!((counters.handshakes, counters.handshakes_resumed), (2, 0));
    assert_eq!((counters.records_sealed, counters.records_opened, counters.opened_bytes), (2, 2, 8));
}

#[test]
fn what_comes_with_the_end_of_the_handshake_waits_for_who_pauses_when_it_is_told() {
    let keys = Keys::new();
    let (mut live, address) = live(Limits::default(), &keys);
    live.service.established = Some(Box::new(switchboard::reactor::Connections::pause));
    let conn = connect(&mut live, address, role(&keys));
    say(&mut live, conn, b"echo");
    live.until("it is answered", |live| live.reactor.counters().records_sealed == 2);
    assert_eq!(live.service.of(conn), [Told::Established]);
    live.reactor.connections().resume(conn);
    live.until("it is shown", |live| live.service.of(conn).len() == 2);
}

#[test]
fn a_connection_may_be_plain_before_it_begins() {
    let keys = Keys::new();
    let mut live = Live::echo(Limits::default());
    let address = live.listen();
    let server_config = Arc::new(keys.server());
    let role = role(&keys);
    // The side that was connected to says a line, and both go on with TLS.
    live.service.data = Box::new(move |io, conn, data, told| {
        told.push((conn, Told::Message(data.to_vec())));
        match &*data {
            b"begin\n" => {
                io.start_tls(conn, role.clone()).expect("a configuration");
                io.send(conn, &mut Outgoing::to_one(b"over TLS"), Lane::Traffic).expect("room");
            }
            b"hello\n" => {
                io.send(conn, &mut Outgoing::to_one(b"begin\n"), Lane::Traffic).expect("room");
                // It has been written when this turn is over.
            }
            _ => {}
        }
        Progress::all(data)
    });
    let conn = live.reactor.connect(&Endpoint::Tcp(address), None).expect("it listens");
    say(&mut live, conn, b"hello\n");
    live.until("the line has come", |live| live.service.of(conn).contains(&Told::Message(b"begin\n".to_vec())));
    let server = live.service.told.iter().find(|(_, told)| *told == Told::Open).expect("accepted").0;
    live.reactor.connections().start_tls(server, TlsRole::Server(server_config)).expect("a configuration");
    assert!(live.reactor.connections().is_encrypted(server));
    live.until("the rest has come", |live| live.service.of(server).contains(&Told::Message(b"over TLS".to_vec())));
    assert!(live.service.of(conn).contains(&Told::Established));
    // Once is enough.
    live.reactor.connections().start_tls(conn, self::role(&keys)).expect("a configuration");
    say(&mut live, conn, b"still the same");
    live.until("it has come", |live| live.service.of(server).contains(&Told::Message(b"still the same".to_vec())));
}

#[test]
fn of_handshakes_that_this_side_began_a_turn_deals_with_some() {
    let keys = Keys::new();
    let limits = Limits { handshakes_turn_max: 3, storm_turn_min: 3, ..Limits::default() };
    let (mut live, address) = live(limits, &keys);
    let conns: Vec<ConnId> = (0..12).map(|_| connect(&mut live, address, role(&keys))).collect();
    let established = |live: &Live| {
        let of = |conn: &ConnId| live.service.of(*conn).contains(&Told::Established);
        conns.iter().filter(|conn| of(conn)).count()
    };
    let mut before = 0;
    while before < conns.len() {
        let handshakes = live.reactor.counters().handshakes;
        live.turn(crate::sockets::WATCHDOG);
        assert!(live.reactor.counters().handshakes <= handshakes + 3, "those of both ends together");
        before = established(&live);
    }
}

#[test]
fn a_stranger_is_not_believed_and_the_service_is_told() {
    let keys = Keys::new();
    let (mut live, address) = live(Limits::default(), &keys);
    let conn = connect(&mut live, address, role(&Keys::new()));
    live.until("it has ended", |live| live.service.end_of(conn).is_some());
    assert_eq!(live.service.of(conn), [closed(CloseReason::TlsFailed)]);
}

#[test]
fn who_says_that_nothing_follows_still_hears_the_rest() {
    let keys = Keys::new();
    let (mut live, address) = live(Limits::default(), &keys);
    live.service.end = Some(Box::new(|io, conn| {
        let _ = io.send(conn, &mut Outgoing::to_one(b"last words"), Lane::Traffic);
        io.close(conn);
    }));
    let conn = connect(&mut live, address, role(&keys));
    say(&mut live, conn, b"echo");
    live.until("an answer", |live| live.service.of(conn).len() == 2);
    live.reactor.connections().end_writing(conn);
    live.until("both have ended", |live| live.reactor.connections().is_empty());
    let told = live.service.of(conn);
    assert_eq!(told[2..4], [Told::Message(b"last words".to_vec()), Told::End]);
    let server = live.service.told.iter().find(|(_, told)| *told == Told::Open).expect("accepted").0;
    let told = live.service.of(server);
    assert_eq!(told[1..], [Told::Message(b"echo".to_vec()), Told::End, closed(CloseReason::Finished)]);
}
