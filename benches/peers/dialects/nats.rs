//! The dialect of NATS: lines, and payloads behind lines that say how long they are.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

use super::MESSAGE_BYTES_MAX;
use super::text::{LINE_END_BYTES, Name, line, number, push_number, subscriptions, words};

/// The connection's options: no acknowledgements, no checks of subjects, nothing of one's own comes back.
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"tls_required\":false,\
\"protocol\":1,\"lang\":\"bench\",\"version\":\"1\"}\r\n";

/// Speaks to a NATS server.
#[derive(Debug, Default)]
pub(crate) struct Nats;

/// What stands at the front of the bytes.
enum Found<'a> {
    /// A message of so many bytes with its payload.
    Message(usize, &'a [u8]),
    /// Another line, and its bytes with its end.
    Line(usize, &'a [u8]),
    /// So many bytes are needed; 0 if that is not known.
    Incomplete(usize),
}

fn find(data: &[u8]) -> Result<Found<'_>, String> {
    let Some(line) = line(data)? else { return Ok(Found::Incomplete(0)) };
    let line_bytes = line.len() + LINE_END_BYTES;
    // MSG subject sid [reply-to] bytes
    if !line.starts_with(b"MSG ") {
        return Ok(Found::Line(line_bytes, line));
    }
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let payload_bytes =
        number(last, MESSAGE_BYTES_MAX).ok_or_else(|| format!("it says {:?}, which has no length", words(line)))?;
    let bytes = line_bytes + payload_bytes + LINE_END_BYTES;
    let Some(message) = data.get(..bytes) else { return Ok(Found::Incomplete(bytes)) };
    if !message.ends_with(b"\r\n") {
        return Err("a message does not end where its length says".to_owned());
    }
    Ok(Found::Message(bytes, &message[line_bytes..bytes - LINE_END_BYTES]))
}

impl Dialect for Nats {
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>) {
        out.extend_from_slice(CONNECT);
        for (number, name) in subscriptions(client, role).enumerate() {
            out.extend_from_slice(b"SUB ");
            out.extend_from_slice(name.bytes());
            out.push(b' ');
            push_number(out, number + 1);
            out.extend_from_slice(b"\r\n");
        }
        // A subscription is not answered, but whatever is said behind it is.
        out.extend_from_slice(b"PING\r\n");
    }

    fn read(
        &mut self,
        _: u32,
        data: &[u8],
        reply: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String> {
        let mut consumed = 0;
        loop {
            match find(&data[consumed..])? {
                Found::Message(bytes, payload) => {
                    consumed += bytes;
                    on(Event::Delivered(payload));
                }
                Found::Line(bytes, line) => {
                    consumed += bytes;
                    match line {
                        b"PING" => reply.extend_from_slice(b"PONG\r\n"),
                        // The only PING of a client is the one that it greets with.
                        b"PONG" => on(Event::Ready),
                        b"+OK" => {}
                        _ if line.starts_with(b"INFO ") => {}
                        _ if line.starts_with(b"-ERR") => on(Event::Ending(&words(line))),
                        _ => return Err(format!("it says {:?}, which NATS does not", words(line))),
                    }
                }
                Found::Incomplete(wanted) => return Ok(Progress { consumed, wanted }),
            }
        }
    }

    fn send(&mut self, _: u32, to: Destination, _: u32, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(Name::of(to).bytes());
        out.push(b' ');
        push_number(out, payload.len());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
}
