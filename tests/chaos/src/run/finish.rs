//! The end of a run: everything must come out, and it must be right.
//!
//! Invariant: a run that passes has compared everything that its input and its output hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use super::{LOOK, PATIENCE, Run, tell};
use crate::check::{self, Check, Input, Progress, Wrong};
use crate::input::{self, ACCOUNTS};
use crate::output;

/// How many of the numbers that are lost are told.
const TOLD: usize = 12;

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
        let mut holds = BTreeMap::new();
        output::everything(&brokers, input::TOPIC, PATIENCE, |partition, offset, value| {
            if let Err(why) = input.take(partition, value) {
                wrong.get_or_insert(why);
            }
            holds.insert(
                (partition, offset),
                String::from_utf8_lossy(value.unwrap_or_default()).into_owned(),
            );
        })?;
        let resent = match wrong {
            None => input.resent(total).map_err(|wrong| self.explain(wrong, &holds)),
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

    /// What was said of numbers that were taken and are not there, and what is there instead.
    fn explain(&self, wrong: Wrong, holds: &BTreeMap<(i32, i64), String>) -> String {
        let lost = match wrong {
            Wrong::NeverSent(n) => return format!("{n} was never sent"),
            Wrong::Lost(lost) => lost,
        };
        let mut text = format!("{} numbers that the brokers had taken are lost:", lost.len());
        for n in lost.iter().take(TOLD) {
            let partition = input::partition(input::account(*n)).cast_signed();
            let _ = match self.feed.taken(*n) {
                Some(at) => {
                    let there = holds.get(&(partition, at)).map_or("nothing", String::as_str);
                    write!(text, "\n{n} taken as in/{partition} offset {at}, where is {there}")
                }
                None => {
                    write!(text, "\n{n} of in/{partition}: the client did not say it was taken")
                }
            };
        }
        text
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
