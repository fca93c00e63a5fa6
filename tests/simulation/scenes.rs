//! Things that hardly ever happen by chance, because several clients must do the right thing one after the other.

use super::doors::Door;
use super::network::Line;
use super::plan::{Action, Ask, Greeting, ROOMS, Reader, Step, Swarm, Target};

/// A sequence of steps in the midst of others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scene {
    /// Somebody does not read, misses what is said to all, and leaves in order.
    Overrun,
    /// Somebody has left, and what is queued for it is still on its way: others ask for it.
    Farewell,
    /// The relay goes down while somebody has not said HELLO.
    ShutDown,
    /// Somebody asks who is in a room, does not read, and leaves the room.
    Listing,
    /// Several change what they say of themselves, more than once in a turn.
    Changes,
    /// Somebody asks and asks and does not read the answers.
    Nagging,
    /// Somebody's network breaks in the midst of what is written in one turn.
    Break,
    /// Half of all do not read what is said to all: where memory is short it runs out.
    Hoard,
}

impl Swarm<'_> {
    pub(crate) fn scene(&mut self) -> Scene {
        match self.random.u8(..16) {
            0..=2 => Scene::Overrun,
            3 | 4 => Scene::Farewell,
            5 => Scene::ShutDown,
            6 | 7 => Scene::Listing,
            8 | 9 => Scene::Changes,
            10 | 11 => Scene::Nagging,
            12 | 13 => Scene::Break,
            _ => Scene::Hoard,
        }
    }

    #[allow(clippy::too_many_lines, reason = "one scene after the other")]
    pub(crate) fn play(
        &mut self,
        scene: Scene,
        number: u64,
        queue_bytes_max: usize,
        reserve_bytes: usize,
        steps: &mut Vec<Step>,
    ) {
        let client = self.random.usize(..self.clients);
        let other = (client + 1 + self.random.usize(..self.clients - 1)) % self.clients;
        let line = Line { window_bytes: 256 << self.random.u32(0..4), ..Line::PLAIN };
        let come = |line: Line| {
            let (hello, payload_bytes_max, keepalive_ms) = (Greeting::Good, None, Some(60_000));
            Action::Connect { hello, payload_bytes_max, keepalive_ms, line, door: Door::PLAIN, reader: Reader::Prompt }
        };
        let ask = |ask: Ask| Action::Ask { ask, flags: 0 };
        let (stall, read) = (Action::Read(Reader::Stalled), Action::Read(Reader::Prompt));
        let leave = if self.random.bool() { Action::Goodbye } else { Action::HalfClose };
        let tell = |to: Target, count: usize, flags: u8| Action::Send {
            to,
            payload_bytes: 4096,
            count: count as u32,
            flags,
            kind: 0,
            type_number: 0x10,
        };
        let mut play = |turns: u8, actions: Vec<(usize, Action)>| {
            steps.extend(actions.into_iter().map(|(client, action)| Step { number, client, action, turns }));
        };
        play(8, vec![(client, Action::Reset), (client, come(line)), (other, come(Line::PLAIN))]);
        match scene {
            Scene::Overrun => {
                // A third of them are that long, the others shorter.
                let count = queue_bytes_max / 2000 + 6;
                let rest = [(client, stall), (other, tell(Target::All, count, 8)), (client, leave), (client, read)];
                play(8, rest.to_vec());
            }
            Scene::Farewell => {
                play(4, vec![(client, stall), (other, tell(Target::All, 2, 8))]);
                play(1, vec![(client, leave)]);
                let (id, name) = (ask(Ask::WhoClient(client)), ask(Ask::WhoNamed(client)));
                let word = tell(Target::Client(client), 1, 1);
                play(1, vec![(other, id), (other, name), (other, word), (other, ask(Ask::Who)), (client, read)]);
            }
            Scene::ShutDown => {
                let silent = Action::Connect {
                    hello: Greeting::None,
                    payload_bytes_max: None,
                    keepalive_ms: None,
                    line: Line::PLAIN,
                    door: Door::PLAIN,
                    reader: Reader::Prompt,
                };
                play(3, vec![(client, Action::Reset), (client, silent), (client, Action::ShutDown)]);
            }
            Scene::Listing => {
                let room = self.random.usize(..ROOMS);
                let all = |ask: Ask| Action::Together { count: self.clients, ask };
                play(4, vec![(0, all(Ask::Join(room))), (0, all(Ask::Details(1000)))]);
                let list = if self.random.bool() { Ask::WhoRoom(room) } else { Ask::Watch(Some(room)) };
                let watch = ask(Ask::Watch(Some(room)));
                // So much waits that the answer has to.
                let fill = tell(Target::All, queue_bytes_max / 3500 + 3, 8);
                play(8, vec![(other, watch), (client, stall), (other, fill)]);
                play(2, vec![(client, ask(list)), (client, ask(Ask::Leave(room)))]);
                if self.random.bool() {
                    play(2, vec![(client, ask(Ask::Join(room)))]);
                }
                play(8, vec![(client, read)]);
            }
            Scene::Changes => {
                let room = self.random.usize(..ROOMS);
                let join = ask(Ask::Join(room));
                play(4, vec![(client, join.clone()), (other, join)]);
                play(4, vec![(client, ask(Ask::Watch(Some(room)))), (other, ask(Ask::Watch(None)))]);
                for _ in 0..20 {
                    let who = if self.random.u8(..3) == 0 { other } else { client };
                    let what = match self.random.u8(..8) {
                        0 => Ask::Rename(self.clients + who),
                        1 => Ask::Station(self.random.u8(..6)),
                        2 => Ask::Leave(room),
                        3 => Ask::Join(room),
                        _ => Ask::Details(self.random.usize(..400)),
                    };
                    play(u8::from(self.random.u8(..4) == 0), vec![(who, ask(what))]);
                }
            }
            Scene::Break => {
                let breaks_after = 1 << self.random.u32(9..14);
                let line = Line { write_bytes_max: 1500, breaks_after, ..Line::PLAIN };
                play(4, vec![(client, Action::Reset), (client, come(line))]);
                let word = Action::Send {
                    to: Target::Client(client),
                    payload_bytes: 900,
                    count: 12,
                    flags: 1,
                    kind: 0,
                    type_number: 0x10,
                };
                play(4, vec![(other, word)]);
            }
            Scene::Hoard => {
                for stuck in (0..self.clients).filter(|stuck| *stuck != other && stuck % 2 == client % 2) {
                    play(1, vec![(stuck, Action::Reset), (stuck, come(line)), (stuck, stall.clone())]);
                }
                play(2, vec![(other, tell(Target::All, 40, 8))]);
                for _ in 0..8 {
                    play(1, vec![(other, tell(Target::All, 3, 1)), (other, tell(Target::Client(other), 2, 1))]);
                    play(1, vec![(other, ask(Ask::Who)), (client, ask(Ask::Ping(None)))]);
                }
                play(4, vec![(client, read)]);
            }
            Scene::Nagging => {
                // As many answers as take the relay well beyond the place where it stops to listen, a few in each turn:
                // what is not read too early must be seen to be read.
                let rounds = ((queue_bytes_max + reserve_bytes) / (4 * 52)).min(600);
                play(1, vec![(client, stall)]);
                for _ in 0..rounds {
                    let nag = Action::Send {
                        to: Target::Relay,
                        payload_bytes: 0,
                        count: 4,
                        flags: 0,
                        kind: 0,
                        type_number: 0x06,
                    };
                    play(1, vec![(client, nag), (other, ask(Ask::Ping(None)))]);
                }
                play(1, vec![(client, Action::Read(Reader::Slow(48, 1)))]);
                play(1, vec![(other, ask(Ask::Ping(None))); 300]);
                play(4, vec![(client, read)]);
            }
        }
    }
}
