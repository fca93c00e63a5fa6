//! What can go wrong with TLS, in words for people.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};

use crate::client::Address;
use crate::client::connect_error::WITHOUT_A_WORD;

/// Why there is no connection over TLS.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that the options name is of no use; nobody was connected to.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no authorities that could be asked, and no file was given in their place.
    NoAuthorities {
        /// What the look-up complained of, if of anything.
        why: Option<String>,
    },
    /// No certificate can be for such a host; this one.
    UnfitHost(String),
    /// What listens there answers, but not in TLS.
    NotTls {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// Nobody who is believed here has signed the relay's certificate.
    UnknownIssuer,
    /// The relay's certificate is for others.
    WrongName {
        /// Who was asked for.
        host: String,
        /// Whom it is for, as the certificate says: nothing in it was checked.
        names: Vec<String>,
    },
    /// The relay's certificate is of the past.
    Expired {
        /// For how long.
        ago: Option<Duration>,
    },
    /// The relay's certificate is of the future: one of the two clocks is wrong.
    NotValidYet,
    /// The relay's certificate is of no use in another way; this one.
    BadCertificate(String),
    /// The relay wants a certificate of the client, and got none.
    CertificateRequired,
    /// The relay does not take the client's certificate, which is of the past.
    OwnExpired {
        /// Its file.
        path: PathBuf,
        /// The day on which it ended, as 2026-11-27.
        day: String,
    },
    /// The relay does not take the client's certificate, which is of the future: one of the two clocks is wrong.
    OwnNotValidYet {
        /// Its file.
        path: PathBuf,
        /// The day on which it begins to hold.
        day: String,
    },
    /// The relay does not take the client's certificate for another reason; this one.
    CertificateRefused(String),
    /// What listens there speaks TLS, and within it something else than this protocol.
    OtherProtocol,
    /// The relay ended the handshake; TLS's word for why.
    Refused(String),
    /// What came is not what TLS allows: a fault of the other side, or of somebody in between.
    Broken(String),
    /// The handshake was not over in time.
    TimedOut {
        /// How long it had.
        timeout: Duration,
    },
    /// The connection was closed during the handshake, or before the relay had said anything.
    Ended,
    /// The network failed.
    Network(io::Error),
}

impl TlsError {
    /// Whether it may be tried again unchanged, after a delay. What was found out about the other side stays so until
    /// somebody changes it.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Ended | Self::Network(_))
    }

    /// What an error of the library means to somebody who wanted to talk to `host`.
    pub(in crate::client) fn of(error: Error, host: &str) -> Self {
        match error {
            Error::InvalidCertificate(why) => Self::of_certificate(why, host),
            Error::AlertReceived(alert) => Self::of_alert(alert),
            Error::NoApplicationProtocol => Self::OtherProtocol,
            error => Self::Broken(error.to_string()),
        }
    }

    fn of_certificate(why: CertificateError, host: &str) -> Self {
        match why {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::WrongName { host: host.to_owned(), names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| plain_name(name).to_owned()).collect();
                Self::WrongName { host: host.to_owned(), names }
            }
            CertificateError::Expired => Self::Expired { ago: None },
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = time.as_secs().saturating_sub(not_after.as_secs());
                Self::Expired { ago: Some(Duration::from_secs(ago)) }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::BadEncoding => Self::BadCertificate("it is damaged".into()),
            CertificateError::BadSignature => {
                Self::BadCertificate("the relay has not proved that it has its key".into())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::BadCertificate("it is not meant for a server".into())
            }
            why => Self::BadCertificate(why.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        let why = match alert {
            AlertDescription::CertificateRequired => return Self::CertificateRequired,
            AlertDescription::NoApplicationProtocol => return Self::OtherProtocol,
            AlertDescription::UnknownCA => "the relay does not know the authority that signed it",
            AlertDescription::CertificateExpired => "by the relay's clock it has ended, or does not hold yet",
            AlertDescription::UnsupportedCertificate => "it is not meant for a client",
            AlertDescription::CertificateRevoked => "it was revoked",
            AlertDescription::BadCertificate => "the relay cannot read it",
            AlertDescription::AccessDenied => "the relay lets nobody in by it",
            AlertDescription::CertificateUnknown => "the relay does not say why",
            _ => return Self::Refused(alert.as_str().unwrap_or("an alert without a name").to_owned()),
        };
        Self::CertificateRefused(why.to_owned())
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::NoAuthorities { why } => {
                f.write_str("this system has no certificates of authorities that a relay could be checked against")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Self::UnfitHost(host) => write!(f, "no certificate can be for {host:?}: write the host's name or number"),
            Self::NotTls { host, port } => {
                let plain = Address::Tcp { host: host.clone(), port: *port };
                write!(f, "what listens there does not speak TLS: try {plain} without tls://")
            }
            Self::UnknownIssuer => f.write_str("the relay's certificate is signed by nobody who is trusted here"),
            Self::WrongName { host, names } if names.is_empty() => {
                write!(f, "the relay's certificate is not for {host}: it names nobody")
            }
            Self::WrongName { host, names } => {
                write!(f, "the relay's certificate is not for {host} but for {}", names.join(", "))
            }
            Self::Expired { ago } => {
                f.write_str("the relay's certificate has expired")?;
                match ago.map(|ago| ago.as_secs() / 86_400) {
                    None => Ok(()),
                    Some(0) => f.write_str(" within the last day"),
                    Some(1) => f.write_str(" a day ago"),
                    Some(days) => write!(f, " {days} days ago"),
                }
            }
            Self::NotValidYet => {
                f.write_str("the relay's certificate is not valid yet: is the clock of this machine right?")
            }
            Self::BadCertificate(why) => write!(f, "the relay's certificate cannot be accepted: {why}"),
            Self::CertificateRequired => f.write_str("the relay wants a certificate of the client"),
            Self::OwnExpired { path, day } => {
                write!(f, "your certificate {} ended on {day}: renew it", path.display())
            }
            Self::OwnNotValidYet { path, day } => {
                let path = path.display();
                write!(f, "your certificate {path} does not hold before {day}: is the clock of this machine right?")
            }
            Self::CertificateRefused(why) => write!(f, "the relay does not take your certificate: {why}"),
            Self::OtherProtocol => f.write_str("what listens there speaks TLS, but it is no switchboard relay"),
            Self::Refused(alert) => write!(f, "the relay ended the TLS handshake ({alert})"),
            Self::Broken(why) => write!(f, "TLS has failed: {why}"),
            Self::TimedOut { timeout } => write!(f, "no TLS handshake within {:.1} s", timeout.as_secs_f64()),
            Self::Ended => f.write_str(WITHOUT_A_WORD),
            Self::Network(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Network(error) => error.source(),
            _ => None,
        }
    }
}

/// The library writes a name as `DnsName("example.org")` or `IpAddress(127.0.0.1)`.
fn plain_name(text: &str) -> &str {
    let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text);
    inner.trim_matches('"')
}
