//! Keeps the last value of each key, and emits the one that it replaces: what a restore has brought
//! back shows by what the next records of its keys bring out.

use wasmill_sdk::prelude::*;

/// The plugin.
pub struct Latest;

impl Keyed for Latest {
    type Config = NoConfig;
    type State = Vec<u8>;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<Vec<u8>>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let value = record.bytes()?.to_vec();
        if state.exists() {
            ctx.emit(&**state);
        }
        **state = value;
        Ok(())
    }
}

wasmill_sdk::export!(keyed Latest);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::Harness;

    #[test]
    fn the_last_value_of_a_key_stays_and_the_one_before_goes_out() {
        let mut harness = Harness::keyed::<Latest>("{}").unwrap();
        harness.pipe("a", 1, "one");
        harness.pipe("a", 2, "two");
        assert_eq!(harness.state::<Vec<u8>>("a"), Some(b"two".to_vec()));
        assert_eq!(harness.texts("out"), ["one"]);
    }
}
