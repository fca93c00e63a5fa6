//! The one place where frames go onto the socket, whole and one after the other, from any thread.
//!
//! Two kinds of writers meet here. Senders write their frames and wait for room as long as it takes. The
//! receiver owes answers (PONG) and must never wait for room: a relay that reads nothing more from a client
//! until that client has read is answered by reading, not by waiting. What the receiver owes is therefore
//! put down here and written by whoever is next able to.
//!
//! What it does not do: it builds no frames.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::socket::Socket;

/// Bytes of answers that may be owed. Each is some fifty bytes; over this, somebody sends PINGs faster than
/// the connection takes answers, and the surplus PINGs go unanswered.
const OWED_BYTES_MAX: usize = 64 * 1024;

/// The writing side of a connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Told whenever a sender is done.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A sender is writing, without holding the lock, and stands at no frame's end.
    busy: bool,
    /// Answers not yet written. While nobody is busy, the first of them may have been begun.
    owed: Vec<u8>,
    /// A write failed: a frame may be half written, so nothing may follow it.
    failed: Option<ErrorKind>,
}

impl Outbox {
    /// Writes one or more whole frames that lie in `slices`, waiting for its turn and for room.
    pub(super) fn send(&self, socket: &Socket, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.lock();
        while state.busy {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        state.busy = true;
        let owed = std::mem::take(&mut state.owed);
        drop(state);
        let mut done = socket.write_all(&mut [IoSlice::new(&owed)]).and_then(|()| socket.write_all(slices));
        let mut state = self.lock();
        // Answers that fell due meanwhile found the outbox busy: they are this sender's to write.
        while done.is_ok() && !state.owed.is_empty() {
            let owed = std::mem::take(&mut state.owed);
            drop(state);
            done = socket.write_all(&mut [IoSlice::new(&owed)]);
            state = self.lock();
        }
        state.busy = false;
        if let Err(error) = &done {
            state.failed = Some(error.kind());
        }
        drop(state);
        self.idle.notify_one();
        done
    }

    /// Puts down a whole frame that is owed, and writes as much as there is room for at once.
    pub(super) fn owe(&self, socket: &Socket, frame: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        if state.owed.len() + frame.len() <= OWED_BYTES_MAX {
            state.owed.extend_from_slice(frame);
        }
        pay(state, socket)
    }

    /// Writes what is owed as far as there is room.
    pub(super) fn pay(&self, socket: &Socket) -> io::Result<()> {
        pay(self.lock(), socket)
    }

    /// Whether something is owed, or was taken by TLS and is not yet written, that nobody is about to write: then room to write is worth waiting for.
    pub(super) fn owes(&self, socket: &Socket) -> bool {
        let state = self.lock();
        !state.busy && state.failed.is_none() && (!state.owed.is_empty() || socket.is_unwritten())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that may panic runs under this lock, and the state is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pay(mut state: MutexGuard<'_, State>, socket: &Socket) -> io::Result<()> {
    if state.busy {
        return Ok(());
    }
    if let Some(kind) = state.failed {
        return Err(kind.into());
    }
    while !state.owed.is_empty() {
        match socket.write(&[IoSlice::new(&state.owed)]) {
            Ok(written) if written > 0 => {
                state.owed.drain(..written);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            other => {
                let error = other.err().unwrap_or_else(|| ErrorKind::WriteZero.into());
                state.failed = Some(error.kind());
                return Err(error);
            }
        }
    }
    socket.flush().map(drop).inspect_err(|error| state.failed = Some(error.kind()))
}
