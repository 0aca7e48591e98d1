//! What keeps a broker from running, as it is told to people.
//!
//! Invariant: what the machine lacks ([`Unavailable`], a reason to skip a test) and what went wrong
//! on a machine that has everything (a reason to fail it) are never the same case.

use std::{io, path::PathBuf, time::Duration};

/// What this machine lacks to run a broker.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no Java, or it is too old.
    #[error(
        "{found}, and Apache Kafka needs Java 17 or newer: install one (apt install \
         openjdk-17-jre-headless, dnf install java-17-openjdk-headless, brew install openjdk@17), \
         or set JAVA_HOME to one"
    )]
    Java {
        /// What is there instead.
        found: String,
    },
    /// The jars are not there and can't be downloaded.
    #[error(
        "the jars of Apache Kafka are not in {} and can't be downloaded ({reason}): connect to the \
         network, set WASMILL_MAVEN_REPOSITORY to the address of a Maven repository that you reach, \
         or put the files that tests/kafka/jars.txt lists into that folder",
        folder.display()
    )]
    Artifacts {
        /// Where the jars belong.
        folder: PathBuf,
        /// What went wrong, of each way that was tried.
        reason: String,
    },
}

/// Why a cluster, or a node of it, does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine lacks something; a test may be skipped for it.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A file or a process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A node ended while it was expected to run.
    #[error("broker {node} ended ({status}); the end of its log {}:\n{tail}", log.display())]
    Ended {
        /// The node's id, from 1.
        node: usize,
        /// How the process ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A node does not answer as it should within the time given.
    #[error(
        "broker {node} is not ready after {} s (it says: {answer}); the end of its log {}:\n{tail}",
        waited.as_secs(), log.display()
    )]
    NotReady {
        /// The node's id, from 1.
        node: usize,
        /// How long it was waited for.
        waited: Duration,
        /// The last answer to the request for the cluster's members.
        answer: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Something was asked of a node that is not in the state for it.
    #[error("broker {node} {state}, so it can't be told to {order}")]
    State {
        /// The node's id, from 1.
        node: usize,
        /// What it does instead.
        state: &'static str,
        /// What was asked.
        order: &'static str,
    },
    /// The port is taken by another program.
    #[error(
        "port {port} is in use by another program: end that one, or choose another port \
         (make kafka KAFKA_PORT=9192)"
    )]
    Port {
        /// The port.
        port: u16,
    },
}

/// Adds to a failure of the system what was being done.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what: what.into(), source }
}
