//! Choices out of bytes: of a seed, so that a test is the same every time, or of an input that somebody else has
//! thought out, so that a fuzzer can steer what a test does by changing a byte.

use std::ops::{Bound, RangeBounds};

/// Where choices come from. Each takes one byte, or as many as its range needs.
#[derive(Debug)]
pub(crate) enum Dice {
    Seeded(fastrand::Rng),
    /// The bytes, and how many of them are used up. When all are, every choice is the first of its range.
    Given(Vec<u8>, usize),
}

#[allow(dead_code, reason = "each test has its own use for them")]
impl Dice {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn given(bytes: &[u8]) -> Self {
        Self::Given(bytes.to_vec(), 0)
    }

    /// Nothing is left to choose from.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Given(bytes, used) if *used >= bytes.len())
    }

    fn byte(&mut self) -> u8 {
        match self {
            Self::Seeded(random) => random.u8(..),
            Self::Given(bytes, used) => {
                let byte = bytes.get(*used).copied().unwrap_or(0);
                *used += 1;
                byte
            }
        }
    }

    /// The next bytes as they are; fewer at the end.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        match self {
            Self::Seeded(random) => (0..count).map(|_| random.u8(..)).collect(),
            Self::Given(bytes, used) => {
                let rest = bytes.get(*used..).unwrap_or_default();
                let taken = rest[..count.min(rest.len())].to_vec();
                *used += taken.len();
                taken
            }
        }
    }

    pub(crate) fn u64(&mut self, range: impl RangeBounds<u64>) -> u64 {
        let least = match range.start_bound() {
            Bound::Included(least) => *least,
            Bound::Excluded(below) => below + 1,
            Bound::Unbounded => 0,
        };
        let most = match range.end_bound() {
            Bound::Included(most) => *most,
            Bound::Excluded(above) => above - 1,
            Bound::Unbounded => u64::MAX,
        };
        assert!(least <= most, "there is nothing to choose from");
        let span = most - least;
        let mut number = 0;
        let mut left = span;
        while left > 0 {
            number = number << 8 | u64::from(self.byte());
            left >>= 8;
        }
        least + span.checked_add(1).map_or(number, |count| number % count)
    }

    pub(crate) fn u8(&mut self, range: impl RangeBounds<u8>) -> u8 {
        let bound = |bound: Bound<&u8>| bound.map(|number| u64::from(*number));
        let end = bound(range.end_bound());
        let end = if end == Bound::Unbounded { Bound::Included(u64::from(u8::MAX)) } else { end };
        self.u64((bound(range.start_bound()), end)) as u8
    }

    pub(crate) fn usize(&mut self, range: impl RangeBounds<usize>) -> usize {
        let bound = |bound: Bound<&usize>| bound.map(|number| *number as u64);
        self.u64((bound(range.start_bound()), bound(range.end_bound()))) as usize
    }

    pub(crate) fn u32(&mut self, range: impl RangeBounds<u32>) -> u32 {
        let bound = |bound: Bound<&u32>| bound.map(|number| u64::from(*number));
        let end = bound(range.end_bound());
        let end = if end == Bound::Unbounded { Bound::Included(u64::from(u32::MAX)) } else { end };
        self.u64((bound(range.start_bound()), end)) as u32
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// One of them, if there are any.
    pub(crate) fn choice<T>(&mut self, among: impl IntoIterator<Item = T>) -> Option<T> {
        let mut among: Vec<T> = among.into_iter().collect();
        let place = (!among.is_empty()).then(|| self.usize(..among.len()))?;
        Some(among.swap_remove(place))
    }
}
