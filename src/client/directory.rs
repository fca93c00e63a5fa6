//! Who is here, by id and by name: what SNAPSHOT and DELTA say, applied in the order of the stream.
//!
//! One directory keeps one scope, everybody or one room. It notices when a DELTA is missing and then says
//! [`Step::WatchAgain`].
//!
//! A client that may not know who is here may ask who somebody is that has sent it something, one by one:
//! [`Directory::is_stranger`].
//!
//! What it does not do: it sends nothing; the caller sends the WATCH or the WHO and tells its correlation.

use std::collections::{HashMap, HashSet, VecDeque};

use super::event::{Change, Delta, Peer, Snapshot};
use crate::wire::Id;

/// How many are remembered of those who were asked for one by one: nobody says when they have gone.
const STRANGERS_MAX: usize = 256;

/// Who is here within one scope.
#[derive(Debug, Default)]
pub struct Directory {
    room: Option<Id>,
    peers: HashMap<Id, Peer>,
    /// Invariant: for every peer, its name leads to its id, unless two share it for a moment within a
    /// stream that has lost frames; then to the later one.
    names: HashMap<String, Id>,
    state: State,
    /// Those who were asked for one by one, the latest last, at most [`STRANGERS_MAX`]; found or not.
    strangers: VecDeque<Id>,
    /// The correlations of the WHOs for them that have no answer.
    asking: HashSet<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody has asked, or frames are missing.
    #[default]
    Idle,
    /// A WATCH with this correlation was sent, and its first page has not come.
    Asked { correlation: u32 },
    /// The WATCH was refused as BUSY: another answer is under way, and must end first.
    Refused,
    /// This client may not know who is here. It may ask who somebody is, unless it was denied that, too.
    Denied { may_ask: bool },
    /// Pages have come, and more follow.
    Filling { correlation: u32, sequence: u64 },
    /// Every page has come, and every DELTA up to this number.
    Complete { sequence: u64 },
}

/// What a page or a DELTA meant for a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// It was for another scope, or the answer to another question.
    NotMine,
    /// It is applied.
    Applied,
    /// It is applied, and from now on the directory is whole: the last page of its snapshot.
    Complete,
    /// A DELTA is missing: send WATCH again and tell [`Directory::asked`].
    WatchAgain,
}

/// One change, with what was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening<'a> {
    /// A client has come.
    Arrived(&'a Peer),
    /// A client has changed.
    Changed {
        /// What it was before, if that was known.
        before: Option<&'a Peer>,
        /// What it is now.
        now: &'a Peer,
    },
    /// A client has gone.
    Departed {
        /// Who it was.
        peer: &'a Peer,
        /// Why: a number of [`Code`](crate::wire::Code), or 0.
        code_number: u16,
    },
}

impl Directory {
    /// An empty directory of a room, or with `None` of everybody.
    #[must_use]
    pub fn new(room: Option<Id>) -> Self {
        Self { room, ..Self::default() }
    }

    /// A WATCH for this scope was sent with this correlation. What is known stays until its answer comes.
    pub fn asked(&mut self, correlation: u32) {
        self.state = State::Asked { correlation };
    }

    /// The relay refused a frame with this correlation: the WATCH as BUSY, or a WHO as NO_SUCH_CLIENT. If that was one of
    /// this directory it answers true. It calls for another WATCH when the answer that is under way has ended: give it
    /// every page that comes, the answers to a WHO as well.
    pub fn refused(&mut self, correlation: u32) -> bool {
        if self.asking.remove(&correlation) {
            return true;
        }
        let mine = self.state == State::Asked { correlation };
        if mine {
            self.state = State::Refused;
        }
        mine
    }

    /// The relay denied a frame with this correlation. If that was the WATCH of this directory it answers true, and nobody
    /// will be known of whom it is not asked: see [`Directory::is_denied`]. If it was a WHO of this directory it answers
    /// true as well, and nobody is a stranger any more: each denial is a line in the relay's log.
    pub fn denied(&mut self, correlation: u32) -> bool {
        let may_ask = match self.state {
            State::Asked { correlation: asked } if asked == correlation => true,
            State::Denied { .. } if self.asking.remove(&correlation) => false,
            _ => return false,
        };
        self.state = State::Denied { may_ask };
        true
    }

    /// This client may not know who is here, and waits for no answer.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        matches!(self.state, State::Denied { .. })
    }

    /// Whether to ask who this client is, which has sent something: where this one may not know who is here, and has not
    /// asked for it. Send WHO with its id and tell [`Directory::asked_for`]; it is then known as it was called at that
    /// time.
    #[must_use]
    pub fn is_stranger(&self, id: Id) -> bool {
        self.state == State::Denied { may_ask: true } && !self.strangers.contains(&id)
    }

    /// A WHO for this stranger was sent with this correlation.
    pub fn asked_for(&mut self, id: Id, correlation: u32) {
        self.asking.insert(correlation);
        self.strangers.push_back(id);
        if self.strangers.len() > STRANGERS_MAX
            && let Some(oldest) = self.strangers.pop_front()
        {
            self.remove(oldest);
        }
    }

    /// Every page of the snapshot has come, and no DELTA since is missing.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete { .. })
    }

    /// How many are here, this client included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The client with this id.
    #[must_use]
    pub fn by_id(&self, id: Id) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// The client with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Peer> {
        self.names.get(name).and_then(|id| self.peers.get(id))
    }

    /// Everybody, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Applies a page.
    pub fn apply_snapshot(&mut self, page: Snapshot) -> Step {
        // The first page says where the DELTAs go on. Later ones may count DELTAs that are still to come.
        let sequence = match self.state {
            State::Asked { correlation } if correlation == page.correlation => {
                self.peers.clear();
                self.names.clear();
                page.sequence
            }
            State::Filling { correlation, sequence } if correlation == page.correlation => sequence,
            State::Denied { .. } if self.asking.remove(&page.correlation) => {
                page.members.into_iter().for_each(|peer| drop(self.insert(peer)));
                return Step::Applied;
            }
            State::Refused if !page.more => {
                self.state = State::Idle;
                return Step::WatchAgain;
            }
            _ => return Step::NotMine,
        };
        for peer in page.members {
            self.insert(peer);
        }
        if page.more {
            self.state = State::Filling { correlation: page.correlation, sequence };
            return Step::Applied;
        }
        self.state = State::Complete { sequence };
        Step::Complete
    }

    /// Applies a DELTA and tells of each change.
    pub fn apply_delta(&mut self, delta: Delta, mut tell: impl FnMut(Happening<'_>)) -> Step {
        if delta.room != self.room {
            return Step::NotMine;
        }
        let (State::Filling { sequence, .. } | State::Complete { sequence }) = &mut self.state else {
            // Between a hole and the new snapshot: what it says is in the snapshot as well.
            return Step::NotMine;
        };
        if delta.sequence <= *sequence {
            return Step::NotMine;
        }
        let hole = delta.sequence != *sequence + 1;
        *sequence = delta.sequence;
        for change in delta.changes {
            self.apply(change, &mut tell);
        }
        if hole {
            self.state = State::Idle;
            return Step::WatchAgain;
        }
        Step::Applied
    }

    /// A GAP came: frames are missing. Pages of a snapshot that is under way may be among them, which no
    /// number would show; a missing DELTA shows in the next one's number.
    pub fn gap(&mut self) -> Step {
        match self.state {
            State::Asked { .. } | State::Refused | State::Filling { .. } => {
                self.state = State::Idle;
                Step::WatchAgain
            }
            State::Idle | State::Denied { .. } | State::Complete { .. } => Step::Applied,
        }
    }

    fn apply(&mut self, change: Change, tell: &mut impl FnMut(Happening<'_>)) {
        match change {
            Change::Arrived(peer) => {
                let id = peer.id;
                self.insert(peer);
                if let Some(peer) = self.peers.get(&id) {
                    tell(Happening::Arrived(peer));
                }
            }
            Change::Changed(peer) => {
                let id = peer.id;
                let before = self.insert(peer);
                if let Some(now) = self.peers.get(&id) {
                    tell(Happening::Changed { before: before.as_ref(), now });
                }
            }
            Change::Departed { client, code_number } => {
                if let Some(peer) = self.remove(client) {
                    tell(Happening::Departed { peer: &peer, code_number });
                }
            }
        }
    }

    fn insert(&mut self, peer: Peer) -> Option<Peer> {
        let before = self.remove(peer.id);
        self.names.insert(peer.name.clone(), peer.id);
        self.peers.insert(peer.id, peer);
        before
    }

    fn remove(&mut self, id: Id) -> Option<Peer> {
        let peer = self.peers.remove(&id)?;
        if self.names.get(&peer.name) == Some(&id) {
            self.names.remove(&peer.name);
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn peer(index: usize, name: &str) -> Peer {
        Peer {
            id: Id::client(index, 1),
            name: name.into(),
            station: String::new(),
            endpoints: Vec::new(),
            details: Bytes::new(),
            address: String::new(),
        }
    }

    fn page(correlation: u32, sequence: u64, more: bool, members: Vec<Peer>) -> Snapshot {
        Snapshot { correlation, room: None, sequence, more, members }
    }

    fn delta(sequence: u64, changes: Vec<Change>) -> Delta {
        Delta { room: None, sequence, changes }
    }

    fn names(directory: &Directory) -> Vec<&str> {
        let mut names: Vec<_> = directory.iter().map(|peer| peer.name.as_str()).collect();
        names.sort_unstable();
        for name in &names {
            assert_eq!(directory.by_name(name).map(|peer| peer.name.as_str()), Some(*name));
        }
        names
    }

    #[test]
    fn pages_and_deltas_between_them_add_up_to_who_is_here() {
        let mut directory = Directory::new(None);
        directory.asked(7);
        assert_eq!(directory.apply_snapshot(page(7, 4, true, vec![peer(1, "ada"), peer(2, "bob")])), Step::Applied);
        let gone = Change::Departed { client: Id::client(1, 1), code_number: 1 };
        assert_eq!(directory.apply_delta(delta(5, vec![gone, Change::Arrived(peer(4, "dan"))]), |_| ()), Step::Applied);
        assert_eq!(directory.apply_snapshot(page(7, 5, false, vec![peer(3, "cid")])), Step::Complete);
        assert_eq!(names(&directory), ["bob", "cid", "dan"]);
        assert!(directory.is_complete());
        assert_eq!(directory.by_name("ada"), None);
    }

    #[test]
    fn a_missing_delta_asks_for_a_watch_and_the_new_snapshot_replaces_everything() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert_eq!(directory.apply_snapshot(page(1, 0, false, vec![peer(1, "ada")])), Step::Complete);
        assert_eq!(directory.apply_delta(delta(2, vec![Change::Arrived(peer(2, "bob"))]), |_| ()), Step::WatchAgain);
        assert!(!directory.is_complete());
        assert_eq!(names(&directory), ["ada", "bob"]);
        directory.asked(2);
        assert_eq!(directory.apply_delta(delta(3, vec![]), |_| ()), Step::NotMine);
        assert_eq!(directory.apply_snapshot(page(1, 9, false, vec![])), Step::NotMine);
        assert_eq!(directory.apply_snapshot(page(2, 3, false, vec![peer(3, "cid")])), Step::Complete);
        assert_eq!(names(&directory), ["cid"]);
    }

    #[test]
    fn a_later_page_may_count_a_delta_that_is_still_to_come() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert_eq!(directory.apply_snapshot(page(1, 4, true, vec![])), Step::Applied);
        assert_eq!(directory.apply_snapshot(page(1, 5, false, vec![peer(1, "ada")])), Step::Complete);
        assert_eq!(directory.apply_delta(delta(5, vec![Change::Arrived(peer(1, "ada"))]), |_| ()), Step::Applied);
        assert_eq!(directory.apply_delta(delta(7, vec![]), |_| ()), Step::WatchAgain);
    }

    #[test]
    fn a_gap_within_a_snapshot_asks_for_a_watch_and_later_does_not() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert_eq!(directory.gap(), Step::WatchAgain);
        directory.asked(2);
        assert_eq!(directory.apply_snapshot(page(2, 4, false, vec![])), Step::Complete);
        assert_eq!(directory.gap(), Step::Applied);
    }

    #[test]
    fn a_refused_watch_is_repeated_when_the_answer_under_way_has_ended() {
        let mut directory = Directory::new(None);
        directory.asked(2);
        assert!(!directory.refused(1));
        assert!(directory.refused(2));
        assert_eq!(directory.apply_snapshot(page(1, 4, true, vec![peer(1, "ada")])), Step::NotMine);
        assert_eq!(directory.apply_snapshot(page(1, 4, false, vec![])), Step::WatchAgain);
        directory.asked(3);
        assert_eq!(directory.apply_snapshot(page(3, 4, false, vec![peer(1, "ada")])), Step::Complete);
    }

    #[test]
    fn names_follow_their_clients_and_each_change_is_told_once() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert_eq!(directory.apply_snapshot(page(1, 0, false, vec![peer(1, "ada"), peer(2, "bob")])), Step::Complete);
        let mut told = Vec::new();
        let changes = vec![
            Change::Changed(peer(1, "ann")),
            Change::Changed(peer(2, "ada")),
            Change::Departed { client: Id::client(1, 1), code_number: 3 },
            Change::Departed { client: Id::client(9, 1), code_number: 3 },
        ];
        let step = directory.apply_delta(delta(1, changes), |happening| {
            told.push(match happening {
                Happening::Arrived(peer) => format!("+{}", peer.name),
                Happening::Changed { before, now } => format!("{}>{}", before.map_or("?", |b| &b.name), now.name),
                Happening::Departed { peer, code_number } => format!("-{} {code_number}", peer.name),
            });
        });
        assert_eq!(step, Step::Applied);
        assert_eq!(told, ["ada>ann", "bob>ada", "-ann 3"]);
        assert_eq!(names(&directory), ["ada"]);
        assert_eq!(directory.by_name("ada").map(|peer| peer.id), Some(Id::client(2, 1)));
    }

    #[test]
    fn a_name_that_passed_on_before_its_old_bearer_left_stays_with_the_new_one() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert_eq!(directory.apply_snapshot(page(1, 0, false, vec![peer(1, "ada"), peer(2, "bob")])), Step::Complete);
        let changes =
            vec![Change::Changed(peer(2, "ada")), Change::Departed { client: Id::client(1, 1), code_number: 1 }];
        assert_eq!(directory.apply_delta(delta(1, changes), |_| ()), Step::Applied);
        assert_eq!(directory.by_name("ada").map(|peer| peer.id), Some(Id::client(2, 1)));
    }

    #[test]
    fn who_may_not_know_who_is_here_asks_for_each_once_and_for_nobody_after_a_denial() {
        let mut directory = Directory::new(None);
        let [ada, bob, cid] = [1, 2, 3].map(|index| Id::client(index, 1));
        directory.asked(1);
        assert!(!directory.is_stranger(ada), "it may be told yet");
        assert!(directory.denied(1) && directory.is_denied());
        assert!(directory.is_stranger(ada));
        directory.asked_for(ada, 2);
        assert!(!directory.is_stranger(ada));
        assert_eq!(directory.apply_snapshot(page(2, 9, false, vec![peer(1, "ada")])), Step::Applied);
        assert_eq!(directory.by_id(ada).map(|peer| peer.name.as_str()), Some("ada"));
        assert_eq!(directory.apply_snapshot(page(2, 9, false, vec![])), Step::NotMine);
        directory.asked_for(bob, 3);
        assert!(directory.refused(3) && !directory.refused(3), "it has gone");
        assert!(!directory.is_stranger(bob) && directory.is_stranger(cid));
        directory.asked_for(cid, 4);
        assert!(!directory.denied(5) && directory.denied(4));
        assert!(directory.is_denied() && !directory.is_stranger(Id::client(4, 1)));
    }

    #[test]
    fn of_those_who_were_asked_for_only_the_latest_are_remembered() {
        let mut directory = Directory::new(None);
        directory.asked(1);
        assert!(directory.denied(1));
        for n in 0..=STRANGERS_MAX {
            directory.asked_for(Id::client(n, 1), 2);
            assert_eq!(directory.apply_snapshot(page(2, 0, false, vec![peer(n, "name")])), Step::Applied);
        }
        assert_eq!(directory.len(), STRANGERS_MAX);
        assert!(directory.is_stranger(Id::client(0, 1)) && !directory.is_stranger(Id::client(1, 1)));
    }

    #[test]
    fn other_scopes_are_left_alone() {
        let mut directory = Directory::new(Some(Id::room(1, 1)));
        directory.asked(1);
        assert_eq!(directory.apply_snapshot(page(1, 0, false, vec![])), Step::Complete);
        assert_eq!(directory.apply_delta(delta(1, vec![Change::Arrived(peer(1, "ada"))]), |_| ()), Step::NotMine);
        assert!(directory.is_empty());
    }
}
