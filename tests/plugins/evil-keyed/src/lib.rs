//! A plugin with state that does everything a plugin must not do, for tests of the host.
//!
//! It counts the records of each key and remembers the last one in map state: a record `b` after `a`
//! comes out as `b 2 a`. One with "timer" in its value sets a timer for 10 ms later, one with "alarm" one
//! for 300 ms later by the wall clock, which "calm" clears. Records with "evil" in their value, and
//! timers of keys with it, make it do what its configuration says.

mod forgery;

use misdeeds::{Forgery, Misdeed};
use wasmill_sdk::abi::{Column, KeyedBatch, KeyedReply, Maps, TimeDomain};
use wasmill_sdk::prelude::*;

pub use forgery::KeyedForgery;

/// What to do, if anything.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// At an evil record.
    pub call: Option<Misdeed>,
    /// At a timer of an evil key.
    pub timer: Option<Misdeed>,
    /// To a reply to an evil record.
    pub reply: Option<Forgery>,
    /// To a reply to an evil record, in what only plugins with state return.
    pub keyed_reply: Option<KeyedForgery>,
    /// To the map state, at an evil record.
    pub map: Option<MapMisuse>,
    /// Go on as if nothing had happened when the host refuses a call of map state.
    pub ignore: bool,
}

/// How map state is misused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapMisuse {
    /// A map that the description does not name.
    NoSuchMap,
    /// A key that is not in the batch.
    NoSuchSlot,
    /// More than the limit `map-write`.
    TooManyBytes,
    /// Fewer keys than slots.
    FewerKeys,
    /// A column whose ends go back.
    EndsDescend,
}

/// The plugin.
pub struct Evil(Config);

const LAST: &[u8] = b"last";

impl Keyed for Evil {
    type Config = Config;
    type State = u64;

    fn describe() -> Description {
        Description { maps: vec!["last".into()], ..Description::default() }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self(config))
    }

    fn process(
        &self,
        record: &Record,
        count: &mut State<u64>,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        let text = record.text()?;
        **count += 1;
        let last = ctx.map(0).get(LAST).unwrap_or_default();
        ctx.map(0).put(LAST, text.as_bytes());
        if text.contains("timer") {
            ctx.set_timer(1, record.timestamp() + 10);
        }
        if text.contains("alarm") {
            ctx.set_processing_timer(2, record.now() + 300);
        }
        if text.contains("calm") {
            ctx.clear_processing_timer(2);
        }
        ctx.emit(format!("{text} {} {}", **count, String::from_utf8_lossy(&last)));
        if let (Some(misdeed), true) = (self.0.call, misdeeds::is_evil(record.value())) {
            misdeed.commit();
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer, count: &mut State<u64>, ctx: &mut Context) {
        if let (Some(misdeed), true) = (self.0.timer, misdeeds::is_evil(Some(timer.key))) {
            **count += 1_000;
            misdeed.commit();
        }
        match timer.domain {
            TimeDomain::EventTime => ctx.emit(format!("timer {}", **count)),
            TimeDomain::ProcessingTime => {
                ctx.emit(format!("alarm {} at {}", **count, timer.watermark));
            }
        }
    }
}

impl Evil {
    /// Processes a batch and misbehaves, if there is an evil record in it.
    ///
    /// # Errors
    /// When the map state refuses a call, unless that is to be ignored.
    pub fn run(&self, batch: &KeyedBatch, maps: &mut dyn Maps) -> Result<KeyedReply, Failure> {
        let evil = (0..batch.timestamps.len()).find(|i| misdeeds::is_evil(batch.values.get(*i)));
        if let (Some(row), Some(misuse)) = (evil, self.0.map) {
            let done = misuse.commit(batch.slots[row], batch.keys.len() as u32, maps);
            if let (Err(message), false) = (done, self.0.ignore) {
                return Err(Failure { message });
            }
        }
        let mut reply = wasmill_sdk::keyed::run(self, batch, maps)?;
        if evil.is_none() {
            return Ok(reply);
        }
        if let Some(forgery) = self.0.keyed_reply {
            forgery.spoil(batch, &mut reply);
        }
        if let Some(forgery) = self.0.reply {
            // Sources above the records are the keys' timers.
            let sources = batch.timestamps.len() + batch.keys.len();
            forgery.spoil(sources, misdeeds::columns!(reply));
        }
        Ok(reply)
    }
}

impl MapMisuse {
    fn commit(self, slot: u32, slots: u32, maps: &mut dyn Maps) -> Result<(), String> {
        let one = |bytes: &[u8]| std::iter::once(bytes).collect::<Column>();
        let (key, value) = (one(LAST), one(b"forged"));
        let broken = Column { ends: vec![4, 2], data: b"last".to_vec(), validity: Vec::new() };
        let done = match self {
            Self::NoSuchMap => maps.put(9, &[slot], &key, &value),
            Self::NoSuchSlot => maps.put(0, &[slots], &key, &value),
            Self::TooManyBytes => maps.put(0, &[slot], &key, &one(&vec![b'x'; 96 << 20])),
            Self::FewerKeys => maps.put(0, &[slot, slot], &key, &value),
            Self::EndsDescend => maps.put(0, &[slot, slot], &broken, &broken),
        };
        done.map_err(|e| e.to_string())
    }
}

/// The component, by hand: `export!` would take the reply as it is.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, missing_docs)]
mod component {
    use super::Evil;
    use wasmill_sdk::guest::keyed::exports::wasmill::plugin::{keyed, lifecycle, migration};
    use wasmill_sdk::guest::keyed::{convert, maps::HostMaps};

    misdeeds::component!(Evil, describe_keyed, configure_keyed);

    impl keyed::Guest for Component {
        fn process(batch: keyed::Batch) -> Result<keyed::Reply, keyed::Failure> {
            let reply = OPERATOR.get().run(&convert::keyed_batch(batch), &mut HostMaps);
            reply.map(convert::keyed_reply).map_err(convert::failure)
        }
    }

    impl migration::Guest for Component {
        fn migrate(
            _: u32,
            states: migration::Column,
        ) -> Result<migration::Column, migration::Failure> {
            misdeeds::Orders::given()
                .migrate(convert::column_in(states))
                .map(convert::column_out)
                .map_err(convert::failure)
        }
    }

    wasmill_sdk::guest::keyed::export!(Component with_types_in wasmill_sdk::guest::keyed);
}
