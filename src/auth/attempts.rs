//! The brake on guessing: how many attempts of an address have failed, and of a user's name.
//!
//! An address that has failed too often is refused for a while. A name never is, for that would let anybody lock somebody
//! out: answers to it come later and later instead, up to a few seconds. From the second attempt on a right answer comes as
//! late as a wrong one, so that hanging up early tells nothing. Nor does a success change what those before it have done:
//! else whoever fails now and then would see when a user of that name comes, and that there is one.
//!
//! Strangers choose names and have many addresses, so both tables have a size that they never exceed. When one is full,
//! each newcomer takes the place of one that has been quiet: of the next eight in turn, the one that failed longest ago. A
//! name at which somebody keeps guessing so stays where it is, whatever else is thrown in.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use hashbrown::HashTable;

use super::settings::AuthSettings;
use crate::origin::Origin;
use crate::time::Time;

/// How many are looked at to find the one that is forgotten.
const LOOKED_AT: usize = 8;

/// Attempts that have failed, by address and by user's name.
#[derive(Debug)]
pub struct Attempts {
    settings: AuthSettings,
    origins: Recent,
    names: Recent,
    hasher: RandomState,
}

impl Attempts {
    /// None so far.
    #[must_use]
    pub fn new(settings: AuthSettings) -> Self {
        let most = settings.remembered_max.max(1);
        Self { settings, origins: Recent::new(most), names: Recent::new(most), hasher: RandomState::new() }
    }

    /// For how long nothing more is taken from an address, if that is so. To be asked before anything else, and again
    /// before a proof is looked at: else ten thousand exchanges that began together would all have a try. A Unix socket
    /// has no address, and is never refused.
    #[must_use]
    pub fn refusal(&self, origin: Option<Origin>, now: Time) -> Option<Duration> {
        let failures = self.origins.get(self.hasher.hash_one(origin?))?;
        let left = self.settings.failures_window.checked_sub(now.since(failures.first))?;
        (failures.count >= self.settings.failures_per_origin_max && !left.is_zero()).then_some(left)
    }

    /// Notes that an attempt has failed, and says how late that is to be told. `name` is what the client has called
    /// itself, whether there is such a user or not; a token has none.
    pub fn failed(&mut self, origin: Option<Origin>, name: Option<&str>, now: Time) -> Duration {
        let late = self.delay(name, now).max(self.settings.delay.min(self.settings.delay_max));
        if let Some(origin) = origin {
            let window = self.settings.failures_window;
            let is_over = |failures: &Failures| now.since(failures.first) >= window;
            self.origins.add(self.hasher.hash_one(origin), now, is_over);
        }
        if let Some(name) = name {
            let memory = self.settings.failures_memory;
            let is_over = |failures: &Failures| now.since(failures.last) >= memory;
            self.names.add(self.hasher.hash_one(name), now, is_over);
        }
        late
    }

    /// How late a right answer for this name is to be told: at once, unless the last attempts have failed.
    #[must_use]
    pub fn delay(&self, name: Option<&str>, now: Time) -> Duration {
        let Some(failures) = name.and_then(|name| self.names.get(self.hasher.hash_one(name))) else {
            return Duration::ZERO;
        };
        if now.since(failures.last) >= self.settings.failures_memory {
            return Duration::ZERO;
        }
        let doubled = 2u32.checked_pow(failures.count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.settings.delay.saturating_mul(doubled).min(self.settings.delay_max)
    }

    /// How many have been forgotten before their time because a table was full.
    #[cfg(test)]
    const fn forgotten(&self) -> u64 {
        self.origins.forgotten + self.names.forgotten
    }
}

/// The failures of one address or name.
#[derive(Clone, Copy, Debug)]
struct Failures {
    /// Whose they are: a hash under a key that nobody knows, for strangers choose names, and long ones.
    key: u64,
    count: u32,
    first: Time,
    last: Time,
}

/// Failures of as many as there is room for.
#[derive(Debug)]
struct Recent {
    slots: Vec<Failures>,
    /// Slots by key.
    places: HashTable<u32>,
    most: usize,
    /// Where it is looked next for one to forget.
    hand: usize,
    #[cfg(test)]
    forgotten: u64,
}

impl Recent {
    const fn new(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            places: HashTable::new(),
            most,
            hand: 0,
            #[cfg(test)]
            forgotten: 0,
        }
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.places.find(key, |slot| self.slots[*slot as usize].key == key).map(|slot| *slot as usize)
    }

    fn get(&self, key: u64) -> Option<&Failures> {
        self.slots.get(self.place(key)?)
    }

    /// Adds a failure; the ones before it do not count if they are over.
    fn add(&mut self, key: u64, now: Time, is_over: impl Fn(&Failures) -> bool) {
        let new = Failures { key, count: 1, first: now, last: now };
        if let Some(place) = self.place(key) {
            let old = &mut self.slots[place];
            *old = if is_over(old) { new } else { Failures { count: old.count.saturating_add(1), last: now, ..*old } };
            return;
        }
        let place = if self.slots.len() < self.most {
            self.slots.push(new);
            self.slots.len() - 1
        } else {
            let place = self.quietest();
            #[cfg(test)]
            {
                self.forgotten += u64::from(!is_over(&self.slots[place]));
            }
            self.take_place(self.slots[place].key);
            self.slots[place] = new;
            place
        };
        self.places.insert_unique(key, place as u32, |slot| self.slots[*slot as usize].key);
    }

    /// Of the next few in turn, the one whose last failure is longest ago.
    fn quietest(&mut self) -> usize {
        let count = self.slots.len();
        let next = (self.hand..self.hand + LOOKED_AT.min(count)).map(|at| at % count);
        self.hand = (self.hand + LOOKED_AT) % count;
        next.min_by_key(|at| self.slots[*at].last).unwrap_or(0)
    }

    fn take_place(&mut self, key: u64) -> Option<usize> {
        let entry = self.places.find_entry(key, |slot| self.slots[*slot as usize].key == key).ok()?;
        Some(entry.remove().0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<Origin> = Some(Origin::v4([192, 0, 2, 1]));
    const THERE: Option<Origin> = Some(Origin::v4([192, 0, 2, 2]));

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn attempts(remembered_max: usize) -> Attempts {
        Attempts::new(AuthSettings { remembered_max, ..AuthSettings::default() })
    }

    #[test]
    fn an_address_is_refused_after_ten_failures_until_its_minute_is_over() {
        let mut attempts = attempts(100);
        for number in 0..10 {
            assert_eq!(attempts.refusal(HERE, at(number)), None);
            attempts.failed(HERE, None, at(number));
        }
        assert_eq!(attempts.refusal(HERE, at(9)), Some(Duration::from_secs(51)));
        assert_eq!(attempts.refusal(THERE, at(9)), None);
        assert_eq!(attempts.refusal(None, at(9)), None);
        assert_eq!(attempts.refusal(HERE, at(60)), None);
        // The next failure begins a new minute.
        attempts.failed(HERE, None, at(60));
        assert_eq!(attempts.refusal(HERE, at(60)), None);
    }

    #[test]
    fn failures_of_a_name_are_told_later_and_later_and_then_successes_too() {
        let mut attempts = attempts(100);
        assert_eq!(attempts.delay(Some("ada"), at(0)), Duration::ZERO);
        for millis in [500, 500, 1000, 2000, 4000, 4000, 4000] {
            let right = attempts.delay(Some("ada"), at(0));
            assert_eq!(attempts.failed(HERE, Some("ada"), at(0)), Duration::from_millis(millis));
            assert!(right.is_zero() || right == Duration::from_millis(millis), "a right answer comes as late");
        }
        assert_eq!(attempts.delay(Some("eve"), at(0)), Duration::ZERO);
        assert_eq!(attempts.delay(Some("ada"), at(600)), Duration::ZERO);
        assert_eq!(attempts.failed(HERE, Some("ada"), at(600)), Duration::from_millis(500));
        for _ in 0..100 {
            attempts.failed(HERE, Some("ada"), at(601));
        }
        assert_eq!(attempts.delay(Some("ada"), at(601)), Duration::from_secs(4));
    }

    #[test]
    fn a_token_that_fails_is_told_late_and_counts_for_its_address() {
        let mut attempts = attempts(100);
        assert_eq!(attempts.failed(None, None, at(0)), Duration::from_millis(500));
        assert_eq!(attempts.delay(None, at(0)), Duration::ZERO);
    }

    #[test]
    fn whatever_strangers_throw_in_a_name_that_is_guessed_at_is_not_forgotten() {
        let mut attempts = attempts(64);
        for number in 0..10_000u64 {
            let now = at(number / 100);
            attempts.failed(Some(Origin::v6_network(number.to_be_bytes())), Some(&format!("stranger {number}")), now);
            if number % 20 == 0 {
                attempts.failed(HERE, Some("ada"), now + Duration::from_micros(1));
            }
            assert!(attempts.names.slots.len() <= 64 && attempts.origins.slots.len() <= 64);
            check(&attempts.names);
            check(&attempts.origins);
        }
        assert_eq!(attempts.delay(Some("ada"), at(100)), Duration::from_secs(4));
        assert!(attempts.refusal(HERE, at(59)).is_some() || attempts.refusal(HERE, at(100)).is_some());
        assert!(attempts.forgotten() > 19_000);
    }

    #[test]
    fn what_is_over_is_no_loss_when_it_is_forgotten() {
        let mut attempts = attempts(8);
        for number in 0..100 {
            attempts.failed(None, Some(&format!("stranger {number}")), at(number * 1000));
        }
        assert_eq!(attempts.forgotten(), 0);
    }

    #[test]
    fn a_table_for_none_still_works() {
        let mut attempts = attempts(0);
        for number in 0..10 {
            attempts.failed(HERE, Some(&format!("user {number}")), at(0));
        }
        assert!(attempts.refusal(HERE, at(0)).is_some());
    }

    /// Each slot is found at its place, and nothing else is.
    fn check(recent: &Recent) {
        assert_eq!(recent.slots.len(), recent.places.len());
        for (at, failures) in recent.slots.iter().enumerate() {
            assert_eq!(recent.place(failures.key), Some(at));
        }
    }
}
