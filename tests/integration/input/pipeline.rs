//! Problems of the pipeline file, of its plugins and of its sources.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Site, lines};
use crate::support::{root, topic, wasmill};

#[test]
fn a_missing_pipeline_file_is_named() {
    let site = Site::new();
    fs::remove_file(site.path().join("count.toml")).unwrap();
    site.fails(2, &[], &["count.toml", "No such file"]);
}

#[test]
fn an_unknown_key_is_shown_in_its_line_with_the_nearest_known_one() {
    let site = Site::new();
    site.change("plugin = ", "plugn = ");
    let parts = ["unknown key \"plugn\"", "count.toml:17:1", "did you mean \"plugin\"?"];
    site.fails(2, &[], &parts);
    assert!(!site.data().exists(), "nothing is made before the pipeline is sound");
}

#[test]
fn all_problems_of_a_file_are_shown_at_once() {
    let site = Site::new();
    site.change("partitions = 2", "partitions = \"two\"");
    site.change("from = \"topic.raw\"", "from = \"topic.row\"");
    let parts = ["count.toml:4:", "engine.partitions", "count.toml:18:", "topic.row", "topic.raw"];
    site.fails(2, &[], &parts);
}

/// Of the file, of plugins and their configurations, of sources, and of ports. What follows from one of
/// them is not told: nobody knows the outputs of a plugin that is missing.
#[test]
fn problems_of_all_kinds_are_shown_at_once() {
    let site = Site::new();
    site.change("partitions = 2", "partitions = \"two\"");
    site.change("in.jsonl", "missing.jsonl");
    site.change("\"stage.count\"", "\"stage.count.bots\"");
    let more = "[stage.other]\nplugin = \"evil-kyed\"\nfrom = \"stage.count\"\n\
                [stage.third]\nplugin = \"evil-keyed\"\nform = \"stage.other.bots\"\n\
                config.call = \"lop\"\n[topic.counts]";
    site.change("[topic.counts]", more);
    for command in ["check", "run"] {
        let plugins = root().join("target/plugins").display().to_string();
        let output = wasmill(site.path(), &[command, "count.toml", "--plugins", &plugins]);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        let found: Vec<&str> = errors.lines().filter(|l| l.starts_with("error: ")).collect();
        let expected = [
            "error: engine.partitions: expected",
            "error: source.raw.path: ",
            "error: stage.other.plugin: there is no plugin \"evil-kyed\" in ., ",
            "error: stage.third: \"from\" is missing",
            "error: stage.third: unknown key \"form\"",
            "error: stage.third.config.call: ",
            "error: topic.counts.from: stage.count has no output \"bots\"",
        ];
        assert_eq!(found.len(), expected.len(), "{errors}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
    }
}

/// A broker that does not answer is looked for when nothing else is wrong.
#[test]
fn a_problem_of_a_plugin_is_shown_though_no_broker_answers() {
    let site = Site::new();
    site.change("\"evil-keyed\"", "\"evil-kyed\"");
    site.change("[sink.out]\nfrom = \"topic.counts\"\npath = \"out-{partition}.txt\"\n", "");
    let more = ["--set", "kafka.brokers=127.0.0.1:1"];
    site.fails(2, &more, &["no plugin \"evil-kyed\""]);
}

#[test]
fn text_that_is_no_toml_is_shown_in_its_line() {
    let site = Site::new();
    site.change("[stage.count]", "[stage.count");
    site.fails(2, &[], &["count.toml:16:"]);
}

#[test]
fn a_cycle_names_its_way() {
    let site = Site::new();
    site.change("from = \"source.raw\"", "from = [\"source.raw\", \"topic.counts\"]");
    site.fails(2, &[], &["cycle", "topic.raw", "stage.count", "topic.counts", "count.toml:"]);
}

#[test]
fn a_plugin_that_is_missing_names_the_nearest_one_and_where_it_was_looked_for() {
    let site = Site::new();
    site.change("\"evil-keyed\"", "\"evil-kyed\"");
    let parts = [
        "no plugin \"evil-kyed\"",
        "did you mean \"evil-keyed\"?",
        "count.toml:17:",
        "target/plugins",
    ];
    site.fails(2, &[], &parts);
    site.change("\"evil-kyed\"", "\"./it.wasm\"");
    site.fails(2, &[], &["there is no file", "it.wasm", "wasmill build", "count.toml:17:"]);
    fs::write(site.path().join("it.wasm"), "no plugin").unwrap();
    site.fails(2, &[], &["it.wasm: not a WebAssembly component", "count.toml:17:"]);
}

#[test]
fn a_port_that_the_plugin_does_not_have_is_named_with_those_it_has() {
    let site = Site::new();
    site.change("\"stage.count\"", "\"stage.count.bots\"");
    site.fails(2, &[], &["no output \"bots\"", "outputs of its plugin: out", "count.toml:21:"]);
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_shown_in_its_line() {
    let site = Site::new();
    site.change(
        "[topic.counts]",
        "[stage.count.config]\nignore = true\ncall = \"lop\"\n[topic.counts]",
    );
    let parts = ["lop", "count.toml:22:", "wasmill describe evil-keyed"];
    site.fails(2, &[], &parts);
}

#[test]
fn a_resource_that_is_missing_is_shown_in_its_line() {
    let site = Site::new();
    site.change("[topic.counts]", "[stage.count.resources]\ntable = \"table.csv\"\n[topic.counts]");
    site.fails(2, &[], &["table.csv", "No such file", "count.toml:21:"]);
}

#[test]
fn an_input_file_that_is_missing_is_named_and_read_when_it_is_there() {
    let site = Site::new();
    let input = site.path().join("in.jsonl");
    fs::rename(&input, site.path().join("away")).unwrap();
    site.fails(2, &[], &["source.raw", "in.jsonl", "count.toml:8:", "No such file"]);
    let glob = ["--set", "source.raw.path=*.log"];
    site.fails(2, &glob, &["source.raw", "no file matches \"*.log\""]);
    fs::create_dir(&input).unwrap();
    site.fails(2, &[], &["source.raw", "in.jsonl", "folder"]);
    fs::remove_dir(&input).unwrap();
    fs::rename(site.path().join("away"), &input).unwrap();
    site.completes(&[]);
}

#[test]
fn a_compressed_file_that_is_cut_off_is_named_and_read_on_when_it_is_whole() {
    let site = Site::new();
    site.change("in.jsonl", "in.jsonl.gz");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(lines(0..600).as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let input = site.path().join("in.jsonl.gz");
    fs::write(&input, &whole[..whole.len() / 2]).unwrap();
    for _ in 0..2 {
        let parts = ["source.raw", "in.jsonl.gz is cut off", "gzip", "Get the whole file"];
        site.fails(1, &[], &parts);
    }
    fs::write(&input, b"this is no gzip file").unwrap();
    site.fails(1, &[], &["in.jsonl.gz is no gzip file or is damaged"]);
    fs::write(&input, &whole).unwrap();
    site.completes(&[]);
}

#[test]
fn lines_that_are_no_json_are_dead_letters_that_name_their_place() {
    let site = Site::new();
    let mut text = lines(0..600);
    let at = text.match_indices('\n').nth(99).unwrap().0 + 1;
    text.insert_str(at, "{\"user\":\"u1\",\n\u{0}\u{1}\n");
    fs::write(site.path().join("in.jsonl"), text).unwrap();
    let output = site.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    site.is_complete();
    let dead = topic(&site.data(), "dead");
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert_eq!(dead[0]["value"], "{\"user\":\"u1\",");
    for part in
        ["not JSON", "[\"wasmill.origin.topic\",\"raw\"]", "[\"wasmill.origin.offset\",\"100\"]"]
    {
        assert!(dead[0]["headers"].to_string().contains(part), "{} has no {part}", dead[0]);
    }
}
