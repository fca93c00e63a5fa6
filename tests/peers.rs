//! The parts of `benches/peers` that decide whether its figures are true: what is understood of each server's
//! bytes, the byte floor and the cost of the cipher that all of them are held against, and how rounds become rows. A
//! benchmark's own tests are not run by `cargo test`, so they are here.

#[path = "../benches/peers/cipher.rs"]
mod cipher;
#[path = "../benches/peers/dialects/mod.rs"]
mod dialects;
#[path = "../benches/peers/floor.rs"]
mod floor;
#[path = "../benches/peers/rounds.rs"]
#[allow(dead_code, reason = "a benchmark says how long it takes")]
mod rounds;
#[path = "../benches/peers/rows.rs"]
mod rows;
#[path = "../benches/peers/servers.rs"]
mod servers;
#[path = "../benches/peers/tls_rows.rs"]
mod tls_rows;

#[path = "peers/byte_floor.rs"]
mod byte_floor;
#[path = "peers/cipher_cost.rs"]
mod cipher_cost;
#[path = "peers/over_tls.rs"]
mod over_tls;
#[path = "peers/parsers.rs"]
mod parsers;
