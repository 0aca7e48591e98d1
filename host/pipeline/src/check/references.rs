//! What `from` refers to.

use super::Items;
use crate::diagnostic::{list, nearest};
use crate::document::{Origin, Value};
use crate::section::{Found, Section};
use crate::{Feed, Reference};

/// The names of everything that can be read.
pub(super) struct Names {
    sources: Vec<String>,
    topics: Vec<String>,
    stages: Vec<String>,
}

impl Names {
    pub(super) fn new(sources: &Items<'_>, topics: &Items<'_>, stages: &Items<'_>) -> Self {
        let names = |items: &Items<'_>| items.iter().map(|(name, _)| name.clone()).collect();
        Self { sources: names(sources), topics: names(topics), stages: names(stages) }
    }

    /// The references that name an item, without outputs.
    fn all(&self) -> Vec<String> {
        let show = |kind: &'static str| move |name: &String| format!("{kind}.{name}");
        let sources = self.sources.iter().map(show("source"));
        let topics = self.topics.iter().map(show("topic"));
        sources.chain(topics).chain(self.stages.iter().map(show("stage"))).collect()
    }

    /// Reads a reference; an error is a message and what helps.
    fn resolve(&self, text: &str) -> Result<Reference, (String, Option<String>)> {
        let index = |names: &[String], name: &str| names.iter().position(|n| n == name);
        let (kind, name) = text.split_once('.').unwrap_or((text, ""));
        let (stage, output) = match name.split_once('.') {
            Some((stage, output)) => (stage, Some(output)),
            None => (name, None),
        };
        let (found, item) = match kind {
            "source" => (index(&self.sources, name).map(Reference::Source), text.to_owned()),
            "topic" => (index(&self.topics, name).map(Reference::Topic), text.to_owned()),
            "stage" => {
                let output = output.map(str::to_owned);
                let found = index(&self.stages, stage);
                (found.map(|stage| Reference::Stage { stage, output }), format!("stage.{stage}"))
            }
            "sink" => return Err((format!("{text:?} can't be read: it is a sink"), None)),
            _ => {
                let message = format!(
                    "expected source.NAME, topic.NAME, stage.NAME or stage.NAME.OUTPUT, found \
                     {text:?}"
                );
                let all = self.all();
                let bare = all.iter().find(|r| r.split_once('.').is_some_and(|(_, n)| n == text));
                let near = bare.map(String::as_str);
                let near = near.or_else(|| nearest(text, all.iter().map(String::as_str)));
                return Err((message, near.map(|n| format!("did you mean {n:?}?"))));
            }
        };
        found.ok_or_else(|| self.unknown(kind, &item, output.filter(|_| kind == "stage")))
    }

    fn unknown(&self, kind: &str, item: &str, output: Option<&str>) -> (String, Option<String>) {
        let all = self.all();
        let name = item.split_once('.').map_or(item, |(_, name)| name);
        let same_name = all.iter().find(|r| r.split_once('.').is_some_and(|(_, n)| n == name));
        let near = nearest(item, all.iter().map(String::as_str));
        let help = match same_name.map(String::as_str).or(near) {
            Some(near) if near.starts_with("stage.") && output.is_some() => {
                format!("did you mean \"{near}.{}\"?", output.unwrap_or_default())
            }
            Some(near) => format!("did you mean {near:?}?"),
            None => {
                let prefix = format!("{kind}.");
                let same_kind: Vec<_> = all.iter().filter(|r| r.starts_with(&prefix)).collect();
                match same_kind.is_empty() {
                    true => format!("the pipeline has no {kind}; add [{item}]"),
                    false => format!("add [{item}], or read {}", list(same_kind)),
                }
            }
        };
        (format!("there is no {item}"), Some(help))
    }
}

/// The key `from` of an item; `ports` says whether it may be a table.
pub(super) fn feeds(section: &Section<'_>, names: &Names, ports: bool) -> Vec<Feed> {
    let Some(entry) = section.get("from") else { return Vec::new() };
    let path = section.at("from");
    let mut feeds = Vec::new();
    match &entry.item.value {
        Value::Table(_) if ports => {
            let table = Section::new(section.problems, path.clone(), entry.origin, &entry.item)
                .expect("it was just found to be a table");
            for port in table.entries() {
                let found = table.strings_of(&port.key, &port.item).unwrap_or_default();
                let path = table.at(&port.key);
                empty(section, port.item.origin, &path, &port.item.value);
                add(section, names, found, Some(&port.key), &path, &mut feeds);
            }
            if table.entries().is_empty() {
                section.problems.error(entry.item.origin, path, "the table is empty", None);
            }
        }
        _ => {
            let found = section.strings_of("from", &entry.item).unwrap_or_default();
            empty(section, entry.item.origin, &path, &entry.item.value);
            add(section, names, found, None, &path, &mut feeds);
        }
    }
    feeds
}

fn empty(section: &Section<'_>, origin: Origin, path: &str, value: &Value) {
    if matches!(value, Value::Array(items) if items.is_empty()) {
        section.problems.error(origin, path, "the list is empty", None);
    }
}

fn add(
    section: &Section<'_>,
    names: &Names,
    found: Vec<Found<&str>>,
    port: Option<&str>,
    path: &str,
    feeds: &mut Vec<Feed>,
) {
    for Found { value: text, origin } in found {
        let from = match names.resolve(text) {
            Ok(from) => from,
            Err((message, help)) => {
                section.problems.error(origin, path, message, help);
                continue;
            }
        };
        let feed = Feed {
            port: port.map(str::to_owned),
            from,
            text: text.to_owned(),
            path: path.to_owned(),
            at: section.problems.document.at(origin),
            origin,
        };
        if feeds.iter().any(|f| f.port == feed.port && f.from == feed.from) {
            let message = format!("{text} is there twice");
            section.problems.error(origin, path, message, None);
        }
        feeds.push(feed);
    }
}
