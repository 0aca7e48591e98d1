//! Who a request is counted for. Invariant: there is always a user, at the least the address.

use std::borrow::Cow;
use std::fmt::Write;

use crate::config::User;
use crate::line::Line;
use crate::url::decode_form;

/// The user of a request.
#[inline]
pub fn of<'a>(user: &User, line: &Line<'a>, query: &[u8]) -> Cow<'a, str> {
    let ip = String::from_utf8_lossy(line.ip);
    match user {
        User::Ip => ip,
        User::IpAgent => {
            let agent = line.agent.as_ref().map_or(&[][..], |agent| &agent.bytes);
            let mut name = String::with_capacity(ip.len() + 9);
            name.push_str(&ip);
            write!(name, "-{:08x}", hash(agent)).expect("a String takes everything");
            Cow::Owned(name)
        }
        User::RemoteUser => line.remote_user.map_or(ip, String::from_utf8_lossy),
        User::Parameter(name) => parameter(query, name).map_or(ip, Cow::Owned),
    }
}

/// The value of a query parameter, none when it is empty or not there.
fn parameter(query: &[u8], name: &str) -> Option<String> {
    query.split(|b| *b == b'&').find_map(|pair| {
        let equals = pair.iter().position(|b| *b == b'=')?;
        if decode_form(&pair[..equals]) != name.as_bytes() || equals + 1 == pair.len() {
            return None;
        }
        Some(String::from_utf8_lossy(&decode_form(&pair[equals + 1..])).into_owned())
    })
}

/// FNV-1a of 64 bits, folded to 32. Users must stay who they are, so it must never change.
fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for b in bytes {
        hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_an_agent_never_changes() {
        // FNV-1a 64 of "" and "a" are cbf29ce484222325 and af63dc4c8601ec8c.
        assert_eq!(hash(b""), 0xcbf2_9ce4 ^ 0x8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c ^ 0x8601_ec8c);
    }

    #[test]
    fn a_parameter_is_decoded() {
        assert_eq!(parameter(b"x=1&u%69d=J%C3%B6+e", "uid"), Some("Jö e".into()));
        assert_eq!(parameter(b"uid=&uid", "uid"), None);
    }
}
