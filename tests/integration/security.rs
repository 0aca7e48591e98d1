//! Brokers that ask who is there and that encrypt: what runs on them, what is said where it can't, and
//! that a password is in nothing that is said.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmill_test_kafka::{Options, PASSWORD, Security, USER};

use crate::support::{program, stdout_of};
use crate::world::World;

/// With a repartition and state, so that every kind of client of the engine takes part.
const PIPELINE: &str = r#"
name = "secured"
[engine]
partitions = 2
[kafka.properties]
"security.protocol" = "PLAINTEXT"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "alice"
"sasl.password" = "${env:WASMILL_TEST_PASSWORD}"
[source.in]
type = "topic"
topic = "in"
bounded = true
[stage.ledger]
plugin = "ledger"
from = "source.in"
key-by = "account"
config = { span-ms = 3600000, residues = 5 }
[topic.out]
from = "stage.ledger"
"#;

const RECORDS: u64 = 60;
/// For an error to be said: requests to Kafka may take half a minute.
const PATIENCE: Duration = Duration::from_secs(50);

fn world(test: &str) -> Option<World> {
    let world = World::with(test, PIPELINE, Options { secured: true, ..Options::default() })?;
    let value = |n: u64| format!(r#"{{"account":"a{}","n":{n}}}"#, n % 7);
    world.produce("in", 2, (0..RECORDS).map(value));
    Some(world)
}

/// The settings for a listener.
fn settings(world: &World, security: Security) -> Vec<String> {
    let mut set = vec![
        format!("kafka.brokers={}", world.cluster.secured(security)),
        format!("kafka.properties.security.protocol={}", security.protocol()),
    ];
    if security != Security::SaslPlaintext {
        let certificate = world.cluster.certificate().display().to_string();
        set.push(format!("kafka.properties.ssl.ca.location={certificate}"));
    }
    set
}

fn with(set: &[String]) -> Vec<&str> {
    set.iter().flat_map(|set| ["--set", set]).collect()
}

/// Runs the pipeline with a password.
fn run(world: &World, data_dir: &str, set: &[String], password: &str) -> Output {
    let mut command = world.command("run", data_dir, &with(set));
    command.args(["--log", "debug"]).env("NO_COLOR", "1");
    command.env("WASMILL_TEST_PASSWORD", password).output().expect("the program starts")
}

/// What a program has said, which holds no password.
fn said(output: &Output, password: &str) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(!all.contains(password), "the password is in what was said:\n{all}");
    all
}

#[test]
fn pipelines_run_over_sasl_and_tls_and_the_password_is_in_no_output() {
    let Some(world) = world("pipelines_run_over_sasl") else { return };
    let mut came = 0;
    for security in Security::ALL {
        let name = security.protocol();
        let mut set = settings(&world, security);
        set.push(format!("kafka.group={name}"));
        set.push("kafka.properties.debug=security,broker".to_owned());
        let output = run(&world, name, &set, PASSWORD);
        let said = said(&output, PASSWORD);
        let summary: Value = serde_json::from_str(&stdout_of(output)).unwrap();
        assert_eq!(summary["records"], RECORDS, "{name}");
        // What it says at all is much: that it lacks the password tells something.
        let words: &[&str] = match security {
            Security::SaslPlaintext => &["SASL mechanism", "PLAIN"],
            Security::Ssl => &["SSL", "ssl://127.0.0.1"],
            Security::SaslSsl => &["SASL mechanism", "sasl_ssl://127.0.0.1"],
        };
        for word in words {
            assert!(said.contains(word), "{name}: {word:?} in {said}");
        }
        let out = world.topic("out").len();
        // One for each record, and one for each account's span.
        assert_eq!(out - came, RECORDS as usize + 7, "{name}");
        came = out;
    }
    // Another mechanism of passwords.
    let mut set = settings(&world, Security::SaslSsl);
    set.push("kafka.properties.sasl.mechanism=SCRAM-SHA-256".to_owned());
    set.push("kafka.group=scram".to_owned());
    let output = run(&world, "scram", &set, PASSWORD);
    said(&output, PASSWORD);
    let summary: Value = serde_json::from_str(&stdout_of(output)).unwrap();
    assert_eq!(summary["records"], RECORDS);
    assert_eq!(world.topic("out").len() - came, RECORDS as usize + 7);
    // Commands take the same settings from the pipeline file.
    let mut command = Command::new(program());
    command.args(["topic", "ls", "--pipeline"]).arg(world.path("pipeline.toml"));
    command.args(with(&settings(&world, Security::SaslSsl)));
    let listed = stdout_of(command.env("WASMILL_TEST_PASSWORD", PASSWORD).output().unwrap());
    assert!(listed.contains("out"), "{listed}");
}

#[test]
fn a_wrong_password_and_a_certificate_that_nobody_trusts_are_said() {
    let Some(world) = world("a_wrong_password") else { return };
    let refused = |set: &[String], password: &str| {
        let begun = Instant::now();
        let mut command = world.command("run", "refused", &with(set));
        let output = command.env("WASMILL_TEST_PASSWORD", password).output().unwrap();
        let took = begun.elapsed();
        assert!(!output.status.success());
        let all = said(&output, password);
        assert!(took < PATIENCE, "it took {took:?} to say {all}");
        // What went wrong is in the error itself, whatever the log shows.
        let error = all.lines().find(|line| line.starts_with("error: "));
        error.unwrap_or_else(|| panic!("no error: {all}")).to_owned()
    };
    let sasl = settings(&world, Security::SaslPlaintext);
    let wrong = refused(&sasl, "swordfish-and-chips");
    assert!(wrong.contains("Authentication failed"), "{wrong}");
    assert!(wrong.contains(&world.cluster.secured(Security::SaslPlaintext)), "{wrong}");

    // Without what it is to be checked with.
    let tls = &settings(&world, Security::Ssl)[..2];
    let distrusted = refused(tls, PASSWORD);
    assert!(distrusted.contains("certificate verify failed"), "{distrusted}");

    // The mechanism of librdkafka where none is said.
    let kerberos = [&sasl[..], &["kafka.properties.sasl.mechanism=GSSAPI".to_owned()]].concat();
    let missing = refused(&kerberos, PASSWORD);
    assert!(missing.contains("No provider for SASL mechanism GSSAPI"), "{missing}");

    let mut command = world.command("run", "refused", &with(&sasl));
    let output = command.env_remove("WASMILL_TEST_PASSWORD").output().unwrap();
    let nothing = said(&output, PASSWORD);
    assert!(!output.status.success());
    assert!(
        nothing.contains("sasl.password") && nothing.contains("WASMILL_TEST_PASSWORD"),
        "{nothing}"
    );
    assert_eq!(USER, "alice", "by which the pipeline knows itself");
}
