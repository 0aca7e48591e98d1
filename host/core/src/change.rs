//! The changes of a task's state, packed: what a commit writes to the changelog and what the store
//! applies.
//!
//! A pack is `[magic u8][count varint]` and then, for each change in store-key order,
//! `[shared varint][rest varint][rest bytes][value length + 1 varint, 0 for removal][value]`, where
//! `shared` is how many bytes the key has in common with the one before it.

use std::ops::Range;

use crate::row::{Corrupt, put_varint, varint};

/// Says what follows and how its rows are written: in 0xC1 they did not say what they are posted
/// under.
const MAGIC: u8 = 0xC2;

/// The changes of an epoch: store keys and their new values, none for removal. All bytes are in one
/// allocation.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where a change is in the bytes: its key, and behind it its value.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The first bytes of the key, so that most comparisons need no others.
    first: [u64; 2],
    start: u64,
    key: u32,
    /// The value's length; `u32::MAX` for removal.
    value: u32,
}

const REMOVED: u32 = u32::MAX;

/// The first bytes of a key as numbers that have the same order.
fn first_bytes(key: &[u8]) -> [u64; 2] {
    let mut first = [0; 16];
    let n = key.len().min(16);
    first[..n].copy_from_slice(&key[..n]);
    let (halves, _) = first.as_chunks();
    [u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])]
}

impl Changes {
    /// Adds a change: `key` and `value` append their bytes.
    ///
    /// # Panics
    /// When one of them has 4 GiB, which limits keep far away, or the key none: a store key has some.
    pub fn add(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        assert!(middle > start, "a store key is not empty");
        let first = first_bytes(&self.bytes[start..]);
        let length = |from: usize, to: usize| u32::try_from(to - from).expect("below 4 GiB");
        let key = length(start, middle);
        let value = match value {
            None => REMOVED,
            Some(value) => {
                value(&mut self.bytes);
                length(middle, self.bytes.len())
            }
        };
        self.entries.push(Entry { first, start: start as u64, key, value });
    }

    /// Adds a change.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let key = |out: &mut Vec<u8>| out.extend_from_slice(key);
        self.add(key, value.map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value)));
    }

    /// Puts changes into the order of their keys; of those with one key the last counts.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        // By their first bytes, which are at hand, then by what is behind them, then by age.
        self.entries.sort_unstable_by(|a, b| {
            let rest = || key_of(bytes, a).cmp(key_of(bytes, b));
            a.first.cmp(&b.first).then_with(rest).then(a.start.cmp(&b.start))
        });
        // Equal keys are in the order in which they were added: the last of them stays.
        self.entries.dedup_by(|next, kept| {
            let same = next.first == kept.first && key_of(bytes, next) == key_of(bytes, kept);
            if same {
                *kept = *next;
            }
            same
        });
    }

    /// Forgets all changes. Their room stays for those to come, as far as it was needed.
    pub fn clear(&mut self) {
        self.bytes.shrink_to(2 * self.bytes.len());
        self.bytes.clear();
        self.entries.shrink_to(2 * self.entries.len());
        self.entries.clear();
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of their keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The changes in order: key, and value or none for removal.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|e| {
            let end = e.start as usize + e.key as usize;
            let value = (e.value != REMOVED).then(|| &self.bytes[end..end + e.value as usize]);
            (key_of(&self.bytes, e), value)
        })
    }

    /// Packs the changes, which are in order, into blobs of about `most` bytes, each readable by
    /// itself, one after the other.
    pub fn packs(&self, most: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut changes = self.iter().peekable();
        let mut body = Vec::new();
        std::iter::from_fn(move || {
            changes.peek()?;
            body.clear();
            let mut last: &[u8] = &[];
            let mut count = 0;
            while body.len() < most || count == 0 {
                let Some((key, value)) = changes.next() else { break };
                let shared = last.iter().zip(key).take_while(|(a, b)| a == b).count();
                put_varint(&mut body, shared as u64);
                put_varint(&mut body, (key.len() - shared) as u64);
                body.extend_from_slice(&key[shared..]);
                match value {
                    None => body.push(0),
                    Some(value) => {
                        put_varint(&mut body, value.len() as u64 + 1);
                        body.extend_from_slice(value);
                    }
                }
                last = key;
                count += 1;
            }
            let mut head = vec![MAGIC];
            put_varint(&mut head, count);
            Some([head.as_slice(), &body].concat())
        })
    }
}

/// Reads a pack, change by change.
#[derive(Debug)]
struct Unpack<P> {
    pack: P,
    /// Behind what was read of it.
    at: usize,
    left: u64,
    key: Vec<u8>,
    /// Where in the pack the value is.
    value: Option<Range<usize>>,
}

impl<P: AsRef<[u8]>> Unpack<P> {
    fn new(pack: P) -> Result<Self, Corrupt> {
        let mut unpack = Self { pack, at: 0, left: 0, key: Vec::new(), value: None };
        unpack.begin()?;
        Ok(unpack)
    }

    fn begin(&mut self) -> Result<(), Corrupt> {
        let all = self.pack.as_ref();
        let mut rest = all;
        if take(&mut rest, 1)? != [MAGIC] {
            return Err(Corrupt("a pack of changes"));
        }
        self.left = varint(&mut rest)?;
        self.at = all.len() - rest.len();
        Ok(())
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|range| &self.pack.as_ref()[range])
    }

    /// Goes to the next change; false when there is none.
    fn advance(&mut self) -> Result<bool, Corrupt> {
        let all = self.pack.as_ref();
        let mut rest = &all[self.at..];
        let b = &mut rest;
        if self.left == 0 {
            return if b.is_empty() { Ok(false) } else { Err(Corrupt("the end of the pack")) };
        }
        self.left -= 1;
        let shared = varint(b)? as usize;
        if shared > self.key.len() {
            return Err(Corrupt("a shared prefix within the key before"));
        }
        let before = self.key.get(shared).copied();
        self.key.truncate(shared);
        let length = varint(b)?;
        self.key.extend_from_slice(take(b, length)?);
        if self.key.get(shared).copied() < before {
            return Err(Corrupt("keys in ascending order"));
        }
        self.value = match varint(b)? {
            0 => None,
            n => {
                let value = take(b, n - 1)?;
                let end = all.len() - b.len();
                Some(end - value.len()..end)
            }
        };
        self.at = all.len() - b.len();
        Ok(true)
    }
}

/// Packs that hold one change of each key, in order: those of an epoch.
struct Run<I, P> {
    packs: I,
    pack: Unpack<P>,
}

impl<I: Iterator<Item = Result<P, E>>, P: AsRef<[u8]>, E: From<Corrupt>> Run<I, P> {
    /// None when there is no change in it.
    fn begin(mut packs: I) -> Result<Option<Self>, E> {
        let Some(pack) = packs.next() else { return Ok(None) };
        let mut run = Self { packs, pack: Unpack::new(pack?)? };
        Ok(run.advance()?.then_some(run))
    }

    /// Goes to the next change; false when there is none.
    fn advance(&mut self) -> Result<bool, E> {
        while !self.pack.advance()? {
            let Some(pack) = self.packs.next() else { return Ok(false) };
            let last = std::mem::replace(&mut self.pack, Unpack::new(pack?)?).key;
            // Each pack begins with a whole key.
            if self.pack.advance()? {
                return if self.pack.key > last {
                    Ok(true)
                } else {
                    Err(Corrupt("packs in the order of their keys").into())
                };
            }
        }
        Ok(true)
    }
}

/// Reads packs, the oldest first, and hands out the last change of each key, in the order of the
/// keys: store key, and value or none for removal.
///
/// # Errors
/// [`Corrupt`] says what was expected, or the error of `each`; changes before that have been handed
/// out.
pub fn merge<P: AsRef<[u8]>, E: From<Corrupt>>(
    packs: impl Iterator<Item = P>,
    each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
) -> Result<(), E> {
    merge_runs(packs.map(|pack| std::iter::once(Ok(pack))), each)
}

/// As [`merge`], of runs: packs that hold one change of each key, in order, as those of an epoch do.
/// Of each run one pack is in memory at a time.
///
/// # Errors
/// [`Corrupt`] says what was expected, or the error of a run or of `each`; changes before that have been
/// handed out.
pub fn merge_runs<P: AsRef<[u8]>, E: From<Corrupt>>(
    packs: impl Iterator<Item = impl Iterator<Item = Result<P, E>>>,
    mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
) -> Result<(), E> {
    let mut runs = Vec::new();
    for packs in packs {
        runs.extend(Run::begin(packs)?);
    }
    // A heap of runs by hand: the least key on top, of equal keys that of the latest run.
    let mut heap: Vec<usize> = (0..runs.len()).collect();
    for at in (0..heap.len() / 2).rev() {
        sift(&runs, &mut heap, at);
    }
    let mut last: Option<Vec<u8>> = None;
    while let Some(top) = heap.first().copied() {
        let run = &mut runs[top];
        if last.as_deref() != Some(run.pack.key.as_slice()) {
            each(&run.pack.key, run.pack.value())?;
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(&run.pack.key);
        }
        if !run.advance()? {
            heap.swap_remove(0);
        }
        sift(&runs, &mut heap, 0);
    }
    Ok(())
}

/// Lets the element at a place of the heap sink to where it belongs.
fn sift<I, P>(runs: &[Run<I, P>], heap: &mut [usize], mut at: usize) {
    let before = |a: usize, b: usize| (&runs[a].pack.key, b).cmp(&(&runs[b].pack.key, a)).is_lt();
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let mut least = at;
        for child in [left, right] {
            if child < heap.len() && before(heap[child], heap[least]) {
                least = child;
            }
        }
        if least == at {
            return;
        }
        heap.swap(at, least);
        at = least;
    }
}

fn key_of<'a>(bytes: &'a [u8], e: &Entry) -> &'a [u8] {
    &bytes[e.start as usize..e.start as usize + e.key as usize]
}

fn take<'a>(bytes: &mut &'a [u8], n: u64) -> Result<&'a [u8], Corrupt> {
    let n = usize::try_from(n).map_err(|_| Corrupt("a length that fits"))?;
    let (head, rest) = bytes.split_at_checked(n).ok_or(Corrupt("more bytes"))?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Change = (Vec<u8>, Option<Vec<u8>>);

    fn merged(packs: &[&[u8]]) -> Vec<Change> {
        let mut read = Vec::new();
        merge(packs.iter().copied(), |key, value| {
            read.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok::<(), Corrupt>(())
        })
        .unwrap();
        read
    }

    proptest! {
        #[test]
        fn packs_hold_the_last_change_of_each_key(
            entries in proptest::collection::vec(
                (proptest::collection::vec(0..4u8, 1..5),
                 proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9))), 0..40),
            most in 1..60usize) {
            let expected: BTreeMap<_, _> = entries.iter().cloned().collect();
            prop_assert!(expected.len() <= entries.len());
            let mut changes = Changes::default();
            for (key, value) in &entries {
                changes.put(key, value.as_deref());
            }
            changes.sort();
            let mut read = Vec::new();
            for pack in changes.packs(most) {
                read.extend(merged(&[&pack]));
            }
            prop_assert_eq!(read, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn of_several_epochs_the_last_one_counts(
            epochs in proptest::collection::vec(proptest::collection::vec(
                (proptest::collection::vec(0..4u8, 1..5), proptest::option::of(any::<u8>())),
                0..20), 0..8),
            most in 1..30usize) {
            let mut expected = BTreeMap::new();
            let mut runs = Vec::new();
            for entries in &epochs {
                let mut changes = Changes::default();
                for (key, value) in entries {
                    let value = value.map(|v| vec![v]);
                    changes.put(key, value.as_deref());
                    expected.insert(key.clone(), value);
                }
                changes.sort();
                runs.push(changes.packs(most).collect::<Vec<_>>());
            }
            let expected: Vec<_> = expected.into_iter().collect();
            let packs: Vec<&[u8]> = runs.iter().flatten().map(Vec::as_slice).collect();
            prop_assert_eq!(merged(&packs), &*expected);
            let mut read = Vec::new();
            let ready = |run: Vec<Vec<u8>>| run.into_iter().map(Ok::<_, Corrupt>);
            merge_runs(runs.into_iter().map(ready), |key, value| {
                read.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                Ok(())
            }).unwrap();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_damaged_pack_is_an_error_not_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let each = |_: &[u8], _: Option<&[u8]>| Ok::<(), Corrupt>(());
            let _ = merge([bytes.as_slice()].into_iter(), each);
        }
    }

    #[test]
    fn packs_of_a_run_that_are_out_of_order_are_an_error() {
        let mut changes = Changes::default();
        for key in [b"a", b"b", b"c"] {
            changes.put(key, Some(b"value"));
        }
        let mut packs: Vec<_> = changes.packs(1).map(Ok).collect();
        packs.swap(1, 2);
        let merged = merge_runs([packs.into_iter()].into_iter(), |_, _| Ok::<(), Corrupt>(()));
        assert_eq!(merged, Err(Corrupt("packs in the order of their keys")));
    }
}
