//! Agreeing on TLS, which is rustls's work from the first byte to the last: versions, suites, certificates, sessions that are
//! taken up, and what is said to a peer with which none of it can be agreed on.
//!
//! It is shown one whole record at a time. So when it says that the handshake is over, nothing that belongs behind that has
//! gone into it, be it in the same read: the rest is for the keys that come of it ([`Records`]).

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus};
use rustls::{Error, HandshakeKind};

use super::TlsTerms;
use super::records::{HEADER_BYTES, Kernel, Records};
use super::tls::TlsRole;
use super::unwritten::Unwritten;

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// A handshake that is not over.
pub(super) struct Handshake {
    side: Side,
    /// Bytes in front of those that it has not been shown: a part of a message, the rest of which comes in another record.
    /// It remembers where they lie, and is shown them again.
    seen: usize,
}

/// What has been agreed on, and the keys for it.
pub(super) struct Agreed {
    pub(super) records: Records,
    pub(super) terms: TlsTerms,
    /// That of the peer, in DER.
    pub(super) certificate: Option<Box<[u8]>>,
}

impl Handshake {
    pub(super) fn new(role: TlsRole, outgoing: &mut Unwritten) -> Result<Self, Error> {
        let is_extractable = match &role {
            TlsRole::Server(config) => config.enable_secret_extraction,
            TlsRole::Client(config, _) => config.enable_secret_extraction,
        };
        if !is_extractable {
            return Err(Error::General("the configuration does not have `enable_secret_extraction`".into()));
        }
        let mut side = match role {
            TlsRole::Server(config) => Side::Server(UnbufferedServerConnection::new(config)?),
            TlsRole::Client(config, name) => Side::Client(UnbufferedClientConnection::new(config, name)?),
        };
        // A client speaks first.
        side.show(&mut [], outgoing)?;
        Ok(Self { side, seen: 0 })
    }

    /// Goes on with the records of `cipher` that are whole, which begins with whatever it has left before; `Ok(true)` if it is
    /// over. `consumed` is how far it has got. After an error the alert for the peer stands in `outgoing`.
    pub(super) fn go_on(
        &mut self,
        cipher: &mut [u8],
        consumed: &mut usize,
        outgoing: &mut Unwritten,
    ) -> Result<bool, Error> {
        loop {
            let start = *consumed + self.seen;
            let whole = record_bytes(cipher.get(start..).unwrap_or_default());
            // The beginning of a record is shown too, though nothing can be done with it: it may be none.
            let end = whole.map_or(cipher.len(), |length| start + length);
            let discard = self.side.show(&mut cipher[*consumed..end], outgoing)?;
            *consumed += discard;
            if whole.is_none() {
                return Ok(false);
            }
            self.seen = end - *consumed;
            if self.seen == 0 && !self.side.is_handshaking() {
                return Ok(true);
            }
        }
    }

    /// What has come of it, when it is over.
    pub(super) fn into_agreed(self) -> Result<Agreed, Error> {
        let (terms, certificate) = self.side.agreed().ok_or(Error::HandshakeNotComplete)?;
        let (suite, secrets, kernel) = match self.side {
            Side::Server(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection()?;
                (kernel.negotiated_cipher_suite(), secrets, Kernel::Server(kernel))
            }
            Side::Client(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection()?;
                (kernel.negotiated_cipher_suite(), secrets, Kernel::Client(kernel))
            }
        };
        let records = Records::new(suite, secrets, kernel)?;
        Ok(Agreed { records, terms, certificate })
    }
}

/// The length of the record that `bytes` begin with, if it is whole.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *bytes.first_chunk::<HEADER_BYTES>()?;
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (length <= bytes.len()).then_some(length)
}

impl Side {
    /// Shows it `bytes`; says how many of them are done with.
    fn show(&mut self, bytes: &mut [u8], outgoing: &mut Unwritten) -> Result<usize, Error> {
        match self {
            Self::Server(side) => show(side, bytes, outgoing),
            Self::Client(side) => show(side, bytes, outgoing),
        }
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Server(side) => side.is_handshaking(),
            Self::Client(side) => side.is_handshaking(),
        }
    }

    fn agreed(&self) -> Option<(TlsTerms, Option<Box<[u8]>>)> {
        let (version, suite, kind, chain) = match self {
            Self::Server(side) => {
                let kind = side.handshake_kind();
                (side.protocol_version()?, side.negotiated_cipher_suite()?, kind, side.peer_certificates())
            }
            Self::Client(side) => {
                let kind = side.handshake_kind();
                (side.protocol_version()?, side.negotiated_cipher_suite()?, kind, side.peer_certificates())
            }
        };
        let is_resumed = kind == Some(HandshakeKind::Resumed);
        let certificate = chain.and_then(<[_]>::first).map(|certificate| certificate.as_ref().into());
        Some((TlsTerms { version, suite: suite.suite(), is_resumed }, certificate))
    }
}

/// Either end of a connection, whose messages are handled in the same way.
trait Steps {
    type Data;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Steps for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Steps for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// Has one end handle `bytes`; says how many of them are done with.
fn show<S>(side: &mut UnbufferedConnectionCommon<S>, bytes: &mut [u8], outgoing: &mut Unwritten) -> Result<usize, Error>
where
    UnbufferedConnectionCommon<S>: Steps<Data = S>,
{
    let mut done = 0;
    loop {
        // Always all that is left: rustls remembers places in it.
        let UnbufferedStatus { discard, state } = side.step(&mut bytes[done..]);
        let mut is_over = false;
        match state {
            Ok(ConnectionState::EncodeTlsData(message)) => encode(message, outgoing),
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => is_over = true,
            // Data comes in records behind the last one of a handshake, and so does the end. Early data is not asked for.
            Ok(_) => return Err(Error::General("data in the midst of a handshake".into())),
            Err(error) => {
                // What it has to say stands in front of everything else; beyond that it must not look at the bytes again.
                while side.wants_write()
                    && let Ok(ConnectionState::EncodeTlsData(message)) = side.step(&mut []).state
                {
                    encode(message, outgoing);
                }
                return Err(error);
            }
        }
        done += discard;
        if is_over {
            return Ok(done);
        }
    }
}

/// Appends a message of rustls's own.
fn encode<S>(mut message: EncodeTlsData<'_, S>, outgoing: &mut Unwritten) {
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        let mut bytes = vec![0; size.required_size];
        if message.encode(&mut bytes).is_ok() {
            outgoing.push(bytes, 0);
        }
    }
}
