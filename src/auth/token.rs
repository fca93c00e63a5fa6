//! Tokens for machines: a secret that is sent as it is, so over a channel that nobody reads only. A token is random, so
//! what is kept of it is a plain hash, and a slow one would protect nothing.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::crypto::{KEY_BYTES, are_equal, sha256};

/// Random bytes in a token.
pub const TOKEN_BYTES: usize = 32;
/// How a token's text begins, so that people and scanners for leaked secrets know what they see.
pub const TOKEN_PREFIX: &str = "swb_";

/// The text of a token that is made of `bytes`: [`TOKEN_PREFIX`] and 43 characters of base64url.
#[must_use]
pub fn token_text(bytes: &[u8; TOKEN_BYTES]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_PREFIX.len() + 44));
    text.push_str(TOKEN_PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// What is kept of a token: the SHA-256 of its text, shown in base64.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; KEY_BYTES]);

impl TokenDigest {
    /// The hash of what somebody has sent, whatever it is.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(sha256(token))
    }

    /// What a table is hashed by.
    pub(super) const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// In constant time.
impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        are_equal(&self.0, &other.0)
    }
}

impl Eq for TokenDigest {}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// Without the hash.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

impl FromStr for TokenDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = STANDARD.decode(text).map_err(|_| "is not base64")?;
        bytes.try_into().map(Self).map_err(|_| "is not a SHA-256, which has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_prefix_and_43_characters_that_need_no_quotes() {
        let text = token_text(&[0xff; TOKEN_BYTES]);
        assert_eq!(text.len(), TOKEN_PREFIX.len() + 43);
        let rest = text.strip_prefix(TOKEN_PREFIX).expect("the prefix");
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')), "{rest}");
    }

    #[test]
    fn a_digest_is_the_hash_of_the_text_and_comes_back_from_base64() {
        let digest = TokenDigest::of(b"abc");
        assert_eq!(digest.to_string(), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_ne!(digest, TokenDigest::of(b"abd"));
        for bad in ["", "ungW", "?", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0"] {
            assert!(bad.parse::<TokenDigest>().is_err(), "{bad}");
        }
    }
}
