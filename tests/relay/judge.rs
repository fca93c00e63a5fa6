//! The delivery promise, judged step by step: what ought to happen is worked out from a frame before the relay
//! sees it, and everything that the relay does with any queue is held against it.
//!
//! A frame for one client or a list is queued for it or refused to its sender in the same step. A frame for a
//! room or for all is queued or missed, and what was missed must be told by a GAP, exactly and before anything
//! else is queued. What was queued is written, receipted with its last byte if that was asked for, or comes back
//! when its recipient ends. Answers to a client's own frames must all come; only what others cause may find no
//! room, and is then counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use switchboard::relay::Settings;
use switchboard::time::Time;
use switchboard::wire::{Code, Flags, HEADER_BYTES, Header, Id};

use super::frames::{Got, Routed};

/// A client as it ought to be.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "the bits of a client, each on its own")]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) station: Option<String>,
    pub(crate) registered: bool,
    /// Its socket has failed, and the relay has not been told.
    pub(crate) broken: bool,
    /// It has not said HELLO.
    pub(super) greeting: bool,
    pub(super) payload_bytes_max: usize,
    pub(super) keepalive: Duration,
    /// When it gave a sign of life, and whether it was asked for one since.
    pub(super) heard: Time,
    pub(super) asked: bool,
    /// Frames and bytes that no GAP has told; the bytes of the relay's own frames are not known here.
    pub(crate) missed_frames: u64,
    missed_bytes: Option<u64>,
    /// So many DELTAs may have found no room as well: more than one client watches.
    maybe_missed: u64,
    /// Where the next frame begins in its stream.
    end: u64,
    /// Frames of others that are queued, and where they end.
    pub(super) queue: VecDeque<(u32, u64)>,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: Id,
    /// As its recipients get it.
    pub(super) bytes: Vec<u8>,
    /// For a room or for all: missed, not refused.
    pub(super) fans_out: bool,
}

impl Sent {
    pub(super) fn wants_receipt(&self) -> bool {
        self.flags().has(Flags::RECEIPT)
    }

    pub(super) fn flags(&self) -> Flags {
        Header::read(&self.bytes).flags
    }
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) id: Option<Id>,
    pub(crate) members: BTreeSet<Id>,
}

/// What must, and what may, happen in the step that is being judged.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Whose frames are handled, if any.
    pub(super) actor: Option<Id>,
    /// Frames for each recipient, in order.
    pub(super) due: BTreeMap<Id, VecDeque<u32>>,
    /// Answers to the actor.
    pub(super) answers: Vec<Got>,
    pub(super) joins: Vec<(u32, String, u64)>,
    /// For how many a frame of the actor was meant, at least and at most.
    pub(super) totals: HashMap<u32, (u64, u64)>,
    pub(super) queued: HashMap<u32, u64>,
    pub(super) refused: HashMap<u32, u64>,
    /// What others cause.
    pub(super) indirect: BTreeMap<Id, Vec<Got>>,
    /// Frames for those whose socket has failed: whether they are counted does not matter.
    pub(super) for_nobody: u64,
    /// The turn ends, and DELTAs go out.
    pub(super) is_turn: bool,
    /// DELTAs that found no room in this very turn, and a GAP has told it already.
    pub(super) told: u64,
}

/// What has been seen in all steps.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) queued: u64,
    pub(crate) skipped: u64,
    pub(crate) lost: u64,
    pub(crate) void: u64,
    pub(crate) gaps: u64,
    pub(crate) written: u64,
    pub(crate) refused: u64,
    pub(crate) full: u64,
}

#[derive(Debug)]
pub(crate) struct Judge {
    pub(super) settings: Settings,
    pub(crate) clients: BTreeMap<Id, Record>,
    pub(crate) rooms: BTreeMap<String, Room>,
    /// By correlation, which is unique among all frames of all clients.
    pub(super) sent: HashMap<u32, Sent>,
    pub(super) step: Step,
    control_skipped: u64,
    pub(crate) tally: Tally,
}

impl Judge {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            clients: BTreeMap::new(),
            rooms: BTreeMap::new(),
            sent: HashMap::new(),
            step: Step::default(),
            control_skipped: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn connected(&mut self, id: Id) {
        self.clients.insert(id, Record { missed_bytes: Some(0), greeting: true, ..Record::default() });
    }

    pub(super) fn is_registered(&self, id: Id) -> bool {
        self.clients.get(&id).is_some_and(|record| record.registered)
    }

    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.clients.values().any(|record| record.registered && record.name == name)
    }

    pub(crate) fn depart(&mut self, id: Id) {
        if let Some(record) = self.clients.get_mut(&id) {
            (record.registered, record.greeting) = (false, false);
        }
        self.rooms.retain(|_, room| {
            room.members.remove(&id);
            !room.members.is_empty()
        });
    }

    pub(super) fn room(&self, id: Id) -> Option<&Room> {
        self.rooms.values().find(|room| room.id == Some(id))
    }

    /// Holds what the relay has queued in this step, and how many of its own frames found no room so far,
    /// against what it had to do.
    pub(crate) fn judge(&mut self, queued: Vec<(Id, Vec<Vec<u8>>)>, control_skipped: u64) {
        for (id, frames) in queued {
            for (place, frame) in frames.iter().enumerate() {
                self.taken(id, frame, &frames[place + 1..]);
            }
        }
        let skipped = control_skipped - self.control_skipped;
        self.control_skipped = control_skipped;
        self.tally.full += skipped;
        self.end_step(skipped);
    }

    fn taken(&mut self, id: Id, frame: &[u8], behind: &[Vec<u8>]) {
        let record = self.clients.get_mut(&id).unwrap_or_else(|| panic!("{id:?} is gone"));
        record.end += frame.len() as u64;
        let end = record.end;
        let got = Got::read(frame);
        if let Got::Gap { frames, bytes } = got {
            return self.gap(id, frames, bytes, behind);
        }
        assert_eq!(record.missed_frames, 0, "{id:?} gets {got:?} before it is told what it has missed");
        match got {
            Got::Frame(Routed(bytes)) => self.delivered(id, &bytes, end),
            Got::Error { correlation, code: Code::QueueFull, client: Some(client) } => {
                self.refused(correlation, client);
            }
            // Of a client whose socket has failed.
            Got::Error { correlation, code: Code::NoSuchClient, client: Some(client) }
                if self.clients.get(&client).is_some_and(|record| record.registered && record.broken) =>
            {
                self.refused(correlation, client);
            }
            Got::Receipt { correlation, counts: Some(counts), .. } => self.counted(id, correlation, counts),
            Got::Joined { correlation, room, name, members } => {
                let join = (correlation, name.clone(), members);
                let place = self.step.joins.iter().position(|other| *other == join);
                self.step.joins.remove(place.unwrap_or_else(|| panic!("nobody has asked for {join:?}")));
                let known = self.rooms.get_mut(&name).expect("it has a member").id.get_or_insert(room);
                assert_eq!(*known, room, "the id of {name}");
            }
            Got::Snapshot { .. } | Got::Delta { .. } => {}
            answer => self.answered(id, &answer),
        }
    }

    fn gap(&mut self, id: Id, frames: u64, bytes: u64, behind: &[Vec<u8>]) {
        self.tally.gaps += 1;
        // What was missed in this very step stands in front of what is queued next, or ends the step. Frames of
        // a step are for one destination: if that is a client, none of them is missed.
        let due = self.step.due.entry(id).or_default();
        let fans_out = due.front().is_some_and(|correlation| self.sent[correlation].fans_out);
        let next = behind.iter().map(|frame| Header::read(frame)).find(|header| header.source != Id::RELAY);
        let next = next.and_then(|next| due.iter().position(|due| *due == next.correlation));
        let missed = if fans_out { next.unwrap_or(due.len()) } else { 0 };
        for correlation in due.drain(..missed).collect::<Vec<_>>() {
            self.missed(id, correlation);
        }
        let record = self.clients.get_mut(&id).expect("it is connected");
        let deltas = frames.checked_sub(record.missed_frames);
        let deltas = deltas
            .unwrap_or_else(|| panic!("{id:?} has missed {} frames and is told of {frames}", record.missed_frames));
        if self.step.is_turn {
            self.step.told += deltas.saturating_sub(record.maybe_missed);
        } else {
            assert!(deltas <= record.maybe_missed, "{id:?} is told of {deltas} frames that it has not missed");
        }
        let is_known = deltas == 0 && record.missed_bytes.is_some();
        assert!(!is_known || record.missed_bytes == Some(bytes), "the bytes that {id:?} has missed");
        (record.missed_frames, record.missed_bytes, record.maybe_missed) = (0, Some(0), 0);
    }

    /// A frame for a room or for all was not queued for one of those that it was meant for.
    fn missed(&mut self, id: Id, correlation: u32) {
        let sent = &self.sent[&correlation];
        assert!(sent.fans_out, "frame {correlation} for {id:?} is neither queued nor refused");
        self.tally.skipped += 1;
        let record = self.clients.get_mut(&id).expect("it is connected");
        record.missed_frames += 1;
        record.missed_bytes = record.missed_bytes.map(|missed| missed + sent.bytes.len() as u64);
    }

    fn delivered(&mut self, id: Id, bytes: &[u8], end: u64) {
        let correlation = Header::read(bytes).correlation;
        let sent = self.sent.get(&correlation).unwrap_or_else(|| panic!("nobody has sent {correlation}"));
        assert_eq!(sent.bytes, bytes, "frame {correlation} is intact");
        let record = self.clients.get_mut(&id).expect("it is connected");
        assert!(bytes.len() - HEADER_BYTES <= record.payload_bytes_max, "frame {correlation} is too large for {id:?}");
        record.queue.push_back((correlation, end));
        let due = self.step.due.entry(id).or_default();
        // Those in front of it have been refused, which their ERRORs must show.
        let place = due.iter().position(|other| *other == correlation);
        let place = place.unwrap_or_else(|| panic!("frame {correlation} is not for {id:?}, or once more, or late"));
        assert!(place == 0 || !sent.fans_out, "a frame in front of {correlation} is missing, and no GAP");
        due.remove(place);
        due.rotate_left(place);
        *self.step.queued.entry(correlation).or_default() += 1;
        self.tally.queued += 1;
    }

    fn refused(&mut self, correlation: u32, client: Id) {
        let due = self.step.due.entry(client).or_default();
        let place = due.iter().position(|other| *other == correlation);
        let place = place.unwrap_or_else(|| panic!("frame {correlation} is refused though it was not due"));
        due.remove(place);
        assert!(!self.sent[&correlation].fans_out);
        *self.step.refused.entry(correlation).or_default() += 1;
        self.tally.refused += 1;
    }

    /// A RECEIPT with numbers.
    fn counted(&mut self, id: Id, correlation: u32, (queued, skipped): (u64, u64)) {
        assert_eq!(self.step.actor, Some(id));
        let total = self.step.totals.remove(&correlation);
        let (least, most) = total.unwrap_or_else(|| panic!("nobody waits for a receipt of {correlation}"));
        assert!((least..=most).contains(&(queued + skipped)), "{queued} + {skipped} of {least} to {most}");
        // The recipient that is looked at later has it in its queue by now, so this is compared at the end.
        self.step.totals.insert(correlation, (u64::MAX, queued));
    }

    fn answered(&mut self, id: Id, answer: &Got) {
        let direct = if self.step.actor == Some(id) { &mut self.step.answers } else { &mut Vec::new() };
        let indirect = self.step.indirect.entry(id).or_default();
        for expected in [direct, indirect] {
            if let Some(place) = expected.iter().position(|other| other == answer) {
                expected.remove(place);
                return;
            }
        }
        panic!("{id:?} gets {answer:?}, which answers nothing");
    }

    fn end_step(&mut self, mut skipped: u64) {
        let step = std::mem::take(&mut self.step);
        assert!(step.answers.is_empty(), "answers that never came: {:?}", step.answers);
        assert!(step.joins.is_empty(), "JOINs without an answer: {:?}", step.joins);
        for (correlation, (state, queued)) in step.totals {
            assert_eq!(state, u64::MAX, "no receipt of {correlation}");
            assert_eq!(
                step.queued.get(&correlation).copied().unwrap_or_default(),
                queued,
                "what {correlation} reached"
            );
        }
        for (id, due) in step.due {
            for correlation in due {
                self.missed(id, correlation);
            }
        }
        if step.is_turn {
            // Who of them has missed the DELTAs that nobody was told of is not known.
            assert!(step.told <= skipped, "GAPs tell of more DELTAs than were missed");
            skipped -= step.told;
            for record in self.clients.values_mut() {
                record.maybe_missed += skipped;
            }
            return;
        }
        // What others cause can find no room; a client's own frames are all answered.
        let mut for_nobody = step.for_nobody;
        for (id, missing) in step.indirect {
            let record = self.clients.get_mut(&id).filter(|record| record.registered);
            let Some(record) = record.filter(|_| !missing.is_empty()) else { continue };
            let missing_frames = missing.len() as u64;
            if record.broken {
                // Whether it is counted for one that will never read it does not matter.
                for_nobody += missing_frames;
                continue;
            }
            assert!(missing_frames <= skipped, "{id:?} never hears of {missing:?}");
            skipped -= missing_frames;
            record.missed_frames += missing_frames;
            record.missed_bytes = None;
        }
        assert!(skipped <= for_nobody, "frames of the relay's own that a client waits for found no room");
    }
}
