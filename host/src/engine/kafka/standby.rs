//! Warm copies of other instances' state: each unit of tasks has its owner, whom the group tells, and
//! as many standbys as are asked for, on which all instances agree by looking at the group.
//!
//! Invariant: a copy is given up as soon as a worker of this process wants its file, and whatever goes
//! wrong with one stays with it: the stream goes on.

mod follower;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::{Duration, Instant};

use wasmill_kafka::{Fetcher, Waker};

use self::follower::{Follower, Step, Task};
use self::plan::Stand;
pub(super) use self::plan::member_settings;
use super::setup::Setup;
use crate::engine::Error;
use crate::engine::open::is_keyed;
use crate::engine::worker::lock;

/// How often the group is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// How long that may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long to sleep when nothing comes: the longest that a worker waits for a file.
const NAP: Duration = Duration::from_millis(20);
/// How many bytes all copies together hold in memory before they apply them, about.
const BYTES: usize = 64 << 20;
/// How many a single one does at least.
const LEAST_BYTES: usize = 1 << 20;
/// How long a copy that has failed waits at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The tasks that this instance is to keep copies of.
type Plan = Mutex<Arc<BTreeSet<Task>>>;

/// Keeps copies until the run ends, if the pipeline asks for any and has keyed state.
pub(super) fn start<'scope, 'env>(
    setup: &'env Setup<'env>,
    scope: &'scope Scope<'scope, 'env>,
) -> std::io::Result<()> {
    let units = units(setup);
    if setup.standby == 0 || units.is_empty() {
        return Ok(());
    }
    let plan: Arc<Plan> = Arc::default();
    let thread = |name: &str| std::thread::Builder::new().name(format!("wasmill-standby-{name}"));
    let for_looking = plan.clone();
    thread("plan").spawn_scoped(scope, move || look(setup, &units, &for_looking))?;
    thread("state").spawn_scoped(scope, move || follow(setup, &plan))?;
    Ok(())
}

/// The units that have keyed tasks, and these.
fn units(setup: &Setup<'_>) -> BTreeMap<Stand, Vec<Task>> {
    let mut units: BTreeMap<Stand, Vec<Task>> = BTreeMap::new();
    for (number, component) in setup.components.iter().enumerate() {
        for sub in component.subs.iter().copied() {
            let of = &setup.topology.subs[sub];
            if !of.stages.iter().any(|stage| is_keyed(setup.prepared, *stage)) {
                continue;
            }
            for partition in 0..of.partitions {
                let stand = (setup.leader(number).to_owned(), partition);
                units.entry(stand).or_default().push(Task { sub, partition });
            }
        }
    }
    units
}

/// Looks at the group now and then. What can't be seen changes nothing.
fn look(setup: &Setup<'_>, units: &BTreeMap<Stand, Vec<Task>>, plan: &Plan) {
    let mut last: Option<Instant> = None;
    while !setup.ending.load(Ordering::Relaxed) {
        std::thread::sleep(NAP);
        if last.is_some_and(|last| last.elapsed() < LOOK) {
            continue;
        }
        match setup.admin.members(&setup.group, TIMEOUT) {
            Ok(Some(members)) => {
                let kept = plan::kept_by(&setup.instance, units.keys(), &members, setup.standby);
                let tasks = kept.into_iter().flat_map(|unit| &units[unit]).copied();
                *lock(plan) = Arc::new(tasks.collect());
            }
            // It rebalances.
            Ok(None) => {}
            Err(error) if error.is_retriable() => {
                tracing::debug!("standbys stay as they are: {error}");
            }
            Err(error) => tracing::warn!("standbys stay as they are: {error}"),
        }
        last = Some(Instant::now());
    }
}

/// Follows the changelogs of the plan.
fn follow(setup: &Setup<'_>, plan: &Plan) {
    let waker = Waker::default();
    let fetcher = match Fetcher::new(&setup.settings, &setup.group, &waker) {
        Ok(fetcher) => fetcher,
        Err(error) => return tracing::warn!("there are no standbys: {error}"),
    };
    let mut crew = Crew { setup, fetcher, followers: BTreeMap::new(), failed: BTreeMap::new() };
    while !setup.ending.load(Ordering::Relaxed) {
        let tasks = lock(plan).clone();
        crew.round(&tasks);
        crew.fetcher.wait(NAP);
    }
    for (task, follower) in std::mem::take(&mut crew.followers) {
        crew.let_go(task, follower);
    }
}

/// The copies of this instance.
struct Crew<'a> {
    setup: &'a Setup<'a>,
    fetcher: Fetcher,
    followers: BTreeMap<Task, Follower>,
    failed: BTreeMap<Task, Failed>,
}

/// When a copy has failed, and how long it waits until it is tried again.
struct Failed {
    at: Instant,
    wait: Duration,
}

impl Crew<'_> {
    fn round(&mut self, tasks: &BTreeSet<Task>) {
        let goes = |(task, follower): (&Task, &Follower)| {
            let stays = tasks.contains(task) && !self.setup.open_files.is_awaited(&follower.name);
            (!stays).then_some(*task)
        };
        let gone: Vec<Task> = self.followers.iter().filter_map(goes).collect();
        for task in gone {
            if let Some(follower) = self.followers.remove(&task) {
                self.let_go(task, follower);
            }
        }
        for task in tasks {
            let rests = self.failed.get(task).is_some_and(|f| f.at.elapsed() < f.wait);
            if !rests && !self.followers.contains_key(task) {
                self.begin(*task, None);
            }
        }
        let most_bytes = LEAST_BYTES.max(BYTES / self.followers.len().max(1));
        let followed: Vec<Task> = self.followers.keys().copied().collect();
        for task in followed {
            let Some(follower) = self.followers.get_mut(&task) else { continue };
            match follower.step(most_bytes) {
                Ok(Step::Follows) => {}
                Ok(Step::Anew(start)) => {
                    // Closed first: it is the same file.
                    let name = self.followers.remove(&task).map(|follower| follower.name);
                    tracing::info!(
                        task = name,
                        start,
                        "the changelog begins behind what a standby has: it begins anew"
                    );
                    self.begin(task, Some(start));
                }
                Err(error) => {
                    self.followers.remove(&task);
                    self.fail(task, &error);
                }
            }
        }
    }

    fn begin(&mut self, task: Task, anew: Option<i64>) {
        match Follower::begin(self.setup, &self.fetcher, task, anew) {
            Ok(Some(follower)) => {
                self.followers.insert(task, follower);
            }
            // It is looked at again in the next round.
            Ok(None) => {}
            Err(error) => self.fail(task, &error),
        }
    }

    fn let_go(&mut self, task: Task, follower: Follower) {
        self.failed.remove(&task);
        if let Err(error) = follower.let_go() {
            self.fail(task, &error);
        }
    }

    fn fail(&mut self, task: Task, error: &Error) {
        // What went well for long begins with the shortest again.
        let before = self.failed.get(&task).filter(|f| f.at.elapsed() < 2 * RETRY.1);
        let wait = before.map_or(RETRY.0, |f| (f.wait * 2).min(RETRY.1));
        let name = task.name(self.setup);
        tracing::warn!(task = name, "a standby has failed and is tried again in {wait:?}: {error}");
        self.failed.insert(task, Failed { at: Instant::now(), wait });
    }
}
