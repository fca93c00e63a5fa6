//! A set of numbers that mostly come in long stretches: frames that were refused, or did not come.

use std::collections::BTreeMap;

/// Numbers, as stretches: from where to where, the end left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// Whether the number is one of them.
    #[must_use]
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Adds the numbers from `start` up to `end`, none of which is one of them.
    pub(super) fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if let Some((before, _)) = self.0.range(..start).next_back().filter(|(_, its_end)| **its_end == start) {
            start = *before;
        }
        if let Some(its_end) = self.0.remove(&end) {
            end = its_end;
        }
        self.0.insert(start, end);
    }

    /// Takes a number out; says whether it was one of them.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some((start, end)) = self.0.range(..=number).next_back().map(|(start, end)| (*start, *end)) else {
            return false;
        };
        if number >= end {
            return false;
        }
        self.0.remove(&start);
        self.add(start, number);
        self.add(number + 1, end);
        true
    }

    /// Takes out all numbers below `bound`, stretch by stretch.
    pub(super) fn remove_below(&mut self, bound: u64, mut each: impl FnMut(u64, u64)) {
        while let Some((start, end)) = self.0.first_key_value().map(|(start, end)| (*start, *end))
            && start < bound
        {
            self.0.remove(&start);
            self.add(bound, end.max(bound));
            each(start, end.min(bound));
        }
    }

    #[cfg(test)]
    fn stretches(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|(start, end)| (*start, *end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_plain_set_holds_in_as_few_stretches_as_can_be() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut numbers, mut plain) = (Numbers::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let number = random.u64(..64);
            assert_eq!(numbers.contains(number), plain.contains(&number));
            match random.u32(..8) {
                0 => {
                    let (mut removed, bound) = (Vec::new(), random.u64(..16));
                    numbers.remove_below(bound, |start, end| removed.extend(start..end));
                    assert_eq!(removed, plain.range(..bound).copied().collect::<Vec<_>>());
                    plain.retain(|number| *number >= bound);
                }
                1..=3 => assert_eq!(numbers.remove(number), plain.remove(&number)),
                _ if plain.insert(number) => numbers.add(number, number + 1),
                _ => {}
            }
            let stretches = numbers.stretches();
            assert!(stretches.iter().flat_map(|(start, end)| *start..*end).eq(plain.iter().copied()));
            assert!(stretches.windows(2).all(|pair| pair[0].1 < pair[1].0), "{stretches:?}");
        }
    }
}
