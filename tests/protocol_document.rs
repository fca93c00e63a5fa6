//! `docs/PROTOCOL.md` and the constants of `switchboard::wire` say the same.
//!
//! Tables are found by the first words of their header row and compared both ways, so neither side can have a
//! row more than the other. Every block of hex is decoded with the crate's decoder and compared with the frame that
//! the crate writes from the described fields. What this does not check: the prose between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use switchboard::wire::body::{self, Fields, Shape};
use switchboard::wire::control::{self, Body, ErrorBody, Goodbye, Hello, Member, Presence, Profile, Reason};
use switchboard::wire::{
    self, APPLICATION_TYPE_MIN, Code, Flags, Frames, HEADER_BYTES, Header, Id, IdKind, LENGTH_BYTES, Next, Tag, Type,
    is_routed, kind, next_run,
};

const ADA: Id = Id::client(1, 1);
const BOB: Id = Id::client(2, 2);
const CAROL: Id = Id::client(3, 3);
const LOBBY: Id = Id::room(1, 4);

// ---- the document ----

/// A table with the heading that it stands under.
struct Table {
    heading: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A fenced block with the heading that it stands under.
struct Block {
    heading: String,
    language: String,
    text: String,
}

#[derive(Default)]
struct Document {
    headings: Vec<String>,
    tables: Vec<Table>,
    blocks: Vec<Block>,
    /// Everything outside of fenced blocks.
    prose: String,
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> Document {
    let text = file("docs/PROTOCOL.md");
    let mut document = Document::default();
    let mut heading = String::new();
    let mut block: Option<Block> = None;
    let mut in_table = false;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            match block.take() {
                Some(done) => document.blocks.push(done),
                None => {
                    block = Some(Block { heading: heading.clone(), language: fence.to_owned(), text: String::new() });
                }
            }
            continue;
        }
        if let Some(block) = &mut block {
            block.text.push_str(line);
            block.text.push('\n');
            continue;
        }
        document.prose.push_str(line);
        document.prose.push('\n');
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
            document.headings.push(heading.clone());
        }
        let row = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
        let Some(row) = row else {
            in_table = false;
            continue;
        };
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        match document.tables.last_mut() {
            Some(table) if in_table => table.rows.push(cells),
            _ => document.tables.push(Table { heading: heading.clone(), header: cells, rows: Vec::new() }),
        }
        in_table = true;
    }
    assert!(block.is_none(), "a fence is not closed");
    for table in &mut document.tables {
        let rule = table.rows.remove(0);
        assert!(rule.iter().all(|cell| cell == "---"), "{}: a table without a rule: {rule:?}", table.heading);
        for row in &table.rows {
            assert_eq!(row.len(), table.header.len(), "{}: a row with other columns: {row:?}", table.heading);
        }
    }
    document
}

impl Document {
    /// The tables whose header row begins with `header`.
    fn tables_of<'a>(&'a self, header: &'a [&'a str]) -> impl Iterator<Item = &'a Table> {
        self.tables
            .iter()
            .filter(move |table| table.header.iter().zip(header).filter(|(a, b)| a == b).count() == header.len())
    }

    /// Number and name of each row of the tables that begin with `header`; neither may stand twice.
    fn numbers(&self, header: &[&str]) -> BTreeMap<u64, String> {
        let mut numbers = BTreeMap::new();
        let mut names = BTreeSet::new();
        for row in self.tables_of(header).flat_map(|table| &table.rows) {
            assert!(names.insert(row[1].clone()), "{header:?}: {} stands twice", row[1]);
            let twice = numbers.insert(number(&row[0]), row[1].clone());
            assert!(twice.is_none(), "{header:?}: {} stands twice", row[0]);
        }
        numbers
    }

    /// The names and bytes of all hex blocks, with their headings.
    fn examples(&self) -> Vec<(String, String, Vec<u8>)> {
        let mut examples = Vec::new();
        for block in self.blocks.iter().filter(|block| block.language == "hex") {
            let title = block.text.lines().next().and_then(|line| line.strip_prefix("# "));
            let (name, _) = title.and_then(|title| title.split_once(':')).expect("a block begins with `# name: title`");
            examples.push((block.heading.clone(), name.to_owned(), bytes_of(&block.text)));
        }
        examples
    }
}

/// A number as the document writes it: `0x1F`, `1,024`.
fn number(text: &str) -> u64 {
    let plain = text.replace(',', "");
    let parsed = match plain.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => plain.parse(),
    };
    parsed.unwrap_or_else(|error| panic!("{text:?} in a table: {error}"))
}

/// The bytes of a hex block: everything behind `#` or `;` on a line is a comment.
fn bytes_of(block: &str) -> Vec<u8> {
    let code = block.lines().flat_map(|line| line.split(['#', ';']).next());
    code.flat_map(str::split_whitespace)
        .map(|byte| {
            assert_eq!(byte.len(), 2, "{byte:?} is not a byte");
            u8::from_str_radix(byte, 16).expect("two hexadecimal digits")
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x} ");
        text
    })
}

/// The names of the constants that lines beginning with `prefix` define, with their types.
fn constants_in(source: &str, prefix: &str, type_name: Option<&str>) -> BTreeSet<String> {
    let lines = source.lines().filter_map(|line| line.strip_prefix(prefix));
    let pairs = lines.filter_map(|line| line.split_once(": "));
    pairs
        .filter(|(name, rest)| !name.contains(' ') && type_name.is_none_or(|t| rest.split(' ').next() == Some(t)))
        .map(|(name, _)| name.to_owned())
        .collect()
}

// ---- numbers and names ----

fn limits() -> BTreeMap<u64, Vec<&'static str>> {
    let list: [(u64, &str); 16] = [
        (wire::VERSION.into(), "VERSION"),
        (u32::from_be_bytes(wire::MAGIC).into(), "MAGIC"),
        (wire::PORT.into(), "PORT"),
        (LENGTH_BYTES as u64, "LENGTH_BYTES"),
        (HEADER_BYTES as u64, "HEADER_BYTES"),
        (wire::LENGTH_MIN.into(), "LENGTH_MIN"),
        (wire::PAYLOAD_BYTES_DEFAULT.into(), "PAYLOAD_BYTES_DEFAULT"),
        (wire::PAYLOAD_BYTES_CEILING.into(), "PAYLOAD_BYTES_CEILING"),
        (wire::HELLO_BYTES_MAX.into(), "HELLO_BYTES_MAX"),
        (wire::NAME_BYTES_MAX as u64, "NAME_BYTES_MAX"),
        (wire::TEXT_BYTES_MAX as u64, "TEXT_BYTES_MAX"),
        (wire::ENDPOINT_BYTES_MAX as u64, "ENDPOINT_BYTES_MAX"),
        (wire::ENDPOINTS_MAX as u64, "ENDPOINTS_MAX"),
        (wire::DETAILS_BYTES_MAX as u64, "DETAILS_BYTES_MAX"),
        (wire::RECIPIENTS_MAX as u64, "RECIPIENTS_MAX"),
        (APPLICATION_TYPE_MIN.into(), "APPLICATION_TYPE_MIN"),
    ];
    let mut limits: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (value, name) in list {
        limits.entry(value).or_default().push(name);
    }
    limits
}

const KINDS: [(u16, &str); 4] =
    [(kind::BYTES, "BYTES"), (kind::TEXT, "TEXT"), (kind::JSON, "JSON"), (kind::APPLICATION_MIN, "APPLICATION_MIN")];

const IDS: [(Id, &str); 3] = [(Id::RELAY, "RELAY"), (Id::ALL, "ALL"), (Id::MANY, "MANY")];

fn named<N: Into<u64>>(list: impl IntoIterator<Item = (N, &'static str)>) -> BTreeMap<u64, String> {
    list.into_iter().map(|(number, name)| (number.into(), name.to_owned())).collect()
}

fn names<'a>(list: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    list.into_iter().map(str::to_owned).collect()
}

#[test]
fn types_are_those_of_the_crate() {
    let document = document();
    let types = named(Type::ALL.iter().map(|t| (t.number(), t.name())));
    assert_eq!(document.numbers(&["type", "name"]), types);
    for row in document.tables_of(&["type", "name"]).flat_map(|table| &table.rows) {
        let number = number(&row[0]) as u8;
        let routed = match (is_routed(number, Id::RELAY), is_routed(number, ADA)) {
            (true, true) => "yes",
            (false, true) => "with a destination",
            _ => "no",
        };
        assert_eq!(row[3], routed, "{}", row[1]);
    }
}

#[test]
fn every_type_has_a_heading_of_its_own() {
    let document = document();
    let mut headed = BTreeMap::new();
    for heading in &document.headings {
        let words: Vec<_> = heading.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            if pair[0].starts_with("0x") && pair[1].chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                assert!(headed.insert(number(pair[0]), pair[1].to_owned()).is_none(), "{heading}");
            }
        }
    }
    assert_eq!(headed, named(Type::ALL.iter().map(|t| (t.number(), t.name()))));
}

#[test]
fn flags_kinds_ids_and_stages_are_those_of_the_crate() {
    let document = document();
    assert_eq!(document.numbers(&["flag", "name"]), named(Flags::ALL.iter().map(|(flag, name)| (flag.0, *name))));
    assert_eq!(document.numbers(&["kind", "name"]), named(KINDS));
    assert_eq!(document.numbers(&["id", "name"]), named(IDS.map(|(id, name)| (id.bits(), name))));
    let stages = control::Stage::ALL.iter().map(|stage| (stage.number(), stage.name()));
    assert_eq!(document.numbers(&["stage", "name"]), named(stages));
}

#[test]
fn limits_are_those_of_the_crate() {
    let document = document();
    let mut documented: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for row in document.tables_of(&["value", "constant"]).flat_map(|table| &table.rows) {
        documented.entry(number(&row[0])).or_default().push(&row[1]);
    }
    assert_eq!(documented, limits());
}

#[test]
fn no_constant_of_the_crate_is_left_out_of_the_lists_above() {
    let header = file("src/wire/header.rs");
    let mut limits_in_source = constants_in(&file("src/wire/mod.rs"), "pub const ", None);
    limits_in_source.extend(constants_in(&header, "pub const ", None));
    assert_eq!(limits_in_source, names(limits().into_values().flatten()));
    assert_eq!(constants_in(&header, "    pub const ", Some("u16")), names(KINDS.map(|(_, name)| name)));
    let ids = constants_in(&file("src/wire/id.rs"), "    pub const ", Some("Self"));
    assert_eq!(ids, names(IDS.map(|(_, name)| name)));
    let flags = constants_in(&header, "    pub const ", Some("Self"));
    assert_eq!(flags, names(Flags::ALL.iter().map(|(_, name)| *name).chain(["NONE"])));
}

#[test]
fn tags_and_their_shapes_are_those_of_the_crate() {
    let document = document();
    assert_eq!(document.numbers(&["tag", "name"]), named(Tag::ALL.iter().map(|(tag, name)| (tag.0, *name))));
    let shapes: BTreeMap<_, _> = document
        .tables_of(&["shape", "bits"])
        .flat_map(|table| &table.rows)
        .map(|row| (&row[0], number(&row[1])))
        .collect();
    for row in document.tables_of(&["tag", "name"]).flat_map(|table| &table.rows) {
        let tag = number(&row[0]);
        let shape = match Tag(tag as u16).shape() {
            Shape::Integer => "integer",
            Shape::Text => "text",
            Shape::Bytes => "bytes",
            Shape::Record => "record",
            Shape::Unknown => "",
        };
        assert_eq!(row[2], shape, "{}", row[1]);
        assert_eq!(shapes.get(&row[2]), Some(&(tag >> 12)), "{}", row[1]);
    }
    assert_eq!(shapes.len(), 4);
}

#[test]
fn codes_and_what_they_do_to_a_connection_are_those_of_the_crate() {
    let document = document();
    assert_eq!(document.numbers(&["code", "name"]), named(Code::ALL.iter().map(|code| (code.number(), code.name()))));
    for table in document.tables_of(&["code", "name"]) {
        for row in &table.rows {
            let code = Code::from_number(number(&row[0]) as u16).expect("compared above");
            assert_eq!(row[2], if code.closes() { "closed" } else { "lives" }, "{code}");
            assert_eq!(table.heading.contains("do not come back"), !code.may_return(), "{code}");
        }
    }
}

#[test]
fn the_frame_layout_is_that_of_the_crate() {
    let document = document();
    let table = document.tables_of(&["offset", "bytes", "field"]).next().expect("the layout table");
    let mut offsets = Vec::new();
    let mut end = 0;
    for row in &table.rows {
        assert_eq!(number(&row[0]), end, "{}", row[2]);
        offsets.push((row[2].as_str(), end));
        end += row[1].parse::<u64>().unwrap_or(0);
    }
    assert_eq!(end, HEADER_BYTES as u64);
    let header = Header {
        type_number: 0x11,
        flags: Flags(0x22),
        kind: 0x3344,
        correlation: 0x5566_7788,
        destination: Id::from_bits(0x99AA_BBCC_DDEE_FF01),
        source: Id::from_bits(0x0203_0405_0607_0809),
    };
    let bytes = header.bytes(0);
    let at = |place: u64| bytes[place as usize];
    let expected = [("length", 0), ("type", 0x11), ("flags", 0x22), ("kind", 0x33), ("correlation", 0x55)];
    let expected = expected.into_iter().chain([("destination", 0x99), ("source", 0x02)]);
    for ((name, offset), (expected_name, first_byte)) in offsets.iter().zip(expected) {
        assert_eq!((*name, at(*offset)), (expected_name, first_byte));
    }

    let delivered = document.tables_of(&["delivered offset"]).next().expect("the table of delivered offsets");
    let delivered = delivered.header.iter().zip(&delivered.rows[0]).skip(1);
    let delivered: Vec<_> = delivered.map(|(offset, name)| (name.as_str(), number(offset))).collect();
    let length = LENGTH_BYTES as u64;
    assert_eq!(delivered, offsets[1..].iter().map(|(name, offset)| (*name, offset - length)).collect::<Vec<_>>());
}

#[test]
fn the_prose_names_nothing_that_the_crate_lacks() {
    // Words in capitals that are nobody's constant: terms of the field, options of other libraries, states of a client.
    const OTHERS: &str = "TCP UTF UTC AND IPv6 MAX_LENGTH SHUT_WR SWBD NOTE CONNECTING GREETING READY LEAVING CLOSING \
         WAITING STOPPED";
    let mut known = names(OTHERS.split_whitespace());
    known.extend(names(Type::ALL.iter().map(|t| t.name())));
    known.extend(names(Tag::ALL.iter().map(|(_, name)| *name)));
    known.extend(names(Flags::ALL.iter().map(|(_, name)| *name)));
    known.extend(names(Code::ALL.iter().map(|code| code.name())));
    known.extend(names(control::Stage::ALL.iter().map(|stage| stage.name())));
    known.extend(names(KINDS.map(|(_, name)| name)));
    known.extend(names(IDS.map(|(_, name)| name)));
    known.extend(names(limits().into_values().flatten()));
    let document = document();
    for word in document.prose.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let word = word.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(word);
        let shouts = word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let is_name = shouts && word.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(!is_name || known.contains(word), "the document speaks of {word}");
    }
}

// ---- examples ----

fn control<'a>(header: Header, body: impl Body<'a>) -> Vec<u8> {
    let mut frame = Vec::new();
    body.write_frame(header, &mut frame);
    frame
}

/// A frame whose payload is not a control body.
fn plain(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    header.write_frame(&mut frame, |out| out.extend_from_slice(payload));
    frame
}

/// A header of the relay or for the relay; the body gives it its type.
fn numbered(correlation: u32) -> Header {
    Header::new(Type::Hello).correlating(correlation)
}

fn of_kind(header: Header, kind: u16) -> Header {
    Header { kind, ..header }
}

fn from(source: Id, frame: &[u8]) -> Vec<u8> {
    let mut header = Header::read(frame);
    header.source = source;
    plain(header, &frame[HEADER_BYTES..])
}

fn welcome(client: Id, address: &str, clock_us: u64) -> Vec<u8> {
    let welcome = control::Welcome {
        version: 1,
        client,
        payload_bytes_max: 65_536,
        keepalive_ms: 30_000,
        queue_bytes_max: 1 << 20,
        clock_us,
        epoch_us: 1_767_225_600_000_000,
        address,
        agent: "switchboard/0.1.0",
    };
    control(numbered(1), welcome)
}

fn card(profile: Profile<'_>, address: &str) -> Vec<u8> {
    let mut card = Vec::new();
    Member { client: Id::RELAY, profile, address, code_number: 0 }.write_card(&mut card);
    card
}

fn simple_card(name: &str, address: &str) -> Vec<u8> {
    card(Profile::named(name), address)
}

fn put_departed(out: &mut Vec<u8>, client: Id, code_number: u16) {
    body::put_record(out, Tag::DEPARTED, |out| {
        body::put_integer(out, Tag::CLIENT, client.bits());
        body::put_integer(out, Tag::CODE, u64::from(code_number));
    });
}

/// A SNAPSHOT or a DELTA.
fn presence(header: Header, room: Option<Id>, sequence: u64, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
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

const ADA_ADDRESS: &str = "203.0.113.5:50812";
const BOB_ADDRESS: &str = "203.0.113.6:40001";

fn session_examples() -> Vec<(&'static str, Vec<u8>)> {
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
    let queue_full = Reason { client: Some(BOB), ..Reason::new(Code::QueueFull, "queue full") };
    let bad_version = Reason { versions: Some((1, 1)), ..Reason::new(Code::BadVersion, "no common version") };
    let shutting_down = Reason { retry_ms: Some(2350), ..Reason::new(Code::ShuttingDown, "restarting") };
    let pong = control::Pong { ping_clock_us: Some(120_000_000), clock_us: Some(5_001_500) };
    vec![
        ("hello", control(numbered(1), Hello::new(Profile::named("ada")))),
        ("hello-full", control(numbered(1), full)),
        ("welcome", welcome(ADA, ADA_ADDRESS, 90_000_000)),
        ("auth", plain(Header::new(Type::Auth), b"")),
        ("error-queue-full", control(numbered(7), ErrorBody(queue_full))),
        ("error-bad-version", control(numbered(1), ErrorBody(bad_version))),
        ("goodbye", control(numbered(0), Goodbye(Reason::default()))),
        ("goodbye-shutting-down", control(numbered(0), Goodbye(shutting_down))),
        ("ping", control(numbered(3), control::Ping { clock_us: Some(120_000_000) })),
        ("pong", control(numbered(3), pong)),
    ]
}

fn traffic_examples() -> Vec<(&'static str, Vec<u8>)> {
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
        ("receipt-written", control(numbered(7), stage(control::Stage::Written))),
        ("receipt-queued", control(numbered(8), queued)),
        ("receipt-done", control(numbered(12), stage(control::Stage::Done))),
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

fn presence_examples() -> Vec<(&'static str, Vec<u8>)> {
    let snapshot = |correlation| Header::new(Type::Snapshot).correlating(correlation);
    let ada = simple_card("ada", ADA_ADDRESS);
    let mut bob = Profile::named("bob");
    bob.station = Some("desk 4");
    bob.endpoints[0] = Some("192.0.2.7:7000");
    let bob_at_desk = card(bob, BOB_ADDRESS);
    let bob_on_train = card(Profile { station: Some("train"), ..Profile::named("bob") }, BOB_ADDRESS);
    let carol = simple_card("carol", "203.0.113.9:61000");
    let delta = presence(Header::new(Type::Delta), None, 43, |out| {
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
        ("snapshot-more", presence(snapshot(10).flagged(Flags::MORE), None, 41, put_ada)),
        ("snapshot", presence(snapshot(10), None, 42, put_bob)),
        ("snapshot-room", presence(snapshot(11), Some(LOBBY), 3, put_ada)),
        ("delta", delta),
        ("who-name", control(numbered(13), control::Who::Named("bob"))),
        ("who", control(numbered(14), control::Who::Everybody)),
        ("update", control(asking(12), control::Update(update))),
        ("unwatch", control(numbered(15), control::Unwatch { room: None })),
        ("join", control(numbered(16), control::Join { name: "lobby" })),
        ("joined", control(numbered(16), control::Joined { room: LOBBY, name: "lobby", members: 5 })),
        ("leave", control(asking(17), control::Leave { room: LOBBY.bits() })),
    ]
}

fn conversation() -> Vec<(&'static str, Vec<u8>)> {
    let hello = |name| control(numbered(1), Hello::new(Profile::named(name)));
    let text = |correlation| of_kind(Header::new(Type::Send).correlating(correlation).to(BOB), kind::TEXT);
    let lunch = plain(text(3).flagged(Flags::RECEIPT), b"lunch?");
    let ack = plain(Header::new(Type::Ack).correlating(3).to(ADA), b"");
    let written = control::Receipt { stage: control::Stage::Written.number(), ..control::Receipt::default() };
    let gone = Reason { client: Some(BOB), ..Reason::new(Code::NoSuchClient, "no such client") };
    let goodbye = control(numbered(0), Goodbye(Reason::default()));
    let snapshot = presence(Header::new(Type::Snapshot).correlating(2), None, 1, |out| {
        control::put_member(out, Tag::MEMBER, ADA, &simple_card("ada", ADA_ADDRESS));
    });
    let arrived = presence(Header::new(Type::Delta), None, 2, |out| {
        control::put_member(out, Tag::ARRIVED, BOB, &simple_card("bob", BOB_ADDRESS));
    });
    let departed = presence(Header::new(Type::Delta), None, 3, |out| put_departed(out, BOB, Code::Left.number()));
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
        ("talk-10", control(numbered(3), written)),
        ("talk-12", from(BOB, &ack)),
        ("talk-11", ack),
        ("talk-13", goodbye.clone()),
        ("talk-14", departed),
        ("talk-15", plain(text(4), b"noon")),
        ("talk-16", control(numbered(4), ErrorBody(gone))),
        ("talk-17", goodbye),
    ]
}

#[test]
fn every_example_is_the_frame_that_the_crate_writes() {
    let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (name, frame) in
        [session_examples(), traffic_examples(), presence_examples(), conversation()].into_iter().flatten()
    {
        assert!(written.insert(name, frame).is_none(), "{name} is written twice");
    }
    let document = document();
    let mut seen = BTreeSet::new();
    for (_, name, bytes) in document.examples() {
        let frame = written.get(name.as_str()).unwrap_or_else(|| panic!("the test does not know the example {name}"));
        assert_eq!(hex(&bytes), hex(frame), "{name}");
        assert!(seen.insert(name.clone()), "{name} stands twice");
    }
    assert_eq!(seen, names(written.into_keys()), "examples that the document lacks");
}

/// Reads a payload and writes it again from what was read.
fn rewritten(header: Header, payload: &[u8]) -> Vec<u8> {
    fn again<'a, B: Body<'a>>(payload: &'a [u8]) -> Vec<u8> {
        let mut out = Vec::new();
        B::parse(payload).expect("a good body").write(&mut out);
        out
    }
    match header.frame_type() {
        Some(Type::Hello) => again::<Hello>(payload),
        Some(Type::Welcome) => again::<control::Welcome>(payload),
        Some(Type::Error) => again::<ErrorBody>(payload),
        Some(Type::Goodbye) => again::<Goodbye>(payload),
        Some(Type::Ping) => again::<control::Ping>(payload),
        Some(Type::Pong) => again::<control::Pong>(payload),
        Some(Type::Receipt) => again::<control::Receipt>(payload),
        Some(Type::Gap) => again::<control::Gap>(payload),
        Some(Type::Watch) => again::<control::Watch>(payload),
        Some(Type::Unwatch) => again::<control::Unwatch>(payload),
        Some(Type::Who) => again::<control::Who>(payload),
        Some(Type::Update) => again::<control::Update>(payload),
        Some(Type::Join) => again::<control::Join>(payload),
        Some(Type::Joined) => again::<control::Joined>(payload),
        Some(Type::Leave) => again::<control::Leave>(payload),
        Some(Type::Snapshot | Type::Delta) => rewritten_presence(payload),
        Some(Type::SendMany) => {
            let (recipients, proper) = control::recipients(payload).expect("a good list");
            let mut out = Vec::new();
            control::put_recipients(&mut out, &recipients.collect::<Vec<_>>());
            out.extend_from_slice(&payload[proper..]);
            out
        }
        Some(Type::Auth | Type::Send | Type::Ack) | None => payload.to_vec(),
        Some(Type::Offer | Type::Accept | Type::Chunk | Type::End | Type::Cancel) => payload.to_vec(),
    }
}

fn rewritten_presence(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for said in control::presence(payload) {
        match said.expect("a good body") {
            Presence::Room(room) => body::put_integer(&mut out, Tag::ROOM, room.bits()),
            Presence::Sequence(sequence) => body::put_integer(&mut out, Tag::SEQUENCE, sequence),
            Presence::Member(m) => control::put_member(&mut out, Tag::MEMBER, m.client, &card(m.profile, m.address)),
            Presence::Arrived(m) => control::put_member(&mut out, Tag::ARRIVED, m.client, &card(m.profile, m.address)),
            Presence::Changed(m) => control::put_member(&mut out, Tag::CHANGED, m.client, &card(m.profile, m.address)),
            Presence::Departed(gone) => put_departed(&mut out, gone.client, gone.code_number),
        }
    }
    out
}

#[test]
fn every_example_is_understood_by_the_decoder() {
    for (_, name, bytes) in document().examples() {
        let header = Header::read(&bytes);
        assert_ne!(header.destination.kind(), IdKind::Invalid, "{name}");
        let mut buffer = bytes.clone();
        let Ok(Next::Run(run)) = next_run(&mut buffer, header.source, wire::PAYLOAD_BYTES_DEFAULT) else {
            panic!("{name} is not one whole frame");
        };
        assert_eq!((run.frames, run.bytes.len(), run.header()), (1, bytes.len(), header), "{name}");
        assert_eq!(hex(&rewritten(header, run.payload())), hex(run.payload()), "{name}");
    }
}

/// The tags of a body, with those inside its records if `deep`.
fn tags(payload: &[u8], deep: bool) -> BTreeSet<Tag> {
    let mut found = BTreeSet::new();
    for field in Fields::new(payload) {
        let field = field.expect("a good body");
        found.insert(field.tag);
        if deep && field.tag.shape() == Shape::Record {
            found.append(&mut tags(field.value, true));
        }
    }
    found
}

#[test]
fn every_type_has_an_example_whose_fields_are_in_its_table() {
    let document = document();
    let examples = document.examples();
    for frame_type in Type::ALL {
        let heading = format!("{:#04x} {}", frame_type.number(), frame_type.name());
        let own_heading = |text: &str| text == heading || text.starts_with("Files") && text.contains(&heading);
        let own = examples.iter().filter(|(heading, _, bytes)| {
            own_heading(heading) && Header::read(bytes).frame_type() == Some(*frame_type)
        });
        let own: Vec<_> = own.collect();
        assert!(!own.is_empty(), "{frame_type} has no example under its heading");

        let rows = document.tables_of(&["field", "tag"]).filter(|table| table.heading == heading);
        let (mut listed, mut required) = (BTreeSet::new(), BTreeSet::new());
        for row in rows.flat_map(|table| &table.rows) {
            let tag = Tag(number(&row[1]) as u16);
            let (name, mark) = row[0].split_once(' ').unwrap_or((&row[0], ""));
            assert_eq!(tag.name(), Some(name), "{heading}");
            assert!(["", "?", "*"].contains(&mark), "{heading}: {name} {mark}");
            listed.insert(tag);
            if mark.is_empty() {
                required.insert(tag);
            }
        }
        for (_, name, bytes) in own.iter().filter(|_| !listed.is_empty()) {
            let fields = &bytes[if *frame_type == Type::Hello { HEADER_BYTES + 8 } else { HEADER_BYTES }..];
            assert!(tags(fields, false).is_subset(&listed), "{name}: {:?} are not all listed", tags(fields, false));
            assert!(required.is_subset(&tags(fields, true)), "{name} lacks one of {required:?}");
        }
    }
}

// ---- the appendix ----

/// The client of the appendix in a file of its own.
fn python_client(directory: &Path) -> PathBuf {
    let document = document();
    let block = document.blocks.iter().find(|block| block.language == "python").expect("the appendix");
    let path = directory.join("client.py");
    std::fs::write(&path, &block.text).expect("a temporary file");
    path
}

/// The next whole frame of `stream`.
fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; LENGTH_BYTES];
    stream.read_exact(&mut frame).expect("a length");
    let length = u32::from_be_bytes(frame[..].try_into().expect("four bytes")) as usize;
    assert!(length < 4096, "a short frame is expected");
    frame.resize(LENGTH_BYTES + length, 0);
    stream.read_exact(&mut frame[LENGTH_BYTES..]).expect("a whole frame");
    assert_eq!(Frames::new(&frame).count(), 1);
    frame
}

#[test]
fn the_client_of_the_appendix_compiles_and_talks_to_a_relay() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3");
        return;
    }
    let directory = std::env::temp_dir().join(format!("switchboard-appendix-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    let client = python_client(&directory);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let mut command = Command::new("python3");
    command.arg("-B").arg(&client).args(["127.0.0.1", &port, "ada", "hello"]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("python3 starts");

    // A client that does not even compile never connects: wait for a connection, but not for ever.
    listener.set_nonblocking(true).expect("a listener");
    let mut stream = (0..1000).find_map(|_| {
        let stream = listener.accept().ok();
        if stream.is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        stream
    });
    let (stream, _) = stream.as_mut().expect("the client connects within ten seconds");
    stream.set_nonblocking(false).expect("a stream");
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

    let mut printed = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
    assert!(child.wait().expect("it ends").success());
    std::fs::remove_dir_all(&directory).expect("removed");
    let expected = "I am 4000000001000001\n4000000002000002: good morning\nframe 2: code 1005\nframe 0: code 2001\n";
    assert_eq!(printed, expected);
}
