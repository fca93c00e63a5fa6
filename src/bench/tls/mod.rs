//! How the clients of a run speak TLS: one configuration for all of them.
//!
//! ```text
//! mod.rs       what a client begins with, and what was agreed on in the end
//! keys.rs      a key and a certificate for a server that is started for the purpose
//! tickets.rs   sessions that may be taken up again
//! ```
//!
//! Whose certificates are believed is the client library's business ([`client::Tls`]).
//!
//! Unless it is asked for, no session is taken up again, so that each handshake is a whole one: thousands of clients that
//! come for the first time are what a server has to be fit for, and what a storm of them costs should be seen.

mod keys;
mod tickets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

pub use self::keys::Keys;

use self::tickets::Tickets;
use super::report;
use crate::client;
use crate::reactor::{TlsRole, TlsTerms};

/// How the clients of a run speak TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    is_behind_line: bool,
}

impl Tls {
    /// For a relay called `host`, which proves that by a certificate that those in `ca` vouch for, or without a file the
    /// system's authorities.
    ///
    /// # Errors
    /// One line: what is wrong with the file, the system's authorities or the host.
    pub fn to_host(host: &str, ca: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("no certificate can be for {host:?}"))?;
        Self::new(name, ca.map(Path::to_owned), default_provider(), &[&TLS13, &TLS12])
    }

    /// For a server that has `keys`.
    ///
    /// # Errors
    /// One line: their certificate cannot be read any more, or what the library complains of.
    pub fn to_keys(keys: &Keys) -> Result<Self, String> {
        Self::new(keys.name(), Some(keys.certificate_file()), default_provider(), &[&TLS13, &TLS12])
    }

    /// The same with one version, one key exchange and one cipher suite, so that several servers do the same work: TLS 1.3,
    /// X25519 and AES-256-GCM, which rustls and OpenSSL agree on if they may choose.
    ///
    /// # Errors
    /// One line: their certificate cannot be read any more, or what the library complains of.
    pub fn to_keys_alike(keys: &Keys) -> Result<Self, String> {
        const SUITES: [SupportedCipherSuite; 1] = [cipher_suite::TLS13_AES_256_GCM_SHA384];
        const GROUPS: [&dyn SupportedKxGroup; 1] = [kx_group::X25519];
        let provider =
            CryptoProvider { cipher_suites: SUITES.to_vec(), kx_groups: GROUPS.to_vec(), ..default_provider() };
        Self::new(keys.name(), Some(keys.certificate_file()), provider, &[&TLS13])
    }

    fn new(
        name: ServerName<'static>,
        ca: Option<PathBuf>,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, String> {
        let trust = client::Tls { ca, identity: None };
        let mut config = trust.config(provider, versions).map_err(|error| error.to_string())?;
        // The reactor frames the records behind the handshake itself.
        config.enable_secret_extraction = true;
        Ok(Self { config: Arc::new(config), name, is_behind_line: false })
    }

    /// Has clients that come back take up one of the last `sessions` sessions, each once.
    #[must_use]
    pub fn resuming(mut self, sessions: usize) -> Self {
        Arc::make_mut(&mut self.config).resumption = Resumption::store(Arc::new(Tickets::new(sessions)));
        self
    }

    /// For servers that do not agree on a protocol within TLS.
    #[must_use]
    pub fn without_protocol(mut self) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols.clear();
        self
    }

    /// For servers that say a line in plain before TLS begins.
    #[must_use]
    pub const fn behind_line(mut self) -> Self {
        self.is_behind_line = true;
        self
    }

    /// Whether the server says a line in plain before TLS begins.
    pub(super) const fn is_behind_line(&self) -> bool {
        self.is_behind_line
    }

    /// What a client begins with.
    pub(super) fn role(&self) -> TlsRole {
        TlsRole::Client(Arc::clone(&self.config), self.name.clone())
    }
}

/// What the clients of a run have agreed on with the server.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    handshakes: u64,
    resumed: u64,
    /// Nearly always one.
    terms: Vec<(ProtocolVersion, CipherSuite)>,
}

impl Agreed {
    /// A client has come through its handshake.
    pub(super) fn note(&mut self, terms: Option<TlsTerms>) {
        let Some(terms) = terms else { return };
        self.handshakes += 1;
        self.resumed += u64::from(terms.is_resumed);
        let terms = (terms.version, terms.suite);
        if !self.terms.contains(&terms) {
            self.terms.push(terms);
        }
    }

    /// What a report says of it; `None` without TLS.
    pub(super) fn report(&self) -> Option<report::Tls> {
        fn list(words: impl Iterator<Item = String>) -> String {
            let mut all: Vec<String> = words.collect();
            all.dedup();
            all.join(", ")
        }
        (self.handshakes > 0).then(|| report::Tls {
            version: list(self.terms.iter().map(|(version, _)| version_name(*version))),
            cipher_suite: list(self.terms.iter().map(|(_, suite)| suite_name(*suite))),
            handshakes: self.handshakes,
            resumed: self.resumed,
        })
    }
}

fn version_name(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The name in the registry: `TLS_AES_256_GCM_SHA384`, where the library says `TLS13_...`.
fn suite_name(suite: CipherSuite) -> String {
    let name = suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned);
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}
