//! Savepoints on disk: a folder each, with what a pipeline's tasks held at a consistent cut.
//!
//! ```text
//! NAME/savepoint.json          the manifest: what it is of, tasks, how many blocks each file has
//! NAME/state-TASK.zst          the state of a task: packs of changes, the oldest first
//! NAME/topic-NUMBER-PARTITION.zst   what tasks had given each other and not read yet: frames
//! NAME/data/                   of a pipeline on the embedded log, in place of these: its log and its state
//! ```
//!
//! Invariant: a folder with a manifest is whole; one that is being written has another name.

mod blocks;
mod copy;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::blocks::{Blocks, Reader, Writer};
pub use self::copy::copy;
use crate::engine::prepare::{Prepared, StagePlugin};

/// The file that says what a savepoint is.
const MANIFEST: &str = "savepoint.json";
/// What the name of a folder ends in while it is being written.
const UNFINISHED: &str = ".unfinished";
/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Why a savepoint can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder can't be used.
    #[error("savepoint: {}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is one of that name already.
    #[error(
        "{} is there already; choose another name, or remove that folder if it is not needed any more",
        .path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is none of that name.
    #[error("there is no savepoint {name:?} in {}{}", .folder.display(), listed(.known))]
    Missing {
        /// The name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// Those that are there.
        known: Vec<String>,
    },
    /// It is damaged, or of another version.
    #[error("savepoint: {}: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { ": it has none".into() } else { format!("; it has {}", names.join(", ")) }
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io { path, error }
    }

    /// A file that does not hold what it should.
    pub fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}

/// What a savepoint is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The version of the format.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
    /// The pipeline.
    pub pipeline: String,
    /// Where it was taken from.
    pub of: Origin,
    /// The sub-topologies with their stages, inputs and partitions: what a pipeline must have in
    /// common with it to be started from it.
    pub shape: serde_json::Value,
    /// The plugins of the stages at that time.
    pub plugins: Vec<Plugin>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// What was on its way between them.
    pub channels: Vec<Channel>,
}

/// Where a savepoint was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A consumer group.
    Group {
        /// The group.
        group: String,
        /// The id of the Kafka cluster.
        cluster: String,
    },
    /// A data directory with an embedded log.
    Log {
        /// The bytes of what was copied.
        bytes: u64,
    },
}

/// The plugin of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plugin {
    /// The stage.
    pub stage: String,
    /// Its name and version.
    pub plugin: String,
    /// The digest of the component.
    pub digest: String,
}

/// The plugins of a pipeline's stages.
pub fn plugins(prepared: &Prepared) -> Vec<Plugin> {
    let stages = prepared.pipeline.stages.iter().zip(&prepared.plugins);
    let plugin = |(stage, plugin): (&wasmill_pipeline::Stage, &StagePlugin)| {
        let of = &plugin.component.description;
        let (stage, digest) = (stage.name.clone(), plugin.component.digest.clone());
        Plugin { stage, plugin: format!("{} {}", of.name, of.version), digest }
    };
    stages.map(plugin).collect()
}

/// A task at the cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    /// Its sub-topology.
    pub sub: usize,
    /// Its partition.
    pub partition: u32,
    /// Where it stood; none when it had committed nothing yet.
    pub saved: Option<serde_json::Value>,
    /// Its state, when it keeps any.
    pub state: Option<Blocks>,
    /// For each input from a channel how many of the channel's frames it had read already.
    pub read: Vec<Option<u64>>,
}

/// A partition of a topic that tasks read from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Channel {
    /// The topic's number in the topology.
    pub number: usize,
    /// The topic's name in the pipeline.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Its frames.
    pub frames: Blocks,
}

impl Manifest {
    /// The bytes of its files.
    pub fn bytes(&self) -> u64 {
        if let Origin::Log { bytes } = self.of {
            return bytes;
        }
        let states = self.tasks.iter().filter_map(|task| task.state.as_ref());
        let frames = self.channels.iter().map(|channel| &channel.frames);
        states.chain(frames).map(|blocks| blocks.bytes).sum()
    }

    /// A manifest of now.
    pub fn new(name: &str, pipeline: &str, of: Origin) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            created_ms: chrono::Utc::now().timestamp_millis(),
            pipeline: pipeline.to_owned(),
            of,
            shape: serde_json::Value::Null,
            plugins: Vec::new(),
            tasks: Vec::new(),
            channels: Vec::new(),
        }
    }
}

/// A savepoint that is being written. Unless it is finished, it is removed.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Begins one in the folder of savepoints.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one of that name; [`Error::Io`].
    pub fn begin(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name);
        if path.exists() {
            return Err(Error::Exists { path });
        }
        let folder = folder.join(format!("{name}{UNFINISHED}"));
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&folder)(e)),
            _ => {}
        }
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(Self { folder, path })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins a file of blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file(&self, name: &str) -> Result<Writer, Error> {
        Writer::create(&self.folder, name)
    }

    /// Writes the manifest and gives the folder its name. Returns where it is.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is left then.
    pub fn finish(self, manifest: &Manifest) -> Result<PathBuf, Error> {
        let path = self.folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
        let write = || -> std::io::Result<()> {
            std::fs::write(&path, text)?;
            std::fs::File::open(&path)?.sync_all()?;
            std::fs::rename(&self.folder, &self.path)?;
            match self.path.parent() {
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(Error::io(&self.path))?;
        Ok(self.path.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was finished; what can't be removed is overwritten the next time.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A savepoint.
#[derive(Debug)]
pub struct Savepoint {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

impl Savepoint {
    /// Opens the one of that name in the folder of savepoints.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] or [`Error::Io`].
    pub fn open(folder: &Path, name: &str) -> Result<Self, Error> {
        let path = folder.join(name).join(MANIFEST);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let known = list(folder)?.into_iter().map(|s| s.manifest.name).collect();
                let (name, folder) = (name.to_owned(), folder.to_owned());
                return Err(Error::Missing { name, folder, known });
            }
            Err(e) => return Err(Error::io(&path)(e)),
        };
        Ok(Self { folder: folder.join(name), manifest: manifest(&path, &text)? })
    }

    /// Reads a file of blocks.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be opened.
    pub fn file(&self, blocks: &Blocks) -> Result<Reader, Error> {
        Reader::open(&self.folder, blocks)
    }
}

fn manifest(path: &Path, text: &[u8]) -> Result<Manifest, Error> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |e: serde_json::Error| Error::damaged(path, format!("this is no manifest: {e}"));
    let Version { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version != VERSION {
        return Err(Error::damaged(
            path,
            format!(
                "of format {version}, this Wasmill reads format {VERSION}; use the one that wrote it"
            ),
        ));
    }
    serde_json::from_slice(text).map_err(damaged)
}

/// The savepoints of a folder, the oldest first; none when there is no such folder.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::Io`].
pub fn list(folder: &Path) -> Result<Vec<Savepoint>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let folder = entry.map_err(Error::io(folder))?.path();
        let path = folder.join(MANIFEST);
        let unfinished = folder.to_string_lossy().ends_with(UNFINISHED);
        if unfinished || !path.is_file() {
            continue;
        }
        let text = std::fs::read(&path).map_err(Error::io(&path))?;
        found.push(Savepoint { manifest: manifest(&path, &text)?, folder });
    }
    found.sort_by(|a, b| {
        let key = |s: &Savepoint| (s.manifest.created_ms, s.manifest.name.clone());
        key(a).cmp(&key(b))
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_savepoint_is_there_when_it_is_finished_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::begin(folder.path(), "one").unwrap();
        let mut file = draft.file("a.zst").unwrap();
        file.write(b"block").unwrap();
        let blocks = file.finish().unwrap();
        assert!(list(folder.path()).unwrap().is_empty());
        let error = Savepoint::open(folder.path(), "one").unwrap_err().to_string();
        assert!(error.ends_with("it has none"), "{error}");
        let manifest = Manifest::new("one", "p", Origin::Log { bytes: 5 });
        draft.finish(&manifest).unwrap();
        let found = Savepoint::open(folder.path(), "one").unwrap();
        assert_eq!(found.manifest, manifest);
        let mut reader = found.file(&blocks).unwrap();
        assert_eq!(reader.next().unwrap().as_deref(), Some(&b"block"[..]));
        assert_eq!(reader.next().unwrap(), None);
        assert!(matches!(Draft::begin(folder.path(), "one"), Err(Error::Exists { .. })));
        let error = Savepoint::open(folder.path(), "two").unwrap_err().to_string();
        assert!(error.ends_with("; it has one"), "{error}");
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Draft::begin(folder.path(), "one").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_format_is_an_error_that_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new("one", "p", Origin::Log { bytes: 5 });
        manifest.version = 9;
        Draft::begin(folder.path(), "one").unwrap().finish(&manifest).unwrap();
        let error = Savepoint::open(folder.path(), "one").unwrap_err().to_string();
        assert!(error.contains("of format 9") && error.contains("reads format 1"), "{error}");
    }
}
