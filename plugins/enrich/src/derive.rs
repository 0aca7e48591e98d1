//! Fields that are derived from others. Invariant: what can't be derived is left out, never wrong.

use std::io::Write;

use wasmill_sdk::config::error;
use wasmill_sdk::prelude::{ConfigError, Record};

use crate::calendar::Moment;
use crate::config::{Derive, How};
use crate::object::{Object, write_text};
use crate::source::Source;
use crate::url;

/// A derived field.
#[derive(Debug)]
pub struct Derived {
    name: String,
    from: Source,
    how: How,
}

impl Derived {
    /// Takes it from its configuration, which is at `path`.
    pub fn new(rule: &Derive, path: &str) -> Result<Self, ConfigError> {
        if rule.field.is_empty() {
            return Err(error(format!("{path}.field"), "the name is empty"));
        }
        let from =
            Source::parse(&rule.from).map_err(|message| error(format!("{path}.from"), message))?;
        Ok(Self { name: rule.field.clone(), from, how: rule.how })
    }

    /// The name of the field.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the value as JSON, if it can be derived; says whether it could.
    pub fn write(
        &self,
        record: &Record<'_>,
        object: Option<&Object<'_>>,
        json: &mut Vec<u8>,
    ) -> bool {
        self.value(record, object, json).is_some()
    }

    fn value(
        &self,
        record: &Record<'_>,
        object: Option<&Object<'_>>,
        json: &mut Vec<u8>,
    ) -> Option<()> {
        let text = || self.from.text(record, object);
        let moment = || Moment::of(time(&text()?)?);
        match self.how {
            How::Copy => json.extend_from_slice(self.from.json(record, object)?.as_bytes()),
            How::HourOfDay => number(json, moment()?.of_day_ms / 3_600_000),
            How::DayOfWeek => number(json, moment()?.day_of_week),
            How::Date => {
                let m = moment()?;
                formatted(json, format_args!("\"{:04}-{:02}-{:02}\"", m.year, m.month, m.day));
            }
            How::Month => {
                let m = moment()?;
                formatted(json, format_args!("\"{:04}-{:02}\"", m.year, m.month));
            }
            How::IsoTime => {
                let m = moment()?;
                let (seconds, ms) = (m.of_day_ms / 1000, m.of_day_ms % 1000);
                formatted(
                    json,
                    format_args!(
                        "\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{ms:03}Z\"",
                        m.year,
                        m.month,
                        m.day,
                        seconds / 3600,
                        seconds / 60 % 60,
                        seconds % 60
                    ),
                );
            }
            How::Host => write_text(json, &url::host(&text()?)?.to_lowercase()),
            How::ReferrerDomain => {
                let host = url::host(&text()?)?.to_lowercase();
                let domain = host.strip_prefix("www.").unwrap_or(&host);
                write_text(json, (!domain.is_empty()).then_some(domain)?);
            }
            How::PathDepth => number(json, url::segments(url::path(&text()?)).count() as i64),
            How::FirstSegment => write_text(json, url::segments(url::path(&text()?)).next()?),
            How::Extension => {
                write_text(json, &url::extension(url::path(&text()?))?.to_lowercase());
            }
            How::Lower => write_text(json, &text()?.to_lowercase()),
            How::Upper => write_text(json, &text()?.to_uppercase()),
            How::Length => number(json, text()?.chars().count() as i64),
        }
        Some(())
    }
}

/// Ms since the epoch; a fraction is cut off.
fn time(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let ms: f64 = text.parse().ok()?;
        (ms.abs() < 9e15).then(|| ms.floor() as i64)
    })
}

fn number(json: &mut Vec<u8>, number: i64) {
    formatted(json, format_args!("{number}"));
}

fn formatted(json: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    json.write_fmt(text).expect("memory takes everything");
}
