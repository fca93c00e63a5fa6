//! `docs/COUNTERS.md` explains each counter that the log shows, and names no flag that is not there.

use switchboard::auth::Mechanism;
use switchboard::reactor::{Refusal, TlsFault};
use switchboard::relay::Denial;
use switchboard::server::BEFORE_THE_RELAY;
use switchboard::wire::Code;

const DOCUMENT: &str = include_str!("../docs/COUNTERS.md");

#[test]
fn each_name_in_a_table_of_counters_is_explained() {
    let mut names: Vec<String> = Denial::ALL.map(|denial| denial.name().to_owned()).to_vec();
    names.extend(Refusal::ALL.map(|why| why.to_string()));
    names.extend(TlsFault::ALL.map(|fault| fault.to_string()));
    names.extend(BEFORE_THE_RELAY.map(|reason| reason.to_string()));
    for name in names {
        assert!(DOCUMENT.contains(&format!("\n| {name} | ")), "no row explains {name:?}");
    }
    for mechanism in Mechanism::ALL {
        assert!(DOCUMENT.contains(&format!("`{}`", mechanism.name())), "{}", mechanism.name());
    }
}

#[test]
fn each_flag_in_it_is_one_of_serve() {
    let command = switchboard::cli::command();
    let serve = command.get_subcommands().find(|command| command.get_name() == "serve").expect("there is a relay");
    let flags: Vec<&str> = serve.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let named = DOCUMENT.split("`--").skip(1).filter_map(|rest| rest.split(['`', ' ']).next());
    let mut count = 0;
    for flag in named {
        assert!(flags.contains(&flag), "serve has no --{flag}");
        count += 1;
    }
    assert!(count > 10, "{count} flags are named");
}

#[test]
fn each_code_of_the_protocol_is_explained() {
    for code in Code::ALL {
        assert!(DOCUMENT.contains(&format!("\n| {} | ", code.name())), "no row explains {}", code.name());
    }
}
