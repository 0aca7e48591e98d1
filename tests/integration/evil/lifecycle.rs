//! Plugins that misbehave before their first record: while they describe themselves, and while they
//! are configured.

use serde_json::{Value, json};
use wasmill::runtime::Error;
use wasmill_sdk::testing::Piped;

use super::{BATCH_TIME, Bounds, configured, obeying};

/// What is said of a plugin that can't be described; it names the file.
fn undescribed(name: &str, orders: &Value) -> String {
    let error = obeying(name, orders).err().unwrap_or_else(|| panic!("{orders} is refused"));
    let error = error.to_string();
    assert!(error.starts_with(&format!("plugins/{name}.wasm: ")), "{error}");
    error
}

/// What is said of a plugin that can't be configured.
fn unconfigured(name: &str, orders: &Value, bounds: &Bounds) -> Error {
    let component = obeying(name, orders).unwrap_or_else(|e| panic!("{orders}: {e}"));
    let result = configured(&component, &json!({}), bounds);
    result.err().unwrap_or_else(|| panic!("{orders} is refused"))
}

#[test]
fn a_plugin_that_misbehaves_while_it_describes_itself_is_not_loaded() {
    for (misdeed, reason) in [
        ("loop", "describe failed: it took longer than 2s"),
        ("print", "describe failed: it took longer than 2s"),
        ("memory", "describe failed: memory: plugin plugins/evil.wasm: the plugin asked for"),
        ("stack", "describe failed: stack: plugin plugins/evil.wasm: "),
        ("trap", "unreachable"),
        ("panic", "this plugin has no conscience"),
        ("exit", "ended itself with exit code 0"),
        ("sleep", "a plugin can't sleep"),
    ] {
        let error = undescribed("evil", &json!({ "describe": misdeed }));
        assert!(error.contains(reason), "{misdeed}: {error}");
    }
    let error = undescribed("evil-keyed", &json!({ "describe": "panic" }));
    assert!(error.contains("this plugin has no conscience"), "{error}");
}

#[test]
fn a_description_that_is_too_large_or_unsound_is_refused() {
    let lies = [
        ("description", "large", "larger than the limit output"),
        ("description", "name", "has the name \"evil\\u{1b}[2J\", expected 1 to 100 characters"),
        ("description", "version", "has the version \"111"),
        ("description", "many-maps", "its description has 65 maps, at most 64 are allowed"),
        ("described", "no-inputs", "its description has 0 inputs, 1 to 64 are allowed"),
        ("described", "no-outputs", "its description has 0 outputs, 1 to 64 are allowed"),
        ("described", "many-outputs", "its description has 65 outputs, 1 to 64 are allowed"),
        ("described", "input-twice", "its description has two inputs \"twin\""),
        ("described", "output-twice", "its description has two outputs \"twin\""),
        ("described", "millions", "its description has 2000000 inputs, 1 to 64 are allowed"),
    ];
    for (what, lie, reason) in lies {
        for name in ["evil", "evil-keyed"] {
            let error = undescribed(name, &json!({ what: lie }));
            assert!(error.contains(reason), "{lie}: {error}");
            assert!(error.len() < 600, "{lie}: {} bytes", error.len());
        }
    }
    let error = undescribed("evil-keyed", &json!({ "state-version": 0 }));
    assert!(error.contains("state version 0, a keyed plugin counts from 1"), "{error}");
}

#[test]
fn a_plugin_that_misbehaves_while_it_is_configured_is_not_started() {
    let bounds = Bounds { batch_time: BATCH_TIME, memory: 32 << 20, ..Bounds::default() };
    for (misdeed, reason) in [
        (
            "loop",
            "configure failed: timeout: plugin evil 0.1.0: the call ran longer than batch-time",
        ),
        ("memory", "configure failed: memory: plugin evil 0.1.0: the plugin asked for"),
        ("stack", "configure failed: stack: plugin evil 0.1.0: "),
        ("panic", "this plugin has no conscience"),
        ("exit", "ended itself with exit code 0"),
        ("sleep", "a plugin can't sleep"),
    ] {
        let orders = json!({ "configure": misdeed });
        let error = unconfigured("evil", &orders, &bounds).to_string();
        assert!(error.contains("evil.wasm: ") && error.contains(reason), "{misdeed}: {error}");
    }
}

#[test]
fn unsound_ports_in_answer_to_a_configuration_are_refused() {
    for (forgery, reason) in [
        ("no-inputs", "the plugin, as configured, has 0 inputs, 1 to 64 are allowed"),
        ("no-outputs", "the plugin, as configured, has 0 outputs, 1 to 64 are allowed"),
        ("many-outputs", "the plugin, as configured, has 65 outputs, 1 to 64 are allowed"),
        ("input-twice", "the plugin, as configured, has two inputs \"twin\""),
        ("output-twice", "the plugin, as configured, has two outputs \"twin\""),
        ("millions", "the plugin, as configured, has 2000000 inputs, 1 to 64 are allowed"),
    ] {
        for name in ["evil", "evil-keyed"] {
            let orders = json!({ "configured": forgery });
            let error = unconfigured(name, &orders, &Bounds::default()).to_string();
            let file = format!("plugins/{name}.wasm: ");
            assert!(error.starts_with(&file) && error.contains(reason), "{forgery}: {error}");
        }
    }
}

#[test]
fn ports_other_than_those_described_are_the_ones_in_effect() {
    let orders = json!({ "configured": "others" });
    for name in ["evil", "evil-keyed"] {
        let component = obeying(name, &orders).unwrap();
        assert_eq!(component.description.ports.outputs[0].name, "out");
        let mut h = configured(&component, &json!({}), &Bounds::default()).unwrap();
        h.pipe_batch(&[Piped::new("k", 1, "a")]);
        assert_eq!(h.error(), None);
        assert!(h.texts("other")[0].starts_with('a'));
    }
}

#[test]
fn a_refusal_at_a_path_of_any_length_stays_readable() {
    for (path, repeat) in [("", 1), (".", 3), ("rules.-1.\n\u{1b}[2J", 1), ("x", 30 << 20)] {
        let orders = json!({ "refuse": path, "repeat": repeat });
        let Error::Config(error) = unconfigured("evil", &orders, &Bounds::default()) else {
            panic!("{path:?} is a refusal")
        };
        assert!(error.path.chars().count() <= 201, "{} bytes", error.path.len());
        assert!(!error.path.contains(char::is_control), "{error:?}");
        assert_eq!(error.message, "I won't [2J");
    }
}
