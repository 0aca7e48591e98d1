//! What people see: `golden/NAME.toml` goes in, `golden/NAME.txt` must come out. With the environment
//! variable `UPDATE_GOLDEN=1` the expected texts are written anew.
//!
//! Lines `# set: path=value` in a file are its `--set`s.

use std::fmt::Write;
use std::path::Path;

use wasmill_pipeline::Diagnostic;

use crate::catalog::plan_with;

#[test]
fn every_golden_file_gives_the_expected_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        count += 1;
        let found = outcome(&std::fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("txt");
        if update {
            std::fs::write(&golden, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            let name = golden.display();
            write!(different, "{name} expected:\n{expected}\nfound:\n{found}\n").unwrap();
        }
    }
    assert!(count > 20, "{count} golden files");
    assert!(different.is_empty(), "{different}");
}

fn outcome(text: &str) -> String {
    let sets = text.lines().filter_map(|l| l.strip_prefix("# set: ")?.split_once('='));
    let sets: Vec<_> = sets.map(|(path, value)| (path.to_owned(), value.to_owned())).collect();
    match plan_with(text, &sets) {
        Ok((pipeline, plan)) => {
            show(pipeline.warnings.iter().chain(&plan.warnings)) + &plan.describe()
        }
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error));
            show(problems.iter())
        }
    }
}

fn show<'d>(problems: impl Iterator<Item = &'d Diagnostic>) -> String {
    problems.map(|d| format!("{d}\n\n")).collect()
}
