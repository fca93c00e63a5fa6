//! What clients of the model send: frames to anybody, requests, and what cannot be read.

use switchboard::wire::control::{Hello, Join, Leave, Ping, Profile, Unwatch, Update, Who};
use switchboard::wire::{Flags, Header, Id, Type};

use super::frames::{frame, frame_of, send_flagged, send_many};
use super::model::Model;

impl Model {
    /// A payload for a frame of this client; now and then over its limit.
    fn payload(&mut self, from: Id) -> Vec<u8> {
        let own = if self.random.u8(0..50) == 0 { u32::MAX } else { self.world.relay.payload_bytes_max(from) };
        let length = match self.random.u8(0..12) {
            0 => self.random.usize(2_000..6_000).min(own as usize),
            1..5 => 0,
            _ => self.random.usize(0..400),
        };
        let fill = self.random.u8(..);
        vec![fill; length]
    }

    pub(super) fn name(&mut self) -> String {
        format!("client-{}", self.random.u8(0..40))
    }

    fn destination(&mut self) -> Id {
        match self.random.u8(0..10) {
            0..2 => Id::ALL,
            2..4 => {
                let rooms: Vec<Id> = self.judge.rooms.values().filter_map(|room| room.id).collect();
                self.random.choice(rooms).unwrap_or(Id::ALL)
            }
            4..5 => {
                let place = self.random.usize(0..self.known.len());
                self.known[place]
            }
            _ => self.pick().unwrap_or(Id::ALL),
        }
    }

    fn flags(&mut self) -> Flags {
        self.mark = self.mark.wrapping_add(0x10);
        Flags(self.random.u8(..) & 0x0a | u8::from(self.random.u8(0..4) == 0) | self.mark)
    }

    pub(super) fn put_frames(&mut self, id: Id, out: &mut Vec<u8>) {
        let (to, flags) = (self.destination(), self.flags());
        match self.random.u8(0..40) {
            0..20 => {
                for _ in 0..self.random.usize(1..20) {
                    let (correlation, payload) = (self.correlate(), self.payload(id));
                    out.extend(send_flagged(flags, correlation, to, &payload));
                }
            }
            20..26 => {
                let mut list: Vec<Id> = (0..self.random.usize(0..20)).map(|_| self.destination()).collect();
                list.sort_unstable();
                list.dedup();
                let (correlation, payload) = (self.correlate(), self.payload(id));
                out.extend(send_many(flags, correlation, &list, &payload));
            }
            _ => self.put_request(id, flags, out),
        }
    }

    fn put_request(&mut self, id: Id, flags: Flags, out: &mut Vec<u8>) {
        let correlation = self.correlate();
        let name = self.name();
        let room = self.judge.rooms.values().filter(|room| room.members.contains(&id)).find_map(|room| room.id);
        out.extend(match self.random.u8(0..64) {
            59..63 => self.mangled(correlation, flags),
            0..10 => {
                let station = Some(&*name).filter(|_| self.random.bool());
                let name = Some(&*name).filter(|_| self.random.bool());
                let details = vec![0; self.random.choice([0, 0, 0, 0, 300]).unwrap_or(0)];
                let details = Some(&*details).filter(|details| !details.is_empty());
                frame_of(correlation, flags, &Update(Profile { name, station, details, ..Profile::default() }))
            }
            10..30 => {
                let name = ["red", "green", "blue", "black", " no name"][self.random.usize(0..5)];
                frame_of(correlation, flags, &Join { name })
            }
            30..36 => {
                let room = room.unwrap_or(Id::room(900, 900)).bits();
                frame_of(correlation, flags, &Leave { room })
            }
            36..39 => frame_of(correlation, flags, &Unwatch { room: room.map(Id::bits) }),
            39..43 => frame_of(correlation, flags, &Ping { clock_us: self.random.bool().then_some(7) }),
            43..46 => frame(Header::new(Type::Pong).correlating(correlation).flagged(flags), b"not even fields"),
            46..52 => {
                let unknown = Header { type_number: 0x7f, ..Header::new(Type::Send) };
                frame(unknown.correlating(correlation).flagged(flags), b"")
            }
            52..57 => frame_of(correlation, flags, &Who::Named(&name)),
            57..59 => frame(Header::new(Type::Goodbye).correlating(correlation), b""),
            _ => frame_of(correlation, flags, &Hello::new(Profile::named(&name))),
        });
    }

    /// A request that cannot be read, or whose name or list may not be.
    fn mangled(&mut self, correlation: u32, flags: Flags) -> Vec<u8> {
        use Type::{Join, Leave, Ping, SendMany, Unwatch, Update, Watch, Who};
        let frame_type = self.random.choice([Join, Leave, Ping, SendMany, Unwatch, Update, Watch, Who]).unwrap_or(Join);
        let has_name = matches!(frame_type, Join | Update | Who);
        let mut body = match self.random.u8(0..4) {
            // A name of 65 bytes, of one that is no text, and one that moves a cursor.
            0 if has_name => [&[0x20, 0x01, 0, 65][..], &[b'n'; 65]].concat(),
            1 if has_name => vec![0x20, 0x01, 0, 1, 0xff],
            2 if has_name => vec![0x20, 0x01, 0, 2, b'a', 0x1b],
            // A field or a list that is cut off, and a list that is too long.
            3 if frame_type == SendMany => [&[0, 0, 4, 1][..], &[0; 8 * 1025]].concat(),
            _ => vec![0, 0, 0],
        };
        body.truncate(self.random.choice([usize::MAX, usize::MAX, 3, 2]).unwrap_or(usize::MAX));
        frame(Header::new(frame_type).correlating(correlation).flagged(flags), &body)
    }
}
