//! What the two ends of a connection over TLS have agreed on, or why they could not.

use std::fmt;

use rustls::{CipherSuite, Error, InvalidMessage, ProtocolVersion};

/// What two ends have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsTerms {
    /// The version.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub suite: CipherSuite,
    /// Whether an earlier session was taken up, which spares a signature and the check of a certificate.
    pub is_resumed: bool,
}

/// Why a peer and this side could not speak TLS with each other, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// What the peer sent is no TLS: a port scan, or a client for plain connections.
    NotTls,
    /// There is no version, cipher or protocol (ALPN) that both have.
    NoAgreement,
    /// The peer's certificate is missing, or does not hold.
    BadCertificate,
    /// The peer broke it off by an alert: most often because it does not trust this side's certificate.
    Rejected,
    /// What the peer sent breaks the rules, or was changed on its way.
    Broken,
}

impl TlsFault {
    /// Every fault, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::NotTls, Self::NoAgreement, Self::BadCertificate, Self::Rejected, Self::Broken];

    pub(super) fn of(error: &Error, is_established: bool) -> Self {
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)
                if !is_established =>
            {
                Self::NotTls
            }
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::NoAgreement,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
                Self::BadCertificate
            }
            Error::AlertReceived(_) => Self::Rejected,
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "not TLS",
            Self::NoAgreement => "no agreement",
            Self::BadCertificate => "bad certificate",
            Self::Rejected => "rejected by the peer",
            Self::Broken => "broken",
        })
    }
}
