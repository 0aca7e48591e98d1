//! Request targets and their normal form. Invariant: normalising what is normalised changes nothing.

use std::borrow::Cow;

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;

use crate::config::{Config, DropQuery};
use crate::cursor::hex;
use crate::scan::target_run;

/// A target in its parts, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The host and port, as written; only whole URLs have one.
    pub host: Option<&'a [u8]>,
    /// The path.
    pub path: Cow<'a, [u8]>,
    /// The query without `?`, none when it is empty.
    pub query: Option<Cow<'a, [u8]>>,
    /// The query as it was.
    pub query_raw: &'a [u8],
}

/// How targets are normalised.
#[derive(Debug)]
pub struct Normalizer {
    decode_percent: bool,
    collapse_slashes: bool,
    remove_dot_segments: bool,
    drop_fragment: bool,
    drop_query: bool,
    /// Whether hosts are put into lower case where they are written.
    pub lower_host: bool,
    /// Names to drop from the query; true for those that are only beginnings.
    parameters: Vec<(Vec<u8>, bool)>,
    /// `/index.html`.
    index_files: Vec<Vec<u8>>,
}

impl Normalizer {
    /// Takes it from the configuration.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut parameters = Vec::new();
        if let DropQuery::Parameters(names) = &config.drop_query {
            for (i, name) in names.iter().enumerate() {
                let (stem, prefix) = match name.strip_suffix('*') {
                    Some(stem) => (stem, true),
                    None => (name.as_str(), false),
                };
                if stem.is_empty() || stem.contains(['&', '=', '*']) {
                    return Err(error(
                        format!("drop-query.{i}"),
                        format!("{name:?} is no name of a parameter; write \"gclid\" or \"utm_*\""),
                    ));
                }
                parameters.push((stem.as_bytes().to_vec(), prefix));
            }
        }
        let mut index_files = Vec::new();
        for (i, name) in config.index_files.iter().enumerate() {
            if name.is_empty() || name.contains('/') {
                return Err(error(
                    format!("index-files.{i}"),
                    format!("{name:?} is no file name; write \"index.html\""),
                ));
            }
            index_files.push(format!("/{name}").into_bytes());
        }
        Ok(Self {
            decode_percent: config.decode_percent,
            collapse_slashes: config.collapse_slashes,
            remove_dot_segments: config.remove_dot_segments,
            drop_fragment: config.drop_fragment,
            drop_query: config.drop_query == DropQuery::All(true),
            lower_host: config.lower_host,
            parameters,
            index_files,
        })
    }

    /// Takes a target apart and normalises it.
    #[inline]
    pub fn split<'a>(&self, method: &[u8], target: &'a [u8]) -> Target<'a> {
        let (host, rest) = authority(method, target);
        let plain = target_run(rest);
        if plain == rest.len() && plain > 0 {
            return Target {
                host,
                path: self.path_without_escapes(rest),
                query: None,
                query_raw: b"",
            };
        }
        let rest = match rest[plain..].iter().position(|b| *b == b'#') {
            Some(end) if self.drop_fragment => &rest[..plain + end],
            _ => rest,
        };
        let (path, query) = match rest.iter().position(|b| *b == b'?') {
            Some(mark) => (&rest[..mark], &rest[mark + 1..]),
            None => (rest, &[][..]),
        };
        let path = if path.is_empty() { b"/" } else { path };
        Target { host, path: self.path(path), query: self.query(query), query_raw: query }
    }

    fn path<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.decode_percent {
            return self.path_without_escapes(path);
        }
        match decode_unreserved(path) {
            Cow::Borrowed(path) => self.path_without_escapes(path),
            Cow::Owned(path) => Cow::Owned(self.path_without_escapes(&path).into_owned()),
        }
    }

    #[inline]
    fn path_without_escapes<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let mut path =
            if is_suspect(path) { self.rebuild_segments(path) } else { Cow::Borrowed(path) };
        if let Some(name) = self.index_files.iter().find(|name| path.ends_with(name)) {
            let length = path.len() - name.len() + 1;
            match &mut path {
                Cow::Borrowed(bytes) => *bytes = &bytes[..length],
                Cow::Owned(bytes) => bytes.truncate(length),
            }
        }
        path
    }

    /// Slashes first, so that `..` takes back a segment with a name.
    fn rebuild_segments<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let mut path = Cow::Borrowed(path);
        if self.collapse_slashes && has_pair(&path, |b| b == b'/') {
            path.to_mut().dedup_by(|b, a| *a == b'/' && *b == b'/');
        }
        // A fragment that is not dropped is still there.
        let end = path.iter().position(|b| *b == b'#').unwrap_or(path.len());
        if self.remove_dot_segments && has_dot_segment(&path[..end]) {
            let mut rebuilt = without_dot_segments(&path[..end]);
            rebuilt.extend_from_slice(&path[end..]);
            path = Cow::Owned(rebuilt);
        }
        path
    }

    fn query<'a>(&self, query: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if query.is_empty() || self.drop_query {
            return None;
        }
        let query =
            if self.decode_percent { decode_unreserved(query) } else { Cow::Borrowed(query) };
        if self.parameters.is_empty() || !query.split(|b| *b == b'&').any(|p| self.drops(p)) {
            return Some(query);
        }
        let kept: Vec<&[u8]> = query.split(|b| *b == b'&').filter(|p| !self.drops(p)).collect();
        let kept = kept.join(&b'&');
        (!kept.is_empty()).then_some(Cow::Owned(kept))
    }

    fn drops(&self, parameter: &[u8]) -> bool {
        let name = parameter.split(|b| *b == b'=').next().unwrap_or_default();
        self.parameters.iter().any(
            |(stem, prefix)| {
                if *prefix { name.starts_with(stem) } else { name == stem }
            },
        )
    }
}

/// Whether `//` or `/.` is in a path.
#[inline]
fn is_suspect(path: &[u8]) -> bool {
    has_pair(path, |b| (b == b'/') | (b == b'.'))
}

/// Whether a slash stands before such a byte. Looks at every pair, without a way out, which compiles
/// to vector code.
#[inline(always)]
fn has_pair(path: &[u8], second: impl Fn(u8) -> bool) -> bool {
    path.iter()
        .zip(path.iter().skip(1))
        .fold(false, |found, (a, b)| found | ((*a == b'/') & second(*b)))
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && path[1..].split(|b| *b == b'/').any(|s| s == b"." || s == b"..")
}

/// Works `.` and `..` out of a path that begins with a slash (RFC 3986, 5.2.4).
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment != b"." && segment != b".." {
            out.push(b'/');
            out.extend_from_slice(segment);
            continue;
        }
        if segment == b".." {
            out.truncate(out.iter().rposition(|b| *b == b'/').unwrap_or(0));
        }
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
    out
}

/// Splits a whole URL into host and rest; other targets have no host.
fn authority<'a>(method: &[u8], target: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    if target.first() == Some(&b'/') {
        return (None, target);
    }
    if method == b"CONNECT" {
        return (Some(target), b"/");
    }
    match host_range(target) {
        Some(range) => (Some(&target[range.clone()]), &target[range.end..]),
        None => (None, target),
    }
}

/// Where the host and port of `scheme://host:port/...` are.
pub fn host_range(url: &[u8]) -> Option<std::ops::Range<usize>> {
    let scheme = url.iter().position(|b| !b.is_ascii_alphanumeric() && !b"+-.".contains(b))?;
    if scheme == 0 || !url[scheme..].starts_with(b"://") {
        return None;
    }
    let start = scheme + 3;
    let length = url[start..].iter().position(|b| b"/?#".contains(b));
    Some(start..length.map_or(url.len(), |length| start + length))
}

/// Decodes escapes of unreserved characters and writes the others in upper case; a `%` that begins
/// no escape becomes `%25`.
fn decode_unreserved(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = text.iter().position(|b| *b == b'%') else {
        return Cow::Borrowed(text);
    };
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..first]);
    let mut i = first;
    while i < text.len() {
        match (text[i], hex(text.get(i + 1)), hex(text.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                let byte = high << 4 | low;
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(byte);
                } else {
                    let digits = [text[i + 1], text[i + 2]].map(|b| b.to_ascii_uppercase());
                    out.extend_from_slice(&[b'%', digits[0], digits[1]]);
                }
                i += 3;
            }
            (b'%', ..) => {
                out.extend_from_slice(b"%25");
                i += 1;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// Decodes every escape and `+`, as in the value of a form.
pub fn decode_form(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        match (text[i], hex(text.get(i + 1)), hex(text.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                i += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        i += 1;
    }
    out
}

/// Checks a list of extensions and puts it into lower case.
pub fn extensions(list: &[String]) -> Result<Vec<String>, ConfigError> {
    let check = |(i, extension): (usize, &String)| {
        if extension.is_empty() || extension.contains(['.', '/']) {
            let path = format!("drop-extensions.{i}");
            return Err(error(path, format!("{extension:?} is no extension; write \"css\"")));
        }
        Ok(extension.to_ascii_lowercase())
    };
    list.iter().enumerate().map(check).collect()
}

/// Whether a path has one of these extensions, in any case.
#[inline]
pub fn has_extension(path: &[u8], extensions: &[String]) -> bool {
    if extensions.is_empty() {
        return false;
    }
    match path.iter().rposition(|b| *b == b'.' || *b == b'/') {
        Some(dot) if path[dot] == b'.' => {
            extensions.iter().any(|e| e.as_bytes().eq_ignore_ascii_case(&path[dot + 1..]))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normalizer(change: impl FnOnce(&mut Config)) -> Normalizer {
        let mut config = Config::default();
        change(&mut config);
        Normalizer::new(&config).unwrap()
    }

    fn split(normalizer: &Normalizer, target: &str) -> (String, Option<String>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let t = normalizer.split(b"GET", target.as_bytes());
        (text(&t.path), t.query.map(|q| text(&q)))
    }

    #[test]
    fn paths_take_their_normal_form() {
        let n = normalizer(|c| c.index_files = vec!["index.html".into()]);
        let path = |target| split(&n, target).0;
        assert_eq!(path("/%7euser//a%2fb"), "/~user/a%2Fb");
        assert_eq!(path("/a/index.html?x#y"), "/a/");
        assert_eq!(path("//index%2ehtml"), "/");
        assert_eq!(path("/a#b"), "/a");
        assert_eq!(path("http://Example.com:80"), "/");
        assert_eq!(path("https://example.com/a//b"), "/a/b");
        assert_eq!(path("/%2541%zz%"), "/%2541%25zz%25");
        assert_eq!(path("*"), "*");
    }

    #[test]
    fn switched_off_it_leaves_a_target_as_it_is() {
        let n = normalizer(|c| {
            (c.decode_percent, c.collapse_slashes, c.drop_fragment) = (false, false, false);
            c.remove_dot_segments = false;
        });
        assert_eq!(split(&n, "/%7e//./a#b"), ("/%7e//./a#b".into(), None));
    }

    #[test]
    fn dot_segments_are_worked_out() {
        let n = normalizer(|_| {});
        let path = |target| split(&n, target).0;
        assert_eq!(path("/a/b/c/./../../g"), "/a/g");
        assert_eq!(path("/../../a"), "/a");
        assert_eq!(path("/a/b/.."), "/a/");
        assert_eq!(path("/a/.?x=/../y"), "/a/");
        assert_eq!(path("/.."), "/");
        assert_eq!(path("/a/%2E%2e/b"), "/b");
        assert_eq!(path("http://a/b/../../c"), "/c");
        // Names that only begin with dots, and what is no path.
        assert_eq!(path("/.well-known/..a/.../a."), "/.well-known/..a/.../a.");
        assert_eq!(path("a/../b"), "a/../b");
        assert_eq!(path("/a//../b"), "/b", "the slashes are one before .. takes back a segment");
        let n = normalizer(|c| {
            (c.decode_percent, c.collapse_slashes, c.drop_fragment) = (false, false, false);
        });
        let path = |target| split(&n, target).0;
        assert_eq!(path("/a//../b"), "/a/b");
        assert_eq!(path("/a/%2e%2e/b"), "/a/%2e%2e/b");
        assert_eq!(path("/a/../b#/../c"), "/b#/../c");
        let n = normalizer(|c| c.index_files = vec!["index.html".into()]);
        assert_eq!(split(&n, "/a/./index.html").0, "/a/");
        assert_eq!(split(&n, "/a/index.html/.").0, "/a/index.html/");
    }

    #[test]
    fn listed_parameters_leave_the_query() {
        let n = normalizer(|c| {
            c.drop_query = DropQuery::Parameters(vec!["utm_*".into(), "gclid".into()]);
        });
        let query = |target| split(&n, target).1;
        assert_eq!(query("/?utm_source=a&x=1&gclid=2&gclid2=3").unwrap(), "x=1&gclid2=3");
        assert_eq!(query("/?utm_source=a"), None);
        assert_eq!(query("/?a=%41%26"), Some("a=A%26".into()));
        assert_eq!(query("/?"), None);
        let all = normalizer(|c| c.drop_query = DropQuery::All(true));
        assert_eq!(split(&all, "/?a=1").1, None);
    }

    #[test]
    fn extensions_are_those_of_the_last_segment() {
        let list = extensions(&["CSS".into()]).unwrap();
        assert!(has_extension(b"/a/b.css", &list) && has_extension(b"/b.CSS", &list));
        assert!(!has_extension(b"/a.css/b", &list) && !has_extension(b"/css", &list));
    }

    /// The algorithm of RFC 3986, 5.2.4, step by step as it is written there.
    fn remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            let up = input.starts_with("/../") || input == "/..";
            if input.starts_with("../") || input.starts_with("./") {
                input = input[input.find('/').unwrap() + 1..].to_owned();
            } else if up || input.starts_with("/./") || input == "/." {
                let length = if up { 3 } else { 2 };
                let rest = &input[length..];
                input = format!("/{}", rest.strip_prefix('/').unwrap_or(rest));
                if up {
                    output.truncate(output.rfind('/').unwrap_or(0));
                }
            } else if input == "." || input == ".." {
                input.clear();
            } else {
                let end = input[1..].find('/').map_or(input.len(), |i| i + 1);
                output.push_str(&input[..end]);
                input.drain(..end);
            }
        }
        output
    }

    /// Targets of all bytes that mean something, with whole dot segments among them.
    fn target() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            3 => "[a%/.#?&=0-9A-F]",
            1 => prop::sample::select(vec!["/.", "/..", "/%2e", "/.%2E", "/./", "/../", "//", "/a"])
                .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..16).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn normalising_twice_is_normalising_once(target in target(), on in any::<[bool; 4]>()) {
            let n = normalizer(|c| {
                c.index_files = vec!["a".into()];
                c.drop_query = DropQuery::Parameters(vec!["a*".into()]);
                (c.decode_percent, c.collapse_slashes) = (on[0], on[1]);
                (c.remove_dot_segments, c.drop_fragment) = (on[2], on[3]);
            });
            let once = split(&n, &target);
            let again = match &once.1 {
                Some(query) => format!("{}?{query}", once.0),
                None => once.0.clone(),
            };
            prop_assert_eq!(split(&n, &again), once);
        }

        #[test]
        fn dot_segments_are_removed_as_the_rfc_says(path in "/[a./]{0,16}") {
            let n = normalizer(|c| c.collapse_slashes = false);
            prop_assert_eq!(split(&n, &path).0, remove_dot_segments(&path));
        }
    }
}
