//! What stands in the relay's own frames beside what they answer: clocks, limits, versions, when to come back.

use switchboard::reactor::Refusal;
use switchboard::wire::control::{Body, ErrorBody, Goodbye, Reason, Welcome};
use switchboard::wire::{Code, HEADER_BYTES, Header, Id, Type};

use super::{EPOCH, Judge, State};
use crate::frames::Got;

impl Judge {
    pub(super) fn welcome_is_true(&mut self, id: Id, frame: &[u8]) {
        let welcome = Welcome::parse(&frame[HEADER_BYTES..]).expect("a good WELCOME");
        let settings = self.settings.clone();
        let record = self.record(id);
        assert!(!record.is_welcomed, "{id} is welcomed twice");
        record.is_welcomed = true;
        let identity = record.identity.as_ref().expect("it has come in");
        let user = identity.user_name();
        assert_eq!(welcome.auth_data.is_some(), identity.has_proof, "what the relay proves to {id}");
        let expected = Welcome {
            version: 1,
            client: id,
            payload_bytes_max: record.payload_bytes_max as u32,
            keepalive_ms: (record.keepalive_us / 1000) as u32,
            queue_bytes_max: settings.queue_bytes_max as u64,
            clock_us: record.welcomed.micros(),
            epoch_us: EPOCH.as_micros() as u64,
            address: &record.card.address,
            agent: &settings.agent,
            user: user.as_deref(),
            // Whether it is true the client looks at.
            auth_data: welcome.auth_data,
        };
        assert_eq!(welcome, expected, "the WELCOME of {id}");
    }

    /// An ERROR that closes, or a GOODBYE.
    pub(super) fn last_word(&mut self, id: Id, frame: &[u8]) {
        let (header, payload) = (Header::read(frame), &frame[HEADER_BYTES..]);
        let reason = match header.frame_type() {
            Some(Type::Goodbye) => Goodbye::parse(payload).expect("a good GOODBYE").0,
            _ => ErrorBody::parse(payload).expect("a good ERROR").0,
        };
        let code = self.hint_is_lawful(&reason);
        let is_asked_how = matches!(code, Code::AuthRequired | Code::BadMechanism);
        let offered = if is_asked_how { self.record(id).offered.clone() } else { Vec::new() };
        let told: Vec<&str> = reason.mechanisms.iter().flatten().copied().collect();
        assert_eq!(told, offered, "the mechanisms that {id} is offered");
        if code == Code::TooManyAttempts {
            let least = self.record(id).refused_ms;
            assert!(reason.retry_ms >= Some(least), "{id} is told to come back in time");
        }
        let record = self.record(id);
        assert_eq!(record.state, State::Leaving(code), "the last word to {id}");
        assert_eq!(header.correlation, record.final_correlation, "which frame the last word to {id} answers");
        record.is_final = true;
    }

    /// What a client that is not let in is told, as far as the network has taken it.
    pub(crate) fn turned_away(&mut self, why: Refusal, bytes: &[u8]) {
        let Some(frame) = switchboard::wire::Frames::new(bytes).next() else { return };
        let Got::Error { correlation: 0, code, client: None } = Got::read(frame) else {
            panic!("whoever is not let in is told {:?}", Got::read(frame))
        };
        assert_eq!(code, Self::code_of(why), "what somebody is told who is not let in");
        assert_eq!(frame.len(), bytes.len(), "whoever is not let in is told one thing");
        self.hint_is_lawful(&ErrorBody::parse(&frame[HEADER_BYTES..]).expect("a good ERROR").0);
    }

    pub(super) const fn code_of(why: Refusal) -> Code {
        match why {
            Refusal::Connections => Code::ConnectionsFull,
            Refusal::Descriptors => Code::DescriptorsOut,
            Refusal::Denied => Code::AddressDenied,
            Refusal::AddressConnections | Refusal::AddressNewcomers | Refusal::AddressRate => Code::AddressCrowded,
        }
    }

    /// When to come back, and which versions to speak, is said where it should be.
    fn hint_is_lawful(&self, reason: &Reason<'_>) -> Code {
        let code = reason.code().expect("a known code");
        assert_eq!(reason.retry_ms.is_some(), code.has_delay(), "RETRY_MS with {code}");
        if let Some(retry_ms) = reason.retry_ms {
            let mean = self.settings.retry_delay.as_millis() as u32;
            // Whoever has failed too often is told when that is forgotten.
            let most =
                if code == Code::TooManyAttempts { self.settings.auth.failures_window.as_millis() as u32 } else { 0 };
            let hint = mean / 2..=most + mean * 3 / 2;
            assert!(hint.contains(&retry_ms), "come back after {retry_ms} ms");
        }
        assert_eq!(reason.versions, (code == Code::BadVersion).then_some((1, 1)), "versions with {code}");
        code
    }
}
