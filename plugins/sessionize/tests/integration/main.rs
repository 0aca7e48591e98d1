//! The operator as the host drives it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod driver;
mod peers;
mod properties;
mod rules;
mod weblog;

use driver::Driver;
use sessionize::{FINAL, Sessionize};

/// The file or folder of this name among the data that lies beside the project, if it is there.
fn shared(name: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var("WASMILL_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
    let path = std::path::Path::new(&root).join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The closed sessions as (user, start, end, events), in the order of users and starts.
fn finals(driver: &Driver<Sessionize>) -> Vec<(String, i64, i64, u64)> {
    let mut finals: Vec<_> = driver
        .values(FINAL)
        .iter()
        .map(|v| {
            let time = |name: &str| v[name].as_i64().unwrap();
            let user = v["user"].as_str().unwrap().to_owned();
            (user, time("start_ms"), time("end_ms"), v["events"].as_u64().unwrap())
        })
        .collect();
    finals.sort_unstable();
    finals
}
