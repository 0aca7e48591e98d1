//! This process as a member of the group: one membership, whose units its workers share evenly.
//!
//! Invariant: a unit has one worker at most, and the group is told that units are given up only when
//! their workers have committed and closed them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmill_kafka::{Event, GroupMetadata, Membership, NotAMember, Waker};

use super::setup::Setup;
use super::standby;
use super::topics;
use super::units::Unit;
use crate::engine::Error;
use crate::engine::open::is_keyed;
use crate::engine::worker::lock;

/// How often the membership is served when nothing wakes it.
const SERVE: Duration = Duration::from_millis(20);
/// After how long the same complaint is said again.
const AGAIN: Duration = Duration::from_secs(10);

/// The membership, for all threads.
pub(super) struct Group {
    membership: Mutex<Membership>,
    waker: Waker,
    rebalances: AtomicU64,
    /// Whether the group has given it anything, or told it that there is nothing.
    joined: AtomicBool,
}

/// What a worker is to do about units.
pub(super) enum Order {
    /// Open them.
    Open(Vec<Unit>),
    /// Commit and close them; the other end waits until this is dropped.
    GiveUp(Vec<Unit>, Sender<()>),
    /// Others have them already: drop what was not committed, and close them.
    Lost(Vec<Unit>, Sender<()>),
}

/// A worker, seen from the group.
pub(super) struct Seat {
    orders: Sender<Order>,
    waker: Waker,
    units: BTreeSet<Unit>,
}

impl Seat {
    /// A seat, and where its worker gets its orders.
    pub(super) fn new(waker: Waker) -> (Self, Receiver<Order>) {
        let (orders, receiver) = channel();
        (Self { orders, waker, units: BTreeSet::new() }, receiver)
    }

    fn order(&self, order: Order) {
        // A worker that is gone has said why, and the run is about to end.
        let _ = self.orders.send(order);
        self.waker.wake();
    }

    fn open(&mut self, units: Vec<Unit>) {
        if !units.is_empty() {
            self.units.extend(&units);
            self.order(Order::Open(units));
        }
    }
}

impl Group {
    /// Joins the group.
    pub(super) fn join(setup: &Setup<'_>) -> Result<Arc<Self>, Error> {
        let waker = Waker::default();
        let leaders: Vec<&str> = (0..setup.components.len()).map(|c| setup.leader(c)).collect();
        let membership = Membership::join(
            &standby::member_settings(&setup.settings, &setup.instance),
            &setup.group,
            &leaders,
            setup.strategy,
            setup.static_member.as_deref(),
            &waker,
        )?;
        let membership = Mutex::new(membership);
        let (rebalances, joined) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Arc::new(Self { membership, waker, rebalances, joined }))
    }

    /// The membership as it is now, for a commit.
    pub(super) fn metadata(&self) -> Result<GroupMetadata, NotAMember> {
        lock(&self.membership).metadata()
    }

    /// How often units were assigned, revoked or lost.
    pub(super) fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Relaxed)
    }

    /// Whether the group has told this process what it has.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Serves the membership until the run ends.
    pub(super) fn serve(&self, setup: &Setup<'_>, mut seats: Vec<Seat>) -> Result<(), Error> {
        let mut complaint = Complaint::default();
        let components = setup.components.iter().enumerate();
        let leaders: Vec<(&str, u32)> =
            components.map(|(c, of)| (setup.leader(c), of.partitions)).collect();
        while !setup.ending.load(Ordering::Relaxed) {
            let (events, rebalances) = {
                let mut membership = lock(&self.membership);
                (membership.poll(Duration::ZERO), membership.rebalances())
            };
            // Before anybody can see what it changes.
            self.rebalances.store(rebalances, Ordering::Relaxed);
            for event in &events {
                match event {
                    Event::Assigned(partitions) => {
                        lock(&self.membership).acknowledge(event)?;
                        let (units, strange) = units_of(&leaders, partitions);
                        if let Some((topic, partition, known)) = strange {
                            return Err(topics::grown(topic, partition + 1, known));
                        }
                        share(&mut seats, units);
                    }
                    Event::Revoked(partitions) => {
                        take(&mut seats, &units_of(&leaders, partitions).0, Order::GiveUp);
                        lock(&self.membership).acknowledge(event)?;
                    }
                    Event::Lost(partitions) => {
                        tracing::warn!(
                            "partitions were given to others meanwhile; what was not committed is dropped"
                        );
                        take(&mut seats, &units_of(&leaders, partitions).0, Order::Lost);
                        lock(&self.membership).acknowledge(event)?;
                    }
                    Event::Error { why, fatal: false } => {
                        complaint.say(why);
                        continue;
                    }
                    Event::Error { why, fatal: true } => {
                        let (group, why) = (setup.group.clone(), why.clone());
                        return Err(Error::Group { group, why });
                    }
                }
                divide(setup, &seats);
                self.joined.store(true, Ordering::Relaxed);
            }
            if events.is_empty() {
                self.waker.wait(SERVE);
            }
        }
        Ok(())
    }
}

/// What goes wrong at the group: the same is said again only after a while.
#[derive(Default)]
struct Complaint(Option<(String, Instant)>);

impl Complaint {
    fn say(&mut self, why: &str) {
        let again = |(what, when): &(String, Instant)| what == why && when.elapsed() < AGAIN;
        if !self.0.as_ref().is_some_and(again) {
            tracing::warn!("{why}");
            self.0 = Some((why.to_owned(), Instant::now()));
        }
    }
}

/// The units that partitions stand for, by the leaders of the components and how many partitions these
/// had; and the first that stands for none, as it was added since, with how many there were.
fn units_of<'p>(
    leaders: &[(&str, u32)],
    partitions: &'p [(String, u32)],
) -> (Vec<Unit>, Option<(&'p str, u32, u32)>) {
    let (mut units, mut strange) = (Vec::new(), None);
    for (topic, partition) in partitions {
        let Some(component) = leaders.iter().position(|(leader, _)| leader == topic) else {
            continue;
        };
        let known = leaders[component].1;
        if *partition < known {
            units.push(Unit { component, partition: *partition });
        } else {
            strange.get_or_insert((topic.as_str(), *partition, known));
        }
    }
    (units, strange)
}

/// Divides the memory for state among the tasks that are here.
fn divide(setup: &Setup<'_>, seats: &[Seat]) {
    let units = seats.iter().flat_map(|seat| &seat.units);
    let here: usize = units.map(|unit| keyed_stages(setup, *unit)).sum();
    let bytes = setup.prepared.pipeline.engine.cache_bytes as usize;
    // Never less than if all of them were here.
    setup.share.store((bytes / here.max(1)).max(setup.budget), Ordering::Relaxed);
}

/// How many keyed stages the tasks of a unit have.
fn keyed_stages(setup: &Setup<'_>, unit: Unit) -> usize {
    let subs = setup.components[unit.component].subs.iter().map(|sub| &setup.topology.subs[*sub]);
    let here = subs.filter(|sub| unit.partition < sub.partitions);
    here.flat_map(|sub| &sub.stages).filter(|stage| is_keyed(setup.prepared, **stage)).count()
}

/// Has the workers give units up, in whatever way, and waits until they have.
fn take(seats: &mut [Seat], units: &[Unit], how: fn(Vec<Unit>, Sender<()>) -> Order) {
    let (done, wait) = channel();
    for seat in seats {
        let own: Vec<Unit> = units.iter().copied().filter(|u| seat.units.remove(u)).collect();
        if !own.is_empty() {
            seat.order(how(own, done.clone()));
        }
    }
    drop(done);
    // Until all of them have dropped their end.
    let _ = wait.recv();
}

/// Gives units to the workers that have least, and evens out what they have.
fn share(seats: &mut [Seat], units: Vec<Unit>) {
    let mut had: Vec<BTreeSet<Unit>> = seats.iter().map(|seat| seat.units.clone()).collect();
    let moves = plan(&mut had, &units);
    for (unit, from, _) in &moves {
        take(&mut seats[*from..=*from], &[*unit], Order::GiveUp);
    }
    for (seat, has) in seats.iter_mut().zip(had) {
        let new: Vec<Unit> = has.difference(&seat.units).copied().collect();
        seat.open(new);
    }
}

/// Who gets new units, and which go from one worker to another, so that none has two more than any
/// other, and two more of one component only where that can't be helped.
fn plan(had: &mut [BTreeSet<Unit>], units: &[Unit]) -> Vec<(Unit, usize, usize)> {
    let of = |has: &BTreeSet<Unit>, component: usize| {
        has.iter().filter(|unit| unit.component == component).count()
    };
    for unit in units {
        let load = |has: &&mut BTreeSet<Unit>| (has.len(), of(has, unit.component));
        if let Some(least) = had.iter_mut().min_by_key(load) {
            least.insert(*unit);
        }
    }
    let mut moves = Vec::new();
    loop {
        let numbers = 0..had.len();
        let most = numbers.clone().max_by_key(|n| (had[*n].len(), usize::MAX - n));
        let least = numbers.min_by_key(|n| had[*n].len());
        let (Some(most), Some(least)) = (most, least) else { return moves };
        if had[most].len() < had[least].len() + 2 {
            return moves;
        }
        let surplus = |unit: &&Unit| {
            of(&had[most], unit.component) as isize - of(&had[least], unit.component) as isize
        };
        let unit = had[most].iter().max_by_key(surplus).copied();
        let Some(unit) = unit else { return moves };
        had[most].remove(&unit);
        had[least].insert(unit);
        // One that has only just come goes to where it belongs at once.
        if !units.contains(&unit) {
            moves.push((unit, most, least));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(component: usize, partition: u32) -> Unit {
        Unit { component, partition }
    }

    /// It was passed over without a word, and what was in it was never read.
    #[test]
    fn a_partition_that_was_added_to_an_input_is_told() {
        let partitions =
            [("a", 1), ("b", 0), ("b", 2), ("c", 0)].map(|(topic, p)| (topic.to_owned(), p));
        let leaders = [("a", 2), ("b", 2)];
        assert_eq!(units_of(&leaders, &partitions[..2]), (vec![unit(0, 1), unit(1, 0)], None));
        let (units, strange) = units_of(&leaders, &partitions);
        assert_eq!(units, [unit(0, 1), unit(1, 0)]);
        let (topic, partition, known) = strange.unwrap();
        let said = topics::grown(topic, partition + 1, known).to_string();
        assert!(said.starts_with("topic b has 3 partitions now, and had 2"), "{said}");
    }

    #[test]
    fn units_of_each_component_are_spread_over_the_workers() {
        let mut had = vec![BTreeSet::new(), BTreeSet::new()];
        let units: Vec<Unit> = (0..2).flat_map(|c| (0..4).map(move |p| unit(c, p))).collect();
        assert!(plan(&mut had, &units).is_empty());
        for has in &had {
            for component in 0..2 {
                assert_eq!(has.iter().filter(|u| u.component == component).count(), 2);
            }
        }
    }

    #[test]
    fn what_is_left_after_others_were_given_up_is_evened_out() {
        let mut had = vec![(0..4).map(|p| unit(0, p)).collect(), BTreeSet::new()];
        let moves = plan(&mut had, &[]);
        assert_eq!(moves.len(), 2);
        assert!(had.iter().all(|has: &BTreeSet<Unit>| has.len() == 2));
    }

    proptest! {
        #[test]
        fn every_unit_has_one_worker_and_no_worker_has_two_more_than_another(
            old in prop::collection::vec((0..3usize, 0..8u32, 0..5usize), 0..20),
            new in prop::collection::btree_set((0..3usize, 8..16u32), 0..20),
            workers in 1..5usize,
        ) {
            let mut had = vec![BTreeSet::new(); workers];
            let mut seen = BTreeSet::new();
            for (component, partition, worker) in old {
                if seen.insert(unit(component, partition)) {
                    had[worker % workers].insert(unit(component, partition));
                }
            }
            let before = had.clone();
            let new: Vec<Unit> = new.into_iter().map(|(c, p)| unit(c, p)).collect();
            let moves = plan(&mut had, &new);
            let all: Vec<Unit> = had.iter().flatten().copied().collect();
            prop_assert_eq!(all.len(), seen.len() + new.len());
            prop_assert_eq!(all.into_iter().collect::<BTreeSet<_>>(),
                seen.into_iter().chain(new.iter().copied()).collect::<BTreeSet<_>>());
            let (most, least) = (had.iter().map(BTreeSet::len).max(), had.iter().map(BTreeSet::len).min());
            prop_assert!(most.unwrap() <= least.unwrap() + 1);
            // A unit that is told to move was there, and whatever is no longer there was told to.
            for (worker, was) in before.iter().enumerate() {
                let gone: BTreeSet<Unit> = was.difference(&had[worker]).copied().collect();
                let told: BTreeSet<Unit> =
                    moves.iter().filter(|(u, _, _)| was.contains(u)).map(|(u, _, _)| *u).collect();
                prop_assert!(gone.is_subset(&told));
            }
        }
    }
}
