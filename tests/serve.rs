//! A real relay process, as its clients and its operator see it.

mod support;
mod tls_support;

#[path = "serve/bad_start.rs"]
mod bad_start;
#[path = "serve/descriptors.rs"]
mod descriptors;
#[path = "serve/files.rs"]
mod files;
#[path = "serve/hung.rs"]
mod hung;
#[path = "serve/open_network.rs"]
mod open_network;
#[path = "serve/reload.rs"]
mod reload;
#[path = "serve/shutdown.rs"]
mod shutdown;
#[path = "serve/slow.rs"]
mod slow;
#[path = "serve/start.rs"]
mod start;
