//! How pipelines are cut.

use wasmill_pipeline::plan::{Clock, Input, InputFrom, Output, Target, TopicKind};
use wasmill_pipeline::{KeyBy, Plan, Policy};

use crate::catalog::plan;

/// Plans a pipeline that must be right.
fn planned(items: &str) -> Plan {
    match plan(&format!("name = \"p\"\n{items}")) {
        Ok((_, plan)) => plan,
        Err(problems) => {
            let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", shown.join("\n"))
        }
    }
}

/// The messages of a pipeline that must be refused.
fn refused(items: &str) -> Vec<String> {
    let problems = plan(&format!("name = \"p\"\n{items}")).unwrap_err();
    problems.iter().filter(|d| d.is_error()).map(|d| format!("{}: {}", d.path, d.message)).collect()
}

fn node(node: usize) -> Target {
    Target::Node { node, port: 0 }
}

fn topic(topic: usize) -> Target {
    Target::Topic { topic, key_by: None }
}

const RAW: &str = "[source.raw2]\npath = \"x\"\nout-of-orderness = \"60s\"\n";
const OUT: &str = "[sink.out]\ntype = \"stdout\"\n";

#[test]
fn stages_that_read_each_other_are_fused() {
    let plan = planned(&format!(
        "{RAW}{OUT}from = \"stage.b\"\n\
         [stage.b]\nplugin = \"map\"\nfrom = \"stage.a\"\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"source.raw2\"\n"
    ));
    let [only] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert_eq!(only.partitions, 2);
    let policy = Policy { out_of_orderness_ms: 60_000, idle_timeout_ms: None };
    assert_eq!(
        only.inputs,
        [Input {
            from: InputFrom::Source(0),
            partitions: 2,
            clock: Clock::Generated(policy),
            targets: vec![node(0)],
        }]
    );
    // In the order of the stream, not of the file.
    assert_eq!(only.nodes.iter().map(|n| n.stage).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(only.nodes[0].outputs[0].targets, [node(1)]);
    assert_eq!(only.nodes[1].outputs[0].targets, [Target::Sink(0)]);
    let names: Vec<_> = only.nodes[0].rejects.iter().map(|t| &plan.topics[*t].name).collect();
    assert_eq!(names, ["dead", "invalid", "late", "expired"]);
}

#[test]
fn records_of_files_are_repartitioned_for_a_stage_with_state() {
    let plan = planned(&format!(
        "{RAW}format = \"jsonl\"\nkey = \"id\"\n{OUT}from = \"stage.b\"\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"source.raw2\"\n\
         [stage.b]\nplugin = \"count\"\nfrom = \"stage.a\"\n"
    ));
    let [first, second] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert_eq!(plan.topics[0].name, "p-b-repartition");
    assert_eq!(plan.topics[0].kind, TopicKind::Repartition { stage: 1, port: 0 });
    assert_eq!((plan.topics[0].partitions, &plan.topics[0].producers), (4, &vec![0]));
    assert_eq!(first.nodes[0].outputs[0].targets, [topic(0)]);
    assert_eq!((first.partitions, second.partitions), (2, 4));
    assert_eq!(second.inputs[0].from, InputFrom::Topic(0));
    assert_eq!(second.inputs[0].clock, Clock::Carried);
    assert_eq!(second.inputs[0].targets, [node(0)]);
}

#[test]
fn repartition_false_takes_the_input_as_it_is() {
    let plan = planned(&format!(
        "{RAW}format = \"jsonl\"\nkey = \"id\"\n{OUT}from = \"stage.b\"\n\
         [stage.b]\nplugin = \"count\"\nfrom = \"source.raw2\"\nrepartition = false\n\
         [stage.c]\nplugin = \"count\"\nfrom = \"stage.b\"\n[sink.c]\ntype = \"stdout\"\nfrom = \"stage.c\"\n"
    ));
    let [only] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert_eq!(only.nodes.len(), 2);
    assert!(plan.topics.iter().all(|t| t.kind == TopicKind::Rejects));
}

#[test]
fn records_of_a_topic_stay_partitioned_until_a_stage_assigns_keys() {
    let items = |plugin: &str| {
        format!(
            "[topic.in]\n{OUT}from = \"stage.b\"\n\
             [stage.a]\nplugin = \"{plugin}\"\nfrom = \"topic.in\"\n\
             [stage.b]\nplugin = \"count\"\nfrom = \"stage.a\"\n"
        )
    };
    assert_eq!(planned(&items("map")).subtopologies.len(), 1);
    let plan = planned(&items("rekey"));
    assert_eq!(plan.subtopologies.len(), 2);
    assert_eq!(plan.subtopologies[0].inputs[0].clock, Clock::Generated(Policy::default()));
    assert_eq!(plan.topics[0].kind, TopicKind::External { source: None });
}

#[test]
fn a_stage_without_state_needs_no_repartitioning() {
    let plan = planned(&format!(
        "{RAW}{OUT}from = \"stage.b\"\n\
         [stage.a]\nplugin = \"rekey\"\nfrom = \"source.raw2\"\n\
         [stage.b]\nplugin = \"map\"\nfrom = \"stage.a\"\n"
    ));
    assert_eq!(plan.subtopologies.len(), 1);
}

#[test]
fn key_by_goes_through_a_topic_even_from_a_topic() {
    let plan = planned(&format!(
        "[topic.in]\n{OUT}from = \"stage.b\"\n\
         [stage.b]\nplugin = \"map\"\nfrom = \"topic.in\"\nkey-by = \"user.id\"\n"
    ));
    let [first, second] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    let field = KeyBy::Field(vec!["user".into(), "id".into()]);
    assert!(first.nodes.is_empty());
    assert_eq!(first.inputs[0].from, InputFrom::Topic(0));
    assert_eq!(first.inputs[0].targets, [Target::Topic { topic: 1, key_by: Some(field) }]);
    assert_eq!(second.inputs[0].from, InputFrom::Topic(1));
    assert_eq!(plan.topics[1].name, "p-b-repartition");
}

#[test]
fn a_topic_can_give_the_key_to_what_feeds_it() {
    let plan = planned(&format!(
        "{RAW}{OUT}from = \"stage.b\"\n\
         [topic.in]\nfrom = \"source.raw2\"\npartitions = 3\nkey-by = {{ constant = \"all\" }}\n\
         [stage.b]\nplugin = \"count\"\nfrom = \"topic.in\"\n"
    ));
    let [first, second] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert!(first.nodes.is_empty());
    let key_by = Some(KeyBy::Constant("all".into()));
    assert_eq!(first.inputs[0].targets, [Target::Topic { topic: 0, key_by }]);
    assert_eq!((first.partitions, second.partitions), (2, 3));
    assert_eq!(plan.topics[0].kind, TopicKind::Fed);
    assert_eq!(second.inputs[0].clock, Clock::Carried);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn ports_with_the_same_number_of_partitions_are_joined() {
    let plan = planned(&format!(
        "[source.l4]\ntopic = \"l\"\n[topic.r]\npartitions = 4\n{OUT}from = \"stage.join\"\n\
         [stage.join]\nplugin = \"join\"\nfrom = {{ left = \"source.l4\", right = \"topic.r\" }}\n"
    ));
    let [only] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    let targets: Vec<_> = only.inputs.iter().map(|i| i.targets.clone()).collect();
    // The declared topic has the first index.
    assert_eq!(plan.topics[0].name, "r");
    assert_eq!(
        targets,
        [vec![Target::Node { node: 0, port: 1 }], vec![Target::Node { node: 0, port: 0 }]]
    );
    assert_eq!(plan.topics[1].kind, TopicKind::External { source: Some(0) });
}

#[test]
fn ports_with_different_numbers_of_partitions_are_refused() {
    let problems = refused(&format!(
        "[source.l5]\ntopic = \"l\"\n[topic.r]\npartitions = 4\n{OUT}from = \"stage.join\"\n\
         [stage.join]\nplugin = \"join\"\nfrom = {{ left = \"source.l5\", right = \"topic.r\" }}\n"
    ));
    let expected = "stage.join.from: the inputs are not co-partitioned: topic.r has 4 partitions and \
                    topic.l has 5 partitions";
    assert_eq!(problems, [expected]);
}

#[test]
fn a_repartition_topic_has_as_many_partitions_as_the_other_input() {
    let plan = planned(&format!(
        "{RAW}format = \"jsonl\"\nkey = \"id\"\n[topic.r]\npartitions = 7\n{OUT}from = \"stage.join\"\n\
         [stage.join]\nplugin = \"join\"\nfrom = {{ left = \"source.raw2\", right = \"topic.r\" }}\n"
    ));
    let between = &plan.topics[1];
    assert_eq!((between.name.as_str(), between.partitions), ("p-join-left-repartition", 7));
    assert_eq!(plan.subtopologies[1].inputs.len(), 2);
}

#[test]
fn a_stage_without_state_may_merge_topics_of_different_sizes() {
    let items = "[topic.a]\npartitions = 2\n[topic.b]\npartitions = 5\n\
                 [stage.m]\nplugin = \"map\"\nfrom = [\"topic.a\", \"topic.b\"]\n";
    let plan = planned(&format!("{items}{OUT}from = \"stage.m\"\n"));
    assert_eq!(plan.subtopologies[0].partitions, 5);
    // But a stage with state behind it may not.
    let behind = "[stage.c]\nplugin = \"count\"\nfrom = \"stage.m\"\n";
    let problems = refused(&format!("{items}{behind}{OUT}from = \"stage.c\"\n"));
    assert!(
        problems[0].contains("stage.c.from: the inputs are not co-partitioned"),
        "{problems:?}"
    );
}

#[test]
fn both_outputs_of_a_stage_go_through_the_topic_when_one_has_to() {
    // Reading one output directly, the counting stage would be in the sub-topology that writes its
    // repartition topic, and wait for itself.
    let plan = planned(&format!(
        "[topic.in]\n{OUT}from = \"stage.count\"\n\
         [stage.branch]\nplugin = \"branch\"\nfrom = \"topic.in\"\n\
         [stage.count]\nplugin = \"count\"\nfrom = [\"stage.branch\", \"stage.branch.rekeyed\"]\n"
    ));
    let [first, second] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert!(first.nodes[0].outputs.iter().all(|o: &Output| o.targets == [topic(1)]));
    assert_eq!(second.inputs.len(), 1);
}

#[test]
fn all_readers_of_a_file_share_one_reading_of_it() {
    let plan = planned(&format!(
        "{RAW}{OUT}from = [\"stage.a\", \"stage.b\", \"source.raw2\"]\n\
         [topic.t]\nfrom = \"source.raw2\"\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"source.raw2\"\n\
         [stage.b]\nplugin = \"map\"\nfrom = \"source.raw2\"\n"
    ));
    let [only] = plan.subtopologies.as_slice() else { panic!("{}", plan.describe()) };
    assert_eq!(only.inputs[0].targets, [node(0), node(1), topic(0), Target::Sink(0)]);
}

#[test]
fn a_file_is_read_twice_when_one_reader_waits_for_another() {
    let items = |source: &str| {
        format!(
            "[source.raw]\n{source}\n{OUT}from = \"stage.b\"\n\
             [stage.a]\nplugin = \"map\"\nfrom = \"source.raw\"\n[topic.t]\nfrom = \"stage.a\"\n\
             [stage.b]\nplugin = \"map\"\nfrom = [\"topic.t\", \"source.raw\"]\n"
        )
    };
    let plan = planned(&items("path = \"x\""));
    assert_eq!(plan.subtopologies.len(), 2);
    let froms: Vec<_> = plan.subtopologies[1].inputs.iter().map(|i| i.from).collect();
    assert_eq!(froms, [InputFrom::Source(0), InputFrom::Topic(0)]);
    // Standard input can't be.
    let problems = refused(&items("type = \"stdin\""));
    assert!(problems[0].contains("topic.t"), "{problems:?}");
}

#[test]
fn stages_that_share_a_topic_are_apart() {
    let plan = planned(&format!(
        "[topic.in]\n{OUT}from = [\"stage.a\", \"stage.b\", \"topic.in\"]\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"topic.in\"\n\
         [stage.b]\nplugin = \"map\"\nfrom = \"topic.in\"\n"
    ));
    assert_eq!(plan.subtopologies.len(), 3);
    assert_eq!(plan.subtopologies[2].inputs[0].targets, [Target::Sink(0)]);
}

#[test]
fn assigned_event_times_get_the_largest_bound_upstream() {
    let plan = planned(&format!(
        "{RAW}idle-timeout = \"10s\"\n\
         [source.other]\npath = \"y\"\nout-of-orderness = \"5s\"\nidle-timeout = \"20s\"\n\
         [topic.t]\nfrom = [\"source.raw2\", \"source.other\"]\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"topic.t\"\n\
         [stage.time]\nplugin = \"timestamp\"\nfrom = \"stage.a\"\n{OUT}from = \"stage.time\"\n"
    ));
    let last = plan.subtopologies.last().unwrap();
    let policy = Policy { out_of_orderness_ms: 60_000, idle_timeout_ms: Some(20_000) };
    assert_eq!(last.nodes[0].outputs[0].assigns_event_time, None);
    assert_eq!(last.nodes[1].outputs[0].assigns_event_time, Some(policy));
}

#[test]
fn rejected_records_can_be_processed_by_a_stage_that_rejects_elsewhere() {
    let plan = planned(&format!(
        "{RAW}{OUT}from = [\"stage.a\", \"stage.repair\"]\n\
         [stage.repair]\nplugin = \"map\"\nfrom = \"topic.dead\"\nrejects.malformed = \"lost\"\n\
         [stage.a]\nplugin = \"map\"\nfrom = \"source.raw2\"\n[topic.dead]\npartitions = 2\n"
    ));
    assert_eq!(plan.topics[0].kind, TopicKind::Rejects);
    assert_eq!((plan.topics[0].partitions, &plan.topics[0].producers), (2, &vec![0]));
    assert_eq!(plan.subtopologies[1].inputs[0].clock, Clock::Carried);
}

#[test]
fn a_plugin_with_too_many_outputs_is_refused() {
    use wasmill_abi::{OutputPort, Ports};
    use wasmill_pipeline::{Catalog, Pipeline, Plugin};
    struct Wide(Ports);
    impl Catalog for Wide {
        fn plugin(&self, _: usize) -> Plugin<'_> {
            Plugin { ports: &self.0, keyed: true }
        }
    }
    let text = format!(
        "name = \"p\"\n{RAW}{OUT}from = \"stage.a.o300\"\n[stage.a]\nplugin = \"wide\"\nfrom = \"source.raw2\""
    );
    let pipeline = Pipeline::parse("p.toml".as_ref(), &text, &[]).unwrap();
    let output = |n: u32| OutputPort { name: format!("o{n}"), ..OutputPort::default() };
    let wide = Wide(Ports { inputs: Vec::new(), outputs: (0..400).map(output).collect() });
    let problems = Plan::of(&pipeline, &wide, &|_| 1).unwrap_err();
    let messages: Vec<_> = problems.iter().map(|d| d.message.as_str()).collect();
    assert!(
        messages.contains(&"the plugin has 400 outputs, at most 64 are allowed"),
        "{messages:?}"
    );
    assert!(messages.contains(&"the plugin of stage.a has no input"), "{messages:?}");
}
