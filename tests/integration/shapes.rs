//! A group on Kafka belongs to one shape of its pipeline: no other one reads its state and offsets.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

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
