//! What brokers are started from, fetched ahead of the tests.

use std::process::Command;

#[test]
fn a_machine_without_java_is_told_what_to_do_before_any_test() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_wasmill-broker"));
    let output = broker.arg("fetch").env("JAVA_HOME", folder.path()).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let said =
        said.strip_prefix("Tests that need a broker are left out: there is no Java").unwrap();
    assert!(said.contains("install one"), "{said}");
    assert_eq!(output.stderr, b"", "nothing is downloaded that can't be run");
}
