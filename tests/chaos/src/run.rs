//! A run: a cluster, a pipeline, its instances, what goes in and what comes out.
//!
//! Invariant: an instance that ends by itself is started again, as a supervisor would, and makes the
//! run fail at its end unless the test has said that it may.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use wasmill_kafka::{Admin, Settings, TopicSpec};
use wasmill_test_kafka::{Cluster, Options as ClusterOptions, cluster_or_skip};

use crate::check::{self, Check, Input, Progress};
use crate::commits::Commits;
use crate::feed::Feed;
use crate::input::{self, ACCOUNTS, PARTITIONS};
use crate::instance::{Instance, Start};
use crate::output::{self, Reader};
use crate::random::{Random, seed};

/// How long nothing may come out before a run is given up.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often instances may end by themselves before a run is given up at once.
const ENDS: usize = 5;
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
    /// The one that is not started again.
    left_alone: Option<usize>,
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
            left_alone: None,
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
                    "instance {instance} has committed nothing for {PATIENCE:?}, {}",
                    self.instances[instance].tail()
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
                let tail = self.instances[instance].tail();
                self.fail(&format!("instance {instance} has committed no more, {tail}"));
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
                let came = self.reader.progress().numbers();
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
        let total = self.expect(result);
        if !self.ends.is_empty() {
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
        let total = self.feed.end()?;
        let spans = check::count_spans(total);
        let came = self.await_output(&format!("{total} numbers and {spans} spans"), |came| {
            came.numbers() as u64 >= total && came.spans() >= spans
        });
        if let Err(error) = came {
            // What is missing, and whether it was the pipeline's fault, is seen by the whole of it.
            let compared = self.compare(total, 0).err();
            return Err(compared.unwrap_or_else(|| anyhow!("everything is right in the end")))
                .with_context(|| format!("{error:#}"));
        }
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
        self.compare(total, 2)?;
        Ok(total)
    }

    /// Reads everything that went in and came out, and compares it.
    fn compare(&mut self, total: u64, audits: u64) -> anyhow::Result<()> {
        let brokers = self.cluster.bootstrap();
        let (mut input, mut wrong) = (Input::default(), None);
        output::everything(&brokers, input::TOPIC, PATIENCE, |partition, _, value| {
            if let Err(why) = input.take(partition, value) {
                wrong.get_or_insert(why);
            }
        })?;
        let resent = match wrong {
            None => input.resent(total),
            Some(why) => Err(why),
        };
        match resent.map_err(|why| anyhow!("not the pipeline is wrong, but its input: {why}"))? {
            0 => {}
            resent => self.note(format!("{resent} numbers went in more than once")),
        }
        let mut check = Check::new(input);
        output::everything(&brokers, output::TOPIC, PATIENCE, |partition, offset, value| {
            check.take(partition, offset, value);
        })?;
        let verdict = check.verdict(audits);
        ensure!(verdict.is_empty(), "what came out is wrong:\n{}", verdict.join("\n"));
        Ok(())
    }

    fn audit(&mut self, audit: u64, total: u64) -> anyhow::Result<()> {
        self.feed.audit(audit, total)?;
        let all = ACCOUNTS as usize;
        self.await_output(&format!("audit {audit}"), |came| came.audited(audit) >= all)
    }

    /// Waits until enough has come out.
    fn await_output(
        &mut self,
        what: &str,
        enough: impl Fn(&Progress) -> bool,
    ) -> anyhow::Result<()> {
        let mut last = (Instant::now(), 0);
        loop {
            let so_far = {
                let progress = self.reader.progress();
                if enough(&progress) {
                    return Ok(());
                }
                progress.numbers() + progress.spans()
            };
            if so_far != last.1 {
                last = (Instant::now(), so_far);
            }
            if last.0.elapsed() > PATIENCE {
                let progress = self.reader.progress();
                let tails: Vec<_> = self.instances.iter().map(Instance::tail).collect();
                bail!(
                    "waiting for {what}: nothing came for {PATIENCE:?}; came so far: {} numbers, {} \
                     spans\n{}",
                    progress.numbers(),
                    progress.spans(),
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
