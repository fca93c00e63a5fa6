//! What ties a password exchange to the connection that it is held on: the channel binding `tls-exporter` (RFC 9266).
//!
//! Whoever sits between a client and this relay holds two connections, and the two exporters differ: a proof that was made
//! on one is of no use on the other. rustls has no exporter for connections whose records it opens in place, but hands the
//! secret that it is derived from to whoever logs keys. [`BindingLog`] is such a log, which derives this one value and
//! forgets the secret; it sees no other, so nothing that was sent can be opened with what it gets.

use std::cell::Cell;

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::KeyLog;

/// Bytes of a binding (RFC 9266, section 4.2).
const BINDING_BYTES: usize = 32;
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

thread_local! {
    /// That of the handshake which this thread is just taking further.
    static LATEST: Cell<Option<[u8; BINDING_BYTES]>> = const { Cell::new(None) };
}

/// The binding that has been derived since the last call.
pub(super) fn take() -> Option<[u8; BINDING_BYTES]> {
    LATEST.take()
}

/// To be the `key_log` of a configuration of TLS whose connections are to have a channel binding.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindingLog;

impl KeyLog for BindingLog {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if self.will_log(label) {
            LATEST.set(binding(secret));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }
}

/// `TLS-Exporter("EXPORTER-Channel-Binding", "", 32)` of RFC 8446, section 7.5, from the exporter's secret. Its length says
/// which hash the cipher suite has.
fn binding(secret: &[u8]) -> Option<[u8; BINDING_BYTES]> {
    let (kdf, hash): (_, &'static Algorithm) = match secret.len() {
        32 => (HKDF_SHA256, &SHA256),
        48 => (HKDF_SHA384, &SHA384),
        _ => return None,
    };
    let nothing = digest(hash, b"");
    let derived =
        expand(&Prk::new_less_safe(kdf, secret), b"EXPORTER-Channel-Binding", nothing.as_ref(), secret.len())?;
    let exported = expand(&Prk::new_less_safe(kdf, &derived), b"exporter", nothing.as_ref(), BINDING_BYTES)?;
    exported.try_into().ok()
}

/// `HKDF-Expand-Label` of RFC 8446, section 7.1.
fn expand(secret: &Prk, label: &[u8], context: &[u8], bytes: usize) -> Option<Vec<u8>> {
    struct Bytes(usize);
    impl KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let length = u16::try_from(bytes).ok()?.to_be_bytes();
    let label_length = [u8::try_from(6 + label.len()).ok()?];
    let context_length = [u8::try_from(context.len()).ok()?];
    let info: [&[u8]; 6] = [&length, &label_length, b"tls13 ", label, &context_length, context];
    let mut out = vec![0; bytes];
    secret.expand(&info, Bytes(bytes)).ok()?.fill(&mut out).ok()?;
    Some(out)
}
