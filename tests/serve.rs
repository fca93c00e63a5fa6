//! A real relay process, as its clients and its operator see it.

mod support;

#[path = "serve/descriptors.rs"]
mod descriptors;
#[path = "serve/hung.rs"]
mod hung;
#[path = "serve/shutdown.rs"]
mod shutdown;
#[path = "serve/slow.rs"]
mod slow;
#[path = "serve/start.rs"]
mod start;
