//! Figures over tumbling or hopping event-time windows: views of pages, visits, engagement of users,
//! and rankings of any of them.
//!
//! Each key has its own windows; a window's result is emitted when it closes, with the clock of its
//! close as event time, so that no later stage finds it late, and with `emit-every` also while it is
//! open. Invariant: a record counts in every window that it belongs to and that was open at its own
//! watermark, and is late only when all of them were closed.

mod config;
mod counts;
mod early;
mod fields;
mod tally;

use wasmill_sdk::prelude::*;
use wasmill_sdk::window::{Window, Windows};

pub use config::{Config, DEFAULT_TOP, MAX_TOP, Measure};
use fields::Fields;
use tally::{Pages, Place, Session, Tally, WINDOW_END, WINDOW_START};

/// The map state of users seen: window start and user, without value.
const USERS: u16 = 0;

/// The timer of a key that is set to the close of its first open window.
const CLOSE: u64 = 0;

/// The timer of a key that is set to its next early results, if there are to be any.
const EARLY: u64 = 1;

/// The operator.
#[derive(Debug)]
pub struct Aggregate {
    config: Config,
    top: usize,
    rank_by: String,
    /// The name of the user's field as JSON.
    user_name: Vec<u8>,
}

/// The state of a key: its open windows in the order of their ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyState {
    open: Vec<(Window, Tally)>,
}

/// What a record adds to each of its windows.
enum Contribution<'a> {
    View {
        user: std::borrow::Cow<'a, str>,
    },
    Visit(Session),
    Place(Place),
    /// Which of the configured fields it has.
    Record(Vec<bool>),
}

/// The key of a user's entries in the map state: the start of the window, and the user.
struct Entry(Vec<u8>);

impl Keyed for Aggregate {
    type Config = Config;
    type State = KeyState;

    fn describe() -> Description {
        Description {
            name: "aggregate".into(),
            ports: Ports {
                inputs: vec![InputPort {
                    name: "in".into(),
                    summary: "Page views, closed sessions or results, as the measure needs.".into(),
                }],
                outputs: vec![OutputPort {
                    name: "out".into(),
                    summary: "The result of each key and window, when the window closes, and \
                              before that if asked for."
                        .into(),
                    ..OutputPort::default()
                }],
            },
            config_schema: include_str!("../schema.json").into(),
            maps: vec!["users".into()],
            ..Description::default()
        }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        config.check()?;
        let top = config.top.unwrap_or(DEFAULT_TOP) as usize;
        let rank_by = config.rank_by.clone().unwrap_or_else(|| "count".to_owned());
        let user_name =
            serde_json::to_vec(&config.user_field).expect("text can be written as JSON");
        Ok(Self { config, top, rank_by, user_name })
    }

    fn prefetch(&self, record: &Record<'_>, wanted: &mut Wanted<'_>) {
        let (Measure::Pages, Some(windows)) = (self.config.measure, &self.config.window) else {
            return wanted.nothing();
        };
        let Some(user) = record.value().and_then(|json| fields::guess(json, &self.user_name))
        else {
            return;
        };
        let mut entry = Entry::new(user);
        for window in windows.assign(record.timestamp()) {
            if !window.is_late(self.config.lateness.ms(), record.watermark()) {
                wanted.entry(USERS, entry.of(window));
            }
        }
    }

    fn process(
        &self,
        record: &Record<'_>,
        state: &mut State<KeyState>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        record.key_text()?;
        let fields = Fields::read(record.bytes()?)?;
        if self.config.measure == Measure::Top && fields.is_early() {
            // The final result of the window is still to come.
            return Ok(());
        }
        let contribution = self.contribution(&fields)?;
        let watermark = record.watermark();
        let due_before = self.due(state);
        let mut last_closed = None;
        let mut counted = false;
        for window in self.windows(&fields, record.timestamp())? {
            if window.is_late(self.config.lateness.ms(), watermark) {
                last_closed = Some(window);
                continue;
            }
            self.add(state, window, &contribution, ctx)?;
            counted = true;
        }
        if let Some(window) = last_closed.filter(|_| !counted) {
            return Err(self.late(window, watermark));
        }
        if let Some(due) = self.due(state).filter(|due| due_before != Some(*due)) {
            ctx.set_timer(CLOSE, due);
        }
        if counted {
            self.set_early(state, watermark, ctx);
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer<'_>, state: &mut State<KeyState>, ctx: &mut Context<'_, '_>) {
        let key = timer.key_text();
        if timer.tag == EARLY {
            return self.emit_early(timer.time, &key, state, ctx);
        }
        let is_final = self.config.emit_every.map(|_| true);
        while self.due(state).is_some_and(|due| due <= timer.watermark) {
            let (window, tally) = state.open.remove(0);
            ctx.to(0).write(|out| tally.write(out, window, &key, is_final));
            if matches!(tally, Tally::Pages(_)) {
                let end = window.start.checked_add(1).map(entry_prefix);
                let start = entry_prefix(window.start);
                ctx.map(USERS).remove_range(Some(&start), end.as_ref().map(<[u8; 8]>::as_slice));
            }
        }
        match self.due(state) {
            Some(due) => ctx.set_timer(CLOSE, due),
            None => state.clear(),
        }
    }
}

impl Aggregate {
    fn contribution<'a>(&self, fields: &Fields<'a>) -> Result<Contribution<'a>, Rejection> {
        Ok(match self.config.measure {
            Measure::Pages => Contribution::View { user: fields.text(&self.config.user_field)? },
            Measure::Visits | Measure::Users => Contribution::Visit(Session {
                events: fields.count(&self.config.events_field)?,
                duration: fields.count(&self.config.duration_field)?,
            }),
            Measure::Top => Contribution::Place(Place::of(fields, &self.rank_by)?),
            Measure::Count => Contribution::Record(counts::present(&self.config, fields)),
        })
    }

    /// The windows of a record: by its event time or, for `top`, the one that it is the result of.
    fn windows(
        &self,
        fields: &Fields<'_>,
        time: i64,
    ) -> Result<impl Iterator<Item = Window> + use<>, Rejection> {
        let result = match self.config.window {
            Some(_) => None,
            None => Some(result_window(fields)?),
        };
        let assigned = self.config.window.as_ref().map(|windows: &Windows| windows.assign(time));
        Ok(result.into_iter().chain(assigned.into_iter().flatten()))
    }

    fn add(
        &self,
        state: &mut State<KeyState>,
        window: Window,
        contribution: &Contribution<'_>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), Rejection> {
        let order = |(w, _): &(Window, Tally)| (w.end, w.start).cmp(&(window.end, window.start));
        let open = &mut state.open;
        let at = open.binary_search_by(order).unwrap_or_else(|at| {
            open.insert(at, (window, Tally::new(self.config.measure)));
            at
        });
        match (&mut open[at].1, contribution) {
            (Tally::Pages(pages), Contribution::View { user }) => {
                count_view(pages, window, user, ctx);
            }
            (Tally::Visits(visits), Contribution::Visit(session)) => visits.add(*session),
            (Tally::Users(users), Contribution::Visit(session)) => users.add(*session),
            (Tally::Top(places), Contribution::Place(place)) => {
                tally::rank(places, place, self.top);
            }
            (Tally::Count(counts), Contribution::Record(present)) => {
                counts.add(&self.config, present);
            }
            _ => {
                return Err(Rejection::invalid(format!(
                    "the window {}..{} of this key was begun under another measure; give the stage \
                     a new name when its measure changes",
                    window.start, window.end
                )));
            }
        }
        Ok(())
    }

    /// When the first open window closes.
    fn due(&self, state: &KeyState) -> Option<i64> {
        state.open.first().map(|(window, _)| window.closes_at(self.config.lateness.ms()))
    }

    fn late(&self, window: Window, watermark: i64) -> Rejection {
        let closed = window.closes_at(self.config.lateness.ms());
        Rejection::late(format!(
            "the window {}..{} closed at {closed}, {} ms before the watermark {watermark}",
            window.start,
            window.end,
            watermark.saturating_sub(closed)
        ))
    }
}

impl Entry {
    fn new(user: &[u8]) -> Self {
        Self([&[0; 8], user].concat())
    }

    /// The key for a window.
    fn of(&mut self, window: Window) -> &[u8] {
        self.0[..8].copy_from_slice(&entry_prefix(window.start));
        &self.0
    }
}

fn count_view(pages: &mut Pages, window: Window, user: &str, ctx: &mut Context<'_, '_>) {
    let mut entry = Entry::new(user.as_bytes());
    let entry = entry.of(window);
    let mut users = ctx.map(USERS);
    if !users.contains(entry) {
        users.put(entry, &[]);
        pages.unique_users += 1;
    }
    pages.count += 1;
}

/// The first bytes of a window's entries: its start, big-endian with the sign flipped, so that
/// entries are in the order of time.
fn entry_prefix(start: i64) -> [u8; 8] {
    (start.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The window that a result is of.
fn result_window(fields: &Fields<'_>) -> Result<Window, Rejection> {
    let window = Window { start: fields.time(WINDOW_START)?, end: fields.time(WINDOW_END)? };
    if window.start >= window.end {
        return Err(Rejection::invalid(format!(
            "the window {}..{} of the record ends before it starts",
            window.start, window.end
        )));
    }
    Ok(window)
}

wasmill_sdk::export!(keyed Aggregate);
