//! The ways to authenticate, by the names that stand in MECHANISM.

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// A password that is never sent, proved by both sides (RFC 5802, RFC 7677).
    ScramSha256,
    /// The same, bound to the TLS connection by its exporter (RFC 9266), so that nobody in the middle can pass it on.
    ScramSha256Plus,
    /// The certificate that the client has shown to TLS (RFC 4422, appendix A).
    External,
    /// A long random word that only this client and the relay know: for machines. Its name is ours.
    Token,
}

impl Mechanism {
    /// Every mechanism, the one to prefer first.
    pub const ALL: [Self; 4] = [Self::ScramSha256Plus, Self::ScramSha256, Self::External, Self::Token];
    /// How many there are: the size of a table of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
            Self::Token => "TOKEN",
        }
    }

    /// The mechanism with this name, byte by byte, if this version knows it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Its place in a table of counters: that of [`Mechanism::ALL`].
    #[must_use]
    pub fn ordinal(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or_default()
    }
}

impl std::fmt::Display for Mechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Mechanism;

    #[test]
    fn each_mechanism_is_found_by_its_name_only() {
        for (place, mechanism) in Mechanism::ALL.into_iter().enumerate() {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
            assert_eq!(mechanism.ordinal(), place);
        }
        for other in ["", "scram-sha-256", "SCRAM-SHA-1", "SCRAM-SHA-256 "] {
            assert_eq!(Mechanism::from_name(other), None, "{other:?}");
        }
    }
}
