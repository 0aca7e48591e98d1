//! Where things are, and how a pipeline is run as a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the project.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests is a folder of the project").to_owned()
}

/// The program, built by the same command as the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test program");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = folder.join("wasmill");
    assert!(
        program.exists(),
        "{} is missing: run `make test`, or build wasmill first",
        program.display()
    );
    program
}

/// A plugin that was built by `make plugins` or `make test-plugins`.
pub fn plugin(name: &str) -> PathBuf {
    let path = root().join(format!("target/plugins/{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

/// A file of the shared inputs; where it is missing, the test is left out, which is said by its name.
/// These are no part of the project, so that may be in continuous integration too.
pub fn shared(test: &str, name: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("WASMILL_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    let why = format!("{} is missing, which WASMILL_SHARED may name the folder of", path.display());
    wasmill_test_kafka::left_out(test, &why);
    None
}

/// Runs the program in a folder.
pub fn wasmill(folder: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(folder)
        .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
        .output()
        .expect("the program starts")
}

/// What a command wrote to stdout; fails the test when it did not succeed.
pub fn stdout_of(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("the program writes UTF-8")
}

/// A record as `topic read` prints it.
pub type Record = serde_json::Value;

/// The records of a topic, by partition, in order.
pub fn topic(data_dir: &Path, name: &str) -> Vec<Record> {
    let dir = data_dir.display().to_string();
    let output = wasmill(data_dir, &["topic", "read", name, "--data-dir", &dir]);
    let text = stdout_of(output);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Records without their offset and partition, by key, in the order of each key.
pub fn by_key(records: &[Record]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let value = serde_json::json!([record["timestamp"], record["value"], record["headers"]]);
        keys.entry(record["key"].to_string()).or_default().push(value.to_string());
    }
    keys
}

/// Lines of a generated access log, all of them.
pub fn clickstream(config: &wasmill_generate::Config) -> String {
    let mut generator = wasmill_generate::Generator::new(config).expect("the settings are sound");
    let (mut line, mut text) = (Vec::new(), Vec::new());
    while generator.next_into(&mut line).is_some() {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs a pipeline to its end; gives its summary.
pub fn run(folder: &Path, pipeline: &str, data_dir: &Path, more: &[&str]) -> serde_json::Value {
    run_with(folder, pipeline, data_dir, more, &[])
}

/// The same, with variables in its environment.
pub fn run_with(
    folder: &Path,
    pipeline: &str,
    data_dir: &Path,
    more: &[&str],
    variables: &[(&str, &str)],
) -> serde_json::Value {
    let output = Command::new(program())
        .args(["run", pipeline, "--json", "--data-dir"])
        .arg(data_dir)
        .arg("--plugins")
        .arg(root().join("target/plugins"))
        .args(more)
        .current_dir(folder)
        .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts");
    serde_json::from_str(&stdout_of(output)).expect("the summary is JSON")
}
