//! Keyed state on disk: one redb file for each task, behind what the task holds in memory.
//!
//! The changelog in the log is the truth; this file follows it. Invariant: the file never holds a
//! change of an epoch that was not committed, and says in the same transaction how far it has come.
//!
//! Tables: `state` from store key (see `wasmill_core::row`) to value; `due`, the time indexes, from
//! `[stage u16 BE][index u8][time i64 BE, sign flipped][key]` to nothing; `meta` from a name to a
//! number.

mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, TableDefinition};
use wasmill_abi::TimeDomain;
use wasmill_core::change;
use wasmill_core::row::{self, Name, Row, UNDATED};
use wasmill_core::store::Index;

use view::View;

const STATE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const DUE: TableDefinition<&[u8], ()> = TableDefinition::new("due");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const APPLIED: &str = "changelog-offset";

/// How many bytes of moves in the time indexes are gathered before they are carried out.
const MOVES_BYTES: usize = 4 << 20;

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
                _ => drop(create(&new, cache).map_err(at)?),
            }
            std::fs::rename(&new, path).map_err(|e| at(e.to_string()))?;
            if let Some(folder) = path.parent() {
                let folder = std::fs::File::open(folder).map_err(|e| at(e.to_string()))?;
                folder.sync_all().map_err(|e| at(e.to_string()))?;
            }
        }
        let db = create(path, cache).map_err(at)?;
        let view = View::of(&db).map_err(at)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            db: Arc::new(db),
            view: Arc::new(RwLock::new(Arc::new(view))),
        })
    }

    fn at(&self, e: impl std::fmt::Display) -> Error {
        Error { path: self.path.to_path_buf(), message: e.to_string() }
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
        let write = self.db.begin_write().map_err(|e| self.at(e))?;
        {
            let mut state = write.open_table(STATE).map_err(|e| self.at(e))?;
            let mut due = write.open_table(DUE).map_err(|e| self.at(e))?;
            let mut moves = Moves::default();
            let merged = change::merge(packs, |key, value| {
                let old = match value {
                    Some(value) => state.insert(key, value)?,
                    None => state.remove(key)?,
                };
                let old = old.as_ref().map(|guard| guard.value());
                if let Name::Row { stage, key } = row::name(key)? {
                    moves.add(stage, key, places_of(old)?, places_of(value)?);
                }
                if moves.is_full() { moves.carry_out(&mut due) } else { Ok(()) }
            });
            merged.and_then(|()| moves.carry_out(&mut due)).map_err(|e| match e {
                Failed::Pack(e) => self.at(format!("the changelog is damaged: {e}")),
                Failed::File(e) => self.at(e),
            })?;
            let mut meta = write.open_table(META).map_err(|e| self.at(e))?;
            meta.insert(APPLIED, offset).map_err(|e| self.at(e))?;
        }
        write.commit().map_err(|e| self.at(e))?;
        let view = View::of(&self.db).map_err(|e| self.at(e))?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }
}

/// Opens a database, and makes what is missing of it.
fn create(path: &Path, cache: usize) -> Result<Database, String> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache.max(LEAST_CACHE_BYTES));
    let db = builder.create(path).map_err(|e| match e {
        redb::DatabaseError::DatabaseAlreadyOpen => {
            "in use by another process; stop that one first".to_owned()
        }
        e => format!(
            "can't be opened: {e}; if it is damaged, restore the data directory from a copy"
        ),
    })?;
    let write = db.begin_write().map_err(|e| e.to_string())?;
    write.open_table(STATE).map_err(|e| e.to_string())?;
    write.open_table(DUE).map_err(|e| e.to_string())?;
    write.open_table(META).map_err(|e| e.to_string())?;
    write.commit().map_err(|e| e.to_string())?;
    Ok(db)
}

/// Why changes could not be applied.
enum Failed {
    Pack(row::Corrupt),
    File(redb::StorageError),
}

impl From<row::Corrupt> for Failed {
    fn from(e: row::Corrupt) -> Self {
        Self::Pack(e)
    }
}

impl From<redb::StorageError> for Failed {
    fn from(e: redb::StorageError) -> Self {
        Self::File(e)
    }
}

/// Where a row is in the time indexes; the greatest time where it is not in one.
fn places_of(row: Option<&[u8]>) -> Result<[i64; 3], row::Corrupt> {
    let Some(bytes) = row else { return Ok([i64::MAX; 3]) };
    let row = Row::decode(bytes)?;
    let touched = if row.touched == UNDATED { i64::MAX } else { row.touched };
    Ok([row.next(TimeDomain::EventTime), row.next(TimeDomain::ProcessingTime), touched])
}

/// Moves in the time indexes: they are carried out in the order of the indexes, many at a time.
#[derive(Default)]
struct Moves {
    bytes: Vec<u8>,
    /// Where each key of an index starts and ends in the bytes, and whether it is to be there.
    moves: Vec<(usize, usize, bool)>,
}

impl Moves {
    fn add(&mut self, stage: u16, key: &[u8], before: [i64; 3], after: [i64; 3]) {
        for i in (0..3).filter(|i| before[*i] != after[*i]) {
            for (time, keep) in [(before[i], false), (after[i], true)] {
                if time != i64::MAX {
                    let start = self.bytes.len();
                    put_due_key(&mut self.bytes, stage, Index::ALL[i], time, key);
                    self.moves.push((start, self.bytes.len(), keep));
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() > MOVES_BYTES
    }

    fn carry_out(&mut self, due: &mut redb::Table<'_, &[u8], ()>) -> Result<(), Failed> {
        let (bytes, moves) = (&self.bytes, &mut self.moves);
        moves.sort_unstable_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
        for (start, end, keep) in moves.drain(..) {
            let key = &bytes[start..end];
            if keep {
                due.insert(key, ())?;
            } else {
                due.remove(key)?;
            }
        }
        self.bytes.clear();
        Ok(())
    }
}

fn due_key(stage: u16, index: Index, time: i64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(11 + key.len());
    put_due_key(&mut out, stage, index, time, key);
    out
}

fn put_due_key(out: &mut Vec<u8>, stage: u16, index: Index, time: i64, key: &[u8]) {
    out.extend_from_slice(&stage.to_be_bytes());
    out.push(index as u8);
    out.extend_from_slice(&(time.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    out.extend_from_slice(key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_core::row::Timer;
    use wasmill_core::store::Cold;

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
        let packs = changes.pack(100);
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
        assert_eq!(due(&state, 100), [(30, "b".into())]);
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
        assert!(error.contains("can't be opened"), "{error}");
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
