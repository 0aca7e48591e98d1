//! The metrics, for Prometheus: their names, units and meanings.
//!
//! Invariant: every metric is declared here and nowhere else; all have the labels `pipeline` and, on
//! Kafka, `group`. Values of labels are names that pipeline files and Kafka allow, so that none holds a
//! character with a meaning in the text.

use std::borrow::Cow;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use wasmill_abi::{WATERMARK_END, WATERMARK_START};

use super::latency::{BOUNDS, Latency};
use super::status::{Input, Restore, Stage, Standby, Status, Task, Worker};

/// The figures of a run as OpenMetrics text, which Prometheus reads.
///
/// Specification: <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>
pub fn text(status: Status) -> String {
    let label = |name: &'static str, value: &str| (Cow::from(name), Cow::from(value.to_owned()));
    let group = status.group.as_deref().map(|group| label("group", group));
    let labels = [label("pipeline", &status.pipeline)].into_iter().chain(group);
    let mut registry = Registry::with_prefix_and_labels("wasmill", labels);
    registry.register_collector(Box::new(Figures(status)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("writing into a string does not fail");
    text
}

#[derive(Debug)]
struct Figures(Status);

/// The value of a sample.
enum Value<'a> {
    Counter(u64),
    Gauge(f64),
    Histogram(&'a Latency),
}

impl Value<'_> {
    fn of(yes: bool) -> Self {
        Self::Gauge(f64::from(u8::from(yes)))
    }

    /// A count that may go down.
    fn level(count: u64) -> Self {
        Self::Gauge(count as f64)
    }

    /// A watermark in seconds; none at the beginning and at the end of time.
    fn watermark(ms: Option<i64>) -> Option<Self> {
        let ms = ms.filter(|ms| ![WATERMARK_START, WATERMARK_END].contains(ms))?;
        Some(Self::Gauge(ms as f64 / 1000.0))
    }

    fn kind(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) => MetricType::Gauge,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn write(&self, mut to: MetricEncoder<'_>) -> Result<(), Error> {
        match self {
            Self::Counter(count) => to.encode_counter::<NoLabelSet, _, u64>(count, None),
            Self::Gauge(value) => to.encode_gauge(value),
            Self::Histogram(latency) => {
                let bounds = BOUNDS.into_iter().chain([f64::MAX]);
                let counts = latency.buckets.iter().copied().chain(std::iter::repeat(0));
                let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
                to.encode_histogram::<NoLabelSet>(
                    latency.sum_seconds,
                    latency.count,
                    &buckets,
                    None,
                )
            }
        }
    }
}

type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;
type Samples<'a> = Vec<(Labels<'a>, Value<'a>)>;

/// Writes a metric with its samples; nothing when it has none.
fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &Samples<'_>,
) -> Result<(), Error> {
    let Some((_, first)) = samples.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.kind())?;
    for (labels, value) in samples {
        if labels.is_empty() {
            return value.write(family);
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_ref())).collect();
        value.write(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut put = |name, help, samples: Samples<'_>| write(&mut encoder, name, help, &samples);
        let one = |value| vec![(Vec::new(), value)];
        put("uptime_seconds", "How long the run has been going on", {
            one(Value::Gauge(self.0.uptime_seconds))
        })?;
        put("read_records", "Records read from outside", one(Value::Counter(self.0.records)))?;
        put("read_bytes", "Bytes read from outside", one(Value::Counter(self.0.bytes)))?;

        let counter = |of: fn(&Stage) -> u64| self.stages(|stage| Value::Counter(of(stage)));
        put("stage_records_in", "Records that reached a stage", counter(|s| s.counts.records_in))?;
        put("stage_records_out", "Records that a stage gave", counter(|s| s.counts.records_out))?;
        put("stage_rejected_records", "Records that a stage rejected, by kind", self.rejected())?;
        put(
            "stage_poison_records",
            "Records and timers that made the plugin fail",
            counter(|s| s.counts.poison),
        )?;
        put("stage_calls", "Calls of the plugin", counter(|s| s.counts.calls))?;
        put(
            "stage_failed_calls",
            "Calls of the plugin that failed",
            counter(|s| s.counts.failed_calls),
        )?;
        put("stage_timers", "Timers that ran", counter(|s| s.counts.timers))?;

        put(
            "task_watermark_timestamp_seconds",
            "The watermark behind the last stage of a task; none before the first record and after \
             the last",
            self.tasks(|task| Value::watermark(task.watermark_ms)),
        )?;
        put(
            "task_state_bytes",
            "Keyed state of a task that is in memory",
            self.tasks(|task| Some(Value::level(task.state_bytes))),
        )?;
        put(
            "task_full",
            "Whether a task reads nothing until its state is applied: 0 or 1",
            self.tasks(|task| Some(Value::of(task.full))),
        )?;
        put(
            "task_ended",
            "Whether the inputs of a task have ended: 0 or 1",
            self.tasks(|task| Some(Value::of(task.ended))),
        )?;
        put(
            "task_assignments",
            "How often a task was assigned to a worker of this process",
            self.assignments(),
        )?;

        put(
            "input_next_offset",
            "The offset that a task reads next; of files, the line",
            self.inputs(|input| input.next.map(Value::level)),
        )?;
        put(
            "input_lag_offsets",
            "Offsets between what a task reads next and the end of the partition",
            self.inputs(|input| input.lag.map(Value::level)),
        )?;
        put(
            "input_watermark_timestamp_seconds",
            "The watermark of an input of a task",
            self.inputs(|input| Value::watermark(input.watermark_ms)),
        )?;

        put(
            "worker_rebalances",
            "How often the group gave a worker partitions or took some",
            self.workers(|worker| Value::Counter(worker.rebalances)),
        )?;
        put(
            "worker_assigned_units",
            "Units of tasks that a worker has",
            self.workers(|worker| Value::level(worker.units)),
        )?;
        put(
            "worker_opening_units",
            "Units of tasks that are being opened or restored",
            self.workers(|worker| Value::level(worker.opening)),
        )?;
        put(
            "worker_rollbacks",
            "How often what was not committed was dropped and done again",
            self.workers(|worker| Value::Counter(worker.rollbacks)),
        )?;
        put(
            "commit_latency_seconds",
            "How long commits took",
            self.workers(|worker| Value::Histogram(&worker.commits)),
        )?;

        let restores = |of: fn(&Restore) -> f64| self.restores(of);
        put("restore_position", "The offset that a restore reads next", {
            restores(|r| r.position as f64)
        })?;
        put("restore_end", "The offset where a restore ends", restores(|r| r.end as f64))?;
        put("restore_ratio", "How much of a restore is done: 0 to 1", restores(Restore::ratio))?;
        put(
            "standby_position",
            "The offset of the changelog that a copy of a task's state reads next",
            self.standbys(|standby| Some(Value::Gauge(standby.position as f64))),
        )?;
        put(
            "standby_lag_offsets",
            "Offsets between what a copy of a task's state reads next and the end of the changelog",
            self.standbys(|standby| standby.lag.map(Value::level)),
        )
    }
}

impl Figures {
    fn stages<'a>(&'a self, of: impl Fn(&'a Stage) -> Value<'a>) -> Samples<'a> {
        let tasks = self.0.tasks.iter();
        let stages = tasks.flat_map(|(name, task)| task.stages.iter().map(move |s| (name, s)));
        stages.map(|(task, stage)| (of_stage(task, stage), of(stage))).collect()
    }

    fn rejected(&self) -> Samples<'_> {
        let mut samples = Vec::new();
        for (name, task) in &self.0.tasks {
            for stage in &task.stages {
                let c = &stage.counts;
                let kinds = [
                    ("malformed", c.dead),
                    ("invalid", c.invalid),
                    ("late", c.late),
                    ("expired", c.expired),
                ];
                for (kind, count) in kinds {
                    let mut labels = of_stage(name, stage);
                    labels.push(("kind", kind.into()));
                    samples.push((labels, Value::Counter(count)));
                }
            }
        }
        samples
    }

    fn tasks<'a>(&'a self, of: impl Fn(&'a Task) -> Option<Value<'a>>) -> Samples<'a> {
        let tasks = self.0.tasks.iter();
        tasks.filter_map(|(name, task)| Some((of_task(name), of(task)?))).collect()
    }

    fn assignments(&self) -> Samples<'_> {
        let counts = self.0.assignments.iter();
        counts.map(|(task, count)| (of_task(task), Value::Counter(*count))).collect()
    }

    fn inputs<'a>(&'a self, of: impl Fn(&'a Input) -> Option<Value<'a>>) -> Samples<'a> {
        let mut samples = Vec::new();
        for (name, task) in &self.0.tasks {
            for input in &task.inputs {
                let mut labels = of_task(name);
                labels.extend(of_partition(&input.topic, input.partition));
                samples.extend(of(input).map(|value| (labels, value)));
            }
        }
        samples
    }

    fn workers<'a>(&'a self, of: impl Fn(&'a Worker) -> Value<'a>) -> Samples<'a> {
        let workers = self.0.workers.iter();
        workers.map(|(name, worker)| (vec![("worker", name.into())], of(worker))).collect()
    }

    fn standbys(&self, of: fn(&Standby) -> Option<Value<'static>>) -> Samples<'_> {
        let mut samples = Vec::new();
        for (task, standby) in &self.0.standbys {
            let mut labels = of_task(task);
            labels.extend(of_partition(&standby.topic, standby.partition));
            samples.extend(of(standby).map(|value| (labels, value)));
        }
        samples
    }

    fn restores(&self, of: fn(&Restore) -> f64) -> Samples<'_> {
        let restores = self.0.restores.iter();
        restores
            .map(|r| (of_partition(&r.topic, r.partition).into(), Value::Gauge(of(r))))
            .collect()
    }
}

fn of_task(name: &str) -> Labels<'_> {
    vec![("task", name.into())]
}

fn of_partition(topic: &str, partition: u32) -> [(&'static str, Cow<'_, str>); 2] {
    [("topic", topic.into()), ("partition", partition.to_string().into())]
}

fn of_stage<'a>(task: &'a str, stage: &'a Stage) -> Labels<'a> {
    vec![("task", task.into()), ("stage", stage.name.as_str().into())]
}

#[cfg(test)]
mod tests;
