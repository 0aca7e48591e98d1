//! A real log of 10,000 lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::{clean, run};

#[test]
fn every_line_of_a_real_log_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/apache_logs");
    let Ok(log) = std::fs::read(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let lines: Vec<&[u8]> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    let reply = run(&clean(r#"{"bots":[]}"#).unwrap(), &lines);
    assert!(reply.rejections.rows.is_empty(), "{:?}", reply.rejections);
    assert_eq!(reply.rows.len(), 10_000);

    let mut statuses = BTreeMap::<u64, usize>::new();
    let mut ips = BTreeSet::new();
    for value in reply.values.iter() {
        let event: serde_json::Value = serde_json::from_slice(value.unwrap()).unwrap();
        *statuses.entry(event["status"].as_u64().unwrap()).or_default() += 1;
        ips.insert(event["ip"].as_str().unwrap().to_owned());
    }
    let expected =
        [(200, 9126), (206, 45), (301, 164), (304, 445), (403, 2), (404, 213), (416, 2), (500, 3)];
    assert_eq!(statuses, expected.into());
    assert_eq!(ips.len(), 1_753);

    // Without the list of bots some lines go elsewhere, but none is lost.
    let reply = run(&clean("").unwrap(), &lines);
    assert_eq!(reply.rows.len(), 10_000);
    let bots = reply.outputs.iter().filter(|output| **output == 1).count();
    assert!((500..5_000).contains(&bots), "{bots} requests by bots");
}
