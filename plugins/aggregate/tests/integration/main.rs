//! The operator as the host drives it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod counts;
#[path = "../../../sessionize/tests/integration/driver.rs"]
mod driver;
mod early;
mod measures;
mod peers;
mod properties;
mod rules;

use aggregate::Aggregate;
use driver::{Driver, Input, Output};

/// The values of all emissions in the order of their event times, then as text.
fn results(driver: &Driver<Aggregate>) -> Vec<&str> {
    let mut outputs: Vec<_> = driver.outputs.iter().map(|o| (o.time, o.value.as_str())).collect();
    outputs.sort_unstable();
    outputs.into_iter().map(|(_, value)| value).collect()
}

/// Emissions as the host hands them to a stage behind a change of key: in the order of the clock,
/// each with the clock that its maker's stage had just left.
fn onward(outputs: &[Output], key: &str) -> Vec<Input> {
    let mut outputs: Vec<_> = outputs.iter().collect();
    outputs.sort_by_key(|o| o.time);
    let input =
        |o: &&Output| Input { watermark: o.watermark, ..Input::new(key, o.time, o.value.clone()) };
    outputs.iter().map(input).collect()
}
