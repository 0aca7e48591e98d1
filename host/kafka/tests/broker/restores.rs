use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wasmill_kafka::{Error, Progress, Source, read_to_end};

use crate::support::{Corner, TIMEOUT, corner, send, text};

fn source<'a>(topic: &'a str, from: Option<i64>) -> Source<'a> {
    Source { topic, partition: 0, from, group: "restores", patience: TIMEOUT }
}

fn restore(corner: &Corner, source: &Source<'_>) -> Result<(Vec<String>, i64), Error> {
    let mut values = vec![];
    let stop = Arc::default();
    let end = read_to_end(
        &corner.admin(),
        source,
        &stop,
        |_| {},
        |_, _, value| {
            values.push(text(value).unwrap().to_owned());
            Ok::<_, Error>(())
        },
    )?;
    Ok((values, end))
}

#[test]
fn an_open_transaction_is_waited_for() {
    let Some(corner) = corner("an_open_transaction") else { return };
    for commit in [true, false] {
        let topic = corner.topic(if commit { "committed" } else { "aborted" }, 1);
        corner.fill(&topic, ["before".to_owned()]);
        let mut producer = corner.producer("p");
        producer.begin().unwrap();
        send(&mut producer, &topic, "within");
        producer.drain().unwrap();
        thread::scope(|scope| {
            let reading = scope.spawn(|| restore(&corner, &source(&topic, None)).unwrap());
            thread::sleep(Duration::from_millis(1_500));
            if reading.is_finished() {
                panic!("the transaction is still open: {:?}", reading.join());
            }
            if commit { producer.commit_records().map(|_| ()) } else { producer.abort() }.unwrap();
            let (values, end) = reading.join().unwrap();
            let expected: &[&str] = if commit { &["before", "within"] } else { &["before"] };
            assert_eq!(
                (values.iter().map(String::as_str).collect::<Vec<_>>(), end),
                (expected.to_vec(), 2)
            );
        });
    }
}

#[test]
fn a_restore_goes_on_from_a_position_and_tells_its_progress() {
    let Some(corner) = corner("a_restore_goes_on") else { return };
    let topic = corner.topic("t", 1);
    corner.fill(&topic, (0..30_000).map(|i| i.to_string()));
    let (values, end) = restore(&corner, &source(&topic, Some(29_000))).unwrap();
    assert_eq!((values.len(), values[0].as_str(), end), (1_000, "29000", 30_000));
    assert_eq!(restore(&corner, &source(&topic, Some(30_000))).unwrap(), (vec![], 30_000));

    let mut told: Vec<Progress> = vec![];
    let stop = Arc::default();
    let tell = |progress| told.push(progress);
    read_to_end(&corner.admin(), &source(&topic, None), &stop, tell, |_, _, _| Ok::<_, Error>(()))
        .unwrap();
    assert!(told.is_sorted_by_key(|p| (p.position, p.bytes)), "{told:?}");
    let last = told.last().unwrap();
    assert_eq!((last.position, last.end), (30_000, 30_000));
}

#[test]
fn a_restore_from_what_is_gone_is_an_error() {
    let Some(corner) = corner("a_restore_from_what_is_gone") else { return };
    let topic = corner.topic("t", 1);
    corner.fill(&topic, (0..10).map(|i| i.to_string()));
    corner.admin().delete_records(&topic, 0, 6).unwrap();
    let error = restore(&corner, &source(&topic, Some(5))).unwrap_err();
    assert!(matches!(error, Error::OffsetGone { offset: 5, range: Some((6, 10)), .. }), "{error}");
    assert_eq!(restore(&corner, &source(&topic, None)).unwrap().0, ["6", "7", "8", "9"]);
}

#[test]
fn a_restore_stops_when_it_is_told_to_and_when_its_reader_fails() {
    let Some(corner) = corner("a_restore_stops") else { return };
    let topic = corner.topic("t", 1);
    corner.fill(&topic, (0..1_000).map(|i| i.to_string()));
    let stop = Arc::new(AtomicBool::new(false));
    let source = source(&topic, None);
    let failing = |offset, _: Option<&[u8]>, _: Option<&[u8]>| {
        let what = "the reader".to_owned();
        if offset == 3 { Err(Error::Interrupted { what }) } else { Ok(()) }
    };
    let error = read_to_end(&corner.admin(), &source, &stop, |_| {}, failing).unwrap_err();
    assert_eq!(error.to_string(), "the reader was interrupted");
    stop.store(true, Ordering::Relaxed);
    let error = read_to_end(&corner.admin(), &source, &stop, |_| {}, |_, _, _| Ok::<_, Error>(()))
        .unwrap_err();
    assert!(error.to_string().contains(&format!("{topic}/0")), "{error}");
}
