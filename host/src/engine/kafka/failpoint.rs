//! Instants at which a test lets the process die: `WASMILL_CRASH_AT=INSTANT:N` ends it, without any
//! clean-up, when the instant comes for the Nth time. So that it comes before the work is done, however
//! fast work and however slow commits are, such a process commits as often as it can.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything of a transaction was sent, and it is not committed.
pub(super) const BEFORE_COMMIT: &str = "before-commit";
/// A transaction is committed, and no state file has what changed in it.
pub(super) const AFTER_COMMIT: &str = "after-commit";

/// Whether a test wants the process to die.
pub(super) fn is_set() -> bool {
    wanted().is_some()
}

fn wanted() -> &'static Option<(String, u64)> {
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    WANTED.get_or_init(|| {
        let text = std::env::var("WASMILL_CRASH_AT").ok()?;
        let (instant, n) = text.split_once(':')?;
        Some((instant.to_owned(), n.parse().ok()?))
    })
}

/// The process dies here when a test wants it to.
pub(super) fn at(instant: &str) {
    static COME: AtomicU64 = AtomicU64::new(0);
    if let Some((wanted, n)) = wanted()
        && wanted == instant
        && COME.fetch_add(1, Ordering::Relaxed) + 1 == *n
    {
        std::process::abort();
    }
}
