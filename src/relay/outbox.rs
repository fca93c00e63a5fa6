//! Where the relay's effects go.

use crate::outgoing::{Lane, Outgoing, SendError};
use crate::time::Time;
use crate::wire::Id;

/// What the relay can do to connections. Each call takes effect before the next, so the relay learns at
/// once whether there was room.
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
}
