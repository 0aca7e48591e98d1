//! The commit of a worker: what its tasks have read, given and changed since the last one becomes
//! visible, all or nothing.
//!
//! Invariant: an offset is committed only with what followed from the records before it, and what is
//! dropped from topics is nothing that a commit still refers to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use wasmill_core::change::Changes;
use wasmill_kafka::{
    CommitError, Delivered, NO_HEADERS, NotAMember, Offsets, Producer, Record, Ticket,
};

use super::places::Places;
use super::{Assigned, Live, Worker, begin};
use crate::engine::Error;
use crate::engine::kafka::apply::{Job, Message};
use crate::engine::kafka::changelog::Kind;
use crate::engine::kafka::failpoint;
use crate::engine::kafka::janitor::Needless;
use crate::engine::kafka::kept::Kept;
use crate::engine::kafka::outbox::Handles;
use crate::engine::kafka::setup::Setup;
use crate::engine::kafka::units::Unit;
use crate::engine::report::Progress;
use crate::engine::worker::lock;

impl<'env> Worker<'_, 'env> {
    /// Whether a commit goes on, or there is no producer yet for one.
    pub(super) fn is_committing(&self) -> bool {
        self.connecting.is_some() || self.lent.is_some() || self.waiting.is_some()
    }

    /// Begins a commit of what all tasks have done, which work need not wait for.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if self.setup.exactly_once { self.lend() } else { self.begin_steps() }
    }

    /// Goes on with the commit that goes on, without waiting.
    pub(super) fn go_on(&mut self) -> Result<(), Error> {
        self.take_connected(false)?;
        if self.setup.exactly_once { self.take_back(false) } else { self.step() }
    }

    /// Commits what all tasks have done, and waits for it.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.wait()?;
        self.begin()?;
        self.wait()
    }

    fn wait(&mut self) -> Result<(), Error> {
        self.take_connected(true)?;
        self.take_back(true)?;
        self.finish_steps()
    }

    /// Whether there is anything to commit; if so, and there is no membership, it is dropped.
    pub(super) fn is_to_be_committed(&mut self) -> Result<bool, Error> {
        let pressed = |t: &Live| t.run.task.is_pressed();
        let live = self.units.values().filter_map(|a| match a {
            Assigned::Open(tasks) => Some(tasks),
            Assigned::Opening { .. } => None,
        });
        let is_open = self.producer.as_ref().is_some_and(Producer::is_open);
        let due = is_open || live.flatten().any(|t| t.touched || pressed(t));
        self.last_commit = Instant::now();
        if !due {
            return Ok(false);
        }
        if let Err(e) = self.group.metadata() {
            self.expelled(&e)?;
            return Ok(false);
        }
        self.producer.as_mut().map_or(Ok(()), begin)?;
        Ok(true)
    }

    /// Ends the epochs of all tasks that did something: sends what they have given, and returns what
    /// changed.
    pub(super) fn cut(&mut self) -> Result<Cut<'env>, Error> {
        let producer = self.producer.as_mut().expect("one commit at a time has it");
        let read = Progress::default();
        read.take_over(&self.read);
        let mut cut = Cut { frozen: Vec::new(), kept: None, places: Places::default(), read };
        for (unit, assigned) in &mut self.units {
            let Assigned::Open(tasks) = assigned else { continue };
            for task in tasks {
                if task.touched {
                    let frozen = freeze(
                        *unit,
                        task,
                        producer,
                        &self.topics,
                        &mut self.kept,
                        &mut self.changes,
                    )?;
                    note(self.setup, task);
                    cut.frozen.push(frozen);
                    task.epoch += 1;
                    task.touched = false;
                }
                cut.places.add(self.setup, task);
            }
            // Offsets of every unit: by them Kafka checks that it is this worker's.
            cut.places.stand_for(self.setup.leader(unit.component), unit.partition);
        }
        cut.kept = self.kept.as_mut().map(std::mem::take);
        Ok(cut)
    }

    /// Sees to what follows from a commit, or from its failure.
    pub(super) fn conclude(
        &mut self,
        cut: Cut<'env>,
        result: Result<Delivered, CommitError>,
    ) -> Result<(), Error> {
        match result {
            Ok(delivered) => {
                self.settle(cut, &delivered);
                Ok(())
            }
            Err(refused @ CommitError::Refused { .. }) => Err(Error::Commit(refused)),
            // There is no time to do it again.
            Err(why) if self.is_ending() => Err(Error::Commit(why)),
            Err(why) => {
                tracing::warn!(worker = self.name, "a commit has failed and is done again: {why}");
                self.distrust(&why);
                self.roll_back()
            }
        }
    }

    /// Sees to what follows from a commit.
    pub(super) fn settle(&mut self, cut: Cut<'env>, delivered: &Delivered) {
        failpoint::at(failpoint::AFTER_COMMIT);
        // What the pipeline wrote for itself and has read.
        for (topic, partition, before) in cut.places.iter() {
            if before > 0 && self.setup.is_frames(topic) {
                let topic = topic.to_owned();
                let _ = self.needless.send(Needless { topic, partition, before });
            }
        }
        self.setup.progress.take_over(&cut.read);
        tracing::trace!(worker = self.name, after = ?self.last_commit.elapsed(), "committed");
        self.committed(cut.frozen, delivered);
        self.gone = None;
        self.setup.commits.fetch_add(1, Ordering::Relaxed);
        self.shown.committed(self.last_commit.elapsed());
    }

    /// Drops what can't be committed, as there is no membership to check it against.
    pub(super) fn expelled(&mut self, why: &NotAMember) -> Result<(), Error> {
        tracing::warn!(worker = self.name, "what was not committed is dropped: {why}");
        if self.is_ending() { Ok(()) } else { self.roll_back() }
    }

    /// Has what was committed applied, and what it makes needless dropped.
    fn committed(&mut self, frozen: Vec<Frozen>, delivered: &Delivered) {
        for Frozen { unit, name, epoch, ticket, packs, .. } in frozen {
            let Some(Assigned::Open(tasks)) = self.units.get_mut(&unit) else { continue };
            let Some(task) = tasks.iter_mut().find(|t| t.run.name == name) else { continue };
            let offset = delivered.offsets[ticket.expect("it was sent").0];
            task.held = false;
            let bytes = packs.iter().map(Vec::len).sum();
            let before = match &task.file {
                None => Some(offset),
                Some(file) => {
                    let (file, urgent) = (Arc::downgrade(file), task.run.task.is_pressed());
                    let job = Job { task: name, file, packs, offset, epoch, urgent };
                    // The applier has ended only if it has failed, which it says itself.
                    let _ = self.apply.send(Message::Commit(job));
                    task.trim.committed(offset, bytes)
                }
            };
            if let Some(before) = before {
                let topic = self.setup.changelog(task.run.sub);
                let needless = Needless { topic, partition: task.partition, before };
                let _ = self.needless.send(needless);
            }
        }
    }
}

/// About how large a record of a changelog gets, in bytes: below what a broker takes by default.
const PACK_BYTES: usize = 900_000;

/// What a commit is of.
pub(super) struct Cut<'env> {
    frozen: Vec<Frozen>,
    /// What its tasks have given.
    kept: Option<Kept>,
    /// Where inputs are read on.
    places: Places<'env>,
    /// What was read for it.
    read: Progress,
}

impl<'env> Cut<'env> {
    /// Sends what changed and where tasks stand.
    pub(super) fn log(
        &mut self,
        producer: &mut Producer,
        changelogs: &[wasmill_kafka::Topic],
    ) -> Result<(), Error> {
        for frozen in &mut self.frozen {
            let (topic, partition) = (changelogs[frozen.sub], frozen.unit.partition);
            let (pack_key, task_key) = (Kind::Pack.key(frozen.stamp), Kind::Task.key(frozen.stamp));
            for pack in &frozen.packs {
                let (key, value) = (Some(pack_key.as_slice()), Some(pack.as_slice()));
                producer
                    .send(Record { topic, partition, key, value, timestamp: None }, NO_HEADERS)?;
            }
            let (key, value) = (Some(task_key.as_slice()), Some(frozen.saved.as_slice()));
            let record = Record { topic, partition, key, value, timestamp: None };
            frozen.ticket = Some(producer.send_tracked(record, NO_HEADERS)?);
        }
        Ok(())
    }

    /// Whether all of it can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        self.kept.as_ref().is_some_and(Kept::is_whole)
    }

    /// Sends all of it again, in a transaction that has just begun.
    pub(super) fn send_again(
        &mut self,
        producer: &mut Producer,
        topics: &[Handles],
        changelogs: &[wasmill_kafka::Topic],
    ) -> Result<(), Error> {
        self.kept.iter().try_for_each(|kept| kept.send(producer, topics))?;
        self.log(producer, changelogs)
    }

    /// The offsets for the group.
    pub(super) fn offsets(&self) -> Vec<Offsets<'env>> {
        let each = self.places.iter();
        each.map(|(topic, partition, next)| Offsets { topic, partition, next, metadata: None })
            .collect()
    }
}

/// What a task leaves in a commit that is not decided yet.
struct Frozen {
    unit: Unit,
    name: String,
    sub: usize,
    epoch: u64,
    packs: Vec<Vec<u8>>,
    /// What its records bear.
    stamp: Option<u64>,
    /// Where it stands.
    saved: Vec<u8>,
    /// Of the record that says so, once it is sent.
    ticket: Option<Ticket>,
}

/// Ends the epoch of a task: sends its watermarks and what else it has given.
fn freeze(
    unit: Unit,
    task: &mut Live,
    producer: &mut Producer,
    topics: &[Handles],
    kept: &mut Option<Kept>,
    changes: &mut Changes,
) -> Result<Frozen, Error> {
    let epoch = task.run.epoch;
    let mut saved = task.run.freeze(changes)?;
    saved.set_logged(task.trim.logged());
    if let Some(file) = &task.file {
        task.trim.write(&mut task.run, file, task.epoch, changes)?;
    }
    task.run.outlet.send(producer, topics, epoch, kept)?;
    let frozen = Frozen {
        unit,
        name: task.run.name.clone(),
        sub: task.run.sub,
        epoch: task.epoch,
        packs: changes.packs(PACK_BYTES).collect(),
        stamp: task.stamp,
        saved: serde_json::to_vec(&saved).expect("where a task stands is plain data"),
        ticket: None,
    };
    task.saved = Some(saved);
    Ok(frozen)
}

/// Notes the figures of a task's stages.
fn note(setup: &Setup<'_>, task: &Live) {
    let mut stages = lock(&setup.stages);
    let watermark = task.run.task.output_watermark();
    for (node, counts) in task.run.task.metrics().into_iter().enumerate() {
        stages.insert((task.run.name.clone(), task.run.stages[node]), (counts, watermark));
    }
}
