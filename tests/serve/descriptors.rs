//! Too few file descriptors, and too many connections.

use std::net::Ipv4Addr;

use switchboard::wire::control::{Body, ErrorBody, Hello, Profile, Welcome};
use switchboard::wire::{Code, Header, Id, Type};

use crate::support::{RawClient, Relay, dial};

#[test]
fn a_hundred_connectors_and_64_descriptors_leave_it_serving() {
    let mut relay = Relay::start_with_descriptors(64, &[]);
    let mut welcomed = Vec::new();
    let mut refused = 0;
    for number in 0..100 {
        let name = format!("c{number}");
        let mut client = RawClient::greet(relay.address, &Hello::new(Profile::named(&name)), Ipv4Addr::LOCALHOST);
        let (header, payload) = client.frame();
        match header.frame_type() {
            Some(Type::Welcome) => {
                client.id = Welcome::parse(&payload).expect("a WELCOME").client;
                welcomed.push(client);
            }
            Some(Type::Error) => {
                let code = ErrorBody::parse(&payload).expect("an ERROR").0.code();
                assert!(matches!(code, Some(Code::ConnectionsFull | Code::DescriptorsOut)), "{code:?}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(welcomed.len() >= 32, "{} of 100 were let in", welcomed.len());
    assert_eq!(welcomed.len() + refused, 100, "everybody was told");

    // It does not spin: a quarter of a second of nothing costs next to nothing.
    let before = relay.cpu_time();
    let mut pinger = welcomed.pop().expect("one");
    pinger.socket.set_read_timeout(Some(std::time::Duration::from_millis(250))).expect("an option");
    assert!(pinger.try_frame().is_err(), "nothing comes");
    let used = relay.cpu_time().saturating_sub(before);
    assert!(used.as_millis() < 125, "{used:?} of CPU in a quarter of a second of nothing");

    // The connected are served, and those who leave make room again.
    drop(pinger);
    let (first, second) = welcomed.split_at_mut(1);
    first[0].send(Header::new(Type::Send).to(second[0].id), b"still here");
    assert_eq!(second[0].frame_of(Type::Send).1, b"still here");
    let _ = relay.stats();
    let mut again = RawClient::greet(relay.address, &Hello::new(Profile::named("again")), Ipv4Addr::LOCALHOST);
    again.welcomed();
}

#[test]
fn one_connection_too_many_reads_why_although_it_has_sent_already() {
    let mut relay = Relay::start(&["--connections-max", "2"]);
    let _first = RawClient::connect(relay.address, "first");
    let second = RawClient::connect(relay.address, "second");
    for _ in 0..20 {
        let mut third = RawClient::greet(relay.address, &Hello::new(Profile::named("third")), Ipv4Addr::LOCALHOST);
        let (_, payload) = third.frame();
        let error = ErrorBody::parse(&payload).expect("an ERROR").0;
        assert_eq!(error.code(), Some(Code::ConnectionsFull));
        assert!(error.retry_ms.is_some());
        assert!(third.is_closed());
    }
    assert!(relay.log_line("WARN").contains("there are 2, as many as there may be"));
    let mut second = second;
    second.send(Header::new(Type::Goodbye), &[]);
    assert!(second.is_closed());
    drop(second);
    let mut third = RawClient { socket: dial(relay.address, Ipv4Addr::LOCALHOST), id: Id::RELAY };
    third.say(Header::new(Type::Hello), &Hello::new(Profile::named("third")));
    third.welcomed();
}
