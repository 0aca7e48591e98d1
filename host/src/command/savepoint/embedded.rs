//! Savepoints of pipelines on the embedded log: copies of a data directory that nobody uses.
//!
//! Invariant: the log's lock is held while it is copied, and a data directory has a log only once the
//! whole of it is there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wasmill::engine::Prepared;
use wasmill::savepoint::{Draft, Manifest, Origin, Savepoint, copy, plugins};
use wasmill_log::{Log, Options};

use crate::command::data_dir;

/// What of a data directory belongs to the pipeline; the log last, as it makes it one.
const FOLDERS: [&str; 2] = ["state", "log"];
/// The log's lock, which is of a process and not of the data.
const LOCK: &str = "lock";
/// Where they are in a savepoint.
const DATA: &str = "data";

/// Copies the data directory of a pipeline that does not run.
pub(super) fn create(
    prepared: &Prepared,
    data_dir: &Path,
    folder: &Path,
    name: &str,
) -> anyhow::Result<(PathBuf, Manifest)> {
    let log = data_dir::log(data_dir);
    if !log.join("COMMIT").exists() {
        bail!(
            "{} has no log: run the pipeline first, or say where its data is with --data-dir",
            data_dir.display()
        );
    }
    let _lock = Log::open(&log, Options::default())
        .context("a savepoint of a pipeline on the embedded log is taken when it has stopped")?;
    let draft = Draft::begin(folder, name)?;
    let mut bytes = 0;
    for part in FOLDERS.iter().filter(|part| data_dir.join(part).is_dir()) {
        bytes += copy(&data_dir.join(part), &draft.folder().join(DATA).join(part), LOCK)?;
    }
    let mut manifest = Manifest::new(name, &prepared.pipeline.name, Origin::Log { bytes });
    manifest.plugins = plugins(prepared);
    Ok((draft.finish(&manifest)?, manifest))
}

/// Makes a data directory what it was. Whether the pipeline fits is seen when it is run.
pub(super) fn restore(savepoint: &Savepoint, data_dir: &Path, replace: bool) -> anyhow::Result<()> {
    if data_dir::log(data_dir).join("COMMIT").exists() {
        if !replace {
            bail!(
                "{} has a log already: drop it with --replace, or choose another --data-dir",
                data_dir.display()
            );
        }
        data_dir::clear(data_dir)?;
    }
    let data = savepoint.folder.join(DATA);
    for part in FOLDERS.iter().filter(|part| data.join(part).is_dir()) {
        let (unfinished, to) = (data_dir.join(format!("{part}.unfinished")), data_dir.join(part));
        for old in [&unfinished, &to].into_iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        copy(&data.join(part), &unfinished, LOCK)?;
        fs::rename(&unfinished, &to)
            .with_context(|| format!("cannot rename {}", unfinished.display()))?;
    }
    Ok(())
}
