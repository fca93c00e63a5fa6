//! What is written to a client, held against what is due to it.

use std::rc::Rc;

use switchboard::wire::control::Stage;
use switchboard::wire::{Code, Frames, HEADER_BYTES, Header, Id};

use super::input::whole;
use super::{Answer, Judge, Outcome, Record, hash, id_of};
use crate::frames::{Got, Seen};

/// A header and two integers.
const GAP_FRAME_BYTES: u64 = 52;

impl Judge {
    /// Looks at everything that the network has taken since the last look, in that order.
    pub(crate) fn watch_outputs(&mut self) {
        let log = Rc::clone(&self.log);
        let mut log = log.borrow_mut();
        let mut start = 0;
        for (conn, end) in &log.pieces {
            self.taken(id_of(*conn), &log.bytes[start..*end]);
            start = *end;
        }
        log.bytes.clear();
        log.pieces.clear();
    }

    fn taken(&mut self, id: Id, bytes: &[u8]) {
        let Some(record) = self.records.get_mut(&id) else { return }; // One that was not let in.
        record.taken_bytes += bytes.len() as u64;
        record.partial.extend_from_slice(bytes);
        let length = whole(&record.partial);
        let mut frames = record.partial.split_off(length);
        std::mem::swap(&mut frames, &mut record.partial);
        for frame in Frames::new(&frames) {
            self.record(id).stream_bytes += frame.len() as u64;
            self.written(id, frame);
        }
    }

    fn written(&mut self, id: Id, frame: &[u8]) {
        let got = Got::read(frame);
        let is_own = !matches!(got, Got::Frame(_));
        assert!(!is_own || frame.len() <= HEADER_BYTES + 4096, "a frame of the relay's own has {} bytes", frame.len());
        let record = self.record(id);
        assert!(!record.is_final, "{id} gets {got:?} behind its last frame");
        if !record.is_welcomed {
            let is_first = matches!(got, Got::Welcome { .. } | Got::Auth { .. } | Got::Error { .. });
            assert!(is_first, "the first that {id} gets is {got:?}");
        }
        let is_behind_gap = std::mem::replace(&mut record.is_behind_gap, matches!(got, Got::Gap { .. }));
        match got {
            Got::Frame(_) => self.delivered(id, frame, is_behind_gap),
            Got::Gap { frames, bytes } => {
                record.counted += frames;
                record.counted_bytes += bytes;
                self.tally.counted += frames;
                self.ledger.gaps += 1;
            }
            Got::Ping { clock_us } => {
                let clock_us = clock_us.unwrap_or_else(|| panic!("a PING without a clock"));
                assert!(clock_us <= self.now.micros(), "a PING of the future");
            }
            Got::Welcome { correlation, .. } => {
                self.welcome_is_true(id, frame);
                self.record(id).settle(id, correlation, &Answer::Welcome);
            }
            Got::Auth { correlation, data } => self.asked(id, correlation, &data),
            Got::Goodbye { .. } => self.last_word(id, frame),
            Got::Error { code, .. } if code.closes() => self.last_word(id, frame),
            Got::Error { correlation, code, client: Some(client) } => self.refused(id, correlation, code, client),
            Got::Error { correlation, code: Code::Busy, .. } => self.busy(id, correlation),
            Got::Error { correlation, code, client: None } => record.settle(id, correlation, &Answer::Error(code)),
            Got::Pong { correlation, ping_clock_us, clock_us } => {
                let clock_us = clock_us.unwrap_or_else(|| panic!("a PONG without a clock"));
                record.settle(id, correlation, &Answer::Pong(ping_clock_us, clock_us));
            }
            Got::Receipt { correlation, stage, counts } => self.receipt(id, correlation, stage, counts),
            Got::Joined { correlation, room, name, members } => {
                let number = record.settle_joined(id, correlation, &name, members);
                assert_eq!(*self.room_ids.entry(room).or_insert(number), number, "the id of {name} is used again");
                // The room may be empty and gone by now, and another may have its name.
                if let Some(known) = self.rooms.get_mut(&name).filter(|known| known.number == number) {
                    assert_eq!(*known.id.get_or_insert(room), room, "the id of the room {name}");
                }
            }
            Got::Snapshot { correlation, more, room, sequence, members } => {
                if record.settle_found(correlation, more, &members) {
                    return;
                }
                self.page(id, correlation, more, room, &members, frame.len());
                self.snapshot(id, correlation, more, room, sequence, members);
            }
            Got::Delta { room, sequence, changes } => self.delta(id, room, sequence, changes, frame),
        }
    }

    fn delivered(&mut self, id: Id, frame: &[u8], is_behind_gap: bool) {
        let header = Header::read(frame);
        self.tally.delivered += 1;
        let most = self.settings.queue_bytes_max as u64;
        let record = self.record(id);
        assert!(!record.departed.contains(&header.source), "{id} gets a frame of {}, which has left", header.source);
        let (end, changed) = (record.stream_bytes, record.told.get(&header.source).copied().unwrap_or_default());
        let mut passed = Vec::new();
        let due = loop {
            let Some(due) = record.due.pop_front() else {
                panic!(
                    "{id} gets the frame {} of {}: not due to it, or late, or twice",
                    header.correlation, header.source
                )
            };
            if due.from == header.source && due.correlation == header.correlation {
                break due;
            }
            passed.push(due);
        };
        assert_eq!((due.hash, due.bytes), (hash(frame), frame.len()), "the frame {} is not intact", due.correlation);
        assert!(!due.is_too_large, "{id} gets a frame over its limit");
        assert!(due.serial > changed, "{id} gets the frame {} behind the news of what came after it", due.correlation);
        let (waited, bytes) = (end.saturating_sub(due.written), due.bytes as u64);
        assert!(waited <= most.max(bytes), "{waited} bytes wait for {id} with the frame {}", due.correlation);
        assert!(
            !is_behind_gap || waited.saturating_sub(bytes) <= most / 2 + GAP_FRAME_BYTES,
            "{id} gets a frame of others while {waited} bytes wait, and half of its queue has not been written"
        );
        let mut skipped = Vec::new();
        for due in &passed {
            if due.fans_out {
                record.skipped_bytes += due.bytes as u64;
                skipped.push((due.from, due.correlation));
                assert!(
                    due.may_lack_room || due.is_too_large,
                    "{id} had room for the frame {} and has not got it",
                    due.correlation
                );
                record.skipped += 1;
            }
        }
        assert!(
            record.counted >= record.skipped,
            "{id} gets the frame {} in front of the GAP for what it has missed: {} frames, {} counted",
            due.correlation,
            record.skipped,
            record.counted
        );
        for key in skipped {
            if let Some(fan) = self.fans.get_mut(&key) {
                fan.skipped += 1;
            }
        }
        if due.fans_out {
            self.ledger.fans_delivered += 1;
            if let Some(fan) = self.fans.get_mut(&(due.from, due.correlation)) {
                if due.may_be_gone {
                    fan.unknown += 1;
                } else {
                    fan.delivered += 1;
                }
            }
            return;
        }
        self.ledger.fates_delivered += 1;
        let fate = self.fates.get_mut(&(due.from, due.correlation, id)).expect("it is due");
        assert_eq!(fate.state, Outcome::Open, "the frame {} for {id} is delivered after all", due.correlation);
        fate.state = Outcome::Delivered;
        if self.owed.get(&(due.from, due.correlation)) == Some(&id) {
            let record = self.record(id);
            record.receipts_written += 1;
        }
    }

    fn refused(&mut self, sender: Id, correlation: u32, code: Code, client: Id) {
        self.tally.refused += 1;
        self.ledger.refused_fates[code.ordinal()] += 1;
        let fate = self.fates.get_mut(&(sender, correlation, client));
        let fate = fate.unwrap_or_else(|| panic!("{sender} never sent {correlation} to {client}, which is refused"));
        let is_cut_off = fate.may_be_gone && code == Code::NoSuchClient;
        let is_open = fate.state == Outcome::Open || is_cut_off && fate.state == Outcome::Delivered;
        assert!(is_open, "the frame {correlation} for {client} is refused after all");
        self.ledger.fates_delivered -= u64::from(fate.state == Outcome::Delivered);
        fate.state = Outcome::Refused;
        let is_right = match code {
            Code::QueueFull => fate.must.is_none_or(|must| must == Code::RecipientLost) && fate.may_lack_room,
            Code::NoSuchClient => fate.must == Some(code) || fate.may_be_gone,
            code => fate.must == Some(code),
        };
        assert!(is_right, "the frame {correlation} for {client} is refused with {code}, not {fate:?}");
    }

    fn receipt(&mut self, id: Id, correlation: u32, stage: Stage, counts: Option<(u64, u64)>) {
        self.tally.receipts += 1;
        match stage {
            Stage::Done => self.record(id).settle(id, correlation, &Answer::Done),
            Stage::Queued => {
                let (recipients, skipped) = counts.unwrap_or_else(|| panic!("{id}: a receipt without numbers"));
                let record = self.record(id);
                let place = record
                    .answers
                    .iter()
                    .position(|(other, answer)| *other == correlation && matches!(answer, Answer::Queued(..)));
                let place = place.unwrap_or_else(|| panic!("{id} wants no receipt of {correlation}"));
                let (_, Answer::Queued(least, most)) = record.answers.remove(place) else { unreachable!() };
                let total = recipients + skipped;
                assert!(
                    (least..=most).contains(&total),
                    "a receipt of {correlation} says {total}, not {least} to {most}"
                );
                if let Some(fan) = self.fans.get_mut(&(id, correlation)) {
                    fan.said = Some((recipients, skipped));
                } else {
                    self.list_receipt(id, correlation, skipped);
                }
            }
            Stage::Written => {
                self.ledger.receipts_written += 1;
                let recipient = self.owed.remove(&(id, correlation));
                let recipient = recipient.unwrap_or_else(|| panic!("{id} is owed no receipt of {correlation}"));
                let outcome = self.fates[&(id, correlation, recipient)].state;
                assert_eq!(outcome, Outcome::Delivered, "{correlation} is said to be written to {recipient}");
            }
        }
    }
}

impl Judge {
    /// A SEND_MANY is told how many of its recipients were refused, each of which was refused by itself before.
    fn list_receipt(&self, id: Id, correlation: u32, skipped: u64) {
        let list = self.fates.range((id, correlation, Id::RELAY)..=(id, correlation, Id::from_bits(u64::MAX)));
        let refused = list.filter(|(_, fate)| fate.state == Outcome::Refused).count() as u64;
        let is_right = refused == skipped || refused < skipped && !self.is_lawful();
        assert!(is_right, "{refused} of the list {correlation} were refused, and the receipt says {skipped}");
    }
}

impl Record {
    /// A client has got this answer, for which it waits.
    fn settle(&mut self, id: Id, correlation: u32, answer: &Answer) {
        let place = self.answers.iter().position(|(other, expected)| *other == correlation && expected == answer);
        let Some(place) = place else {
            let open: Vec<_> = self.answers.iter().filter(|(other, _)| *other == correlation).collect();
            panic!("{id} gets {answer:?} to {correlation}, for which it waits as {open:?}");
        };
        self.answers.remove(place);
    }

    fn settle_joined(&mut self, id: Id, correlation: u32, name: &str, members: u64) -> u64 {
        for (place, (other, answer)) in self.answers.iter().enumerate() {
            if let Answer::Joined(expected, number, many) = answer
                && (*other, expected.as_str()) == (correlation, name)
            {
                assert_eq!(members, *many, "how many are in {name}, as {id} is told");
                let number = *number;
                self.answers.remove(place);
                return number;
            }
        }
        panic!("{id} has not asked to join {name} by {correlation}");
    }

    /// Whether this is the answer to a WHO for one client, which it must then tell of.
    fn settle_found(&mut self, correlation: u32, more: bool, members: &[Seen]) -> bool {
        let is_it = |(other, answer): &(u32, Answer)| *other == correlation && matches!(answer, Answer::Found(..));
        let Some(place) = self.answers.iter().position(is_it) else { return false };
        let told = members.first().cloned().map(Answer::Found);
        let (_, found) = self.answers.remove(place);
        assert_eq!((told, members.len(), more), (Some(found), 1, false), "the answer to the WHO {correlation}");
        true
    }
}
