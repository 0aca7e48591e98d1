//! What is done to brokers, and looking after them.
//!
//! Invariant: a broker that ended by itself runs again before a test kills another one.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::Metadata;

use super::{ENDS, LOOK, PATIENCE, Run, tell};
use crate::output;

/// How much of the reason for a broker's end is told, in characters.
const TOLD: usize = 300;

impl Run {
    /// Kills a broker (SIGKILL); it is gone on return, and stays so until it is restarted.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn kill_broker(&mut self, broker: usize) {
        let looked = self.look_after();
        self.expect(looked);
        let killed = self.cluster.kill(broker);
        self.expect(killed.map_err(Into::into));
    }

    /// Starts a broker again that was killed, and waits until it is a member.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn restart_broker(&mut self, broker: usize) {
        let started = self.cluster.restart(broker);
        self.expect(started.map_err(Into::into));
    }

    /// Waits until all replicas of all partitions are in sync, so that none is out of reach when
    /// another broker is lost.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_in_sync(&mut self) {
        let client = output::client(&self.cluster.bootstrap(), false);
        let (client, start) = (self.expect(client), Instant::now());
        loop {
            let behind = match client.fetch_metadata(None, Duration::from_secs(5)) {
                Ok(metadata) => behind(&metadata),
                Err(error) => Some(error.to_string()),
            };
            let Some(behind) = behind else { return };
            if start.elapsed() > PATIENCE {
                self.fail(&format!("after {PATIENCE:?} replicas are not in sync: {behind}"));
            }
            self.sleep(LOOK);
        }
    }

    /// Starts again what has ended by itself.
    pub(super) fn look_after_brokers(&mut self) -> anyhow::Result<()> {
        for broker in 0..self.cluster.brokers() {
            let Some(end) = self.cluster.take_end(broker)? else { continue };
            let reason: String = end.reason.chars().take(TOLD).collect();
            let text = format!("broker {broker} ended by itself ({}): {reason}", end.status);
            tell(&format!("{}: {text}", self.name));
            self.note(text);
            self.broker_ends += 1;
            if self.broker_ends > ENDS {
                anyhow::bail!("brokers end by themselves again and again");
            }
            self.cluster.restart(broker)?;
        }
        Ok(())
    }
}

/// A partition with replicas that are not in sync; none where there is no such partition.
fn behind(metadata: &Metadata) -> Option<String> {
    let partitions = metadata.topics().iter().flat_map(|topic| {
        topic.partitions().iter().map(move |partition| (topic.name(), partition))
    });
    let mut behind = partitions.filter(|(_, p)| p.isr().len() < p.replicas().len());
    behind.next().map(|(topic, partition)| {
        let (replicas, in_sync) = (partition.replicas(), partition.isr());
        format!("{topic}/{} is on {replicas:?}, in sync are {in_sync:?}", partition.id())
    })
}
