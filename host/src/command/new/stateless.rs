//! Emits each line in upper case; rejects empty ones as invalid.

use wasmill_sdk::prelude::*;

struct Upper;

impl Stateless for Upper {
    type Config = NoConfig;

    fn new(_: NoConfig, _: &Setup) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn process(&self, record: &Record, out: &mut Emitter) -> Result<(), Rejection> {
        let text = record.text()?.trim();
        if text.is_empty() { return Err(Rejection::invalid("the line is empty")); }
        out.emit(text.to_uppercase());
        Ok(())
    }
}

wasmill_sdk::export!(stateless Upper);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::Harness;

    #[test]
    fn lines_come_out_in_upper_case_and_empty_ones_are_rejected() {
        let mut harness = Harness::stateless::<Upper>("{}").unwrap();
        harness.pipe("", 0, "hello");
        harness.pipe("", 0, " ");
        assert_eq!(harness.texts("out"), ["HELLO"]);
        assert_eq!(harness.rejected()[0].reason, "the line is empty");
    }
}
