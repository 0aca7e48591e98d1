//! What a plugin can find out about the world outside.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What was found.
#[derive(Debug, serde::Serialize)]
pub struct Findings {
    variables: usize,
    arguments: usize,
    stdin_bytes: usize,
    /// What could be done that must not be.
    possible: Vec<&'static str>,
    wall_ms: u128,
    elapsed_ns: u128,
    random: u64,
}

impl Findings {
    /// Tries everything.
    pub fn now() -> Self {
        let mut stdin = Vec::new();
        let read = std::io::stdin().read_to_end(&mut stdin);
        let start = Instant::now();
        let attempts = [
            ("read a file", fs::read("/etc/hostname").is_ok()),
            ("read a file of this folder", fs::read("Cargo.toml").is_ok()),
            ("write a file", fs::write("/tmp/evil", "x").is_ok()),
            ("list a folder", fs::read_dir("/").is_ok_and(|mut d| d.next().is_some())),
            ("make a folder", fs::create_dir("evil").is_ok()),
            ("connect", TcpStream::connect(("127.0.0.1", 80)).is_ok()),
            ("listen", TcpListener::bind(("127.0.0.1", 0)).is_ok()),
            ("open a UDP socket", UdpSocket::bind(("127.0.0.1", 0)).is_ok()),
            ("look up a name", ("localhost", 80).to_socket_addrs().is_ok()),
            ("start a thread", std::thread::Builder::new().spawn(|| ()).is_ok()),
        ];
        let possible = attempts.iter().filter(|(_, done)| *done).map(|(what, _)| *what).collect();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            variables: std::env::vars_os().count(),
            arguments: std::env::args_os().count(),
            stdin_bytes: read.map_or(0, |_| stdin.len()),
            possible,
            wall_ms: wall.as_millis(),
            elapsed_ns: start.elapsed().as_nanos(),
            random: RandomState::new().hash_one(0),
        }
    }
}
