//! What a typed line means. Pure: text in, a command out.

use std::fmt;

/// The lines that `/help` shows.
pub(super) const HELP: &str = "\
a line            goes to the current target, which the prompt shows
//text            sends a line that begins with a slash
/to NAME[,NAME]   talk to one or several clients; quote names that have commas: /to \"a, b\",c
/to #ROOM         talk to a room you have joined
/to all           talk to everybody
/msg NAME text    say something to one client; quote names that have spaces: /msg \"Ada L\" hi
/who [#ROOM]      who is here, or in a room you have joined
/join ROOM        join a room, which is made if need be
/leave ROOM       leave it
/rooms            the rooms you have joined
/rename NEW       change your name
/ping [NAME]      round trip and clock offset of the relay, or of a client
/evict NAME [why] end somebody's connection, if you may; quote names that have spaces
/help             this
/quit             leave; a line `exit` or the end of input does as well";

/// Whom a line goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Everybody.
    All,
    /// A room, by its name.
    Room(String),
    /// Clients, by their names; at least one.
    Peers(Vec<String>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Room(name) => write!(f, "#{name}"),
            Self::Peers(names) => f.write_str(&names.join(", ")),
        }
    }
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Say(String),
    To(Target),
    Message { to: String, text: String },
    Who { room: Option<String> },
    Join(String),
    Leave(String),
    Rooms,
    Rename(String),
    Ping { to: Option<String> },
    Evict { name: String, why: String },
    Help,
    Quit,
}

/// Reads a line: `Ok(None)` for an empty one.
///
/// # Errors
/// What to write instead.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let line = line.trim_end();
    let Some(command) = line.strip_prefix('/') else {
        return Ok(match line {
            "" => None,
            "exit" => Some(Command::Quit),
            text => Some(Command::Say(text.to_owned())),
        });
    };
    if command.starts_with('/') {
        return Ok(Some(Command::Say(command.to_owned())));
    }
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let wants = |what: &str| format!("/{word} wants {what}; /help shows how");
    let some = |text: &str, what: &str| if text.is_empty() { Err(wants(what)) } else { Ok(text.to_owned()) };
    let name = |what: &str| some(unquoted(rest), what);
    let room = |what: &str| name(what).and_then(|room| some(room.strip_prefix('#').unwrap_or(&room), what));
    Ok(Some(match word {
        "to" => Command::To(target(rest).ok_or_else(|| wants("a name, several, #ROOM or all"))?),
        "msg" => {
            let (to, text) = first_name(rest);
            if to.is_empty() || text.is_empty() {
                return Err(wants("a name and a text"));
            }
            Command::Message { to: to.to_owned(), text: text.to_owned() }
        }
        "who" if rest.is_empty() => Command::Who { room: None },
        "who" => Command::Who { room: Some(room("#ROOM")?) },
        "join" => Command::Join(room("a room's name")?),
        "leave" => Command::Leave(room("a room's name")?),
        "rooms" => Command::Rooms,
        "rename" => Command::Rename(name("your new name")?),
        "ping" if rest.is_empty() => Command::Ping { to: None },
        "ping" => Command::Ping { to: Some(name("a name")?) },
        "evict" => {
            let (name, why) = first_name(rest);
            Command::Evict { name: some(name, "a name")?, why: why.to_owned() }
        }
        "help" | "?" => Command::Help,
        "quit" | "exit" => Command::Quit,
        _ => return Err(format!("/{word} is not known; /help shows what is, //{word} sends it as text")),
    }))
}

fn target(text: &str) -> Option<Target> {
    if text == "all" {
        return Some(Target::All);
    }
    if let Some(room) = text.strip_prefix('#') {
        return (!room.is_empty()).then(|| Target::Room(room.to_owned()));
    }
    let mut names: Vec<String> = Vec::new();
    let mut quoted = false;
    for part in text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    }) {
        let name = unquoted(part.trim());
        if !name.is_empty() && names.iter().all(|other| other != name) {
            names.push(name.to_owned());
        }
    }
    (!names.is_empty()).then_some(Target::Peers(names))
}

/// The first name of a text, with quotes or up to a space, and what follows it.
fn first_name(text: &str) -> (&str, &str) {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (name, rest) = quoted.or_else(|| text.split_once(char::is_whitespace)).unwrap_or((text, ""));
    (name, rest.trim_start())
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Command {
        Command::To(Target::Peers(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[test]
    fn a_line_is_text_unless_it_begins_with_one_slash() {
        assert_eq!(parse("hello  "), Ok(Some(Command::Say("hello".into()))));
        assert_eq!(parse("//usr/bin"), Ok(Some(Command::Say("/usr/bin".into()))));
        assert_eq!(parse("  "), Ok(None));
        assert_eq!(parse("exit"), Ok(Some(Command::Quit)));
        assert_eq!(parse("exit now"), Ok(Some(Command::Say("exit now".into()))));
        assert!(parse("/nonsense").is_err());
    }

    #[test]
    fn targets_are_all_rooms_and_names_with_or_without_quotes() {
        assert_eq!(parse("/to all"), Ok(Some(Command::To(Target::All))));
        assert_eq!(parse("/to \"all\""), Ok(Some(peers(&["all"]))));
        assert_eq!(parse("/to #lobby"), Ok(Some(Command::To(Target::Room("lobby".into())))));
        assert_eq!(parse("/to bob, Ada Lovelace,bob"), Ok(Some(peers(&["bob", "Ada Lovelace"]))));
        assert_eq!(parse("/to \"a, b\",c"), Ok(Some(peers(&["a, b", "c"]))));
        assert!(parse("/to").is_err() && parse("/to ,").is_err() && parse("/to #").is_err());
    }

    #[test]
    fn arguments_are_taken_whole_and_their_absence_is_told() {
        let message = |to: &str, text: &str| Ok(Some(Command::Message { to: to.into(), text: text.into() }));
        assert_eq!(parse("/msg bob  good morning"), message("bob", "good morning"));
        assert_eq!(parse("/msg \"Ada L\" hi"), message("Ada L", "hi"));
        assert_eq!(parse("/join #lobby"), Ok(Some(Command::Join("lobby".into()))));
        assert_eq!(parse("/who"), Ok(Some(Command::Who { room: None })));
        assert_eq!(parse("/who #lobby"), Ok(Some(Command::Who { room: Some("lobby".into()) })));
        let evict = |name: &str, why: &str| Ok(Some(Command::Evict { name: name.into(), why: why.into() }));
        assert_eq!(parse("/evict bob"), evict("bob", ""));
        assert_eq!(parse("/evict \"Ada L\" too loud"), evict("Ada L", "too loud"));
        assert_eq!(parse("/rename Ada L"), Ok(Some(Command::Rename("Ada L".into()))));
        for bad in [
            "/msg",
            "/msg bob",
            "/join",
            "/join #",
            "/leave ",
            "/who #",
            "/rename",
            "/rename \"\"",
            "/ping \"\"",
            "/evict",
            "/evict \"\"",
        ] {
            assert!(parse(bad).expect_err(bad).contains("wants"), "{bad}");
        }
    }
}
