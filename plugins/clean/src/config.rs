//! The configuration. Invariant: what is not said has the default that `README.md` states.

use wasmill_sdk::config::Span;
use wasmill_sdk::prelude::Deserialize;

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The log's format.
    pub format: Format,
    /// Who counts as a user.
    pub user: User,
    /// Whether percent-escapes of characters that need none are decoded and those that stay are
    /// written in upper case (RFC 3986, 6.2.2), in path and query.
    pub decode_percent: bool,
    /// Whether `//` in a path becomes `/`.
    pub collapse_slashes: bool,
    /// Whether `.` and `..` are worked out of a path (RFC 3986, 5.2.4): `/a/./b/../c` becomes `/a/c`.
    pub remove_dot_segments: bool,
    /// Whether `#` and what follows is cut off a target.
    pub drop_fragment: bool,
    /// Whether the host of the referrer and of the `host` field is put into lower case.
    pub lower_host: bool,
    /// File names that stand for their directory: with `["index.html"]`, `/a/index.html` becomes
    /// `/a/`.
    pub index_files: Vec<String>,
    /// What is dropped of the query.
    pub drop_query: DropQuery,
    /// Whether the event gets a `host` field where the log has whole URLs (load balancers, proxies).
    pub host: bool,
    /// Parts of user agents, in any case, by which bots are known; their requests go to `bots`.
    pub bots: Vec<String>,
    /// The status codes that are allowed.
    pub status: Vec<StatusRange>,
    /// The methods that are allowed; they are case-sensitive, as in HTTP.
    pub methods: Vec<String>,
    /// How far a request may lie in the future of the host's clock; 0 for any time.
    pub max_future: Span,
    /// Extensions, without dot and in any case, of requests that go to `assets`.
    pub drop_extensions: Vec<String>,
    /// The types of events; the first rule that fits counts, without one it is `view`.
    pub types: Vec<TypeRule>,
}

impl Default for Config {
    fn default() -> Self {
        let texts = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Self {
            format: Format::Auto,
            user: User::Ip,
            decode_percent: true,
            collapse_slashes: true,
            remove_dot_segments: true,
            drop_fragment: true,
            lower_host: true,
            index_files: Vec::new(),
            drop_query: DropQuery::All(false),
            host: false,
            bots: texts(&BOTS),
            status: vec![StatusRange { first: 100, last: 599 }],
            methods: texts(&METHODS),
            max_future: Span(86_400_000),
            drop_extensions: Vec::new(),
            types: Vec::new(),
        }
    }
}

/// The bots that are known by default.
const BOTS: [&str; 18] = [
    "bot",
    "spider",
    "crawl",
    "slurp",
    "mediapartners",
    "facebookexternalhit",
    "feedfetcher",
    "feedburner",
    "ia_archiver",
    "curl/",
    "wget/",
    "python-requests",
    "python-urllib",
    "libwww-perl",
    "go-http-client",
    "headlesschrome",
    "pingdom",
    "elb-healthchecker",
];

/// The IANA registry of HTTP methods, the common ones first.
const METHODS: [&str; 40] = [
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "CONNECT",
    "TRACE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Apache's and Nginx's combined (or common) log format.
    Combined,
    /// AWS Classic Load Balancer.
    Elb,
    /// AWS Application Load Balancer.
    Alb,
    /// Told apart line by line.
    Auto,
}

/// Who counts as a user: `ip`, `ip+agent`, `field:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum User {
    /// The client's address.
    Ip,
    /// The client's address, `-`, and eight hexadecimal digits of a hash of the user agent.
    IpAgent,
    /// `field:remote-user`: the authenticated user of a combined log; the address without one.
    RemoteUser,
    /// Another field: the value of the query parameter of that name; the address without one.
    Parameter(String),
}

impl TryFrom<String> for User {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "ip" => Ok(Self::Ip),
            "ip+agent" => Ok(Self::IpAgent),
            "field:remote-user" => Ok(Self::RemoteUser),
            other => match other.strip_prefix("field:") {
                Some(name) if !name.is_empty() => Ok(Self::Parameter(name.to_owned())),
                _ => Err(format!(
                    "{other:?} is no user; write ip, ip+agent, field:remote-user or \
                     field:PARAMETER"
                )),
            },
        }
    }
}

/// What is dropped of a query.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a list of parameters such as [\"utm_*\"]")]
pub enum DropQuery {
    /// All of it, or nothing.
    All(bool),
    /// These parameters; `*` at the end of a name stands for any rest.
    Parameters(Vec<String>),
}

/// A range of status codes, both ends included: `200`, or `"300-399"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StatusText")]
pub struct StatusRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a status code such as 200 or a range such as \"200-299\"")]
enum StatusText {
    Code(u16),
    Range(String),
}

impl TryFrom<StatusText> for StatusRange {
    type Error = String;
    fn try_from(text: StatusText) -> Result<Self, String> {
        let (first, last) = match &text {
            StatusText::Code(code) => (Some(*code), Some(*code)),
            StatusText::Range(range) => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                (first.trim().parse().ok(), last.trim().parse().ok())
            }
        };
        match (first, last) {
            (Some(first), Some(last)) if 1 <= first && first <= last && last <= 999 => {
                Ok(Self { first, last })
            }
            _ => Err(match text {
                StatusText::Code(code) => format!("{code} is no status code (1 to 999)"),
                StatusText::Range(range) => {
                    format!("{range:?} is no range of status codes; write \"200-299\"")
                }
            }),
        }
    }
}

/// When an event has a type other than `view`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TypeRule {
    /// How the normalised path begins.
    pub path_prefix: String,
    /// The method; any without it.
    #[serde(default)]
    pub method: Option<String>,
    /// The type of such events.
    #[serde(rename = "type")]
    pub kind: String,
}
