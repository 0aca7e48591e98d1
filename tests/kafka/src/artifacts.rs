//! The jars of Apache Kafka: which ones, and how they get into [`folder`](crate::folder).
//!
//! Invariant: a folder of jars that is handed out holds exactly what `jars.txt` lists, each verified
//! by its SHA-256; any number of processes may ask at once, and one of them downloads.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{Error, Unavailable, error::io, installation::Installation};

/// What is needed: a path in a Maven repository and a SHA-256 on each line.
pub(crate) const JARS: &str = include_str!("../jars.txt");
/// The same for Maven, which knows the user's mirrors.
const POM: &str = include_str!("../pom.xml");
/// Where the jars come from without Maven.
const CENTRAL: &str = "https://repo1.maven.org/maven2";
/// Replaces [`CENTRAL`], and Maven with it.
const REPOSITORY: &str = "WASMILL_MAVEN_REPOSITORY";
/// For so long after a failed download, other processes take its word instead of trying the same
/// repository again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A line of [`JARS`].
struct Jar {
    path: &'static str,
    sha256: &'static str,
}

impl Jar {
    fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Whether the folder holds it; an error says what it holds instead.
    fn verify(&self, folder: &Path) -> Result<(), String> {
        let name = self.name();
        let bytes = fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let found = hex(&Sha256::digest(bytes));
        if found == self.sha256 {
            return Ok(());
        }
        Err(format!("{name} has SHA-256 {found}, expected {}", self.sha256))
    }
}

/// Fills a folder from a repository; an error says what keeps it from that.
type Way = fn(folder: &Path, repository: &str) -> Result<(), String>;

fn jars() -> impl Iterator<Item = Jar> {
    let lines = JARS.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let (path, sha256) = line.split_once(' ').expect("jars.txt: a path and a SHA-256 a line");
        Jar { path, sha256 }
    })
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The jars' paths, in the order for a class path; downloads them where they are not there.
///
/// # Errors
/// [`Unavailable::Artifacts`] where that fails, [`Error::Io`] where the folder can't be written.
pub(crate) fn provide(kafka: &Path) -> Result<Vec<PathBuf>, Error> {
    let libs = kafka.join("libs");
    let stamp = libs.join("jars.txt");
    let complete = || fs::read_to_string(&stamp).is_ok_and(|list| list == JARS);
    if !complete() {
        let _lock = lock(kafka, "libs.lock")?;
        if !complete() {
            if verify(&libs).is_err() {
                download(kafka, &libs)?;
            }
            fs::write(&stamp, JARS).map_err(io(format!("writing {}", stamp.display())))?;
        }
    }
    Ok(jars().map(|jar| libs.join(jar.name())).collect())
}

/// Gets everything that brokers are started from, so that no test has to, and says what it downloads.
///
/// # Errors
/// [`Error::Unavailable`] where the machine lacks something; others where preparing fails.
pub fn fetch() -> Result<(), Error> {
    Installation::provide(&crate::folder()).map(drop)
}

/// Waits until this process alone holds the lock; it is free again when the file is dropped.
pub(crate) fn lock(kafka: &Path, name: &str) -> Result<File, Error> {
    let path = kafka.join(name);
    fs::create_dir_all(kafka)
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(io(format!("locking {}", path.display())))
}

fn verify(folder: &Path) -> Result<(), String> {
    jars().try_for_each(|jar| jar.verify(folder))
}

fn download(kafka: &Path, libs: &Path) -> Result<(), Error> {
    let failed = kafka.join("libs.failed");
    let unavailable = |reason| Unavailable::Artifacts { folder: libs.to_owned(), reason };
    let repository = std::env::var(REPOSITORY).ok().filter(|address| !address.is_empty());
    let ways: &[Way] = if repository.is_some() { &[with_curl] } else { &[with_maven, with_curl] };
    let repository = repository.as_deref().unwrap_or(CENTRAL).trim_end_matches('/');
    let time = fs::metadata(&failed).and_then(|file| file.modified()).ok();
    if time.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < RETRY_AFTER)
        && let Ok(text) = fs::read_to_string(&failed)
        && let Some((tried, reason)) = text.split_once('\n')
        && tried == repository
    {
        return Err(unavailable(reason.to_owned()).into());
    }
    let new = kafka.join("libs.new");
    let count = jars().count();
    let mut reasons = Vec::new();
    let line = format!("Downloading Apache Kafka ({count} jars, 43 MB) into {}\n", libs.display());
    // Not by a macro, whose output a test that passes does not show.
    let _ = io::stderr().write_all(line.as_bytes());
    for way in ways {
        remove(&new).map_err(io(format!("removing {}", new.display())))?;
        fs::create_dir_all(&new).map_err(io(format!("making {}", new.display())))?;
        match way(&new, repository).and_then(|()| verify(&new)) {
            Ok(()) => {
                let what = format!("moving {} to {}", new.display(), libs.display());
                remove(libs).and_then(|()| fs::rename(&new, libs)).map_err(io(what))?;
                // Gone already where no download failed.
                let _ = fs::remove_file(&failed);
                return Ok(());
            }
            Err(reason) => reasons.push(reason),
        }
    }
    remove(&new).map_err(io(format!("removing {}", new.display())))?;
    let reason = reasons.join("; ");
    fs::write(&failed, format!("{repository}\n{reason}"))
        .map_err(io(format!("writing {}", failed.display())))?;
    Err(unavailable(reason).into())
}

/// Forgets that a download failed, so that the next one is tried at once.
pub(crate) fn retry(kafka: &Path) {
    // Gone already where none failed.
    let _ = fs::remove_file(kafka.join("libs.failed"));
}

fn with_maven(folder: &Path, _repository: &str) -> Result<(), String> {
    let pom = folder.join("pom.xml");
    fs::write(&pom, POM).map_err(|error| format!("{}: {error}", pom.display()))?;
    let mut maven = Command::new("mvn");
    maven
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", folder.display()));
    run("mvn", &mut maven)?;
    fs::remove_file(&pom).map_err(|error| format!("{}: {error}", pom.display()))
}

fn with_curl(folder: &Path, repository: &str) -> Result<(), String> {
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--fail-early", "--silent", "--show-error", "--location"]);
    curl.args(["--retry", "3", "--connect-timeout", "15", "--speed-time", "30"]);
    for jar in jars() {
        curl.arg("--output").arg(folder.join(jar.name()));
        curl.arg(format!("{repository}/{}", jar.path));
    }
    run("curl", &mut curl).map_err(|reason| format!("{reason} [{repository}]"))
}

fn run(name: &str, command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {name}"),
        _ => format!("{name}: {error}"),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(format!("{name} failed: {}", said.trim()))
}

/// Removes a folder that may not be there.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_is_a_jar_with_a_sha256() {
        assert!(jars().count() > 0);
        for jar in jars() {
            assert!(jar.path.ends_with(".jar"), "{}", jar.path);
            assert_eq!(jar.sha256.len(), 64, "{}", jar.path);
        }
    }

    #[test]
    fn a_jar_that_is_not_the_listed_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let jar = jars().next().unwrap();
        assert!(jar.verify(folder.path()).is_err(), "it is not there");
        fs::write(folder.path().join(jar.name()), "something else").unwrap();
        let error = jar.verify(folder.path()).unwrap_err();
        assert!(error.contains(jar.name()) && error.contains(jar.sha256), "{error}");
    }

    #[test]
    fn a_repository_that_is_not_there_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = with_curl(folder.path(), "http://127.0.0.1:1/maven2").unwrap_err();
        assert!(error.contains("http://127.0.0.1:1/maven2"), "{error}");
    }
}
