//! One line of an access log, whatever its format. Invariant: a [`Line`] has been read to the last
//! field that matters; what it borrows is the line itself.

use wasmill_sdk::prelude::Rejection;

use crate::config::Format;
use crate::cursor::Text;
use crate::{balancer, combined};

/// What all formats have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// When the request came, in ms since the Unix epoch.
    pub timestamp: i64,
    /// The client: an address, or a name where the server looks names up.
    pub ip: &'a [u8],
    /// The authenticated user, none where the log has `-` or no such field.
    pub remote_user: Option<&'a [u8]>,
    /// The request line.
    pub request: Text<'a>,
    /// The status code, 0 where the log has `-`.
    pub status: u16,
    /// The bytes sent, 0 where the log has `-`.
    pub bytes: u64,
    /// The referrer, none where the log has `-`.
    pub referrer: Option<Text<'a>>,
    /// The user agent, none where the log has `-`.
    pub agent: Option<Text<'a>>,
}

/// Reads a line; a line break at its end does no harm.
pub fn read(format: Format, line: &[u8]) -> Result<Line<'_>, Rejection> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Rejection::malformed("the line is empty"));
    }
    match format {
        Format::Combined => combined::read(line),
        Format::Elb => balancer::read_elb(line),
        Format::Alb => balancer::read_alb(line),
        Format::Auto if balancer::looks_like_elb(line) => balancer::read_elb(line),
        Format::Auto if balancer::looks_like_alb(line) => balancer::read_alb(line),
        Format::Auto => combined::read(line),
    }
}

/// None for the `-` that stands for nothing.
pub fn present(text: Text<'_>) -> Option<Text<'_>> {
    if *text.bytes == *b"-" || text.bytes.is_empty() { None } else { Some(text) }
}
