//! Plugins that do everything a plugin must not do. The host stays up, the records to blame are in
//! the dead letter queue with the reason, and nothing else suffers.

mod files;
mod keyed;
mod lifecycle;
mod migration;
mod process;
mod stateless;

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use wasmill::runtime::{Component, Error, Runtime, Settings};
use wasmill_abi::RejectionKind;
use wasmill_core::limits::Limits;
use wasmill_core::reject::header;
use wasmill_sdk::testing::{Harness, Options, Rejected};

use crate::support;

/// A time that no honest call comes near, short enough to wait for.
const BATCH_TIME: std::time::Duration = std::time::Duration::from_millis(250);

fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let cache = support::root().join("target/wasmill-cache");
        std::fs::create_dir_all(&cache).unwrap();
        Arc::new(Runtime::new(Some(&cache)).unwrap())
    })
}

/// A plugin of the tests, loaded once.
fn component(name: &'static str) -> &'static Component {
    static STATELESS: OnceLock<Component> = OnceLock::new();
    static KEYED: OnceLock<Component> = OnceLock::new();
    let loaded = match name {
        "evil" => &STATELESS,
        "evil-keyed" => &KEYED,
        other => panic!("no plugin {other} for these tests"),
    };
    loaded.get_or_init(|| runtime().load(&support::plugin(name), false).unwrap())
}

/// The bytes of a plugin of the tests that carries these orders.
fn ordered(name: &str, orders: &Value) -> Vec<u8> {
    let mut bytes = std::fs::read(support::plugin(name)).unwrap();
    let marks: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(misdeeds::MARK)).collect();
    assert_eq!(marks.len(), 1, "{name} carries its orders once");
    let room = &mut bytes[marks[0] + misdeeds::MARK.len()..marks[0] + misdeeds::BYTES];
    assert!(room.iter().all(|b| *b == b' '), "{name} was built without orders");
    let orders = orders.to_string();
    room[..orders.len()].copy_from_slice(orders.as_bytes());
    bytes
}

/// A plugin of the tests that carries orders, loaded; or why it can't be.
fn obeying(name: &str, orders: &Value) -> Result<Component, Error> {
    let path = format!("plugins/{name}.wasm");
    runtime().load_bytes(std::path::Path::new(&path), &ordered(name, orders), false)
}

/// The limits of an evil stage, as the pipeline file would set them.
struct Bounds {
    batch_time: std::time::Duration,
    memory: usize,
    limits: Limits,
}

impl Default for Bounds {
    fn default() -> Self {
        let defaults = Settings::default();
        Self {
            batch_time: defaults.batch_time,
            memory: defaults.memory_bytes,
            limits: Limits::default(),
        }
    }
}

fn configured(component: &Component, config: &Value, bounds: &Bounds) -> Result<Harness, Error> {
    let settings = Settings {
        config: config.to_string(),
        batch_time: bounds.batch_time,
        memory_bytes: bounds.memory,
        output_bytes: bounds.limits.output_bytes,
        ..Settings::default()
    };
    let (operator, ports) = runtime().operator(component, &settings)?;
    let options = Options { limits: bounds.limits, ..Options::default() };
    Ok(Harness::of(operator, ports, &options))
}

/// A plugin under test.
fn harness(name: &'static str, config: &Value, bounds: &Bounds) -> Harness {
    configured(component(name), config, bounds)
        .unwrap_or_else(|e| panic!("{name} with {config}: {e}"))
}

/// The dead letters of a run: value, class, reason. Each must name the plugin.
fn dead(rejected: Vec<Rejected>) -> Vec<(String, String, String)> {
    let letter = |r: Rejected| {
        assert_eq!(r.kind, RejectionKind::Malformed, "{r:?}");
        let class = r.record.header(header::CLASS).unwrap();
        assert!(r.reason.contains("plugin evil"), "{}", r.reason);
        assert!(r.record.header(header::PLUGIN).unwrap().starts_with("evil"), "{r:?}");
        assert!(r.record.header(header::DIGEST).unwrap().starts_with("sha256:"), "{r:?}");
        let value = r.record.value.unwrap_or_default();
        (String::from_utf8(value).unwrap(), class, r.reason)
    };
    rejected.into_iter().map(letter).collect()
}
