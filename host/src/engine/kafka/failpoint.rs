//! Instants at which a test lets the process die or stand still: `WASMILL_CRASH_AT=INSTANT:N` ends it,
//! without any clean-up, when the instant comes for the Nth time, and `WASMILL_SUSPEND_AT=INSTANT:N` stops
//! its clock then (SIGSTOP), until the test lets it go on. `WASMILL_HOLD_AT=INSTANT:N` holds only the
//! thread that comes to it: it makes the file `WASMILL_HOLD_FILE` and waits until that is gone. So that
//! the instant comes before the work is done, however fast work and however slow commits are, a process
//! that is to die commits as often as it can.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything of a transaction was handed to the producer, and it is not committed.
pub(super) const BEFORE_COMMIT: &str = "before-commit";
/// The records of a transaction are at the brokers and the group has said what this process is to it; it
/// does not have the offsets yet.
pub(super) const BEFORE_OFFSETS: &str = "before-offsets";
/// Everything of a transaction is at the brokers, the offsets too; its end is all that is missing.
pub(super) const BEFORE_END: &str = "before-end";
/// A transaction is committed, and no state file has what changed in it.
pub(super) const AFTER_COMMIT: &str = "after-commit";

/// What a test wants to happen at an instant.
struct Wanted {
    instant: String,
    n: u64,
    come: AtomicU64,
}

impl Wanted {
    fn of(variable: &str) -> Option<Self> {
        let text = std::env::var(variable).ok()?;
        let (instant, n) = text.split_once(':')?;
        Some(Self { instant: instant.to_owned(), n: n.parse().ok()?, come: AtomicU64::new(0) })
    }

    fn is(&self, instant: &str) -> bool {
        self.instant == instant && self.come.fetch_add(1, Ordering::Relaxed) + 1 == self.n
    }
}

/// Whether a test wants the process to die.
pub(super) fn is_set() -> bool {
    death().is_some()
}

fn death() -> Option<&'static Wanted> {
    static DEATH: OnceLock<Option<Wanted>> = OnceLock::new();
    DEATH.get_or_init(|| Wanted::of("WASMILL_CRASH_AT")).as_ref()
}

fn suspension() -> Option<&'static Wanted> {
    static SUSPENSION: OnceLock<Option<Wanted>> = OnceLock::new();
    SUSPENSION.get_or_init(|| Wanted::of("WASMILL_SUSPEND_AT")).as_ref()
}

fn hold() -> Option<&'static Wanted> {
    static HOLD: OnceLock<Option<Wanted>> = OnceLock::new();
    HOLD.get_or_init(|| Wanted::of("WASMILL_HOLD_AT")).as_ref()
}

/// The process dies or stands still here when a test wants it to.
pub(super) fn at(instant: &str) {
    if death().is_some_and(|wanted| wanted.is(instant)) {
        std::process::abort();
    }
    if suspension().is_some_and(|wanted| wanted.is(instant)) {
        let id = std::process::id().to_string();
        // Without it the test waits in vain, and says so.
        let _ = Command::new("kill").args(["-STOP", &id]).status();
    }
    if hold().is_some_and(|wanted| wanted.is(instant))
        && let Some(file) = std::env::var_os("WASMILL_HOLD_FILE")
        // Without it the test waits in vain, and says so.
        && std::fs::write(&file, instant).is_ok()
    {
        while Path::new(&file).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
