//! What `join` says in plain words. Pure: values in, text out, nothing in it that could steer a terminal.

use std::fmt::{self, Write as _};

use super::super::output;
use super::command::Target;
use crate::client::{Directory, Failure, Happening, JoinedRoom, Message, Peer, Pong, ReceiptFor};
use crate::wire::{Code, Id, IdKind, Type};

/// How many names are listed at once: a screenful, where thousands may be here.
const NAMES_LISTED_MAX: usize = 40;
/// The longest prompt, in characters: the line that is typed needs the room more.
const PROMPT_CHARS_MAX: usize = 24;

pub(super) fn prompt(target: &Target) -> String {
    let target = output::one_line(&target.to_string());
    if target.chars().count() <= PROMPT_CHARS_MAX {
        return format!("{target}> ");
    }
    let cut: String = target.chars().take(PROMPT_CHARS_MAX - 2).collect();
    format!("{cut}..> ")
}

/// `bob: hello`, with `-> you` or the room where it was not for all.
pub(super) fn message(from: &str, message: &Message, room: Option<&str>) -> String {
    let header = &message.header;
    let to = match (header.destination.kind(), room) {
        (IdKind::All, _) => String::new(),
        (IdKind::Room, Some(room)) => format!(" #{}", output::one_line(room)),
        (IdKind::Room, None) => " (in a room)".into(),
        (IdKind::Many, _) => " -> you and others".into(),
        _ => " -> you".into(),
    };
    let text = match (header.frame_type(), output::payload_text(header.kind, &message.payload)) {
        (Some(Type::Send), Some(text)) => output::lines(text, "    "),
        (Some(Type::Send), None) => format!("[{}]", output::preview(&message.payload)),
        (Some(other), _) => format!("[{other}, {}]", output::preview(&message.payload)),
        (None, _) => format!("[type {:#04x}, {}]", header.type_number, output::preview(&message.payload)),
    };
    format!("{from}{to}: {text}")
}

/// What a change means to a person; nothing where it is about oneself or about details.
pub(super) fn happening(happening: &Happening<'_>, me: Option<Id>) -> Option<String> {
    match happening {
        Happening::Arrived(peer) if Some(peer.id) != me => Some(format!("+ {} is here", introduced(peer))),
        Happening::Changed { before, now } if Some(now.id) != me => match before {
            Some(before) if before.name != now.name => {
                Some(format!("* {} is now called {}", output::one_line(&before.name), output::one_line(&now.name)))
            }
            Some(before) if before.station != now.station => Some(format!("* {} has moved", introduced(now))),
            _ => None,
        },
        Happening::Departed { peer, code_number } if Some(peer.id) != me => {
            Some(format!("- {} has left: {}", output::one_line(&peer.name), departure(*code_number)))
        }
        _ => None,
    }
}

fn departure(code_number: u16) -> String {
    let words = match Code::from_number(code_number) {
        Some(Code::Left) => "said goodbye",
        Some(Code::HungUp) => "closed the connection",
        Some(Code::Reset) => "the connection failed",
        Some(Code::IdleTimeout) => "was not heard any more",
        Some(Code::SlowConsumer) => "did not read what was sent",
        Some(code) => return code.name().to_owned(),
        None => return format!("reason {code_number}"),
    };
    words.to_owned()
}

/// Whom a failure concerns and what it means, with the code for those who look it up.
pub(super) fn failure(failure: &Failure, recipient: Option<&str>) -> String {
    let who = recipient.unwrap_or("the recipient");
    let words = match failure.code() {
        Some(Code::QueueFull) => format!("{who} did not get it: too much is waiting for them already; try again later"),
        Some(Code::NoSuchClient) => format!("{who} did not get it: not here any more"),
        Some(Code::RecipientLost) => format!("{who} left before it arrived"),
        Some(Code::TooLargeForRecipient) => format!("{who} did not get it: they do not take messages this long"),
        Some(Code::NotMember) => "not sent: you are not in that room".to_owned(),
        _ => match recipient {
            Some(who) => return format!("* {who} did not get it: {}", reason(failure)),
            None => return format!("* the relay refused: {}", reason(failure)),
        },
    };
    format!("* {words} ({})", failure.code().map_or("?", Code::name))
}

/// Why something ended or failed, of which the relay's words may be a part.
pub(super) fn reason(why: impl fmt::Display) -> String {
    output::one_line(&why.to_string())
}

/// What is worth saying of the receipt of a line to a room or to all: nothing when everybody has it.
pub(super) fn receipt(receipt: &ReceiptFor) -> Option<String> {
    match (receipt.recipients, receipt.skipped) {
        (recipients, Some(skipped)) if skipped > 0 => {
            let all = recipients.unwrap_or(0).saturating_add(skipped);
            Some(format!(
                "* {skipped} of {all} did not get it: too much is waiting for them, or it is too long for them"
            ))
        }
        (Some(0), _) => Some("* nobody else was there to get it".into()),
        _ => None,
    }
}

/// That one is in a room now, and with how many; `is_target` if lines go there.
pub(super) fn joined(joined: &JoinedRoom, is_target: bool) -> String {
    let name = output::one_line(&joined.name);
    let with = match joined.members.saturating_sub(1) {
        0 => "nobody else".to_owned(),
        1 => "1 other".to_owned(),
        others => format!("{others} others"),
    };
    let how = if is_target { "what you type goes there".to_owned() } else { format!("/to #{name} talks to them") };
    format!("* you are in #{name}, with {with}; {how}")
}

pub(super) fn pong(name: &str, pong: &Pong) -> String {
    let round_trip = pong.round_trip.map_or_else(
        || "an answer without its time".to_owned(),
        |time| format!("round trip {:.3} ms", time.as_secs_f64() * 1e3),
    );
    let sign = |offset: i64| if offset < 0 { '-' } else { '+' };
    let offset = pong.clock_offset_us.map_or_else(String::new, |offset| {
        let whole = offset.unsigned_abs();
        format!(", clock offset {}{}.{:06} s", sign(offset), whole / 1_000_000, whole % 1_000_000)
    });
    format!("* {}: {round_trip}{offset}", output::one_line(name))
}

/// Where one is, as whom, and who else is there. The relay's word for the user is told where it asks for one.
pub(super) fn introduction(address: &str, name: &str, user: Option<&str>, directory: &Directory) -> String {
    let mut others: Vec<&Peer> = directory.iter().filter(|peer| peer.name != name).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    let user = user.map_or_else(String::new, |user| format!(", authenticated as {}", output::one_line(user)));
    let head = format!("* connected to {address} as {name}{user}; ");
    if directory.is_denied() {
        return head + "who else is here you may not know, but you can write to a name that you know";
    }
    if others.is_empty() {
        return head + "nobody else is here";
    }
    let names: Vec<String> = others.iter().take(NAMES_LISTED_MAX).map(|peer| output::one_line(&peer.name)).collect();
    let rest = others.len() - names.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{head}here: {}{more}", names.join(", "))
}

/// A line for each client, in the order of their names.
pub(super) fn who(place: &str, mut peers: Vec<&Peer>) -> String {
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!("* {} {place}", peers.len());
    for peer in peers.iter().take(NAMES_LISTED_MAX) {
        text.push_str("\n    ");
        text.push_str(&introduced(peer));
        if !peer.address.is_empty() {
            text.push_str(", from ");
            text.push_str(&output::one_line(&peer.address));
        }
    }
    if peers.len() > NAMES_LISTED_MAX {
        let _ = write!(text, "\n    and {} more", peers.len() - NAMES_LISTED_MAX);
    }
    text
}

fn introduced(peer: &Peer) -> String {
    let name = output::one_line(&peer.name);
    if peer.station.is_empty() { name } else { format!("{name} ({})", output::one_line(&peer.station)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::wire::{Header, kind};

    fn arriving(kind: u16, to: Id, payload: &'static [u8]) -> Message {
        let header = Header { kind, ..Header::new(Type::Send).to(to) };
        Message { header, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn a_room_is_entered_with_as_many_others_as_are_in_it() {
        for (members, with) in [(1, "nobody else"), (2, "1 other"), (3, "2 others")] {
            let room = JoinedRoom { correlation: 1, room: Id::room(1, 1), name: "tea".into(), members };
            assert_eq!(joined(&room, false), format!("* you are in #tea, with {with}; /to #tea talks to them"));
            assert_eq!(joined(&room, true), format!("* you are in #tea, with {with}; what you type goes there"));
        }
    }

    #[test]
    fn one_is_introduced_with_the_user_where_the_relay_asks_for_one() {
        let nobody = Directory::default();
        assert_eq!(introduction("h:1", "ada", None, &nobody), "* connected to h:1 as ada; nobody else is here");
        assert_eq!(
            introduction("h:1", "ada/desk", Some("ada"), &nobody),
            "* connected to h:1 as ada/desk, authenticated as ada; nobody else is here"
        );
    }

    #[test]
    fn a_message_says_whom_it_was_for_and_never_steers_the_terminal() {
        let me = Id::client(1, 1);
        assert_eq!(message("bob", &arriving(kind::TEXT, me, b"hi"), None), "bob -> you: hi");
        assert_eq!(message("bob", &arriving(kind::TEXT, Id::ALL, b"a\nb"), None), "bob: a\n    b");
        assert_eq!(message("bob", &arriving(kind::TEXT, Id::MANY, b"hi"), None), "bob -> you and others: hi");
        assert_eq!(message("bob", &arriving(kind::TEXT, Id::room(1, 1), b"hi"), Some("x")), "bob #x: hi");
        assert_eq!(message("bob", &arriving(kind::BYTES, Id::ALL, b"\x1b["), None), "bob: [2 bytes: 1b 5b]");
        assert_eq!(message("bob", &arriving(kind::TEXT, Id::ALL, b"\xff"), None), "bob: [1 byte: ff]");
        assert_eq!(message("bob", &arriving(kind::TEXT, Id::ALL, b"\x1b[2J"), None), "bob: \\u{1b}[2J");
    }

    #[test]
    fn a_failure_names_the_recipient_and_the_code() {
        let of = |code: Code| Failure { code_number: code.number(), text: "x".into(), ..Failure::default() };
        assert_eq!(failure(&of(Code::RecipientLost), Some("bob")), "* bob left before it arrived (RECIPIENT_LOST)");
        assert!(failure(&of(Code::QueueFull), Some("bob")).contains("bob did not get it"));
        assert_eq!(failure(&of(Code::Busy), None), "* the relay refused: x (BUSY)");
        let turned = Failure { text: "\u{202e}x".into(), ..of(Code::Busy) };
        assert_eq!(failure(&turned, None), "* the relay refused: \\u{202e}x (BUSY)");
    }

    #[test]
    fn a_pong_is_told_in_milliseconds_and_signed_seconds() {
        let answer = Pong {
            from: Id::RELAY,
            correlation: 1,
            round_trip: Some(Duration::from_micros(1234)),
            clock_offset_us: Some(-1_500_000),
        };
        assert_eq!(pong("bob", &answer), "* bob: round trip 1.234 ms, clock offset -1.500000 s");
    }

    #[test]
    fn a_long_target_leaves_room_to_type() {
        assert_eq!(prompt(&Target::All), "all> ");
        assert_eq!(prompt(&Target::Peers(vec!["x".repeat(64)])), format!("{}..> ", "x".repeat(22)));
    }
}
