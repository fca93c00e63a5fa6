//! Control bodies: any bytes are read as the specification's tables say or refused, and what was read is written
//! so that it is read again as the same.

use switchboard::wire::control::{
    self, Auth, Body, ErrorBody, Evict, Gap, Goodbye, Hello, Join, Joined, Leave, Member, Ping, Pong, Presence,
    Receipt, Unwatch, Update, Watch, Welcome, Who,
};
use switchboard::wire::{BodyError, HEADER_BYTES, Header, Id, Tag, Type, dump, is_valid_name};

use crate::dice::Dice;

/// What a value must be, by the specification's section 3.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    Integer(u64),
    Text(usize),
    Bytes(usize),
}

const ID: Value = Value::Integer(u64::MAX);
const NUMBER: Value = Value::Integer(u64::MAX);
const U32: Value = Value::Integer(u32::MAX as u64);
const U16: Value = Value::Integer(u16::MAX as u64);
const U8: Value = Value::Integer(u8::MAX as u64);
const NAME: Value = Value::Text(64);
const TEXT: Value = Value::Text(256);
const AUTH_DATA: Value = Value::Bytes(1024);

type Table = &'static [(Tag, Value)];

const PROFILE: [(Tag, Value); 4] =
    [(Tag::NAME, NAME), (Tag::STATION, TEXT), (Tag::ENDPOINT, Value::Text(128)), (Tag::DETAILS, Value::Bytes(1024))];
const HELLO: Table = &[
    PROFILE[0],
    PROFILE[1],
    PROFILE[2],
    PROFILE[3],
    (Tag::PAYLOAD_MAX, U32),
    (Tag::KEEPALIVE_MS, U32),
    (Tag::AGENT, TEXT),
    (Tag::MECHANISM, TEXT),
    (Tag::AUTH_DATA, AUTH_DATA),
];
const AUTH: Table = &[(Tag::AUTH_DATA, AUTH_DATA)];
const WELCOME: Table = &[
    (Tag::VERSION, U8),
    (Tag::CLIENT, ID),
    (Tag::PAYLOAD_MAX, U32),
    (Tag::KEEPALIVE_MS, U32),
    (Tag::QUEUE_MAX, NUMBER),
    (Tag::CLOCK_US, NUMBER),
    (Tag::EPOCH_US, NUMBER),
    (Tag::ADDRESS, TEXT),
    (Tag::AGENT, TEXT),
    (Tag::USER, NAME),
    (Tag::AUTH_DATA, AUTH_DATA),
];
const REASON: Table = &[
    (Tag::CODE, U16),
    (Tag::TEXT, TEXT),
    (Tag::CLIENT, ID),
    (Tag::RETRY_MS, U32),
    (Tag::VERSION_MIN, U8),
    (Tag::VERSION_MAX, U8),
    (Tag::MECHANISM, TEXT),
];
const PING: Table = &[(Tag::CLOCK_US, NUMBER)];
const PONG: Table = &[(Tag::PING_CLOCK_US, NUMBER), (Tag::CLOCK_US, NUMBER)];
const RECEIPT: Table = &[(Tag::STAGE, NUMBER), (Tag::RECIPIENTS, NUMBER), (Tag::SKIPPED, NUMBER)];
const GAP: Table = &[(Tag::FRAMES, NUMBER), (Tag::BYTES, NUMBER)];
const EVICT: Table = &[(Tag::CLIENT, ID), (Tag::TEXT, TEXT)];
const ROOM: Table = &[(Tag::ROOM, ID)];
const WHO: Table = &[(Tag::NAME, NAME), (Tag::CLIENT, ID), (Tag::ROOM, ID)];
const JOIN: Table = &[(Tag::NAME, NAME)];
const JOINED: Table = &[(Tag::ROOM, ID), (Tag::NAME, NAME), (Tag::MEMBERS, NUMBER)];
const MEMBER: Table =
    &[PROFILE[0], PROFILE[1], PROFILE[2], PROFILE[3], (Tag::CLIENT, ID), (Tag::ADDRESS, TEXT), (Tag::CODE, U16)];

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let payload = if dice.bool() { dice.bytes(8_192) } else { compose(&mut dice, 0) };
    let place = dice.u64(..);
    let alien = dice.choice([0x1fff, 0x2fff, 0x3fff, 0x4fff, 0x5abc, 0x0001, 0xffff]).unwrap_or(0x1fff);
    for kind in KINDS {
        check(kind, &payload, (place, alien));
    }
    assert!(payload.starts_with(b"SWBD") || Hello::parse(&payload).is_err(), "who does not know the word is no client");
    check_presence(&payload);
    check_recipients(&payload);
    if let Ok(name) = std::str::from_utf8(&payload) {
        check_name(name);
    }
}

/// Fields with tags and lengths that mean something more often than chance would have it.
fn compose(dice: &mut Dice, depth: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..dice.usize(..12) {
        let tag = Tag::ALL[dice.usize(..Tag::ALL.len())].0;
        let value = match tag.0 >> 12 {
            1 => {
                let number = if dice.bool() { dice.u64(..) } else { dice.u64(..300) };
                number.to_be_bytes()[dice.choice([0, 0, 0, 0, 0, 1, 8]).unwrap_or(0)..].to_vec()
            }
            2 => {
                let letter = dice.choice(["a", "ü", " ", "\n", "\u{202e}", "\u{85}", "日", "\u{feff}"]).unwrap_or("x");
                let count = dice.choice([1, 1, 2, 31, 32, 63, 64, 65, 127, 128, 129, 255, 256, 257]).unwrap_or(1);
                let mut text = letter.repeat(count).into_bytes();
                if dice.u8(..4) == 0 {
                    let count = dice.usize(..4);
                    text.extend(dice.bytes(count));
                }
                text
            }
            4 if depth < 2 => compose(dice, depth + 1),
            _ => vec![7; dice.choice([0, 1, 100, 1_023, 1_024, 1_025]).unwrap_or(0)],
        };
        body.extend(tag.0.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(value);
    }
    if dice.u8(..8) == 0 {
        let cut = dice.usize(..=body.len());
        body.truncate(cut);
    }
    body
}

/// The fields of a body, or none if it ends within one.
fn fields(mut body: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut fields = Vec::new();
    while !body.is_empty() {
        let (tag, rest) = (body.get(..2)?, &body[2..]);
        let (length, rest) = (rest.get(..2)?, &rest[2..]);
        let value = rest.get(..usize::from(u16::from_be_bytes([length[0], length[1]])))?;
        fields.push((u16::from_be_bytes([tag[0], tag[1]]), value));
        body = &rest[value.len()..];
    }
    Some(fields)
}

fn is_good(value: Value, bytes: &[u8]) -> bool {
    match value {
        Value::Integer(most) => <[u8; 8]>::try_from(bytes).is_ok_and(|bytes| u64::from_be_bytes(bytes) <= most),
        Value::Bytes(most) => bytes.len() <= most,
        Value::Text(most) => {
            bytes.len() <= most
                && std::str::from_utf8(bytes)
                    .is_ok_and(|text| !text.chars().any(|c| c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c)))
        }
    }
}

/// Whether the specification lets these fields be read.
fn is_readable(body: &[u8], table: &[(Tag, Value)], required: &[Tag], listed: &[Tag]) -> bool {
    let Some(fields) = fields(body) else { return false };
    let last = |tag: &Tag| fields.iter().rfind(|(other, _)| *other == tag.0).map(|(_, value)| *value);
    let is_known = |tag: u16| table.iter().find(|(known, _)| known.0 == tag).map(|(_, value)| *value);
    fields.iter().all(|(tag, value)| is_known(*tag).is_none_or(|known| is_good(known, value)))
        && listed.iter().all(|listed| fields.iter().filter(|(tag, _)| *tag == listed.0).count() <= 8)
        // A version or a code of zero is as if it were not there.
        && required.iter().all(|tag| {
            let counts = !matches!(*tag, Tag::VERSION | Tag::CODE);
            last(tag).is_some_and(|value| counts || value != [0; 8])
        })
}

/// Reads a body; gives what it says in words, as what was read borrows from the payload, and as it is written again.
type Read = fn(&[u8]) -> Result<(String, Vec<u8>), BodyError>;

macro_rules! read {
    ($body:ident) => {
        |payload| {
            let body = $body::parse(payload)?;
            let mut frame = Vec::new();
            body.write_frame(Header::new(Type::Send).correlating(7), &mut frame);
            assert_eq!(Header::read(&frame).frame_type(), Some($body::TYPE));
            let again = $body::parse(&frame[HEADER_BYTES..]);
            assert_eq!(again, Ok(body), "what was written is read as the same");
            Ok((format!("{body:?}"), frame))
        }
    };
}

struct Kind {
    name: &'static str,
    read: Read,
    /// Bytes in front of the fields.
    prefix: usize,
    table: Table,
    required: &'static [Tag],
    /// Fields that may stand several times, but not more than eight.
    listed: &'static [Tag],
}

const fn kind(name: &'static str, read: Read, table: Table, required: &'static [Tag]) -> Kind {
    Kind { name, read, prefix: 0, table, required, listed: &[] }
}

const KINDS: &[Kind] = &[
    kind("WELCOME", read!(Welcome), WELCOME, &[Tag::VERSION, Tag::CLIENT]),
    kind("AUTH", read!(Auth), AUTH, &[Tag::AUTH_DATA]),
    Kind { listed: &[Tag::MECHANISM], ..kind("ERROR", read!(ErrorBody), REASON, &[Tag::CODE]) },
    Kind { listed: &[Tag::MECHANISM], ..kind("GOODBYE", read!(Goodbye), REASON, &[]) },
    kind("PING", read!(Ping), PING, &[]),
    kind("PONG", read!(Pong), PONG, &[]),
    kind("RECEIPT", read!(Receipt), RECEIPT, &[Tag::STAGE]),
    kind("GAP", read!(Gap), GAP, &[Tag::FRAMES, Tag::BYTES]),
    kind("WATCH", read!(Watch), ROOM, &[]),
    kind("UNWATCH", read!(Unwatch), ROOM, &[]),
    kind("EVICT", read!(Evict), EVICT, &[Tag::CLIENT]),
    kind("LEAVE", read!(Leave), ROOM, &[Tag::ROOM]),
    kind("WHO", read!(Who), WHO, &[]),
    Kind { listed: &[Tag::ENDPOINT], ..kind("UPDATE", read!(Update), &PROFILE, &[]) },
    kind("JOIN", read!(Join), JOIN, &[Tag::NAME]),
    kind("JOINED", read!(Joined), JOINED, &[Tag::ROOM]),
    Kind { prefix: 8, listed: &[Tag::ENDPOINT], ..kind("HELLO", read!(Hello), HELLO, &[Tag::NAME]) },
];

fn check(kind: &Kind, fields_of_it: &[u8], (place, alien): (u64, u16)) {
    let prefix = &[b'S', b'W', b'B', b'D', 1, 1, 0, 0][..kind.prefix];
    let payload = [prefix, fields_of_it].concat();
    let read = (kind.read)(&payload);
    let should = is_readable(fields_of_it, kind.table, kind.required, kind.listed);
    assert_eq!(read.is_ok(), should, "{} is read, or not, as the tables say", kind.name);
    if let Some(fields) = fields(fields_of_it) {
        let mut more = prefix.to_vec();
        let place = place as usize % (fields.len() + 1);
        for at in 0..=fields.len() {
            if at == place {
                put(&mut more, alien, b"of a later version");
            }
            if let Some((tag, value)) = fields.get(at) {
                put(&mut more, *tag, value);
            }
        }
        assert_eq!((kind.read)(&more), read, "{alien:#06x} is not skipped");
    }
    match read {
        Ok((_, frame)) => {
            let line = dump(&frame).to_string();
            assert!(!line.chars().any(super::steers_a_terminal), "{line:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn put(out: &mut Vec<u8>, tag: u16, value: &[u8]) {
    out.extend(tag.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

/// What a SNAPSHOT or a DELTA says, record by record.
fn check_presence(payload: &[u8]) {
    let items: Vec<_> = control::presence(payload).collect();
    let Some(fields) = fields(payload) else {
        assert!(items.last().is_some_and(Result::is_err));
        return;
    };
    let told = fields.iter().filter(|(tag, _)| *tag == Tag::ROOM.0 || *tag == Tag::SEQUENCE.0 || is_record(*tag));
    let told: Vec<_> = told.collect();
    assert_eq!(items.len(), told.len());
    for (item, (tag, value)) in items.iter().zip(told) {
        let should = if is_record(*tag) {
            is_readable(value, MEMBER, &[Tag::CLIENT], &[Tag::ENDPOINT])
        } else {
            is_good(NUMBER, value)
        };
        assert_eq!(item.is_ok(), should, "{tag:#06x} {value:02x?} is {item:?}");
        let Ok(Presence::Member(member) | Presence::Arrived(member) | Presence::Changed(member)) = item else {
            continue;
        };
        let (mut card, mut record) = (Vec::new(), Vec::new());
        member.write_card(&mut card);
        let kept = Member { code_number: 0, ..*member };
        assert_eq!(Member::parse_card(member.client, &card), Ok(kept));
        control::put_member(&mut record, Tag::CHANGED, member.client, &card);
        assert_eq!(control::presence(&record).collect::<Vec<_>>(), [Ok(Presence::Changed(kept))]);
        assert!(member.profile.endpoints().all(|endpoint| !endpoint.is_empty()));
    }
}

fn is_record(tag: u16) -> bool {
    [Tag::MEMBER, Tag::ARRIVED, Tag::CHANGED, Tag::DEPARTED].contains(&Tag(tag))
}

/// The list in front of a SEND_MANY.
fn check_recipients(payload: &[u8]) {
    let count = payload.first_chunk::<4>().map(|count| u32::from_be_bytes(*count) as usize);
    let good = count.filter(|count| *count <= 1024 && 4 + count * 8 <= payload.len());
    match control::recipients(payload) {
        Ok((list, start)) => {
            assert_eq!((Some(list.len()), start), (good, 4 + list.len() * 8));
            let list: Vec<Id> = list.collect();
            let mut again = Vec::new();
            control::put_recipients(&mut again, &list);
            assert_eq!(again, payload[..start]);
        }
        Err(error) => assert!(good.is_none() && !error.to_string().is_empty()),
    }
}

/// The rule for names, read once more out of the specification.
pub(crate) fn check_name(name: &str) {
    let ends = [name.chars().next(), name.chars().next_back()];
    let turns = |c: char| super::steers_a_terminal(c) && !['\u{61c}', '\u{2028}', '\u{2029}'].contains(&c);
    let good =
        (1..=64).contains(&name.len()) && !ends.iter().flatten().any(|c| c.is_whitespace()) && !name.chars().any(turns);
    assert_eq!(is_valid_name(name), good, "{name:?}");
}
