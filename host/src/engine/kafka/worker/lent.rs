//! The commit of a transaction: a thread has the producer meanwhile, and work goes on.
//!
//! Invariant: what tasks give while the producer is lent waits in them, so that a transaction holds
//! what was given up to its cut and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use wasmill_kafka::{CommitError, Delivered, NotAMember, Offsets, Producer};

use super::Worker;
use super::commit::Cut;
use crate::engine::Error;
use crate::engine::kafka::failpoint;
use crate::engine::kafka::group::Group;

/// A commit that goes on.
pub(super) struct Lent<'env> {
    cut: Cut<'env>,
    back: Receiver<(Producer, Outcome)>,
}

/// What has come of it.
enum Outcome {
    Decided(Result<Delivered, CommitError>),
    /// It was not begun.
    NotAMember(NotAMember),
}

impl Worker<'_, '_> {
    /// Begins a commit if there is none and anything is to be committed.
    pub(super) fn lend(&mut self) -> Result<(), Error> {
        if self.lent.is_some() || !self.is_to_be_committed()? {
            return Ok(());
        }
        let mut cut = self.cut()?;
        let mut producer = self.producer.take().expect("no other commit has it");
        if let Err(error) = cut.log(&mut producer, &self.changelogs) {
            self.producer = Some(producer);
            return Err(error);
        }
        let (sender, back) = channel();
        let (group, waker, offsets) = (self.group.clone(), self.waker.clone(), cut.offsets());
        let (name, ending) = (self.name.clone(), &self.setup.ending);
        self.scope.spawn(move || {
            failpoint::at(failpoint::BEFORE_COMMIT);
            let outcome = commit(&mut producer, &offsets, &group, &name, ending);
            // Nobody listens any more when the worker has stopped.
            let _ = sender.send((producer, outcome));
            waker.wake();
        });
        self.lent = Some(Lent { cut, back });
        Ok(())
    }

    /// Takes the producer back when its commit is done, and sees to what follows; `wait`: until it is.
    pub(super) fn take_back(&mut self, wait: bool) -> Result<(), Error> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let back = if wait {
            lent.back.recv().ok()
        } else {
            match lent.back.try_recv() {
                Ok(back) => Some(back),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => None,
            }
        };
        let Some(lent) = self.lent.take() else { return Ok(()) };
        // Without it the thread has panicked, and another one is made.
        let Some((producer, outcome)) = back else { return self.roll_back() };
        self.producer = Some(producer);
        match outcome {
            Outcome::Decided(Err(why @ CommitError::Undecided { .. })) => {
                // It can't be aborted any more: whoever has its id next decides it.
                self.producer = None;
                Err(Error::Commit(why))
            }
            Outcome::Decided(result) => self.conclude(lent.cut, result),
            Outcome::NotAMember(why) => self.expelled(&why),
        }
    }

    /// Takes the producer back before everything since the last commit is dropped; that may be the one
    /// which it was lent to.
    pub(super) fn settle_lent(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let Ok((producer, outcome)) = lent.back.recv() else { return };
        self.producer = Some(producer);
        match outcome {
            Outcome::Decided(Ok(delivered)) => self.settle(lent.cut, &delivered),
            Outcome::Decided(Err(why)) => {
                tracing::warn!(worker = self.name, "a commit has failed and is done again: {why}");
                self.distrusted |= matches!(why, CommitError::Undelivered { .. });
            }
            Outcome::NotAMember(_) => {}
        }
    }
}

/// Commits what was sent, until that is decided, or the run ends and Kafka does not answer.
fn commit(
    producer: &mut Producer,
    offsets: &[Offsets<'_>],
    group: &Group,
    worker: &str,
    ending: &AtomicBool,
) -> Outcome {
    // All is sent before the group is asked: a generation that ends in between would cost the commit,
    // and a partition leaves only when this worker has given it up.
    if let Err(why) = producer.drain() {
        return Outcome::Decided(Err(why));
    }
    let group = match group.metadata() {
        Ok(group) => group,
        Err(why) => return Outcome::NotAMember(why),
    };
    failpoint::at(failpoint::BEFORE_OFFSETS);
    if let Err(why) = producer.add_offsets(offsets, &group) {
        return Outcome::Decided(Err(why));
    }
    failpoint::at(failpoint::BEFORE_END);
    let result = producer.commit_records();
    let is_ending = || ending.load(Ordering::Relaxed);
    Outcome::Decided(until_decided(result, is_ending, |why| {
        tracing::warn!(worker, "a commit is not decided yet: {why}");
        producer.resume()
    }))
}

/// Resumes a commit until it is decided, or the run ends.
fn until_decided<T>(
    mut result: Result<T, CommitError>,
    is_ending: impl Fn() -> bool,
    mut resume: impl FnMut(&str) -> Result<T, CommitError>,
) -> Result<T, CommitError> {
    while let Err(CommitError::Undecided { why }) = &result
        && !is_ending()
    {
        result = resume(why);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn undecided<T>() -> Result<T, CommitError> {
        Err(CommitError::Undecided { why: "no broker answers".into() })
    }

    /// A process that was told to end while the brokers were gone never did.
    #[test]
    fn a_commit_that_stays_undecided_is_given_up_when_the_run_ends() {
        let tries = Cell::new(0);
        let result = until_decided(
            undecided::<()>(),
            || tries.get() == 3,
            |_| {
                tries.set(tries.get() + 1);
                undecided()
            },
        );
        assert_eq!((result, tries.get()), (undecided(), 3));
    }

    #[test]
    fn a_commit_is_resumed_until_it_is_decided() {
        let answers = Cell::new(vec![Ok(1), undecided(), undecided()]);
        let result = until_decided(
            undecided(),
            || false,
            |_| {
                let mut left = answers.take();
                let answer = left.pop().unwrap();
                answers.set(left);
                answer
            },
        );
        assert_eq!(result, Ok(1));
        assert!(answers.take().is_empty());
    }
}
