//! Lines for the log of the host.

use std::sync::OnceLock;

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For following single records.
    Trace,
    /// For the author.
    Debug,
    /// For the operator, in normal running.
    Info,
    /// Something is odd but handled.
    Warn,
    /// Something is wrong.
    Error,
}

static HOST: OnceLock<fn(u8, &str)> = OnceLock::new();

/// Connects the log to the host; the export macro does it.
#[doc(hidden)]
pub fn connect(host: fn(u8, &str)) {
    // A second connection is the same one: a component has one host.
    let _ = HOST.set(host);
}

/// Writes a line to the host's log; to stderr where there is none, as in native tests.
pub fn write(level: Level, message: &str) {
    match HOST.get() {
        Some(host) => host(level as u8, message),
        None => eprintln!("{level:?}: {message}"),
    }
}

/// Writes a line at level info, formatted as by `format!`.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, &format!($($arg)*)) };
}

/// Writes a line at level warn, formatted as by `format!`.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warn, &format!($($arg)*)) };
}

/// Writes a line at level debug, formatted as by `format!`.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Debug, &format!($($arg)*)) };
}
