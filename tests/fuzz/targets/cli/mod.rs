//! Pure parts of the commands, which nobody outside of them may use: taken in as they stand. What they name by
//! `crate::` is the library's.

#![allow(dead_code, reason = "the commands use more of them")]

pub(crate) mod join;
#[path = "../../../../src/cli/output.rs"]
pub(crate) mod output;

use switchboard::harmless;

use super::steers_a_terminal;

/// Whatever is shown steers no terminal, and one of the ways to show it can be undone.
pub(crate) fn check_shown(text: &str) {
    let line = harmless::one_line(text);
    assert!(!line.chars().any(steers_a_terminal), "{line:?}");
    assert_eq!(harmless::one_line(&line), line, "what is harmless stays as it is");
    let lines = output::lines(text, "  ");
    assert!(!lines.chars().any(|c| c != '\n' && steers_a_terminal(c)), "{lines:?}");
    assert!(lines.lines().skip(1).all(|line| line.starts_with("  ")), "{lines:?}");
    let line = output::unambiguous_line(text);
    assert!(!line.chars().any(steers_a_terminal), "{line:?}");
    assert_eq!(undone(&line), text);
}

/// The text that `listen` has shown, as a program reads it.
fn undone(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        text.push(match (c, c == '\\') {
            (c, false) => c,
            (_, true) => match rest.next().expect("an escape") {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '\\' => '\\',
                'u' => {
                    let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).expect("a character")
                }
                other => panic!("{line:?} escapes {other:?}"),
            },
        });
    }
    text
}

/// A payload that is no text is shown by its size and a few bytes.
pub(crate) fn check_preview(payload: &[u8]) {
    let shown = output::preview(payload);
    assert!(shown.is_ascii() && shown.starts_with(&payload.len().to_string()) && shown.len() < 100, "{shown}");
}
