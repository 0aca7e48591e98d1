//! Decompression. Invariant: data that ends too early or is damaged is an error, [`Fault`], never an
//! early end. As far as it shows: gzip has its checksum behind the data, so that what comes before a
//! [`Fault`] may be wrong already, and zstd has one only if it was written with it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use wasmill_pipeline::Compression;

use super::lines::BLOCK_BYTES;

/// How many bytes are enough to tell how a stream is compressed.
pub(super) const MAGIC_BYTES: usize = 4;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Plain,
    Gzip,
    Zstd,
}

impl Method {
    /// The method that a setting, the first [`MAGIC_BYTES`] of a stream (or all, if it is shorter)
    /// and the name of the file lead to. The first bytes win over the name.
    pub fn detect(setting: Compression, first: &[u8], name: &str) -> Self {
        match setting {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
            Compression::Auto if first.starts_with(GZIP) => Self::Gzip,
            Compression::Auto if first.starts_with(ZSTD) => Self::Zstd,
            Compression::Auto if name.ends_with(".gz") => Self::Gzip,
            Compression::Auto if name.ends_with(".zst") => Self::Zstd,
            Compression::Auto => Self::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Whether a stream that begins like this may still turn out to be compressed.
pub(super) fn is_undecided(first: &[u8]) -> bool {
    first.len() < MAGIC_BYTES && [GZIP, ZSTD].iter().any(|m| m.starts_with(first))
}

/// Compressed data that can't be decompressed; the source of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(super) struct Fault {
    pub compression: &'static str,
    /// Whether the data ends too early.
    pub is_cut_off: bool,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The decompressed content, over all members or frames.
pub(super) fn decode<R: Read + Send + 'static>(
    input: R,
    method: Method,
) -> io::Result<Box<dyn Read + Send>> {
    let mut input = BufReader::with_capacity(BLOCK_BYTES, input);
    if method == Method::Plain {
        return Ok(Box::new(input));
    }
    if input.fill_buf()?.is_empty() {
        return Err(fault(method, io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(match method {
        Method::Zstd => {
            Box::new(Decoder { stream: zstd::stream::read::Decoder::with_buffer(input)?, method })
        }
        _ => Box::new(Decoder { stream: flate2::bufread::MultiGzDecoder::new(input), method }),
    })
}

struct Decoder<D> {
    stream: D,
    method: Method,
}

impl<D: Read> Read for Decoder<D> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.read(to).map_err(|e| fault(self.method, e))
    }
}

fn fault(method: Method, error: io::Error) -> io::Error {
    // What the operating system says, or a retry, is no matter of the data.
    if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    let is_cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
    let message = error.to_string();
    io::Error::other(Fault { compression: method.name(), is_cut_off, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide_before_the_name() {
        let auto = |first: &[u8], name| Method::detect(Compression::Auto, first, name);
        assert_eq!(auto(b"\x1f\x8b\x08\x00", "a.log"), Method::Gzip);
        assert_eq!(auto(b"\x28\xb5\x2f\xfd", "a.gz"), Method::Zstd);
        assert_eq!(auto(b"text", "a.gz"), Method::Gzip);
        assert_eq!(auto(b"", "a.zst"), Method::Zstd);
        assert_eq!(auto(b"\x1f", "a.log"), Method::Plain);
        assert_eq!(Method::detect(Compression::None, GZIP, "a.gz"), Method::Plain);
        assert!(is_undecided(b"") && is_undecided(b"\x28\xb5\x2f") && is_undecided(b"\x1f"));
        assert!(!is_undecided(b"a") && !is_undecided(ZSTD) && !is_undecided(b"\x28\xb6"));
    }
}
