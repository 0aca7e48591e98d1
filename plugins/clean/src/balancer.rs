//! The access logs of AWS load balancers.
//!
//! Classic: `timestamp elb client:port backend:port request_time backend_time response_time
//! elb_status backend_status received_bytes sent_bytes "request" "agent" cipher protocol`. An
//! Application Load Balancer has the listener's type in front of that and more fields behind it,
//! which are not read. Lines from before September 2014 end after the request. See
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html> and
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>.

use wasmill_sdk::prelude::Rejection;

use crate::cursor::Cursor;
use crate::line::{Line, present};
use crate::time;

/// The types of listeners that an Application Load Balancer logs.
const TYPES: [&[u8]; 6] = [b"http", b"https", b"h2", b"grpcs", b"ws", b"wss"];

/// Whether a line begins like one of a Classic Load Balancer.
pub fn looks_like_elb(line: &[u8]) -> bool {
    line.len() > 10 && line[4] == b'-' && line[7] == b'-' && line[10] == b'T'
}

/// Whether a line begins like one of an Application Load Balancer.
pub fn looks_like_alb(line: &[u8]) -> bool {
    let head = &line[..line.len().min(6)];
    head.iter()
        .position(|b| *b == b' ')
        .is_some_and(|end| TYPES.contains(&&line[..end]) && looks_like_elb(&line[end + 1..]))
}

/// Reads a line of a Classic Load Balancer.
pub fn read_elb(line: &[u8]) -> Result<Line<'_>, Rejection> {
    read(Cursor::new("elb", line))
}

/// Reads a line of an Application Load Balancer.
pub fn read_alb(line: &[u8]) -> Result<Line<'_>, Rejection> {
    let mut cursor = Cursor::new("alb", line);
    let start = cursor.clone();
    if !TYPES.contains(&cursor.token("type")?) {
        return Err(start.wrong("type", "http, https, h2, grpcs, ws or wss"));
    }
    read(cursor)
}

fn read(mut cursor: Cursor<'_>) -> Result<Line<'_>, Rejection> {
    let start = cursor.clone();
    let timestamp =
        time::iso(cursor.token("time")?).map_err(|expected| start.wrong("time", expected))?;
    cursor.token("elb")?;
    let ip = client(&mut cursor)?;
    for field in [
        "target:port",
        "request_processing_time",
        "target_processing_time",
        "response_processing_time",
    ] {
        cursor.token(field)?;
    }
    let status = cursor.status("elb_status_code")?;
    cursor.token("target_status_code")?;
    cursor.number("received_bytes")?;
    let bytes = cursor.number("sent_bytes")?.unwrap_or(0);
    let request = cursor.quoted("request", false)?;
    let agent = if cursor.is_at_end() { None } else { present(cursor.quoted("user_agent", true)?) };
    Ok(Line { timestamp, ip, remote_user: None, request, status, bytes, referrer: None, agent })
}

/// Reads `address:port` and gives the address; one of IPv6 may be in brackets.
fn client<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Rejection> {
    let start = cursor.clone();
    let token = cursor.token("client:port")?;
    let address = match token.iter().rposition(|b| *b == b':') {
        Some(colon) if token[colon + 1..].iter().all(u8::is_ascii_digit) => &token[..colon],
        _ => return Err(start.wrong("client:port", "an address and a port")),
    };
    let address =
        address.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or(address);
    if address.is_empty() {
        return Err(start.wrong("client:port", "an address and a port"));
    }
    Ok(address)
}
