//! Records wrapped in metadata. Invariant: a payload that is JSON is in it byte for byte; one that is
//! not is in it as base64.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use wasmill_sdk::config::Setup;
use wasmill_sdk::prelude::Record;

use crate::additions::Additions;
use crate::object::write_text;

/// The names of metadata that every envelope may have.
pub const NAMES: [&str; 8] =
    ["pipeline", "stage", "topic", "partition", "offset", "key", "key_base64", "timestamp"];

/// What all envelopes have in common.
#[derive(Debug)]
pub struct Envelope {
    /// `{"meta":{"pipeline":"...","stage":"..."`.
    head: Vec<u8>,
}

impl Envelope {
    /// For a stage of a pipeline.
    pub fn new(setup: &Setup) -> Self {
        let mut head = b"{\"meta\":{\"pipeline\":".to_vec();
        write_text(&mut head, &setup.pipeline);
        head.extend_from_slice(b",\"stage\":");
        write_text(&mut head, &setup.stage);
        Self { head }
    }

    /// Writes a record in its envelope; `json` is its value when that is JSON.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        record: &Record<'_>,
        json: Option<&str>,
        additions: &Additions<'_>,
    ) {
        out.extend_from_slice(&self.head);
        if let Some(origin) = record.origin() {
            out.extend_from_slice(b",\"topic\":");
            write_text(out, origin.topic);
            write!(out, ",\"partition\":{},\"offset\":{}", origin.partition, origin.offset)
                .expect("memory takes everything");
        }
        match record.key().map(|key| (key, std::str::from_utf8(key))) {
            None => out.extend_from_slice(b",\"key\":null"),
            Some((_, Ok(text))) => {
                out.extend_from_slice(b",\"key\":");
                write_text(out, text);
            }
            Some((key, Err(_))) => {
                out.extend_from_slice(b",\"key_base64\":");
                write_base64(out, key);
            }
        }
        write!(out, ",\"timestamp\":{}", record.timestamp()).expect("memory takes everything");
        for (name, json) in additions.iter() {
            out.push(b',');
            write_text(out, name);
            out.push(b':');
            out.extend_from_slice(json);
        }
        out.extend_from_slice(b"},");
        match (json, record.value()) {
            (Some(json), _) => {
                out.extend_from_slice(b"\"payload\":");
                out.extend_from_slice(json.as_bytes());
            }
            (None, Some(bytes)) => {
                out.extend_from_slice(b"\"payload_base64\":");
                write_base64(out, bytes);
            }
            (None, None) => out.extend_from_slice(b"\"payload\":null"),
        }
        out.push(b'}');
    }
}

/// The value as text if it is JSON.
pub fn json(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok().map(|_| text)
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}
