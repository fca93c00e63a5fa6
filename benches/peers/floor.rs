//! The byte floor: the least that any relay on sockets must do. One thread, one edge-triggered poll; one read
//! and one write a chunk, or one write for each hearer. What remains is the system's price for passing bytes on.
//!
//! It has no frames, limits, deadlines or promises, and is no server for anybody: it believes its clients.
//!
//! A client's first twelve bytes, big-endian: its own number, its partner's number ([`NOBODY`]: it has none),
//! and a word whose lowest bit says that it hears what is sent to all. The answer is one byte. From then on a
//! chunk from a client with a partner goes to that partner, and one from a client without to all that hear all.
//! A client that never says its twelve bytes is accepted and no more.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// In place of a partner's number, or of a slot.
pub(crate) const NOBODY: u32 = u32::MAX;
/// What a client says first.
pub(crate) const SETUP_BYTES: usize = 12;
/// What it is answered.
pub(crate) const ANSWER: u8 = 1;
/// The bit of the mode word for those that hear all.
pub(crate) const HEARS_ALL: u32 = 1;

/// A read that does not fill it has drained its socket, so it should be large; but what it holds is written at
/// once and should still be in the cache. With 64 KiB payloads this takes three quarters of the time that
/// 256 KiB take, and less than 32 KiB.
const SCRATCH_BYTES: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// Where a client's chunks go.
#[derive(Clone, Copy)]
enum Way {
    /// It has not said who it is: so many of its twelve bytes are there.
    Unknown(u8),
    /// To the client in this slot; [`NOBODY`] while it is not there.
    Partner(u32),
    ToAll,
}

struct Client {
    stream: TcpStream,
    way: Way,
    setup: [u8; SETUP_BYTES],
    /// What its socket did not take, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
}

#[derive(Default)]
struct Floor {
    clients: Slab<Client>,
    /// The slot of each client's number.
    numbers: Vec<u32>,
    /// The slots of those that hear all.
    hearers: Vec<u32>,
}

/// Relays for ever.
///
/// # Errors
/// The system grants no poll, or takes it back.
pub(crate) fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor::default();
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                floor.accept(&listener, &poll);
                continue;
            }
            let slot = event.token().0;
            if event.is_writable() {
                floor.flush(slot);
            }
            if event.is_readable() {
                floor.read(slot, event.is_read_closed(), &mut scratch);
            }
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        // Without descriptors the rest is not served: whoever measures has more of them than clients.
        while let Ok((mut stream, _)) = listener.accept() {
            let entry = self.clients.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let _ = stream.set_nodelay(true);
            if poll.registry().register(&mut stream, Token(entry.key()), interest).is_ok() {
                let way = Way::Unknown(0);
                entry.insert(Client { stream, way, setup: [0; SETUP_BYTES], pending: Vec::new(), sent: 0 });
            }
        }
    }

    fn read(&mut self, slot: usize, to_the_end: bool, scratch: &mut [u8]) {
        while let Some(client) = self.clients.get_mut(slot) {
            match client.stream.read(scratch) {
                Ok(0) => return self.remove(slot),
                Ok(bytes) => {
                    let way = client.way;
                    self.relay(slot, way, &scratch[..bytes]);
                    if bytes < scratch.len() && !to_the_end {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.remove(slot),
            }
        }
    }

    fn relay(&mut self, slot: usize, way: Way, chunk: &[u8]) {
        match way {
            Way::Partner(partner) => {
                if let Some(partner) = self.clients.get_mut(partner as usize) {
                    partner.write(chunk);
                }
            }
            Way::ToAll => {
                for &hearer in self.hearers.iter().filter(|hearer| **hearer as usize != slot) {
                    self.clients[hearer as usize].write(chunk);
                }
            }
            Way::Unknown(known) => self.set_up(slot, known as usize, chunk),
        }
    }

    fn set_up(&mut self, slot: usize, known: usize, chunk: &[u8]) {
        let client = &mut self.clients[slot];
        let (said, rest) = chunk.split_at(chunk.len().min(SETUP_BYTES - known));
        let known = known + said.len();
        client.setup[known - said.len()..known].copy_from_slice(said);
        client.way = Way::Unknown(known as u8);
        if known < SETUP_BYTES {
            return;
        }
        let [number, partner, mode] = client.words();
        if self.numbers.len() <= number as usize {
            self.numbers.resize(number as usize + 1, NOBODY);
        }
        self.numbers[number as usize] = slot as u32;
        if mode & HEARS_ALL != 0 {
            self.hearers.push(slot as u32);
        }
        let way = if partner == NOBODY { Way::ToAll } else { Way::Partner(self.slot_of(partner)) };
        client_of(&mut self.clients, slot).way = way;
        // Whoever has been waiting for this client finds it from now on.
        if let Some(other) = self.clients.get_mut(self.slot_of(partner) as usize)
            && other.words()[1] == number
        {
            other.way = Way::Partner(slot as u32);
        }
        client_of(&mut self.clients, slot).write(&[ANSWER]);
        if !rest.is_empty() {
            self.relay(slot, way, rest);
        }
    }

    fn slot_of(&self, number: u32) -> u32 {
        self.numbers.get(number as usize).copied().unwrap_or(NOBODY)
    }

    fn flush(&mut self, slot: usize) {
        if let Some(client) = self.clients.get_mut(slot).filter(|client| !client.pending.is_empty()) {
            client.flush();
        }
    }

    fn remove(&mut self, slot: usize) {
        let client = self.clients.remove(slot);
        if matches!(client.way, Way::Unknown(_)) {
            return;
        }
        let [number, partner, _] = client.words();
        self.hearers.retain(|hearer| *hearer as usize != slot);
        if self.slot_of(number) as usize == slot {
            self.numbers[number as usize] = NOBODY;
        }
        if let Some(other) = self.clients.get_mut(self.slot_of(partner) as usize)
            && matches!(other.way, Way::Partner(way) if way as usize == slot)
        {
            other.way = Way::Partner(NOBODY);
        }
    }
}

fn client_of(clients: &mut Slab<Client>, slot: usize) -> &mut Client {
    &mut clients[slot]
}

impl Client {
    /// Number, partner and mode.
    fn words(&self) -> [u32; 3] {
        let word = |at: usize| self.setup[at..at + 4].iter().fold(0, |word, byte| (word << 8) | u32::from(*byte));
        [word(0), word(4), word(8)]
    }

    fn write(&mut self, chunk: &[u8]) {
        if self.pending.is_empty() {
            match self.stream.write(chunk) {
                Ok(written) if written == chunk.len() => return,
                Ok(written) => return self.pending.extend_from_slice(&chunk[written..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The poll will say that it has gone.
                Err(_) => return,
            }
        }
        self.pending.extend_from_slice(chunk);
    }

    fn flush(&mut self) {
        while self.sent < self.pending.len() {
            match self.stream.write(&self.pending[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.pending.clear();
        self.sent = 0;
    }
}
