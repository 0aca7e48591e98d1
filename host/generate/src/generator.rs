//! Puts events together. Invariant: what is drawn for an event depends on the configuration and on
//! the number of the event only.

use std::net::Ipv4Addr;

use crate::clock::Clock;
use crate::config::{Config, Error};
use crate::malformed::spoil;
use crate::random::{Odds, Random};
use crate::site::{MIN_AGENT_BYTES, REFERRERS, Site};
use crate::users::{Users, address};
use crate::zipf::Zipf;

/// What a line is about, for those who don't want to parse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The user's address; as text it is the key.
    pub user: Ipv4Addr,
    /// The time in the line, whole seconds in ms since the Unix epoch.
    pub timestamp_ms: i64,
    /// Whether the user agent is a bot's.
    pub bot: bool,
    /// Whether the line can't be parsed.
    pub malformed: bool,
}

impl Event {
    /// Replaces what is in `key` by the key of the event, the user's address as text.
    pub fn key_into(&self, key: &mut Vec<u8>) {
        key.clear();
        write_address(key, self.user);
    }
}

/// A stream of events.
#[derive(Debug, Clone)]
pub struct Generator {
    random: Random,
    users: Users,
    site: Site,
    zipf: Zipf,
    clock: Clock,
    late: Odds,
    malformed: Odds,
    out_of_orderness_ms: i64,
    start_ms: i64,
    ms_per_event: f64,
    /// The number of the next event.
    next: u64,
    events: u64,
}

impl Generator {
    /// Starts a stream.
    ///
    /// # Errors
    /// An [`Error`] when a value of the configuration is out of its range.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.check()?;
        let mut generator = Self {
            random: Random::new(config.seed),
            users: Users::new(config.seed, config.users, config.bot_share),
            site: Site::new(config.pages, MIN_AGENT_BYTES),
            zipf: Zipf::new(config.pages),
            clock: Clock::new(),
            late: Odds::of(config.late_share),
            malformed: Odds::of(config.malformed_share),
            out_of_orderness_ms: config.out_of_orderness_ms,
            start_ms: config.start_ms,
            ms_per_event: 1000.0 / config.rate,
            next: 0,
            events: config.events.unwrap_or(u64::MAX),
        };
        let others = generator.mean_line_bytes().saturating_sub(MIN_AGENT_BYTES);
        let agent_bytes = config.line_bytes.saturating_sub(others).max(MIN_AGENT_BYTES);
        generator.site = Site::new(config.pages, agent_bytes);
        Ok(generator)
    }

    /// The number of events so far.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Replaces what is in `line` by the next line, without line break; none at the end, which comes
    /// after `events`, or in the year 9999.
    #[inline]
    pub fn next_into(&mut self, line: &mut Vec<u8>) -> Option<Event> {
        line.clear();
        if self.next >= self.events {
            return None;
        }
        let now_ms = self.start_ms.saturating_add((self.next as f64 * self.ms_per_event) as i64);
        if now_ms > MAX_TIME_MS {
            return None;
        }
        self.next += 1;
        let timestamp_ms = self.time(now_ms);
        let (user, bot) = self.users.draw(&mut self.random, timestamp_ms);
        let address = address(user);
        self.write(line, address, user, bot, timestamp_ms / 1000);
        let malformed = self.random.happens(self.malformed);
        if malformed {
            spoil(line, &mut self.random);
        }
        Some(Event { user: address, timestamp_ms, bot, malformed })
    }

    /// Draws the time of an event, in whole seconds, when the latest so far may be `now_ms`.
    #[inline]
    fn time(&mut self, now_ms: i64) -> i64 {
        let now = now_ms / 1000 * 1000;
        if !self.random.happens(self.late) {
            return now;
        }
        // A year of ms does not fit into 32 bits, a year of quarters of a second does.
        let quarters = (self.out_of_orderness_ms / 250) as u32 + 1;
        let held_back = i64::from(self.random.below(quarters)) * 250;
        let time = (now_ms - held_back).max(0) / 1000 * 1000;
        // Cutting off to seconds must not make it later than allowed.
        if now - time > self.out_of_orderness_ms { time + 1000 } else { time }
    }

    #[inline]
    fn write(&mut self, line: &mut Vec<u8>, address: Ipv4Addr, user: u32, bot: bool, second: i64) {
        let bits = self.random.next();
        let page = self.zipf.draw(&mut self.random);
        write_address(line, address);
        line.extend_from_slice(b" - - [");
        line.extend_from_slice(self.clock.text(second));
        line.extend_from_slice(if bits & 31 == 0 { b"] \"POST " } else { b"] \"GET " });
        line.extend_from_slice(self.site.path(page));
        if bits >> 5 & 7 == 0 {
            line.extend_from_slice(b"?page=");
            write_number(line, (bits >> 8 & 63) as u32 + 1);
        }
        line.extend_from_slice(b" HTTP/1.1\" ");
        let (status, has_body): (&[u8], bool) = match bits >> 16 & 127 {
            0..=5 => (b"304", false),
            6..=8 => (b"404", true),
            9..=10 => (b"301", true),
            11 => (b"500", true),
            _ => (b"200", true),
        };
        line.extend_from_slice(status);
        line.push(b' ');
        if has_body {
            write_number(line, 200 + (bits >> 24 & 0xffff) as u32);
        } else {
            line.push(b'-');
        }
        line.extend_from_slice(b" \"");
        match bits >> 40 & 7 {
            0..=3 => {
                line.extend_from_slice(b"https://shop.example.com");
                line.extend_from_slice(self.site.path(self.zipf.draw(&mut self.random)));
            }
            4 | 5 => line.extend_from_slice(REFERRERS[(bits >> 43 & 3) as usize]),
            _ => line.push(b'-'),
        }
        line.extend_from_slice(b"\" \"");
        line.extend_from_slice(self.site.agent(self.users.bits(user), bot));
        line.push(b'"');
    }

    /// The mean length of lines with the agents of now, from a sample.
    fn mean_line_bytes(&self) -> usize {
        const SAMPLE: usize = 4096;
        let mut sample = self.clone();
        (sample.malformed, sample.events) = (Odds::of(0.0), SAMPLE as u64);
        let (mut line, mut bytes, mut lines) = (Vec::new(), 0, 0);
        while sample.next_into(&mut line).is_some() {
            bytes += line.len();
            lines += 1;
        }
        bytes / lines.max(1)
    }
}

/// 9999-12-31T23:59:59Z, in ms.
const MAX_TIME_MS: i64 = 253_402_300_799_000;

#[inline]
fn write_address(out: &mut Vec<u8>, address: Ipv4Addr) {
    for (i, octet) in address.octets().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        write_number(out, u32::from(octet));
    }
}

#[inline]
fn write_number(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
