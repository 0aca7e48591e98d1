//! Free ports on loopback, held by name for as long as a cluster needs them.
//!
//! Invariant: no two clusters of this project hold the same port at once. The ports are below those
//! that systems give to outgoing connections (from 32768), so that one that a stopped broker left
//! is not taken before the broker is back.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that is held until this is dropped. Whatever wants to listen there may.
#[derive(Debug)]
pub(crate) struct Port {
    /// Its number.
    pub(crate) number: u16,
    _held: File,
}

impl Port {
    /// Takes a port where nothing listens. `folder` holds the locks.
    ///
    /// # Errors
    /// When the folder can't be written, or no port is free.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let start = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
        for step in 0..COUNT {
            let number = FIRST + ((start as u16 + step) % COUNT);
            let held = File::create(folder.join(number.to_string()))?;
            if held.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _held: held });
            }
        }
        let last = FIRST + COUNT - 1;
        Err(io::Error::other(format!("none of the ports {FIRST} to {last} is free on 127.0.0.1")))
    }
}
