//! Where the relay's effects go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::auth::{self, NONCE_BYTES};
use crate::origin::Origin;
use crate::outgoing::{Lane, Outgoing, SendError};
use crate::time::Time;
use crate::wire::Id;

/// What the relay can do to connections, and what it can know of them. Each call takes effect before the next, so the
/// relay learns at once whether there was room.
pub trait Outbox {
    /// Queues whole frames for a client.
    ///
    /// # Errors
    /// There is no room for all of them, or no such connection any more. Nothing is queued then.
    fn send(&mut self, to: Id, frames: &mut Outgoing<'_>, lane: Lane) -> Result<(), SendError>;

    /// Bytes that wait for a client.
    fn queued_bytes(&self, to: Id) -> usize;

    /// Whether bytes wait for a client because it takes no more, and not only until the end of the turn.
    fn is_blocked(&self, to: Id) -> bool;

    /// Whether a frame of this client has begun and not ended.
    fn is_receiving(&self, from: Id) -> bool;

    /// Bytes that have been written and that wait, together: the place in the client's stream at which the
    /// next frame will begin.
    fn position(&self, to: Id) -> u64;

    /// Whether everything that this client is sent is known to be written, or else unwanted: tells
    /// [`super::Input::Written`] after each write while it is on.
    fn notify_written(&mut self, to: Id, on: bool);

    /// Has [`super::Input::Deadline`] come at `at`, or not at all.
    fn set_deadline(&mut self, id: Id, at: Option<Time>);

    /// Notes that what this client asked for was as much work as sending so many messages, for the budget of its turn.
    fn charge(&mut self, from: Id, messages: usize) {
        let _ = (from, messages);
    }

    /// Hands over no more frames of this client, or does again.
    fn pause(&mut self, id: Id, on: bool);

    /// Writes what waits, then closes. The relay hears nothing more of it but the end.
    fn close(&mut self, id: Id);

    /// Appends the public address that a client comes from.
    fn put_address(&self, id: Id, text: &mut String);

    /// Where a connection comes from, as limits by address count it; none over a Unix socket.
    fn origin(&self, id: Id) -> Option<Origin> {
        let _ = id;
        None
    }

    /// What an exchange can be bound to: 32 bytes that this TLS connection has alone (RFC 9266).
    fn channel_binding(&self, id: Id) -> Option<[u8; 32]> {
        let _ = id;
        None
    }

    /// Appends the user's name that a client's certificate is for; says whether it has shown one that is trusted.
    fn certificate_user(&self, id: Id, name: &mut String) -> bool {
        let _ = (id, name);
        false
    }

    /// Whether nobody in between can read what a connection carries: it is over TLS or does not leave the machine.
    fn is_private(&self, id: Id) -> bool {
        let _ = id;
        true
    }

    /// Notes that a connection is registered, and no newcomer any more.
    fn settle(&mut self, id: Id) {
        let _ = id;
    }

    /// Printable characters that nobody can foresee, for the relay's part of an exchange; none if the system has no
    /// randomness to give.
    fn nonce(&mut self) -> Option<String> {
        let bytes: [u8; NONCE_BYTES] = auth::random().ok()?;
        Some(STANDARD.encode(bytes))
    }
}
