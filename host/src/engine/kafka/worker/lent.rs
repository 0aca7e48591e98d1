//! The commit of a transaction: a thread has the producer meanwhile, and work goes on.
//!
//! Invariant: what tasks give while the producer is lent waits in them, so that a transaction holds
//! what was given up to its cut and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use wasmill_kafka::{CommitError, Delivered, NotAMember, Producer, Topic};

use super::Worker;
use super::commit::Cut;
use crate::engine::Error;
use crate::engine::kafka::failpoint;
use crate::engine::kafka::group::Group;
use crate::engine::kafka::outbox::Handles;

/// How long a commit waits to hear of the generation that it was refused for, before it gives up: the
/// answer that tells it is on its way.
const NEWS: Duration = Duration::from_secs(1);
/// How long it sleeps between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// A commit that goes on.
pub(super) struct Lent<'env>(Receiver<(Producer, Cut<'env>, Outcome)>);

/// What has come of it.
enum Outcome {
    Decided(Result<Delivered, CommitError>),
    /// It was not begun.
    NotAMember(NotAMember),
    /// It could not be sent again.
    Failed(Error),
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
        let (group, waker, ending) = (self.group.clone(), self.waker.clone(), &self.setup.ending);
        let (topics, changelogs) = (self.topics.clone(), self.changelogs.clone());
        let worker = self.name.clone();
        self.scope.spawn(move || {
            failpoint::at(failpoint::BEFORE_COMMIT);
            let commit =
                Commit { producer: &mut producer, cut: &mut cut, group: &group, worker, ending };
            let outcome = commit.run(&topics, &changelogs);
            // Nobody listens any more when the worker has stopped.
            let _ = sender.send((producer, cut, outcome));
            waker.wake();
        });
        self.lent = Some(Lent(back));
        Ok(())
    }

    /// Takes the producer back when its commit is done, and sees to what follows; `wait`: until it is.
    pub(super) fn take_back(&mut self, wait: bool) -> Result<(), Error> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let back = if wait {
            lent.0.recv().ok()
        } else {
            match lent.0.try_recv() {
                Ok(back) => Some(back),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => None,
            }
        };
        self.lent = None;
        // Without it the thread has panicked, and another one is made.
        let Some((producer, cut, outcome)) = back else { return self.roll_back() };
        self.producer = Some(producer);
        match outcome {
            Outcome::Decided(Err(why @ CommitError::Undecided { .. })) => {
                // It can't be aborted any more: whoever has its id next decides it.
                self.producer = None;
                Err(Error::Commit(why))
            }
            Outcome::Decided(result) => self.conclude(cut, result),
            Outcome::NotAMember(why) => self.expelled(&why),
            Outcome::Failed(error) => Err(error),
        }
    }

    /// Takes the producer back before everything since the last commit is dropped; that may be the one
    /// which it was lent to.
    pub(super) fn settle_lent(&mut self) {
        let Some(Lent(back)) = self.lent.take() else { return };
        let Ok((producer, cut, outcome)) = back.recv() else { return };
        self.producer = Some(producer);
        match outcome {
            Outcome::Decided(Ok(delivered)) => self.settle(cut, &delivered),
            Outcome::Decided(Err(why)) => {
                tracing::warn!(worker = self.name, "a commit has failed and is done again: {why}");
                self.distrust(&why);
            }
            Outcome::NotAMember(_) => {}
            Outcome::Failed(why) => {
                tracing::warn!(worker = self.name, "a commit has failed and is done again: {why}");
            }
        }
    }
}

/// A commit, as its thread sees it.
struct Commit<'a, 'env> {
    producer: &'a mut Producer,
    cut: &'a mut Cut<'env>,
    group: &'a Group,
    worker: String,
    ending: &'a AtomicBool,
}

impl Commit<'_, '_> {
    /// Commits what was sent, until that is decided, or the run ends and Kafka does not answer.
    fn run(mut self, topics: &[Handles], changelogs: &[Topic]) -> Outcome {
        loop {
            match self.add_offsets() {
                Ok(()) => break,
                Err(Refusal::Moved { why, generation }) => {
                    if let Err(outcome) = self.send_again(why, generation, topics, changelogs) {
                        return outcome;
                    }
                }
                Err(Refusal::Other(outcome)) => return outcome,
            }
        }
        failpoint::at(failpoint::BEFORE_END);
        let Self { producer, worker, ending, .. } = self;
        let result = producer.commit_records();
        let is_ending = || ending.load(Ordering::Relaxed);
        Outcome::Decided(until_decided(result, is_ending, |why| {
            tracing::warn!(worker, "a commit is not decided yet: {why}");
            producer.resume()
        }))
    }

    /// Has the group check and take the offsets.
    fn add_offsets(&mut self) -> Result<(), Refusal> {
        // All is sent before the group is asked: a generation that ends in between would cost the
        // transaction, and a partition leaves only when this worker has given it up.
        self.producer.drain().map_err(Outcome::refused)?;
        let group = self.group.metadata().map_err(Outcome::NotAMember)?;
        failpoint::at(failpoint::BEFORE_OFFSETS);
        match self.producer.add_offsets(&self.cut.offsets(), &group) {
            Err(why @ CommitError::Moved { .. }) if self.cut.is_whole() => {
                Err(Refusal::Moved { why, generation: group.generation() })
            }
            result => Ok(result.map_err(Outcome::refused)?),
        }
    }

    /// After the group has moved on from a generation: sends everything in another transaction, when
    /// there is a membership at another generation. The tasks still have their partitions then, since
    /// these are given up by the worker alone, when this commit is over; so nothing is computed again.
    fn send_again(
        &mut self,
        why: CommitError,
        generation: i32,
        topics: &[Handles],
        changelogs: &[Topic],
    ) -> Result<(), Outcome> {
        let since = Instant::now();
        while self.group.metadata().map_err(Outcome::NotAMember)?.generation() == generation {
            if since.elapsed() >= NEWS {
                return Err(Outcome::refused(why));
            }
            std::thread::sleep(LOOK);
        }
        self.producer.abort().map_err(|why| match why {
            // Nothing is open but the abort: that is done again too.
            CommitError::Undecided { why } => Outcome::refused(CommitError::Abortable { why }),
            why => Outcome::refused(why),
        })?;
        self.producer.begin().map_err(Outcome::refused)?;
        self.cut.send_again(self.producer, topics, changelogs).map_err(Outcome::unsent)?;
        tracing::info!(
            worker = self.worker,
            "the group has begun another generation during a commit, which was sent again"
        );
        Ok(())
    }
}

/// Why the group has not taken offsets.
enum Refusal {
    /// It is no longer at the generation that was to prove the membership, and all can be sent again.
    Moved {
        why: CommitError,
        generation: i32,
    },
    Other(Outcome),
}

impl From<Outcome> for Refusal {
    fn from(outcome: Outcome) -> Self {
        Self::Other(outcome)
    }
}

impl Outcome {
    fn refused(why: CommitError) -> Self {
        Self::Decided(Err(why))
    }

    fn unsent(error: Error) -> Self {
        match error {
            Error::Kafka(why @ wasmill_kafka::Error::Send { refused: false, .. }) => {
                Self::refused(CommitError::Abortable { why: why.to_string() })
            }
            error => Self::Failed(error),
        }
    }
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
