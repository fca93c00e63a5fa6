//! No dialect at all: clients that leave as soon as TLS is agreed on, for what a handshake costs.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

/// Clients that come through their handshake and go.
#[derive(Debug, Default)]
pub(crate) struct Handshake;

impl Dialect for Handshake {
    const ANSWERS: bool = false;
    const LEAVES: bool = true;

    fn greet(&mut self, _: u32, _: Role, _: &mut Vec<u8>) {}

    fn read(&mut self, _: u32, data: &[u8], _: &mut Vec<u8>, _: &mut dyn FnMut(Event<'_>)) -> Result<Progress, String> {
        Ok(Progress::all(data))
    }

    fn send(&mut self, _: u32, _: Destination, _: u32, _: &[u8], _: &mut Vec<u8>) {}
}
