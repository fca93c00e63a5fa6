//! Keys for TLS that a test makes for itself, and the two ends' configurations.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use switchboard::reactor::BindingLog;

pub(crate) const NAME: &str = "localhost";
pub(crate) const ALPN: &[u8] = b"switchboard/1";

/// A certificate for [`NAME`] that signs itself, and its key. Ed25519: its signatures all have the same length.
pub(crate) struct Keys {
    pub(crate) certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        Self { certificate: params.self_signed(&key).expect("a certificate").der().clone(), key }
    }

    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    pub(crate) fn server(&self) -> ServerConfig {
        self.server_with(Arc::new(default_provider()))
    }

    pub(crate) fn server_with(&self, provider: Arc<CryptoProvider>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.private())
            .expect("a pair");
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = Ticketer::new().expect("random numbers");
        config.key_log = Arc::new(BindingLog);
        config.enable_secret_extraction = true;
        config
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        trusting(self.certificate.clone(), versions)
    }

    pub(crate) fn connect(&self) -> ClientConnection {
        connect(self.client(rustls::ALL_VERSIONS))
    }
}

/// A client's configuration that trusts this certificate.
pub(crate) fn trusting(
    certificate: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config
}

pub(crate) fn connect(config: impl Into<Arc<ClientConfig>>) -> ClientConnection {
    ClientConnection::new(config.into(), ServerName::try_from(NAME).expect("a name")).expect("a configuration")
}
