//! A machine without Java.

use std::{
    env, fs,
    process::{Command, Output},
};

use wasmill_test_kafka::cluster_or_skip;

/// Set for the process that has no Java.
const LACKS_JAVA: &str = "WASMILL_TEST_LACKS_JAVA";

#[test]
fn without_java_a_test_is_left_out_by_name_and_fails_where_that_is_forbidden() {
    let test = "skips::without_java_a_test_is_left_out_by_name_and_fails_where_that_is_forbidden";
    if env::var_os(LACKS_JAVA).is_some() {
        assert!(cluster_or_skip(test, 1).is_none());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("skipped");
    let run = |forbidden: Option<&str>| -> Output {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([test, "--exact"]).env(LACKS_JAVA, "1").env("JAVA_HOME", folder.path());
        command.env_remove("CI").env_remove("WASMILL_REQUIRE_KAFKA").env("WASMILL_SKIPPED", &list);
        command.envs(forbidden.map(|name| (name, "true"))).output().unwrap()
    };
    let left_out = run(None);
    assert!(left_out.status.success());
    let said = String::from_utf8(left_out.stderr).unwrap();
    assert!(said.contains(&format!("SKIPPED {test}: there is no Java")), "{said}");
    assert_eq!(fs::read_to_string(&list).unwrap().lines().count(), 1);
    for name in ["CI", "WASMILL_REQUIRE_KAFKA"] {
        let failed = run(Some(name));
        assert!(!failed.status.success(), "{name}");
        let said = String::from_utf8([failed.stdout, failed.stderr].concat()).unwrap();
        assert!(said.contains("install one") && said.contains(name), "{said}");
    }
}
