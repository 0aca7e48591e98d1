//! What a worker does after a failure: everything since the last commit is dropped and done again.
//!
//! Invariant: only errors that pass, of the network, the brokers or the group, are answered so; any
//! other one ends the run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wasmill_kafka::CommitError;
use wasmill_pipeline::LostOffsets;

use super::connect::producer;
use super::{Assigned, RETRY, Worker};
use crate::engine::Error;
use crate::engine::kafka::kept::Kept;
use crate::engine::kafka::setup::Part;
use crate::engine::kafka::units::Unit;

impl Worker<'_, '_> {
    /// Rolls back after an error that passes; any other one is returned.
    pub(super) fn recover(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(Error::Commit(e)) if !matches!(e, CommitError::Refused { .. }) => {
                tracing::warn!(worker = self.name, "what was not committed is done again: {e}");
                self.distrust(&e);
                self.roll_back()
            }
            Err(Error::Kafka(e)) if self.passes(&e) || self.was_read_by_others(&e) => {
                tracing::warn!(worker = self.name, "what was not committed is done again: {e}");
                std::thread::sleep(RETRY);
                self.roll_back()
            }
            result => result,
        }
    }

    /// Commits for the last time. What can't be committed any more is done again by whoever has the
    /// tasks next.
    pub(super) fn commit_last(&mut self) -> Result<(), Error> {
        match self.commit() {
            Err(Error::Commit(why))
                if !matches!(why, CommitError::Refused { .. } | CommitError::Undecided { .. }) =>
            {
                tracing::warn!(worker = self.name, "the last commit has failed: {why}");
                Ok(())
            }
            result => result,
        }
    }

    /// Whether work is done again from the last commit after an error.
    pub(super) fn passes(&self, error: &wasmill_kafka::Error) -> bool {
        passes(error, |topic| self.setup.part_of(topic))
    }

    /// Whether records that the pipeline wrote for itself are gone because others had this worker's
    /// tasks meanwhile, read them and deleted them: then the last commit is further on. Where it is
    /// not, they are missing.
    fn was_read_by_others(&mut self, error: &wasmill_kafka::Error) -> bool {
        let wasmill_kafka::Error::OffsetGone { topic, partition, offset, .. } = error else {
            return false;
        };
        let now = (topic.clone(), *partition, *offset);
        self.setup.is_frames(topic) && self.gone.replace(now.clone()) != Some(now)
    }

    /// Drops what was not committed: aborts the transaction and opens all tasks anew.
    pub(super) fn roll_back(&mut self) -> Result<(), Error> {
        self.shown.rolled_back();
        self.waiting = None;
        self.settle_connecting();
        self.settle_lent();
        let units: Vec<Unit> = self.units.keys().copied().collect();
        for assigned in std::mem::take(&mut self.units).into_values() {
            if let Assigned::Opening { stop, .. } = assigned {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if self.is_ending() {
            return Ok(());
        }
        self.abort()?;
        self.kept.iter_mut().for_each(|kept| *kept = Kept::default());
        self.read = Arc::default();
        for unit in units {
            self.open(unit, Duration::ZERO);
        }
        self.last_commit = Instant::now();
        Ok(())
    }

    /// Has the producer made anew after an error that it does not survive, or should not.
    pub(super) fn distrust(&mut self, why: &CommitError) {
        use CommitError as E;
        self.distrusted |=
            matches!(why, E::Undelivered { .. } | E::Fenced { .. } | E::Fatal { .. });
    }

    fn abort(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.distrusted) {
            return self.renew();
        }
        let Some(producer) = &mut self.producer else { return self.renew() };
        match producer.abort() {
            Ok(()) => Ok(()),
            Err(why) => {
                tracing::warn!(worker = self.name, "the producer is made anew: {why}");
                self.renew()
            }
        }
    }

    /// Makes the producer anew, as long as it takes.
    fn renew(&mut self) -> Result<(), Error> {
        loop {
            match producer(self.setup, &self.name) {
                Ok((producer, topics, changelogs)) => {
                    self.producer = Some(producer);
                    (self.topics, self.changelogs) = (topics, changelogs);
                    return Ok(());
                }
                Err(Error::Kafka(e)) if e.is_retriable() => {
                    tracing::warn!(worker = self.name, "{e}");
                    if self.setup.ending.load(Ordering::Relaxed) {
                        return Err(e.into());
                    }
                    std::thread::sleep(RETRY);
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether an error is one of the network or the brokers, or one that opening the tasks again sees to,
/// so that work is done again from the last commit.
fn passes(error: &wasmill_kafka::Error, part_of: impl Fn(&str) -> Part) -> bool {
    use wasmill_kafka::Error as E;
    match error {
        E::Send { refused, .. } => !refused,
        E::Read { .. } => true,
        E::Request { retriable, .. } => *retriable,
        E::OffsetGone { topic, .. } => match part_of(topic) {
            // Whoever had the task before has shortened its changelog meanwhile.
            Part::Changelog => true,
            Part::Frames | Part::Input(LostOffsets::Fail) => false,
            // Reading goes on where the source says, from when its task is opened.
            Part::Input(LostOffsets::Earliest | LostOffsets::Latest) => true,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(part: Part) -> bool {
        let topic = "clicks-changelog".to_owned();
        let error =
            wasmill_kafka::Error::OffsetGone { topic, partition: 0, offset: 7, range: None };
        passes(&error, |_| part)
    }

    /// Any topic was taken for a changelog whose name ended like one: an input of that name was opened
    /// again for ever.
    #[test]
    fn offsets_of_an_input_that_are_gone_end_the_run_whatever_the_topic_is_called() {
        assert!(!gone(Part::Input(LostOffsets::Fail)));
        assert!(!gone(Part::Frames));
        assert!(gone(Part::Changelog));
    }

    #[test]
    fn offsets_that_go_while_an_input_is_read_are_answered_by_the_policy_of_its_source() {
        assert!(gone(Part::Input(LostOffsets::Earliest)));
        assert!(gone(Part::Input(LostOffsets::Latest)));
    }

    #[test]
    fn what_a_broker_may_answer_otherwise_the_next_time_passes() {
        let request = |retriable| wasmill_kafka::Error::Request {
            what: String::new(),
            brokers: String::new(),
            why: String::new(),
            retriable,
        };
        let none = |_: &str| Part::Input(LostOffsets::Fail);
        assert!(passes(&request(true), none) && !passes(&request(false), none));
    }
}
