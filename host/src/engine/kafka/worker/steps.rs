//! The commit of a worker without transactions, in steps that don't wait for Kafka: work goes on
//! meanwhile.
//!
//! Invariant: what tasks have given is there before their changelogs say that it was given, and these
//! before the group hears of it; what follows from a commit is done when all of that is there.

use std::time::Instant;

use wasmill_kafka::{CommitError, Lot};

use super::commit::Cut;
use super::{TIMEOUT, Worker};
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
}

impl Worker<'_, '_> {
    /// Begins a commit if there is none and anything is to be committed.
    pub(super) fn begin_steps(&mut self) -> Result<(), Error> {
        if self.waiting.is_some() || !self.is_to_be_committed()? {
            return Ok(());
        }
        let cut = self.cut()?;
        let (lot, since) = (self.producer.cut(), Instant::now());
        self.waiting = Some(Waiting { cut, lot, step: Step::Given, since });
        Ok(())
    }

    /// Takes the next step of the commit that goes on, if it is time for that.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let Some(Waiting { lot, step, since, .. }) = self.waiting else { return Ok(()) };
        if !self.producer.is_delivered(lot).map_err(Error::Commit)? {
            if since.elapsed() < TIMEOUT {
                return Ok(());
            }
            let why = format!("what was sent for a commit was not delivered within {TIMEOUT:?}");
            return Err(Error::Commit(CommitError::Undelivered { why }));
        }
        let Some(mut waiting) = self.waiting.take() else { return Ok(()) };
        match step {
            Step::Given => {
                waiting.cut.log(&mut self.producer, &self.changelogs)?;
                waiting.lot = self.producer.cut();
                waiting.step = Step::Logged;
                self.waiting = Some(waiting);
                Ok(())
            }
            Step::Logged => {
                failpoint::at(failpoint::BEFORE_COMMIT);
                let group = match self.group.metadata() {
                    Ok(group) => group,
                    Err(e) => return self.expelled(&e),
                };
                let result = self.producer.commit_offsets(&waiting.cut.offsets(), &group);
                self.conclude(waiting.cut, result)
            }
        }
    }

    /// Commits everything, waiting for it.
    pub(super) fn commit_all_steps(&mut self) -> Result<(), Error> {
        self.finish_steps()?;
        self.begin_steps()?;
        self.finish_steps()
    }

    fn finish_steps(&mut self) -> Result<(), Error> {
        while self.waiting.is_some() {
            self.producer.drain().map_err(Error::Commit)?;
            self.step()?;
        }
        Ok(())
    }
}
