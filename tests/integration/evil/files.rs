//! Files that are no plugins, or not of this host.

use std::path::Path;

use super::runtime;
use crate::support;

/// Loads bytes as a plugin and returns what is wrong with them.
fn refused(bytes: &[u8]) -> String {
    let path = Path::new("plugins/it.wasm");
    let error = runtime().load_bytes(path, bytes, false).err().expect("it is refused");
    let error = error.to_string();
    assert!(error.starts_with("plugins/it.wasm: "), "{error}");
    error
}

/// A component in text form.
pub(super) fn text(source: &str) -> Vec<u8> {
    wat::parse_str(source).unwrap()
}

/// A component that exports empty instances.
pub(super) fn exporting(names: &[&str]) -> Vec<u8> {
    let exports = names.iter().map(|n| format!("(export \"{n}\" (instance $none))"));
    text(&format!("(component (instance $none) {})", exports.collect::<String>()))
}

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

const BUILD_IT: &str = "build the plugin with `wasmill build`";

#[test]
fn a_file_that_is_no_component_says_what_it_is() {
    says(&refused(b""), &["not a WebAssembly component: the file is empty", BUILD_IT]);
    says(&refused(b"fn main() {}"), &["no WebAssembly in it", BUILD_IT]);
    says(&refused(&text("(module)")), &["it is a core module", BUILD_IT]);
}

#[test]
fn a_plugin_that_was_cut_off_is_refused_wherever_that_was() {
    let whole = std::fs::read(support::plugin("evil")).unwrap();
    assert!(runtime().load_bytes(Path::new("evil.wasm"), &whole, false).is_ok());
    // The first 8 bytes alone are an empty component.
    for length in [4, 6, 7, 9, 100, 1_000, whole.len() / 2, whole.len() - 1] {
        says(&refused(&whole[..length]), &["not a WebAssembly component: ", BUILD_IT]);
    }
}

#[test]
fn a_plugin_with_damaged_bytes_is_refused_or_works_but_never_ends_the_host() {
    let whole = std::fs::read(support::plugin("evil")).unwrap();
    let mut refused = 0;
    for i in 0..12 {
        let mut bytes = whole.clone();
        let at = 8 + i * 2_311;
        bytes[at] ^= 0x55;
        refused += u32::from(runtime().load_bytes(Path::new("it"), &bytes, false).is_err());
    }
    assert!(refused > 0);
}

#[test]
fn a_component_that_is_no_plugin_says_so() {
    let no_plugin = ["not a plugin of this host", "it exports nothing of wasmill:plugin", "SDK"];
    says(&refused(&text("(component)")), &no_plugin);
    says(&refused(&exporting(&["acme:tool/run@1.0.0"])), &no_plugin);
}

#[test]
fn a_plugin_of_another_version_of_the_abi_says_which() {
    let names = ["wasmill:plugin/lifecycle@0.2.0", "wasmill:plugin/stateless@0.2.0"];
    let expected =
        ["exports wasmill:plugin/lifecycle@0.2.0", "speaks version 0.1.0", "a matching SDK"];
    says(&refused(&exporting(&names)), &expected);
}

#[test]
fn a_plugin_with_too_few_or_too_many_exports_says_which() {
    let lifecycle = "wasmill:plugin/lifecycle@0.1.0";
    let stateless = "wasmill:plugin/stateless@0.1.0";
    let keyed = "wasmill:plugin/keyed@0.1.0";
    let both = refused(&exporting(&[lifecycle, stateless, keyed]));
    says(&both, &["exports both worlds, stateless and keyed"]);
    says(&refused(&exporting(&[stateless])), &["does not export", lifecycle]);
    says(&refused(&exporting(&[lifecycle])), &["exports neither", stateless, keyed]);
    let hollow = refused(&exporting(&[lifecycle, stateless]));
    says(
        &hollow,
        &["not a plugin of this host", "its exports are not those of the world", "describe"],
    );
}

#[test]
fn a_plugin_that_imports_what_no_plugin_is_given_says_what() {
    let bytes = text(
        r#"(component
            (import "acme:database/store@1.0.0" (instance (export "get" (func))))
            (instance $none)
            (export "wasmill:plugin/lifecycle@0.1.0" (instance $none))
            (export "wasmill:plugin/stateless@0.1.0" (instance $none)))"#,
    );
    says(&refused(&bytes), &["imports what no plugin is given", "acme:database/store@1.0.0"]);
}

#[test]
fn a_plugin_that_is_missing_says_where_it_was_looked_for() {
    let error = runtime().load(Path::new("nowhere/it.wasm"), false).err().unwrap().to_string();
    says(&error, &["nowhere/it.wasm: the plugin can't be read", "No such file"]);
}
