//! Which user agents are bots. Invariant: the answer is that of looking for each text in turn,
//! ignoring case; the filter in front only makes it fast.

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;

/// The texts by which bots are known.
#[derive(Debug)]
pub struct Bots {
    /// In lower case, two bytes or longer, by the low five bits of their first byte.
    texts: [Vec<Vec<u8>>; 32],
    /// For the low five bits of a text's first byte a bit for those of its second. They are the same
    /// for a letter in lower and upper case.
    seconds: [u32; 32],
    /// The same for the second and third; all bits for a text that has no third.
    thirds: [u32; 32],
}

impl Bots {
    /// Takes the texts of the configuration.
    pub fn new(list: &[String]) -> Result<Self, ConfigError> {
        let mut bots = Self { texts: Default::default(), seconds: [0; 32], thirds: [0; 32] };
        for (i, text) in list.iter().enumerate() {
            let text = text.to_ascii_lowercase().into_bytes();
            let [a, b, ..] = *text else {
                return Err(error(
                    format!("bots.{i}"),
                    format!(
                        "{:?} is too short to know a bot by; write two characters or more",
                        list[i]
                    ),
                ));
            };
            bots.seconds[low(a)] |= 1 << low(b);
            bots.thirds[low(b)] |= text.get(2).map_or(u32::MAX, |c| 1 << low(*c));
            bots.texts[low(a)].push(text);
        }
        Ok(bots)
    }

    /// Whether an agent has one of the texts in it.
    #[inline]
    pub fn sent(&self, agent: &[u8]) -> bool {
        let Some((first, rest)) = agent.split_first() else {
            return false;
        };
        let mut row = self.seconds[low(*first)];
        for (i, b) in rest.iter().enumerate() {
            if row >> low(*b) & 1 != 0 && self.starts(&agent[i..]) {
                return true;
            }
            row = self.seconds[low(*b)];
        }
        false
    }

    /// Whether this, of which the first two bytes may fit, begins with one of the texts.
    #[inline]
    fn starts(&self, rest: &[u8]) -> bool {
        if rest.get(2).is_some_and(|c| self.thirds[low(rest[1])] >> low(*c) & 1 == 0) {
            return false;
        }
        self.texts[low(rest[0])]
            .iter()
            .any(|text| rest.len() >= text.len() && rest[..text.len()].eq_ignore_ascii_case(text))
    }
}

/// The low five bits.
#[inline(always)]
fn low(b: u8) -> usize {
    usize::from(b & 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bots_are_known_in_any_case() {
        let bots = Bots::new(&["bot".into(), "Curl/".into()]).unwrap();
        assert!(bots.sent(b"Mozilla/5.0 (compatible; GoogleBOT/2.1)"));
        assert!(bots.sent(b"curl/7"));
        assert!(!bots.sent(b"Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/11.0"));
        assert!(!bots.sent(b"bo") && !bots.sent(b""));
        assert_eq!(Bots::new(&["ab".into(), "x".into()]).unwrap_err().path, "bots.1");
    }

    proptest! {
        #[test]
        fn the_filter_changes_no_answer(
            texts in proptest::collection::vec("[a-cA-C/0-2]{2,4}", 0..5), agent in "[a-cA-C/0-2é]{0,12}") {
            let expected = texts.iter().any(|t| {
                agent.to_ascii_lowercase().contains(&t.to_ascii_lowercase())
            });
            prop_assert_eq!(Bots::new(&texts).unwrap().sent(agent.as_bytes()), expected);
        }
    }
}
