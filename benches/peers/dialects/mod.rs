//! How the other servers are spoken to: a [`Dialect`](switchboard::bench::Dialect) for each.
//!
//! Every client but those that hear a room or all has an inbox of its own, `c<number>`, whether or not somebody
//! sends to it: a client that is registered can be reached. Rooms are channels `r<number>`, all is `all`.
//!
//! Redis and MQTT 3.1.1 deliver what a client sends to a channel that it hears also to itself, and cannot be told
//! not to. So work in which a sender hears its own room is not put on them.

mod accept_only;
mod floor;
mod handshake;
mod mqtt;
mod nats;
mod redis;
mod text;

pub(crate) use accept_only::AcceptOnly;
pub(crate) use floor::Floor;
pub(crate) use handshake::Handshake;
pub(crate) use mqtt::Mqtt;
pub(crate) use nats::Nats;
pub(crate) use redis::Redis;

/// The longest message that is believed: what claims to be longer comes from no server of ours.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
