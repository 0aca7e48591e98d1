//! The tables `[sink.NAME]`.

use std::path::Path;

use super::references::{Names, feeds};
use super::settings::resolve;
use crate::section::{Found, Section};
use crate::{Sink, SinkFormat, SinkKind};

pub(super) fn sink(name: String, section: Section<'_>, folder: &Path, names: &Names) -> Sink {
    if !section.has("from") {
        section.missing("from", "write from = \"stage.NAME\"");
    }
    let given = section.choice("type", &[("file", true), ("stdout", false)]);
    if given.is_none() && !section.has("type") && !section.has("path") {
        section.missing("type", "give a path, or type = \"stdout\"");
        section.get("path");
    }
    let file = given.map_or(section.has("path"), |t| t.value);
    if file && !section.has("path") {
        section.missing("path", "write path = \"FILE\"");
    }
    let kind = if file {
        match section.string("path") {
            Some(path) => self::file(&section, folder, path),
            None => SinkKind::Stdout,
        }
    } else {
        section.forbid("path", "only a sink of type \"file\" has this key", None);
        SinkKind::Stdout
    };
    let formats = [("value", SinkFormat::Value), ("record", SinkFormat::Record)];
    let sink = Sink {
        name,
        at: section.problems.document.at(section.origin),
        from: feeds(&section, names, false),
        kind,
        format: section.choice("format", &formats).map_or(SinkFormat::Value, |f| f.value),
    };
    section.finish();
    sink
}

fn file(section: &Section<'_>, folder: &Path, path: Found<&str>) -> SinkKind {
    let error = |message: String, help: Option<String>| {
        section.problems.error(path.origin, section.at("path"), message, help);
    };
    if path.value.is_empty() {
        error("the path is empty".to_owned(), None);
    }
    let mut partitioned = false;
    let mut rest = path.value;
    while let Some((_, tail)) = rest.split_once('{') {
        let Some((placeholder, after)) = tail.split_once('}') else { break };
        match placeholder {
            "partition" => partitioned = true,
            _ => error(
                format!("expected the placeholder {{partition}}, found {{{placeholder}}}"),
                None,
            ),
        }
        rest = after;
    }
    SinkKind::File { path: resolve(folder, path), partitioned }
}
