//! The programs that do the same job, as they are in `bench/peers`.
//!
//! Invariant: a peer that can't be had on this machine is left out by name, never by silence.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::child::{Ended, Program, number};
use crate::topics::Broker;

/// The peers that there are.
pub struct Peers {
    native: PathBuf,
    /// Kafka Streams, where there is Java.
    pub kstreams: Option<Java>,
    /// Flink, where there is Java.
    pub flink: Option<Java>,
    brokers: String,
}

/// A peer in Java.
pub struct Java {
    name: &'static str,
    class_path: String,
    flags: &'static [&'static str],
    class: &'static str,
}

/// What a run has shown.
#[derive(Debug, Clone)]
pub struct Run {
    /// Records a second over the whole run, as the program says.
    pub rate: f64,
    /// The same over the second half, where it says.
    pub second_half: Option<f64>,
    /// What the process has taken.
    pub ended: Ended,
}

impl Peers {
    /// Finds the peers, and builds those in Java.
    ///
    /// # Errors
    /// When the native one is missing.
    pub fn find(folder: &Path, broker: &Broker) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let native = folder.join("native/release/baseline");
        anyhow::ensure!(native.exists(), "{} is missing: run `make bench-kafka`", native.display());
        let java = |name, source, class, flags| match Java::build(&folder, name, source) {
            Ok(class_path) => Some(Java { name, class_path, flags, class }),
            Err(why) => {
                eprintln!("left out: {name}: {why:#}");
                None
            }
        };
        let kstreams = java("kstreams", "Sess.java", "Sess", &["-Xmx1g"]);
        let flink = java("flink", "SessF.java", "SessF", &FLINK);
        Ok(Self { native, kstreams, flink, brokers: broker.address.clone() })
    }

    /// The native program in one of its modes.
    pub fn native(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.native);
        command.arg(mode).args(["--broker", &self.brokers]);
        command.env("KX", "fetch.queue.backoff.ms=5");
        command
    }

    /// Runs a mode of the native program that comes to an end by itself.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_native(&self, folder: &Path, mode: &str, args: &[&str]) -> anyhow::Result<Ended> {
        let mut command = self.native(mode);
        let program = Program::start(&format!("native-{mode}"), command.args(args), folder)?;
        program.wait(Duration::from_secs(1_200))
    }

    /// Runs the native job over `records` records of the topic `input`.
    ///
    /// # Errors
    /// When it fails.
    pub fn job(&self, folder: &Path, mode: &str, input: &str, records: u64) -> anyhow::Result<Run> {
        let n = records.to_string();
        let args = ["-n", &n, "-t", input, "--commit", "100"];
        let ended = self.run_native(folder, mode, &args)?;
        Ok(Run { rate: number(&ended.output, "s = ", "/s")?, second_half: None, ended })
    }

    /// Starts a peer in Java on the broker, over the topic `in` unless it is given another.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_java(
        &self,
        folder: &Path,
        java: &Java,
        input: Option<&str>,
        args: &[&str],
    ) -> anyhow::Result<Program> {
        let mut command = java.command();
        if let Some(input) = input {
            command.env("IN", input);
        }
        command.arg(&self.brokers).args(args);
        Program::start(java.name, &mut command, folder)
    }

    /// Runs a peer in Java over its `records` records of the topic `in`.
    ///
    /// # Errors
    /// When it fails.
    pub fn java_job(
        &self,
        folder: &Path,
        java: &Java,
        records: u64,
        args: &[&str],
    ) -> anyhow::Result<Run> {
        let n = records.to_string();
        let args = [&[n.as_str()], args].concat();
        let program = self.start_java(folder, java, None, &args)?;
        let ended = program.wait(Duration::from_secs(120 + records / 5_000))?;
        let rate = number(&ended.output, "s = ", "/s")?;
        let second_half = Some(number(&ended.output, "(second half ", "/s")?);
        Ok(Run { rate, second_half, ended })
    }
}

const FLINK: [&str; 4] = [
    "-Xmx1500m",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
];

impl Java {
    fn command(&self) -> Command {
        let mut command = Command::new("java");
        command.args(self.flags).args(["-cp", &self.class_path, self.class]);
        command
    }

    /// Has Maven bring the libraries and compiles the source, where that was not done before. Returns
    /// the class path.
    fn build(folder: &Path, name: &str, source: &str) -> anyhow::Result<String> {
        let sources = crate::root().join("bench/peers").join(name);
        let folder = folder.join(name);
        let (libs, classes) = (folder.join("libs"), folder.join("classes"));
        let class_path = |classes: &Path| format!("{}:{}/*", classes.display(), libs.display());
        let code = std::fs::read(sources.join(source))?;
        let built = folder.join("built");
        if std::fs::read(&built).is_ok_and(|of| of == code) {
            return Ok(class_path(&classes));
        }
        std::fs::create_dir_all(&classes)?;
        let libs_to = format!("-DoutputDirectory={}", libs.display());
        let mut maven = Command::new("mvn");
        maven.args([
            "-B",
            "-q",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &libs_to,
        ]);
        succeed(maven.current_dir(&sources))?;
        let mut javac = Command::new("javac");
        javac.arg("-cp").arg(format!("{}/*", libs.display())).arg("-d").arg(&classes);
        succeed(javac.arg(sources.join(source)))?;
        std::fs::write(built, code)?;
        Ok(class_path(&classes))
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{program} can't be run"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    anyhow::ensure!(output.status.success(), "{program}: {}\n{said}", output.status);
    Ok(())
}
