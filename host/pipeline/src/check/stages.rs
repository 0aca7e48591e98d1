//! The tables `[stage.NAME]`.

use std::path::Path;

use super::MAX_MS;
use super::references::{Names, feeds};
use super::settings::{key_by, rejects, resolve};
use crate::document::{Item, Value};
use crate::section::Section;
use crate::{Limits, OnFailure, PluginRef, Rejects, Resource, Stage};

/// The keys that a plugin is found, loaded and configured by.
const OF_PLUGIN: [&str; 5] = ["plugin", "trusted", "config", "resources", "limits"];

/// A stage, and whether what concerns its plugin could be read.
pub(super) fn stage(
    name: String,
    section: Section<'_>,
    folder: &Path,
    names: &Names,
    otherwise: &Rejects,
) -> (Stage, bool) {
    let errors = section.problems.errors();
    let plugin = plugin(&section, folder);
    let trusted = section.boolean("trusted").unwrap_or(false);
    let config = config(&section);
    let resources = resources(&section, folder);
    let limits = limits(section.section("limits"));
    let is_read = section.problems.errors() == errors;
    if !section.has("from") {
        section.missing("from", "write from = \"topic.NAME\", a source, a stage or a list");
    }
    let from = feeds(&section, names, true);
    let key_by = key_by(&section);
    let repartition = section.boolean("repartition").unwrap_or(true);
    if key_by.is_some() && !repartition {
        let entry = section.get("repartition").expect("it was just read as false");
        let message = "false contradicts key-by, which always repartitions";
        let help = Some("remove one of the two".to_owned());
        section.problems.error(entry.origin, section.at("repartition"), message, help);
    }
    let policies = [("dead-letter", OnFailure::DeadLetter), ("halt", OnFailure::Halt)];
    let stage = Stage {
        name,
        at: section.problems.document.at(section.origin),
        plugin,
        from,
        key_by,
        repartition,
        state_ttl_ms: section.duration("state-ttl", 1..=MAX_MS),
        max_age_ms: section.duration("max-age", 0..=MAX_MS),
        on_failure: section
            .choice("on-failure", &policies)
            .map_or(OnFailure::DeadLetter, |p| p.value),
        max_failures: section.integer("max-failures", 1..=1_000_000).unwrap_or(100),
        trusted,
        config,
        resources,
        limits,
        rejects: rejects(section.section("rejects"), otherwise),
    };
    let is_read = is_read && !section.may_mean(&OF_PLUGIN);
    section.finish();
    (stage, is_read)
}

fn plugin(section: &Section<'_>, folder: &Path) -> PluginRef {
    if !section.has("plugin") {
        section.missing("plugin", "write plugin = \"NAME\", or the path of a .wasm file");
    }
    let Some(plugin) = section.string("plugin") else { return PluginRef::Name(String::new()) };
    if plugin.value.ends_with(".wasm") {
        return PluginRef::File(resolve(folder, plugin));
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if plugin.value.is_empty() || !plugin.value.bytes().all(known) {
        let message = format!(
            "expected the name of a plugin or a path that ends in .wasm, found {:?}",
            plugin.value
        );
        section.problems.error(plugin.origin, section.at("plugin"), message, None);
    }
    PluginRef::Name(plugin.value.to_owned())
}

fn resources(section: &Section<'_>, folder: &Path) -> Vec<Resource> {
    let Some(table) = section.section("resources") else { return Vec::new() };
    let mut resources = Vec::new();
    for entry in table.entries() {
        match crate::section::text(&entry.item) {
            Some(value) => {
                let found = crate::section::Found { value, origin: entry.item.origin };
                resources.push(Resource {
                    name: entry.key.clone(),
                    path: resolve(folder, found),
                    at: section.problems.document.at(entry.item.origin),
                });
            }
            None => table.wrong(&entry.key, &entry.item, "the path of a file"),
        }
    }
    resources
}

fn limits(section: Option<Section<'_>>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = section else { return limits };
    let bytes = |key, range, limit: &mut u64| {
        if let Some(bytes) = section.bytes(key, range) {
            *limit = bytes;
        }
    };
    bytes("memory", 1 << 20..=4 << 30, &mut limits.memory_bytes);
    let time = section.duration("batch-time", 1..=600_000);
    if let Some(ms) = time.and_then(|ms| u64::try_from(ms).ok()) {
        limits.batch_time_ms = ms;
    }
    bytes("output", 1 << 10..=1 << 30, &mut limits.output_bytes);
    bytes("state", 1..=64 << 20, &mut limits.state_bytes);
    if let Some(timers) = section.integer("timers", 0..=1_000_000) {
        limits.timers = timers;
    }
    bytes("map-write", 1 << 10..=1 << 30, &mut limits.map_write_bytes);
    section.finish();
    limits
}

type Json = serde_json::Map<String, serde_json::Value>;

fn config(section: &Section<'_>) -> Json {
    let Some(table) = section.section("config") else { return Json::new() };
    let entries = table.entries().iter();
    entries.map(|e| (e.key.clone(), json(&table, &table.at(&e.key), &e.item))).collect()
}

/// A value as JSON; dates and times become text.
fn json(section: &Section<'_>, path: &str, item: &Item) -> serde_json::Value {
    match &item.value {
        Value::String(text) | Value::Datetime(text) => text.clone().into(),
        Value::Integer(n) => (*n).into(),
        Value::Bool(b) => (*b).into(),
        Value::Float(x) => match serde_json::Number::from_f64(*x) {
            Some(number) => number.into(),
            None => {
                let message = format!("{x} can't be handed to a plugin: JSON has no such number");
                section.problems.error(item.origin, path, message, None);
                serde_json::Value::Null
            }
        },
        Value::Array(items) => {
            let element = |(i, item)| json(section, &format!("{path}.{i}"), item);
            items.iter().enumerate().map(element).collect()
        }
        Value::Table(entries) => {
            let entry = |e: &crate::document::Entry| {
                (e.key.clone(), json(section, &format!("{path}.{}", e.key), &e.item))
            };
            serde_json::Value::Object(entries.iter().map(entry).collect())
        }
    }
}
