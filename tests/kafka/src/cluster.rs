//! A cluster of one or three nodes, and what can be done to it.
//!
//! Invariant: a node answers clients when [`Cluster::start`] or [`Cluster::restart`] returns, and
//! lists every other node that serves.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use crate::{
    Cut, Error, Proxy, Security, artifacts, error,
    installation::Installation,
    node::{self, Node, Settings},
    ports::Port,
    security,
    watchdog::Watchdog,
};

/// For a node to be ready: seconds on a machine at rest, many times that on a busy one.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// For a node to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// A port may be taken by another program between its choice and its use.
const START_ATTEMPTS: usize = 3;
/// Logs of failed tests are kept for so long.
const KEEP_LOGS: Duration = Duration::from_secs(24 * 60 * 60);

/// How a cluster is set up. From a number: that many brokers, and defaults for the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// The number of brokers, from 1 to 9; 1 and 3 make sense. Each is a controller too.
    pub brokers: usize,
    /// The number of ways to the cluster that can be cut, each on its own (see [`Link`]).
    pub links: usize,
    /// Each broker's heap in MiB; without, 512 for one broker and 384 for several.
    pub heap_mib: Option<u32>,
    /// What the brokers' Java is made for.
    pub jvm: Jvm,
    /// Whether there are listeners for each [`Security`] too.
    pub secured: bool,
    /// Settings of the brokers, which go before those that are set by default.
    pub properties: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        let (brokers, links, heap_mib, jvm) = (1, 0, None, Jvm::QuickStart);
        Self { brokers, links, heap_mib, jvm, secured: false, properties: Vec::new() }
    }
}

impl From<usize> for Options {
    fn from(brokers: usize) -> Self {
        Self { brokers, ..Self::default() }
    }
}

/// What a broker's Java is made for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Jvm {
    /// To be up soon with little work: for tests.
    QuickStart,
    /// As Java is by default: for measurements, and for brokers that run for long.
    Throughput,
}

impl Jvm {
    /// The flags of a Java for this, with this heap.
    pub(crate) fn flags(self, heap_mib: u32) -> Vec<OsString> {
        let heap = OsString::from(format!("-Xmx{heap_mib}m"));
        match self {
            Self::Throughput => vec![heap],
            Self::QuickStart => {
                vec![heap, "-XX:+UseSerialGC".into(), "-XX:TieredStopAtLevel=1".into()]
            }
        }
    }
}

/// How a broker ended by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// How its process ended.
    pub status: ExitStatus,
    /// The last error in its log, or else the log's last line.
    pub reason: String,
}

/// A running cluster. Brokers are counted from 0, which is also their id in Kafka's answers.
///
/// Dropping it ends its brokers and removes their data. Where the thread panics meanwhile, the ends
/// of their logs go to standard error, and the logs stay. Should this process be killed, the brokers
/// end with it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    links: Vec<Link>,
    watchdog: Watchdog,
    folder: PathBuf,
    /// Whether its logs stay when it ends.
    failed: bool,
    _lock: File,
    ports: Vec<Port>,
}

impl Cluster {
    /// Starts a cluster and waits until each of its brokers knows all others and a controller. The
    /// first start on a machine downloads and prepares the broker; others wait for that.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the machine lacks something, others where a broker does not start.
    ///
    /// # Panics
    /// Where the number of brokers is not from 1 to 9.
    pub fn start(options: impl Into<Options>) -> Result<Self, Error> {
        let options = options.into();
        assert!((1..=9).contains(&options.brokers), "{} brokers, expected 1 to 9", options.brokers);
        let installation = Installation::provide(&crate::folder())?;
        let mut attempt = 1;
        loop {
            let mut cluster = Self::new(&installation, &options)?;
            match cluster.await_all() {
                Err(Error::Ended { tail, .. })
                    if attempt < START_ATTEMPTS && tail.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => {
                    cluster.failed = true;
                    return Err(error);
                }
                Ok(()) => return Ok(cluster),
            }
        }
    }

    fn new(installation: &Installation, options: &Options) -> Result<Self, Error> {
        let (folder, lock) = run_folder(&crate::folder().join("run"))?;
        let watchdog = Watchdog::start(&folder).map_err(error::io("starting the watchdog"))?;
        let (nodes, links, ports) = (Vec::new(), Vec::new(), Vec::new());
        let mut cluster =
            Self { nodes, links, watchdog, folder, failed: false, _lock: lock, ports };
        let controllers: Vec<_> =
            (0..options.brokers).map(|_| cluster.take_port()).collect::<Result<_, _>>()?;
        cluster.links.resize_with(options.links, || Link { proxies: Vec::new() });
        let heap = options.heap_mib.unwrap_or(if options.brokers == 1 { 512 } else { 384 });
        let id = node::uuid();
        if options.secured {
            security::make_certificate(&installation.keytool(), &cluster.folder)?;
        }
        for broker in 0..options.brokers {
            let port = cluster.take_port()?;
            let mut settings = Settings::new(broker, &controllers, port);
            for link in 0..options.links {
                let port = cluster.take_port()?;
                let proxy = Proxy::start(port).map_err(error::io("starting a proxy"))?;
                settings.link(port, proxy.port());
                cluster.links[link].proxies.push(proxy);
            }
            if options.secured {
                for security in Security::ALL {
                    settings.secure(security, cluster.take_port()?);
                }
                settings.extend(&security::properties(&cluster.folder));
            }
            settings.extend(&options.properties);
            let flags = options.jvm.flags(heap);
            let folder = cluster.folder.clone();
            cluster.nodes.push(Node::new(installation.clone(), folder, settings, flags));
            cluster.nodes[broker].format(&id)?;
            cluster.nodes[broker].start(&mut cluster.watchdog)?;
        }
        Ok(cluster)
    }

    fn take_port(&mut self) -> Result<u16, Error> {
        let port =
            Port::take(&crate::folder().join("ports")).map_err(error::io("taking a port"))?;
        let number = port.number;
        self.ports.push(port);
        Ok(number)
    }

    /// The addresses of all brokers, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        join(self.nodes.iter().map(Node::port))
    }

    /// The same for clients that show who they are, or encrypt.
    ///
    /// # Panics
    /// Where there are no such listeners (see [`Options::secured`]).
    pub fn secured(&self, security: Security) -> String {
        let port = |node: &Node| node.settings().secured(security).expect("it has the listeners");
        join(self.nodes.iter().map(port))
    }

    /// The file with the certificate that the brokers show, in PEM, where there are listeners with
    /// TLS.
    pub fn certificate(&self) -> PathBuf {
        security::certificate(&self.folder)
    }

    /// The number of brokers, whether they run or not.
    pub fn brokers(&self) -> usize {
        self.nodes.len()
    }

    /// A way to the cluster that can be cut.
    ///
    /// # Panics
    /// Where there are not so many (see [`Options::links`]).
    pub fn link(&self, number: usize) -> &Link {
        &self.links[number]
    }

    /// The id of a broker's process, while it has one.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn process(&self, broker: usize) -> Option<u32> {
        self.nodes[broker].process()
    }

    /// The file with what a broker says.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn log(&self, broker: usize) -> PathBuf {
        self.nodes[broker].log()
    }

    /// How a broker ended by itself, if it did since it was started, and what the last error in its
    /// log is. It does not run after that, and this tells of it once.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn take_end(&mut self, broker: usize) -> Result<Option<End>, Error> {
        let end = self.nodes[broker].take_end(&mut self.watchdog)?;
        Ok(end.map(|status| End { status, reason: self.nodes[broker].reason() }))
    }

    /// Kills a broker (SIGKILL); it is gone on return. One that does not run stays so.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn kill(&mut self, broker: usize) -> Result<(), Error> {
        self.nodes[broker].kill(&mut self.watchdog)
    }

    /// Has a broker end in good order (SIGTERM): it hands over what it leads. One that takes more
    /// than 30 s for it, as it may without a controller, is killed. A suspended one is resumed.
    ///
    /// # Errors
    /// [`Error::State`] where it does not run.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn stop(&mut self, broker: usize) -> Result<(), Error> {
        self.nodes[broker].stop(&mut self.watchdog, STOP_PATIENCE)
    }

    /// Starts a broker that was killed or stopped, with its data and at its port, and waits until it
    /// is ready. One that runs is killed before.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::NotReady`] where it does not get ready.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn restart(&mut self, broker: usize) -> Result<(), Error> {
        self.kill(broker)?;
        self.nodes[broker].start(&mut self.watchdog)?;
        self.await_all()
    }

    /// Stops a broker's clock (SIGSTOP): its connections stay, and nothing answers.
    ///
    /// # Errors
    /// [`Error::State`] where it does not run.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn suspend(&mut self, broker: usize) -> Result<(), Error> {
        self.nodes[broker].suspend()
    }

    /// Lets a suspended broker go on (SIGCONT). It may take some time to be a member again; see
    /// [`Self::await_all`].
    ///
    /// # Errors
    /// [`Error::State`] where it does not run.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn resume(&mut self, broker: usize) -> Result<(), Error> {
        self.nodes[broker].resume()
    }

    /// Waits until every broker that runs and is not suspended answers, knows all others of these,
    /// and knows a controller.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::NotReady`] where that does not come within 120 s.
    pub fn await_all(&mut self) -> Result<(), Error> {
        let serve = |(id, node): (usize, &Node)| node.serves().then_some(id as i32);
        let ids: Vec<_> = self.nodes.iter().enumerate().filter_map(serve).collect();
        let mut serving = self.nodes.iter_mut().filter(|node| node.serves());
        serving.try_for_each(|node| node.await_members(&ids, START_PATIENCE))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let panics = thread::panicking();
        let failed = panics || self.failed;
        for node in &mut self.nodes {
            if let Err(error) = node.kill(&mut self.watchdog) {
                eprintln!("{error}");
            }
            if panics {
                eprintln!("The end of {}:\n{}", node.log().display(), node.tail());
            }
            if failed && let Err(error) = artifacts::remove(&node.settings().data(&self.folder)) {
                eprintln!("the data of a broker in {} is left: {error}", self.folder.display());
            }
        }
        if !failed && let Err(error) = artifacts::remove(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}

/// A way to all brokers of a cluster: whoever bootstraps here is told addresses that are on this way
/// too, and is cut off by [`Self::cut`], while others are not. One for each client makes faults of
/// single clients.
#[derive(Debug)]
pub struct Link {
    proxies: Vec<Proxy>,
}

impl Link {
    /// The addresses for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        join(self.proxies.iter().map(Proxy::port))
    }

    /// Cuts the ways to all brokers.
    pub fn cut(&self, cut: Cut) {
        self.proxies.iter().for_each(|proxy| proxy.cut(cut));
    }

    /// Mends all of them.
    pub fn heal(&self) {
        self.proxies.iter().for_each(Proxy::heal);
    }

    /// The way to one broker.
    ///
    /// # Panics
    /// Where there is no such broker.
    pub fn proxy(&self, broker: usize) -> &Proxy {
        &self.proxies[broker]
    }
}

fn join(ports: impl Iterator<Item = u16>) -> String {
    ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

/// A new folder for a cluster, locked as long as the file is open; old logs of others go.
fn run_folder(runs: &Path) -> Result<(PathBuf, File), Error> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = runs.join(format!("{}-{number}", std::process::id()));
    let make = || {
        fs::create_dir_all(runs)?;
        sweep(runs)?;
        // A process of an earlier day may have had the same id.
        artifacts::remove(&folder)?;
        fs::create_dir(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    };
    let lock = make().map_err(error::io(format!("making {}", folder.display())))?;
    Ok((folder, lock))
}

/// Removes what clusters left that are long gone.
fn sweep(runs: &Path) -> io::Result<()> {
    for run in fs::read_dir(runs)? {
        let run = run?.path();
        let Ok(lock) = File::open(run.join("lock")) else { continue };
        let age = lock.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > KEEP_LOGS && lock.try_lock().is_ok() {
            artifacts::remove(&run)?;
        }
    }
    Ok(())
}
