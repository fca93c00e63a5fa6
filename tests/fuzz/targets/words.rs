//! Words of people and of strangers: addresses, names, the lines that are typed in `join`, and text that is shown.

use switchboard::client::Address;

use super::steers_a_terminal;

const SPECIAL: [char; 64] = [
    'a',
    'l',
    '1',
    '9',
    ':',
    '[',
    ']',
    '.',
    '/',
    '#',
    '"',
    ',',
    ' ',
    '\t',
    '\r',
    '\n',
    '\\',
    '{',
    '}',
    '@',
    '%',
    '-',
    '+',
    '\0',
    '\u{7}',
    '\u{8}',
    '\u{b}',
    '\u{1b}',
    '\u{7f}',
    '\u{80}',
    '\u{85}',
    '\u{9b}',
    '\u{9f}',
    '\u{a0}',
    '\u{ad}',
    '\u{61c}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{200e}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{3000}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{fffd}',
    '\u{1f600}',
    '\u{e0001}',
    '\u{10ffff}',
    'ü',
    '日',
    'ß',
    '٣',
];

pub(crate) fn run(input: &[u8]) {
    // Some are the bytes as they are, others are made of what is special to somebody, and a few have what leads to TLS
    // in front, which chance alone would hardly write.
    let text = match input {
        [1, rest @ ..] => format!("tls://{}", String::from_utf8_lossy(rest)).into(),
        [0, special @ ..] => special.iter().map(|byte| SPECIAL[usize::from(*byte) % SPECIAL.len()]).collect(),
        _ => String::from_utf8_lossy(input),
    };
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
            if let Address::Tcp { host, port } | Address::Tls { host, port } = address {
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
