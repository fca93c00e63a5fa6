//! switchboard: a lightweight message relay on one thread and one poll.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod wire;
