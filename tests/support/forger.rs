//! One end of a connection over TLS that has the keys and seals whatever it likes: what no library would send.
#![allow(dead_code, reason = "each test uses its part")]

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ExtractedSecrets, ProtocolVersion, ServerConnection,
    SupportedCipherSuite,
};

/// Types of records.
pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
/// The message that says that the sender has a new key (RFC 8446, section 4.6.3), and that the receiver need not have one.
pub(crate) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

pub(crate) struct Forger {
    sealing: Box<dyn MessageEncrypter>,
    sealed: u64,
    opening: Box<dyn MessageDecrypter>,
    opened: u64,
}

impl Forger {
    /// In the place of a client whose handshake is over.
    pub(crate) fn of_client(tls: ClientConnection) -> Self {
        let suite = tls.negotiated_cipher_suite().expect("agreed");
        Self::new(suite, tls.dangerous_extract_secrets().expect("they were asked for"))
    }

    /// In the place of a server.
    pub(crate) fn of_server(tls: ServerConnection) -> Self {
        let suite = tls.negotiated_cipher_suite().expect("agreed");
        Self::new(suite, tls.dangerous_extract_secrets().expect("they were asked for"))
    }

    fn new(suite: SupportedCipherSuite, secrets: ExtractedSecrets) -> Self {
        let ((sealed, tx), (opened, rx)) = (secrets.tx, secrets.rx);
        let ((tx_key, tx_iv), (rx_key, rx_iv)) = (parts(tx), parts(rx));
        let (mut sealing, opening) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                (suite.aead_alg.encrypter(tx_key, tx_iv), suite.aead_alg.decrypter(rx_key, rx_iv))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                let (fixed_iv, explicit) = tx_iv.as_ref().split_at(fixed);
                let sealing = suite.aead_alg.encrypter(tx_key, fixed_iv, explicit);
                (sealing, suite.aead_alg.decrypter(rx_key, &rx_iv.as_ref()[..fixed]))
            }
        };
        if sealed > 0 {
            // The first nonce has to be that of record 0.
            sealing.encrypt(plain(DATA, &[]), 0).expect("sealed");
        }
        Self { sealing, sealed, opening, opened }
    }

    /// The next record, of this type.
    pub(crate) fn record(&mut self, kind: u8, bytes: &[u8]) -> Vec<u8> {
        self.sealed += 1;
        self.sealing.encrypt(plain(kind, bytes), self.sealed - 1).expect("sealed").encode()
    }

    /// The types and contents of the records that the other end has written.
    pub(crate) fn open(&mut self, mut sealed: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        while let [kind, major, minor, high, low, rest @ ..] = sealed {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let version = ProtocolVersion::from(u16::from_be_bytes([*major, *minor]));
            let mut bytes = rest[..length].to_vec();
            let record = InboundOpaqueMessage::new(ContentType::from(*kind), version, &mut bytes);
            let record = self.opening.decrypt(record, self.opened).expect("it opens");
            found.push((u8::from(record.typ), record.payload.to_vec()));
            self.opened += 1;
            sealed = &rest[length..];
        }
        found
    }
}

fn plain(kind: u8, bytes: &[u8]) -> OutboundPlainMessage<'_> {
    let (typ, version) = (ContentType::from(kind), ProtocolVersion::TLSv1_2);
    OutboundPlainMessage { typ, version, payload: OutboundChunks::Single(bytes) }
}

fn parts(secrets: ConnectionTrafficSecrets) -> (AeadKey, Iv) {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!("another cipher"),
    }
}
