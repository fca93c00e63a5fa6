//! The decoder: any bytes, cut anywhere, give the frames that the specification says, with nothing changed but
//! their source.

use switchboard::wire::{
    Flags, FrameError, Frames, HEADER_BYTES, Header, Id, IdKind, LENGTH_BYTES, LENGTH_MIN, Next, Type, dump, is_routed,
    next_run,
};

use crate::dice::Dice;

/// What a connection's limit on payloads can be, and what it never is.
const LIMITS: [u32; 8] = [4_096, 0, 1, 100, 65_536, 16 << 20, u32::MAX - 24, u32::MAX];
/// Longer streams show nothing new: a run ends after 1,024 frames or, for many, after 16 KiB.
const STREAM_BYTES_MAX: usize = 48 * 1024;
/// The most frames in one run, and the length after which one for many ends, as the decoder's comments say.
const RUN_FRAMES_MAX: u32 = 1024;
const RUN_TO_MANY_BYTES_MAX: usize = 16 * 1024;
const SOURCE: Id = Id::client(0xabc, 0xdef);

/// How a stream ends, when all of it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// So many bytes of the frame that was begun are there, and so many are wanted.
    Incomplete { have: usize, wanted: usize },
    /// It is no stream of frames any more.
    Error(FrameError),
}

pub(crate) fn run(input: &[u8]) {
    let mut dice = Dice::given(input);
    let limit = LIMITS[dice.usize(..LIMITS.len())];
    let pieces = dice.u8(..);
    let is_raw = dice.bool();
    let stream = if is_raw { dice.bytes(STREAM_BYTES_MAX) } else { compose(&mut dice, limit) };
    let (frames, end) = by_the_book(&stream, limit);
    let whole = std::iter::repeat(stream.len());
    assert_eq!(decode(&stream, limit, whole), (frames.clone(), end.clone()), "whole");
    // Sizes of pieces that begin small and differ from input to input.
    let mut sizes = Dice::seeded(pieces.into());
    let most = 1 << sizes.usize(0..=14);
    let sizes = std::iter::repeat_with(|| sizes.usize(1..=most));
    assert_eq!(decode(&stream, limit, sizes), (frames, end), "in pieces of up to {most} bytes");
    show(&stream);
}

/// A stream of frames whose headers often agree, which bytes that are thrown together never do.
fn compose(dice: &mut Dice, limit: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut last = Vec::new();
    while !dice.is_empty() && stream.len() < STREAM_BYTES_MAX {
        match dice.u8(..8) {
            0 => {
                let count = dice.usize(1..20);
                stream.extend(dice.bytes(count));
            }
            1 => {
                let count = if dice.u8(..4) == 0 { dice.usize(..1_100) } else { dice.usize(..8) };
                let count = count.min(STREAM_BYTES_MAX / last.len().max(1));
                stream.extend(last.repeat(count));
            }
            2 => {
                let length = dice.u32(..);
                stream.extend(length.to_be_bytes());
            }
            _ => {
                let types = [Type::Send, Type::Ack, Type::Ping, Type::Pong, Type::SendMany, Type::Hello, Type::Chunk];
                let type_number = dice.choice(types).map_or_else(|| dice.u8(..), Type::number);
                let flags = [Flags::NONE, Flags::NO_ECHO, Flags::RECEIPT];
                let to = [Id::client(1, 1), Id::client(2, 1), Id::room(1, 1), Id::ALL, Id::RELAY, Id::MANY];
                let header = Header {
                    type_number,
                    flags: dice.choice(flags).unwrap_or(Flags::NONE),
                    kind: u16::from(dice.u8(..)),
                    correlation: stream.len() as u32,
                    destination: dice.choice(to).unwrap_or(Id::RELAY),
                    source: Id::from_bits(u64::MAX),
                };
                // Often as long as may be, and a little longer.
                let limit = (limit as usize).min(5_000);
                let payload_bytes = match dice.u8(..16) {
                    0 => dice.usize(..5_000),
                    1 => limit + dice.usize(..2),
                    _ => dice.usize(..40),
                };
                last = header.bytes(payload_bytes).to_vec();
                last.resize(last.len() + payload_bytes, payload_bytes as u8);
                stream.extend_from_slice(&last);
            }
        }
    }
    stream
}

/// The frames of a stream as the specification has them, with their source filled in, and how it ends.
fn by_the_book(stream: &[u8], limit: u32) -> (Vec<Vec<u8>>, End) {
    let mut frames = Vec::new();
    let mut at = 0;
    loop {
        let have = stream.len() - at;
        if have < LENGTH_BYTES {
            return (frames, End::Incomplete { have, wanted: HEADER_BYTES });
        }
        let length = u32::from_be_bytes([stream[at], stream[at + 1], stream[at + 2], stream[at + 3]]);
        if !(LENGTH_MIN..0x8000_0000).contains(&length) {
            return (frames, End::Error(FrameError::Malformed { length }));
        }
        let payload_bytes = length - LENGTH_MIN;
        if payload_bytes > limit {
            return (frames, End::Error(FrameError::TooLarge { payload_bytes, payload_bytes_max: limit }));
        }
        let bytes = LENGTH_BYTES + length as usize;
        if have < bytes {
            return (frames, End::Incomplete { have, wanted: bytes });
        }
        let mut frame = stream[at..at + bytes].to_vec();
        frame[20..28].copy_from_slice(&SOURCE.bits().to_be_bytes());
        frames.push(frame);
        at += bytes;
    }
}

/// Feeds a stream in pieces of the sizes given, and compares each run with what the decoder promises of it.
fn decode(stream: &[u8], limit: u32, mut sizes: impl Iterator<Item = usize>) -> (Vec<Vec<u8>>, End) {
    let mut held = stream.to_vec();
    let (mut frames, mut fed, mut taken) = (Vec::new(), 0, 0);
    let end = loop {
        let have = fed - taken;
        match next_run(&mut held[taken..fed], SOURCE, limit) {
            Err(error) => break End::Error(error),
            Ok(Next::Incomplete { wanted }) => {
                assert!(wanted > have, "nothing is wanted that is there already");
                if fed == stream.len() {
                    break End::Incomplete { have, wanted };
                }
                fed = (fed + sizes.next().expect("as many as are wanted")).min(stream.len());
            }
            Ok(Next::Run(run)) => {
                let singles: Vec<&[u8]> = Frames::new(run.bytes).collect();
                let bytes = singles.iter().map(|frame| frame.len()).sum::<usize>();
                assert_eq!(bytes, run.bytes.len(), "a run is whole frames");
                assert_eq!(singles.len(), run.frames as usize, "as many as it says");
                let longest = singles.iter().map(|frame| frame.len() - HEADER_BYTES).max();
                assert_eq!(longest, Some(run.payload_bytes_max as usize), "the longest is as long as it says");
                assert_eq!(run.payload(), &singles[0][HEADER_BYTES..]);
                check_run(run.header(), &singles, &stream[taken + bytes..fed], limit);
                frames.extend(singles.into_iter().map(<[u8]>::to_vec));
                taken += bytes;
            }
        }
    };
    assert!(held[..taken] == frames.concat(), "frames stay where they are");
    assert!(held[taken..] == stream[taken..], "what is no frame is left as it was");
    (frames, end)
}

/// What may be handled as one, and that what may be is.
fn check_run(first: Header, frames: &[&[u8]], behind: &[u8], limit: u32) {
    let joins = |header: Header| is_routed(header.type_number, header.destination) && header.flags.0 & 1 == 0;
    let same = |header: Header| {
        (header.type_number, header.flags, header.destination) == (first.type_number, first.flags, first.destination)
    };
    assert!(frames.iter().all(|frame| same(Header::read(frame))));
    assert!(frames.len() == 1 || joins(first), "what needs an answer stands alone");
    assert!(frames.len() <= RUN_FRAMES_MAX as usize);
    let is_for_one = first.destination.kind() == IdKind::Client;
    let but_last: usize = frames[..frames.len() - 1].iter().map(|frame| frame.len()).sum();
    assert!(is_for_one || but_last < RUN_TO_MANY_BYTES_MAX, "others are heard soon");
    let run_bytes = but_last + frames[frames.len() - 1].len();
    let is_full = frames.len() == RUN_FRAMES_MAX as usize || !is_for_one && run_bytes >= RUN_TO_MANY_BYTES_MAX;
    let fits = first_header(behind, limit).is_some_and(same);
    assert!(is_full || !joins(first) || !fits, "one more would have fit");
}

/// The header of the first frame, if it is whole.
fn first_header(bytes: &[u8], limit: u32) -> Option<Header> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<LENGTH_BYTES>()?);
    let is_whole = (LENGTH_MIN..0x8000_0000).contains(&length)
        && length - LENGTH_MIN <= limit
        && bytes.len() >= LENGTH_BYTES + length as usize;
    is_whole.then(|| Header::read(bytes))
}

/// Whatever bytes are dumped, they are one line that steers no terminal.
fn show(stream: &[u8]) {
    for shown in [stream].into_iter().chain(Frames::new(stream).take(50)) {
        let line = dump(shown).to_string();
        assert!(!line.chars().any(super::steers_a_terminal), "{line:?}");
    }
}
