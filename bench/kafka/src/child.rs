//! Programs that are measured: wall clock, processor time and peak memory of each process by itself.
//!
//! Invariant: a program that is dropped has ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Of the times in `/proc`, which Linux gives in hundredths of a second to every program.
const TICKS: f64 = 100.0;

/// A program that runs.
pub struct Program {
    name: String,
    child: Child,
    started: Instant,
    peak_mib: f64,
    cpu: f64,
    /// What it writes to its standard output and error.
    output: PathBuf,
    errors: PathBuf,
}

/// What a program has taken and said.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Processor time in seconds, of user and system.
    pub cpu: f64,
    /// The most memory that it had, in MiB.
    pub peak_mib: f64,
    /// What it wrote to its standard output.
    pub output: String,
    /// What it wrote to its standard error.
    pub errors: String,
}

impl Program {
    /// Starts a program in a folder, where its output goes as well.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let (output, errors) =
            (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .current_dir(folder)
            .spawn()
            .with_context(|| format!("{name}: {} can't be started", describe(command)))?;
        let started = Instant::now();
        let name = name.to_owned();
        Ok(Self { name, child, started, peak_mib: 0.0, cpu: 0.0, output, errors })
    }

    /// Since when it runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Looks at what it has taken so far. Returns whether it runs.
    fn look(&mut self) -> bool {
        let file = |name: &str| {
            let path = format!("/proc/{}/{name}", self.child.id());
            std::fs::read_to_string(path).unwrap_or_default()
        };
        let (stat, status) = (file("stat"), file("status"));
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        if let Some(kib) = peak.and_then(|p| p.split_whitespace().next()?.parse::<f64>().ok()) {
            self.peak_mib = self.peak_mib.max(kib / 1024.0);
        }
        // Behind the name, which may hold anything: state, ten numbers, user, system.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let state = fields.next();
        let time: f64 = fields.skip(10).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
        self.cpu = self.cpu.max(time / TICKS);
        !matches!(state, Some("Z" | "X") | None)
    }

    /// Looks whether it runs; an end of its own is an error.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if self.look() {
            return Ok(());
        }
        anyhow::bail!("{} has ended, {}:\n{}", self.name, self.child.wait()?, self.tail());
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it fails, or takes longer than `patience`.
    pub fn wait(mut self, patience: Duration) -> anyhow::Result<Ended> {
        while self.look() {
            if self.started.elapsed() > patience {
                anyhow::bail!("{} takes longer than {patience:?}:\n{}", self.name, self.tail());
            }
            std::thread::sleep(LOOK);
        }
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "{}: {status}:\n{}", self.name, self.tail());
        self.ended()
    }

    /// Asks it to end (SIGINT), and waits for that.
    ///
    /// # Errors
    /// As [`Program::wait`].
    pub fn interrupt(self) -> anyhow::Result<Ended> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status()?;
        anyhow::ensure!(status.success(), "{} could not be asked to end", self.name);
        let patience = self.started.elapsed() + Duration::from_secs(60);
        self.wait(patience)
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(mut self) -> anyhow::Result<Ended> {
        self.look();
        self.child.kill()?;
        self.child.wait()?;
        self.ended()
    }

    fn ended(&self) -> anyhow::Result<Ended> {
        let text = |path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (output, errors) = (text(&self.output)?, text(&self.errors)?);
        Ok(Ended { cpu: self.cpu, peak_mib: self.peak_mib, output, errors })
    }

    fn tail(&self) -> String {
        let both = [&self.output, &self.errors].map(|p| std::fs::read(p).unwrap_or_default());
        let text = String::from_utf8_lossy(&both.concat()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The number between two pieces of text, the first time that they are there.
///
/// # Errors
/// When they are not, or there is no number between them.
pub fn number(text: &str, before: &str, after: &str) -> anyhow::Result<f64> {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found
        .and_then(|(number, _)| number.trim().parse().ok())
        .with_context(|| format!("no number between {before:?} and {after:?} in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_between_what_stands_around_it() {
        let line = "native 2 in 1.50s = 190000/s; cpu 2.10s, (second half 95000/s)";
        assert_eq!(number(line, "s = ", "/s").unwrap(), 190_000.0);
        assert_eq!(number(line, "(second half ", "/s").unwrap(), 95_000.0);
        assert!(number(line, "peak ", " MiB").is_err());
    }

    #[test]
    fn what_a_program_took_and_said_is_known_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done"]);
        let program = Program::start("busy", &mut command, folder.path()).unwrap();
        let ended = program.wait(Duration::from_secs(60)).unwrap();
        assert_eq!(ended.output, "done\n");
        assert!(ended.cpu > 0.0 && ended.peak_mib > 0.1, "{ended:?}");
    }

    #[test]
    fn a_program_that_fails_is_an_error_that_shows_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let program = Program::start("bad", &mut command, folder.path()).unwrap();
        let error = program.wait(Duration::from_secs(60)).unwrap_err().to_string();
        assert!(error.contains("bad") && error.contains("why"), "{error}");
    }
}
