//! Passes every record through, without state.

use wasmill_sdk::prelude::*;

/// The plugin.
pub struct Identity;

impl Stateless for Identity {
    type Config = NoConfig;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(&self, record: &Record, out: &mut Emitter) -> Result<(), Rejection> {
        out.emit(record.bytes()?);
        Ok(())
    }
}

wasmill_sdk::export!(stateless Identity);
