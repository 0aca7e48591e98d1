//! Turns a document into a [`Draft`] of a pipeline.
//!
//! Invariant: an item of a kind has the same index in [`Names`] and in the pipeline, also when there
//! are problems in it, and every reference of the pipeline points at an item that exists.

mod kafka;
mod properties;
mod references;
mod settings;
mod sinks;
mod sources;
mod stages;
mod start;
mod topics;
mod transactions;
mod whole;

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::section::{Problems, Section};
use crate::{Draft, Pipeline};

use references::Names;

/// The longest time that a setting can have, 100 years.
const MAX_MS: i64 = 36_500 * 86_400_000;

/// Checks the text of a pipeline file.
pub(crate) fn draft(
    file: &Path,
    text: &str,
    sets: &[(String, String)],
) -> Result<Draft, Vec<Diagnostic>> {
    let (document, found) = Document::parse(file, text, sets)?;
    let problems = Problems::new(&document, found);
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut draft = read(file, folder, &problems);
    whole::check(&draft.pipeline, &problems);
    draft.problems = problems.into_sorted();
    Ok(draft)
}

/// Reads the items; the draft has no problems yet.
fn read(file: &Path, folder: &Path, problems: &Problems<'_>) -> Draft {
    let root = &problems.document.root;
    let top = Section::new(problems, String::new(), root.origin, root)
        .expect("the root of a TOML document is a table");
    let name = settings::name(&top);
    let kafka = kafka::kafka(top.section("kafka"), &name);
    let on_kafka = top.has("kafka");
    let engine = settings::engine(top.section("engine"), folder, on_kafka);
    let rejects = settings::rejects(top.section("rejects"), &settings::default_rejects());
    let sources = items(&top, "source");
    let topics = items(&top, "topic");
    let stages = items(&top, "stage");
    let sinks = items(&top, "sink");
    top.finish();
    let names = Names::new(&sources, &topics, &stages);
    let source = |(name, s)| sources::source(name, s, folder, on_kafka);
    let (sources, inputs) = sources.into_iter().map(source).unzip();
    let stage = |(name, s)| stages::stage(name, s, folder, &names, &rejects);
    let (stages, plugins) = stages.into_iter().map(stage).unzip();
    let pipeline = Pipeline {
        name,
        file: file.to_owned(),
        engine,
        kafka,
        sources,
        topics: topics.into_iter().map(|(name, s)| topics::topic(name, s, &names)).collect(),
        stages,
        sinks: sinks.into_iter().map(|(name, s)| sinks::sink(name, s, folder, &names)).collect(),
        rejects,
        warnings: Vec::new(),
        document: problems.document.clone(),
    };
    Draft { pipeline, problems: Vec::new(), plugins, inputs }
}

type Items<'a> = Vec<(String, Section<'a>)>;

/// The tables `[kind.NAME]`.
fn items<'a>(top: &Section<'a>, kind: &'static str) -> Items<'a> {
    let Some(all) = top.section(kind) else { return Vec::new() };
    let mut items = Vec::new();
    for entry in all.entries() {
        let path = all.at(&entry.key);
        let fits = match kind {
            "topic" => is_topic_name(&entry.key),
            _ => {
                let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
                (1..=60).contains(&entry.key.len()) && entry.key.bytes().all(known)
            }
        };
        if !fits {
            let expected = match kind {
                "topic" => "1 to 200 letters, digits, '.', '_' or '-'",
                _ => "1 to 60 letters, digits, '_' or '-'",
            };
            let message = format!("expected a name of {expected}, found {:?}", entry.key);
            all.problems.error(entry.origin, kind, message, None);
        }
        if let Some(section) = Section::new(all.problems, path, entry.origin, &entry.item) {
            items.push((entry.key.clone(), section));
        }
    }
    items
}

/// Whether the embedded log takes a name for a topic.
fn is_topic_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=200).contains(&name.len()) && name.bytes().all(known) && !matches!(name, "." | "..")
}
