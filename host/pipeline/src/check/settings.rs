//! The settings of the whole pipeline, and the kinds of value that several items share.

use std::path::{Path, PathBuf};

use super::kafka::listen_address;
use super::{MAX_MS, is_topic_name};
use crate::document::{Origin, Value};
use crate::section::{Found, Section};
use crate::{Engine, KeyBy, Policy, Rejects};

pub(super) fn name(top: &Section<'_>) -> String {
    if !top.has("name") {
        let known = top.get("name").is_some();
        debug_assert!(!known, "the key is not there");
        top.missing("name", "write name = \"NAME\" at the top, of a-z, 0-9 and '-'");
        return String::new();
    }
    let Some(name) = top.string("name") else { return String::new() };
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=60).contains(&name.value.len()) || !name.value.bytes().all(known) {
        let message = format!("expected 1 to 60 of a-z, 0-9 and '-', found {:?}", name.value);
        top.problems.error(name.origin, "name", message, None);
    }
    name.value.to_owned()
}

/// The table `[engine]`; `kafka` says whether the pipeline runs on Kafka.
pub(super) fn engine(section: Option<Section<'_>>, folder: &Path, kafka: bool) -> Engine {
    let mut engine = Engine {
        workers: None,
        checkpoint_interval_ms: if kafka { 100 } else { 1_000 },
        batch_records: 1_000,
        cache_bytes: 512 << 20,
        partitions: 4,
        plugins: vec![folder.to_owned()],
        admin: None,
    };
    let Some(section) = section else { return engine };
    engine.workers = section.integer("workers", 1..=256);
    let interval = section.duration("checkpoint-interval", 10..=86_400_000);
    if let Some(ms) = interval.and_then(|ms| u64::try_from(ms).ok()) {
        engine.checkpoint_interval_ms = ms;
    }
    if let Some(records) = section.integer("batch-records", 1..=100_000) {
        engine.batch_records = records;
    }
    if let Some(bytes) = section.bytes("cache", 1 << 20..=1 << 40) {
        engine.cache_bytes = bytes;
    }
    if let Some(partitions) = section.integer("partitions", 1..=1_024) {
        engine.partitions = partitions;
    }
    if let Some(folders) = section.strings("plugins") {
        engine.plugins = folders.into_iter().map(|f| resolve(folder, f)).collect();
    }
    engine.admin = listen_address(&section, "admin");
    section.finish();
    engine
}

/// The topics of rejected records when nothing is said.
pub(super) fn default_rejects() -> Rejects {
    Rejects {
        malformed: "dead".to_owned(),
        invalid: "invalid".to_owned(),
        late: "late".to_owned(),
        expired: "expired".to_owned(),
    }
}

/// A table `rejects` on top of what holds without it.
pub(super) fn rejects(section: Option<Section<'_>>, otherwise: &Rejects) -> Rejects {
    let Some(section) = section else { return otherwise.clone() };
    let topic = |key: &'static str, otherwise: &str| {
        let Some(name) = section.string(key) else { return otherwise.to_owned() };
        topic_name(&section, key, name);
        name.value.to_owned()
    };
    let rejects = Rejects {
        malformed: topic("malformed", &otherwise.malformed),
        invalid: topic("invalid", &otherwise.invalid),
        late: topic("late", &otherwise.late),
        expired: topic("expired", &otherwise.expired),
    };
    section.finish();
    rejects
}

/// Reports a name that the embedded log does not take.
pub(super) fn topic_name(section: &Section<'_>, key: &str, name: Found<&str>) {
    if !is_topic_name(name.value) {
        let message = format!(
            "expected the name of a topic, 1 to 200 letters, digits, '.', '_' or '-', found {:?}",
            name.value
        );
        section.problems.error(name.origin, section.at(key), message, None);
    }
}

/// A path, relative to the pipeline file, or to the current directory when it comes from a `--set`.
pub(super) fn resolve(folder: &Path, path: Found<&str>) -> PathBuf {
    base(folder, path.origin).join(path.value)
}

/// What relative paths are relative to.
pub(super) fn base(folder: &Path, origin: Origin) -> &Path {
    match origin {
        Origin::Set(_) => Path::new(""),
        _ => folder,
    }
}

pub(super) fn policy(section: &Section<'_>) -> Policy {
    Policy {
        out_of_orderness_ms: section.duration("out-of-orderness", 0..=MAX_MS).unwrap_or(0),
        idle_timeout_ms: section.duration("idle-timeout", 1..=MAX_MS),
    }
}

/// A dotted field of a JSON value.
pub(super) fn field(section: &Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let found = section.string(key)?;
    field_path(section, key, found)
}

fn field_path(section: &Section<'_>, key: &str, found: Found<&str>) -> Option<Vec<String>> {
    let segments: Vec<String> = found.value.split('.').map(str::to_owned).collect();
    if segments.iter().any(String::is_empty) {
        let message =
            format!("expected the path of a field such as \"user.id\", found {:?}", found.value);
        section.problems.error(found.origin, section.at(key), message, None);
        return None;
    }
    Some(segments)
}

/// The key `key-by`.
pub(super) fn key_by(section: &Section<'_>) -> Option<KeyBy> {
    let key = "key-by";
    let entry = section.get(key)?;
    if !matches!(entry.item.value, Value::Table(_)) {
        return match crate::section::text(&entry.item) {
            Some(value) => {
                let found = Found { value, origin: entry.item.origin };
                field_path(section, key, found).map(KeyBy::Field)
            }
            None => {
                section.wrong(
                    key,
                    &entry.item,
                    "a field such as \"user.id\" or { constant = ... }",
                );
                None
            }
        };
    }
    let table = Section::new(section.problems, section.at(key), entry.origin, &entry.item)?;
    let constant = table.string("constant").map(|c| KeyBy::Constant(c.value.to_owned()));
    if constant.is_none() && !table.has("constant") {
        table.missing("constant", "write { constant = \"all\" }, or a field as a string");
    }
    table.finish();
    constant
}
