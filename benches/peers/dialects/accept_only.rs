//! No dialect at all: clients that connect and say nothing, for what accepting alone costs.

use switchboard::bench::{Destination, Dialect, Event, Role};
use switchboard::reactor::Progress;

/// Clients that count as registered as soon as they connect.
#[derive(Debug, Default)]
pub(crate) struct AcceptOnly;

impl Dialect for AcceptOnly {
    const ANSWERS: bool = false;

    fn greet(&mut self, _: u32, _: Role, _: &mut Vec<u8>) {}

    fn read(&mut self, _: u32, _: &[u8], _: &mut Vec<u8>, _: &mut dyn FnMut(Event<'_>)) -> Result<Progress, String> {
        Err("a server that was told nothing has answered".to_owned())
    }

    fn send(&mut self, _: u32, _: Destination, _: u32, _: &[u8], _: &mut Vec<u8>) {}
}
