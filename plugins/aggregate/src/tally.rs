//! What is counted in one window under one key, and how it is written.
//!
//! Invariant: a tally does not depend on the order in which records were added.

use serde::{Deserialize, Serialize};
use wasmill_sdk::prelude::Rejection;
use wasmill_sdk::window::Window;

use crate::config::Measure;
use crate::counts::Counts;
use crate::fields::Fields;

/// The names of the fields that hold a result's window.
pub(crate) const WINDOW_START: &str = "window_start_ms";
pub(crate) const WINDOW_END: &str = "window_end_ms";

/// The name of the field that tells early results from final ones.
pub(crate) const FINAL: &str = "final";

/// What is counted in a window, by measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Tally {
    Pages(Pages),
    Visits(Visits),
    Users(Users),
    Top(Vec<Place>),
    Count(Counts),
}

/// Views of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pages {
    pub(crate) count: u64,
    /// The number of the window's entries in the map state.
    pub(crate) unique_users: u64,
}

/// Closed sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Visits {
    visits: u64,
    events: u64,
    duration: u64,
    max_events: u64,
    max_duration: u64,
    bounces: u64,
}

/// Closed sessions of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Users {
    visits: u64,
    events: u64,
    duration: u64,
}

/// A place in a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    score: f64,
    /// The fields of the record but those of its window and how final it is, as JSON without the
    /// braces.
    fields: String,
}

impl Place {
    /// The place that a record asks for.
    ///
    /// # Errors
    /// An invalid [`Rejection`] when the field to rank by is no number.
    pub(crate) fn of(record: &Fields<'_>, rank_by: &str) -> Result<Self, Rejection> {
        let score = record.number(rank_by)?;
        let mut fields = String::new();
        for (name, value) in record.iter() {
            if [WINDOW_START, WINDOW_END, FINAL, "rank"].contains(&name) {
                continue;
            }
            if !fields.is_empty() {
                fields.push(',');
            }
            fields.push_str(&serde_json::to_string(name)?);
            fields.push(':');
            fields.push_str(value.get());
        }
        Ok(Self { score, fields })
    }

    /// Highest score first; ties by the fields as text, in the order of their bytes.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.fields.cmp(&other.fields))
    }
}

/// A closed session, as far as it is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) events: u64,
    pub(crate) duration: u64,
}

impl Tally {
    pub(crate) fn new(measure: Measure) -> Self {
        match measure {
            Measure::Pages => Self::Pages(Pages::default()),
            Measure::Visits => Self::Visits(Visits::default()),
            Measure::Users => Self::Users(Users::default()),
            Measure::Top => Self::Top(Vec::new()),
            Measure::Count => Self::Count(Counts::default()),
        }
    }

    /// Writes the result of a window as JSON. `key` is the page or the user; `is_final` is told in a
    /// last field, where there is one.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        window: Window,
        key: &str,
        is_final: Option<bool>,
    ) {
        let (window_start_ms, window_end_ms) = (window.start, window.end);
        let written = match self {
            Self::Pages(Pages { count, unique_users }) => serde_json::to_writer(
                out,
                &PagesResult {
                    window_start_ms,
                    window_end_ms,
                    page: key,
                    count: *count,
                    unique_users: *unique_users,
                    is_final,
                },
            ),
            Self::Visits(v) => serde_json::to_writer(
                out,
                &VisitsResult {
                    window_start_ms,
                    window_end_ms,
                    visits: v.visits,
                    pages_per_visit: v.events as f64 / v.visits as f64,
                    time_per_visit_ms: v.duration as f64 / v.visits as f64,
                    max_pages: v.max_events,
                    max_time_ms: v.max_duration,
                    bounces: v.bounces,
                    is_final,
                },
            ),
            Self::Users(u) => serde_json::to_writer(
                out,
                &UsersResult {
                    window_start_ms,
                    window_end_ms,
                    user: key,
                    visits: u.visits,
                    events: u.events,
                    duration_ms: u.duration,
                    is_final,
                },
            ),
            Self::Count(counts) => counts.write(out, window, key, is_final),
            Self::Top(places) => {
                write_ranking(out, window, places);
                Ok(())
            }
        };
        written.expect("text and numbers can be written as JSON");
    }
}

impl Visits {
    pub(crate) fn add(&mut self, session: Session) {
        self.visits += 1;
        self.events = self.events.saturating_add(session.events);
        self.duration = self.duration.saturating_add(session.duration);
        self.max_events = self.max_events.max(session.events);
        self.max_duration = self.max_duration.max(session.duration);
        self.bounces += u64::from(session.events == 1);
    }
}

impl Users {
    pub(crate) fn add(&mut self, session: Session) {
        self.visits += 1;
        self.events = self.events.saturating_add(session.events);
        self.duration = self.duration.saturating_add(session.duration);
    }
}

/// Puts a record into a ranking of at most `top` places.
pub(crate) fn rank(places: &mut Vec<Place>, place: &Place, top: usize) {
    let at = places.partition_point(|known| known.cmp(place).is_le());
    if at < top {
        places.insert(at, place.clone());
        places.truncate(top);
    }
}

#[derive(Serialize)]
struct PagesResult<'a> {
    window_start_ms: i64,
    window_end_ms: i64,
    page: &'a str,
    count: u64,
    unique_users: u64,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

#[derive(Serialize)]
struct VisitsResult {
    window_start_ms: i64,
    window_end_ms: i64,
    visits: u64,
    pages_per_visit: f64,
    time_per_visit_ms: f64,
    max_pages: u64,
    max_time_ms: u64,
    bounces: u64,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

#[derive(Serialize)]
struct UsersResult<'a> {
    window_start_ms: i64,
    window_end_ms: i64,
    user: &'a str,
    visits: u64,
    events: u64,
    duration_ms: u64,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

fn write_ranking(out: &mut Vec<u8>, window: Window, places: &[Place]) {
    let head =
        format!(r#"{{"{WINDOW_START}":{},"{WINDOW_END}":{},"ranking":["#, window.start, window.end);
    out.extend_from_slice(head.as_bytes());
    for (i, place) in places.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        out.extend_from_slice(format!(r#"{comma}{{"rank":{},"#, i + 1).as_bytes());
        out.extend_from_slice(place.fields.as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(score: f64, name: &str) -> Place {
        Place { score, fields: format!("\"page\":\"{name}\",\"count\":{score}") }
    }

    proptest! {
        #[test]
        fn a_ranking_is_the_head_of_the_sorted_records_in_any_order(
            records in prop::collection::vec((0..5_u8, "[a-c]{1,2}"), 0..40), top in 1..8_usize,
        ) {
            let places: Vec<_> =
                records.iter().map(|(score, name)| place(f64::from(*score), name)).collect();
            let mut ranking = Vec::new();
            places.iter().for_each(|place| rank(&mut ranking, place, top));
            let mut sorted = places;
            sorted.sort_by(Place::cmp);
            sorted.truncate(top);
            prop_assert_eq!(ranking, sorted);
        }
    }

    #[test]
    fn a_place_has_the_fields_of_its_record_but_those_of_the_window() {
        let json =
            br#"{"window_start_ms":0,"window_end_ms":5,"rank":9,"final":true,"p\"":{"a": 1},"count":-2e1}"#;
        let place = Place::of(&Fields::read(json).unwrap(), "count").unwrap();
        assert_eq!(place, Place { score: -20.0, fields: r#""p\"":{"a": 1},"count":-2e1"#.into() });
        let mut out = Vec::new();
        write_ranking(&mut out, Window { start: -5, end: 5 }, &[place]);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            r#"{"window_start_ms":-5,"window_end_ms":5,"ranking":[{"rank":1,"p\"":{"a": 1},"count":-2e1}]}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
