//! What the keys of a file become.

use std::path::{Path, PathBuf};

use wasmill_pipeline::{
    Compression, Format, Limits, Pipeline, PluginRef, Policy, Reference, SinkKind, SourceKind,
};

use crate::mutation::EVERYTHING;

fn pair(path: &str, value: &str) -> (String, String) {
    (path.to_owned(), value.to_owned())
}

const SMALL: &str = "name = \"small\"\n[source.in]\npath = \"in/*.log\"\n\
                     [stage.a]\nplugin = \"a\"\nfrom = \"source.in\"\n\
                     [stage.a.config]\ngap = \"30m\"\nrules = [{ field = \"x\" }, { field = \"y\" }]\n\
                     [sink.out]\nfrom = \"stage.a\"\npath = \"/tmp/{partition}.txt\"\n";

#[test]
fn a_file_with_few_keys_gets_the_documented_defaults() {
    let pipeline = Pipeline::parse("dir/small.toml".as_ref(), SMALL, &[]).unwrap();
    assert_eq!(pipeline.engine.workers, None);
    assert_eq!(pipeline.engine.checkpoint_interval_ms, 1_000);
    assert_eq!(pipeline.engine.batch_records, 1_000);
    assert_eq!(pipeline.engine.cache_bytes, 512 << 20);
    assert_eq!(pipeline.engine.partitions, 4);
    assert_eq!(pipeline.engine.plugins, [Path::new("dir")]);
    let source = &pipeline.sources[0];
    assert_eq!(source.policy, Policy::default());
    assert!(source.bounded);
    let SourceKind::File { paths, encoding } = &source.kind else { panic!("{source:?}") };
    assert_eq!((paths[0].folder.as_path(), paths[0].glob.as_str()), (Path::new("dir"), "in/*.log"));
    assert_eq!((&encoding.format, encoding.compression), (&Format::Lines, Compression::Auto));
    let stage = &pipeline.stages[0];
    assert_eq!(stage.plugin, PluginRef::Name("a".into()));
    assert_eq!(stage.limits, Limits::default());
    assert_eq!(stage.rejects.in_order(), ["dead", "invalid", "late", "expired"]);
    assert_eq!((stage.state_ttl_ms, stage.max_age_ms, stage.max_failures), (None, None, 100));
    assert!(stage.repartition && !stage.trusted);
    let SinkKind::File { path, partitioned } = &pipeline.sinks[0].kind else { panic!() };
    assert_eq!((path.as_path(), *partitioned), (Path::new("/tmp/{partition}.txt"), true));
}

#[test]
fn every_key_is_read() {
    let pipeline = Pipeline::parse("dir/p.toml".as_ref(), EVERYTHING, &[]).unwrap();
    assert_eq!(pipeline.engine.plugins, [Path::new("dir/../../target/plugins")]);
    let policy = Policy { out_of_orderness_ms: 60_000, idle_timeout_ms: Some(30_000) };
    assert_eq!(pipeline.sources[0].policy, policy);
    assert!(!pipeline.sources[0].bounded && pipeline.sources[1].bounded);
    let clean = &pipeline.stages[0];
    assert_eq!(clean.rejects.late, "clean-late");
    assert_eq!(clean.resources[0].path, PathBuf::from("dir/data/bots.txt"));
    let expected = serde_json::json!({
        "fields": ["a", "b.c"],
        "since": "2024-05-01T00:00:00Z",
        "ratio": 0.5,
        "rules": [{ "field": "x", "most": 3 }],
    });
    assert_eq!(serde_json::Value::Object(clean.config.clone()), expected);
    let join = &pipeline.stages[3];
    assert_eq!(join.name, "join");
    assert_eq!(join.from[0].port.as_deref(), Some("left"));
    assert_eq!(join.from[1].from, Reference::Topic(1));
    assert_eq!(pipeline.topics[0].retention_bytes, Some(7 << 30));
}

#[test]
fn a_set_counts_as_if_it_were_in_the_file() {
    let sets = [
        pair("source.in.path", "other.log"),
        pair("stage.a.config.gap", "15m"),
        pair("stage.a.config.most", "12"),
        pair("stage.a.config.words", "[\"a\", 'b']"),
        pair("stage.a.config.\"dotted.key\"", "true"),
        pair("source.in.out-of-orderness", "60s"),
        pair("engine.workers", "1"),
        // Looks like a date, but a string is expected.
        pair("stage.a.rejects.late", "2024-01-01"),
    ];
    let pipeline = Pipeline::parse("dir/small.toml".as_ref(), SMALL, &sets).unwrap();
    let SourceKind::File { paths, .. } = &pipeline.sources[0].kind else { panic!() };
    // Relative to the current directory, not to the file.
    assert_eq!((paths[0].folder.as_path(), paths[0].glob.as_str()), (Path::new(""), "other.log"));
    let config = &pipeline.stages[0].config;
    assert_eq!(config["gap"], "15m");
    assert_eq!(config["most"], 12);
    assert_eq!(config["words"], serde_json::json!(["a", "b"]));
    assert_eq!(config["dotted.key"], true);
    assert_eq!(pipeline.sources[0].policy.out_of_orderness_ms, 60_000);
    assert_eq!(pipeline.engine.workers, Some(1));
    assert_eq!(pipeline.stages[0].rejects.late, "2024-01-01");
    let later = pipeline.diagnostic("stage.a.config.gap", "too short", None).to_string();
    assert_eq!(later, "error: stage.a.config.gap: too short\n --> --set stage.a.config.gap=15m");
}

#[test]
fn later_errors_are_reported_at_the_nearest_line() {
    let pipeline = Pipeline::parse("small.toml".as_ref(), SMALL, &[]).unwrap();
    let line = |path: &str| pipeline.locate(path).map(|at| (at.line, at.column));
    assert_eq!(line("stage.a.config.gap"), Some((8, 1)));
    assert_eq!(line("stage.a.config.gap.deeper"), Some((8, 1)));
    assert_eq!(line("stage.a.config.rules.1.field"), Some((9, 29)));
    assert_eq!(line("stage.a.config.rules[1].field"), Some((9, 29)));
    assert_eq!(line("stage.a.config.rules[7].field"), Some((9, 1)));
    assert_eq!(line("stage.a.config.missing"), Some((7, 10)));
    assert_eq!(line("stage.a.resources.bots"), Some((4, 8)));
    assert_eq!(line("nothing"), None);
    let shown = pipeline.diagnostic("stage.a.config.gap", "too long", Some("at most 1h".into()));
    let expected = "error: stage.a.config.gap: too long\n --> small.toml:8:1\n  |\n\
                    8 | gap = \"30m\"\n  | ^^^\n  = help: at most 1h";
    assert_eq!(shown.to_string(), expected);
}

#[test]
fn load_reads_the_file_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.toml");
    let missing = Pipeline::load(&path, &[]).unwrap_err();
    assert!(missing[0].message.contains("can't be read"), "{}", missing[0]);
    std::fs::write(&path, SMALL).unwrap();
    assert_eq!(Pipeline::load(&path, &[]).unwrap().name, "small");
    std::fs::write(&path, b"name = \"\xff\"").unwrap();
    assert!(Pipeline::load(&path, &[]).unwrap_err()[0].message.contains("not UTF-8"));
}

#[test]
fn the_readme_has_a_file_that_loads_and_every_key() {
    let readme = include_str!("../../README.md");
    let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let pipeline = Pipeline::parse("weblog.toml".as_ref(), example, &[]).unwrap();
    assert!(pipeline.warnings.is_empty(), "{:?}", pipeline.warnings);
    let free = ["fields", "since", "ratio", "rules", "bots", "security.protocol"];
    let keys = EVERYTHING.lines().filter_map(|l| Some(l.split_once(" = ")?.0));
    for key in keys.filter(|k| !free.contains(k) && !k.contains('"')) {
        assert!(readme.contains(&format!("| `{key}` |")), "{key} is not in the README");
    }
}
