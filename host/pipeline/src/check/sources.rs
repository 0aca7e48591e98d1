//! The tables `[source.NAME]`.

use std::path::Path;

use super::settings::{base, field, policy, topic_name};
use super::start::start;
use crate::section::Section;
use crate::{Compression, Encoding, Format, LostOffsets, Pattern, Source, SourceKind};

/// The keys that only sources of type `topic` have.
const OF_TOPICS: [&str; 3] = ["topic", "start", "lost-offsets"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    File,
    Stdin,
    Topic,
}

/// The keys that say what is read.
const OF_INPUT: [&str; 5] = ["type", "path", "topic", "format", "compression"];

/// A source, and whether what it reads could be read; `kafka` says whether the pipeline runs on Kafka.
pub(super) fn source(
    name: String,
    section: Section<'_>,
    folder: &Path,
    kafka: bool,
) -> (Source, bool) {
    let errors = section.problems.errors();
    let given = section
        .choice("type", &[("file", Type::File), ("stdin", Type::Stdin), ("topic", Type::Topic)]);
    let inferred = match (section.has("path"), section.has("topic")) {
        (true, _) => Some(Type::File),
        (false, true) => Some(Type::Topic),
        (false, false) => None,
    };
    let kind = given.map(|t| t.value).or(inferred);
    if kind.is_none() && !section.has("type") {
        section.missing("type", "give a path, a topic, or type = \"stdin\"");
    }
    let kind = kind.unwrap_or(Type::Stdin);
    let settled = given.is_some() || inferred.is_some();
    let read = match kind {
        Type::File => file(&section, folder),
        Type::Stdin => SourceKind::Stdin { encoding: encoding(&section) },
        Type::Topic => topic(&section, kafka),
    };
    let is_read = section.problems.errors() == errors;
    let source = Source {
        name,
        at: section.problems.document.at(section.origin),
        kind: read,
        policy: policy(&section),
        bounded: section.boolean("bounded").unwrap_or(kind != Type::Topic),
    };
    if settled {
        let forbid = |keys: &[&'static str], allowed: &str| {
            for key in keys {
                section.forbid(key, &format!("only a source of type {allowed} has this key"), None);
            }
        };
        match kind {
            Type::File => forbid(&OF_TOPICS, "\"topic\""),
            Type::Stdin => {
                forbid(&["path"], "\"file\"");
                forbid(&OF_TOPICS, "\"topic\"");
            }
            Type::Topic => {
                forbid(&["path"], "\"file\"");
                let keys = ["format", "compression", "key", "timestamp"];
                forbid(&keys, "\"file\" or \"stdin\"");
            }
        }
    } else {
        for key in ["path"].iter().chain(&OF_TOPICS) {
            section.get(key);
        }
    }
    let is_read = is_read && !section.may_mean(&OF_INPUT);
    section.finish();
    (source, is_read)
}

fn file(section: &Section<'_>, folder: &Path) -> SourceKind {
    if !section.has("path") {
        section.missing("path", "write path = \"FILE\", a list of files, or a glob");
    }
    let patterns = section.strings("path").unwrap_or_default().into_iter();
    let paths = patterns
        .map(|p| {
            let folder = match Path::new(p.value).is_absolute() {
                true => Path::new(""),
                false => base(folder, p.origin),
            };
            if p.value.is_empty() {
                section.problems.error(p.origin, section.at("path"), "the path is empty", None);
            }
            Pattern { folder: folder.to_owned(), glob: p.value.to_owned() }
        })
        .collect();
    SourceKind::File { paths, encoding: encoding(section) }
}

fn topic(section: &Section<'_>, kafka: bool) -> SourceKind {
    if !section.has("topic") {
        section.missing("topic", "write topic = \"NAME\"");
    }
    let topic = section.string("topic");
    if let Some(name) = topic {
        topic_name(section, "topic", name);
    }
    let lost = [
        ("fail", LostOffsets::Fail),
        ("earliest", LostOffsets::Earliest),
        ("latest", LostOffsets::Latest),
    ];
    SourceKind::Topic {
        topic: topic.map_or_else(String::new, |t| t.value.to_owned()),
        start: start(section, kafka),
        lost_offsets: section.choice("lost-offsets", &lost).map_or(LostOffsets::Fail, |l| l.value),
    }
}

fn encoding(section: &Section<'_>) -> Encoding {
    let lines = section
        .choice("format", &[("lines", true), ("jsonl", false)])
        .map_or(!section.has("format"), |f| f.value);
    let compressions = [
        ("auto", Compression::Auto),
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ];
    let compression =
        section.choice("compression", &compressions).map_or(Compression::Auto, |c| c.value);
    if lines {
        for key in ["key", "timestamp"] {
            let help = Some("add format = \"jsonl\"".to_owned());
            section.forbid(key, "lines of text have no fields", help);
        }
        return Encoding { format: Format::Lines, compression };
    }
    let (key, timestamp) = (field(section, "key"), field(section, "timestamp"));
    Encoding { format: Format::JsonLines { key, timestamp }, compression }
}
