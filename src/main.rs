//! The `switchboard` command; everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::cli::main()
}
