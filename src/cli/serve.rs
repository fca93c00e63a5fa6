//! `switchboard serve`: runs a relay.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};

use clap::Args;
use log::{LevelFilter, info};
use simplelog::{ConfigBuilder, WriteLogger};

use super::Trouble;
use super::log_sink::LogSink;
use crate::config::Settings;
use crate::server::{Ended, Server, reachable};

/// Run a relay. Without arguments it listens on 127.0.0.1:9999
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let settings = arguments.settings;
    settings.validate().map_err(Trouble::Usage)?;
    start_log(&settings)?;
    let mut server = Server::bind(&settings).map_err(Trouble::system)?;
    announce(&server);
    match server.run() {
        Ok(Ended::Drained) => Ok(()),
        Ok(Ended::Interrupted(signal)) => {
            Err(Trouble::System(format!("signal {signal} came twice: ended without waiting for what was queued")))
        }
        Err(error) => Err(Trouble::System(format!("the poll has failed: {error}"))),
    }
}

/// Says where the relay can be reached, one line each on standard output, the first as soon as it listens.
fn announce(server: &Server) {
    let mut lines = String::new();
    for endpoint in server.endpoints() {
        for one in reachable(endpoint) {
            let local = if one.is_local { " (from this machine only)" } else { "" };
            let _ = writeln!(lines, "listening on {}{local}", one.address);
        }
    }
    let _ = writeln!(lines, "ready for {} connections", server.connections_max());
    // Whoever started the relay may not care to read this, and it serves all the same.
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    info!("{}", lines.trim_end().replace('\n', ", "));
}

fn start_log(settings: &Settings) -> Result<(), Trouble> {
    let level = match settings.log_level {
        LevelFilter::Off | LevelFilter::Error | LevelFilter::Warn if settings.log_frames => LevelFilter::Info,
        level => level,
    };
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let started = match &settings.log_file {
        None => WriteLogger::init(level, config, LogSink::new(io::stderr())),
        Some(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Trouble::System(format!("cannot write --log-file {}: {error}", path.display())))?;
            WriteLogger::init(level, config, LogSink::new(file))
        }
    };
    // Only a program that uses this as a library can have a logger already; then that one counts.
    let _ = started;
    Ok(())
}
