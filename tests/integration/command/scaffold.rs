//! `wasmill new`: what it makes builds, passes its test and runs as it is.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{program, root, stdout_of, wasmill};

/// Runs plain cargo in a scaffolded crate. All crates share a folder of what was built, and the
/// dependencies are those of this project, so that nothing has to be fetched.
fn cargo(folder: &Path, args: &[&str]) {
    let output = Command::new("cargo")
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", root().join("target/scaffold"))
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {errors}");
}

/// Scaffolds a plugin far from the source tree, builds and tests it, and feeds its pipeline.
fn scaffold(name: &str, more: &[&str], input: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let next = stdout_of(wasmill(place.path(), &[&["new", name], more].concat()));
    for step in [&format!("cd {name}"), "cargo test", "wasmill build", "wasmill run --fresh"] {
        assert!(next.contains(step), "{next}");
    }
    let folder = place.path().join(name);
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    cargo(&folder, &["build", "--target", "wasm32-wasip2"]);
    cargo(&folder, &["test"]);
    let built = root().join("target/scaffold/wasm32-wasip2/debug").join(format!("{name}.wasm"));
    fs::create_dir_all(folder.join("target/plugins")).unwrap();
    fs::copy(built, folder.join(format!("target/plugins/{name}.wasm"))).unwrap();
    let mut child = Command::new(program())
        .args(["run", "--fresh", "pipeline.toml"])
        .current_dir(&folder)
        .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    stdout_of(child.wait_with_output().unwrap())
}

#[test]
fn a_plugin_without_state_builds_passes_its_test_and_runs_as_it_is() {
    assert_eq!(scaffold("upper", &[], "hello\n"), "HELLO\n");
}

#[test]
fn a_plugin_with_state_by_key_builds_passes_its_test_and_runs_as_it_is() {
    let input = "{\"user\":\"alice\"}\n{\"user\":\"bob\"}\n{\"user\":\"alice\"}\n";
    let out = scaffold("tally", &["--keyed"], input);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["alice 1", "alice 2", "bob 1"]);
}

/// A program that was copied elsewhere knows no SDK, and says so before it makes anything.
#[test]
fn without_an_sdk_nothing_is_made_and_it_is_said_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("wasmill");
    fs::copy(program(), &copy).unwrap();
    let new = |more: &[&str]| {
        let args = [&["new", "lost"], more].concat();
        Command::new(&copy).args(args).current_dir(place.path()).output().unwrap()
    };
    let output = new(&[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--sdk") && errors.contains("plugins/sdk"), "{errors}");
    assert!(!place.path().join("lost").exists());
    let sdk = root().join("plugins/sdk").display().to_string();
    stdout_of(new(&["--sdk", &sdk]));
    assert!(place.path().join("lost/src/lib.rs").exists());
}
