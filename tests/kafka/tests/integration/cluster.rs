//! Brokers start, are lost and come back.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use wasmill_test_kafka::{Cluster, Error, Options, cluster_or_skip};

use crate::{PATIENCE, TOPIC, Writer, brokers, leader, read, write};

#[test]
fn records_outlive_a_broker_that_is_killed() {
    let test = "records_outlive_a_broker_that_is_killed";
    let Some(mut cluster) = cluster_or_skip(test, brokers(1)) else { return };
    write(&cluster.bootstrap(), "before");
    cluster.kill(0).unwrap();
    assert_eq!(cluster.process(0), None);
    assert!(matches!(cluster.suspend(0), Err(Error::State { node: 0, .. })));
    cluster.restart(0).unwrap();
    write(&cluster.bootstrap(), "after");
    assert_eq!(read(&cluster.bootstrap(), 2), ["before", "after"]);
}

#[test]
fn a_broker_that_ended_by_itself_is_told_once_and_starts_again() {
    let test = "a_broker_that_ended_by_itself_is_told_once_and_starts_again";
    let Some(mut cluster) = cluster_or_skip(test, brokers(1)) else { return };
    write(&cluster.bootstrap(), "before");
    assert_eq!(cluster.take_end(0).unwrap(), None);
    let process = cluster.process(0).unwrap().to_string();
    fs::write(cluster.log(0), "12:00:00 ERROR Disk it is full\n12:00:01 WARN Network\n").unwrap();
    assert!(Command::new("kill").args(["-KILL", &process]).status().unwrap().success());
    let start = Instant::now();
    let end = loop {
        match cluster.take_end(0).unwrap() {
            Some(end) => break end,
            None => assert!(start.elapsed() < PATIENCE, "it was killed"),
        }
        std::thread::yield_now();
    };
    assert_eq!(end.status.signal(), Some(9));
    assert_eq!(end.reason, "12:00:00 ERROR Disk it is full");
    assert_eq!((cluster.process(0), cluster.take_end(0).unwrap()), (None, None));
    cluster.restart(0).unwrap();
    assert_eq!(read(&cluster.bootstrap(), 1), ["before"]);
}

#[test]
fn three_brokers_take_records_while_one_is_lost_and_lose_none() {
    let test = "three_brokers_take_records_while_one_is_lost_and_lose_none";
    let Some(mut cluster) = cluster_or_skip(test, brokers(3)) else { return };
    let bootstrap = cluster.bootstrap();
    let writer = Writer::new(&bootstrap, PATIENCE);
    writer.write("with three").unwrap();
    let lost = leader(&bootstrap);
    cluster.kill(lost).unwrap();
    writer.write("with two").unwrap();
    assert_ne!(leader(&bootstrap), lost);
    cluster.restart(lost).unwrap();
    cluster.stop((lost + 1) % 3).unwrap();
    writer.write("with another two").unwrap();
    assert_eq!(read(&bootstrap, 3), ["with three", "with two", "with another two"]);
}

#[test]
fn a_suspended_broker_answers_nothing_until_it_goes_on() {
    let test = "a_suspended_broker_answers_nothing_until_it_goes_on";
    let Some(mut cluster) = cluster_or_skip(test, brokers(1)) else { return };
    let bootstrap = cluster.bootstrap();
    write(&bootstrap, "before");
    let hasty = Writer::new(&bootstrap, Duration::from_secs(1));
    cluster.suspend(0).unwrap();
    assert!(hasty.write("meanwhile").is_err());
    drop(hasty);
    cluster.resume(0).unwrap();
    cluster.await_all().unwrap();
    write(&bootstrap, "after");
    assert_eq!(read(&bootstrap, 2), ["before", "after"]);
}

#[test]
fn a_transaction_that_its_client_left_open_ends_soon_after_its_time() {
    let test = "a_transaction_that_its_client_left_open_ends_soon_after_its_time";
    let Some(cluster) = cluster_or_skip(test, brokers(3)) else { return };
    let bootstrap = cluster.bootstrap();
    let producer = |id: &str| -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("transactional.id", id);
        config.set("transaction.timeout.ms", "1000").set("message.timeout.ms", "1000");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer
    };
    let send = |producer: &BaseProducer, value: &str| {
        let record = BaseRecord::<(), str>::to(TOPIC).partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    write(&bootstrap, "makes the topic");
    let zombie = producer("zombie");
    send(&zombie, "never committed");
    let live = producer("live");
    send(&live, "committed");
    live.commit_transaction(PATIENCE).unwrap();
    // Readers of what is committed wait for the zombie's transaction, which is before it.
    assert_eq!(read(&bootstrap, 2), ["makes the topic", "committed"]);
    assert!(zombie.commit_transaction(PATIENCE).is_err());
}

#[test]
fn a_broker_that_ends_at_its_start_says_why() {
    let test = "a_broker_that_ends_at_its_start_says_why";
    let Some(_available) = cluster_or_skip(test, 1) else { return };
    let properties = vec![("num.io.threads".into(), "none".into())];
    let error = Cluster::start(Options { properties, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("num.io.threads"), "{error}");
    let Error::Ended { node: 0, log, .. } = error else { panic!("{error}") };
    // It stays after a failure, and this one was meant to be.
    fs::remove_dir_all(log.parent().unwrap()).unwrap();
}
