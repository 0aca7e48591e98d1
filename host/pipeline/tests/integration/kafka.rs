//! What the settings of Kafka become. What is wrong with them is in the golden files `kafka*.toml`.

use std::collections::BTreeMap;

use wasmill_pipeline::{
    Diagnostic, Guarantee, Kafka, LostOffsets, Pipeline, Rebalance, SourceKind, Start,
};

use crate::mutation::EVERYTHING;

const SMALL: &str = "name = \"small\"\n[source.in]\ntopic = \"in\"\n[topic.other]\n\
                     [sink.out]\ntype = \"stdout\"\nfrom = [\"source.in\", \"topic.other\"]\n";

fn load(text: &str, sets: &[(&str, &str)]) -> Result<Pipeline, Vec<Diagnostic>> {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Pipeline::parse("p.toml".as_ref(), text, &sets)
}

fn on_kafka(sets: &[(&str, &str)]) -> Kafka {
    let all = [&[("kafka.brokers", "one:9092")], sets].concat();
    load(SMALL, &all).unwrap().kafka.unwrap()
}

fn properties(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn start(text: &str) -> Start {
    let sets = [("kafka.brokers", "one:9092"), ("source.in.start", text)];
    let pipeline = load(SMALL, &sets).unwrap();
    let SourceKind::Topic { start, .. } = &pipeline.sources[0].kind else { panic!() };
    start.clone()
}

#[test]
fn a_pipeline_runs_on_kafka_when_it_has_brokers() {
    assert_eq!(load(SMALL, &[]).unwrap().kafka, None);
    let expected = Kafka {
        brokers: "one:9092".to_owned(),
        group: "small".to_owned(),
        guarantee: Guarantee::ExactlyOnce,
        rebalance: Rebalance::Cooperative,
        replication: None,
        standby: 0,
        state_cleanup_delay_ms: 600_000,
        properties: BTreeMap::new(),
        consumer: BTreeMap::new(),
        producer: BTreeMap::new(),
    };
    assert_eq!(on_kafka(&[]), expected);
    let pipeline = load(SMALL, &[("kafka.brokers", "one:9092")]).unwrap();
    let SourceKind::Topic { start, lost_offsets, .. } = &pipeline.sources[0].kind else { panic!() };
    assert_eq!((start, *lost_offsets), (&Start::Earliest, LostOffsets::Fail));
}

#[test]
fn every_key_of_kafka_is_read() {
    let pipeline = load(EVERYTHING, &[]).unwrap();
    let expected = Kafka {
        brokers: "one:9092,two:9092,[::1]:9092".to_owned(),
        group: "every.Thing_1".to_owned(),
        guarantee: Guarantee::AtLeastOnce,
        rebalance: Rebalance::Eager,
        replication: Some(3),
        standby: 1,
        state_cleanup_delay_ms: 3_600_000,
        properties: properties(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.username", "me"),
            ("sasl.password", "${env:PASSWORD}"),
        ]),
        consumer: properties(&[("fetch.min.bytes", "1"), ("check.crcs", "true")]),
        producer: properties(&[("linger.ms", "0.5")]),
    };
    assert_eq!(pipeline.kafka, Some(expected));
    assert_eq!(pipeline.engine.admin.as_deref(), Some("127.0.0.1:8080"));
    let SourceKind::Topic { lost_offsets, .. } = &pipeline.sources[1].kind else { panic!() };
    assert_eq!(*lost_offsets, LostOffsets::Latest);
    let config = properties(&[("cleanup.policy", "delete"), ("segment.ms", "60000")]);
    assert_eq!(pipeline.topic("raw").unwrap().config, config);
}

#[test]
fn checkpoints_are_more_frequent_on_kafka_unless_the_file_says() {
    let interval = |sets: &[(&str, &str)]| load(SMALL, sets).unwrap().engine.checkpoint_interval_ms;
    let (brokers, said) = (("kafka.brokers", "one:9092"), ("engine.checkpoint-interval", "2s"));
    assert_eq!(interval(&[]), 1_000);
    assert_eq!(interval(&[brokers]), 100);
    assert_eq!(interval(&[brokers, said]), 2_000);
    assert_eq!(interval(&[brokers, ("engine.workers", "1")]), 100);
}

#[test]
fn a_topic_has_its_own_replicas_or_those_of_the_pipeline() {
    let pipeline = load(EVERYTHING, &[]).unwrap();
    assert_eq!(pipeline.replication("raw"), Some(2));
    assert_eq!(pipeline.replication("events"), Some(3));
    assert_eq!(pipeline.replication("everything-all-repartition"), Some(3));
    let pipeline = load(SMALL, &[("topic.other.replication", "5")]).unwrap();
    assert_eq!((pipeline.replication("other"), pipeline.replication("in")), (Some(5), None));
}

#[test]
fn reading_starts_at_a_word_a_time_or_offsets() {
    assert_eq!(start("latest"), Start::Latest);
    assert_eq!(start("\"earliest\""), Start::Earliest);
    for text in ["2024-05-01T02:00:00+02:00", "'2024-05-01T00:00:00Z'", "2024-05-01T00:00:00.000Z"]
    {
        assert_eq!(start(text), Start::Timestamp(1_714_521_600_000), "{text}");
    }
    let offsets = Start::Offsets(BTreeMap::from([(0, 120), (1, 7)]));
    assert_eq!(start("{ 0 = 120, 1 = 7 }"), offsets);
    let sets =
        [("kafka.brokers", "one:9092"), ("source.in.start.0", "120"), ("source.in.start.1", "7")];
    let pipeline = load(SMALL, &sets).unwrap();
    let SourceKind::Topic { start, .. } = &pipeline.sources[0].kind else { panic!() };
    assert_eq!(*start, offsets);
}

#[test]
fn properties_can_be_set_with_dots_or_quotes() {
    let kafka = on_kafka(&[
        ("kafka.properties.security.protocol", "SSL"),
        ("kafka.properties.\"ssl.ca.location\"", "ca.pem"),
        // Kept as typed: numbers to TOML, but passwords here.
        ("kafka.properties.sasl.password", "1e5"),
        ("kafka.properties.ssl.key.password", "2024-05-01"),
        ("kafka.consumer.check.crcs", "true"),
    ]);
    let expected = properties(&[
        ("security.protocol", "SSL"),
        ("ssl.ca.location", "ca.pem"),
        ("sasl.password", "1e5"),
        ("ssl.key.password", "2024-05-01"),
    ]);
    assert_eq!(kafka.properties, expected);
    assert_eq!(kafka.consumer, properties(&[("check.crcs", "true")]));
}

#[test]
fn a_set_replaces_a_property_of_the_file_however_its_name_is_nested() {
    let sets = [
        ("kafka.properties.\"security.protocol\"", "SSL"),
        ("kafka.properties.security.protocol", "PLAINTEXT"),
        ("kafka.properties.sasl.username", "you"),
    ];
    let kafka = load(EVERYTHING, &sets).unwrap().kafka.unwrap();
    assert_eq!(kafka.properties["security.protocol"], "PLAINTEXT");
    assert_eq!(kafka.properties["sasl.username"], "you");
    let sets = [sets[1], sets[0]];
    let kafka = load(EVERYTHING, &sets).unwrap().kafka.unwrap();
    assert_eq!(kafka.properties["security.protocol"], "SSL");
}

#[test]
fn brokers_may_come_from_the_environment() {
    let kafka = on_kafka(&[("kafka.brokers", "${env:BROKERS}, two:9092")]);
    assert_eq!(kafka.brokers, "${env:BROKERS},two:9092");
}

#[test]
fn debug_texts_hold_no_secrets() {
    let text = format!(
        "{SMALL}[kafka]\nbrokers = \"one:9092\"\n[kafka.properties]\nsecurity.protocol = \"SSL\"\n\
         sasl.password = \"hunter2\"\n[kafka.consumer]\nssl.key.pem = \"hunter2\"\n\
         [kafka.producer]\nsasl.jaas.config = \"hunter2\"\nclient-secret = \"hunter2\"\nTOKEN = \"hunter2\"\n"
    );
    let pipeline = load(&text, &[("kafka.properties.ssl.key.password", "hunter2")]).unwrap();
    let shown = format!("{pipeline:?} {:?}", pipeline.kafka);
    assert!(shown.contains(r#""security.protocol": "SSL""#), "{shown}");
    assert!(shown.contains(r#""sasl.password": "***""#), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for path in ["kafka.properties.sasl.password", "kafka.properties.ssl.key.password"] {
        let later = pipeline.diagnostic(path, "refused", None);
        assert!(!format!("{later} {later:?}").contains("hunter2"), "{later}");
    }
}

/// It was 10 s whatever the interval: each transaction of a longer one was aborted by the brokers.
#[test]
fn a_transaction_may_stay_open_for_longer_than_the_checkpoint_interval() {
    let timeout = |sets: &[(&str, &str)]| on_kafka(sets).transaction_timeout(60_000);
    assert_eq!(timeout(&[]), Some(("transaction.timeout.ms", 70_000)));
    let own = [("kafka.producer.transaction.timeout.ms", "90000")];
    assert_eq!(timeout(&own), None);
    assert_eq!(on_kafka(&own).longest_transaction_ms(60_000), 90_000);
    let longer = [("engine.checkpoint-interval", "1d"), ("kafka.guarantee", "at-least-once")];
    assert_eq!(timeout(&longer), Some(("transaction.timeout.ms", 70_000)));
}
