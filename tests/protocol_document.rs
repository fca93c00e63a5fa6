//! `docs/PROTOCOL.md` and the constants of `switchboard::wire` say the same.
//!
//! Tables are found by the first words of their header row and compared both ways, so neither side can have a
//! row more than the other. Every block of hex is decoded with the crate's decoder and compared with the frame that
//! the crate writes from the described fields. The conversations of section 13 and the client of the appendix are tried on
//! a real relay. What this does not check: the prose between them.

#[path = "protocol_document/appendix.rs"]
mod appendix;
#[path = "protocol_document/document.rs"]
mod document;
#[path = "protocol_document/examples.rs"]
mod examples;
#[path = "relay/frames.rs"]
#[allow(dead_code, reason = "the relay's own tests use more of it")]
mod frames;
#[path = "protocol_document/live.rs"]
mod live;
#[path = "protocol_document/login.rs"]
mod login;
#[path = "relay/people.rs"]
#[allow(dead_code, reason = "the relay's own tests use more of it")]
mod people;
#[path = "protocol_document/relay.rs"]
mod relay;
#[path = "relay/world.rs"]
#[allow(dead_code, reason = "the relay's own tests use more of it")]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use switchboard::auth::Mechanism;
use switchboard::wire::body::{self, Fields, Shape};
use switchboard::wire::control::{self, Body, ErrorBody, Goodbye, Hello, Member, Presence};
use switchboard::wire::{
    self, APPLICATION_TYPE_MIN, BodyError, Code, Flags, HEADER_BYTES, Header, Id, IdKind, LENGTH_BYTES, Next, Tag,
    Type, is_routed, kind, next_run,
};

use document::{Document, Table, constants_in, document, file, hex, number};
use examples::{ADA, card, put_departed};

// ---- numbers and names ----

fn limits() -> BTreeSet<(u64, &'static str)> {
    BTreeSet::from([
        (wire::VERSION.into(), "VERSION"),
        (u32::from_be_bytes(wire::MAGIC).into(), "MAGIC"),
        (wire::PORT.into(), "PORT"),
        (LENGTH_BYTES as u64, "LENGTH_BYTES"),
        (HEADER_BYTES as u64, "HEADER_BYTES"),
        (wire::LENGTH_MIN.into(), "LENGTH_MIN"),
        (wire::PAYLOAD_BYTES_DEFAULT.into(), "PAYLOAD_BYTES_DEFAULT"),
        (wire::PAYLOAD_BYTES_CEILING.into(), "PAYLOAD_BYTES_CEILING"),
        (wire::PAYLOAD_BYTES_FLOOR.into(), "PAYLOAD_BYTES_FLOOR"),
        (wire::HELLO_BYTES_MAX.into(), "HELLO_BYTES_MAX"),
        (wire::NAME_BYTES_MAX as u64, "NAME_BYTES_MAX"),
        (wire::TEXT_BYTES_MAX as u64, "TEXT_BYTES_MAX"),
        (wire::ENDPOINT_BYTES_MAX as u64, "ENDPOINT_BYTES_MAX"),
        (wire::ENDPOINTS_MAX as u64, "ENDPOINTS_MAX"),
        (wire::DETAILS_BYTES_MAX as u64, "DETAILS_BYTES_MAX"),
        (wire::AUTH_DATA_BYTES_MAX as u64, "AUTH_DATA_BYTES_MAX"),
        (wire::MECHANISMS_MAX as u64, "MECHANISMS_MAX"),
        (wire::RECIPIENTS_MAX as u64, "RECIPIENTS_MAX"),
        (APPLICATION_TYPE_MIN.into(), "APPLICATION_TYPE_MIN"),
    ])
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
    let rows: Vec<_> = document.tables_of(&["value", "constant"]).flat_map(|table| &table.rows).collect();
    let documented: BTreeSet<_> = rows.iter().map(|row| (number(&row[0]), row[1].as_str())).collect();
    assert_eq!((documented, rows.len()), (limits(), limits().len()));
}

#[test]
fn no_constant_of_the_crate_is_left_out_of_the_lists_above() {
    let header = file("src/wire/header.rs");
    let mut limits_in_source = constants_in(&file("src/wire/mod.rs"), "pub const ", None);
    limits_in_source.extend(constants_in(&header, "pub const ", None));
    assert_eq!(limits_in_source, names(limits().into_iter().map(|(_, name)| name)));
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
fn mechanisms_are_those_of_the_crate_in_its_order() {
    let document = document();
    let rows = document.tables_of(&["mechanism"]).flat_map(|table| &table.rows);
    let listed: Vec<_> = rows.map(|row| row[0].as_str()).collect();
    assert_eq!(listed, Mechanism::ALL.map(Mechanism::name));
}

#[test]
fn codes_that_come_with_a_delay_are_listed_with_the_field() {
    let document = document();
    let heading = format!("{:#04x} {}", Type::Error.number(), Type::Error.name());
    let table = document.tables_of(&["field", "tag"]).find(|table| table.heading == heading).expect("a table");
    let row = table.rows.iter().find(|row| row[0].starts_with("RETRY_MS")).expect("a row");
    let listed = names(row[2].split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|word| word.len() > 4));
    assert_eq!(listed, names(Code::ALL.iter().filter(|code| code.has_delay()).map(|code| code.name())));
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
    const OTHERS: &str = "TCP UTF UTC TLS ALPN RFC EXPORTER MAX_LENGTH SHUT_WR SWBD \
        CONNECTING GREETING AUTHENTICATING READY LEAVING CLOSING WAITING STOPPED";
    let mut known = names(OTHERS.split_whitespace());
    known.extend(names(Mechanism::ALL.iter().flat_map(|mechanism| mechanism.name().split('-'))));
    known.extend(names(Type::ALL.iter().map(|t| t.name())));
    known.extend(names(Tag::ALL.iter().map(|(_, name)| *name)));
    known.extend(names(Flags::ALL.iter().map(|(_, name)| *name)));
    known.extend(names(Code::ALL.iter().map(|code| code.name())));
    known.extend(names(control::Stage::ALL.iter().map(|stage| stage.name())));
    known.extend(names(KINDS.map(|(_, name)| name)));
    known.extend(names(IDS.map(|(_, name)| name)));
    known.extend(names(limits().into_iter().map(|(_, name)| name)));
    let document = document();
    for word in document.prose.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let word = word.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(word);
        let shouts = word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let is_name = shouts && word.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(!is_name || known.contains(word), "the document speaks of {word}");
    }
}

// ---- examples and bodies ----

#[test]
fn every_example_is_the_frame_that_the_crate_writes() {
    let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (name, frame) in
        [examples::session(), examples::traffic(), examples::presence(), examples::conversation(), examples::login()]
            .into_iter()
            .flatten()
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
fn rewritten(frame_type: Option<Type>, payload: &[u8]) -> Result<Vec<u8>, BodyError> {
    fn again<'a, B: Body<'a>>(payload: &'a [u8]) -> Result<Vec<u8>, BodyError> {
        let mut out = Vec::new();
        B::parse(payload)?.write(&mut out);
        Ok(out)
    }
    match frame_type {
        Some(Type::Hello) => again::<Hello>(payload),
        Some(Type::Welcome) => again::<control::Welcome>(payload),
        Some(Type::Auth) => again::<control::Auth>(payload),
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
        Some(Type::Evict) => again::<control::Evict<'_>>(payload),
        Some(Type::Leave) => again::<control::Leave>(payload),
        Some(Type::Snapshot | Type::Delta) => rewritten_presence(payload),
        Some(Type::SendMany) => {
            let (recipients, proper) = control::recipients(payload)?;
            let mut out = Vec::new();
            control::put_recipients(&mut out, &recipients.collect::<Vec<_>>());
            out.extend_from_slice(&payload[proper..]);
            Ok(out)
        }
        // The payload is the application's, or reserved.
        Some(Type::Send | Type::Ack | Type::Offer | Type::Accept | Type::Chunk | Type::End | Type::Cancel) | None => {
            Ok(payload.to_vec())
        }
    }
}

fn rewritten_presence(payload: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::new();
    for said in control::presence(payload) {
        match said? {
            Presence::Room(room) => body::put_integer(&mut out, Tag::ROOM, room.bits()),
            Presence::Sequence(sequence) => body::put_integer(&mut out, Tag::SEQUENCE, sequence),
            Presence::Member(m) => control::put_member(&mut out, Tag::MEMBER, m.client, &card(m.profile, m.address)),
            Presence::Arrived(m) => control::put_member(&mut out, Tag::ARRIVED, m.client, &card(m.profile, m.address)),
            Presence::Changed(m) => control::put_member(&mut out, Tag::CHANGED, m.client, &card(m.profile, m.address)),
            Presence::Departed(gone) => put_departed(&mut out, gone.client, gone.code_number),
        }
    }
    Ok(out)
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
        assert_eq!(
            rewritten(header.frame_type(), run.payload()).map(|body| hex(&body)),
            Ok(hex(run.payload())),
            "{name}"
        );
    }
}

/// A field of this tag that whoever knows the tag refuses.
fn bad_field(tag: Tag) -> Vec<u8> {
    let mut out = Vec::new();
    let value = match tag.shape() {
        Shape::Text => vec![0xFF],
        Shape::Bytes => vec![0; wire::DETAILS_BYTES_MAX + 1],
        Shape::Integer | Shape::Record | Shape::Unknown => vec![0],
    };
    body::put_bytes(&mut out, tag, &value);
    out
}

/// The tags that `parse` knows, found out by offering it a bad field of each behind a good body.
fn known_tags(good: &[u8], parse: impl Fn(&[u8]) -> bool) -> BTreeSet<Tag> {
    assert!(parse(good));
    let tags = Tag::ALL.iter().map(|(tag, _)| *tag);
    tags.filter(|tag| !parse(&[good, &bad_field(*tag)].concat())).collect()
}

/// The fields of a table, and whether they must stand.
fn body_table(table: &Table) -> BTreeMap<Tag, bool> {
    let mut fields = BTreeMap::new();
    for row in &table.rows {
        let tag = Tag(number(&row[1]) as u16);
        let (name, mark) = row[0].split_once(' ').unwrap_or((&row[0], ""));
        assert_eq!(tag.name(), Some(name), "{}", table.heading);
        assert!(["", "?", "*"].contains(&mark), "{}: {name} {mark}", table.heading);
        let is_listed = tag == Tag::MECHANISM && table.heading.ends_with(Type::Error.name());
        let is_listed = is_listed || tag == Tag::ENDPOINT || tag.shape() == Shape::Record;
        assert_eq!(mark == "*", is_listed, "{}: {name}", table.heading);
        assert!(fields.insert(tag, mark.is_empty()).is_none(), "{}: {name} stands twice", table.heading);
    }
    fields
}

/// The body tables under the heading of a type.
fn body_tables(document: &Document, frame_type: Type) -> Vec<BTreeMap<Tag, bool>> {
    let heading = format!("{:#04x} {}", frame_type.number(), frame_type.name());
    document.tables_of(&["field", "tag"]).filter(|table| table.heading == heading).map(body_table).collect()
}

/// The payloads of the examples under the heading of a type that are of this type.
fn payloads(document: &Document, frame_type: Type) -> Vec<Vec<u8>> {
    let heading = format!("{:#04x} {}", frame_type.number(), frame_type.name());
    let own = document.examples().into_iter().filter(|(own_heading, _, bytes)| {
        let fits = *own_heading == heading || own_heading.starts_with("Files") && own_heading.contains(&heading);
        fits && Header::read(bytes).frame_type() == Some(frame_type)
    });
    own.map(|(_, _, bytes)| bytes[HEADER_BYTES..].to_vec()).collect()
}

#[test]
fn body_tables_list_what_the_crate_reads_and_no_more() {
    let document = document();
    for frame_type in Type::ALL.iter().copied() {
        let payloads = payloads(&document, frame_type);
        assert!(!payloads.is_empty(), "{frame_type} has no example under its heading");
        if matches!(frame_type, Type::Snapshot | Type::Delta) {
            continue;
        }
        let parse = |payload: &[u8]| rewritten(Some(frame_type), payload).is_ok();
        let mut known = known_tags(&payloads[0], parse);
        if frame_type == Type::Goodbye {
            // Read because ERROR and GOODBYE share a body; they say nothing in a GOODBYE.
            const OF_ERRORS: [Tag; 4] = [Tag::CLIENT, Tag::VERSION_MIN, Tag::VERSION_MAX, Tag::MECHANISM];
            known.retain(|tag| !OF_ERRORS.contains(tag));
        }
        let tables = body_tables(&document, frame_type);
        assert_eq!(tables.len(), usize::from(!known.is_empty()), "{frame_type}");
        for table in tables {
            assert_eq!(table.keys().copied().collect::<BTreeSet<_>>(), known, "{frame_type}");
            let prefix = if frame_type == Type::Hello { 8 } else { 0 };
            for payload in &payloads {
                check_required(&table, &payload[..prefix], &payload[prefix..], parse, frame_type);
            }
        }
    }
}

/// What must stand does stand in the example, and what the crate cannot do without is said to be needed.
fn check_required(
    table: &BTreeMap<Tag, bool>,
    prefix: &[u8],
    example: &[u8],
    parse: impl Fn(&[u8]) -> bool,
    frame_type: Type,
) {
    let fields: Vec<_> = Fields::new(example).collect::<Result<_, _>>().expect("a good body");
    for (tag, required) in table {
        assert!(!required || fields.iter().any(|field| field.tag == *tag), "an example of {frame_type} lacks {tag}");
        let mut without = prefix.to_vec();
        for field in fields.iter().filter(|field| field.tag != *tag) {
            body::put_bytes(&mut without, field.tag, field.value);
        }
        assert!(*required || parse(&without), "{frame_type} cannot do without {tag}");
    }
}

#[test]
fn tables_of_presence_list_what_the_crate_reads_and_no_more() {
    let document = document();
    let parse = |payload: &[u8]| control::presence(payload).all(|said| said.is_ok());
    let known = known_tags(&[], parse);
    let mut record = Vec::new();
    body::put_integer(&mut record, Tag::CLIENT, ADA.bits());
    let known_in_record = known_tags(&record, |record| Member::parse(record).is_ok());

    let without = |known: &BTreeSet<Tag>, tags: &[Tag]| -> BTreeSet<Tag> {
        known.iter().copied().filter(|tag| !tags.contains(tag)).collect()
    };
    let listed = |table: &BTreeMap<Tag, bool>| table.keys().copied().collect::<BTreeSet<_>>();
    let required = |table: &BTreeMap<Tag, bool>| -> Vec<Tag> {
        table.iter().filter(|(_, required)| **required).map(|(tag, _)| *tag).collect()
    };
    let [snapshot, member] = &body_tables(&document, Type::Snapshot)[..] else { panic!("two tables for SNAPSHOT") };
    assert_eq!(listed(snapshot), without(&known, &[Tag::ARRIVED, Tag::CHANGED, Tag::DEPARTED]));
    assert_eq!(listed(member), without(&known_in_record, &[Tag::CODE]));
    assert_eq!((required(snapshot), required(member)), (vec![Tag::SEQUENCE], vec![Tag::CLIENT, Tag::NAME]));
    let [delta, departed] = &body_tables(&document, Type::Delta)[..] else { panic!("two tables for DELTA") };
    assert_eq!(listed(delta), without(&known, &[Tag::MEMBER]));
    assert_eq!((required(delta), required(departed)), (vec![Tag::SEQUENCE], vec![Tag::CLIENT, Tag::CODE]));
    assert_eq!(listed(departed).len(), 2);
}
