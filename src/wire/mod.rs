//! The wire, version 1: bytes to frames and control bodies, and back.
//!
//! Place in the flow: the server hands a slice of received bytes to [`next_run`], which finds whole
//! frames in place, stamps their source and returns them without a copy. Everything that the relay or
//! a client says of its own is written by [`control`] into a buffer that the caller owns.
//!
//! What it does not do: it knows no socket, no clock and no relay, and it keeps no state between calls.
//! `docs/PROTOCOL.md` is the specification; a test keeps it and these constants in step.
//!
//! ```text
//!  0        4    5     6        8             12             20            28
//!  | length | type | flags | kind | correlation | destination | source     | payload ...
//!    u32      u8     u8      u16    u32           u64           u64          length - 24 bytes
//! ```

pub mod body;
mod code;
pub mod control;
mod decode;
mod dump;
mod header;
mod id;
mod numbered;

pub use body::{BodyError, Tag};
pub use code::Code;
pub use decode::{FrameError, Frames, Next, Run, next_run};
pub use dump::dump;
pub use header::{APPLICATION_TYPE_MIN, Flags, Header, Type, is_routed, kind};
pub use id::{Id, IdKind};

/// The one version of the wire that this crate speaks.
pub const VERSION: u8 = 1;
/// The first four payload bytes of a HELLO.
pub const MAGIC: [u8; 4] = *b"SWBD";
/// The port that `switchboard serve` listens on and that clients try when none is named.
pub const PORT: u16 = 9999;

/// Bytes of the length field, which does not count itself.
pub const LENGTH_BYTES: usize = 4;
/// Bytes from the start of a frame to its payload.
pub const HEADER_BYTES: usize = 28;
/// The smallest value that a length field may hold: a header without its length field.
pub const LENGTH_MIN: u32 = (HEADER_BYTES - LENGTH_BYTES) as u32;

/// The largest payload, in bytes, where the two sides have agreed on nothing else.
pub const PAYLOAD_BYTES_DEFAULT: u32 = 64 * 1024;
/// The largest payload that any configuration may allow. A frame has to fit a queue and a read buffer.
pub const PAYLOAD_BYTES_CEILING: u32 = 16 * 1024 * 1024;
/// The smallest limit on payloads that a client can have agreed, in bytes; a HELLO that asks for less gets
/// this. The relay's own frames never have more: a record of a client with all its texts at their limits
/// fits, and a SNAPSHOT or a DELTA of many becomes several frames.
pub const PAYLOAD_BYTES_FLOOR: u32 = 4 * 1024;
/// The largest HELLO payload: room for all its texts at their limits, and too small to be worth an attack.
pub const HELLO_BYTES_MAX: u32 = 4 * 1024;

/// The longest name of a client or a room, in bytes of UTF-8. A name is printed in one line of a log.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest station, agent, mechanism, address or explanation, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 256;
/// The longest endpoint (`host:port` or a path), in bytes of UTF-8.
pub const ENDPOINT_BYTES_MAX: usize = 128;
/// The most endpoints that one client may announce for direct contact.
pub const ENDPOINTS_MAX: usize = 8;
/// The largest details that a client may attach to its presence, in bytes.
pub const DETAILS_BYTES_MAX: usize = 1024;
/// The largest part of an exchange that authenticates, in bytes: nonces, a salt and a proof take 200, and a HELLO with
/// everything at its limit must stay below its own.
pub const AUTH_DATA_BYTES_MAX: usize = 1024;
/// The most mechanisms that an ERROR lists.
pub const MECHANISMS_MAX: usize = 8;
/// The most recipients of one SEND_MANY: the list itself then stays at 8 KiB.
pub const RECIPIENTS_MAX: usize = 1024;

// A HELLO with every field at its limit is not over the limit of HELLOs.
const _: () = {
    let texts = NAME_BYTES_MAX + 3 * TEXT_BYTES_MAX + ENDPOINTS_MAX * ENDPOINT_BYTES_MAX;
    let bytes = DETAILS_BYTES_MAX + AUTH_DATA_BYTES_MAX;
    let (fields, integers) = (8 + ENDPOINTS_MAX, 2 * 8);
    assert!(8 + 4 * fields + integers + texts + bytes <= HELLO_BYTES_MAX as usize);
};

/// Whether `name` may name a client, a room or a user: 1 to [`NAME_BYTES_MAX`] bytes, nothing that moves a
/// terminal's cursor or turns its writing direction, no space at either end.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let reorders = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.trim() == name
        && !name.chars().any(|c| c.is_control() || reorders(c))
}

#[cfg(test)]
mod tests {
    use super::is_valid_name;

    #[test]
    fn names_that_could_garble_a_terminal_are_not_valid() {
        for good in ["a", "Ada Lovelace", "тест", "日本", &"x".repeat(64)] {
            assert!(is_valid_name(good), "{good:?}");
        }
        for bad in ["", " a", "a ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(65)] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }
}
