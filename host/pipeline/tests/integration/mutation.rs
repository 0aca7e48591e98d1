//! No text makes reading or planning panic.

use std::collections::BTreeSet;

use proptest::prelude::*;
use wasmill_pipeline::plan::{InputFrom, SubTopology, Target};
use wasmill_pipeline::{Pipeline, Plan, PluginRef};

use crate::catalog::plan;

/// A file with every key.
pub const EVERYTHING: &str = include_str!("../golden/everything.toml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_file_is_read_or_refused(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..40, any::<prop::sample::Index>()), 0..4),
        typed in proptest::collection::vec((any::<prop::sample::Index>(), "[a-z0-9\\[\\]{}\"'=.,\\n #é\\-]{1,6}"), 0..4),
    ) {
        let mut chars: Vec<char> = EVERYTHING.chars().collect();
        for (from, length, to) in cuts {
            let from = from.index(chars.len());
            let end = (from + length).min(chars.len());
            let piece: Vec<char> = chars.drain(from..end).collect();
            let to = to.index(chars.len() + 1);
            chars.splice(to..to, piece);
        }
        for (at, text) in typed {
            let at = at.index(chars.len() + 1);
            chars.splice(at..at, text.chars());
        }
        let text: String = chars.into_iter().collect();
        if let Err(problems) = Pipeline::parse("p.toml".as_ref(), &text, &[]) {
            prop_assert!(problems.iter().any(|d| d.is_error()));
            for problem in problems {
                prop_assert!(problem.to_string().lines().count() >= 2);
                if let (Some(at), Some(excerpt)) = (problem.at, problem.excerpt) {
                    let line = text.split('\n').nth(at.line as usize - 1).unwrap();
                    match excerpt.line.strip_suffix("***") {
                        // A secret is hidden.
                        Some(shown) => prop_assert!(line.starts_with(shown)),
                        None => prop_assert_eq!(line.trim_end_matches('\r'), excerpt.line),
                    }
                    prop_assert!((at.column as usize) <= line.chars().count() + 1);
                }
            }
        }
    }

    #[test]
    fn any_set_is_applied_or_refused(path in "[a-z.\"\\[\\]0-9=\\-]{0,20}", value in ".{0,12}") {
        let sets = [(path, value)];
        if let Err(problems) = Pipeline::parse("p.toml".as_ref(), EVERYTHING, &sets) {
            for problem in problems {
                prop_assert!(problem.to_string().contains("--> "));
            }
        }
    }

    #[test]
    fn any_graph_is_planned_or_refused(text in graph()) {
        let first = plan(&text);
        match (&first, plan(&text)) {
            (Ok((_, a)), Ok((_, b))) => prop_assert_eq!(a, &b),
            (Err(a), Err(b)) => prop_assert_eq!(a, &b),
            _ => prop_assert!(false, "the outcome differs from run to run"),
        }
        if let Ok((pipeline, plan)) = first {
            check(&pipeline, &plan);
        }
    }
}

/// What can be read, each item once it has been written; sources first.
const READABLE: [&str; 13] = [
    "source.a1",
    "source.b",
    "source.t4",
    "topic.ext",
    "stage.p",
    "stage.p.rekeyed",
    "topic.x",
    "stage.q",
    "topic.dead",
    "topic.y",
    "stage.r",
    "topic.z",
    "stage.s",
];

/// What an item reads: now and then anything, mostly one or two of the first `before` of
/// [`READABLE`].
fn from(before: usize) -> impl Strategy<Value = String> {
    let range = prop_oneof![30 => Just(before), 1 => Just(READABLE.len())];
    let picks = range.prop_flat_map(|n| proptest::collection::btree_set(0..n, 1..3));
    picks.prop_map(|set| format!("{:?}", set.into_iter().map(|i| READABLE[i]).collect::<Vec<_>>()))
}

/// A stage that reads some of the first `before` items, and rejects where nothing reads.
fn stage(name: &'static str, before: usize) -> impl Strategy<Value = String> {
    let plugin = match name {
        "p" => vec!["branch"],
        _ => vec!["map", "rekey", "count", "timestamp", "count"],
    };
    let plugin = prop::sample::select(plugin);
    let key = prop::sample::select(vec!["", "", "key-by = \"id\"", "repartition = false"]);
    let rejects = match name {
        "p" | "q" => "",
        _ => "rejects = { malformed = \"a\", invalid = \"b\", late = \"c\", expired = \"d\" }",
    };
    (plugin, from(before), key).prop_map(move |(plugin, from, key)| {
        format!("[stage.{name}]\nplugin = {plugin:?}\nfrom = {from}\n{key}\n{rejects}\n")
    })
}

/// Pipelines of four stages, five topics and a sink that read each other at random.
fn graph() -> impl Strategy<Value = String> {
    let topic = |name: &'static str, before| {
        from(before).prop_map(move |from| format!("[topic.{name}]\nfrom = {from}\n"))
    };
    let items = (
        (stage("p", 4), topic("x", 6), stage("q", 7), topic("y", 9)),
        (stage("r", 10), topic("z", 11), stage("s", 12), from(READABLE.len())),
    );
    items.prop_map(|((p, x, q, y), (r, z, s, sink))| {
        format!(
            "name = \"g\"\n[source.a1]\ntype = \"stdin\"\n[source.b]\npath = \"f\"\n[source.t4]\n\
             topic = \"t\"\n[topic.ext]\n[topic.dead]\n{p}{q}{r}{s}{x}{y}{z}\
             [sink.o]\nfrom = {sink}\ntype = \"stdout\"\n"
        )
    })
}

/// What [`wasmill_pipeline::plan`] promises of every plan.
fn check(pipeline: &Pipeline, plan: &Plan) {
    let mut placed = vec![0; pipeline.stages.len()];
    for (id, subtopology) in plan.subtopologies.iter().enumerate() {
        assert_eq!(subtopology.id, id);
        let most = subtopology.inputs.iter().map(|i| i.partitions).max();
        assert_eq!(most, Some(subtopology.partitions));
        check_keys(pipeline, subtopology);
        for input in &subtopology.inputs {
            assert!(!input.targets.is_empty());
            if let InputFrom::Topic(topic) = input.from {
                let topic = &plan.topics[topic];
                assert_eq!(topic.partitions, input.partitions);
                assert!(topic.producers.iter().all(|p| *p < id), "{}", plan.describe());
            }
        }
        for (index, node) in subtopology.nodes.iter().enumerate() {
            placed[node.stage] += 1;
            for target in node.outputs.iter().flat_map(|o| &o.targets) {
                if let Target::Node { node, .. } = target {
                    assert!(*node > index, "{}", plan.describe());
                }
            }
        }
    }
    assert!(placed.iter().all(|p| *p == 1), "{}", plan.describe());
    let reads = |source: usize| {
        let inputs = plan.subtopologies.iter().flat_map(|s| &s.inputs);
        inputs.filter(|i| i.from == InputFrom::Source(source)).count()
    };
    assert!(reads(0) <= 1, "standard input is read twice: {}", plan.describe());
}

/// No stage with state sees records that are not partitioned by their key, unless it says so.
fn check_keys(pipeline: &Pipeline, subtopology: &SubTopology) {
    let plugin = |stage: usize| match &pipeline.stages[stage].plugin {
        PluginRef::Name(name) => name.as_str(),
        PluginRef::File(_) => "",
    };
    // For each node the partition counts of what reaches it, and whether all of it is partitioned.
    let mut reach = vec![(BTreeSet::new(), true); subtopology.nodes.len()];
    for input in &subtopology.inputs {
        for target in &input.targets {
            if let Target::Node { node, .. } = target {
                reach[*node].0.insert(input.partitions);
                reach[*node].1 &= matches!(input.from, InputFrom::Topic(_));
            }
        }
    }
    for (index, node) in subtopology.nodes.iter().enumerate() {
        let (counts, mut partitioned) = reach[index].clone();
        partitioned |= !pipeline.stages[node.stage].repartition;
        if plugin(node.stage) == "count" {
            assert!(partitioned && counts.len() == 1);
        }
        for (number, output) in node.outputs.iter().enumerate() {
            let kept = match plugin(node.stage) {
                "rekey" => false,
                "branch" => number == 0,
                _ => true,
            };
            for target in &output.targets {
                if let Target::Node { node, .. } = target {
                    reach[*node].0.extend(&counts);
                    reach[*node].1 &= partitioned && kept;
                }
            }
        }
    }
}

#[test]
fn deep_nesting_is_read_or_refused() {
    let deep = 50_000;
    let texts = [
        format!("name = \"x\"\n{}x = 1", "a.".repeat(deep)),
        format!("[{}x]", "a.".repeat(deep)),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{ a = ".repeat(deep)),
    ];
    for text in texts {
        assert!(Pipeline::parse("p.toml".as_ref(), &text, &[]).is_err());
    }
    let sets = [
        ("a.".repeat(deep) + "x", "1".to_owned()),
        ("stage.a.config".to_owned(), "[".repeat(deep)),
    ];
    for set in sets {
        assert!(Pipeline::parse("p.toml".as_ref(), "name = \"x\"", &[set]).is_err());
    }
}
