//! When to look at which connection again: a hashed timing wheel.
//!
//! Inserting is O(1), and a deadline that moves away costs nothing: a connection is looked at when its
//! earliest known deadline comes, and if that has moved, it is put in again. So a frame that resets an
//! idle timer touches no timer. Entries are not removed before their slot comes; the connection knows which
//! of them counts, and the others are dropped then.

use std::time::Duration;

use super::ConnId;
use crate::time::{Tick, Time};

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
        Self { slots: vec![Vec::new(); SLOTS as usize], occupied: [0; SLOTS as usize / 64], done: Tick::at(Time::ZERO) }
    }

    /// The slot of a tick that is not over.
    pub(super) const fn slot(tick: Tick) -> u32 {
        tick.number() % SLOTS
    }

    /// Has `id` come up at `tick`, or at the next tick if that is over.
    pub(super) fn insert(&mut self, tick: Tick, id: ConnId) {
        let slot = Self::slot(tick.max(self.done.after(1)));
        self.slots[slot as usize].push(id);
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Moves what lies in the slots up to `now` into `due`, that of later rounds included, each with its slot.
    pub(super) fn advance(&mut self, now: Tick, due: &mut impl Extend<(u32, ConnId)>) {
        let steps = now.number().saturating_sub(self.done.number()).min(SLOTS);
        for step in 1..=steps {
            let slot = (now.number() - steps + step) % SLOTS;
            let bit = 1 << (slot % 64);
            let word = &mut self.occupied[slot as usize / 64];
            if *word & bit != 0 {
                *word &= !bit;
                // Its memory goes with it: a storm would else leave every slot at its largest.
                due.extend(std::mem::take(&mut self.slots[slot as usize]).into_iter().map(|id| (slot, id)));
            }
        }
        self.done = self.done.max(now);
    }

    /// Entries in all slots, those that no longer count included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// How long until the next slot with anything in it.
    pub(super) fn wait(&self, now: Time) -> Option<Duration> {
        let start = self.done.after(1).number();
        let words = self.occupied.len() as u32;
        for step in 0..=words {
            let slot = (start + step * 64) % SLOTS;
            let (word, shift) = if step == 0 { (slot / 64, slot % 64) } else { ((start / 64 + step) % words, 0) };
            let bits = self.occupied[word as usize] >> shift << shift;
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros();
                let ahead = (found + SLOTS - start % SLOTS) % SLOTS;
                return Some(self.done.after(1 + ahead).time().since(now));
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

    fn tick(number: u32) -> Tick {
        Tick::at(Time::ZERO).after(number)
    }

    #[test]
    fn everything_comes_up_at_its_tick_and_not_before() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut wheel = Wheel::new();
            let base = random.u32(0..5000);
            wheel.advance(tick(base), &mut Vec::new());
            let at = base + 1 + random.u32(0..SLOTS);
            wheel.insert(tick(at), id(1));
            let wait = wheel.wait(tick(base).time()).expect("something is there");
            assert_eq!(tick(base).time() + wait, tick(at).time());
            let mut due = Vec::new();
            wheel.advance(tick(at - 1), &mut due);
            assert!(due.is_empty(), "base {base}, tick {at}");
            wheel.advance(tick(at), &mut due);
            assert_eq!(due, [(at % SLOTS, id(1))]);
            assert_eq!(wheel.wait(tick(at).time()), None);
        }
    }

    #[test]
    fn what_is_overdue_comes_up_at_the_next_tick() {
        let mut wheel = Wheel::new();
        wheel.advance(tick(100), &mut Vec::new());
        wheel.insert(tick(5), id(1));
        let mut due = Vec::new();
        wheel.advance(tick(101), &mut due);
        assert_eq!(due, [(101, id(1))]);
    }

    #[test]
    fn a_long_sleep_empties_every_slot_once() {
        let mut wheel = Wheel::new();
        for number in 1..=SLOTS {
            wheel.insert(tick(number), id(number as usize));
        }
        let mut due = Vec::new();
        wheel.advance(tick(1_000_000), &mut due);
        assert_eq!(due.len(), SLOTS as usize);
    }
}
