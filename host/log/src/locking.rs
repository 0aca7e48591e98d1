//! The lock on a data directory. Invariant: at most one [`DirLock`] per directory is alive.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::Error;

/// The exclusive right to write a data directory, until dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: File,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing is not enough at once when a child process is being started just now: until it
        // runs its program it has the file too. That unlocking fails can't be helped, closing does.
        let _closed_next = self.file.unlock();
    }
}

impl DirLock {
    /// Takes the lock of `dir` and writes the process id into it.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process or another open log of this one has it.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _unreadable_is_no_pid = file.read_to_string(&mut pid);
                return Err(Error::Locked { dir: dir.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock")(e)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::io(&path, "write"))?;
        Ok(Self { file })
    }
}
