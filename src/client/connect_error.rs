//! Why there is no connection, and whether it is worth another attempt.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Address;
use super::event::Failure;
use super::tls::TlsError;
use crate::wire::Code;

/// What is said of a relay that has closed before its first word. Where TLS would come first, or the header of a proxy, it
/// has no way to say why.
pub(super) const WITHOUT_A_WORD: &str =
    "the relay closed the connection without a word (it may be full, or not take this address; its log says)";

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option that every relay would refuse.
    BadOptions(&'static str),
    /// The host is not known, nobody listens, or the network failed; [`ErrorKind::UnexpectedEof`] where the relay closed
    /// the connection without a word.
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
    /// What listens there speaks TLS, and the address has no `tls://`.
    SpeaksTls {
        /// The address at which it may be reached.
        address: Address,
    },
    /// The relay has welcomed a client that wanted to prove who it is, and has not asked it to: it may be another one
    /// than was meant.
    NotAsked,
    /// The relay knows the client as another user than was meant.
    OtherUser {
        /// Who was meant.
        expected: String,
        /// As whom it is known.
        user: String,
    },
    /// The relay could not prove that it knows the user, or speaks as none that does; this is what is wrong.
    Unproven(String),
    /// There is no TLS with the relay, or none that may be relied on.
    Tls(TlsError),
}

impl ConnectError {
    /// Whether it may be tried again unchanged, after a delay.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        match self {
            Self::BadOptions(_)
            | Self::NotARelay(_)
            | Self::SpeaksTls { .. }
            | Self::NotAsked
            | Self::OtherUser { .. }
            | Self::Unproven(_) => false,
            Self::Network(_) | Self::TimedOut { .. } => true,
            Self::Refused(failure) => failure.may_return(),
            Self::Tls(error) => error.may_retry(),
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
            Self::Network(error) if error.kind() == ErrorKind::UnexpectedEof => f.write_str(WITHOUT_A_WORD),
            Self::Network(error) => error.fmt(f),
            Self::TimedOut { timeout } => write!(f, "no answer within {:.1} s", timeout.as_secs_f64()),
            Self::Refused(failure) => write!(f, "the relay refused: {failure}"),
            Self::NotARelay(why) => write!(f, "this is no switchboard relay: {why}"),
            Self::SpeaksTls { address } => write!(f, "that port speaks TLS: write {address}"),
            Self::NotAsked => f.write_str(
                "this relay does not ask who anybody is: it is another than was meant, or needs no credentials",
            ),
            Self::OtherUser { expected, user } => {
                write!(f, "the relay knows this client as {user:?}, and {expected:?} was meant")
            }
            Self::Unproven(why) => write!(f, "the relay has not proved that it knows the user: {why}"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // These two say what is in them themselves, so the cause is that of what is in them.
        match self {
            Self::Network(error) => error.source(),
            Self::Tls(error) => error.source(),
            _ => None,
        }
    }
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Network(error) => Self::Network(error),
            error => Self::Tls(error),
        }
    }
}
