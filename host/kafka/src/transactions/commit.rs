//! The end of a transaction, by commit or abort, and offsets that are committed without one.

use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{CommitError, Delivered, Offsets, Producer};
use crate::client::{left, number};
use crate::membership::GroupMetadata;
use crate::native::Failure;
use crate::native::group::Commit;

/// What a commit that is not decided yet has still to do.
pub(super) enum Undecided {
    Transaction,
    Offsets(TopicPartitionList, GroupMetadata),
}

impl Producer {
    /// Commits what was sent since [`Producer::begin`] together with offsets of the group, and tells
    /// the offsets of the tracked records.
    ///
    /// Without transactions: waits until everything is delivered, then has the group's member commit
    /// the offsets.
    ///
    /// # Errors
    /// [`CommitError`], whose variants say what to do.
    pub fn commit(
        &mut self,
        offsets: &[Offsets<'_>],
        group: &GroupMetadata,
    ) -> Result<Delivered, CommitError> {
        self.commit_with(Some((offsets, group)))
    }

    /// With transactions: makes offsets of the group part of the one that is open, when all that was sent
    /// is delivered. [`Producer::commit_records`] commits both, as [`Producer::commit`] does in one call.
    ///
    /// # Errors
    /// [`CommitError`], whose variants say what to do.
    pub fn add_offsets(
        &mut self,
        offsets: &[Offsets<'_>],
        group: &GroupMetadata,
    ) -> Result<(), CommitError> {
        let deadline = Instant::now() + self.timeout;
        self.drain_until(deadline)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let list = partitions(offsets).map_err(|why| CommitError::Abortable { why })?;
        self.send_offsets(&list, group, deadline)
    }

    /// Without transactions: asks the group's member to commit offsets, whatever is still on its way.
    /// [`Producer::poll_offsets`] tells when that is done.
    ///
    /// # Errors
    /// [`CommitError`], whose variants say what to do.
    pub fn begin_offsets(
        &mut self,
        offsets: &[Offsets<'_>],
        group: &GroupMetadata,
    ) -> Result<(), CommitError> {
        self.committing = None;
        if !offsets.is_empty() {
            let list = partitions(offsets).map_err(|why| CommitError::Abortable { why })?;
            let commit = Commit::begin(&group.member.0, &list);
            self.committing = Some(commit.map_err(|code| self.judge_offsets(code))?);
        }
        Ok(())
    }

    /// Goes on with [`Producer::begin_offsets`]: the offsets of the tracked records when it is done,
    /// none while it is not. Does not wait.
    ///
    /// # Errors
    /// [`CommitError`], whose variants say what to do; but after [`CommitError::Undecided`] it is to be
    /// begun again, not resumed.
    pub fn poll_offsets(&mut self) -> Result<Option<Delivered>, CommitError> {
        if let Some(commit) = &self.committing {
            match commit.poll() {
                None => return Ok(None),
                Some(result) => {
                    self.committing = None;
                    result.map_err(|code| self.judge_offsets(code))?;
                }
            }
        }
        // Records may have been sent since, which are for the next commit.
        self.open = self.handle.outstanding() > 0;
        Ok(Some(self.delivered()))
    }

    fn judge_offsets(&self, code: RDKafkaErrorCode) -> CommitError {
        let why = self.handle.context().redaction.scrub(&code.to_string());
        CommitError::of_group(code, &why).unwrap_or_else(|| {
            if crate::error::is_retriable(code) {
                CommitError::Undecided { why }
            } else {
                CommitError::Abortable { why }
            }
        })
    }

    /// As [`Producer::commit`], without any offsets.
    ///
    /// # Errors
    /// [`CommitError`], whose variants say what to do.
    pub fn commit_records(&mut self) -> Result<Delivered, CommitError> {
        self.commit_with(None)
    }

    fn commit_with(
        &mut self,
        offsets: Option<(&[Offsets<'_>], &GroupMetadata)>,
    ) -> Result<Delivered, CommitError> {
        if self.undecided.is_some() {
            let why = "the commit before is not: resume that first".to_owned();
            return Err(CommitError::Undecided { why });
        }
        let deadline = Instant::now() + self.timeout;
        self.drain_until(deadline)?;
        let offsets = offsets.filter(|(offsets, _)| !offsets.is_empty());
        let offsets = offsets.map(|(list, group)| Ok((partitions(list)?, group))).transpose();
        let offsets = offsets.map_err(|why| CommitError::Abortable { why })?;
        self.undecided = match (self.transactional, offsets) {
            (true, offsets) => {
                if let Some((list, group)) = &offsets {
                    self.send_offsets(list, group, deadline)?;
                }
                Some(Undecided::Transaction)
            }
            (false, Some((list, group))) => Some(Undecided::Offsets(list, group.clone())),
            (false, None) => None,
        };
        self.resume_until(deadline)
    }

    fn send_offsets(
        &self,
        list: &TopicPartitionList,
        group: &GroupMetadata,
        deadline: Instant,
    ) -> Result<(), CommitError> {
        loop {
            match self.handle.send_offsets(list, &group.raw, left(deadline)) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.retriable && Instant::now() < deadline => {
                    self.handle.poll(Duration::from_millis(1));
                }
                // Nothing was committed: the transaction's end was not asked for.
                Err(failure) if failure.retriable => {
                    return Err(CommitError::Abortable { why: self.scrubbed(&failure) });
                }
                Err(failure) => return Err(self.judge(&failure)),
            }
        }
    }

    /// Goes on with a commit that was [`CommitError::Undecided`].
    ///
    /// # Errors
    /// As [`Producer::commit`].
    pub fn resume(&mut self) -> Result<Delivered, CommitError> {
        self.resume_until(Instant::now() + self.timeout)
    }

    fn resume_until(&mut self, deadline: Instant) -> Result<Delivered, CommitError> {
        let outcome = match self.undecided.take() {
            None => Ok(()),
            Some(Undecided::Transaction) => self.end_transaction(deadline),
            Some(Undecided::Offsets(list, group)) => self.commit_list(list, group),
        };
        outcome?;
        self.open = false;
        Ok(self.delivered())
    }

    fn end_transaction(&mut self, deadline: Instant) -> Result<(), CommitError> {
        loop {
            match self.handle.commit_transaction(left(deadline)) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.retriable && Instant::now() < deadline => {
                    self.handle.poll(Duration::from_millis(1));
                }
                Err(failure) if failure.retriable => {
                    self.undecided = Some(Undecided::Transaction);
                    return Err(CommitError::Undecided { why: self.scrubbed(&failure) });
                }
                Err(failure) => return Err(self.judge(&failure)),
            }
        }
    }

    fn commit_list(
        &mut self,
        list: TopicPartitionList,
        group: GroupMetadata,
    ) -> Result<(), CommitError> {
        let Err(error) = group.member.0.commit(&list, CommitMode::Sync) else { return Ok(()) };
        let Some(code) = error.rdkafka_error_code() else {
            let why = self.handle.context().redaction.scrub(&error.to_string());
            return Err(CommitError::Abortable { why });
        };
        let error = self.judge_offsets(code);
        if matches!(error, CommitError::Undecided { .. }) {
            self.undecided = Some(Undecided::Offsets(list, group));
        }
        Err(error)
    }

    /// Takes back what was sent since [`Producer::begin`]. Without transactions nothing can be taken
    /// back: this only waits until it is delivered, or not.
    ///
    /// # Errors
    /// [`CommitError::Undecided`] when Kafka can't be reached in time: to be called again.
    /// [`CommitError::Fenced`] and [`CommitError::Fatal`] when the producer is to be made anew, which
    /// aborts the transaction as well.
    pub fn abort(&mut self) -> Result<(), CommitError> {
        let deadline = Instant::now() + self.timeout;
        if !self.transactional {
            let _ = self.drain_until(deadline);
        } else if self.open {
            self.abort_until(deadline)?;
        }
        self.handle.poll(Duration::ZERO);
        self.open = false;
        self.undecided = None;
        self.committing = None;
        self.delivered();
        Ok(())
    }

    fn abort_until(&self, deadline: Instant) -> Result<(), CommitError> {
        loop {
            match self.handle.abort_transaction(left(deadline)) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.retriable && Instant::now() < deadline => {
                    self.handle.poll(Duration::from_millis(1));
                }
                Err(failure) if failure.retriable => {
                    return Err(CommitError::Undecided { why: self.scrubbed(&failure) });
                }
                Err(failure) => return Err(self.judge(&failure)),
            }
        }
    }

    /// The offsets of tracked records, and a clean slate for the next transaction.
    fn delivered(&mut self) -> Delivered {
        let mut offsets = vec![-1; std::mem::take(&mut self.tickets)];
        for (ticket, offset) in self.handle.context().take_deliveries().tracked {
            if let Some(slot) = offsets.get_mut(ticket - 1) {
                *slot = offset;
            }
        }
        Delivered { offsets }
    }

    pub(super) fn judge(&self, failure: &Failure) -> CommitError {
        CommitError::new(failure, self.scrubbed(failure))
    }

    fn scrubbed(&self, failure: &Failure) -> String {
        self.handle.context().redaction.scrub(&failure.text)
    }
}

fn partitions(offsets: &[Offsets<'_>]) -> Result<TopicPartitionList, String> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for Offsets { topic, partition, next, metadata } in offsets {
        let mut element = list.add_partition(topic, number(*partition));
        element
            .set_offset(Offset::Offset(*next))
            .map_err(|e| format!("{topic}/{partition}: offset {next} can't be committed: {e}"))?;
        if let Some(metadata) = metadata {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}
