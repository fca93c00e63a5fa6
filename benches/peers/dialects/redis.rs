//! The dialect of Redis: RESP3, in which one connection both publishes and subscribes.
//!
//! Replies to PUBLISH would be half of all bytes, so they are switched off; Redis goes on to push messages.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

use super::MESSAGE_BYTES_MAX;
use super::text::{LINE_END_BYTES, Name, line, number, push_number, subscriptions, words};

/// Elements of a reply that is passed over: HELLO's has fewer than twenty.
const ELEMENTS_MAX: usize = 1024;

/// How a message begins, and how the answer to a subscription does.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
const SUBSCRIBED: &[u8] = b">3\r\n$9\r\nsubscribe\r\n";

/// Speaks to a Redis server.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    /// How many subscriptions of each client have not been confirmed.
    unconfirmed: Vec<u8>,
}

/// What stands at the front of the bytes.
enum Found<'a> {
    /// A message of so many bytes with its payload.
    Message(usize, &'a [u8]),
    /// The answer to a subscription.
    Subscribed(usize),
    /// An error, and its words.
    Error(usize, &'a [u8]),
    /// Any other value.
    Other(usize),
    /// So many bytes are needed; 0 if that is not known.
    Incomplete(usize),
}

fn find(data: &[u8]) -> Result<Found<'_>, String> {
    if let Some(rest) = data.strip_prefix(MESSAGE) {
        return message(data, rest);
    }
    // It may be the beginning of a message: whatever it is, it has to be whole.
    match whole(data)? {
        Whole::Incomplete(wanted) => Ok(Found::Incomplete(wanted)),
        Whole::Bytes(bytes) if data.starts_with(SUBSCRIBED) => Ok(Found::Subscribed(bytes)),
        Whole::Bytes(bytes) if matches!(data.first(), Some(b'-' | b'!')) => {
            Ok(Found::Error(bytes, data[1..bytes].trim_ascii()))
        }
        Whole::Bytes(bytes) => Ok(Found::Other(bytes)),
    }
}

/// A message, of which `rest` are the channel and the payload.
fn message<'a>(data: &'a [u8], rest: &'a [u8]) -> Result<Found<'a>, String> {
    let head = data.len() - rest.len();
    let wanted = match blob(rest)? {
        Blob::Whole(bytes, _) => match blob(&rest[bytes..])? {
            Blob::Whole(more, payload) => return Ok(Found::Message(head + bytes + more, payload)),
            Blob::Incomplete(0) => 0,
            Blob::Incomplete(wanted) => head + bytes + wanted,
        },
        Blob::Incomplete(_) => 0,
    };
    Ok(Found::Incomplete(wanted))
}

enum Blob<'a> {
    /// So many bytes, and the text in them.
    Whole(usize, &'a [u8]),
    Incomplete(usize),
}

/// A text with its length in front: `$3\r\nabc\r\n`.
fn blob(data: &[u8]) -> Result<Blob<'_>, String> {
    let Some(head) = line(data)? else { return Ok(Blob::Incomplete(0)) };
    let length = head.split_first().filter(|(kind, _)| **kind == b'$');
    let length = length.and_then(|(_, digits)| number(digits, MESSAGE_BYTES_MAX));
    let length = length.ok_or_else(|| format!("it says {:?} in place of a length", words(head)))?;
    let start = head.len() + LINE_END_BYTES;
    let bytes = start + length + LINE_END_BYTES;
    match data.get(..bytes) {
        Some(whole) if whole.ends_with(b"\r\n") => Ok(Blob::Whole(bytes, &whole[start..start + length])),
        Some(_) => Err("a text does not end where its length says".to_owned()),
        None => Ok(Blob::Incomplete(bytes)),
    }
}

enum Whole {
    Bytes(usize),
    Incomplete(usize),
}

/// How long the value at the front is, with all that is in it.
fn whole(data: &[u8]) -> Result<Whole, String> {
    let (mut at, mut open) = (0, 1_usize);
    while open > 0 {
        let rest = &data[at..];
        let Some(head) = line(rest)? else { return Ok(Whole::Incomplete(0)) };
        let strange = || format!("it says {:?}, which is no RESP3", words(head));
        let (kind, digits) = head.split_first().ok_or_else(strange)?;
        let length_max = if matches!(kind, b'$' | b'!' | b'=') { MESSAGE_BYTES_MAX } else { ELEMENTS_MAX };
        let length = number(digits, length_max).ok_or_else(strange);
        let mut bytes = head.len() + LINE_END_BYTES;
        open -= 1;
        match kind {
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {}
            b'$' | b'!' | b'=' => bytes += length? + LINE_END_BYTES,
            b'*' | b'~' | b'>' => open += length?,
            b'%' => open += 2 * length?,
            // Attributes stand before the value that they belong to.
            b'|' => open += 2 * length? + 1,
            _ => return Err(strange()),
        }
        if open > ELEMENTS_MAX || at + bytes > MESSAGE_BYTES_MAX {
            return Err(strange());
        }
        if rest.len() < bytes {
            return Ok(Whole::Incomplete(at + bytes));
        }
        at += bytes;
    }
    Ok(Whole::Bytes(at))
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.push(b'*');
    push_number(out, words.len());
    out.extend_from_slice(b"\r\n");
    for word in words {
        text(out, word);
    }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'$');
    push_number(out, text.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

impl Dialect for Redis {
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>) {
        let index = client as usize;
        if self.unconfirmed.len() <= index {
            self.unconfirmed.resize(index + 1, 0);
        }
        self.unconfirmed[index] = 0;
        command(out, &[b"HELLO", b"3"]);
        for name in subscriptions(client, role) {
            command(out, &[b"SUBSCRIBE", name.bytes()]);
            self.unconfirmed[index] += 1;
        }
        command(out, &[b"CLIENT", b"REPLY", b"OFF"]);
    }

    fn read(
        &mut self,
        client: u32,
        data: &[u8],
        _: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String> {
        let mut consumed = 0;
        while consumed < data.len() {
            match find(&data[consumed..])? {
                Found::Message(bytes, payload) => {
                    consumed += bytes;
                    on(Event::Delivered(payload));
                }
                Found::Subscribed(bytes) => {
                    consumed += bytes;
                    let left = self.unconfirmed.get_mut(client as usize).filter(|left| **left > 0);
                    let left = left.ok_or("it confirms a subscription that nobody asked for")?;
                    *left -= 1;
                    if *left == 0 {
                        on(Event::Ready);
                    }
                }
                Found::Error(bytes, why) => {
                    consumed += bytes;
                    on(Event::Ending(&words(why)));
                }
                Found::Other(bytes) => consumed += bytes,
                Found::Incomplete(wanted) => return Ok(Progress { consumed, wanted }),
            }
        }
        Ok(Progress { consumed, wanted: 0 })
    }

    fn send(&mut self, _: u32, to: Destination, _: u32, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
        text(out, Name::of(to).bytes());
        text(out, payload);
    }
}
