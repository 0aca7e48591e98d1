//! Whether a test that can't have a broker is left out or fails.
//!
//! Invariant: a test that is left out says so by name, and none is in continuous integration.

use std::{
    env,
    fs::File,
    io::{self, Write},
};

use crate::{Cluster, Error, Options};

/// Starts a cluster for a test, or says that the test is left out, and why, where the machine has no
/// Java or the broker's jars can't be had: on standard error, and as a line of the file that
/// `WASMILL_SKIPPED` names, where it does.
///
/// # Panics
/// Where a cluster does not start for another reason; and for these too in continuous integration
/// (`CI` is set, to something other than 0 and false) or with `WASMILL_REQUIRE_KAFKA`.
pub fn cluster_or_skip(test: &str, options: impl Into<Options>) -> Option<Cluster> {
    let unavailable = match Cluster::start(options) {
        Ok(cluster) => return Some(cluster),
        Err(Error::Unavailable(unavailable)) => unavailable,
        Err(error) => panic!("{test}: no cluster: {error}"),
    };
    for name in ["CI", "WASMILL_REQUIRE_KAFKA"] {
        if env::var(name).is_ok_and(|value| is_on(&value)) {
            panic!("{test} needs a broker, and {name} forbids leaving it out: {unavailable}");
        }
    }
    left_out(test, &unavailable.to_string());
    None
}

/// Says that a test is left out, and why: on standard error, and as a line of the file that
/// `WASMILL_SKIPPED` names, where it does.
pub fn left_out(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    // The test has no other way to tell; without it, it still tells on standard error.
    let _ = keep(&line);
    // Not by a macro, whose output a test that passes does not show.
    let _ = io::stderr().write_all(line.as_bytes());
}

fn keep(line: &str) -> io::Result<()> {
    let Some(path) = env::var_os("WASMILL_SKIPPED") else { return Ok(()) };
    File::options().create(true).append(true).open(path)?.write_all(line.as_bytes())
}

fn is_on(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_empty_or_says_no_is_off() {
        assert!(["1", "true", "yes"].into_iter().all(is_on));
        assert!(!["", "0", "false"].into_iter().any(is_on));
    }
}
