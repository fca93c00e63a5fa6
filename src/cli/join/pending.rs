//! What has not been answered, and what waits for an answer: who may not know who is here asks for one name after the other
//! before a line goes out.
//!
//! What it does not do: it asks nobody; `chat.rs` does.

use std::collections::VecDeque;

use crate::client::Peer;
use crate::wire::Id;

/// A request or a line that has not been answered.
#[derive(Debug)]
pub(super) enum Pending {
    /// A line to one client or several, a room, or all.
    Line {
        to: Many,
    },
    Who {
        room: Option<String>,
        peers: Vec<Peer>,
    },
    Join {
        name: String,
    },
    Leave {
        name: String,
    },
    Rename {
        name: String,
    },
    Ping {
        name: String,
    },
    Evict {
        name: String,
    },
    /// Somebody is looked for by name.
    Find {
        name: String,
        search: Search,
    },
}

/// Whom a line is for, and so which answers it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    One,
    /// Each fails on its own, and a receipt says how many did.
    Several,
    /// A receipt says how many have not got it.
    Room,
}

/// What is to be done with whoever has a name.
#[derive(Debug)]
pub(super) enum Errand {
    Say(String),
    Ping,
    /// With the reason.
    Evict(String),
}

/// Who is looked for, and who has been found.
#[derive(Debug)]
pub(super) struct Search {
    /// Who has not been asked for.
    pub(super) names: VecDeque<String>,
    pub(super) found: Vec<(Id, String)>,
    pub(super) errand: Errand,
}

impl Search {
    pub(super) fn new(names: &[String], errand: Errand) -> Self {
        Self { names: names.iter().cloned().collect(), found: Vec::new(), errand }
    }
}

impl Errand {
    /// What is said of somebody who is not here.
    pub(super) fn without(&self, name: &str) -> String {
        match self {
            Self::Say(_) => format!("* {name} is not here and did not get it"),
            Self::Ping | Self::Evict(_) => format!("* {name} is not here"),
        }
    }
}
