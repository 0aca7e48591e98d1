//! The changes of a task's state, packed: what a commit writes to the changelog and what the store
//! applies.
//!
//! A pack is `[magic u8][count varint]` and then, for each change in store-key order,
//! `[shared varint][rest varint][rest bytes][value length + 1 varint, 0 for removal][value]`, where
//! `shared` is how many bytes the key has in common with the one before it.

use crate::row::{Corrupt, put_varint, varint};

const MAGIC: u8 = 0xC1;

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
    start: u64,
    key: u32,
    /// The value's length; `u32::MAX` for removal.
    value: u32,
}

const REMOVED: u32 = u32::MAX;

impl Changes {
    /// Adds a change: `key` and `value` append their bytes.
    ///
    /// # Panics
    /// When one of them has 4 GiB, which limits keep far away.
    pub fn add(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        let length = |from: usize, to: usize| u32::try_from(to - from).expect("below 4 GiB");
        let key = length(start, middle);
        let value = match value {
            None => REMOVED,
            Some(value) => {
                value(&mut self.bytes);
                length(middle, self.bytes.len())
            }
        };
        self.entries.push(Entry { start: start as u64, key, value });
    }

    /// Adds a change.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let key = |out: &mut Vec<u8>| out.extend_from_slice(key);
        self.add(key, value.map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value)));
    }

    /// Puts changes into the order of their keys; of those with one key the last counts.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.entries.sort_by(|a, b| key_of(bytes, a).cmp(key_of(bytes, b)));
        // Equal keys are in the order in which they were added: the last of them stays.
        let mut kept = 0;
        for i in 0..self.entries.len() {
            let last = i + 1 == self.entries.len()
                || key_of(bytes, &self.entries[i]) != key_of(bytes, &self.entries[i + 1]);
            if last {
                self.entries[kept] = self.entries[i];
                kept += 1;
            }
        }
        self.entries.truncate(kept);
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.entries.len()
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
    /// itself.
    pub fn pack(&self, most: usize) -> Vec<Vec<u8>> {
        let mut packs = Vec::new();
        let mut changes = self.iter().peekable();
        while changes.peek().is_some() {
            let mut body = Vec::new();
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
            let mut pack = vec![MAGIC];
            put_varint(&mut pack, count);
            pack.extend_from_slice(&body);
            packs.push(pack);
        }
        packs
    }

    /// Reads a pack and hands each change to `each`: store key, and value or none for removal.
    ///
    /// # Errors
    /// [`Corrupt`] says what was expected; changes before that place have been handed out.
    pub fn unpack(
        mut pack: &[u8],
        mut each: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), Corrupt> {
        let b = &mut pack;
        if take(b, 1)? != [MAGIC] {
            return Err(Corrupt("a pack of changes"));
        }
        let mut key = Vec::new();
        for _ in 0..varint(b)? {
            let shared = varint(b)? as usize;
            if shared > key.len() {
                return Err(Corrupt("a shared prefix within the key before"));
            }
            key.truncate(shared);
            let rest = varint(b)?;
            key.extend_from_slice(take(b, rest)?);
            match varint(b)? {
                0 => each(&key, None),
                n => each(&key, Some(take(b, n - 1)?)),
            }
        }
        if b.is_empty() { Ok(()) } else { Err(Corrupt("the end of the pack")) }
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

    proptest! {
        #[test]
        fn packs_hold_the_last_change_of_each_key(
            entries in proptest::collection::vec(
                (proptest::collection::vec(0..4u8, 0..5),
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
            for pack in changes.pack(most) {
                Changes::unpack(&pack, |k, v| read.push((k.to_vec(), v.map(<[u8]>::to_vec))))
                    .unwrap();
            }
            prop_assert_eq!(read, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_damaged_pack_is_an_error_not_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Changes::unpack(&bytes, |_, _| {});
        }
    }
}
