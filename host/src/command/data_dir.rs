//! Which data directory a command means.
//!
//! Invariant: nothing is guessed where there are several, nothing is created here, and nothing is
//! removed while a pipeline uses it.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wasmill_log::{Log, Options};

use super::usage;

/// The environment variable that stands for `--data-dir`.
pub const VARIABLE: &str = "WASMILL_DATA_DIR";

/// Where pipelines keep their data when nobody says otherwise, a folder for each.
pub const ROOT: &str = ".wasmill";

/// The data directory: `given` by `--data-dir`, else by the environment, else the only one in
/// `.wasmill`. One that was given need not exist.
///
/// # Errors
/// When there is none in `.wasmill`, or more than one, or it can't be read.
pub fn data_dir(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    usage::checked(choose(given, env::var_os(VARIABLE).map(PathBuf::from), Path::new(ROOT)))
}

/// The embedded log of a data directory.
pub fn log(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Removes the log and the state from a data directory. Other files, and those of sinks, stay.
///
/// # Errors
/// When a pipeline runs on it, or something can't be removed.
pub fn clear(data_dir: &Path) -> anyhow::Result<()> {
    let log = log(data_dir);
    if !log.join("COMMIT").exists() {
        return Ok(());
    }
    // Its lock tells whether a pipeline runs on it.
    drop(Log::open(&log, Options::default())?);
    // The log goes last: what is left when this is interrupted still counts as a data directory.
    for folder in [data_dir.join("state"), log] {
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn choose(
    given: Option<PathBuf>,
    variable: Option<PathBuf>,
    root: &Path,
) -> anyhow::Result<PathBuf> {
    if let Some(dir) = given.or(variable.filter(|dir| !dir.as_os_str().is_empty())) {
        return Ok(dir);
    }
    let mut folders = if root.is_dir() { folders(root)? } else { Vec::new() };
    folders.sort();
    match folders.as_slice() {
        [] => bail!(
            "there is no data directory here ({} has none). Run a pipeline in this directory first, \
             or say where its data is with --data-dir or {VARIABLE}",
            root.display()
        ),
        [only] => Ok(only.clone()),
        several => {
            let shown: Vec<String> = several.iter().map(|f| f.display().to_string()).collect();
            bail!(
                "there are {} data directories: {}. Choose one with --data-dir or {VARIABLE}",
                several.len(),
                shown.join(", ")
            )
        }
    }
}

fn folders(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in root.read_dir()? {
            let path = entry?.path();
            if log(&path).join("COMMIT").exists() {
                folders.push(path);
            }
        }
        Ok(folders)
    };
    read().with_context(|| format!("cannot read {}", root.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn make(data_dir: &Path) {
        drop(Log::open(log(data_dir), Options::default()).unwrap());
    }

    #[test]
    fn what_is_given_counts_before_the_environment_and_that_before_the_only_folder() {
        let root = tempfile::tempdir().unwrap();
        make(&root.path().join("weblog"));
        fs::create_dir(root.path().join("a-folder")).unwrap();
        let (given, variable) = (Some("given".into()), Some(PathBuf::from("variable")));
        let chosen = |given, variable| choose(given, variable, root.path()).unwrap();
        assert_eq!(chosen(given, variable.clone()), PathBuf::from("given"));
        assert_eq!(chosen(None, variable), PathBuf::from("variable"));
        assert_eq!(chosen(None, Some(PathBuf::new())), root.path().join("weblog"));
        assert_eq!(chosen(None, None), root.path().join("weblog"));
    }

    #[test]
    fn nothing_is_guessed_between_several_folders_and_each_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = |root: &Path| choose(None, None, root).unwrap_err().to_string();
        assert!(error(root.path()).contains("no data directory here"));
        assert!(error(&root.path().join("missing")).contains("Run a pipeline"));
        make(&root.path().join("b"));
        make(&root.path().join("a"));
        let message = error(root.path());
        assert!(message.contains("2 data directories"), "{message}");
        assert!(message.find("/a,").unwrap() < message.find("/b.").unwrap(), "{message}");
    }

    #[test]
    fn clearing_removes_log_and_state_and_nothing_else_and_never_while_a_pipeline_runs() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        fs::create_dir(dir.join("state")).unwrap();
        fs::write(dir.join("notes"), "mine").unwrap();
        clear(dir).unwrap();
        assert!(dir.join("state").exists(), "without a log it is no data directory");
        let running = Log::open(log(dir), Options::default()).unwrap();
        assert!(clear(dir).is_err());
        assert!(log(dir).join("COMMIT").exists());
        drop(running);
        clear(dir).unwrap();
        assert!(!dir.join("state").exists() && !log(dir).exists());
        assert_eq!(fs::read_to_string(dir.join("notes")).unwrap(), "mine");
    }
}
