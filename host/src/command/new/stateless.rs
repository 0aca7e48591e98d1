//! Emits each line in upper case.

use wasmill_sdk::prelude::*;

pub struct Upper;

impl Stateless for Upper {
    type Config = NoConfig;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(&self, record: &Record, out: &mut Emitter) -> Result<(), Rejection> {
        out.emit(record.text()?.to_uppercase());
        Ok(())
    }
}

wasmill_sdk::export!(stateless Upper);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::Harness;

    #[test]
    fn lines_come_out_in_upper_case_and_what_is_no_text_is_rejected() {
        let mut harness = Harness::stateless::<Upper>("{}").unwrap();
        harness.pipe("key", 1_000, "hello");
        harness.pipe("key", 2_000, [0xff]);
        assert_eq!(harness.texts("out"), ["HELLO"]);
        assert_eq!(harness.rejected().len(), 1);
    }
}
