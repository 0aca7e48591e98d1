use wasmill_kafka::{CommitError, Committed, NO_HEADERS, Offsets, Producer, Record, Strategy};

use crate::support::{TIMEOUT, corner, next_event, record, send, until_assigned};

#[test]
fn records_and_offsets_are_committed_together_and_tracked_offsets_told() {
    let Some(corner) = corner("records_and_offsets") else { return };
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    let committed = Committed::new(&corner.settings, &corner.name).unwrap();
    let read = || committed.read(&[(input.clone(), 0)], TIMEOUT).unwrap().remove(0);
    assert_eq!((read().offset, read().metadata.as_str()), (None, ""));

    let mut producer = corner.producer("p");
    for round in 0..3 {
        producer.begin().unwrap();
        let mut tickets = vec![];
        for i in 0..10 {
            let value = format!("{round}-{i}");
            let record = record(&mut producer, &output, &value);
            if i % 5 == 0 {
                tickets.push(producer.send_tracked(record, NO_HEADERS).unwrap());
            } else {
                producer.send(record, NO_HEADERS).unwrap();
            }
        }
        let metadata = format!("round {round}");
        let next = 100 + round;
        let offsets = [Offsets { topic: &input, partition: 0, next, metadata: Some(&metadata) }];
        let delivered = producer.commit(&offsets, &member.metadata().unwrap()).unwrap();
        // Ten records and a marker in each round.
        assert_eq!(delivered.offsets, [11 * round, 11 * round + 5]);
        assert_eq!(tickets.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((read().offset, read().metadata), (Some(next), metadata));
    }
    assert_eq!(corner.values(&output).len(), 30);
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let Some(corner) = corner("an_aborted_transaction") else { return };
    let output = corner.topic("out", 1);
    let mut producer = corner.producer("p");
    // With and without having reached the broker, small and large.
    for (count, drain) in [(5, true), (5, false), (50_000, false)] {
        producer.begin().unwrap();
        (0..count).for_each(|_| send(&mut producer, &output, "aborted"));
        if drain {
            producer.drain().unwrap();
        }
        producer.abort().unwrap();
        assert_eq!(producer.outstanding(), 0);
    }
    producer.begin().unwrap();
    let record = record(&mut producer, &output, "committed");
    producer.send_tracked(record, NO_HEADERS).unwrap();
    assert_eq!(producer.commit_records().unwrap().offsets.len(), 1);
    assert_eq!(corner.values(&output), ["committed"]);
}

#[test]
fn a_commit_with_an_old_generation_is_refused() {
    let Some(corner) = corner("a_commit_with_an_old_generation") else { return };
    let (input, output) = (corner.topic("in", 2), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    assert!(member.metadata().is_err(), "there is no membership before the first assignment");
    until_assigned(&mut member);
    let old = member.metadata().unwrap();
    let mut other = corner.join(&input, Strategy::Cooperative);
    let mut taken = false;
    while !taken {
        let (who, event) = next_event(&mut [&mut member, &mut other]);
        [&mut member, &mut other][who].acknowledge(&event).unwrap();
        taken = who == 1 && matches!(&event, wasmill_kafka::Event::Assigned(p) if !p.is_empty());
    }
    assert!(member.metadata().unwrap().generation() > old.generation());

    let mut producer = corner.producer("p");
    let offsets = [Offsets { topic: &input, partition: 0, next: 1, metadata: None }];
    producer.begin().unwrap();
    send(&mut producer, &output, "zombie");
    let error = producer.commit(&offsets, &old).unwrap_err();
    assert!(matches!(error, CommitError::Moved { .. }), "{error}");
    producer.abort().unwrap();

    producer.begin().unwrap();
    send(&mut producer, &output, "alive");
    producer.commit(&offsets, &member.metadata().unwrap()).unwrap();
    assert_eq!(corner.values(&output), ["alive"]);
}

#[test]
fn a_producer_is_fenced_by_the_next_with_its_id() {
    let Some(corner) = corner("a_producer_is_fenced") else { return };
    let output = corner.topic("out", 1);
    let mut zombie = corner.producer("p");
    zombie.begin().unwrap();
    send(&mut zombie, &output, "zombie");
    zombie.drain().unwrap();
    let mut producer = corner.producer("p");
    let error = zombie.commit_records().unwrap_err();
    assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    producer.begin().unwrap();
    send(&mut producer, &output, "alive");
    producer.commit_records().unwrap();
    assert_eq!(corner.values(&output), ["alive"]);
}

#[test]
fn a_dead_producers_transaction_is_aborted_by_the_next_with_its_id() {
    let Some(corner) = corner("a_dead_producers_transaction") else { return };
    let output = corner.topic("out", 1);
    let mut dead = corner.producer("p");
    dead.begin().unwrap();
    send(&mut dead, &output, "dead");
    dead.drain().unwrap();
    drop(dead);
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    send(&mut producer, &output, "alive");
    producer.commit_records().unwrap();
    assert_eq!(corner.values(&output), ["alive"]);
}

#[test]
fn a_record_that_the_broker_refuses_fails_the_commit() {
    let Some(corner) = corner("a_record_that_the_broker_refuses") else { return };
    let output = corner.topic_with("out", 1, &[("max.message.bytes", "1000")]);
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    send(&mut producer, &output, &"x".repeat(5_000));
    let error = producer.commit_records().unwrap_err();
    assert!(matches!(error, CommitError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{output}/0")), "{error}");
    // librdkafka purges what is queued when it notices the failure, which may be a little late.
    let mut attempts = 0;
    loop {
        producer.abort().unwrap();
        producer.begin().unwrap();
        send(&mut producer, &output, "small");
        match producer.commit_records() {
            Ok(_) => break,
            Err(CommitError::Abortable { .. }) if attempts < 3 => attempts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(corner.values(&output), ["small"]);
}

#[test]
fn committed_offsets_are_not_told_while_a_transaction_may_change_them() {
    let Some(corner) = corner("committed_offsets_are_not_told") else { return };
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    let mut producer = corner.producer("p");
    let mut commit = |next| {
        producer.begin().unwrap();
        send(&mut producer, &output, "x");
        let offsets = [Offsets { topic: &input, partition: 0, next, metadata: None }];
        producer.commit(&offsets, &member.metadata().unwrap()).unwrap();
    };
    let committed = Committed::new(&corner.settings, &corner.name).unwrap();
    for next in 1..=20 {
        commit(next);
        // Kafka says that a commit is done before its markers are written everywhere.
        let read = committed.read(&[(input.clone(), 0)], TIMEOUT).unwrap();
        assert_eq!(read[0].offset, Some(next));
    }
}

#[test]
fn without_transactions_records_come_first_and_offsets_follow() {
    let Some(corner) = corner("without_transactions") else { return };
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 1));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    let mut producer = Producer::at_least_once(&corner.settings, TIMEOUT).unwrap();
    producer.begin().unwrap();
    send(&mut producer, &output, "early");
    producer.drain().unwrap();
    assert_eq!(corner.values(&output), ["early"], "visible before the commit");
    let last = record(&mut producer, &output, "late");
    producer.send_tracked(last, NO_HEADERS).unwrap();
    let offsets = [Offsets { topic: &input, partition: 0, next: 7, metadata: Some("m") }];
    let delivered = producer.commit(&offsets, &member.metadata().unwrap()).unwrap();
    assert_eq!(delivered.offsets, [1]);
    let committed = Committed::new(&corner.settings, &corner.name).unwrap();
    let read = committed.read(&[(input.clone(), 0)], TIMEOUT).unwrap().remove(0);
    assert_eq!((read.offset, read.metadata.as_str()), (Some(7), "m"));
}

#[test]
fn without_transactions_lots_are_delivered_while_more_is_sent() {
    let Some(corner) = corner("lots") else { return };
    let (input, output) = (corner.topic("in", 1), corner.topic("out", 2));
    let mut member = corner.join(&input, Strategy::Cooperative);
    until_assigned(&mut member);
    let mut producer = Producer::at_least_once(&corner.settings, TIMEOUT).unwrap();
    for round in 1..=5_i64 {
        producer.begin().unwrap();
        for n in 0..100 {
            let value = n.to_string();
            let record = record(&mut producer, &output, &value);
            producer.send(Record { partition: n % 2, ..record }, NO_HEADERS).unwrap();
        }
        let last = record(&mut producer, &output, "last");
        producer.send_tracked(last, NO_HEADERS).unwrap();
        let lot = producer.cut();
        send(&mut producer, &output, "of the next lot");
        let begun = std::time::Instant::now();
        while !producer.is_delivered(lot).unwrap() {
            assert!(begun.elapsed() < TIMEOUT);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let offsets = [Offsets { topic: &input, partition: 0, next: round, metadata: None }];
        producer.begin_offsets(&offsets, &member.metadata().unwrap()).unwrap();
        let delivered = loop {
            assert!(begun.elapsed() < TIMEOUT);
            if let Some(delivered) = producer.poll_offsets().unwrap() {
                break delivered;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(delivered.offsets, [round * 51 - 1 + (round - 1)]);
        let committed = Committed::new(&corner.settings, &corner.name).unwrap();
        let read = committed.read(&[(input.clone(), 0)], TIMEOUT).unwrap().remove(0);
        assert_eq!(read.offset, Some(round));
    }
}

#[test]
fn an_idle_transaction_costs_no_waiting() {
    let Some(corner) = corner("an_idle_transaction") else { return };
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    producer.commit_records().unwrap();
    producer.begin().unwrap();
    producer.abort().unwrap();
    assert!(!producer.is_open());
    assert_eq!(producer.outstanding(), 0);
}
