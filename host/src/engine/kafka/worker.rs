//! A worker on Kafka: one client that reads, one transactional producer, and the tasks of the units
//! that it is told to open.
//!
//! Invariant: between two commits everything that tasks have read, given and changed belongs to one
//! transaction. When it is aborted, every task of the worker is dropped and opened anew from the last
//! commit.

mod commit;
mod connect;
mod lent;
mod places;
mod rollback;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use wasmill_core::change::Changes;
use wasmill_kafka::{Fetcher, Producer, Waker};

use super::apply::{Message, StateFile};
use super::failpoint;
use super::feed::KafkaFeed;
use super::group::{Group, Order};
use super::janitor::Needless;
use super::kept::Kept;
use super::open::{self, OpenTask};
use super::outbox::{Handles, Outbox};
use super::setup::Setup;
use super::shown;
use super::trim::Trim;
use super::units::Unit;
use crate::admin::figures;
use crate::engine::Error;
use crate::engine::report::Progress;
use crate::engine::shown::{INTERVAL, update};
use crate::engine::task::{Run, Saved};
use crate::engine::worker::{lock, now_ms};
use connect::Connecting;
use lent::Lent;
use steps::Waiting;

/// How many pieces of work a task gets before it is the next one's turn.
const TURNS: usize = 8;
/// How long a worker sleeps at most when there is nothing to do.
const NAP: Duration = Duration::from_millis(5);
/// The same while a commit waits for deliveries.
const STEP: Duration = Duration::from_millis(1);
/// Most bytes that tasks give while there is no producer, after which they wait.
const WAITING_BYTES: usize = 16 << 20;
/// How long requests to Kafka may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the last commit a task that waits for one gets it.
const HELD: Duration = Duration::from_millis(10);
/// How long taking a transaction back may take at the end.
const LAST: Duration = Duration::from_secs(3);
/// How long to wait before a producer is made anew after it was of no use any more.
const RETRY: Duration = Duration::from_millis(500);

/// A task that runs.
struct Live {
    run: Run<KafkaFeed, Outbox>,
    file: Option<Arc<StateFile>>,
    partition: u32,
    /// The epoch of its changes since the last commit.
    epoch: u64,
    /// Whether it did something since the last commit.
    touched: bool,
    /// The last epoch that it knows to be applied.
    applied: u64,
    /// Where it stands by its last commit; none when it has made none.
    saved: Option<Saved>,
    /// Where its inputs from topics began, in the order of the layout.
    begun: Vec<Option<i64>>,
    /// Whether it waits for a commit that says where its inputs begin before it reads any of them.
    held: bool,
    /// What its records in the changelog bear.
    stamp: Option<u64>,
    trim: Trim,
    shown: figures::Task,
}

/// A unit that it is to have.
enum Assigned {
    Opening { stop: Arc<AtomicBool>, number: u64 },
    Open(Vec<Live>),
}

type Opened = (Unit, u64, Result<Vec<OpenTask>, Error>);

/// A worker.
pub(super) struct Worker<'scope, 'env> {
    setup: &'env Setup<'env>,
    scope: &'scope Scope<'scope, 'env>,
    name: String,
    group: Arc<Group>,
    orders: Receiver<Order>,
    fetcher: Fetcher,
    waker: Waker,
    /// None while it is being connected, or lent to a commit.
    producer: Option<Producer>,
    connecting: Option<Connecting>,
    topics: Arc<[Handles]>,
    /// The changelogs, by sub-topology.
    changelogs: Arc<[wasmill_kafka::Topic]>,
    units: BTreeMap<Unit, Assigned>,
    opened: (Sender<Opened>, Receiver<Opened>),
    openings: u64,
    apply: Sender<Message>,
    needless: Sender<Needless>,
    /// When the last commit began.
    last_commit: Instant,
    shown: figures::Worker,
    /// When that was last brought up to date.
    told: Instant,
    /// What was read since the last commit.
    read: Arc<Progress>,
    /// Room for what a task has changed.
    changes: Changes,
    /// 0: it has tasks that have not ended; 1: all have; 2: it has none.
    standing: usize,
    /// Bytes of memory that a keyed stage of its tasks has.
    share: usize,
    /// Where a topic of the pipeline's own began too late the last time, if no commit came since.
    gone: Option<(String, u32, i64)>,
    /// Whether the producer is to be made anew, whatever it can still do.
    distrusted: bool,
    /// With transactions: what was sent in the one that is open.
    kept: Option<Kept>,
    /// With transactions: the commit that goes on.
    lent: Option<Lent<'env>>,
    /// Without: the commit that goes on.
    waiting: Option<Waiting<'env>>,
}

impl<'scope, 'env> Worker<'scope, 'env> {
    /// Makes its clients.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn start(
        setup: &'env Setup<'env>,
        scope: &'scope Scope<'scope, 'env>,
        number: usize,
        group: Arc<Group>,
        (orders, waker): (Receiver<Order>, Waker),
        apply: Sender<Message>,
        needless: Sender<Needless>,
    ) -> Result<Self, Error> {
        let name = format!("{}-{}-{number}", setup.group, setup.instance);
        let connecting = Connecting::begin(setup, scope, &name, &waker);
        let fetcher = Fetcher::new(&setup.settings, &setup.group, &waker)?;
        setup.bare.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            setup,
            scope,
            name,
            group,
            orders,
            fetcher,
            waker,
            producer: None,
            connecting: Some(connecting),
            topics: Arc::new([]),
            changelogs: Arc::new([]),
            units: BTreeMap::new(),
            opened: channel(),
            openings: 0,
            apply,
            needless,
            last_commit: Instant::now(),
            shown: setup.figures.worker(number.to_string()),
            told: Instant::now(),
            read: Arc::default(),
            changes: Changes::default(),
            standing: 2,
            share: setup.budget,
            gone: None,
            distrusted: false,
            kept: setup.exactly_once.then(Kept::default),
            lent: None,
            waiting: None,
        })
    }

    /// Works until it is told to stop; ends with a last commit.
    pub(super) fn work(mut self) -> Result<(), Error> {
        let result = self.run();
        if result.is_ok() {
            self.apply_all();
        }
        for assigned in self.units.values() {
            if let Assigned::Opening { stop, .. } = assigned {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if let Some(producer) = self.producer.as_mut().filter(|producer| producer.is_open()) {
            // Whoever takes the partitions would wait for the transaction to time out.
            producer.set_timeout(LAST);
            let _ = producer.abort();
        }
        self.units.clear();
        result
    }

    /// Whether the run is over, however.
    fn is_ending(&self) -> bool {
        self.setup.ending.load(Ordering::Relaxed)
    }

    /// Has everything applied to the state files, so that the next start need not read it again from
    /// changelogs; not where all inputs have ended, as nothing is read on then.
    fn apply_all(&self) {
        if self.standing == 0 {
            let (done, wait) = channel();
            // The applier has ended only if it has failed, which it says itself.
            let _ = self.apply.send(Message::Finish(done));
            let _ = wait.recv();
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        loop {
            if self.is_ending() {
                let failed = lock(&self.setup.error).is_some();
                return if failed { Ok(()) } else { self.commit_last() };
            }
            let result = self.round();
            self.recover(result)?;
        }
    }

    fn round(&mut self) -> Result<(), Error> {
        self.obey()?;
        self.divide();
        if self.told.elapsed() >= INTERVAL {
            self.tell();
        }
        self.take_opened()?;
        let worked = self.work_on_tasks()?;
        let over = self.last_commit.elapsed() >= self.until_commit();
        if over || self.is_committing() {
            self.go_on()?;
            if over && !self.is_committing() {
                self.begin()?;
            }
            self.stand();
        }
        if !worked {
            let left = match self.waiting {
                None => self.until_commit().saturating_sub(self.last_commit.elapsed()),
                // Nothing wakes it when what it waits for is delivered.
                Some(_) => STEP,
            };
            let left = if self.producer.is_none() { NAP } else { left };
            self.producer.iter_mut().for_each(Producer::poll);
            self.fetcher.wait(NAP.min(left.max(Duration::from_micros(100))));
        }
        Ok(())
    }

    /// How long after the last commit the next one begins.
    fn until_commit(&self) -> Duration {
        let held = |assigned: &Assigned| match assigned {
            Assigned::Open(tasks) => tasks.iter().any(|task| task.held),
            Assigned::Opening { .. } => false,
        };
        if self.units.values().any(held) {
            self.setup.interval.min(HELD)
        } else {
            self.setup.interval
        }
    }

    /// Does some work on every task. Returns whether there was any.
    fn work_on_tasks(&mut self) -> Result<bool, Error> {
        let mut worked = false;
        let due = self.last_commit + self.setup.interval;
        let mut room = self.room();
        for assigned in self.units.values_mut() {
            let Assigned::Open(tasks) = assigned else { continue };
            for task in tasks.iter_mut().filter(|task| !task.held) {
                if let Some(applied) = task.file.as_ref().map(|file| file.applied())
                    && applied > task.applied
                {
                    task.applied = applied;
                    task.run.task.applied(applied);
                }
                for _ in 0..TURNS {
                    let before = task.run.outlet.bytes();
                    let more = room > 0 && task.run.work(now_ms())?;
                    room = room.saturating_sub(task.run.outlet.bytes() - before);
                    task.touched |= !task.run.outlet.is_empty();
                    if let Some(producer) = &mut self.producer
                        && !task.run.outlet.is_empty()
                    {
                        begin(producer)?;
                        let epoch = task.run.epoch;
                        task.run.outlet.send(producer, &self.topics, epoch, &mut self.kept)?;
                    }
                    if !more {
                        break;
                    }
                    task.touched = true;
                    worked = true;
                    self.setup.first.get_or_init(|| self.setup.began.elapsed());
                    if Instant::now() >= due {
                        break;
                    }
                }
            }
        }
        Ok(worked)
    }

    /// How many bytes tasks may still give: what they give while there is no producer waits in them.
    fn room(&self) -> usize {
        let stepwise = failpoint::is_set();
        if self.producer.is_some() {
            return if stepwise && self.is_committing() { 0 } else { usize::MAX };
        }
        let open = self.units.values().filter_map(|assigned| match assigned {
            Assigned::Open(tasks) => Some(tasks),
            Assigned::Opening { .. } => None,
        });
        let given: usize = open.flatten().map(|task| task.run.outlet.bytes()).sum();
        let most = if stepwise { 1 } else { WAITING_BYTES };
        most.saturating_sub(given)
    }

    /// Opens and closes units as it is told.
    fn obey(&mut self) -> Result<(), Error> {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Open(units) => {
                    // A status that shows the tasks shows the rebalance that brought them.
                    self.tell();
                    for unit in units {
                        shown::assigned(self.setup, unit);
                        self.open(unit, Duration::ZERO);
                    }
                    self.stand();
                }
                Order::GiveUp(units, _done) => {
                    if units.iter().any(|u| matches!(self.units.get(u), Some(Assigned::Open(_)))) {
                        // Whatever becomes of the commit, the group waits for an answer.
                        let result = self.commit();
                        self.recover(result)?;
                    }
                    self.close(&units);
                }
                Order::Lost(units, _done) => {
                    self.roll_back()?;
                    self.close(&units);
                }
            }
        }
        Ok(())
    }

    /// Gives its tasks what memory they have now.
    fn divide(&mut self) {
        let share = self.setup.share.load(Ordering::Relaxed);
        if share == std::mem::replace(&mut self.share, share) {
            return;
        }
        for assigned in self.units.values_mut() {
            let Assigned::Open(tasks) = assigned else { continue };
            tasks.iter_mut().for_each(|task| task.run.task.set_budget(open::keys_of(share)));
        }
    }

    /// Opens a unit's tasks in the background, after a while.
    fn open(&mut self, unit: Unit, after: Duration) {
        self.openings += 1;
        let (number, stop) = (self.openings, Arc::new(AtomicBool::new(false)));
        self.units.insert(unit, Assigned::Opening { stop: stop.clone(), number });
        let (setup, sender, waker) = (self.setup, self.opened.0.clone(), self.waker.clone());
        let leaders = self.fetcher.leaders();
        self.scope.spawn(move || {
            std::thread::sleep(after);
            let result = open::unit(setup, unit, &stop);
            result.iter().for_each(|tasks| open::find_leaders(tasks, &leaders));
            // Nobody listens any more when the worker has stopped.
            let _ = sender.send((unit, number, result));
            waker.wake();
        });
    }

    /// Takes units that are open now, and begins to read their inputs.
    fn take_opened(&mut self) -> Result<(), Error> {
        while let Ok((unit, number, result)) = self.opened.1.try_recv() {
            match self.units.get(&unit) {
                Some(Assigned::Opening { number: wanted, .. }) if *wanted == number => {}
                // It was given up meanwhile.
                _ => continue,
            }
            let opened = match result {
                Ok(opened) => opened,
                Err(Error::Kafka(e)) if self.passes(&e) => {
                    tracing::warn!(worker = self.name, "opening a task is tried again: {e}");
                    self.open(unit, RETRY);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let mut opened = opened;
            open::attach(&mut opened, &self.fetcher)?;
            let mut tasks = Vec::new();
            for OpenTask { mut run, file, partition, saved, begun, held, stamp, .. } in opened {
                run.progress = self.read.clone();
                run.task.set_budget(open::keys_of(self.share));
                tracing::debug!(worker = self.name, task = run.name, "task is open");
                // Where it begins is to be committed, if nothing else is; and others are to see that
                // it has a new owner.
                let touched = held || (stamp.is_some() && !run.ended);
                let (epoch, applied) = (1, 0);
                let trim = Trim::new(saved.as_ref().map_or(0, Saved::logged));
                let shown = shown::list(self.setup, &run, &self.shown);
                tasks.push(Live {
                    run,
                    file,
                    partition,
                    epoch,
                    touched,
                    applied,
                    saved,
                    begun,
                    held,
                    stamp,
                    trim,
                    shown,
                });
            }
            self.units.insert(unit, Assigned::Open(tasks));
        }
        Ok(())
    }

    fn close(&mut self, units: &[Unit]) {
        for unit in units {
            if let Some(Assigned::Opening { stop, .. }) = self.units.remove(unit) {
                stop.store(true, Ordering::Relaxed);
            }
        }
        self.stand();
    }

    /// Tells how this worker stands, for the end of bounded runs.
    fn stand(&mut self) {
        let live = || {
            self.units.values().filter_map(|a| match a {
                Assigned::Open(tasks) => Some(tasks),
                Assigned::Opening { .. } => None,
            })
        };
        let now = if self.units.is_empty() {
            2
        } else if live().count() == self.units.len()
            && live().flatten().all(|t| t.run.ended && !t.touched)
            && !self.is_committing()
        {
            1
        } else {
            0
        };
        for (unit, assigned) in &self.units {
            if let Assigned::Open(tasks) = assigned
                && !self.is_committing()
                && tasks.iter().all(|t| t.run.ended && !t.touched)
            {
                lock(&self.setup.ended).insert(*unit);
            }
        }
        let counter = |standing| match standing {
            1 => Some(&self.setup.done),
            2 => Some(&self.setup.bare),
            _ => None,
        };
        if now != self.standing {
            if let Some(counter) = counter(now) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(counter) = counter(self.standing) {
                counter.fetch_sub(1, Ordering::Relaxed);
            }
            self.standing = now;
        }
    }

    /// Tells how this worker and its tasks stand.
    fn tell(&mut self) {
        self.told = Instant::now();
        let mut opening = 0;
        for assigned in self.units.values() {
            match assigned {
                Assigned::Opening { .. } => opening += 1,
                Assigned::Open(tasks) => tasks.iter().for_each(|t| update(&t.run, &t.shown)),
            }
        }
        if opening == 0 && self.setup.reads_bounded_topics() {
            let left = |task: &Live| {
                let feeds = task.run.inputs.iter().filter_map(|input| input.feed.as_ref());
                feeds.filter_map(KafkaFeed::left).sum::<u64>()
            };
            let open = self.units.values().flat_map(|assigned| match assigned {
                Assigned::Open(tasks) => tasks.as_slice(),
                Assigned::Opening { .. } => &[],
            });
            self.setup.progress.set_left(&self.name, open.map(left).sum());
        }
        let (rebalances, units) = (self.group.rebalances(), self.units.len() as u64);
        self.shown.update(|w| (w.rebalances, w.units, w.opening) = (rebalances, units, opening));
    }
}

fn begin(producer: &mut Producer) -> Result<(), Error> {
    if producer.is_open() { Ok(()) } else { producer.begin().map_err(Error::Commit) }
}
