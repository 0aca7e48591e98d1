//! Copies of folders that are on disk when they are done.

use std::fs::File;
use std::path::Path;

use super::Error;

/// Copies a folder with everything in it to `to`, which must not exist, but for files named `but`.
/// Returns how many bytes its files have. Links are followed.
///
/// # Errors
/// [`Error::Io`] naming the file or folder; what was copied by then is left.
pub fn copy(from: &Path, to: &Path, but: &str) -> Result<u64, Error> {
    std::fs::create_dir_all(to).map_err(Error::io(to))?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(from).map_err(Error::io(from))? {
        let entry = entry.map_err(Error::io(from))?;
        if entry.file_name() == but {
            continue;
        }
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            bytes += copy(&path, &target, but)?;
        } else {
            bytes += std::fs::copy(&path, &target).map_err(Error::io(&path))?;
            File::open(&target).and_then(|f| f.sync_all()).map_err(Error::io(&target))?;
        }
    }
    File::open(to).and_then(|f| f.sync_all()).map_err(Error::io(to))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_copied_but_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("a/b"));
        std::fs::create_dir_all(from.join("in/side")).unwrap();
        std::fs::write(from.join("in/side/file"), "12345").unwrap();
        std::fs::write(from.join("lock"), "1").unwrap();
        std::fs::write(from.join("other"), "123").unwrap();
        assert_eq!(copy(&from, &to, "lock").unwrap(), 8);
        assert_eq!(std::fs::read(to.join("in/side/file")).unwrap(), b"12345");
        assert!(to.join("other").exists() && !to.join("lock").exists());
        let error = copy(&folder.path().join("missing"), &to, "").unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
