//! The plugin as the host sees it: records in, enriched records out.

#![allow(clippy::unwrap_used)]

mod config;
mod derive;
mod envelope;
mod table;

use enrich::Enrich;
use wasmill_sdk::abi::{Origins, Resource, StatelessBatch};
use wasmill_sdk::config::{Setup, parse};
use wasmill_sdk::prelude::{ConfigError, Stateless};

/// Makes the plugin with one resource `t`, given by file name and content.
fn enrich(config: &str, (file, data): (&str, &str)) -> Result<Enrich, ConfigError> {
    let resource =
        Resource { name: "t".into(), file_name: file.into(), data: data.as_bytes().to_vec() };
    let setup = Setup { pipeline: "web".into(), stage: "wrap".into(), resources: vec![resource] };
    Enrich::new(parse(config)?, &setup)
}

/// Feeds one record of time 1431857103000, read from web/3 at offset 42; gives what comes out, or the
/// rejection as `kind: reason`.
fn run(plugin: &Enrich, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let batch = StatelessBatch {
        timestamps: vec![1_431_857_103_000],
        watermarks: vec![i64::MIN],
        keys: [key].into_iter().collect(),
        values: [value].into_iter().collect(),
        origins: Some(Origins {
            topics: vec!["web".into()],
            topic: vec![0],
            partition: vec![3],
            offset: vec![42],
        }),
        ..StatelessBatch::default()
    };
    let reply = wasmill_sdk::stateless::run(plugin, &batch).unwrap();
    if let Some(kind) = reply.rejections.kinds.first() {
        assert!(reply.rows.is_empty());
        let reason = String::from_utf8_lossy(reply.rejections.reasons.bytes(0)).into_owned();
        return Err(format!("{}: {reason}", kind.name()));
    }
    assert_eq!(reply.rows, [0]);
    assert!(reply.keys.is_none() && reply.timestamps.is_empty() && reply.outputs.is_empty());
    Ok(reply.values.bytes(0).to_vec())
}

/// The same for text with the key `k`.
fn text(plugin: &Enrich, value: &str) -> Result<String, String> {
    run(plugin, Some(b"k"), Some(value.as_bytes())).map(|out| String::from_utf8(out).unwrap())
}
