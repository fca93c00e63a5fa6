//! When to look at which connection again: a hashed timing wheel.
//!
//! Inserting is O(1), and a deadline that moves away costs nothing: a connection is looked at when its
//! earliest known deadline comes, and if that has moved, it is put in again. So a frame that resets an
//! idle timer touches no timer. Entries are never removed; the connection knows which of them counts.

use std::time::Duration;

use super::ConnId;
use crate::time::Time;

/// A point in time in units of 2^16 microseconds, about 66 ms: the grain of every deadline. Four bytes
/// last for eight years of uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    pub(super) const NEVER: Self = Self(u32::MAX);
    const SHIFT: u32 = 16;

    /// The tick that `time` lies in.
    pub(crate) const fn at(time: Time) -> Self {
        Self((time.micros() >> Self::SHIFT) as u32)
    }

    /// The first tick that is not before `time`.
    pub(crate) const fn not_before(time: Time) -> Self {
        Self((time.micros().saturating_add((1 << Self::SHIFT) - 1) >> Self::SHIFT) as u32)
    }

    /// When the tick begins.
    pub(crate) const fn time(self) -> Time {
        Time::from_micros((self.0 as u64) << Self::SHIFT)
    }
}

/// Slots of one tick each: a round takes 67 seconds, longer than the usual deadlines.
const SLOTS: u32 = 1024;

#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<ConnId>>,
    /// A bit for each slot that is not empty.
    occupied: [u64; SLOTS as usize / 64],
    /// The last tick whose slot has been emptied.
    done: Tick,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { slots: vec![Vec::new(); SLOTS as usize], occupied: [0; SLOTS as usize / 64], done: Tick(0) }
    }

    /// Has `id` come up at `tick`, or at the next tick if that is over.
    pub(super) fn insert(&mut self, tick: Tick, id: ConnId) {
        let slot = tick.max(Tick(self.done.0 + 1)).0 % SLOTS;
        self.slots[slot as usize].push(id);
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Moves what lies in the slots up to `now` into `due`, that of later rounds included.
    pub(super) fn advance(&mut self, now: Tick, due: &mut Vec<ConnId>) {
        let steps = now.0.saturating_sub(self.done.0).min(SLOTS);
        for step in 1..=steps {
            let slot = (now.0 - steps + step) % SLOTS;
            let bit = 1 << (slot % 64);
            let word = &mut self.occupied[slot as usize / 64];
            if *word & bit != 0 {
                *word &= !bit;
                // Its memory goes with it: a storm would else leave every slot at its largest.
                due.append(&mut std::mem::take(&mut self.slots[slot as usize]));
            }
        }
        self.done = self.done.max(now);
    }

    /// How long until the next slot with anything in it.
    pub(super) fn wait(&self, now: Time) -> Option<Duration> {
        let start = self.done.0 + 1;
        let words = self.occupied.len() as u32;
        for step in 0..=words {
            let slot = (start + step * 64) % SLOTS;
            let (word, shift) = if step == 0 { (slot / 64, slot % 64) } else { ((start / 64 + step) % words, 0) };
            let bits = self.occupied[word as usize] >> shift << shift;
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros();
                let ahead = (found + SLOTS - start % SLOTS) % SLOTS;
                return Some(Tick(start + ahead).time().since(now));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> ConnId {
        ConnId::new(index, 1)
    }

    #[test]
    fn everything_comes_up_at_its_tick_and_not_before() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut wheel = Wheel::new();
            let base = random.u32(0..5000);
            wheel.advance(Tick(base), &mut Vec::new());
            let tick = base + 1 + random.u32(0..SLOTS);
            wheel.insert(Tick(tick), id(1));
            let wait = wheel.wait(Tick(base).time()).expect("something is there");
            assert_eq!(Tick(base).time() + wait, Tick(tick).time());
            let mut due = Vec::new();
            wheel.advance(Tick(tick - 1), &mut due);
            assert!(due.is_empty(), "base {base}, tick {tick}");
            wheel.advance(Tick(tick), &mut due);
            assert_eq!(due, [id(1)]);
            assert_eq!(wheel.wait(Tick(tick).time()), None);
        }
    }

    #[test]
    fn what_is_overdue_comes_up_at_the_next_tick() {
        let mut wheel = Wheel::new();
        wheel.advance(Tick(100), &mut Vec::new());
        wheel.insert(Tick(5), id(1));
        let mut due = Vec::new();
        wheel.advance(Tick(101), &mut due);
        assert_eq!(due, [id(1)]);
    }

    #[test]
    fn a_long_sleep_empties_every_slot_once() {
        let mut wheel = Wheel::new();
        for tick in 1..=SLOTS {
            wheel.insert(Tick(tick), id(tick as usize));
        }
        let mut due = Vec::new();
        wheel.advance(Tick(1_000_000), &mut due);
        assert_eq!(due.len(), SLOTS as usize);
    }
}
