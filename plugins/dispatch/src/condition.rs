//! Conditions. Invariant: a condition is a pure function of the fields' values.

use std::cmp::Ordering;

use regex_lite::Regex;
use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;

use crate::config::{Range, When};
use crate::fields::Fields;
use crate::value::Value;

/// What must hold.
#[derive(Debug)]
pub enum Condition {
    /// All of these.
    All(Vec<Condition>),
    /// One of these.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// All of this for the field of that index.
    Field(usize, Vec<Check>),
}

/// What must hold for a field.
#[derive(Debug)]
pub enum Check {
    /// It is one of these.
    In(Vec<Value<'static>>),
    /// It is not this.
    NotEquals(Value<'static>),
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// It has this in it.
    Contains(String),
    /// This is found in it.
    Regex(Regex),
    /// It is within these bounds.
    Range(Range),
    /// It is there or not.
    Exists(bool),
}

impl Condition {
    /// Makes a condition from its configuration, which is at `path`.
    pub fn new(when: &When, path: &str, fields: &mut Fields) -> Result<Self, ConfigError> {
        let combined = [
            ("all", when.all.is_some()),
            ("any", when.any.is_some()),
            ("not", when.not.is_some()),
            ("field", when.field.is_some()),
        ];
        let said: Vec<&str> =
            combined.iter().filter(|(_, said)| *said).map(|(key, _)| *key).collect();
        let [kind] = said[..] else {
            let found =
                if said.is_empty() { "none of them".to_owned() } else { said.join(" and ") };
            return Err(error(
                path,
                format!(
                    "found {found}, expected one of all, any, not and field; nest conditions to combine them"
                ),
            ));
        };
        let checks = checks(when, path)?;
        if kind != "field" && !checks.is_empty() {
            return Err(error(
                path,
                format!(
                    "{kind} has a check beside it, which needs a field; put {{ field = ..., ... }} into {kind}"
                ),
            ));
        }
        let each = |list: &[When], fields: &mut Fields| {
            if list.is_empty() {
                return Err(error(format!("{path}.{kind}"), "the list is empty"));
            }
            let condition = |(i, when)| Self::new(when, &format!("{path}.{kind}.{i}"), fields);
            list.iter().enumerate().map(condition).collect::<Result<Vec<_>, _>>()
        };
        if let Some(list) = &when.all {
            return Ok(Self::All(each(list, fields)?));
        }
        if let Some(list) = &when.any {
            return Ok(Self::Any(each(list, fields)?));
        }
        if let Some(inner) = &when.not {
            return Ok(Self::Not(Box::new(Self::new(inner, &format!("{path}.not"), fields)?)));
        }
        let name = when.field.as_deref().unwrap_or_default();
        let field =
            fields.index(name).map_err(|message| error(format!("{path}.field"), message))?;
        if checks.is_empty() {
            return Err(error(
                path,
                "there is nothing to check; write one of equals, not-equals, in, prefix, suffix, \
                 contains, regex, range and exists",
            ));
        }
        Ok(Self::Field(field, checks))
    }

    /// Whether it holds for these values.
    pub fn holds(&self, found: &[Value<'_>]) -> bool {
        match self {
            Self::All(list) => list.iter().all(|condition| condition.holds(found)),
            Self::Any(list) => list.iter().any(|condition| condition.holds(found)),
            Self::Not(condition) => !condition.holds(found),
            Self::Field(field, checks) => checks.iter().all(|check| check.holds(&found[*field])),
        }
    }
}

impl Check {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Self::In(list) => list.iter().any(|other| value.is(other)),
            Self::NotEquals(other) => !value.is(other),
            Self::Prefix(start) => value.text().is_some_and(|text| text.starts_with(start)),
            Self::Suffix(end) => value.text().is_some_and(|text| text.ends_with(end)),
            Self::Contains(part) => match value {
                Value::List(list) => list.iter().any(|element| element.text() == Some(part)),
                _ => value.text().is_some_and(|text| text.contains(part)),
            },
            Self::Regex(regex) => value.text().is_some_and(|text| regex.is_match(text)),
            Self::Range(range) => {
                value.number().is_some()
                    && range.min.is_none_or(|min| value.compare(min).is_some_and(Ordering::is_ge))
                    && range.max.is_none_or(|max| value.compare(max).is_some_and(Ordering::is_lt))
            }
            Self::Exists(there) => (*value != Value::Absent) == *there,
        }
    }
}

fn checks(when: &When, path: &str) -> Result<Vec<Check>, ConfigError> {
    let at = |key: &str| format!("{path}.{key}");
    let mut checks = Vec::new();
    if let Some(value) = &when.equals {
        checks.push(Check::In(vec![scalar(value, at("equals"))?]));
    }
    if let Some(value) = &when.not_equals {
        checks.push(Check::NotEquals(scalar(value, at("not-equals"))?));
    }
    if let Some(list) = &when.one_of {
        if list.is_empty() {
            return Err(error(at("in"), "the list is empty, so nothing is in it"));
        }
        let value = |(i, value)| scalar(value, format!("{path}.in.{i}"));
        checks.push(Check::In(list.iter().enumerate().map(value).collect::<Result<_, _>>()?));
    }
    checks.extend(when.prefix.clone().map(Check::Prefix));
    checks.extend(when.suffix.clone().map(Check::Suffix));
    checks.extend(when.contains.clone().map(Check::Contains));
    if let Some(pattern) = &when.regex {
        let regex = Regex::new(pattern).map_err(|e| {
            error(at("regex"), format!("{pattern:?} is no regular expression: {e}"))
        })?;
        checks.push(Check::Regex(regex));
    }
    if let Some(range) = when.range {
        match (range.min, range.max) {
            (None, None) => {
                return Err(error(at("range"), "it has no bound; write min, max or both"));
            }
            (Some(min), Some(max)) if min >= max => {
                return Err(error(
                    at("range"),
                    format!("no number is at least {min} and below {max}"),
                ));
            }
            _ => checks.push(Check::Range(range)),
        }
    }
    checks.extend(when.exists.map(Check::Exists));
    Ok(checks)
}

fn scalar(value: &serde_json::Value, path: String) -> Result<Value<'static>, ConfigError> {
    use serde_json::Value as Json;
    match value {
        Json::Bool(flag) => Ok(Value::Bool(*flag)),
        Json::String(text) => Ok(Value::Text(text.clone().into())),
        Json::Number(number) => Ok(match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), ..) => Value::Whole(whole.into()),
            (_, Some(whole), _) => Value::Whole(whole.into()),
            (.., float) => Value::Float(float.unwrap_or(f64::NAN)),
        }),
        Json::Null | Json::Array(_) | Json::Object(_) => {
            Err(error(path, format!("found {value}, expected a text, a number or a boolean")))
        }
    }
}
