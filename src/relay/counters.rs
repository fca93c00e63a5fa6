//! What a relay has done: every frame and every end of a client is in one of these.

use crate::auth::Mechanism;
use crate::wire::Code;

/// How many mechanisms there are: the size of a table of counters.
const MECHANISMS: usize = Mechanism::ALL.len();

/// What a user was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A name, in a HELLO or an UPDATE.
    Name,
    /// To be in a room.
    Join,
    /// To make a room.
    Create,
    /// To send to a room that it is in.
    Send,
    /// To address a client, or to ask for it by name.
    Address,
    /// To send to all.
    All,
    /// To know who is here.
    Watch,
    /// To end other clients' connections.
    Administer,
}

impl Denial {
    /// Everything that can be denied.
    pub const ALL: [Self; 8] =
        [Self::Name, Self::Join, Self::Create, Self::Send, Self::Address, Self::All, Self::Watch, Self::Administer];
    /// How many there are: the size of a table of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Denial::ALL`].
    #[must_use]
    pub const fn ordinal(self) -> usize {
        self as usize
    }

    /// One word, for a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Join => "join",
            Self::Create => "create",
            Self::Send => "send",
            Self::Address => "address",
            Self::All => "all",
            Self::Watch => "watch",
            Self::Administer => "administer",
        }
    }

    /// What was denied, in words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Name => "the user may not have this name",
            Self::Join => "the user may not join this room",
            Self::Create => "there is no such room, and the user may not create it",
            Self::Send => "the user may not send to this room",
            Self::Address => "the user may not address this client, or it is not here",
            Self::All => "the user may not send to all",
            Self::Watch => "the user may not know who is here",
            Self::Administer => "only a user with admin=yes may end other clients' connections",
        }
    }
}

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
    /// Proofs of who somebody is that were right, in the order of [`Mechanism::ALL`].
    pub authenticated: [u64; MECHANISMS],
    /// Proofs that were wrong, in the order of [`Mechanism::ALL`].
    pub auth_failed: [u64; MECHANISMS],
    /// What users were denied, frame by frame, in the order of [`Denial::ALL`].
    pub denied: [u64; Denial::COUNT],
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
            authenticated: [0; MECHANISMS],
            auth_failed: [0; MECHANISMS],
            denied: [0; Denial::COUNT],
            refused: [0; Code::COUNT],
            closed: [0; Code::COUNT],
        }
    }
}
