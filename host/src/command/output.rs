//! How a command writes to standard output and standard error. Invariant: that a reader goes away
//! (`| head`) ends the command quietly; any other failure to write its output is shown.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::process::ExitCode;

/// How much is collected before it is written, in bytes.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Standard output, locked and buffered; to be flushed by whoever writes.
pub fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock())
}

/// Writes the output of a command that has no more than this.
///
/// # Errors
/// When it can't be written, other than because the reader went away.
pub fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = stdout();
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Into::into))
}

/// Writes text to standard error. Whether anybody reads that does not matter to the command.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What a command that has written its output ends with: success also where the reader went away.
///
/// # Errors
/// Any other error as it is.
pub fn ended(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if !is_closed(&error) => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let closed = |e: &io::Error| e.kind() == ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
        let failed = |kind: ErrorKind| Err(io::Error::from(kind)).context("cannot write");
        assert_eq!(ended(failed(ErrorKind::BrokenPipe)).unwrap(), ExitCode::SUCCESS);
        assert_eq!(ended(Ok(())).unwrap(), ExitCode::SUCCESS);
        assert!(ended(failed(ErrorKind::StorageFull)).is_err());
    }
}
