//! A client that keeps to the specification as long as its plan lets it: it answers PINGs, watches again after a
//! GAP, reads to the end when it is told to go.

use switchboard::reactor::ConnId;
use switchboard::time::Time;
use switchboard::wire::control::{Auth, Body, Joined, Watch, Welcome};
use switchboard::wire::{Code, Flags, Frames, HEADER_BYTES, Header, Id, Type};

use super::frames::{frame, frame_of};
use super::network::Peer;
use super::people::{Login, Proving};
use super::plan::Reader;

/// The kind of a frame whose recipient confirms it with an ACK.
pub(crate) const ACK_ME: u16 = 0x0777;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) link: Option<Link>,
    /// Its id in its last connection but this one.
    pub(crate) former: Option<Id>,
}

/// A connection, seen from the client.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) reader: Reader,
    pub(crate) next_read: Time,
    /// What it has read of a frame that is not whole.
    buffer: Vec<u8>,
    pub(crate) id: Option<Id>,
    pub(crate) payload_bytes_max: usize,
    /// Everybody, and rooms.
    pub(crate) watches: Vec<Option<Id>>,
    /// It sends no more.
    pub(crate) is_done: bool,
    /// It has begun a frame, and nothing that it sends is one any more.
    pub(crate) is_spoilt: bool,
    /// It has to prove who it is, and what it sends until it has.
    pub(crate) proving: Option<Proving>,
    pub(crate) held: Vec<u8>,
}

/// What a client learns that others use: which id a room has.
pub(crate) type Learnt = Vec<(String, Id)>;

impl Link {
    pub(crate) fn new(peer: Peer, reader: Reader) -> Self {
        Self {
            peer,
            reader,
            next_read: Time::ZERO,
            buffer: Vec::new(),
            id: None,
            payload_bytes_max: 4096,
            watches: Vec::new(),
            is_done: false,
            is_spoilt: false,
            proving: None,
            held: Vec::new(),
        }
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.peer.wire().conn
    }

    /// When it reads next, if there is anything to read.
    pub(crate) fn next_read(&self, now: Time) -> Option<Time> {
        if self.peer.inbox_bytes() == 0 || self.peer.wire().is_cut {
            return None;
        }
        match self.reader {
            Reader::Stalled => None,
            Reader::Prompt => Some(now),
            Reader::Slow(..) => Some(self.next_read),
        }
    }

    /// Reads what it may, and does what the specification asks for; `next` is the next free correlation.
    pub(crate) fn read(&mut self, now: Time, next: &mut u32, learnt: &mut Learnt) {
        let most = match self.reader {
            Reader::Stalled => return,
            Reader::Prompt => usize::MAX,
            Reader::Slow(..) if now < self.next_read => return,
            Reader::Slow(bytes, every_us) => {
                self.next_read = Time::from_micros(now.micros() + every_us);
                bytes
            }
        };
        if self.peer.read(most, &mut self.buffer) == 0 {
            return;
        }
        let buffer = std::mem::take(&mut self.buffer);
        let mut consumed = 0;
        for frame in Frames::new(&buffer) {
            consumed += frame.len();
            self.receive(now, frame, next, learnt);
        }
        self.buffer = buffer[consumed..].to_vec();
    }

    fn receive(&mut self, now: Time, received: &[u8], next: &mut u32, learnt: &mut Learnt) {
        let (header, payload) = (Header::read(received), &received[HEADER_BYTES..]);
        let answer = Header { type_number: 0, flags: Flags::NONE, kind: 0, destination: header.source, ..header };
        if self.id == Some(header.source) {
            return; // An answer to itself would have the correlation of the question.
        }
        match header.frame_type() {
            Some(Type::Welcome) => {
                self.id = Some(header.destination);
                let welcome = Welcome::parse(payload).expect("a good WELCOME");
                self.payload_bytes_max = welcome.payload_bytes_max as usize;
                if let Some(proving) = self.proving.take() {
                    proving.check(&welcome);
                    let held = std::mem::take(&mut self.held);
                    if !held.is_empty() {
                        self.peer.send(now, &held);
                    }
                }
            }
            Some(Type::Auth) => {
                let question = Auth::parse(payload).expect("a good AUTH").data;
                let Some(proving) = &mut self.proving else { return };
                *next += 1;
                if proving.login == Login::Impatient {
                    let word = Header { source: Id::RELAY, ..Header::new(Type::Send).to(Id::ALL).correlating(*next) };
                    self.peer.send(now, &frame(word, b"this is no answer"));
                    return;
                }
                let binding = self.peer.with_tls(now, |secure| secure.binding()).flatten();
                if let Some(answer) = proving.answer(question, binding) {
                    self.peer.send(now, &frame_of(*next, Flags::NONE, &Auth { data: &answer }));
                }
            }
            Some(Type::Ping) => {
                let pong = Header { type_number: Type::Pong.number(), source: Id::RELAY, ..answer };
                self.send(now, &frame(pong, &[]));
            }
            Some(Type::Send) if header.kind == ACK_ME => {
                let ack = Header { type_number: Type::Ack.number(), source: Id::RELAY, ..answer };
                self.send(now, &frame(ack, &[]));
            }
            Some(Type::Gap) => {
                for room in self.watches.clone() {
                    *next += 1;
                    let watch = frame_of(*next, Flags::NONE, &Watch { room: room.map(Id::bits) });
                    self.send(now, &watch);
                }
            }
            Some(Type::Joined) => {
                if let Ok(Joined { room, name, .. }) = Joined::parse(payload) {
                    learnt.push((name.to_owned(), room));
                }
            }
            Some(Type::Goodbye) => self.is_done = true,
            Some(Type::Error) => {
                let reason = switchboard::wire::control::ErrorBody::parse(payload).ok().and_then(|body| body.0.code());
                self.is_done |= reason.is_some_and(Code::closes);
            }
            _ => {}
        }
    }

    /// Sends bytes, if it may still send: at once, or when it has proved who it is.
    pub(crate) fn send(&mut self, now: Time, bytes: &[u8]) {
        if self.is_done || self.is_spoilt {
            return;
        }
        if self.proving.as_ref().is_some_and(Proving::is_asked_first) {
            self.held.extend_from_slice(bytes);
        } else {
            self.peer.send(now, bytes);
        }
    }
}
