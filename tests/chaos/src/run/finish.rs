//! The end of a run: everything must come out, and it must be right.
//!
//! Invariant: a run that passes has compared everything that its input and its output hold.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use super::{LOOK, PATIENCE, Run, tell};
use crate::check::{self, Check, Input, Progress};
use crate::input::{self, ACCOUNTS};
use crate::output;

impl Run {
    /// Ends the run: no more goes in, everything must come out, and it must be right; then all
    /// instances are killed, all but one lose their data, and the state that they restore must still
    /// be right.
    ///
    /// # Panics
    /// When something is not.
    pub fn finish(mut self) {
        let result = self.try_finish();
        let total = self.expect(result);
        if !self.ends.is_empty() {
            self.fail(&format!("instances ended by themselves:\n{}", self.ends.join("\n")));
        }
        let (seconds, notes) = (self.started.elapsed().as_secs(), self.notes.join(", "));
        tell(&format!(
            "{}: passed with {total} numbers in {seconds} s: {notes} (CHAOS_SEED={})",
            self.name, self.seed
        ));
        if !crate::is_set("CHAOS_KEEP") {
            self.instances.clear();
            // What is left is found by its age.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn try_finish(&mut self) -> anyhow::Result<u64> {
        let total = self.feed.end()?;
        let spans = check::count_spans(total);
        let came = self.await_output(&format!("{total} numbers and {spans} spans"), |came| {
            came.numbers() as u64 >= total && came.spans() >= spans
        });
        if let Err(error) = came {
            // What is missing, and whether it was the pipeline's fault, is seen by the whole of it.
            let compared = self.compare(total, 0).err();
            return Err(compared.unwrap_or_else(|| anyhow!("everything is right in the end")))
                .with_context(|| format!("{error:#}"));
        }
        self.audit(0, total)?;
        let keeps = self.random.below(self.instances.len());
        for i in 0..self.instances.len() {
            let ran = self.instances[i].runs();
            self.kill(i);
            if ran {
                if i != keeps {
                    self.remove_data(i);
                }
                self.instances[i].start()?;
            }
        }
        self.audit(1, total)?;
        for (i, instance) in self.instances.iter_mut().enumerate() {
            if let Some(status) = instance.end(Duration::from_secs(60))? {
                ensure!(status.success(), "instance {i} ended with {status}: {}", instance.tail());
            }
        }
        self.compare(total, 2)?;
        Ok(total)
    }

    /// Reads everything that went in and came out, and compares it.
    fn compare(&mut self, total: u64, audits: u64) -> anyhow::Result<()> {
        let brokers = self.cluster.bootstrap();
        let (mut input, mut wrong) = (Input::default(), None);
        output::everything(&brokers, input::TOPIC, PATIENCE, |partition, _, value| {
            if let Err(why) = input.take(partition, value) {
                wrong.get_or_insert(why);
            }
        })?;
        let resent = match wrong {
            None => input.resent(total),
            Some(why) => Err(why),
        };
        match resent.map_err(|why| anyhow!("not the pipeline is wrong, but its input: {why}"))? {
            0 => {}
            resent => self.note(format!("{resent} numbers went in more than once")),
        }
        let mut check = Check::new(input);
        output::everything(&brokers, output::TOPIC, PATIENCE, |partition, offset, value| {
            check.take(partition, offset, value);
        })?;
        let verdict = check.verdict(audits);
        ensure!(verdict.is_empty(), "what came out is wrong:\n{}", verdict.join("\n"));
        Ok(())
    }

    fn audit(&mut self, audit: u64, total: u64) -> anyhow::Result<()> {
        self.feed.audit(audit, total)?;
        let all = ACCOUNTS as usize;
        self.await_output(&format!("audit {audit}"), |came| came.audited(audit) >= all)
    }

    /// Waits until enough has come out.
    fn await_output(
        &mut self,
        what: &str,
        enough: impl Fn(&Progress) -> bool,
    ) -> anyhow::Result<()> {
        let mut last = (Instant::now(), 0);
        loop {
            let so_far = {
                let progress = self.reader.progress();
                if enough(&progress) {
                    return Ok(());
                }
                progress.numbers() + progress.spans()
            };
            if so_far != last.1 {
                last = (Instant::now(), so_far);
            }
            if last.0.elapsed() > PATIENCE {
                let progress = self.reader.progress();
                bail!(
                    "waiting for {what}: nothing came for {PATIENCE:?}; came so far: {} numbers, {} \
                     spans; {}\n{}",
                    progress.numbers(),
                    progress.spans(),
                    progress.missing(self.feed.sent()),
                    self.tails()
                );
            }
            self.look_after()?;
            std::thread::sleep(LOOK);
        }
    }
}
