//! Putting a savepoint into the topics of a group that does not run.
//!
//! Invariant: a changelog says from before the first record of a restore until its last transaction
//! that a restore is going on, so that no task begins with half of it; and every state file that was
//! made from what a changelog held before is too old for it afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmill_kafka::{CommitError, NO_HEADERS, Producer, Record, Ticket, Topic};

use super::Scene;
use crate::engine::Error;
use crate::engine::feed::Place;
use crate::engine::kafka::changelog::Kind;
use crate::engine::kafka::{TIMEOUT, control, topics};
use crate::engine::prepare::Prepared;
use crate::engine::task::Saved;
use crate::savepoint::{self, Manifest, Savepoint, Task};

/// About how many bytes are written in one transaction: few enough for its time limit.
const TRANSACTION_BYTES: usize = 32 << 20;

/// How long to wait before Kafka is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What a changelog says of a restore, in a record of [`Kind::Restore`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::engine::kafka) struct Mark {
    /// The savepoint's name.
    pub(in crate::engine::kafka) savepoint: String,
    /// Whether where the task stands is still to follow.
    pub(in crate::engine::kafka) pending: bool,
}

/// Puts a savepoint into the topics of the pipeline's group. What the group has of its own goes first,
/// which must be asked for with `replace` when there is anything.
///
/// # Errors
/// When the group runs, has state that is not to be replaced, or differs in shape; when the savepoint
/// is damaged, or Kafka can't be used. A restore that was interrupted is to be done again.
pub fn restore(prepared: &Prepared, savepoint: &Savepoint, replace: bool) -> Result<(), Error> {
    let scene = Scene::of(prepared)?;
    let manifest = &savepoint.manifest;
    compare(&scene, manifest)?;
    idle(&scene)?;
    let specs =
        topics::specs(prepared, &scene.topology, &scene.components, &scene.ways, &scene.group);
    scene.admin.ensure_topics(&specs)?;
    let own = own(&scene);
    if !replace {
        empty(&scene, &own)?;
    }
    let name = format!("{}-savepoint", scene.group);
    let writer = Producer::connect(&scene.settings, &name, TIMEOUT)?;
    let mut writer = Writer { producer: writer, bytes: 0, tickets: Vec::new() };
    clear(&scene, &own, manifest, &mut writer)?;
    for task in &manifest.tasks {
        let Some(blocks) = &task.state else { continue };
        let topic = writer.producer.topic(&scene.changelog(task.sub))?;
        let mut file = savepoint.file(blocks)?;
        while let Some(pack) = file.next()? {
            writer.send(topic, task.partition, Some(&Kind::Pack.key(None)), &pack)?;
            if writer.bytes >= TRANSACTION_BYTES {
                // Whoever reads it may let go of what came so far, and knows that it is not all.
                writer.send(
                    topic,
                    task.partition,
                    Some(&Kind::Restore.key(None)),
                    &mark(manifest, task),
                )?;
                writer.commit()?;
            }
        }
    }
    writer.commit()?;
    let frames = channels(&scene, savepoint, &mut writer)?;
    // In one transaction: with it the restore is done, everywhere or nowhere.
    for task in &manifest.tasks {
        let Some(saved) = &task.saved else { continue };
        let mut saved: Saved = serde_json::from_value(saved.clone()).map_err(|e| {
            let why = format!("where task {}-{} stands: {e}", task.sub, task.partition);
            savepoint::Error::damaged(&savepoint.folder, why)
        })?;
        let inputs = &scene.topology.subs[task.sub].inputs;
        for (input, (from, read)) in inputs.iter().zip(&task.read).enumerate() {
            let (Some(channel), Some(read)) = (scene.channel_of(from), read) else { continue };
            let of = &frames[&(channel, task.partition)];
            let next = match (of.get(*read as usize), of.last()) {
                (Some(next), _) => *next,
                // It has had them all.
                (None, Some(last)) => last + 1,
                (None, None) => end(&scene, channel, task.partition)?,
            };
            if matches!(saved.place(input), Some(Place::Offset(_))) {
                saved.set_place(input, Place::Offset(next));
            }
        }
        let bytes = serde_json::to_vec(&saved).expect("where a task stands is plain data");
        let topic = writer.producer.topic(&scene.changelog(task.sub))?;
        writer.send(topic, task.partition, Some(&Kind::Task.key(None)), &bytes)?;
    }
    writer.commit()
}

/// What the changelog of a task says while a savepoint is put into it.
fn mark(manifest: &Manifest, task: &Task) -> Vec<u8> {
    let (savepoint, pending) = (manifest.name.clone(), task.saved.is_some());
    serde_json::to_vec(&Mark { savepoint, pending }).expect("a mark is plain data")
}

/// A topic of the group's own, and whether it is a changelog of which sub-topology.
struct Own {
    name: String,
    partitions: u32,
    changelog: Option<usize>,
}

fn own(scene: &Scene<'_>) -> Vec<Own> {
    let changelog = |sub: usize| Own {
        name: scene.changelog(sub),
        partitions: scene.topology.subs[sub].partitions,
        changelog: Some(sub),
    };
    let channel = |(number, name): (usize, &str)| Own {
        name: name.to_owned(),
        partitions: scene.topology.topics[number].partitions,
        changelog: None,
    };
    (0..scene.topology.subs.len()).map(changelog).chain(scene.channels().map(channel)).collect()
}

/// The savepoint is of a pipeline of the same shape.
fn compare(scene: &Scene<'_>, manifest: &Manifest) -> Result<(), Error> {
    let shape = scene.topology.shape(&scene.prepared.pipeline);
    let Some(differs) = control::difference(&manifest.shape, &shape) else {
        return complete(scene, manifest);
    };
    Err(Error::Shape(format!(
        "savepoint {}: the pipeline has another shape: {differs}. Stages, what they read and the \
         partitions must be the same; plugins and their configuration may differ",
        manifest.name
    )))
}

/// The savepoint has every task and channel of the pipeline, once.
fn complete(scene: &Scene<'_>, manifest: &Manifest) -> Result<(), Error> {
    let subs = scene.topology.subs.iter().enumerate();
    let tasks = subs.flat_map(|(sub, of)| (0..of.partitions).map(move |p| (sub, p)));
    let mut found: Vec<_> = manifest.tasks.iter().map(|t| (t.sub, t.partition)).collect();
    found.sort_unstable();
    let channels = scene.channels();
    let channels =
        channels.flat_map(|(n, _)| (0..scene.topology.topics[n].partitions).map(move |p| (n, p)));
    let mut held: Vec<_> = manifest.channels.iter().map(|c| (c.number, c.partition)).collect();
    held.sort_unstable();
    if tasks.eq(found) && channels.eq(held) {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "savepoint {}: its manifest does not have each task and channel of the pipeline once: it is \
         damaged",
        manifest.name
    )))
}

/// Nobody runs the group.
fn idle(scene: &Scene<'_>) -> Result<(), Error> {
    let begun = Instant::now();
    let members = loop {
        match scene.admin.members(&scene.group, TIMEOUT) {
            // A broker that has started just now takes a while until it coordinates groups.
            Err(e) if e.is_retriable() && begun.elapsed() < TIMEOUT => std::thread::sleep(AGAIN),
            members => break members?,
        }
    };
    if members.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let members = members.map_or("members that come or go".into(), |members| {
        let ids: std::collections::BTreeSet<_> = members.iter().map(|m| &m.client_id).collect();
        let ids: Vec<&str> = ids.into_iter().map(String::as_str).collect();
        format!("{} members ({})", members.len(), ids.join(", "))
    });
    Err(Error::Shape(format!(
        "group {} has {members}: stop every instance of the pipeline first (one that was killed is a \
         member until its session.timeout.ms is over), or name another group with --set \
         kafka.group=NAME",
        scene.group
    )))
}

/// The group has nothing of its own.
fn empty(scene: &Scene<'_>, own: &[Own]) -> Result<(), Error> {
    for topic in own {
        for partition in 0..topic.partitions {
            let offsets = scene.admin.offsets(&topic.name, partition)?;
            if offsets.end > offsets.start {
                return Err(Error::Shape(format!(
                    "group {} has state already: topic {} has records in partition {partition}; drop \
                     what it has with --replace, or name another group with --set kafka.group=NAME",
                    scene.group, topic.name
                )));
            }
        }
    }
    Ok(())
}

/// Drops what the topics of the group hold, and marks its changelogs.
fn clear(
    scene: &Scene<'_>,
    own: &[Own],
    manifest: &Manifest,
    writer: &mut Writer,
) -> Result<(), Error> {
    for topic in own {
        let Some(sub) = topic.changelog else { continue };
        let handle = writer.producer.topic(&topic.name)?;
        for partition in 0..topic.partitions {
            let task = manifest.tasks.iter().find(|t| (t.sub, t.partition) == (sub, partition));
            let task = task.expect("the manifest was seen to be complete");
            let mark = mark(manifest, task);
            // The first goes with what was there: a state file that has read all that is behind by
            // at least this one, and so too old.
            writer.send(handle, partition, Some(&Kind::Restore.key(None)), &mark)?;
            writer.send(handle, partition, Some(&Kind::Restore.key(None)), &mark)?;
        }
    }
    // From now on the group is of this shape, whichever it had before.
    let shape = scene.topology.shape(&scene.prepared.pipeline);
    let handle = writer.producer.topic(&control::topic(&scene.group))?;
    writer.send(handle, 0, Some(control::SHAPE), &control::shape_record(&shape))?;
    let marks = writer.commit_tracked()?;
    let mut marks = marks.chunks(2);
    for topic in own {
        for partition in 0..topic.partitions {
            let before = match topic.changelog {
                Some(_) => marks.next().expect("two for each partition")[1],
                None => scene.admin.offsets(&topic.name, partition)?.end,
            };
            scene.admin.delete_records(&topic.name, partition, before)?;
        }
    }
    Ok(())
}

/// Writes the frames of all channels. Returns their offsets, by channel and partition.
fn channels(
    scene: &Scene<'_>,
    savepoint: &Savepoint,
    writer: &mut Writer,
) -> Result<BTreeMap<(usize, u32), Vec<i64>>, Error> {
    let mut all = BTreeMap::new();
    for channel in &savepoint.manifest.channels {
        let offsets: &mut Vec<i64> = all.entry((channel.number, channel.partition)).or_default();
        let name = scene.ways[channel.number].frames.as_deref().ok_or_else(|| {
            let why = format!("topic {} is none that tasks read from others", channel.topic);
            savepoint::Error::damaged(&savepoint.folder, why)
        })?;
        let topic = writer.producer.topic(name)?;
        let mut file = savepoint.file(&channel.frames)?;
        while let Some(frame) = file.next()? {
            writer.send(topic, channel.partition, None, &frame)?;
            if writer.bytes >= TRANSACTION_BYTES {
                offsets.extend(writer.commit_tracked()?);
            }
        }
        offsets.extend(writer.commit_tracked()?);
    }
    Ok(all)
}

fn end(scene: &Scene<'_>, channel: usize, partition: u32) -> Result<i64, Error> {
    let name = scene.ways[channel].frames.as_deref().expect("a channel has frames");
    Ok(scene.admin.offsets(name, partition)?.end)
}

/// Writes in transactions.
struct Writer {
    producer: Producer,
    bytes: usize,
    tickets: Vec<Ticket>,
}

impl Writer {
    /// Writes a record in this transaction.
    fn send(
        &mut self,
        topic: Topic,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), Error> {
        if !self.producer.is_open() {
            self.producer.begin().map_err(Error::Commit)?;
        }
        let record = Record { topic, partition, key, value: Some(value), timestamp: None };
        self.tickets.push(self.producer.send_tracked(record, NO_HEADERS)?);
        self.bytes += value.len();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.commit_tracked().map(|_| ())
    }

    /// Commits. Returns the offsets of what was written in the transaction, in order.
    fn commit_tracked(&mut self) -> Result<Vec<i64>, Error> {
        self.bytes = 0;
        let tickets = std::mem::take(&mut self.tickets);
        if !self.producer.is_open() {
            return Ok(Vec::new());
        }
        let mut result = self.producer.commit_records();
        while let Err(CommitError::Undecided { .. }) = &result {
            result = self.producer.resume();
        }
        let delivered = result.map_err(Error::Commit)?;
        Ok(tickets.iter().map(|ticket| delivered.offsets[ticket.0]).collect())
    }
}
