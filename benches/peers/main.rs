//! The same work on one server after the other: the byte floor, switchboard, and the message servers that are
//! installed. `cargo bench --bench peers -- --help` says what can be chosen.
//!
//! A server has one core and the load another. The byte floor is this very program, started again with a hidden
//! command. Nothing here measures: that is the load generator's business, `switchboard::bench`.

mod cipher;
mod dialects;
mod floor;
mod rounds;
mod rows;
mod servers;
mod tls_rows;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use socket2::{Domain, Socket, Type};
use switchboard::bench::comparison::Comparison;
use switchboard::bench::{Keys, Stop, page};
use switchboard::descriptors::{RESERVED_DESCRIPTORS, raise_descriptor_limit};

use rounds::Plan;
use rows::Over;
use servers::Kind;

/// The most that Linux allows by default, as for all servers.
const BACKLOG: i32 = 4096;

/// Runs the same work on the byte floor, switchboard, and the message servers that are installed
#[derive(Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Hidden>,
    /// Rounds: in each, every server does each work once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each is measured
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these runs: names, or beginnings of names
    #[arg(long, value_delimiter = ',', value_name = "RUN,...")]
    only: Vec<String>,
    /// Only these servers
    #[arg(long, value_delimiter = ',', value_name = "SERVER,...")]
    servers: Vec<Kind>,
    /// A smoke run: few clients, little time, one round; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Where the figures go as JSON [default: target/peers.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where they go as a page [default: target/peers.html]; beside it the table as Markdown and the chart as SVG
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Says that cargo runs it: cargo bench does
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Hidden {
    /// Be the byte floor
    #[command(hide = true)]
    Floor,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Hidden::Floor) => be_the_floor().map_err(|error| format!("the floor: {error}")).map(|()| true),
        None => compare(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(line) => {
            eprintln!("peers: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Listens, says where, and relays until the process that started it ends it.
fn be_the_floor() -> io::Result<()> {
    let _ = raise_descriptor_limit();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = mio::net::TcpListener::from_std(socket.into());
    let mut out = io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    floor::serve(listener)
}

/// Says whether nothing failed.
fn compare(arguments: &Arguments) -> Result<bool, String> {
    let plan = plan(arguments)?;
    check_descriptors(&plan)?;
    let stop = Stop::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.flag())
            .map_err(|error| format!("the system takes no signal handler: {error}"))?;
    }
    eprintln!("this takes about {} s", rounds::expected(&plan).as_secs());
    let title = if plan.judged { "The same work on each server" } else { "A smoke run: its figures mean nothing" };
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut comparison = Comparison {
        title: title.to_owned(),
        machine: machine(),
        date: now.split('T').next().unwrap_or_default().to_owned(),
        command: command(),
        ..Comparison::default()
    };
    let failures = rounds::run_all(&plan, &stop, &mut comparison);
    write(arguments, &comparison)?;
    for line in &failures {
        eprintln!("failed: {line}");
    }
    Ok(failures.is_empty())
}

/// Whether this process, and a server with as many, may have the files that the clients need.
fn check_descriptors(plan: &Plan) -> Result<(), String> {
    let clients = plan.runs.iter().map(|run| run.work.clients()).max().unwrap_or(0) as usize;
    let (needed, granted) = (clients + RESERVED_DESCRIPTORS, raise_descriptor_limit());
    if needed > granted {
        return Err(format!(
            "{clients} clients need {needed} open files, and the system grants {granted}: raise the hard limit \
             (ulimit -Hn), or choose other runs with --only"
        ));
    }
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<Plan, String> {
    let seconds = Duration::try_from_secs_f64(arguments.seconds).ok().filter(|time| !time.is_zero());
    let time = seconds.ok_or_else(|| format!("--seconds {}: it takes a while to measure", arguments.seconds))?;
    let mut runs = rows::runs(time);
    let names = runs.iter().map(|run| run.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = arguments.only.iter().find(|only| !runs.iter().any(|run| run.name.starts_with(*only))) {
        return Err(format!("--only {unknown}: there are {names}"));
    }
    if !arguments.only.is_empty() {
        runs.retain(|run| arguments.only.iter().any(|only| run.name.starts_with(only)));
    }
    if arguments.quick {
        rows::quick(&mut runs);
    }
    let chosen = |kind: &Kind| arguments.servers.is_empty() || arguments.servers.contains(kind);
    let is_needed = |kind: &Kind| runs.iter().any(|run| run.servers.contains(kind));
    let servers = Kind::ALL.into_iter().filter(|kind| chosen(kind) && is_needed(kind)).collect();
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let keys = runs.iter().any(|run| run.over != Over::Plain).then(Keys::make).transpose()?;
    Ok(Plan { runs, servers, rounds, keys, judged: !arguments.quick })
}

/// Writes it for people to standard output, and the files.
fn write(arguments: &Arguments, comparison: &Comparison) -> Result<(), String> {
    let mut out = io::stdout();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Nobody may be reading: the files are written all the same.
    let _ = comparison.write_text(&mut out, colour).and_then(|()| out.flush());
    // The build's own folder is next to the one for temporary files.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
    let json = arguments.json.clone().unwrap_or_else(|| target.join("peers.json"));
    let html = arguments.html.clone().unwrap_or_else(|| target.join("peers.html"));
    write_file(&json, |out| comparison.write_json(out))?;
    write_file(&html, |out| page::comparison(comparison, out))?;
    write_file(&html.with_extension("md"), |out| comparison.write_markdown(out))?;
    if let Some(chart) = comparison.chart().map_err(|error| format!("the chart cannot be drawn: {error}"))? {
        write_file(&html.with_extension("svg"), |out| out.write_all(chart.as_bytes()))?;
    }
    Ok(())
}

/// Says where it wrote.
fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
    let written = File::create(path).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()
    });
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}

/// The processor and the system, in words.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        line.split_once(':').map(|(_, name)| name.trim().to_owned())
    });
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let release = release.split('-').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = processor.unwrap_or_else(|| "an unknown processor".to_owned());
    format!("{cores} cores of {processor}, {} {release}", system.sysname().to_string_lossy())
}

/// The command that repeats it.
fn command() -> String {
    let mut command = "cargo bench --bench peers".to_owned();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if !arguments.is_empty() {
        command.push_str(" -- ");
        command.push_str(&arguments.join(" "));
    }
    command
}
