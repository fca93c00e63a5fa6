//! The parts of `benches/peers` that decide whether its figures are true: what is understood of each server's
//! bytes, and the byte floor that all of them are held against. A benchmark's own tests are not run by
//! `cargo test`, so they are here.

#[path = "../benches/peers/dialects/mod.rs"]
mod dialects;
#[path = "../benches/peers/floor.rs"]
mod floor;

#[path = "peers/byte_floor.rs"]
mod byte_floor;
#[path = "peers/parsers.rs"]
mod parsers;
