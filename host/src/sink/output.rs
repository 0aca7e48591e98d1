//! Where a sink writes: a file or standard output, shared by those that write to it and the thread
//! that commits.
//!
//! Invariant: [`Output::flush`] returns the length of all that was appended, and that has reached the
//! operating system by then; after a failed write nothing more is written.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;

/// How many bytes are collected before they are written on, flush or not.
const BUFFER_BYTES: usize = 256 << 10;

/// One file or standard output. Clones are the same output.
#[derive(Debug, Clone)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sink: String,
    id: String,
    /// As it is shown.
    path: String,
    target: Target,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) enum Target {
    /// `is_durable`: a file that can be synced and cut off, unlike a device or a pipe.
    File {
        file: File,
        is_durable: bool,
    },
    Stdout,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// What was written on, with what was there before.
    written: u64,
    has_failed: bool,
}

impl Output {
    pub(super) fn new(sink: &str, path: String, id: String, target: Target, length: u64) -> Self {
        let state = Mutex::new(State { written: length, ..State::default() });
        Self(Arc::new(Shared { sink: sink.to_owned(), id, path, target, state }))
    }

    pub(super) fn stdout(sink: &str, id: String, length: u64) -> Self {
        Self::new(sink, "stdout".to_owned(), id, Target::Stdout, length)
    }

    /// What stands for it in a commit: the absolute path of a file, or `-` and the name of the sink
    /// for standard output.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Hands everything that was appended, by whichever writer, to the operating system, and
    /// returns the length in bytes: for the commit, so none of the writers may be ahead of it. For
    /// standard output it is what was written since the first run.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Failed`].
    pub fn flush(&self) -> Result<u64, Error> {
        self.locked(|state| {
            self.0.drain(state)?;
            if matches!(self.0.target, Target::Stdout) {
                io::stdout().flush()?;
            }
            Ok(state.written)
        })
    }

    /// Makes what was flushed durable. Writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`], after which nothing since the last sync counts as durable.
    pub fn sync(&self) -> Result<(), Error> {
        let Target::File { file, is_durable: true } = &self.0.target else { return Ok(()) };
        file.sync_data().map_err(|e| {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.has_failed = true;
            self.0.io("sync", e)
        })
    }

    pub(super) fn append(&self, lines: &[u8]) -> Result<(), Error> {
        self.locked(|state| {
            state.pending.extend_from_slice(lines);
            match state.pending.len() < BUFFER_BYTES {
                true => Ok(()),
                false => self.0.drain(state),
            }
        })
    }

    fn locked<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T, Error> {
        // Who panicked within the lock has left `has_failed` behind.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_failed {
            let (sink, path) = (self.0.sink.clone(), self.0.path.clone());
            return Err(Error::Failed { sink, path });
        }
        state.has_failed = true;
        let done = act(&mut state).map_err(|e| self.0.io("write to", e))?;
        state.has_failed = false;
        Ok(done)
    }
}

impl Shared {
    fn drain(&self, state: &mut State) -> io::Result<()> {
        match &self.target {
            Target::File { file, .. } => (&mut &*file).write_all(&state.pending)?,
            Target::Stdout => io::stdout().lock().write_all(&state.pending)?,
        }
        state.written += state.pending.len() as u64;
        state.pending.clear();
        Ok(())
    }

    fn io(&self, action: &'static str, source: io::Error) -> Error {
        Error::Io { sink: self.sink.clone(), path: self.path.clone(), action, source }
    }
}
