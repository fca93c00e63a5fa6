//! What a relay allows.

use std::time::Duration;

use crate::auth::AuthSettings;
use crate::wire::PAYLOAD_BYTES_DEFAULT;

/// What happens when a user connects under a name that another connection of the same user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// The new connection has the name: whoever has lost its network is back at once.
    Replace,
    /// The old one keeps it, if it shows life: a second client of the same user cannot push out the first.
    Reject,
}

/// Limits and times of a relay. `switchboard serve` has a flag for each, with its reason.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Software and version, as WELCOME says it.
    pub agent: String,
    /// Connections at the same time: tables are made for as many.
    pub connections_max: usize,
    /// The largest payload in bytes that a client may agree on.
    pub payload_bytes_max: u32,
    /// Bytes that may wait for a client, as WELCOME says it.
    pub queue_bytes_max: usize,
    /// Bytes beyond that for the relay's own frames. Half of it must hold the answers to one frame: a
    /// SEND_MANY to 1,024 clients that are all gone is answered by 120 KiB of ERRORs.
    pub queue_reserve_bytes: usize,
    /// Time from the connection to a complete HELLO.
    pub hello_deadline: Duration,
    /// How long an exchange that authenticates may take, and how failed attempts are counted, delayed and refused.
    pub auth: AuthSettings,
    /// Whether there are connections, if not all, that a password's proof can be bound to: those over TLS 1.3.
    pub binds_channels: bool,
    /// What happens when a user connects twice under one name.
    pub takeover: Takeover,
    /// How long an old connection is given to show life before it gives way ([`Takeover::Reject`]): longer than any round
    /// trip, shorter than a person's patience.
    pub takeover_probe: Duration,
    /// Clients that are held against a new list of users in one turn, at a third of a microsecond each: all of ten thousand
    /// at once would have everybody wait for milliseconds.
    pub reviews_turn_max: usize,
    /// The keepalive of a client that asks for none.
    pub keepalive: Duration,
    /// The shortest keepalive that is granted.
    pub keepalive_min: Duration,
    /// The longest keepalive that is granted.
    pub keepalive_max: Duration,
    /// Rooms at the same time.
    pub rooms_max: usize,
    /// Rooms that one client may be in.
    pub rooms_per_client_max: usize,
    /// Members of one room.
    pub members_max: usize,
    /// The mean of the delay that clients are given when the relay goes down; each gets between half and one
    /// and a half of it, so that they do not come back together.
    pub retry_delay: Duration,
    /// Lost clients that are logged one by one in a second.
    pub log_lost_per_second_max: u32,
    /// Failed attempts to authenticate, and to do what a user may not, that are logged one by one in a second.
    pub log_denied_per_second_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent: concat!("switchboard/", env!("CARGO_PKG_VERSION")).to_owned(),
            connections_max: 1024,
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            queue_bytes_max: 1024 * 1024,
            queue_reserve_bytes: 256 * 1024,
            hello_deadline: Duration::from_secs(10),
            auth: AuthSettings::default(),
            binds_channels: false,
            takeover: Takeover::Replace,
            takeover_probe: Duration::from_secs(3),
            reviews_turn_max: 512,
            keepalive: Duration::from_secs(30),
            keepalive_min: Duration::from_secs(1),
            keepalive_max: Duration::from_mins(10),
            rooms_max: 100_000,
            rooms_per_client_max: 64,
            members_max: 100_000,
            retry_delay: Duration::from_secs(2),
            log_lost_per_second_max: 20,
            log_denied_per_second_max: 20,
        }
    }
}
