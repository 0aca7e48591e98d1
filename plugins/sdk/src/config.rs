//! How a plugin is set up: its configuration, its resources, where it runs.

use serde::de::DeserializeOwned;
use wasmill_abi::{ConfigError, Context, InputPort, OutputPort, Ports, Resource};

/// The configuration of a plugin that has none; any key in it is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// What a plugin is given besides its configuration.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name.
    pub stage: String,
    /// The files of the stage's `resources` table.
    pub resources: Vec<Resource>,
}

impl Setup {
    /// The setup of a call to `configure`.
    pub fn of(context: Context, resources: Vec<Resource>) -> Self {
        Self { pipeline: context.pipeline, stage: context.stage, resources }
    }

    /// The resource with this name.
    ///
    /// # Errors
    /// A [`ConfigError`] that says which resources there are.
    pub fn resource(&self, name: &str) -> Result<&Resource, ConfigError> {
        self.resources.iter().find(|r| r.name == name).ok_or_else(|| {
            let known: Vec<_> = self.resources.iter().map(|r| r.name.as_str()).collect();
            ConfigError {
                path: format!("resources.{name}"),
                message: format!(
                    "the plugin needs a resource {name:?}, the stage has {}; add \
                     resources.{name} = \"FILE\" to the stage",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            }
        })
    }
}

/// Reads a configuration from JSON.
///
/// # Errors
/// A [`ConfigError`] whose path leads to the value that does not fit.
pub fn parse<C: DeserializeOwned>(json: &str) -> Result<C, ConfigError> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let mut de = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut de).map_err(|e| {
        let path = dotted(e.path());
        let text = e.inner().to_string();
        // The position is one in the JSON that the host wrote, which nobody sees.
        let message = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]).to_owned();
        ConfigError { path, message }
    })
}

/// A path as the host reads it: keys and indexes with dots between them, `rules.2.field`.
fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut dotted = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            // What lies below a key that is no text; the host shows the key.
            Segment::Unknown => break,
        };
        if !dotted.is_empty() {
            dotted.push('.');
        }
        dotted.push_str(&part);
    }
    dotted
}

/// Shorthand for a [`ConfigError`].
pub fn error(path: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError { path: path.into(), message: message.into() }
}

/// Fills in the ports that a plugin left out: one input `in`, one output `out`.
pub fn complete(mut ports: Ports) -> Ports {
    if ports.inputs.is_empty() {
        ports.inputs.push(InputPort { name: "in".into(), summary: "The records.".into() });
    }
    if ports.outputs.is_empty() {
        ports.outputs.push(OutputPort {
            name: "out".into(),
            summary: "What the plugin emits.".into(),
            ..OutputPort::default()
        });
    }
    ports
}

/// A length of time in a configuration: whole milliseconds, or text such as `30m`, `1h 30m`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(
    /// Milliseconds, not negative.
    pub i64,
);

impl Span {
    /// Milliseconds.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Reads text such as `30m`, `1h 30m`, `1d`, `250ms`, `2 weeks`... units: ms, s, m, h, d, w.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is no length of time; write 250ms, 30s, 15m, 2h or 1d");
        let mut rest = text.trim();
        let mut total: i64 = 0;
        if rest.is_empty() {
            return Err(expected());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
            let number: i64 = rest[..digits].parse().map_err(|_| expected())?;
            rest = rest[digits..].trim_start();
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "ms" => 1,
                "s" | "sec" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                _ => return Err(expected()),
            };
            let part = number.checked_mul(unit).ok_or_else(expected)?;
            total = total.checked_add(part).ok_or_else(expected)?;
            rest = rest[letters..].trim_start();
        }
        Ok(Self(total))
    }
}

impl<'de> serde::Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a length of time such as \"30m\", or a number of milliseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<Span, E> {
                i64::try_from(ms).map(Span).map_err(|_| E::custom("too long a time"))
            }
            fn visit_i64<E: serde::de::Error>(self, ms: i64) -> Result<Span, E> {
                if ms < 0 {
                    return Err(E::custom(format!("{ms} ms: a length of time can't be negative")));
                }
                Ok(Span(ms))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[allow(dead_code)]
        gap: Span,
    }

    #[test]
    fn spans_are_read_with_units() {
        assert_eq!(Span::parse("30m"), Ok(Span(1_800_000)));
        assert_eq!(Span::parse("1h 30m"), Ok(Span(5_400_000)));
        assert_eq!(Span::parse("250 ms"), Ok(Span(250)));
        for bad in ["", "30", "m", "3x", "-1s", "99999999999999999d"] {
            assert!(Span::parse(bad).unwrap_err().contains("no length of time"), "{bad}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path() {
        let e = parse::<Config>(r#"{"gap": "soon"}"#).unwrap_err();
        assert_eq!(e.path, "gap");
        assert!(e.message.contains("soon"), "{e}");
        let e = parse::<Config>(r#"{"gpa": "1s"}"#).unwrap_err();
        assert!(e.message.contains("gpa") && e.message.contains("gap"), "{e}");
        assert!(parse::<NoConfig>("").is_ok());
    }

    #[test]
    fn a_wrong_value_in_a_list_is_named_by_its_index_between_dots() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Rules {
            #[allow(dead_code)]
            rules: Vec<Config>,
            #[allow(dead_code)]
            spans: Vec<Vec<Span>>,
        }
        let path = |json| parse::<Rules>(json).unwrap_err().path;
        assert_eq!(
            path(r#"{"rules": [{"gap": 1}, {"gap": "1s"}, {"gap": "soon"}]}"#),
            "rules.2.gap"
        );
        assert_eq!(path(r#"{"rules": [{"gap": 1}, 7]}"#), "rules.1");
        assert_eq!(path(r#"{"rules": [], "spans": [[1], [2, -3]]}"#), "spans.1.1");
        assert_eq!(path("7"), "");
    }
}
