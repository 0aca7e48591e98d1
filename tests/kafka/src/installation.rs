//! What a broker is started from: a Java, the jars, and what one run prepared for all others.
//!
//! Invariant: a prepared folder belongs to one Java and one list of jars, and is complete where it
//! exists.
//!
//! Prepared are the first record of a new cluster's metadata (what Kafka calls formatting; the same
//! for all, and a start of Java saved for each node) and an archive of the classes that a broker
//! loads, which halves the time to start one.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    Error, Unavailable, artifacts,
    error::io,
    node::{self, Node, Settings},
    ports::Port,
    security,
    watchdog::Watchdog,
};

/// The oldest Java that runs a broker.
const JAVA_MIN: u32 = 17;
/// For starting or ending a broker while the machine is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The first record of every cluster's metadata, as Kafka's own tool writes it.
const BOOTSTRAP: &str = "bootstrap.checkpoint";
const ARCHIVE: &str = "classes.jsa";

/// A broker's program, ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    java: PathBuf,
    class_path: OsString,
    prepared: PathBuf,
}

impl Installation {
    /// Finds Java, downloads and prepares what is not there yet. `kafka` is the folder for all of it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the machine lacks something; others where preparing fails.
    pub(crate) fn provide(kafka: &Path) -> Result<Self, Error> {
        static FOUND: Mutex<Option<Installation>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(installation) = &*found {
            return Ok(installation.clone());
        }
        let (java, version) = java()?;
        let jars = artifacts::provide(kafka)?;
        let class_path = env::join_paths(&jars).map_err(|error| Error::Io {
            what: format!("making a class path of {}", kafka.display()),
            source: std::io::Error::other(error),
        })?;
        let key = Sha256::new()
            .chain_update(artifacts::JARS)
            .chain_update(&version)
            .chain_update(class_path.as_encoded_bytes())
            .chain_update(security::scram())
            .finalize();
        let prepared = kafka.join(format!("prepared-{}", &artifacts::hex(&key)[..12]));
        let installation = Self { java, class_path, prepared };
        if !installation.prepared.exists() {
            let _lock = artifacts::lock(kafka, "prepared.lock")?;
            if !installation.prepared.exists() {
                installation.prepare(kafka)?;
            }
        }
        Ok(found.insert(installation).clone())
    }

    /// Java with the jars; the main class and its arguments are to be added.
    pub(crate) fn java<I: AsRef<std::ffi::OsStr>>(
        &self,
        flags: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut java = Command::new(&self.java);
        let archive = self.prepared.join(ARCHIVE);
        if archive.exists() {
            let mut flag = OsString::from("-XX:SharedArchiveFile=");
            flag.push(archive);
            java.arg(flag);
        }
        java.args(flags).arg("-cp").arg(&self.class_path).env_remove("CLASSPATH");
        java
    }

    /// The tool for keys and certificates that every Java has beside it.
    pub(crate) fn keytool(&self) -> PathBuf {
        self.java.with_file_name("keytool")
    }

    /// The file that a formatted data folder holds, beside its own `meta.properties`.
    pub(crate) fn bootstrap(&self) -> (PathBuf, &'static str) {
        (self.prepared.join(BOOTSTRAP), BOOTSTRAP)
    }

    fn prepare(&self, kafka: &Path) -> Result<(), Error> {
        eprintln!("Preparing Apache Kafka in {}, once", self.prepared.display());
        let new = kafka.join("prepared.new");
        artifacts::remove(&new).map_err(io(format!("removing {}", new.display())))?;
        fs::create_dir_all(&new).map_err(io(format!("making {}", new.display())))?;
        let preparing = Self { prepared: new.clone(), ..self.clone() };
        let port = Port::take(&kafka.join("ports")).map_err(io("taking a port"))?;
        let controller = Port::take(&kafka.join("ports")).map_err(io("taking a port"))?;
        let mut settings = Settings::new(0, &[controller.number], port.number);
        settings.level = "error";
        preparing.format(&new, &settings)?;
        preparing.archive(&new, settings)?;
        fs::rename(&new, &self.prepared).map_err(io(format!(
            "moving {} to {}",
            new.display(),
            self.prepared.display()
        )))
    }

    /// Has Kafka's own tool format a data folder, and keeps what is the same for all.
    fn format(&self, new: &Path, settings: &Settings) -> Result<(), Error> {
        let properties = settings.write(new)?;
        let mut tool = self.java(["-XX:TieredStopAtLevel=1"]);
        tool.args(["kafka.tools.StorageTool", "format", "--cluster-id", &node::uuid()]);
        tool.args(["--add-scram", &security::scram(), "-c"]);
        let output = tool.arg(&properties).stdin(Stdio::null()).output();
        let output = output.map_err(io(format!("running {}", self.java.display())))?;
        let data = settings.data(new);
        fs::copy(data.join(BOOTSTRAP), new.join(BOOTSTRAP)).map(drop).map_err(|source| {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Error::Io { what: format!("formatting {}: {said}", data.display()), source }
        })?;
        artifacts::remove(&data).map_err(io(format!("removing {}", data.display())))
    }

    /// Runs a broker until it is ready, and has Java write down the classes it loaded.
    fn archive(&self, new: &Path, settings: Settings) -> Result<(), Error> {
        let mut watchdog = Watchdog::start(new).map_err(io("starting the watchdog"))?;
        let archive = new.join("archive");
        let mut flags = vec![OsString::from("-XX:ArchiveClassesAtExit=")];
        flags[0].push(&archive);
        flags.extend(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(Into::into));
        let mut node = Node::new(self.clone(), new.to_owned(), settings, flags);
        node.format(&node::uuid())?;
        node.start(&mut watchdog)?;
        // Where killing it fails too, the watchdog does so.
        let ran = node.await_members(&[0], PATIENCE);
        ran.and_then(|()| node.stop(&mut watchdog, PATIENCE))
            .inspect_err(|_| node.kill(&mut watchdog).unwrap_or_default())?;
        let data = node.settings().data(new);
        artifacts::remove(&data).map_err(io(format!("removing {}", data.display())))?;
        // A Java that writes no archive runs brokers too, only with a slower start.
        let _ = fs::rename(&archive, new.join(ARCHIVE));
        Ok(())
    }
}

/// The Java of `JAVA_HOME`, else of the `PATH`, and what it says of its version.
fn java() -> Result<(PathBuf, String), Unavailable> {
    let home = env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    let java = home.map_or_else(|| "java".into(), |home| PathBuf::from(home).join("bin/java"));
    let output = Command::new(&java).arg("-version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| Unavailable::Java {
        found: match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no Java ({})", java.display()),
            _ => format!("{} can't be run ({error})", java.display()),
        },
    })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match major(&said) {
        Some(version) if version >= JAVA_MIN => Ok((java, said)),
        Some(version) => {
            Err(Unavailable::Java { found: format!("{} is Java {version}", java.display()) })
        }
        None => Err(Unavailable::Java {
            found: format!(
                "{} does not tell its version (it says \"{}\")",
                java.display(),
                said.lines().next().unwrap_or_default()
            ),
        }),
    }
}

/// The feature release in the output of `java -version`.
fn major(said: &str) -> Option<u32> {
    let line = said.lines().find(|line| line.contains(" version \""))?;
    let mut numbers = line.split('"').nth(1)?.split(['.', '-', '+', '_']);
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(), // 1.8 and older
        release => Some(release),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java_are_read_from_what_it_says() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK ..."), Some(17));
        assert_eq!(major("Picked up X: -v\njava version \"1.8.0_292\""), Some(8));
        assert_eq!(major("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(major("no version here"), None);
    }
}
