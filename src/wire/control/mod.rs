//! The bodies of the control frames, as types that are parsed once and written in one place.
//!
//! Each type's comment is its layout: `?` may be absent, `*` may stand any number of times within its
//! limit. Parsing borrows from the frame and allocates nothing. [`Body::parse`] skips unknown tags.

mod presence;
mod rooms;
mod session;
mod traffic;

pub use presence::{Member, Presence, Profile, Unwatch, Update, Watch, Who, presence, put_member};
pub use rooms::{Join, Joined, Leave};
pub use session::{Auth, ErrorBody, Evict, Goodbye, Hello, Ping, Pong, Reason, Welcome};
pub use traffic::{Gap, Receipt, Stage, put_recipients, recipients};

use super::Header;
use super::body::{self, BodyError, Tag};
use super::header::Type;

/// A body that can be read from and written into a control frame.
pub trait Body<'a>: Sized {
    /// The type of the frames that carry it.
    const TYPE: Type;

    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with the first field that cannot be understood, or which field is missing.
    fn parse(payload: &'a [u8]) -> Result<Self, BodyError>;

    /// Appends the payload.
    fn write(&self, out: &mut Vec<u8>);

    /// Appends a whole frame with `header`, whose type becomes [`Body::TYPE`].
    fn write_frame(&self, header: Header, out: &mut Vec<u8>) {
        Header { type_number: Self::TYPE.number(), ..header }.write_frame(out, |out| self.write(out));
    }
}

/// Defines a body of optional and required integers: what most control frames are.
macro_rules! integers {
    (
        $(#[$meta:meta])*
        $name:ident($type:ident) {
            required { $($(#[$field_meta:meta])* $field:ident: $tag:ident,)* }
            optional { $($(#[$optional_meta:meta])* $optional:ident: $optional_tag:ident,)* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: u64,)*
            $($(#[$optional_meta])* pub $optional: Option<u64>,)*
        }

        impl Body<'_> for $name {
            const TYPE: Type = Type::$type;

            fn parse(payload: &[u8]) -> Result<Self, BodyError> {
                $(let mut $field = None;)*
                $(let mut $optional = None;)*
                for field in Fields::new(payload) {
                    let field = field?;
                    match field.tag {
                        $(Tag::$tag => $field = Some(field.integer()?),)*
                        $(Tag::$optional_tag => $optional = Some(field.integer()?),)*
                        _ => {}
                    }
                }
                Ok(Self {
                    $($field: $field.ok_or(BodyError::Missing(Tag::$tag))?,)*
                    $($optional,)*
                })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(body::put_integer(out, Tag::$tag, self.$field);)*
                $(put_optional(out, Tag::$optional_tag, self.$optional);)*
            }
        }
    };
}

fn put_optional(out: &mut Vec<u8>, tag: Tag, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        body::put_integer(out, tag, value.into());
    }
}

use integers;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::wire::{Code, HEADER_BYTES, Id};

    fn round_trip<'a, B: Body<'a> + PartialEq + Debug>(body: B, frame: &'a mut Vec<u8>) {
        body.write_frame(Header::new(Type::Hello).correlating(5), frame);
        let header = Header::read(frame);
        assert_eq!((header.frame_type(), header.correlation), (Some(B::TYPE), 5));
        assert_eq!(B::parse(&frame[HEADER_BYTES..]), Ok(body));
    }

    #[test]
    fn every_body_is_read_as_it_was_written() {
        let mut profile = Profile::named("ada");
        profile.station = Some("desk");
        profile.endpoints[0] = Some("[::1]:7000");
        profile.endpoints[1] = Some("host:7001");
        profile.details = Some(&[0, 255]);
        let mut hello = Hello::new(profile);
        hello.payload_bytes_max = Some(1 << 20);
        hello.keepalive_ms = Some(1000);
        hello.agent = Some("test/1");
        hello.mechanism = Some("SCRAM-SHA-256");
        hello.auth_data = Some(b"n,,n=ada,r=abc");
        round_trip(hello, &mut Vec::new());
        let welcome = Welcome {
            version: 1,
            client: Id::client(1, 2),
            payload_bytes_max: 65_536,
            keepalive_ms: 30_000,
            queue_bytes_max: 1 << 20,
            clock_us: 77,
            epoch_us: 88,
            address: "127.0.0.1:5000",
            agent: "switchboard/0",
            user: None,
            auth_data: None,
        };
        round_trip(welcome, &mut Vec::new());
        round_trip(Welcome { user: Some("ada"), auth_data: Some(b"v=abc"), ..welcome }, &mut Vec::new());
        round_trip(Auth { data: b"" }, &mut Vec::new());
        let mut reason = Reason::new(Code::BadVersion, "no common version");
        reason.client = Some(Id::client(3, 4));
        reason.retry_ms = Some(9);
        reason.versions = Some((1, 1));
        reason.mechanisms[0] = Some("SCRAM-SHA-256");
        reason.mechanisms[1] = Some("TOKEN");
        round_trip(ErrorBody(reason), &mut Vec::new());
        round_trip(Goodbye(Reason::default()), &mut Vec::new());
        round_trip(Ping { clock_us: Some(1) }, &mut Vec::new());
        round_trip(Pong { ping_clock_us: None, clock_us: Some(2) }, &mut Vec::new());
        round_trip(Receipt { stage: Stage::Queued.number(), recipients: Some(3), skipped: Some(1) }, &mut Vec::new());
        let gap = Gap { frames: 1, bytes: 2 };
        round_trip(gap, &mut Vec::new());
        assert_eq!(Gap::parse(&gap.bytes()), Ok(gap));
        round_trip(Watch { room: None }, &mut Vec::new());
        round_trip(Unwatch { room: Some(8) }, &mut Vec::new());
        round_trip(Leave { room: 7 }, &mut Vec::new());
        round_trip(Evict { client: Id::from_bits(9), text: "" }, &mut Vec::new());
        round_trip(Evict { client: Id::from_bits(9), text: "spam" }, &mut Vec::new());
        for who in [Who::Named("ada"), Who::Client(Id::client(1, 1)), Who::Room(Id::room(1, 1)), Who::Everybody] {
            round_trip(who, &mut Vec::new());
        }
        round_trip(Update(profile), &mut Vec::new());
        round_trip(Join { name: "lobby" }, &mut Vec::new());
        round_trip(Joined { room: Id::room(1, 1), name: "lobby", members: 1 }, &mut Vec::new());
    }

    #[test]
    fn presence_is_read_in_its_order() {
        let ada =
            Member { client: Id::client(1, 1), profile: Profile::named("ada"), address: "127.0.0.1:5", code_number: 0 };
        let mut card = Vec::new();
        ada.write_card(&mut card);
        let mut payload = Vec::new();
        body::put_integer(&mut payload, Tag::SEQUENCE, 4);
        put_member(&mut payload, Tag::ARRIVED, ada.client, &card);
        body::put_bytes(&mut payload, Tag(0x4fff), b"later");
        body::put_record(&mut payload, Tag::DEPARTED, |out| {
            body::put_integer(out, Tag::CLIENT, ada.client.bits());
            body::put_integer(out, Tag::CODE, u64::from(Code::Left.number()));
        });
        let seen: Vec<_> = presence(&payload).collect::<Result<_, _>>().expect("good");
        assert_eq!(seen[..2], [Presence::Sequence(4), Presence::Arrived(ada)]);
        let Presence::Departed(gone) = seen[2] else { panic!() };
        assert_eq!((gone.client, gone.code_number), (ada.client, Code::Left.number()));
    }

    #[test]
    fn a_record_with_a_client_that_is_no_id_is_not_read_even_if_a_good_one_follows() {
        let mut record = Vec::new();
        body::put_bytes(&mut record, Tag::CLIENT, b"seven b");
        body::put_integer(&mut record, Tag::CLIENT, Id::client(1, 1).bits());
        assert_eq!(Member::parse(&record), Err(BodyError::BadInteger(Tag::CLIENT)));
    }

    #[test]
    fn a_list_of_recipients_is_bounded_and_whole() {
        let ids = [Id::client(1, 1), Id::client(2, 2)];
        let mut payload = Vec::new();
        put_recipients(&mut payload, &ids);
        payload.extend_from_slice(b"hi");
        let (list, at) = recipients(&payload).expect("good");
        assert_eq!((list.collect::<Vec<_>>(), &payload[at..]), (ids.to_vec(), &b"hi"[..]));
        assert!(recipients(&payload[..19]).is_err());
        assert!(recipients(&[0, 0]).is_err());
        assert!(recipients(&[0xff; 40]).is_err());
    }

    #[test]
    fn garbage_bodies_are_errors_and_never_panics() {
        let mut random = fastrand::Rng::with_seed(2);
        for round in 0..20_000 {
            let mut payload = Vec::new();
            if round % 2 == 0 {
                Hello::new(Profile::named("x")).write(&mut payload);
                let place = random.usize(0..payload.len());
                payload[place] ^= 1 << random.u32(0..8);
            } else {
                payload.extend((0..random.usize(0..80)).map(|_| random.u8(..)));
            }
            let _ = Hello::parse(&payload);
            let _ = Welcome::parse(&payload);
            let _ = ErrorBody::parse(&payload);
            let _ = Auth::parse(&payload);
            let _ = Receipt::parse(&payload);
            let _ = Who::parse(&payload);
            let _ = Update::parse(&payload);
            let _ = presence(&payload).count();
            let _ = recipients(&payload).map(|(list, _)| list.count());
        }
    }
}
