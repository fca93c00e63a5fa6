//! The typed lines of `join`, and what it says.

#[path = "../../../../src/cli/join/command.rs"]
pub(crate) mod command;
#[path = "../../../../src/cli/join/words.rs"]
pub(crate) mod words;

use switchboard::client::{Change, Event, Happening};

use self::command::{Command, Target};
use crate::targets::steers_a_terminal;

/// A typed line asks for something that can be asked for, or is told what it lacks.
pub(crate) fn check_line(text: &str) {
    let about = |name: &str| assert!(!name.is_empty(), "{text:?} is about nobody");
    match command::parse(text) {
        Ok(None) => assert!(text.trim_end().is_empty()),
        Ok(Some(Command::Say(said))) => assert!(!said.is_empty() && text.contains(&said)),
        Ok(Some(Command::Message { to, text: said })) => {
            about(&to);
            assert!(!said.is_empty());
        }
        Ok(Some(Command::To(target))) => {
            match &target {
                Target::All => {}
                Target::Room(room) => about(room),
                Target::Peers(names) => {
                    assert!(!names.is_empty());
                    for name in names {
                        about(name);
                    }
                }
            }
            let prompt = words::prompt(&target);
            assert!(prompt.chars().count() <= 26 && !prompt.chars().any(steers_a_terminal), "{prompt:?}");
        }
        Ok(Some(Command::Join(name) | Command::Leave(name) | Command::Rename(name))) => about(&name),
        Ok(Some(Command::Who { room: name } | Command::Ping { to: name })) => {
            name.as_deref().into_iter().for_each(about);
        }
        Ok(Some(Command::Evict { name, why })) => {
            about(&name);
            assert!(text.contains(&why));
        }
        Ok(Some(Command::Rooms | Command::Help | Command::Quit)) => {}
        Err(line) => assert!(line.starts_with('/')),
    }
}

/// Whatever `join` makes of an event steers no terminal.
pub(crate) fn check_told(event: &Event) {
    let told: Vec<String> = match event {
        Event::Message(message) => {
            vec![words::message("bob", message, None), words::message("bob", message, Some("tea\u{202e}"))]
        }
        Event::Error(failure) | Event::Goodbye(failure) => {
            vec![words::failure(failure, None), words::failure(failure, Some("bob"))]
        }
        Event::Snapshot(page) => vec![words::who("here", page.members.iter().collect())],
        Event::Delta(delta) => delta.changes.iter().filter_map(told).collect(),
        Event::Receipt(receipt) => words::receipt(receipt).into_iter().collect(),
        Event::Joined(joined) => vec![words::joined(joined, true), words::joined(joined, false)],
        Event::Pong(pong) => vec![words::pong("bob", pong)],
        Event::Closed(closed) => vec![words::reason(closed)],
        Event::Ack { .. } | Event::Gap { .. } => Vec::new(),
    };
    for text in told {
        assert!(!text.is_empty() && !text.chars().any(|c| c != '\n' && steers_a_terminal(c)), "{text:?}");
    }
}

fn told(change: &Change) -> Option<String> {
    match change {
        Change::Arrived(peer) => words::happening(&Happening::Arrived(peer), None),
        Change::Changed(now) => {
            let before = switchboard::client::Peer { name: "bob".into(), ..now.clone() };
            words::happening(&Happening::Changed { before: Some(&before), now }, None)
        }
        Change::Departed { .. } => None,
    }
}
