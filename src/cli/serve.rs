//! `switchboard serve`: runs a relay.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use clap::Args;
use log::{LevelFilter, error, info};
use rustix::fs::OFlags;
use rustix::io::Errno;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::low_level::signal_name;
use simplelog::{ConfigBuilder, WriteLogger, format_description};

use super::Trouble;
use super::log_sink::{LogSink, Successor};
use crate::config::Settings;
use crate::server::{Ended, Server, reachable};

/// Run a relay. Without arguments it listens on 127.0.0.1:9999
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,

    /// End as soon as the process that started this one, and has this number, ends: for those who start a relay
    /// for their own use (Linux)
    #[arg(long, value_name = "PID", hide = true)]
    end_with_parent: Option<i32>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let settings = arguments.settings;
    settings.validate().map_err(Trouble::Usage)?;
    if let Some(parent) = arguments.end_with_parent {
        end_with(parent)?;
    }
    let log_file = start_log(&settings)?;
    let mut server = Server::bind(&settings).map_err(Trouble::system)?;
    announce(&server);
    let reopen = || {
        let (Some(path), Some(successor)) = (&settings.log_file, &log_file) else { return false };
        match open_log(path) {
            Ok(file) => {
                *successor.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
                info!("SIGHUP: the log file has been opened anew");
            }
            Err(error) => error!("SIGHUP: the log goes on as it was: {} cannot be opened: {error}", path.display()),
        }
        true
    };
    match server.run(reopen) {
        Ok(Ended::Drained) => Ok(()),
        Ok(Ended::Interrupted(signal)) => {
            let name = signal_name(signal).unwrap_or("a signal");
            Err(Trouble::System(format!("{name} came while saying goodbye: ended without waiting for what was queued")))
        }
        Err(error) => Err(Trouble::System(format!("the poll has failed: {error}"))),
    }
}

/// Has the system end this process with its parent, which is to be `parent`.
#[cfg(target_os = "linux")]
fn end_with(parent: i32) -> Result<(), Trouble> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Trouble::System(format!("cannot be made to end with its parent: {error}")))?;
    // It may have ended before that.
    if getppid().map(Pid::as_raw_pid) == Some(parent) {
        Ok(())
    } else {
        Err(Trouble::System(format!("process {parent}, which it was started for, has ended")))
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
const fn end_with(_parent: i32) -> Result<(), Trouble> {
    Ok(())
}

/// Says where the relay can be reached, one line each on standard output, the first as soon as it listens.
fn announce(server: &Server) {
    let mut lines = String::new();
    for listen in server.listening() {
        for one in reachable(listen) {
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

/// Starts the log; returns where to leave a file that was opened anew, if it goes to one.
fn start_log(settings: &Settings) -> Result<Option<Successor<File>>, Trouble> {
    let level = match settings.log_level {
        LevelFilter::Off | LevelFilter::Error | LevelFilter::Warn if settings.log_frames => LevelFilter::Info,
        level => level,
    };
    let config = ConfigBuilder::new()
        .set_time_format_custom(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        ))
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let mut successor = None;
    let started = match &settings.log_file {
        None => WriteLogger::init(level, config, LogSink::new(io::stderr())),
        Some(path) => {
            let file = open_log(path)
                .map_err(|error| Trouble::System(format!("cannot write --log-file {}: {error}", path.display())))?;
            let sink = LogSink::new(file);
            successor = Some(sink.successor());
            WriteLogger::init(level, config, sink)
        }
    };
    // A log that has reached the largest size that a file may have (ulimit -f) must not end the relay: with a handler
    // the write fails, and the line is counted like any other that was not taken.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    // Only a program that uses this as a library can have a logger already; then that one counts.
    let _ = started;
    Ok(successor)
}

fn open_log(path: &Path) -> io::Result<File> {
    // A named pipe that nobody reads must not make the relay wait until somebody does; files know no such wait.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().create(true).append(true).custom_flags(flags).open(path).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::NXIO) => io::Error::other("it is a named pipe that nobody reads, or a socket"),
            _ => error,
        }
    })
}
