//! `switchboard join`: see who is here and talk, in a terminal or through pipes.
//!
//! Three threads meet in one channel: one keeps the connection, one reads lines, and this one, the only one
//! that knows anything, turns both into what is sent and shown. A line is read only when this thread has
//! asked for it, so the prompt is always up to date and a script's lines wait for their answers.

mod chat;
mod command;
mod pending;
mod terminal;
mod words;

use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use self::chat::Chat;
use self::terminal::{Input, Prompts, Screen};
use super::link::{Leave, Link, Notice};
use super::login::{Login, Unnamed};
use super::{ADDRESS_VARIABLE, Trouble, output, parse_address, parse_name, signals};
use crate::client::{Address, Options};

/// How long answers may be outstanding after the end of input.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a terminal's prompt waits for the answer to the last line, so that pasted lines build on one another.
/// A person hardly notices it, and only a slow relay takes so long.
const PROMPT_HELD_MAX: Duration = Duration::from_millis(300);
/// How long the relay may take to close the connection after GOODBYE.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// See who is here and talk to one, several, a room or all; /help shows the commands.
///
/// Without a terminal it reads plain lines, prints plain lines, and leaves at the end of input: with exit code 1 if anything
/// that a line asked for failed.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The relay's address: host:port, tls://host:port, or unix:/path.
    #[arg(value_parser = parse_address, default_value_t, env = ADDRESS_VARIABLE)]
    addr: Address,
    /// Your name [default: that of --user, or else of the system's user].
    #[arg(long)]
    name: Option<String>,
    /// Where you are, in your own words.
    #[arg(long, default_value = "")]
    station: String,
    /// A room to join at once; may be repeated. What you type goes to the first of them until /to says otherwise.
    #[arg(long, value_parser = parse_name)]
    room: Vec<String>,
    #[command(flatten)]
    login: Login,
}

/// What the three threads, and a signal, have to say.
enum Item {
    Link(Notice),
    LinkOver(Result<(), Trouble>),
    Input(Input),
    Interrupted,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let system_user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let options = arguments.login.options(arguments.name, Unnamed::Person(system_user.as_deref()))?;
    let name = options.name.clone();
    let options = Arc::new(Mutex::new(Options { station: arguments.station, ..options }));
    let leave = Arc::new(Leave::default());
    let (items, inbox) = mpsc::channel();
    let link = Link {
        address: arguments.addr.clone(),
        options: Arc::clone(&options),
        reconnect: true,
        await_first: false,
        deadline: None,
        leave: Arc::clone(&leave),
    };
    let to_inbox = items.clone();
    signals::on_interrupt(move || drop(to_inbox.send(Item::Interrupted)))?;
    let to_inbox = items.clone();
    thread::spawn(move || {
        let over = link.run(|notice| match to_inbox.send(Item::Link(notice)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let _ = to_inbox.send(Item::LinkOver(over));
    });
    // Nothing is asked of the terminal before the relay has welcomed us.
    let mut early = Vec::new();
    loop {
        match inbox.recv() {
            Ok(Item::LinkOver(over)) => return over,
            Ok(Item::Interrupted) | Err(_) => return Ok(()),
            Ok(item) => {
                let connected = matches!(item, Item::Link(Notice::Connected(_)));
                early.push(item);
                if connected {
                    break;
                }
            }
        }
    }
    let (screen, prompts) = Screen::open(move |input| items.send(Item::Input(input)).is_ok())
        .inspect_err(|_| break_off(&leave, &inbox, Instant::now() + GOODBYE_TIMEOUT))?;
    let chat = Chat::new(arguments.addr.to_string(), name, arguments.room, options);
    let mut room = Conversation {
        chat,
        screen,
        prompts,
        leave,
        asked: false,
        held_until: Instant::now(),
        ending: None,
        over: false,
    };
    let done = room.run(early, &inbox);
    if done.is_err() && !room.over {
        // GOODBYE may have been said already.
        let until = room.ending.filter(|ending| ending.said).map(|ending| ending.deadline);
        break_off(&room.leave, &inbox, until.unwrap_or_else(|| Instant::now() + GOODBYE_TIMEOUT));
    }
    let is_terminal = room.screen.is_terminal();
    room.screen.close(room.asked);
    done?;
    // A person has seen it; a script looks at the exit code.
    match room.chat.failed() {
        failed if failed > 0 && !is_terminal => {
            Err(Trouble::System(format!("{} failed, as told on standard output", output::counted(failed, "request"))))
        }
        _ => Ok(()),
    }
}

/// Says GOODBYE where something has gone wrong on this side, and waits for the end until then.
fn break_off(leave: &Arc<Leave>, inbox: &Receiver<Item>, until: Instant) {
    say_goodbye(leave);
    while !matches!(inbox.recv_timeout(until.saturating_duration_since(Instant::now())), Ok(Item::LinkOver(_)) | Err(_))
    {
    }
}

/// Writing to the relay may take a while; the wait for it is bounded by whoever waits.
fn say_goodbye(leave: &Arc<Leave>) {
    let leave = Arc::clone(leave);
    thread::spawn(move || leave.ask());
}

struct Conversation {
    chat: Chat,
    screen: Screen,
    prompts: Prompts,
    leave: Arc<Leave>,
    /// A line has been asked for and has not come.
    asked: bool,
    /// When a terminal is asked for its next line though the last one has no answer.
    held_until: Instant,
    /// No more lines are wanted: when to leave at the latest, and whether GOODBYE has been said.
    ending: Option<Ending>,
    /// The link has ended, and nobody is left to say GOODBYE to.
    over: bool,
}

#[derive(Clone, Copy)]
struct Ending {
    deadline: Instant,
    said: bool,
}

impl Conversation {
    fn run(&mut self, early: Vec<Item>, inbox: &Receiver<Item>) -> Result<(), Trouble> {
        for item in early {
            self.take(item)?;
        }
        loop {
            self.show()?;
            self.ask_for_a_line();
            self.leave_when_answered();
            let item = match self.next_deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match item {
                Ok(Item::LinkOver(over)) => {
                    self.over = true;
                    self.show()?;
                    over?;
                    return if self.screen.is_terminal() { Ok(()) } else { self.unanswered() };
                }
                Ok(item) => self.take(item)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => match self.ending {
                    Some(ending) if ending.said => return self.unanswered(),
                    Some(_) => self.say_goodbye(),
                    // The prompt has been held long enough.
                    None => {}
                },
            }
        }
    }

    fn take(&mut self, item: Item) -> Result<(), Trouble> {
        match item {
            Item::Link(notice) => self.chat.note(notice),
            Item::Input(Input::Line(line)) => {
                self.asked = false;
                self.held_until = Instant::now() + PROMPT_HELD_MAX;
                if self.chat.line(&line).is_break() {
                    // A script has its answers first.
                    if self.screen.is_terminal() { self.say_goodbye() } else { self.end_of_input() }
                }
            }
            Item::Input(Input::End) => {
                self.asked = false;
                self.end_of_input();
            }
            Item::Input(Input::Quit) => {
                self.asked = false;
                self.say_goodbye();
            }
            Item::Interrupted => self.say_goodbye(),
            Item::Input(Input::Failed(why)) => return Err(Trouble::System(why)),
            Item::LinkOver(over) => return over,
        }
        Ok(())
    }

    fn show(&mut self) -> Result<(), Trouble> {
        for text in self.chat.take_shown() {
            self.screen.show(&text)?;
        }
        Ok(())
    }

    fn ask_for_a_line(&mut self) {
        let held = self.screen.is_terminal() && self.chat.is_connected() && Instant::now() < self.held_until;
        let ready = self.chat.is_settled() || (self.screen.is_terminal() && !held);
        if !self.asked && self.ending.is_none() && ready {
            self.asked = self.prompts.send(self.chat.prompt()).is_ok();
        }
    }

    /// When the loop has to look again though nothing has come.
    fn next_deadline(&self) -> Option<Instant> {
        let held = (self.screen.is_terminal() && !self.asked).then_some(self.held_until);
        self.ending.map(|ending| ending.deadline).or(held)
    }

    fn leave_when_answered(&mut self) {
        if self.ending.is_some_and(|ending| !ending.said) && self.chat.is_answered() {
            self.say_goodbye();
        }
    }

    /// Nothing more is typed: answers are still waited for.
    fn end_of_input(&mut self) {
        let deadline = Instant::now() + LAST_ANSWERS_TIMEOUT;
        self.ending.get_or_insert(Ending { deadline, said: false });
    }

    fn say_goodbye(&mut self) {
        self.ending = Some(Ending { deadline: Instant::now() + GOODBYE_TIMEOUT, said: true });
        say_goodbye(&self.leave);
    }

    /// The relay did not close in time. What was sent before is sent; only unanswered lines are in doubt.
    fn unanswered(&self) -> Result<(), Trouble> {
        if self.chat.is_answered() {
            return Ok(());
        }
        Err(Trouble::system("left without an answer to every line: what became of them is not known"))
    }
}
