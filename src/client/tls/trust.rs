//! Whose certificates are believed.
//!
//! Without a file: the system's authorities. With one: what stands in it and nothing else. A certificate of an
//! authority there vouches for whatever it has signed. Any other vouches for itself alone: that is how a self-signed
//! certificate is trusted, and its owner can thereby sign for nobody else. One that openssl has made says of itself
//! that it is an authority, and is taken both ways.
//!
//! What it does not do: it asks nobody whether a certificate was revoked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{TlsError, read_certificates};

/// Checks a relay's certificate: who vouches for it, for which names, and until when.
#[derive(Debug)]
struct Verifier {
    /// Certificates that vouch for themselves.
    pinned: Vec<CertificateDer<'static>>,
    /// What looks for an authority; none where a file has no authority.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What believes the certificates of `ca`, or without a file the system's authorities.
pub(super) fn verifier(
    ca: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (roots, pinned) = match ca {
        Some(path) => of_file(path)?,
        None => (of_system()?, Vec::new()),
    };
    let authorities = if roots.is_empty() {
        None
    } else {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        Some(built.map_err(|error| TlsError::Broken(error.to_string()))?)
    };
    Ok(Arc::new(Verifier { pinned, authorities, algorithms: provider.signature_verification_algorithms }))
}

fn of_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let bad = |why: &str| TlsError::File { path: path.to_owned(), why: why.to_owned() };
    let mut roots = RootCertStore::empty();
    let pinned = read_certificates(path)?;
    for certificate in &pinned {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad("a certificate in it is damaged"))?;
        // Whatever does not say that it is an authority's is none: one of version 1 cannot say it, and any key can have one.
        if parsed.is_ca() {
            roots.add(certificate.clone()).map_err(|_| bad("a certificate in it is damaged"))?;
        }
    }
    Ok((roots, pinned))
}

fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems keep some that no program of today reads.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsError::NoAuthorities { why: found.errors.first().map(ToString::to_string) });
    }
    Ok(roots)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == certificate) {
            check_validity(certificate, now)?;
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities
                .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
                .map_err(|error| if is_of_a_namesake(&error) { CertificateError::UnknownIssuer.into() } else { error }),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// An authority that is called like the one which has signed, and is another: an authority of the same name made anew,
/// or a self-signed certificate of `localhost` where the system has one as well.
const fn is_of_a_namesake(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        )
    )
}

/// A certificate that vouches for itself does so for its time.
fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let at = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let (not_before, not_after) =
        (at(parsed.validity().not_before.timestamp()), at(parsed.validity().not_after.timestamp()));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}
