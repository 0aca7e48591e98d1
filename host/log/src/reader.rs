//! Reading a partition frame by frame.
//!
//! Invariant: frames come in the order of their appending, each once, and the position moves on only
//! with a frame that was returned.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::{self, Damage, Frame, HEADER_BYTES, Header};
use crate::read_only::CommittedPartition;
use crate::{Error, Partition, Position};

/// How much is read at once, in bytes, unless a frame is longer.
const WINDOW_BYTES: usize = 256 << 10;

/// A reader of one partition.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    position: Position,
    frame: Position,
    window: Window,
}

/// Whose segments are read.
#[derive(Debug)]
pub(crate) enum Source {
    Live(Partition),
    Committed(CommittedPartition),
}

/// Where the next frame is.
#[derive(Debug)]
pub(crate) enum Located {
    /// There is none yet.
    End,
    /// At hand; `bytes` long in its segment.
    Memory { frame: Arc<Frame>, bytes: usize },
    /// In this file, of which the first `limit` bytes count.
    File { path: PathBuf, limit: u64 },
}

impl Reader {
    pub(crate) fn new(source: Source, position: Position) -> Self {
        Self { source, position, frame: position, window: Window::default() }
    }

    /// The next frame and in it the row of the next record wanted (0 for a watermark); none at the
    /// end, where later calls see what was appended (or committed and refreshed) since.
    ///
    /// # Errors
    /// [`Error::Dropped`] when retention was faster, [`Error::Corrupt`], [`Error::Lost`],
    /// [`Error::Io`], [`Error::ForeignPosition`]. The position stays, so that a further call tries
    /// again.
    #[expect(clippy::should_implement_trait, reason = "none is not for good as an iterator's is")]
    pub fn next(&mut self) -> Result<Option<(Arc<Frame>, usize)>, Error> {
        loop {
            if let Some(found) = self.next_in_window()? {
                return Ok(Some(found));
            }
            let before = self.position;
            match self.source.locate(&mut self.position)? {
                Located::End => return Ok(None),
                Located::Memory { frame, bytes } if frame.is_before(self.position.offset) => {
                    self.position.byte += bytes as u64;
                }
                Located::Memory { frame, bytes } => return Ok(Some(self.step(frame, bytes))),
                Located::File { path, limit } => {
                    let Position { segment, byte, .. } = self.position;
                    let filled = self.window.fill(path, segment, byte, limit);
                    if let Err(error) = filled {
                        self.position = before;
                        if !self.source.moved_on(&error)? {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// From where the next call of [`Reader::next`] reads on.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The position of the frame returned last. With `offset` set to one of its records, a reader
    /// gets the frame again, with the row of that record.
    pub fn frame_position(&self) -> Position {
        self.frame
    }

    /// Takes the next frame that is wanted from the window, if the window has all of it.
    fn next_in_window(&mut self) -> Result<Option<(Arc<Frame>, usize)>, Error> {
        loop {
            let Position { offset, segment, byte } = self.position;
            let bytes = self.window.at(segment, byte);
            if bytes.len() < HEADER_BYTES {
                return Ok(None);
            }
            let header = Header::read(bytes).map_err(|d| self.window.damage(byte, d))?;
            let (length, whole) = (header.frame_bytes(), bytes.len() >= header.frame_bytes());
            let skipped = header.is_before(offset);
            // That a long frame is skipped by mistake shows in the base offset of the next.
            if !whole && !(skipped && length > WINDOW_BYTES) {
                return Ok(None);
            }
            if skipped {
                if whole {
                    header.verify(bytes).map_err(|d| self.window.damage(byte, d))?;
                }
                self.position.byte += length as u64;
                continue;
            }
            let frame = frame::decode(bytes).map_err(|d| self.window.damage(byte, d))?;
            if frame.base_offset > offset {
                let found = format!("a frame with base offset {}", frame.base_offset);
                let expected = format!("one that has or precedes offset {offset}");
                return Err(self.window.damage(byte, Damage::new(16, found, expected)));
            }
            return Ok(Some(self.step(Arc::new(frame), length)));
        }
    }

    fn step(&mut self, frame: Arc<Frame>, bytes: usize) -> (Arc<Frame>, usize) {
        let row = self.position.offset.saturating_sub(frame.base_offset) as usize;
        self.frame = self.position;
        self.position.byte += bytes as u64;
        self.position.offset = self.position.offset.max(frame.end_offset());
        (frame, row)
    }
}

impl Source {
    fn locate(&self, position: &mut Position) -> Result<Located, Error> {
        match self {
            Self::Live(partition) => partition.locate(position),
            Self::Committed(partition) => partition.locate(position),
        }
    }

    /// Whether the failure is explained by segments that were dropped since they were located, so
    /// that locating again tells more.
    fn moved_on(&self, error: &Error) -> Result<bool, Error> {
        let Error::Lost { path, found: None, .. } = error else { return Ok(false) };
        match self {
            Self::Live(partition) => Ok(!partition.has_segment(path)),
            Self::Committed(partition) => partition.has_dropped(path),
        }
    }
}

/// A stretch of a segment file in memory.
#[derive(Debug, Default)]
struct Window {
    segment: u64,
    path: PathBuf,
    file: Option<File>,
    /// Where the stretch starts in the file.
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// What the window has from this place on; empty when it does not have it.
    fn at(&self, segment: u64, byte: u64) -> &[u8] {
        if self.file.is_none() || segment != self.segment {
            return &[];
        }
        let skip = byte.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }

    /// Reads on from `byte`: at least one whole frame.
    fn fill(&mut self, path: PathBuf, segment: u64, byte: u64, limit: u64) -> Result<(), Error> {
        let lost = |found| Error::Lost { path: path.clone(), committed: limit, found };
        if self.file.is_none() || self.path != path {
            self.bytes.clear();
            self.file = None;
            match File::open(&path) {
                Ok(file) => self.file = Some(file),
                Err(e) if e.kind() == ErrorKind::NotFound => return Err(lost(None)),
                Err(e) => return Err(Error::io(&path, "open")(e)),
            }
            self.path.clone_from(&path);
            self.segment = segment;
        }
        let left = limit - byte;
        self.load(&path, byte, left.min(WINDOW_BYTES as u64))?;
        let needed = match Header::read(&self.bytes) {
            Ok(header) => header.frame_bytes() as u64,
            Err(damage) => return Err(self.damage(byte, damage)),
        };
        if needed > left {
            let found = format!("a frame of {needed} bytes");
            let expected = format!("at most the {left} bytes that the segment has from here");
            return Err(self.damage(byte, Damage::new(8, found, expected)));
        }
        if needed > self.bytes.len() as u64 {
            self.load(&path, byte, needed)?;
        }
        Ok(())
    }

    fn load(&mut self, path: &Path, byte: u64, length: u64) -> Result<(), Error> {
        let file = self.file.as_mut().expect("fill opened it");
        self.start = byte;
        self.bytes.clear();
        self.bytes.shrink_to(length.max(4 << 20) as usize);
        file.seek(SeekFrom::Start(byte)).map_err(Error::io(path, "seek in"))?;
        let read = file.take(length).read_to_end(&mut self.bytes);
        let read = read.inspect_err(|_| self.bytes.clear()).map_err(Error::io(path, "read"))?;
        if (read as u64) < length {
            self.bytes.clear();
            let (committed, found) = (byte + length, Some(byte + read as u64));
            return Err(Error::Lost { path: path.to_owned(), committed, found });
        }
        Ok(())
    }

    fn damage(&self, start: u64, damage: Damage) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            byte: start + damage.byte as u64,
            found: damage.found,
            expected: damage.expected,
        }
    }
}
