//! All faults, by name.

use crate::relay::Start;
use crate::scene::{Scene, Size};
use crate::{
    garbage, handshake, lost_peers, network, operator, passwords, restart, secure, slow_peers, storms, strangers,
};

/// A fault.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// What happens, in a line.
    pub(crate) what: &'static str,
    /// How the relay is started.
    pub(crate) start: fn(Size) -> Start,
    /// Others besides the bystanders, who are there before anything is measured, and stay: the fault is told from them.
    pub(crate) company: Option<fn(&mut Scene)>,
    /// Makes the fault happen, and holds what it does against what it should.
    pub(crate) run: fn(&mut Scene),
    /// It needs a network of its own.
    pub(crate) network: bool,
}

const fn fault(name: &'static str, what: &'static str, start: fn(Size) -> Start, run: fn(&mut Scene)) -> Fault {
    Fault { name, what, start, company: None, run, network: false }
}

fn plain(_: Size) -> Start {
    Start::with(&[])
}

fn impatient(_: Size) -> Start {
    Start::with(&["--queue-max", "256KiB", "--write-deadline", "1s", "--frame-deadline", "1s"])
}

fn patient(_: Size) -> Start {
    Start::with(&["--queue-max", "256KiB"])
}

fn narrow(_: Size) -> Start {
    let budget = garbage::BUFFERED_TOTAL.to_string();
    Start::with(&["--buffered-total-max", &budget, "--frame-deadline", "1s", "--hello-deadline", "1s"])
}

fn many_rooms(size: Size) -> Start {
    Start::with(&["--rooms-max", size.of("1000", "100000")])
}

/// Every fault.
#[rustfmt::skip]
pub(crate) const ALL: &[Fault] = &[
    fault("peer_killed", "processes with 20 talking clients each are killed", plain, lost_peers::killed),
    fault("peer_stopped", "a process is stopped, its queue fills, it goes on", patient, slow_peers::stopped),
    fault("zero_window", "clients with the smallest window never read", impatient, slow_peers::zero_window),
    fault("one_byte_writes", "frames that come one byte at a time", plain, lost_peers::one_byte_writes),
    fault("trickle_in", "frames that begin and go on a byte at a time", impatient, slow_peers::trickle_in),
    fault("trickle_out", "a client with a full queue reads byte by byte", impatient, slow_peers::trickle_out),
    Fault { network: true, ..fault("cable_pulled", "a cable is pulled under traffic", network::relay, network::cable_pulled) },
    Fault { network: true, ..fault("half_open", "peers vanish without FIN or RST", network::relay_with_heartbeats, network::half_open) },
    fault("handshake_resets", "resets at every stage of the handshake", plain, handshake::resets),
    fault("mass_disconnect", "thousands are lost at once", plain, storms::mass_disconnect),
    fault("reconnect_storm", "thousands are lost and back at once", plain, storms::reconnect_storm),
    fault("duplicate_names", "thousands come with one name", plain, storms::duplicate_names),
    fault("million_rooms", "a million rooms are asked for", many_rooms, storms::million_rooms),
    fault("descriptors_out", "no file descriptor is left (EMFILE)", plain, operator::descriptors),
    fault("log_stalled", "nobody reads the log, which has every frame", operator::every_frame_unread, operator::log_stalled),
    fault("log_full", "the log's disk is full", operator::to_a_full_device, operator::log_full),
    fault("log_limited", "the log's file may not grow", operator::to_a_file_with_a_limit, operator::log_limited),
    fault("log_pipe", "the log becomes a named pipe without a reader", operator::to_a_file, operator::log_pipe),
    fault("wall_clock", "the wall clock jumps by years", operator::with_a_clock_of_its_own, operator::wall_clock),
    fault("relay_stopped", "the relay is stopped for longer than any deadline", impatient, slow_peers::relay_stopped),
    fault("noise", "strangers and clients that send noise", plain, garbage::noise),
    fault("oversize", "lengths beyond the limit, and floods behind them", plain, garbage::oversize),
    fault("never_ending", "frames that never end, beyond the memory budget", narrow, garbage::never_ending),
    fault("port_scan", "a scan connects and closes, at both ports", secure::also_over_tls, strangers::port_scan),
    fault("browser", "HTTP and HTTPS at both ports", secure::also_over_tls, strangers::browser),
    Fault { company: Some(passwords::chat), ..fault("slow_loris", "thousands hardly move: in TCP, in TLS, in HELLO", secure::impatient, strangers::slow_loris) },
    fault("tls_storm", "thousands over TLS are lost and back at once", secure::also_over_tls, secure::storm),
    fault("key_reload", "new keys at SIGHUP, and bad ones, under traffic", secure::also_over_tls, secure::key_reload),
    fault("tls_abuse", "half records, new keys without end, second handshakes", secure::impatient, secure::abuse),
    Fault { company: Some(passwords::chat), ..fault("wrong_passwords", "thousands guess at passwords", passwords::with_users, passwords::wrong_passwords) },
    fault("sigterm", "SIGTERM while everybody sends", plain, operator::sigterm),
    fault("kill_and_restart", "kill -9, and a start at the same port", plain, restart::killed),
];
