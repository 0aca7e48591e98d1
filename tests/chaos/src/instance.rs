//! An instance of the program: a process, its data directory, its log.
//!
//! Invariant: no process outlives its instance, nor the process of the test, however that ends.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the process of this id at the end of its input, which comes when the test is gone.
const GUARD: &str = r#"trap '' INT TERM HUP; read -r _; kill -KILL "$1" 2>/dev/null"#;
/// Sets a limit to the size of files, in blocks of 512 bytes; writing more fails then, instead of
/// ending the program.
const LIMITED: &str = r#"trap '' XFSZ; ulimit -f "$1"; shift; exec "$@""#;
/// Mounts a disk of so many bytes at a folder.
const SMALL: &str = r#"mkdir -p "$2" && mount -t tmpfs -o size="$1" tmpfs "$2" || exit 125
shift 2; exec "$@""#;
/// What gives a process mounts of its own, which go with it: as root, and for others where they may.
const OWN_MOUNTS: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];

/// How an instance is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The folder for compiled plugins.
    pub cache: PathBuf,
    /// Where the brokers are.
    pub brokers: String,
    /// Threads that work.
    pub workers: u32,
    /// How little room it has on its disk.
    pub full: Option<Full>,
}

/// How a disk gets full.
#[derive(Debug, Clone, Copy)]
pub enum Full {
    /// Its data directory is a disk of its own, empty at the start, of so many bytes.
    Disk(u64, Mounts),
    /// No file may have more bytes than these.
    Files(u64),
}

/// That a process can have mounts of its own here, and by which command.
#[derive(Debug, Clone, Copy)]
pub struct Mounts(&'static [&'static str]);

impl Mounts {
    /// None where the system does not let this process have them.
    pub fn find(folder: &Path) -> Option<Self> {
        let folder = folder.join("mount");
        let works = |words: &&&[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(["sh", "-c", SMALL, "small", "4096"]).arg(&folder);
            command.args(["true"]).stdin(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let found = OWN_MOUNTS.iter().find(works).copied();
        // It is there if any of them came so far.
        let _ = std::fs::remove_dir(&folder);
        found.map(Self)
    }
}

/// An instance, whether it runs or not.
#[derive(Debug)]
pub struct Instance {
    /// How it is started the next time.
    pub start: Start,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    starts: u32,
}

#[derive(Debug)]
struct Process {
    child: Child,
    guard: Child,
    suspended: bool,
}

impl Instance {
    /// One that does not run yet; its data and its log are in `folder`, by its name.
    pub fn new(folder: &Path, name: &str, start: Start) -> Self {
        let (data, log) = (folder.join(name), folder.join(format!("{name}.log")));
        Self { start, data, log, process: None, starts: 0 }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the system refuses, or it runs.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() {
            bail!("an instance is started that runs");
        }
        self.starts += 1;
        if self.start.full.is_some() {
            // Its log is a file too.
            self.log = self.data.with_extension(format!("{}.log", self.starts));
        }
        let mut log = File::options().create(true).append(true).open(&self.log)?;
        writeln!(log, "=== start {} at {:?}", self.starts, std::time::SystemTime::now())?;
        let of = &self.start;
        let mut command = match of.full {
            None => Command::new(&of.program),
            Some(Full::Files(most)) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", LIMITED, "limited"]).arg((most / 512).to_string());
                shell.arg(&of.program);
                shell
            }
            Some(Full::Disk(bytes, Mounts(words))) => {
                let mut shell = Command::new(words[0]);
                shell.args(&words[1..]).args(["/bin/sh", "-c", SMALL, "small"]);
                shell.arg(bytes.to_string()).arg(&self.data).arg(&of.program);
                shell
            }
        };
        command.arg("run").arg(&of.pipeline).arg("--data-dir").arg(&self.data);
        command.arg("--set").arg(format!("kafka.brokers={}", of.brokers));
        command.arg("--workers").arg(of.workers.to_string());
        command.args(["--log", "info,wasmill=debug"]).env("NO_COLOR", "1");
        command.env("WASMILL_CACHE_DIR", &of.cache);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut child = command.spawn().with_context(|| of.program.display().to_string())?;
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn();
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error).context("no guard for an instance");
            }
        };
        self.process = Some(Process { child, guard, suspended: false });
        Ok(())
    }

    /// Whether it was started and not killed since; it may have ended by itself.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.suspended)
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// What its transactional ids begin with; none before it has made its data directory.
    pub fn producers(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.data.join("instance")).ok()?;
        let mut words = text.split_whitespace();
        let (id, _cluster, group) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{group}-{id}-"))
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills it (SIGKILL); it is gone on return. One that does not run stays so.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.child.kill()?;
        process.reap()?;
        Ok(())
    }

    /// Has it end in good order (SIGINT) and returns how it ended; one that takes more than `patience`
    /// is killed.
    ///
    /// # Errors
    /// When it takes too long, or the system refuses.
    pub fn end(&mut self, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        if self.process.is_none() {
            return Ok(None);
        }
        self.signal(Signal::INT)?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill()?;
        bail!("an instance did not end within {patience:?} of an interruption: {}", self.tail())
    }

    /// How it ended, if it did so by itself since it was started; after that it does not run.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        // The guard goes first: the id is not free until the process has been waited for.
        let id = Pid::from_child(&process.child);
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        if rustix::process::waitid(rustix::process::WaitId::Pid(id), options)?.is_none() {
            return Ok(None);
        }
        let process = self.process.take().expect("it was there just now");
        process.reap().map(Some)
    }

    /// Stops its clock (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        self.process.iter_mut().for_each(|p| p.suspended = true);
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        self.process.iter_mut().for_each(|p| p.suspended = false);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("an instance does not run")?;
        kill_process(Pid::from_child(&process.child), signal)?;
        Ok(())
    }

    /// The end of what it has said.
    pub fn tail(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        format!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

impl Process {
    fn reap(mut self) -> anyhow::Result<ExitStatus> {
        self.guard.kill()?;
        self.guard.wait()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("an instance is left: {error}");
        }
    }
}
