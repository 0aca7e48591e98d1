//! What a plugin must not do: during a call, in its reply, and before it has a configuration.
//!
//! Invariant: nothing here ends well: a misdeed never returns, a forgery always breaks the ABI or a
//! limit, also in a batch of one record.

mod forgery;
mod orders;

use std::hint::black_box;
use std::time::Duration;

pub use forgery::{Columns, Forgery};
pub use orders::{BYTES, MARK, Orders};
use serde::Deserialize;

/// Records with this in their value make the plugin misbehave.
pub const EVIL: &[u8] = b"evil";

/// Whether a record makes the plugin misbehave.
pub fn is_evil(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| value.windows(EVIL.len()).any(|part| part == EVIL))
}

/// What a plugin must not do while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misdeed {
    /// Never ends.
    Loop,
    /// Asks for memory without end.
    Memory,
    /// Calls itself without end.
    Stack,
    /// Calls itself without end, with much on the stack in linear memory.
    Frames,
    /// Executes `unreachable`.
    Trap,
    /// Panics with a message.
    Panic,
    /// Sleeps for an hour.
    Sleep,
    /// Exits with code 0, as if all were well.
    Exit,
    /// Writes to the log without end.
    Log,
    /// Writes to stdout and stderr without end.
    Print,
    /// Writes one line of 256 MiB to the log.
    LongLine,
}

impl Misdeed {
    /// Does it.
    pub fn commit(self) -> ! {
        match self {
            Self::Loop => loop {
                black_box(0);
            },
            Self::Memory => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1u8; 8 << 20]));
                }
            }
            Self::Stack => panic!("the stack held {} frames", deep(0)),
            Self::Frames => panic!("the stack held {} large frames", large(0)),
            Self::Trap => trap(),
            Self::Panic => panic!("this plugin has no conscience"),
            Self::Sleep => {
                std::thread::sleep(Duration::from_secs(3600));
                panic!("it slept");
            }
            Self::Exit => std::process::exit(0),
            Self::Log => loop {
                wasmill_sdk::warn!("all work and no play");
            },
            Self::Print => loop {
                println!("all work and no play");
                eprint!("makes a dull plugin, without a line's end, ");
            },
            Self::LongLine => {
                wasmill_sdk::log::write(wasmill_sdk::log::Level::Warn, &"x".repeat(256 << 20));
                panic!("the line was taken");
            }
        }
    }
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { black_box(deep(n + 1)).wrapping_add(n) }
}

#[inline(never)]
fn large(n: u64) -> u64 {
    let mut frame = [n as u8; 64 << 10];
    black_box(&mut frame);
    let rest = if n == u64::MAX { 0 } else { large(n + 1) };
    rest.wrapping_add(u64::from(frame[n as usize % frame.len()]))
}

fn trap() -> ! {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    std::process::abort();
}
