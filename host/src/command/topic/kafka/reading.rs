//! Printing the records of a topic of Kafka. Invariant: each record is printed once, those of a
//! partition in the order of their offsets; what can't be printed is said.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wasmill::record_json::{self, Shown};
use wasmill_kafka::{Batch, Error, Fetcher, Isolation, Limit, Partition, PartitionOffsets, Waker};

use super::Cluster;
use crate::command::output::note;
use crate::command::topic::read::From;

/// How much is read at once.
const LIMIT: Limit = Limit { records: 10_000, bytes: 4 << 20 };
/// How long nothing may come though there is something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to sleep at most when there is nothing to read.
const WAIT: Duration = Duration::from_millis(200);

/// What is to be printed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; none for all, one after the other.
    pub partition: Option<u32>,
    /// Where to begin in each partition.
    pub from: From,
    /// The most records in all.
    pub limit: Option<u64>,
    /// Whether to go on at the end.
    pub follow: bool,
    /// Which records are there.
    pub isolation: Isolation,
}

/// Prints the records of a topic up to the ends that its partitions have now; with `follow`, on and
/// on from there.
///
/// # Errors
/// When there is no such topic or partition, Kafka can't be read, or `out` can't be written.
pub fn print(cluster: &Cluster, wanted: &Wanted<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let admin = cluster.connect()?;
    let spans = spans(&cluster.topic(&admin, wanted.topic)?, wanted)?;
    drop(admin);
    spans.iter().flat_map(Span::notes).for_each(|text| note(&format!("{text}\n")));
    let waker = Waker::default();
    let fetcher =
        Fetcher::for_looking(&cluster.settings, &cluster.group, &waker, wanted.isolation)?;
    let left = wanted.limit.unwrap_or(u64::MAX);
    let mut printer = Printer { out, line: Vec::new(), batch: Batch::new(true), left };
    let mut open = Vec::new();
    for span in spans {
        if printer.left > 0 && (span.begin < span.end || wanted.follow) {
            let mut reader = Reader::new(&fetcher, wanted.topic, span)?;
            reader.print_to_end(&mut printer)?;
            // What is read no more is fetched no more.
            open.extend(wanted.follow.then_some(reader));
        }
    }
    printer.out.flush()?;
    while wanted.follow && printer.left > 0 {
        let mut printed = 0;
        for reader in &mut open {
            printed += reader.print(i64::MAX, &mut printer)?;
        }
        if printed > 0 {
            printer.out.flush()?;
        } else {
            fetcher.wait(WAIT);
        }
    }
    Ok(())
}

/// What is to be read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    partition: u32,
    /// The first offset wanted, which may be above the end.
    from: i64,
    /// Where reading begins, and where it ends unless it goes on.
    begin: i64,
    end: i64,
    /// The first offset, when it is above the one that was asked for.
    dropped: Option<i64>,
    /// Whether records behind the end belong to an open transaction, or come after one.
    held: bool,
}

impl Span {
    fn new(partition: u32, offsets: PartitionOffsets, wanted: &Wanted<'_>) -> Self {
        let PartitionOffsets { start, stable, .. } = offsets;
        let committed = wanted.isolation == Isolation::Committed;
        let end = if committed { stable } else { offsets.end };
        let from = match wanted.from {
            From::Start => start,
            From::Offset(offset) => i64::try_from(offset).unwrap_or(i64::MAX),
            From::End => end,
        };
        Self {
            partition,
            from,
            begin: from.clamp(start, end),
            end,
            dropped: (from < start).then_some(start),
            held: committed && stable < offsets.end,
        }
    }

    fn notes(&self) -> Vec<String> {
        let Self { partition, end, .. } = self;
        let mut notes = Vec::new();
        if let Some(start) = self.dropped {
            notes.push(format!(
                "partition {partition}: records before offset {start} were dropped, beginning there"
            ));
        }
        if self.held {
            notes.push(format!(
                "partition {partition}: a transaction is open, so what comes from offset {end} on is \
                 not committed yet; --uncommitted shows it"
            ));
        }
        notes
    }
}

/// What is to be read of each wanted partition.
fn spans(found: &[Option<PartitionOffsets>], wanted: &Wanted<'_>) -> anyhow::Result<Vec<Span>> {
    let topic = wanted.topic;
    let span = |(partition, offsets): (u32, &Option<PartitionOffsets>)| {
        let offsets = offsets.with_context(|| {
            format!(
                "partition {partition} of topic {topic:?} has no leader at the moment: try again \
                 later, or choose another one with --partition"
            )
        })?;
        Ok(Span::new(partition, offsets, wanted))
    };
    let all = (0..).zip(found);
    match wanted.partition {
        None => all.map(span).collect(),
        Some(one) if (one as usize) < found.len() => {
            all.filter(|(partition, _)| *partition == one).map(span).collect()
        }
        Some(one) => {
            bail!(
                "topic {topic:?} has partitions 0 to {}, there is no partition {one}",
                found.len() - 1
            )
        }
    }
}

/// A partition that is being read.
struct Reader<'a> {
    fetcher: &'a Fetcher,
    reading: Partition,
    span: Span,
}

impl<'a> Reader<'a> {
    fn new(fetcher: &'a Fetcher, topic: &str, span: Span) -> anyhow::Result<Self> {
        let reading = fetcher.assign(topic, span.partition, span.begin)?;
        Ok(Self { fetcher, reading, span })
    }

    fn print_to_end(&mut self, printer: &mut Printer<'_, impl Write>) -> anyhow::Result<()> {
        let end = self.span.end;
        let mut last = (self.reading.position(), Instant::now());
        while printer.left > 0 && self.reading.position() < end {
            self.print(end, printer)?;
            let position = self.reading.position();
            if position > last.0 {
                last = (position, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                bail!(
                    "partition {}: nothing came for {PATIENCE:?} at offset {position}, though there \
                     are records up to {end}: see whether its broker can be reached, then read on \
                     with --from {position}",
                    self.span.partition
                );
            } else {
                self.fetcher.wait(WAIT);
            }
        }
        Ok(())
    }

    /// Prints what is there before offset `end`, and returns how many records were read.
    fn print(&mut self, end: i64, printer: &mut Printer<'_, impl Write>) -> anyhow::Result<usize> {
        self.fetcher.poll();
        let batch = &mut printer.batch;
        batch.clear();
        let records = LIMIT.records.min(usize::try_from(printer.left).unwrap_or(usize::MAX));
        match self.reading.read(batch, Limit { records, ..LIMIT }) {
            Ok(_) => {}
            Err(error) if error.is_retriable() => tracing::debug!(%error, "reading"),
            Err(Error::OffsetGone { offset, .. }) => bail!(
                "partition {}: offset {offset} is gone meanwhile, dropped by retention or with its \
                 topic: begin anew with --from start",
                self.span.partition
            ),
            Err(error) => return Err(error.into()),
        }
        printer.print(self.span.partition, self.span.from..end)
    }
}

/// Where lines go.
struct Printer<'a, W> {
    out: &'a mut W,
    line: Vec<u8>,
    batch: Batch,
    /// How many records are still to be printed.
    left: u64,
}

impl<W: Write> Printer<'_, W> {
    /// Prints the records of the batch whose offsets are in the range; returns how many were read.
    fn print(&mut self, partition: u32, offsets: std::ops::Range<i64>) -> anyhow::Result<usize> {
        let batch = &self.batch;
        for (row, offset) in batch.offsets.iter().enumerate() {
            if !offsets.contains(offset) || self.left == 0 {
                continue;
            }
            let headers = batch.headers.as_ref();
            let shown = Shown {
                key: batch.keys.get(row),
                value: batch.values.get(row),
                timestamp: batch.timestamps[row],
                headers: headers.map_or_else(Vec::new, |headers| headers.row(row).collect()),
                partition: Some(partition),
                offset: Some(*offset),
            };
            self.line.clear();
            record_json::write(&mut self.line, &shown);
            self.line.push(b'\n');
            self.out.write_all(&self.line)?;
            self.left -= 1;
        }
        Ok(batch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSETS: PartitionOffsets = PartitionOffsets { start: 10, stable: 20, end: 30 };

    fn wanted(from: From, isolation: Isolation) -> Wanted<'static> {
        Wanted { topic: "t", partition: None, from, limit: None, follow: false, isolation }
    }

    #[test]
    fn reading_begins_where_it_is_asked_for_and_ends_at_what_is_committed() {
        let of = |from, isolation| {
            let span = Span::new(3, OFFSETS, &wanted(from, isolation));
            (span.from, span.begin, span.end, span.dropped)
        };
        use Isolation::{Committed, Uncommitted};
        assert_eq!(of(From::Start, Committed), (10, 10, 20, None));
        assert_eq!(of(From::Start, Uncommitted), (10, 10, 30, None));
        assert_eq!(of(From::End, Committed), (20, 20, 20, None));
        assert_eq!(of(From::End, Uncommitted), (30, 30, 30, None));
        assert_eq!(of(From::Offset(15), Committed), (15, 15, 20, None));
        assert_eq!(of(From::Offset(5), Committed), (5, 10, 20, Some(10)));
        assert_eq!(of(From::Offset(99), Committed), (99, 20, 20, None));
    }

    #[test]
    fn what_is_dropped_and_what_is_not_committed_is_said() {
        let notes = |from, isolation| Span::new(3, OFFSETS, &wanted(from, isolation)).notes();
        let said = notes(From::Offset(5), Isolation::Committed);
        assert_eq!(said.len(), 2);
        assert_eq!(said[0], "partition 3: records before offset 10 were dropped, beginning there");
        assert!(said[1].contains("offset 20") && said[1].contains("--uncommitted"), "{said:?}");
        assert!(notes(From::Start, Isolation::Uncommitted).is_empty());
    }

    #[test]
    fn a_partition_that_does_not_exist_or_has_no_leader_is_named() {
        let found = [Some(OFFSETS), None];
        let spans = |partition| {
            let wanted = Wanted { partition, ..wanted(From::Start, Isolation::Committed) };
            spans(&found, &wanted).map_err(|e| e.to_string())
        };
        assert_eq!(spans(Some(0)).unwrap().len(), 1);
        assert!(spans(Some(2)).unwrap_err().contains("partitions 0 to 1, there is no partition 2"));
        assert!(spans(Some(1)).unwrap_err().contains("partition 1 of topic \"t\" has no leader"));
        assert!(spans(None).unwrap_err().contains("--partition"));
    }

    #[test]
    fn records_outside_of_the_range_and_beyond_the_limit_are_not_printed() {
        let mut out = Vec::new();
        let mut batch = Batch::new(true);
        for offset in 0..6 {
            batch.offsets.push(offset);
            batch.timestamps.push(offset * 10);
            batch.keys.push_opt(None);
            batch.values.push_opt(Some(b"{\"a\":1}"));
            let headers = batch.headers.as_mut().unwrap();
            headers.add("h", Some(b"1"));
            headers.close_row();
        }
        let mut printer = Printer { out: &mut out, line: Vec::new(), batch, left: 2 };
        assert_eq!(printer.print(1, 2..5).unwrap(), 6);
        assert_eq!(printer.left, 0);
        let line = |n| {
            format!(
                "{{\"partition\":1,\"offset\":{n},\"timestamp\":{n}0,\"key\":null,\
                 \"value\":{{\"a\":1}},\"headers\":[[\"h\",\"1\"]]}}\n"
            )
        };
        assert_eq!(String::from_utf8(out).unwrap(), line(2) + &line(3));
    }
}
