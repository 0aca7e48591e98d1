//! The request line. Invariant: a [`Request`] has a method and a target, neither of them empty.

use wasmill_sdk::prelude::Rejection;

use crate::cursor::excerpt;

/// A request line in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, as the client wrote it.
    pub method: &'a [u8],
    /// The target: usually a path and query, from load balancers and proxies a whole URL.
    pub target: &'a [u8],
}

impl<'a> Request<'a> {
    /// Splits a request line. The protocol may be missing (HTTP/0.9), the target may have spaces in
    /// it; what has no target is no request for a page and is invalid.
    pub fn split(line: &'a [u8]) -> Result<Self, Rejection> {
        let end = match line.iter().position(|b| *b == b' ') {
            Some(end) if end > 0 => end,
            _ => return Err(no_request(line)),
        };
        let (method, rest) = (&line[..end], &line[end + 1..]);
        let target = match rest.iter().rposition(|b| *b == b' ') {
            Some(space) if is_protocol(&rest[space + 1..]) => &rest[..space],
            _ if is_protocol(rest) => b"",
            _ => rest,
        };
        let target = target.trim_ascii();
        if target.is_empty() || method == b"-" {
            return Err(no_request(line));
        }
        Ok(Self { method, target })
    }
}

fn is_protocol(text: &[u8]) -> bool {
    text.starts_with(b"HTTP/") || text == b"-"
}

#[cold]
fn no_request(line: &[u8]) -> Rejection {
    let found = excerpt(line);
    Rejection::invalid(match line.trim_ascii() {
        b"" | b"-" => format!("no page view: the request is {found:?}, so the client sent none"),
        b"- - -" => {
            "no page view: the request is \"- - - \", an entry of a TCP listener".to_owned()
        }
        _ => format!("no page view: the request {found:?} is not METHOD TARGET PROTOCOL"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<(&str, &str)> {
        let r = Request::split(line.as_bytes()).ok()?;
        Some((str::from_utf8(r.method).unwrap(), str::from_utf8(r.target).unwrap()))
    }

    #[test]
    fn requests_of_real_logs_are_split() {
        assert_eq!(split("GET /a?b HTTP/1.1"), Some(("GET", "/a?b")));
        assert_eq!(split("GET /a b HTTP/1.1"), Some(("GET", "/a b")));
        assert_eq!(split("GET /a"), Some(("GET", "/a")));
        assert_eq!(split("GET / -"), Some(("GET", "/")));
        assert_eq!(split("OPTIONS * HTTP/1.0"), Some(("OPTIONS", "*")));
        for none in
            ["-", "", "- - - ", "GET", "GET ", "GET HTTP/1.1", " /a HTTP/1.1", "\u{16}\u{3}"]
        {
            assert_eq!(split(none), None, "{none:?}");
        }
    }
}
