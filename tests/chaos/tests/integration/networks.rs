//! Ways between instances and the broker that are cut.

use wasmill_chaos::{Options, Run, scaled};
use wasmill_test_kafka::Cut;

#[test]
fn the_way_of_an_instance_to_the_broker_may_be_cut() {
    let Some(mut run) = Run::start("networks", Options { links: true, ..Options::default() })
    else {
        return;
    };
    let goal = scaled(10, 100);
    for round in 0..goal {
        let count = if run.random.percent(30) { 2 } else { 1 };
        let cut = if run.random.percent(50) { Cut::Refuse } else { Cut::Blackhole };
        let those = run.random.some(count, 3);
        for i in &those {
            run.cluster.link(*i).cut(cut);
        }
        // Some within the session, some beyond it and beyond the transaction.
        let wait = if run.random.percent(50) { (50, 1_000) } else { (2_000, 6_000) };
        let wait = run.random.time(wait.0, wait.1);
        run.sleep(wait);
        for i in &those {
            run.cluster.link(*i).heal();
        }
        let wait = run.random.time(0, 1_000);
        run.sleep(wait);
        if round % 3 == 2 {
            run.await_progress();
        }
    }
    run.note(format!("{goal} cuts of the network"));
    run.finish();
}
