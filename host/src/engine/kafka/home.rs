//! The data directory of an instance on Kafka: its name, and what its state belongs to.
//!
//! Invariant: one process at a time has it, and its state is of one group of one cluster.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;

use crate::engine::Error;

/// A data directory that this process has.
pub(super) struct Home {
    /// What tells this instance from others. It stays the same when it is started again, so that a
    /// transaction that was left open is aborted at once (KIP-98).
    pub(super) instance: String,
    _lock: File,
}

impl Home {
    pub(super) fn open(dir: &Path, cluster: &str, group: &str) -> Result<Self, Error> {
        let failed = |path: &Path, e: std::io::Error| {
            Error::Shape(format!("data directory: {}: {e}", path.display()))
        };
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        let path = dir.join("instance");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed(&path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Shape(format!(
                    "{}: the data directory is in use by another process; stop that one first, or \
                     give each instance its own --data-dir",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(&path, e)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| failed(&path, e))?;
        let mut words = text.split_whitespace();
        if let (Some(instance), Some(of_cluster), Some(of_group)) =
            (words.next(), words.next(), words.next())
        {
            if (of_cluster, of_group) != (cluster, group) {
                return Err(Error::Shape(format!(
                    "{}: the data directory has state of group {of_group} of Kafka cluster \
                     {of_cluster}, this is group {group} of cluster {cluster}; use another --data-dir, \
                     or --fresh to remove it",
                    dir.display()
                )));
            }
            return Ok(Self { instance: instance.to_owned(), _lock: file });
        }
        let random = || RandomState::new().hash_one(std::process::id());
        let instance = format!("{:016x}", random() ^ random().rotate_left(32));
        file.set_len(0).map_err(|e| failed(&path, e))?;
        writeln!(file, "{instance} {cluster} {group}").map_err(|e| failed(&path, e))?;
        file.sync_all().map_err(|e| failed(&path, e))?;
        Ok(Self { instance, _lock: file })
    }
}
