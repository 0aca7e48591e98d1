//! Which buckets of postings there are: each holds those from its start to that of the next one.
//!
//! Invariant: a bucket's `live` is the number of rows that are posted in its range.

use std::collections::BTreeMap;

use redb::{ReadableTable, StorageError};
use wasmill_core::row::Corrupt;
use wasmill_core::store::Index;

/// An index of a stage.
pub(super) type Name = (u16, u8);

/// What is stored of a bucket besides its start: id, runs, live, total, bytes.
pub(super) type Stored = (u64, u32, u64, u64, u64);

/// Postings of a range of an index.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// The first place that may be in it.
    pub(super) time: i64,
    pub(super) key: Box<[u8]>,
    /// Its number, under which its runs are stored. A bucket that is written anew gets another one.
    pub(super) id: u64,
    /// How many runs it has.
    pub(super) runs: u32,
    /// How many of its postings stand for a row.
    pub(super) live: u64,
    /// How many it has.
    pub(super) total: u64,
    /// What its postings take in memory, in bytes.
    pub(super) bytes: u64,
    /// Whether that differs from what is stored.
    pub(super) changed: bool,
}

impl Bucket {
    pub(super) fn starts_by(&self, time: i64, key: &[u8]) -> bool {
        (self.time, &*self.key) <= (time, key)
    }

    pub(super) fn stored(&self) -> Stored {
        (self.id, self.runs, self.live, self.total, self.bytes)
    }

    /// The key of a bucket in the file: `[stage u16 BE][index u8][time i64 BE, sign flipped][key]`.
    pub(super) fn name(&self, (stage, index): Name) -> Vec<u8> {
        let mut name = Vec::with_capacity(11 + self.key.len());
        name.extend_from_slice(&stage.to_be_bytes());
        name.push(index);
        name.extend_from_slice(&(self.time.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        name.extend_from_slice(&self.key);
        name
    }
}

/// The buckets of all indexes, each in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory(pub(super) BTreeMap<Name, Vec<Bucket>>);

impl Directory {
    /// Reads what is stored.
    pub(super) fn read(
        table: &impl ReadableTable<&'static [u8], Stored>,
    ) -> Result<Self, super::Damage> {
        let mut all: BTreeMap<Name, Vec<Bucket>> = BTreeMap::new();
        for entry in table.iter()? {
            let (name, stored) = entry?;
            let (name, (id, runs, live, total, bytes)) = (name.value(), stored.value());
            let parts = name.split_first_chunk::<3>().and_then(|(head, rest)| {
                let (time, key) = rest.split_first_chunk::<8>()?;
                Some((head, u64::from_be_bytes(*time), key))
            });
            let Some(([a, b, index], time, key)) = parts else {
                return Err(Corrupt("the start of a bucket of postings").into());
            };
            let (time, key) = ((time ^ (1 << 63)).cast_signed(), key.into());
            let bucket = Bucket { time, key, id, runs, live, total, bytes, changed: false };
            all.entry((u16::from_be_bytes([*a, *b]), *index)).or_default().push(bucket);
        }
        Ok(Self(all))
    }

    /// The buckets of an index.
    pub(super) fn of(&self, stage: u16, index: Index) -> &[Bucket] {
        self.0.get(&(stage, index as u8)).map_or(&[], Vec::as_slice)
    }

    /// The bucket of a place.
    pub(super) fn at(&mut self, name: Name, time: i64, key: &[u8]) -> Option<&mut Bucket> {
        let buckets = self.0.get_mut(&name)?;
        let i = buckets.partition_point(|bucket| bucket.starts_by(time, key));
        buckets.get_mut(i.checked_sub(1)?)
    }
}

/// Reads the postings of a bucket, in order and each once.
pub(super) fn postings(
    bucket: &Bucket,
    table: &impl ReadableTable<(u64, u32), &'static [u8]>,
) -> Result<super::list::List, super::Damage> {
    let mut list = super::list::List::default();
    read_into(bucket, table, &mut list)?;
    list.sort();
    Ok(list)
}

/// Adds the postings of a bucket to a list, in no order.
pub(super) fn read_into(
    bucket: &Bucket,
    table: &impl ReadableTable<(u64, u32), &'static [u8]>,
    list: &mut super::list::List,
) -> Result<(), super::Damage> {
    let mut runs = 0;
    for entry in table.range((bucket.id, 0)..=(bucket.id, u32::MAX))? {
        let (_, run) = entry.map_err(|e: StorageError| e)?;
        list.unpack(run.value())?;
        runs += 1;
    }
    if runs != bucket.runs {
        return Err(Corrupt("as many runs of postings as their bucket says").into());
    }
    Ok(())
}
