//! Brokers that end, for a moment or for long, alone or as one of three.

use std::time::Duration;

use wasmill_chaos::{Options, Run, scaled};

#[test]
fn the_only_broker_may_be_killed_and_started_again_under_load() {
    let Some(mut run) = Run::start("broker-restarts", Options::default()) else { return };
    let goal = scaled(4, 30);
    for _ in 0..goal {
        let wait = run.random.time(0, 1_500);
        run.sleep(wait);
        run.kill_broker(0);
        let wait = run.random.time(0, 1_500);
        run.sleep(wait);
        run.restart_broker(0);
        run.await_progress();
    }
    run.note(format!("{goal} restarts of the only broker"));
    run.finish();
}

#[test]
fn the_only_broker_may_be_gone_for_long() {
    let Some(mut run) = Run::start("broker-loss", Options::default()) else { return };
    // Longer than requests of the engine may take.
    let seconds = scaled(60, 180);
    run.await_progress();
    run.kill_broker(0);
    run.sleep(Duration::from_secs(seconds.into()));
    run.restart_broker(0);
    run.await_progress();
    run.note(format!("the only broker was gone for {seconds} s"));
    run.finish();
}

#[test]
fn one_of_three_brokers_may_be_lost() {
    let options = Options { brokers: 3, rate: 300, ..Options::default() };
    let Some(mut run) = Run::start("three-brokers", options) else { return };
    let goal = scaled(3, 20);
    for _ in 0..goal {
        let broker = run.random.below(3);
        run.kill_broker(broker);
        let wait = run.random.time(1_000, 5_000);
        run.sleep(wait);
        run.await_progress();
        run.restart_broker(broker);
        run.await_in_sync();
        let wait = run.random.time(0, 2_000);
        run.sleep(wait);
    }
    run.note(format!("{goal} losses of one of three brokers"));
    run.finish();
}
