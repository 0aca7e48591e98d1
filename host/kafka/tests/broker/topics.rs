use std::time::{Duration, Instant};

use wasmill_kafka::{Admin, Error, Settings, TopicSpec};

use crate::support::{TIMEOUT, corner, send};

#[test]
fn missing_topics_are_made_and_wrong_ones_named_with_both_numbers() {
    let Some(corner) = corner("missing_topics_are_made") else { return };
    let admin = corner.admin();
    let spec = |suffix: &str, partitions, policy: &str| TopicSpec {
        name: format!("{}-{suffix}", corner.name),
        partitions: Some(partitions),
        replication: Some(1),
        config: [("cleanup.policy".to_owned(), policy.to_owned())].into(),
        ..TopicSpec::default()
    };
    let right = [spec("a", 3, "compact"), spec("b", 2, "delete")];
    admin.ensure_topics(&right).unwrap();
    admin.ensure_topics(&right).unwrap();
    assert_eq!(admin.partitions(&right[0].name).unwrap(), Some(3));

    let more = TopicSpec { replication: Some(3), ..spec("b", 2, "delete") };
    let error = admin.ensure_topics(&[more]).unwrap_err().to_string();
    assert!(error.contains("-b: has 1 replicas, but 3 are needed"), "{error}");

    let absent = TopicSpec { must_exist: true, ..spec("c", 7, "delete") };
    let new = spec("d", 1, "delete");
    let wrong = [spec("a", 5, "delete"), spec("b", 2, "delete"), absent, new.clone()];
    let error = admin.ensure_topics(&wrong).unwrap_err();
    let Error::Topics { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 3, "{problems:?}");
    let said = error.to_string();
    assert!(said.contains("-a: has 3 partitions, but 5 are needed"), "{said}");
    assert!(said.contains("-a: has cleanup.policy=compact, but cleanup.policy=delete"), "{said}");
    assert!(said.contains("-c: does not exist; create it with 7 partitions"), "{said}");
    assert!(said.contains(&corner.settings.brokers), "{said}");
    assert_eq!(admin.partitions(&new.name).unwrap(), None, "nothing is made beside wrong topics");
}

#[test]
fn a_topic_of_ones_own_that_kafka_shortens_by_itself_is_refused() {
    let Some(corner) = corner("a_topic_of_ones_own") else { return };
    let name = corner.topic_with("changelog", 1, &[("retention.ms", "60000")]);
    let config = [("retention.ms", "-1"), ("retention.bytes", "-1")];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let own = TopicSpec { name, partitions: Some(1), config, own: true, ..TopicSpec::default() };
    let error = corner.admin().ensure_topics(&[own]).unwrap_err().to_string();
    assert!(error.contains("has retention.ms=60000, but retention.ms=-1 is needed"), "{error}");
    assert!(!error.contains("retention.bytes"), "{error}");
}

#[test]
fn topics_are_listed_by_prefix_and_deleted() {
    let Some(corner) = corner("topics_are_listed") else { return };
    let admin = corner.admin();
    let (one, two) = (corner.topic("one", 1), corner.topic("two", 2));
    assert_eq!(admin.list_topics(&corner.name).unwrap(), [one.clone(), two.clone()]);
    assert_eq!(admin.partitions(&two).unwrap(), Some(2));
    admin.delete_topics(&[&one, "wasmill-never-was"]).unwrap();
    assert_eq!(admin.list_topics(&corner.name).unwrap(), [two]);
    assert_eq!(admin.partitions(&one).unwrap(), None);
    assert!(!admin.cluster_id().unwrap().is_empty());
}

#[test]
fn the_stable_offset_stops_at_an_open_transaction() {
    let Some(corner) = corner("the_stable_offset") else { return };
    let (admin, topic) = (corner.admin(), corner.topic("t", 1));
    corner.fill(&topic, ["a".to_owned(), "b".to_owned()]);
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    send(&mut producer, &topic, "c");
    producer.drain().unwrap();
    let offsets = admin.offsets(&topic, 0).unwrap();
    assert_eq!((offsets.start, offsets.stable, offsets.end), (0, 2, 3));
    producer.commit_records().unwrap();
    // Kafka says that a commit is done before its markers are written.
    let deadline = Instant::now() + TIMEOUT;
    while admin.offsets(&topic, 0).unwrap().stable < 4 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(admin.offsets(&topic, 0).unwrap().end, 4);
}

#[test]
fn offsets_are_found_by_time_and_records_deleted_before_one() {
    let Some(corner) = corner("offsets_are_found") else { return };
    let (admin, topic) = (corner.admin(), corner.topic("t", 1));
    let mut producer = wasmill_kafka::Producer::at_least_once(&corner.settings, TIMEOUT).unwrap();
    for time in [1_000, 2_000, 3_000] {
        let record = crate::support::record(&mut producer, &topic, "x");
        let record = wasmill_kafka::Record { timestamp: Some(time), ..record };
        producer.send(record, wasmill_kafka::NO_HEADERS).unwrap();
    }
    producer.drain().unwrap();
    let found = |time| admin.offset_at(&topic, 0, time).unwrap();
    assert_eq!((found(0), found(1_001), found(3_000), found(3_001)), (0, 1, 2, 3));
    admin.delete_records(&topic, 0, 2).unwrap();
    let offsets = admin.offsets(&topic, 0).unwrap();
    assert_eq!((offsets.start, offsets.end), (2, 3));
    let error = admin.delete_records(&topic, 0, 99).unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}/0 before offset 99")), "{error}");
}

#[test]
fn brokers_that_do_not_answer_are_named() {
    let settings = Settings::new("127.0.0.1:1");
    let error = Admin::connect(&settings, std::time::Duration::from_millis(300)).unwrap_err();
    assert!(error.is_retriable());
    let said = error.to_string();
    assert!(said.contains("127.0.0.1:1") && said.contains("may work"), "{said}");
}

#[test]
fn a_survey_has_the_offsets_of_every_partition_of_the_wanted_topics() {
    let Some(corner) = corner("a_survey") else { return };
    let (admin, one, two) = (corner.admin(), corner.topic("one", 1), corner.topic("two", 3));
    corner.fill(&one, ["a", "b", "c"].map(str::to_owned));
    admin.delete_records(&one, 0, 1).unwrap();
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    send(&mut producer, &two, "open");
    producer.drain().unwrap();
    let found = admin.survey(|topic| topic.starts_with(&corner.name)).unwrap();
    let of = |topic: &str| {
        let found = found.iter().find(|found| found.topic == topic).unwrap();
        let offsets = found.partitions.iter().map(|p| p.unwrap());
        offsets.map(|o| (o.start, o.stable, o.end)).collect::<Vec<_>>()
    };
    assert_eq!(found.len(), 2);
    assert_eq!(of(&one), [(1, 3, 3)]);
    assert_eq!(of(&two), [(0, 0, 1), (0, 0, 0), (0, 0, 0)]);
    assert_eq!(admin.survey_topic(&two).unwrap().as_ref(), Some(&found[1]));
    assert_eq!(admin.survey_topic("wasmill-never-was").unwrap(), None);
    producer.abort().unwrap();
}

/// A broker that has just come back does not know of all topics for a moment.
#[test]
fn the_offsets_of_a_topic_that_is_not_known_yet_are_waited_for() {
    let Some(corner) = corner("a_topic_that_is_not_known_yet") else { return };
    let hasty = Admin::connect(&corner.settings, Duration::from_secs(1)).unwrap();
    let error = hasty.offsets("wasmill-never-was", 0).unwrap_err();
    assert!(!error.is_retriable(), "{error}");
    let (admin, topic) = (corner.admin(), format!("{}-late", corner.name));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| admin.offsets(&topic, 0).map(|offsets| offsets.end));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(corner.topic("late", 1), topic);
        assert_eq!(asked.join().unwrap().unwrap(), 0);
    });
}
