//! What a client says of itself when it connects, and what it wishes for.

use std::time::Duration;

use super::credentials::Proof;
use super::{Address, Credentials, Tls};
use crate::wire::control::{Hello, Profile};
use crate::wire::{
    DETAILS_BYTES_MAX, ENDPOINT_BYTES_MAX, ENDPOINTS_MAX, PAYLOAD_BYTES_CEILING, PAYLOAD_BYTES_DEFAULT,
    PAYLOAD_BYTES_FLOOR, TEXT_BYTES_MAX, is_valid_name,
};

/// How long looking up, connecting and being welcomed may take together, unless the options say otherwise:
/// long enough for a lost SYN to be sent again twice and for a relay that answers attempts to authenticate late by some
/// seconds, short enough for a person to wait.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// What this library calls itself where the application does not say.
const AGENT_DEFAULT: &str = concat!("switchboard-client/", env!("CARGO_PKG_VERSION"));

/// Who the client is and what it wishes for. [`Options::named`] is enough for most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Unique among the clients of the relay; 1 to 64 bytes, see [`is_valid_name`].
    pub name: String,
    /// Where the client runs, in its own words; at most 256 bytes; empty: says nothing.
    pub station: String,
    /// Where it listens for direct contact; at most 8 of at most 128 bytes each.
    pub endpoints: Vec<String>,
    /// Whatever it wants others to know; at most 1024 bytes; empty: nothing.
    pub details: Vec<u8>,
    /// The largest payload, in bytes, that it takes, 4 KiB to 16 MiB; the relay may agree to less.
    pub payload_bytes_max: u32,
    /// The silence after which either side asks for a sign of life; the relay decides, and without a wish
    /// takes its own value.
    pub keepalive: Option<Duration>,
    /// The client's software and version; at most 256 bytes.
    pub agent: String,
    /// How long connecting may take, from the look-up of the host to the WELCOME.
    pub connect_timeout: Duration,
    /// How the relay is known at a `tls://` address.
    pub tls: Tls,
    /// What it proves who it is with. With credentials a relay that does not ask is taken for the wrong one; without, a
    /// certificate of [`Tls::identity`] is offered where the relay asks.
    pub credentials: Option<Credentials>,
    /// The user that the relay must know it as, where a token or a certificate says who that is; `None`: whoever it is.
    pub expected_user: Option<String>,
}

impl Options {
    /// A client called `name`, with everything else at its default.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            station: String::new(),
            endpoints: Vec::new(),
            details: Vec::new(),
            payload_bytes_max: PAYLOAD_BYTES_DEFAULT,
            keepalive: None,
            agent: AGENT_DEFAULT.into(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            tls: Tls::default(),
            credentials: None,
            expected_user: None,
        }
    }

    /// Which option the relay would refuse, or makes no sense for this address, and why; `None` if all are good.
    pub(super) fn fault(&self, address: &Address) -> Option<&'static str> {
        let unfit = |text: &str, bytes_max: usize| text.len() > bytes_max || text.chars().any(char::is_control);
        let unfit_endpoint = |endpoint: &String| endpoint.is_empty() || unfit(endpoint, ENDPOINT_BYTES_MAX);
        if !is_valid_name(&self.name) {
            return Some("a name has 1 to 64 bytes, no control characters, and no space at either end");
        }
        if unfit(&self.station, TEXT_BYTES_MAX) || unfit(&self.agent, TEXT_BYTES_MAX) {
            return Some("station and agent have at most 256 bytes and no control characters");
        }
        if self.endpoints.len() > ENDPOINTS_MAX || self.endpoints.iter().any(unfit_endpoint) {
            return Some("at most 8 endpoints of 1 to 128 bytes without control characters may be announced");
        }
        if self.details.len() > DETAILS_BYTES_MAX {
            return Some("details have at most 1024 bytes");
        }
        if !(PAYLOAD_BYTES_FLOOR..=PAYLOAD_BYTES_CEILING).contains(&self.payload_bytes_max) {
            return Some("the limit on payloads is 4 KiB to 16 MiB");
        }
        if self.tls != Tls::default() && !matches!(address, Address::Tls { .. }) {
            // Whoever names certificates wants them looked at.
            return Some("certificates are of use with TLS only: write the address as tls://host:port");
        }
        self.credentials.as_ref().and_then(|credentials| credentials.fault(address, &self.tls))
    }

    /// As whom the relay must know the client.
    pub(super) fn expected_user(&self) -> Option<&str> {
        match &self.credentials {
            Some(Credentials::Password { user, .. }) => Some(user),
            _ => self.expected_user.as_deref(),
        }
    }

    /// The HELLO that says all this, and begins to prove it.
    pub(super) fn hello<'a>(&'a self, proof: &'a Proof) -> Hello<'a> {
        let mut profile = Profile::named(&self.name);
        profile.station = Some(self.station.as_str()).filter(|station| !station.is_empty());
        profile.details = Some(self.details.as_slice()).filter(|details| !details.is_empty());
        for (place, endpoint) in profile.endpoints.iter_mut().zip(&self.endpoints) {
            *place = Some(endpoint);
        }
        let mut hello = Hello::new(profile);
        hello.payload_bytes_max = Some(self.payload_bytes_max);
        hello.keepalive_ms = self.keepalive.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        hello.agent = Some(self.agent.as_str()).filter(|agent| !agent.is_empty());
        (hello.mechanism, hello.auth_data) = proof.hello();
        hello
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Ground;
    use super::*;
    use crate::auth::Binding;
    use crate::wire::HELLO_BYTES_MAX;
    use crate::wire::control::Body;

    #[test]
    fn what_the_relay_would_refuse_is_found_before_connecting() {
        let good = Options::named("ada");
        let plain = Address::default();
        let over_tls = Address::Tls { host: "localhost".into(), port: 1 };
        assert_eq!((good.fault(&plain), good.fault(&over_tls)), (None, None));
        for bad in [
            Options { name: " ada".into(), ..good.clone() },
            Options { station: "a\nb".into(), ..good.clone() },
            Options { agent: "x".repeat(257), ..good.clone() },
            Options { endpoints: vec!["h:1".into(); 9], ..good.clone() },
            Options { endpoints: vec![String::new()], ..good.clone() },
            Options { details: vec![0; 1025], ..good.clone() },
            Options { payload_bytes_max: u32::MAX, ..good.clone() },
            Options { payload_bytes_max: 4095, ..good.clone() },
        ] {
            assert!(bad.fault(&over_tls).is_some(), "{bad:?}");
        }
        let certain = Options { tls: Tls { ca: Some("ca.pem".into()), identity: None }, ..good };
        assert_eq!(certain.fault(&over_tls), None);
        assert!(certain.fault(&plain).is_some_and(|why| why.contains("tls://")));
        for useless in [
            Credentials::Certificate,
            Credentials::Token("".into()),
            Credentials::Token("x".repeat(1025).into()),
            Credentials::Password { user: " ada".into(), password: "x".into() },
            Credentials::Password { user: "ada".into(), password: "".into() },
        ] {
            let options = Options { credentials: Some(useless), ..Options::named("ada") };
            assert!(options.fault(&over_tls).is_some(), "{options:?}");
        }
    }

    #[test]
    fn the_largest_options_fit_a_hello() {
        let options = Options {
            name: "n".repeat(64),
            station: "s".repeat(256),
            endpoints: vec!["e".repeat(128); 8],
            details: vec![1; 1024],
            agent: "a".repeat(256),
            keepalive: Some(Duration::MAX),
            credentials: Some(Credentials::Token("t".repeat(1024).into())),
            ..Options::named("")
        };
        assert_eq!(options.fault(&Address::default()), None);
        let mut payload = Vec::new();
        let ground = Ground { binding: Binding::None, is_bindable: true, is_private: true };
        let proof = Proof::begin(options.credentials.as_ref(), ground).expect("good");
        options.hello(&proof).write(&mut payload);
        assert!(payload.len() <= HELLO_BYTES_MAX as usize);
        assert_eq!(Hello::parse(&payload), Ok(options.hello(&proof)));
    }
}
