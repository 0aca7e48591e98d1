//! Bad input and bad circumstances: the error says what and where, and nothing is lost.

mod clock;
mod data;
mod pipeline;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::{by_key, program, root, stdout_of, topic, wasmill};

/// Counts the records of each user, over two partitions.
const PIPELINE: &str = r#"name = "count"

[engine]
partitions = 2
checkpoint-interval = "20ms"

[source.raw]
path = "in.jsonl"
format = "jsonl"
key = "user"
timestamp = "at"

[topic.raw]
from = "source.raw"

[stage.count]
plugin = "evil-keyed"
from = "topic.raw"

[topic.counts]
from = "stage.count"

[sink.out]
from = "topic.counts"
path = "out-{partition}.txt"
"#;

/// A folder with the pipeline and its input.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::write(site.path().join("count.toml"), PIPELINE).unwrap();
        fs::write(site.path().join("in.jsonl"), lines(0..600)).unwrap();
        site
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> std::path::PathBuf {
        self.path().join("data")
    }

    /// Replaces a part of the pipeline file.
    fn change(&self, from: &str, to: &str) {
        let file = self.path().join("count.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    fn args<'a>(plugins: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["run", "count.toml", "--data-dir", "data", "--plugins", plugins], more].concat()
    }

    fn run(&self, more: &[&str]) -> Output {
        let plugins = root().join("target/plugins").display().to_string();
        wasmill(self.path(), &Self::args(&plugins, more))
    }

    /// Starts a run that does not end by itself.
    fn start(&self, more: &[&str]) -> Child {
        let plugins = root().join("target/plugins").display().to_string();
        Command::new(program())
            .args(Self::args(&plugins, more))
            .current_dir(self.path())
            .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// A run that fails with an exit code and says all of this.
    #[track_caller]
    fn fails(&self, code: i32, more: &[&str], parts: &[&str]) {
        let output = self.run(more);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{errors}");
        for part in parts {
            assert!(errors.contains(part), "{errors} does not say {part:?}");
        }
        assert!(!errors.contains("panicked"), "{errors}");
    }

    /// A run that succeeds, and whose results are those of an undisturbed one.
    #[track_caller]
    fn completes(&self, more: &[&str]) {
        stdout_of(self.run(more));
        self.is_complete();
    }

    #[track_caller]
    fn is_complete(&self) {
        for (key, records) in by_key(&topic(&self.data(), "counts")) {
            assert_eq!(Some(&records), undisturbed().get(&key), "{key}");
        }
        assert_eq!(topic(&self.data(), "counts").len(), 600);
        assert_eq!(self.out(), 600);
    }

    /// The lines in the files of the sink.
    fn out(&self) -> usize {
        let files = (0..2).map(|p| self.path().join(format!("out-{p}.txt")));
        files.map(|f| fs::read_to_string(f).unwrap_or_default().lines().count()).sum()
    }

    /// Works on what is in the input, as if more could come, until it is stopped after the last
    /// record of it came out.
    fn interrupted(&self, records: usize) {
        let mut child = self.start(&["--set", "source.raw.bounded=false"]);
        while self.out() < records {
            assert!(child.try_wait().unwrap().is_none(), "the run has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt(child);
    }
}

/// Stops a run, which must end well.
fn interrupt(child: Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{{\"user\":\"u{}\",\"at\":{i}}}\n", i % 7)).collect()
}

/// What comes out of the first 600 lines, by key.
fn undisturbed() -> BTreeMap<String, Vec<String>> {
    static RESULT: std::sync::OnceLock<BTreeMap<String, Vec<String>>> = std::sync::OnceLock::new();
    let result = RESULT.get_or_init(|| {
        let site = Site::new();
        stdout_of(site.run(&[]));
        by_key(&topic(&site.data(), "counts"))
    });
    assert_eq!(result.len(), 7);
    assert_eq!(result.values().map(Vec::len).sum::<usize>(), 600);
    result.clone()
}
