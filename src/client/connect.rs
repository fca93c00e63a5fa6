//! From an address to a registered client: the look-up, the connection, TLS where it is wanted, HELLO and WELCOME.

use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connect_error::ConnectError;
use super::event::Event;
use super::inbox::Inbox;
use super::sender::{Session, Shared};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{Fault, TlsError};
use super::{Address, Client, Options, Receiver, Sender};
use crate::wire::control::{Body, Welcome};
use crate::wire::{HELLO_BYTES_MAX, Header, Type, VERSION};

/// The type of a TLS record that carries an alert, and the first byte of every version's number: how a relay that
/// expected TLS answers a HELLO without.
const TLS_ALERT: [u8; 2] = [21, 3];

impl Client {
    /// Connects to the relay at `address` and registers.
    ///
    /// # Errors
    /// See [`ConnectError`]; [`ConnectError::may_retry`] says whether it is worth another attempt.
    pub fn connect(address: &Address, options: &Options) -> Result<Self, ConnectError> {
        if let Some(fault) = options.fault(address) {
            return Err(ConnectError::BadOptions(fault));
        }
        // Files are looked at before anybody is connected to.
        let plan = match address {
            Address::Tls { host, port } => Some(options.tls.plan(host, *port)?),
            Address::Tcp { .. } | Address::Unix(_) => None,
        };
        let timeout = options.connect_timeout;
        let started = Instant::now();
        // A time that the clock cannot hold is cut to a day.
        let deadline = started.checked_add(timeout).unwrap_or(started + Duration::from_hours(24));
        let stream = Stream::connect(address, deadline).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => ConnectError::TimedOut { timeout },
            _ => ConnectError::Network(error),
        })?;
        let channel = plan.map(|plan| plan.open(&stream, deadline)).transpose()?;
        let socket = Socket::new(stream, channel);
        let mut talk = Talk { address, socket, inbox: Inbox::default(), unsaid: None, timeout, deadline };
        let mut hello = Vec::new();
        options.hello().write_frame(Header::new(Type::Hello).correlating(1), &mut hello);
        talk.say(&hello);
        let (header, payload) = talk.hear()?;
        let session = read_answer(header, &payload, options)?;
        let shared = Shared::new(talk.socket, session, started);
        let sender = Sender { shared: shared.clone() };
        Ok(Self { sender, receiver: Receiver::new(shared, talk.inbox) })
    }
}

/// What is said before the relay has welcomed: a frame of ours, a frame of its, until the deadline.
struct Talk<'a> {
    address: &'a Address,
    socket: Socket,
    inbox: Inbox,
    /// Why a frame of ours could not be said. The relay may have said why before.
    unsaid: Option<io::Error>,
    timeout: Duration,
    deadline: Instant,
}

impl Talk<'_> {
    fn say(&mut self, frame: &[u8]) {
        self.unsaid = self.socket.write_all(&mut [IoSlice::new(frame)]).err();
    }

    fn hear(&mut self) -> Result<(Header, Bytes), ConnectError> {
        loop {
            // What is welcomed is small; more may only be sent once it has been agreed.
            match self.inbox.frame(HELLO_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(_) => return Err(self.no_frame()),
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::TimedOut { timeout: self.timeout });
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
        match self.address {
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
            Some(Fault::Broken(error)) => ConnectError::from(TlsError::of(error.clone(), "")),
            None => ConnectError::Network(self.unsaid.take().unwrap_or(error)),
        }
    }
}

fn read_answer(header: Header, payload: &Bytes, options: &Options) -> Result<Session, ConnectError> {
    if header.frame_type() != Some(Type::Welcome) {
        return Err(match Event::read(header, payload.clone(), 0, 0) {
            Ok(Some(Event::Error(failure) | Event::Goodbye(failure))) => ConnectError::Refused(failure),
            _ => ConnectError::NotARelay("its first frame is neither WELCOME nor ERROR"),
        });
    }
    let welcome = Welcome::parse(payload).map_err(|_| ConnectError::NotARelay("its WELCOME cannot be read"))?;
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
    })
}
