//! The file system calls. Invariant: each failure names the path and what was tried.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// Makes the entries of a directory (files created, renamed, removed) durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        let file = File::open(dir).map_err(Error::io(dir, "open"))?;
        file.sync_all().map_err(Error::io(dir, "sync"))?;
    }
    Ok(())
}

/// Creates a directory with its parents; it is durable after [`sync_dir`] of its parent.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io(dir, "create"))
}

/// Creates a directory with its parents so that it is there after a crash.
pub(crate) fn create_dir_durably(dir: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|a| !a.exists()).collect();
    create_dir(dir)?;
    for created in missing {
        match created.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new("."))?,
            Some(parent) => sync_dir(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// The names in a directory; none when it does not exist.
pub(crate) fn entries(dir: &Path) -> Result<Vec<OsString>, Error> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir, "list")(e)),
    };
    listing
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<_, _>>()
        .map_err(Error::io(dir, "list"))
}

/// Removes a file or a whole directory; that it is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// The content of a file; none when it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "read")(e)),
    }
}

/// Replaces `dir/name` so that after a crash at any instant it has the old or the new content, and
/// once this returns the new.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = dir.join(name);
    let temporary = temporary(dir, name);
    let mut file = File::create(&temporary).map_err(Error::io(&temporary, "create"))?;
    file.write_all(content).map_err(Error::io(&temporary, "write"))?;
    file.sync_all().map_err(Error::io(&temporary, "sync"))?;
    fs::rename(&temporary, &path).map_err(Error::io(&path, "replace"))?;
    sync_dir(dir)
}

/// Where [`replace`] writes before it renames.
pub(crate) fn temporary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.tmp"))
}
