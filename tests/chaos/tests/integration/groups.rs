//! Groups that grow and shrink under load.

use wasmill_chaos::{Options, Run, scaled};

#[test]
fn a_group_grows_from_one_to_four_and_back_under_load() {
    let options = Options { instances: 1, more: 3, ..Options::default() };
    let Some(mut run) = Run::start("growth", options) else { return };
    let goal = scaled(2, 15);
    for round in 0..goal {
        for instance in 1..4 {
            run.start_instance(instance);
            if run.random.percent(70) {
                run.await_work(instance);
            }
        }
        run.await_progress();
        for instance in run.random.some(3, 3) {
            // In good order or not.
            if round == 0 || run.random.percent(50) {
                run.end(instance + 1);
            } else {
                run.kill(instance + 1);
            }
            if run.random.percent(70) {
                run.await_progress();
            }
        }
        run.await_progress();
    }
    run.note(format!("{goal} times from 1 instance to 4 and back"));
    run.finish();
}
