//! What the protocols made of lines have in common: names, numbers, lines.

use switchboard::bench::{Destination, Role};

/// The longest line that is waited for: NATS says all about itself in one.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;

/// CR LF.
pub(super) const LINE_END_BYTES: usize = 2;

/// A name of a channel, a subject or a topic, without allocation.
pub(super) struct Name {
    bytes: [u8; 11],
    len: usize,
}

impl Name {
    /// `all`.
    pub(super) fn all() -> Self {
        let mut name = Self { bytes: [0; 11], len: 0 };
        name.push(b"all");
        name
    }

    /// The inbox of a client.
    pub(super) fn inbox(client: u32) -> Self {
        Self::numbered(b"c", client)
    }

    fn numbered(kind: &[u8], number: u32) -> Self {
        let mut name = Self { bytes: [0; 11], len: 0 };
        name.push(kind);
        name.push(itoa::Buffer::new().format(number).as_bytes());
        name
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Where a message goes.
    pub(super) fn of(to: Destination) -> Self {
        match to {
            Destination::Client(client) => Self::inbox(client),
            Destination::Room(room) => Self::numbered(b"r", room),
            Destination::All => Self::all(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// All that a client subscribes to; one name at least.
pub(super) fn subscriptions(client: u32, role: Role) -> impl Iterator<Item = Name> {
    let hears_many = role.room.is_some() || role.hears_all;
    let inbox = (role.partner.is_some() || !hears_many).then(|| Name::inbox(client));
    let room = role.room.map(|room| Name::of(Destination::Room(room)));
    inbox.into_iter().chain(room).chain(role.hears_all.then(Name::all))
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The line that `data` begins with, without its CR LF; `None` if its end has not come.
///
/// # Errors
/// It is longer than any line should be, or ends otherwise.
pub(super) fn line(data: &[u8]) -> Result<Option<&[u8]>, String> {
    let head = &data[..data.len().min(LINE_BYTES_MAX)];
    match head.iter().position(|byte| *byte == b'\n') {
        Some(end) => match head[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some(line)),
            None => Err(format!("it says {:?}, which does not end as a line should", words(&head[..end]))),
        },
        None if head.len() == LINE_BYTES_MAX => Err("it says a line that does not end".to_owned()),
        None => Ok(None),
    }
}

/// A decimal number up to `most`.
pub(super) fn number(digits: &[u8], most: usize) -> Option<usize> {
    if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    usize::try_from(number).ok().filter(|number| *number <= most)
}

/// Words of a server, for people.
pub(super) fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
