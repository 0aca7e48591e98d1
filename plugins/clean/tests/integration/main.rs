//! The plugin as the host sees it: lines in, events and rejections out.

#![allow(clippy::unwrap_used)]

mod access_logs;
mod config;
mod formats;
mod properties;
mod readme;
mod rules;

use clean::Clean;
use wasmill_sdk::abi::{Column, StatelessBatch, StatelessReply};
use wasmill_sdk::config::{Setup, parse};
use wasmill_sdk::prelude::{ConfigError, Stateless};

/// The clock of the tests: 2030-01-01T00:00:00Z.
const NOW: i64 = 1_893_456_000_000;

/// Makes the plugin from its configuration in JSON.
fn clean(config: &str) -> Result<Clean, ConfigError> {
    Clean::new(parse(config)?, &Setup::default())
}

/// Feeds lines to the plugin.
fn run<L: AsRef<[u8]>>(plugin: &Clean, lines: &[L]) -> StatelessReply {
    let values: Column = lines.iter().map(AsRef::as_ref).collect();
    let batch = StatelessBatch {
        timestamps: vec![7; lines.len()],
        watermarks: vec![i64::MIN; lines.len()],
        now: NOW,
        keys: lines.iter().map(|_| None::<&[u8]>).collect(),
        values,
        ..StatelessBatch::default()
    };
    wasmill_sdk::stateless::run(plugin, &batch).expect("a stateless operator never fails")
}

/// Feeds one line and gives its event, or the rejection as `kind: reason`.
fn event(config: &str, line: impl AsRef<[u8]>) -> Result<String, String> {
    let plugin = clean(config).expect("the configuration is right");
    let reply = run(&plugin, &[line]);
    if let Some(kind) = reply.rejections.kinds.first() {
        assert!(reply.rows.is_empty(), "a rejected line emits nothing");
        let reason = String::from_utf8(reply.rejections.reasons.bytes(0).to_vec()).unwrap();
        return Err(format!("{}: {reason}", kind.name()));
    }
    assert_eq!(reply.rows, [0]);
    Ok(String::from_utf8(reply.values.bytes(0).to_vec()).unwrap())
}

/// The same as parsed JSON.
fn json(config: &str, line: impl AsRef<[u8]>) -> serde_json::Value {
    serde_json::from_str(&event(config, line).unwrap()).unwrap()
}
