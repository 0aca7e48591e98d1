//! The barrier between two epochs: all workers stand still for the moment of the cut.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Inner {
    /// The number of the cut that is asked for.
    wanted: u64,
    /// How many workers have arrived at it.
    arrived: usize,
    /// The number of the last cut that is over.
    released: u64,
    /// Workers that are gone and will not arrive any more.
    gone: usize,
}

/// The barrier.
#[derive(Default)]
pub(super) struct Cut {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Cut {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a cut is asked for that a worker, having seen `seen` of them, must go to.
    pub(super) fn wanted(&self, seen: u64) -> bool {
        self.lock().wanted > seen
    }

    /// A worker has done its part; waits until the cut is over. Returns its number.
    pub(super) fn arrive(&self) -> u64 {
        let mut inner = self.lock();
        let number = inner.wanted;
        inner.arrived += 1;
        self.changed.notify_all();
        while inner.released < number {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        number
    }

    /// A worker leaves for good.
    pub(super) fn leave(&self) {
        self.lock().gone += 1;
        self.changed.notify_all();
    }

    /// Asks for a cut and waits until all of `workers` stand still. False when one has left.
    pub(super) fn begin(&self, workers: usize) -> bool {
        let mut inner = self.lock();
        inner.wanted += 1;
        inner.arrived = 0;
        while inner.arrived + inner.gone < workers {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.gone == 0
    }

    /// Lets the workers go on.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.released = inner.wanted;
        self.changed.notify_all();
    }
}
