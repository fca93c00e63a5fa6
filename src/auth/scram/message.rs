//! The parts of a message: attributes, names, the header that says what a proof is bound to (RFC 5802, section 7).

use super::{Binding, EXPORTER, MESSAGE_BYTES_MAX, NONCE_CHARS_MAX, ScramError};

/// A message as text, if it is any and not too long.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    if text.len() > MESSAGE_BYTES_MAX || text.contains('\0') { Err(ScramError::Malformed) } else { Ok(text) }
}

/// The attributes of a message, `letter=value`, with a comma between two.
pub(super) struct Attributes<'a>(Option<&'a str>);

impl<'a> Attributes<'a> {
    pub(super) const fn of(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// The next one, which must be `letter`. What stands in its place by `m=` must be understood, and is not.
    pub(super) fn take(&mut self, letter: char) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == letter => Ok(value),
            Some(('m', _)) => Err(ScramError::Extension),
            _ => Err(ScramError::Malformed),
        }
    }

    /// Passes over what is left: extensions that need not be understood.
    pub(super) fn finish(mut self) -> Result<(), ScramError> {
        while let Some((letter, value)) = self.next()? {
            if letter == 'm' {
                return Err(ScramError::Extension);
            }
            if value.is_empty() {
                return Err(ScramError::Malformed);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(char, &'a str)>, ScramError> {
        let Some(text) = self.0 else { return Ok(None) };
        let (attribute, rest) = match text.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (text, None),
        };
        self.0 = rest;
        let (letter, value) = attribute.split_once('=').ok_or(ScramError::Malformed)?;
        match letter.as_bytes() {
            [byte] if byte.is_ascii_alphabetic() => Ok(Some((char::from(*byte), value))),
            _ => Err(ScramError::Malformed),
        }
    }
}

/// What a client says of channel bindings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// `n`: it cannot bind.
    Cannot,
    /// `y`: it can, and believes that the server cannot.
    CouldHave,
    /// `p`: it binds to `tls-exporter`.
    Bound,
}

/// A first message, taken apart.
pub(super) struct ClientFirst<'a> {
    /// The beginning up to its second comma, which the proof covers as well.
    pub(super) header: &'a str,
    pub(super) flag: Flag,
    /// Whom the client wants to act for, as it stands there.
    pub(super) identity: Option<&'a str>,
    /// The rest, which the proof covers.
    pub(super) bare: &'a str,
    /// The user's name, as it stands there.
    pub(super) user: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, ScramError> {
        let (flag_text, rest) = text.split_once(',').ok_or(ScramError::Malformed)?;
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Malformed)?;
        let header = &text[..text.len() - bare.len()];
        let flag = match (flag_text, flag_text.strip_prefix("p=")) {
            ("n", _) => Flag::Cannot,
            ("y", _) => Flag::CouldHave,
            (_, Some(EXPORTER)) => Flag::Bound,
            (_, Some(other)) if !other.is_empty() => return Err(ScramError::Binding),
            _ => return Err(ScramError::Malformed),
        };
        let identity = match identity {
            "" => None,
            some => Some(some.strip_prefix("a=").ok_or(ScramError::Malformed)?),
        };
        let mut attributes = Attributes::of(bare);
        let user = attributes.take('n')?;
        let nonce = attributes.take('r')?;
        attributes.finish()?;
        if !is_nonce(nonce) || nonce.len() > NONCE_CHARS_MAX {
            return Err(ScramError::Malformed);
        }
        Ok(Self { header, flag, identity, bare, user, nonce })
    }
}

/// Whether a nonce has only the characters that RFC 5802 lets it have, and some of them. A comma cannot have got here.
pub(super) fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name as it is written in a message.
pub(super) fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The name that is meant; none is empty, and an equals sign stands for nothing else.
pub(super) fn unescaped(text: &str) -> Result<String, ScramError> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        name.push(c);
        name.push_str(rest);
    }
    if name.is_empty() { Err(ScramError::Malformed) } else { Ok(name) }
}

/// What `c=` stands for, before base64: the header, and the bytes of the channel if it binds to one.
pub(super) fn bound(header: &str, flag: Flag, binding: Binding) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    if let (Flag::Bound, Binding::Exporter(exported)) = (flag, binding) {
        bytes.extend_from_slice(&exported);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_escaped() {
        for name in ["ada", "a,b=c", "==,,", "=2C", "日本, =3D"] {
            let text = escaped(name);
            assert!(!text.contains(','));
            assert_eq!(unescaped(&text).as_deref(), Ok(name));
        }
        for bad in ["", "=", "a=", "a=2", "=2c", "=41", "=2C=", "a=b"] {
            assert_eq!(unescaped(bad), Err(ScramError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_first_message_is_taken_apart_as_rfc_5802_writes_it() {
        let first = ClientFirst::parse("n,a=eve,n=ada,r=x!y,z=more").expect("a message");
        assert_eq!((first.header, first.bare), ("n,a=eve,", "n=ada,r=x!y,z=more"));
        assert_eq!((first.identity, first.user, first.nonce), (Some("eve"), "ada", "x!y"));
        for (bad, why) in [
            ("", ScramError::Malformed),
            ("n", ScramError::Malformed),
            ("n,", ScramError::Malformed),
            ("n,,", ScramError::Malformed),
            ("n,,n=ada", ScramError::Malformed),
            ("n,,n=ada,r=", ScramError::Malformed),
            ("n,,n=ada,r=a b", ScramError::Malformed),
            ("n,,n=ada,r=é", ScramError::Malformed),
            ("n,,r=x,n=ada", ScramError::Malformed),
            ("n,,n=ada,r=x,", ScramError::Malformed),
            ("n,,n=ada,r=x,z=", ScramError::Malformed),
            ("n,,n=ada,r=x,zz=1", ScramError::Malformed),
            ("n,eve,n=ada,r=x", ScramError::Malformed),
            ("x,,n=ada,r=x", ScramError::Malformed),
            ("p,,n=ada,r=x", ScramError::Malformed),
            ("p=,,n=ada,r=x", ScramError::Malformed),
            ("p=tls-unique,,n=ada,r=x", ScramError::Binding),
            ("n,,m=must,n=ada,r=x", ScramError::Extension),
            ("n,,n=ada,r=x,m=must", ScramError::Extension),
        ] {
            assert_eq!(ClientFirst::parse(bad).err(), Some(why), "{bad:?}");
        }
        let long = format!("n,,n=ada,r={}", "x".repeat(NONCE_CHARS_MAX + 1));
        assert_eq!(ClientFirst::parse(&long).err(), Some(ScramError::Malformed));
    }
}
