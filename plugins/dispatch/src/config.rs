//! The configuration. Invariant: [`Config::outputs`] names every output that a rule or the default
//! names, once.

use serde_json::Value;
use wasmill_sdk::config::error;
use wasmill_sdk::prelude::{ConfigError, Deserialize};

/// The most outputs that a plugin can have.
const MAX_OUTPUTS: usize = 64;

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// The output of records that no rule fits; without it they are rejected as invalid.
    #[serde(default)]
    pub default: Option<String>,
    /// Whether a record goes to the first rule's output that fits, or to those of all.
    #[serde(default)]
    pub mode: Mode,
}

/// How many rules may fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The first that fits counts.
    #[default]
    First,
    /// All that fit count; an output gets a record once, however many of its rules fit.
    All,
}

/// Where records go when a condition holds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The output, kebab-case.
    pub to: String,
    /// The condition.
    pub when: When,
}

/// A condition: either one of `all`, `any`, `not`, or a `field` and what must hold for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct When {
    /// All of these must hold.
    pub all: Option<Vec<When>>,
    /// One of these must hold.
    pub any: Option<Vec<When>>,
    /// This must not hold.
    pub not: Option<Box<When>>,
    /// A dotted path, a JSON pointer, `$key` or `$timestamp`.
    pub field: Option<String>,
    /// The field is there and is this text, number or boolean.
    pub equals: Option<Value>,
    /// The field is not this, or not there.
    pub not_equals: Option<Value>,
    /// The field is one of these.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<Value>>,
    /// The field is text that begins so.
    pub prefix: Option<String>,
    /// The field is text that ends so.
    pub suffix: Option<String>,
    /// The field is text with this in it, or a list with this element.
    pub contains: Option<String>,
    /// The field is text in which this regular expression is found.
    pub regex: Option<String>,
    /// The field is a number within these bounds.
    pub range: Option<Range>,
    /// The field is there (null counts as absent), or is not.
    pub exists: Option<bool>,
}

/// Bounds of a number.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Range {
    /// The lowest number, inclusive; none for no bound.
    pub min: Option<f64>,
    /// The end, exclusive; none for no bound.
    pub max: Option<f64>,
}

impl Config {
    /// The outputs in the order in which rules first name them, the default last.
    ///
    /// # Errors
    /// A [`ConfigError`] when there is no rule, a name is not kebab-case, or there are too many.
    pub fn outputs(&self) -> Result<Vec<String>, ConfigError> {
        if self.rules.is_empty() {
            return Err(error("rules", "there is none; write rules = [{ to = ..., when = ... }]"));
        }
        let mut outputs: Vec<String> = Vec::new();
        let rules =
            self.rules.iter().enumerate().map(|(i, rule)| (format!("rules.{i}.to"), &rule.to));
        for (path, name) in rules.chain(self.default.iter().map(|name| ("default".into(), name))) {
            if !is_kebab_case(name) {
                return Err(error(
                    path,
                    format!(
                        "{name:?} is no name of an output; write lower-case letters, digits and \
                         hyphens, a letter first"
                    ),
                ));
            }
            if outputs.contains(name) {
                continue;
            }
            if outputs.len() == MAX_OUTPUTS {
                return Err(error(
                    path,
                    format!("{name:?} would be output 65; a plugin has at most {MAX_OUTPUTS}"),
                ));
            }
            outputs.push(name.clone());
        }
        Ok(outputs)
    }
}

fn is_kebab_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
}
