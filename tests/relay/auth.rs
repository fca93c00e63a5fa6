//! Who is let in at a relay with users, and who is not, and what each of them learns.

use std::time::Duration;

use switchboard::auth::scram::{Binding, ClientExchange};
use switchboard::auth::{Mechanism, TokenDigest};
use switchboard::origin::Origin;
use switchboard::relay::{Input, Settings};
use switchboard::wire::control::{Auth, Body, ErrorBody, Hello, Profile, Reason, Who};
use switchboard::wire::{Code, FrameError, HEADER_BYTES, Header, Id, Type};

use super::frames::{Got, frame, send};
use super::people::{by, by_token, password, token, users, world_of};
use super::world::{Facts, World};

/// Longer than any answer is held back.
const LATE: Duration = Duration::from_secs(5);

/// The one ERROR that a connection has got and that ends it.
fn ending<R>(world: &mut World, id: Id, read: impl FnOnce(&Header, &Reason<'_>) -> R) -> R {
    world.drain(id);
    assert!(world.is_closed(id), "the connection ends");
    let frames = world.raw(id);
    assert_eq!(frames.len(), 1, "one frame, the last");
    let ErrorBody(reason) = ErrorBody::parse(&frames[0][HEADER_BYTES..]).expect("a good ERROR");
    read(&Header::read(&frames[0]), &reason)
}

fn end_of(world: &mut World, id: Id) -> (u32, Code) {
    ending(world, id, |header, reason| (header.correlation, reason.code().expect("a known code")))
}

#[test]
fn whoever_knows_the_password_is_let_in_and_told_that_the_relay_knows_it_too() {
    let mut world = world_of(&["ada"]);
    let (id, mut exchange, question) = world.asked("ada", "ada", &password("ada"));
    assert!(!world.net.peek(id).settled, "it is a newcomer until it has proved who it is");
    world.answer(id, &mut exchange, &question);
    let (user, proof) = world.welcomed(id).expect("it is let in");
    assert_eq!(user, "ada");
    exchange.verify(&proof.expect("a proof of the relay")).expect("the relay's proof is right");
    assert!(world.net.peek(id).settled);
    assert_eq!((world.relay.clients(), world.counters().registered), (1, 1));
    assert_eq!(world.counters().authenticated[Mechanism::ScramSha256 as usize], 1);
    // It is a client like any other.
    world.send(id, &send(3, id, b"to myself"));
    assert!(matches!(world.got(id)[..], [Got::Frame(_)]));
}

#[test]
fn a_relay_without_users_reads_past_credentials_and_says_no_user() {
    let mut world = World::new(Settings::default());
    let id = world.connect();
    world.say(id, &by_token("ada", "swb_whatever"));
    assert_eq!(world.welcomed(id), None, "a WELCOME without a user");
    assert_eq!(world.relay.clients(), 1);
}

#[test]
fn whoever_does_not_say_how_to_prove_itself_is_told_the_ways() {
    let tls = Facts { binding: Some([7; 32]), certificate: Some("ada".to_owned()), ..Facts::default() };
    let open = Facts { is_private: false, ..Facts::default() };
    let ways: [(Facts, &[&str]); 3] = [
        (Facts::default(), &["SCRAM-SHA-256", "TOKEN"]),
        (open, &["SCRAM-SHA-256"]),
        (tls, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "TOKEN"]),
    ];
    let mut world = world_of(&["ada"]);
    for (facts, offered) in ways {
        world.net.facts = facts;
        let none = Hello::new(Profile::named("ada"));
        let unknown = Hello { mechanism: Some("PLAIN"), ..none };
        for (hello, code) in [(none, Code::AuthRequired), (unknown, Code::BadMechanism)] {
            let id = world.connect();
            world.ask(id, 9, &hello);
            ending(&mut world, id, |header, reason| {
                assert_eq!((header.correlation, reason.code()), (9, Some(code)));
                assert_eq!(reason.mechanisms.iter().flatten().copied().collect::<Vec<_>>(), offered);
            });
        }
    }
    let not_here = [
        (Facts::default(), Mechanism::ScramSha256Plus),
        (Facts::default(), Mechanism::External),
        (Facts { is_private: false, ..Facts::default() }, Mechanism::Token),
    ];
    for (facts, mechanism) in not_here {
        world.net.facts = facts;
        let id = world.connect();
        world.say(id, &by(mechanism, "ada", token("ada").as_bytes()));
        assert_eq!(end_of(&mut world, id), (1, Code::BadMechanism), "{mechanism:?}");
    }
    assert_eq!((world.relay.clients(), world.counters().auth_failed), (0, [0; 4]), "nobody has tried anything");
    // What no user could use is not offered either.
    let listed = super::people::listed(format!("ada token:{}\n", digest("ada")));
    let mut world = World::with_users(Settings::default(), listed);
    world.net.facts = Facts { binding: Some([7; 32]), certificate: Some("ada".to_owned()), ..Facts::default() };
    let id = world.connect();
    world.say(id, &Hello::new(Profile::named("ada")));
    ending(&mut world, id, |_, reason| assert_eq!(reason.mechanisms.iter().flatten().collect::<Vec<_>>(), [&"TOKEN"]));
}

#[test]
fn an_unknown_user_cannot_be_told_from_a_wrong_password() {
    let mut salts = Vec::new();
    let mut answers = Vec::new();
    for user in ["ada", "nobody", "nobody"] {
        let mut world = world_of(&["ada"]);
        let (id, mut exchange, question) = world.asked("ada", user, "not the word");
        let question_text = String::from_utf8(question.clone()).expect("text");
        let (_, salt) = question_text.split_once(",s=").expect("a salt");
        salts.push(salt.to_owned());
        world.answer(id, &mut exchange, &question);
        let at = world.deadline(id).expect("the answer waits for its time").since(world.now);
        assert_eq!(world.got(id), [], "nothing is told before");
        world.pass(LATE);
        answers.push((at, end_of(&mut world, id)));
    }
    assert_eq!(salts[1], salts[2], "an unknown user has always the same salt");
    assert_eq!((salts[0].len(), salts[0].rsplit(',').next()), (salts[1].len(), salts[1].rsplit(',').next()));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1, (5, Code::AuthFailed), "the correlation is that of the HELLO");
}

#[test]
fn every_way_to_fail_is_told_the_same() {
    let mut world = world_of(&["ada"]);
    world.net.facts = Facts { certificate: Some("ada".to_owned()), ..Facts::default() };
    let stranger = token("stranger");
    let tries = [
        by_token("x", &stranger),
        by_token("x", ""),
        Hello { auth_data: None, ..by_token("x", "") },
        by(Mechanism::External, "x", b"bob"),
        by(Mechanism::ScramSha256, "x", b"no message of it"),
        by(Mechanism::ScramSha256, "x", b"\xff"),
    ];
    for hello in &tries {
        let id = world.connect();
        world.ask(id, 5, hello);
        assert_eq!(world.got(id), [], "{hello:?}: it comes late");
        world.pass(LATE);
        assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed), "{hello:?}");
    }
    for data in [&b"c=biws,r=another,p=AAAA"[..], b"", b"\xff"] {
        let (id, ..) = world.asked("x", "ada", "");
        world.say(id, &Auth { data });
        world.pass(LATE);
        assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed));
    }
    let (id, ..) = world.asked("x", "ada", "");
    world.send(id, &frame(Header::new(Type::Auth), b"not even fields"));
    world.pass(LATE);
    assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed));
    let failed = &world.counters().auth_failed;
    assert_eq!(failed[Mechanism::Token as usize], 3);
    assert_eq!(failed[Mechanism::External as usize], 1);
    assert_eq!(failed[Mechanism::ScramSha256 as usize], 6);
    assert_eq!((world.closed(Code::AuthFailed), world.relay.clients()), (10, 0));
}

#[test]
fn a_token_or_a_certificate_is_enough_where_it_may_be_used() {
    let mut world = world_of(&["ada", "bob"]);
    let id = world.user_as("ada", "ada/laptop");
    assert_eq!(world.deadline(id).map(|at| at > world.now + Duration::from_secs(20)), Some(true), "as for any client");
    for (data, name) in [(None, "bob"), (Some(&b""[..]), "bob/2"), (Some(b"bob"), "bob/3")] {
        world.net.facts = Facts { certificate: Some("bob".to_owned()), ..Facts::default() };
        let id = world.connect();
        world.say(id, &Hello { auth_data: data, ..by(Mechanism::External, name, b"") });
        assert_eq!(world.welcomed(id), Some(("bob".to_owned(), None)));
    }
    let listed = super::people::listed(format!("ada token:{}\nbob certificate\n", digest("ada")));
    let mut world = World::with_users(Settings::default(), listed);
    for shown in ["ada", "nobody"] {
        world.net.facts = Facts { certificate: Some(shown.to_owned()), ..Facts::default() };
        let id = world.connect();
        world.say(id, &by(Mechanism::External, "ada", b""));
        world.pass(LATE);
        assert_eq!(end_of(&mut world, id).1, Code::AuthFailed, "{shown} may not come in by a certificate");
    }
}

fn digest(user: &str) -> TokenDigest {
    TokenDigest::of(token(user).as_bytes())
}

#[test]
fn nothing_but_the_answer_is_taken_between_hello_and_welcome() {
    let mut world = world_of(&["ada", "bob"]);
    let bob = world.user("bob");
    for frame_type in Type::ALL.iter().filter(|frame_type| **frame_type != Type::Auth) {
        let (id, ..) = world.asked("ada", "ada", "");
        world.send(id, &frame(Header::new(*frame_type).to(bob).correlating(8), b""));
        assert_eq!(end_of(&mut world, id), (8, Code::OutOfOrder), "{frame_type}");
    }
    // Nor anything while the answer waits for its time, whichever it is: not even another proof.
    let id = world.try_password("ada", "ada", "not the word");
    world.say(id, &Auth { data: b"" });
    assert_eq!(end_of(&mut world, id), (1, Code::OutOfOrder));
    let id = world.connect();
    world.say(id, &Auth { data: b"" });
    assert_eq!(end_of(&mut world, id), (1, Code::OutOfOrder), "nor an AUTH before HELLO");
    assert_eq!(world.got(bob), [], "and nobody hears of it");
    assert_eq!((world.relay.clients(), world.counters().frames_in), (1, 0));
}

#[test]
fn a_length_that_cannot_be_is_a_bad_frame_once_hello_has_been_said() {
    let mut world = world_of(&["ada"]);
    for (length, code) in [(3, Code::BadFrame), (24 + 4097, Code::FrameTooLarge)] {
        let (id, ..) = world.asked("ada", "ada", "");
        world.send(id, &u32::to_be_bytes(length));
        assert_eq!(end_of(&mut world, id), (0, code));
    }
    let (id, ..) = world.asked("ada", "ada", "");
    world.handle(id, Input::Broken(FrameError::Malformed { length: 3 }));
    assert_eq!(end_of(&mut world, id), (0, Code::BadFrame));
}

#[test]
fn an_exchange_that_is_not_completed_ends_at_its_deadline() {
    let mut world = world_of(&["ada"]);
    let (id, ..) = world.asked("ada", "ada", "");
    assert_eq!(world.deadline(id), Some(world.now + Duration::from_secs(20)));
    world.pass(Duration::from_millis(19_999));
    assert!(!world.is_closed(id));
    world.pass(Duration::from_millis(1));
    assert_eq!(end_of(&mut world, id), (0, Code::AuthTimeout));
    assert_eq!((world.closed(Code::AuthTimeout), world.counters().auth_failed), (1, [0; 4]));
}

#[test]
fn what_is_known_of_others_is_told_to_nobody_who_has_not_proved_who_it_is() {
    let mut world = world_of(&["ada", "bob"]);
    world.user("bob");
    // Whether "bob" is taken, and whether it is a name that ada may have.
    for name in ["bob", "eve", "ada"] {
        let id = world.try_password(name, "ada", "not the word");
        world.pass(LATE);
        assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed), "{name}");
    }
    world.pass(Duration::from_mins(10));
    let ada = world.connect();
    world.say(ada, &by_token("bob", &token("ada")));
    world.pass(LATE);
    assert_eq!(end_of(&mut world, ada), (1, Code::NameDenied), "not even to a user whether the name is taken");
    let ada = world.connect();
    world.say(ada, &by_token(" ada", &token("ada")));
    assert_eq!(end_of(&mut world, ada), (1, Code::HelloBadName), "what is no name is nobody's secret");
    assert_eq!(world.counters().denied[switchboard::relay::Denial::Name.ordinal()], 1);
}

#[test]
fn a_name_that_another_user_holds_is_taken() {
    let mut world = world_of(&["ada names=*", "bob names=*"]);
    world.user_as("ada", "desk");
    let bob = world.connect();
    world.say(bob, &by_token("desk", &token("bob")));
    assert_eq!(end_of(&mut world, bob), (1, Code::HelloNameTaken));
}

#[test]
fn answers_come_later_the_more_has_failed_the_right_one_too() {
    let mut world = world_of(&["ada"]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let id = world.try_password("ada", "ada", "not the word");
        waits.push(world.deadline(id).expect("a time").since(world.now));
        world.pass(LATE);
        end_of(&mut world, id);
    }
    assert!(waits.is_sorted() && waits[0] < waits[3] && waits[3] <= Duration::from_secs(4), "{waits:?}");
    let id = world.try_password("ada", "ada", &password("ada"));
    let wait = world.deadline(id).expect("a time").since(world.now);
    assert!(wait >= waits[0], "the right answer waits as well: {wait:?}");
    assert_eq!(world.got(id), []);
    world.pass(wait);
    assert!(world.welcomed(id).is_some());
    // That somebody has come changes nothing for those who fail: they would see that there is such a user.
    let id = world.try_password("ada/2", "ada", &password("ada"));
    assert_eq!(world.got(id), []);
    world.pass(LATE);
    assert!(world.welcomed(id).is_some());
    world.pass(Duration::from_mins(10));
    let id = world.try_password("ada/3", "ada", &password("ada"));
    assert!(world.welcomed(id).is_some(), "and then it is forgotten");
}

#[test]
fn guesses_at_a_password_hold_up_nobody_who_needs_none_and_are_not_forgiven_by_it() {
    let mut world = world_of(&["ada"]);
    for _ in 0..3 {
        world.try_password("ada", "ada", "not the word");
    }
    world.net.facts.certificate = Some("ada".to_owned());
    let [token, certificate] = [world.connect(), world.connect()];
    world.say(token, &by_token("ada", &super::people::token("ada")));
    world.say(certificate, &by(Mechanism::External, "ada/2", b""));
    for id in [token, certificate] {
        assert!(world.welcomed(id).is_some(), "at once");
    }
    let id = world.try_password("ada/3", "ada", &password("ada"));
    assert_eq!(world.got(id), [], "a password waits on");
}

#[test]
fn whoever_goes_while_its_answer_waits_is_forgotten() {
    let mut world = world_of(&["ada"]);
    for right in [false, true] {
        let id = world.try_password("ada", "ada", "not the word");
        let other = world.try_password("ada", "ada", if right { "the word of ada" } else { "no" });
        world.handle(id, Input::Ended);
        world.lose(other);
        assert!(world.is_closed(id));
    }
    world.pass(LATE);
    assert_eq!((world.relay.clients(), world.counters().registered, world.closed(Code::AuthFailed)), (0, 0, 0));
}

#[test]
fn from_where_too_much_has_failed_nothing_more_is_looked_at() {
    let mut world = world_of(&["ada"]);
    let here = Facts { origin: Some(Origin::v4([192, 0, 2, 7])), ..Facts::default() };
    let elsewhere = Facts { origin: Some(Origin::v4([192, 0, 2, 8])), ..Facts::default() };
    world.net.facts = here.clone();
    // Begun before any has failed: they are not looked at either.
    let mut begun: Vec<_> = (0..20).map(|_| world.asked("ada", "ada", "not the word")).collect();
    let mut failed = 0;
    for (id, exchange, question) in &mut begun {
        world.answer(*id, exchange, question);
        failed += 1;
        if world.is_closed(*id) {
            break;
        }
    }
    assert!((5..20).contains(&failed), "{failed} attempts side by side");
    let before = world.counters().auth_failed;
    let delays: Vec<u32> = (0..20)
        .map(|_| {
            let id = world.connect();
            world.say(id, &by(Mechanism::ScramSha256, "ada", b"n,,n=ada,r=abcdefgh"));
            ending(&mut world, id, |_, reason| {
                assert_eq!(reason.code(), Some(Code::TooManyAttempts));
                reason.retry_ms.expect("when to come back")
            })
        })
        .collect();
    assert_eq!(world.counters().auth_failed, before, "not even the right one counts");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "different for each: {delays:?}");
    // Tokens cannot be guessed: who has one is not refused because others guess.
    let id = world.connect();
    world.say(id, &by_token("ada", &token("ada")));
    assert!(world.welcomed(id).is_some());
    world.net.facts = elsewhere;
    let id = world.try_password("ada/1", "ada", &password("ada"));
    world.pass(LATE);
    assert!(world.welcomed(id).is_some(), "others are not to blame");
    world.net.facts = here;
    world.pass(Duration::from_millis(delays.iter().copied().max().expect("some").into()));
    let id = world.try_password("ada/2", "ada", &password("ada"));
    world.pass(LATE);
    assert!(world.welcomed(id).is_some(), "whoever has waited for as long as it was told is let in");
}

#[test]
fn a_proof_over_tls_is_bound_to_the_connection() {
    let mut world = world_of(&["ada"]);
    world.net.facts.binding = Some([7; 32]);
    let (id, mut exchange, question) = world.asked("ada", "ada", &password("ada"));
    world.answer(id, &mut exchange, &question);
    let (_, proof) = world.welcomed(id).expect("it is let in");
    exchange.verify(&proof.expect("a proof")).expect("the relay's proof");
    assert_eq!(world.counters().authenticated[Mechanism::ScramSha256Plus as usize], 1);

    // Somebody in between has another connection with each side, and can change what is offered.
    let passed_on = |binding| ClientExchange::new("ada", &password("ada"), Binding::Exporter(binding), [1; 18]);
    let mut other = passed_on([8; 32]);
    let id = world.connect();
    let question = world.begin(id, "ada/2", &other);
    world.answer(id, &mut other, &question);
    world.pass(LATE);
    assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed), "bound to another connection");
    let id = world.connect();
    let kept_from_it = passed_on([8; 32]).without_plus();
    world.ask(id, 5, &by(Mechanism::ScramSha256, "ada/2", kept_from_it.first().as_bytes()));
    world.pass(LATE);
    assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed), "it says that it could, and the relay can");
}

#[test]
fn who_was_kept_from_binding_on_its_side_is_refused_on_a_connection_that_cannot_bind() {
    for binds_channels in [false, true] {
        let settings = Settings { binds_channels, ..Settings::default() };
        let mut world = World::with_users(settings, users(&["ada"]));
        // Somebody in between comes by a plain connection, or by TLS of an older version.
        let exchange = ClientExchange::new("ada", &password("ada"), Binding::Withheld, [1; 18]);
        let id = world.connect();
        world.ask(id, 5, &by(Mechanism::ScramSha256, "ada", exchange.first().as_bytes()));
        world.pass(LATE);
        if binds_channels {
            assert_eq!(end_of(&mut world, id), (5, Code::AuthFailed));
        } else {
            assert!(matches!(world.got(id)[..], [Got::Auth { .. }]), "behind something that ends TLS");
        }
    }
}

#[test]
fn a_token_that_is_none_has_nobody_refused() {
    let mut world = world_of(&["ada"]);
    world.net.facts.origin = Some(Origin::v4([192, 0, 2, 7]));
    for _ in 0..30 {
        let id = world.connect();
        world.say(id, &by_token("ada", "swb_no-such-token"));
        world.pass(LATE);
        assert_eq!(end_of(&mut world, id).1, Code::AuthFailed);
    }
    let id = world.try_password("ada", "ada", &password("ada"));
    world.pass(LATE);
    assert!(world.welcomed(id).is_some());
}

#[test]
fn a_right_answer_that_comes_late_need_not_go_because_others_come() {
    let mut world = world_of(&["ada"]);
    for _ in 0..4 {
        let id = world.try_password("ada", "ada", "not the word");
        assert!(!world.net.wire(id).settled);
        world.pass(LATE);
    }
    let id = world.try_password("ada", "ada", &password("ada"));
    assert!(world.net.wire(id).settled, "it counts as a newcomer no more");
    world.pass(LATE);
    assert!(world.welcomed(id).is_some());
}

#[test]
fn whoever_is_about_to_prove_itself_is_told_when_the_relay_goes_down() {
    let mut world = world_of(&["ada"]);
    let (asked, ..) = world.asked("ada", "ada", "");
    let waiting = world.try_password("ada", "ada", &password("ada"));
    let failed = world.try_password("ada", "ada", "not the word");
    world.drain(waiting);
    let ids = if world.relay.clients() == 0 { vec![asked, waiting, failed] } else { vec![asked, failed] };
    world.relay.shut_down(world.now, &mut world.net);
    world.relay.check_consistency();
    for id in ids {
        assert_eq!(end_of(&mut world, id), (0, Code::ShuttingDown));
    }
}

#[test]
fn whoever_is_crowded_out_or_too_fast_is_told_when_to_come_back() {
    let mut world = world_of(&["ada"]);
    let ada = world.user("ada");
    let greeting = world.connect();
    let (asked, ..) = world.asked("ada", "ada", "");
    world.handle(greeting, Input::CrowdedOut);
    world.handle(asked, Input::CrowdedOut);
    world.handle(ada, Input::RateExceeded);
    let ends = [(greeting, Code::CrowdedOut), (asked, Code::CrowdedOut), (ada, Code::RateExceeded)];
    for (id, code) in ends {
        ending(&mut world, id, |header, reason| {
            assert_eq!((header.correlation, reason.code(), reason.retry_ms.is_some()), (0, Some(code), true));
        });
    }
    assert_eq!((world.closed(Code::CrowdedOut), world.closed(Code::RateExceeded)), (2, 1));
}

#[test]
fn a_client_can_ask_under_which_name_it_was_found_and_not_as_which_user() {
    let mut world = world_of(&["ada names=desk"]);
    let id = world.user_as("ada", "desk");
    world.say(id, &Who::Client(id));
    let got = world.got(id);
    let [Got::Snapshot { members, .. }] = &got[..] else { panic!("{got:?}") };
    assert_eq!(members[0].name, "desk", "nothing of a user is told to others: {members:?}");
}

#[test]
fn the_list_with_which_a_login_began_must_hold_at_its_end() {
    let mut world = world_of(&["ada"]);
    let (id, mut exchange, question) = world.asked("ada", "ada", &password("ada"));
    world.set_users(Some(users(&["ada"])));
    world.answer(id, &mut exchange, &question);
    world.pass(LATE);
    ending(&mut world, id, |header, reason| {
        assert_eq!((header.correlation, reason.code()), (5, Some(Code::AccessChanged)));
        assert!(reason.retry_ms.is_some());
    });
}
