//! Opens the file of a sink. Invariant: it is opened at the length of the last commit or not at all.

#[cfg(unix)]
use std::fs::File;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use super::Error;
use super::output::{Output, Target};

/// Opens a file. What is no regular file, such as a device or a pipe, is only written to: at least
/// once, like standard output.
pub(super) fn open(
    sink: &str,
    path: &Path,
    id: String,
    committed: Option<u64>,
) -> Result<Output, Error> {
    let shown = path.display().to_string();
    let io = |action| {
        let (sink, path) = (sink.to_owned(), shown.clone());
        move |source| Error::Io { sink, path, action, source }
    };
    let lost = |found| {
        let (sink, path, committed) = (sink.to_owned(), shown.clone(), committed.unwrap_or(0));
        Error::Lost { sink, path, committed, found }
    };
    let before = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Error::Folder { sink: sink.to_owned(), path: shown });
        }
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io("look at")(e)),
    };
    if let Some(metadata) = &before
        && !metadata.is_file()
    {
        let file = OpenOptions::new().write(true).open(path).map_err(io("open"))?;
        let target = Target::File { file, is_durable: false };
        return Ok(Output::new(sink, shown, id, target, committed.unwrap_or(0)));
    }
    let found = before.as_ref().map(std::fs::Metadata::len);
    match committed {
        Some(committed) if found.unwrap_or(0) < committed => return Err(lost(found)),
        None if found.is_some_and(|length| length > 0) => {
            let length = found.unwrap_or(0);
            return Err(Error::Occupied { sink: sink.to_owned(), path: shown, length });
        }
        _ => {}
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(io("create the folder of"))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io("open"))?;
    let length = committed.unwrap_or(0);
    if let Some(found) = found
        && found > length
    {
        let cut = found - length;
        tracing::info!(sink, path = shown, bytes = cut, "cut off what follows the last commit");
        file.set_len(length).map_err(io("cut off"))?;
    }
    file.seek(SeekFrom::Start(length)).map_err(io("seek in"))?;
    if before.is_none() {
        sync_folders(folder).map_err(io("sync the folder of"))?;
    }
    Ok(Output::new(sink, shown, id, Target::File { file, is_durable: true }, length))
}

/// Makes the names of a new file and its folders durable.
#[cfg(unix)]
fn sync_folders(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()?;
    for above in std::path::absolute(folder)?.ancestors().skip(1) {
        // Folders that were there before need not be readable.
        match File::open(above) {
            Ok(above) => above.sync_all()?,
            Err(_) => break,
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn sync_folders(_: &Path) -> io::Result<()> {
    Ok(())
}
