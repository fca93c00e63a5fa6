//! A relay of the crate's own in a process of its own, and what it says.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use switchboard::wire::body::{Field, Fields, Shape};
use switchboard::wire::control::{Body, Welcome};
use switchboard::wire::{Frames, HEADER_BYTES, Header, Id, LENGTH_BYTES, Tag, Type};

/// A relay that is ended with this handle.
pub(crate) struct Relay {
    process: Child,
    address: SocketAddr,
}

impl Relay {
    /// Starts a relay on a port that the system chooses.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(arguments: &[&OsStr]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "off"]).args(arguments);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the relay starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok());
        Self { process, address: address.unwrap_or_else(|| panic!("the relay says {line:?}")) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A connection to it that does not wait for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the relay listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The next whole frame of `stream`.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; LENGTH_BYTES];
    stream.read_exact(&mut frame).expect("a length");
    let length = u32::from_be_bytes(frame[..].try_into().expect("four bytes")) as usize;
    assert!(length < 4096, "a short frame is expected");
    frame.resize(LENGTH_BYTES + length, 0);
    stream.read_exact(&mut frame[LENGTH_BYTES..]).expect("a whole frame");
    assert_eq!(Frames::new(&frame).count(), 1);
    frame
}

/// The id that a WELCOME gives.
pub(crate) fn welcomed(frame: &[u8]) -> Id {
    assert_eq!(Header::read(frame).frame_type(), Some(Type::Welcome));
    Welcome::parse(&frame[HEADER_BYTES..]).expect("a WELCOME").client
}

/// All that a frame says, with ids replaced by `ids`, and without what no two relays have in common: addresses and
/// clocks, and the lengths that follow from them.
pub(crate) fn described(frame: &[u8], ids: &BTreeMap<Id, Id>) -> (Header, Vec<(Tag, Vec<u8>)>) {
    let mut header = Header::read(frame);
    header.destination = replaced(header.destination, ids);
    header.source = replaced(header.source, ids);
    let payload = &frame[HEADER_BYTES..];
    if header.source != Id::RELAY {
        return (header, vec![(Tag(0), payload.to_vec())]);
    }
    let mut said = Vec::new();
    describe(Fields::new(payload), ids, &mut said);
    (header, said)
}

fn describe(fields: Fields<'_>, ids: &BTreeMap<Id, Id>, said: &mut Vec<(Tag, Vec<u8>)>) {
    for field in fields {
        let field: Field<'_> = field.expect("a field");
        if field.tag.shape() == Shape::Record {
            said.push((field.tag, Vec::new()));
            describe(field.fields(), ids, said);
            continue;
        }
        let value = match field.tag {
            Tag::ADDRESS | Tag::CLOCK_US | Tag::EPOCH_US => Vec::new(),
            Tag::CLIENT => replaced(field.id().expect("an id"), ids).bits().to_be_bytes().to_vec(),
            _ => field.value.to_vec(),
        };
        said.push((field.tag, value));
    }
}

fn replaced(id: Id, ids: &BTreeMap<Id, Id>) -> Id {
    ids.get(&id).copied().unwrap_or(id)
}
