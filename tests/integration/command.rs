//! The commands as people use them: what they print, with which exit code they end, and where.

mod examples;
mod pipes;
mod scaffold;
mod state;
mod usage;

use std::fs;

use crate::support::{plugin, root, stdout_of, wasmill};

/// Counts the records of each user, over two partitions.
const PIPELINE: &str = r#"name = "count"

[engine]
partitions = 2
checkpoint-interval = "20ms"
plugins = ["plugins"]

[source.raw]
path = "in.jsonl"
format = "jsonl"
key = "user"

[topic.raw]
from = "source.raw"

[stage.count]
plugin = "evil-keyed"
from = "topic.raw"

[sink.out]
from = "stage.count"
path = "out-{partition}.txt"
"#;

/// A folder with a pipeline, its plugin, and 600 records of 7 users.
fn site() -> tempfile::TempDir {
    let site = tempfile::tempdir().unwrap();
    let at = |name: &str| site.path().join(name);
    fs::write(at("count.toml"), PIPELINE).unwrap();
    fs::write(at("in.jsonl"), lines(0..600)).unwrap();
    fs::create_dir(at("plugins")).unwrap();
    fs::copy(plugin("evil-keyed"), at("plugins/evil-keyed.wasm")).unwrap();
    site
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{{\"user\":\"u{}\",\"n\":{i}}}\n", i % 7)).collect()
}

/// A [`site`] whose pipeline has run to its end.
fn ran() -> tempfile::TempDir {
    let site = site();
    stdout_of(wasmill(site.path(), &["run", "count.toml", "--data-dir", "data"]));
    site
}

/// The folder of the plugins, as an argument.
fn plugins() -> String {
    root().join("target/plugins").display().to_string()
}
