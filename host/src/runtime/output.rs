//! Where a guest's stdout, stderr and log lines go: the log of the host, line by line, bounded.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Most bytes of a line; what is over is cut off.
const LINE_BYTES: usize = 8 << 10;
/// Most lines of one call; the others are counted.
const LINES: u32 = 1_000;
/// How many of the last bytes are kept to explain a trap.
const TAIL_BYTES: usize = 2 << 10;

/// The lines that a guest has written.
#[derive(Default)]
struct Lines {
    stage: String,
    partial: Vec<u8>,
    tail: Vec<u8>,
    written: u32,
    dropped: u32,
}

/// A shared handle to the output of an instance.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<Lines>>);

impl Output {
    pub(super) fn new(stage: &str) -> Self {
        Self(Arc::new(Mutex::new(Lines { stage: stage.into(), ..Lines::default() })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Lines) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a line that came through the logging interface.
    pub(super) fn log(&self, level: tracing::Level, message: &str) {
        self.with(|lines| lines.line(level, message.as_bytes()));
    }

    /// A call begins: the count of lines starts anew.
    pub(super) fn begin(&self) {
        self.with(|lines| {
            lines.written = 0;
            lines.tail.clear();
        });
    }

    /// A call has ended: says how many lines were dropped.
    pub(super) fn end(&self) {
        self.with(|lines| {
            let dropped = std::mem::take(&mut lines.dropped);
            if dropped > 0 {
                tracing::warn!(stage = lines.stage, "{dropped} lines of the plugin were dropped");
            }
        });
    }

    /// What was written last to stdout and stderr, to explain a trap.
    pub(super) fn tail(&self) -> String {
        self.with(|lines| String::from_utf8_lossy(&lines.tail).trim().to_owned())
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let room = LINE_BYTES.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.line(tracing::Level::INFO, line.trim_ascii_end());
            }
        }
    }

    fn line(&mut self, level: tracing::Level, line: &[u8]) {
        if self.written >= LINES {
            self.dropped += 1;
            return;
        }
        self.written += 1;
        let stage = self.stage.as_str();
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]);
        match level {
            tracing::Level::ERROR => tracing::error!(target: "plugin", stage, "{text}"),
            tracing::Level::WARN => tracing::warn!(target: "plugin", stage, "{text}"),
            tracing::Level::INFO => tracing::info!(target: "plugin", stage, "{text}"),
            tracing::Level::DEBUG => tracing::debug!(target: "plugin", stage, "{text}"),
            _ => tracing::trace!(target: "plugin", stage, "{text}"),
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.with(|lines| lines.write(&bytes));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl tokio::io::AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.with(|lines| lines.write(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test panics with the lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that the log gets.
    fn logged(of: impl FnOnce(&Output)) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || of(&Output::new("clean")));
        let bytes = log.0.lock().expect("no test panics with the lock").clone();
        String::from_utf8(bytes).expect("a log is text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_come_with_their_level_and_stage() {
        let lines = logged(|output| {
            output.log(tracing::Level::WARN, "odd");
            output.log(tracing::Level::TRACE, "fine");
            output.with(|lines| lines.write(b"one\ntwo, in"));
            output.with(|lines| lines.write(b" parts\r\nthree"));
        });
        let expected = [
            " WARN plugin: odd stage=\"clean\"",
            "TRACE plugin: fine stage=\"clean\"",
            " INFO plugin: one stage=\"clean\"",
            " INFO plugin: two, in parts stage=\"clean\"",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_of_a_line_is_over_8_kib_is_cut() {
        let lines = logged(|output| {
            output.log(tracing::Level::INFO, &"x".repeat(LINE_BYTES + 9));
            output.log(tracing::Level::INFO, &"y".repeat(LINE_BYTES));
            for _ in 0..3 {
                output.with(|lines| lines.write(&[b'z'; LINE_BYTES / 2]));
            }
            output.with(|lines| lines.write(b"\nafter\n"));
        });
        let bytes = |i: usize, c: char| lines[i].chars().filter(|found| *found == c).count();
        assert_eq!([bytes(0, 'x'), bytes(1, 'y'), bytes(2, 'z')], [LINE_BYTES; 3]);
        assert!(lines[3].contains("after") && lines.len() == 4, "{}", lines[3]);
    }

    #[test]
    fn what_of_a_call_is_over_1_000_lines_is_counted() {
        let lines = logged(|output| {
            for lines in [LINES + 7, LINES] {
                output.begin();
                for _ in 0..lines / 2 {
                    output.log(tracing::Level::INFO, "to the log");
                    output.with(|lines| lines.write(b"to stdout\n"));
                }
                output.end();
            }
        });
        let of = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!((of("to the log"), of("to stdout")), (LINES as usize, LINES as usize));
        assert!(lines[LINES as usize].contains("6 lines of the plugin were dropped"), "{lines:?}");
        assert_eq!(lines.len(), 2 * LINES as usize + 1);
    }
}
