//! The file beneath redb: blocks of 4 KiB, each with a checksum that is looked at whenever one is read.
//!
//! redb trusts what it reads; its own checksums are for what a crash left half written. Invariant:
//! redb sees no byte that is not the one it wrote: where the disk gives another one, reading is an
//! error, and what was found is in [`Blocks::damage`].
//!
//! The file is groups of 1,025 blocks: the checksums of the 1,024 behind it, u32 LE each, then those.
//! A checksum covers the number of its block too; 0 stands for a block that was never written. Block 0
//! is redb's header, the only one that is written in place. Its checksum is in its own first sector,
//! written with it in one piece; where that of block 0 would be, the file says what it is.
//!
//! A crash at any instant leaves the checksums right of all that redb reads afterwards: a commit syncs
//! blocks and their checksums before its header names them (it is in two phases, see `super::State`),
//! and a block that is named is not written again. It takes a disk that writes a sector of 512 bytes
//! as a whole, or not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

const BLOCK: u64 = 4_096;
/// Blocks of a group, besides that of their checksums.
const GROUP: u64 = BLOCK / 4;
/// What the file begins with.
const MAGIC: [u8; 4] = *b"WMS2";
/// What a file begins with that redb wrote by itself.
const BARE: [u8; 4] = *b"redb";
/// Bytes of the header's sector, and of them those before the checksum.
const SECTOR: usize = 512;
const HEADER: usize = SECTOR - 4;

/// A file that redb works on.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Box<dyn StorageBackend>,
    sums: RwLock<Sums>,
    /// What was found damaged first.
    damage: Arc<OnceLock<String>>,
}

/// Checksums by group, as far as they were needed yet, and the groups that differ from the file.
#[derive(Debug, Default)]
struct Sums {
    groups: Vec<Option<Box<[u32]>>>,
    changed: BTreeSet<usize>,
}

impl Blocks {
    /// Opens a file, or makes an empty one.
    ///
    /// # Errors
    /// When that can't be done, or it is another kind of file; with what to do.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, String> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = FileBackend::new(file.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        Self::over(Box::new(file))
    }

    /// The same over whatever takes the place of a file.
    ///
    /// # Errors
    /// When it can't be read, or is of another kind.
    pub(super) fn over(file: Box<dyn StorageBackend>) -> std::result::Result<Self, String> {
        if file.len().map_err(|e| e.to_string())? > 0 {
            let mut magic = [0; 4];
            match file.read(0, &mut magic) {
                Ok(()) if magic == MAGIC => {}
                Ok(()) if magic == BARE => {
                    return Err(format!(
                        "has an older version of the format, and this program reads version {}; use \
                         the program that wrote it, or run from the beginning with another \
                         --data-dir",
                        super::FORMAT
                    ));
                }
                _ => return Err(format!("does not begin like a state file: {}", super::RESTORE)),
            }
        }
        Ok(Self { file, sums: RwLock::default(), damage: Arc::default() })
    }

    /// What was found damaged first, once something was.
    pub(super) fn damage(&self) -> Arc<OnceLock<String>> {
        self.damage.clone()
    }

    fn damaged(&self, what: String) -> Error {
        let what = self.damage.get_or_init(|| what);
        Error::new(ErrorKind::InvalidData, what.as_str())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(at, out).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.damaged(format!("it ends before byte {at}")),
            _ => e,
        })
    }

    /// Reads the checksums of a group, where that was not done yet.
    fn load(&self, group: usize) -> Result<()> {
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        if sums.groups.len() <= group {
            sums.groups.resize(group + 1, None);
        }
        if sums.groups[group].is_none() {
            let mut block = [0; BLOCK as usize];
            self.read_at(place_of_sums(group), &mut block)?;
            let (words, _) = block.as_chunks();
            let mut all: Box<[u32]> = words.iter().copied().map(u32::from_le_bytes).collect();
            if group == 0 {
                all[0] = u32::from_le_bytes(MAGIC);
            }
            sums.groups[group] = Some(all);
        }
        Ok(())
    }

    /// Compares blocks of a group with their checksums.
    fn verify(&self, first: u64, data: &[u8]) -> Result<()> {
        let (group, at) = ((first / GROUP) as usize, (first % GROUP) as usize);
        let is_loaded = |sums: &Sums| sums.groups.get(group).is_some_and(Option::is_some);
        if !is_loaded(&self.sums.read().unwrap_or_else(PoisonError::into_inner)) {
            self.load(group)?;
        }
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        let sums = sums.groups.get(group).and_then(Option::as_deref).unwrap_or_default();
        for ((n, block), sum) in (first..).zip(data.chunks(BLOCK as usize)).zip(&sums[at..]) {
            if checksum(n, block) != *sum {
                let place = place_of(n);
                let what = "does not have the checksum that it was written with";
                return Err(self.damaged(format!("the block of 4096 bytes at byte {place} {what}")));
            }
        }
        Ok(())
    }
}

impl StorageBackend for Blocks {
    fn len(&self) -> Result<u64> {
        let bytes = self.file.len()?;
        let (full, rest) = (bytes / BLOCK / (GROUP + 1), bytes / BLOCK % (GROUP + 1));
        if !bytes.is_multiple_of(BLOCK) || rest == 1 {
            return Err(self.damaged(format!("it has {bytes} bytes, a length that it never had")));
        }
        Ok((full * GROUP + rest.saturating_sub(1)) * BLOCK)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if offset == 0 && out.len() <= HEADER {
            let mut sector = [0; SECTOR];
            self.read_at(place_of(0), &mut sector)?;
            let (header, sum) = sector.split_at(HEADER);
            if crc32c::crc32c(header).to_le_bytes() != sum {
                let what = "its header does not have the checksum that it was written with";
                return Err(self.damaged(what.into()));
            }
            out.copy_from_slice(&header[..out.len()]);
            return Ok(());
        }
        for (first, part) in parts(offset, out.len())? {
            let data = &mut out[part];
            self.read_at(place_of(first), data)?;
            self.verify(first, data)?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        if offset == 0 && data.len() <= HEADER {
            let mut sector = [0; SECTOR];
            sector[..data.len()].copy_from_slice(data);
            let sum = crc32c::crc32c(&sector[..HEADER]).to_le_bytes();
            sector[HEADER..].copy_from_slice(&sum);
            return self.file.write(place_of(0), &sector);
        }
        for (first, part) in parts(offset, data.len())? {
            let data = &data[part];
            let (group, at) = ((first / GROUP) as usize, (first % GROUP) as usize);
            self.load(group)?;
            self.file.write(place_of(first), data)?;
            let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
            let all = sums.groups[group].as_mut().expect("a group that is written was loaded");
            let blocks = (first..).zip(data.chunks(BLOCK as usize));
            for ((n, block), sum) in blocks.zip(&mut all[at..]) {
                *sum = checksum(n, block);
            }
            sums.changed.insert(group);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let blocks = len / BLOCK;
        let groups = blocks.div_ceil(GROUP);
        let is_new = self.file.len()? == 0;
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        sums.groups.truncate(groups as usize);
        sums.changed.retain(|group| (*group as u64) < groups);
        self.file.set_len((blocks + groups) * BLOCK)?;
        drop(sums);
        if is_new && groups > 0 {
            // So that the file says what it is.
            self.load(0)?;
            self.sums.write().unwrap_or_else(PoisonError::into_inner).changed.insert(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        for group in std::mem::take(&mut sums.changed) {
            let all = sums.groups[group].as_deref().expect("a group that has changed was loaded");
            let block: Vec<u8> = all.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            self.file.write(place_of_sums(group), &block)?;
        }
        drop(sums);
        self.file.sync_data()
    }

    fn close(&self) -> Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_range(from, to)
    }

    fn try_lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_shared_range(from, to)
    }

    fn lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<()> {
        self.file.lock_range(from, to)
    }

    fn lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<()> {
        self.file.lock_shared_range(from, to)
    }

    fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<()> {
        self.file.unlock_range(from, to)
    }

    fn query_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Locked<bool> {
        self.file.query_lock_range(from, to)
    }
}

type Locked<T> = std::result::Result<T, BackendError>;

/// Where a block is in the file.
fn place_of(block: u64) -> u64 {
    (block / GROUP * (GROUP + 1) + 1 + block % GROUP) * BLOCK
}

/// Where the checksums of a group are in the file.
fn place_of_sums(group: usize) -> u64 {
    group as u64 * (GROUP + 1) * BLOCK
}

fn checksum(number: u64, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), block).max(1)
}

/// The blocks from an offset on, in parts that are of one group each: the first block, and where its
/// part is in what is read or written.
fn parts(offset: u64, len: usize) -> Result<impl Iterator<Item = (u64, std::ops::Range<usize>)>> {
    if offset == 0 || !offset.is_multiple_of(BLOCK) || !(len as u64).is_multiple_of(BLOCK) {
        return Err(Error::new(ErrorKind::InvalidInput, "redb works on pages of 4096 bytes"));
    }
    let (start, mut first, end) = (offset / BLOCK, offset / BLOCK, (offset + len as u64) / BLOCK);
    Ok(std::iter::from_fn(move || {
        let from = first;
        first = end.min((from / GROUP + 1) * GROUP);
        let bytes = |block: u64| ((block - start) * BLOCK) as usize;
        (from < end).then(|| (from, bytes(from)..bytes(first)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_across_groups_is_read_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0");
        let data: Vec<u8> = (0..4 * BLOCK).map(|i| (i / 7) as u8).collect();
        let at = (2 * GROUP - 2) * BLOCK;
        let blocks = Blocks::open(&path).unwrap();
        blocks.set_len(at + 4 * BLOCK).unwrap();
        blocks.write(0, &[7; 320]).unwrap();
        blocks.write(at, &data).unwrap();
        let check = |blocks: &Blocks| {
            assert_eq!(blocks.len().unwrap(), at + 4 * BLOCK);
            let (mut header, mut found) = ([0; 320], vec![0; data.len()]);
            blocks.read(0, &mut header).unwrap();
            blocks.read(at, &mut found).unwrap();
            assert!(header == [7; 320] && found == data);
            let error = blocks.read(BLOCK, &mut [0; BLOCK as usize]).unwrap_err().to_string();
            assert!(error.contains("at byte 8192"), "what was never written: {error}");
        };
        check(&blocks);
        blocks.sync_data().unwrap();
        blocks.close().unwrap();
        let blocks = Blocks::open(&path).unwrap();
        check(&blocks);
        // What is cut off and comes back holds nothing.
        blocks.set_len((2 * GROUP) * BLOCK).unwrap();
        blocks.set_len(at + 4 * BLOCK).unwrap();
        assert!(blocks.read(at, &mut vec![0; data.len()]).is_err());
        blocks.read(at, &mut vec![0; 2 * BLOCK as usize]).unwrap();
    }

    #[test]
    fn a_block_in_the_place_of_another_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = Blocks::open(&folder.path().join("0")).unwrap();
        blocks.set_len(4 * BLOCK).unwrap();
        blocks.write(BLOCK, &[1; BLOCK as usize]).unwrap();
        blocks.write(2 * BLOCK, &[2; BLOCK as usize]).unwrap();
        blocks.file.write(place_of(1), &[2; BLOCK as usize]).unwrap();
        assert!(blocks.read(BLOCK, &mut [0; BLOCK as usize]).is_err());
        assert!(blocks.damage().get().unwrap().contains("byte 8192"));
    }
}
