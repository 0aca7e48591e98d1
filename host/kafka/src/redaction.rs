//! What is secret and how it is kept out of texts. Invariant: no text that passed
//! [`Redaction::scrub`] holds a secret value.

/// What a secret is shown as.
pub const REDACTED: &str = "[redacted]";

/// The secret values of one set of settings.
#[derive(Clone, Default)]
pub struct Redaction {
    values: Vec<String>,
}

impl std::fmt::Debug for Redaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redaction({} values)", self.values.len())
    }
}

impl Redaction {
    /// Adds a value that must not be shown.
    pub fn add(&mut self, value: &str) {
        if !value.is_empty() && !self.values.iter().any(|v| v == value) {
            self.values.push(value.to_owned());
            // A value that holds another goes first, or its rest would stay.
            self.values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        }
    }

    /// The text with every secret value replaced by [`REDACTED`].
    pub fn scrub(&self, text: &str) -> String {
        let mut rest = text;
        let mut scrubbed = String::with_capacity(text.len());
        while !rest.is_empty() {
            let next = self.values.iter().filter_map(|v| rest.find(v.as_str()).map(|at| (at, v)));
            match next.min_by_key(|(at, value)| (*at, std::cmp::Reverse(value.len()))) {
                Some((at, value)) => {
                    scrubbed.push_str(&rest[..at]);
                    scrubbed.push_str(REDACTED);
                    rest = &rest[at + value.len()..];
                }
                None => {
                    scrubbed.push_str(rest);
                    rest = "";
                }
            }
        }
        scrubbed
    }
}

/// Whether the values of this librdkafka setting are secret by its name.
pub fn is_secret(key: &str) -> bool {
    const MARKS: [&str; 7] =
        ["password", "secret", "token", "passphrase", "key.pem", "jaas", "oauthbearer.config"];
    let key = key.to_ascii_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_known_by_their_keys() {
        for key in
            ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "SSL.Key.Password"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["sasl.username", "ssl.ca.location", "client.id"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn a_secret_that_holds_another_is_hidden_whole() {
        let mut redaction = Redaction::default();
        redaction.add("abc");
        redaction.add("abcdef");
        assert_eq!(redaction.scrub("x abcdef y abc z"), "x [redacted] y [redacted] z");
    }

    proptest! {
        #[test]
        fn no_secret_stays(parts in proptest::collection::vec("[x-z]{0,6}", 0..6),
                           secrets in proptest::collection::vec("[A-C]{2,5}", 1..4),
                           order in proptest::collection::vec(0..4_usize, 0..6)) {
            let mut redaction = Redaction::default();
            secrets.iter().for_each(|s| redaction.add(s));
            let mut text = String::new();
            for (i, part) in parts.iter().enumerate() {
                text.push_str(part);
                if let Some(secret) = order.get(i).and_then(|o| secrets.get(*o)) {
                    text.push_str(secret);
                }
            }
            let scrubbed = redaction.scrub(&text);
            for secret in &secrets {
                prop_assert!(!scrubbed.contains(secret.as_str()), "{scrubbed}");
            }
        }
    }
}
