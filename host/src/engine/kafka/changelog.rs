//! The records of a changelog: changes, where their task stands, and that a savepoint is being put into
//! it; and which of them count.
//!
//! Without transactions nothing keeps a process that has lost a task from writing on: one that slept
//! may send what it had when it wakes up, behind what the task's new owner has written. Each owner's
//! records therefore bear its *stamp* in their keys, as in `task@1795313273180`: a time, and in any
//! case more than every stamp that was there when it opened the task. Keys of transactions, which
//! exclude others, are without.
//!
//! Invariant: what an owner writes behind the first record of one with a greater stamp counts for
//! nobody, and neither do changes that no record of where the task stands follows.

use crate::engine::Error;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes.
    Pack,
    /// Where the task stands: the end of a commit.
    Task,
    /// That a savepoint is being put into it.
    Restore,
}

const KINDS: [(Kind, &str); 3] =
    [(Kind::Pack, "pack"), (Kind::Task, "task"), (Kind::Restore, "restore")];
/// What comes before the stamp in a key.
const MARK: char = '@';

impl Kind {
    /// The key of records of this kind by an owner with a stamp, or in transactions.
    pub(super) fn key(self, stamp: Option<u64>) -> Vec<u8> {
        let (_, name) = KINDS[self as usize];
        match stamp {
            None => name.as_bytes().to_vec(),
            Some(stamp) => format!("{name}{MARK}{stamp}").into_bytes(),
        }
    }

    fn of(key: &[u8]) -> Option<(Self, Option<u64>)> {
        let key = std::str::from_utf8(key).ok()?;
        let (name, stamp) = match key.split_once(MARK) {
            None => (key, None),
            Some((name, stamp)) => (name, Some(stamp.parse().ok()?)),
        };
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == name)?;
        Some((*kind, stamp))
    }
}

/// The stamp of a new owner of a task whose changelog has these, at a time in ms since the Unix epoch.
pub(super) fn stamp(reader: &Reader, now_ms: i64) -> u64 {
    reader.greatest.saturating_add(1).max(now_ms.unsigned_abs())
}

/// A record is none of a changelog.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoChangelog;

/// What to say of such a record.
pub(super) fn foreign(topic: &str, partition: u32, offset: i64) -> Error {
    Error::Shape(format!(
        "topic {topic} partition {partition} offset {offset}: this is no record of a changelog; nothing \
         else may write to this topic"
    ))
}

/// What reads a changelog in its order.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The greatest stamp that was seen.
    greatest: u64,
    /// Whose the last record was that counts; the stamp is none where it has none.
    last: Option<Option<u64>>,
}

/// A record that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read<'a> {
    pub(super) kind: Kind,
    pub(super) value: &'a [u8],
    /// Whether it is of another owner than the one before: changes that are not followed by where the
    /// task stands are dropped.
    pub(super) of_another: bool,
}

impl Reader {
    /// Takes the next record; none for one that does not count.
    ///
    /// # Errors
    /// When it is no record of a changelog.
    pub(super) fn take<'a>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&'a [u8]>,
    ) -> Result<Option<Read<'a>>, NoChangelog> {
        let (Some(key), Some(value)) = (key, value) else { return Err(NoChangelog) };
        let (kind, stamp) = Kind::of(key).ok_or(NoChangelog)?;
        if stamp.is_some_and(|stamp| stamp < self.greatest) {
            return Ok(None);
        }
        self.greatest = self.greatest.max(stamp.unwrap_or(0));
        let of_another = self.last.replace(stamp).is_some_and(|last| last != stamp);
        Ok(Some(Read { kind, value, of_another }))
    }
}

/// Changes that were read, up to the end of the last commit and behind it.
#[derive(Debug, Default)]
pub(super) struct Packs {
    packs: Vec<Vec<u8>>,
    bytes: usize,
    /// How many of the packs belong to commits that are there as a whole.
    whole: usize,
}

impl Packs {
    /// Takes what a record says of changes.
    pub(super) fn take(&mut self, read: &Read<'_>) {
        if read.of_another {
            self.packs.truncate(self.whole);
            self.bytes = self.packs.iter().map(Vec::len).sum();
        }
        match read.kind {
            Kind::Pack => {
                self.bytes += read.value.len();
                self.packs.push(read.value.to_vec());
            }
            Kind::Task | Kind::Restore => self.whole = self.packs.len(),
        }
    }

    /// The bytes of all that is there.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out the changes of whole commits.
    pub(super) fn whole(&mut self) -> Vec<Vec<u8>> {
        let rest = self.packs.split_off(std::mem::take(&mut self.whole));
        let packs = std::mem::replace(&mut self.packs, rest);
        self.bytes = self.packs.iter().map(Vec::len).sum();
        packs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes of whole commits, and the last record that says where the task stands.
    fn read(records: &[(Kind, Option<u64>, &str)]) -> (Vec<String>, String) {
        let (mut reader, mut packs, mut task) = (Reader::default(), Packs::default(), "");
        for (kind, stamp, value) in records {
            let key = kind.key(*stamp);
            let Some(read) = reader.take(Some(&key), Some(value.as_bytes())).unwrap() else {
                continue;
            };
            packs.take(&read);
            if read.kind == Kind::Task {
                task = value;
            }
        }
        let text = |pack: Vec<u8>| String::from_utf8(pack).unwrap();
        (packs.whole().into_iter().map(text).collect(), task.to_owned())
    }

    use Kind::{Pack, Task};

    /// A process that was suspended wrote old values behind the new owner's when it woke up, and the
    /// next restore took them.
    #[test]
    fn what_a_former_owner_writes_behind_the_first_record_of_the_next_does_not_count() {
        let found = read(&[
            (Pack, Some(5), "a1"),
            (Task, Some(5), "at 1"),
            (Pack, Some(9), "b2"),
            (Task, Some(9), "at 2"),
            (Pack, Some(5), "a1 again"),
            (Task, Some(5), "at 1 again"),
            (Pack, Some(9), "b3"),
            (Task, Some(9), "at 3"),
        ]);
        let expected = ["a1", "b2", "b3"].map(str::to_owned).to_vec();
        assert_eq!(found, (expected, "at 3".to_owned()));
    }

    #[test]
    fn half_a_commit_does_not_count_whoever_goes_on() {
        let whole = [(Pack, Some(5), "a1"), (Task, Some(5), "at 1")];
        let half = (Pack, Some(5), "a2");
        let (a1, at_1) = (vec!["a1".to_owned()], "at 1".to_owned());
        assert_eq!(read(&[whole[0], whole[1], half]), (a1.clone(), at_1.clone()));
        for next in [Some(9), None] {
            let (packs, task) =
                read(&[whole[0], whole[1], half, (Pack, next, "b2"), (Task, next, "at 2")]);
            assert_eq!((packs, task.as_str()), (vec!["a1".to_owned(), "b2".to_owned()], "at 2"));
        }
        // It comes in the middle of the other's.
        let other = [(Pack, Some(9), "b2"), half, (Task, Some(9), "at 2")];
        let (packs, _) = read(&[&whole[..], &other].concat());
        assert_eq!(packs, ["a1", "b2"]);
    }

    #[test]
    fn a_new_owner_has_a_greater_stamp_than_any_before_it_whatever_its_clock_says() {
        let mut reader = Reader::default();
        assert_eq!(stamp(&reader, 1_000), 1_000);
        reader.take(Some(&Task.key(Some(5_000))), Some(b"{}")).unwrap();
        assert_eq!(stamp(&reader, 1_000), 5_001);
        // Also than those of records that did not count.
        reader.take(Some(&Task.key(Some(7))), Some(b"{}")).unwrap();
        assert_eq!(stamp(&reader, 6_000), 6_000);
    }

    #[test]
    fn what_is_no_changelog_is_refused() {
        let mut reader = Reader::default();
        for key in [None, Some(&b"other"[..]), Some(b"task@"), Some(b"task@x"), Some(b"\xff")] {
            assert_eq!(reader.take(key, Some(b"x")), Err(NoChangelog), "{key:?}");
        }
        assert_eq!(reader.take(Some(b"pack"), None), Err(NoChangelog));
    }
}
