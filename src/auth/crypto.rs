//! The few operations that everything here is made of, by aws-lc-rs: HMAC, hash, comparison, randomness.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac, rand};

/// Bytes of a SHA-256 hash, and of every key here.
pub(super) const KEY_BYTES: usize = 32;

/// HMAC-SHA-256 of `parts`, one behind the other (RFC 2104).
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    hmac_with(&hmac_key(key), parts)
}

/// A key that is used often, made ready once.
pub(super) fn hmac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// [`hmac`] with a key that was made ready.
pub(super) fn hmac_with(key: &hmac::Key, parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; KEY_BYTES];
    bytes.copy_from_slice(context.sign().as_ref());
    bytes
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let mut hash = [0; KEY_BYTES];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Whether two secrets are equal; the time that this takes tells only whether they are equally long.
pub(super) fn are_equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// `N` bytes that nobody can foresee, from the system: for nonces ([`NONCE_BYTES`](super::NONCE_BYTES)), salts,
/// secrets and tokens. Whoever runs an exchange gives it its nonce, so that all the rest can be repeated.
///
/// # Errors
/// If the system has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system has no randomness to give")
    }
}

impl std::error::Error for NoRandomness {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let tag = hmac(b"Jefe", &[b"what do ya ", b"want for nothing?"]);
        assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        // Section 4.7: a key that is longer than a block is hashed first.
        let tag = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&tag), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn the_hash_is_that_of_fips_180() {
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn secrets_are_equal_only_in_all_their_bytes() {
        assert!(are_equal(b"abc", b"abc") && are_equal(b"", b""));
        assert!(!are_equal(b"abc", b"abd") && !are_equal(b"abc", b"ab"));
    }

    #[test]
    fn randomness_does_not_repeat() {
        assert_ne!(random::<18>(), random::<18>());
    }

    fn hex(bytes: &[u8]) -> String {
        bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|digit| char::from_digit(digit.into(), 16))
            .collect()
    }
}
