//! Passes every record through by key, and keeps no state.

use wasmill_sdk::prelude::*;

/// The plugin.
pub struct Identity;

impl Keyed for Identity {
    type Config = NoConfig;
    type State = ();

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record,
        _: &mut State<()>,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        ctx.emit(record.bytes()?);
        Ok(())
    }
}

wasmill_sdk::export!(keyed Identity);
