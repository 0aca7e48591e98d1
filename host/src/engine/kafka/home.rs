//! The data directory of an instance on Kafka: its name, and what its state belongs to.
//!
//! Invariant: one process at a time has it, and its state is of one group of one cluster.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

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
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
        let mut instance = Instance::open(dir, true)?.expect("it is made");
        let words: Vec<String> = instance.read()?.split_whitespace().map(str::to_owned).collect();
        let name = match words.as_slice() {
            [name, of_cluster, of_group] => {
                if (of_cluster.as_str(), of_group.as_str()) != (cluster, group) {
                    return Err(Error::Shape(format!(
                        "{}: the data directory has state of group {of_group} of Kafka cluster \
                         {of_cluster}, this is group {group} of cluster {cluster}; use another \
                         --data-dir, or --fresh to remove it",
                        dir.display()
                    )));
                }
                return Ok(Self { instance: name.clone(), _lock: instance.file });
            }
            // It was cleared.
            [name] => name.clone(),
            _ => {
                let random = || RandomState::new().hash_one(std::process::id());
                format!("{:016x}", random() ^ random().rotate_left(32))
            }
        };
        instance.write(&format!("{name} {cluster} {group}"))?;
        Ok(Self { instance: name, _lock: instance.file })
    }
}

/// Removes the state that an instance has in a data directory, which may be of another group or cluster.
/// Its name stays, and so does all that is on Kafka. Returns whether there was an instance.
///
/// # Errors
/// When a process uses it, or something can't be removed.
pub fn clear(dir: &Path) -> Result<bool, Error> {
    let Some(mut instance) = Instance::open(dir, false)? else { return Ok(false) };
    let name = instance.read()?.split_whitespace().next().unwrap_or_default().to_owned();
    let state = dir.join("state");
    match std::fs::remove_dir_all(&state) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(&state, &e)),
        _ => {}
    }
    instance.write(&name)?;
    Ok(true)
}

/// The file with the name of an instance, locked.
struct Instance {
    file: File,
    path: PathBuf,
}

impl Instance {
    /// None where there is no such file and none is to be made.
    fn open(dir: &Path, create: bool) -> Result<Option<Self>, Error> {
        let path = dir.join("instance");
        let opened =
            File::options().read(true).write(true).create(create).truncate(false).open(&path);
        let file = match opened {
            Err(e) if e.kind() == ErrorKind::NotFound && !create => return Ok(None),
            opened => opened.map_err(|e| failed(&path, &e))?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, path })),
            Err(TryLockError::WouldBlock) => Err(Error::Shape(format!(
                "{}: the data directory is in use by another process; stop that one first, or give each \
                 instance its own --data-dir",
                dir.display()
            ))),
            Err(TryLockError::Error(e)) => Err(failed(&path, &e)),
        }
    }

    fn read(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        self.file.read_to_string(&mut text).map_err(|e| failed(&self.path, &e))?;
        Ok(text)
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            writeln!(self.file, "{text}")?;
            self.file.sync_all()
        };
        write().map_err(|e| failed(&self.path, &e))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Shape(format!("data directory: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// `--fresh` did nothing on Kafka, though messages advised it.
    #[test]
    fn what_is_cleared_has_no_state_and_may_be_of_another_group() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(!clear(dir).unwrap(), "there is nothing yet");
        let home = Home::open(dir, "cluster", "one").unwrap();
        let name = home.instance.clone();
        assert!(clear(dir).unwrap_err().to_string().contains("in use"));
        drop(home);
        fs::create_dir(dir.join("state")).unwrap();
        fs::write(dir.join("state/0-0.redb"), "state").unwrap();
        let error = Home::open(dir, "cluster", "another").err().unwrap().to_string();
        assert!(error.contains("--fresh"), "{error}");
        assert!(clear(dir).unwrap());
        assert!(!dir.join("state").exists());
        // By its name a transaction that was left open is aborted.
        assert_eq!(Home::open(dir, "cluster", "another").unwrap().instance, name);
        assert_eq!(Home::open(dir, "cluster", "another").unwrap().instance, name);
    }
}
