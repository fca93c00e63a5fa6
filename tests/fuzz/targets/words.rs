//! Words of people and of strangers: addresses, names, the lines that are typed in `join`, and text that is shown.

use switchboard::client::Address;

use super::steers_a_terminal;

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    check_address(&text);
    super::cli::join::check_line(&text);
    super::cli::check_shown(&text);
    super::bodies::check_name(&text);
    super::cli::check_preview(input);
}

/// What is an address is printed as it is read; what is none is told so in a line.
fn check_address(text: &str) {
    match text.parse::<Address>() {
        Ok(address) => {
            assert_eq!(address.to_string().parse(), Ok(address.clone()), "{text:?} is read as {address:?}");
            if let Address::Tcp { host, port } = address {
                assert!(!host.is_empty() && port != 0);
                assert!(!host.chars().any(|c| c.is_whitespace() || c.is_control()), "{host:?}");
            }
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.chars().any(steers_a_terminal), "{line:?}");
        }
    }
}
