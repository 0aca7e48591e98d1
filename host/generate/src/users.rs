//! Users: who they are and when they visit. Invariant: two users never share an address, and between
//! two visits of a user lie more than 30 minutes.

use std::net::Ipv4Addr;

use crate::random::{Odds, Random, mix};

/// The most users that have addresses of their own.
pub const MAX_USERS: u32 = 1 << 24;

/// The length of a visit.
const VISIT_MS: i64 = 40 * 60_000;
/// The shortest time from the beginning of a visit to that of the next.
const MIN_PERIOD_MS: i64 = 80 * 60_000;
/// By how much that time differs from user to user.
const PERIOD_SPREAD_MS: u32 = 90 * 60_000;
/// How often a user is drawn anew who is not visiting. A third of the users are, at any time, so with
/// three users or more it nearly never runs out.
const MAX_DRAWS: usize = 64;

/// Who there is.
#[derive(Debug, Clone)]
pub struct Users {
    seed: u64,
    users: u32,
    /// Users below this are bots.
    bots: u32,
    bot_share: Odds,
}

impl Users {
    /// Of `users`, at least one, the share of bots is that of their events.
    pub fn new(seed: u64, users: u32, bot_share: f64) -> Self {
        let bots = match (f64::from(users) * bot_share) as u32 {
            0 if bot_share > 0.0 => 1,
            bots => bots,
        };
        let seed = mix(seed ^ 0x7573_6572);
        Self { seed, users, bots, bot_share: Odds::of(bot_share) }
    }

    /// Draws who comes at a time, in ms since the epoch, and whether it is a bot. Bots come at any
    /// time.
    #[inline]
    pub fn draw(&self, random: &mut Random, time_ms: i64) -> (u32, bool) {
        if random.happens(self.bot_share) {
            return (random.below(self.bots.max(1)), true);
        }
        if self.bots >= self.users {
            return (random.below(self.users), false);
        }
        let mut user = 0;
        for _ in 0..MAX_DRAWS {
            user = self.bots + random.below(self.users - self.bots);
            if self.visits(user, time_ms) {
                break;
            }
        }
        (user, false)
    }

    /// Whether a user is there at a time.
    #[inline]
    pub fn visits(&self, user: u32, time_ms: i64) -> bool {
        let bits = self.bits(user);
        let spread = ((bits >> 32) * u64::from(PERIOD_SPREAD_MS)) >> 32;
        let period = MIN_PERIOD_MS + spread as i64;
        let phase = i64::from(bits as u32);
        (time_ms + phase).rem_euclid(period) < VISIT_MS
    }

    /// Random bits that a user keeps.
    #[inline]
    pub fn bits(&self, user: u32) -> u64 {
        mix(self.seed ^ u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The address of a user: 20.0.0.0 to 99.255.255.255, apart in the last three bytes.
#[inline]
pub fn address(user: u32) -> Ipv4Addr {
    // Odd factors and shifts to the right can be undone within 24 bits, so no two users collide.
    let mut bits = user & (MAX_USERS - 1);
    bits = bits.wrapping_mul(0x9e_3779) & (MAX_USERS - 1);
    bits ^= bits >> 12;
    bits = bits.wrapping_mul(0x85_ebca | 1) & (MAX_USERS - 1);
    bits ^= bits >> 11;
    let [_, b, c, d] = bits.to_be_bytes();
    Ipv4Addr::new(20 + (bits.wrapping_mul(0x2545_f491) >> 24) as u8 % 80, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_an_address_of_its_own() {
        let mut seen = vec![0u64; MAX_USERS as usize / 64];
        for user in 0..MAX_USERS {
            let octets = address(user).octets();
            assert!((20..100).contains(&octets[0]));
            let bits = u32::from_be_bytes([0, octets[1], octets[2], octets[3]]) as usize;
            assert_eq!(seen[bits / 64] >> (bits % 64) & 1, 0, "user {user}");
            seen[bits / 64] |= 1 << (bits % 64);
        }
    }

    #[test]
    fn visits_lie_more_than_half_an_hour_apart() {
        let users = Users::new(3, 100, 0.0);
        for user in 0..100 {
            let minutes: Vec<bool> =
                (0..1_000).map(|m| users.visits(user, 1_431_857_100_000 + m * 60_000)).collect();
            let mut visits = minutes.chunk_by(|a, b| a == b).skip(1).peekable();
            let mut absences = 0;
            while let Some(run) = visits.next() {
                // The last run may be cut off by the end.
                if !run[0] && visits.peek().is_some() {
                    assert!(run.len() > 30, "user {user} is away for {} minutes", run.len());
                    absences += 1;
                }
            }
            assert!(absences >= 4, "user {user}");
        }
    }

    #[test]
    fn a_few_users_are_always_enough() {
        for users in 1..4 {
            let users = Users::new(3, users, 0.5);
            let mut random = Random::new(1);
            for minute in 0..1_000 {
                let (user, _) = users.draw(&mut random, minute * 60_000);
                assert!(user < users.users);
            }
        }
    }
}
