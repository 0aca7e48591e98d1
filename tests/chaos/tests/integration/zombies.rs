//! Instances that stand still for so long that the group takes them for dead, and then go on.

use wasmill_chaos::{Options, Run, scaled};

/// What an instance says that finds its partitions with others, or its producer fenced.
const FENCED: [&str; 4] = ["were given to others", "is dropped", "is done again", "made anew"];

#[test]
fn an_instance_that_was_suspended_beyond_its_session_is_fenced_and_takes_part_again() {
    let options = Options { transaction_ms: 3_000, ..Options::default() };
    let Some(mut run) = Run::start("zombies", options) else { return };
    let goal = scaled(6, 60);
    for _ in 0..goal {
        let victim = run.random.below(3);
        run.await_work(victim);
        let wait = run.random.time(0, 300);
        run.sleep(wait);
        let said = run.instances[victim].said().len();
        let suspended = run.instances[victim].suspend();
        run.expect(suspended);
        // The session is over before the transaction that it had open is, or both are.
        let wait = run.random.time(3_500, 6_500);
        run.sleep(wait);
        if run.random.percent(70) {
            run.await_progress();
        }
        let resumed = run.instances[victim].resume();
        run.expect(resumed);
        run.await_saying(victim, said, |new| FENCED.iter().any(|words| new.contains(words)));
        run.await_more_work(victim);
    }
    run.note(format!("{goal} instances suspended, all were fenced"));
    run.finish();
}
