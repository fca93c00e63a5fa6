//! Faults on real sockets: each against a real relay process, with bystanders whose traffic goes on all the while.
//!
//! ```text
//! cargo test --test faults                              every fault once, small: the account, and that it happened
//! cargo test --test faults -- mass                      those whose name holds "mass"
//! cargo test --release --test faults -- --table         at full size: the p99 beside the undisturbed one; ten minutes
//! cargo test --release --test faults -- --table --rounds 5     instead of three
//! cargo test --release --test faults -- --table --markdown | --json
//! cargo test --test faults -- --list
//! ```
//!
//! A plain run decides nothing by how long something takes. With `--table` the relay has a core of its own, the
//! p99 of each fault is divided by the undisturbed p99 of the same run, and the median over the rounds is held
//! against the bar; it ends with 1 if a frame was lost, a fault did not happen, or a row misses the bar. It wants two
//! cores with nothing else to do. Each fault runs in a process of its own, so that it can have open files, a network and
//! a clock of its own; where the machine does not allow that (`unshare`, `ip`) its row says so and is skipped.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

mod account;
mod bystanders;
mod catalogue;
mod crowd;
mod garbage;
mod handshake;
mod lost_peers;
mod network;
mod operator;
mod passwords;
mod relay;
mod restart;
mod runner;
mod scene;
mod secure;
mod slow_peers;
mod storms;
mod strangers;
mod table;

fn main() -> std::process::ExitCode {
    runner::run(&std::env::args().skip(1).collect::<Vec<_>>())
}
