//! From an address to a registered client: the look-up, the connection, TLS where it is wanted, HELLO, the proof of
//! who it is, and WELCOME.

use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connect_error::ConnectError;
use super::credentials::{Ground, Proof};
use super::event::{Event, Failure};
use super::inbox::Inbox;
use super::sender::{Session, Shared};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{Fault, TlsError};
use super::{Address, Client, Credentials, Options, Receiver, Sender};
use crate::auth::{Binding, Mechanism};
use crate::wire::control::{Auth, Body, Welcome};
use crate::wire::{Code, HELLO_BYTES_MAX, Header, Type, VERSION};

/// The type of a TLS record that carries an alert, and the first byte of every version's number: how a relay that
/// expected TLS answers a HELLO without.
const TLS_ALERT: [u8; 2] = [21, 3];

impl Client {
    /// Connects to the relay at `address`, registers, and proves who it is where the options have credentials.
    ///
    /// # Errors
    /// See [`ConnectError`]; [`ConnectError::may_retry`] says whether it is worth another attempt.
    pub fn connect(address: &Address, options: &Options) -> Result<Self, ConnectError> {
        if let Some(fault) = options.fault(address) {
            return Err(ConnectError::BadOptions(fault));
        }
        let timeout = options.connect_timeout;
        let started = Instant::now();
        // A time that the clock cannot hold is cut to a day.
        let deadline = started.checked_add(timeout).unwrap_or(started + Duration::from_hours(24));
        let credentials = options.credentials.as_ref();
        let attempt = Attempt { address, options, credentials, is_bindable: true, started, timeout, deadline };
        match attempt.run() {
            Err(ConnectError::Refused(failure)) => match attempt.otherwise(&failure) {
                Some(attempt) => attempt.run(),
                None => Err(ConnectError::Refused(failure)),
            },
            done => done,
        }
    }
}

/// One way to a relay, until the deadline.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    address: &'a Address,
    options: &'a Options,
    credentials: Option<&'a Credentials>,
    /// The relay may offer to bind an authentication to TLS.
    is_bindable: bool,
    started: Instant,
    timeout: Duration,
    deadline: Instant,
}

impl Attempt<'_> {
    fn run(self) -> Result<Client, ConnectError> {
        let Self { address, options, is_bindable, deadline, .. } = self;
        // Files are looked at before anybody is connected to.
        let plan = match address {
            Address::Tls { host, port } => Some(options.tls.plan(host, *port)?),
            Address::Tcp { .. } | Address::Unix(_) => None,
        };
        let stream = Stream::connect(address, deadline).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => ConnectError::TimedOut { timeout: self.timeout },
            _ => ConnectError::Network(error),
        })?;
        let channel = plan.map(|plan| plan.open(&stream, deadline)).transpose();
        let channel = channel.map_err(|error| options.tls.explained(error))?;
        let socket = Socket::new(stream, channel);
        // Whoever could bind to TLS says so where this TLS has nothing to bind to: a relay that has been kept from it by
        // somebody in between, who speaks another version on this side, notices.
        let unbound = if matches!(address, Address::Tls { .. }) { Binding::Withheld } else { Binding::None };
        let binding = socket.channel_binding().map_or(unbound, Binding::Exporter);
        let is_private = socket.is_private();
        let mut proof = Proof::begin(self.credentials, Ground { binding, is_bindable, is_private })?;
        let mut talk = Talk { attempt: self, socket, inbox: Inbox::default(), unsaid: None };
        talk.say(Type::Hello, &options.hello(&proof));
        let session = loop {
            let (header, payload) = talk.hear()?;
            match header.frame_type() {
                Some(Type::Auth) => {
                    let challenge = Auth::parse(&payload).map_err(|_| unreadable("its AUTH cannot be read"))?;
                    let answer = proof.answer(challenge.data)?;
                    talk.say(Type::Auth, &Auth { data: answer.as_bytes() });
                }
                Some(Type::Welcome) => {
                    let welcome = Welcome::parse(&payload).map_err(|_| unreadable("its WELCOME cannot be read"))?;
                    proof.check(&welcome, options.expected_user())?;
                    break agreed(&welcome, options)?;
                }
                _ => return Err(refusal(header, &payload)),
            }
        };
        let shared = Shared::new(talk.socket, session, self.started);
        let sender = Sender { shared: shared.clone() };
        Ok(Client { sender, receiver: Receiver::new(shared, talk.inbox) })
    }

    /// Another attempt that is worth making, once, where the relay has said what it takes.
    ///
    /// A certificate that TLS has shown anyway says who the client is where the relay asks for it. And a password is
    /// proved without TLS where the relay does not see it, as behind something that ends it in front of the relay: the
    /// certificate was checked, and the exchange says that the binding was left out, so that a relay which did offer it
    /// notices (RFC 5802 section 6).
    fn otherwise(self, failure: &Failure) -> Option<Self> {
        let offers = |mechanism: Mechanism| failure.mechanisms.iter().any(|other| other == mechanism.name());
        match (failure.code()?, self.credentials) {
            (Code::AuthRequired, None) if self.options.tls.identity.is_some() && offers(Mechanism::External) => {
                Some(Self { credentials: Some(&Credentials::Certificate), ..self })
            }
            (Code::BadMechanism, Some(Credentials::Password { .. }))
                if matches!(self.address, Address::Tls { .. })
                    && offers(Mechanism::ScramSha256)
                    && !offers(Mechanism::ScramSha256Plus) =>
            {
                Some(Self { is_bindable: false, ..self })
            }
            _ => None,
        }
    }
}

/// What is said before the relay has welcomed: a frame of ours, a frame of its, until the deadline.
struct Talk<'a> {
    attempt: Attempt<'a>,
    socket: Socket,
    inbox: Inbox,
    /// Why a frame of ours could not be said. The relay may have said why before.
    unsaid: Option<io::Error>,
}

impl Talk<'_> {
    fn say<'b>(&mut self, kind: Type, body: &impl Body<'b>) {
        let mut frame = Vec::new();
        body.write_frame(Header::new(kind).correlating(1), &mut frame);
        self.unsaid = self.socket.write_all(&mut [IoSlice::new(&frame)]).err();
    }

    fn hear(&mut self) -> Result<(Header, Bytes), ConnectError> {
        loop {
            // What is welcomed is small; more may only be sent once it has been agreed.
            match self.inbox.frame(HELLO_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(_) => return Err(self.no_frame()),
            }
            let left = self.attempt.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::TimedOut { timeout: self.attempt.timeout });
            }
            if self.socket.wait(true, false, Some(left)).map_err(ConnectError::Network)?.readable {
                match self.socket.read(self.inbox.space()) {
                    Ok(0) => return Err(self.lost(ErrorKind::UnexpectedEof.into())),
                    Ok(count) => self.inbox.filled(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(self.lost(error)),
                }
            }
        }
    }

    fn no_frame(&self) -> ConnectError {
        match self.attempt.address {
            Address::Tcp { host, port } if self.inbox.unread().starts_with(&TLS_ALERT) => {
                ConnectError::SpeaksTls { address: Address::Tls { host: host.clone(), port: *port } }
            }
            _ => ConnectError::NotARelay("its first bytes are not a frame"),
        }
    }

    fn lost(&mut self, error: io::Error) -> ConnectError {
        match Fault::of(&error) {
            Some(Fault::Truncated) => ConnectError::Tls(TlsError::Ended),
            // A relay of TLS 1.3 judges the client's certificate only when the client takes the handshake for done.
            Some(Fault::Broken(error)) => {
                ConnectError::from(self.attempt.options.tls.explained(TlsError::of(error.clone(), "")))
            }
            None => ConnectError::Network(self.unsaid.take().unwrap_or(error)),
        }
    }
}

const fn unreadable(what: &'static str) -> ConnectError {
    ConnectError::NotARelay(what)
}

/// What the relay says instead of welcoming.
fn refusal(header: Header, payload: &Bytes) -> ConnectError {
    match Event::read(header, payload.clone(), 0, 0) {
        Ok(Some(Event::Error(failure) | Event::Goodbye(failure))) => ConnectError::Refused(failure),
        _ => ConnectError::NotARelay("it says neither WELCOME nor ERROR"),
    }
}

/// What holds from here on.
fn agreed(welcome: &Welcome<'_>, options: &Options) -> Result<Session, ConnectError> {
    if welcome.version != VERSION {
        return Err(ConnectError::NotARelay("it chose a version that this client did not offer"));
    }
    Ok(Session {
        client: welcome.client,
        payload_bytes_max: welcome.payload_bytes_max.min(options.payload_bytes_max),
        keepalive: Duration::from_millis(u64::from(welcome.keepalive_ms)),
        queue_bytes_max: welcome.queue_bytes_max,
        clock_us: welcome.clock_us,
        epoch_us: welcome.epoch_us,
        address: welcome.address.to_owned(),
        agent: welcome.agent.to_owned(),
        user: welcome.user.map(str::to_owned),
    })
}
