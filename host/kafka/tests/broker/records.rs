use std::time::{Duration, Instant};

use wasmill_abi::Headers;
use wasmill_kafka::{Batch, Error, Limit, Producer, Record, TimestampKind, Waker};

use crate::support::{ALL, TIMEOUT, corner, read_until, send, text};

/// Key, value and timestamp.
type Row = (Option<&'static [u8]>, Option<&'static [u8]>, i64);

#[test]
fn records_come_back_as_they_were_sent() {
    let Some(corner) = corner("records_come_back") else { return };
    let topic = corner.topic("t", 2);
    let mut producer = corner.producer("p");
    producer.begin().unwrap();
    let to = producer.topic(&topic).unwrap();
    let mut headers = Headers::default();
    headers.add("h", Some(b"1"));
    headers.add("h", None);
    headers.add("empty", Some(b""));
    headers.close_row();
    let rows: [Row; 5] = [
        (Some(b"k"), Some(b"v"), 5),
        (None, Some(b"v"), 4),
        (Some(b"k"), None, 6),
        (Some(b""), Some(b""), 7),
        (None, None, 8),
    ];
    for (i, (key, value, time)) in rows.into_iter().enumerate() {
        let record = Record { topic: to, partition: 1, key, value, timestamp: Some(time) };
        let row: Vec<_> = if i == 2 { headers.row(0).collect() } else { vec![] };
        producer.send(record, row).unwrap();
    }
    producer.commit_records().unwrap();

    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    let mut partition = fetcher.assign(&topic, 1, 0).unwrap();
    let batch = read_until(&fetcher, &mut partition, 6);
    assert_eq!(batch.offsets, [0, 1, 2, 3, 4]);
    assert_eq!(batch.next_offset, 6, "the transaction's marker is passed");
    assert_eq!(batch.timestamps, [5, 4, 6, 7, 8]);
    assert_eq!(batch.timestamp_kind, TimestampKind::Create);
    for (i, (key, value, _)) in rows.into_iter().enumerate() {
        assert_eq!((batch.keys.get(i), batch.values.get(i)), (key, value), "row {i}");
    }
    let got = batch.headers.unwrap();
    assert_eq!(got.ends, [0, 0, 3, 3, 3]);
    assert!(got.row(2).eq(headers.row(0)));
    assert_eq!(partition.lag(), Some(0));
}

#[test]
fn timestamps_that_the_broker_gives_are_marked() {
    let Some(corner) = corner("timestamps_that_the_broker_gives") else { return };
    let topic = corner.topic_with("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    corner.fill(&topic, ["v".to_owned()]);
    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    let mut partition = fetcher.assign(&topic, 0, 0).unwrap();
    let batch = read_until(&fetcher, &mut partition, 1);
    assert_eq!(batch.timestamp_kind, TimestampKind::LogAppend);
    assert!(batch.timestamps[0] > 1_600_000_000_000, "{:?}", batch.timestamps);
}

#[test]
fn a_read_keeps_its_limits_and_loses_nothing() {
    let Some(corner) = corner("a_read_keeps_its_limits") else { return };
    let topic = corner.topic("t", 1);
    let number = |i: u32| format!("{i:07}");
    corner.fill(&topic, (0..2_000).map(number));
    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    let mut partition = fetcher.assign(&topic, 0, 0).unwrap();
    // A key of 3 bytes and a value of 7.
    let limits = [(1, ALL.bytes), (700, ALL.bytes), (ALL.records, 95), (ALL.records, 1)];
    let mut batch = Batch::new(false);
    let mut expected = 0..2_000;
    let deadline = Instant::now() + TIMEOUT;
    for (records, bytes) in limits.into_iter().cycle() {
        if expected.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{expected:?} are missing");
        batch.clear();
        let read = partition.read(&mut batch, Limit { records, bytes }).unwrap();
        assert_eq!(read, batch.len());
        assert!(read <= records && (batch.size_bytes() <= bytes || read == 1), "{read}");
        for (row, expected) in expected.by_ref().take(read).enumerate() {
            assert_eq!(text(batch.values.get(row)), Some(number(expected).as_str()));
        }
        if read == 0 {
            fetcher.wait(Duration::from_millis(100));
        }
    }
    assert_eq!(partition.position(), 2_000);
}

#[test]
fn aborted_records_are_passed_over() {
    let Some(corner) = corner("aborted_records") else { return };
    let topic = corner.topic("t", 1);
    let mut producer = corner.producer("p");
    for round in 0..4 {
        producer.begin().unwrap();
        (0..50).for_each(|i| send(&mut producer, &topic, &format!("{round}-{i}")));
        producer.drain().unwrap();
        if round % 2 == 0 {
            producer.commit_records().unwrap();
        } else {
            producer.abort().unwrap();
        }
    }
    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    let mut partition = fetcher.assign(&topic, 0, 0).unwrap();
    let batch = read_until(&fetcher, &mut partition, 4 * 51);
    assert_eq!(batch.len(), 100);
    assert!(batch.values.iter().all(|v| !text(v).unwrap().starts_with(['1', '3'])));
}

#[test]
fn an_offset_that_is_gone_is_named_with_what_exists() {
    let Some(corner) = corner("an_offset_that_is_gone") else { return };
    let topic = corner.topic("t", 1);
    corner.fill(&topic, (0..10).map(|i| i.to_string()));
    corner.admin().delete_records(&topic, 0, 4).unwrap();
    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    for offset in [2, 11] {
        let mut partition = fetcher.assign(&topic, 0, offset).unwrap();
        let mut batch = Batch::new(false);
        let deadline = Instant::now() + TIMEOUT;
        let error = loop {
            match partition.read(&mut batch, ALL) {
                Ok(read) => assert_eq!(read, 0),
                Err(error) => break error,
            }
            assert!(Instant::now() < deadline, "offset {offset} is no error");
            fetcher.wait(Duration::from_millis(100));
        };
        let expected =
            Error::OffsetGone { topic: topic.clone(), partition: 0, offset, range: Some((4, 10)) };
        assert_eq!(error, expected);
        assert_eq!(partition.read(&mut batch, ALL), Err(expected), "it stays an error");
    }
}

#[test]
fn a_partition_can_be_read_again_from_another_offset() {
    let Some(corner) = corner("a_partition_can_be_read_again") else { return };
    let topic = corner.topic("t", 1);
    corner.fill(&topic, (0..1_000).map(|i| i.to_string()));
    let waker = Waker::default();
    let fetcher = corner.fetcher(&waker);
    for from in [0_i64, 900, 10, 500] {
        let mut partition = fetcher.assign(&topic, 0, from).unwrap();
        let batch = read_until(&fetcher, &mut partition, 1_000);
        assert!(batch.offsets.iter().copied().eq(from..1_000), "from {from}");
    }
}

#[test]
fn an_unread_partition_takes_bounded_memory_and_does_not_hold_up_another() {
    let Some(corner) = corner("an_unread_partition") else { return };
    let (large, small) = (corner.topic("large", 1), corner.topic("small", 1));
    let mut producer = Producer::at_least_once(&corner.settings, TIMEOUT).unwrap();
    let to = producer.topic(&large).unwrap();
    let value = vec![b'x'; 10_000];
    for _ in 0..6_000 {
        let (key, value) = (None, Some(&value[..]));
        let record = Record { topic: to, partition: 0, key, value, timestamp: None };
        producer.send(record, wasmill_kafka::NO_HEADERS).unwrap();
    }
    producer.drain().unwrap();
    corner.fill(&small, (0..100).map(|i| i.to_string()));

    let mut settings = corner.settings.clone();
    settings.consumer.insert("queued.max.messages.kbytes".to_owned(), "4096".to_owned());
    settings.consumer.insert("statistics.interval.ms".to_owned(), "100".to_owned());
    let waker = Waker::default();
    let fetcher = wasmill_kafka::Fetcher::new(&settings, &corner.name, &waker).unwrap();
    let mut unread = fetcher.assign(&large, 0, 0).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let mut last = 0;
    // Until it does not grow any more.
    loop {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(250));
        fetcher.poll();
        let fetched = fetcher.stats().partitions.get(&(large.clone(), 0)).map(|p| p.fetched_bytes);
        let fetched = fetched.unwrap_or(0);
        if fetched > 0 && fetched == last {
            break;
        }
        last = fetched;
    }
    // The limit and what one fetch brings beyond it.
    assert!(last < (4 << 20) + 2 * (2 << 20), "{last} bytes are fetched");
    let mut other = fetcher.assign(&small, 0, 0).unwrap();
    assert_eq!(read_until(&fetcher, &mut other, 100).len(), 100);
    assert_eq!(read_until(&fetcher, &mut unread, 6_000).len(), 6_000);
}
