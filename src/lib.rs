//! switchboard: a lightweight message relay on one thread and one poll.
#![forbid(unsafe_code)]

pub mod auth;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod descriptors;
mod files;
pub mod harmless;
pub mod origin;
pub mod outgoing;
pub mod planted;
pub mod reactor;
pub mod relay;
pub mod server;
pub mod throttle;
pub mod time;
pub mod wire;
