//! What is written to a client, held against what is due to it.

use std::rc::Rc;

use switchboard::wire::control::Stage;
use switchboard::wire::{Code, Frames, Header, Id};

use super::input::whole;
use super::{Answer, Judge, Outcome, Record, State, hash, id_of};
use crate::frames::Got;

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
            self.written(id, frame);
        }
    }

    fn written(&mut self, id: Id, frame: &[u8]) {
        let got = Got::read(frame);
        let record = self.record(id);
        assert!(!record.is_final, "{id} gets {got:?} behind its last frame");
        if !record.is_welcomed {
            let is_first = matches!(got, Got::Welcome { .. } | Got::Error { .. });
            assert!(is_first, "the first that {id} gets is {got:?}");
        }
        match got {
            Got::Frame(_) => self.delivered(id, frame),
            Got::Gap { frames, .. } => {
                record.counted += frames;
                self.tally.counted += frames;
            }
            Got::Ping { .. } => record.pings += 1,
            Got::Welcome { correlation, client, payload_bytes_max, keepalive_ms } => {
                assert!(!record.is_welcomed, "{id} is welcomed twice");
                record.is_welcomed = true;
                assert_eq!(client, id, "the id that {id} is told");
                assert_eq!(payload_bytes_max as usize, record.payload_bytes_max, "the limit of {id}");
                assert_eq!(u64::from(keepalive_ms) * 1000, record.keepalive_us, "the keepalive of {id}");
                record.settle(id, correlation, &Answer::Welcome);
            }
            Got::Goodbye { code, .. } => self.last_word(id, code),
            Got::Error { code, .. } if code.closes() => self.last_word(id, code),
            Got::Error { correlation, code, client: Some(client) } => self.refused(id, correlation, code, client),
            Got::Error { correlation, code: Code::Busy, .. } => record.busy(id, correlation),
            Got::Error { correlation, code, client: None } => record.settle(id, correlation, &Answer::Error(code)),
            Got::Pong { correlation, .. } => record.settle(id, correlation, &Answer::Pong),
            Got::Receipt { correlation, stage, counts } => self.receipt(id, correlation, stage, counts),
            Got::Joined { correlation, room, name, .. } => {
                let number = record.settle_joined(id, correlation, &name);
                // The room may be empty and gone by now, and another may have its name.
                if let Some(known) = self.rooms.get_mut(&name).filter(|known| known.number == number) {
                    assert_eq!(*known.id.get_or_insert(room), room, "the id of the room {name}");
                }
            }
            Got::Snapshot { correlation, more, room, sequence, members } => {
                if !more {
                    record.settle_snapshot(id, correlation);
                }
                record.snapshot(id, correlation, more, room, sequence, members);
            }
            Got::Delta { room, sequence, changes } => self.delta(id, room, sequence, changes),
        }
    }

    fn last_word(&mut self, id: Id, code: Code) {
        let record = self.record(id);
        assert_eq!(record.state, State::Leaving(code), "the last word to {id}");
        record.is_final = true;
    }

    fn delivered(&mut self, id: Id, frame: &[u8]) {
        let header = Header::read(frame);
        self.tally.delivered += 1;
        let record = self.record(id);
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
        for due in &passed {
            if due.fans_out {
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
        if due.fans_out {
            return;
        }
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
        let fate = self.fates.get_mut(&(sender, correlation, client));
        let fate = fate.unwrap_or_else(|| panic!("{sender} never sent {correlation} to {client}, which is refused"));
        assert_eq!(fate.state, Outcome::Open, "the frame {correlation} for {client} is refused after all");
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
            }
            Stage::Written => {
                let recipient = self.owed.remove(&(id, correlation));
                let recipient = recipient.unwrap_or_else(|| panic!("{id} is owed no receipt of {correlation}"));
                let state = self.fates[&(id, correlation, recipient)].state;
                assert_eq!(state, Outcome::Delivered, "{correlation} is said to be written to {recipient}");
            }
        }
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

    fn busy(&mut self, id: Id, correlation: u32) {
        self.settle(id, correlation, &Answer::Snapshot { may_be_busy: true });
        self.watches.remove(&correlation);
    }

    fn settle_joined(&mut self, id: Id, correlation: u32, name: &str) -> u64 {
        for (place, (other, answer)) in self.answers.iter().enumerate() {
            if let Answer::Joined(expected, number) = answer
                && (*other, expected.as_str()) == (correlation, name)
            {
                let number = *number;
                self.answers.remove(place);
                return number;
            }
        }
        panic!("{id} has not asked to join {name} by {correlation}");
    }

    fn settle_snapshot(&mut self, id: Id, correlation: u32) {
        let is_it =
            |(other, answer): &(u32, Answer)| *other == correlation && matches!(answer, Answer::Snapshot { .. });
        let place = self.answers.iter().position(is_it);
        self.answers.remove(place.unwrap_or_else(|| panic!("{id} has not asked for the listing {correlation}")));
    }
}
