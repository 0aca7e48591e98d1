//! Ending a call that takes too long.
//!
//! Guests are given points at which they can be interrupted (`instrument`): each writes a byte into a
//! page of its own. A call that is late loses the right to write there (`memory`), so that its next
//! point ends in a trap. A point costs one store; the comparison with an epoch that it takes the place
//! of cost plugins a seventh of their speed. Wasmtime is on its way to do the same by itself
//! (bytecodealliance/wasmtime#12990), and then this module can go.
//!
//! Invariant: between two calls the pages of an instance can be written to, unless the last call
//! was late, and what a late call did is thrown away with its instance.

mod instrument;
mod memory;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub(super) use instrument::instrument;
pub(super) use memory::Creator;
use memory::Page;

/// How often it is looked for calls that are late: the granularity of `batch-time`.
const TICK: Duration = Duration::from_millis(5);

/// No call runs.
const IDLE: u64 = 0;
/// The call that runs was late.
const LATE: u64 = u64::MAX;

thread_local! {
    /// The watch of the instance that this thread makes at present.
    static MAKING: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches over the calls of one instance.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// [`IDLE`], the tick that the call must have ended by, or [`LATE`].
    state: AtomicU64,
    /// The pages that its points write to, one for each core module. Locked while a call becomes late.
    pages: Mutex<Vec<Arc<Page>>>,
}

impl Watch {
    /// Runs `make`, which makes the instance that is watched over: its pages become this watch's.
    pub(super) fn making<T>(self: &Arc<Self>, make: impl FnOnce() -> T) -> T {
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                MAKING.set(None);
            }
        }
        MAKING.set(Some(self.clone()));
        let _end = End;
        make()
    }

    /// Runs a call that may take so long. Returns what it gave, and whether it was ended.
    pub(super) fn within<T>(&self, time: Duration, call: impl FnOnce() -> T) -> (T, bool) {
        let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        let deadline = self.shared.tick.load(Ordering::Acquire) + ticks;
        self.state.store(deadline, Ordering::Release);
        let result = call();
        if self.state.swap(IDLE, Ordering::AcqRel) != LATE {
            return (result, false);
        }
        // Waits until all pages are protected, so that none of it falls into the next call.
        let pages = lock(&self.pages);
        for page in &*pages {
            if let Err(error) = page.unprotect() {
                tracing::error!("a plugin can't be called any more: {error}");
            }
        }
        (result, !pages.is_empty())
    }

    /// A page of the instance that is being made.
    fn add(&self, page: Arc<Page>) -> std::io::Result<()> {
        let mut pages = lock(&self.pages);
        if self.state.load(Ordering::Acquire) == LATE {
            page.protect()?;
        }
        pages.push(page);
        Ok(())
    }

    /// Ends the call, if it is late at `tick`.
    fn look(&self, tick: u64) {
        let deadline = self.state.load(Ordering::Acquire);
        if deadline == IDLE || tick < deadline {
            return;
        }
        let pages = lock(&self.pages);
        if self.state.compare_exchange(deadline, LATE, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        for page in &*pages {
            if let Err(error) = page.protect() {
                tracing::error!("a call that takes too long can't be interrupted: {error}");
            }
        }
    }
}

/// The thread that looks for calls that are late.
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tick: AtomicU64,
    stop: AtomicBool,
    watches: Mutex<Vec<Weak<Watch>>>,
}

impl Ticker {
    /// Starts it; it ends when this is dropped.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared { tick: AtomicU64::new(1), ..Shared::default() });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("wasmill-watch".into()).spawn(move || {
            while !of_thread.stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let tick = of_thread.tick.fetch_add(1, Ordering::AcqRel) + 1;
                lock(&of_thread.watches).retain(|watch| match watch.upgrade() {
                    Some(watch) => {
                        watch.look(tick);
                        true
                    }
                    None => false,
                });
            }
        })?;
        Ok(Self { shared })
    }

    /// A watch over the calls of one instance.
    pub(super) fn watch(&self) -> Arc<Watch> {
        let (shared, state, pages) = (self.shared.clone(), AtomicU64::new(IDLE), Mutex::default());
        let watch = Arc::new(Watch { shared, state, pages });
        lock(&self.shared.watches).push(Arc::downgrade(&watch));
        watch
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
