//! How many restores of state go on at once in this process.
//!
//! Invariant: never more than there are places, so that the memory of restores is bounded, whatever
//! number of tasks comes at once: each reads up to 64 MiB ahead and gathers 64 MiB of changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::engine::worker::lock;

/// The most restores at once, however many cores there are.
const MOST: usize = 4;
/// The least, as each also waits for its broker.
const LEAST: usize = 2;
/// How often whoever waits looks whether it is still to.
const LOOK: Duration = Duration::from_millis(50);

/// The places of restores.
pub(super) struct Restores {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place; dropping it frees it.
pub(super) struct Place<'a>(&'a Restores);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

impl Default for Restores {
    /// A place for each core, within limits.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(LEAST, usize::from);
        Self::new(cores.clamp(LEAST, MOST))
    }
}

impl Restores {
    fn new(places: usize) -> Self {
        Self { free: Mutex::new(places), freed: Condvar::new() }
    }

    /// Waits for a place; none once `stop` is set.
    pub(super) fn begin(&self, stop: &AtomicBool) -> Option<Place<'_>> {
        let mut free = lock(&self.free);
        while *free == 0 {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            // A lock that is poisoned has a number all the same.
            free = match self.freed.wait_timeout(free, LOOK) {
                Ok((free, _)) => free,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        *free -= 1;
        Some(Place(self))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_more_restores_go_on_at_once_than_there_are_places() {
        let (restores, stop) = (Restores::new(2), AtomicBool::new(false));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _place = restores.begin(&stop).unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((most.into_inner(), *lock(&restores.free)), (2, 2));
    }

    #[test]
    fn whoever_is_told_to_stop_waits_no_longer() {
        let (restores, stop) = (Restores::new(1), AtomicBool::new(true));
        let held = restores.begin(&stop).unwrap();
        assert!(restores.begin(&stop).is_none());
        drop(held);
        assert!(restores.begin(&stop).is_some());
    }
}
