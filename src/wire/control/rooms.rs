//! Bodies of rooms: JOIN, JOINED and LEAVE.

use super::{Body, integers};
use crate::wire::body::{self, BodyError, Fields, Tag};
use crate::wire::{Id, NAME_BYTES_MAX, Type};

/// JOIN: `NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// The room's name.
    pub name: &'a str,
}

impl<'a> Body<'a> for Join<'a> {
    const TYPE: Type = Type::Join;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let mut name = None;
        for field in Fields::new(payload) {
            let field = field?;
            if field.tag == Tag::NAME {
                name = Some(field.text(NAME_BYTES_MAX)?);
            }
        }
        Ok(Self { name: name.ok_or(BodyError::Missing(Tag::NAME))? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_text(out, Tag::NAME, self.name);
    }
}

/// JOINED: `ROOM NAME MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined<'a> {
    /// The room's id: the destination of what is sent to it.
    pub room: Id,
    /// Its name.
    pub name: &'a str,
    /// How many members it has, the new one included.
    pub members: u64,
}

impl<'a> Body<'a> for Joined<'a> {
    const TYPE: Type = Type::Joined;

    fn parse(payload: &'a [u8]) -> Result<Self, BodyError> {
        let (mut room, mut name, mut members) = (None, "", 0);
        for field in Fields::new(payload) {
            let field = field?;
            match field.tag {
                Tag::ROOM => room = Some(field.id()?),
                Tag::NAME => name = field.text(NAME_BYTES_MAX)?,
                Tag::MEMBERS => members = field.integer()?,
                _ => {}
            }
        }
        Ok(Self { room: room.ok_or(BodyError::Missing(Tag::ROOM))?, name, members })
    }

    fn write(&self, out: &mut Vec<u8>) {
        body::put_integer(out, Tag::ROOM, self.room.bits());
        body::put_text(out, Tag::NAME, self.name);
        body::put_integer(out, Tag::MEMBERS, self.members);
    }
}

integers! {
    /// LEAVE: `ROOM`.
    Leave(Leave) {
        required {
            /// The room's id.
            room: ROOM,
        }
        optional {}
    }
}
