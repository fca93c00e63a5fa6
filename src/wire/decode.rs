//! Finding frames in received bytes, in place.
//!
//! The decoder keeps no state: it looks at the front of a buffer and either returns whole frames or says
//! how many bytes it wants to see before it is asked again. A length is checked against its limit as soon
//! as its four bytes are there, so nothing is waited for that would be refused. No byte of a payload is
//! looked at, and no header more than twice.
//!
//! Consecutive frames of one type, with equal flags and for the same destination, come out as one
//! [`Run`]: routing, queueing and writing then cost once for all of them.

use std::fmt;

use super::header::is_routed;
use super::{Flags, HEADER_BYTES, Header, Id, IdKind, LENGTH_BYTES, LENGTH_MIN};
use crate::planted::{self, Bug};

/// The length at which a run for a room or for all ends: it goes to each of thousands before anybody else
/// is heard.
const RUN_TO_MANY_BYTES_MAX: usize = 16 * 1024;

/// What stands at the front of a buffer.
#[derive(Debug)]
pub enum Next<'a> {
    /// One or more whole frames.
    Run(Run<'a>),
    /// The first frame is not complete: ask again when `wanted` bytes are there, counted from its start.
    Incomplete {
        /// Bytes of the whole frame, or of the header while the length is unknown.
        wanted: usize,
    },
}

/// Whole frames that can be handled as one: the same type, flags and destination.
#[derive(Debug)]
pub struct Run<'a> {
    /// The frames, one behind the other, with their source stamped.
    pub bytes: &'a mut [u8],
    /// How many they are, at least one.
    pub frames: u32,
    /// The largest payload among them, in bytes.
    pub payload_bytes_max: u32,
}

impl Run<'_> {
    /// The header of the first frame.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::read(self.bytes)
    }

    /// The payload of the first frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..frame_bytes(self.bytes).unwrap_or(HEADER_BYTES)]
    }
}

/// The frames of a run or of a queue, one by one.
///
/// Stops at the first frame that is not whole.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// The frames that stand one behind the other in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (frame, rest) = self.rest.split_at_checked(frame_bytes(self.rest)?)?;
        self.rest = rest;
        Some(frame)
    }
}

/// The most frames in one run. What the relay answers to them all must fit the reserve of the sender's queue,
/// and it is asked to pause only between runs: 1,024 ERRORs have 120 KiB, as those for a SEND_MANY.
const RUN_FRAMES_MAX: u32 = 1024;

/// Why a length field ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Below 24, or with the top bit set.
    Malformed {
        /// What the length field said.
        length: u32,
    },
    /// Above what was agreed.
    TooLarge {
        /// Payload bytes that were announced.
        payload_bytes: u32,
        /// Payload bytes that are allowed.
        payload_bytes_max: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { length } => write!(f, "a length field of {length:#x} cannot begin a frame"),
            Self::TooLarge { payload_bytes, payload_bytes_max } => {
                write!(f, "a payload of {payload_bytes} bytes is over the limit of {payload_bytes_max}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Looks at the front of `buffer`: a run of whole frames stamped with `source`, or how much is missing.
///
/// # Errors
/// A length field that can never become a frame, or one above `payload_bytes_max`. The connection has
/// lost its framing then and must end; whole frames in front of it have been returned by earlier calls.
pub fn next_run(buffer: &mut [u8], source: Id, payload_bytes_max: u32) -> Result<Next<'_>, FrameError> {
    let Some(first) = frame_bytes(buffer) else {
        return Ok(Next::Incomplete { wanted: HEADER_BYTES });
    };
    check_length(first, payload_bytes_max)?;
    if buffer.len() < first {
        return Ok(Next::Incomplete { wanted: first });
    }
    let stamp = source.bits().to_be_bytes();
    buffer[20..28].copy_from_slice(&stamp);
    let mut run_bytes = first;
    let mut frames = 1;
    let mut longest = first;
    if joins_runs(buffer) {
        let mut key = [0; 10];
        key[..2].copy_from_slice(&buffer[4..6]);
        key[2..].copy_from_slice(&buffer[12..20]);
        let is_unlimited = planted::has(Bug::OversizeInRun);
        let frame_bytes_max = if is_unlimited { usize::MAX } else { HEADER_BYTES + payload_bytes_max as usize };
        let to_one = Header::read(buffer).destination.kind() == IdKind::Client;
        let run_bytes_max = if to_one { usize::MAX } else { RUN_TO_MANY_BYTES_MAX };
        while frames < RUN_FRAMES_MAX
            && run_bytes < run_bytes_max
            && let Some(header) = buffer[run_bytes..].first_chunk_mut::<HEADER_BYTES>()
        {
            let bytes = frame_bytes(header).unwrap_or(0);
            let same = header[4..6] == key[..2] && (header[12..20] == key[2..] || planted::has(Bug::WrongRecipient));
            if !same || !(HEADER_BYTES..=frame_bytes_max).contains(&bytes) || buffer.len() - run_bytes < bytes {
                break;
            }
            buffer[run_bytes + 20..run_bytes + 28].copy_from_slice(&stamp);
            run_bytes += bytes;
            frames += 1;
            longest = longest.max(bytes);
        }
    }
    let payload_bytes_max = (longest - HEADER_BYTES) as u32;
    Ok(Next::Run(Run { bytes: &mut buffer[..run_bytes], frames, payload_bytes_max }))
}

/// Bytes of the frame at the front of `buffer`, its length field included; `None` below four bytes.
fn frame_bytes(buffer: &[u8]) -> Option<usize> {
    buffer.first_chunk::<LENGTH_BYTES>().map(|length| LENGTH_BYTES + u32::from_be_bytes(*length) as usize)
}

fn check_length(frame_bytes: usize, payload_bytes_max: u32) -> Result<(), FrameError> {
    let length = (frame_bytes - LENGTH_BYTES) as u32;
    if length < LENGTH_MIN || length >> 31 != 0 {
        return Err(FrameError::Malformed { length });
    }
    let payload_bytes = length - LENGTH_MIN;
    if payload_bytes > payload_bytes_max {
        return Err(FrameError::TooLarge { payload_bytes, payload_bytes_max });
    }
    Ok(())
}

/// Frames that need an answer each, or that the relay handles itself, stand alone.
fn joins_runs(frame: &[u8]) -> bool {
    let header = Header::read(frame);
    is_routed(header.type_number, header.destination) && !header.flags.has(Flags::RECEIPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Type;

    const ME: Id = Id::client(9, 9);

    fn frame(to: Id, correlation: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Header::new(Type::Send).to(to).correlating(correlation).write_frame(&mut out, |o| o.extend_from_slice(payload));
        out
    }

    /// Feeds `stream` in pieces that end at each of `cuts` and returns (correlation, source, payload) of each frame.
    fn decode(stream: &[u8], cuts: &[usize]) -> Vec<(u32, Id, Vec<u8>)> {
        let mut seen = Vec::new();
        let mut held = Vec::new();
        let mut fed = 0;
        for &cut in cuts.iter().chain([&stream.len()]) {
            held.extend_from_slice(&stream[fed..cut]);
            fed = cut;
            let mut taken = 0;
            loop {
                let have = held.len() - taken;
                match next_run(&mut held[taken..], ME, 1000).expect("a good stream") {
                    Next::Incomplete { wanted } => {
                        assert!(wanted > have, "nothing is wanted that is there already");
                        break;
                    }
                    Next::Run(run) => {
                        let mut count = 0;
                        for frame in Frames::new(run.bytes) {
                            let header = Header::read(frame);
                            seen.push((header.correlation, header.source, frame[HEADER_BYTES..].to_vec()));
                            count += 1;
                        }
                        assert_eq!(count, run.frames);
                        taken += run.bytes.len();
                    }
                }
            }
            held.drain(..taken);
        }
        assert!(held.is_empty());
        seen
    }

    fn stream() -> Vec<u8> {
        let mut stream = Vec::new();
        for (correlation, index) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
            stream.extend(frame(Id::client(index, 1), correlation, &vec![correlation as u8; correlation as usize * 3]));
        }
        stream
    }

    #[test]
    fn frames_are_the_same_wherever_the_stream_is_cut() {
        let stream = stream();
        let whole = decode(&stream, &[]);
        assert_eq!(whole.len(), 4);
        assert!(whole.iter().all(|(c, source, payload)| *source == ME && payload.len() == *c as usize * 3));
        for first in 0..=stream.len() {
            assert_eq!(decode(&stream, &[first]), whole, "cut at {first}");
            for second in (first..=stream.len()).step_by(7) {
                assert_eq!(decode(&stream, &[first, second]), whole, "cut at {first} and {second}");
            }
        }
        let every_byte: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(decode(&stream, &every_byte), whole);
    }

    #[test]
    fn only_neighbours_for_the_same_destination_make_a_run() {
        let mut stream = stream();
        let Ok(Next::Run(run)) = next_run(&mut stream, ME, 1000) else { panic!() };
        assert_eq!((run.frames, run.payload_bytes_max, run.header().correlation), (2, 6, 1));

        let mut receipts = Vec::new();
        for _ in 0..2 {
            Header::new(Type::Send).to(ME).flagged(Flags::RECEIPT).write_frame(&mut receipts, |_| {});
        }
        let Ok(Next::Run(run)) = next_run(&mut receipts, ME, 1000) else { panic!() };
        assert_eq!(run.frames, 1);

        let mut pings = Vec::new();
        for _ in 0..2 {
            Header::new(Type::Ping).write_frame(&mut pings, |_| {});
        }
        let Ok(Next::Run(run)) = next_run(&mut pings, ME, 1000) else { panic!() };
        assert_eq!(run.frames, 1);
    }

    #[test]
    fn a_run_has_no_more_frames_than_can_be_answered() {
        let mut stream = frame(Id::client(1, 1), 1, b"").repeat(RUN_FRAMES_MAX as usize + 1);
        let Ok(Next::Run(run)) = next_run(&mut stream, ME, 1000) else { panic!() };
        let taken = run.bytes.len();
        assert_eq!((run.frames, taken), (RUN_FRAMES_MAX, HEADER_BYTES * RUN_FRAMES_MAX as usize));
        let Ok(Next::Run(run)) = next_run(&mut stream[taken..], ME, 1000) else { panic!() };
        assert_eq!(run.frames, 1);
    }

    #[test]
    fn a_frame_that_is_not_whole_is_left_untouched() {
        let mut stream = frame(Id::ALL, 1, b"abc");
        stream.extend_from_slice(&frame(Id::ALL, 2, b"def")[..30]);
        let before = stream[31..].to_vec();
        let Ok(Next::Run(run)) = next_run(&mut stream, ME, 1000) else { panic!() };
        assert_eq!(run.frames, 1);
        assert_eq!(&stream[31..], before);
        assert!(matches!(next_run(&mut stream[31..], ME, 1000), Ok(Next::Incomplete { wanted: 31 })));
    }

    #[test]
    fn a_limit_is_checked_before_anything_is_waited_for() {
        let mut four = [0, 0, 0, 24 + 101];
        assert_eq!(
            next_run(&mut four, ME, 100).err(),
            Some(FrameError::TooLarge { payload_bytes: 101, payload_bytes_max: 100 })
        );
        assert!(matches!(next_run(&mut four, ME, 101), Ok(Next::Incomplete { wanted: 129 })));
        for length in [0, 23, 1 << 31, u32::MAX] {
            let mut four = length.to_be_bytes();
            assert_eq!(next_run(&mut four, ME, u32::MAX / 4).err(), Some(FrameError::Malformed { length }));
        }
    }

    #[test]
    fn a_bad_length_behind_good_frames_fails_only_when_its_turn_comes() {
        let mut stream = frame(Id::ALL, 1, b"abc");
        stream.extend(frame(Id::ALL, 2, &[0; 200]));
        let Ok(Next::Run(run)) = next_run(&mut stream, ME, 100) else { panic!() };
        assert_eq!(run.frames, 1);
        assert!(next_run(&mut stream[31..], ME, 100).is_err());
    }

    #[test]
    fn a_run_for_many_is_short_however_much_has_come() {
        let mut stream = frame(Id::ALL, 1, &[0; 972]).repeat(40);
        let Ok(Next::Run(run)) = next_run(&mut stream, ME, 1000) else { panic!() };
        assert_eq!(run.frames, 17, "the frame that reaches the limit is the last");
    }

    #[test]
    fn garbage_never_panics_and_never_gets_past_its_limit() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            if random.bool() && bytes.len() > 4 {
                bytes[..3].fill(0);
            }
            let length = bytes.len();
            match next_run(&mut bytes, ME, 64) {
                Ok(Next::Run(run)) => assert!(run.bytes.len() <= length && run.payload_bytes_max <= 64),
                Ok(Next::Incomplete { wanted }) => assert!(wanted > length && wanted <= HEADER_BYTES + 64),
                Err(_) => {}
            }
        }
    }
}
