//! Strangers' words on a terminal: whatever could move a cursor, turn the writing direction or end a line stands
//! as an escape.

use std::fmt::Write;

/// Strangers' text in one line: whatever could move a cursor, turn the writing direction or end the line
/// stands as an escape.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push_harmless(&mut shown, c);
    }
    shown
}

/// Appends a character of a stranger's text, or its escape.
pub fn push_harmless(shown: &mut String, c: char) {
    let reorders =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}');
    match c {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        // Line and paragraph separators are no control characters, yet some programs end a line there.
        _ if c.is_control() || reorders || matches!(c, '\u{2028}' | '\u{2029}') => {
            let _ = write!(shown, "{}", c.escape_unicode());
        }
        _ => shown.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_outside_cannot_steer_a_terminal() {
        let shown = one_line("a\u{1b}[2J\u{9b}1m\u{202e}b\r\n\u{2028}ü");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{shown:?}");
        assert!(shown.ends_with('ü'));
    }
}
