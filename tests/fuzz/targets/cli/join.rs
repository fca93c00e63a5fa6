//! The typed lines of `join`, and what it says.

#[path = "../../../../src/cli/join/command.rs"]
pub(crate) mod command;
#[path = "../../../../src/cli/join/words.rs"]
pub(crate) mod words;

use self::command::{Command, Target};
use crate::targets::steers_a_terminal;

/// A typed line asks for something that can be asked for, or is told what it lacks.
pub(crate) fn check_line(text: &str) {
    let named = |name: &str| assert!(!name.is_empty(), "{text:?} is about nobody");
    match command::parse(text) {
        Ok(None) => assert!(text.trim_end().is_empty()),
        Ok(Some(Command::Say(said))) => assert!(!said.is_empty() && text.contains(&said)),
        Ok(Some(Command::Message { to, text: said })) => {
            named(&to);
            assert!(!said.is_empty());
        }
        Ok(Some(Command::To(target))) => {
            match &target {
                Target::All => {}
                Target::Room(room) => named(room),
                Target::Peers(names) => {
                    assert!(!names.is_empty());
                    names.iter().for_each(|name| named(name));
                }
            }
            let prompt = words::prompt(&target);
            assert!(prompt.chars().count() <= 26 && !prompt.chars().any(steers_a_terminal), "{prompt:?}");
        }
        Ok(Some(Command::Join(name) | Command::Leave(name) | Command::Rename(name))) => named(&name),
        Ok(Some(Command::Who { room: name } | Command::Ping { to: name })) => name.iter().for_each(|name| named(name)),
        Ok(Some(Command::Rooms | Command::Help | Command::Quit)) => {}
        Err(line) => assert!(line.starts_with('/')),
    }
}
