//! What an idle worker sleeps on. Invariant: a wake between two waits is never lost.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A flag that any thread raises and one thread waits for; clones share it.
///
/// One is made for each worker and handed to everything that may have work for it.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    /// Raises the flag: the current wait, or else the next one, returns at once.
    pub fn wake(&self) {
        let mut raised = self.0.raised.lock().unwrap_or_else(PoisonError::into_inner);
        *raised = true;
        self.0.changed.notify_one();
    }

    /// Waits until the flag is raised, at most `timeout`, and lowers it. Says whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut raised = self.0.raised.lock().unwrap_or_else(PoisonError::into_inner);
        while !*raised {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (raised, _) =
                self.0.changed.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner);
        }
        *raised = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_wait_counts_once() {
        let waker = Waker::default();
        waker.clone().wake();
        assert!(waker.wait(Duration::ZERO));
        assert!(!waker.wait(Duration::ZERO));
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let waker = Waker::default();
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        assert!(waker.wait(Duration::from_secs(60)));
        thread.join().unwrap();
    }
}
