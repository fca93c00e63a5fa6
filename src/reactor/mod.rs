//! A reactor on one thread: listeners, connections, and the turn of the loop that serves them.
//!
//! Any service that takes bytes can run on it ([`Service`]); it knows no frames and no relay. Bytes come in
//! through one shared buffer and are shown to the service in place; what the service sends is written at once if
//! it is long or comes alone, and else queued and written once at the end of the turn. All sockets are polled
//! edge-triggered, for both directions, from their first moment to their last: there is no call to the poll in
//! between.
//!
//! ```text
//!   poll ─► read ─► expire ─► end of turn ─► flush ─► reap ─► accept ─┐
//!    ▲     bounded  deadlines the service's  once a   what    bounded │
//!    │     a conn.            last word      conn.    ends    a turn  │
//!    └────────────────────────────────────────────────────────────────┘
//!          waits only if nothing is left to read, write or free
//! ```
//!
//! What survives here, so that no service needs to think of it: resets and half-closes at any moment,
//! short reads and writes, spurious events, events for a connection that has gone, an empty table of file
//! descriptors, readers that are stuck or trickle, and writers that never finish a message.

mod address;
mod admission;
mod binding;
mod clock;
mod connection;
mod connections;
mod connector;
mod consistency;
mod engine;
mod entering;
mod event_loop;
mod expiry;
mod front;
mod gate;
mod handshake;
mod input;
mod limits;
mod listener;
mod newcomers;
mod notices;
mod protection;
mod queue;
mod rates;
mod records;
mod sealed;
mod sending;
mod service;
mod terms;
mod tls;
mod transport;
mod unwritten;
mod wheel;

pub use crate::outgoing::{Lane, Outgoing, SendError};
pub use address::PeerAddr;
pub use admission::Admitted;
pub use binding::BindingLog;
pub use clock::Clock;
pub use connection::{CloseReason, ConnId, Refusal};
pub use connections::Connections;
pub use engine::{Engine, Readiness};
pub use event_loop::Reactor;
pub use gate::Gate;
pub use limits::{Counters, Limits};
pub use listener::{Endpoint, SocketOptions};
pub use queue::Unsent;
pub use rates::RateLimit;
pub use service::{Progress, Service};
pub use terms::{TlsFault, TlsTerms};
pub use tls::TlsRole;
pub use transport::{Stream, Transport};
