//! A client's TLS in the simulated network: ciphertext on the line, and what it opens to for the judge.
//!
//! What the relay writes is opened the moment that the network takes it, record by record: that is what the judge sees, and
//! of a record that the network has in part it sees nothing, as nobody can open it. The client itself gets what is opened,
//! and answers, only when it has read so far.
//!
//! Keys are the same in every process, and Ed25519's signatures have one length: so have all messages, whatever random
//! numbers the two ends put into them, and a seed's run is the same again. What rustls orders by chance (the extensions of
//! a ClientHello) nothing here depends on.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, Error, ProtocolVersion, RootCertStore, ServerConfig};
use switchboard::reactor::BindingLog;

use super::people::{self, STRANGER};

/// So many new keys the relay takes, and one more for so many bytes of data.
const REFRESHES_MAX: usize = 32;
const REFRESH_BYTES: usize = 16 * 1024;

/// An Ed25519 key in PKCS #8 (RFC 8410, section 7) but for its 32 bytes.
const KEY_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Which TLS a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V12,
    V13,
}

/// The two ends' configurations, of one run: whoever comes back takes up its session, where nobody is asked for a
/// certificate.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    pub(crate) server: Arc<ServerConfig>,
    /// For each version; then for each user's certificate, and each version.
    clients: Vec<[Arc<ClientConfig>; 2]>,
}

/// A certificate of one's own, which whoever should believe it knows beforehand.
fn certificate(host: Option<&str>, user: Option<&str>, pair: &KeyPair) -> CertificateDer<'static> {
    let hosts: Vec<String> = host.map(str::to_owned).into_iter().collect();
    let mut params = CertificateParams::new(hosts).expect("a name");
    params.serial_number = Some(SerialNumber::from(77_u64));
    if let Some(user) = user {
        params.distinguished_name.push(DnType::CommonName, user);
    }
    params.self_signed(pair).expect("a certificate").der().clone()
}

fn roots(certificates: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).expect("a root");
    }
    Arc::new(roots)
}

impl Configs {
    pub(crate) fn new(asks_for_certificates: bool) -> Self {
        let key = PrivatePkcs8KeyDer::from([&KEY_HEAD[..], &[7; 32]].concat());
        let pair = KeyPair::try_from(&key).expect("a key");
        let own = certificate(Some("localhost"), None, &pair);
        let users = if asks_for_certificates { 0..=STRANGER } else { RangeInclusive::new(1, 0) };
        let users: Vec<_> = users.map(|user| certificate(None, Some(&people::name(user)), &pair)).collect();
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if asks_for_certificates {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(&users), Arc::clone(&provider));
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().expect("roots"))
        } else {
            builder.with_no_client_auth()
        };
        let mut server = builder.with_single_cert(vec![own.clone()], key.clone_key().into()).expect("a pair");
        if asks_for_certificates {
            (server.session_storage, server.send_tls13_tickets) = (Arc::new(NoServerSessionStorage {}), 0);
        } else {
            server.ticketer = Ticketer::new().expect("random numbers");
        }
        server.key_log = Arc::new(BindingLog);
        server.enable_secret_extraction = true;
        let believed = roots(&[own]);
        let client = |version, user: Option<&CertificateDer<'static>>| {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_protocol_versions(&[version]).expect("versions");
            let builder = builder.with_root_certificates(Arc::clone(&believed));
            Arc::new(match user {
                None => builder.with_no_client_auth(),
                Some(user) => {
                    builder.with_client_auth_cert(vec![user.clone()], key.clone_key().into()).expect("a pair")
                }
            })
        };
        let both = |user| [client(&rustls::version::TLS12, user), client(&rustls::version::TLS13, user)];
        let clients = iter::once(None).chain(users.iter().map(Some)).map(both).collect();
        Self { server: Arc::new(server), clients }
    }
}

/// One client's end.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Secure {
    tls: ClientConnection,
    /// Ciphertext that the network has taken from the relay, and what of it the client has read.
    taken: u64,
    read: u64,
    /// What has been opened, with the ciphertext that had to be read for it.
    opened: VecDeque<(u64, Vec<u8>)>,
    /// What the client sends when it has read so far.
    outbox: VecDeque<(u64, Vec<u8>)>,
    /// Its ClientHello has been changed, or it sends nothing: the relay can never agree with it.
    pub(crate) is_silent: bool,
    /// It has broken the rules of TLS.
    pub(crate) is_spoilt: bool,
    /// New keys that it has taken and not made up for, and the data that it has sent towards that.
    refreshes: usize,
    said: usize,
    /// The relay has told it so.
    is_alerted: bool,
    /// The relay has said that nothing follows.
    is_over: bool,
    /// It has said that nothing follows; that has left it.
    has_closed: bool,
}

impl Secure {
    /// `user`: whose certificate it shows, at a relay that asks for one.
    pub(crate) fn new(configs: &Configs, version: Version, user: Option<usize>) -> Self {
        let config =
            Arc::clone(&configs.clients[user.map_or(0, |user| user + 1)][usize::from(version == Version::V13)]);
        let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("TLS");
        tls.set_buffer_limit(None);
        let mut secure = Self {
            tls,
            taken: 0,
            read: 0,
            opened: VecDeque::new(),
            outbox: VecDeque::new(),
            is_silent: false,
            is_spoilt: false,
            refreshes: 0,
            said: 0,
            is_alerted: false,
            is_over: false,
            has_closed: false,
        };
        secure.collect(0);
        secure
    }

    /// The ClientHello, which is sent by itself then.
    pub(crate) fn take_hello(&mut self) -> Vec<u8> {
        self.is_silent = true;
        self.outbox.drain(..).flat_map(|(_, bytes)| bytes).collect()
    }

    /// Whether both ends may send.
    pub(crate) fn is_established(&self) -> bool {
        !self.tls.is_handshaking() && !self.is_silent
    }

    /// What a password's proof is bound to (RFC 9266), in TLS 1.3.
    pub(crate) fn binding(&self) -> Option<[u8; 32]> {
        self.tls.protocol_version().filter(|version| *version == ProtocolVersion::TLSv1_3)?;
        self.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).ok()
    }

    /// Whether the client has said that nothing follows, and what the relay can open says so.
    pub(crate) fn has_said_end(&self) -> bool {
        self.has_closed && self.outbox.is_empty()
    }

    /// Whether it waits for the relay before it sends what it has to.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether the relay has not said that nothing follows, though it should.
    pub(crate) fn misses_end(&self) -> bool {
        self.is_established() && !self.is_over && !self.is_alerted
    }

    /// Whether it can send anything more.
    pub(crate) const fn may_send(&self) -> bool {
        !self.has_closed && !self.is_spoilt && !self.is_silent
    }

    /// Seals what the client sends.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("memory without limit");
        self.said += bytes.len();
        self.refreshes = self.refreshes.saturating_sub(self.said / REFRESH_BYTES);
        self.said %= REFRESH_BYTES;
        self.collect(0);
    }

    /// As [`Secure::write`], for what is not sent as it is.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if !self.is_established() || self.is_waiting() || !self.may_send() {
            return None;
        }
        self.write(bytes);
        self.is_spoilt = true;
        self.outbox.pop_back().map(|(_, record)| record)
    }

    /// Something that is no record is about to be sent.
    pub(crate) fn spoil(&mut self) -> bool {
        let may_be = self.is_established() && !self.is_waiting() && self.may_send();
        self.is_spoilt |= may_be;
        may_be
    }

    pub(crate) fn refresh(&mut self) {
        if self.is_established() && self.may_send() && self.tls.refresh_traffic_keys().is_ok() {
            self.collect(0);
            self.refreshes += 1;
            self.is_spoilt |= self.refreshes > REFRESHES_MAX;
        }
    }

    pub(crate) fn close(&mut self) {
        // In the midst of the handshake there is nobody to tell.
        if self.is_established() && self.may_send() {
            self.has_closed = true;
            self.tls.send_close_notify();
            self.collect(0);
        }
    }

    /// What may be sent now.
    pub(crate) fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.outbox.front().is_some_and(|(after, _)| *after <= self.read) {
            bytes.extend(self.outbox.pop_front().map(|(_, piece)| piece).unwrap_or_default());
        }
        bytes
    }

    /// Puts what the client's TLS has to say behind what waits, to be sent when it has read so far.
    fn collect(&mut self, after: u64) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("memory");
        }
        if !bytes.is_empty() {
            self.outbox.push_back((after, bytes));
        }
    }

    /// The network has taken these bytes of the relay; returns what they open to.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        self.taken += bytes.len() as u64;
        let mut plain = Vec::new();
        while !bytes.is_empty() && !self.is_silent && !self.is_alerted {
            assert!(!self.is_over, "the relay writes behind the end that it has announced");
            self.tls.read_tls(&mut bytes).expect("memory");
            let processed = self.tls.process_new_packets();
            let mut buffer = [0; 4096];
            loop {
                match self.tls.reader().read(&mut buffer) {
                    Ok(0) => {
                        self.is_over = true;
                        break;
                    }
                    Ok(count) => plain.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            match processed {
                Ok(_) => {}
                Err(Error::AlertReceived(alert)) => {
                    assert!(self.is_spoilt, "the relay breaks it off: {alert:?}");
                    self.is_alerted = true;
                }
                Err(error) => panic!("what the relay has sealed does not open: {error}"),
            }
        }
        self.collect(self.taken);
        if !plain.is_empty() {
            self.opened.push_back((self.taken, plain.clone()));
        }
        plain
    }

    /// The client has read so many bytes more; what they open to goes to `into`.
    pub(crate) fn read(&mut self, count: usize, into: &mut Vec<u8>) {
        self.read += count as u64;
        while self.opened.front().is_some_and(|(end, _)| *end <= self.read) {
            into.extend(self.opened.pop_front().map(|(_, plain)| plain).unwrap_or_default());
        }
    }
}
