//! The changes of a task's state, packed: what a commit writes to the changelog and what the store
//! applies.
//!
//! A pack is `[magic u8][count varint]` and then, for each change in store-key order,
//! `[shared varint][rest varint][rest bytes][value length + 1 varint, 0 for removal][value]`, where
//! `shared` is how many bytes the key has in common with the one before it.

use crate::row::{Corrupt, put_varint, varint};

const MAGIC: u8 = 0xC1;

/// The changes of an epoch: store keys and their new values, none for removal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the order of their keys, each key once.
    entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Changes {
    /// Changes in any order; of those with one key the last counts.
    pub fn new(mut entries: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut unique: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::with_capacity(entries.len());
        for entry in entries {
            match unique.last_mut() {
                Some(last) if last.0 == entry.0 => *last = entry,
                _ => unique.push(entry),
            }
        }
        Self { entries: unique }
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The changes in the order of their keys.
    pub fn entries(&self) -> &[(Vec<u8>, Option<Vec<u8>>)] {
        &self.entries
    }

    /// Packs the changes into blobs of about `most` bytes, each readable by itself.
    pub fn pack(&self, most: usize) -> Vec<Vec<u8>> {
        let mut packs = Vec::new();
        let mut at = 0;
        while at < self.entries.len() {
            let mut body = Vec::new();
            let mut last: &[u8] = &[];
            let start = at;
            while at < self.entries.len() && (body.len() < most || at == start) {
                let (key, value) = &self.entries[at];
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
                at += 1;
            }
            let mut pack = vec![MAGIC];
            put_varint(&mut pack, (at - start) as u64);
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
            let changes = Changes::new(entries);
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
