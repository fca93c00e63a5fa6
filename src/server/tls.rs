//! Keys for TLS, from files to a configuration: read, checked, and only then used.
//!
//! The same is done at the start and at each reload: whatever is wrong with the files is said in one line, and nothing
//! that runs has changed by then.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::config::TlsFiles;
use crate::files;
use crate::reactor::BindingLog;

/// The protocol's name where TLS agrees on one (ALPN): a browser that strays here is told that there is none for it.
pub const ALPN: &[u8] = b"switchboard/1";

/// The longest file of certificates or of a key: a thousand authorities have less.
const PEM_BYTES_MAX: usize = 4 << 20;
/// Days before the end of a certificate on which a start or a reload warns of it.
const WARNING_DAYS: i64 = 14;

/// What is wrong with the files, in one line.
#[derive(Debug)]
pub struct KeyError {
    path: PathBuf,
    what: String,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for KeyError {}

/// Makes configurations for TLS that take up each other's sessions.
pub struct TlsKeys {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    /// Tickets outlive a reload: whoever comes back after it need not begin anew.
    ticketer: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for TlsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKeys").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A configuration, and what an operator should know of it.
#[derive(Debug)]
pub struct TlsLoaded {
    /// For the listeners.
    pub config: Arc<ServerConfig>,
    /// Days until the certificate ends, if they are few.
    pub ends_in_days: Option<i64>,
}

impl TlsKeys {
    /// Keys that are in these files.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(files: TlsFiles) -> Result<Self, KeyError> {
        let ticketer = Ticketer::new().map_err(|error| fault(&files.key, &format!("no session tickets: {error}")))?;
        Ok(Self { files, provider: Arc::new(default_provider()), ticketer })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn load(&self) -> Result<TlsLoaded, KeyError> {
        let TlsFiles { certificate, key: key_path, .. } = &self.files;
        let chain = read_certificates(certificate)?;
        let ends_in_days = check_validity(certificate, &chain[0])?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_path)?).map_err(|error| match error {
            PemError::NoItemsFound => fault(key_path, "it holds no private key (PEM)"),
            error => unreadable(key_path, error),
        })?;
        let certified = CertifiedKey::from_der(chain, key, &self.provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                fault(key_path, &format!("it is not the key of the certificate {}", certificate.display()))
            }
            error => fault(key_path, &format!("it cannot be used: {error}")),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(certificate, &error.to_string()))?;
        let builder = match &self.files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(self.client_verifier(path)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Tickets do for both versions, and lie with the clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.files.client_ca.is_some() {
            // Whoever takes up a session is taken for who it was then, and the certificate is not looked at again: one that
            // has ended, or whose authority is believed no more, would do for as long as its owner comes back.
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = Arc::clone(&self.ticketer);
            // A client comes back once for each time that it was here.
            config.send_tls13_tickets = 1;
        }
        config.require_ems = true;
        // rustls agrees with a client, and the reactor's own records are protected by the keys that come of it.
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(BindingLog);
        Ok(TlsLoaded { config: Arc::new(config), ends_in_days })
    }

    fn client_verifier(&self, path: &Path) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, KeyError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(path)? {
            roots.add(certificate).map_err(|error| fault(path, &format!("an authority cannot be used: {error}")))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let builder = if self.files.requires_client { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| fault(path, &error.to_string()))
    }
}

/// The name that a client's certificate, in DER, is made out to: its common name, if it has exactly one.
#[must_use]
pub(super) fn certificate_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

/// What is in a file, wiped when it is no longer needed: it may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match files::read(path, PEM_BYTES_MAX) {
        Ok((bytes, _)) if bytes.len() > PEM_BYTES_MAX => Err(fault(path, "it is too long for certificates or a key")),
        Ok((bytes, _)) => Ok(Zeroizing::new(bytes)),
        Err(error) => Err(fault(path, &format!("it cannot be read: {error}"))),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = found.map_err(|error| unreadable(path, error))?;
    if chain.is_empty() {
        return Err(fault(path, "it holds no certificate (PEM)"));
    }
    Ok(chain)
}

/// Whether a certificate holds today; says in how many days it ends, if they are few.
fn check_validity(path: &Path, der: &CertificateDer<'_>) -> Result<Option<i64>, KeyError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| fault(path, &format!("the certificate cannot be read: {error}")))?;
    let validity = certificate.validity();
    match validity.time_to_expiration() {
        Some(left) => Ok(Some(left.whole_days()).filter(|days| *days < WARNING_DAYS)),
        None if x509_parser::time::ASN1Time::now() < validity.not_before => {
            Err(fault(path, &format!("the certificate holds only from {} on", validity.not_before)))
        }
        None => Err(fault(path, &format!("the certificate ended on {}", validity.not_after))),
    }
}

fn unreadable(path: &Path, error: PemError) -> KeyError {
    match error {
        PemError::Io(error) => fault(path, &format!("it cannot be read: {error}")),
        PemError::MissingSectionEnd { .. } => fault(path, "it breaks off in its midst: the line -----END is missing"),
        error => fault(path, &format!("it is no PEM: {error}")),
    }
}

fn fault(path: &Path, what: &str) -> KeyError {
    KeyError { path: path.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A configuration, for clients with certificates or without.
    fn loaded(asks_for_certificates: bool) -> Arc<ServerConfig> {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&pair);
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.expect("signed").pem()).expect("written");
        std::fs::write(&key, pair.serialize_pem()).expect("written");
        let client_ca = asks_for_certificates.then(|| certificate.clone());
        let files = TlsFiles { certificate, key, client_ca, requires_client: false };
        TlsKeys::new(files).expect("random numbers").load().expect("good files").config
    }

    #[test]
    fn no_session_is_taken_up_again_where_a_certificate_says_who_somebody_is() {
        let [with, without] = [true, false].map(loaded);
        // Whoever takes up a session is not asked for its certificate again.
        assert!(!with.ticketer.enabled() && with.send_tls13_tickets == 0);
        assert!(without.ticketer.enabled() && without.send_tls13_tickets > 0);
        for config in [with, without] {
            assert!(!config.session_storage.can_cache());
        }
    }
}
