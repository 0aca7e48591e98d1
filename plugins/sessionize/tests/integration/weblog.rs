//! A real web server's log against what is known of it.

use crate::driver::{Driver, Input, watermarks};
use crate::{finals, shared};
use sessionize::{LIVE, Sessionize};
use wasmill_sdk::abi::WATERMARK_END;

/// The latest that a line comes behind a later one, in ms.
const DISORDER_MS: i64 = 60_000;

/// Reads `IP - - [17/May/2015:10:05:03 +0000] "GET /path ...`; all lines are of May 2015, in UTC.
fn event(line: &str) -> Input {
    let (ip, _) = line.split_once(' ').unwrap();
    let time = &line[line.find('[').unwrap() + 1..];
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().unwrap();
    assert_eq!(&time[2..12], "/May/2015:");
    // The first of May 2015 is 16,556 days after the epoch.
    let days = 16_556 + number(0..2) - 1;
    let seconds = ((days * 24 + number(12..14)) * 60 + number(15..17)) * 60 + number(18..20);
    let path = line.split('"').nth(1).and_then(|r| r.split(' ').nth(1)).unwrap_or("");
    let value = serde_json::json!({ "path": path }).to_string();
    Input::new(ip, seconds * 1_000, value)
}

#[test]
fn the_log_has_the_sessions_that_are_known() {
    let Some(path) = shared("data/apache_logs") else { return };
    let log = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let mut inputs: Vec<_> = log.lines().map(event).collect();
    watermarks(&mut inputs, DISORDER_MS);
    for gap in ["15m", "30m"] {
        let mut driver = Driver::<Sessionize>::new(&format!(r#"{{"gap": "{gap}"}}"#));
        driver.feed(&inputs, &[500], WATERMARK_END);
        assert_eq!(driver.rejected, []);
        assert_eq!(driver.values(LIVE).len(), 10_000);
        let finals = finals(&driver);
        assert_eq!(finals.len(), 3_052);
        let total: i64 = finals.iter().map(|(_, start, end, _)| end - start).sum();
        assert_eq!(total, 49_216_000);
        assert_eq!(finals.iter().map(|f| f.3).sum::<u64>(), 10_000);
        assert!(driver.keys_kept().is_empty());
    }
}
