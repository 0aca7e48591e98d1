//! The model: what must come out of what went in, and how it differs from what came out.
//!
//! Invariant: [`Check::verdict`] is empty only if every number came exactly as often as it went in, in
//! the order of its account, with the fold that the model has at that place; every span exactly once;
//! and every audit told exactly the model's state.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::input::{self, ACCOUNTS, PARTITIONS, RESIDUES};

/// How many differences are told.
const TOLD: usize = 12;

/// The fold of numbers that the pipeline keeps for an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
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
    /// Adds a number.
    pub fn add(&mut self, n: u64) {
        let hash = (self.hash.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
        *self = Self { count: self.count + 1, sum: self.sum.wrapping_add(n), last: n, hash };
    }
}

/// What the pipeline tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum Told {
    Entry {
        account: String,
        n: u64,
        #[serde(flatten)]
        fold: Fold,
        before: Option<u64>,
    },
    Span {
        account: String,
        span: i64,
        #[serde(flatten)]
        fold: Fold,
    },
    Audit {
        account: String,
        audit: u64,
        #[serde(flatten)]
        fold: Fold,
        residues: Vec<(u64, u64)>,
        open: Vec<(i64, Fold)>,
    },
}

/// Counts what comes out, for a run to know how far the pipeline is.
#[derive(Debug, Default)]
pub struct Progress {
    numbers: BTreeSet<u64>,
    spans: BTreeSet<(String, i64)>,
    audits: BTreeSet<(u64, String)>,
}

impl Progress {
    /// Takes a record of the output.
    pub fn take(&mut self, value: Option<&[u8]>) {
        // What is not understood is told by the check.
        let Some(Ok(told)) = value.map(serde_json::from_slice) else { return };
        match told {
            Told::Entry { n, .. } => drop(self.numbers.insert(n)),
            Told::Span { account, span, .. } => drop(self.spans.insert((account, span))),
            Told::Audit { audit, account, .. } => drop(self.audits.insert((audit, account))),
        }
    }

    /// How many different numbers came.
    pub fn numbers(&self) -> usize {
        self.numbers.len()
    }

    /// How many of the numbers below `total` have not come, of each partition of the input, and the
    /// first ones.
    pub fn missing(&self, total: u64) -> String {
        let missing: Vec<u64> = (0..total).filter(|n| !self.numbers.contains(n)).collect();
        let mut partitions = [0_u64; PARTITIONS as usize];
        missing.iter().for_each(|n| partitions[input::partition(input::account(*n)) as usize] += 1);
        let first = &missing[..missing.len().min(TOLD)];
        format!(
            "{} of {total} numbers have not come, by partition {partitions:?}, the first are {first:?}",
            missing.len()
        )
    }

    /// How many different spans came.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// How many accounts have answered an audit.
    pub fn audited(&self, audit: u64) -> usize {
        self.audits.iter().filter(|(a, _)| *a == audit).count()
    }
}

/// What went in: the numbers of each account in their order, some of them more than once where the
/// brokers did not say whether they had taken them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input(Vec<Vec<u64>>);

impl Default for Input {
    fn default() -> Self {
        Self(vec![Vec::new(); ACCOUNTS as usize])
    }
}

impl Input {
    /// Takes a record of the input; those of a partition come in their order. Records that are no
    /// numbers are left out.
    ///
    /// # Errors
    /// When the record is not one that was sent to this partition.
    pub fn take(&mut self, partition: i32, value: Option<&[u8]>) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Number {
            n: Option<u64>,
        }
        let wrong = || format!("in/{partition} holds {value:?}, which was not sent there");
        let record = value.and_then(|value| serde_json::from_slice::<Number>(value).ok());
        let Some(n) = record.ok_or_else(wrong)?.n else { return Ok(()) };
        let account = input::account(n);
        if value != Some(input::value(n).as_bytes())
            || input::partition(account).cast_signed() != partition
        {
            return Err(wrong());
        }
        self.0[account as usize].push(n);
        Ok(())
    }

    /// How often each number below `total` went in, and how many did more than once.
    ///
    /// # Errors
    /// When one did not, with that, or others did.
    pub fn resent(&self, total: u64) -> Result<usize, Wrong> {
        let mut times = vec![0_u32; total as usize];
        for n in self.0.iter().flatten() {
            *times.get_mut(*n as usize).ok_or(Wrong::NeverSent(*n))? += 1;
        }
        let lost = |n: &u64| times[*n as usize] == 0;
        let lost: Vec<u64> = (0..total).filter(lost).collect();
        if !lost.is_empty() {
            return Err(Wrong::Lost(lost));
        }
        Ok(times.iter().filter(|times| **times > 1).count())
    }
}

/// How an input is not what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// Numbers that the brokers had taken are not there.
    Lost(Vec<u64>),
    /// A number is there that was not sent.
    NeverSent(u64),
}

/// What is known of an account.
#[derive(Debug, Clone, Default)]
struct Account {
    /// The partition of the output that it is in.
    partition: Option<i32>,
    /// How many of its numbers have come.
    came: usize,
    fold: Fold,
    residues: BTreeMap<u64, u64>,
    spans: BTreeMap<i64, Vec<Fold>>,
    last_span: Option<i64>,
}

/// Compares what came out with the model, record by record.
#[derive(Debug)]
pub struct Check {
    input: Input,
    accounts: Vec<Account>,
    /// How often each number came.
    times: BTreeMap<u64, u32>,
    /// For each audit the accounts that answered.
    audits: BTreeMap<u64, Vec<u64>>,
    differences: Differences,
}

#[derive(Debug, Default)]
struct Differences {
    first: Vec<String>,
    count: usize,
}

impl Differences {
    fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(text);
        }
    }
}

impl Check {
    /// A check of what comes of this input.
    pub fn new(input: Input) -> Self {
        let accounts = vec![Account::default(); ACCOUNTS as usize];
        let (times, audits) = (BTreeMap::new(), BTreeMap::new());
        Self { input, accounts, times, audits, differences: Differences::default() }
    }

    /// Takes a record of the output; those of a partition come in their order.
    pub fn take(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        let at = format!("out/{partition} offset {offset}");
        let told: Told = match value.map(serde_json::from_slice) {
            Some(Ok(told)) => told,
            other => return self.differences.add(format!("{at}: not understood: {other:?}")),
        };
        let (Told::Entry { account, .. }
        | Told::Span { account, .. }
        | Told::Audit { account, .. }) = &told;
        let Some(number) = input::of_name(account) else {
            return self.differences.add(format!("{at}: there is no account {account}"));
        };
        let name = input::name(number);
        let account = &mut self.accounts[number as usize];
        let home = *account.partition.get_or_insert(partition);
        if home != partition {
            self.differences.add(format!("{at}: account {name} was in partition {home} before"));
        }
        match told {
            Told::Entry { n, fold, before, .. } => self.entry(&at, number, n, fold, before),
            Told::Span { span, fold, .. } => self.span(&at, number, span, fold),
            Told::Audit { audit, fold, residues, open, .. } => {
                self.audits.entry(audit).or_default().push(number);
                let residues: BTreeMap<u64, u64> = residues.into_iter().collect();
                let account = &self.accounts[number as usize];
                if fold != account.fold || residues != account.residues || !open.is_empty() {
                    let model = (account.fold, &account.residues);
                    self.differences.add(format!(
                        "{at}: audit {audit} of account {name} tells {fold:?}, residues \
                         {residues:?}, open spans {open:?}; the model has {model:?} and none open"
                    ));
                }
            }
        }
    }

    fn entry(&mut self, at: &str, number: u64, n: u64, fold: Fold, before: Option<u64>) {
        let name = input::name(number);
        *self.times.entry(n).or_default() += 1;
        let account = &mut self.accounts[number as usize];
        let left = &self.input.0[number as usize][account.came..];
        if left.first() != Some(&n) {
            self.differences.add(format!(
                "{at}: account {name}: found number {n}, expected {:?} (found so far {} times)",
                left.first(),
                self.times[&n]
            ));
        }
        // It goes on behind the number that came, if that was still to come.
        let Some(ahead) = left.iter().position(|next| *next == n) else { return };
        account.came += ahead + 1;
        let known = account.residues.insert(n % RESIDUES, n);
        let mut model = account.fold;
        model.add(n);
        // Further on as the pipeline does, so that one fault is not told for every record after it.
        account.fold = fold;
        if fold != model || before != known {
            self.differences.add(format!(
                "{at}: account {name} number {n}: the state is {fold:?} and {before:?} before it, \
                 the fold is {model:?} and {known:?}"
            ));
        }
    }

    fn span(&mut self, at: &str, number: u64, span: i64, fold: Fold) {
        let account = &mut self.accounts[number as usize];
        if account.last_span.is_some_and(|last| last >= span) {
            let (name, last) = (input::name(number), account.last_span);
            self.differences.add(format!("{at}: account {name}: span {span} after {last:?}"));
        }
        account.last_span = account.last_span.max(Some(span));
        account.spans.entry(span).or_default().push(fold);
    }

    /// What is wrong with everything that came, when so many audits were asked for. Empty when
    /// nothing is.
    pub fn verdict(mut self, audits: u64) -> Vec<String> {
        self.compare_spans();
        for audit in 0..audits {
            let mut answered = self.audits.remove(&audit).unwrap_or_default();
            answered.sort_unstable();
            if !answered.iter().copied().eq(0..ACCOUNTS) {
                self.differences.add(format!(
                    "audit {audit}: {} answers, expected one from each of {ACCOUNTS} accounts",
                    answered.len()
                ));
            }
        }
        self.compare_numbers();
        let Differences { mut first, count } = self.differences;
        if count > first.len() {
            first.push(format!("and {} more", count - first.len()));
        }
        first
    }

    fn compare_numbers(&mut self) {
        let mut sent: BTreeMap<u64, u32> = BTreeMap::new();
        self.input.0.iter().flatten().for_each(|n| *sent.entry(*n).or_default() += 1);
        let came = |n: &u64| self.times.get(n).copied().unwrap_or(0);
        let lost: Vec<_> = sent.iter().filter(|(n, t)| came(n) < **t).map(|(n, _)| *n).collect();
        let twice = self.times.iter().filter(|(n, t)| sent.get(n).is_none_or(|s| *t > s));
        let twice: Vec<_> = twice.map(|(n, _)| *n).collect();
        for (what, numbers) in [("were lost", lost), ("came more often than they went in", twice)] {
            if !numbers.is_empty() {
                let first = &numbers[..numbers.len().min(10)];
                let (count, of) = (numbers.len(), sent.len());
                // What matters most comes first.
                let text = format!("{count} of {of} numbers {what}: {first:?}...");
                self.differences.first.insert(0, text);
                self.differences.count += 1;
            }
        }
    }

    fn compare_spans(&mut self) {
        let model = spans(&self.input);
        for (number, account) in self.accounts.iter().enumerate() {
            let name = input::name(number as u64);
            for (span, folds) in &account.spans {
                let expected = model.get(&(number as u64, *span));
                if expected.map(std::slice::from_ref) != Some(folds) {
                    self.differences.add(format!(
                        "span {span} of account {name}: found {folds:?}, expected once {expected:?}"
                    ));
                }
            }
        }
        let came = |(account, span): &(u64, i64)| {
            self.accounts[*account as usize].spans.contains_key(span)
        };
        let missing: Vec<_> = model.keys().filter(|key| !came(key)).collect();
        if let Some((account, span)) = missing.first() {
            self.differences.add(format!(
                "{} spans never came, the first is span {span} of account {}",
                missing.len(),
                input::name(*account)
            ));
        }
    }
}

/// How many spans the numbers below `total` are in, counted for each account.
pub fn count_spans(total: u64) -> usize {
    (0..total).map(|n| (input::account(n), input::span(n))).collect::<BTreeSet<_>>().len()
}

/// The fold of each account's span.
fn spans(input: &Input) -> BTreeMap<(u64, i64), Fold> {
    let mut spans: BTreeMap<(u64, i64), Fold> = BTreeMap::new();
    for n in input.0.iter().flatten() {
        spans.entry((input::account(*n), input::span(*n))).or_default().add(*n);
    }
    spans
}

#[cfg(test)]
mod tests;
