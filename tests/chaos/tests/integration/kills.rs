//! Instances that are killed.

use wasmill_chaos::{Options, Run, scaled};

#[test]
fn nothing_is_lost_and_nothing_comes_twice_when_any_of_three_instances_are_killed_at_random() {
    let Some(mut run) = Run::start("kills", Options::default()) else { return };
    let goal = scaled(100, 1_000);
    let (mut kills, mut rounds) = (0, 0);
    while kills < goal {
        rounds += 1;
        let victims = match run.random.below(10) {
            0 => 3,
            1..4 => 2,
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
            let wait = run.random.time(0, 400);
            run.sleep(wait);
            run.start_instance(*victim);
        }
    }
    run.note(format!("{kills} kills of instances that had committed, in {rounds} rounds"));
    run.finish();
}
