//! TLS for the client: 1.2 and 1.3 by rustls, with the relay's certificate and name always checked.
//!
//! ```text
//! mod.rs       what an application may set, and from that what a handshake needs
//! trust.rs     whose certificates are believed: the system's authorities, or those of a file
//! channel.rs   the handshake, and records in and out of a stream
//! error.rs     what can go wrong, in words for people
//! ```
//!
//! What it does not do: there is no switch that turns checking off. Whoever runs a relay with a certificate of its
//! own gives that certificate to the clients ([`Tls::ca`]).

mod channel;
mod error;
#[cfg(test)]
mod tests;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use zeroize::Zeroizing;

pub(super) use self::channel::{Channel, Fault};
pub use self::error::TlsError;

/// What the client calls the protocol within TLS (ALPN, RFC 7301). A relay that knows the extension and not this
/// name refuses; a terminator in front of the relay that does not know the extension says nothing, which is taken.
const PROTOCOL: &[u8] = b"switchboard/1";

/// How the relay is known, and how the client makes itself known to TLS. Of use with a `tls://` address only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A file of certificates (PEM) that takes the place of the system's authorities. A certificate of an authority
    /// in it vouches for those that it has signed; any other, and a self-signed one, for itself alone.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, for relays that ask for one.
    pub identity: Option<Identity>,
}

/// A certificate of the client and the key that proves it (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and behind it those between it and the authority (PEM).
    pub certificate: PathBuf,
    /// Its private key, without a passphrase (PEM: PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// What a handshake needs: everything that files and names have to do with, checked before anybody is connected to.
#[derive(Debug)]
pub(super) struct Plan {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: String,
    port: u16,
}

impl Tls {
    /// Reads the files, anew for each connection: certificates are renewed while clients run.
    pub(super) fn plan(&self, host: &str, port: u16) -> Result<Plan, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::UnfitHost(host.to_owned()))?;
        let config = self.config(aws_lc_rs::default_provider(), &[&TLS13, &TLS12])?;
        Ok(Plan { config: Arc::new(config), name, host: host.to_owned(), port })
    }

    /// How a client of this library speaks TLS, for whoever has sockets of its own: with the same checks of the relay's
    /// certificate and name, in these versions, with what `provider` has. No session is taken up again unless
    /// [`ClientConfig::resumption`] is set to something else.
    ///
    /// # Errors
    /// A file, or the system's authorities, cannot be used; the provider has nothing for these versions.
    pub fn config(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(provider);
        let verifier = trust::verifier(self.ca.as_deref(), &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Broken(error.to_string()))?
            // The library calls every verifier that is not its own dangerous; ours believes less than that one does.
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                config.with_client_auth_cert(chain, key).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => TlsError::File {
                        path: identity.key.clone(),
                        why: format!("it is not the key of {}", identity.certificate.display()),
                    },
                    error => TlsError::File { path: identity.key.clone(), why: error.to_string() },
                })?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Without it two handshakes of TLS 1.2 can be made to have the same secrets, and one end be taken for another
        // (RFC 7627).
        config.require_ems = true;
        // A client reads the files for each connection, so no ticket of its configuration would ever be used.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// A relay that does not take a certificate says little of why. Its owner can look at it: it may be over, or not have
    /// begun.
    pub(super) fn explained(&self, error: TlsError) -> TlsError {
        match (&error, &self.identity) {
            (TlsError::CertificateRefused(_), Some(identity)) => identity.untimely().unwrap_or(error),
            _ => error,
        }
    }
}

impl Identity {
    /// Whose certificate it is, as a relay sees it: its common name, if it can be read and has exactly one.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        let certificates = read_certificates(&self.certificate).ok()?;
        let (_, certificate) = X509Certificate::from_der(certificates.first()?).ok()?;
        let mut names = certificate.subject().iter_common_name();
        match (names.next(), names.next()) {
            (Some(name), None) => name.as_str().ok().map(str::to_owned),
            _ => None,
        }
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = read_certificates(&self.certificate)?;
        // It is read once, as it may be a pipe.
        let text = std::fs::read(&self.key).map(Zeroizing::new);
        let text = text.map_err(|error| unreadable(&self.key, &pem::Error::Io(error)))?;
        let unfit = |why: &str| TlsError::File { path: self.key.clone(), why: why.to_owned() };
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            _ if has_passphrase(&text) => unfit("the key in it has a passphrase, and must not"),
            pem::Error::NoItemsFound => unfit("it holds no private key (PEM, without a passphrase)"),
            error => unreadable(&self.key, &error),
        })?;
        Ok((chain, key))
    }

    /// What is wrong with the time of the certificate, or of one behind it, if anything is.
    fn untimely(&self) -> Option<TlsError> {
        let certificates = read_certificates(&self.certificate).ok()?;
        let now = ASN1Time::now();
        let (path, day) = (|| self.certificate.clone(), |time: ASN1Time| time.to_datetime().date().to_string());
        certificates.iter().find_map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
            let validity = certificate.validity();
            if validity.not_after < now {
                Some(TlsError::OwnExpired { path: path(), day: day(validity.not_after) })
            } else if now < validity.not_before {
                Some(TlsError::OwnNotValidYet { path: path(), day: day(validity.not_before) })
            } else {
                None
            }
        })
    }
}

/// A key that nobody can use without its passphrase, in the form of today (PKCS#8) or of old (RFC 1421).
fn has_passphrase(pem: &[u8]) -> bool {
    let marks = ["-----BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
    pem.split(|byte| *byte == b'\n').any(|line| marks.iter().any(|mark| line.starts_with(mark.as_bytes())))
}

/// The certificates of a PEM file; never none.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::File { path: path.to_owned(), why: "it holds no certificate (PEM)".into() })
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &pem::Error) -> TlsError {
    let why = match error {
        pem::Error::Io(error) => format!("it cannot be read: {error}"),
        _ => "it is no PEM, or a damaged one".to_owned(),
    };
    TlsError::File { path: path.to_owned(), why }
}
