//! What the load generator's frames carry: enough to know at the other end whose they are, which one, when
//! they should have been sent, and whether every byte arrived.
//!
//! | offset | | |
//! | --- | --- | --- |
//! | 0 | u32 | flow |
//! | 4 | u32 | number within the flow, from 0, wrapping |
//! | 8 | u64 | nanoseconds on the load generator's clock |
//! | 16 | | a pattern that is the same in all frames |
//! | 1024, 2048, … | u64 | what stands at the end, so that a piece of another frame is noticed |
//! | size − 8 | u64 | flow and number again, the time laid over them, in payloads of 32 bytes and more |

/// The stamp at the front: the smallest payload.
pub(super) const STAMP_BYTES: usize = 16;
/// From this size on a payload ends with its stamp, folded.
const TAIL_FROM_BYTES: usize = 32;
const TAIL_BYTES: usize = 8;
/// A payload is made of blocks of this size. The first, the last and one between them are compared whole, another one
/// in each frame, so that comparing does not cost more than reading; and of all the mark at the front.
const BLOCK_BYTES: usize = 1024;

/// What stands at the front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which flow the frame belongs to.
    pub(super) flow: u32,
    /// Which frame of the flow it is.
    pub(super) number: u32,
    /// When it should have been sent, in nanoseconds on the load generator's clock.
    pub(super) time_ns: u64,
}

/// Payloads of one size.
#[derive(Debug)]
pub(super) struct Payloads {
    /// The pattern, as it stands in every payload between stamp and tail.
    pattern: Vec<u8>,
    /// The payload that was written last.
    payload: Vec<u8>,
}

impl Payloads {
    /// Payloads of `size` bytes, at least [`STAMP_BYTES`].
    #[must_use]
    pub(super) fn new(size: usize) -> Self {
        // A fixed seed: no two neighbouring windows are alike, and every run has the same bytes.
        let mut random = fastrand::Rng::with_seed(0x5357_4244);
        let mut pattern = vec![0; size.max(STAMP_BYTES)];
        random.fill(&mut pattern);
        Self { payload: pattern.clone(), pattern }
    }

    /// The payload with this stamp.
    pub(super) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let size = self.payload.len();
        self.payload[..4].copy_from_slice(&stamp.flow.to_be_bytes());
        self.payload[4..8].copy_from_slice(&stamp.number.to_be_bytes());
        self.payload[8..16].copy_from_slice(&stamp.time_ns.to_be_bytes());
        if size >= TAIL_FROM_BYTES {
            let mark = tail(stamp).to_be_bytes();
            for at in marks(size - TAIL_BYTES) {
                self.payload[at..at + TAIL_BYTES].copy_from_slice(&mark);
            }
            self.payload[size - TAIL_BYTES..].copy_from_slice(&mark);
        }
        &self.payload
    }

    /// Reads a payload that has arrived; `None` if it is not as it was sent.
    #[must_use]
    pub(super) fn read(&self, payload: &[u8]) -> Option<Stamp> {
        let size = self.pattern.len();
        let (stamp, _) = payload.split_first_chunk::<STAMP_BYTES>().filter(|_| payload.len() == size)?;
        let word = |at: usize| u32::from_be_bytes([stamp[at], stamp[at + 1], stamp[at + 2], stamp[at + 3]]);
        let stamp = Stamp { flow: word(0), number: word(4), time_ns: (u64::from(word(8)) << 32) | u64::from(word(12)) };
        let mut end = size;
        if size >= TAIL_FROM_BYTES {
            end -= TAIL_BYTES;
            let mark = tail(stamp).to_be_bytes();
            if payload[end..] != mark || marks(end).any(|at| payload[at..at + TAIL_BYTES] != mark) {
                return None;
            }
        }
        let blocks = end.div_ceil(BLOCK_BYTES);
        let intact = [0, blocks - 1, stamp.number as usize % blocks].into_iter().all(|number| {
            let (from, to) = block(number, end);
            payload[from..to] == self.pattern[from..to]
        });
        intact.then_some(stamp)
    }
}

/// Where the marks stand in a payload whose tail begins at `end`.
fn marks(end: usize) -> impl Iterator<Item = usize> {
    (BLOCK_BYTES..end.saturating_sub(TAIL_BYTES - 1)).step_by(BLOCK_BYTES)
}

/// The bytes of the pattern in a block.
fn block(number: usize, end: usize) -> (usize, usize) {
    let start = number * BLOCK_BYTES;
    let from = match number {
        0 => STAMP_BYTES,
        _ if start + TAIL_BYTES <= end => start + TAIL_BYTES,
        _ => start,
    };
    (from, end.min(start + BLOCK_BYTES))
}

fn tail(stamp: Stamp) -> u64 {
    ((u64::from(stamp.flow) << 32) | u64::from(stamp.number)) ^ stamp.time_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { flow: 7, number: 0xFFFF_FFFE, time_ns: 0x0102_0304_0506_0708 };

    #[test]
    fn a_payload_of_any_size_is_read_as_it_was_written() {
        for size in (16..5000).chain([65_536, 16 << 20]) {
            let mut payloads = Payloads::new(size);
            let payload = payloads.stamped(STAMP).to_vec();
            assert_eq!((payload.len(), payloads.read(&payload)), (size, Some(STAMP)));
        }
    }

    #[test]
    fn a_byte_that_changed_or_is_missing_is_noticed() {
        let mut payloads = Payloads::new(128);
        let payload = payloads.stamped(STAMP).to_vec();
        for at in 0..128 {
            let mut bent = payload.clone();
            bent[at] ^= 1;
            assert_eq!(payloads.read(&bent), None, "byte {at}");
        }
        assert_eq!(payloads.read(&payload[..127]), None);
        assert_eq!(payloads.read(&[]), None);
    }

    #[test]
    fn a_piece_of_another_frame_in_the_midst_of_a_long_payload_is_noticed() {
        let mut payloads = Payloads::new(65_536);
        let other = payloads.stamped(Stamp { number: 8, ..STAMP }).to_vec();
        let payload = payloads.stamped(Stamp { number: 9, ..STAMP }).to_vec();
        for from in (4096..61_440).step_by(1000) {
            let mut mixed = payload.clone();
            mixed[from..from + 2048].copy_from_slice(&other[from..from + 2048]);
            assert_eq!(payloads.read(&mixed), None, "from {from}");
        }
    }

    #[test]
    fn every_byte_of_a_long_payload_is_compared_within_a_few_frames() {
        let mut payloads = Payloads::new(20_000);
        for at in STAMP_BYTES..20_000 {
            let noticed = (0..20).any(|number| {
                let mut payload = payloads.stamped(Stamp { number, ..STAMP }).to_vec();
                payload[at] ^= 0x80;
                payloads.read(&payload).is_none()
            });
            assert!(noticed, "byte {at}");
        }
    }
}
