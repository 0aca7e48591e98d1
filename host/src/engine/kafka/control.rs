//! The control topic of a group: what all its instances must agree on before they do anything. Its
//! records are JSON with a version, the key names their kind; so far there is the pipeline's shape.
//!
//! Invariant: whatever shape a group's state and offsets have, no instance of another shape reads
//! them; of instances that start at once one decides, as transactions of one id exclude each other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmill_kafka::{
    Admin, CommitError, NO_HEADERS, Producer, Progress, Record, Settings, Source, read_to_end,
};

use super::TIMEOUT;
use super::open::PATIENCE;
use crate::engine::Error;

/// The key of the record that says what shape the pipeline has.
pub(super) const SHAPE: &[u8] = b"shape";
/// The version of the records that this program writes, and the last that it understands.
const VERSION: u32 = 1;
/// How long an instance that was not first waits for what the other one writes, before it tries itself.
const OTHERS: Duration = Duration::from_secs(1);
/// How long it sleeps meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// The control topic of a group.
pub(super) fn topic(group: &str) -> String {
    format!("{group}-control")
}

/// What the record of the shape says.
#[derive(Debug, Serialize, Deserialize)]
struct Shape {
    version: u32,
    shape: Value,
}

/// The value of the record that says what shape a pipeline has.
pub(super) fn shape_record(shape: &Value) -> Vec<u8> {
    let record = Shape { version: VERSION, shape: shape.clone() };
    serde_json::to_vec(&record).expect("a shape is plain data")
}

/// The control topic of a group, seen by an instance.
pub(super) struct Control<'a> {
    pub(super) admin: &'a Admin,
    pub(super) settings: &'a Settings,
    pub(super) group: &'a str,
}

impl Control<'_> {
    /// Sees to it that a pipeline has the shape that its group has. Returns whether the group has any.
    ///
    /// # Errors
    /// [`Error::Shape`] when it has another, saying what differs.
    pub(super) fn check(&self, shape: &Value) -> Result<bool, Error> {
        if self.admin.partitions(&topic(self.group))?.is_none() {
            return Ok(false);
        }
        match self.read()? {
            None => Ok(false),
            Some(known) => same(self.group, &known, shape).map(|()| true),
        }
    }

    /// Gives the group, which has no shape yet, that of the pipeline. The topic must exist.
    ///
    /// # Errors
    /// [`Error::Shape`] when another instance with another shape was first.
    pub(super) fn claim(&self, shape: &Value) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            // From here on no other instance can write one without having read what this one writes.
            let mut producer = Producer::connect(self.settings, &topic(self.group), TIMEOUT)?;
            if let Some(known) = self.read()? {
                return same(self.group, &known, shape);
            }
            match self.write(&mut producer, shape) {
                // Another instance is at it, most likely.
                Err(error) if may_pass(&error) && begun.elapsed() < TIMEOUT => {
                    tracing::debug!("the shape of the pipeline is not written: {error}");
                }
                result => return result,
            }
            let waiting = Instant::now();
            while waiting.elapsed() < OTHERS {
                if let Some(known) = self.read()? {
                    return same(self.group, &known, shape);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn write(&self, producer: &mut Producer, shape: &Value) -> Result<(), Error> {
        let to = producer.topic(&topic(self.group))?;
        producer.begin().map_err(Error::Commit)?;
        let value = shape_record(shape);
        let (key, value) = (Some(SHAPE), Some(value.as_slice()));
        let record = Record { topic: to, partition: 0, key, value, timestamp: None };
        producer.send(record, NO_HEADERS)?;
        let begun = Instant::now();
        let mut result = producer.commit_records();
        while matches!(result, Err(CommitError::Undecided { .. })) && begun.elapsed() < TIMEOUT {
            result = producer.resume();
        }
        result.map(|_| ()).map_err(Error::Commit)
    }

    /// The shape that the group has; none when nothing says one.
    fn read(&self) -> Result<Option<Value>, Error> {
        let topic = topic(self.group);
        let (from, patience) = (None, PATIENCE);
        let source = Source { topic: &topic, partition: 0, from, group: self.group, patience };
        // Nobody interrupts it: it ends with the process.
        let stop = Arc::new(AtomicBool::new(false));
        let mut known = None;
        read_to_end(
            self.admin,
            &source,
            &stop,
            |_: Progress| {},
            |offset, key, value| {
                // Other kinds of records are for others, or for later versions.
                if let (Some(SHAPE), Some(value)) = (key, value) {
                    known = Some(shape_of(value).map_err(|why| {
                        Error::Shape(format!("topic {topic} partition 0 offset {offset}: {why}"))
                    })?);
                }
                Ok::<(), Error>(())
            },
        )?;
        Ok(known)
    }
}

/// Whether trying again may help.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Commit(why) => !matches!(why, CommitError::Refused { .. }),
        Error::Kafka(wasmill_kafka::Error::Send { refused, .. }) => !refused,
        _ => false,
    }
}

/// The shape that a record says.
fn shape_of(value: &[u8]) -> Result<Value, String> {
    let found: Result<Shape, _> = serde_json::from_slice(value);
    match found {
        Ok(found) if found.version <= VERSION => Ok(found.shape),
        Ok(Shape { version, .. }) => Err(format!(
            "written by a later version of Wasmill: found version {version} of its records, expected \
             {VERSION} at most; use that version, or another group"
        )),
        Err(e) => Err(format!("no record of a control topic: {e}; nothing else may write to it")),
    }
}

fn same(group: &str, known: &Value, now: &Value) -> Result<(), Error> {
    let Some(difference) = difference(known, now) else { return Ok(()) };
    Err(Error::Shape(format!(
        "group {group} has state and offsets of a pipeline of another shape: {difference}. Stages, what \
         they read and the partitions must stay the same within a group: take the pipeline file back \
         to what it was, or run what it is now in another group, which begins anew: --set \
         kafka.group=NAME"
    )))
}

/// What differs between the shape that a pipeline had and the one that it has now; none when they are
/// the same.
pub(super) fn difference(then: &Value, now: &Value) -> Option<String> {
    if then == now {
        return None;
    }
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let (was, is) = (text(then, "pipeline"), text(now, "pipeline"));
    if was != is {
        return Some(format!("it was pipeline {was:?}, this is {is:?}"));
    }
    let subs = |of: &Value| of["sub-topologies"].as_array().cloned().unwrap_or_default();
    let (was, is) = (subs(then), subs(now));
    let changed = (0..was.len().max(is.len())).find(|i| was.get(*i) != is.get(*i));
    if let Some(i) = changed {
        let (was, is) = (told(was.get(i)), told(is.get(i)));
        return Some(format!("sub-topology {i} was {was}, and is {is} now"));
    }
    let (was, is) = (&then["producers"], &now["producers"]);
    let names = [was, is].into_iter().filter_map(Value::as_object).flat_map(|of| of.keys());
    let topic = names.into_iter().find(|topic| was[topic.as_str()] != is[topic.as_str()]);
    Some(match topic {
        Some(topic) => format!(
            "the outputs before those that lead to topic {topic:?} have changed, and with them what \
             its records say of where they come from"
        ),
        None => format!("it was {then}, and is {now} now"),
    })
}

/// A sub-topology of a shape, for people.
fn told(sub: Option<&Value>) -> String {
    let Some(sub) = sub else { return "not there".to_owned() };
    format!(
        "stages {} that read {} in {} partitions",
        sub["stages"], sub["inputs"], sub["partitions"]
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(inputs: &[&str], partitions: u32) -> Value {
        let first = json!({ "stages": ["clean"], "inputs": inputs, "partitions": partitions });
        json!({ "pipeline": "p", "sub-topologies": [first], "producers": { "clean": [0] } })
    }

    #[test]
    fn the_same_shape_does_not_differ() {
        assert_eq!(difference(&shape(&["topic.a"], 2), &shape(&["topic.a"], 2)), None);
    }

    #[test]
    fn what_differs_is_said_as_it_was_and_as_it_is() {
        let then = shape(&["topic.a"], 2);
        let said = difference(&then, &shape(&["topic.a", "topic.b"], 2)).unwrap();
        assert_eq!(
            said,
            "sub-topology 0 was stages [\"clean\"] that read [\"topic.a\"] in 2 partitions, and is \
             stages [\"clean\"] that read [\"topic.a\",\"topic.b\"] in 2 partitions now"
        );
        let mut more = then.clone();
        more["sub-topologies"].as_array_mut().unwrap().push(json!({ "stages": ["sum"] }));
        assert!(difference(&then, &more).unwrap().starts_with("sub-topology 1 was not there"));
        let mut renamed = then.clone();
        renamed["pipeline"] = json!("q");
        assert_eq!(difference(&then, &renamed).unwrap(), "it was pipeline \"p\", this is \"q\"");
        let mut shifted = then.clone();
        shifted["producers"]["clean"] = json!([4]);
        assert!(difference(&then, &shifted).unwrap().contains("topic \"clean\""));
    }

    #[test]
    fn records_of_a_later_version_and_foreign_ones_are_told_apart() {
        let shape = shape(&["topic.a"], 2);
        assert_eq!(shape_of(&shape_record(&shape)), Ok(shape));
        let later = br#"{"version":2,"shape":{},"more":1}"#;
        assert!(shape_of(later).unwrap_err().contains("found version 2"));
        assert!(shape_of(b"hello").unwrap_err().contains("no record of a control topic"));
    }
}
