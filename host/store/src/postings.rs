//! Writing postings: which rows are due when, packed, many in one value.
//!
//! Every row has for each index in which it has a place one posting that counts, under the time that
//! the row itself says; the others are garbage. New postings are gathered, sorted, and added to their
//! buckets as runs. A posting that no longer counts is not looked for: its bucket counts one less, and
//! a bucket of which none count is dropped as a whole. As rows go in the order of time, that is what
//! becomes of nearly all buckets. A bucket that gets too large is split.
//!
//! Invariant: for each row, the bucket of its posting's place holds that posting, and counts it.
//!
//! Garbage is bounded: where an index has more than there are rows in it (and a little), buckets that
//! are half garbage are written anew with what counts. It costs a look-up of a row for each posting,
//! two for each posting that had been made in vain.

use std::collections::BTreeMap;
use std::ops::Range;

use redb::{ReadableTable, Table};
use wasmill_core::row::{self, Corrupt, NEVER, Places};

use super::Damage;
use super::directory::{Bucket, Directory, Name, Stored, read_into};
use super::list::List;

/// Most postings of a bucket, and of one that comes out of a split. Here and below, tests do with less.
const MOST: usize = if cfg!(test) { 16 } else { 16_384 };
const SPLIT: usize = MOST / 2;
/// Most bytes of the postings of a bucket in memory, and of one that comes out of a split; a single
/// posting may be larger.
const MOST_BYTES: usize = if cfg!(test) { 600 } else { 2 << 20 };
const SPLIT_BYTES: usize = MOST_BYTES / 2;
/// How many bytes of new postings are gathered before they are added to their buckets.
const GATHERED_BYTES: usize = if cfg!(test) { 800 } else { 16 << 20 };
/// So much garbage in an index does not matter, in postings; and so many are looked at for garbage
/// in one transaction besides two for each that has just become so.
pub(super) const GARBAGE: u64 = if cfg!(test) { 24 } else { 65_536 };

/// The postings in a transaction.
pub(super) struct Postings<'t> {
    runs: Table<'t, (u64, u32), &'static [u8]>,
    pub(super) directory: Directory,
    /// The number of the next bucket.
    pub(super) next_id: u64,
    /// New postings, not in their buckets yet.
    new: BTreeMap<Name, List>,
    gathered: usize,
    /// How many have become garbage.
    dead: u64,
    /// Starts of buckets that are there no more.
    gone: Vec<Vec<u8>>,
}

impl<'t> Postings<'t> {
    pub(super) fn new(
        runs: Table<'t, (u64, u32), &'static [u8]>,
        directory: Directory,
        next_id: u64,
    ) -> Self {
        let (new, gone) = (BTreeMap::new(), Vec::new());
        Self { runs, directory, next_id, new, gathered: 0, dead: 0, gone }
    }

    /// A row is posted elsewhere from now on.
    pub(super) fn add(
        &mut self,
        stage: u16,
        key: &[u8],
        before: &Places,
        after: &Places,
    ) -> Result<(), Damage> {
        for i in (0..3).filter(|i| before[*i] != after[*i]) {
            let name = (stage, i as u8);
            if before[i] != NEVER {
                self.forget(name, before[i], key)?;
            }
            if after[i] != NEVER {
                self.new.entry(name).or_default().push(after[i], key);
                self.gathered += key.len() + 16;
            }
        }
        Ok(())
    }

    /// Whether so many were gathered that they should be written.
    pub(super) fn is_full(&self) -> bool {
        self.gathered > GATHERED_BYTES
    }

    /// A posting counts no more.
    fn forget(&mut self, name: Name, time: i64, key: &[u8]) -> Result<(), Damage> {
        let bucket = self.directory.at(name, time, key).filter(|bucket| bucket.live > 0);
        let bucket = bucket.ok_or(Corrupt("a bucket that holds the posting of a row"))?;
        bucket.live -= 1;
        bucket.changed = true;
        self.dead += 1;
        Ok(())
    }

    /// Adds what was gathered to its buckets.
    pub(super) fn write(
        &mut self,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<(), Damage> {
        self.gathered = 0;
        for (name, mut list) in std::mem::take(&mut self.new) {
            list.sort();
            let mut from = 0;
            while from < list.len() {
                let (time, key) = list.get(from);
                let buckets = self.directory.0.entry(name).or_default();
                let at = buckets.partition_point(|bucket| bucket.starts_by(time, key));
                let to = buckets.get(at).map_or(list.len(), |next| {
                    list.partition_point(|time, key| !next.starts_by(time, key))
                });
                let fits = at.checked_sub(1).map(|at| &mut buckets[at]).filter(|bucket| {
                    let bytes = bucket.bytes as usize + bytes_of(&list, from, to);
                    bucket.total as usize + to - from <= MOST && bytes <= MOST_BYTES
                });
                if let Some(bucket) = fits {
                    append(&mut self.runs, bucket, &list, from, to)?;
                } else {
                    self.rewrite(name, at.saturating_sub(1)..at, &list, from..to, rows)?;
                }
                from = to;
            }
        }
        Ok(())
    }

    /// Replaces neighbouring buckets by others that hold what counts of them, and new postings that
    /// belong between the first of them and the one after the last.
    fn rewrite(
        &mut self,
        name: Name,
        old: Range<usize>,
        new: &List,
        which: Range<usize>,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<(), Damage> {
        let buckets = &self.directory.0[&name][old.clone()];
        let mut all = List::default();
        for bucket in buckets {
            read_into(bucket, &self.runs, &mut all)?;
        }
        let garbage = buckets.iter().any(|bucket| bucket.live < bucket.total);
        let live: u64 = buckets.iter().map(|bucket| bucket.live).sum();
        let start = buckets.first().map(|first| (first.time, first.key.clone()));
        if garbage {
            all.sort();
            keep_posted(name, &mut all, rows)?;
        }
        let fresh = which.len() as u64;
        for i in which {
            let (time, key) = new.get(i);
            all.push(time, key);
        }
        all.sort();
        if all.len() as u64 != live + fresh {
            return Err(Corrupt("a posting for each row that its bucket counts").into());
        }
        let before = buckets.to_vec();
        for bucket in &before {
            self.discard(name, bucket)?;
        }
        let (mut start, mut from, mut made) = (start, 0, Vec::new());
        for to in all.cuts(SPLIT, SPLIT_BYTES) {
            let (time, key) = start.take().unwrap_or_else(|| {
                let (time, key) = all.get(from);
                (time, key.into())
            });
            let (id, runs) = (self.next_id, 0);
            self.next_id += 1;
            let mut bucket =
                Bucket { time, key, id, runs, live: 0, total: 0, bytes: 0, changed: true };
            append(&mut self.runs, &mut bucket, &all, from, to)?;
            made.push(bucket);
            from = to;
        }
        let buckets = self.directory.0.get_mut(&name).expect("its buckets were just looked at");
        buckets.splice(old, made);
        Ok(())
    }

    /// Removes what is stored of a bucket.
    fn discard(&mut self, name: Name, bucket: &Bucket) -> Result<(), Damage> {
        for run in 0..bucket.runs {
            self.runs.remove((bucket.id, run))?;
        }
        self.gone.push(bucket.name(name));
        Ok(())
    }

    /// Writes what is left, drops what no row counts on, and stores which buckets there are.
    pub(super) fn finish(
        mut self,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
        table: &mut Table<'_, &'static [u8], Stored>,
    ) -> Result<(Directory, u64), Damage> {
        self.write(rows)?;
        let mut looks = GARBAGE + 2 * self.dead;
        for name in self.directory.0.keys().copied().collect::<Vec<_>>() {
            let buckets = std::mem::take(self.directory.0.get_mut(&name).expect("a name of it"));
            let (live, dead): (Vec<_>, Vec<_>) = buckets.into_iter().partition(|b| b.live > 0);
            self.directory.0.insert(name, live);
            for bucket in dead {
                self.discard(name, &bucket)?;
            }
            self.collect(name, &mut looks, rows)?;
        }
        self.directory.0.retain(|_, buckets| !buckets.is_empty());
        for start in &self.gone {
            table.remove(start.as_slice())?;
        }
        for (name, buckets) in &mut self.directory.0 {
            for bucket in buckets.iter_mut().filter(|bucket| bucket.changed) {
                table.insert(bucket.name(*name).as_slice(), bucket.stored())?;
                bucket.changed = false;
            }
        }
        Ok((self.directory, self.next_id))
    }

    /// Writes buckets that are half garbage anew, where an index has too much of it. The latest come
    /// first: time drops the others sooner.
    fn collect(
        &mut self,
        name: Name,
        looks: &mut u64,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<(), Damage> {
        let sum = |buckets: &[Bucket], of: fn(&Bucket) -> u64| buckets.iter().map(of).sum::<u64>();
        let buckets = &self.directory.0[&name];
        let (live, total) = (sum(buckets, |b| b.live), sum(buckets, |b| b.total));
        if total <= 2 * live + GARBAGE {
            return Ok(());
        }
        let mut to = buckets.len();
        while to > 0 && *looks > 0 {
            // Neighbours are written together, as many as make a bucket or two.
            let buckets = &self.directory.0[&name];
            let is_half = |bucket: &Bucket| bucket.total >= 2 * bucket.live;
            let (mut from, mut count, mut bytes) = (to, 0, 0);
            while from > 0 && is_half(&buckets[from - 1]) {
                let bucket = &buckets[from - 1];
                (count, bytes) = (count + bucket.total, bytes + bucket.bytes);
                let is_much = count > 2 * MOST as u64 || bytes > 2 * MOST_BYTES as u64;
                if from < to && is_much {
                    break;
                }
                from -= 1;
            }
            if from == to {
                to -= 1;
                continue;
            }
            *looks = looks.saturating_sub(sum(&buckets[from..to], |b| b.total));
            self.rewrite(name, from..to, &List::default(), 0..0, rows)?;
            to = from;
        }
        Ok(())
    }
}

fn bytes_of(list: &List, from: usize, to: usize) -> usize {
    // About: what a posting takes on average.
    list.bytes() * (to - from) / list.len().max(1)
}

/// Adds postings to a bucket, all of which count.
fn append(
    runs: &mut Table<'_, (u64, u32), &'static [u8]>,
    bucket: &mut Bucket,
    list: &List,
    from: usize,
    to: usize,
) -> Result<(), Damage> {
    list.pack(from, to, |run| {
        runs.insert((bucket.id, bucket.runs), run)?;
        bucket.runs += 1;
        Ok::<(), Damage>(())
    })?;
    bucket.live += (to - from) as u64;
    bucket.total += (to - from) as u64;
    bucket.bytes += bytes_of(list, from, to) as u64;
    bucket.changed = true;
    Ok(())
}

/// Keeps the postings that rows are posted under.
fn keep_posted(
    (stage, index): Name,
    list: &mut List,
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<(), Damage> {
    let mut keep = vec![false; list.len()];
    let mut name = Vec::new();
    for i in list.by_key() {
        let (time, key) = list.get(i);
        name.clear();
        row::row_key(stage, key, &mut name);
        if let Some(row) = rows.get(name.as_slice())? {
            keep[i] = row::posted(row.value())?[index as usize] == time;
        }
    }
    list.retain(&keep);
    Ok(())
}
