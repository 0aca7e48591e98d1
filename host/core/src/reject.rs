//! Rejected records: the original bytes, with headers that say why and where they came from.

use wasmill_abi::{Headers, RejectionKind};

use crate::flow::{Flow, NO_ROW, Source};

/// Names of the headers of rejected records.
pub mod header {
    /// What kind of error: a rejection kind, or how the plugin failed.
    pub const CLASS: &str = "wasmill.error.class";
    /// A sentence for a person.
    pub const REASON: &str = "wasmill.error.reason";
    /// The stage that the record failed in.
    pub const STAGE: &str = "wasmill.stage";
    /// The plugin's name and version.
    pub const PLUGIN: &str = "wasmill.plugin";
    /// The content address of the plugin's code.
    pub const DIGEST: &str = "wasmill.plugin.digest";
    /// The topic or source that the record was read from.
    pub const TOPIC: &str = "wasmill.origin.topic";
    /// The partition there.
    pub const PARTITION: &str = "wasmill.origin.partition";
    /// The offset there.
    pub const OFFSET: &str = "wasmill.origin.offset";
    /// For a timer that failed: its time in ms and its tag.
    pub const TIMER: &str = "wasmill.timer";
}

/// What a stage puts into the headers of what it rejects.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The stage's name.
    pub stage: &'a str,
    /// The plugin's name and version.
    pub plugin: &'a str,
    /// The content address of its code.
    pub digest: &'a str,
    /// Where the records of the step came from.
    pub source: &'a Source,
    /// Most bytes of a reason.
    pub reason_bytes: usize,
}

/// The record that is rejected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Original<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its event time.
    pub timestamp: i64,
    /// The watermark before it.
    pub clock: i64,
    /// The row of the step's input, or [`NO_ROW`].
    pub row: u32,
    /// Its headers, and its place among them.
    pub headers: Option<(&'a Headers, usize)>,
    /// For a timer: its time and tag.
    pub timer: Option<(i64, u64)>,
}

/// The rejected records of a step, by kind.
#[derive(Debug, Default)]
pub struct Rejected {
    /// In the order of [`RejectionKind::ALL`].
    pub by_kind: [Flow; 4],
}

impl Rejected {
    /// Whether nothing was rejected.
    pub fn is_empty(&self) -> bool {
        self.by_kind.iter().all(Flow::is_empty)
    }

    /// Adds a record. `class` is the error's name.
    pub fn add(
        &mut self,
        kind: RejectionKind,
        class: &str,
        reason: &[u8],
        stamp: Stamp<'_>,
        original: Original<'_>,
    ) {
        let flow = &mut self.by_kind[kind as usize];
        flow.timestamps.push(original.timestamp);
        flow.clocks.push(original.clock);
        flow.keys.push_opt(original.key);
        flow.values.push_opt(original.value);
        flow.rows.push(original.row);
        let headers = flow.headers.get_or_insert_with(Headers::default);
        if let Some((from, i)) = original.headers {
            for (name, value) in from.row(i) {
                headers.names.push(name);
                headers.values.push_opt(value);
            }
        }
        let reason = cut(reason, stamp.reason_bytes);
        headers.add(header::CLASS, Some(class.as_bytes()));
        headers.add(header::REASON, Some(reason.as_bytes()));
        headers.add(header::STAGE, Some(stamp.stage.as_bytes()));
        headers.add(header::PLUGIN, Some(stamp.plugin.as_bytes()));
        headers.add(header::DIGEST, Some(stamp.digest.as_bytes()));
        if original.row != NO_ROW
            && let Some(offset) = stamp.source.offsets.get(original.row as usize)
        {
            headers.add(header::TOPIC, Some(stamp.source.topic.as_bytes()));
            let partition = stamp.source.partition.to_string();
            headers.add(header::PARTITION, Some(partition.as_bytes()));
            headers.add(header::OFFSET, Some(offset.to_string().as_bytes()));
        }
        if let Some((time, tag)) = original.timer {
            let timer = format!("{{\"time_ms\":{time},\"tag\":{tag}}}");
            headers.add(header::TIMER, Some(timer.as_bytes()));
        }
        headers.close_row();
    }
}

/// The reason as text, cut to the limit at a character's border.
fn cut(reason: &[u8], most: usize) -> String {
    let mut text = String::from_utf8_lossy(reason).into_owned();
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
