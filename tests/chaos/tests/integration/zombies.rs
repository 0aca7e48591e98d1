//! Instances that stand still for so long that the group takes them for dead, and then go on.
//!
//! What becomes of a commit that stood still with its instance is in `tests/integration/zombies.rs`,
//! instant by instant.

use wasmill_chaos::{Options, Run, scaled};

/// What an instance says that finds its partitions with others, or its producer fenced.
const FENCED: [&str; 4] = ["were given to others", "is dropped", "is done again", "made anew"];
/// Kafka aborts what was open for so long, and looks for it once a second.
const TRANSACTION_MS: u64 = 6_000;

#[test]
fn an_instance_that_was_suspended_beyond_its_session_is_fenced_and_takes_part_again() {
    let options = Options { transaction_ms: TRANSACTION_MS, ..Options::default() };
    let Some(mut run) = Run::start("zombies", options) else { return };
    let goal = scaled(6, 60);
    let mut open = 0;
    for round in 0..goal {
        let victim = run.random.below(3);
        run.await_work(victim);
        let wait = run.random.time(0, 300);
        run.sleep(wait);
        let said = run.instances[victim].said().len();
        let suspended = run.instances[victim].suspend();
        run.expect(suspended);
        // The session is over, but the transaction that it had open is not; or both are, and others have
        // gone on with its work.
        if round % 2 == 0 {
            open += 1;
            let wait = run.random.time(2_500, 4_500);
            run.sleep(wait);
        } else {
            let wait = run.random.time(TRANSACTION_MS + 1_500, TRANSACTION_MS + 3_000);
            run.sleep(wait);
            run.await_progress();
        }
        let resumed = run.instances[victim].resume();
        run.expect(resumed);
        run.await_saying(victim, said, |new| FENCED.iter().any(|words| new.contains(words)));
        run.await_more_work(victim);
    }
    run.note(format!(
        "{goal} instances suspended, {open} of them for less than their transaction; all were fenced"
    ));
    run.finish();
}
