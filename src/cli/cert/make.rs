//! Keys and certificates as values: who they are for, who signs them, until when. ECDSA on the curve P-256, which every
//! implementation of TLS knows and signs with fast.
//!
//! What it does not do: it writes no files; of those that it reads it says what is wrong with them.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Two machines may differ in what time it is; a certificate should be good at once on both.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_hours(1);

/// What a certificate is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Signing others.
    Authority,
    /// A relay that is reached at these hosts.
    Relay(Vec<String>),
    /// Clients of this user.
    User(String),
}

/// A certificate and its key.
pub(super) struct Made {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    pub(super) until: SystemTime,
    /// SHA-256 of the certificate, as openssl and browsers show it.
    pub(super) fingerprint: String,
}

/// Who can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    until: SystemTime,
}

impl Purpose {
    /// Whom it is for, in words.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Authority => Vec::new(),
            Self::Relay(names) => names.clone(),
            Self::User(user) => vec![user.clone()],
        }
    }

    fn params(&self, until: SystemTime) -> Result<CertificateParams, Error> {
        let (name, hosts) = match self {
            // No two may have the same name: who looks for one by its name would find the other.
            Self::Authority => {
                (format!("switchboard authority {} {:08x}", machine().unwrap_or_default(), fastrand::u32(..)), vec![])
            }
            Self::Relay(hosts) => (hosts.first().cloned().unwrap_or_default(), hosts.clone()),
            Self::User(user) => (user.clone(), Vec::new()),
        };
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = (SystemTime::now() - CLOCKS_DIFFER_MAX).into();
        params.not_after = until.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match self {
            Self::Authority => {
                // It signs relays and clients, and no further authorities.
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            }
            Self::Relay(_) => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            Self::User(_) => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        Ok(params)
    }
}

impl Made {
    /// A certificate that vouches for itself.
    pub(super) fn by_itself(purpose: &Purpose, until: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = purpose.params(until)?.self_signed(&key)?;
        Ok(Self::new(&certificate, &key, until))
    }

    /// A certificate that `authority` vouches for, and no longer than for itself.
    pub(super) fn by(authority: &Authority, purpose: &Purpose, until: SystemTime) -> Result<Self, Error> {
        let until = until.min(authority.until);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = purpose.params(until)?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority.issuer)?;
        Ok(Self::new(&certificate, &key, until))
    }

    fn new(certificate: &Certificate, key: &KeyPair, until: SystemTime) -> Self {
        let hash = digest(&SHA256, certificate.der());
        let bytes: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), until, fingerprint: bytes.join(":") }
    }
}

impl Authority {
    /// Reads one that was made before; the error is a line for people.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let of_certificate = |why: &str| format!("{}: {why}", certificate.display());
        let der = CertificateDer::from_pem_slice(read(certificate)?.as_bytes())
            .map_err(|_| of_certificate("it holds no certificate (PEM)"))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| of_certificate("its certificate is damaged"))?;
        if !parsed.is_ca() {
            return Err(of_certificate("it is no authority's: make one with `switchboard cert --authority --out DIR`"));
        }
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let until = UNIX_EPOCH + Duration::from_secs(ends);
        if until <= SystemTime::now() {
            return Err(of_certificate("the authority has expired"));
        }
        let pair = KeyPair::from_pem(&read(key)?)
            .map_err(|_| format!("{}: it holds no private key of a kind that signs here", key.display()))?;
        if pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(format!("{}: it is not the key of {}", key.display(), certificate.display()));
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|error| of_certificate(&error.to_string()))?;
        Ok(Self { issuer, until })
    }
}

/// The hosts at which a relay is reached that nobody has named: this machine.
pub(super) fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(machine().filter(|name| name != "localhost"));
    names
}

/// What this machine calls itself, where that can be a host's name.
fn machine() -> Option<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok()?.to_owned();
    DnsName::try_from(name.as_str()).is_ok().then_some(name)
}

/// A host that only this machine reaches.
pub(super) fn is_this_machine(host: &str) -> bool {
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || number.is_ok_and(|number| number.is_loopback())
}

/// A host as an argument: a number, a name, or all names below one (`*.example.org`).
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_number = text.parse::<IpAddr>().is_ok();
    if is_number || (name.len() < 254 && DnsName::try_from(name).is_ok()) {
        return Ok(text.to_owned());
    }
    Err("write a host's name or number without a port, as example.org, *.example.org, 192.0.2.7 or 2001:db8::7".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_numbers_without_a_port() {
        for good in ["localhost", "example.org", "*.example.org", "192.0.2.7", "::1", "a-b.example"] {
            assert_eq!(parse_host(good), Ok(good.to_owned()));
        }
        for bad in ["", "example.org:9999", "[::1]", "tls://example.org", "a b", "*", "*.", "a.*.b", "ä.example"] {
            assert!(parse_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_relay_that_nobody_has_named_is_reached_at_this_machine() {
        let names = own_names();
        assert_eq!(names[..3], ["localhost", "127.0.0.1", "::1"]);
        assert!(names.iter().all(|name| parse_host(name).is_ok()), "{names:?}");
        for host in ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["example.org", "192.0.2.7", "[2001:db8::7]"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
