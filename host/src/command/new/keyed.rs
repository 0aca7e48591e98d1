//! Counts the records of each key, and emits the count with every record.

use wasmill_sdk::prelude::*;

pub struct Count;

impl Keyed for Count {
    type Config = NoConfig;
    type State = u64;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(
        &self,
        record: &Record,
        count: &mut State<u64>,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        let key = record.key_text()?;
        **count += 1;
        ctx.emit(format!("{key} {}", **count));
        Ok(())
    }
}

wasmill_sdk::export!(keyed Count);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::Harness;

    #[test]
    fn every_key_has_a_count_of_its_own() {
        let mut harness = Harness::keyed::<Count>("{}").unwrap();
        harness.pipe("alice", 1_000, "");
        harness.pipe("bob", 2_000, "");
        harness.pipe("alice", 3_000, "");
        assert_eq!(harness.texts("out"), ["alice 1", "bob 1", "alice 2"]);
        assert_eq!(harness.state::<u64>("alice"), Some(2));
    }
}
