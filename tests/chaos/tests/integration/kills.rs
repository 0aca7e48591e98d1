//! Instances that are killed, with and without the loss of their state.

use wasmill_chaos::{Options, Run, scaled};

#[test]
fn nothing_is_lost_and_nothing_comes_twice_when_any_of_three_instances_are_killed_at_random() {
    let options = Options { session_ms: 1_000, ..Options::default() };
    let Some(mut run) = Run::start("kills", options) else { return };
    let goal = scaled(100, 1_000);
    let (mut kills, mut rounds) = (0, 0);
    while kills < goal {
        rounds += 1;
        let victims = match run.random.below(10) {
            0..2 => 3,
            2..5 => 2,
            _ => 1,
        };
        let victims = run.random.some(victims, 3);
        for victim in &victims {
            run.await_work(*victim);
        }
        let wait = run.random.time(0, 300);
        run.sleep(wait);
        for victim in &victims {
            kills += u32::from(run.kill(*victim));
            let wait = run.random.time(0, 60);
            run.sleep(wait);
        }
        for victim in &victims {
            let wait = run.random.time(0, 300);
            run.sleep(wait);
            run.start_instance(*victim);
        }
    }
    run.note(format!("{kills} kills of instances that had committed, in {rounds} rounds"));
    run.finish();
}

#[test]
fn state_is_restored_when_an_instance_comes_back_without_its_folder() {
    let Some(mut run) = Run::start("folders", Options::default()) else { return };
    let goal = scaled(8, 60);
    for _ in 0..goal {
        let victim = run.random.below(3);
        run.await_work(victim);
        let wait = run.random.time(0, 500);
        run.sleep(wait);
        run.kill(victim);
        run.remove_data(victim);
        let wait = run.random.time(0, 1_000);
        run.sleep(wait);
        run.start_instance(victim);
    }
    run.await_progress();
    run.note(format!("{goal} instances killed whose folders were removed"));
    run.finish();
}
