//! One connection: its name, its record, where it stands, and why it ends.

use super::PeerAddr;
use crate::time::Tick;

/// A connection: a slot and the generation of its user. Never reused within the life of a reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ConnId(u64);

impl ConnId {
    const INDEX_BITS: u32 = 24;
    /// The largest slot number: 16.7 million.
    pub const INDEX_MAX: usize = (1 << Self::INDEX_BITS) - 1;
    /// The largest generation: 38 bits.
    pub const GENERATION_MAX: u64 = (1 << 38) - 1;

    /// The connection in slot `index` with this generation, which is at least 1.
    #[must_use]
    pub const fn new(index: usize, generation: u64) -> Self {
        debug_assert!(index <= Self::INDEX_MAX && generation <= Self::GENERATION_MAX);
        Self((generation << Self::INDEX_BITS) | index as u64)
    }

    /// The slot.
    #[must_use]
    pub const fn index(self) -> usize {
        (self.0 & Self::INDEX_MAX as u64) as usize
    }

    /// The generation.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> Self::INDEX_BITS
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::fmt::Debug for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Why a connection has ended. Closed: what is not here cannot happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The service closed it, and everything queued was written.
    Finished,
    /// The service ended it at once.
    Aborted,
    /// The peer reset it, or the network lost it.
    Reset,
    /// It could not be made: nobody listens there, or nobody answers.
    Unreachable,
    /// It ended before it had got to the service: its peer closed it, as port scans and health checks do, or nobody was to
    /// come in any more.
    Abandoned,
    /// Its address may not come in, or not so often. Only of one for whom a proxy speaks: others do not get as far.
    Refused,
    /// It did not begin as a connection from a proxy must.
    BadProxyHeader,
    /// The handshake, or the header of a proxy, was not completed in time.
    HandshakeOverdue,
    /// TLS could not be agreed on, or was broken.
    TlsFailed,
    /// It was the oldest of too many that the service had not settled.
    CrowdedOut,
    /// A message stayed incomplete for too long.
    InputOverdue,
    /// A message is larger than may be held.
    InputTooLarge,
    /// The oldest unsent byte was not taken in time.
    WriteOverdue,
    /// The memory for all buffers was used up, and this connection held the most.
    MemoryPressure,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 14] = [
        Self::Finished,
        Self::Aborted,
        Self::Reset,
        Self::Unreachable,
        Self::Abandoned,
        Self::Refused,
        Self::BadProxyHeader,
        Self::HandshakeOverdue,
        Self::TlsFailed,
        Self::CrowdedOut,
        Self::InputOverdue,
        Self::InputTooLarge,
        Self::WriteOverdue,
        Self::MemoryPressure,
    ];
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many connections as there may be.
    Connections,
    /// The system has no file descriptor left.
    Descriptors,
    /// Its address may not come in.
    Denied,
    /// There are as many from its address as there may be.
    AddressConnections,
    /// As many have come from its address in this second as may.
    AddressRate,
    /// There are as many from its address that are not settled as there may be.
    AddressNewcomers,
}

impl Refusal {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::Descriptors,
        Self::Denied,
        Self::AddressConnections,
        Self::AddressRate,
        Self::AddressNewcomers,
    ];
}

/// As the counters in the log say it.
impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::Abandoned => "abandoned",
            Self::Refused => "refused",
            Self::BadProxyHeader => "bad proxy header",
            Self::HandshakeOverdue => "handshake overdue",
            Self::TlsFailed => "TLS failed",
            Self::CrowdedOut => "crowded out",
            Self::InputOverdue => "input overdue",
            Self::InputTooLarge => "input too large",
            Self::WriteOverdue => "write overdue",
            Self::MemoryPressure => "memory pressure",
        })
    }
}

/// As the counters in the log say it.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "as many as there may be",
            Self::Descriptors => "no descriptor",
            Self::Denied => "address denied",
            Self::AddressConnections => "as many from the address as may be",
            Self::AddressNewcomers => "as many unregistered from the address as may be",
            Self::AddressRate => "too often from the address",
        })
    }
}

/// Where a connection stands between its beginning and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The service does not know it yet: a proxy's header or a handshake comes first.
    Entering,
    /// Bytes flow in both directions.
    Open,
    /// No more is read; what is queued is being written.
    Flushing,
    /// Everything is written; what arrives is discarded until the peer has closed too.
    Lingering,
    /// It is freed at the end of the turn.
    Condemned,
}

/// Conditions of a connection, one bit each.
pub(super) mod flag {
    /// The socket may hold bytes that have not been read.
    pub(in crate::reactor) const READABLE: u16 = 1 << 0;
    /// It is on the ready list, or on that of the ending.
    pub(in crate::reactor) const READY: u16 = 1 << 1;
    /// A short read proves nothing: the end of the stream or an error has been announced.
    pub(in crate::reactor) const READ_TO_END: u16 = 1 << 2;
    /// The end of the stream has been read.
    pub(in crate::reactor) const ENDED: u16 = 1 << 3;
    /// The service wants to be shown no bytes for now.
    pub(in crate::reactor) const PAUSED: u16 = 1 << 4;
    /// The lease holds bytes that the service has not been asked about since it was paused.
    pub(in crate::reactor) const HELD: u16 = 1 << 5;
    /// The socket took less than it was offered; a writable event will come.
    pub(in crate::reactor) const BLOCKED: u16 = 1 << 6;
    /// It is on the dirty list.
    pub(in crate::reactor) const DIRTY: u16 = 1 << 7;
    /// The service wants to know what has been written.
    pub(in crate::reactor) const NOTIFY: u16 = 1 << 8;
    /// Something has been read.
    pub(in crate::reactor) const HEARD: u16 = 1 << 10;
    /// This side began it, and it does not stand yet.
    pub(in crate::reactor) const CONNECTING: u16 = 1 << 11;
    /// The service has been told of the end.
    pub(in crate::reactor) const TOLD: u16 = 1 << 9;
    /// More than one message came for it in a turn, so the next ones are worth waiting for.
    pub(in crate::reactor) const GATHERS: u16 = 1 << 12;
    /// Something stands between its socket and its service.
    pub(in crate::reactor) const FRONTED: u16 = 1 << 13;
    /// The service has not settled it: too many of these, and the oldest has to go.
    pub(in crate::reactor) const NEWCOMER: u16 = 1 << 14;
    /// It has sent more than it may, and is not read from for a while.
    pub(in crate::reactor) const THROTTLED: u16 = 1 << 15;
    /// Nothing is read from it for now.
    pub(in crate::reactor) const STOPPED: u16 = PAUSED | THROTTLED;
}

const NONE: u32 = u32::MAX;

/// A connection at rest is this and nothing else: no buffer, no queue, no timer object.
#[derive(Debug)]
pub(super) struct Connection<T> {
    pub(super) transport: T,
    pub(super) generation: u64,
    /// Bytes handed to the transport since it was opened.
    pub(super) written: u64,
    pub(super) peer: PeerAddr,
    lease: u32,
    queue: u32,
    /// When the service wants to be called; while lingering, when to give up.
    pub(super) deadline: Tick,
    /// The earliest entry in the wheel: a later one is stale.
    pub(super) check_at: Tick,
    pub(super) flags: u16,
    pub(super) phase: Phase,
    /// It counts for its address.
    pub(super) is_counted: bool,
    /// The turn in which a short message was last written at once, modulo 256: taken for another one, it only has
    /// one message wait for the end of its turn.
    pub(super) wrote_in: u8,
}

// One cache line. At a million connections every byte here is a megabyte. (mio's sockets carry a check of
// their own in debug builds.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection<super::Stream>>>() <= 64);

impl<T> Connection<T> {
    pub(super) const fn new(transport: T, peer: PeerAddr, generation: u64) -> Self {
        Self {
            transport,
            generation,
            written: 0,
            peer,
            lease: NONE,
            queue: NONE,
            deadline: Tick::NEVER,
            check_at: Tick::NEVER,
            flags: 0,
            phase: Phase::Open,
            is_counted: false,
            wrote_in: 0,
        }
    }

    pub(super) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// Whether a message that comes for it in `turn` is best written at once, because it will most likely stay
    /// the only one: it is the first, and in earlier turns no others followed.
    pub(super) const fn is_written_at_once(&mut self, turn: u8) -> bool {
        if self.has(flag::GATHERS) {
            return false;
        }
        let is_first = self.wrote_in != turn;
        self.wrote_in = turn;
        if !is_first {
            self.flags |= flag::GATHERS;
        }
        is_first
    }

    pub(super) fn lease(&self) -> Option<usize> {
        (self.lease != NONE).then_some(self.lease as usize)
    }

    pub(super) fn set_lease(&mut self, lease: Option<usize>) {
        self.lease = lease.map_or(NONE, |key| key as u32);
    }

    pub(super) fn set_queue(&mut self, queue: Option<usize>) {
        self.queue = queue.map_or(NONE, |key| key as u32);
    }

    pub(super) fn queue(&self) -> Option<usize> {
        (self.queue != NONE).then_some(self.queue as usize)
    }
}
