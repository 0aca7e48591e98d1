//! Tumbling and hopping windows over event time: which ones a record belongs to, when each closes.
//!
//! Windows are `[start, end)`. A watermark W says that every event with time <= W has been seen, so
//! a window closes when W >= end - 1 + lateness. Invariant: the windows of a time depend on size, hop
//! and offset alone, and lie the same way before the epoch as after it.

use serde::{Deserialize, Serialize};

use crate::config::Span;

/// A span of event time, `[start, end)`, in ms since the Unix epoch; either may be negative.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Window {
    /// The first instant within it.
    pub start: i64,
    /// The first instant behind it.
    pub end: i64,
}

impl Window {
    /// Whether an instant lies within it.
    pub fn contains(&self, time_ms: i64) -> bool {
        self.start <= time_ms && time_ms < self.end
    }

    /// The watermark at which it closes with this allowed lateness in ms: `end - 1 + lateness`.
    /// A timer for the window is to be set to this time.
    pub fn closes_at(&self, lateness_ms: i64) -> i64 {
        self.end.saturating_sub(1).saturating_add(lateness_ms)
    }

    /// Whether a record for it is late at this watermark: the window has closed.
    pub fn is_late(&self, lateness_ms: i64, watermark_ms: i64) -> bool {
        self.closes_at(lateness_ms) <= watermark_ms
    }
}

/// Windows of one size at regular distances. Read from a configuration as a table
/// `{ size = "1h", hop = "5m", offset = "0s" }`, where `hop` defaults to the size (tumbling) and
/// `offset` to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct Windows {
    size: i64,
    hop: i64,
    /// Normalized to `0..hop`.
    offset: i64,
}

/// What a configuration says.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    size: Span,
    hop: Option<Span>,
    offset: Option<Span>,
}

impl TryFrom<Table> for Windows {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { size, hop, offset } = table;
        Self::hopping(size.ms(), hop.unwrap_or(size).ms(), offset.map_or(0, Span::ms))
    }
}

impl Windows {
    /// Windows of `size_ms` that follow one another without gap; one of them starts at `offset_ms`.
    ///
    /// # Errors
    /// A sentence when the size is not positive.
    pub fn tumbling(size_ms: i64, offset_ms: i64) -> Result<Self, String> {
        Self::hopping(size_ms, size_ms, offset_ms)
    }

    /// Windows of `size_ms`, one starting every `hop_ms`, one of them at `offset_ms`. With a hop
    /// below the size they overlap; with a hop above it there are gaps, whose records belong to no
    /// window.
    ///
    /// # Errors
    /// A sentence when size or hop are not positive.
    pub fn hopping(size_ms: i64, hop_ms: i64, offset_ms: i64) -> Result<Self, String> {
        for (name, value) in [("size", size_ms), ("hop", hop_ms)] {
            if value <= 0 {
                return Err(format!("the {name} of a window is {value} ms; it must be above 0"));
            }
        }
        Ok(Self { size: size_ms, hop: hop_ms, offset: offset_ms.rem_euclid(hop_ms) })
    }

    /// The length of each window in ms.
    pub fn size_ms(&self) -> i64 {
        self.size
    }

    /// The most windows that a time can belong to, at least 1.
    pub fn overlap(&self) -> i64 {
        (self.size - 1) / self.hop + 1
    }

    /// The windows that contain a time, earliest first; none when it lies in a gap. Windows that
    /// reach beyond the range of timestamps are left out.
    pub fn assign(&self, time_ms: i64) -> impl Iterator<Item = Window> + use<> {
        let Self { size, hop, offset } = *self;
        // How long before `time_ms` the last window starts that may contain it.
        let since = (time_ms.rem_euclid(hop) - offset).rem_euclid(hop);
        // With windows 0..n counted backwards from it, the last is still open at `time_ms`.
        let n = if since < size { (size - 1 - since) / hop + 1 } else { 0 };
        (0..n).rev().filter_map(move |i| {
            let start = time_ms.checked_sub(since)?.checked_sub(i.checked_mul(hop)?)?;
            Some(Window { start, end: start.checked_add(size)? })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(windows: &Windows, time: i64) -> Vec<i64> {
        windows.assign(time).map(|w| w.start).collect()
    }

    #[test]
    fn hopping_windows_are_assigned_as_beam_assigns_them() {
        let shared = std::env::var("WASMILL_SHARED")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
        let path = std::path::Path::new(&shared).join("cases/beam_windows.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is not there", path.display());
            return;
        };
        let suite: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut seen = 0;
        for case in suite["cases"].as_array().unwrap() {
            let config = &case["config"];
            let Some(input) = case["input"].as_array().filter(|_| config["type"] == "hop") else {
                continue;
            };
            let number = |name: &str| config[name].as_i64().unwrap();
            let windows =
                Windows::hopping(number("size"), number("slide"), number("offset")).unwrap();
            let mut found = std::collections::BTreeMap::<Window, Vec<i64>>::new();
            for time in input.iter().map(|t| t.as_i64().unwrap()) {
                for window in windows.assign(time) {
                    assert!(window.contains(time));
                    found.entry(window).or_default().push(time);
                }
            }
            let found: Vec<_> = found.into_iter().map(|(w, t)| (w.start, w.end, t)).collect();
            let expected: Vec<(i64, i64, Vec<i64>)> =
                serde_json::from_value(case["expected"].clone()).unwrap();
            assert_eq!(found, expected, "{}", case["name"]);
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn assignment_is_what_trying_every_window_finds() {
        for (size, hop, offset) in [(10, 10, 0), (10, 5, 2), (7, 5, -3), (3, 10, 4), (1, 1, 0)] {
            let windows = Windows::hopping(size, hop, offset).unwrap();
            for time in -40..40 {
                let all = (-60..=60)
                    .map(|i| Window { start: offset + i * hop, end: offset + i * hop + size });
                let expected: Vec<Window> = all.filter(|w| w.contains(time)).collect();
                assert_eq!(windows.assign(time).collect::<Vec<_>>(), expected, "{time}");
                assert!(expected.len() as i64 <= windows.overlap());
            }
        }
    }

    #[test]
    fn windows_start_before_the_epoch_and_end_with_the_range_of_time() {
        let windows = Windows::hopping(10, 5, 0).unwrap();
        assert_eq!(starts(&windows, -1), [-10, -5]);
        assert_eq!(starts(&windows, 0), [-5, 0]);
        assert_eq!(starts(&windows, i64::MIN), [] as [i64; 0]);
        assert_eq!(starts(&windows, i64::MAX).len(), 0);
        assert_eq!(starts(&Windows::tumbling(3, 0).unwrap(), i64::MAX - 3).len(), 1);
    }

    #[test]
    fn a_window_closes_with_the_last_instant_within_it() {
        let window = Window { start: 0, end: 10 };
        assert_eq!((window.closes_at(0), window.closes_at(5)), (9, 14));
        assert!(!window.is_late(0, 8) && window.is_late(0, 9) && !window.is_late(1, 9));
        assert_eq!(Window { start: 0, end: i64::MAX }.closes_at(5), i64::MAX);
    }

    #[test]
    fn a_configuration_says_size_hop_and_offset() {
        let read = |json: &str| serde_json::from_str::<Windows>(json);
        let windows = read(r#"{"size": "1h", "hop": "5m", "offset": 60000}"#).unwrap();
        assert_eq!(windows, Windows::hopping(3_600_000, 300_000, 60_000).unwrap());
        assert_eq!(windows.overlap(), 12);
        assert_eq!(read(r#"{"size": "1s"}"#).unwrap(), Windows::tumbling(1_000, 0).unwrap());
        assert!(read(r#"{"size": "0s"}"#).unwrap_err().to_string().contains("above 0"));
        assert!(read(r#"{"size": "1s", "step": "1s"}"#).is_err());
    }
}
