//! Keys for TLS, from files to a configuration: read, checked, and only then used.
//!
//! The same is done at the start and at each reload: whatever is wrong with the files is said in one line, and nothing
//! that runs has changed by then.

use std::fmt;
use std::sync::Arc;

use log::warn;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::certificate::{Lasting, misfit, parsed};
use super::client_auth::ShortChains;
use super::files::{FileFault, Named};
use crate::config::TlsFiles;
use crate::reactor::BindingLog;

/// The protocol's name where TLS agrees on one (ALPN): a browser that strays here is told that there is none for it.
pub const ALPN: &[u8] = b"switchboard/1";

/// The largest file: all authorities that a system knows have a quarter of that.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Makes configurations for TLS that take up each other's sessions.
pub struct TlsKeys {
    certificate: Named,
    key: Named,
    client_ca: Option<Named>,
    requires_client: bool,
    provider: Arc<CryptoProvider>,
    /// Tickets outlive a reload: whoever comes back after it need not begin anew.
    ticketer: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for TlsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKeys").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A configuration, and what an operator should know of it.
#[derive(Debug)]
pub struct TlsLoaded {
    /// For the listeners.
    pub config: Arc<ServerConfig>,
    pub(super) lasting: Lasting,
    /// The relay's own, by which one is told from another.
    pub(super) certificate: CertificateDer<'static>,
    /// Why no client would take it, if that is so.
    pub(super) misfit: Option<&'static str>,
}

impl TlsKeys {
    /// Keys that are in these files.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(files: TlsFiles) -> Result<Self, FileFault> {
        let key = Named::new("--tls-key", &files.key);
        let ticketer = Ticketer::new().map_err(|error| key.fault(format_args!("no session tickets: {error}")))?;
        Ok(Self {
            certificate: Named::new("--tls-cert", &files.certificate),
            key,
            client_ca: files.client_ca.map(|path| Named::new("--tls-client-ca", &path)),
            requires_client: files.requires_client,
            provider: Arc::new(default_provider()),
            ticketer,
        })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong with it.
    pub fn load(&self) -> Result<TlsLoaded, FileFault> {
        let chain = read_certificates(&self.certificate)?;
        // That there is one, and that it can be read, has been seen to.
        let own = chain.first().cloned().ok_or_else(|| self.certificate.fault("it holds no certificate (PEM)"))?;
        let of_itself = parsed(&own).ok_or_else(|| self.certificate.fault("certificate 1 in it is damaged"))?;
        let lasting = Lasting::new(&self.certificate, &of_itself, ASN1Time::now())?;
        let misfit = misfit(&of_itself);
        let certified = self.certified(chain)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.certificate.fault(error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => builder.with_client_cert_verifier(self.client_verifier(file)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Tickets do for both versions, and lie with the clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.client_ca.is_some() {
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
        Ok(TlsLoaded { config: Arc::new(config), lasting, misfit, certificate: own })
    }

    /// Whether clients are asked for certificates.
    pub(super) const fn asks_clients(&self) -> bool {
        self.client_ca.is_some()
    }

    /// Says in the log what an operator should know of files that are used all the same: others can read the key, or no
    /// client will take the certificate.
    pub(super) fn warn(&self, loaded: &TlsLoaded) {
        self.key.warn_if_exposed();
        if let Some(why) = loaded.misfit {
            let file = &self.certificate;
            warn!("{} {}: no client will take the certificate: {why}", file.flag, file.path.display());
        }
    }

    /// The certificate with its key, if it is its key.
    fn certified(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, FileFault> {
        let text = Zeroizing::new(self.key.read(FILE_BYTES_MAX)?);
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            _ if is_locked(&text) => self.key.fault("the key in it has a passphrase, and must not"),
            PemError::NoItemsFound => self.key.fault("it holds no private key (PEM, without a passphrase)"),
            error => no_pem(&self.key, error),
        })?;
        CertifiedKey::from_der(chain, key, &self.provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let certificate = self.certificate.path.display();
                self.key.fault(format_args!("it is not the key of the certificate {certificate}"))
            }
            _ => self.key.fault("the key is damaged, or of another kind than ECDSA, Ed25519 or RSA"),
        })
    }

    fn client_verifier(&self, file: &Named) -> Result<Arc<dyn ClientCertVerifier>, FileFault> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(file)? {
            roots.add(certificate).map_err(|_| file.fault("a certificate in it cannot be an authority's"))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let builder = if self.requires_client { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|error| file.fault(error))?;
        Ok(Arc::new(ShortChains(verifier)))
    }
}

fn read_certificates(file: &Named) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let text = file.read(FILE_BYTES_MAX)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| no_pem(file, error))?;
    if chain.is_empty() {
        return Err(file.fault("it holds no certificate (PEM)"));
    }
    for (number, certificate) in (1..).zip(&chain) {
        // A client would be the one to find out, at each handshake.
        parsed(certificate).ok_or_else(|| file.fault(format_args!("certificate {number} in it is damaged")))?;
    }
    Ok(chain)
}

/// Whether a key cannot be used without its passphrase, in the form of today (PKCS#8) or of old (RFC 1421).
fn is_locked(pem: &[u8]) -> bool {
    let says = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    says(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || says(b"Proc-Type: 4,ENCRYPTED")
}

fn no_pem(file: &Named, error: PemError) -> FileFault {
    match error {
        PemError::MissingSectionEnd { .. } => file.fault("it breaks off in its midst: the line -----END is missing"),
        PemError::Base64Decode(_) => file.fault("it is damaged: what stands between BEGIN and END is not base64"),
        // What the library would add are bytes of the file.
        _ => file.fault("it is no PEM, or a damaged one"),
    }
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
