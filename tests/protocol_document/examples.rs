//! The frames of the document's examples, written by the crate from the fields that the document describes.

use switchboard::auth::Mechanism;
use switchboard::wire::body;
use switchboard::wire::control::{self, Auth, Body, ErrorBody, Goodbye, Hello, Member, Profile, Reason, Welcome};
use switchboard::wire::{APPLICATION_TYPE_MIN, Code, Flags, HEADER_BYTES, Header, Id, Tag, Type, kind};

pub(crate) const ADA: Id = Id::client(1, 1);
pub(crate) const BOB: Id = Id::client(2, 2);
pub(crate) const CAROL: Id = Id::client(3, 3);
pub(crate) const LOBBY: Id = Id::room(1, 4);

pub(crate) fn control<'a>(header: Header, body: impl Body<'a>) -> Vec<u8> {
    let mut frame = Vec::new();
    body.write_frame(header, &mut frame);
    frame
}

/// A frame whose payload is not a control body.
pub(crate) fn plain(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
    frame
}

/// A header of the relay or for the relay; the body gives it its type.
pub(crate) fn numbered(correlation: u32) -> Header {
    Header::new(Type::Hello).correlating(correlation)
}

/// A header of the relay for ada.
fn to_ada(correlation: u32) -> Header {
    numbered(correlation).to(ADA)
}

/// A reason with the text that the relay gives.
fn saying(code: Code) -> Reason<'static> {
    Reason::new(code, code.meaning())
}

pub(crate) fn of_kind(header: Header, kind: u16) -> Header {
    Header { kind, ..header }
}

pub(crate) fn from(source: Id, frame: &[u8]) -> Vec<u8> {
    let mut header = Header::read(frame);
    header.source = source;
    plain(header, &frame[HEADER_BYTES..])
}

pub(crate) fn welcome(client: Id, address: &str, clock_us: u64) -> Vec<u8> {
    control(numbered(1).to(client), welcome_body(client, address, clock_us))
}

fn welcome_body(client: Id, address: &str, clock_us: u64) -> Welcome<'_> {
    Welcome {
        version: 1,
        client,
        payload_bytes_max: 65_536,
        keepalive_ms: 30_000,
        queue_bytes_max: 1 << 20,
        clock_us,
        epoch_us: 1_767_225_600_000_000,
        address,
        agent: "switchboard/0.1.0",
        user: None,
        auth_data: None,
    }
}

// The exchange of RFC 7677, section 3, message by message.
const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The conversation of a client that proves who it is.
pub(crate) fn login() -> Vec<(&'static str, Vec<u8>)> {
    let hello = Hello {
        mechanism: Some(Mechanism::ScramSha256.name()),
        auth_data: Some(CLIENT_FIRST),
        ..Hello::new(Profile::named("user"))
    };
    let welcome =
        Welcome { user: Some("user"), auth_data: Some(SERVER_FINAL), ..welcome_body(ADA, ADA_ADDRESS, 90_000_000) };
    vec![
        ("login-01", control(numbered(1), hello)),
        ("login-02", control(numbered(1), Auth { data: SERVER_FIRST })),
        ("login-03", control(numbered(2), Auth { data: CLIENT_FINAL })),
        ("login-04", control(to_ada(1), welcome)),
    ]
}

pub(crate) fn card(profile: Profile<'_>, address: &str) -> Vec<u8> {
    let mut card = Vec::new();
    Member { client: Id::RELAY, profile, address, code_number: 0 }.write_card(&mut card);
    card
}

pub(crate) fn simple_card(name: &str, address: &str) -> Vec<u8> {
    card(Profile::named(name), address)
}

pub(crate) fn put_departed(out: &mut Vec<u8>, client: Id, code_number: u16) {
    body::put_record(out, Tag::DEPARTED, |out| {
        body::put_integer(out, Tag::CLIENT, client.bits());
        body::put_integer(out, Tag::CODE, u64::from(code_number));
    });
}

/// A SNAPSHOT or a DELTA.
fn presence_frame(header: Header, room: Option<Id>, sequence: u64, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| {
        if let Some(room) = room {
            body::put_integer(out, Tag::ROOM, room.bits());
        }
        body::put_integer(out, Tag::SEQUENCE, sequence);
        write(out);
    });
    frame
}

pub(crate) const ADA_ADDRESS: &str = "203.0.113.5:50812";
pub(crate) const BOB_ADDRESS: &str = "203.0.113.6:40001";

pub(crate) fn session() -> Vec<(&'static str, Vec<u8>)> {
    let mut profile = Profile::named("bob");
    profile.station = Some("desk 4");
    profile.endpoints[0] = Some("192.0.2.7:7000");
    profile.endpoints[1] = Some("[2001:db8::7]:7000");
    profile.details = Some(br#"{"os":"linux"}"#);
    let full = Hello {
        payload_bytes_max: Some(1 << 20),
        keepalive_ms: Some(20_000),
        agent: Some("example/1.0"),
        ..Hello::new(profile)
    };
    let queue_full = Reason { client: Some(BOB), ..saying(Code::QueueFull) };
    let token = Hello {
        mechanism: Some(Mechanism::Token.name()),
        auth_data: Some(b"swb_9nl9T0wIFkbZbIX0ViGcNd2h4b3Gv0lKQ7QqzQ2pGsM"),
        ..Hello::new(Profile::named("sensor"))
    };
    let mut auth_required = saying(Code::AuthRequired);
    auth_required.mechanisms[0] = Some(Mechanism::ScramSha256.name());
    auth_required.mechanisms[1] = Some(Mechanism::Token.name());
    let bad_version = Reason { versions: Some((1, 1)), ..saying(Code::BadVersion) };
    let shutting_down = Reason { retry_ms: Some(2350), ..saying(Code::ShuttingDown) };
    let pong = control::Pong { ping_clock_us: Some(120_000_000), clock_us: Some(5_001_500) };
    vec![
        ("hello", control(numbered(1), Hello::new(Profile::named("ada")))),
        ("hello-full", control(numbered(1), full)),
        ("welcome", welcome(ADA, ADA_ADDRESS, 90_000_000)),
        ("hello-token", control(numbered(1), token)),
        ("auth", control(numbered(1), Auth { data: SERVER_FIRST })),
        ("auth-proof", control(numbered(2), Auth { data: CLIENT_FINAL })),
        ("error-auth-required", control(numbered(1), ErrorBody(auth_required))),
        ("error-queue-full", control(to_ada(7), ErrorBody(queue_full))),
        ("error-bad-version", control(numbered(1), ErrorBody(bad_version))),
        ("goodbye", control(numbered(0), Goodbye(Reason::default()))),
        ("goodbye-shutting-down", control(to_ada(0), Goodbye(shutting_down))),
        ("ping", control(to_ada(0), control::Ping { clock_us: Some(120_000_000) })),
        ("pong", control(numbered(0), pong)),
    ]
}

pub(crate) fn traffic() -> Vec<(&'static str, Vec<u8>)> {
    let send = Header::new(Type::Send).flagged(Flags::RECEIPT);
    let text = |correlation| of_kind(send.correlating(correlation), kind::TEXT);
    let room = of_kind(Header::new(Type::Send).flagged(Flags::NO_ECHO).correlating(8).to(LOBBY), kind::JSON);
    let to_bob = plain(text(7).to(BOB), b"hello");
    let ack = plain(Header::new(Type::Ack).correlating(7).to(ADA), b"");
    let mut list = Vec::new();
    control::put_recipients(&mut list, &[BOB, CAROL]);
    list.extend_from_slice(b"hello");
    let many = Header { type_number: Type::SendMany.number(), ..text(9) };
    let stage = |stage: control::Stage| control::Receipt { stage: stage.number(), ..control::Receipt::default() };
    let queued = control::Receipt { recipients: Some(4), skipped: Some(1), ..stage(control::Stage::Queued) };
    let application = Header { type_number: APPLICATION_TYPE_MIN, ..Header::new(Type::Send) };
    let mut examples = vec![
        ("send-delivered", from(ADA, &to_bob)),
        ("send", to_bob),
        ("send-room", plain(room, br#"{"x":1}"#)),
        ("send-many", plain(many, &list)),
        ("send-many-delivered", from(ADA, &plain(text(9).to(Id::MANY), b"hello"))),
        ("receipt-written", control(to_ada(7), stage(control::Stage::Written))),
        ("receipt-queued", control(to_ada(8), queued)),
        ("receipt-done", control(to_ada(12), stage(control::Stage::Done))),
        ("ack-delivered", from(BOB, &ack)),
        ("ack", ack),
        ("gap", control(numbered(0).to(BOB), control::Gap { frames: 3, bytes: 1284 })),
        ("application", plain(of_kind(application.correlating(30).to(BOB), kind::APPLICATION_MIN), &[1, 2, 3])),
    ];
    let files = [Type::Offer, Type::Accept, Type::Chunk, Type::End, Type::Cancel];
    let names = ["offer", "accept", "chunk", "end", "cancel"];
    for ((name, file), correlation) in names.into_iter().zip(files).zip(20..) {
        examples.push((name, plain(Header::new(file).correlating(correlation).to(BOB), b"")));
    }
    examples
}

pub(crate) fn presence() -> Vec<(&'static str, Vec<u8>)> {
    let snapshot = |correlation| Header::new(Type::Snapshot).to(ADA).correlating(correlation);
    let ada = simple_card("ada", ADA_ADDRESS);
    let mut bob = Profile::named("bob");
    bob.station = Some("desk 4");
    bob.endpoints[0] = Some("192.0.2.7:7000");
    let bob_at_desk = card(bob, BOB_ADDRESS);
    let bob_on_train = card(Profile { station: Some("train"), ..Profile::named("bob") }, BOB_ADDRESS);
    let carol = simple_card("carol", "203.0.113.9:61000");
    let delta = presence_frame(Header::new(Type::Delta).to(Id::ALL), None, 43, |out| {
        control::put_member(out, Tag::ARRIVED, CAROL, &carol);
        control::put_member(out, Tag::CHANGED, BOB, &bob_on_train);
        put_departed(out, ADA, Code::Left.number());
    });
    let put_ada = |out: &mut Vec<u8>| control::put_member(out, Tag::MEMBER, ADA, &ada);
    let put_bob = |out: &mut Vec<u8>| control::put_member(out, Tag::MEMBER, BOB, &bob_at_desk);
    let mut update = Profile { station: Some("train"), ..Profile::default() };
    update.endpoints[0] = Some("");
    let asking = |correlation| numbered(correlation).flagged(Flags::RECEIPT);
    vec![
        ("watch", control(numbered(10), control::Watch { room: None })),
        ("watch-room", control(numbered(11), control::Watch { room: Some(LOBBY.bits()) })),
        ("snapshot-more", presence_frame(snapshot(10).flagged(Flags::MORE), None, 41, put_ada)),
        ("snapshot", presence_frame(snapshot(10), None, 42, put_bob)),
        ("snapshot-room", presence_frame(snapshot(11), Some(LOBBY), 3, put_ada)),
        ("delta", delta),
        ("who-name", control(numbered(13), control::Who::Named("bob"))),
        ("who", control(numbered(14), control::Who::Everybody)),
        ("update", control(asking(12), control::Update(update))),
        ("unwatch", control(numbered(15), control::Unwatch { room: None })),
        ("join", control(numbered(16), control::Join { name: "lobby" })),
        ("joined", control(to_ada(16), control::Joined { room: LOBBY, name: "lobby", members: 5 })),
        ("evict", control(asking(18), control::Evict { client: BOB, text: "you repeat yourself" })),
        ("leave", control(asking(17), control::Leave { room: LOBBY.bits() })),
    ]
}

pub(crate) fn conversation() -> Vec<(&'static str, Vec<u8>)> {
    let hello = |name| control(numbered(1), Hello::new(Profile::named(name)));
    let text = |correlation| of_kind(Header::new(Type::Send).correlating(correlation).to(BOB), kind::TEXT);
    let lunch = plain(text(3).flagged(Flags::RECEIPT), b"lunch?");
    let ack = plain(Header::new(Type::Ack).correlating(3).to(ADA), b"");
    let written = control::Receipt { stage: control::Stage::Written.number(), ..control::Receipt::default() };
    let gone = Reason { client: Some(BOB), ..saying(Code::NoSuchClient) };
    let goodbye = control(numbered(0), Goodbye(Reason::default()));
    let snapshot = presence_frame(Header::new(Type::Snapshot).to(ADA).correlating(2), None, 0, |out| {
        control::put_member(out, Tag::MEMBER, ADA, &simple_card("ada", ADA_ADDRESS));
    });
    let to_all = Header::new(Type::Delta).to(Id::ALL);
    let arrived = presence_frame(to_all, None, 1, |out| {
        control::put_member(out, Tag::ARRIVED, BOB, &simple_card("bob", BOB_ADDRESS));
    });
    let departed = presence_frame(to_all, None, 2, |out| put_departed(out, BOB, Code::Left.number()));
    vec![
        ("talk-01", hello("ada")),
        ("talk-02", welcome(ADA, ADA_ADDRESS, 90_000_000)),
        ("talk-03", control(numbered(2), control::Watch { room: None })),
        ("talk-04", snapshot),
        ("talk-05", hello("bob")),
        ("talk-06", welcome(BOB, BOB_ADDRESS, 95_000_000)),
        ("talk-07", arrived),
        ("talk-09", from(ADA, &lunch)),
        ("talk-08", lunch),
        ("talk-10", control(to_ada(3), written)),
        ("talk-12", from(BOB, &ack)),
        ("talk-11", ack),
        ("talk-13", goodbye.clone()),
        ("talk-14", departed),
        ("talk-15", plain(text(4), b"noon")),
        ("talk-16", control(to_ada(4), ErrorBody(gone))),
        ("talk-17", goodbye),
    ]
}
