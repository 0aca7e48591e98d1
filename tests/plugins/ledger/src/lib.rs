//! Folds the numbered records of each account and says with every record what the fold is then.
//!
//! All kinds of state take part: the value state has count, sum, last number and a rolling hash; one
//! map has the last number of each residue, another one the open spans of event time, which timers
//! close. Invariant: what comes out for an account is a function of the sequence of its records
//! alone, as long as none is late: a span is told when no more records of it can come.

use wasmill_sdk::prelude::*;

/// The plugin.
pub struct Ledger {
    config: Config,
}

/// The stage's `config` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The length of a span of event time, in ms, at least 1.
    pub span_ms: i64,
    /// How many residues numbers have, at least 1.
    pub residues: u64,
}

/// What comes in.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A number to be folded.
    N(u64),
    /// Asks for all that is kept, with a number that the answer bears.
    Audit(u64),
    /// Nothing: it brings event time along.
    Tick(u64),
}

/// What is kept of the numbers of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// How many there were.
    pub count: u64,
    /// Their sum, modulo 2^64.
    pub sum: u64,
    /// The last one.
    pub last: u64,
    /// Of all in their order.
    pub hash: u64,
}

impl Fold {
    fn add(&mut self, n: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(n);
        self.last = n;
        self.hash = (self.hash.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// What comes out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Told<'a> {
    /// For each number.
    Entry {
        account: &'a str,
        n: u64,
        #[serde(flatten)]
        fold: Fold,
        /// The number before of the same residue.
        before: Option<u64>,
    },
    /// For each span of event time, when it is over.
    Span {
        account: &'a str,
        /// Its start divided by its length.
        span: i64,
        #[serde(flatten)]
        fold: Fold,
    },
    /// For each audit.
    Audit {
        account: &'a str,
        audit: u64,
        #[serde(flatten)]
        fold: Fold,
        /// The last number of each residue, ascending by residue.
        residues: Vec<(u64, u64)>,
        /// The spans that are open.
        open: Vec<(i64, Fold)>,
    },
}

const RESIDUES: u16 = 0;
const SPANS: u16 = 1;

impl Ledger {
    fn span_key(span: i64) -> [u8; 8] {
        span.to_be_bytes()
    }

    /// The last moment of a span: its timer is due when the watermark has reached it.
    fn end(&self, span: i64) -> i64 {
        (span + 1) * self.config.span_ms - 1
    }
}

impl Keyed for Ledger {
    type Config = Config;
    type State = Fold;

    fn describe() -> Description {
        Description { maps: vec!["residues".into(), "spans".into()], ..Description::default() }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        let least = |name, found: i64| match found {
            1.. => Ok(()),
            _ => {
                Err(wasmill_sdk::config::error(name, format!("found {found}, expected 1 or more")))
            }
        };
        least("span-ms", config.span_ms)?;
        least("residues", i64::try_from(config.residues).unwrap_or(i64::MAX))?;
        Ok(Self { config })
    }

    fn process(
        &self,
        record: &Record,
        state: &mut State<Fold>,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        let account = record.key_text()?;
        match entry(record)? {
            Entry::Tick(_) => {}
            Entry::N(n) => {
                state.add(n);
                let residue = (n % self.config.residues).to_be_bytes();
                let before = ctx.map(RESIDUES).get_as::<u64>(&residue);
                ctx.map(RESIDUES).put_as(&residue, &n);
                let span = record.timestamp().div_euclid(self.config.span_ms);
                let key = Self::span_key(span);
                let mut spanned = ctx.map(SPANS).get_as::<Fold>(&key).unwrap_or_default();
                spanned.add(n);
                ctx.map(SPANS).put_as(&key, &spanned);
                ctx.set_timer(span.cast_unsigned(), self.end(span));
                ctx.json(&Told::Entry { account, n, fold: **state, before });
            }
            Entry::Audit(audit) => {
                let (mut residues, mut open) = (Vec::new(), Vec::new());
                let entries = ctx.map(RESIDUES).scan(None, None, u32::MAX);
                for i in 0..entries.keys.len() {
                    let key = entries.keys.bytes(i);
                    let residue = u64::from_be_bytes(fixed(key)?);
                    let last = ctx.map(RESIDUES).get_as(key).unwrap_or_default();
                    residues.push((residue, last));
                }
                let entries = ctx.map(SPANS).scan(None, None, u32::MAX);
                for i in 0..entries.keys.len() {
                    let key = entries.keys.bytes(i);
                    let span = i64::from_be_bytes(fixed(key)?);
                    open.push((span, ctx.map(SPANS).get_as(key).unwrap_or_default()));
                }
                ctx.json(&Told::Audit { account, audit, fold: **state, residues, open });
            }
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer, _: &mut State<Fold>, ctx: &mut Context) {
        let account = timer.key_text();
        let span = timer.tag.cast_signed();
        let key = Self::span_key(span);
        let fold = ctx.map(SPANS).get_as::<Fold>(&key).unwrap_or_default();
        ctx.map(SPANS).remove(&key);
        ctx.json(&Told::Span { account: &account, span, fold });
    }
}

/// Of the fields of a record only the entry is read: the account is its key.
fn entry(record: &Record) -> Result<Entry, Rejection> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(flatten)]
        entry: Entry,
    }
    Ok(record.json::<Fields>()?.entry)
}

fn fixed(key: &[u8]) -> Result<[u8; 8], Rejection> {
    key.try_into().map_err(|_| Rejection::malformed("a key of map state has not 8 bytes"))
}

wasmill_sdk::export!(keyed Ledger);

#[cfg(test)]
mod tests {
    use wasmill_sdk::testing::Harness;

    use super::*;

    const CONFIG: &str = r#"{"span-ms": 10, "residues": 2}"#;

    #[test]
    fn every_number_comes_out_once_with_the_fold_so_far() {
        let mut harness = Harness::keyed::<Ledger>(CONFIG).unwrap();
        for (n, time) in [(3, 1), (4, 2), (5, 12)] {
            harness.pipe("a", time, format!(r#"{{"account":"a","n":{n}}}"#));
        }
        let told: Vec<_> =
            harness.texts("out").into_iter().filter(|t| t.contains("entry")).collect();
        assert_eq!(told.len(), 3);
        assert!(told[2].contains(r#""n":5,"count":3,"sum":12,"last":5,"#), "{}", told[2]);
        assert!(told[2].ends_with(r#""before":3}"#), "{}", told[2]);
    }

    #[test]
    fn a_span_is_told_once_when_it_is_over_and_an_audit_tells_everything() {
        let mut harness = Harness::keyed::<Ledger>(CONFIG).unwrap();
        harness.pipe("a", 1, r#"{"n":1}"#);
        harness.pipe("a", 2, r#"{"n":2}"#);
        harness.pipe("a", 15, r#"{"n":3}"#);
        harness.advance_watermark(9);
        harness.pipe("a", 16, r#"{"audit":7}"#);
        let told = harness.texts("out");
        let spans: Vec<_> = told.iter().filter(|t| t.contains("span")).collect();
        assert_eq!(spans.len(), 1);
        assert!(spans[0].contains(r#""span":0,"count":2,"sum":3"#), "{}", spans[0]);
        let audit = told.last().unwrap();
        assert!(audit.contains(r#""audit":7,"count":3,"sum":6"#), "{audit}");
        assert!(audit.contains(r#""residues":[[0,2],[1,3]]"#), "{audit}");
        assert!(audit.contains(r#""open":[[1,{"count":1,"sum":3"#), "{audit}");
    }
}
