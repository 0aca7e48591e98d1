//! Parts of URLs and paths. Invariant: a part that is there is not empty.

/// The host of `scheme://user@host:port/...` or `//host/...`, as it is written.
pub fn host(url: &str) -> Option<&str> {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        _ => url.strip_prefix("//")?,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        // The colons of an IPv6 address are not before a port.
        Some(inner) => inner.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

/// The path of a URL, or of a text that is one itself.
pub fn path(url: &str) -> &str {
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            rest.find(['/', '?', '#']).map_or("", |at| &rest[at..])
        }
        _ => url,
    };
    rest.split(['?', '#']).next().unwrap_or_default()
}

/// The segments of a path that are not empty.
pub fn segments(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The extension of the last segment; a leading dot begins none.
pub fn extension(path: &str) -> Option<&str> {
    let (stem, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls_only() {
        assert_eq!(host("http://me@Example.com:80/a?b"), Some("Example.com"));
        assert_eq!(host("https://[2001:db8::1]:443"), Some("2001:db8::1"));
        assert_eq!(host("//a.b?x"), Some("a.b"));
        for none in
            ["/a/b", "", "http://", "http://:80/", "a b://c", "example.com", "/r?u=http://x"]
        {
            assert_eq!(host(none), None, "{none}");
        }
    }

    #[test]
    fn paths_have_segments_and_extensions() {
        assert_eq!(path("http://a.b"), "");
        assert_eq!(path("http://a.b/c.d/e?f#g"), "/c.d/e");
        assert_eq!(path("/a?u=http://x"), "/a");
        assert_eq!(segments("/a//b/").count(), 2);
        assert_eq!(extension("/a/b.tar.GZ"), Some("GZ"));
        for none in ["/a.b/c", "/.profile", "/a.", "/a.b/", ""] {
            assert_eq!(extension(none), None, "{none}");
        }
    }
}
