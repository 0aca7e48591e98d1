use std::sync::mpsc::channel;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use wasmill_kafka::{
    Admin, CommitError, Event, GroupMetadata, Membership, Offsets, Producer, Settings, Strategy,
    Waker,
};
use wasmill_test_kafka::{Cut, Options, cluster_or_skip};

use crate::support::{Corner, TIMEOUT, corner, next_event, send, until_assigned};

const SHORT: Duration = Duration::from_secs(2);

/// The broker holds still, for about twice as long as a commit may take.
#[test]
fn a_commit_that_is_not_answered_is_undecided_and_is_resumed() {
    let test = "a_commit_that_is_not_answered";
    let Some(mut cluster) = cluster_or_skip(test, Options::default()) else { return };
    let corner = Corner::at(&cluster, test);
    let output = corner.topic("out", 1);
    let mut producer = Producer::connect(&corner.settings, test, SHORT * 5).unwrap();
    producer.set_timeout(SHORT);
    producer.begin().unwrap();
    send(&mut producer, &output, "once");
    producer.drain().unwrap();
    cluster.suspend(0).unwrap();
    let error = producer.commit_records().unwrap_err();
    assert!(matches!(error, CommitError::Undecided { .. }), "{error}");
    let error = producer.commit_records().unwrap_err();
    assert!(matches!(error, CommitError::Undecided { .. }), "the next is not begun: {error}");
    cluster.resume(0).unwrap();
    producer.set_timeout(TIMEOUT);
    producer.resume().unwrap();
    producer.begin().unwrap();
    send(&mut producer, &output, "more");
    producer.commit_records().unwrap();
    assert_eq!(corner.values(&output), ["once", "more"]);
}

#[test]
fn offsets_that_are_not_taken_fail_the_commit_and_it_is_done_again() {
    let test = "offsets_that_are_not_taken";
    let Some(mut cluster) = cluster_or_skip(test, Options::default()) else { return };
    let corner = Corner::at(&cluster, test);
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    let mut producer = Producer::connect(&corner.settings, test, SHORT * 5).unwrap();
    let offsets = [Offsets { topic: &input, partition: 0, next: 1, metadata: None }];
    producer.begin().unwrap();
    send(&mut producer, &output, "first");
    producer.drain().unwrap();
    let group = member.metadata().unwrap();
    cluster.suspend(0).unwrap();
    producer.set_timeout(SHORT);
    let error = producer.commit(&offsets, &group).unwrap_err();
    assert!(matches!(error, CommitError::Abortable { .. }), "{error}");
    cluster.resume(0).unwrap();
    producer.set_timeout(TIMEOUT);
    // Meanwhile Kafka may have given up the transaction, and the member.
    match producer.abort() {
        Ok(()) => {}
        Err(CommitError::Fenced { .. }) => {
            producer = Producer::connect(&corner.settings, test, TIMEOUT).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
    while member.metadata().is_err() {
        let (_, event) = next_event(&mut [&mut member]);
        member.acknowledge(&event).unwrap();
    }
    producer.begin().unwrap();
    send(&mut producer, &output, "second");
    producer.commit(&offsets, &member.metadata().unwrap()).unwrap();
    assert_eq!(corner.values(&output), ["second"]);
}

#[test]
fn a_broker_that_dies_and_comes_back_loses_nothing_that_is_committed() {
    let test = "a_broker_that_dies";
    let Some(mut cluster) = cluster_or_skip(test, Options::default()) else { return };
    let corner = Corner::at(&cluster, test);
    let output = corner.topic("out", 1);
    let mut producer = Producer::connect(&corner.settings, test, TIMEOUT).unwrap();
    let mut expected = vec![];
    for round in 0..6 {
        let value = round.to_string();
        loop {
            producer.begin().unwrap();
            send(&mut producer, &output, &value);
            if round % 2 == 1 {
                cluster.kill(0).unwrap();
                cluster.restart(0).unwrap();
            }
            match producer.commit_records() {
                Ok(_) => break,
                Err(CommitError::Abortable { .. } | CommitError::Undelivered { .. }) => {
                    // A new producer with the same id aborts what this one can't.
                    if producer.abort().is_err() {
                        producer = Producer::connect(&corner.settings, test, TIMEOUT).unwrap();
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        expected.push(value);
    }
    assert_eq!(corner.values(&output), expected);
}

/// The broker that a partition of one of Kafka's own topics is at, which a name belongs to, and how
/// many brokers there are.
fn coordinator(client: &BaseConsumer, topic: &str, name: &str) -> (i32, usize) {
    // As Java's strings.
    let hash = name.bytes().fold(0_i32, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into()));
    let metadata = client.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let number = (hash & i32::MAX) % i32::try_from(partitions.len()).unwrap();
    let partition = partitions.iter().find(|partition| partition.id() == number).unwrap();
    (partition.leader(), metadata.brokers().len())
}

/// librdkafka waited for the broker that was the group's coordinator, as long as no other connection
/// came or went, once that broker was no more in the cluster's metadata.
#[test]
fn a_commit_returns_though_the_coordinator_of_its_group_has_left_the_cluster() {
    let test = "a_commit_returns_though_the_coordinator";
    let Some(mut cluster) = cluster_or_skip(test, Options::from(3)) else { return };
    let mut corner = Corner::at(&cluster, test);
    // It hears soon of who is gone, and does not forget the coordinator for that.
    for (key, value) in
        [("topic.metadata.refresh.interval.ms", "500"), ("metadata.max.age.ms", "900000")]
    {
        corner.settings.producer.insert(key.to_owned(), value.to_owned());
    }
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    // Makes Kafka's topic of transactions.
    drop(Producer::connect(&corner.settings, "first", TIMEOUT).unwrap());
    let mut config = ClientConfig::new();
    let client: BaseConsumer =
        config.set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
    let (lost, _) = coordinator(&client, "__consumer_offsets", test);
    let id = |n| format!("{test}-{n}");
    let elsewhere = |id: &String| coordinator(&client, "__transaction_state", id).0 != lost;
    let id = (0..100).map(id).find(elsewhere).unwrap();
    let mut producer = Producer::connect(&corner.settings, &id, SHORT * 5).unwrap();
    let commit = move |producer: &mut Producer, group: &GroupMetadata| {
        producer.begin().unwrap();
        send(producer, &output, "value");
        producer.drain().unwrap();
        let offsets = [Offsets { topic: &input, partition: 0, next: 1, metadata: None }];
        producer.commit(&offsets, group).map(drop)
    };
    commit(&mut producer, &member.metadata().unwrap()).unwrap();
    cluster.kill(usize::try_from(lost).unwrap()).unwrap();
    while coordinator(&client, "__consumer_offsets", test).1 == 3 {
        member.poll(Duration::from_millis(100));
    }
    // The producer hears of it too.
    std::thread::sleep(SHORT);
    let (sender, returned) = channel();
    let group = member.metadata().unwrap();
    // It is left behind where it does not end.
    std::thread::spawn(move || sender.send(commit(&mut producer, &group)));
    // Whether it is committed depends on how fast the group has its next coordinator.
    assert!(returned.recv_timeout(SHORT * 10).is_ok(), "the commit does not return");
}

#[test]
fn a_member_that_is_cut_off_loses_its_partitions() {
    let test = "a_member_that_is_cut_off";
    let options = Options { links: 1, ..Options::default() };
    let Some(cluster) = cluster_or_skip(test, options) else { return };
    let corner = Corner::at(&cluster, test);
    let topic = corner.topic("t", 2);
    let mut settings = corner.settings.clone();
    settings.consumer.insert("session.timeout.ms".to_owned(), "2000".to_owned());
    let join = |settings| {
        let (strategy, waker) = (Strategy::Cooperative, Waker::default());
        Membership::join(settings, test, &[&topic], strategy, None, &waker).unwrap()
    };
    let through = Settings { brokers: cluster.link(0).bootstrap(), ..settings.clone() };
    let mut cut_off = join(&through);
    assert_eq!(until_assigned(&mut cut_off).len(), 2);
    let zombie = cut_off.metadata().unwrap();
    cluster.link(0).cut(Cut::Blackhole);
    let mut other = join(&settings);
    assert_eq!(until_assigned(&mut other).len(), 2);
    let (_, event) = next_event(&mut [&mut cut_off]);
    assert!(matches!(&event, Event::Lost(partitions) if partitions.len() == 2), "{event:?}");
    assert!(cut_off.metadata().is_err());

    // What it knew of its membership is of no use to it.
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    let offsets = [Offsets { topic: &topic, partition: 0, next: 1, metadata: None }];
    let error = producer.commit(&offsets, &zombie).unwrap_err();
    assert!(matches!(error, CommitError::Stale { .. }), "{error}");
    producer.abort().unwrap();
    drop((cut_off, zombie));
}

#[test]
fn a_password_is_in_no_error() {
    let Some(corner) = corner("a_password_is_in_no_error") else { return };
    let mut settings = corner.settings.clone();
    let pairs = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.username", "user"),
        ("sasl.password", "hunter2-secret"),
    ];
    for (key, value) in pairs {
        settings.properties.insert(key.to_owned(), value.to_owned());
    }
    let error = Admin::connect(&settings, SHORT).unwrap_err();
    let producer = Producer::connect(&settings, "id", SHORT).unwrap_err();
    let said = format!("{error} {error:?} {producer} {producer:?} {settings:?}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains(&corner.settings.brokers), "{said}");
}
