//! The page view as JSON. Invariant: the order of its fields is that of `README.md`.

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;

use crate::config::TypeRule;
use crate::cursor::Text;
use crate::json;
use crate::line::Line;
use crate::url::{Target, host_range};

/// The types of events.
#[derive(Debug)]
pub struct Types(Vec<(TypeRule, Vec<u8>)>);

impl Types {
    /// Takes the rules of the configuration.
    pub fn new(rules: &[TypeRule]) -> Result<Self, ConfigError> {
        let check = |(i, rule): (usize, &TypeRule)| {
            let wrong = |key: &str, message: &str| Err(error(format!("types.{i}.{key}"), message));
            if rule.path_prefix.is_empty() {
                return wrong("path-prefix", "it is empty; write \"/\" for every path");
            }
            if rule.kind.is_empty() {
                return wrong("type", "it is empty; write a name such as \"purchase\"");
            }
            let mut kind = Vec::new();
            json::text(&mut kind, rule.kind.as_bytes());
            Ok((rule.clone(), kind))
        };
        rules.iter().enumerate().map(check).collect::<Result<_, _>>().map(Self)
    }

    /// The type of a request, ready for JSON.
    #[inline]
    pub fn of(&self, method: &[u8], path: &[u8]) -> &[u8] {
        let fits = |rule: &TypeRule| {
            path.starts_with(rule.path_prefix.as_bytes())
                && rule.method.as_ref().is_none_or(|m| m.as_bytes() == method)
        };
        self.0.iter().find(|(rule, _)| fits(rule)).map_or(b"view", |(_, kind)| kind)
    }
}

/// What goes into a page view.
pub struct Event<'e> {
    /// The line it comes from.
    pub line: &'e Line<'e>,
    /// The user.
    pub user: &'e [u8],
    /// The type, ready for JSON.
    pub kind: &'e [u8],
    /// The method.
    pub method: &'e [u8],
    /// The target.
    pub target: &'e Target<'e>,
    /// Whether the host is written.
    pub host: bool,
    /// Whether hosts are written in lower case.
    pub lower_host: bool,
}

impl Event<'_> {
    /// Appends it as one line of JSON.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = self.line;
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(b"{\"ts\":");
        out.extend_from_slice(digits.format(line.timestamp).as_bytes());
        out.extend_from_slice(b",\"user\":\"");
        json::text(out, self.user);
        out.extend_from_slice(b"\",\"ip\":\"");
        json::text(out, line.ip);
        out.extend_from_slice(b"\",\"type\":\"");
        out.extend_from_slice(self.kind);
        out.extend_from_slice(b"\",\"method\":\"");
        json::text(out, self.method);
        if let (true, Some(host)) = (self.host, self.target.host) {
            out.extend_from_slice(b"\",\"host\":\"");
            if self.lower_host {
                json::text(out, &host.to_ascii_lowercase());
            } else {
                json::text(out, host);
            }
        }
        out.extend_from_slice(b"\",\"path\":\"");
        json::text(out, &self.target.path);
        if let Some(query) = &self.target.query {
            out.extend_from_slice(b"\",\"query\":\"");
            json::text(out, query);
        }
        out.extend_from_slice(b"\",\"status\":");
        out.extend_from_slice(digits.format(line.status).as_bytes());
        out.extend_from_slice(b",\"bytes\":");
        out.extend_from_slice(digits.format(line.bytes).as_bytes());
        if let Some(referrer) = &line.referrer {
            out.extend_from_slice(b",\"referrer\":\"");
            self.referrer(out, referrer);
            out.push(b'"');
        }
        if let Some(agent) = &line.agent {
            out.extend_from_slice(b",\"agent\":\"");
            text(out, agent);
            out.push(b'"');
        }
        out.push(b'}');
    }

    fn referrer(&self, out: &mut Vec<u8>, referrer: &Text<'_>) {
        let url = &*referrer.bytes;
        match host_range(url) {
            Some(range)
                if self.lower_host && url[..range.end].iter().any(u8::is_ascii_uppercase) =>
            {
                json::text(out, &url[..range.end].to_ascii_lowercase());
                json::text(out, &url[range.end..]);
            }
            _ => text(out, referrer),
        }
    }
}

#[inline]
fn text(out: &mut Vec<u8>, text: &Text<'_>) {
    if text.plain {
        out.extend_from_slice(&text.bytes);
    } else {
        json::text(out, &text.bytes);
    }
}
