//! The content of `COMMIT`: one line of JSON (a [`Manifest`]), then the line `crc32c xxxxxxxx`, the
//! CRC-32C of the first line without its end, as eight hexadecimal digits.
//!
//! Invariant: a manifest that was read names only valid topics and ascending segments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::topic::{self, TopicOptions};
use crate::{Error, disk};

/// The file that is the commit point.
pub(crate) const FILE: &str = "COMMIT";

/// The version of the data directory's format.
const FORMAT: u32 = 1;

/// Everything that a commit makes durable, but for the frames themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The committed epoch; 0 for a new log.
    pub(crate) epoch: u64,
    /// The topics by name.
    pub(crate) topics: BTreeMap<String, TopicEntry>,
    /// What the application committed along with them; null for a new log.
    pub(crate) payload: serde_json::Value,
}

/// A committed topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TopicEntry {
    pub(crate) options: TopicOptions,
    pub(crate) partitions: Vec<PartitionEntry>,
}

/// A committed partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PartitionEntry {
    /// The offset of the next record.
    pub(crate) end: u64,
    /// Its segments, ascending; none before the first append.
    pub(crate) segments: Vec<Segment>,
}

/// A segment file, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The offset of its first record; of the next one when it has none but only watermarks.
    pub(crate) base: u64,
    /// What names the file; none when that is `base`, which segments before it may have taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// How many of its bytes count.
    pub(crate) bytes: u64,
}

impl Segment {
    /// An empty segment behind `last`, whose next record has the offset `base`.
    pub(crate) fn behind(last: Option<&Self>, base: u64) -> Self {
        let least = last.map_or(0, |last| last.number() + 1);
        Self { base, number: (least > base).then_some(least), bytes: 0 }
    }

    /// What names the file and orders the segments of a partition.
    pub(crate) fn number(&self) -> u64 {
        self.number.unwrap_or(self.base)
    }
}

impl Manifest {
    pub(crate) fn new(
        epoch: u64,
        topics: BTreeMap<String, TopicEntry>,
        payload: serde_json::Value,
    ) -> Self {
        Self { format: FORMAT, epoch, topics, payload }
    }

    /// Reads the commit of `dir`; none when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        disk::read(&path)?.map(|content| Self::parse(&path, &content)).transpose()
    }

    /// Makes this the commit of `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let mut content =
            serde_json::to_vec(self).expect("every key of a commit and its payload is a string");
        let crc = crc32c::crc32c(&content);
        content.extend_from_slice(format!("\ncrc32c {crc:08x}\n").as_bytes());
        disk::replace(dir, FILE, &content)
    }

    fn parse(path: &Path, content: &[u8]) -> Result<Self, Error> {
        let corrupt = |byte: usize, found: String, expected: &str| Error::Corrupt {
            path: path.to_owned(),
            byte: byte as u64,
            found,
            expected: expected.to_owned(),
        };
        let json = content.split(|b| *b == b'\n').next().unwrap_or_default();
        let crc = format!("\ncrc32c {:08x}\n", crc32c::crc32c(json));
        let rest = &content[json.len()..];
        if rest != crc.as_bytes() {
            let found = format!("{:?}", String::from_utf8_lossy(&rest[..rest.len().min(40)]));
            return Err(corrupt(json.len(), found, &format!("the checksum {crc:?}")));
        }
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(json)
            .map_err(|e| corrupt(0, e.to_string(), "a JSON object with the number `format`"))?;
        if version.format != FORMAT {
            return Err(Error::FormatVersion {
                path: path.to_owned(),
                found: version.format,
                supported: FORMAT,
            });
        }
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|e| corrupt(e.column(), e.to_string(), "a commit"))?;
        for (name, topic) in &manifest.topics {
            topic::check_name(name)?;
            if !topic.partitions.iter().all(PartitionEntry::is_sound) {
                return Err(corrupt(
                    0,
                    format!("segments of topic {name:?} that don't fit together"),
                    "ascending segments that begin at or before the end offset",
                ));
            }
        }
        Ok(manifest)
    }
}

impl PartitionEntry {
    /// The first offset.
    pub(crate) fn start(&self) -> u64 {
        self.segments.first().map_or(self.end, |s| s.base)
    }

    fn is_sound(&self) -> bool {
        let ascend =
            |pair: &[Segment]| pair[0].number() < pair[1].number() && pair[0].base <= pair[1].base;
        self.segments.windows(2).all(ascend)
            && self.segments.iter().all(|s| s.number() >= s.base)
            && self.segments.last().map_or(self.end == 0, |last| last.base <= self.end)
    }
}

/// The file of the segment with this number.
pub(crate) fn segment_path(partition_dir: &Path, number: u64) -> PathBuf {
    partition_dir.join(format!("{number:020}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(dir: &Path) -> (Manifest, Vec<u8>) {
        let first = Segment { bytes: 9, ..Segment::behind(None, 7) };
        let topic = TopicEntry {
            options: TopicOptions::default(),
            partitions: vec![PartitionEntry {
                end: u64::MAX,
                segments: vec![first, Segment { bytes: 3, ..Segment::behind(Some(&first), 7) }],
            }],
        };
        let payload = json!({"a": 0.1 + 0.2, "b": [u64::MAX, i64::MIN, 1e300], "c": "x\ny"});
        let manifest = Manifest::new(3, [("t".to_owned(), topic)].into(), payload);
        manifest.write(dir).unwrap();
        (manifest, std::fs::read(dir.join(FILE)).unwrap())
    }

    #[test]
    fn a_commit_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        let (manifest, _) = written(dir.path());
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest));
    }

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (_, content) = written(dir.path());
        let path = dir.path().join(FILE);
        for bit in 0..content.len() * 8 {
            let mut bad = content.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&path, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..content.len() {
            let error = Manifest::parse(&path, &content[..cut]).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn a_commit_of_a_later_format_says_so() {
        let json = br#"{"format":2,"later":true}"#;
        let content =
            [&json[..], format!("\ncrc32c {:08x}\n", crc32c::crc32c(json)).as_bytes()].concat();
        let error = Manifest::parse(Path::new("COMMIT"), &content).unwrap_err();
        assert!(matches!(error, Error::FormatVersion { found: 2, supported: 1, .. }));
    }
}
