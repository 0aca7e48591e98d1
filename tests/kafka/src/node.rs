//! One node: its settings, its data folder and its process.
//!
//! Invariant: the process of a node is guarded by a [`Watchdog`], unless it was started to outlive
//! this one.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use crate::{
    Error, Security, error::io, installation::Installation, metadata::Members, watchdog::Watchdog,
};

/// How often a node that is not there yet is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 40;

/// The settings of a node, as they go into its `server.properties`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    id: usize,
    controllers: Vec<u16>,
    port: u16,
    /// For each link of the cluster: where the node listens, and where clients find it.
    links: Vec<(u16, u16)>,
    /// Where it listens for clients that show who they are, or encrypt.
    secured: Vec<(Security, u16)>,
    extra: Vec<(String, String)>,
    /// The lowest level of messages in the log.
    pub(crate) level: &'static str,
}

impl Settings {
    /// Of the node `id` of a cluster of as many as there are controllers' ports.
    pub(crate) fn new(id: usize, controllers: &[u16], port: u16) -> Self {
        let (links, secured, extra) = (Vec::new(), Vec::new(), Vec::new());
        let controllers = controllers.to_vec();
        Self { id, controllers, port, links, secured, extra, level: "warn" }
    }

    /// Adds a listener at `port` that clients are told to reach at `advertised`.
    pub(crate) fn link(&mut self, port: u16, advertised: u16) {
        self.links.push((port, advertised));
    }

    /// Adds a listener at `port` for clients of this kind.
    pub(crate) fn secure(&mut self, security: Security, port: u16) {
        self.secured.push((security, port));
        self.extend(&security.properties());
    }

    /// The port for clients of this kind, where there is one.
    pub(crate) fn secured(&self, security: Security) -> Option<u16> {
        self.secured.iter().find(|(of, _)| *of == security).map(|(_, port)| *port)
    }

    /// Adds settings, which go before those set here.
    pub(crate) fn extend(&mut self, extra: &[(String, String)]) {
        self.extra.extend_from_slice(extra);
    }

    /// Where the node keeps its data, below the cluster's folder.
    pub(crate) fn data(&self, folder: &Path) -> PathBuf {
        folder.join(self.id.to_string())
    }

    /// Writes the file for the broker, and the one for its log, and returns the path of the former.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, Error> {
        let path = folder.join(format!("{}.properties", self.id));
        fs::write(&path, self.text(&self.data(folder)))
            .and_then(|()| fs::write(folder.join("log4j2.xml"), include_str!("../log4j2.xml")))
            .map_err(io(format!("writing {}", path.display())))?;
        Ok(path)
    }

    fn text(&self, data: &Path) -> String {
        let nodes = self.controllers.len();
        let controller = self.controllers[self.id];
        let mut listeners =
            format!("PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller}", self.port);
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{}", self.port);
        let mut protocols = String::from("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
        for (number, (port, outside)) in self.links.iter().enumerate() {
            let name = format!("LINK{number}");
            let _ = write!(listeners, ",{name}://127.0.0.1:{port}");
            let _ = write!(advertised, ",{name}://127.0.0.1:{outside}");
            let _ = write!(protocols, ",{name}:PLAINTEXT");
        }
        for (security, port) in &self.secured {
            let name = security.listener();
            let _ = write!(listeners, ",{name}://127.0.0.1:{port}");
            let _ = write!(advertised, ",{name}://127.0.0.1:{port}");
            let _ = write!(protocols, ",{name}:{}", security.protocol());
        }
        let voters = self.controllers.iter().enumerate();
        let voters: Vec<_> = voters.map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let in_sync = nodes.min(2);
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map={protocols}\n\
             log.dirs={data}\n\
             default.replication.factor={nodes}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={nodes}\n\
             offsets.topic.num.partitions=5\n\
             transaction.state.log.replication.factor={nodes}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=5\n\
             share.coordinator.state.topic.replication.factor={nodes}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             share.coordinator.state.topic.num.partitions=5\n",
            id = self.id,
            voters = voters.join(","),
            data = data.display(),
        );
        text.push_str(FIXED);
        for (name, value) in &self.extra {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}

/// What is the same for every node: no waits that only large clusters need, nothing expires, and no
/// topic comes to be by a typing error.
const FIXED: &str = "\
num.partitions=4
auto.create.topics.enable=false
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=500
group.consumer.min.heartbeat.interval.ms=100
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
";

/// A node and, while it runs, its process.
#[derive(Debug)]
pub(crate) struct Node {
    installation: Installation,
    folder: PathBuf,
    settings: Settings,
    flags: Vec<OsString>,
    process: Option<Child>,
    suspended: bool,
}

impl Node {
    /// A node that does not run yet; `flags` are those of its Java.
    pub(crate) fn new(
        installation: Installation,
        folder: PathBuf,
        settings: Settings,
        flags: Vec<OsString>,
    ) -> Self {
        Self { installation, folder, settings, flags, process: None, suspended: false }
    }

    /// What it was made with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its port for clients that take no link.
    pub(crate) fn port(&self) -> u16 {
        self.settings.port
    }

    /// Whether there is a process that is not suspended.
    pub(crate) fn serves(&self) -> bool {
        self.process.is_some() && !self.suspended
    }

    /// The process's id.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.settings.id))
    }

    /// Makes its data folder, where there is none.
    pub(crate) fn format(&self, cluster: &str) -> Result<(), Error> {
        let data = self.settings.data(&self.folder);
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        let (id, directory) = (self.settings.id, uuid());
        let meta =
            format!("version=1\ncluster.id={cluster}\nnode.id={id}\ndirectory.id={directory}\n");
        let (bootstrap, name) = self.installation.bootstrap();
        fs::create_dir_all(&data)
            .and_then(|()| fs::copy(bootstrap, data.join(name)))
            .and_then(|_| fs::write(data.join("meta.properties"), meta))
            .map_err(io(format!("formatting {}", data.display())))
    }

    /// The command that runs it, with its output to [`Self::log`].
    pub(crate) fn command(&self) -> Result<Command, Error> {
        let properties = self.settings.write(&self.folder)?;
        let mut java = self.installation.java(&self.flags);
        let mut logging = OsString::from("-Dlog4j2.configurationFile=");
        logging.push(self.folder.join("log4j2.xml"));
        java.arg(logging).arg(format!("-Dwasmill.level={}", self.settings.level));
        java.args(["-XX:+ExitOnOutOfMemoryError", "kafka.Kafka"]).arg(properties);
        java.current_dir(&self.folder);
        Ok(java)
    }

    /// Starts the process, which is not ready then.
    pub(crate) fn start(&mut self, watchdog: &mut Watchdog) -> Result<(), Error> {
        if self.process.is_some() {
            return Err(self.state("runs", "start"));
        }
        let command = self.command()?;
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log);
        let child = output.and_then(|output| watchdog.spawn(&command, &output));
        self.process =
            Some(child.map_err(io(format!("starting a broker with {}", log.display())))?);
        self.suspended = false;
        Ok(())
    }

    /// Starts the process so that it outlives this one, with a new log, and returns its id.
    pub(crate) fn start_detached(&mut self) -> Result<u32, Error> {
        let log = self.log();
        let mut command = self.command()?;
        let child = File::create(&log).and_then(|output| {
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
            command.process_group(0).spawn()
        });
        let child = child.map_err(io(format!("starting a broker with {}", log.display())))?;
        let process = child.id();
        self.process = Some(child);
        Ok(process)
    }

    /// Waits until it answers clients, and says that these brokers (ascending) are members and that
    /// there is a controller.
    pub(crate) fn await_members(&mut self, ids: &[i32], patience: Duration) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let answer = Members::ask(self.port());
            if let Ok(members) = &answer
                && members.controller.is_some()
                && ids.iter().all(|id| members.brokers.contains(id))
            {
                return Ok(());
            }
            self.assert_runs()?;
            if start.elapsed() > patience {
                let answer = answer.map_or_else(|error| error.to_string(), |m| format!("{m:?}"));
                let (node, log, tail) = (self.settings.id, self.log(), self.tail());
                return Err(Error::NotReady { node, waited: start.elapsed(), answer, log, tail });
            }
            thread::sleep(PAUSE);
        }
    }

    /// Kills it (SIGKILL); it is gone when this returns. Nothing happens where it does not run.
    pub(crate) fn kill(&mut self, watchdog: &mut Watchdog) -> Result<(), Error> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        child
            .kill()
            .and_then(|()| watchdog.release(child.id()))
            .and_then(|()| child.wait())
            .map(drop)
            .map_err(io(format!("killing broker {}", self.settings.id)))
    }

    /// How it ended by itself, if it did since it was started; after that it does not run.
    pub(crate) fn take_end(
        &mut self,
        watchdog: &mut Watchdog,
    ) -> Result<Option<ExitStatus>, Error> {
        let Some(child) = &self.process else { return Ok(None) };
        let looking = || io(format!("looking after broker {}", self.settings.id));
        // Only looked at: the watchdog forgets the id before it is free.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(None) => return Ok(None),
            // No child any more where it has been waited for, which its handle remembers.
            Ok(Some(_)) | Err(Errno::CHILD) => {}
            Err(error) => return Err(looking()(error.into())),
        }
        watchdog.release(child.id()).map_err(looking())?;
        let mut child = self.process.take().expect("it was there just now");
        child.wait().map(Some).map_err(io(format!("waiting for broker {}", self.settings.id)))
    }

    /// What its log tells of why it ended: the last error, or else the last line.
    pub(crate) fn reason(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let is_error = |line: &&str| line.contains(" ERROR ") || line.contains(" FATAL ");
        let last = log.lines().rfind(is_error).or_else(|| log.lines().last());
        last.unwrap_or_default().to_owned()
    }

    /// Has it end in good order (SIGTERM), and kills it where it does not within `patience`.
    pub(crate) fn stop(
        &mut self,
        watchdog: &mut Watchdog,
        patience: Duration,
    ) -> Result<(), Error> {
        self.signal(Signal::TERM, "stop")?;
        if self.suspended {
            self.resume()?;
        }
        let start = Instant::now();
        while let Some(child) = &mut self.process
            && start.elapsed() < patience
            && child.try_wait().map_err(io("waiting for a broker"))?.is_none()
        {
            thread::sleep(PAUSE);
        }
        self.kill(watchdog)
    }

    /// Stops its clock (SIGSTOP).
    pub(crate) fn suspend(&mut self) -> Result<(), Error> {
        self.signal(Signal::STOP, "suspend")?;
        self.suspended = true;
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::CONT, "resume")?;
        self.suspended = false;
        Ok(())
    }

    fn signal(&mut self, signal: Signal, order: &'static str) -> Result<(), Error> {
        let Some(child) = &self.process else { return Err(self.state("does not run", order)) };
        let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = process.expect("the system gives positive ids that fit");
        kill_process(process, signal).map_err(|error| Error::Io {
            what: format!("telling broker {} to {order}", self.settings.id),
            source: error.into(),
        })
    }

    fn assert_runs(&mut self) -> Result<(), Error> {
        let node = self.settings.id;
        let Some(child) = &mut self.process else {
            return Err(self.state("does not run", "serve"));
        };
        let status = child.try_wait().map_err(io("waiting for a broker"))?;
        status.map_or(Ok(()), |status| {
            let (log, tail) = (self.log(), self.tail());
            Err(Error::Ended { node, status: status.to_string(), log, tail })
        })
    }

    fn state(&self, state: &'static str, order: &'static str) -> Error {
        Error::State { node: self.settings.id, state, order }
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// A new id as Kafka writes them: 16 bytes in the URL alphabet of base 64.
pub(crate) fn uuid() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = RandomState::new();
    let letter = |at: u8| char::from(ALPHABET[random.hash_one(at) as usize % ALPHABET.len()]);
    // Two bits of the last of 22 letters count; the others must be 0.
    (0..21).map(letter).chain(['A']).collect()
}
