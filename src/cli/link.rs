//! A connection that comes back: what `join` and `listen` stand on.
//!
//! It connects, hands every event to its owner, and after a loss waits and connects again, if it may. It
//! writes nothing to anybody; its owner tells people what happens.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Trouble;
use crate::client::{
    Address, Backoff, Client, Closed, ConnectError, Credentials, Event, Options, Receiver, Sender, Tls, TlsError,
};
use crate::wire::{Code, is_valid_name};

/// What is added to twice the keepalive before a name that was one's own counts as another's: the relay
/// notices a dead connection only at its next look.
const NAME_GRACE: Duration = Duration::from_secs(5);

/// How long the relay may take to write what is left and close, after a GOODBYE, when nobody wants it any more.
pub(super) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// One thing that the owner of a link is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// The connection stands; the first or another one.
    Connected(Sender),
    /// Something came. [`Event::Closed`] is never among these.
    Event(Event),
    /// Everything that had come has been told: a good moment to flush.
    Idle,
    /// The connection is lost, or could not be had; the next attempt follows after `delay`.
    Lost { why: String, attempt: u32, delay: Duration },
    /// The time that the link was given is over; nothing follows.
    Deadline,
}

/// Where to, as whom, and how stubbornly.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: Address,
    /// The name may change while the link stands.
    pub(super) options: Arc<Mutex<Options>>,
    /// Come back after a loss.
    pub(super) reconnect: bool,
    /// Wait for a relay that is not there yet as well; otherwise the first connection must be possible at once.
    pub(super) await_first: bool,
    /// When to give [`Notice::Deadline`].
    pub(super) deadline: Option<Instant>,
    pub(super) leave: Arc<Leave>,
}

/// How any thread asks a link to say GOODBYE and end.
#[derive(Debug, Default)]
pub(super) struct Leave {
    state: Mutex<LeaveState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LeaveState {
    asked: bool,
    sender: Option<Sender>,
}

impl Leave {
    /// Says GOODBYE where there is a connection, and ends any wait for the next one.
    pub(super) fn ask(&self) {
        let sender = {
            let mut state = self.lock();
            state.asked = true;
            state.sender.take()
        };
        self.changed.notify_all();
        if let Some(sender) = sender {
            // If it cannot be sent, the connection has ended, which is what was wanted.
            let _ = sender.goodbye();
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.lock().asked
    }

    /// Notes the connection that GOODBYE is to be said on; says it at once if it was asked for meanwhile.
    fn connected(&self, sender: Sender) {
        let mut state = self.lock();
        if state.asked {
            drop(state);
            let _ = sender.goodbye();
        } else {
            state.sender = Some(sender);
        }
    }

    fn sleep(&self, time: Duration) {
        let state = self.lock();
        let _ = self.changed.wait_timeout_while(state, time, |state| !state.asked);
    }

    fn lock(&self) -> MutexGuard<'_, LeaveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Keeps the connection until its owner breaks off, leaving is asked for, or it cannot be had any more.
    pub(super) fn run(&self, mut tell: impl FnMut(Notice) -> ControlFlow<()>) -> Result<(), Trouble> {
        let mut backoff = Backoff::default();
        let mut last: Option<LastConnection> = None;
        loop {
            if self.leave.is_asked() {
                return Ok(());
            }
            let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(deadline) = self.deadline {
                options.connect_timeout =
                    options.connect_timeout.min(deadline.saturating_duration_since(Instant::now()));
            }
            let (why, retry_after) = match Client::connect(&self.address, &options) {
                Ok(client) => {
                    let since = Instant::now();
                    let keepalive = client.session().keepalive;
                    let Some(closed) = self.serve(client, &mut tell) else {
                        return Ok(());
                    };
                    let ended = Instant::now();
                    backoff.connection_stood(ended - since);
                    last = Some(LastConnection { ended, keepalive });
                    if self.leave.is_asked() {
                        return Ok(());
                    }
                    if !self.reconnect || !closed.may_return() {
                        // The relay goes on without us, if it says anything but goodbye.
                        let what = match &closed {
                            Closed::ByRelay(failure) if failure.code() != Some(Code::ShuttingDown) => {
                                "has ended the connection"
                            }
                            _ => "is gone",
                        };
                        return Err(Trouble::System(format!("the relay at {} {what}: {closed}", self.address)));
                    }
                    (closed.to_string(), closed.retry_after())
                }
                Err(error) if self.reconnect && self.worth_another(&error, last.as_ref()) => {
                    (error.to_string(), error.retry_after())
                }
                Err(error) => return Err(cannot_connect(&self.address, &options, &error)),
            };
            let delay = backoff.delay(retry_after);
            if tell(Notice::Lost { why, attempt: backoff.failures(), delay }).is_break() {
                return Ok(());
            }
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.leave.sleep(left.map_or(delay, |left| left.min(delay)));
            if left.is_some_and(|left| left < delay) {
                let _ = tell(Notice::Deadline);
                return Ok(());
            }
        }
    }

    /// Hands on what comes until the connection ends; `None` if the owner broke off.
    fn serve(&self, client: Client, tell: &mut impl FnMut(Notice) -> ControlFlow<()>) -> Option<Closed> {
        let (sender, mut receiver) = client.split();
        self.leave.connected(sender.clone());
        let mut flow = tell(Notice::Connected(sender.clone()));
        while flow.is_continue() {
            if let Some(event) = receiver.recv_timeout(Duration::ZERO) {
                flow = match event {
                    Event::Closed(closed) => return Some(closed),
                    event => tell(Notice::Event(event)),
                };
                continue;
            }
            flow = tell(Notice::Idle);
            if flow.is_continue() && !self.wait(&mut receiver) {
                let _ = tell(Notice::Deadline);
                break;
            }
        }
        part(&sender, &mut receiver);
        None
    }

    /// Waits until something has come; false when the link's time is over first.
    fn wait(&self, receiver: &mut Receiver) -> bool {
        let event = match self.deadline {
            Some(deadline) => receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => Some(receiver.recv()),
        };
        let came = event.is_some();
        receiver.put_back(event.into_iter());
        came
    }

    /// A first connection must be possible as asked, unless it is waited for; one that stood is worth waiting
    /// for, even where the relay still holds its name.
    fn worth_another(&self, error: &ConnectError, last: Option<&LastConnection>) -> bool {
        match last {
            Some(last) if error.is_name_taken() => last.ended.elapsed() < 2 * last.keepalive + NAME_GRACE,
            Some(_) => error.may_retry(),
            None => error.may_retry() && (self.await_first || matches!(error, ConnectError::Refused(_))),
        }
    }
}

/// Says GOODBYE and waits a while for the end. A relay that is left without a word logs a client that was lost.
pub(super) fn part(sender: &Sender, receiver: &mut Receiver) {
    let _ = sender.goodbye();
    // Closing with bytes unread would reset the connection, and the reset could overtake the GOODBYE.
    let end = Instant::now() + GOODBYE_TIMEOUT;
    while !matches!(receiver.recv_timeout(end.saturating_duration_since(Instant::now())), None | Some(Event::Closed(_)))
    {
    }
}

#[derive(Debug)]
struct LastConnection {
    ended: Instant,
    keepalive: Duration,
}

/// The line for a connection that cannot be had, with what to change about the command.
pub(super) fn cannot_connect(address: &Address, options: &Options, error: &ConnectError) -> Trouble {
    let name = &options.name;
    let hint = match error {
        ConnectError::BadOptions(why) if !is_valid_name(name) => {
            return Trouble::Usage(format!("the name {name:?} cannot be used: {why}"));
        }
        ConnectError::BadOptions(why) => return Trouble::Usage((*why).to_owned()),
        // Nobody was connected to.
        ConnectError::Tls(TlsError::File { path, why }) => {
            return Trouble::System(format!("cannot use {}: {why}", path.display()));
        }
        ConnectError::Network(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "; is `switchboard serve` running there?".to_owned()
        }
        ConnectError::Tls(error) => hint_for_tls(error, &options.tls).to_owned(),
        ConnectError::Refused(failure) => match failure.code() {
            Some(Code::HelloNameTaken) if options.credentials.is_some() => {
                format!("; end that one if it is your own, or choose another with --name than {name:?}")
            }
            Some(Code::HelloNameTaken) => format!("; choose another with --name than {name:?}"),
            Some(Code::NameDenied) if matches!(options.credentials, Some(Credentials::Token(_))) => {
                format!(
                    "; say with --user whose token it is, or choose a name that the user may have with --name, other than {name:?}"
                )
            }
            Some(Code::AuthFailed) => "; check the user's name and its password, token or certificate".to_owned(),
            Some(Code::TooManyAttempts) => failure.retry_after.map_or_else(String::new, |wait| {
                format!("; passwords from this address are looked at again in {:.0} s", wait.as_secs_f64())
            }),
            Some(Code::NameDenied) => format!("; choose one that the user may have with --name, other than {name:?}"),
            Some(Code::AuthRequired) => {
                "; say who you are with --user NAME, --token-file FILE, or --cert FILE and --key FILE".to_owned()
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    Trouble::System(format!("cannot connect to {address}: {error}{hint}"))
}

const fn hint_for_tls(error: &TlsError, tls: &Tls) -> &'static str {
    match (error, &tls.ca) {
        (TlsError::UnknownIssuer, None) => "; give its certificate, or that of its authority, with --ca FILE",
        (TlsError::UnknownIssuer, Some(_)) => "; is it the right file that --ca names?",
        (TlsError::NoAuthorities { .. }, _) => "; install them (ca-certificates), or give the relay's with --ca FILE",
        (TlsError::CertificateRequired, _) => "; give yours with --cert FILE and --key FILE",
        _ => "",
    }
}
