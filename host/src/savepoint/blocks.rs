//! Files of blocks: byte strings one after the other, each with its length before it, compressed by
//! zstd with a checksum.
//!
//! Invariant: a file is read as it was written or an error names it; nothing is left out in silence.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

/// The most bytes of a block that are believed: more than any record of Kafka that Wasmill writes.
const MOST: usize = 64 << 20;

/// How hard to compress: state is mostly read once, if ever.
const LEVEL: i32 = 1;

/// A file of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blocks {
    /// Its name in the folder.
    pub file: String,
    /// How many blocks it has.
    pub count: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Writes blocks.
pub struct Writer {
    path: PathBuf,
    file: String,
    count: u64,
    to: zstd::Encoder<'static, File>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.path.display())
    }
}

impl Writer {
    pub(super) fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        let begin = || -> std::io::Result<_> {
            let mut to = zstd::Encoder::new(File::create(&path)?, LEVEL)?;
            to.include_checksum(true)?;
            Ok(to)
        };
        let to = begin().map_err(Error::io(&path))?;
        Ok(Self { path, file: name.to_owned(), count: 0, to })
    }

    /// Adds a block.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, block: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(block.len()).ok().filter(|length| *length as usize <= MOST);
        let length = length.ok_or_else(|| {
            let why =
                format!("a block of {} bytes is expected to have {MOST} at most", block.len());
            Error::damaged(&self.path, why)
        })?;
        let written = self.to.write_all(&length.to_le_bytes());
        written.and_then(|()| self.to.write_all(block)).map_err(Error::io(&self.path))?;
        self.count += 1;
        Ok(())
    }

    /// Ends the file: it is on disk then.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<Blocks, Error> {
        let Self { path, file, count, to } = self;
        let end = || -> std::io::Result<u64> {
            let written = to.finish()?;
            written.sync_all()?;
            Ok(written.metadata()?.len())
        };
        let bytes = end().map_err(Error::io(&path))?;
        Ok(Blocks { file, count, bytes })
    }
}

/// Reads blocks.
pub struct Reader {
    path: PathBuf,
    left: u64,
    from: zstd::Decoder<'static, BufReader<File>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({}, {} left)", self.path.display(), self.left)
    }
}

impl Reader {
    pub(super) fn open(folder: &Path, blocks: &Blocks) -> Result<Self, Error> {
        let path = folder.join(&blocks.file);
        if Path::new(&blocks.file).components().count() != 1 {
            return Err(Error::damaged(&path, "expected the name of a file in the savepoint"));
        }
        let open = || zstd::Decoder::new(File::open(&path)?);
        let from = open().map_err(Error::io(&path))?;
        Ok(Self { path, left: blocks.count, from })
    }

    /// The next block; none behind the last.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file is not what was written.
    // Not an iterator: an error is the end, and must not be passed over.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.left == 0 {
            let mut rest = [0];
            let more = self.from.read(&mut rest).map_err(|e| self.damaged(&e))?;
            let why = "it goes on behind the last block of the manifest";
            return if more == 0 { Ok(None) } else { Err(Error::damaged(&self.path, why)) };
        }
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(|e| self.damaged(&e))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST {
            let why = format!("found a block of {length} bytes, expected {MOST} at most");
            return Err(Error::damaged(&self.path, why));
        }
        let mut block = vec![0; length];
        self.from.read_exact(&mut block).map_err(|e| self.damaged(&e))?;
        self.left -= 1;
        Ok(Some(block))
    }

    fn damaged(&self, error: &std::io::Error) -> Error {
        Error::damaged(&self.path, format!("{error}, with {} blocks still expected", self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, blocks: &[&[u8]]) -> Blocks {
        let mut writer = Writer::create(folder, "file.zst").unwrap();
        blocks.iter().for_each(|block| writer.write(block).unwrap());
        writer.finish().unwrap()
    }

    fn read(folder: &Path, blocks: &Blocks) -> Result<Vec<Vec<u8>>, Error> {
        let mut reader = Reader::open(folder, blocks)?;
        let mut found = Vec::new();
        while let Some(block) = reader.next()? {
            found.push(block);
        }
        Ok(found)
    }

    #[test]
    fn blocks_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = written(folder.path(), &[b"one", b"", &[7; 100_000]]);
        let expected = vec![b"one".to_vec(), Vec::new(), vec![7; 100_000]];
        assert_eq!(read(folder.path(), &blocks).unwrap(), expected);
        let none = written(folder.path(), &[]);
        assert_eq!(read(folder.path(), &none).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn whatever_byte_is_changed_or_missing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = written(folder.path(), &[b"some block", b"and another one"]);
        let path = folder.path().join("file.zst");
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(read(folder.path(), &blocks).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            std::fs::write(&path, &changed).unwrap();
            let found = read(folder.path(), &blocks);
            let same = found.is_ok_and(|found| found == [&b"some block"[..], b"and another one"]);
            // A bit of zstd's header that means nothing may differ.
            assert!(same || read(folder.path(), &blocks).is_err(), "changed at {at}");
        }
        std::fs::write(&path, &bytes).unwrap();
        for count in [1, 3] {
            assert!(read(folder.path(), &Blocks { count, ..blocks.clone() }).is_err(), "{count}");
        }
        let outside = Blocks { file: "../file.zst".into(), ..blocks };
        assert!(Reader::open(folder.path(), &outside).is_err());
    }
}
