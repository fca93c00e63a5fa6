//! `--log-frames`: every frame in the log, decoded and in hexadecimal.

use log::info;

use crate::outgoing::SendError;
use crate::wire::{Frames, Id, dump};

/// The log target of these lines, so that they can be told from all others.
pub(super) const TARGET: &str = "frames";

pub(super) fn received(from: Id, frames: &[u8]) {
    for frame in Frames::new(frames) {
        info!(target: TARGET, "{from} > {}", dump(frame));
    }
}

pub(super) fn sent(to: Id, frames: &[u8], sent: Result<(), SendError>) {
    for frame in Frames::new(frames) {
        match sent {
            Ok(()) => info!(target: TARGET, "{to} < {}", dump(frame)),
            Err(error) => info!(target: TARGET, "{to} x {error:?}: {}", dump(frame)),
        }
    }
}
