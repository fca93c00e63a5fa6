//! The reactor's limits, and what it counts.

use std::time::Duration;

use super::{CloseReason, RateLimit, Refusal, TlsFault};

/// What a reactor may use. Each default's reason stands with it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. The default is for a small service; a relay derives it from the
    /// system's limit on open files.
    pub connections_max: usize,
    /// Connections accepted in a turn, by each listener, however long it takes: see `storm_turn_min`.
    pub accepts_turn_max: usize,
    /// Connections that have ended and are dealt with in a turn, however long it takes. Until the last of them is dealt
    /// with none is accepted.
    pub endings_turn_max: usize,
    /// Connections whose deadline has come and that are dealt with in a turn, however long it takes.
    pub expiries_turn_max: usize,
    /// Connections accepted, as many that have ended, and as many whose deadline has come, in a turn that is short: when
    /// thousands come or are lost at once the others must not wait for more than a tenth of a millisecond of that. In
    /// longer turns they are more, in proportion, so that a storm gets its share of a busy relay too.
    pub storm_turn_min: usize,
    /// Reads of handshakes (TLS, or a proxy's header) in a turn, however long it takes: one can cost as much as a thousand
    /// frames, which the connected must not wait for. In a short turn they are fewer, down to one.
    pub handshakes_turn_max: usize,
    /// Handshakes that may wait for their turn before listeners for TLS accept no more: whoever comes then waits in the
    /// system's backlog, where it costs nothing.
    pub handshakes_waiting_max: usize,
    /// Time to get through the handshake: a slow line makes it, an idle attacker is gone soon.
    pub handshake_deadline: Duration,
    /// Bytes of a handshake's messages whose end has not come, in whatever pieces, of somebody who is not in yet. All who are
    /// new together can hold so much, and it must leave room for the others: 16 KiB are ten times what clients begin with. A
    /// chain of certificates, where clients show one, may need more.
    pub handshake_bytes_max: usize,
    /// Connections that the service has not settled ([`super::Connections::settle`]); one more, and the oldest of them that
    /// has not been answered has to go. By default there is no such limit: not every service settles anybody.
    pub newcomers_max: usize,
    /// Of these from one address, or one IPv6 network of 64 bits; more are refused. By default there is no such limit.
    pub newcomers_per_address_max: usize,
    /// How long one of them that was answered is given before it can be the one that goes: longer than a round trip to
    /// anywhere, and than hashing a password takes.
    pub newcomer_grace: Duration,
    /// Connections from one address, or one IPv6 network of 64 bits. By default there is no such limit.
    pub connections_per_address_max: usize,
    /// Connections accepted in a second, from all addresses; others wait in the system's backlog.
    pub accepts_per_second_max: Option<u32>,
    /// Connections accepted in a second from one address; others are refused.
    pub accepts_per_address_per_second_max: Option<u32>,
    /// What each connection may send in a second. By default whatever the loop's budgets leave to it.
    pub rate: RateLimit,
    /// Bytes of the buffer that all connections share for reading: what one read can return. It should fit
    /// the second-level cache.
    pub read_scratch_bytes: usize,
    /// Bytes read from a connection in a turn before it is the others' turn.
    pub read_turn_bytes_max: usize,
    /// Messages sent, and blocks of 4 KiB, that the bytes of one connection may cause in a turn before it is the
    /// others' turn: about ten milliseconds. A frame for ten thousand is one piece of work and is finished.
    pub turn_work_max: usize,
    /// Bytes of an incomplete message that may wait for its end. What a pause holds back, which may be many
    /// messages, is bounded by this and one read.
    pub input_bytes_max: usize,
    /// Time to complete a message that has begun: a slow peer on a bad line makes it, an idle attacker
    /// does not hold a buffer for ever.
    pub input_deadline: Duration,
    /// Bytes that may wait in a connection's queue.
    pub queue_bytes_max: usize,
    /// Bytes beyond that for what the service itself must say ([`super::Lane::Control`]).
    pub queue_reserve_bytes: usize,
    /// Bytes that may wait for all connections together, in queues and in buffers for incomplete messages, and those that
    /// sealing what waits takes on top; past it the connection that holds the most goes first.
    pub buffered_total_bytes_max: usize,
    /// From this length on a message for an empty queue is written at once instead of copied, whatever else the
    /// turn may bring: measured, a copy and its place in the cache cost more than a second write.
    pub write_through_bytes_min: usize,
    /// Bytes written to a connection in a turn before it is the others' turn.
    pub write_turn_bytes_max: usize,
    /// Age of the oldest unsent byte at which its reader counts as stuck.
    pub write_deadline: Duration,
    /// How long a closed connection is kept to discard what the peer still sends: closing a socket with
    /// unread bytes resets it, and the reset can overtake the last message.
    pub linger: Duration,
    /// Connections in that state; further ones are closed at once.
    pub lingering_max: usize,
    /// How long a listener rests after the system has refused to accept.
    pub accept_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            accepts_turn_max: 128,
            endings_turn_max: 64,
            expiries_turn_max: 64,
            storm_turn_min: 4,
            handshakes_turn_max: 16,
            handshakes_waiting_max: 64,
            handshake_deadline: Duration::from_secs(10),
            handshake_bytes_max: 16 * 1024,
            newcomers_max: usize::MAX,
            newcomers_per_address_max: usize::MAX,
            newcomer_grace: Duration::from_secs(2),
            connections_per_address_max: usize::MAX,
            accepts_per_second_max: None,
            accepts_per_address_per_second_max: None,
            rate: RateLimit::default(),
            read_scratch_bytes: 256 * 1024,
            read_turn_bytes_max: 256 * 1024,
            turn_work_max: 4096,
            input_bytes_max: 128 * 1024,
            input_deadline: Duration::from_secs(30),
            queue_bytes_max: 1024 * 1024,
            queue_reserve_bytes: 256 * 1024,
            buffered_total_bytes_max: 256 * 1024 * 1024,
            write_through_bytes_min: 2048,
            write_turn_bytes_max: 1024 * 1024,
            write_deadline: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            lingering_max: 1024,
            accept_retry: Duration::from_millis(100),
        }
    }
}

/// What a reactor has done since it was made.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted and handed to the service.
    pub accepted: u64,
    /// Connections refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Of these, those that took up an earlier session.
    pub handshakes_resumed: u64,
    /// Records of TLS that were opened, those of handshakes left out.
    pub records_opened: u64,
    /// Bytes that they held.
    pub opened_bytes: u64,
    /// Records of TLS that were sealed, those of handshakes left out.
    pub records_sealed: u64,
    /// Peers with which no TLS could be spoken, in the order of [`TlsFault::ALL`].
    pub tls_faults: [u64; TlsFault::ALL.len()],
    /// Times that a connection had sent more than it may.
    pub rate_exceeded: u64,
    /// Connections that ended without having sent a byte: port scans and health checks.
    pub silent: u64,
    /// Failures to accept for any other reason.
    pub accept_errors: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls that read something.
    pub reads: u64,
    /// Calls that wrote something.
    pub writes: u64,
    /// Messages that did not fit their recipient's queue.
    pub refused_sends: u64,
    /// Ends of connections, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Turns of the loop.
    pub turns: u64,
}

impl Counters {
    pub(super) const fn refuse(&mut self, why: Refusal) {
        self.refused[why as usize] += 1;
    }

    /// How many connections ended for this reason.
    #[must_use]
    pub const fn closed(&self, why: CloseReason) -> u64 {
        self.closed[why as usize]
    }

    /// How many connections were refused for this reason.
    #[must_use]
    pub const fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }
}
