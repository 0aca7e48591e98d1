//! A disk that is full.

use wasmill_chaos::{Options, Run, scaled};

/// What is said about a file that can't grow.
const FULL: [&str; 2] = ["File too large", "os error 27"];

#[test]
fn an_instance_whose_disk_is_full_says_so_and_others_go_on_with_its_work() {
    let Some(mut run) = Run::start("disks", Options::default()) else { return };
    let goal = scaled(3, 20);
    for _ in 0..goal {
        let victim = run.random.below(3);
        // Alone it gets all tasks, those with state among them.
        for i in 0..3 {
            run.await_work(i);
            run.kill(i);
        }
        // New state files or old ones, and room for some of what is written to them.
        if run.random.percent(50) {
            run.remove_data(victim);
        }
        let most = 4_096 * (1 + run.random.below(12) as u64);
        run.instances[victim].start.most_bytes = Some(most);
        run.start_instance(victim);
        let said = run.await_failure(victim);
        if !FULL.iter().any(|words| said.contains(words)) {
            run.fail(&format!("instance {victim} does not say why it has ended: {said}"));
        }
        (0..3).filter(|i| *i != victim).for_each(|i| run.start_instance(i));
        run.await_progress();
        run.instances[victim].start.most_bytes = None;
        run.start_instance(victim);
    }
    run.note(format!("{goal} disks that were full"));
    run.finish();
}
