//! Plugins by name, for pipelines of tests.

use wasmill_abi::{InputPort, OutputPort, Ports, Treatment};
use wasmill_pipeline::{Catalog, Diagnostic, Pipeline, Plan, Plugin, PluginRef};

/// The ports of the plugins that a pipeline names.
pub struct Known(Vec<(Ports, bool)>);

impl Known {
    /// Looks up the plugin of every stage: `map` (stateless), `split` (stateless, outputs `out` and
    /// `bots`), `rekey` and `timestamp` (stateless, assign key and event time), `count` (keyed),
    /// `sessionize` (keyed, output `final`), `join` (keyed, inputs `left` and `right`), `merge`
    /// (stateless, the same inputs).
    pub fn of(pipeline: &Pipeline) -> Self {
        let stages = pipeline.stages.iter();
        Self(
            stages
                .map(|stage| match &stage.plugin {
                    PluginRef::Name(name) => plugin(name),
                    PluginRef::File(_) => plugin("map"),
                })
                .collect(),
        )
    }
}

impl Catalog for Known {
    fn plugin(&self, stage: usize) -> Plugin<'_> {
        let (ports, keyed) = &self.0[stage];
        Plugin { ports, keyed: *keyed }
    }
}

fn plugin(name: &str) -> (Ports, bool) {
    let input = |name: &str| InputPort { name: name.into(), ..InputPort::default() };
    let output = |name: &str| OutputPort { name: name.into(), ..OutputPort::default() };
    let ports = |inputs: &[&str], outputs: &[&str]| Ports {
        inputs: inputs.iter().map(|n| input(n)).collect(),
        outputs: outputs.iter().map(|n| output(n)).collect(),
    };
    let mut one = ports(&["in"], &["out"]);
    match name {
        "map" => (one, false),
        "split" => (ports(&["in"], &["out", "bots"]), false),
        "rekey" => {
            one.outputs[0].key = Treatment::Assigned;
            (one, false)
        }
        "branch" => {
            one.outputs.push(OutputPort { key: Treatment::Assigned, ..output("rekeyed") });
            (one, false)
        }
        "timestamp" => {
            one.outputs[0].event_time = Treatment::Assigned;
            (one, false)
        }
        "count" => (one, true),
        "sessionize" => (ports(&["in"], &["final"]), true),
        "join" => (ports(&["left", "right"], &["out"]), true),
        "merge" => (ports(&["left", "right"], &["out"]), false),
        _ => panic!("a test names the plugin {name:?}, which it does not have"),
    }
}

/// Checks and plans a pipeline; each source has as many partitions as its name says with its last
/// digit, otherwise 3.
pub fn plan(text: &str) -> Result<(Pipeline, Plan), Vec<Diagnostic>> {
    plan_with(text, &[])
}

/// As [`plan`], with `--set`s.
pub fn plan_with(
    text: &str,
    sets: &[(String, String)],
) -> Result<(Pipeline, Plan), Vec<Diagnostic>> {
    let pipeline = Pipeline::parse("p.toml".as_ref(), text, sets)?;
    let partitions = |source: usize| {
        let last = pipeline.sources[source].name.chars().next_back();
        last.and_then(|c| c.to_digit(10)).unwrap_or(3)
    };
    let plan = Plan::of(&pipeline, &Known::of(&pipeline), &partitions)?;
    Ok((pipeline, plan))
}
