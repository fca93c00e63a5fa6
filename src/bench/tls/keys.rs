//! A key and a certificate for a server of this machine: made for a run, and gone with it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::ServerName;

/// It should be good at once, whatever the clocks say, and longer than any run takes.
const BEFORE: Duration = Duration::from_hours(1);
const GOOD_FOR: Duration = Duration::from_hours(60 * 24);
/// A folder of a name by chance is rarely there already.
const TRIES_MAX: u32 = 8;

/// An ECDSA key on the curve P-256, and a certificate for this machine that it signs itself: two files in a folder of their
/// own, which goes with this value.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes them.
    ///
    /// # Errors
    /// One line: there is no room for the files.
    pub fn make() -> Result<Self, String> {
        let made = || -> Result<_, rcgen::Error> {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()])?;
            let now = SystemTime::now();
            (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + GOOD_FOR).into());
            Ok((params.self_signed(&key)?, key))
        };
        let (certificate, key) = made().map_err(|error| format!("no certificate can be made: {error}"))?;
        let folder = folder().map_err(|error| format!("no temporary folder can be made: {error}"))?;
        // From here on it goes with this value.
        let keys = Self { folder };
        let cannot = |error: io::Error| format!("cannot write into {}: {error}", keys.folder.display());
        write(&keys.certificate_file(), &certificate.pem()).map_err(cannot)?;
        write(&keys.key_file(), &key.serialize_pem()).map_err(cannot)?;
        Ok(keys)
    }

    /// Where the certificate is (PEM).
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Where the key is (PEM, PKCS#8).
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// Whom the certificate is for.
    #[allow(clippy::unused_self, reason = "it is this certificate's")]
    pub(super) fn name(&self) -> ServerName<'static> {
        ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nobody is helped by a complaint about what is left behind.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder that only its owner looks into.
fn folder() -> io::Result<PathBuf> {
    let mut tried = 0;
    loop {
        let folder = std::env::temp_dir().join(format!("switchboard-bench-{:016x}", fastrand::u64(..)));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < TRIES_MAX => tried += 1,
            Err(error) => return Err(error),
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
