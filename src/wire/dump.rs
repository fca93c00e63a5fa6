//! A frame for people: its header by name, a control body field by field, and the bytes.
//!
//! What could let somebody in is not shown: of AUTH_DATA only its length.

use std::fmt::{self, Display, Formatter};

use super::body::{Fields, Shape};
use super::control::{Hello, Stage};
use super::{APPLICATION_TYPE_MIN, Code, Flags, HEADER_BYTES, Header, Id, IdKind, Tag, Type, is_routed};

/// Payload bytes that are shown; a log line stays a line.
const HEX_BYTES_MAX: usize = 64;

/// Shows a whole frame in one line.
#[must_use]
pub fn dump(frame: &[u8]) -> impl Display {
    fmt::from_fn(move |f| write_frame(f, frame))
}

fn write_frame(f: &mut Formatter<'_>, frame: &[u8]) -> fmt::Result {
    if frame.len() < HEADER_BYTES {
        return write!(f, "{} bytes that are no frame: {}", frame.len(), hex(frame));
    }
    let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
    match header.frame_type() {
        Some(known) => write!(f, "{known}")?,
        None if header.type_number >= APPLICATION_TYPE_MIN => write!(f, "application {:#04x}", header.type_number)?,
        None => write!(f, "unknown type {:#04x}", header.type_number)?,
    }
    for (flag, name) in Flags::ALL {
        if header.flags.has(*flag) {
            write!(f, " {name}")?;
        }
    }
    write!(f, " kind {} correlation {}", header.kind, header.correlation)?;
    write!(f, " to {} from {}", who(header.destination), who(header.source))?;
    if !is_routed(header.type_number, header.destination) && header.frame_type() != Some(Type::SendMany) {
        let skipped = if Hello::has_magic(payload) { 8 } else { 0 };
        write_fields(f, &payload[skipped..], 0)?;
    }
    write!(f, " | {} bytes: {} ", payload.len(), hex(&frame[..HEADER_BYTES]))?;
    if is_secret(&header, payload) { f.write_str("(not shown)") } else { write!(f, "{}", hex(payload)) }
}

/// Whether a body holds what proves who somebody is, or could hold it where it cannot be read.
fn is_secret(header: &Header, payload: &[u8]) -> bool {
    let proves = match header.frame_type() {
        Some(Type::Hello | Type::Auth) => true,
        Some(_) => false,
        None => return false,
    };
    let body = if proves && Hello::has_magic(payload) { &payload[8..] } else { payload };
    let is_routed = is_routed(header.type_number, header.destination);
    !is_routed && Fields::new(body).any(|field| field.map_or(proves, |field| field.tag == Tag::AUTH_DATA))
}

fn write_fields(f: &mut Formatter<'_>, body: &[u8], depth: u32) -> fmt::Result {
    for field in Fields::new(body) {
        let Ok(field) = field else { return write!(f, " (cut off)") };
        write!(f, " {}=", field.tag)?;
        match (field.tag, field.tag.shape(), field.integer()) {
            (Tag::CLIENT | Tag::ROOM, _, Ok(id)) => write!(f, "{}", who(Id::from_bits(id)))?,
            (Tag::CODE, _, Ok(number)) => match u16::try_from(number).ok().and_then(Code::from_number) {
                Some(code) => write!(f, "{code}")?,
                None => write!(f, "{number}")?,
            },
            (Tag::STAGE, _, Ok(number)) => match Stage::from_number(number) {
                Some(stage) => write!(f, "{}", stage.name())?,
                None => write!(f, "{number}")?,
            },
            (_, Shape::Integer, Ok(number)) => write!(f, "{number}")?,
            (_, Shape::Text, _) => write!(f, "{:?}", String::from_utf8_lossy(field.value))?,
            // Records hold no records in this version; a frame that nests them is not followed for ever.
            (_, Shape::Record, _) if depth == 0 => {
                write!(f, "{{")?;
                write_fields(f, field.value, depth + 1)?;
                write!(f, " }}")?;
            }
            (Tag::AUTH_DATA, _, _) => write!(f, "({} bytes)", field.value.len())?,
            _ => write!(f, "{}", hex(field.value))?,
        }
    }
    Ok(())
}

fn who(id: Id) -> impl Display {
    fmt::from_fn(move |f| match id.kind() {
        IdKind::Relay => f.write_str("relay"),
        IdKind::All => f.write_str("all"),
        IdKind::Many => f.write_str("many"),
        _ => write!(f, "{id}"),
    })
}

fn hex(bytes: &[u8]) -> impl Display {
    fmt::from_fn(move |f| {
        for (place, byte) in bytes.iter().take(HEX_BYTES_MAX).enumerate() {
            let gap = if place > 0 && place % 4 == 0 { " " } else { "" };
            write!(f, "{gap}{byte:02x}")?;
        }
        if bytes.len() > HEX_BYTES_MAX { f.write_str(" …") } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::{Auth, Body, Profile};

    #[test]
    fn a_frame_is_shown_by_its_names_and_its_bytes() {
        let mut frame = Vec::new();
        Hello::new(Profile::named("ada")).write_frame(Header::new(Type::Hello).correlating(7), &mut frame);
        let line = dump(&frame).to_string();
        assert!(line.starts_with("HELLO kind 0 correlation 7 to relay from relay NAME=\"ada\" | 15 bytes: "), "{line}");
        assert!(line.ends_with("53574244 01010000 20010003 616461"), "{line}");
        Header::new(Type::Send).to(Id::ALL).flagged(Flags::RECEIPT).write_frame(&mut frame, |_| {});
        assert_eq!(dump(&[1, 2]).to_string(), "2 bytes that are no frame: 0102");
    }

    #[test]
    fn what_could_let_somebody_in_is_not_shown() {
        let mut frame = Vec::new();
        let hello = Hello { auth_data: Some(b"swb_0123456789"), ..Hello::new(Profile::named("ada")) };
        hello.write_frame(Header::new(Type::Hello), &mut frame);
        let mut auth = Vec::new();
        Auth { data: b"swb_0123456789" }.write_frame(Header::new(Type::Auth), &mut auth);
        let secret = hex(b"0123").to_string();
        for frame in [frame, auth] {
            let line = dump(&frame).to_string();
            assert!(line.contains("AUTH_DATA=(14 bytes)") && line.ends_with("(not shown)"), "{line}");
            // Cut off, as its sender may have written it by mistake.
            for end in HEADER_BYTES..=frame.len() {
                let mut cut = frame[..end].to_vec();
                cut[..4].copy_from_slice(&((end - 4) as u32).to_be_bytes());
                let line = dump(&cut).to_string().replace(' ', "");
                assert!(!line.contains(&secret), "{line}");
            }
        }
    }

    #[test]
    fn garbage_is_shown_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..5_000 {
            let bytes: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            let _ = dump(&bytes).to_string();
        }
    }
}
