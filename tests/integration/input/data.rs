//! Data directories that are damaged, in use, full, or another pipeline's.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Site, interrupt, lines};
use crate::support::{by_key, program, root, stdout_of, topic, wasmill};

/// The files below a folder that have this in their path.
fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, part));
        } else if path.to_string_lossy().contains(part) && fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A site whose pipeline was stopped after 300 of 600 lines.
fn halfway() -> Site {
    let site = Site::new();
    fs::write(site.path().join("in.jsonl"), lines(0..300)).unwrap();
    site.interrupted(300);
    fs::write(site.path().join("in.jsonl"), lines(0..600)).unwrap();
    site
}

/// Damages a file, checks what is said, repairs the file, and checks that the run completes.
fn damaged(site: &Site, file: &Path, damage: impl Fn(&mut Vec<u8>), parts: &[&str]) {
    let sound = fs::read(file).unwrap();
    let mut bytes = sound.clone();
    damage(&mut bytes);
    fs::write(file, bytes).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    for _ in 0..2 {
        site.fails(1, &[], &[&[name], parts].concat());
    }
    fs::write(file, sound).unwrap();
}

#[test]
fn a_run_that_was_interrupted_goes_on_where_it_stopped() {
    halfway().completes(&[]);
}

#[test]
fn a_damaged_commit_is_named_and_nothing_is_lost() {
    let site = halfway();
    let commit = site.data().join("log/COMMIT");
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    damaged(&site, &commit, flip, &["damaged at byte", "restore the data directory"]);
    damaged(&site, &commit, |bytes| bytes.truncate(10), &["damaged"]);
    let sound = fs::read(&commit).unwrap();
    fs::remove_file(&commit).unwrap();
    site.fails(1, &[], &["no COMMIT file", "Restore COMMIT from a backup"]);
    fs::write(&commit, sound).unwrap();
    site.completes(&[]);
}

#[test]
fn a_damaged_segment_is_named_and_nothing_is_lost() {
    let site = halfway();
    let segments = files(&site.data().join("log"), "/raw/");
    assert!(!segments.is_empty());
    let sound = fs::read(&segments[0]).unwrap();
    // What was committed is missing.
    fs::write(&segments[0], &sound[..sound.len() / 2]).unwrap();
    site.fails(1, &[], &["lost data", "Restore the data directory"]);
    fs::write(&segments[0], sound).unwrap();
    site.completes(&[]);
}

/// A topic that something else writes, and is read now: its frames are not as they were written.
#[test]
fn a_flipped_bit_in_a_segment_that_is_to_be_read_is_named_and_nothing_is_lost() {
    let site = Site::new();
    site.change(
        "path = \"in.jsonl\"\nformat = \"jsonl\"\nkey = \"user\"\ntimestamp = \"at\"",
        "topic = \"given\"\nbounded = true",
    );
    let record = |i| format!("{{\"key\":\"u{}\",\"value\":\"{i}\",\"timestamp\":{i}}}\n", i % 7);
    fs::write(site.path().join("given"), (0..600).map(record).collect::<String>()).unwrap();
    let write = "exec \"$0\" topic write given --partitions 2 --data-dir data <given";
    let mut shell = Command::new("sh");
    shell.args(["-c", write]).arg(program()).current_dir(site.path());
    stdout_of(shell.output().unwrap());
    let segments = files(&site.data().join("log"), "/given/");
    assert_eq!(segments.len(), 2);
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    damaged(&site, &segments[0], flip, &["damaged at byte", "restore the data directory"]);
    stdout_of(site.run(&[]));
    assert_eq!(topic(&site.data(), "counts").len(), 600);
}

#[test]
fn a_flipped_bit_in_a_changelog_that_is_to_be_applied_is_named_and_nothing_is_lost() {
    let site = halfway();
    fs::remove_dir_all(site.data().join("state")).unwrap();
    let changelogs = files(&site.data().join("log"), "changelog");
    assert!(!changelogs.is_empty());
    for at in [30, 60] {
        let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 4;
        damaged(&site, &changelogs[0], flip, &["damaged at byte", "restore the data directory"]);
    }
    site.completes(&[]);
}

#[test]
fn a_flipped_bit_in_a_topic_is_named_by_whoever_reads_it() {
    let site = Site::new();
    stdout_of(site.run(&[]));
    let segments = files(&site.data().join("log"), "/counts/");
    for (segment, bit) in segments.iter().zip([0, 7]) {
        let sound = fs::read(segment).unwrap();
        let mut bytes = sound.clone();
        let at = bytes.len() * 2 / 3;
        bytes[at] ^= 1 << bit;
        fs::write(segment, bytes).unwrap();
        let read = ["topic", "read", "counts", "--data-dir", "data"];
        let output = wasmill(site.path(), &read);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let name = segment.strip_prefix(site.path()).unwrap().to_str().unwrap();
        for part in [name, "damaged at byte", "restore the data directory", "still readable"] {
            assert!(errors.contains(part), "{errors} does not say {part:?}");
        }
        fs::write(segment, sound).unwrap();
    }
    site.is_complete();
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Lines of 700 users, in turn.
fn wide(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{{\"user\":\"u{}\",\"at\":{i}}}\n", i % 700)).collect()
}

/// redb takes what it reads for granted: without checksums beneath it, one flipped bit led to other
/// results in half of the runs, and more of them to a panic.
#[test]
fn a_state_file_damaged_anywhere_gives_the_right_results_or_an_error_that_names_it() {
    let site = Site::new();
    site.change("partitions = 2", "partitions = 1");
    for lines in [700, 1_400] {
        // The second of these runs brings the state of the first into the file.
        fs::write(site.path().join("in.jsonl"), wide(0..lines)).unwrap();
        site.interrupted(lines);
    }
    fs::write(site.path().join("in.jsonl"), wide(0..2_100)).unwrap();
    let kept = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-r").arg(from.join(".")).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(site.path(), kept.path());
    stdout_of(site.run(&[]));
    let sound = by_key(&topic(&site.data(), "counts"));
    assert_eq!(sound.values().map(Vec::len).sum::<usize>(), 2_100);
    let state = site.data().join("state/1-0.redb");
    let mut found = 0;
    for seed in 0..24_u64 {
        fs::remove_dir_all(site.data()).unwrap();
        copy(kept.path(), site.path());
        let mut bytes = fs::read(&state).unwrap();
        let is_used = |at: &usize| bytes[*at..*at + 4_096].iter().any(|b| *b != 0);
        let used: Vec<usize> = (0..bytes.len()).step_by(4_096).filter(is_used).collect();
        let mut random = Random(seed);
        for _ in 0..if seed % 2 == 0 { 1 } else { 20 } {
            let at = used[random.below(used.len())] + random.below(4_096);
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(&state, bytes).unwrap();
        let output = site.run(&[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            let counts = by_key(&topic(&site.data(), "counts"));
            assert!(counts == sound, "other results with seed {seed}");
            continue;
        }
        found += 1;
        assert_eq!(output.status.code(), Some(1), "seed {seed}: {errors}");
        for part in ["state file", "1-0.redb", "restore the data directory from a copy"] {
            assert!(errors.contains(part), "seed {seed}: {errors} does not say {part:?}");
        }
        assert!(!errors.contains("panicked") && !errors.contains("defect"), "{seed}: {errors}");
        // Nothing is lost: with the file as it was, the run completes.
        fs::copy(kept.path().join("data/state/1-0.redb"), &state).unwrap();
        stdout_of(site.run(&[]));
        assert!(by_key(&topic(&site.data(), "counts")) == sound, "other results after seed {seed}");
    }
    assert!(found >= 6, "{found} of 24 were found");
}

#[test]
fn a_state_file_that_is_nonsense_is_named_and_nothing_is_lost() {
    let site = halfway();
    let states = files(&site.data().join("state"), "");
    assert!(!states.is_empty());
    let nonsense = |bytes: &mut Vec<u8>| *bytes = b"nonsense".repeat(1_000);
    damaged(
        &site,
        &states[0],
        nonsense,
        &["state file", "does not begin like a state file", "restore"],
    );
    site.completes(&[]);
}

#[test]
fn state_files_that_are_gone_are_made_anew_from_the_changelog() {
    let site = halfway();
    fs::remove_dir_all(site.data().join("state")).unwrap();
    site.completes(&[]);
}

#[test]
fn a_data_directory_in_use_names_the_process_and_neither_run_suffers() {
    let site = Site::new();
    let child = site.start(&["--set", "source.raw.bounded=false"]);
    while site.out() < 600 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let process = format!("in use by process {}", child.id());
    site.fails(1, &[], &[&process, "Stop that process"]);
    interrupt(child);
    site.completes(&[]);
}

#[test]
fn a_pipeline_of_another_shape_is_refused_and_the_data_stays_for_the_old_one() {
    let site = halfway();
    let more = ["--set", "engine.partitions=3"];
    site.fails(1, &more, &["data", "partitions", "use another --data-dir"]);
    let more = ["--set", "name=other"];
    site.fails(1, &more, &["belongs to another pipeline", "use another --data-dir"]);
    site.completes(&[]);
}

#[test]
fn an_output_file_that_was_cut_is_named() {
    let site = halfway();
    let file = site.path().join("out-0.txt");
    let sound = fs::read(&file).unwrap();
    fs::write(&file, &sound[..10]).unwrap();
    site.fails(1, &[], &["sink.out", "lost data", "out-0.txt", "has 10"]);
    fs::remove_file(&file).unwrap();
    site.fails(1, &[], &["sink.out", "out-0.txt", "is gone"]);
    fs::write(&file, sound).unwrap();
    site.completes(&[]);
}

#[test]
fn an_output_file_of_someone_else_is_not_overwritten() {
    let site = Site::new();
    let file = site.path().join("out-1.txt");
    fs::write(&file, "precious\n").unwrap();
    site.fails(1, &[], &["sink.out", "out-1.txt has 9 bytes", "Remove the file"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious\n");
    fs::remove_file(&file).unwrap();
    site.completes(&[]);
}

#[test]
fn an_input_file_that_shrank_or_changed_is_named() {
    let site = halfway();
    let input = site.path().join("in.jsonl");
    fs::write(&input, lines(0..100)).unwrap();
    site.fails(1, &[], &["source.raw", "in.jsonl", "shrank or was replaced", "line 300"]);
    fs::write(&input, lines(0..600)).unwrap();
    site.completes(&[]);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let site = Site::new();
    fs::write(site.data(), "a file in its place").unwrap();
    site.fails(1, &[], &["data", "can't be made"]);
    fs::remove_file(site.data()).unwrap();
    site.completes(&[]);
}

/// No file may get larger than 8 MiB, as on a disk that is full.
#[test]
fn a_file_that_may_not_grow_is_named_and_the_run_completes_when_it_may() {
    let site = Site::new();
    let text = lines(0..600).replace('}', &format!(",\"pad\":\"{}\"}}", "x".repeat(50_000)));
    fs::write(site.path().join("in.jsonl"), text).unwrap();
    let plugins = root().join("target/plugins").display().to_string();
    let run = "trap '' XFSZ; ulimit -f 16384; \
               exec \"$0\" run count.toml --data-dir data --plugins \"$1\"";
    let output = Command::new("sh")
        .args(["-c", run])
        .arg(program())
        .arg(&plugins)
        .current_dir(site.path())
        .env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot append to data/log/topics/"), "{errors}");
    assert_eq!(errors.matches("File too large").count(), 1, "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    stdout_of(site.run(&[]));
    assert_eq!(topic(&site.data(), "counts").len(), 600);
    assert_eq!(site.out(), 600);
}

/// What a full disk says of itself.
const FULL: &str = "No space left on device";

/// A small disk in memory at a folder; none, said by name, where this process may not mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(test: &str, folder: PathBuf, bytes: usize) -> Option<Self> {
        fs::create_dir_all(&folder).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&folder)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            skipped(&format!(
                "SKIPPED {test}: a small disk can't be mounted here, only root may\n"
            ));
            return None;
        }
        Some(Self(folder))
    }

    /// Fills it, but for so many pages.
    fn fill(&self, but: usize) {
        let block = [0; PAGE];
        let path = self.0.join("filler");
        let mut filler = fs::File::create(&path).unwrap();
        while filler.write_all(&block).is_ok() {}
        let length = filler.metadata().unwrap().len() as usize;
        filler.set_len((length / PAGE).saturating_sub(but) as u64 * PAGE as u64).unwrap();
    }

    /// Makes room.
    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is left is gone with the folder at the latest.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Says that a test is left out: on standard error, and in the file that `make test` shows at its end.
fn skipped(line: &str) {
    // Not by a macro, whose output a test that passes does not show.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("WASMILL_SKIPPED") {
        let file = fs::File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// How a disk in memory hands out its room, in bytes.
const PAGE: usize = 4096;

#[test]
fn a_disk_that_is_full_is_named_and_the_run_completes_when_there_is_room() {
    let site = Site::new();
    let Some(disk) = Disk::mount("a_disk_that_is_full", site.data(), 8 << 20) else { return };
    disk.fill(64);
    let text = lines(0..600).replace('}', &format!(",\"pad\":\"{}\"}}", "x".repeat(2_000)));
    fs::write(site.path().join("in.jsonl"), text).unwrap();
    for _ in 0..2 {
        site.fails(1, &[], &["cannot append to data/log/topics/", FULL]);
    }
    disk.free();
    stdout_of(site.run(&[]));
    assert_eq!(topic(&site.data(), "counts").len(), 600);
    assert_eq!(site.out(), 600);
}

/// State files are written behind the commit, on a thread of their own.
#[test]
fn a_full_disk_of_state_files_is_named_and_nothing_is_lost() {
    let site = Site::new();
    let folder = site.data().join("state");
    let Some(disk) = Disk::mount("a_full_disk_of_state_files", folder, 64 << 20) else { return };
    fs::write(site.path().join("in.jsonl"), lines(0..300)).unwrap();
    site.interrupted(300);
    // The last record of each key is part of its state.
    let pad = "x".repeat(400);
    let line = |i| format!("{{\"user\":\"v{i}\",\"at\":{i},\"pad\":\"{pad}\"}}\n");
    let text: String = (0..20_000).map(line).collect();
    fs::write(site.path().join("in.jsonl"), lines(0..300) + &text).unwrap();
    disk.fill(8);
    // The changelog has what state files lack. The next run takes that into memory, or where memory has
    // no room for it, has it written first.
    stdout_of(site.run(&[]));
    stdout_of(site.run(&[]));
    for _ in 0..2 {
        site.fails(1, &["--set", "engine.cache=1MiB"], &["data/state/", FULL]);
    }
    disk.free();
    stdout_of(site.run(&[]));
    assert_eq!(topic(&site.data(), "counts").len(), 20_300);
    assert_eq!(site.out(), 20_300);
}

/// Little is left: enough for what is appended, then not enough for the file that commits it.
#[test]
fn a_disk_that_is_too_full_for_the_commit_names_it_and_nothing_is_lost() {
    let site = Site::new();
    let Some(disk) =
        Disk::mount("a_disk_that_is_too_full_for_the_commit", site.data().join("log"), 8 << 20)
    else {
        return;
    };
    fs::write(site.path().join("in.jsonl"), lines(0..599)).unwrap();
    site.interrupted(599);
    fs::write(site.path().join("in.jsonl"), lines(0..600)).unwrap();
    let mut reached = false;
    for pages in 0..16 {
        disk.fill(pages);
        let output = site.run(&[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            disk.free();
            break;
        }
        assert!(errors.contains(FULL) && errors.contains("data/log/"), "{errors}");
        reached |= errors.contains("data/log/COMMIT");
        disk.free();
    }
    assert!(reached, "the commit was never what there was no room for");
    site.completes(&[]);
}

#[test]
fn a_sink_on_a_full_disk_is_named_and_nothing_is_lost() {
    let site = Site::new();
    let more = ["--set", "sink.out.path=/dev/full"];
    for _ in 0..2 {
        site.fails(1, &more, &["sink.out", "/dev/full", FULL]);
    }
    // The same pipeline with a sink that has room, on the same data.
    site.completes(&[]);
}
