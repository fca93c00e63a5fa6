//! Received bytes to whole frames: a buffer that grows only as bytes arrive, and never past one frame's limit.
//!
//! ```text
//!  0        start        end          bytes.len()
//!  | taken  | unread     | free       |
//! ```
//!
//! What it does not do: it reads from no socket and does not know what a frame means.

use bytes::Bytes;

use crate::wire::{FrameError, HEADER_BYTES, Header, Id, LENGTH_BYTES, Next, next_run};

/// What one read asks for at least: a default frame's worth, so that a busy stream costs few calls.
const READ_BYTES: usize = 64 * 1024;
/// A buffer that grew over this for one large frame is given back when it is empty.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Received bytes that have not been taken as frames yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// `start <= end <= bytes.len()`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Whether bytes of a frame are there that has not been taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes that are there and have not been taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Where the next bytes go; say with [`Inbox::filled`] how many came.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT_BYTES_MAX {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            // What has arrived bounds what is allocated, whatever a length field announces; doubling keeps
            // the copying linear.
            let room = self.end.max(READ_BYTES);
            if self.bytes.len() - self.end < READ_BYTES {
                self.bytes.resize(self.end + room, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes have been put where [`Inbox::space`] pointed.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Takes the next frame, if it is whole.
    ///
    /// # Errors
    /// Its length is over `payload_bytes_max`, or none at all; known as soon as its four bytes are there.
    pub(super) fn frame(&mut self, payload_bytes_max: u32) -> Result<Option<(Header, Bytes)>, FrameError> {
        let unread = self.unread();
        let Some(mut length) = unread.first_chunk::<LENGTH_BYTES>().copied() else {
            return Ok(None);
        };
        // The decoder stamps a source into the frames that it finds, which only the relay may do; given the
        // length alone it finds no frame and says where this one ends, or that it can never be one.
        let Next::Incomplete { wanted } = next_run(&mut length, Id::RELAY, payload_bytes_max)? else {
            return Ok(None);
        };
        let Some(frame) = unread.get(..wanted).filter(|frame| frame.len() >= HEADER_BYTES) else {
            return Ok(None);
        };
        let taken = (Header::read(frame), Bytes::copy_from_slice(&frame[HEADER_BYTES..]));
        self.start += wanted;
        Ok(Some(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Type;

    fn stream() -> Vec<u8> {
        let mut stream = Vec::new();
        for n in 0..6u32 {
            let header = Header { source: Id::client(n as usize, 1), ..Header::new(Type::Send).correlating(n) };
            header.write_frame(&mut stream, |out| out.extend(vec![n as u8; n as usize * 5]));
        }
        stream
    }

    fn feed(inbox: &mut Inbox, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = inbox.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            inbox.filled(count);
            bytes = &bytes[count..];
        }
    }

    fn take_all(inbox: &mut Inbox) -> Vec<(Header, Bytes)> {
        std::iter::from_fn(|| inbox.frame(1000).expect("good")).collect()
    }

    #[test]
    fn frames_keep_their_sources_and_come_out_whole_wherever_the_stream_is_cut() {
        let stream = stream();
        for cut in 0..=stream.len() {
            let mut inbox = Inbox::default();
            feed(&mut inbox, &stream[..cut]);
            let mut seen = take_all(&mut inbox);
            feed(&mut inbox, &stream[cut..]);
            seen.extend(take_all(&mut inbox));
            assert!(inbox.is_empty() && seen.len() == 6);
            for (n, (header, payload)) in seen.iter().enumerate() {
                assert_eq!((header.correlation, header.source), (n as u32, Id::client(n, 1)));
                assert_eq!(payload, &vec![n as u8; n * 5]);
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_kept_for_it() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[0, 0xff, 0xff, 0xff]);
        assert!(matches!(inbox.frame(1000), Err(FrameError::TooLarge { .. })));
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[0, 0, 0, 1]);
        assert!(matches!(inbox.frame(1000), Err(FrameError::Malformed { length: 1 })));
    }

    #[test]
    fn an_announced_length_allocates_nothing_until_its_bytes_arrive() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &(12u32 << 20).to_be_bytes());
        assert!(matches!(inbox.frame(16 << 20), Ok(None)));
        let _ = inbox.space();
        assert!(inbox.bytes.len() <= 2 * READ_BYTES, "{}", inbox.bytes.len());
    }

    #[test]
    fn a_large_frame_passes_and_its_buffer_is_given_back() {
        let mut stream = Vec::new();
        Header::new(Type::Send).write_frame(&mut stream, |out| out.resize(out.len() + (3 << 20), 7));
        let mut inbox = Inbox::default();
        for piece in stream.chunks(10_000) {
            assert!(matches!(inbox.frame(16 << 20), Ok(None)));
            feed(&mut inbox, piece);
        }
        assert!(inbox.bytes.len() < 4 * stream.len());
        let (_, payload) = inbox.frame(16 << 20).expect("good").expect("whole");
        assert_eq!(payload.len(), 3 << 20);
        let _ = inbox.space();
        assert!(inbox.bytes.len() <= READ_BYTES);
    }

    #[test]
    fn garbage_never_panics() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            if bytes.len() > 4 {
                bytes[..3].fill(0);
            }
            let mut inbox = Inbox::default();
            feed(&mut inbox, &bytes);
            while let Ok(Some(_)) = inbox.frame(64) {}
        }
    }
}
