//! Keyed state on disk: one redb file for each task, behind what the task holds in memory.
//!
//! The changelog in the log is the truth; this file follows it. Invariant: the file never holds a
//! change of an epoch that was not committed, and says in the same transaction how far it has come.
//!
//! What the disk gives back is checked (module `blocks`): damage is an error, never another state.
//!
//! Tables:
//! - `state` from store key (see `wasmill_core::row`) to value;
//! - `postings`, what is due when: from the number of a bucket and of a run in it to postings, packed;
//! - `buckets`, which of them there are, from `[stage u16 BE][index u8][time i64 BE, sign flipped]
//!   [key]`, where one starts, to its number, its number of runs, how many rows count on it, how many
//!   postings it has, and how many bytes these take;
//! - `meta` from a name to a number: how far the changelog is applied, the version of the format, the
//!   number of the next bucket.
//!
//! How postings are kept is in the module `postings`. They are read before their time is up, and may
//! be stale; whoever reads one looks at the row.

mod blocks;
#[cfg(test)]
mod damage;
mod directory;
mod list;
#[cfg(test)]
mod model;
mod postings;
mod view;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use wasmill_core::change;
use wasmill_core::row::{self, Corrupt, NEVER, Name};

use blocks::Blocks;
use directory::Stored;
use postings::Postings;
use view::{Opened, View};

const STATE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const POSTINGS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("postings");
const BUCKETS: TableDefinition<&[u8], Stored> = TableDefinition::new("buckets");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const APPLIED: &str = "changelog-offset";
const NEXT_BUCKET: &str = "next-bucket";
const VERSION: &str = "version";

/// The version of the file's format: 0, which said nothing of it, kept an entry for each posting; 0
/// and 1 had no checksums.
const FORMAT: u64 = 2;

/// What to do about a damaged file.
const RESTORE: &str = "restore the data directory from a copy, or run from the beginning with another \
                       --data-dir";

/// What redb caches of a file at least, in bytes; what is hot is cached by the task itself.
const LEAST_CACHE_BYTES: usize = 4 << 20;

/// The state file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("state file {}: {message}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// What happened and what to do.
    pub message: String,
}

/// The state of one task.
#[derive(Clone)]
pub struct State {
    path: Arc<PathBuf>,
    db: Arc<Database>,
    view: Arc<RwLock<Arc<View>>>,
    /// What was found damaged in the file first.
    damage: Arc<OnceLock<String>>,
    /// The bucket of postings that was read last of each index.
    opened: Arc<Mutex<HashMap<directory::Name, Opened>>>,
}

impl State {
    /// Opens the state file, or makes an empty one; `cache` bytes of its pages are held in memory.
    ///
    /// # Errors
    /// [`Error`] when it is damaged, in use, or can't be written.
    pub fn open(path: &Path, cache: usize) -> Result<Self, Error> {
        let at = |message: String| Error { path: path.to_owned(), message };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| at(e.to_string()))?;
        }
        if !path.exists() {
            // Made under another name first: a crash must not leave half of a file under this one.
            let new = path.with_extension("redb.new");
            match std::fs::remove_file(&new) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at(e.to_string()));
                }
                _ => drop(Self::over(&new, Blocks::open(&new).map_err(at)?, cache)?),
            }
            std::fs::rename(&new, path).map_err(|e| at(e.to_string()))?;
            if let Some(folder) = path.parent() {
                let folder = std::fs::File::open(folder).map_err(|e| at(e.to_string()))?;
                folder.sync_all().map_err(|e| at(e.to_string()))?;
            }
        }
        Self::over(path, Blocks::open(path).map_err(at)?, cache)
    }

    fn over(path: &Path, blocks: Blocks, cache: usize) -> Result<Self, Error> {
        let damage = blocks.damage();
        let at = |message: String| {
            let message = damaged(&damage).unwrap_or(message);
            Error { path: path.to_owned(), message }
        };
        let db = create(blocks, cache).map_err(at)?;
        let view = View::of(&db).map_err(at)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            db: Arc::new(db),
            view: Arc::new(RwLock::new(Arc::new(view))),
            damage,
            opened: Arc::default(),
        })
    }

    fn at(&self, e: impl std::fmt::Display) -> Error {
        // After damage was found, redb says of everything that it comes after a failure.
        let message = damaged(&self.damage).unwrap_or_else(|| e.to_string());
        Error { path: self.path.to_path_buf(), message }
    }

    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The offset of the changelog that this file has applied up to.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn applied(&self) -> Result<u64, Error> {
        let read = self.db.begin_read().map_err(|e| self.at(e))?;
        let meta = read.open_table(META).map_err(|e| self.at(e))?;
        let applied = meta.get(APPLIED).map_err(|e| self.at(e))?;
        Ok(applied.map_or(0, |v| v.value()))
    }

    /// How large the file is, in bytes; 0 when that can't be found out.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&*self.path).map_or(0, |meta| meta.len())
    }

    /// Applies packs of changes, in the order of the changelog, in one durable transaction, and
    /// notes that the changelog is applied up to `offset`.
    ///
    /// # Errors
    /// When a pack is damaged or the file can't be written; then nothing is applied.
    pub fn apply<'a>(
        &self,
        packs: impl Iterator<Item = &'a [u8]>,
        offset: u64,
    ) -> Result<(), Error> {
        self.apply_runs(packs.map(|pack| std::iter::once(Ok(pack))), offset)
    }

    /// As [`State::apply`], of runs: packs that hold one change of each key, in order, as those of a
    /// commit do. Of each run one pack is in memory at a time; one that can't be had says why.
    ///
    /// # Errors
    /// When a pack is damaged or can't be had, or the file can't be written; then nothing is applied.
    pub fn apply_runs<P: AsRef<[u8]>>(
        &self,
        packs: impl Iterator<Item = impl Iterator<Item = Result<P, String>>>,
        offset: u64,
    ) -> Result<(), Error> {
        let mut write = self.db.begin_write().map_err(|e| self.at(e))?;
        write.set_two_phase_commit(true);
        let directory = {
            let mut state = write.open_table(STATE).map_err(|e| self.at(e))?;
            let runs = write.open_table(POSTINGS).map_err(|e| self.at(e))?;
            let mut buckets = write.open_table(BUCKETS).map_err(|e| self.at(e))?;
            let mut meta = write.open_table(META).map_err(|e| self.at(e))?;
            let next = meta.get(NEXT_BUCKET).map_err(|e| self.at(e))?.map_or(0, |v| v.value());
            let mut postings = Postings::new(runs, self.view().directory.clone(), next);
            let packs = packs.map(|run| run.map(|pack| pack.map_err(Failed::Missing)));
            let merged = change::merge_runs(packs, |key, value| {
                let name = row::name(key)?;
                let after = match (name, value) {
                    (Name::Row { .. }, Some(row)) => row::posted(row)?,
                    _ => [NEVER; 3],
                };
                let before = {
                    let old = match value {
                        Some(value) => state.insert(key, value).map_err(Damage::from)?,
                        None => state.remove(key).map_err(Damage::from)?,
                    };
                    match (name, &old) {
                        (Name::Row { .. }, Some(old)) => {
                            row::posted(old.value()).map_err(Damage::from)?
                        }
                        _ => [NEVER; 3],
                    }
                };
                let Name::Row { stage, key } = name else { return Ok(()) };
                postings.add(stage, key, &before, &after)?;
                if postings.is_full() { Ok(postings.write(&state)?) } else { Ok(()) }
            });
            merged.map_err(|e| match e {
                Failed::Changelog(e) => self.at(format!("the changelog is damaged: {e}")),
                Failed::Missing(e) => self.at(format!("the changelog can't be read: {e}")),
                Failed::File(e) => self.at(e),
            })?;
            let finished = postings.finish(&state, &mut buckets);
            let (directory, next) = finished.map_err(|e| self.at(e))?;
            meta.insert(NEXT_BUCKET, next).map_err(|e| self.at(e))?;
            meta.insert(APPLIED, offset).map_err(|e| self.at(e))?;
            directory
        };
        write.commit().map_err(|e| self.at(e))?;
        let view = View::new(&self.db, directory).map_err(|e| self.at(e))?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }
}

/// Opens a database, and makes what is missing of it.
fn create(blocks: Blocks, cache: usize) -> Result<Database, String> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache.max(LEAST_CACHE_BYTES));
    let db = builder.create_with_backend(blocks).map_err(|e| match e {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            "in use by another process; stop that one first".to_owned()
        }
        e => format!("can't be opened: {e}; if it is damaged, {RESTORE}"),
    })?;
    let mut write = db.begin_write().map_err(|e| e.to_string())?;
    write.set_two_phase_commit(true);
    let is_new = write.list_tables().map_err(|e| e.to_string())?.next().is_none();
    {
        let mut meta = write.open_table(META).map_err(|e| e.to_string())?;
        if is_new {
            meta.insert(VERSION, FORMAT).map_err(|e| e.to_string())?;
        }
        let version = meta.get(VERSION).map_err(|e| e.to_string())?.map_or(0, |v| v.value());
        if version != FORMAT {
            return Err(format!(
                "has version {version} of the format, and this program reads version {FORMAT}; use \
                 the program that wrote it, or run from the beginning with another --data-dir"
            ));
        }
    }
    write.open_table(STATE).map_err(|e| e.to_string())?;
    write.open_table(POSTINGS).map_err(|e| e.to_string())?;
    write.open_table(BUCKETS).map_err(|e| e.to_string())?;
    write.commit().map_err(|e| e.to_string())?;
    Ok(db)
}

/// What to say of a file once something in it was found damaged.
fn damaged(damage: &OnceLock<String>) -> Option<String> {
    damage.get().map(|what| format!("is damaged: {what}; {RESTORE}"))
}

/// Why changes could not be applied.
enum Failed {
    Changelog(Corrupt),
    Missing(String),
    File(Damage),
}

impl From<Corrupt> for Failed {
    fn from(e: Corrupt) -> Self {
        Self::Changelog(e)
    }
}

impl From<Damage> for Failed {
    fn from(e: Damage) -> Self {
        Self::File(e)
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    #[error("is damaged: expected {}; {RESTORE}", .0.0)]
    Corrupt(#[from] Corrupt),
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_abi::TimeDomain;
    use wasmill_core::row::{Row, Timer, UNDATED};
    use wasmill_core::store::{Cold, Index};

    fn row(value: &[u8], timer: Option<i64>) -> Vec<u8> {
        let timers = timer
            .map(|time| Timer { domain: TimeDomain::EventTime, tag: 1, time })
            .into_iter()
            .collect();
        let row = Row { version: 1, touched: UNDATED, timers, value: Some(value.into()) };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        bytes
    }

    fn name(key: &str) -> Vec<u8> {
        let mut out = Vec::new();
        row::row_key(7, key.as_bytes(), &mut out);
        out
    }

    fn apply(state: &State, all: Vec<(Vec<u8>, Option<Vec<u8>>)>, offset: u64) {
        let mut changes = change::Changes::default();
        all.iter().for_each(|(key, value)| changes.put(key, value.as_deref()));
        changes.sort();
        let packs = changes.packs(100).collect::<Vec<_>>();
        state.apply(packs.iter().map(Vec::as_slice), offset).unwrap();
    }

    #[test]
    fn rows_and_their_places_in_time_follow_the_changelog() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s/0.redb");
        let state = State::open(&path, 0).unwrap();
        assert!(state.is_empty());
        let due = |state: &State, until| {
            let found = state.due(Index::EventTime, 7, None, until, 10).unwrap();
            found.into_iter().map(|(t, k)| (t, String::from_utf8(k).unwrap())).collect::<Vec<_>>()
        };
        apply(
            &state,
            vec![
                (name("a"), Some(row(b"1", Some(-5)))),
                (name("b"), Some(row(b"2", Some(20)))),
                (name("c"), Some(row(b"3", None))),
            ],
            3,
        );
        assert_eq!(due(&state, 100), [(-5, "a".into()), (20, "b".into())]);
        assert_eq!(due(&state, 0), [(-5, "a".into())]);
        apply(&state, vec![(name("a"), None), (name("b"), Some(row(b"2", Some(30))))], 4);
        drop(state);
        let state = State::open(&path, 0).unwrap();
        assert_eq!(state.applied().unwrap(), 4);
        // That of "b" before it moved stays until its bucket goes.
        assert_eq!(due(&state, 100), [(-5, "a".into()), (20, "b".into()), (30, "b".into())]);
        assert_eq!(state.get(&name("a")).unwrap(), None);
        assert_eq!(state.get(&name("c")).unwrap(), Some(row(b"3", None)));
        assert_eq!(state.scan(&name("a"), &name("z"), 1, true).unwrap()[0].0, name("c"));
        let after = (30, b"b".to_vec());
        assert!(state.due(Index::EventTime, 7, Some(&after), 100, 10).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_in_use_or_no_state_file_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.redb");
        let _open = State::open(&path, 0).unwrap();
        let error = State::open(&path, 0).err().unwrap().to_string();
        assert!(error.contains("in use") && error.contains("0.redb"), "{error}");
        let other = folder.path().join("1.redb");
        std::fs::write(&other, b"nonsense").unwrap();
        let error = State::open(&other, 0).err().unwrap().to_string();
        assert!(error.contains("does not begin like a state file"), "{error}");
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.redb");
        let of = |db: Database, version| {
            let write = db.begin_write().unwrap();
            write.open_table(META).unwrap().insert(VERSION, version).unwrap();
            write.commit().unwrap();
            drop(db);
            let error = State::open(&path, 0).err().unwrap().to_string();
            std::fs::remove_file(&path).unwrap();
            error
        };
        let error = of(Database::create(&path).unwrap(), 1);
        assert!(error.contains("older version") && error.contains("reads version 2"), "{error}");
        let error = of(create(Blocks::open(&path).unwrap(), 0).unwrap(), 3);
        assert!(error.contains("version 3") && error.contains("version 2"), "{error}");
    }

    #[test]
    fn what_a_crash_left_while_the_file_was_made_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.redb.new"), [0; 4096]).unwrap();
        let path = folder.path().join("0.redb");
        apply(&State::open(&path, 0).unwrap(), vec![(name("a"), Some(row(b"1", None)))], 7);
        assert_eq!(State::open(&path, 0).unwrap().applied().unwrap(), 7);
        assert!(!folder.path().join("0.redb.new").exists());
    }

    #[test]
    fn a_damaged_pack_applies_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("0.redb"), 0).unwrap();
        let packs = [vec![0u8, 1, 2]];
        assert!(state.apply(packs.iter().map(Vec::as_slice), 9).is_err());
        assert_eq!(state.applied().unwrap(), 0);
    }
}
