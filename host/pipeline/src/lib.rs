//! Reads a pipeline file, checks it, and cuts the pipeline into sub-topologies.
//!
//! Invariant: nothing here does I/O but [`Draft::load`], which reads the one file; the same text and
//! the same ports always give the same plan.
//!
//! A pipeline file is TOML. This is one with the most usual keys; the `README.md` of this crate has
//! all of them, with their ranges and defaults.
//!
//! ```toml
//! name = "weblog"
//!
//! [source.raw]
//! path = "logs/*.log"
//! out-of-orderness = "60s"
//!
//! [topic.raw]
//! from = "source.raw"
//! partitions = 4
//!
//! [stage.clean]
//! plugin = "clean"
//! from = "topic.raw"
//!
//! [stage.sessionize]
//! plugin = "sessionize"
//! from = "stage.clean"
//! key-by = "visitor"
//! [stage.sessionize.config]
//! gap = "30m"
//!
//! [sink.out]
//! from = "stage.sessionize"
//! path = "out/sessions-{partition}.jsonl"
//! ```
//!
//! What happens to it:
//!
//! 1. [`Pipeline::load`] reads it into typed options and reports every problem at once, each a
//!    [`Diagnostic`] that shows its line. A `--set` counts as if it were written in the file.
//!    [`Draft::load`] does the same for those that go on to look for problems of plugins and sources.
//! 2. Whoever has loaded the plugins tells [`Plan::of`] their ports. It decides where records have to
//!    go through a topic and which stages share a task.
//!
//! How the cut is made:
//!
//! - Topics separate. A stage that reads a topic belongs to a sub-topology that reads it; a stage that
//!   reads another stage, or a source of files, is in one sub-topology with it.
//! - A stage that keeps state by key needs all records of a key in one task. Records of a topic are
//!   partitioned by their key until a stage's output says that it assigns keys; those of files are
//!   not. Where they are not, a topic `PIPELINE-STAGE-repartition` comes between
//!   (`PIPELINE-STAGE-PORT-repartition` for plugins with several inputs), with as many partitions as
//!   the stage's other inputs have. `repartition = false` in a stage prevents it.
//! - `key-by` always goes through such a topic. On a topic it gives the key to what comes in.
//! - A stage with state that is reached from several inputs needs as many partitions of each.
//!
//! ```
//! use wasmill_abi::{InputPort, OutputPort, Ports};
//! use wasmill_pipeline::{Catalog, Pipeline, Plan, Plugin};
//!
//! struct OneStage(Ports);
//! impl Catalog for OneStage {
//!     fn plugin(&self, _stage: usize) -> Plugin<'_> {
//!         Plugin { ports: &self.0, keyed: false }
//!     }
//! }
//!
//! let text = r#"
//! name = "copy"
//! [source.in]
//! type = "stdin"
//! [stage.upper]
//! plugin = "upper"
//! from = "source.in"
//! [sink.out]
//! type = "stdout"
//! from = "stage.upper"
//! "#;
//! let pipeline = Pipeline::parse("copy.toml".as_ref(), text, &[]).unwrap();
//! let input = InputPort { name: "in".into(), ..InputPort::default() };
//! let output = OutputPort { name: "out".into(), ..OutputPort::default() };
//! let catalog = OneStage(Ports { inputs: vec![input], outputs: vec![output] });
//! let plan = Plan::of(&pipeline, &catalog, &|_source| 1).unwrap();
//! assert_eq!(plan.subtopologies.len(), 1);
//! ```

pub mod plan;
pub mod units;

mod check;
mod diagnostic;
mod document;
mod draft;
mod graph;
mod kafka;
mod pipeline;
mod section;

pub use diagnostic::{At, Diagnostic, Excerpt, Severity};
pub use draft::Draft;
pub use kafka::{Guarantee, Kafka, Rebalance};
pub use pipeline::{
    Compression, Encoding, Engine, Feed, Format, KeyBy, Limits, LostOffsets, OnFailure, Pattern,
    Pipeline, PluginRef, Policy, Reference, Rejects, Resource, Sink, SinkFormat, SinkKind, Source,
    SourceKind, Stage, Start, Topic,
};
pub use plan::{Catalog, Plan, Plugin};
pub use units::{parse_bytes, parse_duration};
