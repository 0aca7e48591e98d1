//! A run: a cluster, a pipeline, its instances, what goes in and what comes out.
//!
//! Invariant: an instance that ends by itself is started again, as a supervisor would, and makes the
//! run fail at its end unless the test has said that it may.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use wasmill_kafka::{Admin, Settings, TopicSpec};
use wasmill_test_kafka::{Cluster, Options as ClusterOptions, cluster_or_skip};

use crate::check::{self, Check};
use crate::commits::Commits;
use crate::feed::Feed;
use crate::input::{self, ACCOUNTS, PARTITIONS};
use crate::instance::{Instance, Start};
use crate::output::{self, Reader};
use crate::random::{Random, seed};

/// How long nothing may come out before a run is given up.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked after the instances.
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
    /// Whether they may.
    may_end: bool,
    notes: Vec<String>,
    started: Instant,
}

impl Run {
    /// Starts everything; none where no broker can be had, which is said by the test's name.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start(name: &str, options: Options) -> Option<Self> {
        let links = if options.links { options.instances + options.more } else { 0 };
        let cluster = ClusterOptions { brokers: options.brokers, links, ..Default::default() };
        let cluster = cluster_or_skip(name, cluster)?;
        let seed = seed();
        tell(&format!("{name}: CHAOS_SEED={seed}"));
        let run = Self::on(name, seed, &options, cluster);
        Some(run.unwrap_or_else(|error| panic!("{name} (CHAOS_SEED={seed}): {error:#}")))
    }

    fn on(name: &str, seed: u64, options: &Options, cluster: Cluster) -> anyhow::Result<Self> {
        let root = crate::root();
        let program = std::env::var_os("CHAOS_WASMILL");
        let program =
            program.map_or_else(|| root.join("target/release/wasmill"), PathBuf::from);
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
            let brokers =
                if options.links { cluster.link(i).bootstrap() } else { brokers.clone() };
            let (program, pipeline, cache) = (program.clone(), pipeline.clone(), cache.clone());
            // One with two workers, so that there are several in a process and in a group.
            let workers = if i == 0 { 2 } else { 1 };
            let start = Start { program, pipeline, cache, brokers, workers, most_bytes: None };
            Instance::new(&folder, &format!("instance-{i}"), start)
        };
        let mut instances: Vec<Instance> =
            (0..options.instances + options.more).map(instance).collect();
        for instance in &mut instances[..options.instances] {
            instance.start()?;
        }
        let (feed, reader) = (Feed::start(&brokers, options.rate), Reader::start(&brokers)?);
        let commits = Commits::follow(&brokers)?;
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
            may_end: false,
            notes: Vec::new(),
            started: Instant::now(),
        };
        for i in 0..options.instances {
            run.try_await_work(i)?;
        }
        Ok(run)
    }

    /// Says something about the run when it ends.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Instances may end by themselves from now on.
    pub fn may_end(&mut self) {
        self.may_end = true;
    }

    /// How often instances ended by themselves.
    pub fn ends(&self) -> usize {
        self.ends.len()
    }

    /// Lets time pass, looking after the instances.
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
        for (i, instance) in self.instances.iter_mut().enumerate() {
            let Some(status) = instance.ended()? else { continue };
            let text = format!("instance {i} ended by itself ({status}), {}", instance.tail());
            if !self.may_end {
                tell(&format!("{}: {text}", self.name));
            }
            self.ends.push(text);
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
                    "instance {instance} has committed nothing for {PATIENCE:?}, {}",
                    self.instances[instance].tail()
                );
            }
            self.look_after()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until something comes out that was put in after now.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_progress(&mut self) {
        let (start, goal) = (Instant::now(), self.feed.sent());
        while self.reader.check().entries() < goal {
            if start.elapsed() > PATIENCE {
                let came = self.reader.check().entries();
                self.fail(&format!("{came} of {goal} numbers came within {PATIENCE:?}"));
            }
            self.sleep(LOOK);
        }
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

    /// Ends the run: no more goes in, everything must come out, and it must be right; then all
    /// instances are killed, all but one lose their data, and the state that they restore must still
    /// be right.
    ///
    /// # Panics
    /// When something is not.
    pub fn finish(mut self) {
        let result = self.try_finish();
        let (count, first) = {
            let check = self.reader.check();
            let (count, first) = check.differences();
            (count, first.join("\n"))
        };
        if count > 0 {
            self.fail(&format!("{count} differences were seen, the first:\n{first}"));
        }
        let total = self.expect(result);
        if !self.ends.is_empty() && !self.may_end {
            self.fail(&format!("instances ended by themselves:\n{}", self.ends.join("\n")));
        }
        let (seconds, notes) = (self.started.elapsed().as_secs(), self.notes.join(", "));
        tell(&format!(
            "{}: passed with {total} numbers in {seconds} s: {notes} (CHAOS_SEED={})",
            self.name, self.seed
        ));
        if !crate::is_set("CHAOS_KEEP") {
            self.instances.clear();
            // What is left is found by its age.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn try_finish(&mut self) -> anyhow::Result<u64> {
        let brokers = self.cluster.bootstrap();
        let total = self.feed.end()?;
        let spans = check::spans(total).len() as u64;
        self.await_output(&format!("{total} numbers and {spans} spans"), |check| {
            check.entries() >= total && check.spans() >= spans
        })?;
        self.audit(0, total)?;
        let keeps = self.random.below(self.instances.len());
        for i in 0..self.instances.len() {
            let ran = self.instances[i].runs();
            self.kill(i);
            if ran {
                if i != keeps {
                    self.remove_data(i);
                }
                self.instances[i].start()?;
            }
        }
        self.audit(1, total)?;
        for (i, instance) in self.instances.iter_mut().enumerate() {
            if let Some(status) = instance.end(Duration::from_secs(60))? {
                ensure!(status.success(), "instance {i} ended with {status}: {}", instance.tail());
            }
        }
        // What was said meanwhile does not matter: everything is read once more, from the beginning.
        let mut check = Check::default();
        output::everything(&brokers, output::TOPIC, PATIENCE, |partition, offset, value| {
            check.take(partition, offset, value);
        })?;
        let mut sent: Vec<Vec<u64>> = vec![Vec::new(); PARTITIONS as usize];
        (0..total).for_each(|n| sent[input::partition(input::account(n)) as usize].push(n));
        let mut next = vec![0; PARTITIONS as usize];
        let mut wrong = None;
        output::everything(&brokers, input::TOPIC, PATIENCE, |partition, offset, value| {
            let at = &mut next[partition as usize];
            let expected = sent[partition as usize].get(*at).map(|n| input::value(*n));
            if expected.is_some_and(|expected| value != Some(expected.as_bytes())) {
                wrong.get_or_insert((partition, offset));
            }
            *at += 1;
        })?;
        ensure!(wrong.is_none(), "the input itself is not as it was sent, at {wrong:?}");
        let verdict = check.verdict(total, 2);
        ensure!(verdict.is_empty(), "{}", verdict.join("\n"));
        Ok(total)
    }

    fn audit(&mut self, audit: u64, total: u64) -> anyhow::Result<()> {
        self.feed.audit(audit, total)?;
        let all = ACCOUNTS as usize;
        self.await_output(&format!("audit {audit}"), |check| check.audited(audit) >= all)
    }

    /// Waits until enough has come out.
    fn await_output(
        &mut self,
        what: &str,
        enough: impl Fn(&Check) -> bool,
    ) -> anyhow::Result<()> {
        let mut last = (Instant::now(), 0);
        loop {
            let so_far = {
                let check = self.reader.check();
                if enough(&check) {
                    return Ok(());
                }
                check.entries() + check.spans()
            };
            if so_far != last.1 {
                last = (Instant::now(), so_far);
            }
            if last.0.elapsed() > PATIENCE {
                let check = self.reader.check();
                let tails: Vec<_> = self.instances.iter().map(Instance::tail).collect();
                bail!(
                    "waiting for {what}: nothing came for {PATIENCE:?}; came so far: {} numbers, {} \
                     spans\n{}",
                    check.entries(),
                    check.spans(),
                    tails.join("\n")
                );
            }
            self.look_after()?;
            std::thread::sleep(LOOK);
        }
    }
}

/// Says something on standard error, also in a test that passes.
pub fn tell(text: &str) {
    // Not by a macro, whose output a test that passes does not show.
    let _ = writeln!(std::io::stderr(), "chaos: {text}");
}
