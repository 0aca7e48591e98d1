//! The broker of `make kafka`: one node that outlives the program that started it.
//!
//! Invariant: at most one runs for a folder, and its data stays from one start to the next.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Error, Jvm, artifacts,
    error::io,
    installation::Installation,
    node::{self, Node, Settings},
    ports::Port,
};

const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// More is not taken from the machine, and less is where less is enough.
const HEAP_MIB: u32 = 1024;

/// A broker that is started and stopped by hand.
///
/// Its folder holds its data (`0/`), its log (`0.log`), its settings (`0.properties`, written at each
/// start) and, while it runs, its process and port (`process`).
#[derive(Clone, Debug)]
pub struct Standalone {
    folder: PathBuf,
}

/// A broker that runs on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Running {
    /// The id of its process.
    pub process: u32,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Standalone {
    /// The broker whose data is in this folder, or will be.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file with what the broker says.
    pub fn log(&self) -> PathBuf {
        self.folder.join("0.log")
    }

    /// The broker, where it runs.
    pub fn running(&self) -> Option<Running> {
        let text = fs::read_to_string(self.process_file()).ok()?;
        let (process, port) = text.trim().split_once(' ')?;
        let running = Running { process: process.parse().ok()?, port: port.parse().ok()? };
        self.is_broker(running.process).then_some(running)
    }

    /// Starts the broker and waits until it is ready. Where it runs already, nothing happens, and its
    /// port may be another one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the machine lacks something, [`Error::Port`] where the port is
    /// taken, others where the broker does not start.
    pub fn start(&self, port: u16) -> Result<Running, Error> {
        fs::create_dir_all(&self.folder)
            .map_err(io(format!("making {}", self.folder.display())))?;
        let _lock = artifacts::lock(&self.folder, "lock")?;
        if let Some(running) = self.running() {
            return Ok(running);
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            return Err(Error::Port { port });
        }
        artifacts::retry(&crate::folder());
        let installation = Installation::provide(&crate::folder())?;
        let controller = Port::take(&crate::folder().join("ports")).map_err(io("taking a port"))?;
        let mut settings = Settings::new(0, &[controller.number], port);
        settings.extend(&[("auto.create.topics.enable".into(), "true".into())]);
        let flags = Jvm::Throughput.flags(HEAP_MIB);
        let mut node = Node::new(installation, self.folder.clone(), settings, flags);
        node.format(&node::uuid())?;
        let process = node.start_detached()?;
        let ready = fs::write(self.process_file(), format!("{process} {port}\n"))
            .map_err(io(format!("writing {}", self.process_file().display())))
            .and_then(|()| node.await_members(&[0], START_PATIENCE));
        match ready {
            Ok(()) => Ok(Running { process, port }),
            Err(error) => {
                self.signal(process, Signal::KILL)?;
                Err(error)
            }
        }
    }

    /// Ends the broker and waits until it is gone; then what it was, or none where it did not run.
    /// Its data stays.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn stop(&self) -> Result<Option<Running>, Error> {
        let Some(running) = self.running() else { return Ok(None) };
        self.signal(running.process, Signal::TERM)?;
        let start = Instant::now();
        while self.is_broker(running.process) {
            if start.elapsed() > STOP_PATIENCE {
                self.signal(running.process, Signal::KILL)?;
            }
            thread::sleep(PAUSE);
        }
        let file = self.process_file();
        fs::remove_file(&file).map_err(io(format!("removing {}", file.display())))?;
        Ok(Some(running))
    }

    fn process_file(&self) -> PathBuf {
        self.folder.join("process")
    }

    fn signal(&self, process: u32, signal: Signal) -> Result<(), Error> {
        let id = i32::try_from(process).ok().and_then(Pid::from_raw);
        match id.map(|id| kill_process(id, signal)) {
            Some(Err(error)) if error != rustix::io::Errno::SRCH => Err(Error::Io {
                what: format!("ending the broker (process {process})"),
                source: error.into(),
            }),
            // Gone is what it is meant to be.
            _ => Ok(()),
        }
    }

    /// Whether the process is this broker: its id may be another program's by now, and a process
    /// that ended keeps its id until its parent looks.
    fn is_broker(&self, process: u32) -> bool {
        let command = fs::read(format!("/proc/{process}/cmdline")).or_else(|_| {
            let id = process.to_string();
            Command::new("ps").args(["-o", "command=", "-p", &id]).output().map(|ps| ps.stdout)
        });
        let settings = self.folder.join("0.properties");
        command.is_ok_and(|command| {
            String::from_utf8_lossy(&command).contains(&*settings.to_string_lossy())
        })
    }
}
