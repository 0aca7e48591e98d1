//! Ways to the brokers are cut for one client and not for others.

use std::time::Duration;

use wasmill_test_kafka::{Cut, Options, cluster_or_skip};

use crate::{PATIENCE, Writer, brokers, leader, read, write};

#[test]
fn a_cut_stops_the_clients_of_its_link_and_no_others_until_it_is_mended() {
    let test = "a_cut_stops_the_clients_of_its_link_and_no_others_until_it_is_mended";
    let options = Options { links: 2, ..brokers(1) };
    let Some(cluster) = cluster_or_skip(test, options) else { return };
    let patient = |link| Writer::new(&cluster.link(link).bootstrap(), PATIENCE);
    let (first, second) = (patient(0), patient(1));
    first.write("first").unwrap();
    second.write("second").unwrap();
    let mut expected = vec!["first", "second"];
    for cut in [Cut::Refuse, Cut::Blackhole] {
        let hasty = Writer::new(&cluster.link(0).bootstrap(), Duration::from_secs(1));
        cluster.link(0).cut(cut);
        assert!(hasty.write("into the cut").is_err(), "{cut:?}");
        assert!(cluster.link(1).proxy(0).connections() > 0, "{cut:?}");
        second.write("second meanwhile").unwrap();
        drop(hasty);
        cluster.link(0).heal();
        first.write("first after").unwrap();
        expected.extend(["second meanwhile", "first after"]);
        assert_eq!(read(&cluster.link(0).bootstrap(), expected.len()), expected, "{cut:?}");
    }
}

#[test]
fn clients_of_a_link_reach_every_broker_by_it() {
    let test = "clients_of_a_link_reach_every_broker_by_it";
    let options = Options { links: 1, ..brokers(3) };
    let Some(cluster) = cluster_or_skip(test, options) else { return };
    let link = cluster.link(0);
    write(&cluster.bootstrap(), "past the link");
    let leader = leader(&cluster.bootstrap());
    // From the address of another broker, a client learns that of the leader.
    let others = link.bootstrap();
    let other = others.split(',').nth((leader + 1) % 3).unwrap();
    assert_eq!(link.proxy(leader).connections(), 0);
    let writer = Writer::new(other, PATIENCE);
    writer.write("by the link").unwrap();
    assert!(link.proxy(leader).connections() > 0);
    assert_eq!(read(other, 2), ["past the link", "by the link"]);
}
