//! Taking a savepoint from the topics of a group, which may run meanwhile.
//!
//! Invariant: everything belongs to one cut. What was dropped from a topic before it could be read
//! makes all of it begin again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wasmill_kafka::{Progress, Source, read_to_end};
use wasmill_log::Frame;

use super::{Scene, pending};
use crate::engine::Error;
use crate::engine::feed::Place;
use crate::engine::kafka::changelog::{Kind, NoChangelog, Packs, Read, Reader, foreign};
use crate::engine::kafka::control::Control;
use crate::engine::kafka::open::{LAST_RECORDS, patience, saved_of, whole};
use crate::engine::open::is_keyed;
use crate::engine::prepare::Prepared;
use crate::engine::task::Saved;
use crate::savepoint::{Blocks, Channel, Draft, Manifest, Origin, Task, plugins};

/// How often the cut is tried: each time what it needs may be dropped before it is read.
const TRIES: u32 = 8;

/// The last commit of a task.
struct Commit {
    /// The first record of its changelog when it was looked at.
    start: i64,
    /// The record that says where it stands, and what that says; none before its first commit.
    last: Option<(i64, Saved)>,
}

type Commits = BTreeMap<(usize, u32), Commit>;

/// Takes a savepoint of a pipeline's group into a new folder in `folder`. Returns that folder and
/// what it holds. The pipeline goes on meanwhile, if it runs.
///
/// # Errors
/// When there is one of that name, the group has no state, or Kafka or the folder can't be used.
pub fn create(
    prepared: &Prepared,
    folder: &Path,
    name: &str,
) -> Result<(PathBuf, Manifest), Error> {
    let scene = Scene::of(prepared)?;
    for sub in 0..scene.topology.subs.len() {
        let changelog = scene.changelog(sub);
        if scene.admin.partitions(&changelog)?.is_none() {
            return Err(Error::Shape(format!(
                "group {} has no state: there is no topic {changelog}; run the pipeline first, or name \
                 its group with --set kafka.group=NAME",
                scene.group
            )));
        }
    }
    let control = Control { admin: &scene.admin, settings: &scene.settings, group: &scene.group };
    control.check(&scene.topology.shape(&prepared.pipeline))?;
    let mut tries = 1;
    loop {
        let draft = Draft::begin(folder, name)?;
        match attempt(&scene, &draft, name) {
            Ok(manifest) => return Ok((draft.finish(&manifest)?, manifest)),
            Err(Error::Kafka(wasmill_kafka::Error::OffsetGone { topic, partition, .. }))
                if tries < TRIES =>
            {
                tracing::info!(topic, partition, "records went while they were read: once more");
                tries += 1;
            }
            Err(e) => return Err(e),
        }
    }
}

fn attempt(scene: &Scene<'_>, draft: &Draft, name: &str) -> Result<Manifest, Error> {
    let cluster = scene.admin.cluster_id()?;
    let pipeline = &scene.prepared.pipeline;
    let of = Origin::Group { group: scene.group.clone(), cluster };
    let mut manifest = Manifest::new(name, &pipeline.name, of);
    manifest.shape = scene.topology.shape(pipeline);
    manifest.plugins = plugins(scene.prepared);
    let mut commits = Commits::new();
    for sub in scene.downstream_first() {
        for partition in 0..scene.topology.subs[sub].partitions {
            commits.insert((sub, partition), last_commit(scene, sub, partition)?);
        }
    }
    // Frames first: they are dropped soon after they were read, state much later.
    let mut read = BTreeMap::new();
    for (number, topic) in scene.channels() {
        for partition in 0..scene.topology.topics[number].partitions {
            let frames = frames(scene, &commits, (number, topic, partition), draft, &mut read)?;
            let topic = scene.topology.topics[number].name.clone();
            manifest.channels.push(Channel { number, topic, partition, frames });
        }
    }
    for (&(sub, partition), commit) in &commits {
        let of = &scene.topology.subs[sub];
        let keyed = of.stages.iter().any(|stage| is_keyed(scene.prepared, *stage));
        let state = keyed.then(|| state(scene, sub, partition, commit, draft)).transpose()?;
        let inputs = 0..of.inputs.len();
        let read = inputs.map(|input| read.get(&(sub, partition, input)).copied()).collect();
        let saved = commit.last.as_ref().map(|(_, saved)| saved);
        let saved = saved.map(|saved| serde_json::to_value(saved).expect("plain data"));
        manifest.tasks.push(Task { sub, partition, saved, state, read });
    }
    Ok(manifest)
}

/// Reads a partition of a topic from an offset on, to its end.
fn read(
    scene: &Scene<'_>,
    topic: &str,
    partition: u32,
    from: i64,
    each: impl FnMut(i64, Option<&[u8]>, Option<&[u8]>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (from, patience) = (Some(from), patience(&scene.prepared.pipeline));
    let source = Source { topic, partition, from, group: &scene.group, patience };
    // Nobody interrupts it: it ends with the process.
    let stop = Arc::new(AtomicBool::new(false));
    read_to_end(&scene.admin, &source, &stop, |_: Progress| {}, each).map(|_| ())
}

fn last_commit(scene: &Scene<'_>, sub: usize, partition: u32) -> Result<Commit, Error> {
    let changelog = scene.changelog(sub);
    let offsets = scene.admin.offsets(&changelog, partition)?;
    let (mut last, mut mark) = (None, None);
    // Behind the last commit there are at most aborted ones; else all of it is looked through.
    for from in [offsets.start.max(offsets.end - LAST_RECORDS), offsets.start] {
        let mut reader = Reader::default();
        read(scene, &changelog, partition, from, |offset, key, value| {
            let found = reader.take(key, value);
            let found = found.map_err(|NoChangelog| foreign(&changelog, partition, offset))?;
            match found {
                Some(Read { kind: Kind::Task, value, .. }) => {
                    last = Some((offset, saved_of(&changelog, partition, offset, value)?));
                    mark = None;
                }
                Some(Read { kind: Kind::Restore, value, .. }) => mark = pending(value),
                Some(Read { kind: Kind::Pack, .. }) | None => {}
            }
            Ok(())
        })?;
        if last.is_some() || from == offsets.start {
            break;
        }
    }
    whole(&changelog, partition, mark)?;
    Ok(Commit { start: offsets.start, last })
}

/// Writes the frames that are on their way in a partition of a channel. Notes for each task that
/// reads it how many of them it has had.
fn frames(
    scene: &Scene<'_>,
    commits: &Commits,
    (number, topic, partition): (usize, &str, u32),
    draft: &Draft,
    had: &mut BTreeMap<(usize, u32, usize), u64>,
) -> Result<Blocks, Error> {
    let mut readers = Vec::new();
    for (sub, of) in scene.topology.subs.iter().enumerate() {
        for (input, from) in of.inputs.iter().enumerate() {
            if scene.channel_of(from) != Some(number) || partition >= of.partitions {
                continue;
            }
            let place = commits[&(sub, partition)].last.as_ref().and_then(|(_, s)| s.place(input));
            let next = match place {
                Some(Place::Offset(next)) => Some(*next),
                Some(Place::Ended) => None,
                _ => Some(0),
            };
            if let Some(next) = next {
                readers.push((next, (sub, partition, input)));
            }
        }
    }
    let mut file = draft.file(&format!("topic-{number}-{partition}.zst"))?;
    let first = readers.iter().map(|(next, _)| *next).min();
    if let Some(first) = first {
        let start = scene.admin.offsets(topic, partition)?.start;
        // 0 is where a task begins that has read nothing: before everything that there ever was.
        let from = if first == 0 { start } else { first };
        had.extend(readers.iter().map(|(_, reader)| (*reader, 0)));
        let producers = scene.producers();
        read(scene, topic, partition, from, |offset, _, value| {
            let Some(bytes) = value else { return Ok(()) };
            let damaged = |why: String| {
                Error::Shape(format!("topic {topic} partition {partition} offset {offset}: {why}"))
            };
            let frame = Frame::read(bytes).map_err(damaged)?;
            let producer = producers.get(&frame.producer).ok_or_else(|| {
                let number = frame.producer;
                damaged(format!("found a frame of producer {number}, which this pipeline has not"))
            })?;
            let epoch = commits[producer].last.as_ref().map_or(0, |(_, saved)| saved.epoch());
            if frame.epoch > epoch {
                return Ok(());
            }
            for (next, reader) in &readers {
                if offset < *next {
                    *had.entry(*reader).or_default() += 1;
                }
            }
            Ok(file.write(bytes)?)
        })?;
    }
    Ok(file.finish()?)
}

/// Writes the state of a task as its last commit left it.
fn state(
    scene: &Scene<'_>,
    sub: usize,
    partition: u32,
    commit: &Commit,
    draft: &Draft,
) -> Result<Blocks, Error> {
    let mut file = draft.file(&format!("state-{sub}-{partition}.zst"))?;
    if let Some((last, _)) = &commit.last {
        let changelog = scene.changelog(sub);
        let (mut reader, mut packs) = (Reader::default(), Packs::default());
        read(scene, &changelog, partition, commit.start, |offset, key, value| {
            if offset > *last {
                return Ok(());
            }
            let found = reader.take(key, value);
            let found = found.map_err(|NoChangelog| foreign(&changelog, partition, offset))?;
            let Some(found) = found else { return Ok(()) };
            packs.take(&found);
            // Changes count when a commit ends behind them.
            packs.whole().iter().try_for_each(|pack| Ok(file.write(pack)?))
        })?;
    }
    Ok(file.finish()?)
}
