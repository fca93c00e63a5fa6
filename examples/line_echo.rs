//! A line gets `From server -> ` and the line: messages that end with a newline.
//!
//! ```text
//! cargo run --example line_echo                  # listens on 127.0.0.1:8080
//! cargo run --example line_echo -- 0.0.0.0:8080  # listens there
//! ```
//!
//! What it shows:
//! - finding messages in a stream: the service consumes the whole lines that it is shown and leaves the
//!   beginning of the next one, which it is shown again with what follows;
//! - every length has a limit: a line longer than [`LINE_BYTES_MAX`] is refused in words, and its client
//!   closed;
//! - closing one client, on `Exit` or `exit`: what it was sent before is written first;
//! - answers longer than their questions: when a client's queue is full, its next lines wait.
//!
//! `\r\n` ends a line as well as `\n`; the answer ends with `\n`. What follows the last newline when a client
//! closes is no line and gets no answer.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use log::info;
use switchboard::reactor::{
    CloseReason, ConnId, Connections, Endpoint, Lane, Limits, Outgoing, PeerAddr, Progress, Reactor, SendError,
    Service, SocketOptions, Unsent,
};
use switchboard::time::Time;

const ADDRESS: &str = "127.0.0.1:8080";
const GREETING: &[u8] = b"From server -> ";
/// Bytes of a line, its end not counted. Also bounds what it costs to look again at a line that comes byte
/// by byte: the search for its end starts over each time.
const LINE_BYTES_MAX: usize = 4096;

#[derive(Default)]
struct LineEcho {
    /// Where answers are put together, whoever they are for.
    answer: Vec<u8>,
}

impl LineEcho {
    fn answer(&mut self, io: &mut Connections, conn: ConnId, line: &[u8]) -> Result<(), SendError> {
        self.answer.clear();
        self.answer.extend_from_slice(GREETING);
        self.answer.extend_from_slice(line);
        self.answer.push(b'\n');
        io.send(conn, &mut Outgoing::to_one(&self.answer), Lane::Traffic)
    }
}

impl Service for LineEcho {
    fn on_open(&mut self, _: &mut Connections, conn: ConnId, peer: PeerAddr, _: usize, _: Time) {
        info!("{conn:?} comes from {peer}");
    }

    fn on_data(&mut self, io: &mut Connections, conn: ConnId, data: &mut [u8], _: Time) -> Progress {
        let mut consumed = 0;
        while let Some(length) = data[consumed..].iter().position(|byte| *byte == b'\n') {
            let line = &data[consumed..consumed + length];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LINE_BYTES_MAX {
                refuse(io, conn);
                return Progress::all(data);
            }
            if matches!(line, b"Exit" | b"exit") {
                io.close(conn);
                return Progress::all(data);
            }
            if self.answer(io, conn, line) == Err(SendError::Full) {
                // The client does not read its answers: this line and the next ones wait until it does.
                io.pause(conn);
                io.set_notify(conn, true);
                return Progress { consumed, wanted: 0 };
            }
            consumed += length + 1;
        }
        // One more for the carriage return that may belong to the line's end.
        if data.len() - consumed > LINE_BYTES_MAX + 1 {
            refuse(io, conn);
            return Progress::all(data);
        }
        Progress { consumed, wanted: 0 }
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

/// Says why, and closes. The refusal has a place in the queue that answers cannot take.
fn refuse(io: &mut Connections, conn: ConnId) {
    let text = format!("error: a line may have at most {LINE_BYTES_MAX} bytes\n");
    let _ = io.send(conn, &mut Outgoing::to_one(text.as_bytes()), Lane::Control);
    io.close(conn);
}

fn main() -> ExitCode {
    // The log goes to standard error; standard output says one thing, where the server listens.
    let _ = simplelog::WriteLogger::init(log::LevelFilter::Info, simplelog::Config::default(), std::io::stderr());
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| ADDRESS.to_owned());
    let (Ok(address), None) = (address.parse::<SocketAddr>(), arguments.next()) else {
        eprintln!("usage: line_echo [ADDRESS:PORT], by default {ADDRESS}");
        return ExitCode::from(2);
    };
    match serve(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("line_echo: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: SocketAddr) -> std::io::Result<()> {
    let limits = Limits { connections_max: 10_000, ..Limits::default() };
    let mut reactor = Reactor::new::<LineEcho>(limits)?;
    let endpoint = reactor.listen(&Endpoint::Tcp(address), SocketOptions::default())?;
    // Nobody may be reading that line; the server runs all the same.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {endpoint}").and_then(|()| out.flush());
    reactor.run(&mut LineEcho::default())
}
