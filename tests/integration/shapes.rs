//! A group on Kafka belongs to one shape of its pipeline: no other one reads its state and offsets.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

const PIPELINE: &str = r#"
    name = "shapes"
    [engine]
    partitions = 2
    [source.in]
    topic = "in"
    bounded = true
    [stage.pass]
    plugin = "identity"
    from = "source.in"
    [topic.out]
    from = "stage.pass"
"#;

/// The same with another source in front, whose input would get the offsets of the first.
fn with_another_source() -> String {
    let source = "[source.first]\ntopic = \"first\"\nbounded = true\n[source.in]";
    PIPELINE
        .replace("[source.in]", source)
        .replace("from = \"source.in\"", "from = [\"source.first\", \"source.in\"]")
}

fn numbers(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| n.to_string())
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success(), "it is not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An input that was added read on at the offsets of another one, a stage from the state of another:
/// both are known by their number alone.
#[test]
fn a_pipeline_of_another_shape_is_refused_in_the_group_and_runs_in_another() {
    let Some(world) = World::new("another_shape", PIPELINE) else { return };
    world.produce("in", 2, numbers(20));
    world.produce("first", 2, numbers(30));
    assert_eq!(world.run("data", &[])["records"], 20);
    let control = world.topic("shapes-control");
    assert_eq!((control.len(), &control[0]["key"]), (1, &"shape".into()));
    assert_eq!(control[0]["value"]["shape"]["pipeline"], "shapes");

    std::fs::write(world.path("pipeline.toml"), with_another_source()).unwrap();
    for data_dir in ["data", "other"] {
        let error = error_of(&world.wasmill("run", data_dir, &[]));
        let words = ["group shapes", "another shape", "topic.first", "kafka.group=NAME"];
        for word in words {
            assert!(error.contains(word), "{word:?} in {error}");
        }
    }
    let again = world.run("again", &["--set", "kafka.group=again"]);
    assert_eq!(again["records"], 50);

    std::fs::write(world.path("pipeline.toml"), PIPELINE).unwrap();
    assert_eq!(world.run("data", &[])["was_complete"], true);
    assert_eq!(world.topic("shapes-control").len(), 1, "it is said once");
}

/// Two instances of a group that is new, started at once.
#[test]
fn of_two_shapes_that_start_at_once_one_has_the_group() {
    let Some(world) = World::new("two_shapes_at_once", PIPELINE) else { return };
    world.produce("in", 2, numbers(20));
    let extra = ["--set", "stage.extra.plugin=identity", "--set", "stage.extra.from=source.in"];
    for round in 0..3 {
        let group = format!("kafka.group=round-{round}");
        let set = ["--set", group.as_str(), "--set", "source.in.bounded=false"];
        let start = |name: &str, more: &[&str]| {
            let mut command = world.command("run", name, &[&set[..], more].concat());
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let (one, two) = (format!("one-{round}"), format!("two-{round}"));
        let mut both = [start(&one, &[]), start(&two, &extra)];
        let begun = Instant::now();
        let refused = loop {
            let ended = both.iter_mut().position(|child| child.try_wait().unwrap().is_some());
            if let Some(ended) = ended {
                break ended;
            }
            assert!(begun.elapsed() < PATIENCE, "both run");
            std::thread::sleep(Duration::from_millis(50));
        };
        std::thread::sleep(Duration::from_secs(1));
        assert!(both[1 - refused].try_wait().unwrap().is_none(), "none runs");
        for mut child in both {
            // One has ended.
            let _ = child.kill();
            child.wait().unwrap();
        }
        let control = world.topic(&format!("round-{round}-control"));
        assert_eq!(control.len(), 1, "the one that was refused has written nothing");
    }
}

/// Gives a topic as many partitions: this program never does that to one which is there.
fn grow(world: &World, topic: &str, partitions: usize) {
    let brokers = world.cluster.bootstrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let wanted = [NewPartitions::new(topic, partitions)];
    let options = AdminOptions::new();
    let results = futures::executor::block_on(admin.create_partitions(&wanted, &options)).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// What came into the new ones was not read, without a word.
#[test]
fn partitions_that_an_input_gets_end_the_run() {
    let pipeline = format!("{PIPELINE}    partitions = 2\n");
    let endless = pipeline.replace("bounded = true", "");
    let Some(world) = World::new("partitions_that_an_input_gets", &endless) else { return };
    world.produce("in", 2, numbers(20));
    let mut instance = world.start("data", &[]);
    let out = || world.admin().partitions("out").unwrap().map_or(0, |_| world.topic("out").len());
    instance.wait("all records", |_| out() == 20);

    grow(&world, "in", 3);
    let status = instance.wait_end(PATIENCE);
    let said = instance.said();
    assert!(!status.success(), "{said}");
    for word in
        ["topic in has 3 partitions now, and had 2", "engine.partitions", "kafka.group=NAME"]
    {
        assert!(said.contains(word), "{word:?} in {said}");
    }
    assert_eq!(out(), 20);
    // Nor does the next one go on as if nothing had been.
    let error = error_of(&world.wasmill("run", "data", &[]));
    assert!(error.contains("in") && error.contains('2') && error.contains('3'), "{error}");

    // As it says: another group, with the new number.
    world.produce_from("in", 3, 20, numbers(9));
    let grown = pipeline.replace("[engine]\n    partitions = 2", "[engine]\n    partitions = 3");
    assert_ne!(grown, pipeline);
    std::fs::write(world.path("pipeline.toml"), grown).unwrap();
    assert_eq!(world.run("other", &["--set", "kafka.group=again"])["records"], 29);
    assert_eq!(out(), 49);
}
