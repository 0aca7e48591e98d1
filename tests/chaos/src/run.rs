//! A run: a cluster, a pipeline, its instances, what goes in and what comes out.
//!
//! Invariant: an instance that ends by itself is started again, as a supervisor would, and makes the
//! run fail at its end unless the test has said that it may. So is a broker, whose end is Kafka's
//! doing: the run goes on, and says so when it ends.

mod brokers;
mod finish;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use wasmill_kafka::{Admin, Settings, TopicSpec};
use wasmill_test_kafka::{Cluster, Options as ClusterOptions, cluster_or_skip};

use crate::commits::Commits;
use crate::feed::Feed;
use crate::input::{self, PARTITIONS};
use crate::instance::{Instance, Start};
use crate::output::{self, Reader};
use crate::random::{Random, seed};
use crate::standing;

/// How long nothing may come out before a run is given up.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often instances may end by themselves before a run is given up at once; brokers likewise.
const ENDS: usize = 5;
/// How often it is looked after instances and brokers.
const LOOK: Duration = Duration::from_millis(20);

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Brokers: 1 or 3.
    pub brokers: usize,
    /// Instances that run from the beginning.
    pub instances: usize,
    /// Instances that can be started later, by the numbers after those.
    pub more: usize,
    /// Whether each instance has a way to the brokers of its own, which can be cut.
    pub links: bool,
    /// Numbers that go in, a second.
    pub rate: u32,
    /// Kafka's timeout of sessions.
    pub session_ms: u64,
    /// Kafka's timeout of transactions.
    pub transaction_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: 1,
            instances: 3,
            more: 0,
            links: false,
            rate: 500,
            session_ms: 1_500,
            transaction_ms: 4_000,
        }
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Run {
    name: String,
    /// What all choices follow from.
    pub seed: u64,
    /// The choices.
    pub random: Random,
    folder: PathBuf,
    /// Before the cluster, so that they end first.
    pub instances: Vec<Instance>,
    feed: Feed,
    reader: Reader,
    commits: Commits,
    /// The cluster.
    pub cluster: Cluster,
    /// How instances ended by themselves.
    ends: Vec<String>,
    /// How often brokers did.
    broker_ends: usize,
    /// The one that is not started again.
    left_alone: Option<usize>,
    notes: Vec<String>,
    started: Instant,
    /// Held to the end: no other run goes on meanwhile.
    _turn: File,
}

impl Run {
    /// Waits until no other run goes on, then starts everything; none where no broker can be had,
    /// which is said by the test's name.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start(name: &str, options: Options) -> Option<Self> {
        let turn = turn().unwrap_or_else(|error| panic!("{name}: no turn: {error:#}"));
        let links = if options.links { options.instances + options.more } else { 0 };
        let cluster = ClusterOptions { brokers: options.brokers, links, ..Default::default() };
        let cluster = cluster_or_skip(name, cluster)?;
        let seed = seed();
        tell(&format!("{name}: CHAOS_SEED={seed}"));
        let run = Self::on(name, seed, &options, cluster, turn);
        Some(run.unwrap_or_else(|error| panic!("{name} (CHAOS_SEED={seed}): {error:#}")))
    }

    fn on(
        name: &str,
        seed: u64,
        options: &Options,
        cluster: Cluster,
        turn: File,
    ) -> anyhow::Result<Self> {
        let root = crate::root();
        let program = std::env::var_os("CHAOS_WASMILL");
        let program = program.map_or_else(|| root.join("target/release/wasmill"), PathBuf::from);
        let plugins = root.join("target/plugins");
        ensure!(program.exists(), "there is no {}; run `make build`", program.display());
        let ledger = plugins.join("ledger.wasm");
        ensure!(ledger.exists(), "there is no {}; run `make test-plugins`", ledger.display());
        let folder = root.join(format!("target/chaos/{name}-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let pipeline = folder.join("pipeline.toml");
        let plugins = plugins.to_str().context("the project's path is not UTF-8")?;
        let text = input::pipeline(plugins, options.session_ms, options.transaction_ms);
        std::fs::write(&pipeline, text)?;

        let brokers = cluster.bootstrap();
        let admin = Admin::connect(&Settings::new(&brokers), Duration::from_secs(30))?;
        let topic = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: Some(PARTITIONS),
            ..TopicSpec::default()
        };
        admin.ensure_topics(&[topic(input::TOPIC), topic(output::TOPIC)])?;

        let cache = root.join("target/chaos/compiled");
        let instance = |i: usize| {
            let brokers = if options.links { cluster.link(i).bootstrap() } else { brokers.clone() };
            let (program, pipeline, cache) = (program.clone(), pipeline.clone(), cache.clone());
            // One with two workers, so that there are several in a process and in a group.
            let workers = if i == 0 { 2 } else { 1 };
            let start = Start { program, pipeline, cache, brokers, workers, full: None };
            Instance::new(&folder, &format!("instance-{i}"), start)
        };
        let mut instances: Vec<Instance> =
            (0..options.instances + options.more).map(instance).collect();
        for instance in &mut instances[..options.instances] {
            instance.start()?;
        }
        let feed = Feed::start(&brokers, options.rate, &folder.join("feed.log"))?;
        let reader = Reader::start(&brokers)?;
        let commits = Commits::follow(&brokers);
        let mut run = Self {
            name: name.to_owned(),
            seed,
            random: Random::new(seed),
            folder,
            instances,
            feed,
            reader,
            commits,
            cluster,
            ends: Vec::new(),
            broker_ends: 0,
            left_alone: None,
            notes: Vec::new(),
            started: Instant::now(),
            _turn: turn,
        };
        for i in 0..options.instances {
            run.try_await_work(i)?;
        }
        Ok(run)
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says something about the run when it ends.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Lets time pass, looking after instances and brokers.
    pub fn sleep(&mut self, time: Duration) {
        let start = Instant::now();
        loop {
            let looked = self.look_after();
            self.expect(looked);
            match time.checked_sub(start.elapsed()) {
                Some(left) => std::thread::sleep(left.min(LOOK)),
                None => return,
            }
        }
    }

    /// Starts again what has ended by itself.
    fn look_after(&mut self) -> anyhow::Result<()> {
        self.look_after_brokers()?;
        for (i, instance) in self.instances.iter_mut().enumerate() {
            if self.left_alone == Some(i) {
                continue;
            }
            let Some(status) = instance.ended()? else { continue };
            let last = instance.said();
            let last = last.lines().last().unwrap_or_default();
            let text = format!("instance {i} ended by itself ({status}): {last}");
            tell(&format!("{}: {text}", self.name));
            self.ends.push(text);
            if self.ends.len() > ENDS {
                bail!("instances end by themselves again and again:\n{}", self.ends.join("\n"));
            }
            if let Some(producers) = instance.producers() {
                self.commits.forget(&producers);
            }
            instance.start()?;
        }
        Ok(())
    }

    /// How many transactions an instance has committed since it was started.
    pub fn committed(&self, instance: usize) -> u64 {
        let producers = self.instances[instance].producers();
        producers.map_or(0, |producers| self.commits.count(&producers))
    }

    /// Waits until an instance has committed since it was started, so has had partitions and done
    /// work on them.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_work(&mut self, instance: usize) {
        let result = self.try_await_work(instance);
        self.expect(result);
    }

    fn try_await_work(&mut self, instance: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.committed(instance) == 0 {
            if start.elapsed() > PATIENCE {
                bail!(
                    "instance {instance} has committed nothing for {PATIENCE:?}; known are {}\n{}",
                    self.commits.describe(),
                    self.tails()
                );
            }
            self.look_after()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until an instance has committed once more.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_more_work(&mut self, instance: usize) {
        let count = |run: &Self| {
            let producers = run.instances[instance].producers();
            producers.map_or(0, |producers| run.commits.ever(&producers))
        };
        let (start, before) = (Instant::now(), count(self));
        while count(self) == before {
            if start.elapsed() > PATIENCE {
                let (known, tails) = (self.commits.describe(), self.tails());
                let what = format!("has committed no more than {before} times; known are {known}");
                self.fail(&format!("instance {instance} {what}\n{tails}"));
            }
            self.sleep(LOOK);
        }
    }

    /// Waits until an instance has said more than what it had said, by a test of what is new.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_saying(&mut self, instance: usize, said: usize, wanted: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !wanted(&self.instances[instance].said()[said..]) {
            if start.elapsed() > PATIENCE {
                let tail = self.instances[instance].tail();
                self.fail(&format!("instance {instance} did not say what it should, {tail}"));
            }
            self.sleep(LOOK);
        }
    }

    /// Waits until an instance that is about to fail has ended by itself, and returns what it said
    /// last. It is not started again.
    ///
    /// # Panics
    /// When that takes too long, or it ends as if all were well.
    pub fn await_failure(&mut self, instance: usize) -> String {
        self.left_alone = Some(instance);
        let start = Instant::now();
        loop {
            let ended = self.instances[instance].ended();
            if let Some(status) = self.expect(ended) {
                let tail = self.instances[instance].tail();
                if status.success() {
                    self.fail(&format!("instance {instance} ended as if all were well, {tail}"));
                }
                self.left_alone = None;
                return tail;
            }
            if start.elapsed() > PATIENCE {
                let tail = self.instances[instance].tail();
                self.fail(&format!("instance {instance} goes on, expected that it fails, {tail}"));
            }
            self.sleep(LOOK);
        }
    }

    /// Has an instance end in good order (SIGINT).
    ///
    /// # Panics
    /// When it takes too long, or ends with an error.
    pub fn end(&mut self, instance: usize) {
        let ended = self.instances[instance].end(PATIENCE);
        let status = self.expect(ended);
        if status.is_some_and(|status| !status.success()) {
            let tail = self.instances[instance].tail();
            self.fail(&format!("instance {instance} did not end well: {status:?}, {tail}"));
        }
        if let Some(producers) = self.instances[instance].producers() {
            self.commits.forget(&producers);
        }
    }

    /// Waits until something comes out that was put in after now.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_progress(&mut self) {
        let (start, goal) = (Instant::now(), self.feed.sent() as usize);
        while self.reader.progress().numbers() < goal {
            if start.elapsed() > PATIENCE {
                let missing = self.reader.progress().missing(goal as u64);
                self.fail(&format!("after {PATIENCE:?} {missing}\n{}", self.tails()));
            }
            self.sleep(LOOK);
        }
    }

    /// How topics stand, and the ends of what the instances have said.
    fn tails(&self) -> String {
        let tails: Vec<_> = self.instances.iter().map(Instance::tail).collect();
        format!("{}{}", standing::describe(&self.cluster.bootstrap()), tails.join("\n"))
    }

    /// Kills an instance (SIGKILL); says whether it had committed since it was started.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn kill(&mut self, instance: usize) -> bool {
        let committed = self.committed(instance) > 0;
        let killed = self.instances[instance].kill();
        self.expect(killed.map(drop));
        if let Some(producers) = self.instances[instance].producers() {
            self.commits.forget(&producers);
        }
        committed
    }

    /// Starts an instance that does not run.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn start_instance(&mut self, instance: usize) {
        let started = self.instances[instance].start();
        self.expect(started);
    }

    /// Removes the data directory of an instance that does not run.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn remove_data(&mut self, instance: usize) {
        let removed = std::fs::remove_dir_all(self.instances[instance].data());
        self.expect(removed.context("a data directory can't be removed"));
    }

    /// Takes the value, or fails the run.
    ///
    /// # Panics
    /// With the seed and where the logs are, when there is none.
    pub fn expect<T>(&self, result: anyhow::Result<T>) -> T {
        result.unwrap_or_else(|error| self.fail(&format!("{error:#}")))
    }

    /// Fails the run.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, what: &str) -> ! {
        panic!(
            "{} (CHAOS_SEED={}) has failed: {what}\nlogs: {}",
            self.name,
            self.seed,
            self.folder.display()
        )
    }
}

/// Waits until no other run goes on, in this process or another, and keeps others waiting until the
/// file is closed: they would take each other's processor time, and sessions would end by that.
///
/// # Errors
/// When the file can't be made or locked.
pub fn turn() -> anyhow::Result<File> {
    let folder = crate::root().join("target/chaos");
    std::fs::create_dir_all(&folder)?;
    let file = File::create(folder.join("turn"))?;
    file.lock()?;
    Ok(file)
}

/// Says something on standard error, also in a test that passes.
pub fn tell(text: &str) {
    // Not by a macro, whose output a test that passes does not show.
    let _ = writeln!(std::io::stderr(), "chaos: {text}");
}
