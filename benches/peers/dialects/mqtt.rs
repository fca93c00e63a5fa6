//! The dialect of MQTT 3.1.1, with quality of service 0: at most once, which is what a relay can be compared with.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

use super::MESSAGE_BYTES_MAX;
use super::text::{Name, subscriptions};

/// Types of packets, with the flags that they must have.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xD0;
const DISCONNECT: u8 = 0xE0;
/// The bits of a PUBLISH that say which quality of service it has, and whether it comes again.
const QUALITY_BITS: u8 = 0b0110;
const AGAIN_BIT: u8 = 0b1000;
/// A subscription that was refused.
const REFUSED: u8 = 0x80;
const CLEAN_SESSION: u8 = 0x02;
/// The only subscription packet of a client has this number.
const PACKET: u16 = 1;

/// Speaks to an MQTT broker.
#[derive(Debug, Default)]
pub(crate) struct Mqtt;

/// A packet at the front of the bytes: its length, its first byte, and what follows its length.
enum Found<'a> {
    Packet(usize, u8, &'a [u8]),
    /// So many bytes are needed.
    Incomplete(usize),
}

fn find(data: &[u8]) -> Result<Found<'_>, String> {
    let Some((&first, rest)) = data.split_first() else { return Ok(Found::Incomplete(2)) };
    let mut length = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if length > MESSAGE_BYTES_MAX {
                return Err(format!("it begins a packet of {length} bytes"));
            }
            let start = 1 + at + 1;
            let bytes = start + length;
            return Ok(match data.get(start..bytes) {
                Some(body) => Found::Packet(bytes, first, body),
                None => Found::Incomplete(bytes),
            });
        }
    }
    if rest.len() >= 4 { Err("a length does not end".to_owned()) } else { Ok(Found::Incomplete(data.len() + 1)) }
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// The payload of a PUBLISH.
fn payload_of(first: u8, body: &[u8]) -> Result<&[u8], String> {
    if first & (QUALITY_BITS | AGAIN_BIT) != 0 {
        return Err("it delivers with another quality of service than was asked for".to_owned());
    }
    let topic_bytes = body.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
    topic_bytes.and_then(|bytes| body.get(2 + bytes..)).ok_or_else(|| "a PUBLISH is too short".to_owned())
}

impl Dialect for Mqtt {
    fn greet(&mut self, client: u32, role: Role, out: &mut Vec<u8>) {
        let name = Name::inbox(client);
        out.push(CONNECT);
        push_length(out, 10 + 2 + name.bytes().len());
        push_text(out, b"MQTT");
        // Version 3.1.1 is number 4. A keepalive of 0 is none.
        out.extend_from_slice(&[4, CLEAN_SESSION, 0, 0]);
        push_text(out, name.bytes());

        out.push(SUBSCRIBE);
        let topics_bytes: usize = subscriptions(client, role).map(|name| 2 + name.bytes().len() + 1).sum();
        push_length(out, 2 + topics_bytes);
        out.extend_from_slice(&PACKET.to_be_bytes());
        for name in subscriptions(client, role) {
            push_text(out, name.bytes());
            out.push(0);
        }
    }

    fn read(
        &mut self,
        _: u32,
        data: &[u8],
        _: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Progress, String> {
        let mut consumed = 0;
        loop {
            let (bytes, first, body) = match find(&data[consumed..])? {
                Found::Packet(bytes, first, body) => (bytes, first, body),
                Found::Incomplete(wanted) => return Ok(Progress { consumed, wanted }),
            };
            consumed += bytes;
            match (first & 0xF0, body) {
                (PUBLISH, _) => on(Event::Delivered(payload_of(first, body)?)),
                (CONNACK, [_, 0]) | (PINGRESP, []) => {}
                (CONNACK, [_, why]) => on(Event::Ending(&format!("CONNACK with return code {why}"))),
                (SUBACK, [_, _, codes @ ..]) if codes.contains(&REFUSED) => {
                    on(Event::Ending("a subscription was refused"));
                }
                (SUBACK, [_, _, _, ..]) => on(Event::Ready),
                _ => return Err(format!("it says a packet that begins with {first:#04x}, which no broker should")),
            }
        }
    }

    fn send(&mut self, _: u32, to: Destination, _: u32, payload: &[u8], out: &mut Vec<u8>) {
        let name = Name::of(to);
        out.push(PUBLISH);
        push_length(out, 2 + name.bytes().len() + payload.len());
        push_text(out, name.bytes());
        out.extend_from_slice(payload);
    }

    fn leave(&mut self, _: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[DISCONNECT, 0]);
    }
}
