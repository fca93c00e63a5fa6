//! What runs on the reactor: anything that takes bytes and answers with bytes.

use super::{CloseReason, ConnId, Connections, PeerAddr, Refusal, Stream, Transport, Unsent};
use crate::time::Time;

/// What a service made of the bytes that it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the front that are done with.
    pub consumed: usize,
    /// How many bytes, counted from the first that was not consumed, must be there before it makes sense to
    /// ask again; 0 where that is not known.
    pub wanted: usize,
}

impl Progress {
    /// Everything was consumed.
    #[must_use]
    pub const fn all(bytes: &[u8]) -> Self {
        Self { consumed: bytes.len(), wanted: 0 }
    }
}

/// A service on the reactor.
///
/// Every method may send to and close any connection through `io`; nothing is freed before the turn ends,
/// and closing is told in [`Service::on_close`], once for each connection that was opened. Time is told,
/// never asked for.
pub trait Service<T: Transport = Stream> {
    /// A connection was accepted on the listener with this number, and is through its handshake if there is one.
    fn on_open(&mut self, io: &mut Connections<T>, conn: ConnId, peer: PeerAddr, listener: usize, now: Time) {
        let _ = (io, conn, peer, listener, now);
    }

    /// A connection that this side began is through its handshake of TLS: [`Connections::tls_terms`] says with what.
    fn on_established(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        let _ = (io, conn, now);
    }

    /// Bytes have arrived: `data` begins with the first byte that was not consumed yet. The service may
    /// change them in place, and consumes every message that is whole: it is asked again when more bytes
    /// have come or after a pause, not for what it left. It is not called again for a connection that it
    /// pauses or closes meanwhile.
    fn on_data(&mut self, io: &mut Connections<T>, conn: ConnId, data: &mut [u8], now: Time) -> Progress;

    /// The peer will send no more, and everything it sent has been shown. By default the connection is
    /// closed once its queue is written.
    fn on_end(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        let _ = now;
        io.close(conn);
    }

    /// A message has been incomplete for longer than [`super::Limits::input_deadline`]. By default the
    /// connection ends.
    fn on_input_overdue(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        let _ = now;
        io.abort(conn, CloseReason::InputOverdue);
    }

    /// A connection that was not settled ([`Connections::settle`]) has to go, because too many newer ones have come. By
    /// default it ends.
    fn on_crowded_out(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        let _ = now;
        io.abort(conn, CloseReason::CrowdedOut);
    }

    /// The time set by [`Connections::set_deadline`] has come.
    fn on_deadline(&mut self, io: &mut Connections<T>, conn: ConnId, now: Time) {
        let _ = (io, conn, now);
    }

    /// The queue of a connection for which [`Connections::set_notify`] is on has had its turn: `written`
    /// bytes since it was opened, which may be no more than at the last call.
    fn on_written(&mut self, io: &mut Connections<T>, conn: ConnId, written: u64, now: Time) {
        let _ = (io, conn, written, now);
    }

    /// A connection has ended; `unsent` is what was still queued.
    fn on_close(&mut self, io: &mut Connections<T>, conn: ConnId, reason: CloseReason, unsent: Unsent<'_>, now: Time) {
        let _ = (io, conn, reason, unsent, now);
    }

    /// An event source that the program registered itself is ready.
    fn on_source(&mut self, io: &mut Connections<T>, source: usize, now: Time) {
        let _ = (io, source, now);
    }

    /// All that has happened in this turn has been handled; the queues are about to be written.
    fn on_turn_end(&mut self, io: &mut Connections<T>, now: Time) {
        let _ = (io, now);
    }

    /// What to tell a peer that is not let in, without a connection: sent at best.
    fn refusal(&mut self, why: Refusal) -> &[u8] {
        let _ = why;
        &[]
    }

    /// How long the message is that begins with `head` (up to 32 bytes of it), so that what is left in a
    /// queue can be handed back whole. By default each byte is a message.
    #[must_use]
    fn message_bytes(head: &[u8]) -> usize
    where
        Self: Sized,
    {
        let _ = head;
        1
    }
}
