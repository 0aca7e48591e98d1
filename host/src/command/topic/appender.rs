//! Appends records to a topic of the embedded log from the command line.
//!
//! Invariant: the payload that the pipeline committed with the log stays as it is, and nothing is
//! durable before [`Appender::commit`].

use std::path::Path;

use super::Turns;
use anyhow::Context as _;
use wasmill_abi::{Headers, WATERMARK_START};
use wasmill_log::{Error, Log, Options, Partition, Records, TopicOptions};

use crate::command::data_dir;

/// How many partitions a new topic has when nobody says: as many as a pipeline gives its topics.
pub const DEFAULT_PARTITIONS: u32 = 4;

/// A frame is written when it has this many bytes.
const FRAME_BYTES: usize = 1 << 20;
/// What this writer calls itself in frames; it appends no watermarks, so it needs no own number.
const PRODUCER: u32 = 0;

/// One header: its name and its value.
pub type Header = (String, Option<Vec<u8>>);

/// A topic that is being written.
#[derive(Debug)]
pub struct Appender {
    log: Log,
    partitions: Vec<Open>,
    turns: Turns,
    /// How many records were pushed.
    records: u64,
}

#[derive(Debug)]
struct Open {
    partition: Partition,
    records: Records,
    bytes: usize,
}

impl Appender {
    /// Opens a topic of the log in `data_dir`. It is created when it does not exist, with
    /// `partitions` or else [`DEFAULT_PARTITIONS`].
    ///
    /// # Errors
    /// When another process writes the log, when the topic has another number of partitions, or when
    /// the log can't be opened.
    pub fn open(data_dir: &Path, topic: &str, partitions: Option<u32>) -> anyhow::Result<Self> {
        let log = Log::open(data_dir::log(data_dir), Options::default()).map_err(|error| {
            let locked = matches!(error, Error::Locked { .. });
            let error = anyhow::Error::from(error);
            if locked {
                error.context(format!(
                    "topic {topic:?} can't be written now: a pipeline runs on {}, or something else \
                     writes there",
                    data_dir.display()
                ))
            } else {
                error
            }
        })?;
        let (partitions, options) = match (log.partitions(topic), partitions) {
            (Ok(existing), given) => (given.unwrap_or(existing), log.topic_options(topic)?),
            (Err(_), given) => (given.unwrap_or(DEFAULT_PARTITIONS), TopicOptions::default()),
        };
        log.create_topic(topic, partitions, options)?;
        let open = |index| {
            let partition = log.partition(topic, index)?;
            Ok(Open { partition, records: Records::default(), bytes: 0 })
        };
        let partitions = (0..partitions).map(open).collect::<Result<_, Error>>()?;
        Ok(Self { log, partitions, turns: Turns::default(), records: 0 })
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// How many records were pushed.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Appends one record to the partition of its key, or to the next one when it has none.
    /// `timestamp_ms` is in ms since the Unix epoch.
    ///
    /// # Errors
    /// When the record is too large, or the disk refuses.
    pub fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
        headers: &[Header],
    ) -> anyhow::Result<()> {
        let partition = self.turns.partition(key, self.partitions.len() as u32);
        let open = &mut self.partitions[partition as usize];
        open.push(key, value, timestamp_ms, headers);
        self.records += 1;
        if open.bytes >= FRAME_BYTES {
            open.append(self.log.epoch() + 1)?;
        }
        Ok(())
    }

    /// Makes everything durable that was pushed; from then on others see it.
    ///
    /// # Errors
    /// When the disk refuses; then nothing since the last commit is in the log.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        let epoch = self.log.epoch() + 1;
        self.partitions.iter_mut().try_for_each(|open| open.append(epoch))?;
        let snapshot = self.log.freeze()?;
        let payload = self.log.payload().clone();
        self.log.commit(snapshot, epoch, payload).context("nothing was written")
    }
}

impl Open {
    fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
        headers: &[Header],
    ) {
        let records = &mut self.records;
        if !headers.is_empty() && records.headers.is_none() {
            let ends = vec![0; records.len()];
            records.headers = Some(Headers { ends, ..Headers::default() });
        }
        if let Some(to) = &mut records.headers {
            headers.iter().for_each(|(name, value)| to.add(name, value.as_deref()));
            to.close_row();
        }
        records.timestamps.push(timestamp_ms);
        // Whoever reads the topic makes watermarks of its own.
        records.clocks.push(WATERMARK_START);
        records.keys.push_opt(key);
        records.values.push_opt(value);
        let of_header =
            |(name, value): &Header| name.len() + value.as_ref().map_or(0, Vec::len) + 8;
        self.bytes += key.map_or(0, <[u8]>::len)
            + value.map_or(0, <[u8]>::len)
            + headers.iter().map(of_header).sum::<usize>()
            + 24;
    }

    fn append(&mut self, epoch: u64) -> anyhow::Result<()> {
        self.bytes = 0;
        self.partition.append(epoch, PRODUCER, std::mem::take(&mut self.records))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmill_log::Position;

    use super::*;

    fn values(data_dir: &Path, topic: &str) -> Vec<Vec<String>> {
        let log = Log::open_read_only(data_dir::log(data_dir)).unwrap();
        let of_partition = |index| {
            let mut reader = log.reader(topic, index, Position::start()).unwrap();
            let mut values = Vec::new();
            while let Some((frame, _)) = reader.next().unwrap() {
                let column = &frame.records().unwrap().values;
                values.extend(column.iter().map(|v| String::from_utf8_lossy(v.unwrap()).into()));
            }
            values
        };
        (0..log.partitions(topic).unwrap()).map(of_partition).collect()
    }

    #[test]
    fn keys_go_where_the_java_client_puts_them_and_others_go_round() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(dir.path(), "t", Some(3)).unwrap();
        for value in ["0", "1", "2", "3"] {
            appender.push(None, Some(value.as_bytes()), 5, &[]).unwrap();
        }
        // murmur2("21") = -973932308, and (that & 0x7fffffff) % 3 = 0.
        appender.push(Some(b"21"), Some(b"keyed"), 5, &[]).unwrap();
        appender.commit().unwrap();
        assert_eq!(appender.records(), 5);
        let expected = [vec!["0", "3", "keyed"], vec!["1"], vec!["2"]];
        assert_eq!(values(dir.path(), "t"), expected.map(|p| p.map_to_owned()));
    }

    trait MapToOwned {
        fn map_to_owned(&self) -> Vec<String>;
    }
    impl MapToOwned for Vec<&str> {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|s| (*s).to_owned()).collect()
        }
    }

    #[test]
    fn the_payload_of_the_pipeline_and_the_options_of_the_topic_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = data_dir::log(dir.path());
        let payload = serde_json::json!({ "positions": [1, 2] });
        let options = TopicOptions { segment_bytes: 12_345, ..TopicOptions::default() };
        {
            let log = Log::open(&path, Options::default()).unwrap();
            log.create_topic("t", 1, options).unwrap();
            log.commit(log.freeze().unwrap(), 7, payload.clone()).unwrap();
        }
        let mut appender = Appender::open(dir.path(), "t", None).unwrap();
        assert_eq!(appender.partitions(), 1);
        for round in 0..2 {
            appender.push(None, Some(b"x"), round, &[]).unwrap();
            appender.commit().unwrap();
        }
        drop(appender);
        let log = Log::open(&path, Options::default()).unwrap();
        assert_eq!((log.payload(), log.epoch()), (&payload, 9));
        assert_eq!(log.topic_options("t").unwrap(), options);
        assert_eq!(log.partition("t", 0).unwrap().end_offset(), 2);
    }

    #[test]
    fn what_is_not_committed_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(dir.path(), "t", Some(1)).unwrap();
        appender.commit().unwrap();
        let large = vec![b'x'; FRAME_BYTES];
        appender.push(None, Some(&large), 1, &[]).unwrap();
        drop(appender);
        let log = Log::open(data_dir::log(dir.path()), Options::default()).unwrap();
        assert_eq!(log.partition("t", 0).unwrap().end_offset(), 0);
    }

    #[test]
    fn a_log_in_use_and_another_number_of_partitions_are_said_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(dir.path(), "t", Some(2)).unwrap();
        appender.commit().unwrap();
        let error = format!("{:#}", Appender::open(dir.path(), "t", None).unwrap_err());
        assert!(error.contains("a pipeline runs on"), "{error}");
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(appender);
        let error = format!("{:#}", Appender::open(dir.path(), "t", Some(3)).unwrap_err());
        assert!(error.contains("has 2 partitions, 3 were asked for"), "{error}");
    }

    #[test]
    fn records_before_the_first_with_headers_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(dir.path(), "t", Some(1)).unwrap();
        let header = ("trace".to_owned(), None);
        appender.push(None, Some(b"a"), 1, &[]).unwrap();
        appender.push(None, Some(b"b"), 1, &[header.clone(), header]).unwrap();
        appender.push(None, None, 1, &[]).unwrap();
        appender.commit().unwrap();
        let log = Log::open_read_only(data_dir::log(dir.path())).unwrap();
        let (frame, _) = log.reader("t", 0, Position::start()).unwrap().next().unwrap().unwrap();
        assert_eq!(frame.records().unwrap().headers.as_ref().unwrap().ends, [0, 2, 2]);
    }
}
