//! What is shown of a run while it runs, on a terminal: a bar where it is known how much there is to
//! read, else how much was read.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use wasmill::engine::report::{Extent, Progress};

/// The time from one look to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// A bar on a thread of its own; nothing when stderr is no terminal.
pub struct Bar {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Shows the progress of a run that begins.
    pub fn start(progress: Arc<Progress>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        if !std::io::stderr().is_terminal() {
            return Self { stop, thread: None };
        }
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || show(&progress, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// Removes it.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The bar is only for the eye; that it panicked would not matter.
            let _ = thread.join();
        }
    }
}

fn show(progress: &Progress, stop: &AtomicBool) {
    let started = Instant::now();
    // Until the sources are open, nobody knows how much there is.
    let (mut bar, mut of) = (drawn(None), None);
    while !stop.load(Ordering::Relaxed) {
        let extent = progress.extent();
        let kind = extent.as_ref().map(std::mem::discriminant);
        if kind != of {
            bar.finish_and_clear();
            (bar, of) = (drawn(extent), kind);
        }
        bar.set_message(message(progress, started.elapsed()));
        match position(progress) {
            Some((position, length)) => {
                bar.set_length(length);
                bar.set_position(position);
            }
            None => bar.tick(),
        }
        std::thread::sleep(PAUSE);
    }
    bar.finish_and_clear();
}

fn drawn(extent: Option<Extent>) -> ProgressBar {
    let (bar, style) = match extent {
        Some(Extent::Bytes { before, total }) => (
            ProgressBar::new(total).with_position(before),
            "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} eta {eta}",
        ),
        Some(Extent::Records(total)) => {
            (ProgressBar::new(total), "{wide_bar} {human_pos}/{human_len} {msg} eta {eta}")
        }
        None => (ProgressBar::no_length(), "{spinner} {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    // What earlier runs have read says nothing of the speed of this one.
    bar.reset_eta();
    bar
}

/// Where a bar stands, and its length; none where the length is not known.
fn position(progress: &Progress) -> Option<(u64, u64)> {
    let (position, length) = match progress.extent()? {
        Extent::Bytes { before, total } => (before + progress.bytes.load(Ordering::Relaxed), total),
        Extent::Records(total) => (progress.records.load(Ordering::Relaxed), total),
    };
    Some((position.min(length), length))
}

fn message(progress: &Progress, elapsed: Duration) -> String {
    let records = progress.records.load(Ordering::Relaxed);
    let rate = records as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{} records, {}/s", HumanCount(records), HumanCount(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(records: u64, bytes: u64, extent: Option<Extent>) -> Progress {
        let progress = Progress::default();
        progress.records.store(records, Ordering::Relaxed);
        progress.bytes.store(bytes, Ordering::Relaxed);
        if let Some(extent) = extent {
            progress.extent.set(extent).unwrap();
        }
        progress
    }

    #[test]
    fn a_run_that_goes_on_stands_where_the_one_before_it_stopped() {
        let extent = Extent::Bytes { before: 600, total: 1_000 };
        assert_eq!(position(&progress(0, 0, Some(extent))), Some((600, 1_000)));
        assert_eq!(position(&progress(9, 150, Some(extent))), Some((750, 1_000)));
        // The file has grown meanwhile.
        assert_eq!(position(&progress(90, 500, Some(extent))), Some((1_000, 1_000)));
        assert_eq!(drawn(Some(extent)).position(), 600);
    }

    #[test]
    fn topics_are_counted_in_records_and_what_has_no_known_end_has_no_bar() {
        assert_eq!(position(&progress(7, 0, Some(Extent::Records(20)))), Some((7, 20)));
        assert_eq!(position(&progress(7, 80, None)), None);
        assert_eq!(drawn(None).length(), None);
        let shown = message(&progress(12_000, 0, None), Duration::from_secs(2));
        assert_eq!(shown, "12,000 records, 6,000/s");
    }

    #[test]
    fn where_readers_say_what_is_left_the_bar_is_as_long_as_that_and_what_was_read() {
        let progress = progress(70, 0, None);
        progress.set_left("a", 20);
        progress.set_left("b", 30);
        assert_eq!(position(&progress), Some((70, 120)));
        progress.set_left("b", 0);
        assert_eq!(position(&progress), Some((70, 90)));
    }
}
