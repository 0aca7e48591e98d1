//! The configuration of the operator.
//!
//! Invariant: a checked configuration has a window that some pair of records fits, and names that
//! keep the fields of the two sides apart.

use serde::{Deserialize, Deserializer, de};
use wasmill_sdk::config::{Span, error};
use wasmill_sdk::prelude::ConfigError;

/// Whose records come out without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nobody's.
    #[default]
    Inner,
    /// Those of the left side.
    Left,
    /// Those of the right side.
    Right,
    /// Those of both sides.
    Outer,
}

/// How a result is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// An object with one field for each side, which holds its record: `{"left":{"a":1},...}`.
    #[default]
    Nested,
    /// The fields of both records, each with the name of its side in front: `{"left_a":1,...}`.
    Prefixed,
}

/// A bound of the window in ms, negative where the right record must be on the other side of the
/// left one. Read as a [`Span`], with `-` in front of text, or as a number of ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound(
    /// Milliseconds.
    pub i64,
);

/// The stage's `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Whose records come out without a partner.
    #[serde(default)]
    pub join: Kind,
    /// The name of the first input, and of its fields in a result.
    #[serde(default = "left_name")]
    pub left: String,
    /// The name of the second input, and of its fields in a result.
    #[serde(default = "right_name")]
    pub right: String,
    /// How far apart two records of a pair may be, whichever comes first: sets `before` and `after`.
    pub within: Option<Span>,
    /// How much earlier than the left record the right one may be; 0 when only `after` is given.
    pub before: Option<Bound>,
    /// How much later than the left record the right one may be; 0 when only `before` is given.
    pub after: Option<Bound>,
    /// Allowed lateness: how far behind the watermark a record may come.
    #[serde(default = "no_lateness")]
    pub lateness: Span,
    /// How a result is laid out.
    #[serde(default)]
    pub layout: Layout,
}

/// When the right record may be, seen from the left one: from `before_ms` earlier to `after_ms` later,
/// both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) before_ms: i64,
    pub(crate) after_ms: i64,
}

fn left_name() -> String {
    "left".to_owned()
}

fn right_name() -> String {
    "right".to_owned()
}

fn no_lateness() -> Span {
    Span(0)
}

impl Config {
    /// Checks what the types leave open.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the key.
    pub(crate) fn check(&self) -> Result<Bounds, ConfigError> {
        for (key, name) in [("left", &self.left), ("right", &self.right)] {
            let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !starts || !name.chars().all(fits) {
                let message = format!(
                    "found {name:?}; the name of an input starts with a letter a-z and has letters \
                     a-z, digits and - in it"
                );
                return Err(error(key, message));
            }
        }
        if self.left == self.right {
            let message = format!("both sides are named {:?}; give them two names", self.left);
            return Err(error("right", message));
        }
        let bounds = self.bounds()?;
        // Counted in i128, for the sum of two bounds may be more than a bound can be.
        if i128::from(bounds.before_ms) + i128::from(bounds.after_ms) < 0 {
            return Err(error(
                "after",
                format!(
                    "no right record can be from {} ms before the left one to {} ms after it; the \
                     two must not add up to less than 0",
                    bounds.before_ms, bounds.after_ms
                ),
            ));
        }
        Ok(bounds)
    }

    fn bounds(&self) -> Result<Bounds, ConfigError> {
        let ms = |bound: Option<Bound>| bound.map_or(0, |bound| bound.0);
        match (self.within, self.before, self.after) {
            (Some(span), None, None) => Ok(Bounds { before_ms: span.ms(), after_ms: span.ms() }),
            (None, None, None) => Err(error(
                "within",
                "found no window; say within = \"10m\", or before and after for a window that is not \
                 the same on both sides",
            )),
            (None, before, after) => Ok(Bounds { before_ms: ms(before), after_ms: ms(after) }),
            (Some(_), before, _) => Err(error(
                if before.is_some() { "before" } else { "after" },
                "`within` sets both bounds already; leave it out, or this one",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bound;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "a length of time such as \"30m\" or \"-30m\", or a number of milliseconds",
                )
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
                let (sign, length) = text.trim().strip_prefix('-').map_or((1, text), |t| (-1, t));
                Ok(Bound(sign * Span::parse(length).map_err(E::custom)?.ms()))
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Bound, E> {
                i64::try_from(ms).map(Bound).map_err(|_| E::custom("too long a time"))
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Bound, E> {
                // So that it can be negated.
                if ms == i64::MIN { Err(E::custom("too long a time")) } else { Ok(Bound(ms)) }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
