//! The plugin as the host sees it: records in, the outputs that they go to out.

#![allow(clippy::unwrap_used)]

mod config;
mod routing;

use dispatch::Dispatch;
use wasmill_sdk::abi::{StatelessBatch, StatelessReply};
use wasmill_sdk::config::{Setup, parse};
use wasmill_sdk::prelude::{ConfigError, Stateless};

/// Makes the plugin from its configuration in JSON.
fn dispatch(config: &str) -> Result<Dispatch, ConfigError> {
    Dispatch::new(parse(config)?, &Setup::default())
}

/// Feeds one record of time 1000.
fn run(plugin: &Dispatch, key: Option<&[u8]>, value: Option<&[u8]>) -> StatelessReply {
    let batch = StatelessBatch {
        timestamps: vec![1000],
        watermarks: vec![i64::MIN],
        keys: [key].into_iter().collect(),
        values: [value].into_iter().collect(),
        ..StatelessBatch::default()
    };
    wasmill_sdk::stateless::run(plugin, &batch).expect("a stateless operator never fails")
}

/// The outputs that a record goes to, or its rejection as `kind: reason`.
fn routes(config: &str, value: &str) -> Result<Vec<String>, String> {
    let plugin = dispatch(config).unwrap();
    let reply = run(&plugin, Some(b"k\xc3\xb6"), Some(value.as_bytes()));
    if let Some(kind) = reply.rejections.kinds.first() {
        assert!(reply.rows.is_empty());
        let reason = String::from_utf8_lossy(reply.rejections.reasons.bytes(0)).into_owned();
        return Err(format!("{}: {reason}", kind.name()));
    }
    assert!(reply.values.iter().all(|v| v == Some(value.as_bytes())));
    assert!(reply.keys.is_none() && reply.timestamps.is_empty());
    let ports = plugin.ports().unwrap();
    let outputs = if reply.outputs.is_empty() { vec![0; reply.rows.len()] } else { reply.outputs };
    Ok(outputs.iter().map(|o| ports.outputs[usize::from(*o)].name.clone()).collect())
}
