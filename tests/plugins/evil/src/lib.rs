//! A stateless plugin that does everything a plugin must not do, for tests of the host.
//!
//! It passes records on as they are. Those with "evil" in their value make it do what its
//! configuration says; so it is known which records are to blame.

mod probe;

use misdeeds::{Forgery, Misdeed};
use wasmill_sdk::abi::{StatelessBatch, StatelessReply};
use wasmill_sdk::prelude::*;

/// What to do, if anything.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// At an evil record.
    pub call: Option<Misdeed>,
    /// To a reply to an evil record.
    pub reply: Option<Forgery>,
    /// To a reply to an evil record, beneath what the types of the SDK allow.
    pub raw: Option<Raw>,
    /// Emit, in place of an evil record, what can be found out about the outside.
    pub probe: bool,
}

/// How a reply is wrong beneath its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Raw {
    /// A list that goes beyond the memory.
    BeyondMemory,
    /// A list of which the length in bytes passes 2^32.
    Enormous,
    /// A list at an odd address.
    Unaligned,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A failure with a message.
    Failure,
}

/// The plugin.
pub struct Evil(Config);

impl Stateless for Evil {
    type Config = Config;

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self(config))
    }

    fn process(&self, record: &Record, out: &mut Emitter) -> Result<(), Rejection> {
        if misdeeds::is_evil(record.value()) {
            if let Some(misdeed) = self.0.call {
                misdeed.commit();
            }
            if self.0.probe {
                out.json(&probe::Findings::now());
                return Ok(());
            }
        }
        out.emit(record.text()?);
        Ok(())
    }
}

impl Evil {
    /// Processes a batch and spoils the reply, if there is an evil record in it.
    ///
    /// # Errors
    /// When the configuration asks for a failure.
    pub fn run(&self, batch: &StatelessBatch) -> Result<StatelessReply, Failure> {
        let mut reply = wasmill_sdk::stateless::run(self, batch)?;
        let n = batch.timestamps.len();
        if !(0..n).any(|row| misdeeds::is_evil(batch.values.get(row))) {
            return Ok(reply);
        }
        if let Some(forgery) = self.0.reply {
            forgery.spoil(n, misdeeds::columns!(reply));
        }
        match self.0.raw {
            Some(Raw::Failure) => Err(Failure { message: "I don't feel like it".into() }),
            #[cfg(target_family = "wasm")]
            Some(raw) => component::spoil(raw, reply),
            _ => Ok(reply),
        }
    }
}

/// The component, by hand: `export!` would take the reply as it is.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, missing_docs)]
mod component {
    use super::{Evil, Failure, Raw, StatelessReply};
    use wasmill_sdk::guest::stateless::convert;
    use wasmill_sdk::guest::stateless::exports::wasmill::plugin::{lifecycle, stateless};

    misdeeds::component!(Evil, describe_stateless, configure_stateless);

    impl stateless::Guest for Component {
        fn process(batch: stateless::Batch) -> Result<stateless::Reply, stateless::Failure> {
            let reply = OPERATOR.get().run(&convert::stateless_batch(batch));
            reply.map(convert::stateless_reply).map_err(convert::failure)
        }
    }

    wasmill_sdk::guest::stateless::export!(Component with_types_in wasmill_sdk::guest::stateless);

    pub(super) fn spoil(raw: Raw, mut reply: StatelessReply) -> Result<StatelessReply, Failure> {
        let end = core::arch::wasm32::memory_size(0) << 16;
        // Nothing frees these lists: the host refuses them, and drops the instance.
        let list = |address: usize, length: usize| unsafe {
            Vec::from_raw_parts(address as *mut u32, length, length)
        };
        match raw {
            Raw::BeyondMemory => reply.rows = list(end - 16, 1_000),
            Raw::Enormous => reply.rows = list(16, (1 << 30) + 4),
            Raw::Unaligned => reply.rows = list(1_025, 1),
            Raw::NotUtf8 => {
                let message = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe, 0xfd]) };
                return Err(Failure { message });
            }
            Raw::Failure => {}
        }
        Ok(reply)
    }
}
