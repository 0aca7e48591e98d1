//! The operator as the host drives it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod driver;
mod one_call;
mod peers;
mod properties;
mod rules;

use driver::Input;

const LEFT: u8 = 0;
const RIGHT: u8 = 1;

/// A record of the key `k` whose value is its event time.
fn at(port: u8, time: i64) -> Input {
    Input::new(port, "k", time, time.to_string())
}
