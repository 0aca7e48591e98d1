//! Postings in memory, and how a run of them is packed: many in one value of the file.
//!
//! A run is `[time of the first i64 LE]` and then, for each posting in order, `[time since the one
//! before varint][shared varint][rest varint][rest bytes]`, where `shared` is how many bytes the key
//! has in common with the one before it. Invariant: what [`List::pack`] writes, [`List::unpack`]
//! reads.

use wasmill_core::row::{Corrupt, put_varint, varint};

/// About how large a packed run gets, in bytes: with its key it fits into pages of 32 KiB.
const RUN_BYTES: usize = if cfg!(test) { 100 } else { 32_000 };

/// Postings: times and keys.
#[derive(Debug, Default, Clone)]
pub(super) struct List {
    bytes: Vec<u8>,
    postings: Vec<Posting>,
}

/// A time, and where its key is in the bytes.
#[derive(Debug, Clone, Copy)]
struct Posting {
    time: i64,
    start: u32,
    key: u32,
}

impl List {
    /// Adds a posting.
    pub(super) fn push(&mut self, time: i64, key: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.close(time, start);
    }

    /// Adds a posting whose key is in the bytes already, from `start` to their end.
    fn close(&mut self, time: i64, start: usize) {
        let offset = |at: usize| u32::try_from(at).expect("a list is written before it has 4 GiB");
        let key = offset(self.bytes.len() - start);
        self.postings.push(Posting { time, start: offset(start), key });
    }

    /// The number of postings.
    pub(super) fn len(&self) -> usize {
        self.postings.len()
    }

    /// What they take in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.postings.len() * size_of::<Posting>()
    }

    /// A posting by its number.
    #[inline]
    pub(super) fn get(&self, i: usize) -> (i64, &[u8]) {
        let posting = &self.postings[i];
        (posting.time, self.key(posting))
    }

    #[inline]
    fn key(&self, posting: &Posting) -> &[u8] {
        &self.bytes[posting.start as usize..posting.start as usize + posting.key as usize]
    }

    /// The number of the first posting that is not `before`, of a list that is in order.
    pub(super) fn partition_point(&self, before: impl Fn(i64, &[u8]) -> bool) -> usize {
        self.postings.partition_point(|p| before(p.time, self.key(p)))
    }

    /// Puts the postings into order, each once.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |p: &Posting| &bytes[p.start as usize..p.start as usize + p.key as usize];
        // Made of sorted runs, which a stable sort finds.
        self.postings.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| key(a).cmp(key(b))));
        self.postings.dedup_by(|a, b| a.time == b.time && key(a) == key(b));
    }

    /// Keeps those whose number `keep` has.
    pub(super) fn retain(&mut self, keep: &[bool]) {
        let mut keep = keep.iter();
        self.postings.retain(|_| *keep.next().expect("an answer for each posting"));
    }

    /// The numbers of the postings in the order of their keys.
    pub(super) fn by_key(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by(|a, b| self.get(*a).1.cmp(self.get(*b).1));
        order
    }

    /// Where a list that is in order is cut so that no part has more postings or bytes than given,
    /// but at least one posting: the ends of the parts.
    pub(super) fn cuts(&self, most: usize, most_bytes: usize) -> Vec<usize> {
        let (mut cuts, mut from, mut bytes) = (Vec::new(), 0, 0);
        for (i, posting) in self.postings.iter().enumerate() {
            let more = posting.key as usize + size_of::<Posting>();
            if i > from && (i - from == most || bytes + more > most_bytes) {
                cuts.push(i);
                (from, bytes) = (i, 0);
            }
            bytes += more;
        }
        if from < self.len() {
            cuts.push(self.len());
        }
        cuts
    }

    /// Packs postings `from..to`, which are in order, into as many runs as need be.
    pub(super) fn pack<E>(
        &self,
        mut from: usize,
        to: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut run = Vec::new();
        while from < to {
            run.clear();
            let mut last = self.postings[from].time;
            let mut before: &[u8] = &[];
            run.extend_from_slice(&last.to_le_bytes());
            while from < to && (before.is_empty() || run.len() < RUN_BYTES) {
                let (time, key) = self.get(from);
                let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
                put_varint(&mut run, time.wrapping_sub(last).cast_unsigned());
                put_varint(&mut run, shared as u64);
                put_varint(&mut run, (key.len() - shared) as u64);
                run.extend_from_slice(&key[shared..]);
                (last, before) = (time, key);
                from += 1;
            }
            each(&run)?;
        }
        Ok(())
    }

    /// Adds the postings of a run.
    ///
    /// # Errors
    /// [`Corrupt`] says what was expected.
    pub(super) fn unpack(&mut self, run: &[u8]) -> Result<(), Corrupt> {
        let (time, mut b) = run.split_first_chunk().ok_or(Corrupt("the time of a run"))?;
        let mut time = i64::from_le_bytes(*time);
        let mut before = self.bytes.len()..self.bytes.len();
        while !b.is_empty() {
            time = time.wrapping_add(varint(&mut b)?.cast_signed());
            let (shared, rest) = (varint(&mut b)?, varint(&mut b)?);
            let shared = usize::try_from(shared).ok().filter(|n| *n <= before.len());
            let shared = shared.ok_or(Corrupt("a prefix within the key before"))?;
            let rest = usize::try_from(rest).ok().and_then(|n| b.split_at_checked(n));
            let (rest, behind) = rest.ok_or(Corrupt("as many bytes as a key has"))?;
            let start = self.bytes.len();
            self.bytes.extend_from_within(before.start..before.start + shared);
            self.bytes.extend_from_slice(rest);
            self.close(time, start);
            before = start..self.bytes.len();
            b = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_comes_back_in_order_from_its_runs(
            postings in proptest::collection::vec(
                (prop_oneof![any::<i64>(), 0..4i64],
                 proptest::collection::vec(0..3u8, 0..5)), 0..40),
            most in 1..9usize, long in any::<bool>()) {
            let mut list = List::default();
            let mut expected: Vec<_> = postings
                .into_iter()
                .map(|(time, mut key)| {
                    key.resize(key.len() + if long { 5_000 } else { 0 }, 7);
                    (time, key)
                })
                .collect();
            expected.iter().for_each(|(time, key)| list.push(*time, key));
            list.sort();
            expected.sort();
            expected.dedup();
            let mut read = List::default();
            let mut from = 0;
            for to in list.cuts(most, 12_000) {
                prop_assert!(to > from && to - from <= most);
                list.pack(from, to, |run| read.unpack(run)).unwrap();
                from = to;
            }
            let read: Vec<_> = (0..read.len()).map(|i| read.get(i)).collect();
            prop_assert_eq!(read, expected.iter().map(|(t, k)| (*t, &**k)).collect::<Vec<_>>());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = List::default().unpack(&bytes);
        }
    }
}
