//! The tables of `wasmill status`. Invariant: what is not known is shown as a dash, never as 0.

use wasmill::admin::latency::Latency;
use wasmill::admin::status::{Status, Task};
use wasmill::engine::kafka::PartitionLag;
use wasmill::engine::report;

/// A table: its titles, with whether a column is of numbers, which stand to the right.
struct Table<const N: usize> {
    titles: [(&'static str, bool); N],
    rows: Vec<[String; N]>,
}

const TEXT: bool = false;
const NUMBER: bool = true;

impl<const N: usize> Table<N> {
    fn new(titles: [(&'static str, bool); N]) -> Self {
        Self { titles, rows: Vec::new() }
    }

    /// Writes the table behind a blank line; nothing when it has no rows.
    fn write(self, text: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let titles = self.titles.map(|(title, _)| title.to_owned());
        let rows: Vec<&[String; N]> = std::iter::once(&titles).chain(&self.rows).collect();
        let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        if !text.is_empty() {
            text.push('\n');
        }
        for row in rows {
            let cell = |i: usize| match self.titles[i].1 {
                NUMBER => format!("{:>1$}", row[i], widths[i]),
                TEXT => format!("{:<1$}", row[i], widths[i]),
            };
            let cells: [String; N] = std::array::from_fn(cell);
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
    }
}

/// How a run stands.
pub(super) fn status(status: &Status) -> String {
    let on =
        status.group.as_ref().map_or(String::new(), |group| format!(" on Kafka, group {group}"));
    let mut text = format!(
        "{}{on}: running for {:.0} s, {} records and {} bytes read\n",
        status.pipeline, status.uptime_seconds, status.records, status.bytes
    );
    let mut tasks: Vec<(&String, &Task)> = status.tasks.iter().collect();
    tasks.sort_by_key(|(_, task)| (task.subtopology, task.partition));
    of_tasks(status, &tasks).write(&mut text);
    of_inputs(&tasks).write(&mut text);
    of_stages(&tasks).write(&mut text);
    of_workers(status).write(&mut text);
    of_restores(status).write(&mut text);
    of_standbys(status).write(&mut text);
    text
}

fn of_tasks(status: &Status, tasks: &[(&String, &Task)]) -> Table<7> {
    let mut table = Table::new([
        ("TASK", TEXT),
        ("WORKER", NUMBER),
        ("ASSIGNED", NUMBER),
        ("WATERMARK", TEXT),
        ("LAG", NUMBER),
        ("STATE BYTES", NUMBER),
        ("", TEXT),
    ]);
    for (name, task) in tasks {
        let standing = match (task.ended, task.full) {
            (true, _) => "ended",
            (_, true) => "waits: memory is full",
            _ => "runs",
        };
        table.rows.push([
            (*name).clone(),
            task.worker.clone(),
            known(status.assignments.get(*name)),
            report::watermark(task.watermark_ms),
            known(task.lag()),
            task.state_bytes.to_string(),
            standing.to_owned(),
        ]);
    }
    table
}

fn of_inputs(tasks: &[(&String, &Task)]) -> Table<6> {
    let mut table = Table::new([
        ("TASK", TEXT),
        ("INPUT", TEXT),
        ("PARTITION", NUMBER),
        ("NEXT", NUMBER),
        ("LAG", NUMBER),
        ("WATERMARK", TEXT),
    ]);
    for (name, task) in tasks {
        for input in &task.inputs {
            table.rows.push([
                (*name).clone(),
                input.topic.clone(),
                input.partition.to_string(),
                known(input.next),
                known(input.lag),
                report::watermark(input.watermark_ms),
            ]);
        }
    }
    table
}

fn of_stages(tasks: &[(&String, &Task)]) -> Table<8> {
    let titles = ["STAGE", "TASK", "IN", "OUT", "DEAD", "INVALID", "LATE", "EXPIRED"];
    let mut place = 0;
    let mut table = Table::new(titles.map(|title| {
        place += 1;
        (title, place > 2)
    }));
    for (name, task) in tasks {
        for stage in &task.stages {
            let c = &stage.counts;
            let counts = [c.records_in, c.records_out, c.dead, c.invalid, c.late, c.expired];
            let [records_in, out, dead, invalid, late, expired] = counts.map(|n| n.to_string());
            let (stage, task) = (stage.name.clone(), (*name).clone());
            table.rows.push([stage, task, records_in, out, dead, invalid, late, expired]);
        }
    }
    table
}

fn of_workers(status: &Status) -> Table<8> {
    let mut table = Table::new([
        ("WORKER", TEXT),
        ("UNITS", NUMBER),
        ("OPENING", NUMBER),
        ("REBALANCES", NUMBER),
        ("COMMITS", NUMBER),
        ("P50", NUMBER),
        ("P99", NUMBER),
        ("ROLLBACKS", NUMBER),
    ]);
    for (name, worker) in &status.workers {
        table.rows.push([
            name.clone(),
            worker.units.to_string(),
            worker.opening.to_string(),
            worker.rebalances.to_string(),
            worker.commits.count.to_string(),
            quantile(&worker.commits, 0.5),
            quantile(&worker.commits, 0.99),
            worker.rollbacks.to_string(),
        ]);
    }
    table
}

fn of_restores(status: &Status) -> Table<5> {
    let mut table = Table::new([
        ("RESTORE FROM", TEXT),
        ("PARTITION", NUMBER),
        ("POSITION", NUMBER),
        ("END", NUMBER),
        ("DONE", NUMBER),
    ]);
    for restore in &status.restores {
        table.rows.push([
            restore.topic.clone(),
            restore.partition.to_string(),
            restore.position.to_string(),
            restore.end.to_string(),
            format!("{:.0} %", 100.0 * restore.ratio()),
        ]);
    }
    table
}

fn of_standbys(status: &Status) -> Table<5> {
    let mut table = Table::new([
        ("STANDBY OF", TEXT),
        ("CHANGELOG", TEXT),
        ("PARTITION", NUMBER),
        ("POSITION", NUMBER),
        ("LAG", NUMBER),
    ]);
    for (task, standby) in &status.standbys {
        table.rows.push([
            task.clone(),
            standby.topic.clone(),
            standby.partition.to_string(),
            standby.position.to_string(),
            known(standby.lag),
        ]);
    }
    table
}

/// How far a group is behind.
pub(super) fn lag(partitions: &[PartitionLag]) -> String {
    if partitions.is_empty() {
        return "The pipeline reads no topic.\n".to_owned();
    }
    let titles = [
        ("TOPIC", TEXT),
        ("PARTITION", NUMBER),
        ("COMMITTED", NUMBER),
        ("END", NUMBER),
        ("LAG", NUMBER),
    ];
    let mut table = Table::new(titles);
    for of in partitions {
        table.rows.push([
            of.topic.clone(),
            of.partition.to_string(),
            known(of.committed),
            known(of.end),
            known(of.lag),
        ]);
    }
    let mut text = String::new();
    table.write(&mut text);
    text
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn quantile(latency: &Latency, q: f64) -> String {
    latency.quantile(q).map_or_else(|| "-".to_owned(), |s| format!("{:.1} ms", 1000.0 * s))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use wasmill::admin::status::{Input, Restore, Stage, Standby, Worker};

    use super::*;

    fn task(partition: u32, lag: Option<u64>) -> Task {
        let mut stage = Stage { name: "clean".into(), ..Stage::default() };
        (stage.counts.records_in, stage.counts.late) = (1_000, 7);
        let input =
            Input { topic: "raw".into(), partition, next: Some(42), lag, ..Input::default() };
        Task {
            subtopology: 1,
            partition,
            worker: "0".into(),
            watermark_ms: Some(0),
            stages: vec![stage],
            inputs: vec![input],
            ..Task::default()
        }
    }

    #[test]
    fn what_runs_is_shown_by_partition_and_what_is_not_known_as_a_dash() {
        let mut commits = Latency::default();
        commits.observe(Duration::from_millis(4));
        let tasks = [("1-10", task(10, Some(5))), ("1-2", task(2, None))];
        let standby = Standby { topic: "c".into(), partition: 3, position: 80, lag: Some(9) };
        let of = Status {
            pipeline: "weblog".into(),
            group: Some("g".into()),
            uptime_seconds: 12.4,
            records: 3,
            bytes: 456,
            tasks: tasks.map(|(name, task)| (name.to_owned(), task)).into(),
            assignments: BTreeMap::from([("1-2".to_owned(), 3)]),
            workers: BTreeMap::from([("0".to_owned(), Worker { commits, ..Worker::default() })]),
            restores: vec![Restore {
                topic: "c".into(),
                partition: 4,
                from: 0,
                position: 30,
                end: 40,
            }],
            standbys: BTreeMap::from([("1-3".to_owned(), standby)]),
        };
        assert_eq!(
            status(&of),
            "weblog on Kafka, group g: running for 12 s, 3 records and 456 bytes read\n\
             \n\
             TASK  WORKER  ASSIGNED  WATERMARK                 LAG  STATE BYTES\n\
             1-2        0         3  1970-01-01T00:00:00.000Z    -            0  runs\n\
             1-10       0         -  1970-01-01T00:00:00.000Z    5            0  runs\n\
             \n\
             TASK  INPUT  PARTITION  NEXT  LAG  WATERMARK\n\
             1-2   raw            2    42    -  -\n\
             1-10  raw           10    42    5  -\n\
             \n\
             STAGE  TASK    IN  OUT  DEAD  INVALID  LATE  EXPIRED\n\
             clean  1-2   1000    0     0        0     7        0\n\
             clean  1-10  1000    0     0        0     7        0\n\
             \n\
             WORKER  UNITS  OPENING  REBALANCES  COMMITS     P50     P99  ROLLBACKS\n\
             0           0        0           0        1  4.0 ms  5.0 ms          0\n\
             \n\
             RESTORE FROM  PARTITION  POSITION  END  DONE\n\
             c                     4        30   40  75 %\n\
             \n\
             STANDBY OF  CHANGELOG  PARTITION  POSITION  LAG\n\
             1-3         c                  3        80    9\n"
        );
    }

    #[test]
    fn a_run_that_has_just_begun_has_no_empty_tables() {
        let of = Status { pipeline: "p".into(), ..Status::default() };
        assert_eq!(status(&of), "p: running for 0 s, 0 records and 0 bytes read\n");
    }

    #[test]
    fn lag_is_shown_by_partition() {
        let of = |partition, committed, lag| PartitionLag {
            topic: "raw".into(),
            partition,
            committed,
            end: Some(90),
            lag,
        };
        assert_eq!(
            lag(&[of(0, Some(80), Some(10)), of(1, None, None)]),
            "TOPIC  PARTITION  COMMITTED  END  LAG\n\
             raw            0         80   90   10\n\
             raw            1          -   90    -\n"
        );
    }
}
