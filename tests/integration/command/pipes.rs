//! Readers that go away.

use std::process::{Command, Stdio};

use super::ran;
use crate::support::{program, root};

/// A pipe that nobody reads from any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_command_whose_reader_has_gone_away_ends_quietly() {
    let site = ran();
    let plugin = root().join("target/plugins/clean.wasm").display().to_string();
    for args in [
        &["check", "count.toml"][..],
        &["describe", &plugin],
        &["describe", &plugin, "--json"],
        &["state", "ls", "--data-dir", "data"],
        &["state", "scan", "count", "--data-dir", "data"],
        &["state", "get", "count", "u1", "--data-dir", "data"],
        &["topic", "ls", "--data-dir", "data"],
        &["topic", "read", "raw", "--data-dir", "data"],
        &["generate", "clickstream"],
        &["run", "count.toml", "--data-dir", "data", "--json"],
        &["run", "count.toml", "--data-dir", "data"],
        &["new", "fresh"],
        &["demo", "--events", "100"],
    ] {
        let command = |stderr: Stdio| {
            let mut command = Command::new(program());
            command.args(args).current_dir(site.path()).stdout(closed()).stderr(stderr);
            command.env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"));
            command.output().unwrap()
        };
        let output = command(Stdio::piped());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {errors}");
        assert!(!errors.contains("roken pipe"), "{args:?}: {errors}");
        if args[0] != "new" {
            assert!(command(closed()).status.success(), "{args:?} without a reader of its errors");
        }
    }
    // The exit code is what it would be if somebody read the error.
    let mut command = Command::new(program());
    let status = command.args(["describe", "nothere"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
