//! All faults, by name.

use crate::lost_peers;
use crate::relay::Start;
use crate::scene::{Scene, Size};

/// A fault.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What happens, in a line.
    pub(crate) what: &'static str,
    /// How the relay is started.
    pub(crate) start: fn(Size) -> Start,
    /// Makes the fault happen, and holds what it does against what it should.
    pub(crate) run: fn(&mut Scene),
    /// It needs a network of its own.
    pub(crate) network: bool,
}

const fn fault(name: &'static str, what: &'static str, start: fn(Size) -> Start, run: fn(&mut Scene)) -> Fault {
    Fault { name, what, start, run, network: false }
}

fn plain(_: Size) -> Start {
    Start::with(&[])
}

/// Every fault.
pub(crate) const ALL: &[Fault] = &[
    fault("peer_killed", "processes with 20 talking clients each are killed", plain, lost_peers::killed),
    fault("one_byte_writes", "frames that come one byte at a time", plain, lost_peers::one_byte_writes),
];
