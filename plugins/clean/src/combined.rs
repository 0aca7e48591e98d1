//! The combined log format of Apache and Nginx, and the common log format, which is its first half.
//!
//! `host ident user [time] "request" status bytes "referrer" "agent"`; what follows the agent is
//! ignored. See <https://httpd.apache.org/docs/2.4/mod/mod_log_config.html> and
//! <https://nginx.org/en/docs/http/ngx_http_log_module.html>.

use wasmill_sdk::prelude::Rejection;

use crate::cursor::Cursor;
use crate::line::{Line, present};
use crate::scan::run_without;
use crate::time;

/// Reads a line.
pub fn read(line: &[u8]) -> Result<Line<'_>, Rejection> {
    let mut cursor = Cursor::new("combined", line);
    let ip = cursor.token("host")?;
    cursor.token("ident")?;
    let user = remote_user(&mut cursor)?;
    let timestamp = {
        let rest = cursor.rest();
        let end = run_without(rest, b']');
        if end == rest.len() {
            return Err(cursor.wrong("time", "a time in brackets"));
        }
        let time = time::clf(&rest[1..end]).map_err(|expected| cursor.wrong("time", expected))?;
        cursor.skip(end + 1);
        time
    };
    if cursor.rest().first() != Some(&b' ') {
        return Err(cursor.wrong("request", "a space and the request in double quotes"));
    }
    cursor.skip(1);
    let request = cursor.quoted("request", false)?;
    let status = cursor.status("status")?;
    let bytes = cursor.number("bytes")?.unwrap_or(0);
    let (referrer, agent) = if cursor.is_at_end() {
        (None, None)
    } else {
        (present(cursor.quoted("referrer", false)?), present(cursor.quoted("agent", true)?))
    };
    Ok(Line { timestamp, ip, remote_user: user, request, status, bytes, referrer, agent })
}

/// Reads up to the bracket that opens the time: the name of a user may have spaces in it.
fn remote_user<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Rejection> {
    let rest = cursor.rest();
    if rest.starts_with(b"- [") {
        cursor.skip(2);
        return Ok(None);
    }
    let Some(end) = rest.windows(2).position(|pair| pair == b" [") else {
        return Err(cursor.wrong("user", "a user or -, and a time in brackets"));
    };
    if end == 0 {
        return Err(cursor.wrong("user", "a user or -"));
    }
    cursor.skip(end + 1);
    let user = &rest[..end];
    Ok((user != b"-" && user != b"\"\"").then_some(user))
}
