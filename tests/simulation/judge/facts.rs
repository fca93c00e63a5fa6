//! What the judge asks the engine: how much waits for a connection, and whether it is there.

use switchboard::reactor::Connections;
use switchboard::wire::Id;

use super::conn_of;
use crate::network::Pipe;

/// What the engine says of a connection right after an input was handled.
pub(crate) struct Facts<'a>(pub(crate) &'a Connections<Pipe>);

impl Facts<'_> {
    pub(super) fn is_open(&self, id: Id) -> bool {
        self.0.is_open(conn_of(id))
    }

    pub(super) fn queued(&self, id: Id) -> usize {
        self.0.queued_bytes(conn_of(id))
    }

    pub(super) fn written(&self, id: Id) -> u64 {
        self.0.written_bytes(conn_of(id))
    }

    /// Whether its network has ever had no room.
    pub(super) fn has_blocked(&self, id: Id) -> bool {
        self.0.transport(conn_of(id)).is_none_or(Pipe::has_blocked)
    }

    /// Whether a record of its TLS has begun and not ended: whoever is saying something is not silent.
    pub(super) fn has_begun_record(&self, id: Id) -> bool {
        self.0.transport(conn_of(id)).is_some_and(Pipe::has_begun_record)
    }

    /// Whether it is in the midst of a message, or not read from: it could not give a sign of life.
    pub(crate) fn is_receiving(&self, id: Id) -> bool {
        self.0.is_receiving(conn_of(id))
    }

    /// What waits for all.
    pub(super) fn held(&self) -> usize {
        self.0.buffered_total_bytes()
    }
}
