//! The command line: arguments to validated settings to a call, and an outcome to an exit code.
//!
//! There is a file for each subcommand. Exit codes: 0 done (also when whoever reads the output has had
//! enough), 1 the system or the relay said no, 2 the arguments make no sense.
//!
//! What it does not do: no subcommand knows the insides of another, or of the relay.

mod bench;
mod cert;
mod join;
mod link;
mod listen;
mod log_sink;
mod login;
mod output;
mod passwd;
mod secret;
mod send;
mod serve;
mod signals;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Command, CommandFactory, Parser};

use crate::client::Address;
use crate::wire::is_valid_name;

/// The environment variable that names the relay where no argument does.
const ADDRESS_VARIABLE: &str = "SWITCHBOARD_ADDR";

/// What is longer is a slip, and could end beyond what a clock can say.
const TIME_MAX: Duration = Duration::from_hours(8766);

/// A lightweight message relay, and its clients.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, arg_required_else_help = true, max_term_width = 100)]
enum Cli {
    Serve(Box<serve::Arguments>),
    Join(join::Arguments),
    Send(send::Arguments),
    Listen(listen::Arguments),
    Cert(cert::Arguments),
    Bench(bench::Arguments),
    Passwd(passwd::Arguments),
}

/// Why a command ended other than as it should.
#[derive(Debug)]
enum Trouble {
    /// The arguments make no sense: exit code 2.
    Usage(String),
    /// The system or the relay said no: exit code 1.
    System(String),
    /// Whoever read the output has had enough: exit code 0.
    BrokenPipe,
}

/// Every failure to write is the reader's end of the pipe or a fault of the system.
impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::System(format!("cannot write the output: {error}")),
        }
    }
}

impl Trouble {
    fn system(what: impl fmt::Display) -> Self {
        Self::System(what.to_string())
    }
}

/// The command line as its parser sees it: for completions and manuals, and for tests.
#[must_use]
pub fn command() -> Command {
    Cli::command()
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    let done = match cli {
        Cli::Serve(arguments) => serve::run(*arguments),
        Cli::Join(arguments) => join::run(arguments),
        Cli::Send(arguments) => send::run(arguments),
        Cli::Listen(arguments) => listen::run(arguments),
        Cli::Cert(arguments) => cert::run(arguments),
        Cli::Bench(arguments) => bench::run(arguments),
        Cli::Passwd(arguments) => passwd::run(arguments),
    };
    match done {
        Ok(()) | Err(Trouble::BrokenPipe) => ExitCode::SUCCESS,
        Err(Trouble::System(line)) => failed(&line, 1),
        Err(Trouble::Usage(line)) => failed(&line, 2),
    }
}

fn failed(line: &str, code: u8) -> ExitCode {
    output::complain(&format!("switchboard: {line}"));
    ExitCode::from(code)
}

/// What the arguments come to that are no call: help that was asked for, or in one line what is wrong with them.
fn answer(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;

    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Help that nobody reads to its end is no fault.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => failed(&usage_line(&error.to_string()), 2),
    }
}

/// The parser's words about a mistake, which are paragraphs, in one line: all but the synopsis, which --help has too.
fn usage_line(words: &str) -> String {
    let lines = words.lines().map(str::trim);
    let told = lines.take_while(|line| !line.starts_with("Usage: ") && !line.starts_with("For more information"));
    let mut shown = String::new();
    let mut between = "";
    for line in told {
        if line.is_empty() {
            between = "; ";
        } else {
            shown.push_str(between);
            shown.push_str(line.strip_prefix("error: ").unwrap_or(line));
            between = " ";
        }
    }
    shown + " (--help has the rest)"
}

/// The relay's address as an argument.
fn parse_address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: crate::client::AddressError| error.to_string())
}

/// The name of a client or of a room as an argument: one that the relay knows nobody by is a slip of the script.
fn parse_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("the name is empty".to_owned()),
        name if is_valid_name(name) => Ok(name.to_owned()),
        _ => Err("a name has 1 to 64 bytes, no control characters, and no space at either end".to_owned()),
    }
}

/// A time in seconds, as an argument: positive, fractions allowed, and short enough to be added to a clock.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds, as 5 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && time <= TIME_MAX => Ok(time),
        _ => Err("the time must be above zero and at most a year".to_owned()),
    }
}

/// A name for a command that nobody is meant to write to: `what-PID-NNNN`, the last part by chance because
/// process numbers of two machines may meet.
fn passing_name(what: &str) -> String {
    format!("{what}-{}-{:04x}", std::process::id(), fastrand::u16(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent_in_themselves() {
        command().debug_assert();
    }

    #[test]
    fn whatever_is_wrong_with_the_arguments_is_said_in_one_line() {
        for (arguments, says) in [
            (&["serve", "--no-such"][..], "unexpected argument '--no-such' found (--help has the rest)"),
            (&["serve", "--user", "x"], "'--user' found; tip: a similar argument exists: '--users' (--help"),
            (&["serve", "--rate-excess", "x"], "'--rate-excess <WHAT>' [possible values: pause, close] (--help"),
            (&["serve", "--tls-client-required"], "were not provided: --tls-client-ca <PATH> (--help"),
            (&["serf"], "unrecognized subcommand 'serf'; tip: a similar subcommand exists: 'serve' (--help"),
            (&["serve", "--users"], "a value is required for '--users <PATH>' but none was supplied (--help"),
        ] {
            let all = ["switchboard"].iter().chain(arguments);
            let line = usage_line(&Cli::try_parse_from(all).expect_err("it makes no sense").to_string());
            assert!(line.contains(says) && !line.contains('\n') && !line.starts_with("error"), "{line}");
        }
    }

    #[test]
    fn a_time_is_a_positive_number_of_seconds() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_seconds("31557600"), Ok(TIME_MAX));
        for bad in ["", "0", "-1", "x", "inf", "NaN", "1e300", "1e19", "31557601"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passing_names_may_name_a_client() {
        assert!(is_valid_name(&passing_name("listen")));
    }
}
