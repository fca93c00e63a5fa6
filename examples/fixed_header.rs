//! Frames with a fixed header: messages that say how long they are.
//!
//! ```text
//! cargo run --example fixed_header                  # listens on 127.0.0.1:2122
//! cargo run --example fixed_header -- 0.0.0.0:2122  # listens there
//!
//!   0        2                 6
//!   ┌────────┬─────────────────┬──────────────
//!   │ 0x5342 │ length, signed  │ payload …       both numbers little-endian
//!   │ 16 bit │ 32 bit          │ length bytes
//!   └────────┴─────────────────┴──────────────
//! ```
//!
//! A good frame is acknowledged by sending it back as it came, header included. A wrong identifier, a
//! negative length or one above [`PAYLOAD_BYTES_MAX`] is an error in the log, and its client is closed; the
//! good frames before it are acknowledged first.
//!
//! What it shows:
//! - a header is read as far as it is there, and judged before anything is waited for or allocated;
//! - the service says how many bytes it `wanted`, and is not asked again before they are there: a long
//!   payload in small pieces costs nothing twice;
//! - frames that came together are answered together, in one call, from the buffer they were read into.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use log::{error, info};
use switchboard::reactor::{
    CloseReason, ConnId, Connections, Endpoint, Lane, Limits, Outgoing, PeerAddr, Progress, Reactor, SendError,
    Service, SocketOptions, Unsent,
};
use switchboard::time::Time;

const ADDRESS: &str = "127.0.0.1:2122";
const PROTOCOL: u16 = 0x5342;
const HEADER_BYTES: usize = 6;
/// What a client can make the server hold for it.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with a header.
#[derive(Debug, PartialEq)]
enum Fault {
    Protocol(u16),
    Negative(i32),
    TooLarge(i32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(found) => write!(f, "the protocol identifier is {found:#06x} instead of {PROTOCOL:#06x}"),
            Self::Negative(length) => write!(f, "the payload length {length} is negative"),
            Self::TooLarge(length) => write!(f, "the payload length {length} is above {PAYLOAD_BYTES_MAX}"),
        }
    }
}

/// The length of the frame that begins with `bytes`, header included; `None` if too little of it is there.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some((protocol, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let protocol = u16::from_le_bytes(*protocol);
    if protocol != PROTOCOL {
        return Err(Fault::Protocol(protocol));
    }
    let Some(length) = rest.first_chunk() else { return Ok(None) };
    let length = i32::from_le_bytes(*length);
    match usize::try_from(length) {
        Err(_) => Err(Fault::Negative(length)),
        Ok(payload) if payload > PAYLOAD_BYTES_MAX => Err(Fault::TooLarge(length)),
        Ok(payload) => Ok(Some(HEADER_BYTES + payload)),
    }
}

/// The whole frames in front: how many bytes they are, and what comes after them.
fn whole_frames(data: &[u8]) -> (usize, Result<usize, Fault>) {
    let mut end = 0;
    loop {
        match frame_bytes(&data[end..]) {
            Ok(Some(length)) if length <= data.len() - end => end += length,
            Ok(Some(length)) => return (end, Ok(length)),
            Ok(None) => return (end, Ok(HEADER_BYTES)),
            Err(fault) => return (end, Err(fault)),
        }
    }
}

struct FixedHeader;

impl Service for FixedHeader {
    fn on_open(&mut self, _: &mut Connections, conn: ConnId, peer: PeerAddr, _: usize, _: Time) {
        info!("{conn:?} comes from {peer}");
    }

    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        let (end, next) = whole_frames(data);
        if io.send(conn, &mut Outgoing::to_one(&data[..end]), Lane::Traffic) == Err(SendError::Full) {
            // All of it is shown again once the client has taken some of its acknowledgements.
            io.pause(conn);
            io.set_notify(conn, true);
            return Progress { consumed: 0, wanted: 0 };
        }
        match next {
            Ok(wanted) => Progress { consumed: end, wanted },
            Err(fault) => {
                error!("{conn:?} is closed: {fault}");
                io.close(conn);
                Progress::all(data)
            }
        }
    }

    fn on_written(&mut self, io: &mut Connections, conn: ConnId, _: u64, _: Time) {
        if io.queued_bytes(conn) <= io.limits().queue_bytes_max / 4 {
            io.set_notify(conn, false);
            io.resume(conn);
        }
    }

    fn on_close(&mut self, _: &mut Connections, conn: ConnId, reason: CloseReason, _: Unsent<'_>, _: Time) {
        info!("{conn:?} has ended ({reason:?})");
    }
}

fn main() -> ExitCode {
    // The log goes to standard error; standard output says one thing, where the server listens.
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| ADDRESS.to_owned());
    let (Ok(address), None) = (address.parse::<SocketAddr>(), arguments.next()) else {
        eprintln!("usage: fixed_header [ADDRESS:PORT], by default {ADDRESS}");
        return ExitCode::from(2);
    };
    match serve(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fixed_header: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: SocketAddr) -> std::io::Result<()> {
    let limits =
        Limits { connections_max: 10_000, input_bytes_max: HEADER_BYTES + PAYLOAD_BYTES_MAX, ..Limits::default() };
    let mut reactor = Reactor::new::<FixedHeader>(limits)?;
    let endpoint = reactor.listen(&Endpoint::Tcp(address), SocketOptions::default())?;
    // Nobody may be reading that line; the server runs all the same.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {endpoint}").and_then(|()| out.flush());
    reactor.run(&mut FixedHeader)
}
