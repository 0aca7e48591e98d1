//! Deliveries that librdkafka only infers, on its mock cluster: which requests fail, and which are on
//! their way then, can be said there.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use wasmill_kafka::{CommitError, Producer, Settings};

use crate::support::{TIMEOUT, send};

/// Longer than a record lingers, so that records sent so far apart are in requests of their own.
const APART: Duration = Duration::from_millis(100);

#[test]
fn a_record_that_no_broker_said_it_has_taken_is_not_delivered() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    // So that the second request is on its way before the first is answered.
    cluster.broker_round_trip_time(1, 4 * APART).unwrap();
    let settings = Settings::new(cluster.bootstrap_servers());
    let mut producer = Producer::at_least_once(&settings, TIMEOUT).unwrap();
    producer.begin().unwrap();
    send(&mut producer, "out", "before");
    producer.drain().unwrap();
    let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION];
    cluster.request_errors(RDKafkaApiKey::Produce, &refusal);
    send(&mut producer, "out", "refused");
    producer.poll();
    std::thread::sleep(APART);
    // Taken although a number is missing before it: the mock looks at those of transactions only, and
    // a broker at none of a producer that it has forgotten.
    send(&mut producer, "out", "taken");
    let error = producer.drain().unwrap_err();
    assert!(matches!(error, CommitError::Abortable { .. }), "{error}");
    assert!(error.to_string().contains("no broker has said that it was taken"), "{error}");
    // It is of use still.
    producer.abort().unwrap();
    producer.begin().unwrap();
    send(&mut producer, "out", "again");
    producer.drain().unwrap();
}
