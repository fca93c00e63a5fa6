//! What is fuzzed: each file is one target, a function of bytes that panics if a promise is broken.

pub(crate) mod bodies;
pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod decoder;
pub(crate) mod login;
pub(crate) mod proxy;
pub(crate) mod reactor;
pub(crate) mod records;
pub(crate) mod relay;
pub(crate) mod scram;
pub(crate) mod settings;
#[path = "../../reactor/support.rs"]
#[allow(dead_code, reason = "the reactor's own tests use more of it")]
mod support;
pub(crate) mod tls;
pub(crate) mod users;
pub(crate) mod words;

/// What must not reach a terminal out of somebody else's words: control characters, ends of lines and what turns
/// the direction of writing. Written down once more, so that a character that the code forgets is noticed.
pub(crate) fn steers_a_terminal(c: char) -> bool {
    let turns = ['\u{200e}', '\u{200f}', '\u{061c}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c) || turns || c == '\u{2028}' || c == '\u{2029}'
}
