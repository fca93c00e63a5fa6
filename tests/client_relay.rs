//! The client library against a real relay.

mod client_support;

use std::thread;
use std::time::Duration;

use client_support::{PATIENCE, Relay, wait_for};
use switchboard::client::{
    Client, Closed, Directory, Envelope, Event, Happening, Message, Options, ReceiptFor, SendError, Step,
};
use switchboard::wire::control::{Profile, Stage};
use switchboard::wire::{Code, Id, Type};

fn message(client: &mut Client) -> Message {
    wait_for(client, |event| if let Event::Message(message) = event { Some(message) } else { None })
}

fn receipt(client: &mut Client) -> ReceiptFor {
    wait_for(client, |event| if let Event::Receipt(receipt) = event { Some(receipt) } else { None })
}

fn failure(client: &mut Client) -> (u32, Option<Code>, Option<Id>) {
    wait_for(client, |event| match event {
        Event::Error(failure) => Some((failure.correlation, failure.code(), failure.client)),
        _ => None,
    })
}

fn join(client: &mut Client, name: &str) -> Id {
    let asked = client.sender().join(name).expect("sent");
    wait_for(client, |event| match event {
        Event::Joined(joined) if joined.correlation == asked => Some(joined.room),
        _ => None,
    })
}

fn watch(client: &mut Client) -> Directory {
    let mut directory = Directory::new(None);
    directory.asked(client.sender().watch(None).expect("sent"));
    wait_for(client, |event| match event {
        Event::Snapshot(page) => (directory.apply_snapshot(page) == Step::Complete).then_some(()),
        Event::Delta(delta) => (directory.apply_delta(delta, |_| ()) == Step::Complete).then_some(()),
        _ => None,
    });
    directory
}

/// The next change that a watching client is told, in words.
fn next_change(client: &mut Client, directory: &mut Directory) -> String {
    wait_for(client, |event| {
        let Event::Delta(delta) = event else { return None };
        let mut told = Vec::new();
        let step = directory.apply_delta(delta, |happening| {
            told.push(match happening {
                Happening::Arrived(peer) => format!("+{}", peer.name),
                Happening::Changed { before, now } => format!("{}>{}", before.map_or("?", |b| &b.name), now.name),
                Happening::Departed { peer, code_number } => {
                    format!("-{} {}", peer.name, Code::from_number(code_number).map_or("?", Code::name))
                }
            });
        });
        assert_eq!(step, Step::Applied);
        (!told.is_empty()).then(|| told.join(" "))
    })
}

#[test]
fn a_frame_to_one_arrives_whole_with_its_source_and_its_receipt_says_written() {
    let relay = Relay::start();
    let (mut ada, mut bob) = (relay.client("ada"), relay.client("bob"));
    let to = bob.session().client;
    let payload: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    let sent = ada.sender().send(to, Envelope::kind(0x1234).receipt(), &payload).expect("sent");
    let got = message(&mut bob);
    assert_eq!((got.header.source, got.header.destination), (ada.session().client, to));
    assert_eq!((got.header.kind, got.header.correlation, got.payload.as_ref()), (0x1234, sent, payload.as_slice()));
    let receipt = receipt(&mut ada);
    assert_eq!((receipt.correlation, receipt.stage), (sent, Some(Stage::Written)));
    bob.sender().ack(&got.header).expect("sent");
    let (from, correlation) = wait_for(&mut ada, |event| match event {
        Event::Ack { from, correlation } => Some((from, correlation)),
        _ => None,
    });
    assert_eq!((from, correlation), (to, sent));
}

#[test]
fn frames_of_every_size_and_an_application_type_arrive_in_order() {
    const FRAMES: u32 = 2_000;
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    let mut bob = relay.client("bob");
    let to = bob.session().client;
    let sending = thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(5);
        for n in 1..=FRAMES {
            let size = if n % 10 == 0 { random.usize(0..=65_536) } else { random.usize(0..200) };
            let envelope = Envelope::bytes().of_type(0x90);
            // Every tenth frame awaits its receipt, so what is on its way fits the recipient's queue.
            let envelope = if n % 10 == 0 { envelope.receipt() } else { envelope };
            ada.sender().send_as(n, to, envelope, &vec![n as u8; size]).expect("sent");
            if n % 10 == 0 {
                assert_eq!(receipt(&mut ada).correlation, n);
            }
        }
    });
    for n in 1..=FRAMES {
        let arrived = message(&mut bob);
        assert_eq!((arrived.header.correlation, arrived.header.type_number), (n, 0x90));
        assert!(arrived.payload.iter().all(|byte| *byte == n as u8), "intact");
    }
    sending.join().expect("all sent");
}

#[test]
fn a_frame_for_somebody_who_has_left_is_refused_with_the_correlation() {
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    let mut directory = watch(&mut ada);
    let bob = relay.client("bob");
    let gone = bob.session().client;
    assert_eq!(next_change(&mut ada, &mut directory), "+bob");
    drop(bob);
    let departed = next_change(&mut ada, &mut directory);
    assert!(departed == "-bob HUNG_UP" || departed == "-bob RESET", "{departed}");
    let sent = ada.sender().send(gone, Envelope::text().receipt(), b"hello?").expect("sent");
    assert_eq!(failure(&mut ada), (sent, Some(Code::NoSuchClient), Some(gone)));
}

#[test]
fn arrivals_renamings_and_goodbyes_are_told_to_those_who_watch() {
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    let mut directory = watch(&mut ada);
    assert_eq!(directory.by_name("ada").map(|peer| peer.id), Some(ada.session().client));
    let mut bob = relay.client("bob");
    assert_eq!(next_change(&mut ada, &mut directory), "+bob");
    bob.sender().update(Profile::named("rob")).expect("sent");
    assert_eq!(receipt(&mut bob).stage, Some(Stage::Done));
    assert_eq!(next_change(&mut ada, &mut directory), "bob>rob");
    bob.sender().update(Profile::named("ada")).expect("sent");
    assert_eq!(failure(&mut bob).1, Some(Code::NameTaken));
    bob.sender().goodbye().expect("sent");
    assert_eq!(next_change(&mut ada, &mut directory), "-rob LEFT");
    assert_eq!(
        wait_for(&mut bob, |event| if let Event::Closed(why) = event { Some(why) } else { None }),
        Closed::Ended
    );
    assert_eq!(directory.len(), 1);
}

#[test]
fn a_room_reaches_its_members_but_not_the_sender_who_wants_no_echo() {
    let relay = Relay::start();
    let (mut ada, mut bob, mut cid) = (relay.client("ada"), relay.client("bob"), relay.client("cid"));
    let room = join(&mut ada, "lobby");
    assert_eq!(join(&mut bob, "lobby"), room);
    let sent = ada.sender().send(room, Envelope::text().receipt().no_echo(), b"to the room").expect("sent");
    let got = message(&mut bob);
    assert_eq!((got.header.destination, &got.payload[..]), (room, &b"to the room"[..]));
    let said = receipt(&mut ada);
    assert_eq!((said.correlation, said.stage), (sent, Some(Stage::Queued)));
    assert_eq!((said.recipients, said.skipped.unwrap_or(0)), (Some(1), 0));
    let refused = cid.sender().send(room, Envelope::text(), b"let me in").expect("sent");
    let (correlation, code, _) = failure(&mut cid);
    assert_eq!((correlation, code), (refused, Some(Code::NotMember)));
    // Whatever comes first at the sender is not its own frame.
    bob.sender().send(room, Envelope::text(), b"answer").expect("sent");
    assert_eq!(&message(&mut ada).payload[..], b"answer");
    assert_eq!(&message(&mut bob).payload[..], b"answer", "the echo, where it is wanted");
}

#[test]
fn one_frame_for_many_reaches_those_who_are_here_and_names_who_is_not() {
    let relay = Relay::start();
    let (mut ada, mut bob, mut cid) = (relay.client("ada"), relay.client("bob"), relay.client("cid"));
    let nobody = Id::client(77, 77);
    let ids = [bob.session().client, nobody, cid.session().client];
    let sent = ada.sender().send_many(&ids, Envelope::text().receipt(), b"to you two").expect("sent");
    for client in [&mut bob, &mut cid] {
        let got = message(client);
        assert_eq!((got.header.destination, got.header.frame_type()), (Id::MANY, Some(Type::Send)));
        assert_eq!((&got.payload[..], got.header.correlation), (&b"to you two"[..], sent));
    }
    let (mut failed, mut receipt) = (None, None);
    wait_for(&mut ada, |event| {
        match event {
            Event::Error(failure) => failed = Some((failure.correlation, failure.code(), failure.client)),
            Event::Receipt(came) => receipt = Some((came.correlation, came.recipients, came.skipped)),
            _ => {}
        }
        (failed.is_some() && receipt.is_some()).then_some(())
    });
    assert_eq!(failed, Some((sent, Some(Code::NoSuchClient), Some(nobody))));
    assert_eq!(receipt, Some((sent, Some(2), Some(1))));
}

#[test]
fn a_name_can_be_had_once_and_again_after_it_was_given_back() {
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    let error = Client::connect(&relay.address(), &Options::named("ada")).expect_err("taken");
    assert!(error.is_name_taken() && !error.may_retry(), "{error}");
    ada.sender().goodbye().expect("sent");
    assert_eq!(
        wait_for(&mut ada, |event| if let Event::Closed(why) = event { Some(why) } else { None }),
        Closed::Ended
    );
    assert_ne!(relay.client("ada").session().client, ada.session().client, "an id is never used again");
}

#[test]
fn the_way_to_the_relay_and_to_a_peer_can_be_measured() {
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    let (sender, mut receiver) = relay.client("bob").split();
    let peer = sender.session().client;
    // The peer answers because it receives.
    let answering = thread::spawn(move || receiver.recv());
    for to in [Id::RELAY, peer] {
        let asked = ada.sender().ping(to).expect("sent");
        let pong = wait_for(&mut ada, |event| if let Event::Pong(pong) = event { Some(pong) } else { None });
        assert_eq!((pong.from, pong.correlation), (to, asked));
        assert!(pong.round_trip.is_some_and(|time| time < PATIENCE));
        // One machine has one time of day: what is left is half the round trip, and a clock that was set meanwhile.
        assert!(pong.clock_offset_us.is_some_and(|offset| offset.abs() < 5_000_000), "{pong:?}");
    }
    sender.goodbye().expect("sent");
    assert!(matches!(answering.join().expect("ended"), Event::Closed(_)));
}

#[test]
fn the_payload_limit_holds_in_both_directions() {
    let relay = Relay::start_at("127.0.0.1:0", &["--payload-max", "20000"]);
    let mut ada = relay.client("ada");
    assert_eq!(ada.session().payload_bytes_max, 20_000);
    let small = Options { payload_bytes_max: 4_096, ..Options::named("bob") };
    let mut bob = Client::connect(&relay.address(), &small).expect("welcomed");
    assert_eq!(bob.session().payload_bytes_max, 4_096);
    let to = bob.session().client;
    let error = ada.sender().send(to, Envelope::bytes(), &vec![0; 20_001]);
    assert!(matches!(error, Err(SendError::TooLarge { .. })));
    let sent = ada.sender().send(to, Envelope::bytes(), &[0; 4_097]).expect("sent");
    assert_eq!(failure(&mut ada), (sent, Some(Code::TooLargeForRecipient), Some(to)));
    ada.sender().send(Id::ALL, Envelope::bytes().no_echo(), &[0; 4_097]).expect("sent");
    ada.sender().send(to, Envelope::bytes(), &[7; 4_096]).expect("sent");
    let gap =
        wait_for(&mut bob, |event| if let Event::Gap { frames, bytes } = event { Some((frames, bytes)) } else { None });
    assert_eq!(gap, (1, 4_125), "what was skipped is counted where it is missing");
    assert_eq!(message(&mut bob).payload.len(), 4_096);
}

#[test]
fn who_is_here_is_complete_over_several_pages_while_others_come_and_go() {
    let relay = Relay::start();
    let details = |n: usize| Options { details: vec![n as u8; 1024], ..Options::named(format!("client-{n}")) };
    let connect = |n| Client::connect(&relay.address(), &details(n)).expect("welcomed");
    // Some 1.1 KB each: more than one page.
    let mut here: Vec<Client> = (0..150).map(connect).collect();
    // With the smallest limit there is, the relay's own frames must keep to it as well.
    let smallest = Options { payload_bytes_max: 4_096, ..Options::named("ada") };
    let mut ada = Client::connect(&relay.address(), &smallest).expect("welcomed");
    let mut directory = Directory::new(None);
    directory.asked(ada.sender().watch(None).expect("sent"));
    for n in 150..200 {
        here.push(connect(n));
    }
    here.drain(..25);
    here.push(connect(200));
    let mut pages = 0;
    wait_for(&mut ada, |event| {
        let step = match event {
            Event::Snapshot(page) => {
                pages += 1;
                directory.apply_snapshot(page)
            }
            Event::Delta(delta) => directory.apply_delta(delta, |_| ()),
            _ => return None,
        };
        assert_ne!(step, Step::WatchAgain);
        let gone = (0..25).all(|n| directory.by_name(&format!("client-{n}")).is_none());
        let all = (25..=200).all(|n| directory.by_name(&format!("client-{n}")).is_some());
        (directory.is_complete() && gone && all).then_some(())
    });
    assert!(pages > 1, "{pages}");
    assert_eq!(directory.len(), here.len() + 1);
    assert_eq!(directory.by_name("client-30").map(|peer| peer.details.to_vec()), Some(vec![30; 1024]));
}

#[test]
fn a_relay_that_goes_down_says_so_and_when_to_come_back() {
    let relay = Relay::start();
    let mut ada = relay.client("ada");
    relay.stop();
    let said = wait_for(&mut ada, |event| match event {
        Event::Goodbye(failure) | Event::Error(failure) => Some(failure),
        _ => None,
    });
    assert_eq!(said.code(), Some(Code::ShuttingDown));
    let Event::Closed(why) = ada.receiver().recv() else { panic!("closed") };
    assert!(why.may_return() && why.retry_after().is_some_and(|time| time > Duration::ZERO), "{why:?}");
}
