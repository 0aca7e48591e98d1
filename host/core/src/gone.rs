//! Keys whose rows were removed, until the store has removed them too.
//!
//! Invariant: a key is here as long as the store may have a row of it that an epoch which has ended
//! removed.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// What a key costs besides its bytes: its place in the table, which is partly empty.
const PLACE_BYTES: usize = 2 * (size_of::<Place>() + 1);

/// Removed keys.
#[derive(Debug)]
pub(crate) struct Gone {
    places: HashTable<Place>,
    /// The keys that each epoch removed, one behind the other.
    epochs: VecDeque<(u64, Vec<u8>)>,
    /// How many bytes these are.
    bytes: usize,
    hasher: RandomState,
}

/// Where a key is: among those of an epoch.
#[derive(Debug, Clone, Copy)]
struct Place {
    epoch: u64,
    start: u32,
    len: u32,
}

fn key(epochs: &VecDeque<(u64, Vec<u8>)>, place: Place) -> &[u8] {
    let at = epochs.partition_point(|(epoch, _)| *epoch < place.epoch);
    let start = place.start as usize;
    epochs.get(at).map_or(&[], |(_, keys)| &keys[start..start + place.len as usize])
}

impl Gone {
    /// Nothing yet; `hasher` is the one of those who ask.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { places: HashTable::new(), epochs: VecDeque::new(), bytes: 0, hasher }
    }

    /// What it takes of memory, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.places.len() * PLACE_BYTES
    }

    /// Whether a key was removed; `hash` is its hash.
    pub(crate) fn holds(&self, hash: u64, wanted: &[u8]) -> bool {
        self.places.find(hash, |place| key(&self.epochs, *place) == wanted).is_some()
    }

    /// An epoch that ends, later than those before it, removes a key. Returns false where there is
    /// no room for it: the keys of an epoch may have 4 GiB.
    pub(crate) fn add(&mut self, epoch: u64, hash: u64, wanted: &[u8]) -> bool {
        if self.epochs.back().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push_back((epoch, Vec::new()));
        }
        let keys = self.epochs.back_mut().map(|(_, keys)| keys).expect("one was just added");
        let (Ok(start), Ok(len)) = (u32::try_from(keys.len()), u32::try_from(wanted.len())) else {
            return false;
        };
        keys.extend_from_slice(wanted);
        self.bytes += wanted.len();
        let (epochs, place) = (&self.epochs, Place { epoch, start, len });
        match self.places.find_mut(hash, |place| key(epochs, *place) == wanted) {
            Some(before) => *before = place,
            None => {
                let hash_of = |place: &Place| self.hasher.hash_one(key(epochs, *place));
                self.places.insert_unique(hash, place, hash_of);
            }
        }
        true
    }

    /// The store has applied everything up to this epoch.
    pub(crate) fn applied(&mut self, epoch: u64) {
        if self.epochs.front().is_none_or(|(first, _)| *first > epoch) {
            return;
        }
        self.places.retain(|place| place.epoch > epoch);
        while self.epochs.front().is_some_and(|(first, _)| *first <= epoch) {
            self.bytes -= self.epochs.pop_front().map_or(0, |(_, keys)| keys.len());
        }
        let epochs = &self.epochs;
        let hash_of = |place: &Place| self.hasher.hash_one(key(epochs, *place));
        self.places.shrink_to(2 * self.places.len(), hash_of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_gone_until_the_epoch_that_removed_it_last_is_applied() {
        let hasher = RandomState::default();
        let mut gone = Gone::new(hasher.clone());
        let hash = |key: &str| hasher.hash_one(key.as_bytes());
        let add = |gone: &mut Gone, epoch, key: &str| gone.add(epoch, hash(key), key.as_bytes());
        let holds = |gone: &Gone, key: &str| gone.holds(hash(key), key.as_bytes());
        assert!(add(&mut gone, 2, "a") && add(&mut gone, 2, "b") && add(&mut gone, 4, "a"));
        for i in 0..1_000 {
            assert!(add(&mut gone, 4, &i.to_string()));
        }
        gone.applied(1);
        assert!(holds(&gone, "a") && holds(&gone, "b") && holds(&gone, "999"));
        gone.applied(3);
        assert!(holds(&gone, "a") && !holds(&gone, "b") && holds(&gone, "0"));
        gone.applied(4);
        assert!(!holds(&gone, "a") && !holds(&gone, "0"));
        assert_eq!(gone.bytes(), 0);
    }
}
