//! Files as input. Invariant: reading begins at the start of a line, or at the end of a file whose
//! last line has no newline and is not followed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::compression::{MAGIC_BYTES, Method, decode};
use super::lines::BLOCK_BYTES;
use super::reader::Input;
use super::{Error, Partition, Position};

/// A file that is followed.
pub(super) struct Watch {
    path: PathBuf,
    file: File,
}

/// What has become of a file that is followed.
pub(super) enum Fate {
    Same,
    /// It has this length in bytes, less than was read.
    Shrunk(u64),
    /// The path leads to another file, or to none.
    Moved,
}

impl Watch {
    /// What has become of the file, of which `read` bytes were read.
    pub fn look(&self, read: u64) -> io::Result<Fate> {
        let now = self.file.metadata()?;
        if now.len() < read {
            return Ok(Fate::Shrunk(now.len()));
        }
        match std::fs::metadata(&self.path) {
            Ok(named) if is_same(&now, &named) => Ok(Fate::Same),
            Ok(_) => Ok(Fate::Moved),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Fate::Moved),
            Err(e) => Err(e),
        }
    }
}

#[cfg(unix)]
fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}

/// The length of a file; none when it is compressed.
pub(super) fn length(partition: &Partition, path: &Path) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let plain = method(partition, path, &file)? == Method::Plain;
    Ok(if plain { Some(file.metadata()?.len()) } else { None })
}

/// How a file that was just opened is compressed; reads its first bytes.
fn method(partition: &Partition, path: &Path, file: &File) -> io::Result<Method> {
    let mut first = Vec::new();
    file.take(MAGIC_BYTES as u64).read_to_end(&mut first)?;
    Ok(Method::detect(partition.encoding.compression, &first, &path.to_string_lossy()))
}

pub(super) fn open(partition: &Partition, path: &Path, start: &Position) -> Result<Input, Error> {
    let io = |action| move |e| partition.io(action, e);
    let mut file = File::open(path).map_err(io("open"))?;
    let method = method(partition, path, &file).map_err(io("read"))?;
    if method == Method::Plain {
        let length = file.metadata().map_err(io("read"))?.len();
        if length < start.byte {
            return Err(shrank(partition, start, length));
        }
        file.seek(SeekFrom::Start(start.byte.saturating_sub(1))).map_err(io("seek in"))?;
        if start.byte > 0 {
            let mut last = [0];
            file.read_exact(&mut last).map_err(io("read"))?;
            if last != *b"\n" && !(partition.bounded && start.byte == length) {
                return Err(changed(partition, start));
            }
        }
        let watch = match partition.bounded {
            true => None,
            false => {
                Some(Watch { path: path.to_owned(), file: file.try_clone().map_err(io("open"))? })
            }
        };
        return Ok(Input { stream: Box::new(file), watch });
    }
    file.rewind().map_err(io("seek in"))?;
    let mut stream = decode(file, method).map_err(|e| partition.unreadable(e, 0))?;
    let (skipped, last) =
        skip(&mut stream, start.byte).map_err(|(e, at)| partition.unreadable(e, at))?;
    if skipped < start.byte {
        return Err(shrank(partition, start, skipped));
    }
    if skipped > 0 && last != b'\n' {
        let more = stream.read(&mut [0]).map_err(|e| partition.unreadable(e, skipped))?;
        if more > 0 {
            return Err(changed(partition, start));
        }
    }
    Ok(Input { stream, watch: None })
}

/// Reads up to `count` bytes; returns how many there were, and the last of them.
fn skip(stream: &mut dyn Read, count: u64) -> Result<(u64, u8), (io::Error, u64)> {
    let mut block = vec![0; BLOCK_BYTES];
    let (mut skipped, mut last) = (0, 0);
    while skipped < count {
        let most = (count - skipped).min(BLOCK_BYTES as u64) as usize;
        match stream.read(&mut block[..most]) {
            Ok(0) => break,
            Ok(n) => {
                skipped += n as u64;
                last = block[n - 1];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((e, skipped)),
        }
    }
    Ok((skipped, last))
}

fn shrank(partition: &Partition, start: &Position, length: u64) -> Error {
    Error::Shrank {
        source_name: partition.source.clone(),
        path: partition.what.to_string(),
        position: start.clone(),
        length,
    }
}

fn changed(partition: &Partition, start: &Position) -> Error {
    Error::Changed {
        source_name: partition.source.clone(),
        path: partition.what.to_string(),
        position: start.clone(),
    }
}
