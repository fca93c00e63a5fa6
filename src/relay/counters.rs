//! What a relay has done: every frame and every end of a client is in one of these.

use crate::wire::Code;

/// Totals since the relay was made.
///
/// For traffic to single clients `frames_in = frames_queued + refused`; for rooms and all, each recipient
/// counts as `frames_queued` or `frames_skipped`.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Frames of registered clients, all types.
    pub frames_in: u64,
    /// Their bytes, headers included.
    pub bytes_in: u64,
    /// Frames queued or written, once for each recipient.
    pub frames_queued: u64,
    /// Their bytes.
    pub bytes_queued: u64,
    /// Frames skipped for a recipient and counted in its GAP.
    pub frames_skipped: u64,
    /// Frames of the relay itself that a client had no room for, counted in its GAP.
    pub control_skipped: u64,
    /// Frames that were queued for a client and not written when it was lost: their senders, if they are still
    /// here, are told.
    pub frames_lost: u64,
    /// Frames to rooms, several or all that were queued for a client that was lost: nobody waits for them.
    pub frames_void: u64,
    /// GAP frames sent.
    pub gaps: u64,
    /// RECEIPT frames sent.
    pub receipts: u64,
    /// PING frames sent.
    pub pings: u64,
    /// ERROR frames received.
    pub errors_in: u64,
    /// Clients that have been registered.
    pub registered: u64,
    /// ERROR frames by code, in the order of [`Code::ALL`].
    pub refused: [u64; Code::COUNT],
    /// Ends of connections by code, in the order of [`Code::ALL`].
    pub closed: [u64; Code::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            frames_in: 0,
            bytes_in: 0,
            frames_queued: 0,
            bytes_queued: 0,
            frames_skipped: 0,
            control_skipped: 0,
            frames_lost: 0,
            frames_void: 0,
            gaps: 0,
            receipts: 0,
            pings: 0,
            errors_in: 0,
            registered: 0,
            refused: [0; Code::COUNT],
            closed: [0; Code::COUNT],
        }
    }
}
