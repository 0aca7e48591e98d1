//! Opening a data directory again.
//!
//! Invariant: afterwards `topics` has what the commit names, byte for byte, and nothing else; when
//! that is impossible nothing was removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::manifest::{self, Manifest, Segment, segment_path};
use crate::{Error, disk, topic};

/// Reads the commit of `dir`, or makes the first one of a new log, and takes back what was written
/// after it.
pub(crate) fn recover(dir: &Path) -> Result<Manifest, Error> {
    let topics = topic::root(dir);
    let manifest = match Manifest::read(dir)? {
        Some(manifest) => manifest,
        None if disk::entries(&topics)?.is_empty() => {
            // Before the first topic there is a commit. So topics without one mean that it was lost.
            let manifest = Manifest::new(0, [].into(), serde_json::Value::Null);
            manifest.write(dir)?;
            manifest
        }
        None => return Err(Error::CommitMissing { dir: dir.to_owned() }),
    };
    let mut leftovers = Leftovers::default();
    leftovers.compare(&topics, &manifest.topics.keys().cloned().collect::<Vec<_>>())?;
    for (name, entry) in &manifest.topics {
        let partitions: Vec<String> = (0..entry.partitions.len()).map(|p| p.to_string()).collect();
        leftovers.compare(&topics.join(name), &partitions)?;
        for (directory, partition) in partitions.iter().zip(&entry.partitions) {
            let directory = topics.join(name).join(directory);
            disk::create_dir(&directory)?;
            let path = |s: &Segment| segment_path(&directory, s.number());
            let files: Vec<PathBuf> = partition.segments.iter().map(path).collect();
            let names = files.iter().filter_map(|f| f.file_name()?.to_str().map(str::to_owned));
            leftovers.compare(&directory, &names.collect::<Vec<_>>())?;
            for (file, segment) in files.into_iter().zip(&partition.segments) {
                leftovers.measure(file, segment.bytes)?;
            }
        }
    }
    leftovers.clear(dir)?;
    Ok(manifest)
}

/// What is on disk beyond the commit.
#[derive(Debug, Default)]
struct Leftovers {
    /// Files and directories that it does not name.
    unnamed: Vec<PathBuf>,
    /// Files that are longer, with the length they should have and the one they have.
    longer: Vec<(PathBuf, u64, u64)>,
}

impl Leftovers {
    fn compare(&mut self, directory: &Path, names: &[String]) -> Result<(), Error> {
        let unnamed = disk::entries(directory)?
            .into_iter()
            .filter(|entry| !names.iter().any(|name| entry == name.as_str()))
            .map(|entry| directory.join(entry));
        self.unnamed.extend(unnamed);
        Ok(())
    }

    fn measure(&mut self, path: PathBuf, committed: u64) -> Result<(), Error> {
        let found = match fs::metadata(&path) {
            Ok(metadata) => Some(metadata.len()),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io(&path, "look at")(e)),
        };
        match found {
            Some(found) if found == committed => {}
            Some(found) if found > committed => self.longer.push((path, committed, found)),
            _ => return Err(Error::Lost { path, committed, found }),
        }
        Ok(())
    }

    fn clear(&self, dir: &Path) -> Result<(), Error> {
        disk::remove(&disk::temporary(dir, manifest::FILE))?;
        for path in &self.unnamed {
            disk::remove(path)?;
            tracing::info!(path = %path.display(), "removed what was not committed");
        }
        for (path, committed, found) in &self.longer {
            let file = File::options().write(true).open(path).map_err(Error::io(path, "open"))?;
            file.set_len(*committed).map_err(Error::io(path, "truncate"))?;
            let bytes = found - committed;
            tracing::info!(path = %path.display(), bytes, "took back what was not committed");
        }
        Ok(())
    }
}
