//! How many there are of each key: sessions of a user and address, connections of a network.
//!
//! Bounded by what is counted: a key stands in the table only while it has at least one. The highest count is known at any time
//! without a walk through the table, because figures are asked for while logins wait for its lock.

use super::limits::{is_calm, is_near};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// The table.
#[derive(Debug)]
pub struct Tally<K> {
    counts: HashMap<K, Count>,
    /// How many keys have so many.
    rungs: BTreeMap<usize, usize>,
}

#[derive(Debug, Default)]
struct Count {
    number: usize,
    /// An operator has been told that it is near its limit.
    warned: bool,
}

/// One more was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many there are now.
    pub number: usize,
    /// It has just come near the limit: worth a line.
    pub near: bool,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally { counts: HashMap::new(), rungs: BTreeMap::new() }
    }
}

impl<K: Hash + Eq + Clone> Tally<K> {
    /// One more. `Err`: there are `limit` or more already: how many.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn add(&mut self, key: &K, limit: usize) -> Result<Counted, usize> {
        let have = self.count(key);
        if have >= limit {
            return Err(have);
        }
        let count = self.counts.entry(key.clone()).or_default();
        count.number += 1;
        let number = count.number;
        let near = !count.warned && is_near(number, limit);
        count.warned |= near;
        self.step(have, number);
        Ok(Counted { number, near })
    }

    /// One less.
    pub fn remove(&mut self, key: &K, limit: usize) {
        let Some(count) = self.counts.get_mut(key) else { return };
        let had = count.number;
        let number = had.saturating_sub(1);
        count.number = number;
        count.warned &= !is_calm(number, limit);
        if number == 0 {
            self.counts.remove(key);
        }
        self.step(had, number);
        // A burst must not hold its memory for ever.
        if self.counts.len() * 8 < self.counts.capacity() && self.counts.capacity() > 1024 {
            self.counts.shrink_to(self.counts.len() * 2);
        }
    }

    /// How many there are of this key.
    pub fn count(&self, key: &K) -> usize {
        self.counts.get(key).map_or(0, |count| count.number)
    }

    /// The highest count.
    pub fn highest(&self) -> usize {
        self.rungs.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// A key with the highest count. Walks through the table: for a person who asks, not for a figure.
    pub fn fullest(&self) -> Option<(&K, usize)> {
        let highest = self.highest();
        self.counts.iter().find(|(_, count)| count.number == highest).map(|(key, _)| (key, highest))
    }

    /// Nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn step(&mut self, from: usize, to: usize) {
        if let Some(keys) = self.rungs.get_mut(&from) {
            *keys -= 1;
            if *keys == 0 {
                self.rungs.remove(&from);
            }
        }
        if to > 0 {
            *self.rungs.entry(to).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_count_follows_every_step() {
        let mut tally = Tally::default();
        assert_eq!((tally.highest(), tally.fullest()), (0, None));
        // Any order of comings and goings: the ladder must agree with a walk.
        let mut on: Vec<u32> = Vec::new();
        for n in 0_u32..4000 {
            let key = n.wrapping_mul(2_654_435_761) % 7;
            if n % 5 < 3 {
                tally.add(&key, usize::MAX).unwrap();
                on.push(key);
            } else {
                let at = usize::try_from(key).unwrap() * 31 % on.len();
                tally.remove(&on.swap_remove(at), usize::MAX);
            }
            let walk = (0..7).map(|key| on.iter().filter(|on| **on == key).count()).max().unwrap();
            assert_eq!(tally.highest(), walk);
            assert_eq!(tally.fullest().map_or(0, |(_, count)| count), walk);
        }
        for key in on {
            tally.remove(&key, usize::MAX);
        }
        assert!(tally.is_empty() && tally.rungs.is_empty(), "nothing stays behind");
    }

    #[test]
    fn a_crossing_is_told_once_and_again_only_after_calm() {
        let mut tally = Tally::default();
        let mut told = Vec::new();
        let mut go = |to: usize, tally: &mut Tally<()>| {
            while tally.count(&()) < to {
                let Counted { number, near } = tally.add(&(), 10).unwrap();
                if near {
                    told.push(number);
                }
            }
            while tally.count(&()) > to {
                tally.remove(&(), 10);
            }
            told.len()
        };
        assert_eq!(go(7, &mut tally), 0);
        assert_eq!(go(10, &mut tally), 1);
        for _ in 0..20 {
            assert_eq!(go(6, &mut tally), 1, "60 % is not calm");
            assert_eq!(go(9, &mut tally), 1);
        }
        go(5, &mut tally);
        assert_eq!(go(8, &mut tally), 2);
        assert_eq!(go(10, &mut tally), 2);
        assert_eq!(tally.add(&(), 10), Err(10));
        assert_eq!(told, [8, 8]);
    }
}
