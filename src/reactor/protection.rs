//! How records are sealed and opened, once a handshake is over: rustls's own protection for each suite of either version,
//! numbered here.
//!
//! Nonces, additional data and padding are rustls's affair; what it hands out for that takes a record and the number of the
//! record. Numbers begin where rustls stopped counting, and at zero with each new key.

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundPlainMessage,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite};

/// The number of records under one key beyond which no suite is used, whatever its own limit: the number must not wrap.
const SEQUENCE_MAX: u64 = u64::MAX - 0xffff;

/// Opens the records of one direction.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
}

/// Seals the records of one direction.
pub(super) struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// Records that one key may seal before what is sealed begins to tell something of what it hides.
    sequence_max: u64,
}

impl Opener {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        let decrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, iv.as_ref().get(..fixed).unwrap_or_default())
            }
        };
        Ok(Self { decrypter, sequence })
    }

    /// Opens the next record, where it lies.
    pub(super) fn open<'a>(&mut self, record: InboundOpaqueMessage<'a>) -> Result<InboundPlainMessage<'a>, Error> {
        let opened = self.decrypter.decrypt(record, self.sequence)?;
        self.sequence += 1;
        Ok(opened)
    }
}

impl Sealer {
    pub(super) fn new(
        suite: SupportedCipherSuite,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        let (encrypter, limit) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                (suite.aead_alg.encrypter(key, iv), suite.common.confidentiality_limit)
            }
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len.min(iv.as_ref().len());
                // What is extracted is both parts, one behind the other.
                let (fixed, explicit) = iv.as_ref().split_at(fixed);
                (suite.aead_alg.encrypter(key, fixed, explicit), suite.common.confidentiality_limit)
            }
        };
        let mut sealer = Self { encrypter, sequence: 0, sequence_max: limit.min(SEQUENCE_MAX) };
        if sequence > 0 {
            // AES-GCM of aws-lc takes the first nonce that it sees for that of record 0, and refuses each that does not lie
            // behind the one before it, counted from there: what began with another record would be refused some records
            // later, in TLS 1.2 as in 1.3. So it is shown that nonce. What this seals is thrown away, so the nonce, which
            // rustls has used for record 0, is not used twice on the wire.
            sealer.seal(ContentType::ApplicationData, OutboundChunks::new_empty())?;
            sealer.sequence = sequence;
        }
        Ok(sealer)
    }

    /// Whether the key may seal but one more record. That is for the last word under it: that a new one follows, or nothing.
    pub(super) const fn is_used_up(&self) -> bool {
        self.sequence.saturating_add(1) >= self.sequence_max
    }

    /// The next record, ready for the wire.
    pub(super) fn seal(&mut self, typ: ContentType, payload: OutboundChunks<'_>) -> Result<Vec<u8>, Error> {
        if self.sequence >= SEQUENCE_MAX {
            return Err(Error::EncryptError);
        }
        // The version that is on the wire, in TLS 1.3 as well.
        let plain = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let sealed = self.encrypter.encrypt(plain, self.sequence)?;
        self.sequence += 1;
        Ok(sealed.encode())
    }
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher without keys that could be extracted".into())),
    }
}
