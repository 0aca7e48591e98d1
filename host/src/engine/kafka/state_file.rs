//! Opening the state file of a task, which is a copy of what its changelog holds.
//!
//! Invariant: a file that can't be read never ends a run: it goes, and all of it is restored. One that
//! can't be used for reasons that lie elsewhere, as on a full disk, stays.

use std::path::Path;

use crate::engine::Error;
use crate::store::{self, State};

/// Opens a state file, an empty one where there is none or it is damaged, with so many bytes of cache.
/// Returns it with the record of the changelog that it goes on with.
///
/// # Errors
/// When no file can be made there.
pub(super) fn open(path: &Path, cache: usize) -> Result<(State, i64), Error> {
    match read(path, cache) {
        Err(error) if path.exists() => replace(path, cache, error),
        result => Ok(result?),
    }
}

fn read(path: &Path, cache: usize) -> Result<(State, i64), store::Error> {
    let state = State::open(path, cache)?;
    let applied = state.applied()?;
    Ok((state, i64::try_from(applied).unwrap_or(i64::MAX)))
}

/// Opens an empty file in the place of one that can't be opened.
fn replace(path: &Path, cache: usize, error: store::Error) -> Result<(State, i64), Error> {
    let aside = path.with_extension("redb.damaged");
    if std::fs::rename(path, &aside).is_err() {
        return Err(error.into());
    }
    match read(path, cache) {
        Ok(opened) => {
            tracing::warn!("{error}; it is removed, and restored from the changelog");
            if let Err(e) = std::fs::remove_file(&aside) {
                tracing::warn!("{}: can't be removed: {e}", aside.display());
            }
            Ok(opened)
        }
        // It is not the file: one that is whole may be under this name.
        Err(_) => {
            let _ = std::fs::rename(&aside, path);
            Err(error.into())
        }
    }
}

/// Removes a state file and makes an empty one.
///
/// # Errors
/// When that can't be done.
pub(super) fn anew(state: State, path: &Path, cache: usize) -> Result<State, Error> {
    drop(state);
    remove(path)?;
    Ok(State::open(path, cache)?)
}

/// Removes a state file, if there is one.
///
/// # Errors
/// When it can't be removed.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Shape(format!("{}: can't be removed: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CACHE: usize = 4 << 20;

    /// It ended the run, at each start, though the changelog had everything.
    #[test]
    fn a_damaged_file_makes_room_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0-1.redb");
        for damage in [&b"no database"[..], &[0; 100_000]] {
            fs::write(&path, damage).unwrap();
            let (state, applied) = open(&path, CACHE).unwrap();
            assert_eq!(applied, 0);
            state.apply(std::iter::empty(), 7).unwrap();
            drop(state);
            assert_eq!(open(&path, CACHE).unwrap().1, 7);
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left of the damaged ones");
    }

    #[test]
    fn a_file_stays_where_no_other_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0-1.redb");
        fs::write(&path, "no database").unwrap();
        // In the way of a new one.
        fs::create_dir(path.with_extension("redb.new")).unwrap();
        assert!(open(&path, CACHE).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "no database");
    }
}
