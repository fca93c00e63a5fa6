//! What the commands write: lines that a broken pipe cannot turn into a panic, and strangers' bytes that
//! cannot move a terminal's cursor.

use std::fmt::Write as _;
use std::io::{self, Write};

pub(super) use crate::harmless::one_line;
use crate::harmless::push_harmless;
use crate::wire::kind;

/// How many bytes of a payload that is no text are shown.
const PREVIEW_BYTES: usize = 16;

/// Writes a line to standard error, whoever reads it or not. Much of what is complained of is in a relay's words.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", one_line(line));
}

/// The text of a payload, if its kind says so and it is UTF-8.
pub(super) fn payload_text(payload_kind: u16, payload: &[u8]) -> Option<&str> {
    if matches!(payload_kind, kind::TEXT | kind::JSON) { std::str::from_utf8(payload).ok() } else { None }
}

/// Strangers' text in one line as [`one_line`] shows it, with the backslash escaped as well, so that a program can tell an escape from what was sent.
pub(super) fn unambiguous_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' { shown.push_str("\\\\") } else { push_harmless(&mut shown, c) }
    }
    shown
}

/// Strangers' text in as many lines as it has, the later ones behind `indent`.
pub(super) fn lines(text: &str, indent: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, line) in text.trim_end_matches(['\n', '\r']).split('\n').enumerate() {
        if number > 0 {
            shown.push('\n');
            shown.push_str(indent);
        }
        for c in line.trim_end_matches('\r').chars() {
            if c == '\t' { shown.push_str("    ") } else { push_harmless(&mut shown, c) }
        }
    }
    shown
}

/// `1 line`, `2 lines`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A payload that is no text: its size and its first bytes, as `1500 bytes: 00 01 02 ...`.
pub(super) fn preview(payload: &[u8]) -> String {
    let mut shown = counted(payload.len() as u64, "byte");
    for (number, byte) in payload.iter().take(PREVIEW_BYTES).enumerate() {
        let _ = write!(shown, "{} {byte:02x}", if number == 0 { ":" } else { "" });
    }
    if payload.len() > PREVIEW_BYTES {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_cannot_steer_a_terminal() {
        let evil = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\r\u{7}\u{2028}";
        for shown in [one_line(evil), lines(evil, "")] {
            assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{shown:?}");
        }
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
        assert_eq!(unambiguous_line("a\nb\\n"), "a\\nb\\\\n");
        assert_eq!(one_line("grüße 日本"), "grüße 日本");
    }

    #[test]
    fn several_lines_stay_several_lines_behind_their_indent() {
        assert_eq!(lines("a\r\nb\tc\n\n", "  "), "a\n  b    c");
    }

    #[test]
    fn bytes_are_shown_as_their_size_and_a_beginning() {
        assert_eq!(preview(b""), "0 bytes");
        assert_eq!(preview(&[1]), "1 byte: 01");
        assert_eq!(preview(&[0xab; 17]), format!("17 bytes:{} ...", " ab".repeat(16)));
    }
}
