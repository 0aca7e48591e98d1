//! What becomes of a state file that a disk gives back otherwise than it was written, and of one that
//! a power failure left: the state that was committed, or an error, never another state.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use wasmill_abi::TimeDomain;
use wasmill_core::change::Changes;
use wasmill_core::row::{self, NEVER, Row, Timer, UNDATED};
use wasmill_core::store::{Cold, Index};

use super::State;
use super::blocks::Blocks;

const STAGE: u16 = 2;
const KEYS: u64 = 3_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// Changes some keys: values of many lengths, timers, and every fifth is removed.
fn apply(state: &State, offset: u64, keys: u64) -> std::result::Result<(), super::Error> {
    let mut changes = Changes::default();
    for i in (0..keys).filter(|i| (i + offset).is_multiple_of(3)) {
        let mut name = Vec::new();
        row::row_key(STAGE, format!("key {}", i * 7_919 % 10_007).as_bytes(), &mut name);
        let timer = |domain| Timer { domain, tag: offset, time: (i * 31 + offset * 500) as i64 };
        let domains = [TimeDomain::EventTime, TimeDomain::ProcessingTime];
        let timers = domains.into_iter().take((i % 3) as usize).map(timer).collect();
        let value = vec![(i + offset) as u8; ((i * 13 + offset) % 90) as usize];
        let long = if i.is_multiple_of(500) { 20_000 } else { 0 };
        let value = Some([value, vec![offset as u8; long]].concat().into());
        let mut bytes = Vec::new();
        Row { version: 1, touched: UNDATED, timers, value }.encode(&mut bytes);
        changes.put(&name, if (i + offset).is_multiple_of(5) { None } else { Some(&bytes) });
    }
    changes.sort();
    let packs = changes.packs(10_000).collect::<Vec<_>>();
    state.apply(packs.iter().map(Vec::as_slice), offset)
}

type Answers = (u64, Vec<(Vec<u8>, Vec<u8>)>, Vec<Vec<(i64, Vec<u8>)>>);

/// All that a state says.
fn answers(state: &State) -> std::result::Result<Answers, String> {
    let rows = state.scan(&[], &[255; 9], usize::MAX, false).map_err(|e| e.to_string())?;
    for (key, value) in &rows {
        let found = state.get(key).map_err(|e| e.to_string())?;
        assert_eq!(found.as_ref(), Some(value));
    }
    let due = |index| state.due(index, STAGE, None, NEVER - 1, usize::MAX);
    let due = Index::ALL.into_iter().map(due).collect::<std::result::Result<_, _>>();
    let applied = state.applied().map_err(|e| e.to_string())?;
    Ok((applied, rows, due.map_err(|e| e.to_string())?))
}

/// All that a file says, before and after more is applied.
fn use_of(path: &Path) -> std::result::Result<[Answers; 2], String> {
    let state = State::open(path, 0).map_err(|e| e.to_string())?;
    let before = answers(&state)?;
    apply(&state, 9, KEYS).map_err(|e| e.to_string())?;
    Ok([before, answers(&state)?])
}

fn damage(bytes: &mut [u8], seed: u64) {
    let random = &mut Random(seed);
    let len = bytes.len() as u64;
    match seed % 5 {
        0 => bytes[random.below(len) as usize] ^= 1 << random.below(8),
        1 => (0..20).for_each(|_| bytes[random.below(len) as usize] ^= random.below(255) as u8 + 1),
        // In what is small and read first.
        2 => bytes[random.below(3 * 4_096) as usize] ^= 1 << random.below(8),
        3 => {
            let sector = random.below(len / 512) as usize * 512;
            bytes[sector..sector + 512].fill(0);
        }
        _ => {
            let mut place = || random.below(len / 4_096) as usize * 4_096;
            let (from, to) = (place(), place());
            bytes.copy_within(from..from + 4_096, to);
        }
    }
}

#[test]
fn a_damaged_file_gives_what_it_held_or_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.redb");
    let state = State::open(&path, 0).unwrap();
    (1..6).for_each(|offset| apply(&state, offset, KEYS).unwrap());
    // As a process leaves it that is killed, and one that ends.
    let killed = fs::read(&path).unwrap();
    drop(state);
    let closed = fs::read(&path).unwrap();
    let expected = use_of(&path).unwrap();
    let mut found = 0;
    for seed in 0..300 {
        let mut bytes = if seed / 5 % 2 == 0 { closed.clone() } else { killed.clone() };
        damage(&mut bytes, seed);
        fs::write(&path, &bytes).unwrap();
        match use_of(&path) {
            Ok(answers) => assert!(answers == expected, "seed {seed}: another state"),
            Err(e) => {
                found += 1;
                assert!(e.contains("0.redb: is damaged: ") || e.contains("begin like"), "{e}");
                assert!(e.contains("restore the data directory"), "seed {seed}: {e}");
            }
        }
    }
    assert!((100..300).contains(&found), "{found} of 300 were found");
}

#[test]
fn a_file_that_was_cut_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.redb");
    let state = State::open(&path, 0).unwrap();
    apply(&state, 1, KEYS).unwrap();
    let killed = fs::read(&path).unwrap();
    drop(state);
    let closed = fs::read(&path).unwrap();
    for len in [1, 512, 4_096, 8_192, 12_288, 99_999, 102_400, closed.len() - 4_096] {
        for whole in [&closed, &killed] {
            fs::write(&path, &whole[..len]).unwrap();
            let error = use_of(&path).unwrap_err();
            assert!(error.contains("0.redb") && error.contains("restore"), "{len}: {error}");
        }
    }
}

/// A disk that loses power: of what was not synced, any sectors may be lost.
#[derive(Debug, Default, Clone)]
struct Disk(Arc<Mutex<Image>>);

#[derive(Debug, Default)]
struct Image {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// Numbers of sectors that were written since.
    pending: BTreeMap<usize, ()>,
    /// Steps until power fails.
    left: Option<u64>,
}

impl Disk {
    fn step(&self) -> Result<std::sync::MutexGuard<'_, Image>> {
        let mut image = self.0.lock().unwrap();
        match &mut image.left {
            Some(0) => return Err(Error::other("no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(image)
    }

    /// What is there when power is back.
    fn after(&self, random: &mut Random) -> Self {
        let image = self.0.lock().unwrap();
        // A length is metadata: it is kept here, as file systems do for what was written behind it.
        let mut bytes = image.synced.clone();
        bytes.resize(image.now.len().max(bytes.len()), 0);
        for sector in image.pending.keys().filter(|_| random.below(2) == 0) {
            let range = sector * 512..(sector + 1) * 512;
            if range.end <= image.now.len() {
                bytes[range.clone()].copy_from_slice(&image.now[range]);
            }
        }
        bytes.truncate(image.now.len());
        let image = Image { synced: bytes.clone(), now: bytes, ..Image::default() };
        Self(Arc::new(Mutex::new(image)))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let image = self.0.lock().unwrap();
        let bytes = image.now.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.step()?.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut image = self.step()?;
        image.synced = image.now.clone();
        image.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut image = self.step()?;
        let at = offset as usize;
        image.now[at..at + data.len()].copy_from_slice(data);
        image.pending.extend((at / 512..(at + data.len()).div_ceil(512)).map(|s| (s, ())));
        Ok(())
    }
}

#[test]
fn a_power_failure_at_any_instant_leaves_what_was_applied_last() {
    let path = Path::new("disk");
    let open = |disk: &Disk| State::over(path, Blocks::over(Box::new(disk.clone())).unwrap(), 0);
    let disk = Disk::default();
    let state = open(&disk).unwrap();
    let mut expected: BTreeMap<u64, Answers> = BTreeMap::new();
    for offset in 1..9 {
        apply(&state, offset, 400).unwrap();
        expected.insert(offset, answers(&state).unwrap());
    }
    drop(state);
    for seed in 0..60 {
        let random = &mut Random(seed);
        let mut disk = Disk::default();
        let state = open(&disk).unwrap();
        apply(&state, 1, 400).unwrap();
        let mut at = 1;
        let mut running = Some(state);
        while at < 8 {
            let state = running.take().map_or_else(|| open(&disk), Ok);
            let state = state.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let found = answers(&state).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            // What was being applied when power failed may be there.
            assert!(found.0 == at || found.0 == at + 1, "seed {seed}: at {} of {at}", found.0);
            at = found.0;
            assert!(found == expected[&at], "seed {seed}: another state at {at}");
            disk.0.lock().unwrap().left = Some(random.below(120));
            while at < 8 && apply(&state, at + 1, 400).is_ok() {
                at += 1;
            }
            drop(state);
            disk = disk.after(random);
        }
    }
}
