//! The records of one connection behind its handshake: which of them are data, and what the others mean (RFC 8446, RFC 5246).
//!
//! ```text
//!   [ header | sealed ] [ header | sealed ] [ header | sea     what was read
//!            [ opened ]           [ opened ]                   where it lies
//!            [ opened | opened ]                               moved together: one run of the peer's bytes
//! ```
//!
//! Every record is opened where it was read, so data is copied only where there is more than one of them. What a record
//! says beside data is dealt with at once: a new key, a ticket, an alert. Whatever breaks the rules ends the connection with
//! the alert that the specification has for it.
//!
//! How a record is sealed and opened is in [`super::protection`]; it, and the keys that follow on others, are rustls's.

use std::fmt;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{InboundOpaqueMessage, OutboundChunks};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved,
    ProtocolVersion, SupportedCipherSuite,
};

use super::protection::{Opener, Sealer};
use super::unwritten::Unwritten;

/// A type, a version and a length stand in front of each record.
pub(super) const HEADER_BYTES: usize = 5;
/// Plaintext in one record, at most (RFC 8446, section 5.1).
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What protection may add to that (RFC 8446, section 5.2; RFC 5246, section 6.2.3).
const EXPANSION_MAX: usize = 256;
const EXPANSION_MAX_12: usize = 2048;
/// The longest message of a handshake that is joined when it comes in several records: a ticket that holds a certificate
/// has a few KiB. It is less than a record, so that what is kept of a connection is no more than a record of it would be.
const MESSAGE_BYTES_MAX: usize = 15 * 1024;

/// Alerts are a level and a description.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Messages of the handshake that may come behind it (RFC 8446, section 4; RFC 5246, section 7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// The sender has a new key from the next record on; the receiver need not have one.
const KEY_UPDATE_NOTICE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// What follows on a handshake of TLS 1.3: further keys, and for a client tickets.
pub(super) enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Kernel {
    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(kernel) => kernel.update_rx_secret(),
            Self::Client(kernel) => kernel.update_rx_secret(),
        }
    }

    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(kernel) => kernel.update_tx_secret(),
            Self::Client(kernel) => kernel.update_tx_secret(),
        }
    }
}

/// Bytes of data that a peer sends for one more new key: those of a long record, which costs about as much to open.
const KEY_UPDATE_DATA_BYTES: usize = RECORD_BYTES_MAX;

/// How much a peer may still do of what is allowed, and of no use. The numbers are those of rustls and BoringSSL; but there
/// any byte of data lets a peer go on with new keys, which have 27 bytes each and cost as much as a long record.
struct Patience {
    warnings: u8,
    renegotiations: u8,
    /// One more for each [`KEY_UPDATE_DATA_BYTES`].
    key_updates: u8,
    /// Data since the last of these.
    data_bytes: usize,
    /// In a row.
    empty_records: u8,
}

impl Patience {
    const NEW: Self = Self { warnings: 4, renegotiations: 1, key_updates: 32, data_bytes: 0, empty_records: 32 };

    fn take_data(&mut self, bytes: usize) {
        self.data_bytes += bytes;
        if self.data_bytes >= KEY_UPDATE_DATA_BYTES {
            self.data_bytes -= KEY_UPDATE_DATA_BYTES;
            self.key_updates = Self::NEW.key_updates.min(self.key_updates + 1);
        }
    }

    fn spend(left: &mut u8, misbehaved: PeerMisbehaved) -> Result<(), Fault> {
        *left = left.checked_sub(1).ok_or(Fault::from(Error::PeerMisbehaved(misbehaved)))?;
        Ok(())
    }
}

/// The keys of a connection, and what they are used for.
pub(super) struct Records {
    suite: SupportedCipherSuite,
    opener: Opener,
    sealer: Sealer,
    is_client: bool,
    /// In TLS 1.3 only: before that, keys are what they are.
    kernel: Option<Kernel>,
    /// The beginning of a message of the handshake, whose end has not come.
    half_said: Vec<u8>,
    patience: Patience,
    /// The last record that announces a new key, by its number in what is not written.
    key_update: Option<u64>,
    has_ended: bool,
    /// This side has said that nothing follows.
    is_silent: bool,
}

impl fmt::Debug for Records {
    /// Nothing of its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// What has been opened of a read.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// How far that is.
    pub(super) consumed: usize,
    /// Where the data lies now.
    pub(super) plain: Range<usize>,
    /// Records that it came in.
    pub(super) records: u64,
}

impl Opened {
    /// Puts data that lies at `range` of `cipher` behind what there is.
    fn take(&mut self, cipher: &mut [u8], range: Range<usize>) {
        self.records += 1;
        if self.plain.is_empty() {
            self.plain = range;
        } else if !range.is_empty() {
            let end = self.plain.end + range.len();
            cipher.copy_within(range, self.plain.end);
            self.plain.end = end;
        }
    }
}

/// Why a connection cannot go on, and what its peer is told of that.
struct Fault {
    alert: Option<AlertDescription>,
    error: Error,
}

impl From<Error> for Fault {
    /// With the alert of RFC 8446, section 6.2.
    fn from(error: Error) -> Self {
        let alert = match &error {
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord | Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
                AlertDescription::RecordOverflow
            }
            Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => AlertDescription::IllegalParameter,
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::InvalidEmptyPayload)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => AlertDescription::UnexpectedMessage,
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            _ => AlertDescription::InternalError,
        };
        Self { alert: Some(alert), error }
    }
}

fn invalid(what: InvalidMessage) -> Fault {
    Error::InvalidMessage(what).into()
}

impl Records {
    pub(super) fn new(suite: SupportedCipherSuite, secrets: ExtractedSecrets, kernel: Kernel) -> Result<Self, Error> {
        Ok(Self {
            suite,
            opener: Opener::new(suite, secrets.rx)?,
            sealer: Sealer::new(suite, secrets.tx)?,
            is_client: matches!(kernel, Kernel::Client(_)),
            kernel: suite.tls13().is_some().then_some(kernel),
            half_said: Vec::new(),
            patience: Patience::NEW,
            key_update: None,
            has_ended: false,
            is_silent: false,
        })
    }

    /// Whether the peer has said that nothing follows.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Bytes that are kept of a message of the handshake.
    pub(super) const fn half_said_bytes(&self) -> usize {
        self.half_said.len()
    }

    /// Opens the records of `cipher` that are whole, from where `opened` says on. After an error the alert for the peer
    /// stands in `outgoing`.
    pub(super) fn open(
        &mut self,
        cipher: &mut [u8],
        opened: &mut Opened,
        outgoing: &mut Unwritten,
    ) -> Result<(), Error> {
        self.open_all(cipher, opened, outgoing).map_err(|fault| {
            if let Some(alert) = fault.alert {
                self.say(FATAL, alert, outgoing);
            }
            fault.error
        })
    }

    fn open_all(&mut self, cipher: &mut [u8], opened: &mut Opened, outgoing: &mut Unwritten) -> Result<(), Fault> {
        let base = cipher.as_ptr().addr();
        while !self.has_ended {
            let rest = &mut cipher[opened.consumed..];
            let Some((typ, version, length)) = self.header(rest)? else { return Ok(()) };
            let Some(sealed) = rest.get_mut(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(()) };
            let record = self.opener.open(InboundOpaqueMessage::new(typ, version, sealed))?;
            opened.consumed += HEADER_BYTES + length;
            self.judge(record.typ, record.payload.len())?;
            match record.typ {
                ContentType::ApplicationData => {
                    // It was opened in place: how far behind the header is the affair of its suite.
                    let start = record.payload.as_ptr().addr().saturating_sub(base);
                    let range = start..start + record.payload.len();
                    opened.take(cipher, range);
                }
                ContentType::Alert => self.hear_alert(record.payload)?,
                _ => self.hear_handshake(record.payload, outgoing)?,
            }
        }
        // Whatever stands behind the end means nothing.
        opened.consumed = cipher.len();
        Ok(())
    }

    /// What the next record says of itself; `None` if not even that has come. Nothing is waited for that may not come.
    fn header(&self, bytes: &[u8]) -> Result<Option<(ContentType, ProtocolVersion, usize)>, Fault> {
        let Some(&[typ, major, minor, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let typ = ContentType::from(typ);
        let is_13 = self.kernel.is_some();
        let (is_allowed, expansion) = match typ {
            ContentType::ApplicationData => (true, if is_13 { EXPANSION_MAX } else { EXPANSION_MAX_12 }),
            // In TLS 1.3 all that is sealed looks like data from outside, and all is sealed.
            ContentType::Alert | ContentType::Handshake => (!is_13, EXPANSION_MAX_12),
            _ => (false, 0),
        };
        if !is_allowed {
            return Err(invalid(InvalidMessage::InvalidContentType));
        }
        if major != 3 {
            return Err(invalid(InvalidMessage::UnknownProtocolVersion));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > RECORD_BYTES_MAX + expansion {
            return Err(invalid(InvalidMessage::MessageTooLarge));
        }
        Ok(Some((typ, ProtocolVersion::from(u16::from_be_bytes([major, minor])), length)))
    }

    /// Whether a record of this type and length may come now.
    fn judge(&mut self, typ: ContentType, length: usize) -> Result<(), Fault> {
        if !matches!(typ, ContentType::ApplicationData | ContentType::Alert | ContentType::Handshake) {
            return Err(invalid(InvalidMessage::InvalidContentType));
        }
        if !self.half_said.is_empty() && typ != ContentType::Handshake {
            return Err(Error::PeerMisbehaved(PeerMisbehaved::MessageInterleavedWithHandshakeMessage).into());
        }
        if length > 0 {
            self.patience.empty_records = Patience::NEW.empty_records;
            if typ == ContentType::ApplicationData {
                self.patience.take_data(length);
            }
            return Ok(());
        }
        if typ != ContentType::ApplicationData {
            return Err(invalid(InvalidMessage::InvalidEmptyPayload));
        }
        Patience::spend(&mut self.patience.empty_records, PeerMisbehaved::TooManyEmptyFragments)
    }

    fn hear_alert(&mut self, alert: &[u8]) -> Result<(), Fault> {
        let &[level, description] = alert else { return Err(invalid(InvalidMessage::TrailingData("alert"))) };
        let description = AlertDescription::from(description);
        let fault = |alert| Fault { alert, error: Error::AlertReceived(description) };
        match level {
            WARNING | FATAL if description == AlertDescription::CloseNotify => self.has_ended = true,
            WARNING => {
                Patience::spend(&mut self.patience.warnings, PeerMisbehaved::TooManyWarningAlertsReceived)?;
                // Only this one may be ignored in TLS 1.3 (RFC 8446, section 6.1).
                if self.kernel.is_some() && description != AlertDescription::UserCanceled {
                    return Err(fault(Some(AlertDescription::DecodeError)));
                }
            }
            // Who has given up is not answered.
            FATAL => return Err(fault(None)),
            _ => return Err(fault(Some(AlertDescription::IllegalParameter))),
        }
        Ok(())
    }

    fn hear_handshake(&mut self, said: &[u8], outgoing: &mut Unwritten) -> Result<(), Fault> {
        let mut joined = std::mem::take(&mut self.half_said);
        let mut rest = if joined.is_empty() {
            said
        } else {
            joined.extend_from_slice(said);
            &joined[..]
        };
        while let Some(length) = self.message_bytes(rest)? {
            let (message, more) = rest.split_at(length);
            self.hear_message(message, more.is_empty(), outgoing)?;
            rest = more;
        }
        self.half_said = rest.to_vec();
        Ok(())
    }

    /// The length of the message that `said` begins with, if it is whole, and one that may come.
    fn message_bytes(&self, said: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(&kind) = said.first() else { return Ok(None) };
        let bytes_max = match (kind, self.kernel.is_some(), self.is_client) {
            (KEY_UPDATE, true, _) => 1,
            (NEW_SESSION_TICKET, true, true) | (CLIENT_HELLO, false, false) => MESSAGE_BYTES_MAX,
            (HELLO_REQUEST, false, true) => 0,
            _ => {
                return Err(Error::InappropriateMessage {
                    expect_types: vec![ContentType::ApplicationData],
                    got_type: ContentType::Handshake,
                }
                .into());
            }
        };
        let Some(&[_, high, middle, low]) = said.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > bytes_max {
            return Err(invalid(InvalidMessage::HandshakePayloadTooLarge));
        }
        Ok((4 + length <= said.len()).then_some(4 + length))
    }

    /// `is_last`: nothing stands behind it in its record.
    fn hear_message(&mut self, message: &[u8], is_last: bool, outgoing: &mut Unwritten) -> Result<(), Fault> {
        match (message[0], &mut self.kernel) {
            (NEW_SESSION_TICKET, Some(Kernel::Client(kernel))) => Ok(kernel.handle_new_session_ticket(&message[4..])?),
            (KEY_UPDATE, _) => self.hear_key_update(&message[4..], is_last, outgoing),
            // TLS 1.2 asks to begin anew, which is declined, once.
            _ => {
                Patience::spend(&mut self.patience.renegotiations, PeerMisbehaved::TooManyRenegotiationRequests)?;
                self.say(WARNING, AlertDescription::NoRenegotiation, outgoing);
                Ok(())
            }
        }
    }

    fn hear_key_update(&mut self, body: &[u8], is_last: bool, outgoing: &mut Unwritten) -> Result<(), Fault> {
        if !is_last {
            return Err(Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment).into());
        }
        Patience::spend(&mut self.patience.key_updates, PeerMisbehaved::TooManyKeyUpdateRequests)?;
        let is_asked = match body {
            [0] => false,
            [1] => true,
            [_] => return Err(invalid(InvalidMessage::InvalidKeyUpdate)),
            _ => return Err(invalid(InvalidMessage::MissingData("KeyUpdate"))),
        };
        if let Some(kernel) = &mut self.kernel {
            self.opener = Opener::new(self.suite, kernel.next_opening()?)?;
        }
        // One that waits answers all that have been asked meanwhile: so a peer that reads nothing has no more than that kept.
        if is_asked && !self.key_update.is_some_and(|number| outgoing.is_waiting(number)) {
            self.renew_sealer(outgoing)?;
        }
        Ok(())
    }

    /// Has the next record be sealed with a new key, and the peer know of that.
    fn renew_sealer(&mut self, outgoing: &mut Unwritten) -> Result<(), Error> {
        let Some(kernel) = self.kernel.as_mut().filter(|_| !self.is_silent) else { return Ok(()) };
        let notice = self.sealer.seal(ContentType::Handshake, OutboundChunks::Single(&KEY_UPDATE_NOTICE))?;
        self.key_update = Some(outgoing.next_number());
        outgoing.push(notice, 0);
        self.sealer = Sealer::new(self.suite, kernel.next_sealing()?)?;
        Ok(())
    }

    /// Seals data of the queue, at most a record's worth.
    ///
    /// # Errors
    /// In TLS 1.2 the key has been used up: there is no other, and the peer is told that nothing follows.
    pub(super) fn seal(&mut self, data: OutboundChunks<'_>, outgoing: &mut Unwritten) -> Result<(), Error> {
        if self.sealer.is_used_up() {
            if self.kernel.is_none() {
                self.say_end(outgoing);
                return Err(Error::EncryptError);
            }
            self.renew_sealer(outgoing)?;
        }
        let plain = data.len();
        outgoing.push(self.sealer.seal(ContentType::ApplicationData, data)?, plain);
        Ok(())
    }

    /// Says that nothing follows, if that has not been said.
    pub(super) fn say_end(&mut self, outgoing: &mut Unwritten) {
        self.say(WARNING, AlertDescription::CloseNotify, outgoing);
    }

    fn say(&mut self, level: u8, alert: AlertDescription, outgoing: &mut Unwritten) {
        if self.is_silent {
            return;
        }
        self.is_silent = level == FATAL || alert == AlertDescription::CloseNotify;
        let alert = [level, u8::from(alert)];
        if let Ok(sealed) = self.sealer.seal(ContentType::Alert, OutboundChunks::Single(&alert)) {
            outgoing.push(sealed, 0);
        }
    }
}
