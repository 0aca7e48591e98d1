//! A disk that is full.

use wasmill_chaos::instance::{Full, Mounts};
use wasmill_chaos::run::tell;
use wasmill_chaos::{Options, Run, scaled};

/// What is said about a disk that has no room (`ENOSPC`).
const NO_ROOM: [&str; 2] = ["No space left on device", "os error 28"];
/// What is said about a file that can't grow (`EFBIG`).
const TOO_LARGE: [&str; 2] = ["File too large", "os error 27"];

/// New state files go onto a small disk. Old ones stay where they are and may not grow, as do new ones
/// where no disk can be mounted: which of the pages that they have they use again is their own affair, and
/// they may never need another.
#[test]
fn an_instance_whose_disk_is_full_says_so_and_others_go_on_with_its_work() {
    let Some(mut run) = Run::start("disks", Options::default()) else { return };
    let mounts = Mounts::find(run.folder());
    if mounts.is_none() {
        tell("disks: no small disk can be mounted here; limits of the size of files stand for it");
    }
    let goal = scaled(4, 20);
    let mut disks = 0;
    for round in 0..goal {
        let victim = run.random.below(3);
        // Alone it gets all tasks, those with state among them.
        for i in 0..3 {
            run.await_work(i);
            run.kill(i);
        }
        let anew = round % 2 == 0;
        if anew {
            run.remove_data(victim);
        }
        // Room for some of what is written.
        let most = 4_096 * (1 + run.random.below(12) as u64);
        let (full, words) = match mounts.filter(|_| anew) {
            Some(mounts) => (Full::Disk(most, mounts), NO_ROOM),
            None => (Full::Files(most), TOO_LARGE),
        };
        disks += u32::from(matches!(full, Full::Disk(..)));
        run.instances[victim].start.full = Some(full);
        run.start_instance(victim);
        let said = run.await_failure(victim);
        if !words.iter().any(|words| said.contains(words)) {
            run.fail(&format!("instance {victim} does not say why it has ended: {said}"));
        }
        (0..3).filter(|i| *i != victim).for_each(|i| run.start_instance(i));
        run.await_progress();
        run.instances[victim].start.full = None;
        run.start_instance(victim);
    }
    run.note(format!("{goal} disks that were full, {disks} of them mounted"));
    run.finish();
}
