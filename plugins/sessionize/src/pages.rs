//! The pages of a session: how many different ones, the first and the last by event time.
//!
//! Invariant: pages are counted by their 64-bit xxHash (seed 0), which never changes, because hashes
//! are kept in the state. Two pages of a session with one hash count as one; the odds that a session
//! of `n` different pages has such a pair are about `n^2 / 2^65`: 3e-16 for 100 pages, 3e-12 for 10,000.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh64::xxh64;

/// The bytes of a hash.
const WIDTH: usize = 8;

/// Room for what the next events are likely to add, so that an event costs one allocation at most.
const ROOM: usize = 32;

/// A set of pages by their hashes: sorted, little-endian, 8 bytes each, so that it is read and
/// written as one run of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageSet(Vec<u8>);

impl PageSet {
    /// The number of different pages.
    pub(crate) fn len(&self) -> usize {
        self.0.len() / WIDTH
    }

    /// Adds a page.
    #[inline]
    pub(crate) fn insert(&mut self, page: &str) {
        let hash = xxh64(page.as_bytes(), 0);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.hash(middle).cmp(&hash) {
                std::cmp::Ordering::Equal => return,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        let (at, end) = (low * WIDTH, self.0.len());
        if end == 0 {
            self.0.reserve(ROOM);
        }
        self.0.resize(end + WIDTH, 0);
        self.0.copy_within(at..end, at + WIDTH);
        self.0[at..at + WIDTH].copy_from_slice(&hash.to_le_bytes());
    }

    /// Adds the pages of another set.
    pub(crate) fn extend(&mut self, other: &Self) {
        let mut hashes: Vec<u64> =
            [self, other].iter().flat_map(|set| (0..set.len()).map(|i| set.hash(i))).collect();
        hashes.sort_unstable();
        hashes.dedup();
        self.0.clear();
        self.0.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
    }

    #[inline]
    fn hash(&self, i: usize) -> u64 {
        let bytes = &self.0[i * WIDTH..(i + 1) * WIDTH];
        u64::from_le_bytes(bytes.try_into().expect("a slice of 8 bytes"))
    }
}

impl Serialize for PageSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PageSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(deserializer)?;
        if !bytes.len().is_multiple_of(WIDTH) {
            return Err(D::Error::invalid_length(bytes.len(), &"hashes of 8 bytes each"));
        }
        Ok(Self(bytes))
    }
}

/// Bytes of a state, read with room.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copied;
        impl Visitor<'_> for Copied {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            #[inline]
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                let mut copy = Vec::with_capacity(bytes.len() + ROOM);
                copy.extend_from_slice(bytes);
                Ok(Bytes(copy))
            }
        }
        deserializer.deserialize_bytes(Copied)
    }
}

/// The first and the last page of a session in one run of bytes: most of the cost of a state is
/// allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The entry page, then the exit page; one page alone where it is both.
    text: Vec<u8>,
    /// Where the exit page begins; [`BOTH`] where the text is both pages.
    split: u32,
}

/// The entry page is the exit page, as it is in most sessions of one event.
const BOTH: u32 = u32::MAX;

impl Ends {
    pub(crate) fn entry(&self) -> Cow<'_, str> {
        let end = if self.split == BOTH { self.text.len() } else { self.split as usize };
        String::from_utf8_lossy(&self.text[..end])
    }

    pub(crate) fn exit(&self) -> Cow<'_, str> {
        let start = if self.split == BOTH { 0 } else { self.split as usize };
        String::from_utf8_lossy(&self.text[start..])
    }

    /// The first page is both.
    pub(crate) fn set_both(&mut self, page: &str) {
        self.text.clear();
        self.text.reserve(2 * page.len() + ROOM);
        self.text.extend_from_slice(page.as_bytes());
        self.split = BOTH;
    }

    pub(crate) fn set_entry(&mut self, page: &str) {
        let before = if self.split == BOTH { 0 } else { self.split as usize };
        self.text.splice(..before, page.bytes());
        self.split = length(page);
    }

    #[inline]
    pub(crate) fn set_exit(&mut self, page: &str) {
        if self.split == BOTH {
            if self.text == page.as_bytes() {
                return;
            }
            self.split = u32::try_from(self.text.len()).expect(SMALL);
        }
        self.text.truncate(self.split as usize);
        self.text.extend_from_slice(page.as_bytes());
    }
}

const SMALL: &str = "a record is smaller than 4 GiB";

fn length(page: &str) -> u32 {
    u32::try_from(page.len()).expect(SMALL)
}

impl Serialize for Ends {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Text<'a>(&'a [u8]);
        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        (self.split, Text(&self.text)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (split, Bytes(text)) = <(u32, Bytes)>::deserialize(deserializer)?;
        if split != BOTH && split as usize > text.len() {
            return Err(D::Error::custom(format!("{split} is beyond {} bytes", text.len())));
        }
        Ok(Self { text, split })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn hashes_are_those_of_the_specification() {
        let mut set = PageSet::default();
        set.insert("");
        assert_eq!(set.hash(0), 0xef46_db37_51d8_e999);
        let mut set = PageSet::default();
        set.insert("abc");
        assert_eq!(set.hash(0), 0x44bc_2cf5_ad77_0999);
    }

    proptest! {
        #[test]
        fn a_set_counts_what_a_set_of_strings_counts(
            one in prop::collection::vec("[a-d]{0,3}", 0..60),
            two in prop::collection::vec("[a-d]{0,3}", 0..60),
        ) {
            let set = |pages: &[String]| {
                let mut set = PageSet::default();
                pages.iter().for_each(|page| set.insert(page));
                set
            };
            let (a, b) = (set(&one), set(&two));
            prop_assert_eq!(a.len(), one.iter().collect::<BTreeSet<_>>().len());
            let both: Vec<String> = one.iter().chain(&two).cloned().collect();
            let mut merged = a;
            merged.extend(&b);
            prop_assert_eq!(merged, set(&both));
        }
    }

    #[test]
    fn entry_and_exit_page_are_replaced_independently() {
        let mut ends = Ends::default();
        ends.set_both("/ä");
        assert_eq!((&*ends.entry(), &*ends.exit()), ("/ä", "/ä"));
        ends.set_entry("/é");
        ends.set_exit("/out");
        ends.set_entry("/longer");
        ends.set_exit("/b");
        assert_eq!((&*ends.entry(), &*ends.exit()), ("/longer", "/b"));
        ends.set_entry("");
        assert_eq!((&*ends.entry(), &*ends.exit()), ("", "/b"));
    }
}
