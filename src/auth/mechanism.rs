//! The ways to prove who one is, by the names that stand on the wire.

/// How a client proves who it is. The names are those of the IANA registry of SASL mechanisms, except `TOKEN`, which is
/// this project's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// A password, proven and not sent, bound to the channel that it is proven on (RFC 5802, 7677, 9266).
    ScramSha256Plus,
    /// A password, proven and not sent (RFC 5802, 7677).
    ScramSha256,
    /// The certificate that the client has shown to TLS (RFC 4422, appendix A).
    External,
    /// A token, sent as it is.
    Token,
}

impl Mechanism {
    /// All of them, the strongest proof of a password first.
    pub const ALL: [Self; 4] = [Self::ScramSha256Plus, Self::ScramSha256, Self::External, Self::Token];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::External => "EXTERNAL",
            Self::Token => "TOKEN",
        }
    }

    /// Whether it proves a password, which can be guessed; tokens and certificates cannot.
    #[must_use]
    pub const fn is_password(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha256)
    }

    /// The mechanism of that name, letter for letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_is_found_by_its_name_and_no_other() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(mechanism.name()), Some(mechanism));
        }
        for other in ["", "PLAIN", "scram-sha-256", "SCRAM-SHA-256-PLUS ", "SCRAM-SHA-1"] {
            assert_eq!(Mechanism::named(other), None, "{other}");
        }
    }
}
