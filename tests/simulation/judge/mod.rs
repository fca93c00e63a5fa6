//! The delivery promise as a judge, from the specification and nothing else.
//!
//! It is told in which order the relay's service was shown the clients' frames, and sees every byte that leaves for a
//! client, at the moment that the network takes it. From the first it works out who each frame is due to; from the
//! second what became of it. One fate for each frame and recipient: delivered, refused, or counted in a GAP that
//! stands where it would have been.
//!
//! - `input` works out what must come of a frame,
//! - `words` looks at what else stands in the relay's own frames,
//! - `entry` watches who gets in,
//! - `login` knows who is a user, and what that may do,
//! - `life` watches the deadlines, those that must come as well as those that must not,
//! - `memory` looks at who goes when it is used up,
//! - `ledger` holds the relay's own counters against what was seen,
//! - `output` holds what is written to a client against that,
//! - `presence` rebuilds what a client knows of the others,
//! - `scope` knows what there is to be told of them, and which DELTA tells it,
//! - `listing` looks at the answers to WATCH and WHO,
//! - `verdict` looks at the whole once everything has come to rest.

mod entry;
mod facts;
mod input;
mod ledger;
mod life;
mod listing;
mod login;
mod memory;
mod output;
mod presence;
mod scope;
mod verdict;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use switchboard::auth::Mechanism;
use switchboard::reactor::{CloseReason, ConnId, Limits};
use switchboard::relay::Settings;
use switchboard::time::Time;
use switchboard::wire::{Code, Id};

use super::frames::{Change, Seen};
use super::network::Log;
use super::people::People;
pub(crate) use entry::Arrival;
use entry::{Entry, Sent};
pub(crate) use facts::Facts;
pub(crate) use ledger::Codes;
use ledger::Ledger;
use life::Life;
use listing::Listing;
use login::{Identity, Users};
use memory::Memory;
use presence::Directory;
use scope::Scope;

/// The grain of deadlines, and a little: the specification promises 0.1 s.
pub(crate) const GRAIN_US: u64 = 100_000;
/// A reserve that holds the answers to one input twice, as the command line demands it.
const LAWFUL_RESERVE_BYTES: usize = 2 * 1024 * 120;
/// A GAP and an ERROR with its text.
const LAST_WORD_BYTES_MAX: usize = 512;
/// The time of day, since 1970, at which the simulation's clock stands at zero.
pub(crate) const EPOCH: Duration = Duration::from_hours(490_896);

#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    settings: Settings,
    log: Rc<RefCell<Log>>,
    records: BTreeMap<Id, Record>,
    /// Connections that the engine has.
    alive: BTreeSet<Id>,
    registered: BTreeSet<Id>,
    /// Of rooms that somebody is in, by name.
    rooms: BTreeMap<String, Room>,
    rooms_ever: u64,
    /// By sender, correlation and recipient: frames for one client or a list.
    fates: BTreeMap<(Id, u32, Id), Fate>,
    /// Whose receipt says that which recipient's socket has the frame.
    owed: BTreeMap<(Id, u32), Id>,
    /// Frames for a room or for all whose senders want a receipt.
    fans: BTreeMap<(Id, u32), Fan>,
    /// Which of the rooms that there ever were has this id.
    room_ids: BTreeMap<Id, u64>,
    /// Everybody, and the rooms that have an id.
    scopes: BTreeMap<Option<Id>, Scope>,
    /// Counts whatever happens.
    serial: u64,
    ledger: Ledger,
    entry: Entry,
    users: Users,
    now: Time,
    stopping: bool,
    memory: Memory,
    pub(crate) tally: Tally,
}

/// What the judge has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) delivered: u64,
    pub(crate) refused: u64,
    pub(crate) counted: u64,
    pub(crate) receipts: u64,
    pub(crate) connections: u64,
    pub(crate) turns: u64,
    /// Connections by the code that closed them, and refusals, in the order of [`Code::ALL`].
    pub(crate) closed: Codes,
    pub(crate) failed: Codes,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.counted += other.counted;
        self.receipts += other.receipts;
        self.connections += other.connections;
        self.turns += other.turns;
        self.closed += other.closed;
        self.failed += other.failed;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Registered,
    /// It has departed, for this reason.
    Leaving(Code),
}

/// One connection, from its beginning to its end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Record {
    state: State,
    /// What others are told of it.
    card: Seen,
    /// How it has come, and who it has proved to be.
    identity: Option<Identity>,
    /// What they were told before, and until when.
    former_cards: Vec<(u64, Seen)>,
    /// Since when it has been registered.
    since: u64,
    /// When it departed.
    until: Option<u64>,
    payload_bytes_max: usize,
    keepalive_us: u64,
    /// When it was welcomed.
    welcomed: Time,
    life: Life,
    sent: Sent,

    /// Bytes of a frame to it that is not whole.
    partial: Vec<u8>,
    /// All bytes that the network has taken for it.
    taken_bytes: u64,
    /// Of these, the bytes of the frames up to the one that is looked at.
    stream_bytes: u64,
    is_welcomed: bool,
    /// The last frame has been written.
    is_final: bool,
    /// The last frame may have found no room.
    may_lack_final: bool,
    /// The frame that the last frame answers.
    final_correlation: u32,
    /// What it was offered when it was closed, and for how many milliseconds nothing was taken from where it comes from.
    offered: Vec<&'static str>,
    refused_ms: u32,
    /// Frames on their way to it, in the order in which they were taken in.
    due: VecDeque<Due>,
    /// Frames for a room or for all that were due and were passed over.
    skipped: u64,
    skipped_bytes: u64,
    /// Frames that its GAPs have counted.
    counted: u64,
    counted_bytes: u64,
    /// The last frame that was written to it is a GAP.
    is_behind_gap: bool,
    /// Frames of the relay's own that it is known to have missed.
    missed: u64,
    /// All that it can have missed is known.
    is_exact: bool,
    answers: Vec<(u32, Answer)>,
    /// Frames under way to it that want a receipt.
    receipts_pending: usize,
    /// Of these, how many have been written in this turn: the relay hears of it at its end.
    receipts_written: usize,
    directories: BTreeMap<Option<Id>, Directory>,
    /// WATCHes that were taken in, with their scope.
    watches: HashMap<u32, Option<Id>>,
    /// Where its stream ended at the end of the last turn, and what of it had been written.
    end_before: u64,
    taken_before: u64,
    /// Up to which byte everything was queued when.
    marks: VecDeque<(u64, Time)>,
    /// Those of whose departure it has been told.
    departed: BTreeSet<Id>,
    /// When the last change happened that it has been told of a client.
    told: HashMap<Id, u64>,
    is_gone: bool,
}

/// A frame that is on its way to somebody.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Due {
    from: Id,
    correlation: u32,
    hash: u64,
    bytes: usize,
    fans_out: bool,
    /// Its recipient's queue may have had no room.
    may_lack_room: bool,
    /// Its recipient may have been lost with it. If a part of what was sent to it at once had been written by then, the
    /// relay takes all of that for refused.
    may_be_gone: bool,
    /// It is larger than its recipient takes.
    is_too_large: bool,
    /// What had been written to its recipient right after it was taken in.
    written: u64,
    serial: u64,
}

/// What became of a frame for a room or for all, at its recipients.
#[derive(Clone, Copy, Debug, Default)]
struct Fan {
    delivered: u64,
    skipped: u64,
    /// At recipients that were lost: nobody knows.
    unknown: u64,
    /// What the receipt says: recipients, and skipped.
    said: Option<(u64, u64)>,
}

/// A frame for one client or a list.
#[derive(Clone, Copy, Debug)]
struct Fate {
    state: Outcome,
    /// It cannot be delivered, and this is why.
    must: Option<Code>,
    may_lack_room: bool,
    may_be_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Delivered,
    /// Its sender has been told of its failure.
    Refused,
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Welcome,
    Error(Code),
    Done,
    /// A RECEIPT with numbers: recipients at least, and at most.
    Queued(u64, u64),
    /// With the clock of the PING, and the relay's.
    Pong(Option<u64>, u64),
    /// Into this room, of all that have had the name, with so many members.
    Joined(String, u64, u64),
    /// Of one page or several.
    Snapshot(Listing),
    /// A SNAPSHOT of one client.
    Found(Seen),
}

#[derive(Debug, Default)]
struct Room {
    /// Its number among all rooms that there ever were.
    number: u64,
    id: Option<Id>,
    /// With the time since which they have been.
    members: BTreeMap<Id, u64>,
    /// When those who have left did so.
    former: BTreeMap<Id, u64>,
}

/// How a connection has ended.
pub(crate) struct End {
    pub(crate) written: u64,
    pub(crate) is_reset: bool,
    /// Its client has broken the rules of TLS.
    pub(crate) has_spoilt: bool,
    /// Bytes that waited for it at most; unknown if the beginning of a frame of its own was held too.
    pub(crate) held: Option<usize>,
}

pub(crate) fn id_of(conn: ConnId) -> Id {
    Id::client(conn.index(), conn.generation())
}

fn conn_of(id: Id) -> ConnId {
    ConnId::new(id.index(), id.generation())
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Judge {
    pub(crate) fn new(limits: Limits, settings: Settings, people: People, log: Rc<RefCell<Log>>) -> Self {
        Self {
            limits,
            settings,
            log,
            records: BTreeMap::new(),
            alive: BTreeSet::new(),
            registered: BTreeSet::new(),
            rooms: BTreeMap::new(),
            rooms_ever: 0,
            fates: BTreeMap::new(),
            owed: BTreeMap::new(),
            fans: BTreeMap::new(),
            room_ids: BTreeMap::new(),
            scopes: BTreeMap::from([(None, Scope::default())]),
            serial: 0,
            ledger: Ledger::default(),
            entry: Entry::default(),
            users: Users::new(people),
            now: Time::ZERO,
            stopping: false,
            memory: Memory::default(),
            tally: Tally::default(),
        }
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now = now;
        self.memory.begin();
        self.entry.begin();
    }

    pub(crate) fn opened(&mut self, id: Id, address: String, now: Time) {
        self.tally.connections += 1;
        let record = Record {
            state: State::Greeting,
            card: Seen { id, name: String::new(), station: None, endpoints: Vec::new(), details: None, address },
            identity: None,
            former_cards: Vec::new(),
            since: 0,
            until: None,
            payload_bytes_max: 4096,
            keepalive_us: 0,
            welcomed: now,
            life: Life::new(now),
            sent: Sent::default(),
            partial: Vec::new(),
            taken_bytes: 0,
            stream_bytes: 0,
            is_welcomed: false,
            is_final: false,
            may_lack_final: false,
            final_correlation: 0,
            offered: Vec::new(),
            refused_ms: 0,
            due: VecDeque::new(),
            skipped: 0,
            skipped_bytes: 0,
            counted: 0,
            counted_bytes: 0,
            is_behind_gap: false,
            missed: 0,
            is_exact: true,
            answers: Vec::new(),
            receipts_pending: 0,
            receipts_written: 0,
            directories: BTreeMap::new(),
            watches: HashMap::new(),
            end_before: 0,
            taken_before: 0,
            marks: VecDeque::new(),
            departed: BTreeSet::new(),
            told: HashMap::new(),
            is_gone: false,
        };
        self.alive.insert(id);
        assert!(self.records.insert(id, record).is_none(), "the id {id} is used again");
    }

    fn record(&mut self, id: Id) -> &mut Record {
        self.records.get_mut(&id).unwrap_or_else(|| panic!("{id} was never connected"))
    }

    fn is_registered(&self, id: Id) -> bool {
        self.registered.contains(&id)
    }

    pub(crate) fn is_alive(&self, conn: ConnId) -> bool {
        self.alive.contains(&id_of(conn))
    }

    pub(crate) fn registered(&self) -> usize {
        self.registered.len()
    }

    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    fn named(&self, name: &str) -> Option<Id> {
        self.registered.iter().find(|id| self.records[id].card.name == name).copied()
    }

    /// Nobody hears of this client any more.
    fn depart(&mut self, id: Id, code: Code) {
        let record = self.record(id);
        if matches!(record.state, State::Leaving(_)) {
            return;
        }
        record.state = State::Leaving(code);
        record.identity.iter_mut().for_each(Identity::give_up);
        self.end_probes(id);
        self.entry.settle(conn_of(id));
        self.ledger.closed[code.ordinal()] += 1;
        let serial = self.tick();
        self.record(id).until = Some(serial);
        if !self.registered.remove(&id) {
            return;
        }
        let mut left = vec![None];
        for room in self.rooms.values_mut().filter(|room| room.members.contains_key(&id)) {
            room.members.remove(&id);
            room.former.insert(id, serial);
            left.extend(room.id.map(Some));
        }
        self.rooms.retain(|_, room| !room.members.is_empty());
        for scope in left {
            self.forsaken(scope, id);
            self.note(scope, Change::Departed(id, code));
        }
    }

    /// Something happens: when, among all that happens.
    const fn tick(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Those who watch are to be told of a change.
    fn note(&mut self, scope: Option<Id>, change: Change) {
        let (serial, turn, now) = (self.tick(), self.tally.turns, self.now);
        self.scopes.entry(scope).or_default().note(change, serial, turn, now);
    }

    fn forsaken(&mut self, scope: Option<Id>, id: Id) {
        self.scopes.entry(scope).or_default().forsaken_by(id);
    }

    /// The relay is about to tell what has happened in this turn.
    pub(crate) fn turn_ends(&mut self) {
        let now = self.now;
        self.scopes.values_mut().for_each(|scope| scope.end_turn(now));
    }

    /// The relay closes a connection with an ERROR that says why, and answers no frame.
    fn fail(&mut self, id: Id, code: Code, facts: &Facts<'_>) {
        self.fail_for(id, 0, code, facts);
    }

    /// The relay closes a connection with an ERROR that answers a frame.
    fn fail_for(&mut self, id: Id, correlation: u32, code: Code, facts: &Facts<'_>) {
        let most = self.settings.queue_bytes_max + self.settings.queue_reserve_bytes;
        let lacks_room = facts.queued(id) + LAST_WORD_BYTES_MAX > most;
        let offered = self.offered(id).into_iter().map(Mechanism::name).collect();
        let refused_ms = self.refused_for(id, self.now).as_millis() as u32;
        let record = self.record(id);
        (record.offered, record.refused_ms) = (offered, refused_ms);
        record.may_lack_final = lacks_room;
        record.final_correlation = correlation;
        self.depart(id, code);
    }

    /// The reserve holds the answers to one input twice, as the command line demands it: then none is ever missing, however
    /// little memory there is.
    fn is_lawful(&self) -> bool {
        self.settings.queue_reserve_bytes >= LAWFUL_RESERVE_BYTES
    }

    /// The budget for all queues is so small that it can be used up.
    fn is_tight(&self) -> bool {
        self.limits.buffered_total_bytes_max < 64 << 20
    }

    pub(crate) fn ended(&mut self, id: Id) {
        self.depart(id, Code::HungUp);
    }

    pub(crate) fn shut_down(&mut self, facts: &Facts<'_>) {
        self.stopping = true;
        self.scopes.values_mut().for_each(Scope::close);
        let ids: Vec<Id> = self.records.keys().copied().collect();
        for id in ids {
            if !matches!(self.record(id).state, State::Leaving(_)) {
                self.fail(id, Code::ShuttingDown, facts);
                for directory in self.record(id).directories.values_mut() {
                    directory.is_wanted = false;
                }
            }
        }
    }

    /// The service has been told that a connection is gone.
    pub(crate) fn closed(&mut self, id: Id, reason: CloseReason, end: &End, facts: &Facts<'_>, now: Time) {
        let End { written, is_reset, has_spoilt, held } = *end;
        let write_deadline = u64::try_from(self.limits.write_deadline.as_micros()).unwrap_or(u64::MAX);
        let (is_tight, is_lawful) = (self.is_tight(), self.is_lawful());
        self.ledger.reasons[reason as usize] += 1;
        if reason == CloseReason::MemoryPressure {
            self.has_gone_for_memory(id, held, facts);
        }
        let record = self.record(id);
        assert!(!record.is_gone, "{id} is gone twice");
        assert_eq!(record.taken_bytes, written, "what was written to {id}");
        let code = match reason {
            CloseReason::Finished => {
                let State::Leaving(code) = record.state else { panic!("{id} is finished, and nobody closed it") };
                let has_last_word = !matches!(code, Code::Left | Code::HungUp);
                assert!(record.partial.is_empty(), "{id} is finished in the middle of a frame");
                let unread = record.due.iter().filter(|due| due.fans_out).count() as u64;
                assert!(
                    has_last_word || !is_lawful || record.counted >= record.skipped + unread,
                    "{id} has left in order, and its last GAP counts {}, not {} and {unread}",
                    record.counted,
                    record.skipped
                );
                assert!(
                    record.is_final || !has_last_word || record.may_lack_final,
                    "{id} is closed with {code} and not told"
                );
                code
            }
            CloseReason::Reset => {
                assert!(is_reset, "{id} is lost, and nothing was reset");
                Code::Reset
            }
            CloseReason::WriteOverdue => {
                let mark = record.marks.iter().find(|(end, _)| *end > written);
                let (_, since) = mark.unwrap_or_else(|| panic!("{id} is slow, and nothing waits for it"));
                let age = now.micros() - since.micros();
                assert!(age + GRAIN_US >= write_deadline, "{id} is slow after {age} us");
                Code::SlowConsumer
            }
            CloseReason::MemoryPressure => {
                assert!(is_tight, "{id} is closed for memory, of which there is plenty");
                Code::MemoryPressure
            }
            CloseReason::TlsFailed => {
                assert!(has_spoilt, "{id} has broken no rule of TLS");
                Code::TlsFailed
            }
            _ => panic!("{id} has ended as {reason:?}"),
        };
        record.is_gone = true;
        self.alive.remove(&id);
        self.entry.forget(conn_of(id));
        let record = self.record(id);
        record.receipts_pending = 0;
        let rest = std::mem::take(&mut record.due);
        record.partial = Vec::new();
        self.depart(id, code);
        for due in rest {
            if due.fans_out {
                if let Some(fan) = self.fans.get_mut(&(due.from, due.correlation)) {
                    fan.unknown += 1;
                }
            } else if let Some(fate) = self.fates.get_mut(&(due.from, due.correlation, id)) {
                fate.must = fate.must.or(Some(Code::RecipientLost));
            }
        }
    }
}
