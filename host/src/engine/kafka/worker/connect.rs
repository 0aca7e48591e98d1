//! Connecting the producer, which takes requests to its transaction coordinator: a thread does it,
//! while tasks are opened and begin to work.
//!
//! Invariant: no other producer of the worker is connected meanwhile, as each fences the ones before.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::Scope;

use wasmill_kafka::{Producer, Topic, Waker};

use super::{TIMEOUT, Worker};
use crate::engine::Error;
use crate::engine::kafka::outbox::Handles;
use crate::engine::kafka::setup::Setup;

/// A producer and what it knows of topics: those of the pipeline, and the changelogs by sub-topology.
pub(super) type Made = (Producer, Arc<[Handles]>, Arc<[Topic]>);

/// A producer that is being connected.
pub(super) struct Connecting(Receiver<Result<Made, Error>>);

impl Connecting {
    /// Begins to connect the producer of a worker.
    pub(super) fn begin<'scope, 'env>(
        setup: &'env Setup<'env>,
        scope: &'scope Scope<'scope, 'env>,
        worker: &str,
        waker: &Waker,
    ) -> Self {
        let (sender, receiver) = channel();
        let (worker, waker) = (worker.to_owned(), waker.clone());
        scope.spawn(move || {
            // Nobody listens any more when the worker has stopped.
            let _ = sender.send(producer(setup, &worker));
            waker.wake();
        });
        Self(receiver)
    }
}

impl Worker<'_, '_> {
    /// Takes the producer once it is connected; `wait`: until it is.
    pub(super) fn take_connected(&mut self, wait: bool) -> Result<(), Error> {
        let Some(Connecting(receiver)) = &self.connecting else { return Ok(()) };
        let made = if wait {
            receiver.recv().ok()
        } else {
            match receiver.try_recv() {
                Ok(made) => Some(made),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => None,
            }
        };
        self.connecting = None;
        // Without it the thread has panicked, and another one is made.
        let Some(made) = made else { return self.roll_back() };
        let (producer, topics, changelogs) = made?;
        tracing::debug!(worker = self.name, "the producer is connected");
        self.producer = Some(producer);
        (self.topics, self.changelogs) = (topics, changelogs);
        Ok(())
    }

    /// Takes the producer before everything since the last commit is dropped. Where it could not be
    /// connected, it is made anew after that.
    pub(super) fn settle_connecting(&mut self) {
        if let Some(Ok(Ok((producer, topics, changelogs)))) =
            self.connecting.take().map(|Connecting(receiver)| receiver.recv())
        {
            self.producer = Some(producer);
            (self.topics, self.changelogs) = (topics, changelogs);
        }
    }
}

/// Makes a producer, with transactions where the pipeline wants them.
pub(super) fn producer(setup: &Setup<'_>, worker: &str) -> Result<Made, Error> {
    let mut producer = if setup.exactly_once {
        Producer::connect(&setup.settings, worker, TIMEOUT)?
    } else {
        Producer::at_least_once(&setup.settings, TIMEOUT)?
    };
    let topics = Handles::of(&setup.ways, &mut producer)?;
    let changelogs: Result<Arc<[_]>, _> =
        (0..setup.topology.subs.len()).map(|sub| producer.topic(&setup.changelog(sub))).collect();
    let changelogs = changelogs?;
    producer.find_leaders();
    Ok((producer, topics.into(), changelogs))
}
