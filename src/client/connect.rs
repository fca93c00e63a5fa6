//! From an address to a registered client: the look-up, the connection, HELLO and WELCOME.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, Instant};

use super::event::{Event, Failure};
use super::inbox::Inbox;
use super::sender::{Session, Shared};
use super::socket::Socket;
use super::{Address, Client, Options, Receiver, Sender};
use crate::wire::control::{Body, Welcome};
use crate::wire::{Code, HELLO_BYTES_MAX, Header, Type, VERSION};

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// An option that every relay would refuse.
    BadOptions(&'static str),
    /// The host is not known, nobody listens, or the network failed.
    Network(io::Error),
    /// The relay said nothing in time.
    TimedOut {
        /// How long it had.
        timeout: Duration,
    },
    /// The relay refused, and this is why.
    Refused(Failure),
    /// What listens there does not speak this protocol.
    NotARelay(&'static str),
}

impl ConnectError {
    /// Whether it may be tried again unchanged, after a delay.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        match self {
            Self::BadOptions(_) | Self::NotARelay(_) => false,
            Self::Network(_) | Self::TimedOut { .. } => true,
            Self::Refused(failure) => failure.may_return(),
        }
    }

    /// How long the relay asked to wait before coming back.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(failure) => failure.retry_after,
            _ => None,
        }
    }

    /// The name belongs to another client: maybe to this one's own connection of a moment ago.
    #[must_use]
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Refused(failure) if failure.code() == Some(Code::HelloNameTaken))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadOptions(why) => f.write_str(why),
            Self::Network(error) => error.fmt(f),
            Self::TimedOut { timeout } => write!(f, "no answer within {:.1} s", timeout.as_secs_f64()),
            Self::Refused(failure) => write!(f, "the relay refused: {failure}"),
            Self::NotARelay(why) => write!(f, "this is no switchboard relay: {why}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl Client {
    /// Connects to the relay at `address` and registers.
    ///
    /// # Errors
    /// See [`ConnectError`]; [`ConnectError::may_retry`] says whether it is worth another attempt.
    pub fn connect(address: &Address, options: &Options) -> Result<Self, ConnectError> {
        if let Some(fault) = options.fault() {
            return Err(ConnectError::BadOptions(fault));
        }
        let timeout = options.connect_timeout;
        let started = Instant::now();
        let timed_out = |error: io::Error| match error.kind() {
            ErrorKind::TimedOut => ConnectError::TimedOut { timeout },
            _ => ConnectError::Network(error),
        };
        // A time that the clock cannot hold is cut to a day.
        let deadline = started.checked_add(timeout).unwrap_or(started + Duration::from_hours(24));
        let socket = Socket::connect(address, deadline).map_err(timed_out)?;
        let mut hello = Vec::new();
        options.hello().write_frame(Header::new(Type::Hello).correlating(1), &mut hello);
        socket.write_all(&mut [IoSlice::new(&hello)]).map_err(timed_out)?;
        let mut inbox = Inbox::default();
        let session = loop {
            // What is welcomed is small; more may only be sent once it has been agreed.
            match inbox.frame(HELLO_BYTES_MAX) {
                Ok(Some((header, payload))) => break read_answer(header, &payload, options)?,
                Ok(None) => {}
                Err(_) => return Err(ConnectError::NotARelay("its first bytes are not a frame")),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::TimedOut { timeout });
            }
            if socket.wait(true, false, Some(left)).map_err(ConnectError::Network)?.readable {
                match socket.read(inbox.space()) {
                    Ok(0) => return Err(ConnectError::Network(ErrorKind::UnexpectedEof.into())),
                    Ok(count) => inbox.filled(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(ConnectError::Network(error)),
                }
            }
        };
        let shared = Shared::new(socket, session, started);
        let sender = Sender { shared: shared.clone() };
        Ok(Self { sender, receiver: Receiver::new(shared, inbox) })
    }
}

fn read_answer(header: Header, payload: &bytes::Bytes, options: &Options) -> Result<Session, ConnectError> {
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
