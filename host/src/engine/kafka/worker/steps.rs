//! The commit of a worker without transactions, in steps that don't wait for Kafka: work goes on
//! meanwhile.
//!
//! Invariant: what tasks have given is there before their changelogs say that it was given, and these
//! before the group hears of it; what follows from a commit is done when all of that is there.

use std::time::Instant;

use wasmill_kafka::{CommitError, Lot, Producer};

use super::commit::Cut;
use super::{STEP, TIMEOUT, Worker};
use crate::engine::Error;
use crate::engine::kafka::failpoint;

/// A commit that goes on.
pub(super) struct Waiting<'env> {
    cut: Cut<'env>,
    /// What must be there before the next step.
    lot: Lot,
    step: Step,
    since: Instant,
}

/// What a commit waits for.
#[derive(Clone, Copy)]
enum Step {
    /// For what tasks have given.
    Given,
    /// For what their changelogs say of it.
    Logged,
    /// For the group to know of it.
    Offsets,
}

impl Worker<'_, '_> {
    /// Begins a commit if there is none and anything is to be committed.
    pub(super) fn begin_steps(&mut self) -> Result<(), Error> {
        if self.waiting.is_some() || !self.is_to_be_committed()? {
            return Ok(());
        }
        let cut = self.cut()?;
        let (lot, since) = (self.own().cut(), Instant::now());
        self.waiting = Some(Waiting { cut, lot, step: Step::Given, since });
        Ok(())
    }

    /// Takes the next step of the commit that goes on, if it is time for that.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let Some(mut waiting) = self.waiting.take() else { return Ok(()) };
        let done = match waiting.step {
            Step::Given | Step::Logged if !self.is_delivered(&waiting)? => None,
            Step::Given => {
                // Whoever has lost its tasks writes nothing, as far as it knows of that.
                if let Err(e) = self.group.metadata() {
                    return self.expelled(&e);
                }
                let changelogs = self.changelogs.clone();
                waiting.cut.log(self.own(), &changelogs)?;
                (waiting.lot, waiting.step) = (self.own().cut(), Step::Logged);
                None
            }
            Step::Logged => {
                failpoint::at(failpoint::BEFORE_COMMIT);
                let group = match self.group.metadata() {
                    Ok(group) => group,
                    Err(e) => return self.expelled(&e),
                };
                waiting.step = Step::Offsets;
                self.own().begin_offsets(&waiting.cut.offsets(), &group).err().map(Err)
            }
            Step::Offsets => self.own().poll_offsets().transpose(),
        };
        let result = match done {
            None => {
                self.waiting = Some(waiting);
                return Ok(());
            }
            // A new generation of the group, or the answer that tells it, is on its way: records and
            // partitions are as they were.
            Some(Err(CommitError::Undecided { .. } | CommitError::Moved { .. }))
                if waiting.since.elapsed() < TIMEOUT =>
            {
                waiting.step = Step::Logged;
                self.waiting = Some(waiting);
                return Ok(());
            }
            Some(Err(CommitError::Undecided { why })) => Err(CommitError::Abortable { why }),
            Some(result) => result,
        };
        self.conclude(waiting.cut, result)
    }

    /// Whether what a commit waits for is there.
    fn is_delivered(&mut self, waiting: &Waiting<'_>) -> Result<bool, Error> {
        let delivered = self.own().is_delivered(waiting.lot).map_err(Error::Commit)?;
        if !delivered && waiting.since.elapsed() >= TIMEOUT {
            let why = format!("what was sent for a commit was not delivered within {TIMEOUT:?}");
            return Err(Error::Commit(CommitError::Undelivered { why }));
        }
        Ok(delivered)
    }

    /// The producer, which is never lent without transactions.
    fn own(&mut self) -> &mut Producer {
        self.producer.as_mut().expect("without transactions it is never lent")
    }

    /// Waits until no commit goes on.
    pub(super) fn finish_steps(&mut self) -> Result<(), Error> {
        while self.waiting.is_some() {
            self.own().drain().map_err(Error::Commit)?;
            self.step()?;
            if self.waiting.is_some() {
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }
}
