//! The load generator: scenarios that put a relay to work, and an account of what it did.
//!
//! It is itself a service on the reactor, one thread with one poll: thousands of clients whose frames carry
//! a number and the time at which they should have been sent. Every frame is accounted for.

mod books;
pub mod comparison;
mod cores;
mod dialect;
mod fleet;
mod flows;
mod login;
mod machine;
mod numbers;
pub mod page;
mod parameter;
mod payload;
mod plan;
mod plot;
mod process;
pub mod progress;
pub mod report;
mod rig;
mod scenario;
mod schedule;
mod soak;
mod stop;
mod switchboard;
mod target;
mod tls;
mod units;

pub use cores::Cores;
pub use dialect::{Destination, Dialect, Event, Role};
pub use login::Login;
pub use machine::{check_capacity, check_descriptors, check_ports, source};
pub use parameter::{Offer, Parameter};
pub use plan::{IN_FLIGHT_DEFAULT, Plan, Wishes};
pub use process::{Process, Usage};
pub use progress::Progress;
pub use scenario::{Scenario, Work, run};
pub use soak::soak;
pub use stop::Stop;
pub use switchboard::Switchboard;
pub use target::Target;
pub use tls::{Keys, Tls};
