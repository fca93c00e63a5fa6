//! The reactor under attack: on a transport that the test controls byte by byte, and on real sockets.
//!
//! ```text
//! support.rs   a transport, a service and a loop for tests, on fake time
//! reading.rs   leases, budgets, pauses, ends and deadlines of what comes in
//! closing.rs   how a connection ends
//! writing.rs   queues, limits and deadlines of what goes out
//! operations.rs operations against a model, and random.rs random ones
//! turnover.rs  some leave while others come
//! clock.rs     what the loop takes for a stop of the process, and what for work
//! gate.rs      who gets in, and how much who is in may send
//! tls.rs       TLS between sockets and service
//! tls_handshake.rs agreeing on TLS
//! tls_client.rs TLS that this side begins
//! tls_records.rs records behind the handshake, new keys, and what breaks the rules
//! tls_fragments.rs messages of the handshake that come in part, or with others behind them
//! sockets.rs   the same promises on sockets of the system, and what only they have
//! ```

mod clock;
mod closing;
#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/forger.rs"]
mod forger;
mod gate;
mod operations;
mod random;
mod reading;
mod sockets;
mod support;
mod tls;
mod tls_client;
mod tls_fragments;
mod tls_handshake;
mod tls_records;
#[path = "../support/tls.rs"]
mod tls_support;
mod turnover;
mod writing;
