//! The load generator: scenarios that put a relay to work, and an account of what it did.
//!
//! It is itself a service on the reactor, one thread with one poll: thousands of clients whose frames carry
//! a number and the time at which they should have been sent. Every frame is accounted for.

mod dialect;
mod fleet;
mod flows;
mod payload;
pub mod report;
mod schedule;
mod switchboard;

pub use dialect::{Destination, Dialect, Event, Role};
pub use fleet::{Census, Fleet};
pub use flows::Flows;
pub use schedule::Schedule;
pub use switchboard::Switchboard;
