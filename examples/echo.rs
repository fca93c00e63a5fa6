//! Every byte comes back exactly once: the smallest service, and lossless backpressure.
//!
//! ```text
//! cargo run --example echo               # listens on 127.0.0.1:2121
//! cargo run --example echo -- 0.0.0.0:7  # listens there
//! ```
//!
//! What it shows:
//! - a service is one type with one method that must be written, `on_data`;
//! - bytes are no messages: what a client writes at once arrives in pieces, and two writes in one piece;
//! - a client that sends and does not read must not fill the memory. Its echoes wait in its queue; when the
//!   queue is full, the server stops reading from it, the system's buffers fill up, and the client's own
//!   write blocks. As soon as no more than [`RESUME_BYTES`] wait, reading goes on.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use log::info;
use switchboard::reactor::{
    CloseReason, ConnId, Connections, Endpoint, Lane, Limits, Outgoing, PeerAddr, Progress, Reactor, SendError,
    Service, SocketOptions, Unsent,
};
use switchboard::time::Time;

const ADDRESS: &str = "127.0.0.1:2121";

/// Echoes that may still wait when reading goes on: some, so that the client is not idle meanwhile, and few
/// enough for what was held back to fit.
const RESUME_BYTES: usize = 256 * 1024;

struct Echo;

impl Service for Echo {
    fn on_open(&mut self, _: &mut Connections, conn: ConnId, peer: PeerAddr, _: usize, _: Time) {
        info!("{conn:?} comes from {peer}");
    }

    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        match io.send(conn, &mut Outgoing::to_one(data), Lane::Traffic) {
            Err(SendError::Full) => {
                // What is not consumed is shown again after the pause.
                io.pause(conn);
                io.set_notify(conn, true);
                Progress { consumed: 0, wanted: 0 }
            }
            // If the connection has gone, so has whoever the echo was for.
            Ok(()) | Err(SendError::Gone) => Progress::all(data),
        }
    }

    fn on_written(&mut self, io: &mut Connections, conn: ConnId, _: u64, _: Time) {
        if io.queued_bytes(conn) <= RESUME_BYTES {
            io.set_notify(conn, false);
            io.resume(conn);
        }
    }

    // Of the end nothing need be said: a client that shuts its writing side still gets all its echoes, and
    // then the connection is closed.

    fn on_close(&mut self, _: &mut Connections, conn: ConnId, reason: CloseReason, unsent: Unsent<'_>, _: Time) {
        info!("{conn:?} has ended ({reason:?}): {} bytes echoed, {} left over", unsent.written, unsent.whole.len());
    }
}

fn main() -> ExitCode {
    // The log goes to standard error; standard output says one thing, where the server listens.
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| ADDRESS.to_owned());
    let (Ok(address), None) = (address.parse::<SocketAddr>(), arguments.next()) else {
        eprintln!("usage: echo [ADDRESS:PORT], by default {ADDRESS}");
        return ExitCode::from(2);
    };
    match serve(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: SocketAddr) -> std::io::Result<()> {
    // A client may pause for long before it reads on; one that has not taken a byte for five minutes is gone.
    let limits = Limits { connections_max: 10_000, write_deadline: Duration::from_mins(5), ..Limits::default() };
    let mut reactor = Reactor::new::<Echo>(limits)?;
    let endpoint = reactor.listen(&Endpoint::Tcp(address), SocketOptions::default())?;
    // Nobody may be reading that line; the server runs all the same.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {endpoint}").and_then(|()| out.flush());
    reactor.run(&mut Echo)
}
