//! Values of fields and how they compare. Invariant: values of different types are never equal;
//! numbers are one type.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The value of a field, as far as conditions look into it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Value<'a>>),
    /// An object.
    Object,
}

impl Value<'_> {
    /// Whether both are the same; 1 and 1.0 are.
    pub fn is(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Whole(a), Value::Whole(b)) => a == b,
            (Value::Whole(_) | Value::Float(_), Value::Whole(_) | Value::Float(_)) => {
                self.number() == other.number()
            }
            _ => false,
        }
    }

    /// The number nearest to it, none when it is no number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Whole(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// How it compares with a bound, exact for whole numbers of any size.
    pub fn compare(&self, bound: f64) -> Option<Ordering> {
        match self {
            Value::Whole(number) => {
                let floor = bound.floor();
                // Bounds beyond 2^100 saturate, far beyond the 64 bits of whole numbers in JSON.
                match number.cmp(&(floor as i128)) {
                    Ordering::Equal if floor < bound => Some(Ordering::Less),
                    order => Some(order),
                }
            }
            _ => self.number()?.partial_cmp(&bound),
        }
    }

    /// The text, none when it is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 40;
        match self {
            Value::Absent => f.write_str("(absent)"),
            Value::Bool(flag) => write!(f, "{flag}"),
            Value::Whole(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Text(text) if text.chars().nth(MAX_CHARS).is_some() => {
                let start: String = text.chars().take(MAX_CHARS).collect();
                write!(f, "{start:?}...")
            }
            Value::Text(text) => write!(f, "{text:?}"),
            Value::List(list) => write!(f, "(a list of {})", list.len()),
            Value::Object => f.write_str("(an object)"),
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalars)
    }
}

/// Reads any value, without what is inside objects.
pub struct Scalars;

impl<'de> Visitor<'de> for Scalars {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Absent)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value() {
        assert!(Value::Whole(1).is(&Value::Float(1.0)));
        assert!(!Value::Whole(1).is(&Value::Text("1".into())));
        assert!(!Value::Whole(9_007_199_254_740_993).is(&Value::Whole(9_007_199_254_740_992)));
        assert!(!Value::Absent.is(&Value::Absent));
        let compare = |n, bound| Value::Whole(n).compare(bound).unwrap();
        assert_eq!(compare(9_007_199_254_740_993, 9_007_199_254_740_992.0), Ordering::Greater);
        assert_eq!(compare(1, 1.5), Ordering::Less);
        assert_eq!(compare(-1, -1.5), Ordering::Greater);
        assert_eq!(compare(2, 2.0), Ordering::Equal);
        assert_eq!(compare(2, f64::INFINITY), Ordering::Less);
        assert_eq!(Value::Text("2".into()).compare(1.0), None);
    }
}
