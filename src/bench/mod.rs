//! The load generator: scenarios that put a relay to work, and an account of what it did.
//!
//! It is itself a service on the reactor, one thread with one poll: thousands of clients whose frames carry
//! a number and the time at which they should have been sent. Every frame is accounted for.

pub mod comparison;
mod cores;
mod dialect;
mod fleet;
mod flows;
mod payload;
mod process;
pub mod progress;
pub mod report;
mod rig;
mod scenario;
mod schedule;
mod stop;
mod switchboard;
mod target;
mod units;

pub use cores::Cores;
pub use dialect::{Destination, Dialect, Event, Role};
pub use process::{Process, Usage};
pub use progress::Progress;
pub use scenario::{Scenario, Work, run};
pub use stop::Stop;
pub use switchboard::Switchboard;
pub use target::Target;
